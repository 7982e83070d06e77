//! Spans that wait to be sent, in the order in which they came. Bounded in bytes; what is there stays, what is too much goes. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::proxy::trace::outbox::Block;

/// So much is sent at once.
const BATCH: usize = 512 * 1024; // an eighth of what collectors take by default

/// Blocks in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    blocks: VecDeque<Block>,
    bytes: usize,
}

/// Something to be sent.
#[derive(Debug)]
pub(super) struct Batch {
    /// As it is sent.
    pub(super) bytes: Bytes,
    /// How many spans that are.
    pub(super) spans: u64,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// How many spans wait.
    pub(super) fn spans(&self) -> u64 {
        self.blocks.iter().map(|block| block.spans).sum()
    }

    /// Adds `block`, unless that made more than `limit` bytes. Whether it did.
    pub(super) fn push(&mut self, block: Block, limit: usize) -> bool {
        if self.bytes + block.bytes.len() > limit {
            return false;
        }
        self.bytes += block.bytes.len();
        self.blocks.push_back(block);
        true
    }

    /// Whether so much waits that sending need not be put off: a batch, or half of what may wait where `limit` is small.
    pub(super) fn is_enough(&self, limit: usize) -> bool {
        self.bytes >= BATCH.min(limit / 2)
    }

    /// Takes what is sent next, as `envelope` packs it.
    pub(super) fn batch(&mut self, envelope: impl FnOnce(&[u8]) -> Vec<u8>) -> Batch {
        let (mut bytes, mut spans) = (Vec::new(), 0);
        while let Some(block) = self.blocks.front() {
            if !bytes.is_empty() && bytes.len() + block.bytes.len() > BATCH {
                break;
            }
            if let Some(block) = self.blocks.pop_front() {
                self.bytes -= block.bytes.len();
                spans += block.spans;
                bytes.extend_from_slice(&block.bytes);
            }
        }
        Batch {
            bytes: envelope(&bytes).into(),
            spans,
        }
    }

    /// Forgets everything. How many spans that were.
    pub(super) fn take_all(&mut self) -> u64 {
        let spans = self.spans();
        *self = Self::default();
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(length: usize) -> Block {
        Block {
            bytes: vec![1; length],
            spans: 1,
        }
    }

    #[test]
    fn no_more_waits_than_may_and_first_come_is_first_sent() {
        let mut queue = Queue::default();
        assert!(queue.push(block(3), 5));
        assert!(!queue.push(block(3), 5));
        assert!(queue.push(block(2), 5));
        let batch = queue.batch(<[u8]>::to_vec);
        assert_eq!((batch.bytes.len(), batch.spans), (5, 2));
        assert!(queue.is_empty());
        assert!(queue.push(block(5), 5));
        assert_eq!((queue.take_all(), queue.spans()), (1, 0));
        assert!(queue.push(block(5), 5));
    }

    #[test]
    fn batches_are_no_larger_than_they_have_to_be() {
        let mut queue = Queue::default();
        for length in [BATCH + 1, BATCH - 1, 1, 1] {
            assert!(queue.push(block(length), 4 * BATCH));
        }
        let mut sizes = Vec::new();
        while !queue.is_empty() {
            sizes.push(queue.batch(<[u8]>::to_vec).bytes.len());
        }
        assert_eq!(sizes, [BATCH + 1, BATCH, 1]);
    }
}
