//! What endpoints are told, against a model of it: a head is a list of pairs of strings, and every rule goes over all of it.
//!
//! One file of more than 350 lines, since the model says something only when it is read as a whole.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use proptest::prelude::*;

use super::*;
use crate::config::{self, FieldValue, HeaderChanges};
use crate::filter;
use crate::metrics::Metrics;
use crate::proxy::drain::Drain;
use crate::snapshot::compile::Compiler;
use crate::snapshot::{Held, Publisher};
use crate::tls::Tickets;

const HOST: &str = "app.test:8080";
const VIA: [&str; 2] = ["1.1 balancer (1)", "2.0 balancer (1)"];
const RESERVED: &str = "x-device";

/// Names in lower case, in the order in which they are sent.
type Fields = Vec<(String, String)>;

/// What a request is, beyond its fields.
#[derive(Clone, Copy, Debug)]
struct Case {
    is_trusted: bool,
    is_http2: bool,
    has_body: bool,
    fields: ForwardedFields,
    peer: IpAddr,
}

#[derive(Debug, Eq, PartialEq)]
enum Refused {
    ConnectionNames,
    Loop,
}

/// What the endpoint gets, and whether the client wants to change to WebSocket.
fn model(case: Case, sent: &Fields) -> Result<(Fields, bool), Refused> {
    let named = elements(sent, "connection");
    if named.iter().any(|name| is_end_to_end(name)) {
        return Err(Refused::ConnectionNames);
    }
    let mut told = sent.clone();
    told.retain(|(name, _)| {
        let is_named = named.contains(name) && !["close", "keep-alive", "te"].contains(&&**name);
        let is_hop_by_hop = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        let is_ours = ["proxy", "proxy-authorization", RESERVED];
        let is_doubtful = name.contains('_');
        let is_strangers = !case.is_trusted && is_believed_of_proxies_only(name);
        !is_named
            && !is_hop_by_hop.contains(&&**name)
            && !is_ours.contains(&&**name)
            && !is_doubtful
            && !is_strangers
    });
    if elements(&told, "via")
        .iter()
        .any(|via| VIA.contains(&&**via))
    {
        return Err(Refused::Loop);
    }
    let cookies = all(&told, "cookie");
    if case.is_http2 && cookies.len() > 1 {
        set(&mut told, "cookie", &cookies.join("; "));
    }

    // What was said so far is all that is looked at, whichever field it is told in from here on.
    let said = told.clone();
    let chain = all(&said, "x-forwarded-for");
    let elements_said = all(&said, "forwarded");
    if case.fields != ForwardedFields::Forwarded {
        let mut whole = chain.clone();
        if whole.is_empty() {
            for value in &elements_said {
                whole.extend(addresses(value).into_iter().map(|address| match address {
                    Some(address) => address.to_string(),
                    None => "unknown".to_owned(),
                }));
            }
        }
        whole.push(case.peer.to_string());
        set(&mut told, "x-forwarded-for", &whole.join(", "));
        for (name, value) in [
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "80"),
            ("x-forwarded-host", HOST),
        ] {
            if all(&told, name).is_empty() {
                set(&mut told, name, value);
            }
        }
    }
    if case.fields != ForwardedFields::XForwarded {
        let mut whole = Vec::new();
        for entry in chain.iter().flat_map(|value| value.split(',')) {
            whole.push(match address(entry.trim()) {
                Some(address) => format!("for={}", node(address)),
                None => "for=unknown".to_owned(),
            });
        }
        if chain.is_empty() {
            for value in elements_said {
                let is_whole = value.matches('"').count() % 2 == 0;
                whole.push(if is_whole {
                    value
                } else {
                    "for=unknown".into()
                });
            }
        }
        let peer = node(case.peer);
        whole.push(format!("for={peer};host=\"{HOST}\";proto=http"));
        set(&mut told, "forwarded", &whole.join(", "));
    }
    if all(&told, "x-request-id").is_empty() {
        set(&mut told, "x-request-id", ID);
    }
    let via = if case.is_http2 { VIA[1] } else { VIA[0] };
    told.push(("via".to_owned(), via.to_owned()));
    if elements(sent, "te").contains(&"trailers".to_owned()) {
        told.push(("te".to_owned(), "trailers".to_owned()));
    }
    if case.has_body {
        told.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    }
    let wants_websocket = !case.is_http2
        && !case.has_body
        && named.contains(&"upgrade".to_owned())
        && elements(sent, "upgrade").contains(&"websocket".to_owned());
    Ok((told, wants_websocket))
}

