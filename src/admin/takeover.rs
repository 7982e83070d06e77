//! A new process takes the place of this one: how that is asked for, what came of it, and what the status says meanwhile.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::connect_info::ConnectInfo;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Admin;
use super::actions::read;
use super::before::{Before, Ids};
use super::command::{Command, Operator};
use super::problem::ApiError;

/// How far a change of processes has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Succession {
    /// A new process is about to take over.
    Starting {
        /// Its number.
        pid: u32,
    },
    /// The process before this one finishes what it has.
    Draining {
        /// Its number.
        pid: u32,
        /// Client connections that it still has.
        connections: usize,
    },
}

/// The processes beside this one that have to do with it.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// About to take over.
    pub(super) starting: Option<u32>,
    /// Was before this one, and finishes what it has.
    pub(super) draining: Option<Before>,
    /// Words about modes that it was sent.
    pub(super) told: u64,
    /// How endpoints of processes before are numbered here.
    pub(super) ids: Ids,
}

/// What is to take over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The program; without one that which this process was started from, as it is now.
    pub binary: Option<PathBuf>,
    /// How long it may take to get ready.
    pub timeout: Duration,
    /// Whether also where a manager follows the process that runs now, nobody of an upstream would be left, or another set would
    /// get requests unasked.
    pub force: bool,
}

/// The body of an upgrade.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Upgrade {
    binary: Option<PathBuf>,
    timeout_seconds: Option<u64>,
    #[serde(default)]
    force: bool,
}

/// What an upgrade has come to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Upgraded {
    /// The process that serves now.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The generation it serves.
    pub generation: u64,
    /// The process that has served before.
    pub previous_pid: u32,
    /// Client connections which that one finishes.
    pub draining: usize,
}

impl fmt::Display for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} (balancer {}) serves generation {}; process {} finishes {} connection{}",
            self.pid,
            self.version,
            self.generation,
            self.previous_pid,
            self.draining,
            if self.draining == 1 { "" } else { "s" }
        )
    }
}

impl Admin {
    /// Says which process is about to take over, if any.
    pub fn set_starting(&self, pid: Option<u32>) {
        self.neighbours().starting = pid;
    }

    /// How far a change of processes has come.
    pub fn succession(&self) -> Option<Succession> {
        let neighbours = self.neighbours();
        match (neighbours.starting, &neighbours.draining) {
            (Some(pid), _) => Some(Succession::Starting { pid }),
            (None, Some(before)) => Some(Succession::Draining {
                pid: before.pid,
                connections: before.left.connections,
            }),
            (None, None) => None,
        }
    }
}

impl Admin {
    /// Another process answers from now on: what is asked already is answered, then connections close, so that whoever keeps
    /// one open asks the other.
    pub fn leave(&self) {
        self.left.send_replace(true);
        self.events.end();
    }

    /// Tells when another process answers.
    pub(super) fn left(&self) -> watch::Receiver<bool> {
        self.left.subscribe()
    }
}

pub(super) async fn upgrade(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Body,
) -> Result<Json<Upgraded>, ApiError> {
    let Upgrade {
        binary,
        timeout_seconds,
        force,
    } = read(body).await?;
    let refused = |detail| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    if binary.as_ref().is_some_and(|path| !path.is_absolute()) {
        return refused("binary: must be an absolute path");
    }
    let seconds = timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        return refused("timeout_seconds: must be 1-3600");
    }
    let wanted = Wanted {
        binary,
        timeout: Duration::from_secs(seconds),
        force,
    };
    let command = |reply| Command::Upgrade(wanted, reply);
    admin.ask(by, command).await.map(Json)
}

/// How long a new process may take to get ready, unless something else is asked for.
pub const DEFAULT_SECONDS: u64 = 60;
const MOST_SECONDS: u64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrade_is_told_in_one_line() {
        let mut upgraded = Upgraded {
            pid: 12,
            version: "1.2.3".to_owned(),
            generation: 8,
            previous_pid: 11,
            draining: 3,
        };
        assert_eq!(
            upgraded.to_string(),
            "process 12 (balancer 1.2.3) serves generation 8; process 11 finishes 3 connections"
        );
        upgraded.draining = 1;
        assert!(upgraded.to_string().ends_with("1 connection"));
    }
}
