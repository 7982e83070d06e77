//! The last facts about an endpoint, for whoever asks why it is as it is. Written at changes and failures, never for a request
//! that goes well; put into words only when read.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::outlier::Line;
use super::role::Said;
use super::state::Health;
use super::version::Runs;
use crate::config::Mode;
use crate::lock::lock;
use crate::units::AppVersion;

/// What became known of an endpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// A check failed, and why; or passed again.
    Probe(Result<(), Box<str>>),
    /// Checks have changed what is believed of it.
    Health(Health),
    /// A request failed at it without a response, and why.
    Failed(&'static str),
    /// It answered with a status that is a failure.
    Answered(u16),
    /// It was ejected: why, and for how long.
    Ejected(Line, Duration),
    /// It should have been ejected and was not, and why.
    Spared(Spared),
    /// An ejection has ended, and why.
    Returned(Return),
    /// It stays in use whatever soft evidence says; or does so no more.
    Kept(bool),
    /// What the operator wants.
    Mode(Mode),
    /// Whether requests go to its set of endpoints.
    Serves(bool),
    /// Its share.
    Weight(u32),
    /// It ran this version of its code, and runs that by now.
    Version(Option<AppVersion>, Runs),
    /// It is held out for the version that it runs, and why; or is so no more.
    Held(Option<Box<str>>),
    /// It runs another version so often that these are not told any more.
    Unstable,
    /// What it says of its role.
    Role(Said),
    /// Whether it is the authority.
    Authority(bool),
    /// Where its name leads, or why nowhere.
    Resolved(Result<SocketAddr, Box<str>>),
}

/// Why an endpoint is not ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spared {
    /// No other may be picked.
    Last,
    /// `max_ejected` are.
    TooMany,
    /// Fewer than `min_available` would be left.
    TooFew,
}

impl Spared {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "no other endpoint is left",
            Self::TooMany => "max_ejected is reached",
            Self::TooFew => "min_available is reached",
        }
    }
}

/// What ends an ejection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Return {
    /// Its time is over.
    Over,
    /// A check passed.
    Check,
    /// `passive` was switched off.
    Off,
}

impl Return {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Over => "its time is over",
            Self::Check => "a check passed",
            Self::Off => "passive is off",
        }
    }
}

impl Fact {
    /// The word in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Probe(_) => "check",
            Self::Health(_) => "health",
            Self::Failed(_) | Self::Answered(_) => "failure",
            Self::Ejected(..) | Self::Spared(_) | Self::Returned(_) => "ejection",
            Self::Kept(_) => "degraded",
            Self::Mode(_) => "mode",
            Self::Serves(_) => "set",
            Self::Weight(_) => "weight",
            Self::Version(..) | Self::Unstable => "version",
            Self::Held(_) => "held",
            Self::Role(_) => "role",
            Self::Authority(_) => "authority",
            Self::Resolved(_) => "address",
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probe(Ok(())) => f.write_str("check passed"),
            Self::Probe(Err(why)) => write!(f, "check failed: {why}"),
            Self::Health(health) => write!(f, "{}", health.as_str()),
            Self::Failed(reason) => write!(f, "request failed: {reason}"),
            Self::Answered(status) => write!(f, "request failed: status {status}"),
            Self::Ejected(line, time) => {
                write!(f, "ejected for {time:.1?}: {}", line.as_str())
            }
            Self::Spared(why) => write!(f, "not ejected: {}", why.as_str()),
            Self::Returned(why) => write!(f, "back: {}", why.as_str()),
            Self::Kept(true) => f.write_str("kept in use: min_available is reached"),
            Self::Kept(false) => f.write_str("not kept in use any more"),
            Self::Mode(mode) => f.write_str(mode.as_str()),
            Self::Serves(true) => f.write_str("its set serves"),
            Self::Serves(false) => f.write_str("its set is on standby"),
            Self::Weight(weight) => write!(f, "weight {weight}"),
            Self::Version(Some(before), Runs::Version(now)) => {
                write!(f, "version {before} → {now}")
            }
            Self::Version(_, now) => now.fmt(f),
            Self::Held(Some(why)) => write!(
                f,
                "held out: {why}; requests come when it runs that, or when health.expect_version says otherwise"
            ),
            Self::Held(None) => f.write_str("held out no more"),
            Self::Unstable => {
                f.write_str("version unstable: another one 8 times within 10 minutes")
            }
            Self::Role(said) => said.fmt(f),
            Self::Authority(true) => f.write_str("is the authority"),
            Self::Authority(false) => f.write_str("is the authority no more"),
            Self::Resolved(Ok(address)) => write!(f, "resolved to {address}"),
            Self::Resolved(Err(why)) => f.write_str(why),
        }
    }
}

