//! What the operator means: a configuration that cannot be invalid.
//!
//! [`load`] reads the file; every problem in it is reported at once. Names resolve, lists that must hold something do,
//! units are typed. Knows nothing of sockets; certificates are read later, when the snapshot is compiled.

pub mod error;
pub mod file;
pub mod health;
pub mod listener;
pub mod process;
pub mod route;
pub mod upstream;

use std::path::Path;

pub use error::{ConfigErrors, Place, Problem};
pub use health::{Health, Probe, StatusRange};
pub use listener::{Certificate, ClientAuth, Listener, ListenerLimits, ListenerTimeouts, ListenerTls, TlsVersion};
pub use process::{AccessLog, AccessLogOnly, AccessLogTarget, Admin, Log, LogFormat, LogLevel, Process};
pub use route::{Action, HostPattern, MethodSet, PathPattern, Redirect, Respond, Route};
pub use upstream::{Address, Endpoint, Mode, Policy, Upstream, UpstreamTimeouts};

/// A whole configuration file, understood.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[log]`
    pub log: Log,
    /// `[access_log]`
    pub access_log: AccessLog,
    /// `[admin]`
    pub admin: Admin,
    /// `[listener.NAME]`, in file order; at least one.
    pub listeners: Vec<Listener>,
    /// `[upstream.NAME]`, in file order.
    pub upstreams: Vec<Upstream>,
    /// `[[route]]`, in file order. Names are unique.
    pub routes: Vec<Route>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads and understands the file at `path`. Paths in the file are taken as relative to the file's folder.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let _ = path;
    todo!()
}

/// Understands `source` as if it stood in the file at `path`.
pub fn parse(source: &str, path: &Path) -> Result<Config, ConfigErrors> {
    let _ = (source, path);
    todo!()
}
