//! How many endpoints stay in use whatever soft evidence says: with too few left it is likelier that the others break under the
//! load, or that the evidence misleads, than that all of them are bad at once.

use std::cmp::Reverse;
use std::time::SystemTime;

use tracing::{info, warn};

use super::journal::Fact;
use super::state::{Evidence, State, Tier};
use super::{Endpoint, Upstream};

/// What an upstream keeps in use.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// `upstream.min_available`
    pub min_available: f64,
    /// Nothing: no answer at all is better than one of an endpoint that may be wrong. So it is where a route is exclusive.
    pub fails_closed: bool,
}

impl Floor {
    /// How many of so many active endpoints stay in use.
    pub fn needed(&self, active: usize) -> usize {
        if self.fails_closed {
            return 0;
        }
        (self.min_available * active as f64).ceil() as usize
    }

    /// Which endpoints stay in use although soft evidence speaks against them: the best of them until enough are in use; all of
    /// them where nothing else is. Where backups are all there is left, no other: that is what backups are for.
    fn kept(&self, endpoints: &[Standing]) -> Vec<bool> {
        let mut kept = vec![false; endpoints.len()];
        if self.fails_closed {
            return kept;
        }
        let active = endpoints.iter().filter(|standing| standing.active).count();
        let good = endpoints
            .iter()
            .filter(|standing| standing.own_tier != Tier::Never)
            .count();
        let is_up = |standing: &&Standing| standing.own_tier == Tier::Eligible;
        let mut up = endpoints.iter().filter(is_up).peekable();
        let backups_alone = up.peek().is_some() && up.all(|standing| standing.is_backup);
        let mut soft: Vec<_> = endpoints
            .iter()
            .enumerate()
            .filter(|(_, standing)| standing.is_backup || !backups_alone)
            .filter_map(|(index, standing)| {
                let evidence = standing.soft?;
                // Those that are kept already first, so that they do not take turns.
                Some((evidence, !standing.kept, Reverse(standing.since), index))
            })
            .collect();
        soft.sort_unstable();
        let wanted = match good {
            0 => soft.len(),
            good => self.needed(active).saturating_sub(good),
        };
        for (.., index) in soft.into_iter().take(wanted) {
            kept[index] = true;
        }
        kept
    }
}

/// What of an endpoint's state decides whether it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    active: bool,
    is_backup: bool,
    own_tier: Tier,
    soft: Option<Evidence>,
    kept: bool,
    since: SystemTime,
}

impl Standing {
    fn of(state: &State, is_backup: bool) -> Self {
        Self {
            active: state.mode == crate::config::Mode::Active,
            is_backup,
            own_tier: state.own_tier(),
            soft: state.soft(),
            kept: state.kept,
            since: state.since,
        }
    }
}

impl Endpoint {
    /// Says whether it stays in use whatever soft evidence says.
    pub(super) fn set_kept(&self, kept: bool) {
        if self.change(|state| std::mem::replace(&mut state.kept, kept) != kept) {
            self.journal().note(Fact::Kept(kept));
        }
    }
}