/// A fact, and when it came up.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What.
    pub fact: Fact,
    /// When first.
    pub first: SystemTime,
    /// When last.
    pub last: SystemTime,
    /// How often.
    pub times: u64,
}

/// The last facts about one endpoint.
#[derive(Debug, Default)]
pub struct Journal(Mutex<VecDeque<Entry>>);

impl Journal {
    /// Takes note. What has just been noted is counted, not noted again: a flood of one failure leaves the rest readable.
    pub fn note(&self, fact: Fact) {
        let now = SystemTime::now();
        let mut entries = lock(&self.0);
        // Not past a change of what is believed: what came before that and what came after are two stories.
        let change = entries.iter().rposition(|entry| entry.fact.is_change());
        let begin = change
            .map_or(0, |change| change + 1)
            .max(entries.len().saturating_sub(LOOK_BACK));
        let same = entries
            .range_mut(begin..)
            .find(|entry| !fact.is_change() && entry.fact == fact);
        if let Some(entry) = same {
            entry.times += 1;
            entry.last = now;
            return;
        }
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(Entry {
            fact,
            first: now,
            last: now,
            times: 1,
        });
    }

    /// Oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        let entries = lock(&self.0);
        entries.iter().cloned().collect()
    }
}

impl Fact {
    /// Whether it is more than what is found again and again.
    fn is_change(&self) -> bool {
        match self {
            Self::Probe(_)
            | Self::Failed(_)
            | Self::Answered(_)
            | Self::Spared(_)
            | Self::Role(_)
            | Self::Resolved(Err(_)) => false,
            Self::Health(_)
            | Self::Ejected(..)
            | Self::Returned(_)
            | Self::Kept(_)
            | Self::Mode(_)
            | Self::Serves(_)
            | Self::Weight(_)
            | Self::Version(..)
            | Self::Held(_)
            | Self::Unstable
            | Self::Authority(_)
            | Self::Resolved(Ok(_)) => true,
        }
    }
}

const KEPT: usize = 64; // enough for the story of a bad night, little beside an endpoint's metrics
const LOOK_BACK: usize = 4; // so many failures of unlike kinds in turn are still seen as the same ones

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(journal: &Journal) -> Vec<(String, u64)> {
        let entries = journal.entries();
        entries
            .iter()
            .map(|entry| (entry.fact.to_string(), entry.times))
            .collect()
    }

    #[test]
    fn the_last_64_are_kept() {
        let journal = Journal::default();
        for weight in 0..100 {
            journal.note(Fact::Weight(weight));
        }
        let texts = texts(&journal);
        assert_eq!(texts.len(), 64);
        assert_eq!((&*texts[0].0, &*texts[63].0), ("weight 36", "weight 99"));
    }

    #[test]
    fn a_flood_of_failures_is_one_entry_for_each_kind() {
        let journal = Journal::default();
        journal.note(Fact::Health(Health::Up));
        for _ in 0..1000 {
            journal.note(Fact::Failed("connect_refused"));
            journal.note(Fact::Probe(Err("status 500".into())));
        }
        journal.note(Fact::Ejected(Line::Consecutive, Duration::from_secs(10)));
        journal.note(Fact::Failed("connect_refused"));
        assert_eq!(
            texts(&journal),
            [
                ("up".to_owned(), 1),
                ("request failed: connect_refused".to_owned(), 1000),
                ("check failed: status 500".to_owned(), 1000),
                ("ejected for 10.0s: consecutive".to_owned(), 1),
                ("request failed: connect_refused".to_owned(), 1),
            ]
        );
    }
}
