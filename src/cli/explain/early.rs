//! What a request is answered before a route is looked for, as the data path does it.

use http::Method;

use super::asked::Asked;
use super::{Args, Failure};
use crate::config::{Config, Listener};
use crate::tls;

/// Why a request is refused whose path nobody looks at. `None`: it is not.
pub(super) fn refusal(
    args: &Args,
    config: &Config,
    asked: &Asked<'_>,
) -> Result<Option<String>, Failure> {
    let listener = &config.listeners[asked.listener];
    if let Some(name) = &asked.server_name
        && !asked.host.is_empty()
        && !stands_for(listener, name, &asked.host)?
    {
        return Ok(Some(format!(
            "421, another certificate stands for {} than the one for {name}, which the client was shown",
            asked.host
        )));
    }
    let is_connect = args.method == Method::CONNECT;
    Ok(is_connect.then(|| {
        "405, CONNECT is not offered; for a WebSocket over HTTP/2 ask about GET".to_owned()
    }))
}

/// Whether the certificate for `name` stands for `host`. Only where there are several are their files read.
fn stands_for(listener: &Listener, name: &str, host: &str) -> Result<bool, Failure> {
    let several = listener
        .tls
        .as_ref()
        .filter(|tls| tls.certificates.len() > 1);
    let Some(tls) = several else { return Ok(true) };
    let sessions = tls::sessions(tls).map_err(Failure::Configuration)?;
    Ok(sessions.stands_for(name, host))
}

/// Where every request of the listener is sent, whatever its path.
pub(super) fn redirect(listener: &Listener) -> Option<&'static str> {
    listener
        .redirect_to_https
        .then_some("redirect 308 to https, as every request of this listener")
}
