//! Listeners: what they prove themselves with, and their sockets, which stay the same as long as the address does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::{HeaderName, HeaderValue};

use super::Compiler;
use super::route::upgrades;
use crate::config::{self, Config, Problem};
use crate::message::upgrade;
use crate::metrics::ListenerMetrics;
use crate::snapshot::{AccessLogRule, Listener, Pages, Snapshot};
use crate::tls::{Alpn, Contents, Server, server};
use crate::units::Name;

impl Compiler {
    /// What `listener` proves itself with, and what is doubtful about that.
    pub(super) fn tls(
        &self,
        listener: &config::Listener,
    ) -> Result<(Option<Server>, Vec<Problem>), Vec<Problem>> {
        let Some(tls) = &listener.tls else {
            return Ok((None, Vec::new()));
        };
        let alpn = Alpn {
            http1: listener.http1,
            http2: listener.http2,
        };
        let mut server = server(tls, alpn, &self.tickets)?;
        let warnings = std::mem::take(&mut server.warnings);
        Ok((Some(server), warnings))
    }

    pub(super) fn listener(
        &mut self,
        (index, listener): (usize, &config::Listener),
        (tls, error_pages, access_log): (Option<Server>, Arc<Pages>, Option<Arc<AccessLogRule>>),
        config: &Config,
        previous: Option<&Snapshot>,
    ) -> Listener {
        let (tls, sessions, certificates, revocation) = match tls {
            Some(server) => (
                Some(server.config),
                server.sessions,
                server.certificates,
                server.revocation,
            ),
            None => Default::default(),
        };
        let before = previous.and_then(|previous| {
            previous.listeners.iter().find(|before| {
                is_same_address(
                    (before.address, &before.name),
                    (listener.address, &listener.name),
                )
            })
        });
        let (slot, open, per_client) = match before {
            Some(before) => (
                before.slot,
                Arc::clone(&before.open),
                Arc::clone(&before.per_client),
            ),
            None => {
                self.next_slot += 1;
                (
                    self.next_slot,
                    Arc::new(AtomicUsize::new(0)),
                    Arc::default(),
                )
            }
        };
        let metrics = ListenerMetrics::new(&self.metrics, &listener.name);
        let https = https(config).map_or(443, |other| other.address.port());
        Listener {
            name: Arc::clone(&listener.name),
            slot,
            address: listener.address,
            tls,
            sessions,
            certificates,
            revocation,
            http2: listener.http2,
            websocket: config.routes.iter().any(|route| {
                let listens = route.listeners.as_ref();
                listens.is_none_or(|listeners| listeners.contains(&index))
                    && upgrades(config, route)
                        .iter()
                        .any(|name| **name == *upgrade::WEBSOCKET)
            }),
            trusted_proxies: listener.trusted_proxies.clone(),
            proxy_protocol: listener.proxy_protocol.clone(),
            forwarded: listener.forwarded,
            hsts: listener.hsts.as_ref().and_then(hsts),
            error_pages,
            access_log,
            redirect_to_https: listener.redirect_to_https.then_some(https),
            timeouts: listener.timeouts,
            limits: listener.limits,
            open,
            per_client,
            metrics,
        }
    }
}

/// Where a listener without TLS sends clients that shall use it.
fn https(config: &Config) -> Option<&config::Listener> {
    config.listeners.iter().find(|other| other.tls.is_some())
}

pub(super) fn unserved_https(config: &Config) -> impl Iterator<Item = Problem> {
    let redirects = |listener: &&config::Listener| listener.redirect_to_https;
    let all = config.listeners.iter().filter(redirects);
    all.filter(|_| https(config).is_none()).map(|listener| {
        listener
            .place
            .problem("redirect_to_https, but no listener has `tls`: clients are sent to port 443")
    })
}

/// RFC 6797 §6.1.
fn hsts(hsts: &config::Hsts) -> Option<HeaderValue> {
    let mut value = format!("max-age={}", hsts.max_age.as_secs());
    if hsts.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if hsts.preload {
        value.push_str("; preload");
    }
    HeaderValue::try_from(value).ok()
}

/// What the files hold that the listeners' TLS is made of.
pub fn tls_files(config: &Config) -> Contents {
    let listeners = config.listeners.iter();
    let tls = listeners.filter_map(|listener| listener.tls.as_ref());
    Contents::of(tls.flat_map(config::ListenerTls::files))
}

/// The fields of any listener.
pub(super) fn identity_fields(config: &Config) -> Option<Arc<[HeaderName]>> {
    let clients = config
        .listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref()?.client_auth.clients());
    let mut names: Vec<HeaderName> = Vec::new();
    for name in clients.flat_map(|clients| clients.forward_identity.names()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    (!names.is_empty()).then(|| names.into())
}

/// Whether two listeners, each an address and a name, share their sockets. Port 0 says nothing of the address: there the name decides.
pub fn is_same_address(one: (SocketAddr, &Name), other: (SocketAddr, &Name)) -> bool {
    one.0 == other.0 && (one.0.port() != 0 || one.1 == other.1)
}
