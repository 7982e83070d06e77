//! HTTP/2 to endpoints: requests share few connections, and one of them that ends badly takes no other with it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::{Ending, Frames, H2, finish, get as h2_get};
use crate::support::h2_origin::{H2Origin, RawH2, ready, streamed, text, with_trailers};
use crate::support::http1::Framing;
use crate::support::tls_origin::{TlsFront, TlsFrontOptions};
use crate::support::{Balancer, Connection, DEADLINE, Next, Origin, Reply, eventually, get};

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

/// One worker, one upstream `app` of these addresses that speak HTTP/2, with these further keys; a plain listener and one
/// with TLS.
fn config(addresses: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[listener.https]\naddress = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}] }}\n[upstream.app]\nendpoints = [{}]\nprotocol = \"h2\"\n{keys}\n[[route]]\nupstream = \"app\"\n[process]\nworkers = 1\n",
        endpoints.join(", ")
    )
}

/// A balancer, and how clients reach its TLS listener.
fn start(config: &str) -> (Balancer, Tls) {
    let authority = Authority::new("ca");
    let balancer = Balancer::start_with(config, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
    });
    (balancer, Tls::new(&authority, HOST))
}

fn post(address: SocketAddr, body: &str) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(format!(
        "POST /post HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    connection.reply()
}

fn metric(balancer: &Balancer, name: &str, labels: &[(&str, &str)]) -> f64 {
    balancer.metrics().sum(name, labels)
}

fn failures(balancer: &Balancer, reason: &str) -> f64 {
    metric(
        balancer,
        "balancer_upstream_failures_total",
        &[("reason", reason)],
    )
}

fn retries(balancer: &Balancer) -> f64 {
    metric(balancer, "balancer_retries_total", &[("reason", "refused")])
}

fn connections(balancer: &Balancer, state: &str) -> f64 {
    metric(
        balancer,
        "balancer_upstream_connections",
        &[("state", state)],
    )
}

/// Answers with the length of the body it was sent.
fn measuring() -> H2Origin {
    H2Origin::new(|request| {
        Box::pin(async move {
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
            }
            text(length.to_string())
        })
    })
}

#[test]
fn head_is_one_of_http_2_and_says_what_an_http_1_head_would() {
    let origin = H2Origin::new(|_| ready(text("a")));
    let (balancer, tls) = start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST /x//y?q HTTP/1.1\r\nHost: {HOST}:8080\r\nConnection: x-gone\r\nX-Gone: 1\r\nTE: gzip, trailers\r\nTransfer-Encoding: chunked\r\nCookie: a=1\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    ));
    let reply = connection.reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
    let client = H2::connect(balancer.address("https"), &tls);
    assert_eq!(client.get("/z").unwrap().text(), "a");

    let asked = origin.asked();
    let (first, second) = (&asked[0].head, &asked[1].head);
    assert_eq!(first.version, http::Version::HTTP_2);
    assert_eq!(first.uri, format!("http://{HOST}:8080/x/y?q").as_str());
    assert_eq!(second.uri, format!("http://{HOST}/z").as_str());
    for name in [
        "host",
        "connection",
        "transfer-encoding",
        "x-gone",
        "content-length",
    ] {
        assert!(!first.headers.contains_key(name), "{name}: {first:?}");
    }
    for (name, value) in [
        ("te", "trailers"),
        ("cookie", "a=1"),
        ("x-forwarded-host", &*format!("{HOST}:8080")),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(first.headers[name], value, "{first:?}");
    }
    assert_eq!(second.headers["x-forwarded-proto"], "https");
    assert!(!second.headers.contains_key("te"));
    assert_eq!(asked[1].connection, 0, "both share one connection");
}

