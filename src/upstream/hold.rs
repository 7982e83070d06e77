//! Holds requests to a paused upstream, up to a bound and not for long; lets them go in the order of their arrival, a few at a
//! time, when it is resumed. Knows nothing of endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config;

/// How often held requests are let go…
const TICK: Duration = Duration::from_millis(10);
/// …and how many at first: 5,000 a second, so that endpoints that were just started do not get all at once. A tenth more each
/// time, so that there is an end to it however many come meanwhile.
const AT_ONCE: usize = 50;
/// More than are ever held.
const MOST_AT_ONCE: usize = 1 << 20;

/// Whether requests pass, and those that wait. The same through all snapshots in which its upstream stays.
#[derive(Debug)]
pub struct Hold {
    /// One of the three below. Written by the control thread, read by workers with every request. What it decides for one
    /// request is checked again, in one order with `held`, before that waits.
    mode: AtomicU8,
    /// Requests that wait, of all workers. Written by them; the control thread stops letting go when there are none.
    held: AtomicUsize,
    /// Gives those that wait their turn, in order.
    turns: Semaphore,
    /// Says whether it is paused.
    paused: IntGauge,
    /// Says how many wait.
    waiting: IntGauge,
}

/// Requests pass.
const OPEN: u8 = 0;
/// They wait.
const PAUSED: u8 = 1;
/// They wait for those before them.
const RELEASING: u8 = 2;

/// Why a request was not held, or not any longer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused;

impl Hold {
    /// Lets requests pass. The gauges say whether it is paused, and how many wait.
    pub fn new(paused: IntGauge, waiting: IntGauge) -> Arc<Self> {
        paused.set(0);
        Arc::new(Self {
            mode: AtomicU8::new(OPEN),
            held: AtomicUsize::new(0),
            turns: Semaphore::new(0),
            paused,
            waiting,
        })
    }

    /// Whether requests have to wait.
    pub fn is_engaged(&self) -> bool {
        self.mode.load(Relaxed) != OPEN
    }

    /// Whether it is paused, rather than letting go of those that wait.
    pub fn is_paused(&self) -> bool {
        self.mode.load(Relaxed) == PAUSED
    }

    /// How many requests wait.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Waits until it is this request's turn; not for longer than `limits` allow, and not beside more than they allow.
    pub async fn wait(&self, limits: config::Pause) -> Result<(), Refused> {
        let place = Place::take(self);
        // One order of all four accesses, here and in `release`: either this request sees that all may pass, or it is seen.
        if self.mode.load(SeqCst) == OPEN {
            return Ok(());
        }
        if place.before >= limits.hold {
            return Err(Refused);
        }
        match timeout(limits.wait, self.turns.acquire()).await {
            Ok(Ok(turn)) => {
                turn.forget();
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(Refused),
        }
    }

    /// Pauses, or lets go of those that wait and then of all. Whether that is a change. For the control thread, in its
    /// runtime.
    pub fn set_paused(self: &Arc<Self>, paused: bool) -> bool {
        self.paused.set(i64::from(paused));
        if paused {
            let before = self.mode.swap(PAUSED, SeqCst);
            // Turns that were given and not taken.
            self.turns.forget_permits(usize::MAX);
            return before != PAUSED;
        }
        let resumed = self
            .mode
            .compare_exchange(PAUSED, RELEASING, SeqCst, SeqCst)
            .is_ok();
        if resumed {
            tokio::spawn(Arc::clone(self).release());
        }
        resumed
    }

    /// Refuses those that wait, and those that will: at shutdown nobody is left to resume what is paused.
    pub fn give_up(&self) {
        if self.is_paused() {
            self.turns.close();
        }
    }

    /// Lets go of those that wait, until there are none or it is paused again.
    async fn release(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut at_once = AT_ONCE;
        loop {
            ticks.tick().await;
            if self.mode.load(SeqCst) != RELEASING {
                return;
            }
            if self.held.load(SeqCst) > 0 {
                // Those given before and not taken yet count.
                let given = self.turns.available_permits();
                self.turns.add_permits(at_once.saturating_sub(given));
                at_once = (at_once + at_once / 10).min(MOST_AT_ONCE);
                continue;
            }
            let exchange = |from, to| self.mode.compare_exchange(from, to, SeqCst, SeqCst);
            if exchange(RELEASING, OPEN).is_err() {
                return;
            }
            if self.held.load(SeqCst) == 0 {
                self.turns.forget_permits(usize::MAX);
                return;
            }
            // One came in this very moment, and may wait.
            if exchange(OPEN, RELEASING).is_err() {
                return;
            }
        }
    }
}

/// A request that waits.
struct Place<'h> {
    hold: &'h Hold,
    /// How many waited before it.
    before: usize,
}

