//! A route's requests parted by what they may do: those that may change something go to another upstream than those that only read.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use http::{HeaderMap, Method};

use super::affinity;
use crate::config::{self, Config, Problem};
use crate::upstream::written::Keys;
use crate::upstream::{Upstream, Written};

/// Where a route's requests go by their method.
#[derive(Debug)]
pub struct ReadsAndWrites {
    reads: Arc<Upstream>,
    writes: Arc<Upstream>,
    /// Who has just written reads there, too; `None`: reads never do.
    written: Option<Written>,
}

/// The member that gets what only reads.
const READS: u32 = 0;
/// The one that gets the rest.
const WRITES: u32 = 1;

impl ReadsAndWrites {
    pub(super) fn new(
        both: &config::ReadsAndWrites,
        upstreams: &[Arc<Upstream>],
        written: Option<Written>,
    ) -> Self {
        Self {
            reads: Arc::clone(&upstreams[both.reads]),
            writes: Arc::clone(&upstreams[both.writes]),
            written,
        }
    }

    /// The index of the upstream that takes such a request.
    pub fn member(&self, method: &Method, headers: &HeaderMap) -> u32 {
        match &self.written {
            _ if !method.is_safe() => WRITES,
            Some(written) if written.is_recent(headers, SystemTime::now()) => WRITES,
            Some(_) | None => READS,
        }
    }

    /// The indices of those that such a request may go to, whatever its client has written.
    pub(super) fn members(&self, method: &Method) -> Range<u32> {
        match &self.written {
            _ if !method.is_safe() => WRITES..WRITES + 1,
            Some(_) => READS..WRITES + 1,
            None => READS..READS + 1,
        }
    }

    /// The upstream at `index`.
    pub fn upstream(&self, index: u32) -> Option<&Arc<Upstream>> {
        match index {
            READS => Some(&self.reads),
            WRITES => Some(&self.writes),
            _ => None,
        }
    }

    /// Where requests go that only read, and the others.
    pub fn both(&self) -> [&Arc<Upstream>; 2] {
        [&self.reads, &self.writes]
    }

    /// What is remembered of who has written, if anything is.
    pub fn written(&self) -> Option<&Written> {
        self.written.as_ref()
    }
}

/// The key of this process, made when it is needed first: the same for all routes and through all generations.
pub(super) type OwnKey = Arc<OnceLock<Keys>>;

/// What `route` remembers of who has written, where it does. Without a file the key is that of this process.
pub(super) fn written(
    config: &Config,
    route: &config::Route,
    own: &OwnKey,
) -> Result<Option<Written>, Problem> {
    let config::Action::ReadsAndWrites(both) = &route.action else {
        return Ok(None);
    };
    let Some(settings) = &both.read_your_writes else {
        return Ok(None);
    };
    let keys = match &settings.key_file {
        Some(path) => Written::keys(&affinity::keys(path, &settings.place)?),
        None => match own.get().cloned().or_else(Written::own_key) {
            Some(keys) => Arc::clone(own.get_or_init(|| keys)),
            None => {
                return Err(settings
                    .place
                    .problem("the system has no randomness for a key"));
            }
        },
    };
    let upstream = &config.upstreams[both.writes].name;
    Ok(Some(Written::new(settings, upstream, keys)))
}
