//! What a route takes at once and in a time. The state is shared by all workers; nothing here waits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http::HeaderMap;

use super::rate::RateLimit;
use crate::config::RouteLimits;
use crate::units::ByteSize;

/// The limits of one route.
#[derive(Debug)]
pub struct Limits {
    /// Of a request's body, in the place of the listener's.
    pub body_bytes: Option<ByteSize>,
    in_flight: Option<(NonZeroU32, Arc<AtomicU32>)>,
    rate: Option<Arc<RateLimit>>,
}

/// Why a request is one too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// As many as may be are being served.
    InFlight,
    /// As many as may be have come; how long it takes until there may be another.
    Rate {
        /// At least 1.
        retry_after_seconds: u32,
    },
}

impl Limits {
    /// As configured; `None` where there are none. What `before` has counted still counts: requests in flight always, rates
    /// where they are the same.
    pub fn of(configured: &RouteLimits, before: Option<&Self>) -> Option<Box<Self>> {
        let RouteLimits {
            body_bytes,
            in_flight,
            rate,
        } = configured;
        if body_bytes.is_none() && in_flight.is_none() && rate.is_none() {
            return None;
        }
        let counted = before.and_then(|before| before.in_flight.as_ref());
        let known = before.and_then(|before| before.rate.as_ref());
        Some(Box::new(Self {
            body_bytes: *body_bytes,
            in_flight: in_flight.map(|limit| {
                let count = counted.map_or_else(Arc::default, |(_, count)| Arc::clone(count));
                (limit, count)
            }),
            rate: rate.as_ref().map(|rule| match known {
                Some(known) if known.rule() == rule => Arc::clone(known),
                Some(_) | None => Arc::new(RateLimit::new(rule.clone())),
            }),
        }))
    }

    /// Lets a request in that comes from `client` with these `headers`; what is returned counts it while it is in flight.
    pub fn admit(&self, client: IpAddr, headers: &HeaderMap) -> Result<Option<InFlight>, Over> {
        let in_flight = match &self.in_flight {
            Some((limit, count)) => Some(InFlight::take(*limit, count).ok_or(Over::InFlight)?),
            None => None,
        };
        if let Some(rate) = &self.rate {
            rate.admit(client, headers)
                .map_err(|retry_after_seconds| Over::Rate {
                    retry_after_seconds,
                })?;
        }
        Ok(in_flight)
    }
}

/// Counts one request in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU32>);

impl InFlight {
    /// Written by all workers. Relaxed: the number alone matters, it guards nothing.
    fn take(limit: NonZeroU32, count: &Arc<AtomicU32>) -> Option<Self> {
        let one_more = |count| (count < limit.get()).then_some(count + 1);
        count
            .fetch_update(Relaxed, Relaxed, one_more)
            .is_ok()
            .then(|| Self(Arc::clone(count)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Rate, RateKey};

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn limits(in_flight: Option<u32>, requests: Option<u32>) -> RouteLimits {
        RouteLimits {
            body_bytes: None,
            in_flight: in_flight.map(number),
            rate: requests.map(|requests| Rate {
                requests: number(requests),
                per: Duration::from_secs(3600),
                burst: number(requests),
                key: RateKey::Route,
            }),
        }
    }

    fn admit(limits: &Limits) -> Result<Option<InFlight>, Over> {
        limits.admit(CLIENT, &HeaderMap::new())
    }

    #[test]
    fn a_route_without_limits_has_none() {
        assert!(Limits::of(&RouteLimits::default(), None).is_none());
    }

    #[test]
    fn a_place_is_free_again_when_its_request_has_ended() {
        let limits = Limits::of(&limits(Some(2), None), None).unwrap();
        let (first, _second) = (admit(&limits).unwrap(), admit(&limits).unwrap());
        assert_eq!(admit(&limits).unwrap_err(), Over::InFlight);
        drop(first);
        assert!(admit(&limits).is_ok());
    }

    #[test]
    fn what_is_refused_for_its_rate_takes_no_place() {
        let limits = Limits::of(&limits(Some(1), Some(1)), None).unwrap();
        drop(admit(&limits).unwrap());
        for _ in 0..3 {
            assert!(matches!(admit(&limits), Err(Over::Rate { .. })));
        }
    }

    #[test]
    fn what_was_counted_counts_after_a_reload() {
        let before = Limits::of(&limits(Some(2), Some(1)), None).unwrap();
        let held = admit(&before).unwrap();
        let same_rate = Limits::of(&limits(Some(1), Some(1)), Some(&before)).unwrap();
        assert_eq!(admit(&same_rate).unwrap_err(), Over::InFlight);
        drop(held);
        assert!(matches!(admit(&same_rate), Err(Over::Rate { .. })));
        let other_rate = Limits::of(&limits(Some(1), Some(2)), Some(&same_rate)).unwrap();
        assert!(admit(&other_rate).is_ok());
    }
}
