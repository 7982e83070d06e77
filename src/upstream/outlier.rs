//! What clients' requests tell of an endpoint: how many failed in a row, and what share of those of the last seconds. Workers
//! count and say when a line is crossed; what follows is decided on the control thread.
//!
//! A request that goes well costs one load. How many there were is known already, from the endpoint's metrics: the window is a
//! sample of the totals for each of its seconds, taken by the control thread, and what has come since the oldest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::Endpoint;
use super::journal::{Fact, Return};
use crate::config::Passive;
use crate::lock::lock;

/// The rule of an upstream, and who is told when an endpoint has crossed a line.
#[derive(Clone, Debug)]
pub struct Watch {
    /// `upstream.passive`
    pub rule: Passive,
    /// The same through all generations.
    pub alarm: Arc<Alarm>,
}

/// Wakes the control thread.
#[derive(Debug, Default)]
pub struct Alarm(Notify);

impl Alarm {
    /// Wakes it.
    pub(super) fn raise(&self) {
        self.0.notify_one();
    }

    /// Waits until a worker has found something, once.
    pub async fn raised(&self) {
        self.0.notified().await;
    }
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Line {
    /// So many failures in a row.
    Consecutive = 1,
    /// Such a share of the requests in the window.
    Ratio = 2,
}

impl Line {
    /// The word in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::Ratio => "ratio",
        }
    }

    /// The one of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Consecutive, Self::Ratio]
            .into_iter()
            .find(|line| line.as_str() == word)
    }

    fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => None,
            1 => Some(Self::Consecutive),
            _ => Some(Self::Ratio),
        }
    }
}

/// An endpoint is set aside.
#[derive(Clone, Copy, Debug)]
pub struct Ejection {
    /// Why.
    pub line: Line,
    /// When it began, for comparing.
    pub begun: Instant,
    /// When it ends, unless a check passes before.
    pub until: SystemTime,
}

/// What workers have counted of an endpoint's failures, on cache lines of its own: a failing one shall not slow picks down.
/// Everything here is Relaxed: numbers that guard nothing, where one more or less does no harm.
#[derive(Debug)]
#[repr(align(128))]
pub struct Outlier {
    /// Failures since the last success. Written by workers, with a success only when there were some.
    consecutive: AtomicU32,
    /// Failures ever, modulo 2³². Written by workers.
    failures: AtomicU32,
    /// Those of them that no response came of. Written by workers.
    unanswered: AtomicU32,
    /// The [`Totals`] where the window begins. Written by the control thread, read by workers at a failure.
    begin: AtomicU64,
    /// The [`Line`] that was crossed, 0 for none. Set by workers, cleared by the control thread.
    crossed: AtomicU8,
    /// Totals of the last seconds, oldest first. The control thread's own.
    seconds: Mutex<VecDeque<Totals>>,
}

/// Requests and failures up to a moment, both modulo 2³²: only differences mean something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Totals {
    requests: u32,
    failures: u32,
}

impl Totals {
    fn pack(self) -> u64 {
        u64::from(self.requests) << 32 | u64::from(self.failures)
    }

    fn unpack(packed: u64) -> Self {
        let low = |packed: u64| u32::try_from(packed & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            requests: low(packed >> 32),
            failures: low(packed),
        }
    }
}

impl Outlier {
    /// Of an endpoint of which so many responses are counted already.
    pub fn new(answered: u64) -> Self {
        let outlier = Self {
            consecutive: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            begin: AtomicU64::new(0),
            crossed: AtomicU8::new(0),
            seconds: Mutex::default(),
        };
        outlier.restart(answered);
        outlier
    }

    /// A response came that is no failure.
    pub(super) fn succeed(&self) {
        if self.consecutive.load(Relaxed) != 0 {
            self.consecutive.store(0, Relaxed);
        }
    }

    /// An attempt failed: by a response, or without one. `answered`: responses counted so far, this one included. Whether a line
    /// has just been crossed.
    pub(super) fn fail(&self, by_response: bool, answered: u64, rule: &Passive) -> bool {
        let in_a_row = self.consecutive.fetch_add(1, Relaxed).saturating_add(1);
        if !by_response {
            self.unanswered.fetch_add(1, Relaxed);
        }
        self.failures.fetch_add(1, Relaxed);
        match self.line(in_a_row, answered, rule) {
            Some(line) => self.crossed.swap(line as u8, Relaxed) == 0,
            None => false,
        }
    }

    /// The line that is crossed now.
    fn line(&self, in_a_row: u32, answered: u64, rule: &Passive) -> Option<Line> {
        if in_a_row >= rule.consecutive {
            return Some(Line::Consecutive);
        }
        let (requests, failures) = self.window(answered);
        let is_over = requests >= rule.min_requests
            && f64::from(failures) >= f64::from(requests) * rule.ratio;
        is_over.then_some(Line::Ratio)
    }

    /// Requests and failures since the window began.
    pub fn window(&self, answered: u64) -> (u32, u32) {
        let (now, begin) = (
            self.totals(answered),
            Totals::unpack(self.begin.load(Relaxed)),
        );
        let failures = now.failures.wrapping_sub(begin.failures);
        // A failure is counted before its request where both come at once.
        let requests = now.requests.wrapping_sub(begin.requests).max(failures);
        (requests, failures)
    }

    /// Failures since the last success.
    pub fn in_a_row(&self) -> u32 {
        self.consecutive.load(Relaxed)
    }

    /// The line that workers have seen crossed and nobody has answered yet.
    pub fn crossed(&self) -> Option<Line> {
        Line::from_u8(self.crossed.load(Relaxed))
    }

