//! Requests that wait for an endpoint with room, in order, each for so long at most.
//!
//! Endpoints with a limit say when a place is freed; it goes to whoever waits first, and a newcomer waits behind those that
//! are there. The lock is taken only by those that wait and those that free a place while somebody does: not by a request
//! that finds room.
//!
//! No place is freed unseen: `Waiting` sees to that. It says nothing of where atomics come from: `tests/counters.rs` puts those
//! of a model checker there.

mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use self::waiting::Waiting;
use super::{Lease, Upstream, Wish};
use crate::config::{self, QueueOrder};
use crate::lock::lock;

mod atomic {
    pub(super) use std::sync::atomic::{AtomicUsize, Ordering, fence};
}

/// Why a request got no endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denied {
    /// None may be asked.
    Nobody,
    /// One of them serves, and none claims to be that one; or one does, and another one was not heard yet.
    NoAuthority,
    /// One of them serves, and several claim to be that one.
    TwoAuthorities,
    /// Those that may be asked have as many requests as they may, and so has the queue.
    Full,
    /// The request has waited for as long as it may.
    Late,
}

/// Those that wait at one upstream, on all workers.
#[derive(Debug)]
pub struct Queue {
    waiters: Mutex<Waiters>,
    /// How many they are. Written under the lock.
    waiting: Waiting,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiters: Mutex::default(),
            waiting: Waiting::none(),
        }
    }
}

#[derive(Debug, Default)]
struct Waiters {
    /// One for each generation that some of them began with, the oldest first. A request may go to none but the endpoints
    /// that its own knows.
    lines: Vec<Line>,
    next: u64,
}

#[derive(Debug)]
struct Line {
    upstream: Arc<Upstream>,
    /// By the order in which they came.
    waiters: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    wish: Wish,
    until: Instant,
    answer: oneshot::Sender<Result<Lease, Denied>>,
}

impl Queue {
    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.count()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a newcomer would come before others that wait.
    pub(super) fn is_waited_in(&self) -> bool {
        !self.is_empty()
    }

    /// A place has become free, or an endpoint eligible, or none is any more.
    pub(super) fn freed(&self) {
        if self.waiting.after_freeing() {
            self.serve();
        }
    }

    #[cold]
    fn serve(&self) {
        let mut waiters = lock(&self.waiters);
        let unwanted = waiters.serve();
        self.count(&waiters);
        drop(waiters);
        // Frees places in its turn: not under the lock.
        drop(unwanted);
    }

    /// Puts `waiter` in line, where there is one; it may have its answer at once.
    fn enter<'q>(
        &'q self,
        upstream: &Arc<Upstream>,
        rule: &config::Queue,
        waiter: Waiter,
    ) -> Result<Place<'q>, Denied> {
        let mut waiters = lock(&self.waiters);
        let number = waiters.push(upstream, rule, waiter)?;
        self.count(&waiters);
        self.waiting.before_looking();
        let unwanted = waiters.serve();
        self.count(&waiters);
        drop(waiters);
        drop(unwanted);
        Ok(Place {
            queue: self,
            number,
        })
    }

    fn count(&self, waiters: &Waiters) {
        self.waiting.set(waiters.len());
    }
}

impl Waiters {
    fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiters.len()).sum()
    }

    fn push(
        &mut self,
        upstream: &Arc<Upstream>,
        rule: &config::Queue,
        waiter: Waiter,
    ) -> Result<u64, Denied> {
        let known = |line: &Line| Arc::ptr_eq(&line.upstream, upstream);
        let index = self.lines.iter().position(known).unwrap_or_else(|| {
            self.lines.push(Line {
                upstream: Arc::clone(upstream),
                waiters: BTreeMap::new(),
            });
            self.lines.len() - 1
        });
        let line = &mut self.lines[index].waiters;
        // Each line has the whole length: one that waits for what a reload has taken away shall keep nobody out.
        if line.len() >= rule.length.get() {
            match rule.order {
                QueueOrder::Fifo => return Err(Denied::Full),
                QueueOrder::NewestFirst => {
                    if let Some((_, oldest)) = line.pop_first() {
                        let _ = oldest.answer.send(Err(Denied::Full));
                    }
                }
            }
        }
        let number = self.next;
        self.next += 1;
        line.insert(number, waiter);
        Ok(number)
    }

    fn remove(&mut self, number: u64) {
        for line in &mut self.lines {
            line.waiters.remove(&number);
        }
        self.lines.retain(|line| !line.waiters.is_empty());
    }

    /// Gives out what places there are. Returns those that nobody took after all.
    fn serve(&mut self) -> Vec<Lease> {
        let now = Instant::now();
        let mut unwanted = Vec::new();
        for line in &mut self.lines {
            line.serve(now, &mut unwanted);
        }
        self.lines.retain(|line| !line.waiters.is_empty());
        unwanted
    }
}

