//! Sets endpoints aside for what clients' requests came to, and takes them back. Runs on the control thread: workers count and
//! wake it, see [`crate::upstream::outlier`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

use crate::config::Passive;
use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::journal::{Fact, Return, Spared};
use crate::upstream::outlier::{Ejection, Line};
use crate::upstream::{Endpoint, EndpointId, Floor, Tier, Upstream};

/// After so long in service one ejection is forgotten; so often it is said that an endpoint is spared.
const CLEAN: Duration = Duration::from_secs(60);
/// An ejection is up to this share longer or shorter: endpoints that were ejected together, here or by other balancers, shall not
/// come back together.
const JITTER: f64 = 0.2;

/// Ejects endpoints of the current snapshot, for ever.
pub async fn watch(publisher: Publisher) {
    let alarm = Arc::clone(&publisher.current().alarm);
    let mut second = interval(Duration::from_secs(1));
    // The windows move by as many seconds as have passed.
    second.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut ejector = Ejector::default();
    ejector.adopt(&publisher.current());
    loop {
        let next = ejector.next_return();
        let is_tick = tokio::select! {
            biased;
            _ = second.tick() => true,
            () = alarm.raised() => false,
            () = until(next) => false,
        };
        for upstream in &publisher.current().upstreams {
            ejector.look(upstream, is_tick);
        }
        if is_tick {
            ejector.forget(&publisher);
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// What is remembered of endpoints that were ejected.
#[derive(Debug, Default)]
struct Ejector {
    records: HashMap<EndpointId, Record>,
}

#[derive(Debug)]
struct Record {
    /// Ejections not forgotten yet.
    count: u32,
    /// When the current one ends.
    until: Option<Instant>,
    /// Since when it has been in service, or has last been forgiven something.
    clean_since: Instant,
    /// It should have been ejected: why it was not, and when that was last said.
    spared: Option<(Spared, Instant)>,
}

impl Ejector {
    /// Ends, in time, the ejections that a process before this one has begun.
    fn adopt(&mut self, snapshot: &Snapshot) {
        for endpoint in snapshot.upstreams.iter().flat_map(|it| &it.endpoints) {
            let Some(ejection) = endpoint.state().ejected else {
                continue;
            };
            let now = Instant::now();
            let left = ejection.until.duration_since(SystemTime::now());
            let record = Record {
                count: 1,
                until: Some(now + left.unwrap_or_default()),
                clean_since: now,
                spared: None,
            };
            self.records.insert(endpoint.id(), record);
        }
    }

    /// When the next ejection ends.
    fn next_return(&self) -> Option<Instant> {
        self.records
            .values()
            .filter_map(|record| record.until)
            .min()
    }

    fn look(&mut self, upstream: &Upstream, is_tick: bool) {
        let mut changed = false;
        for endpoint in &upstream.endpoints {
            changed |= self.look_at(upstream, endpoint);
            if is_tick && let Some(watch) = &upstream.passive {
                endpoint
                    .outlier()
                    .tick(endpoint.answered(), watch.rule.window);
            }
        }
        if changed {
            upstream.refresh();
        }
    }

    /// Returns whether something has changed for picks.
    fn look_at(&mut self, upstream: &Upstream, endpoint: &Arc<Endpoint>) -> bool {
        let now = Instant::now();
        if let Some(record) = self.records.get_mut(&endpoint.id()) {
            if let Some(until) = record.until {
                let why = if endpoint.state().ejected.is_none() {
                    // By a check; whoever ended it has said so.
                    record.until = None;
                    record.clean_since = now;
                    return false;
                } else if upstream.passive.is_none() {
                    Return::Off
                } else if now >= until {
                    Return::Over
                } else {
                    return false;
                };
                record.until = None;
                record.clean_since = now;
                take_back(endpoint, why);
                return true;
            }
            if record.count > 0 && now.duration_since(record.clean_since) >= CLEAN {
                record.count -= 1;
                record.clean_since = now;
            }
        }
        match (&upstream.passive, endpoint.outlier().crossed()) {
            (Some(watch), Some(line)) => self.answer(upstream, endpoint, (line, &watch.rule)),
            _ => false,
        }
    }

    /// `endpoint` has crossed a line.
    fn answer(
        &mut self,
        upstream: &Upstream,
        endpoint: &Arc<Endpoint>,
        (line, rule): (Line, &Passive),
    ) -> bool {
        let state = endpoint.state();
        if state.own_tier() == Tier::Never || state.ejected.is_some() {
            // It gets nothing anyway, or is kept in use in spite of what is known.
            endpoint.outlier().review(endpoint.answered(), rule);
            return false;
        }
        let now = Instant::now();
        let record = self.records.entry(endpoint.id()).or_insert(Record {
            count: 0,
            until: None,
            clean_since: now,
            spared: None,
        });
        let (name, address) = (&upstream.name, endpoint.name());
        if let Err(why) = Company::of(upstream, endpoint).spares(rule.max_ejected, upstream.floor) {
            let is_said = record
                .spared
                .is_some_and(|(said, at)| said == why && now.duration_since(at) < CLEAN);
            if !is_said {
                warn!(upstream = %name, endpoint = %address, because = why.as_str(), "endpoint fails and is not ejected");
                endpoint.journal().note(Fact::Spared(why));
                record.spared = Some((why, now));
            }
            endpoint.outlier().review(endpoint.answered(), rule);
            return false;
        }
        let failures = match line {
            Line::Consecutive => endpoint.outlier().in_a_row(),
            Line::Ratio => endpoint.outlier().window(endpoint.answered()).1,
        };
        record.count = record.count.saturating_add(1);
        record.spared = None;
        let time = term(rule, record.count).mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0));
        record.until = Some(now + time);
        endpoint.set_ejected(Ok(Ejection {
            line,
            begun: now,
            until: SystemTime::now() + time,
        }));
        match line {
            Line::Consecutive => endpoint.metrics.ejected_consecutive.inc(),
            Line::Ratio => endpoint.metrics.ejected_ratio.inc(),
        }
        warn!(upstream = %name, endpoint = %address, because = line.as_str(), failures, time = ?time, "endpoint ejected");
        true
    }

    /// Keeps nothing of endpoints that are gone.
    fn forget(&mut self, publisher: &Publisher) {
        self.records.retain(|_, record| {
            record.count > 0 || record.spared.is_some_and(|(_, at)| at.elapsed() < CLEAN)
        });
        if self.records.is_empty() {
            return;
        }
        let snapshot = publisher.current();
        let known: std::collections::HashSet<EndpointId> = snapshot
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.endpoints)
            .map(|endpoint| endpoint.id())
            .collect();
        self.records.retain(|id, _| known.contains(id));
    }
}

