//! Passes bytes on between two streams, both ways, until both have ended.
//!
//! What is read waits nowhere unless the other side takes less: a pair that is idle keeps no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::cut::Cut;

/// Room to read into, shared by all pairs of a worker.
#[derive(Debug)]
pub struct Scratch(RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        // The largest read that helps: a socket's buffer has rarely more.
        Self(RefCell::new(vec![0; 64 * 1024].into()))
    }
}

/// When bytes have ceased one way, how long the other way may pause: nobody may be left to say anything.
const HALF_CLOSED: Duration = Duration::from_secs(60);
/// How often it is looked whether who has ceased is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How long two streams may do nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Neither says anything.
    pub idle: Duration,
    /// One does not take what the other has said.
    pub stalled: Duration,
}

/// How two streams have ended.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes passed on from the first to the second.
    pub forth: u64,
    /// Bytes passed on from the second to the first.
    pub back: u64,
    /// Why.
    pub end: End,
}

/// Why two streams have ended.
#[derive(Debug)]
pub enum End {
    /// They were told to.
    Cut,
    /// Both said so.
    Closed,
    /// Nothing was said for too long.
    Idle,
    /// One of them failed.
    Failed(io::Error),
}

/// Passes bytes on between `near` and `far` until both have ended, one has failed, or nothing was said or taken for longer than
/// `limits` allow; or until `cut` says so. `early` goes before all else: what was read already from each of them.
pub async fn relay<A, B>(
    near: &mut A,
    far: &mut B,
    early: (Bytes, Bytes),
    limits: Limits,
    (scratch, cut): (&Scratch, &Cut),
) -> Relayed
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forth = Way::new(early.0);
    let mut back = Way::new(early.1);
    let mut pause = Pause::new(limits);
    let end = poll_fn(|cx| {
        if cut.poll(cx.waker()).is_ready() {
            return Poll::Ready(End::Cut);
        }
        let was_half_closed = forth.has_ended || back.has_ended;
        let first = forth.poll(cx, near, far, scratch);
        let second = back.poll(cx, far, near, scratch);
        match (first, second) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => {
                return Poll::Ready(End::Failed(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        let is_half_closed = forth.has_ended || back.has_ended;
        if is_half_closed {
            // A stream of HTTP/2 that was reset seems to have ended; only its other half tells, a moment later.
            if let Err(error) = is_there(cx, near, &forth).and_then(|()| is_there(cx, far, &back)) {
                return Poll::Ready(End::Failed(error));
            }
            if !was_half_closed {
                cx.waker().wake_by_ref();
            }
        }
        pause
            .poll(cx, [&forth, &back], is_half_closed)
            .map(|()| End::Idle)
    })
    .await;
    Relayed {
        forth: forth.moved,
        back: back.moved,
        end,
    }
}

/// An error where the source of `way`, which has ended, has done so for good.
fn is_there<S: AsyncWrite + Unpin>(
    cx: &mut Context<'_>,
    source: &mut S,
    way: &Way,
) -> io::Result<()> {
    match way.has_ended.then(|| Pin::new(source).poll_flush(cx)) {
        Some(Poll::Ready(result)) => result,
        Some(Poll::Pending) | None => Ok(()),
    }
}

/// One of two directions.
#[derive(Debug)]
struct Way {
    /// Read, and not taken yet.
    pending: Bytes,
    moved: u64,
    moved_at: Instant,
    is_unflushed: bool,
    /// The source has ended.
    has_ended: bool,
    /// And the destination was told.
    is_over: bool,
}

impl Way {
    fn new(early: Bytes) -> Self {
        Self {
            // Empty ones may be a part of a buffer that is large.
            pending: if early.is_empty() {
                Bytes::new()
            } else {
                early
            },
            moved: 0,
            moved_at: Instant::now(),
            is_unflushed: false,
            has_ended: false,
            is_over: false,
        }
    }

    fn poll<S, D>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        destination: &mut D,
        scratch: &Scratch,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
        D: AsyncWrite + Unpin,
    {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.pending.is_empty() {
                let taken = ready!(Pin::new(&mut *destination).poll_write(cx, &self.pending))?;
                self.took(taken)?;
                self.pending.advance(taken);
            }
            if self.has_ended {
                // Who is gone already need not be told.
                let _ = ready!(Pin::new(&mut *destination).poll_shutdown(cx));
                self.is_over = true;
                return Poll::Ready(Ok(()));
            }
            let mut scratch = scratch.0.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    if self.is_unflushed {
                        ready!(Pin::new(&mut *destination).poll_flush(cx))?;
                        self.is_unflushed = false;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(result) => result?,
            }
            let mut read = buffer.filled();
            if read.is_empty() {
                self.has_ended = true;
                continue;
            }
            if let Poll::Ready(taken) = Pin::new(&mut *destination).poll_write(cx, read) {
                let taken = taken?;
                self.took(taken)?;
                read = &read[taken..];
            }
            self.pending = Bytes::copy_from_slice(read);
        }
    }

    fn took(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.moved += bytes as u64;
        self.moved_at = Instant::now();
        self.is_unflushed = true;
        Ok(())
    }
}

/// Limits how long nothing may be said or taken.
#[derive(Debug)]
struct Pause {
    timer: Pin<Box<Sleep>>,
    limits: Limits,
}

impl Pause {
    fn new(limits: Limits) -> Self {
        Self {
            timer: Box::pin(sleep(limits.idle.min(limits.stalled))),
            limits,
        }
    }

    /// Ready when nothing has moved for too long. The timer is moved on only when it rings.
    fn poll(&mut self, cx: &mut Context<'_>, ways: [&Way; 2], is_half_closed: bool) -> Poll<()> {
        let mut idle = self.limits.idle;
        if is_half_closed {
            idle = idle.min(HALF_CLOSED);
        }
        let mut until = ways[0].moved_at.max(ways[1].moved_at) + idle;
        for way in ways {
            if !way.pending.is_empty() {
                until = until.min(way.moved_at + self.limits.stalled);
            }
        }
        loop {
            let now = Instant::now();
            if until <= now {
                return Poll::Ready(());
            }
            let next = if is_half_closed {
                until.min(now + LOOK)
            } else {
                until
            };
            if self.timer.is_elapsed() || next < self.timer.deadline() {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
            if is_half_closed {
                // Time for another look.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Both far ends of a pair that is relayed, and what comes of it.
    fn relayed(
        idle: Duration,
        early: (&'static str, &'static str),
    ) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Relayed>) {
        relayed_until(Rc::default(), idle, early)
    }

    fn relayed_until(
        cut: Rc<Cut>,
        idle: Duration,
        early: (&'static str, &'static str),
    ) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Relayed>) {
        let (client, mut near) = duplex(64);
        let (server, mut far) = duplex(64);
        let task = tokio::task::spawn_local(async move {
            let early = (Bytes::from(early.0), Bytes::from(early.1));
            let scratch = Scratch::default();
            let limits = Limits {
                idle,
                stalled: Duration::from_secs(5),
            };
            relay(&mut near, &mut far, early, limits, (&scratch, &cut)).await
        });
        (client, server, task)
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(flavor = "local")]
    async fn bytes_pass_both_ways_and_what_was_early_comes_first() {
        let (mut client, mut server, task) = relayed(LONG, ("early ", "first "));
        client.write_all(b"ping").await.unwrap();
        server.write_all(b"pong").await.unwrap();
        let mut got = [0; 10];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"early ping");
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"first pong");
        drop((client, server));
        let end = task.await.unwrap();
        assert_eq!((end.forth, end.back), (10, 10));
    }

    #[tokio::test(flavor = "local")]
    async fn one_side_may_end_before_the_other() {
        let (mut client, mut server, task) = relayed(LONG, ("", ""));
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        let end = task.await.unwrap();
        assert!(matches!(end.end, End::Closed), "{end:?}");
    }

    #[tokio::test(flavor = "local")]
    async fn more_than_the_other_side_takes_at_once_arrives_whole_and_in_order() {
        let (mut client, mut server, task) = relayed(LONG, ("", ""));
        let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let writer = {
            let sent = sent.clone();
            tokio::task::spawn_local(async move {
                client.write_all(&sent).await.unwrap();
                client
            })
        };
        let mut got = vec![0; sent.len()];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        drop((writer.await.unwrap(), server));
        assert_eq!(task.await.unwrap().forth, 200_000);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn silence_ends_it_and_a_word_begins_the_time_anew() {
        let begun = Instant::now();
        let (mut client, mut server, task) = relayed(Duration::from_secs(10), ("", ""));
        sleep(Duration::from_secs(8)).await;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        let end = task.await.unwrap();
        assert!(matches!(end.end, End::Idle), "{end:?}");
        assert_eq!(begun.elapsed().as_secs(), 18);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn told_to_end_it_ends_at_once_and_knows_what_has_passed() {
        let cut = Rc::new(Cut::default());
        let (mut client, mut server, task) = relayed_until(Rc::clone(&cut), LONG, ("", ""));
        client.write_all(b"word").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        cut.come();
        let end = task.await.unwrap();
        assert!(matches!(end.end, End::Cut), "{end:?}");
        assert_eq!((end.forth, end.back), (4, 0));
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).await.unwrap(), 0);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for_however_much_is_said() {
        let begun = Instant::now();
        let (mut client, mut server, task) = relayed(LONG, ("", ""));
        // More than fits between them, and never read.
        let _ = tokio::time::timeout(Duration::from_secs(1), server.write_all(&[0; 1000])).await;
        for _ in 0..3 {
            sleep(Duration::from_secs(1)).await;
            client.write_all(b"x").await.unwrap();
        }
        let end = task.await.unwrap();
        assert!(matches!(end.end, End::Idle), "{end:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(7),
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn half_of_it_is_not_kept_for_an_hour() {
        let begun = Instant::now();
        let (mut client, server, task) = relayed(LONG, ("", ""));
        client.shutdown().await.unwrap();
        let end = task.await.unwrap();
        assert!(matches!(end.end, End::Idle), "{end:?}");
        assert_eq!(begun.elapsed(), HALF_CLOSED);
        drop(server);
    }
}
