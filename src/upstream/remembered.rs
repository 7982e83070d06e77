//! What is known of an endpoint, apart from the process that knows it: the one that takes its place believes it until its own
//! checks have found something else.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Endpoint;
use super::outlier::{Ejection, Line};
use super::role::Said;
use super::state::{Evidence, Health};
use super::version::Runs;
use crate::units::{AppVersion, unix_millis};

/// An endpoint, and what is known of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Remembered {
    /// Its upstream.
    pub upstream: String,
    /// Its name.
    pub endpoint: String,
    /// Its number in that process.
    #[serde(default)]
    pub id: u64,
    /// How it is reached: another address, or another protocol, is another endpoint.
    contact: (String, bool, bool),
    /// The rest of how it is reached, in a word that is equal for equals; one of an earlier version says nothing of it.
    #[serde(default)]
    manner: Option<String>,
    health: Known,
    reason: Option<String>,
    /// Unix time in milliseconds.
    since: u64,
    ejected: Option<(String, u64)>,
    /// Most requests at once within the last minute, and the last day.
    #[serde(default)]
    peaks: (u32, u32),
    /// How many seconds answers take usually.
    #[serde(default)]
    pace: Option<f64>,
    /// Which version of its code it runs.
    #[serde(default)]
    version: Option<String>,
    /// What it said of its role, and how many milliseconds before.
    #[serde(default)]
    role: Option<(String, u64)>,
    /// Whether whoever said something of its role was surely not there any more.
    #[serde(default)]
    is_gone: bool,
    /// Where its name led: what was said there says nothing of another machine. One of an earlier version does not tell.
    #[serde(default)]
    machine: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Known {
    Nothing,
    Up,
    Draining,
    Answered,
    Silent,
    Gone,
}

impl Endpoint {
    /// What is known of it.
    pub fn remember(&self) -> Remembered {
        let state = self.state();
        let is_gone = state.part.said == Said::Gone;
        Remembered {
            upstream: self.upstream().to_string(),
            endpoint: self.name().to_string(),
            id: self.id().get(),
            contact: contact(self),
            manner: Some(manner(self)),
            health: match state.health {
                Health::Unchecked | Health::Unknown => Known::Nothing,
                Health::Up => Known::Up,
                Health::Draining => Known::Draining,
                Health::Down(Evidence::Answered) => Known::Answered,
                Health::Down(Evidence::Silent) => Known::Silent,
                Health::Down(Evidence::Hard) => Known::Gone,
            },
            reason: state.reason,
            since: unix_millis(state.since),
            ejected: state
                .ejected
                .map(|it| (it.line.as_str().to_owned(), unix_millis(it.until))),
            peaks: self.peaks.remember(),
            pace: self.pace.usual(),
            version: self.version().map(|version| version.to_string()),
            role: match state.part.said {
                Said::Role(role, at) => Some((role.into(), at.elapsed().as_millis() as u64)),
                Said::Unasked | Said::Unheard(_) | Said::Nothing(_) | Said::Gone => None,
            },
            is_gone,
            machine: self.socket_address(),
        }
    }

    /// Believes what another process knew of it. Not what checks have found where there are none any more, nor an ejection that
    /// is over, or where `ejects` says that nothing is ejected here. Nothing of it, and false, where it is another endpoint by now.
    pub fn recall(&self, known: &Remembered, ejects: bool) -> bool {
        let is_as_before = |before: &String| *before == manner(self);
        if known.contact != contact(self) || !known.manner.as_ref().is_none_or(is_as_before) {
            return false;
        }
        self.peaks.recall(Instant::now(), known.peaks);
        self.pace.recall(known.pace);
        if let (None, Some(machine)) = (self.socket_address(), known.machine) {
            // Until the name is asked: should it lead elsewhere by then, what follows is forgotten.
            self.set_resolved(Ok(machine));
        }
        self.recall_said(known);
        let is_checked = self.state().health == Health::Unknown;
        let health = match known.health {
            _ if !is_checked => None,
            Known::Nothing => None,
            Known::Up => Some(Health::Up),
            Known::Draining => Some(Health::Draining),
            Known::Answered => Some(Health::Down(Evidence::Answered)),
            Known::Silent => Some(Health::Down(Evidence::Silent)),
            Known::Gone => Some(Health::Down(Evidence::Hard)),
        };
        if let Some(health) = health {
            self.set_health(health, known.reason.clone());
        }
        if let Some((word, until)) = &known.ejected
            && let Some(line) = Line::of_word(word)
            && ejects
        {
            let until = UNIX_EPOCH + Duration::from_millis(*until);
            if until > SystemTime::now() {
                self.set_ejected(Ok(Ejection {
                    line,
                    begun: Instant::now(),
                    until,
                }));
            }
        }
        if health.is_some() {
            self.change(|state| {
                state.since = UNIX_EPOCH + Duration::from_millis(known.since);
                // The change is an old one.
                false
            });
        }
        true
    }
}

impl Endpoint {
    /// What it said of itself, to another process.
    fn recall_said(&self, known: &Remembered) {
        let version = known.version.as_ref();
        if let Some(version) = version.and_then(|it| AppVersion::try_from(it.as_bytes()).ok())
            && self.state().version != Runs::Unasked
        {
            self.set_version(Runs::Version(version));
        }
        if self.state().part.said == Said::Unasked {
            return;
        }
        if let Some((role, age)) = &known.role {
            let now = Instant::now();
            let at = now.checked_sub(Duration::from_millis(*age)).unwrap_or(now);
            self.hear_role(Said::Role(role.as_str().into(), at));
        } else if known.is_gone {
            self.hear_role(Said::Gone);
        }
    }
}

