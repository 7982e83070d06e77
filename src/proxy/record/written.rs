//! What the client of a request is told that may have changed something. Decides nothing of where requests go.

use std::time::SystemTime;

use http::{HeaderValue, Method};

use super::Record;
use crate::snapshot::{Action, ReadsAndWrites};

impl Record {
    /// What the client is told that has written, where its route remembers that. Whatever the answer was, and also where none came:
    /// it may have been done.
    pub fn written_cookie(&self) -> Option<HeaderValue> {
        match &self.route.action {
            Action::ReadsAndWrites(both) => self.written_cookie_of(both),
            Action::Forward(_)
            | Action::Split(_)
            | Action::Redirect(_)
            | Action::Respond(_)
            | Action::NotFound => None,
        }
    }

    #[cold]
    fn written_cookie_of(&self, both: &ReadsAndWrites) -> Option<HeaderValue> {
        let written = both.written()?;
        // CONNECT asks for a tunnel, as a GET does over HTTP/1.
        let is_write = !self.method.is_safe() && self.method != Method::CONNECT;
        // Also where the balancer has ended it itself: of a body that is too large, late or broken a part had been sent.
        let was_sent = self.attempts.get() > 0;
        if !is_write || !was_sent {
            return None;
        }
        written.said(SystemTime::now(), self.listener.tls.is_some())
    }
}
