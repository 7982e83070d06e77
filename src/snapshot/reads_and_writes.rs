//! A route's requests parted by what they may do: those that may change something go to another upstream than those that only read.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use http::{HeaderMap, Method};

use super::affinity;
use crate::config::{self, Config, Problem};
use crate::upstream::written::Secret;
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

/// What this process signs with where no file says it: the same for all routes and through all generations, and in the process that
/// takes its place. Made when it is needed first.
#[derive(Clone, Debug, Default)]
pub struct OwnSecret(Arc<OnceLock<Secret>>);

impl OwnSecret {
    /// Goes on with that of another process, if it has one.
    pub fn with(secret: Option<Secret>) -> Self {
        Self(Arc::new(secret.map(OnceLock::from).unwrap_or_default()))
    }

    /// The secret, if one was needed so far.
    pub fn get(&self) -> Option<&Secret> {
        self.0.get()
    }

    /// The secret. `None` where the system has no randomness.
    fn get_or_make(&self) -> Option<&Secret> {
        if self.get().is_none() {
            // Should another have been quicker, that one counts.
            let _ = self.0.set(Secret::random()?);
        }
        self.get()
    }
}

/// What `route` remembers of who has written, where it does. Without a file it is signed with the `own` secret.
pub(super) fn written(
    config: &Config,
    route: &config::Route,
    own: &OwnSecret,
) -> Result<Option<Written>, Problem> {
    let config::Action::ReadsAndWrites(both) = &route.action else {
        return Ok(None);
    };
    let Some(settings) = &both.read_your_writes else {
        return Ok(None);
    };
    let keys = match &settings.key_file {
        Some(path) => Written::keys(&affinity::keys(path, &settings.place)?),
        None => match own.get_or_make() {
            Some(secret) => Written::own_key(secret),
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