/// What a client gets of an endpoint's response; none where the response is refused.
fn response_model(sent: &Fields) -> Option<Fields> {
    let lengths = all(sent, "content-length");
    let codings = all(sent, "transfer-encoding");
    let is_number = |length: &String| {
        (1..20).contains(&length.len()) && length.chars().all(|digit| digit.is_ascii_digit())
    };
    let is_plain = lengths.len() + codings.len() <= 1
        && lengths.iter().all(is_number)
        && codings.iter().all(|coding| coding.trim() == "chunked");
    let named = elements(sent, "connection");
    let mut told = sent.clone();
    told.retain(|(name, _)| {
        let is_hop_by_hop = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        !is_hop_by_hop.contains(&&**name) && (!named.contains(name) || is_end_to_end(name))
    });
    is_plain.then_some(told)
}

/// What `changes` make of `fields`, each a kind (0: remove, 1: set, 2: add), a name and a value.
fn changes_model(fields: &mut Fields, changes: &[(u8, String, String)]) {
    let of_kind = |wanted: u8| changes.iter().filter(move |(kind, ..)| *kind == wanted);
    for (_, name, _) in of_kind(0) {
        fields.retain(|(other, _)| other != name);
    }
    for (_, name, value) in of_kind(1) {
        set(fields, name, value);
    }
    for (_, name, value) in of_kind(2) {
        fields.push((name.clone(), value.clone()));
    }
}

/// Fields that `Connection` may not name.
fn is_end_to_end(name: &str) -> bool {
    let whole = [
        "host",
        "authorization",
        "cookie",
        "set-cookie",
        "forwarded",
        "x-real-ip",
        "x-request-id",
        "via",
        "trailer",
    ];
    whole.contains(&name) || name.starts_with("content-") || name.starts_with("x-forwarded-")
}

fn is_believed_of_proxies_only(name: &str) -> bool {
    let whole = [
        "forwarded",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-original-uri",
        "x-original-host",
        "x-host",
        "x-script-name",
        "x-client-ip",
        "true-client-ip",
        "client-ip",
        "x-cluster-client-ip",
        "x-request-id",
        "client-cert",
        "client-cert-chain",
    ];
    whole.contains(&name) || name.starts_with("x-forwarded-")
}

/// Every value of a name.
fn all(fields: &Fields, name: &str) -> Vec<String> {
    let of_name = fields.iter().filter(|(other, _)| other == name);
    of_name.map(|(_, value)| value.clone()).collect()
}

/// The elements of a list, in lower case.
fn elements(fields: &Fields, name: &str) -> Vec<String> {
    let whole = all(fields, name).join(",").to_lowercase();
    whole.split(',').map(|it| it.trim().to_owned()).collect()
}

fn set(fields: &mut Fields, name: &str, value: &str) {
    fields.retain(|(other, _)| other != name);
    fields.push((name.to_owned(), value.to_owned()));
}

/// With or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let socket = || Some(text.parse::<SocketAddr>().ok()?.ip());
    bare.parse().ok().or_else(socket)
}

/// The addresses of a value of `Forwarded`; its quotes hold no comma.
fn addresses(value: &str) -> Vec<Option<IpAddr>> {
    if value.matches('"').count() % 2 == 1 {
        return vec![None];
    }
    let elements = value.split(',').filter(|element| !element.is_empty());
    let of_element = |element: &str| {
        let node = element
            .split(';')
            .find_map(|pair| pair.trim().strip_prefix("for="));
        address(node?.trim_matches('"'))
    };
    elements.map(of_element).collect()
}

fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// By name: fields of different names have no order.
fn by_name(fields: &Fields) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in fields {
        names.entry(name.clone()).or_default().push(value.clone());
    }
    names
}

