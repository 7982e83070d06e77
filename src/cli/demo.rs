//! `balancer demo`: embedded origins, a generated certificate and a ready configuration, in one process.
//!
//! The newcomer's first command. The balancer in it is the real one, serving a real file; only the origins are toys.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::get;
use http_body_util::BodyExt;

use super::certs::{self, CertsError, quoted};
use crate::units::Name;

/// Try it: the balancer before embedded origins, with a generated certificate.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Port for http [default: 8080, or a free one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub http: Option<u16>,
    /// Port for https [default: 8443, or a free one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub https: Option<u16>,
    /// Port for metrics and status [default: 9900, or a free one if that is taken]
    #[arg(long, value_name = "PORT")]
    pub admin: Option<u16>,
}

/// What is called once listeners are open: with each listener's name and address, and the admin address.
pub type OnReady = Box<dyn FnOnce(&[(Name, SocketAddr)], SocketAddr) + Send>;

/// Starts the origins, then `serve`s the demo's configuration file until that returns. Leaves no file behind.
pub fn run(args: &Args, serve: impl FnOnce(&Path, OnReady) -> ExitCode) -> ExitCode {
    let stage = match Stage::set(args) {
        Ok(stage) => stage,
        Err(error) => {
            let _ = writeln!(io::stderr(), "balancer: demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (ca, config) = (stage.folder.0.join("ca.pem"), stage.config());
    let on_ready: OnReady = Box::new(move |listeners, admin| {
        let _ = io::stdout().write_all(invitation(&ca, &config, listeners, admin).as_bytes());
    });
    serve(&stage.config(), on_ready)
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("folder for the certificate and the configuration: {0}")]
    Folder(io::Error),
    #[error("{0}")]
    Certs(#[from] CertsError),
    #[error("origin {name}: {source}")]
    Origin {
        name: &'static str,
        source: io::Error,
    },
}

/// Everything the balancer needs around it.
struct Stage {
    folder: Folder,
}

impl Stage {
    fn set(args: &Args) -> Result<Self, DemoError> {
        let folder = Folder::make().map_err(DemoError::Folder)?;
        certs::generate(&folder.0, &certs::DEFAULT_NAMES.map(str::to_owned), false)?;
        let mut origins = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 3];
        for (address, name) in origins.iter_mut().zip(ORIGINS) {
            *address = start_origin(name).map_err(|source| DemoError::Origin { name, source })?;
        }
        let [https, http, admin] = [(args.https, 8443), (args.http, 8080), (args.admin, 9900)]
            .map(|(wanted, usual)| wanted.unwrap_or_else(|| free_or_any(usual)));
        let stage = Self { folder };
        fs::write(stage.config(), configuration(origins, https, http, admin))
            .map_err(DemoError::Folder)?;
        Ok(stage)
    }

    fn config(&self) -> PathBuf {
        self.folder.0.join("balancer.toml")
    }
}

/// A temporary folder only this user may enter. Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let mut attempts = 0;
        loop {
            // A name that nobody had before: who looks whether this one is gone shall not find another demo's.
            let path = parent.join(format!("balancer-demo-{:016x}", fastrand::u64(..)));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempts < 100 => {
                    attempts += 1
                }
                result => return result.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `port` if nobody listens there, else 0: the system then chooses.
fn free_or_any(port: u16) -> u16 {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => port,
        Err(_) => 0,
    }
}

fn configuration(
    [app_1, app_2, authority]: [SocketAddr; 3],
    https: u16,
    http: u16,
    admin: u16,
) -> String {
    format!(
        r#"# The configuration of `balancer demo`. Edit it and send the process SIGHUP: it reloads.

[listener.https]
address = "127.0.0.1:{https}"
tls = {{ certificates = [{{ chain = "localhost.pem", key = "localhost.key" }}] }}

[listener.http]
address = "127.0.0.1:{http}"

# Two clones of an app server take turns.
[upstream.app]
policy = "round-robin"
endpoints = [
    {{ name = "app-1", address = "{app_1}" }},
    {{ name = "app-2", address = "{app_2}" }},
]
health = {{ path = "/healthz" }}

# The one server that may do administration.
[upstream.authority]
endpoints = [{{ name = "authority", address = "{authority}" }}]
health = {{ path = "/healthz" }}

# However it is spelled: /admin goes here, and nothing that could be read as /admin goes elsewhere.
[[route]]
path = "/admin"
upstream = "authority"
exclusive = true

[[route]]
path = "/"
upstream = "app"

[admin]
address = "127.0.0.1:{admin}"
"#
    )
}

/// Three lines for `sh`, each beginning with `curl`, between a header and how to stop.
fn invitation(
    ca: &Path,
    config: &Path,
    listeners: &[(Name, SocketAddr)],
    admin: SocketAddr,
) -> String {
    let port = |name: &str| {
        let listener = listeners.iter().find(|(listener, _)| &**listener == name);
        listener.map_or(0, |(_, address)| address.port())
    };
    let (https, http) = (port("https"), port("http"));
    let (ca, config) = (quoted(ca), quoted(config));
    let process = std::process::id();
    format!(
        "balancer demo: app-1, app-2 and an authority behind https://localhost:{https} and http://localhost:{http}\n\
         \n\
         Try in another terminal. The clones take turns; /admin, however spelled, goes to the authority; and a look inside:\n\
         \n\
         curl --cacert {ca} 'https://localhost:{https}/' 'https://localhost:{https}/'\n\
         curl --cacert {ca} --path-as-is 'https://localhost:{https}/admin' 'https://localhost:{https}/x/..//%61dmin'\n\
         curl 'http://{admin}/api/v1/status'\n\
         \n\
         The dashboard: http://{admin}/\n\
         Edit {config} and `kill -HUP {process}` to reload. Ctrl-C stops.\n"
    )
}

/// Starts a toy app server on a thread of its own, for as long as the process lives. Gives its address.
fn start_origin(name: &'static str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let router = Router::new()
        .route("/healthz", get("ok\n"))
        .fallback(answer)
        .with_state(name);
    thread::Builder::new()
        .name(format!("demo {name}"))
        .spawn(move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => axum::serve(listener, router).await,
                    Err(error) => Err(error),
                }
            })
        })?;
    Ok(address)
}