#[test]
fn trailers_pass_both_ways() {
    let origin = H2Origin::new(|request| {
        Box::pin(async move {
            let collected = request.into_body().collect().await.unwrap();
            let mut trailers = HeaderMap::new();
            let seen = collected.trailers().and_then(|all| all.get("x-sum"));
            trailers.insert(
                "x-back",
                seen.cloned().unwrap_or(HeaderValue::from_static("none")),
            );
            let mut answer = with_trailers("body", trailers);
            let names = HeaderValue::from_static("x-back");
            answer.headers_mut().insert("trailer", names);
            answer
        })
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    let mut connection = Connection::open(balancer.http());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n"
    ));
    connection.final_head().unwrap();
    let rest = String::from_utf8(connection.rest()).unwrap();
    assert!(rest.ends_with("0\r\nx-back: 42\r\n\r\n"), "{rest:?}");
}

#[test]
fn a_hundred_requests_at_once_share_one_connection() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = {
        let gate = gate.clone();
        H2Origin::new(move |_| {
            let gate = gate.clone();
            Box::pin(async move {
                let _ = gate.acquire().await;
                text("a")
            })
        })
    };
    let (balancer, _) = start(&config(&[origin.address()], ""));
    let address = balancer.http();
    let clients: Vec<_> = (0..100)
        .map(|_| thread::spawn(move || get(address, "/").text()))
        .collect();
    eventually("all have arrived", || origin.asked().len() == 100);
    assert_eq!(origin.connections(), 1);
    assert_eq!(connections(&balancer, "active"), 1.0);
    assert_eq!(metric(&balancer, "balancer_upstream_in_flight", &[]), 100.0);
    gate.add_permits(1000);
    for client in clients {
        assert_eq!(client.join().unwrap(), "a");
    }
    eventually("it is idle", || connections(&balancer, "idle") == 1.0);
    assert_eq!(connections(&balancer, "active"), 0.0);
    assert_eq!(
        metric(&balancer, "balancer_upstream_connection_reuse_total", &[]),
        99.0
    );
}

#[test]
fn no_endpoint_is_sent_more_at_once_than_it_says_it_takes() {
    for streams in [1, 3] {
        let gate = Arc::new(Semaphore::new(0));
        let origin = {
            let gate = gate.clone();
            H2Origin::with_streams(streams, move |_| {
                let gate = gate.clone();
                Box::pin(async move {
                    let _ = gate.acquire().await;
                    text("a")
                })
            })
        };
        let (balancer, _) = start(&config(&[origin.address()], ""));
        let address = balancer.http();
        let clients: Vec<_> = (0..12)
            .map(|_| thread::spawn(move || post(address, "body").text()))
            .collect();
        eventually("all have arrived", || origin.asked().len() == 12);
        assert_eq!(origin.connections(), 12 / streams as usize);
        gate.add_permits(1000);
        for client in clients {
            assert_eq!(client.join().unwrap(), "a");
        }
        assert_eq!(
            (retries(&balancer), failures(&balancer, "stream_refused")),
            (0.0, 0.0)
        );
        // The first with room is used, so that the others can go.
        for _ in 0..3 {
            assert_eq!(get(address, "/").text(), "a");
        }
        eventually("unused ones are closed", || origin.open() <= 1);
    }
}