fn to_map(fields: &Fields) -> HeaderMap {
    let field = |(name, value): &(String, String)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn to_fields(headers: &HeaderMap) -> Fields {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn to_changes(given: &[(u8, String, String)]) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    for (kind, name, value) in given {
        let name: HeaderName = name.parse().unwrap();
        let value = FieldValue::Constant(HeaderValue::from_str(value).unwrap());
        match kind {
            0 => changes.remove.push(name),
            1 => changes.set.push((name, value)),
            _ => changes.add.push((name, value)),
        }
    }
    changes
}

const NAMES: &[&str] = &[
    "keep-alive",
    "proxy-connection",
    "proxy",
    "proxy-authorization",
    "x_forwarded_for",
    "a_b",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-real-ip",
    "x-original-url",
    "x-request-id",
    "true-client-ip",
    "client-cert",
    "x-script-name",
    "authorization",
    "cookie",
    "content-type",
    "trailer",
    "set-cookie",
    "x-a",
    "x-b",
    RESERVED,
];

fn field() -> impl Strategy<Value = (String, String)> {
    let any = prop::sample::select(NAMES).prop_map(str::to_owned);
    let one = |name: &'static str, values: &'static [&'static str]| {
        prop::sample::select(values).prop_map(move |value| (name.to_owned(), value.to_owned()))
    };
    let option = prop_oneof![
        4 => "close|Keep-Alive|upgrade|TE|X-A|x-b|@|x-original-url|true-client-ip|",
        1 => prop::sample::select(NAMES).prop_map(str::to_owned),
    ];
    let connection = prop::collection::vec(option, 0..3).prop_map(|options| options.join(" ,"));
    prop_oneof![
        8 => (any, "[a-z]{1,3}"),
        2 => connection.prop_map(|value| ("connection".to_owned(), value)),
        1 => one("te", &["trailers", "gzip;q=1, Trailers", "gzip", ""]),
        1 => one("upgrade", &["websocket", "h2c,WebSocket", "h2c"]),
        1 => one("via", &["1.0 fred", "1.1 x, 1.1 balancer (2)", "1.1 x, 1.1 balancer (1)", "2.0 balancer (1)"]),
        2 => one("x-forwarded-for", &["6.6.6.6", "6.6.6.6,junk , [::1]:80", "::2", "1.2.3.4:5", ""]),
        2 => one("forwarded", &["for=6.6.6.6", "for=\"[::1]:80\";proto=https,for=_x", "for=\"6.6.6.6", ""]),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let fields = prop::sample::select(vec![
        ForwardedFields::XForwarded,
        ForwardedFields::Forwarded,
        ForwardedFields::Both,
    ]);
    let peer = prop::sample::select(vec!["192.0.2.1", "2001:db8::1"]);
    (any::<[bool; 3]>(), fields, peer).prop_map(|(facts, fields, peer)| Case {
        is_trusted: facts[0],
        is_http2: facts[1],
        has_body: facts[2],
        fields,
        peer: peer.parse().unwrap(),
    })
}

/// A header field of a response.
fn response_field() -> impl Strategy<Value = (String, String)> {
    let framing = prop_oneof![
        Just(("content-length", "5")),
        Just(("content-length", "+5")),
        Just(("transfer-encoding", "chunked")),
        Just(("transfer-encoding", "gzip")),
        Just(("te", "trailers")),
        Just(("upgrade", "h2c")),
    ];
    prop_oneof![
        4 => field(),
        1 => framing.prop_map(|(name, value)| (name.to_owned(), value.to_owned())),
    ]
}

fn change() -> impl Strategy<Value = (u8, String, String)> {
    let name = prop::sample::select(NAMES).prop_map(str::to_owned);
    (0..3_u8, name, "[A-Z]{1,2}")
}

const ID: &str = "0000000000000001";

/// A body of which nothing is known.
struct Unsized;

impl Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

fn snapshot() -> Held {
    let config = config::parse(
        "[listener.http]\naddress = \"127.0.0.1:80\"\n[[route]]\nrespond = { status = 204 }",
        Path::new("balancer.toml"),
    );
    let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
    let compiled = compiler.compile(&config.unwrap(), None).unwrap();
    Publisher::new(compiled.snapshot).reader().load()
}

/// What the code makes of it.
fn told(held: &Held, case: Case, sent: &Fields) -> Result<(Fields, bool), Refused> {
    let drain = Rc::new(Drain::new(0, Rc::clone(held)));
    let local = ([127, 0, 0, 1], 80).into();
    let peer = SocketAddr::new(case.peer, 1);
    let client = Client::new(peer, local, held.listener(0), drain);
    let via = Via {
        http1: HeaderValue::from_static(VIA[0]),
        http2: HeaderValue::from_static(VIA[1]),
    };
    let origin = Origin {
        client: &client,
        trusted: case.is_trusted,
        fields: case.fields,
        request_id: RequestId::new(1),
        via: &via,
        upgrades: &["websocket".into()],
        reserved: &[HeaderName::from_static(RESERVED)],
    };
    let mut head = Request::builder();
    head = match case.is_http2 {
        true => head
            .version(Version::HTTP_2)
            .uri(format!("http://{HOST}/x")),
        false => head.uri("/x").header("host", HOST),
    };
    let request = head.body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    parts.headers.extend(to_map(sent));
    let finished = match case.has_body {
        true => finish(Request::from_parts(parts, Unsized), origin),
        false => finish(
            Request::from_parts(parts, http_body_util::Empty::<Bytes>::new()),
            origin,
        ),
    };
    finished.map_err(|error| match error {
        ProxyError::ConnectionNames => Refused::ConnectionNames,
        ProxyError::Loop => Refused::Loop,
        error => panic!("{error:?}"),
    })
}

fn finish<B: Body>(
    mut request: Request<B>,
    origin: Origin<'_>,
) -> Result<(Fields, bool), ProxyError> {
    let received = to_endpoint(&mut request, None, origin)?;
    Ok((to_fields(request.headers()), received.protocol.is_some()))
}

#[test]
fn what_no_other_request_has_takes_no_place_in_the_table_of_fields() {
    let mut request = Request::builder()
        .uri("/")
        .header("host", "a.test")
        .header("x-request-id", "0123")
        .header("traceparent", "00-1-1-01")
        .header("x-forwarded-for", "127.0.0.1")
        .body(())
        .unwrap();
    to_http2(&mut request, &Scheme::HTTP).unwrap();
    let unique = |name| request.headers()[name].is_sensitive();
    assert!(unique("x-request-id") && unique("traceparent"));
    assert!(!unique("x-forwarded-for"));
}

proptest! {
    #[test]
    fn endpoints_are_told_what_the_model_says(case in case(), sent in prop::collection::vec(field(), 0..10), changes in prop::collection::vec(change(), 0..4)) {
        thread_local!(static HELD: Held = snapshot());
        let with_host: Fields = std::iter::once(("host".to_owned(), HOST.to_owned())).chain(sent.iter().cloned()).collect();
        let expected = model(case, &with_host);
        let found = HELD.with(|held| told(held, case, &sent));
        match (found, expected) {
            (Ok((found, switches)), Ok((mut expected, expected_switch))) => {
                prop_assert_eq!(by_name(&found), by_name(&expected));
                prop_assert_eq!(switches, expected_switch);
                let mut changed = to_map(&found);
                filter::headers::apply(&to_changes(&changes), &mut changed, None);
                changes_model(&mut expected, &changes);
                prop_assert_eq!(by_name(&to_fields(&changed)), by_name(&expected));
            }
            (found, expected) => prop_assert_eq!(found, expected),
        }
    }

    #[test]
    fn clients_are_told_what_the_model_says(sent in prop::collection::vec(response_field(), 0..10)) {
        let mut headers = to_map(&sent);
        let stripped = hop_by_hop::strip_response(&mut headers).ok();
        let found = stripped.map(|()| by_name(&to_fields(&headers)));
        prop_assert_eq!(found, response_model(&sent).map(|fields| by_name(&fields)));
    }
}
