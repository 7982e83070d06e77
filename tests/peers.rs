//! The balancer among other people's programs: nginx and gunicorn as app servers, curl as client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::client::HOST;
use crate::support::deadline::eventually_some;
use crate::support::peers::peer;
use crate::support::{Balancer, Connection, eventually};

/// An app for gunicorn: says its name, and how long the request body was.
const APP: &str = r#"
import os
def app(environ, start_response):
    length = 0
    while True:
        piece = environ["wsgi.input"].read(65536)
        if not piece:
            break
        length += len(piece)
    body = ("%s %s %s %d %s" % (os.environ["NAME"], environ["REQUEST_METHOD"], environ["PATH_INFO"], length,
        environ.get("HTTP_X_FORWARDED_PROTO"))).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"#;

/// A program of someone else's, in a process group of its own, killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Server {
    pub(crate) fn gunicorn(program: &Path, name: &str) -> Self {
        Self::gunicorn_with(program, APP, name)
    }

    /// With another app.
    fn gunicorn_with(program: &Path, app: &str, name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("app.py"), app).unwrap();
        let mut child = Command::new(program)
            .args([
                "--bind",
                "127.0.0.1:0",
                "--workers",
                "1",
                "--threads",
                "8",
                "--keep-alive",
                "30",
                "app:app",
            ])
            .env("NAME", name)
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)))
        });
        let address = eventually_some("gunicorn listens", || {
            let line = receiver
                .recv_timeout(crate::support::DEADLINE)
                .expect("gunicorn says where it listens");
            line.split("http://")
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        let server = Self {
            child,
            address,
            directory,
        };
        server.await_open();
        server
    }

    /// One of each name, with this app; `None` where the test is to be skipped.
    pub(crate) fn gunicorns<const N: usize>(app: &str, names: [&str; N]) -> Option<[Self; N]> {
        let program = peer("gunicorn", "gunicorn")?;
        Some(names.map(|name| Self::gunicorn_with(&program, app, name)))
    }

    fn nginx(program: &Path, file: &[u8]) -> Self {
        Self::nginx_that_listens(program, file, "", |_| {})
    }

    /// With these further words after `listen` and its address; `prepare` has put the files they need into its folder.
    pub(crate) fn nginx_that_listens(
        program: &Path,
        file: &[u8],
        how: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("file"), file).unwrap();
        prepare(directory.path());
        let server = |address: SocketAddr, root: &Path| {
            let root = root.display();
            format!(
                "access_log off;\n\
                 server {{ listen {address} {how}; root {root};\n\
                 location = /echo {{ return 200 \"$request_method $request_uri $http_host $http_x_forwarded_for\"; }}\n\
                 location /put/ {{ dav_methods PUT; create_full_put_path on; }}\n\
                 location = /protocol {{ return 200 \"$server_protocol $scheme\"; }}\n\
                 location = /chunked {{ gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any; alias {root}/file; }} }}\n"
            )
        };
        Self::nginx_of(program, directory, server)
    }

    /// Answers everything with 200, and writes `access.log` in its folder as it does by default.
    pub(crate) fn nginx_that_logs(program: &Path) -> Self {
        let server = |address: SocketAddr, root: &Path| {
            let log = root.join("access.log");
            let log = log.display();
            format!(
                "access_log {log} combined;\nserver {{ listen {address}; return 200 \"here\"; }}\n"
            )
        };
        Self::nginx_of(program, TempDir::new().unwrap(), server)
    }

    /// In `directory`, with what stands within `http`.
    fn nginx_of(
        program: &Path,
        directory: TempDir,
        server: impl FnOnce(SocketAddr, &Path) -> String,
    ) -> Self {
        // nginx cannot be given port 0: a port the system has just chosen is asked for instead.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let server = server(address, directory.path());
        let root = directory.path().display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {root}/pid; error_log stderr;\n\
             events {{ worker_connections 512; }}\n\
             http {{ client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
             uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; client_max_body_size 0;\n\
             {server} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Self {
            child,
            address,
            directory,
        };
        server.await_open();
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn await_open(&self) {
        eventually("the app server accepts", || {
            TcpStream::connect(self.address).is_ok()
        });
    }

    /// `kill -9` of the server and all its children.
    fn kill(&self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
        let _ = &self.directory;
    }
}

fn start(endpoints: &[&Server], health: &str, authority: &Authority) -> Balancer {
    let endpoints: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(n, server)| format!("{{ name = \"e{n}\", address = \"{}\" }}", server.address))
        .collect();
    let config = format!(
        r#"
        [listener.http]
        address = "127.0.0.1:0"
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "server.pem", key = "server.key" }}] }}
        [upstream.app]
        endpoints = [{}]
        {health}
        [[route]]
        upstream = "app"
        "#,
        endpoints.join(", ")
    );
    Balancer::start_with(&config, |directory| {
        authority.issue(&[HOST]).write(directory, "server");
        fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    })
}

