//! Reads the rest of responses that no client gets, so that their connections can be used again. Beside the request's way: nobody
//! waits for it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::local::Local;
use crate::message::received::Received;
use crate::pool::Connection;
use crate::upstream::Lease;

/// A rest that is longer costs more than a new connection.
const LENGTH: usize = 64 * 1024;
/// So does one that takes longer to come.
const TIME: Duration = Duration::from_secs(1);

/// The connection of a response that another attempt follows, whose request was sent whole.
pub(super) struct Leftover {
    pub(super) connection: Connection,
    /// Its endpoint is at it until the rest has come.
    pub(super) lease: Lease,
    /// How long the connection may be used at all.
    pub(super) max_age: Duration,
}

impl Leftover {
    /// Gives the connection back when `body` has come to its end; closes it if that is not soon.
    #[cold]
    pub(super) fn keep(mut self, local: &Rc<Local>, body: Received) {
        if !matches!(self.connection, Connection::Http1(_))
            || body.size_hint().lower() > LENGTH as u64
        {
            // Of HTTP/2, the stream alone is reset.
            return;
        }
        self.connection.pass_on();
        let local = Rc::clone(local);
        tokio::task::spawn_local(async move {
            let Self {
                connection,
                lease: _lease,
                max_age,
            } = self;
            if let Ok(Some(Read::Whole)) = timeout(TIME, read(body, LENGTH)).await {
                local.pool.checkin(connection, Instant::now(), max_age);
            }
        });
    }
}

/// How far an answer was read.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Read {
    Whole,
    /// To the limit.
    Begin,
}

/// Throws `body` away, of which at most `limit` bytes are waited for. `None`: it was cut.
pub(super) async fn read(mut body: Received, limit: usize) -> Option<Read> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.ok()?.data_ref().map_or(0, bytes::Bytes::len);
        if bytes > limit {
            return Some(Read::Begin);
        }
    }
    Some(Read::Whole)
}
