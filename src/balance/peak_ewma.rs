//! Peak EWMA: of two candidates at random the one that would be done sooner, by how long it takes to answer and what it has
//! to do. For endpoints of unlike speed. Blind to why an endpoint is slow.

use super::sampler::Sampler;
use super::{Candidate, Cursor};

/// Two candidates are drawn by weight; of these the smaller `latency × (in_flight + 1) / weight`. One that has never
/// answered is asked at once, by one request; until that is answered it counts as very slow.
#[derive(Debug, Default)]
pub struct PeakEwma {
    sampler: Sampler,
}

impl PeakEwma {
    /// See [`super::Policy::pick`].
    pub fn pick<C: Candidate>(
        &self,
        candidates: &[C],
        cursor: &Cursor,
        eligible: impl Fn(&C) -> bool,
    ) -> Option<usize> {
        let (first, second) = self.sampler.two(candidates, cursor, eligible)?;
        if cost(&candidates[second]) < cost(&candidates[first]) {
            Some(second)
        } else {
            Some(first)
        }
    }

    /// See [`super::Policy::refresh`].
    pub fn refresh<C: Candidate>(&self, candidates: &[C], eligible: impl Fn(&C) -> bool) {
        self.sampler.refresh(candidates, eligible);
    }
}

fn cost(candidate: &impl Candidate) -> f64 {
    let borne = f64::from(candidate.in_flight()) + f64::from(candidate.ballast());
    let latency = match f64::from(candidate.latency()) {
        latency if latency > 0.0 => latency,
        _ if borne == 0.0 => return 0.0,
        _ => UNKNOWN,
    };
    latency * (borne + 1.0) / f64::from(candidate.weight())
}

const UNKNOWN: f64 = 60e6; // a minute: nobody who answers is as slow

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Endpoint {
        latency: f32,
        weight: u32,
        in_flight: Cell<u32>,
    }

    impl Candidate for Endpoint {
        fn weight(&self) -> u32 {
            self.weight
        }

        fn in_flight(&self) -> u32 {
            self.in_flight.get()
        }

        fn latency(&self) -> f32 {
            self.latency
        }
    }

    /// What each of `(latency, weight)` has after `requests`, none of which ends.
    fn filled(given: &[(f32, u32)], requests: u32) -> Vec<u32> {
        let endpoints: Vec<Endpoint> = given
            .iter()
            .map(|(latency, weight)| Endpoint {
                latency: *latency,
                weight: *weight,
                in_flight: Cell::new(0),
            })
            .collect();
        let policy = PeakEwma::default();
        policy.refresh(&endpoints, |_| true);
        let cursor = Cursor::new(0);
        for _ in 0..requests {
            let found = &endpoints[policy.pick(&endpoints, &cursor, |_| true).unwrap()];
            found.in_flight.set(found.in_flight.get() + 1);
        }
        endpoints
            .iter()
            .map(|endpoint| endpoint.in_flight.get())
            .collect()
    }

    #[test]
    fn slower_one_gets_as_much_less() {
        let loads = filled(&[(1000.0, 1), (9000.0, 1)], 100);
        assert!((89..=91).contains(&loads[0]), "{loads:?}");
    }

    #[test]
    fn weights_count_beside_latency() {
        let loads = filled(&[(5000.0, 3), (5000.0, 1)], 100);
        assert!((74..=76).contains(&loads[0]), "{loads:?}");
    }

    #[test]
    fn one_that_never_answered_is_asked_once() {
        assert_eq!(filled(&[(5000.0, 1), (0.0, 1)], 50), [49, 1]);
    }

    #[test]
    fn those_that_never_answered_share_evenly() {
        let loads = filled(&[(0.0, 1), (0.0, 1)], 50);
        assert_eq!(loads, [25, 25]);
    }
}
