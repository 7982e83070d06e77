//! Averages how long answers take. Is told the time, and has its atomics from the module around.

use super::atomic::{AtomicU64, Ordering::Relaxed};

/// How long an endpoint takes to answer: an exponentially weighted mean over ten seconds that follows peaks at once.
///
/// Written by workers, faded by the control thread, read by policies. Relaxed, likewise. Value and time are one number, so
/// that they belong together.
#[derive(Debug)]
pub(crate) struct Latency(AtomicU64);

impl Latency {
    /// Not known.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// In microseconds; 0 while it is not known.
    pub(crate) fn micros(&self) -> f32 {
        Mean::of(self.0.load(Relaxed)).micros
    }

    /// An answer took `micros`; it is `now`, in milliseconds since whenever, all round the clock of 2³².
    pub(crate) fn observe(&self, micros: f32, now: u32) {
        self.update(|mean| {
            let micros = micros.max(LEAST);
            if micros >= mean.micros {
                return Some(Mean { micros, at: now });
            }
            let kept = mean.kept(now);
            (kept < 1.0).then_some(Mean {
                micros: mean.micros * kept + micros * (1.0 - kept),
                at: now,
            })
        });
    }

    /// Forgets by and by what nobody has seen again, so that one slow answer does not shut an endpoint out for good.
    pub(crate) fn fade(&self, now: u32) {
        self.update(|mean| {
            let is_due = mean.micros > 0.0 && mean.age(now) >= FADES_AFTER;
            is_due.then(|| Mean {
                micros: (mean.micros * mean.kept(now)).max(LEAST),
                at: now,
            })
        });
    }

    fn update(&self, change: impl Fn(Mean) -> Option<Mean>) {
        // What `change` does not want is left as it is.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |packed| {
            change(Mean::of(packed)).map(Mean::packed)
        });
    }
}

/// A mean, and when it was last changed.
#[derive(Clone, Copy)]
struct Mean {
    micros: f32,
    at: u32,
}

impl Mean {
    fn of(packed: u64) -> Self {
        Self {
            micros: f32::from_bits(packed as u32),
            at: (packed >> 32) as u32,
        }
    }

    fn packed(self) -> u64 {
        u64::from(self.at) << 32 | u64::from(self.micros.to_bits())
    }

    /// In milliseconds. Another worker may have been quicker to write and is then ahead: no time at all.
    fn age(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.at);
        if age > u32::MAX / 2 { 0 } else { age }
    }

    /// How much of it is worth keeping now.
    fn kept(self, now: u32) -> f32 {
        (-(self.age(now) as f32) / DECAY).exp()
    }
}

const DECAY: f32 = 10_000.0; // milliseconds until a third is left, as in Finagle
const FADES_AFTER: u32 = 500; // milliseconds: while answers come they decide alone
const LEAST: f32 = 1.0; // 0 stands for not known
