//! What is told of a flip: from which set to which, how far it is, and what it has come to. Decides nothing.

use std::time::{Duration, SystemTime};

use crate::units::Name;

/// The last flip of an upstream.
#[derive(Clone, Debug)]
pub struct Flip {
    /// Its number in this process, from 1.
    pub number: u64,
    /// The user who has asked for it, where that is known.
    pub uid: Option<u32>,
    /// The set that served before.
    pub from: Name,
    /// The one that is to serve.
    pub to: Name,
    /// How far it is.
    pub phase: Phase,
    /// The share of requests that goes to the new set, of a hundred.
    pub percent: u8,
    /// When it was asked for.
    pub begun: SystemTime,
    /// Since when it is in this phase, or gets this share.
    pub since: SystemTime,
    /// For how long it is watched at this share.
    pub window: Duration,
    /// What the old set's requests came to before, those while both serve among them.
    pub before: Figures,
    /// What the new set's have come to, at this share.
    pub after: Figures,
    /// Why it is as it is, in a sentence.
    pub verdict: Option<String>,
    /// How long the change took that all requests have followed since, once there was one.
    pub took: Option<Duration>,
}

/// What requests came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Attempts at endpoints that are over.
    pub requests: u64,
    /// Those of them that were not answered, or with status 500 and above.
    pub errors: u64,
    /// Ninety-nine of a hundred were answered within this time: the upper bound of a bucket. `None`: too few, or it took longer
    /// than can be told.
    pub p99: Option<Duration>,
}

/// How far a flip is, and what it has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Every endpoint of the new set is probed once more; nothing has changed.
    Warming,
    /// The new set gets requests, and is held against the old one.
    Watching,
    /// Over: the new set serves, and nothing is worse.
    Kept,
    /// Over: there were too few requests to tell. With all requests at the new set it stays, unless it seems unwell; from a smaller
    /// share the old set has them all again.
    Unclear,
    /// Over: the new set was worse, gone, or not fit for more, and the old one serves again.
    FlippedBack,
    /// Over: an operator wanted it back, and the old one serves again.
    Aborted,
    /// Over: an endpoint of the new set did not pass its probe, or was not fit any more after it, and nothing has changed.
    Refused,
    /// Over: the new set is worse, and of the old one nobody can be asked; the new one goes on.
    Stranded,
    /// Over: a reload has changed the sets; what it says holds.
    Overtaken,
}

impl Phase {
    /// Every one of them that is an end.
    pub const ENDS: [Self; 7] = [
        Self::Kept,
        Self::Unclear,
        Self::FlippedBack,
        Self::Aborted,
        Self::Refused,
        Self::Stranded,
        Self::Overtaken,
    ];

    /// The word in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Watching => "watching",
            Self::Kept => "kept",
            Self::Unclear => "unclear",
            Self::FlippedBack => "flipped-back",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
            Self::Stranded => "stranded",
            Self::Overtaken => "overtaken",
        }
    }

    /// Whether nothing more will come of it.
    pub fn is_over(self) -> bool {
        Self::ENDS.contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::labels::FLIPS;

    #[test]
    fn every_end_is_a_word_of_the_metrics() {
        assert_eq!(Phase::ENDS.map(Phase::as_str), FLIPS);
    }
}
