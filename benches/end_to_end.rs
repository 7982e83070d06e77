//! What a request costs on its way through the built binary: one at a time and 64 at once, plain and over TLS.
//!
//! Client, balancer and origin share the machine, so this compares versions of the balancer with each other;
//! `benches/compare` compares it with other proxies.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_balancer");
const REQUEST: &[u8] = b"GET /items/42 HTTP/1.1\r\nhost: localhost\r\n\r\n";
const BODY: usize = 1024;
const CONNECTIONS: usize = 64;
const DEADLINE: Duration = Duration::from_secs(10);

fn requests(c: &mut Criterion) {
    let balancer = Balancer::start(origin());
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    let mut plain = balancer.connect();
    group.bench_function("plain", |b| b.iter(|| ask(&mut plain)));
    let mut tls = balancer.connect_tls();
    group.bench_function("tls", |b| b.iter(|| ask(&mut tls)));

    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    let mut plain: Vec<_> = (0..CONNECTIONS).map(|_| balancer.connect()).collect();
    group.bench_function("plain, 64 at once", |b| b.iter(|| ask_all(&mut plain)));
    let mut tls: Vec<_> = (0..CONNECTIONS).map(|_| balancer.connect_tls()).collect();
    group.bench_function("tls, 64 at once", |b| b.iter(|| ask_all(&mut tls)));
    group.finish();
}

fn ask(connection: &mut (impl Read + Write)) {
    connection.write_all(REQUEST).unwrap();
    read_reply(connection);
}

/// Sends on every connection before it reads from any.
fn ask_all(connections: &mut [impl Read + Write]) {
    for connection in &mut *connections {
        connection.write_all(REQUEST).unwrap();
    }
    connections.iter_mut().for_each(read_reply);
}

fn read_reply(connection: &mut impl Read) {
    let mut reply = [0; 4096];
    let mut length = 0;
    loop {
        let read = connection.read(&mut reply[length..]).unwrap();
        assert!(read > 0, "closed in the middle of a reply");
        length += read;
        if let Some(head) = reply[..length]
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            && length == head + 4 + BODY
        {
            assert!(reply.starts_with(b"HTTP/1.1 200 "), "not a 200");
            return;
        }
    }
}

/// Answers everything with 1 KiB, each connection in its own thread, until the process ends.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    );
    let reply: Arc<[u8]> = reply.into_bytes().into();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = Arc::clone(&reply);
            thread::spawn(move || serve(stream, &reply));
        }
    });
    address
}

/// Requests have no body and arrive one by one: a connection of the balancer's carries one at a time.
fn serve(mut stream: TcpStream, reply: &[u8]) {
    stream.set_nodelay(true).unwrap();
    let mut head = [0; 4096];
    let mut length = 0;
    while let Ok(read @ 1..) = stream.read(&mut head[length..]) {
        length += read;
        if head[..length].ends_with(b"\r\n\r\n") {
            length = 0;
            if stream.write_all(reply).is_err() {
                return;
            }
        }
    }
}

/// A running balancer with one worker. Ended when dropped.
struct Balancer {
    child: Child,
    directory: TempDir,
    http: SocketAddr,
    https: SocketAddr,
}

impl Balancer {
    fn start(origin: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let certificates = Command::new(BINARY)
            .arg("certs")
            .arg("--dir")
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(certificates.status.success(), "{certificates:?}");
        let file = directory.path().join("balancer.toml");
        fs::write(&file, configuration(origin)).unwrap();
        let mut child = Command::new(BINARY)
            .arg("--config")
            .arg(&file)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut started = Self {
            child,
            directory,
            http: NOWHERE,
            https: NOWHERE,
        };
        loop {
            let line = log.next().expect("the balancer gets ready").unwrap();
            let event: Value = serde_json::from_str(&line).expect("a line of JSON");
            let address = || event["address"].as_str().unwrap().parse().unwrap();
            match (event["message"].as_str(), event["listener"].as_str()) {
                (Some("listener open"), Some("http")) => started.http = address(),
                (Some("listener open"), Some("https")) => started.https = address(),
                (Some("ready"), _) => break,
                _ => {}
            }
        }
        // Someone has to take what else it says.
        thread::spawn(move || log.for_each(drop));
        started
    }

    fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    fn connect_tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.directory.path().join("ca.pem")).unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(
            ClientConnection::new(Arc::new(config), name).unwrap(),
            connect(self.https),
        )
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn configuration(origin: SocketAddr) -> String {
    format!(
        r#"
        [process]
        workers = 1
        [log]
        format = "json"
        [admin]
        address = "127.0.0.1:0"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "localhost.pem", key = "localhost.key" }}] }}
        [upstream.app]
        endpoints = ["{origin}"]
        [[route]]
        upstream = "app"
        "#
    )
}

/// Until the balancer has said where it listens.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = requests
}
criterion_main!(benches);
