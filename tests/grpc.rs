//! gRPC: calls of every kind pass with their trailers, and errors of the balancer's own are told in gRPC's way.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Frames, H2};
use crate::support::h2_origin::{H2Origin, ready, text, with_trailers};
use crate::support::origin::Refusing;
use crate::support::{Balancer, eventually};

/// A call that was answered whole: `0`, OK.
fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

fn origin() -> H2Origin {
    H2Origin::new(|request| match request.uri().path() {
        "/echo.Echo/Unary" => ready(with_trailers("answer", ok())),
        "/echo.Echo/Denied" => {
            let mut answer = text("");
            answer
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static("7"));
            answer
                .headers_mut()
                .insert("grpc-message", HeaderValue::from_static("no"));
            ready(answer)
        }
        _ => {
            let body = request.into_body();
            // A client that leaves ends its own call only.
            let body = body.map_err(|error| panic!("{error}"));
            ready(http::Response::new(body.boxed()))
        }
    })
}

fn start(address: SocketAddr) -> (Balancer, Tls) {
    let authority = Authority::new("ca");
    let balancer = Balancer::start_with(
        &format!(
            "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}] }}\n\
             [upstream.app]\nendpoints = [\"{address}\"]\nprotocol = \"h2\"\n[[route]]\npath = \"/echo.Echo\"\nupstream = \"app\"\n"
        ),
        |directory| authority.issue(&[HOST]).write(directory, "server"),
    );
    (balancer, Tls::new(&authority, HOST))
}

fn connect(balancer: &Balancer, tls: &Tls) -> H2 {
    H2::connect(balancer.address("https"), tls)
}

fn call(method: &str) -> Request<Full<Bytes>> {
    Request::post(format!("https://{HOST}/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("grpc-timeout", "5S")
        .body(Full::from("question"))
        .unwrap()
}

#[test]
fn unary_call_passes_with_its_trailers() {
    let origin = origin();
    let (balancer, tls) = start(origin.address());
    let reply = connect(&balancer, &tls)
        .send(call("echo.Echo/Unary"))
        .unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "answer"));
    assert_eq!(reply.trailers, ok());
    let asked = &origin.asked()[0].head;
    assert_eq!(asked.headers["content-type"], "application/grpc+proto");
    assert_eq!(asked.headers["te"], "trailers");
    assert_eq!(asked.headers["grpc-timeout"], "5S");
}

#[test]
fn answer_without_a_body_keeps_its_status() {
    let origin = origin();
    let (balancer, tls) = start(origin.address());
    let reply = connect(&balancer, &tls)
        .send(call("echo.Echo/Denied"))
        .unwrap();
    assert_eq!(reply.headers["grpc-status"], "7");
    assert_eq!(reply.headers["grpc-message"], "no");
}

#[test]
fn messages_pass_both_ways_while_the_call_goes_on() {
    let origin = origin();
    let (balancer, tls) = start(origin.address());
    let mut frames = Frames::open(balancer.address("https"), &tls);
    frames.begin_request(
        1,
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/echo.Echo/Talk"),
            (":authority", HOST),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ],
    );
    for word in ["one", "two", "three"] {
        frames.write(Frames::DATA, 0, 1, word.as_bytes()).unwrap();
        let heard = loop {
            let frame = frames.read().unwrap();
            if frame.kind == Frames::DATA {
                break frame.payload;
            }
        };
        assert_eq!(heard, word.as_bytes());
    }
    frames
        .write(Frames::DATA, Frames::END_STREAM, 1, b"bye")
        .unwrap();
    let mut rest = Vec::new();
    loop {
        let frame = frames.read().unwrap();
        if frame.kind == Frames::DATA {
            rest.extend(frame.payload);
            if frame.flags & Frames::END_STREAM != 0 {
                break;
            }
        }
    }
    assert_eq!(rest, b"bye");
}

#[test]
fn errors_of_the_balancers_own_are_told_in_grpcs_way() {
    let nobody = Refusing::new();
    let (balancer, tls) = start(nobody.address());
    let client = connect(&balancer, &tls);
    let reply = client.send(call("echo.Echo/Unary")).unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "application/grpc");
    assert_eq!(reply.headers["grpc-status"], "14", "UNAVAILABLE");
    assert_eq!(reply.headers["grpc-message"], "connect_refused");
    assert!(reply.headers.contains_key("proxy-status"));
    assert_eq!(reply.text(), "");
    let reply = client.send(call("other.Service/Unary")).unwrap();
    assert_eq!(reply.headers["grpc-status"], "12", "UNIMPLEMENTED");
    // Counted as what they are.
    eventually("they are counted", || {
        let metrics = balancer.metrics();
        let count = |code| metrics.sum("balancer_requests_total", &[("code", code)]);
        (count("502"), count("404"), count("200")) == (1.0, 1.0, 0.0)
    });
    // What is no call gets an ordinary error.
    assert_eq!(client.get("/echo.Echo/Unary").unwrap().status, 502);
}
