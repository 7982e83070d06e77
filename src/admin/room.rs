//! Room for so many connections at once. Who comes when there is none takes the place of the one that has waited longest for a
//! request; while all are being answered, it waits.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::lock::lock;

/// The room.
pub(super) struct Room {
    free: Arc<Semaphore>,
    seats: Mutex<Seats>,
    /// There is one more that could go.
    idle: Notify,
}

#[derive(Default)]
struct Seats {
    /// Counts what happens.
    moment: u64,
    /// Without those that have been told to go.
    taken: HashMap<u64, Seat>,
}

struct Seat {
    /// Requests that are being answered.
    answering: usize,
    /// The moment since when there is none.
    since: u64,
    go: Arc<Notify>,
}

impl Room {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            seats: Mutex::default(),
            idle: Notify::new(),
        })
    }

    /// Waits for a place, once somebody is there who needs it.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.make_place().await,
        };
        let go = Arc::new(Notify::new());
        let mut seats = self.seats();
        let number = seats.next();
        let seat = Seat {
            answering: 0,
            since: number,
            go: Arc::clone(&go),
        };
        seats.taken.insert(number, seat);
        drop(seats);
        Place {
            room: Arc::clone(self),
            number,
            go,
            _permit: permit,
        }
    }

    async fn make_place(&self) -> OwnedSemaphorePermit {
        let acquire = async || {
            let permit = Arc::clone(&self.free).acquire_owned().await;
            permit.expect("the room is never closed")
        };
        while !self.send_one_away() {
            tokio::select! {
                permit = acquire() => return permit,
                () = self.idle.notified() => {}
            }
        }
        acquire().await
    }

    /// `false` where all are being answered.
    fn send_one_away(&self) -> bool {
        let mut seats = self.seats();
        let idle = seats.taken.iter().filter(|(_, seat)| seat.answering == 0);
        let longest = idle.min_by_key(|(_, seat)| seat.since);
        let number = longest.map(|(number, _)| *number);
        let seat = number.and_then(|number| seats.taken.remove(&number));
        if let Some(seat) = &seat {
            seat.go.notify_one();
        }
        seat.is_some()
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }
}

impl Seats {
    fn next(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    go: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until somebody else needs it more.
    pub(super) async fn is_needed(&self) {
        self.go.notified().await;
    }

    /// A request has come. It is being answered until what is returned is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        if let Some(seat) = self.room.seats().taken.get_mut(&self.number) {
            seat.answering += 1;
        }
        Answering(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.seats().taken.remove(&self.number);
    }
}

/// While it is there, its connection is not one that waits for a request.
pub(super) struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        let Place { room, number, .. } = &*self.0;
        let mut seats = room.seats();
        let moment = seats.next();
        if let Some(seat) = seats.taken.get_mut(number) {
            seat.answering -= 1;
            seat.since = moment;
        }
        drop(seats);
        room.idle.notify_one();
    }
}

/// The body of an answer, which is being given until it has ended.
pub(super) struct Answer<B> {
    body: B,
    _answering: Answering,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, answering: Answering) -> Self {
        Self {
            body,
            _answering: answering,
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
