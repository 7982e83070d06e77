//! Sends spans to their collector (OTLP 1.x over HTTP/1.1): what workers hand over waits here, up to a limit, until it is taken.
//!
//! A task of the control thread, which waits for nobody: what finds no room is dropped and counted, and a collector that is away
//! is asked again, less and less often. Where spans go is read from the snapshot in use each time.

mod deliver;
mod envelope;
mod queue;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use self::deliver::{Delivery, Outcome};
use self::envelope::Process;
use self::queue::{Batch, Queue};
use crate::metrics::Metrics;
use crate::proxy::trace::outbox::{self, Block};
use crate::snapshot::Publisher;
use crate::snapshot::tracing::Collector;

/// For so long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// A collector that has not taken them is asked again after this, then after twice that, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// At the latest after this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A collector may ask for more, up to this.
const LONGEST_WISH: Duration = Duration::from_secs(300);
/// Trouble that lasts is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The sender, as the daemon sees it.
#[derive(Debug)]
pub(super) struct Handle {
    way: Sender<Block>,
    /// Says when the sending ends at the latest.
    end: oneshot::Sender<Instant>,
    task: JoinHandle<()>,
}

/// Starts it.
pub(super) fn start(publisher: Publisher, metrics: &Metrics) -> Handle {
    let (way, blocks) = outbox::way();
    let (end, ends) = oneshot::channel();
    Handle {
        way,
        end,
        task: tokio::spawn(Sending::new(publisher, metrics).run(blocks, ends)),
    }
}

impl Handle {
    /// Where workers send their spans.
    pub(super) fn way(&self) -> Sender<Block> {
        self.way.clone()
    }

    /// Sends what there is, for `limit` at most: a collector that hangs keeps nobody. What is left is lost, and counted. The
    /// workers have ended.
    pub(super) async fn finish_within(self, limit: Duration) {
        drop(self.way);
        // Who has ended by then has nothing left; a panic was logged.
        let _ = self.end.send(Instant::now() + limit);
        let _ = self.task.await;
    }
}

/// The sender at work.
struct Sending {
    publisher: Publisher,
    process: Process,
    /// The last one there was: what waits when tracing is turned off still goes there.
    collector: Option<Arc<Collector>>,
    queue: Queue,
    /// Sent and not taken, or about to be sent.
    batch: Option<Batch>,
    delivery: Delivery,
    /// When something may be sent.
    next: Instant,
    /// How long after the next failure.
    pause: Duration,
    /// When trouble was said last.
    said: Option<Instant>,
    /// That spans are taken again was not said since.
    owes_good_news: bool,
    exported: IntCounter,
    no_room: IntCounter,
    refused: IntCounter,
    lost: IntCounter,
    /// Nothing comes any more, and nobody waits for long.
    is_ending: bool,
}

impl Sending {
    fn new(publisher: Publisher, metrics: &Metrics) -> Self {
        let dropped = |why| metrics.spans_dropped.with_label_values(&[why]);
        Self {
            publisher,
            process: Process::this(),
            collector: None,
            queue: Queue::default(),
            batch: None,
            delivery: Delivery::default(),
            next: Instant::now(),
            pause: FIRST_PAUSE,
            said: None,
            owes_good_news: false,
            exported: metrics.spans_exported.clone(),
            no_room: dropped("queue"),
            refused: dropped("refused"),
            lost: dropped("end"),
            is_ending: false,
        }
    }

    async fn run(mut self, mut blocks: Receiver<Block>, ends: oneshot::Receiver<Instant>) {
        let too_late = async {
            match ends.await {
                Ok(end) => sleep_until(end).await,
                // Nobody waits.
                Err(_) => std::future::pending().await,
            }
        };
        let mut too_late = pin!(too_late);
        let mut under_way: Option<JoinHandle<(Delivery, Outcome)>> = None;
        loop {
            let is_waiting =
                under_way.is_none() && !(self.queue.is_empty() && self.batch.is_none());
            if self.is_ending && !is_waiting && under_way.is_none() {
                return;
            }
            tokio::select! {
                () = &mut too_late => {
                    while let Ok(block) = blocks.try_recv() {
                        self.lost.inc_by(block.spans);
                    }
                    return self.lose("the collector has not answered when the balancer ended");
                }
                block = blocks.recv(), if !self.is_ending => match block {
                    Some(block) => self.take(block),
                    None => {
                        self.is_ending = true;
                        self.next = Instant::now();
                    }
                },
                () = sleep_until(self.next), if is_waiting => under_way = self.send(),
                (delivery, outcome) = ended(&mut under_way), if under_way.is_some() => {
                    under_way = None;
                    self.delivery = delivery;
                    self.note(outcome);
                }
            }
        }
    }