/// Ends an ejection.
pub(super) fn take_back(endpoint: &Endpoint, why: Return) {
    endpoint.set_ejected(Err(why));
    info!(upstream = %endpoint.upstream(), endpoint = %endpoint.name(), because = why.as_str(), "endpoint no longer ejected");
}

/// How long the `count`th ejection takes, before jitter.
fn term(rule: &Passive, count: u32) -> Duration {
    rule.eject.saturating_mul(count).min(rule.eject_limit)
}

/// Who is there beside an endpoint that should be ejected.
#[derive(Clone, Copy, Debug)]
struct Company {
    /// Endpoints that the operator has in use, this one included.
    active: usize,
    /// Those of them that are ejected.
    ejected: usize,
    /// Others that may be picked.
    eligible: usize,
    /// Whether it is no backup, and one of those may be picked.
    has_backup: bool,
}

impl Company {
    fn of(upstream: &Upstream, endpoint: &Endpoint) -> Self {
        let mut company = Self {
            active: 0,
            ejected: 0,
            eligible: 0,
            has_backup: false,
        };
        let others = upstream.endpoints.iter();
        for other in others.filter(|other| upstream.is_together(endpoint, other)) {
            let state = other.state();
            company.active += usize::from(state.is_wanted());
            company.ejected += usize::from(state.ejected.is_some());
            let is_other = other.id() != endpoint.id();
            let is_eligible = is_other && state.own_tier() == Tier::Eligible;
            company.eligible += usize::from(is_eligible);
            company.has_backup |= is_eligible && other.is_backup() && !endpoint.is_backup();
        }
        company
    }

