//! One worker's spans on their way to whoever sends them: gathered as bytes, handed over in blocks. A worker never waits: a block
//! that finds no room is dropped, its spans counted.
//!
//! Spans are written as OTLP has them right away. What else could be kept of a request until later would take more copies, and
//! its bytes say exactly how much memory waits.

use std::cell::{Cell, RefCell};

use prometheus::IntCounter;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A block is handed over once it is this long.
const BLOCK: usize = 32 * 1024;
/// Blocks on their way at once: who takes them does nothing else for long.
const BLOCKS: usize = 64;

/// Whole spans: fields `spans` of an OTLP `ScopeSpans`, one after the other.
#[derive(Debug)]
pub struct Block {
    /// The fields.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub spans: u64,
}

/// Where workers hand blocks over, and where they come out.
pub fn way() -> (Sender<Block>, Receiver<Block>) {
    channel(BLOCKS)
}

/// One worker's spans.
#[derive(Debug)]
pub struct Outbox {
    buffer: RefCell<Vec<u8>>,
    spans: Cell<u64>,
    way: Sender<Block>,
    dropped: IntCounter,
}

impl Outbox {
    /// Spans go by `way`; those that find no room are counted in `dropped`.
    pub fn new(way: Sender<Block>, dropped: IntCounter) -> Self {
        Self {
            buffer: RefCell::default(),
            spans: Cell::new(0),
            way,
            dropped,
        }
    }

    /// Adds as many spans as `write` says it has written.
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>) -> u64) {
        let mut buffer = self.buffer.borrow_mut();
        self.spans.set(self.spans.get() + write(&mut buffer));
        let is_enough = buffer.len() >= BLOCK;
        drop(buffer);
        if is_enough {
            self.flush();
        }
    }

    /// Hands over what there is. The worker calls it five times a second, so that spans do not wait for others.
    pub fn flush(&self) {
        let spans = self.spans.take();
        if spans == 0 {
            return;
        }
        let bytes = self.buffer.take();
        if self.way.try_send(Block { bytes, spans }).is_err() {
            self.dropped.inc_by(spans);
        }
    }
}

impl Drop for Outbox {
    /// A worker that panics has no other chance.
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn regression_spans_of_a_worker_that_panics_are_handed_over() {
        let (way, mut blocks) = way();
        let outbox = Outbox::new(way, IntCounter::new("x", "x").unwrap());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let outbox = outbox;
            outbox.add(|bytes| {
                bytes.push(1);
                1
            });
            assert!(blocks.is_closed(), "a panic of the test's own making");
        }));
        assert!(panicked.is_err());
        assert_eq!(blocks.try_recv().map(|block| block.spans), Ok(1));
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (way, mut blocks) = channel(1);
        let dropped = IntCounter::new("x", "x").unwrap();
        let outbox = Outbox::new(way, dropped.clone());
        outbox.flush();
        for _ in 0..3 {
            outbox.add(|bytes| {
                bytes.extend([1, 2]);
                3
            });
            outbox.flush();
        }
        assert_eq!(dropped.get(), 6);
        let block = blocks.try_recv().expect("the first");
        assert_eq!((block.bytes, block.spans), (vec![1, 2], 3));
        // A block that is full goes by itself.
        outbox.add(|bytes| {
            bytes.resize(BLOCK, 0);
            1
        });
        assert_eq!(blocks.try_recv().map(|block| block.spans), Ok(1));
    }
}
