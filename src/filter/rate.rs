//! So many requests in so long a time, for each key. The reckoning is governor's (GCRA: a bucket that leaks); what it
//! remembers of each key is kept here, without locks and in bounded memory.
//!
//! A key is remembered as a hash with a random seed, beside the time at which its bucket would be empty. Both stand in a
//! table of fixed size, four to a cache line. A new key takes the place of the one in its line whose bucket is empty
//! soonest; one that is empty already says nothing any more. So whoever comes with ever new keys costs no memory, and
//! those who come often are remembered longest. But every new key has a full bucket: who may invent keys is not limited.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use http::HeaderMap;

use crate::config::{Rate, RateKey};
use crate::net::per_client;

/// Keys that are remembered of one limit: 1 MiB of them.
const KEYS: usize = 1 << 16;

/// One limit.
#[derive(Debug)]
pub struct RateLimit<C: Clock<Instant = Duration> = Uptime> {
    rule: Rate,
    limiter: RateLimiter<u64, Table, C, NoOpMiddleware<Duration>>,
    clock: C,
    hasher: RandomState,
}

impl RateLimit {
    /// By `rule`; nothing has come yet.
    pub fn new(rule: Rate) -> Self {
        Self::with_clock(rule, Uptime(Instant::now()))
    }
}

impl<C: Clock<Instant = Duration> + Clone> RateLimit<C> {
    fn with_clock(rule: Rate, clock: C) -> Self {
        let one_per = (rule.per / rule.requests.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(one_per)
            .expect("longer than zero")
            .allow_burst(rule.burst);
        let keys = match rule.key {
            RateKey::Route => 1,
            RateKey::ClientAddress | RateKey::Header(_) => KEYS,
        };
        Self {
            rule,
            limiter: RateLimiter::new(quota, Table::new(keys), clock.clone()),
            clock,
            hasher: RandomState::default(),
        }
    }

    /// As configured.
    pub fn rule(&self) -> &Rate {
        &self.rule
    }

    /// Counts a request from `client` with these `headers`. If it is one too many: in how many seconds there may be another,
    /// at least 1.
    pub fn admit(&self, client: IpAddr, headers: &HeaderMap) -> Result<(), u32> {
        let key = self.key(client, headers);
        self.limiter.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
        })
    }

    fn key(&self, client: IpAddr, headers: &HeaderMap) -> u64 {
        let value = match &self.rule.key {
            RateKey::Route => return 0,
            RateKey::ClientAddress => None,
            RateKey::Header(name) => headers.get(name),
        };
        match value {
            Some(value) => self.hasher.hash_one(value.as_bytes()),
            None => self.hasher.hash_one(per_client::network(client)),
        }
    }
}

/// Time since a limit was made.
#[derive(Clone, Debug)]
pub struct Uptime(Instant);

impl Clock for Uptime {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What is remembered.
#[derive(Debug)]
struct Table(Box<[Line]>);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Entry; 4]);

/// Written by all workers. Relaxed: the two numbers guard nothing. Where a place changes hands while it is used for another,
/// that one's request is reckoned here, once.
#[derive(Debug, Default)]
struct Entry {
    /// 0: of none yet.
    key: AtomicU64,
    /// When the bucket is empty, in nanoseconds of the clock.
    empty_at: AtomicU64,
}

impl Table {
    fn new(keys: usize) -> Self {
        let lines = keys.div_ceil(Line::default().0.len());
        Self(std::iter::repeat_with(Line::default).take(lines).collect())
    }
}

impl StateStore for Table {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let number = usize::try_from(*key % self.0.len() as u64).unwrap_or_default();
        let (entry, of_another) = self.0[number].entry(*key);
        let mut seen = of_another.unwrap_or_else(|| entry.empty_at.load(Relaxed));
        loop {
            let known = (of_another != Some(seen)).then(|| seen.into());
            let (outcome, empty_at) = measure(known)?;
            let swapped =
                entry
                    .empty_at
                    .compare_exchange_weak(seen, empty_at.as_u64(), Relaxed, Relaxed);
            match swapped {
                Ok(_) => return Ok(outcome),
                Err(now) => seen = now,
            }
        }
    }
}

