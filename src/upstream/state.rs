//! What is known of an endpoint, from three sides: its checks, the operator, name resolution; and what follows for picking.

use std::fmt;
use std::time::SystemTime;

use crate::config::Mode;

/// What probes found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// Nobody checks.
    Unchecked,
    /// No probe has finished yet.
    Unknown,
    /// Passes.
    Up,
    /// Fails.
    Down,
}

impl Health {
    /// The word in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Whether an endpoint may be picked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Tier {
    /// Not at all.
    Never = 0,
    /// Only while no other is eligible.
    IfNoneEligible = 1,
    /// Yes.
    Eligible = 2,
}

impl Tier {
    pub(super) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Never,
            1 => Self::IfNoneEligible,
            _ => Self::Eligible,
        }
    }
}

/// All that is known of an endpoint. Written by the control thread only.
#[derive(Clone, Debug)]
pub struct State {
    /// What probes found.
    pub health: Health,
    /// What the operator wants.
    pub mode: Mode,
    /// Whether its name has an address.
    pub resolved: bool,
    /// Why it is as it is: the last probe's failure, for one.
    pub reason: Option<String>,
    /// Since when.
    pub since: SystemTime,
}

impl State {
    /// What follows for picking.
    pub fn tier(&self) -> Tier {
        match (self.resolved, self.mode, self.health) {
            (false, _, _) | (_, Mode::Draining | Mode::Disabled, _) | (_, _, Health::Down) => {
                Tier::Never
            }
            (_, Mode::Active, Health::Unknown) => Tier::IfNoneEligible,
            (_, Mode::Active, Health::Up | Health::Unchecked) => Tier::Eligible,
        }
    }

    /// The one word that says it all.
    pub fn word(&self) -> &'static str {
        match (self.mode, self.resolved) {
            (Mode::Disabled, _) => "disabled",
            (Mode::Draining, _) => "draining",
            (Mode::Active, false) => "unresolved",
            (Mode::Active, true) => self.health.as_str(),
        }
    }
}

/// Every word of [`State::word`].
pub const WORDS: [&str; 7] = [
    "unchecked",
    "unknown",
    "up",
    "down",
    "unresolved",
    "draining",
    "disabled",
];

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_active_resolved_and_not_down_are_picked() {
        let state = |mode, health, resolved| State {
            health,
            mode,
            resolved,
            reason: None,
            since: SystemTime::UNIX_EPOCH,
        };
        assert_eq!(state(Mode::Active, Health::Up, true).tier(), Tier::Eligible);
        assert_eq!(
            state(Mode::Active, Health::Unchecked, true).tier(),
            Tier::Eligible
        );
        assert_eq!(
            state(Mode::Active, Health::Unknown, true).tier(),
            Tier::IfNoneEligible
        );
        assert_eq!(state(Mode::Active, Health::Down, true).tier(), Tier::Never);
        assert_eq!(state(Mode::Active, Health::Up, false).tier(), Tier::Never);
        assert_eq!(state(Mode::Draining, Health::Up, true).tier(), Tier::Never);
        assert_eq!(state(Mode::Disabled, Health::Up, true).tier(), Tier::Never);
    }
}
