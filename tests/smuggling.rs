//! Malformed and ambiguous requests, judged by what an origin receives: never two requests for one, never a field that was not
//! sent, and never the request that hides behind another (semantics §8.1; RFC 9112 §11.2, RFC 9113 §8.2).

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frames};
use crate::support::h2_origin::{H2Origin, ready, text};
use crate::support::{Balancer, Connection, Origin, get, simple};

/// What hides behind each malformed request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: hidden.test\r\n\r\n";

/// One way to be wrong.
struct Case {
    request: Vec<u8>,
    status: u16,
}

fn case(request: impl Into<Vec<u8>>, status: u16) -> Case {
    Case {
        request: request.into(),
        status,
    }
}

/// A `POST` with these field lines and this body.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /sent HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n{body}").into_bytes()
}

/// A `GET` with these field lines.
fn with(fields: &[u8]) -> Vec<u8> {
    let mut request = format!("GET /sent HTTP/1.1\r\nHost: {HOST}\r\n").into_bytes();
    request.extend(fields);
    request.extend(b"\r\n\r\n");
    request
}

/// A listener with TLS.
const TLS: &str = "tls = { certificates = [{ chain = \"leaf.pem\", key = \"leaf.key\" }] }";

/// Who receives what is passed on.
enum Receiver {
    Http1(Origin),
    Http2(H2Origin),
}

impl Receiver {
    fn both() -> [Self; 2] {
        [
            Self::Http1(Origin::named("a")),
            Self::Http2(H2Origin::new(|_| ready(text("a")))),
        ]
    }

    /// How many requests it has received.
    fn received(&self) -> usize {
        match self {
            Self::Http1(origin) => origin.request_count(),
            Self::Http2(origin) => origin.asked().len(),
        }
    }

    /// A balancer before it, whose listener has these keys; and its clients' TLS.
    fn start(&self, listener: &str) -> (Balancer, Tls) {
        let (address, protocol) = match self {
            Self::Http1(origin) => (origin.address(), "http/1.1"),
            Self::Http2(origin) => (origin.address(), "h2"),
        };
        let authority = Authority::new("test");
        let leaf = authority.issue(&[HOST]);
        let balancer = Balancer::start_with(
            &format!(
                "[listener.http]\naddress = \"127.0.0.1:0\"\n{listener}\n[upstream.app]\nendpoints = [\"{address}\"]\n\
                 protocol = \"{protocol}\"\n[[route]]\nupstream = \"app\"\n"
            ),
            |folder| leaf.write(folder, "leaf"),
        );
        (balancer, Tls::new(&authority, HOST))
    }
}

fn start() -> (Origin, Balancer) {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    (origin, balancer)
}

fn start_secure() -> (Origin, Balancer, Tls) {
    let receiver = Receiver::Http1(Origin::named("a"));
    let (balancer, tls) = receiver.start(TLS);
    let Receiver::Http1(origin) = receiver else {
        unreachable!("made so")
    };
    (origin, balancer, tls)
}