impl Upstream {
    /// Keeps enough endpoints in use.
    pub(super) fn keep_enough(&self) {
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| Standing::of(&endpoint.state(), endpoint.is_backup()))
            .collect();
        if endpoints
            .iter()
            .all(|standing| standing.soft.is_none() && !standing.kept)
        {
            return;
        }
        // Each set by itself, those on standby not at all.
        let mut kept = vec![false; endpoints.len()];
        for open in self.each_open() {
            let members = || (0..endpoints.len()).filter(|it| open.takes(&self.endpoints[*it]));
            let standings: Vec<_> = members().map(|it| endpoints[it]).collect();
            for (index, is_kept) in members().zip(self.floor.kept(&standings)) {
                kept[index] = is_kept;
            }
        }
        let was_degraded = endpoints.iter().any(|standing| standing.kept);
        for (endpoint, kept) in self.endpoints.iter().zip(&kept) {
            endpoint.set_kept(*kept);
        }
        let count = kept.iter().filter(|kept| **kept).count();
        let upstream = &self.name;
        if count > 0 && !was_degraded {
            warn!(%upstream, kept = count, "upstream degraded: endpoints stay in use although they seem unwell");
        } else if count == 0 && was_degraded {
            info!(%upstream, "upstream degraded no more");
        }
    }

    /// Whether endpoints are in use that seem unwell.
    pub fn is_degraded(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.is_kept())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::state::Health;
    use super::super::state::tests::{ejected, state};
    use super::*;
    use crate::config::Mode;

    const FLOOR: Floor = Floor {
        min_available: 0.5,
        fails_closed: false,
    };

    fn kept(floor: Floor, states: &[State]) -> Vec<bool> {
        let standings: Vec<_> = states
            .iter()
            .map(|state| Standing::of(state, false))
            .collect();
        floor.kept(&standings)
    }

    fn of(health: Health) -> State {
        state(Mode::Active, health, true)
    }

    #[test]
    fn best_of_the_soft_down_stay_until_half_are_in_use() {
        let soft = Health::Down(Evidence::Answered);
        let silent = Health::Down(Evidence::Silent);
        let hard = Health::Down(Evidence::Hard);
        let later = |state: State| State {
            since: state.since + Duration::from_secs(1),
            ..state
        };
        for (states, expected) in [
            (vec![of(Health::Up), of(soft)], vec![false, false]),
            (
                vec![of(Health::Up), of(silent), of(soft), of(hard)],
                vec![false, false, true, false],
            ),
            // Which was well last.
            (
                vec![of(Health::Up), of(soft), later(of(soft)), of(soft)],
                vec![false, false, true, false],
            ),
            (
                vec![
                    of(Health::Up),
                    of(silent),
                    ejected(of(Health::Up)),
                    of(hard),
                ],
                vec![false, false, true, false],
            ),
            // None is left: all are asked that may be well.
            (
                vec![of(soft), of(silent), of(hard)],
                vec![true, true, false],
            ),
            (vec![of(hard), of(Health::Draining)], vec![false, false]),
            // Nobody has been asked yet: that is no evidence.
            (vec![of(Health::Unknown), of(soft)], vec![false, false]),
        ] {
            assert_eq!(kept(FLOOR, &states), expected, "{states:?}");
        }
        let closed = Floor {
            fails_closed: true,
            ..FLOOR
        };
        assert_eq!(kept(closed, &[of(soft), of(silent)]), [false, false]);
        let none = Floor {
            min_available: 0.0,
            ..FLOOR
        };
        assert_eq!(kept(none, &[of(soft), of(soft)]), [true, true]);
        assert_eq!(kept(none, &[of(Health::Up), of(soft)]), [false, false]);
    }

    #[test]
    fn who_is_kept_stays_so_while_it_is_needed() {
        let soft = || of(Health::Down(Evidence::Answered));
        let first = State {
            kept: true,
            ..soft()
        };
        let newer = State {
            since: SystemTime::now(),
            ..soft()
        };
        assert_eq!(
            kept(FLOOR, &[of(Health::Up), newer, first, soft()]),
            [false, false, true, false]
        );
    }

    #[test]
    fn backup_that_is_well_takes_over_from_primaries_that_are_not() {
        let soft = Health::Down(Evidence::Answered);
        let hard = Health::Down(Evidence::Hard);
        for (first, second, backup, expected) in [
            (of(soft), of(soft), of(Health::Up), [false; 3]),
            (of(hard), of(soft), of(Health::Up), [false; 3]),
            (
                ejected(of(Health::Up)),
                of(soft),
                of(Health::Unchecked),
                [false; 3],
            ),
            // No backup is known to be well.
            (of(soft), of(soft), of(soft), [true; 3]),
            (of(hard), of(soft), of(hard), [false, true, false]),
            (
                of(hard),
                of(soft),
                of(Health::Unknown),
                [false, true, false],
            ),
        ] {
            let standings = [
                Standing::of(&first, false),
                Standing::of(&second, false),
                Standing::of(&backup, true),
            ];
            assert_eq!(FLOOR.kept(&standings), expected, "{standings:?}");
        }
        // While a primary is well, a backup is no reason to leave it alone with everything.
        let standings =
            [of(Health::Up), of(soft), of(soft), of(soft)].map(|it| Standing::of(&it, false));
        let backup = Standing::of(&of(Health::Up), true);
        let all: Vec<_> = standings.into_iter().chain([backup]).collect();
        let count = FLOOR.kept(&all).iter().filter(|kept| **kept).count();
        assert_eq!(count, 1);
    }

    fn any_state() -> impl Strategy<Value = State> {
        let healths = prop_oneof![
            Just(Health::Unchecked),
            Just(Health::Unknown),
            Just(Health::Up),
            Just(Health::Draining),
            Just(Health::Down(Evidence::Answered)),
            Just(Health::Down(Evidence::Silent)),
            Just(Health::Down(Evidence::Hard)),
        ];
        let modes = prop_oneof![Just(Mode::Active), Just(Mode::Draining)];
        (healths, modes, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(health, mode, resolved, is_ejected, kept)| {
                let state = State {
                    kept,
                    ..state(mode, health, resolved)
                };
                if is_ejected { ejected(state) } else { state }
            },
        )
    }

    proptest! {
        #[test]
        fn never_fewer_than_could_be_and_never_who_is_out_for_a_reason(
            states in proptest::collection::vec(any_state(), 1..12),
            min_available in 0.0_f64..=1.0,
        ) {
            let floor = Floor { min_available, fails_closed: false };
            let kept = kept(floor, &states);
            let after: Vec<State> = states.iter().zip(&kept).map(|(state, kept)| State { kept: *kept, ..state.clone() }).collect();
            let good = states.iter().filter(|state| state.own_tier() != Tier::Never).count();
            let soft = states.iter().filter(|state| state.soft().is_some()).count();
            let active = states.iter().filter(|state| state.mode == Mode::Active).count();
            let used = after.iter().filter(|state| state.tier() != Tier::Never).count();
            let expected = if good == 0 { soft } else { good + soft.min(floor.needed(active).saturating_sub(good)) };
            prop_assert_eq!(used, expected);
            for (state, kept) in states.iter().zip(kept) {
                prop_assert!(!kept || state.soft().is_some());
            }
        }
    }
}