fn contact(endpoint: &Endpoint) -> (String, bool, bool) {
    let contact = endpoint.contact();
    (
        contact.address.to_string(),
        contact.http2,
        contact.tls.is_some(),
    )
}

fn manner(endpoint: &Endpoint) -> String {
    let contact = endpoint.contact();
    let tls = contact.tls.as_ref().map(|tls| tls.fingerprint());
    let proxy = contact.proxy_protocol.map(|version| format!("{version:?}"));
    format!("{} {}", proxy.unwrap_or_default(), tls.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::snapshot::Snapshot;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;
    use crate::upstream::Tier;

    fn snapshot(address: &str, more: &str) -> Snapshot {
        let text = format!(
            "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\n{more}\n\
             endpoints = [{{ name = \"a\", address = \"{address}\" }}]\n[[route]]\nupstream = \"app\"\n"
        );
        let config = config::parse(&text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        compiler.compile(&config, None).unwrap().snapshot
    }

    const ADDRESS: &str = "127.0.0.1:2";
    const CHECKED: &str = "health = {}";

    /// Passed on as from one process to another.
    fn passed(endpoint: &Endpoint) -> Remembered {
        let text = serde_json::to_string(&endpoint.remember()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_checks_have_found_is_believed_with_its_reason_and_its_age() {
        for health in [
            Health::Unknown,
            Health::Up,
            Health::Draining,
            Health::Down(Evidence::Answered),
            Health::Down(Evidence::Silent),
            Health::Down(Evidence::Hard),
        ] {
            let before = snapshot(ADDRESS, CHECKED);
            let before = &before.upstreams[0].endpoints[0];
            before.set_health(health, Some("so it is".to_owned()));
            let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000);
            before.change(|state| {
                state.since = long_ago;
                false
            });
            let after = snapshot(ADDRESS, CHECKED);
            let after = &after.upstreams[0].endpoints[0];
            after.recall(&passed(before), false);
            let state = after.state();
            assert_eq!(state.health, health);
            if health != Health::Unknown {
                assert_eq!(state.reason.as_deref(), Some("so it is"));
                assert_eq!(state.since, long_ago);
            }
        }
    }

    #[test]
    fn another_endpoint_and_one_that_nobody_checks_believe_nothing() {
        let before = snapshot(ADDRESS, CHECKED);
        let before = &before.upstreams[0].endpoints[0];
        before.set_health(Health::Down(Evidence::Hard), None);
        for (address, more, health) in [
            ("127.0.0.1:3", CHECKED, Health::Unknown),
            (ADDRESS, "", Health::Unchecked),
            (ADDRESS, "protocol = \"h2\"\nhealth = {}", Health::Unknown),
            (
                ADDRESS,
                "proxy_protocol = \"v2\"\nhealth = {}",
                Health::Unknown,
            ),
        ] {
            let after = snapshot(address, more);
            let after = &after.upstreams[0].endpoints[0];
            after.recall(&passed(before), true);
            assert_eq!(after.state().health, health, "{address} {more}");
        }
    }

    #[test]
    fn regression_endpoint_whose_tls_settings_are_others_now_is_not_believed_to_be_down() {
        let tls = |name| format!("health = {{}}\ntls = {{ server_name = \"{name}\" }}");
        let before = snapshot(ADDRESS, &tls("wrong.example"));
        let before = &before.upstreams[0].endpoints[0];
        before.set_health(Health::Down(Evidence::Hard), None);
        let mut known = passed(before);
        let recalled = |known: &Remembered, name| {
            let after = snapshot(ADDRESS, &tls(name));
            let after = &after.upstreams[0].endpoints[0];
            after.recall(known, true);
            after.state().health
        };
        assert_eq!(recalled(&known, "right.example"), Health::Unknown);
        let down = Health::Down(Evidence::Hard);
        assert_eq!(recalled(&known, "wrong.example"), down);
        // Of a version that does not say.
        known.manner = None;
        assert_eq!(recalled(&known, "right.example"), down);
    }

    #[test]
    fn version_goes_on_where_it_is_asked_for() {
        let asked = "health = { version_header = \"x-v\" }";
        let before = snapshot(ADDRESS, asked);
        let before = &before.upstreams[0].endpoints[0];
        before.ask_version(true, None);
        let version = AppVersion::try_from(&b"42"[..]).unwrap();
        before.set_version(Runs::Version(version));
        for (asks, expected) in [(true, Some("42")), (false, None)] {
            let after = snapshot(ADDRESS, asked);
            let after = &after.upstreams[0].endpoints[0];
            after.ask_version(asks, None);
            after.recall(&passed(before), false);
            let version = after.version();
            assert_eq!(version.as_ref().map(|it| it.as_str()), expected);
        }
    }

    #[test]
    fn ejection_goes_on_until_its_end_where_there_are_ejections() {
        let before = snapshot(ADDRESS, "");
        let before = &before.upstreams[0].endpoints[0];
        let eject = |until| {
            before.set_ejected(Ok(Ejection {
                line: Line::Ratio,
                begun: Instant::now(),
                until,
            }));
            passed(before)
        };
        let minute = Duration::from_secs(60);
        let (over, goes_on) = (SystemTime::now() - minute, SystemTime::now() + minute);
        for (until, ejects, tier) in [
            (over, true, Tier::Eligible),
            (goes_on, false, Tier::Eligible),
            (goes_on, true, Tier::Never),
        ] {
            let after = snapshot(ADDRESS, "");
            let after = &after.upstreams[0].endpoints[0];
            after.recall(&eject(until), ejects);
            assert_eq!(after.tier(), tier, "{ejects}");
        }
    }
}
