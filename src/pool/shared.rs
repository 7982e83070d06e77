//! The HTTP/2 connections to one endpoint, and those being opened to it.
//!
//! A request goes to the first connection with room, so that the others can become idle. Where there is none it waits for one
//! that is being opened, as long as that is likely to have room for it, else opens one itself.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::OpenError;
use super::http2::{Shared, Stream};
use crate::upstream::Endpoint;

/// The connections to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Group {
    connections: Vec<Rc<Shared>>,
    openings: Vec<Rc<Opening>>,
    /// How many requests the last connection opened took; `None` before the first.
    capacity: Option<usize>,
}

/// A connection being opened.
#[derive(Debug, Default)]
pub(super) struct Opening {
    outcome: Cell<Option<Result<(), OpenError>>>,
    ended: Notify,
    waiting: Cell<usize>,
}

/// What a request does that wants a connection.
#[derive(Debug)]
pub(super) enum Step {
    /// Goes on this one.
    Join(Stream),
    /// Waits for this one.
    Wait(Rc<Opening>),
    /// Opens one, as this.
    Open(Rc<Opening>),
}

impl Group {
    /// What is to be done now. Lets go of connections that are of no more use.
    pub(super) fn step(&mut self, now: Instant, pool_idle: Duration, max_age: Duration) -> Step {
        self.connections.retain(|connection| {
            let stays =
                connection.takes_more(now, max_age) && !connection.is_idle_for(now, pool_idle);
            if !stays && connection.is_idle() && connection.is_closed() {
                connection.endpoint().metrics.stale_avoided.inc();
            }
            stays
        });
        if let Some(stream) = self.connections.iter().find_map(Shared::join) {
            return Step::Join(stream);
        }
        // Whoever opens it takes one place.
        let room = self.capacity.unwrap_or(usize::MAX).saturating_sub(1);
        let likely = self
            .openings
            .iter()
            .find(|opening| opening.waiting.get() < room);
        if let Some(opening) = likely {
            opening.waiting.set(opening.waiting.get() + 1);
            return Step::Wait(Rc::clone(opening));
        }
        let opening = Rc::<Opening>::default();
        self.openings.push(Rc::clone(&opening));
        Step::Open(opening)
    }

    /// A share in a connection that others are on, too, where there is room: its end would have been noticed.
    pub(super) fn join(&self, now: Instant, max_age: Duration) -> Option<Stream> {
        let next = self.next()?;
        let is_good = !next.is_idle() && next.takes_more(now, max_age);
        is_good.then(|| next.join())?
    }

    /// Whether the next request would go to a connection without others on it: its end may not have been noticed yet.
    pub(super) fn is_next_idle(&self) -> bool {
        self.next().is_some_and(|next| next.is_idle())
    }

    /// Where the next request would go.
    fn next(&self) -> Option<&Rc<Shared>> {
        self.connections.iter().find(|it| it.has_room())
    }

    /// A connection was opened.
    pub(super) fn add(&mut self, connection: Rc<Shared>) {
        self.capacity = Some(connection.capacity());
        self.connections.push(connection);
    }

    /// `opening` has ended, with or without an outcome.
    pub(super) fn end(&mut self, opening: &Rc<Opening>) {
        self.openings.retain(|other| !Rc::ptr_eq(other, opening));
        opening.ended.notify_waiters();
    }

    /// Lets go of `ending`, which takes no more requests. Those on it go on.
    pub(super) fn remove(&mut self, ending: &Rc<Shared>) {
        self.connections
            .retain(|connection| !Rc::ptr_eq(connection, ending));
    }

    /// Lets go of connections that have been idle for too long, or of all, as `keep` says of the endpoint.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        keep: impl Fn(&Arc<Endpoint>) -> Option<Duration>,
    ) {
        self.connections.retain(|connection| {
            keep(connection.endpoint()).is_some_and(|pool_idle| {
                !connection.is_closed() && !connection.is_idle_for(now, pool_idle)
            })
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.openings.is_empty()
    }
}

impl Opening {
    /// Says what has come of it.
    pub(super) fn set_outcome(&self, outcome: Result<(), OpenError>) {
        self.outcome.set(Some(outcome));
    }

    /// Waits for its end: there is a connection now, or the reason why not. Whoever opens it may also have left.
    pub(super) async fn wait(&self) -> Result<(), OpenError> {
        let ended = self.ended.notified();
        if self.outcome.get().is_none() {
            ended.await;
        }
        self.outcome.get().unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(group: &mut Group) -> Step {
        group.step(Instant::now(), SECOND, SECOND)
    }

    #[test]
    fn those_that_come_while_the_first_connection_is_opened_wait_for_it() {
        let mut group = Group::default();
        let Step::Open(opening) = step(&mut group) else {
            panic!("there is none")
        };
        for _ in 0..1000 {
            let Step::Wait(other) = step(&mut group) else {
                panic!("it is not known how many it takes")
            };
            assert!(Rc::ptr_eq(&opening, &other));
        }
        group.end(&opening);
        assert!(group.is_empty());
        assert!(matches!(step(&mut group), Step::Open(_)));
    }

    #[test]
    fn no_more_wait_for_a_connection_than_it_is_likely_to_take() {
        let mut group = Group {
            capacity: Some(3),
            ..Group::default()
        };
        let kinds: Vec<bool> = (0..9)
            .map(|_| matches!(step(&mut group), Step::Open(_)))
            .collect();
        assert_eq!(
            kinds,
            [true, false, false, true, false, false, true, false, false]
        );
        assert_eq!(group.openings.len(), 3);
    }

    #[tokio::test]
    async fn end_of_an_opening_reaches_all_who_wait() {
        for (outcome, expected) in [
            (Some(Ok(())), Ok(())),
            (Some(Err(OpenError::Refused)), Err(OpenError::Refused)),
            // Whoever opened it has left: the next one tries.
            (None, Ok(())),
        ] {
            let mut group = Group::default();
            let Step::Open(opening) = step(&mut group) else {
                panic!("there is none")
            };
            let end = async {
                tokio::task::yield_now().await;
                if let Some(outcome) = outcome {
                    opening.set_outcome(outcome);
                }
                group.end(&opening);
            };
            let (one, other, ()) = tokio::join!(opening.wait(), opening.wait(), end);
            assert_eq!((one, other), (expected, expected));
        }
    }
}
