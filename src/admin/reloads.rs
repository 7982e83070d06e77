//! What the last reload came to, as JSON.

use std::time::SystemTime;

use serde::Serialize;

use super::history::By;
use crate::units::unix_seconds;

/// A reload, whatever came of it.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// What for.
    pub by: By,
    /// Whether it is in use.
    pub accepted: bool,
    /// When.
    pub at: SystemTime,
    /// Of an automatic rollback: the reason.
    pub why: Option<String>,
}

/// The same as it is shown. Problems are not: who sees the status may not have been meant to read the file.
#[derive(Debug, Serialize)]
pub(super) struct LastReloadView {
    by: &'static str,
    result: &'static str,
    /// Unix time in seconds.
    at: u64,
    why: Option<String>,
}

impl From<LastReload> for LastReloadView {
    fn from(last: LastReload) -> Self {
        Self {
            by: last.by.as_str(),
            result: if last.accepted {
                "accepted"
            } else {
                "rejected"
            },
            at: unix_seconds(last.at),
            why: last.why,
        }
    }
}