impl Line {
    /// Where `key` is remembered from now on; with what is remembered there of another, if it was not.
    fn entry(&self, key: u64) -> (&Entry, Option<u64>) {
        // The lowest bits have chosen the line.
        let key = key | 1;
        loop {
            let mut soonest = (&self.0[0], u64::MAX);
            for entry in &self.0 {
                if entry.key.load(Relaxed) == key {
                    return (entry, None);
                }
                let empty_at = entry.empty_at.load(Relaxed);
                if empty_at < soonest.1 {
                    soonest = (entry, empty_at);
                }
            }
            let (entry, empty_at) = soonest;
            let before = entry.key.load(Relaxed);
            let claimed = entry.key.compare_exchange(before, key, Relaxed, Relaxed);
            if claimed.is_ok() {
                return (entry, Some(empty_at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Manual(Arc<AtomicU64>);

    impl Manual {
        fn advance(&self, by: Duration) {
            self.0
                .fetch_add(u64::try_from(by.as_nanos()).unwrap(), Relaxed);
        }
    }

    impl Clock for Manual {
        type Instant = Duration;

        fn now(&self) -> Duration {
            Duration::from_nanos(self.0.load(Relaxed))
        }
    }

    fn limit(requests: u32, burst: u32, key: RateKey) -> (RateLimit<Manual>, Manual) {
        let rule = Rate {
            requests: NonZeroU32::new(requests).unwrap(),
            per: Duration::from_secs(1),
            burst: NonZeroU32::new(burst).unwrap(),
            key,
        };
        let clock = Manual::default();
        (RateLimit::with_clock(rule, clock.clone()), clock)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn taken(limit: &RateLimit<Manual>, client: &str, tries: u32) -> usize {
        (0..tries)
            .filter(|_| limit.admit(address(client), &HeaderMap::new()).is_ok())
            .count()
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate() {
        let (limit, clock) = limit(10, 20, RateKey::ClientAddress);
        assert_eq!(taken(&limit, "192.0.2.1", 100), 20);
        clock.advance(Duration::from_millis(500));
        assert_eq!(taken(&limit, "192.0.2.1", 100), 5);
        clock.advance(Duration::from_secs(60));
        assert_eq!(taken(&limit, "192.0.2.1", 100), 20);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come_again() {
        let (limit, clock) = limit(1, 3, RateKey::Route);
        let client = address("192.0.2.1");
        assert_eq!(taken(&limit, "192.0.2.1", 3), 3);
        assert_eq!(limit.admit(client, &HeaderMap::new()), Err(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(limit.admit(client, &HeaderMap::new()), Ok(()));
    }

    #[test]
    fn clients_do_not_take_from_each_other_and_ipv6_networks_are_one() {
        let (limit, _) = limit(1, 2, RateKey::ClientAddress);
        assert_eq!(taken(&limit, "192.0.2.1", 5), 2);
        assert_eq!(taken(&limit, "192.0.2.2", 5), 2);
        assert_eq!(taken(&limit, "::ffff:192.0.2.2", 5), 0);
        assert_eq!(taken(&limit, "2001:db8:1:2::1", 1), 1);
        assert_eq!(taken(&limit, "2001:db8:1:2:ffff::2", 5), 1);
        assert_eq!(taken(&limit, "2001:db8:1:3::1", 5), 2);
    }

    #[test]
    fn who_leaves_the_header_out_is_counted_by_address() {
        let name = HeaderName::from_static("x-api-key");
        let (limit, _) = limit(1, 1, RateKey::Header(name.clone()));
        let with = |client: &str, value: &'static str| {
            let headers = [(name.clone(), HeaderValue::from_static(value))];
            limit.admit(address(client), &headers.into_iter().collect())
        };
        assert_eq!(with("192.0.2.1", "a"), Ok(()));
        assert_eq!(with("192.0.2.2", "a"), Err(1));
        assert_eq!(with("192.0.2.2", "b"), Ok(()));
        assert_eq!(taken(&limit, "192.0.2.3", 2), 1);
    }

    #[test]
    fn who_comes_often_is_remembered_among_any_number_of_others() {
        let (limit, _) = limit(1, 100, RateKey::ClientAddress);
        assert_eq!(taken(&limit, "192.0.2.1", 200), 100);
        for other in 0..1_000_000_u32 {
            let other = IpAddr::from(other.to_be_bytes());
            let _ = limit.admit(other, &HeaderMap::new());
        }
        assert_eq!(taken(&limit, "192.0.2.1", 10), 0);
    }

    #[test]
    fn workers_together_take_no_more_than_one_would() {
        let (limit, _) = limit(1, 1000, RateKey::Route);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| taken(&limit, "192.0.2.1", 1000)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(taken, 1000);
    }

    proptest! {
        #[test]
        fn no_time_lets_more_through_than_burst_and_rate(
            requests in 1_u32..50,
            burst in 1_u32..50,
            pauses in prop::collection::vec(0_u64..300, 1..200),
        ) {
            let (limit, clock) = limit(requests, burst, RateKey::Route);
            let mut passed = 0;
            for pause in &pauses {
                clock.advance(Duration::from_millis(*pause));
                passed += taken(&limit, "192.0.2.1", 3);
            }
            let seconds = clock.now().as_secs_f64();
            prop_assert!(passed as f64 <= f64::from(burst) + f64::from(requests) * seconds + 1.0);
        }
    }
}