impl Line {
    fn serve(&mut self, now: Instant, unwanted: &mut Vec<Lease>) {
        let order = self
            .upstream
            .queueing
            .map_or(QueueOrder::Fifo, |rule| rule.order);
        let mut passed = None;
        loop {
            // Behind those that were passed over.
            let next = match (order, passed) {
                (QueueOrder::Fifo, None) => self.waiters.iter().next(),
                (QueueOrder::Fifo, Some(passed)) => self.waiters.range(passed + 1..).next(),
                (QueueOrder::NewestFirst, None) => self.waiters.iter().next_back(),
                (QueueOrder::NewestFirst, Some(passed)) => self.waiters.range(..passed).next_back(),
            };
            let Some((&number, waiter)) = next else {
                return;
            };
            let wish = waiter.wish;
            let answer = if waiter.until <= now {
                Err(Denied::Late)
            } else {
                self.upstream.pick_now(wish)
            };
            if answer.as_ref().err() == Some(&Denied::Full) {
                if wish.tried.is_empty() {
                    return;
                }
                // It waits for others than those it has tried, and keeps nobody from these.
                passed = Some(number);
                continue;
            }
            if let Some(waiter) = self.waiters.remove(&number)
                && let Err(Ok(lease)) = waiter.answer.send(answer)
            {
                unwanted.push(lease);
            }
        }
    }
}

/// One request's place in line; given up when it is dropped.
#[derive(Debug)]
struct Place<'q> {
    queue: &'q Queue,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiters = lock(&self.queue.waiters);
        waiters.remove(self.number);
        self.queue.count(&waiters);
    }
}

impl Upstream {
    /// Waits for what [`pick`](Self::pick) did not find, as long as the upstream lets requests wait. Dropped before that, it
    /// gives up its place.
    pub async fn wait(self: &Arc<Self>, wish: Wish) -> Result<Lease, Denied> {
        let got = match &self.queueing {
            Some(rule) => self.wait_in_line(wish, rule).await,
            None => Err(Denied::Full),
        };
        match got {
            Err(Denied::Full) => self.metrics.queue_full.inc(),
            Err(Denied::Late) => self.metrics.queue_late.inc(),
            Ok(_) | Err(Denied::Nobody | Denied::NoAuthority | Denied::TwoAuthorities) => {}
        }
        got
    }

    async fn wait_in_line(
        self: &Arc<Self>,
        wish: Wish,
        rule: &config::Queue,
    ) -> Result<Lease, Denied> {
        let begun = Instant::now();
        let until = begun + rule.wait;
        // Declared before the place, so that it goes after it: what comes meanwhile is given back, not under the lock.
        let (answer, mut answered) = oneshot::channel();
        let waiter = Waiter {
            wish,
            until,
            answer,
        };
        let place = self.queue.enter(self, rule, waiter)?;
        let in_time = timeout_at(until, &mut answered).await;
        drop(place);
        let got = match in_time {
            Ok(answer) => answer.ok(),
            // It may have come at that very moment.
            Err(_) => answered.try_recv().ok(),
        };
        self.metrics
            .queue_seconds
            .observe(begun.elapsed().as_secs_f64());
        got.unwrap_or(Err(Denied::Late))
    }
}

#[cfg(test)]
mod tests;
