//! What the operator means: a configuration that cannot be invalid.
//!
//! [`load`] reads the file; every problem in it is reported at once. Names resolve, lists that must hold something do,
//! units are typed. Knows nothing of sockets; certificates are read later, when the snapshot is compiled.

mod access_log;
pub mod affinity;
mod alike;
pub mod auto_rollback;
pub mod changes;
pub mod differences;
pub mod error;
pub mod error_pages;
mod file;
pub mod hash;
pub mod health;
pub mod hedge;
pub mod limits;
pub mod listener;
pub mod mirror;
mod named_file;
pub mod passive;
pub mod pause;
pub mod process;
mod quantity;
mod read;
pub mod retry;
pub mod route;
mod same_cookies;
pub mod schema;
mod suggest;
pub mod tls;
pub mod tracing;
pub mod upstream;
mod value;
mod warnings;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use access_log::{
    AccessLog, AccessLogFormat, AccessLogOnly, AccessLogTarget, Field, Fields, Redact,
};
pub use affinity::{Affinity, KeptBy};
pub use alike::first_of_each_kind;
pub use auto_rollback::{AutoRollback, CountedErrors};
pub use changes::{FieldValue, HeaderChanges, Part, Variable};
pub use differences::{Difference, differences};
pub use error::{ConfigErrors, Place, Problem};
pub use error_pages::{ErrorPage, OWN_STATUSES};
pub use hash::{Hash, HashKey};
pub use health::{Health, Probe, RoleSource, StatusRange, VersionSource};
pub use hedge::Hedge;
pub use limits::{Adaptive, Queue, QueueOrder, Rate, RateKey, RouteLimits, RouteTimeouts};
pub use listener::{ForwardedFields, Hsts, Listener, ListenerLimits, ListenerTimeouts};
pub use mirror::Mirror;
pub use named_file::read_file;
pub use passive::Passive;
pub use pause::Pause;
pub use process::{Admin, AdminSocket, Log, LogFormat, LogLevel, Process, TokenFile};
pub use quantity::duration;
pub use retry::{Budget, Retry, RouteRetry};
pub use route::{
    Action, HostPattern, MethodSet, PathPattern, ReadYourWrites, ReadsAndWrites, Redirect, Respond,
    Rewrite, Route, Split, SplitBy,
};
pub use suggest::hint;
pub use tls::{
    Certificate, ClientAuth, ClientCrl, Clients, ForwardIdentity, ListenerTls, TlsVersion,
};
pub use tracing::{Collector, HeaderFile, Tracing};
pub use upstream::{
    Address, Endpoint, Mode, Policy, Trust, Upstream, UpstreamTimeouts, UpstreamTls,
};

use file::Source;

/// A whole configuration file, understood.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[process]`
    pub process: Process,
    /// `[log]`
    pub log: Log,
    /// `[access_log]`
    pub access_log: AccessLog,
    /// `[tracing]`. Default: no traces are made.
    pub tracing: Option<Tracing>,
    /// `[admin]`
    pub admin: Admin,
    /// `[error_pages]`, in file order. Default none.
    pub error_pages: Vec<ErrorPage>,
    /// `[listener.NAME]`, in file order; at least one.
    pub listeners: Vec<Listener>,
    /// `[upstream.NAME]`, in file order.
    pub upstreams: Vec<Upstream>,
    /// `[[route]]`, in file order. Names are unique.
    pub routes: Vec<Route>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
    /// The file as it was read.
    pub text: Text,
}

impl Config {
    /// Every file that it names to be read: certificates, keys, authorities, revocation lists, error pages, tokens.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let listeners = self.listeners.iter().filter_map(|it| it.tls.as_ref());
        let upstreams = self.upstreams.iter();
        let of_upstreams = upstreams.flat_map(|upstream| {
            let tls = upstream.tls.iter().flat_map(UpstreamTls::files);
            let keys = upstream.affinity.iter().map(|it| it.key_file.as_path());
            tls.chain(keys)
        });
        let of_routes = self.routes.iter().filter_map(|route| match &route.action {
            Action::ReadsAndWrites(both) => both.read_your_writes.as_ref()?.key_file.as_deref(),
            Action::Forward(_) | Action::Split(_) | Action::Redirect(_) | Action::Respond(_) => {
                None
            }
        });
        let pages = self.error_pages.iter().map(|page| page.path.as_path());
        let token = self.admin.token_file.iter().map(|it| it.path.as_path());
        let of_tracing = self.tracing.iter().flat_map(Tracing::files);
        listeners
            .flat_map(ListenerTls::files)
            .chain(of_upstreams)
            .chain(of_routes)
            .chain(pages)
            .chain(token)
            .chain(of_tracing)
    }
}

/// A file's text. Not shown where the configuration is: it says the same once more.
#[derive(Clone, Eq, PartialEq)]
pub struct Text(pub Arc<str>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Reads and understands the file at `path`. Paths in the file are taken as relative to the file's folder.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let whole_file =
        |message| ConfigErrors(vec![Source::new("", path).place(0, "").problem(message)]);
    // Reading a pipe would wait for whoever writes it.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(whole_file("is no regular file".to_owned()));
    }
    let bytes =
        std::fs::read(path).map_err(|error| whole_file(format!("cannot be read: {error}")))?;
    match str::from_utf8(&bytes) {
        Ok(source) => parse(source, path),
        Err(error) => {
            let valid = bytes
                .get(..error.valid_up_to())
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            let place = Source::new(&valid, path).place(valid.len(), "");
            Err(ConfigErrors(vec![place.problem("is not UTF-8")]))
        }
    }
}

/// Where a balancer that runs with the file at `path` has its socket, also where the file is not valid by now. `None`: the
/// file says that it has none.
pub fn socket(path: &Path) -> Option<PathBuf> {
    socket_of(&std::fs::read_to_string(path).unwrap_or_default(), path)
}

/// Where it has it unless the file says otherwise.
pub fn usual_socket(path: &Path) -> Option<PathBuf> {
    socket_of("", path)
}

fn socket_of(text: &str, path: &Path) -> Option<PathBuf> {
    let source = Source::new(text, path);
    let (tree, _) = toml::de::DeTable::parse_recoverable(text);
    let admin = source.root(tree.get_ref(), read::process::admin);
    admin.socket.path().map(Path::to_owned)
}

/// Understands `source` as if it stood in the file at `path`.
pub fn parse(source: &str, path: &Path) -> Result<Config, ConfigErrors> {
    let source = Source::new(source, path);
    let config = source
        .tree()
        .map(|tree| source.root(&tree, |root| read::config(&source, root)));
    let (problems, mut warnings) = source.into_findings();
    match config {
        Some(mut config) if problems.is_empty() => {
            warnings.extend(warnings::warnings(&config));
            config.warnings = file::sorted(warnings);
            Ok(config)
        }
        _ => Err(ConfigErrors(problems)),
    }
}
