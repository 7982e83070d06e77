//! How many endpoints an upstream could lose and still carry its load. What an endpoint can carry is its limit; without one, no
//! more than it was seen to carry: had in flight, and answered as quickly as it is used to. Has no clock.

use std::time::Instant;

use super::pace::Answered;
use super::{Endpoint, Tier, Upstream};

/// What an upstream has in hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Headroom {
    /// How many endpoints could be lost, whichever they are, with what is in flight these days still carried.
    pub could_lose: usize,
    /// The same at [`peak`](Self::peak).
    pub could_lose_at_peak: usize,
    /// Of so many that are picked now.
    pub of: usize,
    /// Most requests at once within the last minute, those that wait among them.
    pub load: u64,
    /// The same within the last day.
    pub peak: u64,
    /// How it is known what endpoints can carry.
    pub by: By,
}

/// How it is known what endpoints can carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// Each has a limit.
    Limits,
    /// None has one: each is taken to carry what it was seen to carry within the last day.
    Peaks,
    /// Some have a limit, the rest are taken for what was seen.
    Both,
}

impl By {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limits => "max_in_flight",
            Self::Peaks => "observed_peak",
            Self::Both => "both",
        }
    }
}

/// Whether `load` is carried by endpoints that carry so much each: by those `in_use`, or where there are none by the
/// `reserve`.
pub fn carries(in_use: &[u32], reserve: &[u32], load: u64) -> bool {
    let bearing = if in_use.is_empty() { reserve } else { in_use };
    !bearing.is_empty() && sum(bearing) >= load
}

/// How many of those `in_use` could be lost with `load` still carried, whichever they are.
pub fn could_lose(in_use: &[u32], reserve: &[u32], load: u64) -> usize {
    let mut left = in_use.to_vec();
    // The worst is to lose those that carry most.
    left.sort_unstable();
    let mut lost = 0;
    let mut carried = sum(&left);
    while let Some(most) = left.pop() {
        carried -= u64::from(most);
        let is_carried = if left.is_empty() {
            carries(&[], reserve, load)
        } else {
            carried >= load
        };
        if !is_carried {
            break;
        }
        lost += 1;
    }
    lost
}

fn sum(carried: &[u32]) -> u64 {
    carried.iter().map(|it| u64::from(*it)).sum()
}

impl Upstream {
    /// What it has in hand now. Of endpoints that are in use for want of others nothing is expected.
    pub fn headroom(&self) -> Headroom {
        let (mut in_use, mut reserve, mut unproven) = (Vec::new(), Vec::new(), Vec::new());
        let (mut limited, mut all) = (0, 0);
        for endpoint in &self.endpoints {
            let list = match endpoint.tier() {
                _ if self.is_standby(endpoint) => continue,
                Tier::Eligible if self.waits(endpoint) => &mut reserve,
                Tier::Eligible => &mut in_use,
                Tier::IfNoneEligible => &mut unproven,
                Tier::Never => continue,
            };
            let can_carry = if endpoint.is_kept() {
                0
            } else {
                endpoint.can_carry()
            };
            list.push(can_carry);
            all += 1;
            limited += usize::from(endpoint.max_in_flight().is_some());
        }
        if in_use.is_empty() {
            in_use = unproven;
        }
        let load = u64::from(self.peaks.last_minute()).max(self.load_now());
        let peak = u64::from(self.peaks.last_day()).max(load);
        Headroom {
            could_lose: could_lose(&in_use, &reserve, load),
            could_lose_at_peak: could_lose(&in_use, &reserve, peak),
            of: in_use.len(),
            load,
            peak,
            by: match limited {
                0 => By::Peaks,
                limited if limited == all => By::Limits,
                _ => By::Both,
            },
        }
    }

    /// Requests in flight and waiting.
    fn load_now(&self) -> u64 {
        let in_flight = self.endpoints.iter().map(|it| u64::from(it.in_flight()));
        in_flight.sum::<u64>() + self.queue.len() as u64
    }

    /// For the control thread, at every tick: remembers the most that was in flight.
    pub(super) fn note_peaks(&self, now: Instant) {
        for endpoint in &self.endpoints {
            let busy = (endpoint.in_flight(), endpoint.tunnels());
            let carried = endpoint.pace.note(now, endpoint.answered_in(), busy);
            endpoint.peaks.note(now, carried);
        }
        let load = u32::try_from(self.load_now()).unwrap_or(u32::MAX);
        self.peaks.note(now, load);
    }
}

impl Endpoint {
    /// All answers so far, with the time they took.
    fn answered_in(&self) -> Answered {
        let answers = &self.metrics.response;
        Answered {
            count: answers.get_sample_count(),
            seconds: answers.get_sample_sum(),
        }
    }

    /// How many of those in flight have changed their protocol.
    pub fn tunnels(&self) -> u32 {
        u32::try_from(self.metrics.tunnels.get()).unwrap_or(0)
    }

    /// How many requests at once it can carry: its limit, or what it was seen to carry within the last day.
    pub(super) fn can_carry(&self) -> u32 {
        match self.max_in_flight() {
            Some(limit) => limit.get(),
            None => self.peak_in_flight(),
        }
    }

    /// Most requests at once that it was seen to carry within the last day, or that it may carry now.
    pub fn peak_in_flight(&self) -> u32 {
        let now = self.pace.claimed(self.in_flight());
        self.peaks.last_day().max(now)
    }
}

#[cfg(test)]
mod tests;
