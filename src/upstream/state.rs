//! What is known of an endpoint, from four sides: its checks, clients' requests, the operator, name resolution; and what follows
//! for picking.

use std::fmt;
use std::time::SystemTime;

use super::churn::Churn;
use super::outlier::Ejection;
use super::role::{Part, PassedOver};
use super::version::Runs;
use crate::config::Mode;
use crate::units::AppVersion;

/// What probes found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// Nobody checks.
    Unchecked,
    /// No probe has finished yet.
    Unknown,
    /// Passes.
    Up,
    /// Asks for no new requests.
    Draining,
    /// Fails.
    Down(Evidence),
}

impl Health {
    /// The word in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down(_) => "down",
        }
    }
}

/// What a failure is worth, the least first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Evidence {
    /// Soft: it answers, though not as it should.
    Answered,
    /// Soft: no answer, or not in time. The way to it may be at fault.
    Silent,
    /// Hard: it is not there, or is somebody else.
    Hard,
}

impl Evidence {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered | Self::Silent => "soft",
            Self::Hard => "hard",
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

/// All that is known of an endpoint. Written by the control thread only.
#[derive(Clone, Debug)]
pub struct State {
    /// What probes found.
    pub health: Health,
    /// Set aside for what clients' requests came to.
    pub ejected: Option<Ejection>,
    /// Stays in use although soft evidence speaks against it: too few others are left.
    pub kept: bool,
    /// What the operator wants.
    pub mode: Mode,
    /// Whether its name has an address.
    pub resolved: bool,
    /// Which version of its code it runs.
    pub version: Runs,
    /// The last one that was known, also while none is.
    pub ran: Option<AppVersion>,
    /// How often that has changed of late.
    pub churn: Churn,
    /// Which it must run to be used; `None`: any.
    pub expected: Option<AppVersion>,
    /// What it says of its role where one endpoint of several serves, and what follows.
    pub part: Part,
    /// Why it is as it is: the last probe's failure, for one.
    pub reason: Option<String>,
    /// Since when.
    pub since: SystemTime,
}

impl State {
    /// What follows for picking.
    pub fn tier(&self) -> Tier {
        match self.soft() {
            Some(_) if self.kept => Tier::Eligible,
            _ => self.own_tier(),
        }
    }

    /// The same, were there enough others.
    pub fn own_tier(&self) -> Tier {
        match (self.is_wanted(), self.health) {
            (false, _) | (true, Health::Draining | Health::Down(_)) => Tier::Never,
            _ if self.ejected.is_some() || self.is_held() => Tier::Never,
            _ if self.part.passed_over.is_some() => Tier::Never,
            (true, Health::Unknown) => Tier::IfNoneEligible,
            (true, Health::Up | Health::Unchecked) => Tier::Eligible,
        }
    }

    /// Whether operator and resolver let it be used.
    pub fn is_wanted(&self) -> bool {
        self.resolved && self.mode == Mode::Active
    }

    /// Whether it shall get nothing new for good, by the operator's wish or its own.
    pub fn is_leaving(&self) -> bool {
        self.mode != Mode::Active || self.health == Health::Draining
    }

    /// Whether it does not run the version that is expected, or does not say.
    pub fn is_held(&self) -> bool {
        self.expected.is_some() && self.version.version() != self.expected.as_ref()
    }

    /// What keeps it out where it is held: `version 41, want 42`.
    pub fn held(&self) -> Option<String> {
        let expected = self.expected.as_ref().filter(|_| self.is_held())?;
        Some(format!("{}, want {expected}", self.version))
    }

    /// Why it is in the state that [`word`](Self::word) says.
    pub fn why(&self) -> Option<String> {
        match self.word() {
            HELD if self.is_held() => self.held(),
            HELD | STANDBY => self.part.passed_over.as_ref().map(|it| it.why().to_owned()),
            _ => self.reason.clone(),
        }
    }

    /// The evidence against it, where that is soft and all there is.
    pub fn soft(&self) -> Option<Evidence> {
        match self.health {
            _ if !self.is_wanted() || self.is_held() => None,
            Health::Down(Evidence::Hard) | Health::Draining => None,
            Health::Down(evidence) => Some(evidence),
            Health::Unchecked | Health::Unknown | Health::Up => {
                self.ejected.map(|_| Evidence::Answered)
            }
        }
    }

    /// The one word that says it all. A closed set: [`STATES`](crate::metrics::labels::STATES).
    pub fn word(&self) -> &'static str {
        match (self.mode, self.resolved) {
            (Mode::Disabled, _) => "disabled",
            (Mode::Draining, _) => "draining",
            (Mode::Active, false) => "unresolved",
            (Mode::Active, true) if self.kept && self.soft().is_some() => "degraded",
            (Mode::Active, true) => match self.health {
                Health::Unchecked | Health::Unknown | Health::Up if self.is_held() => HELD,
                Health::Unchecked | Health::Unknown | Health::Up if self.ejected.is_some() => {
                    "ejected"
                }
                health @ (Health::Unchecked | Health::Unknown | Health::Up) => {
                    match &self.part.passed_over {
                        Some(PassedOver::Standby(_)) => STANDBY,
                        Some(PassedOver::Held(_)) => HELD,
                        None => health.as_str(),
                    }
                }
                health @ (Health::Draining | Health::Down(_)) => health.as_str(),
            },
        }
    }

