//! Watches certificates in use: whether their files hold others by now, and whether they end soon.

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::Daemon;
use crate::config::{Config, ConfigErrors};
use crate::lock::lock;
use crate::snapshot::compile::tls_files;
use crate::snapshot::{Listener, Snapshot};
use crate::tls::expiry::{self, Urgency};
use crate::tls::{Contents, seconds_since_1970};

/// Looks at the files of TLS from time to time.
pub(super) struct Files {
    /// When the last look was over.
    last: Instant,
    /// A look under way: a file system that hangs holds nothing else up.
    looking: Option<JoinHandle<Contents>>,
}

impl Files {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            looking: None,
        }
    }

    /// What the files of `config` hold, when it is time to look again; never where they are not polled. What is dropped
    /// while it waits goes on where it was.
    pub(super) async fn look(&mut self, config: &Config) -> Contents {
        loop {
            if let Some(looking) = &mut self.looking {
                let found = looking.await;
                self.looking = None;
                self.last = Instant::now();
                if let Ok(found) = found {
                    return found;
                }
            }
            match config.process.certificate_poll {
                Some(poll) => sleep_until(self.last + poll).await,
                None => std::future::pending().await,
            }
            let config = config.clone();
            self.looking = Some(tokio::task::spawn_blocking(move || tls_files(&config)));
        }
    }
}

impl Daemon {
    /// Takes over what the files of TLS hold, if that is not what is in use: `found` is what they held just now. The rest of
    /// the configuration stays as it is: a file that is being edited is not read. What cannot be used is said once, and
    /// tried again the next time.
    pub(super) async fn follow_certificates(&mut self, found: Contents) {
        if found.changed(&self.files).next().is_none() {
            self.refused_tls_files = None;
            return;
        }
        let Some(result) = self.renew("certificates reloaded").await else {
            return;
        };
        let count = |result| {
            let reloads = &self.metrics.certificate_reloads;
            reloads.with_label_values(&[result]).inc();
        };
        match result {
            Ok(()) => count("accepted"),
            Err(_) if self.refused_tls_files.as_ref() == Some(&found) => {}
            Err(problems) => {
                count("rejected");
                error!(%problems, "changed certificates rejected; those in use stay, and the files are tried again");
                self.refused_tls_files = Some(found);
            }
        }
    }

    /// Takes over what the files hold that the configuration in use names; that stays as it is, and its own file is not read.
    /// `said` is what the log then says. None where nothing can be compiled any more.
    pub(super) async fn renew(&mut self, said: &'static str) -> Option<Result<(), ConfigErrors>> {
        let config = self.config.clone();
        let compiled = match self.compile(move || Ok(config)).await {
            Ok(compiled) => compiled?,
            Err(problems) => return Some(Err(problems)),
        };
        let (config, compiled) = compiled;
        if let Err(problems) = self.take_over(config, compiled, said).await {
            return Some(Err(problems));
        }
        let mut history = lock(&self.admin.history);
        history.renew(&self.files);
        Some(Ok(()))
    }

    /// Names what ends soon of what is in use.
    pub(super) fn warn_of_endings(&self) {
        for ending in endings(&self.publisher.current(), seconds_since_1970()) {
            let Ending {
                listener,
                what,
                file,
                end,
                urgency,
            } = ending;
            let ends = expiry::date(end);
            match urgency {
                Urgency::Now => error!(
                    listener,
                    file, ends, "{what} ends within a day, or has ended"
                ),
                Urgency::Soon => warn!(listener, file, ends, "{what} ends soon"),
            }
        }
    }
}

/// Something in use that ends soon.
#[derive(Debug, Eq, PartialEq)]
struct Ending<'a> {
    listener: &'a str,
    what: &'static str,
    file: &'a str,
    end: i64,
    urgency: Urgency,
}

fn endings(snapshot: &Snapshot, now: i64) -> Vec<Ending<'_>> {
    let of_listener = |listener| {
        in_use(listener).filter_map(move |(what, file, end)| {
            let urgency = expiry::urgency(end, now)?;
            // Revocation lists come by the week or by the day: that one ends within two weeks says nothing.
            (what == CERTIFICATE || urgency == Urgency::Now).then_some(Ending {
                listener: &listener.name,
                what,
                file,
                end,
                urgency,
            })
        })
    };
    snapshot
        .listeners
        .iter()
        .flat_map(|listener| of_listener(listener))
        .collect()
}

const CERTIFICATE: &str = "certificate";

/// What a listener uses: kind, file, end.
fn in_use(listener: &Listener) -> impl Iterator<Item = (&'static str, &str, i64)> {
    let certificates = listener.certificates.iter();
    let certificates = certificates.map(|it| (CERTIFICATE, &*it.label, it.not_after));
    let revocation = listener.revocation.iter();
    certificates.chain(revocation.map(|it| ("revocation list", &*it.label, it.next_update)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;

    #[test]
    fn endings_name_listener_file_and_time() {
        const DAY: i64 = 24 * 60 * 60;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut text = "[[route]]\nrespond = {}\n".to_owned();
        for (port, (name, days)) in (1..).zip([("far", 20), ("soon", 10), ("close", 0)]) {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_after =
                OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(1);
            let key = KeyPair::generate().unwrap();
            fs::write(
                path(&format!("{name}.pem")),
                params.self_signed(&key).unwrap().pem(),
            )
            .unwrap();
            fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
            text.push_str(&format!(
                "[listener.{name}]\naddress = \"127.0.0.1:{port}\"\n\
                 tls.certificates = [{{ chain = \"{name}.pem\", key = \"{name}.key\" }}]\n"
            ));
        }
        let config = config::parse(&text, &path("balancer.toml")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        let found = |now| -> Vec<(String, Urgency)> {
            let endings = endings(&snapshot, now).into_iter();
            let file = |name: &str| path(&format!("{name}.pem")).display().to_string();
            endings
                .inspect(|ending| assert_eq!(ending.file, file(ending.listener)))
                .map(|ending| (ending.listener.to_owned(), ending.urgency))
                .collect()
        };
        let listed = |listed: &[(&str, Urgency)]| -> Vec<(String, Urgency)> {
            listed
                .iter()
                .map(|(name, urgency)| ((*name).to_owned(), *urgency))
                .collect()
        };
        assert_eq!(
            found(seconds_since_1970()),
            listed(&[("soon", Urgency::Soon), ("close", Urgency::Now)])
        );
        assert_eq!(
            found(seconds_since_1970() + 10 * DAY),
            listed(&[
                ("far", Urgency::Soon),
                ("soon", Urgency::Now),
                ("close", Urgency::Now)
            ])
        );
    }
}