impl<'h> Place<'h> {
    fn take(hold: &'h Hold) -> Self {
        let before = hold.held.fetch_add(1, SeqCst);
        hold.waiting.inc();
        Self { hold, before }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hold.held.fetch_sub(1, SeqCst);
        self.hold.waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMITS: config::Pause = config::Pause {
        hold: 1000,
        wait: Duration::from_secs(30),
    };

    fn hold() -> Arc<Hold> {
        let gauge = || IntGauge::new("a", "b").unwrap();
        Hold::new(gauge(), gauge())
    }

    #[tokio::test(start_paused = true)]
    async fn held_requests_go_on_in_order_and_a_few_at_a_time() {
        let hold = hold();
        assert!(!hold.is_engaged());
        hold.set_paused(true);
        let gone = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..175 {
            let (hold, gone) = (Arc::clone(&hold), Arc::clone(&gone));
            tasks.push(tokio::spawn(async move {
                hold.wait(LIMITS).await.unwrap();
                gone.lock().unwrap().push((number, Instant::now()));
            }));
        }
        sleep(Duration::from_secs(20)).await;
        assert_eq!(hold.held(), 175);
        let resumed = Instant::now();
        hold.set_paused(false);
        assert!(hold.is_engaged() && !hold.is_paused());
        for task in tasks {
            task.await.unwrap();
        }
        let gone = gone.lock().unwrap().clone();
        assert!(gone.iter().map(|(number, _)| *number).eq(0..175));
        let gone_within = |ticks| {
            let is_gone = |(_, at): &&(usize, Instant)| at.duration_since(resumed) < TICK * ticks;
            gone.iter().filter(is_gone).count()
        };
        assert_eq!([1, 2, 3, 4].map(gone_within), [50, 105, 165, 175]);
        sleep(TICK * 2).await;
        assert!(!hold.is_engaged(), "all pass again");
        // And nobody's turn was left over for the next time.
        hold.set_paused(true);
        let short = config::Pause {
            wait: Duration::from_secs(1),
            ..LIMITS
        };
        assert_eq!(hold.wait(short).await, Err(Refused));
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_however_many_come_meanwhile() {
        let hold = hold();
        hold.set_paused(true);
        let resumed = Instant::now();
        hold.set_paused(false);
        while hold.is_engaged() {
            // Twice as many as are let go at first.
            for _ in 0..2 * AT_ONCE {
                let hold = Arc::clone(&hold);
                tokio::spawn(async move { hold.wait(LIMITS).await.unwrap() });
            }
            sleep(TICK).await;
            let held = hold.held();
            assert!(resumed.elapsed() < Duration::from_secs(2), "{held} wait");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_the_bounds() {
        let hold = hold();
        hold.set_paused(true);
        let limits = config::Pause { hold: 1, ..LIMITS };
        let begun = Instant::now();
        let (first, second) = tokio::join!(hold.wait(limits), async {
            let refused = hold.wait(limits).await;
            assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
            refused
        });
        assert_eq!((first, second), (Err(Refused), Err(Refused)));
        assert_eq!(begun.elapsed(), limits.wait);
        assert_eq!(hold.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_refused_at_once() {
        let hold = hold();
        hold.set_paused(true);
        let begun = Instant::now();
        let (waited, ()) = tokio::join!(hold.wait(LIMITS), async { hold.give_up() });
        assert_eq!(
            (waited, hold.wait(LIMITS).await),
            (Err(Refused), Err(Refused))
        );
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn pausing_again_stops_letting_go() {
        let hold = hold();
        hold.set_paused(true);
        let waiting = |count: usize| {
            for _ in 0..count {
                let hold = Arc::clone(&hold);
                tokio::spawn(async move { hold.wait(LIMITS).await });
            }
        };
        waiting(120);
        sleep(Duration::from_secs(1)).await;
        hold.set_paused(false);
        sleep(TICK / 2).await;
        hold.set_paused(true);
        let left = hold.held();
        assert!((1..120).contains(&left), "{left}");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(hold.held(), left);
        hold.set_paused(false);
        sleep(Duration::from_secs(1)).await;
        assert_eq!((hold.held(), hold.is_engaged()), (0, false));
    }

    #[tokio::test]
    async fn requests_that_come_while_it_opens_are_not_forgotten() {
        // Threads, as workers are, against one that pauses and resumes: whoever was held goes on.
        let hold = hold();
        let ask = |hold: Arc<Hold>| async move {
            let limits = config::Pause {
                hold: usize::MAX,
                wait: Duration::from_secs(20),
            };
            for _ in 0..2_000 {
                if hold.is_engaged() {
                    hold.wait(limits).await.unwrap();
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        };
        let spawn = |_| {
            let hold = Arc::clone(&hold);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                runtime.block_on(ask(hold));
            })
        };
        let threads: Vec<_> = (0..3).map(spawn).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            hold.set_paused(true);
            sleep(Duration::from_millis(1)).await;
            hold.set_paused(false);
            sleep(Duration::from_millis(12)).await;
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(hold.held(), 0);
    }
}
