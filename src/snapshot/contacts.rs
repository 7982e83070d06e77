//! How endpoints are reached, as the configuration says: addresses, and TLS with what its files hold.

use crate::config::{self, Problem};
use crate::tls::{ClientSettings, client};
use crate::upstream::Contact;

/// How an upstream's endpoints are reached, in file order; and what is doubtful about it.
pub fn contacts(upstream: &config::Upstream) -> Result<(Vec<Contact>, Vec<Problem>), Vec<Problem>> {
    let settings = match &upstream.tls {
        Some(tls) => Some(client(tls, if upstream.http2 { "h2" } else { "http/1.1" })?),
        None => None,
    };
    let mut problems = Vec::new();
    let mut contacts = Vec::with_capacity(upstream.endpoints.len());
    for endpoint in &upstream.endpoints {
        let tls = settings
            .as_ref()
            .map(|settings| settings.of(&endpoint.address));
        if let Some(None) = tls {
            problems.push(endpoint.place.problem(format!(
                "no certificate can be for the host of {}: give the name endpoints prove as tls.server_name",
                endpoint.address
            )));
        }
        contacts.push(Contact {
            address: endpoint.address.clone(),
            http2: upstream.http2,
            proxy_protocol: upstream.proxy_protocol,
            tls: tls.flatten(),
        });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let doubts = settings.map_or_else(Vec::new, |settings: ClientSettings| settings.warnings);
    Ok((contacts, doubts))
}
