//! What two processes say to each other when one takes the place of the other. Either may be of another version: what is not
//! known is ignored, and [`FORMAT`] changes where that would not do.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::admin::before::{Ids, Left};
use crate::admin::history::By;
use crate::daemon::flip::Handed;
use crate::metrics::totals::Totals;
use crate::snapshot::plan::{ByOperator, SetByOperator};
use crate::tls::{Contents, TicketSecrets};
use crate::upstream::Remembered;
use crate::upstream::written::Secret;

/// The number of what is said here.
pub(super) const FORMAT: u32 = 1;

/// The first word, of the new process.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Hello {
    pub(super) format: u32,
    pub(super) version: String,
}

/// All that the one has and the other goes on with. Descriptors follow: of `sockets`, in order, and of the admin's unix socket
/// where `admin_socket` names it.
#[derive(Deserialize, Serialize)]
pub(super) struct Heritage {
    pub(super) format: u32,
    /// The process that had it.
    pub(super) pid: u32,
    pub(super) generation: u64,
    pub(super) sockets: Vec<Socket>,
    pub(super) admin_socket: Option<PathBuf>,
    /// Files that were accepted, oldest first.
    pub(super) history: Vec<File>,
    pub(super) wishes: Vec<ByOperator>,
    /// Of sets of endpoints, and flips from one to another that are under way.
    #[serde(default)]
    pub(super) sets: Vec<SetByOperator>,
    #[serde(default)]
    pub(super) flips: Vec<Handed>,
    pub(super) endpoints: Vec<Remembered>,
    /// The greatest number that an endpoint has there, and how those of processes before that one are numbered there.
    #[serde(default)]
    pub(super) last_id: u64,
    #[serde(default)]
    pub(super) ids: Ids,
    /// Most requests at once within the last minute, and the last day, by upstream.
    #[serde(default)]
    pub(super) peaks: Vec<(String, (u32, u32))>,
    /// Since when endpoints of more than one version serve, by upstream, where they do; Unix time in milliseconds.
    #[serde(default)]
    pub(super) skews: Vec<(String, u64)>,
    /// Which endpoint is the authority, by upstream, where one endpoint serves and no other.
    #[serde(default)]
    pub(super) authorities: Vec<(String, String)>,
    /// A file that was rolled back by itself, and why: it is not taken again unasked.
    #[serde(default)]
    pub(super) given_up: Option<(String, String)>,
    /// Without them clients shake hands in full.
    pub(super) tickets: Option<TicketSecrets>,
    /// Without it those who have just written read from clones.
    #[serde(default)]
    pub(super) own_secret: Option<Secret>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Socket {
    /// Whose it is; nobody's name: the admin's.
    pub(super) listener: Option<String>,
    /// As configured.
    pub(super) address: std::net::SocketAddr,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct File {
    pub(super) generation: u64,
    pub(super) origin: u64,
    pub(super) text: String,
    /// What the files that it names held.
    pub(super) files: Contents,
    pub(super) at: SystemTime,
    pub(super) by: By,
}

/// What the new process says then.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromNew {
    /// All is prepared; nothing is accepted yet.
    Ready {},
    /// Nothing will come of it.
    Failed { why: String },
    /// Connections are accepted.
    Serving {
        generation: u64,
        /// Whether the admin's unix socket is still in use.
        keeps_admin_socket: bool,
    },
    /// What is wanted of endpoints by now, of all; one that is not among them goes on as it was.
    Modes(Modes),
}

/// The modes of endpoints, and which word this is.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::daemon) struct Modes {
    pub(in crate::daemon) number: u64,
    pub(super) modes: Vec<ByOperator>,
    /// Which sets serve.
    #[serde(default)]
    pub(super) sets: Vec<Serving>,
    /// Who is the authority where one endpoint alone serves: nobody is checked any more in the process that hears it.
    #[serde(default)]
    pub(super) seats: super::Seats,
}

/// The set of an upstream that serves, and the one that gets a share of a hundred requests.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Serving {
    pub(super) upstream: String,
    pub(super) set: String,
    pub(super) next: Option<(String, u8)>,
}

/// What the old one answers.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FromOld {
    /// Begin to accept, and count from here.
    Take { totals: Totals },
    /// What is left, and what has been counted since the last word.
    Left {
        #[serde(flatten)]
        left: Left,
        totals: Totals,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_says_beyond_this_is_ignored() {
        let said = r#"{"format": 1, "pid": 7, "generation": 3, "sockets": [{"listener": null, "address": "127.0.0.1:1",
            "new": 1}], "admin_socket": null, "history": [], "wishes": [], "endpoints": [], "tickets": null, "new": []}"#;
        let heritage: Heritage = serde_json::from_str(said).unwrap();
        assert_eq!(
            (heritage.format, heritage.pid, heritage.generation),
            (1, 7, 3)
        );
        assert_eq!(heritage.sockets.len(), 1);
        let said = r#"{"serving": {"generation": 4, "keeps_admin_socket": true, "new": 1}}"#;
        let said: FromNew = serde_json::from_str(said).unwrap();
        assert!(matches!(
            said,
            FromNew::Serving {
                generation: 4,
                keeps_admin_socket: true
            }
        ));
        let said: FromNew = serde_json::from_str(r#"{"ready": {"new": 1}}"#).unwrap();
        assert!(matches!(said, FromNew::Ready {}));
    }
}
