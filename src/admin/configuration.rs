//! The configuration in use, and those before it, as JSON.

use serde::Serialize;

use super::Admin;
use super::history::Accepted;
use crate::lock::lock;
use crate::units::unix_seconds;

/// `GET /api/v1/config`
#[derive(Debug, Serialize)]
pub struct Running {
    /// The one in use.
    generation: u64,
    /// SHA-256 of the file.
    hash: String,
    /// The file; over the unix socket only.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Those that `rollback` can go back to, and the one in use, oldest first.
    accepted: Vec<AcceptedView>,
}

#[derive(Debug, Serialize)]
struct AcceptedView {
    generation: u64,
    /// The generation whose file it is: after a rollback, the one gone back to.
    file_of: u64,
    hash: String,
    /// Unix time in seconds.
    at: u64,
    /// What for, in one word.
    by: &'static str,
    /// The user who asked; over the unix socket only.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
}

impl Running {
    /// What `admin` knows; all of it for those who may open the unix socket.
    pub fn of(admin: &Admin, is_trusted: bool) -> Self {
        let history = lock(&admin.history);
        let current = history.current();
        Self {
            generation: admin.publisher.current().generation,
            hash: current.map(Accepted::hash).unwrap_or_default(),
            text: current
                .filter(|_| is_trusted)
                .map(|current| current.text.to_string()),
            accepted: history
                .all()
                .map(|accepted| AcceptedView::of(accepted, is_trusted))
                .collect(),
        }
    }
}

impl AcceptedView {
    fn of(accepted: &Accepted, is_trusted: bool) -> Self {
        Self {
            generation: accepted.generation,
            file_of: accepted.origin,
            hash: accepted.hash(),
            at: unix_seconds(accepted.at),
            by: accepted.by.as_str(),
            uid: accepted.by.uid().filter(|_| is_trusted),
        }
    }
}