    /// Why one more must not be ejected, if so.
    fn spares(self, max_ejected: f64, floor: Floor) -> Result<(), Spared> {
        // Somebody is there to take over from the last; while others are well, enough stay in use although they are ejected.
        if self.has_backup {
            return Ok(());
        }
        if self.eligible == 0 {
            return Err(Spared::Last);
        }
        let most = ((self.active as f64 * max_ejected) as usize).max(1);
        if self.ejected >= most {
            return Err(Spared::TooMany);
        }
        if self.eligible < floor.needed(self.active) {
            return Err(Spared::TooFew);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOR: Floor = Floor {
        min_available: 0.5,
        fails_closed: false,
    };

    #[test]
    fn ejections_take_longer_each_time_up_to_the_limit() {
        let rule = Passive {
            consecutive: 5,
            ratio: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            eject: Duration::from_secs(10),
            eject_limit: Duration::from_secs(300),
            max_ejected: 0.5,
            statuses: Vec::new(),
        };
        let terms = [1, 2, 29, 30, 31, u32::MAX].map(|count| term(&rule, count).as_secs());
        assert_eq!(terms, [10, 20, 290, 300, 300, 300]);
    }

    #[test]
    fn the_last_is_never_ejected_and_of_several_no_more_than_allowed() {
        let company = |active, ejected, eligible| Company {
            active,
            ejected,
            eligible,
            has_backup: false,
        };
        for (of, max_ejected, expected) in [
            (company(1, 0, 0), 1.0, Err(Spared::Last)),
            (company(2, 0, 1), 0.5, Ok(())),
            (company(2, 0, 1), 0.1, Ok(())),
            (company(2, 0, 0), 1.0, Err(Spared::Last)),
            (company(10, 4, 5), 0.5, Ok(())),
            (company(10, 5, 4), 0.5, Err(Spared::TooMany)),
            (company(10, 4, 4), 0.9, Err(Spared::TooFew)),
            (company(3, 1, 1), 0.5, Err(Spared::TooMany)),
        ] {
            assert_eq!(of.spares(max_ejected, FLOOR), expected, "{of:?}");
        }
        let closed = Floor {
            fails_closed: true,
            ..FLOOR
        };
        assert_eq!(company(10, 4, 1).spares(1.0, closed), Ok(()));
        assert_eq!(company(10, 4, 0).spares(1.0, closed), Err(Spared::Last));
    }

    #[test]
    fn nobody_is_spared_while_a_backup_is_there_to_take_over() {
        let company = Company {
            active: 3,
            ejected: 1,
            eligible: 1,
            has_backup: true,
        };
        assert_eq!(company.spares(0.5, FLOOR), Ok(()));
        let alone = Company {
            has_backup: false,
            ..company
        };
        assert_eq!(alone.spares(0.5, FLOOR), Err(Spared::TooMany));
    }

    proptest! {
        #[test]
        fn however_many_fail_enough_are_left(active in 1_usize..50, max_ejected in 0.01_f64..=1.0) {
            let mut company = Company { active, ejected: 0, eligible: active - 1, has_backup: false };
            while company.spares(max_ejected, FLOOR).is_ok() {
                company.ejected += 1;
                company.eligible = company.eligible.saturating_sub(1);
            }
            let left = active - company.ejected;
            prop_assert!(left >= 1 && left >= FLOOR.needed(active).min(active));
            prop_assert!(company.ejected <= ((active as f64 * max_ejected) as usize).max(1));
        }
    }
}
