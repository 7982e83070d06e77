//! Where a request would go if it came now: asked of the snapshot in use, by the functions that requests themselves go through.
//! Nothing is sent, no turn is taken, no limit of a route is used up. What a header is refused for that says nothing of the way
//! (framing, sizes, `Connection`) is not looked at.

mod asked;
mod candidates;
mod head;

use std::net::IpAddr;

use http::{Method, Request, Uri};
use serde::Serialize;

pub use asked::Asked;
pub use candidates::Candidate;

use self::candidates::candidates;
use self::head::Head;
use crate::config::HashKey;
use crate::message::canonical_path::canonicalize;
use crate::proxy::error::ProxyError;
use crate::proxy::{handler, hash_key};
use crate::route::{Mismatch, Outcome, Query, Verdict};
use crate::snapshot::{Action, Route, Snapshot};
use crate::upstream::{Denied, Pin, Tried, Upstream, Wanted, Wish};

/// `GET /api/v1/explain`
#[derive(Debug, Serialize)]
pub struct Explained {
    /// Of the configuration in use.
    pub generation: u64,
    listener: String,
    host: String,
    /// Whom endpoints and limits take for the client.
    client: IpAddr,
    /// In canonical spelling; `None` where it has none.
    path: Option<String>,
    /// What the endpoint is asked for, where that is another path.
    sent_path: Option<String>,
    /// The route that takes it.
    pub route: Option<String>,
    /// What the balancer answers by itself.
    pub answer: Option<Answer>,
    /// Whom it asks else.
    pub forward: Option<Forward>,
    /// Why each of the other routes does not take it, in the order of the file.
    others: Vec<Other>,
}

/// An answer of the balancer's own.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Why, as people read it.
    pub why: String,
    /// Whether this is an error, and no route's wish.
    refused: bool,
}

/// An upstream, and who of it.
#[derive(Debug, Serialize)]
pub struct Forward {
    /// The upstream.
    pub upstream: String,
    policy: &'static str,
    /// Where it waits first: in a pause, or for an endpoint with room.
    waits: Option<&'static str>,
    /// The endpoint that would be asked now.
    pub endpoint: Option<String>,
    /// What decides on that: `affinity`, the key of a hash, or the policy, whose next request may go elsewhere.
    pub by: String,
    /// All of the upstream.
    pub candidates: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
struct Other {
    route: String,
    why: String,
}

/// Explains what would become of `asked`, or says why that is no request.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> Result<Explained, String> {
    let head = Head::of(snapshot, asked)?;
    let mut explained = Explained {
        generation: snapshot.generation,
        listener: snapshot.listeners[head.listener].name.to_string(),
        host: head.host.to_string(),
        client: head.client,
        path: None,
        sent_path: None,
        route: None,
        answer: None,
        forward: None,
        others: Vec::new(),
    };
    explained.answer = match routed(snapshot, asked, &head, &mut explained) {
        Ok(answer) => answer,
        Err((error, why)) => Some(Answer {
            status: error.status().as_u16(),
            why,
            refused: true,
        }),
    };
    Ok(explained)
}

/// The steps of a request in the order it takes them.
fn routed(
    snapshot: &Snapshot,
    asked: &Asked,
    head: &Head<'_>,
    explained: &mut Explained,
) -> Result<Option<Answer>, (ProxyError, String)> {
    let listener = &*snapshot.listeners[head.listener];
    if let Some(name) = &head.server_name
        && !head.host.is_empty()
        && !listener.sessions.stands_for(name, &head.host)
    {
        let why = format!(
            "another certificate stands for {} than the one for {name}",
            head.host
        );
        return Err((ProxyError::Misdirected, why));
    }
    if asked.method == Method::CONNECT {
        return Err((ProxyError::Connect, "CONNECT is not offered".to_owned()));
    }
    let refused = |error: ProxyError, why: &dyn ToString| (error, why.to_string());
    let path = canonicalize(head.target.path).map_err(|error| refused(error.into(), &error))?;
    explained.path = Some(path.to_string());
    if listener.redirect_to_https.is_some() {
        return Ok(Some(Answer {
            status: 308,
            why: "to https, as every request of this listener".to_owned(),
            refused: false,
        }));
    }
    let query = Query {
        listener: head.listener,
        host: &head.host,
        method: &asked.method,
        headers: &asked.headers,
        raw_path: head.target.path,
        path: &path,
    };
    let explanation = snapshot.router.explain(&query);
    explained.others = others(snapshot, &explanation.routes);
    let index = match explanation.outcome {
        Outcome::Route(index) => index,
        Outcome::None => return Err(refused(ProxyError::NoRoute, &"no route takes it")),
        Outcome::Refused(ambiguous) => {
            let guarded = &snapshot.routes[ambiguous.route].name;
            let why = format!("{ambiguous}; guards the exclusive route {guarded}");
            return Err((ProxyError::AmbiguousPath, why));
        }
    };
    let route = &*snapshot.routes[index];
    explained.route = Some(route.name.to_string());
    let member = match &route.action {
        Action::Forward(_) => 0,
        Action::Split(split) => split.preview(head.client),
        Action::ReadsAndWrites(both) => both.member(query.method, &asked.headers),
        Action::Redirect(redirect) => {
            return Ok(Some(Answer {
                status: redirect.status.as_u16(),
                why: format!("redirect to {}", redirect.to),
                refused: false,
            }));
        }
        Action::Respond(respond) => {
            return Ok(Some(Answer {
                status: respond.status.as_u16(),
                why: "the route's own response".to_owned(),
                refused: false,
            }));
        }
        Action::NotFound => return Err(refused(ProxyError::NoRoute, &"no route takes it")),
    };
    let Some(upstream) = route.action.upstream(member) else {
        return Err(refused(ProxyError::NoRoute, &"no route takes it"));
    };
    explained.sent_path = sent_path(snapshot, (index, route), &query)?;
    let made = request(asked, &path, head.target.query)
        .ok_or_else(|| refused(ProxyError::Malformed, &"the query is malformed"))?;
    let key = upstream.hash_key.as_ref();
    let hashed = key.map(|key| hash_key::of(key, &made, &path, head.client));
    let affinity = upstream.affinity.as_ref();
    let wanted = affinity.map_or(Wanted::Nobody, |affinity| {
        let mut headers = asked.headers.clone();
        affinity.take(upstream, &mut headers)
    });
    let (forward, denied) = forward(upstream, wanted, hashed);
    explained.forward = Some(forward);
    match denied {
        None => Ok(None),
        Some(denied) => {
            let why = match denied {
                Denied::Nobody => "no endpoint may be asked".to_owned(),
                Denied::NoAuthority | Denied::TwoAuthorities => upstream
                    .incumbent()
                    .and_then(|it| it.why)
                    .unwrap_or_else(|| "nobody is known to be the authority".to_owned()),
                Denied::Full | Denied::Late => {
                    "every endpoint that may be asked has as many requests as it may".to_owned()
                }
            };
            Err(refused(ProxyError::from(denied), &why))
        }
    }
}