/// Says who answers, and what arrived.
async fn answer(State(name): State<&'static str>, request: Request) -> String {
    let (head, body) = request.into_parts();
    let mut text = format!("{name}\n{} {}\n", head.method, head.uri);
    for (field, value) in &head.headers {
        text.push_str(&format!(
            "{field}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    match length(body).await {
        0 => text,
        bytes => text + &format!("body: {bytes} bytes\n"),
    }
}

/// Reads a body to its end, keeping none of it.
async fn length(mut body: Body) -> usize {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    bytes
}

const ORIGINS: [&str; 3] = ["app-1", "app-2", "authority"];

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    const ARGS: Args = Args {
        http: Some(0),
        https: Some(0),
        admin: Some(0),
    };

    fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_configuration_is_valid_and_says_what_the_demo_promises() {
        let stage = Stage::set(&ARGS).unwrap();
        let config = crate::config::load(&stage.config()).unwrap();
        assert_eq!(config.warnings, []);
        let names: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| &*listener.name)
            .collect();
        assert_eq!(names, ["https", "http"]);
        assert_eq!(config.upstreams.len(), 2);
        assert!(config.routes.iter().any(|route| route.exclusive));
    }

    #[test]
    fn nothing_is_left_behind_and_the_exit_code_is_the_daemons() {
        let mut folder = PathBuf::new();
        let code = run(&ARGS, |path, on_ready| {
            folder = path.parent().unwrap().to_owned();
            assert!(folder.join("ca.pem").exists() && path.exists());
            drop(on_ready);
            ExitCode::from(7)
        });
        assert_eq!(code, ExitCode::from(7));
        assert!(!folder.exists());
    }

    #[test]
    fn the_invitation_holds_exactly_three_curl_lines_with_the_real_ports() {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listeners = [("https".into(), at(1443)), ("http".into(), at(1080))];
        let text = invitation(
            Path::new("/tmp/a b/ca.pem"),
            Path::new("/tmp/a b/balancer.toml"),
            &listeners,
            at(1990),
        );
        let lines: Vec<_> = text.lines().filter(|line| line.contains("curl")).collect();
        assert_eq!(
            lines,
            [
                "curl --cacert '/tmp/a b/ca.pem' 'https://localhost:1443/' 'https://localhost:1443/'",
                "curl --cacert '/tmp/a b/ca.pem' --path-as-is 'https://localhost:1443/admin' 'https://localhost:1443/x/..//%61dmin'",
                "curl 'http://127.0.0.1:1990/api/v1/status'",
            ]
        );
    }

    #[test]
    fn a_taken_port_is_replaced_by_any() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(free_or_any(taken.local_addr().unwrap().port()), 0);
    }

    #[test]
    fn origins_drain_bodies_keep_connections_and_answer_head_without_a_body() {
        let address = start_origin("app-1").unwrap();
        let answer = exchange(
            address,
            "POST /a?b=c HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello\
             POST /chunked HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             HEAD /head HTTP/1.1\r\nhost: x\r\n\r\n\
             GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        );
        assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 4, "{answer}");
        assert!(
            answer.contains("app-1\nPOST /a?b=c\nhost: x\ncontent-length: 5\nbody: 5 bytes\n"),
            "{answer}"
        );
        assert!(answer.contains("body: 3 bytes\n"), "{answer}");
        assert!(!answer.contains("HEAD /head"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }
}
