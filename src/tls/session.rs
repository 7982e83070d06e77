//! What a finished handshake is worth: which hosts the client may ask for. Does no I/O.

use std::sync::Arc;

use rustls::ServerConnection;

use super::resolver::Resolver;

/// How a listener judges handshakes.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Where names lead; none where all lead to the only certificate.
    names: Option<Arc<Resolver>>,
}

/// What was settled with one client.
#[derive(Debug)]
pub struct Session {
    asked: Asked,
}

/// The server name a client asked for, in lower case, and where it and others lead.
#[derive(Debug)]
struct Asked {
    name: Box<str>,
    names: Arc<Resolver>,
}

impl Sessions {
    pub(super) fn new(resolver: &Arc<Resolver>) -> Self {
        Self {
            names: resolver.distinguishes().then(|| Arc::clone(resolver)),
        }
    }

    /// Of a client's `connection`, whose handshake is done. None where there is nothing to remember.
    pub fn settle(&self, connection: &ServerConnection) -> Option<Session> {
        let asked = self.names.as_ref().zip(connection.server_name());
        let asked = asked.map(|(names, name)| Asked {
            name: name.strip_suffix('.').unwrap_or(name).into(),
            names: Arc::clone(names),
        });
        asked.map(|asked| Session { asked })
    }
}

impl Session {
    /// Whether the certificate that the client was shown stands for `host`, in lower case (RFC 9110 §7.4).
    pub fn stands_for(&self, host: &str) -> bool {
        let Asked { name, names } = &self.asked;
        **name == *host || names.share_a_certificate(name, host)
    }
}
