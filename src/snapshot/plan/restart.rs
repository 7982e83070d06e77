//! Which settings a reload cannot change.

use std::path::Path;

use crate::config::{Config, Difference};

/// What the process was started with, of all that is only read at the start: each setting with its value in words.
#[derive(Clone, Debug)]
pub struct Started(Vec<(&'static str, String)>);

impl Started {
    /// With `config`.
    pub fn with(config: &Config) -> Self {
        let path = |path: Option<&Path>| {
            path.map_or_else(|| "off".to_owned(), |path| path.display().to_string())
        };
        let (process, admin, log) = (&config.process, &config.admin, &config.log);
        let most = process.max_connections;
        let log = format!("{:?}, {:?}", log.level, log.format);
        Self(vec![
            ("process.workers", process.workers.to_string()),
            (
                "process.max_connections",
                most.map_or_else(|| "no limit".to_owned(), |most| most.to_string()),
            ),
            ("admin.address", admin.address.to_string()),
            ("admin.socket", path(admin.socket.path())),
            ("admin.hosts", format!("[{}]", admin.hosts.join(", "))),
            ("admin.audit", path(admin.audit.as_deref())),
            ("log", log.to_lowercase()),
        ])
    }

    /// Settings of `config` that the process was not started with.
    pub fn needs_restart(&self, config: &Config) -> Vec<Difference> {
        let Self(wanted) = Self::with(config);
        let pairs = self.0.iter().zip(wanted);
        pairs
            .filter(|((_, before), (_, after))| before != after)
            .map(|((key, before), (_, after))| Difference::new(key, before.clone(), after))
            .collect()
    }
}