    /// For the control thread: nothing could be done about the line that was crossed. Forgets it if it is crossed no more;
    /// otherwise workers go on saying nothing.
    pub fn review(&self, answered: u64, rule: &Passive) {
        if self.line(self.in_a_row(), answered, rule).is_none() {
            self.crossed.store(0, Relaxed);
        }
    }

    /// For the control thread, once a second: the window moves on.
    pub fn tick(&self, answered: u64, window: Duration) {
        let mut seconds = lock(&self.seconds);
        seconds.push_back(self.totals(answered));
        while seconds.len() as u64 > window.as_secs() {
            seconds.pop_front();
        }
        // Until it is full it begins where counting did.
        if seconds.len() as u64 == window.as_secs()
            && let Some(oldest) = seconds.front()
        {
            self.begin.store(oldest.pack(), Relaxed);
        }
    }

    /// For the control thread: what was is forgotten.
    pub fn restart(&self, answered: u64) {
        let mut seconds = lock(&self.seconds);
        seconds.clear();
        self.consecutive.store(0, Relaxed);
        self.begin.store(self.totals(answered).pack(), Relaxed);
        self.crossed.store(0, Relaxed);
    }

    fn totals(&self, answered: u64) -> Totals {
        let answered = u32::try_from(answered & u64::from(u32::MAX)).unwrap_or_default();
        Totals {
            requests: answered.wrapping_add(self.unanswered.load(Relaxed)),
            failures: self.failures.load(Relaxed),
        }
    }
}

impl Endpoint {
    /// Sets it aside for what clients' requests came to, or takes it back.
    pub fn set_ejected(&self, ejected: Result<Ejection, Return>) {
        self.outlier().restart(self.answered());
        let fact = match ejected {
            Ok(ejection) => {
                let time = ejection.until.duration_since(SystemTime::now());
                Fact::Ejected(ejection.line, time.unwrap_or_default())
            }
            Err(why) => Fact::Returned(why),
        };
        self.change(|state| {
            state.ejected = ejected.ok();
            true
        });
        self.journal().note(fact);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule() -> Passive {
        Passive {
            consecutive: 5,
            ratio: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            eject: Duration::from_secs(10),
            eject_limit: Duration::from_secs(300),
            max_ejected: 0.5,
            statuses: vec![502, 503, 504],
        }
    }

    #[test]
    fn an_outlier_does_not_share_its_cache_lines() {
        assert_eq!(align_of::<Outlier>(), 128);
    }

    #[test]
    fn five_failures_in_a_row_cross_the_line_and_say_so_once() {
        let outlier = Outlier::new(0);
        for _ in 0..4 {
            assert!(!outlier.fail(false, 0, &rule()));
        }
        outlier.succeed();
        for _ in 0..4 {
            assert!(!outlier.fail(false, 1, &rule()));
        }
        assert_eq!(outlier.crossed(), None);
        assert!(outlier.fail(false, 1, &rule()));
        assert!(!outlier.fail(false, 1, &rule()), "said already");
        assert_eq!(outlier.crossed(), Some(Line::Consecutive));
        outlier.review(1, &rule());
        assert_eq!(outlier.crossed(), Some(Line::Consecutive));
        outlier.succeed();
        outlier.review(100, &rule());
        assert_eq!(outlier.crossed(), None);
        outlier.fail(false, 100, &rule());
        outlier.restart(100);
        assert_eq!((outlier.in_a_row(), outlier.window(100)), (0, (0, 0)));
    }

    #[test]
    fn half_of_twenty_requests_cross_the_line_whatever_comes_between() {
        // Responses of an earlier endpoint of the same name are not this one's.
        let mut answered = u64::from(u32::MAX) - 3;
        let outlier = Outlier::new(answered);
        for _ in 0..9 {
            answered += 1;
            outlier.succeed();
            answered += 1;
            assert!(!outlier.fail(true, answered, &rule()));
        }
        assert_eq!(outlier.window(answered), (18, 9));
        answered += 1;
        outlier.succeed();
        answered += 1;
        assert!(outlier.fail(true, answered, &rule()));
        assert_eq!(outlier.crossed(), Some(Line::Ratio));
    }

    proptest! {
        /// Each second so many good and so many failed requests: the window has those of the last ten, the current one included.
        #[test]
        fn window_is_what_came_in_its_seconds(
            seconds in proptest::collection::vec((0_u32..50, 0_u32..50, 0_u32..50), 1..40),
            window in 1_u64..20,
        ) {
            let rule = Passive { consecutive: u32::MAX, ratio: 1.0, min_requests: u32::MAX, window: Duration::from_secs(window), ..rule() };
            let outlier = Outlier::new(7);
            let mut answered = 7;
            for (index, (good, refused, bad)) in seconds.iter().enumerate() {
                for _ in 0..*good {
                    answered += 1;
                    outlier.succeed();
                }
                for _ in 0..*refused {
                    outlier.fail(false, answered, &rule);
                }
                for _ in 0..*bad {
                    answered += 1;
                    outlier.fail(true, answered, &rule);
                }
                let begin = (index + 1).saturating_sub(usize::try_from(window).unwrap());
                let seen = &seconds[begin..=index];
                let requests = seen.iter().map(|(good, refused, bad)| good + refused + bad).sum::<u32>();
                let failures = seen.iter().map(|(_, refused, bad)| refused + bad).sum::<u32>();
                prop_assert_eq!(outlier.window(answered), (requests, failures));
                outlier.tick(answered, rule.window);
            }
        }
    }
}
