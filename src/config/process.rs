//! `[process]`, `[log]`, `[admin]`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AutoRollback, Place};

/// `[process]`
#[derive(Clone, Debug)]
pub struct Process {
    /// `workers`: serving threads. Default: one per core available to the process. A change needs a restart.
    pub workers: NonZeroUsize,
    /// `shutdown_delay`: how long to keep serving after SIGTERM while `/readyz` answers 503. Default 0 s.
    pub shutdown_delay: Duration,
    /// `shutdown_grace`: how long what is in flight may take to finish. Default 30 s.
    pub shutdown_grace: Duration,
    /// `startup_wait`: longest wait for first health checks before listeners open. Default 2 s.
    pub startup_wait: Duration,
    /// `certificate_poll`: how often the files of `listener.tls` are looked at for other contents. Default off: at reloads.
    pub certificate_poll: Option<Duration>,
    /// `config_poll`: how often the configuration file, and those it names, are looked at for other contents, and then reloaded.
    /// Default off: at SIGHUP or a command.
    pub config_poll: Option<Duration>,
    /// `auto_rollback`: when a reload is taken back. Default never.
    pub auto_rollback: Option<AutoRollback>,
    /// `drain_tunnel_timeout`: how long tunnels may go on at an endpoint that drains, is disabled or is no
    /// longer in the file. Default 10 min.
    pub drain_tunnel_timeout: Duration,
    /// `max_connections`: client connections of all listeners together. Default: no limit.
    pub max_connections: Option<NonZeroUsize>,
}

/// `[log]`: what the balancer says of itself, on standard error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// `level`. Default `info`.
    pub level: LogLevel,
    /// `format`. Default `text`.
    pub format: LogFormat,
}

/// `log.level`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// `"error"`
    Error,
    /// `"warn"`
    Warn,
    /// `"info"`
    Info,
    /// `"debug"`
    Debug,
    /// `"trace"`
    Trace,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// `"text"`: for people.
    Text,
    /// `"json"`: one object per line.
    Json,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct Admin {
    /// `address`: where `/metrics`, `/livez`, `/readyz` and the JSON API are served. Default `127.0.0.1:9900`.
    pub address: SocketAddr,
    /// Where `address` (or the table, or the file) stands.
    pub place: Place,
    /// `socket`: the unix socket that commands use. Default: `run/NAME.sock` where it can be made; NAME is the
    /// file's, so that two files in one folder have two.
    pub socket: AdminSocket,
    /// `hosts`: names by which the address may be asked, besides IP addresses and names without a dot. Default none.
    pub hosts: Vec<Box<str>>,
    /// `audit`: a file to which everything that an operator does is appended. Default: the log only.
    pub audit: Option<PathBuf>,
    /// `token_file`: who knows the token in it may change endpoints' modes over `address`. Default: nobody may change anything there.
    pub token_file: Option<TokenFile>,
}

/// `admin.token_file`
#[derive(Clone, Debug)]
pub struct TokenFile {
    /// The file. Read when the snapshot is compiled.
    pub path: PathBuf,
    /// Where it stands.
    pub place: Place,
}

/// `admin.socket`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AdminSocket {
    /// `"off"`
    Off,
    /// Not set: this one, where it can be made.
    Usual(PathBuf),
    /// Must be there.
    At(PathBuf),
}

impl AdminSocket {
    /// Where it is to be.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Off => None,
            Self::Usual(path) | Self::At(path) => Some(path),
        }
    }
}