    /// Keeps a block, where there is room.
    fn take(&mut self, block: Block) {
        if let Some(tracing) = &self.publisher.current().tracing {
            self.collector = Some(Arc::clone(&tracing.collector));
        }
        let limit = self.collector.as_ref().map_or(0, |it| it.queue);
        let waiting = self.batch.as_ref().map_or(0, |batch| batch.bytes.len());
        if self.queue.is_empty() && self.batch.is_none() {
            self.next = self.next.max(Instant::now() + GATHER);
        }
        let spans = block.spans;
        if !self.queue.push(block, limit.saturating_sub(waiting)) {
            self.no_room.inc_by(spans);
            self.say(Trouble::NoRoom, "there is no room for more");
        }
        // What fills a batch need not wait for more. One that was not taken has to wait all the same.
        if self.batch.is_none() && self.queue.is_enough(limit) {
            self.next = Instant::now();
        }
    }

    /// Begins to send what waits. Cannot be waited for here: more comes meanwhile.
    fn send(&mut self) -> Option<JoinHandle<(Delivery, Outcome)>> {
        let collector = Arc::clone(self.collector.as_ref()?);
        let batch = match &mut self.batch {
            Some(batch) => batch,
            none => none.insert(
                self.queue
                    .batch(|spans| envelope::envelope(&self.process, &collector.resource, spans)),
            ),
        };
        let delivery = std::mem::take(&mut self.delivery);
        let bytes = batch.bytes.clone();
        Some(tokio::spawn(delivery.send(collector, bytes)))
    }

    fn note(&mut self, outcome: Outcome) {
        let spans = self.batch.as_ref().map_or(0, |batch| batch.spans);
        let now = Instant::now();
        match outcome {
            Outcome::Taken { refused, why } => {
                let refused = refused.min(spans);
                self.exported.inc_by(spans - refused);
                self.batch = None;
                self.pause = FIRST_PAUSE;
                self.next = now;
                if refused > 0 {
                    self.refused.inc_by(refused);
                    let error = format!("it has refused {refused} of {spans}: {why}");
                    self.say(Trouble::NotTaken, &error);
                } else if std::mem::take(&mut self.owes_good_news) {
                    info!("spans are taken again");
                }
            }
            Outcome::Refused(why) => {
                // The same again would be refused again.
                self.refused.inc_by(spans);
                self.batch = None;
                self.next = now;
                self.say(Trouble::NotTaken, &why);
            }
            Outcome::Later(wish, why) => {
                if self.is_ending {
                    return self.lose(&why);
                }
                let pause = wish.map_or(self.pause, |wish| wish.clamp(self.pause, LONGEST_WISH));
                // Several balancers shall not come back at the same moment.
                self.next = now + pause.mul_f64(1.0 + fastrand::f64() / 4.0);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.say(Trouble::NotTaken, &why);
            }
        }
    }

    /// Nobody takes what waits any more.
    fn lose(&mut self, error: &str) {
        let batch = self.batch.take().map_or(0, |batch| batch.spans);
        self.lost.inc_by(batch + self.queue.take_all());
        let (collector, spans) = (self.collector_told(), self.lost.get());
        if spans > 0 {
            warn!(collector, error, spans, "spans are lost");
        }
    }

    fn collector_told(&self) -> Option<String> {
        self.collector.as_ref().map(|collector| collector.url())
    }

    /// Says what is wrong, once a minute: also where it comes and goes.
    fn say(&mut self, trouble: Trouble, error: &str) {
        let now = Instant::now();
        if self.said.is_some_and(|said| now - said < SAY_AGAIN) {
            return;
        }
        self.said = Some(now);
        let collector = self.collector_told();
        let waiting = self.queue.spans() + self.batch.as_ref().map_or(0, |batch| batch.spans);
        let dropped = self.no_room.get() + self.refused.get();
        match trouble {
            Trouble::NotTaken => {
                self.owes_good_news = true;
                warn!(collector, error, waiting, dropped, "spans are not taken");
            }
            Trouble::NoRoom => warn!(collector, error, waiting, dropped, "spans are dropped"),
        }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The collector does not take them, or cannot be reached.
    NotTaken,
    /// They come faster than they go, whatever the collector does.
    NoRoom,
}

/// What has come of what is under way.
async fn ended(under_way: &mut Option<JoinHandle<(Delivery, Outcome)>>) -> (Delivery, Outcome) {
    let Some(under_way) = under_way else {
        return std::future::pending().await;
    };
    // A panic was logged where it happened.
    let failed =
        |error: tokio::task::JoinError| (Delivery::default(), Outcome::Refused(error.to_string()));
    under_way.await.unwrap_or_else(failed)
}

#[cfg(test)]
mod tests;
