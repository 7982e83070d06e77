//! Reads `upstream.tls`.

use rustls_pki_types::ServerName;

use super::tls::certificate;
use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Trust, UpstreamTls};

pub(super) fn tls(table: &mut Table<'_>) -> UpstreamTls {
    let ca = table.get("ca");
    let server_name = table.get("server_name");
    let verify = table.get("verify");
    let client_certificate = table.get("client_certificate");
    UpstreamTls {
        trust: trust(ca.as_ref(), verify.as_ref()),
        server_name: server_name.as_ref().and_then(name),
        client_certificate: client_certificate.as_ref().and_then(certificate),
        place: table.place(),
    }
}

fn trust(ca: Option<&Value<'_>>, verify: Option<&Value<'_>>) -> Trust {
    let authorities = ca.and_then(|ca| {
        Some(Trust::Authorities {
            ca: ca.path()?,
            place: ca.place(),
        })
    });
    let Some((verify, false)) = verify.and_then(|verify| Some((verify, verify.bool()?))) else {
        return authorities.unwrap_or(Trust::System);
    };
    if let Some(ca) = ca {
        ca.source
            .report(ca.key_place(), "has no effect with verify = false");
    }
    verify.warn(
        "endpoints' certificates are NOT verified: whoever gets between can read and change everything; give their authority as `ca` instead",
    );
    Trust::Anyone
}

fn name(value: &Value<'_>) -> Option<ServerName<'static>> {
    let what = "a host name or an IP address such as \"app.internal\"";
    let text = value.string_such_as(what)?;
    ServerName::try_from(text.to_ascii_lowercase())
        .ok()
        .or_else(|| value.expected(what))
}