/// Runs curl in the balancer's directory against its listeners under [`HOST`]; its stdout.
#[track_caller]
fn curl(program: &Path, balancer: &Balancer, arguments: &[&str]) -> String {
    let (http, https) = (
        balancer.address("http").port(),
        balancer.address("https").port(),
    );
    let output = Command::new(program)
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "20",
            "--cacert",
            "ca.pem",
            "--noproxy",
            "*",
        ])
        .args([
            "--resolve",
            &format!("{HOST}:{http}:127.0.0.1"),
            "--resolve",
            &format!("{HOST}:{https}:127.0.0.1"),
        ])
        .args(arguments)
        .current_dir(balancer.directory())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "curl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn urls(balancer: &Balancer) -> (String, String) {
    let (http, https) = (
        balancer.address("http").port(),
        balancer.address("https").port(),
    );
    (
        format!("http://{HOST}:{http}"),
        format!("https://{HOST}:{https}"),
    )
}

/// The programs a test needs; `None` where it is to be skipped.
fn programs<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let found: Vec<PathBuf> = names.iter().filter_map(|name| peer(name, name)).collect();
    found.try_into().ok()
}

#[test]
fn curl_reaches_gunicorn_over_each_protocol() {
    let Some([gunicorn, curl_program]) = programs(["gunicorn", "curl"]) else {
        return;
    };
    let server = Server::gunicorn(&gunicorn, "green");
    let balancer = start(&[&server], "", &Authority::new("test"));
    let (http, https) = urls(&balancer);
    let version = ["--write-out", " %{http_version}"];
    let with = |arguments: &[&str]| curl(&curl_program, &balancer, &[&version, arguments].concat());
    assert_eq!(
        with(&["--http1.1", &format!("{http}/x")]),
        "green GET /x 0 http 1.1"
    );
    assert_eq!(
        with(&["--http1.0", &format!("{http}/x")]).split(' ').next(),
        Some("green")
    );
    assert_eq!(
        with(&["--http1.1", &format!("{https}/x")]),
        "green GET /x 0 https 1.1"
    );
    assert_eq!(
        with(&["--http2", &format!("{https}/x")]),
        "green GET /x 0 https 2"
    );
    assert_eq!(
        with(&[
            "--tlsv1.2",
            "--tls-max",
            "1.2",
            "--http2",
            &format!("{https}/x")
        ]),
        "green GET /x 0 https 2"
    );
    // An offer to switch to cleartext HTTP/2 is not taken up, and not passed on.
    assert_eq!(
        with(&["--http2", &format!("{http}/x")]),
        "green GET /x 0 http 1.1"
    );
}

#[test]
fn uploads_by_curl_arrive_whole_at_gunicorn() {
    let Some([gunicorn, curl_program]) = programs(["gunicorn", "curl"]) else {
        return;
    };
    let server = Server::gunicorn(&gunicorn, "green");
    let balancer = start(&[&server], "", &Authority::new("test"));
    let (http, https) = urls(&balancer);
    fs::write(balancer.directory().join("upload"), vec![b'x'; 8 << 20]).unwrap();
    for (protocol, url) in [
        ("--http1.1", &http),
        ("--http1.1", &https),
        ("--http2", &https),
    ] {
        let url = format!("{url}/up");
        let expected = |method: &str| {
            format!(
                "green {method} /up {} {}",
                8 << 20,
                url.split(':').next().unwrap_or_default()
            )
        };
        assert_eq!(
            curl(
                &curl_program,
                &balancer,
                &[protocol, "--data-binary", "@upload", &url]
            ),
            expected("POST")
        );
        assert_eq!(
            curl(
                &curl_program,
                &balancer,
                &[protocol, "--upload-file", "upload", &url]
            ),
            expected("PUT")
        );
        assert_eq!(
            curl(
                &curl_program,
                &balancer,
                &[
                    protocol,
                    "--header",
                    "Transfer-Encoding: chunked",
                    "--data-binary",
                    "@upload",
                    &url
                ]
            ),
            expected("POST"),
            "{protocol}"
        );
    }
}

