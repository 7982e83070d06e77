//! Viewers of events: what they are told, and what those cost who do not listen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{ask, config, socket};
use crate::support::{Balancer, DEADLINE, Origin};

const VIEWERS: usize = 100;

/// Watches over TCP, from a socket that takes little, with a further line of the head.
fn watch(balancer: &Balancer, field: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&balancer.admin().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: b\r\n{field}\r\n"
    )
    .unwrap();
    stream
}

/// The first event of this kind: its number, and its data.
fn event(stream: impl Read, kind: &str) -> (u64, Value) {
    let wanted = format!("event: {kind}");
    let mut id = 0;
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    while let Some(line) = lines.next() {
        if let Some(number) = line.strip_prefix("id: ") {
            id = number.parse().unwrap();
        }
        if line == wanted {
            let data = lines.next().expect("its data");
            let data = data.strip_prefix("data: ").expect("data");
            return (id, serde_json::from_str(data).unwrap());
        }
    }
    panic!("no {kind}");
}

#[test]
fn a_hundred_viewers_that_never_read_are_dropped_and_cost_no_memory_of_their_own() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    let mut idle: Vec<_> = (0..VIEWERS).map(|_| watch(&balancer, "")).collect();
    for stream in &mut idle {
        stream.read_exact(&mut [0; 15]).unwrap();
    }
    let before = balancer.resident();
    // What is refused is told, too: with a name of 8 KiB, hostile as well.
    let name = format!("%3Cscript%3E%0A%0Aevent:%20begin%0A{}", "x".repeat(8 << 10));
    let path = format!("/api/v1/endpoints/app/{name}/drain");
    // More than the 256 that may wait, and the 4 MiB that Linux keeps for a connection.
    let times = 1000;
    for _ in 0..times {
        assert_eq!(ask(&balancer, "POST", &path, "").0, 404);
    }
    let more = balancer.resident().saturating_sub(before);
    // Of their own they would have 200 MiB.
    assert!(more < 64 << 20, "{more} bytes more");
    let mut rest = Vec::new();
    let mut first = idle.swap_remove(0);
    let begun = Instant::now();
    while !rest.ends_with(b"\r\n0\r\n\r\n") {
        // It is told every few seconds that there is nothing to tell, as long as it is told anything.
        assert!(begun.elapsed() < DEADLINE, "it was not dropped");
        let mut bytes = [0; 65536];
        let count = first.read(&mut bytes).expect("it ends");
        assert_ne!(count, 0, "it ends in order");
        rest.extend_from_slice(&bytes[..count]);
    }
    assert!(rest.len() < times * (8 << 10), "some were not told");
    let text = String::from_utf8_lossy(&rest);
    assert!(!text.contains("\nevent: begin\n{") && !text.contains("<script>\n"));
    // Others can watch.
    let (_, begin) = event(watch(&balancer, ""), "begin");
    assert_eq!(begin["generation"], 1);
}

#[test]
fn who_comes_back_is_told_what_it_has_missed_and_over_tcp_not_who_did_it() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&config(&[&origin], "", ""));
    let drain = "/api/v1/endpoints/app/a/drain";
    assert_eq!(ask(&balancer, "POST", drain, "").0, 200);
    let (id, begin) = event(watch(&balancer, ""), "begin");
    let recent = begin["recent_events"].as_array().unwrap();
    let operator = recent.iter().find(|event| event["kind"] == "operator");
    let operator = operator.expect("it is told");
    assert_eq!(
        (&operator["action"], &operator["by"]),
        (&json!("drain"), &json!("socket"))
    );
    assert_eq!(operator["uid"], Value::Null);
    let resume = drain.replace("drain", "resume");
    assert_eq!(ask(&balancer, "POST", &resume, "").0, 200);
    let again = watch(&balancer, &format!("Last-Event-ID: {id}\r\n"));
    let (_, begin) = event(again, "begin");
    let missed = begin["recent_events"].as_array().unwrap();
    let actions: Vec<_> = missed
        .iter()
        .filter_map(|it| it["action"].as_str())
        .collect();
    assert_eq!(actions, ["resume"]);
    // Who may open the socket is told all of it.
    let mut stream = UnixStream::connect(socket(&balancer)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    let (_, begin) = event(stream, "begin");
    assert!(begin["recent_events"].to_string().contains("\"uid\":"));
}

/// Clock ticks that the process has used, in user and system.
fn ticks(balancer: &Balancer) -> u64 {
    let path = format!("/proc/{}/stat", balancer.pid().as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "a figure: 40 seconds on a machine at rest, with --release --nocapture"]
fn a_hundred_viewers_of_a_thousand_endpoints_cost_a_hundredth_of_a_core() {
    let of_upstream = |upstream: usize| {
        let endpoints =
            (0..100).map(|port| format!("\"127.0.0.1:{}\"", 20_000 + upstream * 100 + port));
        let endpoints: Vec<String> = endpoints.collect();
        format!(
            "[upstream.u{upstream}]\nendpoints = [{}]\n[[route]]\npath = \"/{upstream}\"\nupstream = \"u{upstream}\"\n",
            endpoints.join(", ")
        )
    };
    let upstreams: String = (0..10).map(of_upstream).collect();
    let text = format!("[listener.http]\naddress = \"127.0.0.1:0\"\n{upstreams}");
    let balancer = Balancer::start(&text);
    let long = Duration::from_secs(20);
    // So many ticks a second: a hundredth of a core each, on every Linux there is.
    let share = |begin: u64| (ticks(&balancer) - begin) as f64 / long.as_secs_f64();
    let begin = ticks(&balancer);
    std::thread::sleep(long);
    let alone = share(begin);
    for _ in 0..VIEWERS {
        let mut stream = TcpStream::connect(balancer.admin()).unwrap();
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
        std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    }
    let begin = ticks(&balancer);
    std::thread::sleep(long);
    let watched = share(begin);
    println!(
        "without viewers {alone:.2} %, with {VIEWERS} {watched:.2} % of a core, {} KiB",
        balancer.resident() >> 10
    );
    assert!(watched - alone <= 1.0);
}
