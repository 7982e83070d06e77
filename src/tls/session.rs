//! What a finished handshake is worth: which hosts the client may ask for, and who it is. Does no I/O.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use rustls::ServerConnection;

use super::identity;
use super::resolver::Resolver;
use crate::config::ForwardIdentity;

/// How a listener judges handshakes.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Where names lead; none where all lead to the only certificate.
    names: Option<Arc<Resolver>>,
    forward_identity: ForwardIdentity,
}

/// What was settled with one client.
#[derive(Debug)]
pub struct Session {
    asked: Option<Asked>,
    identity: Box<[(HeaderName, HeaderValue)]>,
}

/// The server name a client asked for, in lower case, and where it and others lead.
#[derive(Debug)]
struct Asked {
    name: Box<str>,
    names: Arc<Resolver>,
}

impl Sessions {
    pub(super) fn new(resolver: &Arc<Resolver>, forward_identity: ForwardIdentity) -> Self {
        Self {
            names: resolver.distinguishes().then(|| Arc::clone(resolver)),
            forward_identity,
        }
    }

    /// Whether a client that asked for `name` by TLS was shown a certificate that stands for `host`, too (RFC 9110 §7.4). Both
    /// are in lower case and without a dot at the end.
    pub fn stands_for(&self, name: &str, host: &str) -> bool {
        let names = self.names.as_ref();
        names.is_none_or(|names| stand_for(names, name, host))
    }

    /// Of a client's `connection`, whose handshake is done. None where there is nothing to remember.
    pub fn settle(&self, connection: &ServerConnection) -> Option<Session> {
        let asked = self.names.as_ref().zip(connection.server_name());
        let asked = asked.map(|(names, name)| Asked {
            name: name.strip_suffix('.').unwrap_or(name).into(),
            names: Arc::clone(names),
        });
        let shown = connection.peer_certificates().unwrap_or_default().first();
        let identity = shown.map_or_else(Vec::new, |shown| {
            identity::fields(&self.forward_identity, shown)
        });
        (asked.is_some() || !identity.is_empty()).then(|| Session {
            asked,
            identity: identity.into(),
        })
    }
}

impl Session {
    /// Whether the certificate that the client was shown stands for `host`, in lower case (RFC 9110 §7.4).
    pub fn stands_for(&self, host: &str) -> bool {
        let asked = self.asked.as_ref();
        asked.is_none_or(|asked| stand_for(&asked.names, &asked.name, host))
    }

    /// What endpoints are told of the client's certificate, which was verified. Empty without one.
    pub fn identity(&self) -> &[(HeaderName, HeaderValue)] {
        &self.identity
    }
}

fn stand_for(names: &Resolver, name: &str, host: &str) -> bool {
    name == host || names.share_a_certificate(name, host)
}
