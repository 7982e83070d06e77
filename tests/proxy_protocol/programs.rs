//! With those who speak it elsewhere: HAProxy as sender, nginx and HAProxy as receivers.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::h2::H2;
use crate::support::peers::peer;
use crate::support::{Balancer, Connection, Origin, eventually, simple};

/// A program of someone else's that listens on `address`, killed when dropped.
struct Program {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Program {
    fn haproxy(program: &Path, address: SocketAddr, config: &str) -> Self {
        let defaults =
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n";
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, format!("{defaults}{config}")).unwrap();
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(file);
        Self::start(command, address, directory)
    }

    fn nginx(program: &Path, address: SocketAddr, server: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path().display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log stderr;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
             uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
             server {{ {server} }} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(file).arg("-p").arg(directory.path());
        Self::start(command, address, directory)
    }

    fn start(mut command: Command, address: SocketAddr, directory: TempDir) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self {
            child,
            address,
            _directory: directory,
        };
        eventually("the program accepts", || {
            TcpStream::connect(program.address).is_ok()
        });
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Neither can be given port 0: a port the system has just chosen is asked for instead.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn headers_of_haproxy_are_taken() {
    let Some(haproxy) = peer("haproxy", "haproxy") else {
        return;
    };
    let (origin, authority) = (Origin::named("a"), Authority::new("test"));
    let required = "proxy_protocol = \"required\"\nproxy_protocol_from = [\"127.0.0.1\"]";
    let listener = format!("[listener.http]\n{required}");
    let config = simple(&[&origin]).replace("[listener.http]", &listener);
    let tls = "tls = { certificates = [{ chain = \"server.pem\", key = \"server.key\" }] }";
    let config =
        format!("[listener.https]\naddress = \"127.0.0.1:0\"\n{required}\n{tls}\n{config}");
    let balancer = Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
    });
    for options in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,authority,unique-id",
        "send-proxy-v2 check inter 50ms",
    ] {
        let (plain, secure) = (free(), free());
        let passed_on = |name: &str, bind: SocketAddr, to: SocketAddr| {
            format!(
                "listen {name}\n mode tcp\n bind {bind}\n unique-id-format %pid-%rt\n server balancer {to} {options}\n"
            )
        };
        let config = passed_on("plain", plain, balancer.http())
            + &passed_on("secure", secure, balancer.address("https"));
        let _haproxy = Program::haproxy(&haproxy, plain, &config);
        eventually("HAProxy accepts", || TcpStream::connect(secure).is_ok());

        let seen_by = |port: u16, client: SocketAddr| {
            let head = origin.last_request().head;
            assert_eq!(
                head.field("x-forwarded-for"),
                Some("127.0.0.1"),
                "{options}"
            );
            let expected = port.to_string();
            assert_eq!(
                head.field("x-forwarded-port"),
                Some(&*expected),
                "{options} {client}"
            );
        };
        let mut connection = Connection::open(plain);
        assert_eq!(connection.get("/").text(), "a", "{options}");
        seen_by(plain.port(), connection.socket().local_addr().unwrap());
        let tls = Tls::new(&authority, HOST);
        let mut connection = Connection::secure(secure, &tls).unwrap();
        assert_eq!(connection.get("/").text(), "a", "{options}");
        seen_by(secure.port(), connection.socket().local_addr().unwrap());
        assert_eq!(
            H2::connect(secure, &tls).get("/").unwrap().text(),
            "a",
            "{options}"
        );
    }
    let rejected = "balancer_proxy_protocol_rejected_total";
    assert_eq!(balancer.metrics().sum(rejected, &[]), 0.0);
}

/// What a receiver answers with: addresses and ports as it read them in the header.
fn assert_told(program: &Program, version: &str) {
    let config = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\nproxy_protocol = \"{version}\"\n\
         health = {{ interval = \"200ms\", timeout = \"200ms\" }}\n[[route]]\nupstream = \"app\"",
        program.address
    );
    let balancer = Balancer::start(&config);
    balancer.await_health("app", &program.address.to_string(), "up");
    let mut connection = Connection::open(balancer.http());
    let (client, here) = (connection.socket().local_addr().unwrap(), balancer.http());
    let expected = format!(
        "{} {} {} {}",
        client.ip(),
        client.port(),
        here.ip(),
        here.port()
    );
    for _ in 0..3 {
        assert_eq!(connection.get("/").text(), expected, "{version}");
    }
}

#[test]
fn nginx_takes_our_headers() {
    let Some(nginx) = peer("nginx", "nginx") else {
        return;
    };
    let address = free();
    let server = format!(
        "listen {address} proxy_protocol; location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port \
         $proxy_protocol_server_addr $proxy_protocol_server_port\"; }}"
    );
    let nginx = Program::nginx(&nginx, address, &server);
    assert_told(&nginx, "v1");
    assert_told(&nginx, "v2");
}

#[test]
fn haproxy_takes_our_headers() {
    let Some(haproxy) = peer("haproxy", "haproxy") else {
        return;
    };
    let address = free();
    let config = format!(
        "frontend f\n bind {address} accept-proxy\n http-request return status 200 content-type text/plain \
         lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"\n"
    );
    let haproxy = Program::haproxy(&haproxy, address, &config);
    assert_told(&haproxy, "v1");
    assert_told(&haproxy, "v2");
}