    /// Whether nothing keeps it out but that another one is the authority.
    pub fn stands_by(&self) -> bool {
        self.word() == STANDBY && self.health != Health::Unknown
    }
}

impl State {
    /// [`word`](Self::word) of an endpoint whose set gets no requests, where `is_standby`: as long as nothing is wrong with it.
    pub fn word_of(&self, is_standby: bool) -> &'static str {
        match self.word() {
            "up" | "unchecked" | "unknown" if is_standby => STANDBY,
            word => word,
        }
    }
}

/// Of an endpoint that is well, in a set that gets no requests or beside one that is the authority.
pub const STANDBY: &str = "standby";

/// Of one that does not run the version that is expected, or claims to be the authority as others do.
pub const HELD: &str = "held";

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::super::outlier::Line;
    use super::*;

    pub(in super::super) fn state(mode: Mode, health: Health, resolved: bool) -> State {
        State {
            health,
            ejected: None,
            kept: false,
            mode,
            resolved,
            version: Runs::Unasked,
            churn: Churn::default(),
            ran: None,
            expected: None,
            part: Part::default(),
            reason: None,
            since: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn who_runs_another_version_than_expected_is_held_whatever_else_is_well() {
        let version = |text: &str| AppVersion::try_from(text.as_bytes()).unwrap();
        let held = |health, runs: Runs| {
            let state = State {
                version: runs,
                expected: Some(version("42")),
                kept: true,
                ..state(Mode::Active, health, true)
            };
            (state.tier(), state.word(), state.why())
        };
        let (old, new) = (Runs::Version(version("41")), Runs::Version(version("42")));
        let silent = || Runs::Unknown("the answer has no x-v".into());
        let why = |text: &str| Some(text.to_owned());
        for (health, runs, expected) in [
            (
                Health::Up,
                old.clone(),
                (Tier::Never, "held", why("version 41, want 42")),
            ),
            (
                Health::Unknown,
                old.clone(),
                (Tier::Never, "held", why("version 41, want 42")),
            ),
            (
                Health::Up,
                silent(),
                (
                    Tier::Never,
                    "held",
                    why("version unknown: the answer has no x-v, want 42"),
                ),
            ),
            (Health::Up, new.clone(), (Tier::Eligible, "up", None)),
            (
                Health::Unknown,
                new,
                (Tier::IfNoneEligible, "unknown", None),
            ),
            // That it is down says more; and it is not kept in use, whatever the evidence.
            (
                Health::Down(Evidence::Answered),
                old.clone(),
                (Tier::Never, "down", None),
            ),
            (Health::Draining, old, (Tier::Never, "draining", None)),
        ] {
            assert_eq!(held(health, runs.clone()), expected, "{health:?} {runs:?}");
        }
    }

    pub(in super::super) fn ejected(state: State) -> State {
        State {
            ejected: Some(Ejection {
                line: Line::Consecutive,
                begun: Instant::now(),
                until: SystemTime::now() + Duration::from_secs(10),
            }),
            ..state
        }
    }

    #[test]
    fn only_the_active_resolved_and_not_down_are_picked() {
        for (mode, health, resolved, expected) in [
            (Mode::Active, Health::Up, true, Tier::Eligible),
            (Mode::Active, Health::Unchecked, true, Tier::Eligible),
            (Mode::Active, Health::Unknown, true, Tier::IfNoneEligible),
            (Mode::Active, Health::Draining, true, Tier::Never),
            (
                Mode::Active,
                Health::Down(Evidence::Answered),
                true,
                Tier::Never,
            ),
            (Mode::Active, Health::Up, false, Tier::Never),
            (Mode::Draining, Health::Up, true, Tier::Never),
            (Mode::Disabled, Health::Up, true, Tier::Never),
        ] {
            let state = state(mode, health, resolved);
            assert_eq!(state.tier(), expected, "{state:?}");
            assert_eq!(ejected(state).tier(), Tier::Never);
        }
    }

    #[test]
    fn only_what_nothing_but_soft_evidence_speaks_against_can_be_kept() {
        let kept = |state: State| {
            let state = State {
                kept: true,
                ..state
            };
            (state.tier(), state.word())
        };
        let of = |health| state(Mode::Active, health, true);
        for soft in [
            of(Health::Down(Evidence::Answered)),
            of(Health::Down(Evidence::Silent)),
            ejected(of(Health::Up)),
            ejected(of(Health::Unchecked)),
        ] {
            assert_eq!(kept(soft), (Tier::Eligible, "degraded"));
        }
        assert_eq!(
            kept(of(Health::Down(Evidence::Hard))),
            (Tier::Never, "down")
        );
        assert_eq!(kept(of(Health::Draining)), (Tier::Never, "draining"));
        assert_eq!(
            kept(state(Mode::Disabled, Health::Down(Evidence::Silent), true)),
            (Tier::Never, "disabled")
        );
        assert_eq!(kept(of(Health::Up)), (Tier::Eligible, "up"));
        assert_eq!(ejected(of(Health::Up)).word(), "ejected");
        assert_eq!(ejected(of(Health::Down(Evidence::Hard))).word(), "down");
    }
}
