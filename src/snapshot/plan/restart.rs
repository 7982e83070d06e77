//! Which settings a reload cannot change.

use std::path::Path;

use crate::config::{Config, Difference};

/// Settings that differ and are only read at the start.
pub fn needs_restart(before: &Config, after: &Config) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |key, before: String, after: String| {
        if before != after {
            found.push(Difference::new(key, before, after));
        }
    };
    let most = |config: &Config| {
        let most = config.process.max_connections;
        most.map_or_else(|| "no limit".to_owned(), |most| most.to_string())
    };
    let path = |path: Option<&Path>| {
        path.map_or_else(|| "off".to_owned(), |path| path.display().to_string())
    };
    let (process, next) = (&before.process, &after.process);
    compare(
        "process.workers",
        process.workers.to_string(),
        next.workers.to_string(),
    );
    compare("process.max_connections", most(before), most(after));
    let (admin, next) = (&before.admin, &after.admin);
    compare(
        "admin.address",
        admin.address.to_string(),
        next.address.to_string(),
    );
    compare(
        "admin.socket",
        path(admin.socket.path()),
        path(next.socket.path()),
    );
    compare(
        "admin.audit",
        path(admin.audit.as_deref()),
        path(next.audit.as_deref()),
    );
    let log = |config: &Config| format!("{:?}, {:?}", config.log.level, config.log.format);
    compare("log", log(before).to_lowercase(), log(after).to_lowercase());
    found
}
