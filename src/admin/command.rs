//! What an operator may ask of the process, and what comes of it. Sent to the daemon, which alone changes anything.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::flip::{self, Begun};
use super::takeover::{self, Upgraded};
use crate::config::{ConfigErrors, Mode};
use crate::snapshot::plan::Plan;

/// A wish, and whose it is.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub by: Operator,
    /// For what.
    pub command: Command,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operator {
    /// What the system says of the other end of the socket.
    User {
        /// The user.
        uid: u32,
        /// The process, where the system tells.
        pid: Option<i32>,
    },
    /// Somebody who knows the token.
    Token {
        /// From where.
        client: IpAddr,
    },
}

impl Operator {
    /// In one word: how it was proven that they may.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User { .. } => "socket",
            Self::Token { .. } => "token",
        }
    }

    /// The user, where that is known.
    pub fn uid(self) -> Option<u32> {
        match self {
            Self::User { uid, .. } => Some(uid),
            Self::Token { .. } => None,
        }
    }

    /// The process, likewise.
    pub fn pid(self) -> Option<i32> {
        match self {
            Self::User { pid, .. } => pid,
            Self::Token { .. } => None,
        }
    }

    /// From where, where it came over TCP.
    pub fn client(self) -> Option<IpAddr> {
        match self {
            Self::User { .. } => None,
            Self::Token { client } => Some(client),
        }
    }
}

/// Where the outcome goes.
pub type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// What can be asked.
#[derive(Debug)]
pub enum Command {
    /// Read the file again.
    Reload(Wanted, Reply<Reloaded>),
    /// Use an earlier file again.
    Rollback(RollbackTo, Reply<Reloaded>),
    /// Change what is wanted of an endpoint.
    SetMode {
        /// Of which upstream.
        upstream: String,
        /// Which one.
        endpoint: String,
        /// To this.
        mode: Mode,
        /// The mode before.
        reply: Reply<Mode>,
    },
    /// Let another set of an upstream's endpoints serve.
    Flip {
        /// Of which upstream.
        upstream: String,
        /// Which set, and how.
        wanted: Box<flip::Wanted>,
        /// What has begun.
        reply: Reply<Begun>,
    },
    /// End a flip of this upstream that is under way.
    AbortFlip(String, Reply<Begun>),
    /// Let another process take the place of this one.
    Upgrade(takeover::Wanted, Reply<Upgraded>),
    /// Tell what a reload would change; of this generation, where one is named.
    Plan(Option<u64>, Reply<Plan>),
}

impl Command {
    /// Whether nobody waits for the outcome any more: who gave up has not meant it for later.
    pub fn is_abandoned(&self) -> bool {
        match self {
            Self::Reload(_, reply) | Self::Rollback(_, reply) => reply.is_closed(),
            Self::SetMode { reply, .. } => reply.is_closed(),
            Self::Flip { reply, .. } | Self::AbortFlip(_, reply) => reply.is_closed(),
            Self::Upgrade(_, reply) => reply.is_closed(),
            Self::Plan(_, reply) => reply.is_closed(),
        }
    }
}

/// How a reload is wanted; the body of `POST /api/v1/reload`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Only if this generation is in use: nobody has changed anything meanwhile.
    pub expect_generation: Option<u64>,
    /// Also the very file that was given up by itself before, or one that holds out every endpoint of an upstream; and without
    /// watching what comes of it.
    pub force: bool,
}

/// Which file is wanted back; the body of `POST /api/v1/rollback`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackTo {
    /// That of this generation; none: the last one before the one in use that was another.
    pub generation: Option<u64>,
    /// Also one that holds out every endpoint of an upstream.
    pub force: bool,
}

/// What a reload has come to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reloaded {
    /// The generation before.
    pub previous: u64,
    /// The one in use now.
    pub generation: u64,
    /// Endpoints that stay as they are.
    pub kept: usize,
    /// Requests in flight on those.
    pub in_flight: u32,
    /// Endpoints that are new.
    pub added: usize,
    /// Endpoints that are gone, and finish what they have.
    pub draining: usize,
    /// What was asked for and needs a restart.
    pub restart: Vec<String>,
    /// What is doubtful about the file.
    pub warnings: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generation {} -> {}: {} kept ({} in flight), {} added, {} draining",
            self.previous,
            self.generation,
            endpoints(self.kept),
            self.in_flight,
            self.added,
            self.draining
        )
    }
}

fn endpoints(number: usize) -> String {
    format!("{number} endpoint{}", if number == 1 { "" } else { "s" })
}

/// Why nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The file cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// There is nothing of that name.
    #[error("{0}")]
    Unknown(String),
    /// It is so already, or cannot be now.
    #[error("{0}")]
    Conflict(String),
    /// Not now, but soon: nothing is wrong with it.
    #[error("{0}")]
    Later(String),
    /// Not for who asks.
    #[error("{0}")]
    Forbidden(String),
    /// It was tried, and came to nothing.
    #[error("{0}")]
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_command_whose_client_has_left_is_not_for_later() {
        let (reply, receiver) = oneshot::channel();
        let drain = Command::SetMode {
            upstream: "app".to_owned(),
            endpoint: "a".to_owned(),
            mode: Mode::Draining,
            reply,
        };
        assert!(!drain.is_abandoned());
        drop(receiver);
        assert!(drain.is_abandoned());
        let (reply, receiver) = oneshot::channel();
        let reload = Command::Reload(Wanted::default(), reply);
        assert!(!reload.is_abandoned());
        drop(receiver);
        assert!(reload.is_abandoned());
    }

    #[test]
    fn reload_is_told_in_one_line() {
        let mut reloaded = Reloaded {
            previous: 17,
            generation: 18,
            kept: 11,
            in_flight: 143,
            added: 1,
            draining: 1,
            restart: Vec::new(),
            warnings: Vec::new(),
        };
        assert_eq!(
            reloaded.to_string(),
            "generation 17 -> 18: 11 endpoints kept (143 in flight), 1 added, 1 draining"
        );
        reloaded.kept = 1;
        assert!(reloaded.to_string().contains(": 1 endpoint kept ("));
    }
}