/// Who of `upstream` would be asked, or why nobody.
fn forward(upstream: &Upstream, wanted: Wanted, key: Option<u64>) -> (Forward, Option<Denied>) {
    let pin = wanted.pin();
    let version = wanted.version().map(|pin| pin.mark);
    let wish = Wish {
        tried: Tried::default(),
        preferred: pin,
        version,
        key,
    };
    let picked = upstream.preview(wish);
    let endpoint = picked.ok().map(|index| &upstream.endpoints[index]);
    let is_pinned = |pin: Pin| endpoint.is_some_and(|endpoint| endpoint.id() == pin.id);
    let by = match &upstream.hash_key {
        _ if pin.is_some_and(is_pinned) => "affinity".to_owned(),
        _ if version.is_some_and(|mark| endpoint.is_some_and(|it| it.runs(mark))) => {
            format!("version affinity, then {}", upstream.policy.name())
        }
        _ if upstream.is_authoritative() => "authority".to_owned(),
        Some(HashKey::ClientAddress) => "hash of the client's address".to_owned(),
        Some(HashKey::Header(name)) => format!("hash of header {name}"),
        Some(HashKey::Cookie(name)) => format!("hash of cookie {name}"),
        Some(HashKey::Path) => "hash of the path".to_owned(),
        Some(HashKey::Query(name)) => format!("hash of parameter {name}"),
        None => upstream.policy.name().to_owned(),
    };
    let is_queueing = upstream.queueing.is_some() && picked == Err(Denied::Full);
    let waits = if upstream.hold.is_paused() {
        Some("paused")
    } else if is_queueing {
        Some("queue")
    } else {
        None
    };
    let forward = Forward {
        upstream: upstream.name.to_string(),
        policy: upstream.policy.name(),
        waits,
        endpoint: endpoint.map(|endpoint| endpoint.name().to_string()),
        by,
        candidates: candidates(upstream),
    };
    (forward, picked.err().filter(|_| waits.is_none()))
}

fn sent_path(
    snapshot: &Snapshot,
    (index, route): (usize, &Route),
    query: &Query<'_>,
) -> Result<Option<String>, (ProxyError, String)> {
    let filters = route.filters.as_deref();
    let Some(rewrite) = filters.and_then(|filters| filters.rewrite.as_ref()) else {
        return Ok(None);
    };
    let path = handler::rewritten(snapshot, (index, rewrite), query).map_err(|error| {
        let why =
            "what the route makes of the path is no path, too long, or one of an exclusive route";
        (error, why.to_owned())
    })?;
    Ok(Some(path))
}

fn request(asked: &Asked, path: &str, query: Option<&str>) -> Option<Request<()>> {
    let uri: Uri = match query {
        Some(query) => format!("{path}?{query}").parse().ok()?,
        None => path.parse().ok()?,
    };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = asked.headers.clone();
    Some(request)
}

/// Why the other routes do not take it. Values that a route asks for are not told: they may be secrets, and anybody may ask.
fn others(snapshot: &Snapshot, verdicts: &[Verdict]) -> Vec<Other> {
    let names = |index: usize| snapshot.routes[index].name.to_string();
    let why = |verdict: &Verdict| match verdict {
        Verdict::Chosen => None,
        Verdict::Shadowed { by, rule } => {
            Some(format!("matches, but {} comes first: {rule}", names(*by)))
        }
        Verdict::Refused => Some("matches, but the request is refused".to_owned()),
        Verdict::Mismatch(mismatch) => Some(match mismatch {
            Mismatch::Listener { .. } => "is of other listeners".to_owned(),
            Mismatch::Host { .. } => "is for other hosts".to_owned(),
            Mismatch::Path { expected, .. } => format!("path is not {expected}"),
            Mismatch::Method { .. } => "is for other methods".to_owned(),
            Mismatch::Header { name, .. } => format!("header {name} is not as asked for"),
            Mismatch::Cookie { name, .. } => format!("cookie {name} is not as asked for"),
        }),
    };
    let routes = verdicts.iter().enumerate();
    let others = routes.filter_map(|(index, verdict)| {
        Some(Other {
            route: names(index),
            why: why(verdict)?,
        })
    });
    others.collect()
}
