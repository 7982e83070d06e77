//! What has to happen on a client's connection in time, and the one timer that sees to it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::client::Client;
use super::drain::DrainGuard;
use super::local::Local;
use crate::message::framing::Phase;
use crate::snapshot::Listener;

/// A connection without a request for so long is taken for one that stays so for a while.
const UNUSED_AFTER: Duration = Duration::from_secs(1);

/// What has not happened in time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expired {
    /// A request for a while: what is kept for speed only may go. Told once, see [`Deadline::set_unused`].
    Unused,
    /// Another request, ever.
    Idle,
    /// The rest of a head.
    SlowHead,
    /// That the client takes what there is for it.
    Stalled,
}

/// The one timer of a connection. It is moved only when it has run out, or when what is awaited has come closer: not per request.
pub(super) struct Deadline<'a> {
    client: &'a Client,
    listener: &'a Listener,
    local: &'a Local,
    begun: Instant,
    head_since: Option<Instant>,
    drain_at: Option<Instant>,
    /// [`Client::moves`] as last seen while the client was waited for, and since when.
    stalled: Option<(u64, Instant)>,
    armed: Instant,
    sleep: Pin<Box<Sleep>>,
    registered: bool,
    drain_guard: Option<DrainGuard>,
    /// Whether it was told that nothing came for [`UNUSED_AFTER`].
    unused: bool,
}

impl<'a> Deadline<'a> {
    /// Whether the connection has given up what it keeps for speed only, until it is used again.
    pub(super) fn set_unused(&mut self, unused: bool) {
        self.unused = unused;
    }

    pub(super) fn new(listener: &'a Listener, local: &'a Local, client: &'a Client) -> Self {
        let begun = Instant::now();
        let armed = begun + listener.timeouts.header;
        Self {
            client,
            listener,
            local,
            begun,
            head_since: None,
            drain_at: None,
            stalled: None,
            armed,
            sleep: Box::pin(sleep_until(armed)),
            registered: false,
            drain_guard: None,
            unused: false,
        }
    }

    /// Ready once nothing has happened for too long.
    /// [`Expired::Unused`] is told only while `unused` is not set.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        unflushed: bool,
    ) -> Poll<Expired> {
        if self.drain_guard.is_none() {
            self.drain_guard = Some(self.client.drain().listen(cx.waker()));
        }
        loop {
            match self.wanted(phase, unflushed) {
                Some((at, _)) if at < self.armed => self.arm(at),
                Some((at, expired)) if self.sleep.is_elapsed() => {
                    if at <= Instant::now() {
                        return Poll::Ready(expired);
                    }
                    self.arm(at);
                }
                // Nothing is awaited; what comes to be awaited sooner moves it again.
                None if self.sleep.is_elapsed() => {
                    self.arm(Instant::now() + self.listener.timeouts.keep_alive)
                }
                Some(_) | None => {}
            }
            // Once polled it stays registered with this task until it runs out or is moved.
            if self.registered {
                return Poll::Pending;
            }
            self.registered = true;
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// The same for a connection that is on its way out: only a client that takes nothing ends it.
    pub(super) fn poll_stalled(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        unflushed: bool,
    ) -> Poll<()> {
        match phase {
            Phase::Body => self.poll(cx, phase, unflushed).map(|_| ()),
            Phase::Idle | Phase::Head => Poll::Pending,
        }
    }

    fn arm(&mut self, at: Instant) {
        self.armed = at;
        self.registered = false;
        self.sleep.as_mut().reset(at);
    }

    /// What is awaited now, until when, and what follows if it does not come.
    fn wanted(&mut self, phase: Phase, unflushed: bool) -> Option<(Instant, Expired)> {
        let timeouts = &self.listener.timeouts;
        if phase != Phase::Head {
            self.head_since = None;
        }
        let first = self.client.is_new();
        match phase {
            Phase::Body => self.stalled(unflushed).map(|at| (at, Expired::Stalled)),
            Phase::Head => {
                // The first head counts from the connection's begin: what comes before it is no reason to wait longer.
                let since = *self
                    .head_since
                    .get_or_insert_with(|| if first { self.begun } else { Instant::now() });
                Some((since + timeouts.header, Expired::SlowHead))
            }
            Phase::Idle => {
                let (since, limit) = match first {
                    true => (self.begun, timeouts.header),
                    false => (
                        Instant::from_std(self.client.idle_since()),
                        timeouts.keep_alive,
                    ),
                };
                let at = since + limit;
                let at = self.drained().map_or(at, |drained| drained.min(at));
                if !self.unused && since + UNUSED_AFTER < at {
                    return Some((since + UNUSED_AFTER, Expired::Unused));
                }
                Some((at, Expired::Idle))
            }
        }
    }

    /// When a client has taken nothing for too long: counted from when it was last seen to take something.
    fn stalled(&mut self, unflushed: bool) -> Option<Instant> {
        if !unflushed && !self.client.is_waited_for() {
            self.stalled = None;
            return None;
        }
        let moves = self.client.moves();
        let since = match self.stalled {
            Some((seen, since)) if seen == moves => since,
            _ => Instant::now(),
        };
        self.stalled = Some((moves, since));
        Some(since + self.client.stall_limit())
    }

    /// When an idle connection is closed because of a drain: spread, so that not all clients come back at once.
    fn drained(&mut self) -> Option<Instant> {
        if self.drain_at.is_none() && self.client.drain().has_begun() {
            self.drain_at = Some(
                Instant::now()
                    + self
                        .local
                        .instance
                        .close_spread
                        .mul_f64(self.local.random()),
            );
        }
        self.drain_at
    }
}