/// Each is answered with its status by the balancer and a close; nothing of it, nor of what hides behind it, is received.
#[track_caller]
fn all_refused(cases: Vec<Case>) {
    for receiver in Receiver::both() {
        let (balancer, _) = receiver.start("");
        let wrong: Vec<String> = cases
            .iter()
            .filter_map(|Case { request, status }| {
                let got = refusal(&balancer, request);
                let received = receiver.received();
                (got != Ok(*status) || received > 0).then(|| {
                    let shown = String::from_utf8_lossy(request);
                    format!("{shown:?}: {got:?} instead of {status}, {received} received")
                })
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(get(balancer.http(), "/after").status, 200);
    }
}

/// The status with which the balancer refuses `request` and closes.
fn refusal(balancer: &Balancer, request: &[u8]) -> Result<u16, String> {
    let mut connection = Connection::open(balancer.http());
    connection.send([request, HIDDEN.as_bytes()].concat());
    let reply = connection
        .try_reply("GET")
        .map_err(|error| error.to_string())?;
    if reply.field("proxy-status").is_none() {
        return Err(format!("{} of another's", reply.status));
    }
    if !connection.is_closed_by_peer() {
        return Err(format!("{}, but stays open", reply.status));
    }
    Ok(reply.status)
}

/// Each arrives as exactly one request; what follows it is the next.
#[track_caller]
fn all_received_once(cases: Vec<(Vec<u8>, &str)>) {
    let (origin, balancer) = start();
    for (request, body) in cases {
        let shown = String::from_utf8_lossy(&request).into_owned();
        let before = origin.request_count();
        let mut connection = Connection::open(balancer.http());
        let mut bytes = request;
        bytes.extend(b"GET /next HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        connection.send(&bytes);
        for _ in 0..2 {
            assert_eq!(connection.reply().status, 200, "{shown:?}");
        }
        let received = &origin.requests()[before..];
        assert_eq!(received.len(), 2, "{shown:?}");
        let sent = received[0].body.as_ref().map(|body| body.bytes.clone());
        assert_eq!(
            sent.unwrap_or_default(),
            body.as_bytes(),
            "{shown:?}: {:?}",
            received[0]
        );
        assert_eq!(received[1].target(), "/next", "{shown:?}");
        for request in received {
            assert!(
                !(request.head.has("content-length") && request.head.has("transfer-encoding")),
                "{shown:?}"
            );
        }
    }
}

#[test]
fn lengths_that_two_readers_read_differently_are_400() {
    let values = [
        "+5",
        "-1",
        "5 5",
        "5,5",
        "5, 5",
        "5, 6",
        "0x5",
        "5a",
        "",
        "5;",
        "1_0",
        "5.0",
        "\"5\"",
        "５",
        "99999999999999999999",
        "18446744073709551616",
        "5\u{b}",
        "\u{c}5",
    ];
    let mut cases: Vec<_> = values
        .iter()
        .map(|value| case(post(&format!("Content-Length: {value}"), "hello"), 400))
        .collect();
    cases.extend(
        [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nX: 1\r\ncontent-length: 0",
            "Content-Length : 5",
            "Content-Length\t: 5",
            "Content-Length:\r\n 5",
            " Content-Length: 5",
            "Content-Length: 5\r\n\t6",
        ]
        .map(|fields| case(post(fields, "hello"), 400)),
    );
    all_refused(cases);
}

#[test]
fn codings_other_than_chunked_once_are_400() {
    let values = [
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ", chunked",
        "chunked, identity",
        "cow",
        "",
        "chun ked",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunkeᶁ",
        "gzip",
        "x chunked",
    ];
    let mut cases: Vec<_> = values
        .iter()
        .map(|value| {
            case(
                post(
                    &format!("Transfer-Encoding: {value}"),
                    "5\r\nhello\r\n0\r\n\r\n",
                ),
                400,
            )
        })
        .collect();
    cases.extend(
        [
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: chunked\r\n , gzip",
            " Transfer-Encoding: chunked",
            "X: 1\r\n Transfer-Encoding: chunked",
        ]
        .map(|fields| case(post(fields, "5\r\nhello\r\n0\r\n\r\n"), 400)),
    );
    all_refused(cases);
}

#[test]
fn two_kinds_of_length_are_400() {
    all_refused(vec![
        case(
            post(
                "Content-Length: 4\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            400,
        ),
        case(
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4",
                "0\r\n\r\n",
            ),
            400,
        ),
        case(
            post(
                "Content-Length: 0\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            400,
        ),
        case(
            post(
                "Transfer-Encoding: CHUNKED\r\ncOnTeNt-LeNgTh: 5",
                "0\r\n\r\n",
            ),
            400,
        ),
        case(
            post("Content-Length: 4\r\nTransfer-Encoding: identity", "abcd"),
            400,
        ),
        case(
            format!(
                "POST /sent HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        case(
            format!(
                "GET /sent HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
    ]);
}

#[test]
fn malformed_chunks_are_400_and_nothing_hides_behind_them() {
    let (origin, balancer) = start();
    for body in [
        "5g\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    ] {
        let mut connection = Connection::open(balancer.http());
        let mut bytes = post("Transfer-Encoding: chunked", body);
        bytes.extend(HIDDEN.as_bytes());
        connection.send(&bytes);
        // What came before may be on its way to the origin already: then its request is cut, not ended.
        if let Ok(reply) = connection.try_reply("POST") {
            assert_eq!(reply.status, 400, "{body:?}");
        }
        assert!(connection.is_closed_by_peer(), "{body:?} is still open");
        for request in origin.requests() {
            assert_eq!(request.target(), "/sent", "{body:?}");
            assert!(
                !request.body.as_ref().is_some_and(|body| body.complete),
                "{body:?} was taken for whole: {request:?}"
            );
        }
    }
    assert_eq!(get(balancer.http(), "/after").status, 200);
}

#[test]
fn lines_that_end_otherwise_than_with_crlf_are_400() {
    let request = |bytes: &[u8]| case(bytes.to_vec(), 400);
    all_refused(vec![
        request(b"GET /sent HTTP/1.1\nHost: app.test\r\n\r\n"),
        request(b"GET /sent HTTP/1.1\r\nHost: app.test\n\r\n"),
        request(b"GET /sent HTTP/1.1\r\nHost: app.test\r\n\n"),
        request(b"GET /sent HTTP/1.1\r\nHost: app.test\r\nX: 1\nY: 2\r\n\r\n"),
        request(b"GET /sent HTTP/1.1\rHost: app.test\r\n\r\n"),
        request(b"GET /sent HTTP/1.1\r\nHost: app.test\rX: 1\r\n\r\n"),
        request(b"GET /sent HTTP/1.1\r\nHost: app.test\r\nX: a\rb\r\n\r\n"),
        request(b"GET /sent HTTP/1.1\r\nHost: app.test\r\nX: a\r\r\n\r\n"),
        request(b"GET /sent HTTP/1.1\r\r\nHost: app.test\r\n\r\n"),
        request(b"GET /sent\rX HTTP/1.1\r\nHost: app.test\r\n\r\n"),
    ]);
}

#[test]
fn field_lines_that_are_none_are_400() {
    let mut cases: Vec<Case> = [
        &b"X"[..],
        b"X y: 1",
        b"X : 1",
        b"X\t: 1",
        b": 1",
        b" : 1",
        b"X(: 1",
        b"X{: 1",
        b"X\": 1",
        b"X/: 1",
        b"X@: 1",
        b"X\xc3\xa4: 1",
        b"X\x00: 1",
        b"X: a\x00b",
        b"X: a\x01b",
        b"X: a\x0bb",
        b"X: a\x7fb",
        b"X: a\x08",
        b"X: a\r\n b",
        b"X: a\r\n\tb",
        b"X:\r\n b",
        b"\x0bX: 1",
    ]
    .map(|fields| case(with(fields), 400))
    .into();
    // A fold before any field.
    cases.push(case(
        &b"GET /sent HTTP/1.1\r\n Host: app.test\r\n\r\n"[..],
        400,
    ));
    all_refused(cases);
}

#[test]
fn request_lines_that_are_none_are_refused() {
    let lines: &[(&[u8], u16)] = &[
        (b"GET /sent http/1.1", 400),
        (b"GET /sent HTTP/1.10", 400),
        (b"GET /sent HTTP/1.2", 505),
        (b"GET /sent HTTP/2.0", 505),
        (b"GET /sent HTTP/0.9", 505),
        (b"GET /sent HTTP/1", 400),
        (b"GET /sent HTTP/11", 400),
        (b"GET /sent HTTP /1.1", 400),
        (b"GET /sent ICY/1.1", 400),
        (b"GET /sent", 400),
        (b"GET  /sent HTTP/1.1", 400),
        (b"GET /sent  HTTP/1.1", 400),
        (b"GET\t/sent HTTP/1.1", 400),
        (b"GET /sent\tHTTP/1.1", 400),
        (b" GET /sent HTTP/1.1", 400),
        (b"GET /sent HTTP/1.1 ", 400),
        (b"GET /sent HTTP/1.1\t", 400),
        (b"GET /sent /hidden HTTP/1.1", 400),
        (b"GET /sent\x00 HTTP/1.1", 400),
        (b"GET /sent\x7f HTTP/1.1", 400),
        (b"GET /s\xc3\xa4nt HTTP/1.1", 400),
        (b"GET /sent#fragment HTTP/1.1", 400),
        (b"GET sent HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET ?x HTTP/1.1", 400),
        (b"GET app.test:80 HTTP/1.1", 400),
        (b"GET http:// HTTP/1.1", 400),
        (b"GET http:///sent HTTP/1.1", 400),
        (b"GET http://user@app.test/sent HTTP/1.1", 400),
        (b"GET /a/../../sent HTTP/1.1", 400),
        (b"GET /%zz HTTP/1.1", 400),
        (b"GET /%00 HTTP/1.1", 400),
        (b"GET /a\\b HTTP/1.1", 400),
        (b"G(T /sent HTTP/1.1", 400),
        (b"G:T /sent HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00 /sent HTTP/1.1", 400),
        (b"/sent HTTP/1.1", 400),
        (b"CONNECT app.test:443 HTTP/1.1", 405),
        (b"CONNECT /sent HTTP/1.1", 405),
    ];
    all_refused(
        lines
            .iter()
            .map(|(line, status)| {
                let mut request = line.to_vec();
                request.extend(b"\r\nHost: app.test\r\n\r\n");
                case(request, *status)
            })
            .collect(),
    );
}

#[test]
fn hosts_that_are_none_or_two_are_400() {
    let hosts = [
        "",
        "Host: a.test\r\nHost: b.test",
        "Host: a.test\r\nHost: a.test",
        "Host: a.test, b.test",
        "Host: a b",
        "Host: a.test/x",
        "Host: user@a.test",
        "Host: [::1",
        "Host: ::1]",
        "Host: a.test:99999",
        "Host: a.test:x",
        "Host: a.test:80:80",
        "Host: a.test:-1",
        "Host: a\u{0}b",
        "Host : a.test",
        "Host: http://a.test",
        "Host: a?b",
        "Host: a#b",
        "Host: a\\b",
        "Host: %61",
        "Host:",
    ];
    all_refused(
        hosts
            .iter()
            .map(|host| {
                let line_end = if host.is_empty() { "" } else { "\r\n" };
                case(format!("GET /sent HTTP/1.1\r\n{host}{line_end}\r\n"), 400)
            })
            .collect(),
    );
}

#[test]
fn connection_may_not_take_fields_from_a_request() {
    all_refused(
        [
            "Host",
            "Content-Length",
            "content-type",
            "Authorization",
            "Cookie",
            "X-Forwarded-For",
            "x-forwarded-proto",
            "Forwarded",
            "X-Real-IP",
            "close, host",
            "X-Request-Id",
            "Via",
            "Trailer",
        ]
        .map(|name| case(with(format!("Connection: {name}").as_bytes()), 400))
        .into(),
    );
}

#[test]
fn unusual_but_plain_requests_arrive_once() {
    let chunked = |value: &str| {
        post(
            &format!("Transfer-Encoding:{value}"),
            "5\r\nhello\r\n0\r\n\r\n",
        )
    };
    all_received_once(vec![
        (chunked(" chunked"), "hello"),
        (chunked("chunked"), "hello"),
        (chunked("\t chunked \t"), "hello"),
        (chunked(" CHUNKED"), "hello"),
        (post("Content-Length: 5", "hello"), "hello"),
        (post("Content-Length:\t5 ", "hello"), "hello"),
        (post("Content-Length: 005", "hello"), "hello"),
        (post("Content-Length: 0", ""), ""),
        (
            post(
                "Transfer-Encoding: chunked",
                "5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n",
            ),
            "hello",
        ),
        (
            post(
                "Transfer-Encoding: chunked",
                "3\r\nhel\r\n2\r\nlo\r\n00\r\n\r\n",
            ),
            "hello",
        ),
        (
            post(
                "Transfer-Encoding: chunked",
                "00000005\r\nhello\r\n0\r\n\r\n",
            ),
            "hello",
        ),
        (
            post("Transfer-Encoding: chunked", "5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
            "0\r\n\r\n",
        ),
        // Names with an underscore are dropped: some servers read them as the ones with a hyphen.
        (
            post("Content_Length: 50\r\nContent-Length: 5", "hello"),
            "hello",
        ),
        (
            post("Transfer_Encoding: chunked\r\nContent-Length: 5", "hello"),
            "hello",
        ),
        (with(b"X: \xc3\xa4\xff"), ""),
        (with(b"X:"), ""),
        (
            b"\r\n\r\nGET /sent HTTP/1.1\r\nHost: app.test\r\n\r\n".to_vec(),
            "",
        ),
        (b"get /sent HTTP/1.1\r\nHost: app.test\r\n\r\n".to_vec(), ""),
        // The target's authority counts (RFC 9112 §3.2.2), and only its path is routed.
        (
            b"GET http://app.test/sent HTTP/1.1\r\nHost: other.test\r\n\r\n".to_vec(),
            "",
        ),
        (with(b"Connection: x-gone, close-not\r\nX-Gone: 1"), ""),
    ]);
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const PATH: (&str, &str) = (":path", "/sent");
const AUTHORITY: (&str, &str) = (":authority", HOST);

#[test]
fn http_2_requests_that_are_none_reach_nobody() {
    let added = |field| vec![METHOD, SCHEME, PATH, AUTHORITY, field];
    let cases: Vec<Vec<(&str, &str)>> = vec![
        // Pseudo-header fields (RFC 9113 §8.3).
        vec![SCHEME, PATH, AUTHORITY],
        vec![METHOD, PATH, AUTHORITY],
        vec![METHOD, SCHEME, AUTHORITY],
        vec![METHOD, SCHEME, PATH],
        vec![METHOD, METHOD, SCHEME, PATH, AUTHORITY],
        vec![METHOD, SCHEME, SCHEME, PATH, AUTHORITY],
        vec![METHOD, SCHEME, PATH, PATH, AUTHORITY],
        vec![METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY],
        vec![METHOD, SCHEME, ("x", "1"), PATH, AUTHORITY],
        added((":unknown", "1")),
        added((":status", "200")),
        vec![METHOD, SCHEME, (":path", ""), AUTHORITY],
        vec![METHOD, SCHEME, (":path", "sent"), AUTHORITY],
        vec![METHOD, SCHEME, (":path", "*"), AUTHORITY],
        vec![
            METHOD,
            SCHEME,
            (":path", "/sent HTTP/1.1\r\nX: 1"),
            AUTHORITY,
        ],
        vec![METHOD, SCHEME, (":path", "/sent /hidden"), AUTHORITY],
        vec![METHOD, SCHEME, (":path", "/sent\0"), AUTHORITY],
        vec![METHOD, SCHEME, (":path", "/\u{e4}"), AUTHORITY],
        vec![METHOD, SCHEME, (":path", "/a/../../sent"), AUTHORITY],
        vec![(":method", "GET /hidden HTTP/1.1"), SCHEME, PATH, AUTHORITY],
        vec![(":method", "G\r\nT"), SCHEME, PATH, AUTHORITY],
        vec![(":method", ""), SCHEME, PATH, AUTHORITY],
        vec![METHOD, (":scheme", "ht tp"), PATH, AUTHORITY],
        vec![METHOD, SCHEME, PATH, (":authority", "a b")],
        vec![METHOD, SCHEME, PATH, (":authority", "user@app.test")],
        vec![METHOD, SCHEME, PATH, (":authority", "a.test\r\nx: 1")],
        vec![METHOD, SCHEME, PATH, (":authority", "a.test/x")],
        vec![METHOD, SCHEME, PATH, (":authority", "a.test, b.test")],
        vec![METHOD, SCHEME, PATH, (":authority", "")],
        // Host says the same or nothing (RFC 9113 §8.3.1).
        added(("host", "other.test")),
        vec![METHOD, SCHEME, PATH, ("host", "a.test"), ("host", "b.test")],
        // Fields of HTTP/1's connections (RFC 9113 §8.2.2).
        added(("connection", "close")),
        added(("connection", "x")),
        added(("keep-alive", "1")),
        added(("proxy-connection", "keep-alive")),
        added(("transfer-encoding", "chunked")),
        added(("transfer-encoding", "identity")),
        added(("upgrade", "h2c")),
        added(("te", "gzip")),
        added(("te", "trailers, deflate")),
        // Names and values that HTTP/1 would read as something else (RFC 9113 §8.2.1).
        added(("X-Upper", "1")),
        added(("x y", "1")),
        added(("x:y", "1")),
        added(("x\r\ny", "1")),
        added(("x\0", "1")),
        added(("", "1")),
        added(("x", "1\r\ny: 2")),
        added(("x", "1\ny: 2")),
        added(("x", "1\ry")),
        added(("x", "a\0b")),
        added(("transfer-encoding\r\n", "chunked")),
        added(("content-length: 5\r\nx", "1")),
        // A length that is none or not the body's (RFC 9113 §8.1.1).
        added(("content-length", "5")),
        added(("content-length", "+0")),
        added(("content-length", "0, 0")),
        added(("content-length", "x")),
        added(("content-length", "")),
        vec![
            METHOD,
            SCHEME,
            PATH,
            AUTHORITY,
            ("content-length", "0"),
            ("content-length", "0"),
        ],
        vec![
            METHOD,
            SCHEME,
            PATH,
            AUTHORITY,
            ("content-length", "0"),
            ("content-length", "1"),
        ],
        // CONNECT (RFC 9113 §8.5).
        vec![(":method", "CONNECT"), AUTHORITY],
        vec![(":method", "CONNECT"), SCHEME, PATH, AUTHORITY],
    ];
    for receiver in Receiver::both() {
        let (balancer, tls) = receiver.start(TLS);
        for fields in &cases {
            let mut frames = Frames::open(balancer.http(), &tls);
            frames.request(1, fields);
            match frames.ending(1) {
                Ending::Reply(status, _) => {
                    assert!((400..500).contains(&status), "{fields:?} got {status}");
                }
                Ending::Reset(_) | Ending::Gone => {}
            }
            assert_eq!(receiver.received(), 0, "{fields:?}");
        }
        let mut frames = Frames::open(balancer.http(), &tls);
        frames.request(1, &[METHOD, SCHEME, PATH, AUTHORITY]);
        assert!(matches!(frames.ending(1), Ending::Reply(200, _)));
    }
}

#[test]
fn http_2_bodies_of_another_length_than_they_say_are_never_whole() {
    let (origin, balancer, tls) = start_secure();
    for (length, body) in [
        ("4", "hello"),
        ("6", "hello"),
        ("5000", "hello"),
        // Last: the others look at all requests there were.
        ("0", "hello"),
    ] {
        let mut frames = Frames::open(balancer.http(), &tls);
        let fields = [
            (":method", "POST"),
            SCHEME,
            PATH,
            AUTHORITY,
            ("content-length", length),
        ];
        frames.request_with_body(1, &fields, body.as_bytes());
        let ending = frames.ending(1);
        if length == "0" {
            // Whole before a byte of what follows has come: it may have been passed on, but without that.
            for request in origin.requests() {
                let body = request.body.unwrap_or_default();
                assert!(!body.complete || body.bytes.is_empty(), "{body:?}");
            }
            continue;
        }
        assert!(
            !matches!(ending, Ending::Reply(200..=299, _)),
            "{length}: {ending:?}"
        );
        for request in origin.requests() {
            assert!(
                !request.body.as_ref().is_some_and(|body| body.complete),
                "{length}: {request:?}"
            );
        }
    }
}

#[test]
fn http_2_fields_arrive_as_one_http_1_request() {
    let (origin, balancer, tls) = start_secure();
    let mut frames = Frames::open(balancer.http(), &tls);
    frames.request(
        1,
        &[
            METHOD,
            SCHEME,
            PATH,
            AUTHORITY,
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("x", "ä"),
            ("host", HOST),
        ],
    );
    assert!(matches!(frames.ending(1), Ending::Reply(200, _)));
    let head = origin.last_request().head;
    // RFC 9113 §8.2.3
    assert_eq!(head.all("cookie"), ["a=1; b=2"]);
    assert_eq!(head.all("host"), [HOST]);
    assert_eq!(head.all("te"), ["trailers"]);
    assert!(!head.has("transfer-encoding") && !head.has("content-length"));
}