#[test]
fn what_a_goaway_leaves_out_goes_to_another_connection_whatever_the_method() {
    let both = Arc::new(AtomicUsize::new(0));
    let arrived = both.clone();
    let origin = RawH2::new(move |number, wire| {
        if number > 0 {
            loop {
                let (stream, body) = wire.request()?;
                wire.answer(stream, &body)?;
            }
        }
        let (first, _) = wire.request()?;
        both.fetch_add(1, SeqCst);
        let (_, _) = wire.request()?;
        // Of the two it has taken the first only.
        wire.go_away(first, 0)?;
        thread::sleep(Duration::from_millis(100));
        wire.answer(first, b"finished")?;
        // The balancer closes it when nothing is left on it.
        while wire.read().is_ok() {}
        both.fetch_add(1, SeqCst);
        Ok(())
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    let address = balancer.http();
    let first = thread::spawn(move || post(address, "first").text());
    eventually("the first has arrived", || arrived.load(SeqCst) == 1);
    assert_eq!(post(address, "second").text(), "second");
    assert_eq!(first.join().unwrap(), "finished");
    eventually("the old connection is closed", || arrived.load(SeqCst) == 2);
    assert_eq!(post(address, "third").text(), "third");
    assert_eq!(origin.connections(), 2);
    assert_eq!(retries(&balancer), 1.0);
}

#[test]
fn regression_endpoint_that_refuses_on_every_new_connection_is_not_asked_on_many() {
    let refusing = RawH2::new(|_, wire| {
        wire.request()?;
        wire.go_away(0, 0)?;
        while wire.read().is_ok() {}
        Ok(())
    });
    let well = RawH2::new(|_, wire| {
        loop {
            let (stream, body) = wire.request()?;
            wire.answer(stream, &body)?;
        }
    });
    let addresses = [refusing.address(), well.address()];
    let (balancer, _) = start(&config(&addresses, ""));
    for _ in 0..2 {
        assert_eq!(post(balancer.http(), "body").text(), "body");
    }
    assert!((1..=4).contains(&refusing.connections()));

    let before = refusing.connections();
    balancer.reloaded(&config(&addresses[..1], ""));
    post(balancer.http(), "body").assert_made_by_balancer(502);
    assert_eq!(refusing.connections() - before, 4, "two for each attempt");
}

#[test]
fn endpoint_that_ends_connections_after_a_few_requests_loses_none_of_many_at_once() {
    const EACH: usize = 10;
    const CLIENTS: usize = 15;
    let origin = RawH2::new(|_, wire| {
        let mut last = 0;
        for _ in 0..EACH {
            let (stream, body) = wire.request()?;
            wire.answer(stream, &body)?;
            last = stream.max(last);
        }
        wire.go_away(last, 0)?;
        // Those that began before it end after it.
        loop {
            let (stream, body) = wire.request()?;
            if stream < last {
                wire.answer(stream, &body)?;
            }
        }
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    let address = balancer.http();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || {
                for number in 0..10 {
                    let body = format!("{client} {number}");
                    assert_eq!(post(address, &body).text(), body);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert!(origin.connections() >= 10 * CLIENTS / (EACH + CLIENTS));
    assert!(retries(&balancer) > 0.0);
}

#[test]
fn request_that_was_refused_goes_to_another_endpoint_once_with_its_body() {
    let refusing = || {
        RawH2::new(|_, wire| {
            loop {
                let (stream, _) = wire.request()?;
                wire.reset(stream, REFUSED_STREAM)?;
            }
        })
    };
    let serving = RawH2::new(|_, wire| {
        loop {
            let (stream, body) = wire.request()?;
            wire.answer(stream, &body)?;
        }
    });
    let first = refusing();
    let (balancer, tls) = start(&config(&[first.address(), serving.address()], ""));
    let client = H2::connect(balancer.address("https"), &tls);
    for number in 0..4 {
        let body = format!("{number} {}", "x".repeat(20_000));
        assert_eq!(post(balancer.http(), &body).text(), body);
        assert_eq!(get(balancer.http(), "/").status, 200);
        let request = Request::post(format!("https://{HOST}/"))
            .body(Full::from(body.clone()))
            .unwrap();
        assert_eq!(client.send(request).unwrap().text(), body);
    }
    assert!(retries(&balancer) >= 4.0);
    assert_eq!(
        first.connections(),
        1,
        "the connection is as good as before"
    );

    let second = refusing();
    balancer.reloaded(&config(&[first.address(), second.address()], ""));
    let before = failures(&balancer, "stream_refused");
    let reply = post(balancer.http(), "body");
    reply.assert_made_by_balancer(502);
    assert_eq!(failures(&balancer, "stream_refused"), before + 2.0);
}

#[test]
fn refused_request_whose_body_is_too_long_to_be_kept_is_502() {
    let refusing = RawH2::new(|_, wire| {
        let stream = wire.head()?;
        let mut length = 0;
        // More than is kept, and the window does not end before.
        while length < 65_000 {
            length += wire.read()?.payload.len();
        }
        wire.let_send(0, 100_000)?;
        wire.let_send(stream, 100_000)?;
        while length < 150_000 {
            length += wire.read()?.payload.len();
        }
        wire.reset(stream, REFUSED_STREAM)?;
        while wire.read().is_ok() {}
        Ok(())
    });
    let (balancer, _) = start(&config(&[refusing.address()], ""));
    post(balancer.http(), &"x".repeat(1 << 20)).assert_made_by_balancer(502);
    assert_eq!(failures(&balancer, "stream_refused"), 1.0);
    assert_eq!(retries(&balancer), 0.0);
}

#[test]
fn request_that_may_have_been_processed_is_not_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let origin = RawH2::new(move |_, wire| {
        let (stream, body) = wire.request()?;
        counted.fetch_add(1, SeqCst);
        match body.as_slice() {
            b"reset" => wire.reset(stream, INTERNAL_ERROR)?,
            // It counts the stream among those it may have processed.
            b"goaway" => wire.go_away(stream, INTERNAL_ERROR)?,
            _ => {}
        }
        Ok(())
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    for (number, body) in ["reset", "goaway", "close"].into_iter().enumerate() {
        post(balancer.http(), body).assert_made_by_balancer(502);
        assert_eq!(asked.load(SeqCst), number + 1, "{body}");
    }
    // Twice is the same as once: tried twice.
    get(balancer.http(), "/").assert_made_by_balancer(502);
    assert_eq!(asked.load(SeqCst), 5);
    assert_eq!(failures(&balancer, "closed"), 5.0);
    assert_eq!(retries(&balancer), 0.0);
}

#[test]
fn response_that_is_cut_is_seen_to_be_cut_by_clients_of_both_protocols() {
    // "No error" is none only after the end of the response (RFC 9113 §8.1).
    for by_reset in [Some(INTERNAL_ERROR), Some(NO_ERROR), None] {
        let (cut, orders) = mpsc::channel();
        let orders = Mutex::new(orders);
        let origin = RawH2::new(move |_, wire| {
            loop {
                let (stream, _) = wire.request()?;
                wire.begin_answer(stream, b"half")?;
                // Not before the client has the head: without one there would be no response.
                let _ = orders.lock().unwrap().recv_timeout(DEADLINE);
                let Some(code) = by_reset else {
                    return Ok(());
                };
                wire.reset(stream, code)?;
            }
        });
        let (balancer, tls) = start(&config(&[origin.address()], ""));
        let mut connection = Connection::open(balancer.http());
        connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let head = connection.final_head().unwrap();
        cut.send(()).unwrap();
        let body = connection.body(Framing::of_response(&head, 200, "GET"));
        assert!(!body.complete, "{head:?}");
        let client = H2::connect(balancer.address("https"), &tls);
        let response = client.begin(h2_get("/")).unwrap();
        assert_eq!(response.status(), 200);
        cut.send(()).unwrap();
        let reply = finish(response);
        assert!(reply.body.is_err(), "{reply:?}");
        let mut frames = Frames::open(balancer.address("https"), &tls);
        frames.request(
            1,
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", HOST),
                (":path", "/"),
            ],
        );
        while frames.read().unwrap().kind != Frames::HEADERS {}
        cut.send(()).unwrap();
        assert!(matches!(frames.ending(1), Ending::Reset(_)));
        eventually("each is counted", || {
            failures(&balancer, "response_cut") == 3.0
        });
    }
}

#[test]
fn regression_small_frames_for_clients_that_take_nothing_end_no_other_response() {
    let origin = H2Origin::new(|request| {
        Box::pin(async move {
            let (sender, parts) = unbounded_channel();
            let count = if request.uri().path() == "/events" {
                20_000
            } else {
                1
            };
            for _ in 0..count {
                let _ = sender.send(Bytes::from_static(b"data: 123456789\n"));
            }
            streamed(parts)
        })
    });
    let (balancer, tls) = start(&config(&[origin.address()], ""));
    let mut stalled = Frames::open(balancer.address("https"), &tls);
    for stream in 0..16 {
        stalled.request(
            2 * stream + 1,
            &[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", HOST),
                (":path", "/events"),
            ],
        );
    }
    eventually("all are under way", || {
        metric(&balancer, "balancer_upstream_in_flight", &[]) == 16.0
    });
    for _ in 0..200 {
        assert_eq!(get(balancer.http(), "/").text().len(), 16);
    }
    assert_eq!(failures(&balancer, "garbage"), 0.0);
    assert_eq!(failures(&balancer, "response_cut"), 0.0);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn regression_request_that_is_reset_says_nothing_of_its_connection() {
    let origin = RawH2::new(|_, wire| {
        loop {
            let (stream, body) = wire.request()?;
            match &*body {
                b"panic" => wire.reset(stream, INTERNAL_ERROR)?,
                _ => wire.answer(stream, &body)?,
            }
        }
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    let address = balancer.http();
    for _ in 0..5 {
        assert_eq!(post(address, "well").text(), "well");
        post(address, "panic").assert_made_by_balancer(502);
    }
    assert_eq!(origin.connections(), 1);
    let stale = metric(&balancer, "balancer_upstream_stale_connection_total", &[]);
    assert_eq!((stale, failures(&balancer, "closed")), (0.0, 5.0));
}

#[test]
fn regression_endpoint_that_refuses_everything_is_sent_each_request_a_few_times_only() {
    const EACH: usize = 20;
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let origin = RawH2::new(move |_, wire| {
        // Others join before the first is refused.
        let mut heads = 0;
        while heads < 5 {
            wire.head()?;
            heads += 1;
            counted.fetch_add(1, SeqCst);
        }
        wire.go_away(0, 0)?;
        while wire.read().is_ok() {}
        Ok(())
    });
    let (balancer, _) = start(&config(
        &[origin.address()],
        "timeouts = { response_head = \"500ms\" }",
    ));
    let address = balancer.http();
    let clients: Vec<_> = (0..EACH)
        .map(|_| thread::spawn(move || post(address, "body").status))
        .collect();
    for client in clients {
        assert!(client.join().unwrap() >= 500);
    }
    let seen = seen.load(SeqCst);
    assert!(seen <= 4 * EACH, "{seen} for {EACH}");
}

#[test]
fn client_that_leaves_takes_only_its_own_request_along() {
    let reset = Arc::new(AtomicUsize::new(0));
    let (seen, arrived) = (reset.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = arrived.clone();
    let origin = RawH2::new(move |_, wire| {
        let (first, _) = wire.request()?;
        counted.fetch_add(1, SeqCst);
        let (second, _) = wire.request()?;
        counted.fetch_add(1, SeqCst);
        wire.begin_answer(second, b"half")?;
        seen.store(wire.reset_of(second)? as usize, SeqCst);
        let (third, _) = wire.request()?;
        counted.fetch_add(1, SeqCst);
        seen.store(wire.reset_of(third)? as usize + 100, SeqCst);
        wire.answer(first, b"whole")?;
        while wire.read().is_ok() {}
        Ok(())
    });
    let (balancer, tls) = start(&config(&[origin.address()], ""));
    let address = balancer.http();
    let first = thread::spawn(move || get(address, "/").text());
    eventually("the first has arrived", || arrived.load(SeqCst) == 1);
    // In the middle of a response.
    let mut second = Connection::open(address);
    second.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    second.final_head().unwrap();
    second.abort();
    eventually("its stream is reset", || {
        reset.load(SeqCst) == CANCEL as usize
    });
    // Before a response.
    let client = H2::connect(balancer.address("https"), &tls);
    let third = client.spawn(h2_get("/"));
    eventually("the third has arrived", || arrived.load(SeqCst) == 3);
    third.abandon();
    eventually("its stream is reset", || {
        reset.load(SeqCst) == CANCEL as usize + 100
    });
    assert_eq!(first.join().unwrap(), "whole");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn early_answer_reaches_the_client_and_what_follows_is_served() {
    let origin = RawH2::new(|_, wire| {
        loop {
            let stream = wire.head()?;
            wire.answer(stream, b"early")?;
            wire.reset(stream, NO_ERROR)?;
        }
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    for _ in 0..5 {
        let mut client = Connection::open(balancer.http());
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nbegun"
        ));
        let reply = client.reply();
        assert_eq!((reply.status, reply.text().as_str()), (200, "early"));
        assert_eq!(get(balancer.http(), "/").text(), "early");
    }
    assert_eq!(
        origin.connections(),
        1,
        "what is not sent any more is reset"
    );
    eventually("none is left in use", || {
        connections(&balancer, "active") == 0.0
    });
}

#[test]
fn upload_goes_on_while_its_client_takes_nothing_of_the_response() {
    const LENGTH: usize = 4 << 20;
    let origin = H2Origin::new(|request| {
        Box::pin(async move {
            let (down, body) = unbounded_channel();
            let mut up = request.into_body();
            // More than any buffer on the way takes.
            let _ = down.send(Bytes::from(vec![b'x'; LENGTH]));
            tokio::spawn(async move {
                let mut length = 0;
                while let Some(Ok(frame)) = up.frame().await {
                    length += frame.data_ref().map_or(0, Bytes::len);
                }
                let _ = down.send(Bytes::from(format!(" {length}")));
            });
            streamed(body)
        })
    });
    let (balancer, _) = start(&config(&[origin.address()], ""));
    let mut client = Connection::open(balancer.http());
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    for _ in 0..LENGTH / 65536 {
        client.send(vec![b'x'; 65536]);
    }
    let text = client.reply().text();
    assert!(text.ends_with(&format!("x {LENGTH}")), "{}", text.len());
}

#[test]
fn interim_answers_are_passed_over_and_long_heads_are_taken_to_a_limit() {
    let interim = RawH2::new(|_, wire| {
        let (stream, _) = wire.request()?;
        // :status 100 and 103, literally
        for status in [b"100", b"103"] {
            let block = [&[8, 3][..], status].concat();
            wire.write(Frames::HEADERS, 4, stream, &block)?;
        }
        wire.answer(stream, b"final")?;
        while wire.read().is_ok() {}
        Ok(())
    });
    let (balancer, _) = start(&config(&[interim.address()], ""));
    assert_eq!(get(balancer.http(), "/").text(), "final");

    let long = H2Origin::new(|request| {
        let length = request.uri().path()[1..].parse().unwrap();
        let mut answer = text("long");
        let value = HeaderValue::from_str(&"x".repeat(length)).unwrap();
        answer.headers_mut().insert("x-long", value);
        ready(answer)
    });
    balancer.reloaded(&config(&[long.address()], ""));
    for _ in 0..3 {
        let reply = get(balancer.http(), "/40000");
        assert_eq!((reply.status, reply.text().as_str()), (200, "long"));
        get(balancer.http(), "/100000").assert_made_by_balancer(502);
    }
    assert_eq!(failures(&balancer, "garbage"), 3.0);
    assert_eq!(long.connections(), 1);
}

#[test]
fn large_bodies_pass_whole_at_the_pace_of_who_reads_slowly() {
    const LENGTH: usize = 16 << 20;
    let origin = H2Origin::new(|request| {
        Box::pin(async move {
            if request.uri().path() == "/down" {
                return text(vec![b'x'; LENGTH]);
            }
            let mut body = request.into_body();
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length < 1 << 20 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            text(length.to_string())
        })
    });
    let (balancer, tls) = start(&config(&[origin.address()], ""));
    let mut client = Connection::open(balancer.http());
    client.send(format!(
        "POST /up HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));
    for _ in 0..LENGTH / 65536 {
        client.send(vec![b'x'; 65536]);
    }
    assert_eq!(client.reply().text(), LENGTH.to_string());
    client.send(format!("GET /down HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let head = client.final_head().unwrap();
    // It takes nothing for a while: others on the same connection are served meanwhile, and nothing piles up.
    let before = balancer.resident();
    for _ in 0..20 {
        assert_eq!(post(balancer.http(), "body").text(), "4");
    }
    assert!(
        balancer.resident() < before + (8 << 20),
        "the response was collected"
    );
    let framing = Framing::of_response(&head, 200, "GET");
    assert_eq!(
        client.body_length(framing, |_, _| {}),
        (LENGTH as u64, true)
    );
    let h2 = H2::connect(balancer.address("https"), &tls);
    let reply = h2.get("/down").unwrap();
    assert_eq!(reply.body.unwrap().len(), LENGTH);
    let upload = Request::post(format!("https://{HOST}/up"))
        .body(Full::from(vec![b'x'; LENGTH]))
        .unwrap();
    assert_eq!(h2.send(upload).unwrap().text(), LENGTH.to_string());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn who_does_not_speak_http_2_gets_nothing_of_a_request() {
    let answering = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = answering.local_addr().unwrap();
    thread::spawn(move || {
        for stream in answering.incoming().map_while(Result::ok) {
            use std::io::Write;
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            thread::sleep(Duration::from_millis(100));
        }
    });
    let (balancer, _) = start(&config(&[plain], ""));
    let reply = post(balancer.http(), "body");
    reply.assert_made_by_balancer(502);
    assert_eq!(failures(&balancer, "wrong_protocol"), 2.0, "asked twice");
    // Who says nothing at all has until the connection must be there.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    balancer.reloaded(&config(
        &[silent.local_addr().unwrap()],
        "timeouts = { connect = \"200ms\" }",
    ));
    post(balancer.http(), "body").assert_made_by_balancer(504);
}

#[test]
fn over_tls_http_2_must_be_agreed_to() {
    let (authority, origin) = (
        Authority::new("ca"),
        H2Origin::new(|request| ready(text(request.uri().to_string()))),
    );
    let front = |protocols: &[&str]| {
        let options = TlsFrontOptions {
            protocols,
            ..TlsFrontOptions::default()
        };
        TlsFront::with(origin.address(), &authority.issue(&["127.0.0.1"]), &options)
    };
    let (both, old, silent) = (front(&["http/1.1", "h2"]), front(&["http/1.1"]), front(&[]));
    let tls = "tls = { ca = \"upstream.pem\" }";
    let balancer = Balancer::start_with(&config(&[both.address()], tls), |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        std::fs::write(directory.join("upstream.pem"), authority.pem()).unwrap();
    });
    for _ in 0..3 {
        assert_eq!(
            get(balancer.http(), "/x").text(),
            format!("https://{HOST}/x")
        );
    }
    let shaken = both.shaken();
    assert_eq!(shaken.len(), 1);
    assert_eq!(shaken[0].protocol.as_deref(), Some("h2"));
    for wrong in [&old, &silent] {
        let before = failures(&balancer, "wrong_protocol");
        balancer.reloaded(&config(&[wrong.address()], tls));
        get(balancer.http(), "/").assert_made_by_balancer(502);
        assert!(failures(&balancer, "wrong_protocol") > before);
    }
}

#[test]
fn checks_are_made_in_http_2() {
    let origin = H2Origin::new(|_| ready(text("a")));
    let plain = Origin::with("plain", |exchange| {
        exchange.write_then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Next::Close)
    });
    let health = "health = { path = \"/well?x\", interval = \"200ms\", fast_interval = \"100ms\", timeout = \"200ms\" }";
    let (balancer, _) = start(&config(&[origin.address(), plain.address()], health));
    balancer.await_health("app", &origin.address().to_string(), "up");
    balancer.await_health("app", &plain.address().to_string(), "down");
    let probe = &origin.probes()[0].head;
    assert_eq!(
        probe.uri,
        format!("http://{}/well?x", origin.address()).as_str()
    );
    for _ in 0..4 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    eventually("probes' connections are closed", || origin.open() <= 2);
}

#[test]
fn regression_check_that_fails_within_http_2_says_how() {
    let origin = RawH2::new(|_, wire| {
        let (stream, _) = wire.request()?;
        wire.reset(stream, INTERNAL_ERROR)?;
        // Until the check is over.
        while wire.read().is_ok() {}
        Ok(())
    });
    let (balancer, _) = start(&config(&[origin.address()], "health = { fall = 1 }"));
    let name = origin.address().to_string();
    balancer.await_health("app", &name, "down");
    let reason = balancer.endpoint("app", &name)["reason"].clone();
    let reason = reason.as_str().unwrap();
    assert!(
        reason.starts_with("no response: http2 error: stream error "),
        "{reason}"
    );
}

#[test]
fn end_of_an_idle_connection_costs_no_request() {
    for says_so in [true, false] {
        let origin = RawH2::new(move |_, wire| {
            let (stream, body) = wire.request()?;
            wire.answer(stream, &body)?;
            if says_so {
                wire.go_away(stream, 0)?;
            }
            Ok(())
        });
        let (balancer, _) = start(&config(&[origin.address()], ""));
        for number in 0..20 {
            let body = format!("body {number}");
            assert_eq!(post(balancer.http(), &body).text(), body);
            // Closed by then; whether the balancer has noticed is the question.
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(failures(&balancer, "closed"), 0.0);
    }
}

#[test]
fn connections_are_closed_when_unused_for_long_and_when_too_old() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = {
        let gate = gate.clone();
        H2Origin::new(move |request| {
            let gate = gate.clone();
            Box::pin(async move {
                if request.uri().path() == "/wait" {
                    let _ = gate.acquire().await;
                }
                text("a")
            })
        })
    };
    let unused = config(&[origin.address()], "timeouts = { pool_idle = \"300ms\" }");
    let (balancer, _) = start(&unused);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    eventually("it is closed", || origin.open() == 0);
    let left = || connections(&balancer, "idle") + connections(&balancer, "active");
    assert_eq!(left(), 0.0);

    let aging = config(&[origin.address()], "timeouts = { max_age = \"300ms\" }");
    balancer.reloaded(&aging);
    let address = balancer.http();
    let waiting = thread::spawn(move || get(address, "/wait").text());
    eventually("it has arrived", || origin.asked().len() == 2);
    thread::sleep(Duration::from_millis(400));
    assert_eq!(get(address, "/").text(), "a");
    assert_eq!(origin.connections(), 3, "the old one takes nothing new");
    gate.add_permits(10);
    assert_eq!(waiting.join().unwrap(), "a", "and finishes what it has");
}

#[test]
fn reload_that_changes_the_protocol_or_takes_the_endpoint_out_uses_no_connection_from_before() {
    let origin = measuring();
    let http2 = config(&[origin.address()], "");
    let (balancer, _) = start(&http2);
    assert_eq!(post(balancer.http(), "body").text(), "4");
    balancer.reloaded(&http2);
    assert_eq!(post(balancer.http(), "body").text(), "4");
    assert_eq!(origin.connections(), 1, "nothing has changed");
    balancer.reloaded(&http2.replace("protocol = \"h2\"", ""));
    assert_ne!(get(balancer.http(), "/").status, 200);
    eventually("what is left is closed", || origin.open() == 0);
}

#[test]
fn response_head_that_does_not_come_in_time_is_504_and_harms_no_other() {
    let origin = H2Origin::new(|request| {
        Box::pin(async move {
            if request.uri().path() == "/never" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            text("a")
        })
    });
    let config = config(
        &[origin.address()],
        "timeouts = { response_head = \"300ms\" }",
    );
    let (balancer, _) = start(&config);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    get(balancer.http(), "/never").assert_made_by_balancer(504);
    assert_eq!(get(balancer.http(), "/").text(), "a");
    assert_eq!(origin.connections(), 1);
}
