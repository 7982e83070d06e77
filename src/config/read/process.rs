//! Reads `[process]`, `[log]` and `[admin]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::auto_rollback::auto_rollback;
use super::socket_address;
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Admin, AdminSocket, Log, LogFormat, LogLevel, Process, TokenFile};
use crate::message::authority;

pub(super) fn process(table: &mut Table<'_>) -> Process {
    let default = process_default();
    Process {
        workers: table
            .get("workers")
            .and_then(|value| count(&value, MOST_WORKERS))
            .unwrap_or(default.workers),
        shutdown_delay: table
            .get("shutdown_delay")
            .and_then(|value| value.duration_or_zero())
            .unwrap_or(default.shutdown_delay),
        shutdown_grace: table
            .get("shutdown_grace")
            .and_then(|value| value.duration_or_zero())
            .unwrap_or(default.shutdown_grace),
        startup_wait: table
            .get("startup_wait")
            .and_then(|value| value.duration_or_zero())
            .unwrap_or(default.startup_wait),
        certificate_poll: table
            .get("certificate_poll")
            .and_then(|value| poll(&value, "\"off\" or a duration such as \"1m\"")),
        config_poll: table
            .get("config_poll")
            .and_then(|value| poll(&value, "\"off\" or a duration such as \"1s\"")),
        auto_rollback: table
            .get("auto_rollback")
            .and_then(|value| auto_rollback(&value)),
        drain_tunnel_timeout: table
            .get("drain_tunnel_timeout")
            .and_then(|value| value.duration_or_zero())
            .unwrap_or(default.drain_tunnel_timeout),
        max_connections: table
            .get("max_connections")
            .and_then(|value| count(&value, i64::MAX)),
    }
}

pub(super) fn process_default() -> Process {
    Process {
        workers: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        shutdown_delay: Duration::ZERO,
        shutdown_grace: Duration::from_secs(30),
        startup_wait: Duration::from_secs(2),
        certificate_poll: None,
        config_poll: None,
        auto_rollback: None,
        drain_tunnel_timeout: Duration::from_secs(600),
        max_connections: None,
    }
}

fn poll(value: &Value<'_>, such_as: &str) -> Option<Duration> {
    if value.string_such_as(such_as)? == "off" {
        return None;
    }
    let poll = value.duration_or_zero().filter(|poll| !poll.is_zero())?;
    if poll < SHORTEST_POLL {
        return value.expected("\"off\" or at least \"100ms\"");
    }
    Some(poll)
}

/// A number of things, from 1 to `most`.
pub(super) fn count(value: &Value<'_>, most: i64) -> Option<NonZeroUsize> {
    usize::try_from(value.integer(1..=most)?)
        .ok()
        .and_then(NonZeroUsize::new)
}

pub(super) fn log(table: &mut Table<'_>) -> Log {
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    Log {
        level: table
            .get("level")
            .and_then(|value| value.one_of(&levels, &[]))
            .unwrap_or(LOG.level),
        format: table
            .get("format")
            .and_then(|value| value.one_of(&formats, &[]))
            .unwrap_or(LOG.format),
    }
}

pub(super) const LOG: Log = Log {
    level: LogLevel::Info,
    format: LogFormat::Text,
};

pub(in crate::config) fn admin(root: &mut Table<'_>) -> Admin {
    let default = Admin {
        address: ADMIN_ADDRESS,
        place: root.place(),
        socket: AdminSocket::Usual(root.own_path("run", "sock")),
        hosts: Vec::new(),
        audit: None,
        token_file: None,
    };
    let Some(value) = root.get("admin") else {
        return default;
    };
    let read = |table: &mut Table<'_>| {
        let address = table.get("address");
        Admin {
            place: address.as_ref().map_or_else(|| table.place(), Value::place),
            address: address
                .as_ref()
                .and_then(socket_address)
                .unwrap_or(ADMIN_ADDRESS),
            socket: table
                .get("socket")
                .and_then(|value| admin_socket(&value))
                .unwrap_or_else(|| default.socket.clone()),
            hosts: table
                .get("hosts")
                .and_then(|value| admin_hosts(&value))
                .unwrap_or_default(),
            audit: table.get("audit").and_then(|value| value.path()),
            token_file: table.get("token_file").and_then(|value| {
                let (path, place) = (value.path()?, value.place());
                Some(TokenFile { path, place })
            }),
        }
    };
    value.table(read).unwrap_or_else(|| default.clone())
}

fn admin_hosts(value: &Value<'_>) -> Option<Vec<Box<str>>> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    for element in &value.array("an array such as [\"balancer.example.com\"]")? {
        let what = "a host's name such as \"balancer.example.com\", without a port";
        let Some(text) = element.string_such_as(what) else {
            continue;
        };
        let Some(host) = authority::host(text).filter(|_| !text.contains([':', '*'])) else {
            let _: Option<()> = element.expected(what);
            continue;
        };
        if hosts.iter().any(|known| **known == *host) {
            element.report(format!("{element} is listed twice"));
        }
        hosts.push(host.into());
    }
    Some(hosts)
}

fn admin_socket(value: &Value<'_>) -> Option<AdminSocket> {
    if value.string_such_as("\"off\" or a path")? == "off" {
        return Some(AdminSocket::Off);
    }
    let path = value.path()?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        return value.expected(format_args!(
            "a path of at most {LONGEST_SOCKET} bytes, as the system wants it of sockets"
        ));
    }
    Some(AdminSocket::At(path))
}

const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);
const LONGEST_SOCKET: usize = 107; // sun_path has 108 with its end
const SHORTEST_POLL: Duration = Duration::from_millis(100); // each reads files
const MOST_WORKERS: i64 = 1024; // each is a thread with its own connections