#[test]
fn curl_keeps_its_connection_alive() {
    let Some([gunicorn, curl_program]) = programs(["gunicorn", "curl"]) else {
        return;
    };
    let server = Server::gunicorn(&gunicorn, "green");
    let balancer = start(&[&server], "", &Authority::new("test"));
    let (http, https) = urls(&balancer);
    for (protocol, url) in [
        ("--http1.1", http),
        ("--http1.1", https.clone()),
        ("--http2", https),
    ] {
        let list: Vec<String> = (0..5).map(|number| format!("{url}/{number}")).collect();
        let mut arguments = vec![protocol, "--write-out", "\n%{num_connects}\n"];
        arguments.extend(list.iter().map(String::as_str));
        let output = curl(&curl_program, &balancer, &arguments);
        let connects: Vec<&str> = output.lines().skip(1).step_by(2).collect();
        assert_eq!(connects, ["1", "0", "0", "0", "0"], "{protocol}: {output}");
    }
}

#[test]
fn curl_reaches_nginx_over_each_protocol() {
    let Some([nginx, curl_program]) = programs(["nginx", "curl"]) else {
        return;
    };
    let file: Vec<u8> = (0..16 << 20)
        .map(|number: u32| number.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let server = Server::nginx(&nginx, &file);
    let balancer = start(&[&server], "", &Authority::new("test"));
    let (http, https) = urls(&balancer);
    for (protocol, url) in [
        ("--http1.1", &http),
        ("--http1.1", &https),
        ("--http2", &https),
    ] {
        let host = url.split("//").nth(1).expect("a host");
        assert_eq!(
            curl(
                &curl_program,
                &balancer,
                &[protocol, &format!("{url}/echo?a=1")]
            ),
            format!("GET /echo?a=1 {host} 127.0.0.1")
        );
        curl(
            &curl_program,
            &balancer,
            &[protocol, "--output", "download", &format!("{url}/file")],
        );
        assert!(
            fs::read(balancer.directory().join("download")).unwrap() == file,
            "{protocol}: the file changed on its way"
        );
        curl(
            &curl_program,
            &balancer,
            &[
                protocol,
                "--compressed",
                "--output",
                "download",
                &format!("{url}/chunked"),
            ],
        );
        assert!(
            fs::read(balancer.directory().join("download")).unwrap() == file,
            "{protocol}: the compressed file changed on its way"
        );
        let head = curl(
            &curl_program,
            &balancer,
            &[protocol, "--head", &format!("{url}/file")],
        );
        assert!(
            head.to_lowercase()
                .contains(&format!("content-length: {}", file.len())),
            "{head}"
        );
        let range = curl(
            &curl_program,
            &balancer,
            &[
                protocol,
                "--range",
                "0-9",
                "--write-out",
                " %{http_code} %{size_download}",
                "--output",
                "part",
                &format!("{url}/file"),
            ],
        );
        assert_eq!(range, " 206 10");
    }
}

#[test]
fn nginx_is_reached_over_tls_and_http_2() {
    let Some([nginx, curl_program]) = programs(["nginx", "curl"]) else {
        return;
    };
    let authority = Authority::new("test");
    let file: Vec<u8> = (0..16 << 20)
        .map(|number: u32| number.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let tls = "tls = { ca = \"ca.pem\", server_name = \"app.internal\" }";
    let with_certificate = "ssl http2; ssl_certificate server.pem; ssl_certificate_key server.key";
    for (how, keys, expected) in [
        (with_certificate, tls, "HTTP/1.1 https"),
        (
            with_certificate,
            &*format!("protocol = \"h2\"\n{tls}"),
            "HTTP/2.0 https",
        ),
        ("http2", "protocol = \"h2\"", "HTTP/2.0 http"),
    ] {
        let server = Server::nginx_that_listens(&nginx, &file, how, |directory| {
            authority
                .issue(&["app.internal"])
                .write(directory, "server");
        });
        let keys = format!("{keys}\nhealth = {{ path = \"/protocol\" }}");
        let balancer = start(&[&server], &keys, &authority);
        balancer.await_health("app", "e0", "up");
        let (http, https) = urls(&balancer);
        for (protocol, url) in [("--http1.1", &http), ("--http2", &https)] {
            let ask = |arguments: &[&str]| {
                curl(
                    &curl_program,
                    &balancer,
                    &[&[protocol][..], arguments].concat(),
                )
            };
            assert_eq!(ask(&[&format!("{url}/protocol")]), expected);
            let host = url.split("//").nth(1).expect("a host");
            assert_eq!(
                ask(&[&format!("{url}/echo?a=1")]),
                format!("GET /echo?a=1 {host} 127.0.0.1")
            );
            for path in ["file", "chunked"] {
                let url = format!("{url}/{path}");
                ask(&["--compressed", "--output", "download", &url]);
                assert!(
                    fs::read(balancer.directory().join("download")).unwrap() == file,
                    "{how} {protocol}: {path} changed on its way"
                );
            }
            let head = ask(&["--head", &format!("{url}/file")]);
            let length = format!("content-length: {}", file.len());
            assert!(head.to_lowercase().contains(&length), "{head}");
            ask(&["--upload-file", "download", &format!("{url}/put/uploaded")]);
            let uploaded = server.directory.path().join("put/uploaded");
            assert!(
                fs::read(&uploaded).unwrap() == file,
                "{how} {protocol}: the upload changed on its way"
            );
            fs::remove_file(uploaded).unwrap();
        }
    }
}

/// One request of the load: when it was begun, and whether it was answered with 200.
struct Sample {
    begun: Instant,
    failure: Option<String>,
}

#[test]
fn killing_one_of_two_app_servers_fails_at_most_what_it_had_in_flight() {
    const CLIENTS: u64 = 10;
    let Some([gunicorn]) = programs(["gunicorn"]) else {
        return;
    };
    let (blue, green) = (
        Server::gunicorn(&gunicorn, "blue"),
        Server::gunicorn(&gunicorn, "green"),
    );
    let health = "health = { interval = \"500ms\", fast_interval = \"200ms\", timeout = \"500ms\", fall = 2 }";
    let balancer = start(&[&blue, &green], health, &Authority::new("test"));
    balancer.await_health("app", "e0", "up");
    balancer.await_health("app", "e1", "up");
    let address = balancer.address("http");
    let (samples, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (killed, down) = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (samples, stop) = (&samples, &stop);
            scope.spawn(move || {
                // Ten clients, each every 20 ms: 500 requests a second. The pace is the load's, not a wait.
                let start = Instant::now() + Duration::from_millis(2 * number);
                let mut connection = Connection::open(address);
                for round in 0_u32.. {
                    thread::sleep(
                        (start + Duration::from_millis(20) * round)
                            .saturating_duration_since(Instant::now()),
                    );
                    if stop.load(SeqCst) {
                        return;
                    }
                    let begun = Instant::now();
                    connection.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
                    let failure = match connection.try_reply("GET") {
                        Ok(reply) if reply.status == 200 && reply.body.complete => None,
                        Ok(reply) => Some(format!("{reply:?}")),
                        Err(error) => Some(error.to_string()),
                    };
                    if failure.is_some() {
                        connection = Connection::open(address);
                    }
                    samples.lock().unwrap().push(Sample { begun, failure });
                }
            });
        }
        let count = || samples.lock().unwrap().len();
        eventually("the load runs", || count() > 300);
        blue.kill();
        eventually("the killed server is gone", || {
            TcpStream::connect(blue.address).is_err()
        });
        let killed = Instant::now();
        balancer.await_health("app", "e0", "down");
        let down = Instant::now();
        let before = count();
        eventually("the load goes on", || count() > before + 1000);
        stop.store(true, SeqCst);
        (killed, down)
    });
    let samples = samples.into_inner().unwrap();
    let failures: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.failure.is_some())
        .collect();
    let told: Vec<&String> = failures
        .iter()
        .filter_map(|sample| sample.failure.as_ref())
        .collect();
    assert!(
        failures.len() as u64 <= CLIENTS,
        "more failures than requests were in flight: {told:?}"
    );
    assert!(
        failures.iter().all(|sample| sample.begun <= killed),
        "a request begun after the kill failed: {told:?}"
    );
    assert!(
        samples.iter().filter(|sample| sample.begun > down).count() >= 500,
        "the load went on"
    );
}
