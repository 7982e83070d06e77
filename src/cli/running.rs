//! Speaks with a running balancer over its unix socket; says in one line why it cannot.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::table::complain;
use crate::admin::{NOTHING_THERE, SERVER};
use crate::config;

/// Which balancer is asked, where not the one that runs with the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct At {
    /// Ask the balancer that has this socket, whatever the file says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl At {
    /// What leads to the same balancer once more, where that is not the usual one.
    pub(super) fn as_options(&self, config: &Path) -> Vec<String> {
        let (option, path) = match &self.socket {
            Some(socket) => ("--socket", &**socket),
            None if config == Path::new(super::USUAL_CONFIG) => return Vec::new(),
            None => ("--config", config),
        };
        vec![option.to_owned(), path.display().to_string()]
    }

    /// Whether the file need not be the one it runs with.
    pub(super) fn is_by_socket(&self) -> bool {
        self.socket.is_some()
    }
}

/// A balancer that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// The file that led to it; `None` where its socket was named.
    config: Option<PathBuf>,
    socket: PathBuf,
}

/// Why it gave no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{}: admin.socket is \"off\", so a balancer that runs with this file takes no commands", .0.display())]
    Off(PathBuf),
    #[error("no balancer runs with {}: there is no {} (if it runs with another file, name that with --config; if this one was edited since, its socket with --socket)", .0.display(), .1.display())]
    NotThere(PathBuf, PathBuf),
    #[error("no balancer runs with {}: the one that made {} has ended", .0.display(), .1.display())]
    Ended(PathBuf, PathBuf),
    #[error("no balancer has the socket {}: there is no such file", .0.display())]
    NoSocket(PathBuf),
    #[error("no balancer has the socket {}: the one that made it has ended", .0.display())]
    Left(PathBuf),
    /// What was asked for was there once.
    #[error("{0}")]
    Gone(String),
    #[error("{}: permission denied; ask as the user that the balancer runs as", .0.display())]
    Denied(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    #[error("{}: {}", .0.display(), .1)]
    Http(PathBuf, hyper::Error),
    #[error(
        "the running balancer ({0}) does not know this; this command is of {SERVER}: restart the one, or use the other's"
    )]
    Version(String),
    /// It has nothing of that name.
    #[error("{0}")]
    Unknown(String),
    /// Its name, and one like it.
    #[error("no upstream is named {0:?}{1}")]
    NoUpstream(String, String),
    /// What the balancer says that may be asked again in a moment.
    #[error("{}", refused(.0))]
    Later(Problem),
    /// What the balancer says, and every problem of its file.
    #[error("{}", refused(.0))]
    Refused(Problem),
}

/// What is read of an `application/problem+json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Problem {
    detail: String,
    #[serde(default)]
    problems: Vec<FileProblem>,
}

#[derive(Debug, Deserialize)]
struct FileProblem {
    file: String,
    line: u32,
    column: u32,
    key: String,
    message: String,
}

fn refused(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    for problem in &problem.problems {
        let FileProblem {
            file,
            line,
            column,
            key,
            message,
        } = problem;
        let key = if key.is_empty() {
            String::new()
        } else {
            format!("{key}: ")
        };
        text.push_str(&format!("\n{file}:{line}:{column}: {key}{message}"));
    }
    text
}

impl Running {
    /// The one that runs with the file at `config`, which need not be valid by now, or has the socket that `at` names. Where
    /// the file was edited since, it may have the usual socket still.
    pub(super) fn with(config: &Path, at: &At) -> Result<Self, AskError> {
        if let Some(socket) = &at.socket {
            return Ok(Self {
                config: None,
                socket: socket.clone(),
            });
        }
        let at = |socket| Self {
            config: Some(config.to_owned()),
            socket,
        };
        let (meant, usual) = (config::socket(config), config::usual_socket(config));
        let off = || AskError::Off(config.to_owned());
        if meant == usual {
            return meant.map(at).ok_or_else(off);
        }
        let try_it = |socket: &Path| std::os::unix::net::UnixStream::connect(socket);
        let is_nobodys = |error: io::Error| {
            let kind = error.kind();
            kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused
        };
        if let Some(meant) = &meant
            && !try_it(meant).is_err_and(is_nobodys)
        {
            return Ok(at(meant.clone()));
        }
        if let Some(usual) = usual.filter(|usual| try_it(usual).is_ok()) {
            eprintln!(
                "note: {} names another admin.socket than the balancer that answers at {}",
                config.display(),
                usual.display()
            );
            return Ok(at(usual));
        }
        meant.map(at).ok_or_else(off)
    }

    /// Where it is asked.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads `path`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.ask(Method::GET, path, Bytes::new())
    }

    /// Has something done.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, AskError> {
        self.ask(Method::POST, path, body)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.asked(method, path, body)),
            Err(error) => Err(AskError::Io(self.socket.clone(), error)),
        }
    }

    /// The same, for those who do something else meanwhile.
    pub(super) async fn asked<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, AskError> {
        let answer = self.answer(method, path, body).await?;
        let Answer {
            status,
            server,
            is_for_now,
            body,
        } = answer;
        if !status.is_success() {
            return Err(match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) if status == StatusCode::GONE => AskError::Gone(problem.detail),
                Ok(problem) if is_for_now => AskError::Later(problem),
                Ok(problem) if problem.detail != NOTHING_THERE => AskError::Refused(problem),
                _ => AskError::Version(server),
            });
        }
        serde_json::from_slice(&body).map_err(|_| AskError::Version(server))
    }

    /// What is at `path`, as it comes; over when that is dropped. Called within a runtime.
    pub(super) async fn follow(&self, path: &str) -> Result<Incoming, AskError> {
        let (mut sender, connection) = self.connected().await?;
        // It ends with the response, or fails, which the response tells as well.
        tokio::spawn(connection);
        let response = sender
            .send_request(request(Method::GET, path, Bytes::new()))
            .await
            .map_err(|error| self.failed(error))?;
        if response.status().is_success() {
            Ok(response.into_body())
        } else {
            let server = response.headers().get(header::SERVER);
            Err(AskError::Version(server_of(server)))
        }
    }

    async fn answer(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, AskError> {
        let (mut sender, connection) = self.connected().await?;
        let request = request(method, path, body);
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>((head, body))
        };
        let (head, body) = tokio::select! {
            biased;
            exchanged = exchange => exchanged.map_err(|error| self.failed(error))?,
            // It ends first only where it fails, which the exchange tells as well.
            Err(error) = connection => return Err(self.failed(error)),
        };
        Ok(Answer {
            status: head.status,
            is_for_now: head.headers.contains_key(header::RETRY_AFTER),
            server: server_of(head.headers.get(header::SERVER)),
            body,
        })
    }

    async fn connected(&self) -> Result<(Sender, Connection), AskError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(error))?;
        let connected = http1::handshake(TokioIo::new(stream)).await;
        connected.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: hyper::Error) -> AskError {
        AskError::Http(self.socket.clone(), error)
    }

    fn unreachable(&self, error: io::Error) -> AskError {
        let (config, socket) = (self.config.clone(), self.socket.clone());
        match (error.kind(), config) {
            (io::ErrorKind::NotFound, Some(config)) => AskError::NotThere(config, socket),
            (io::ErrorKind::NotFound, None) => AskError::NoSocket(socket),
            (io::ErrorKind::ConnectionRefused, Some(config)) => AskError::Ended(config, socket),
            (io::ErrorKind::ConnectionRefused, None) => AskError::Left(socket),
            (io::ErrorKind::PermissionDenied, _) => AskError::Denied(socket),
            _ => AskError::Io(socket, error),
        }
    }
}

type Sender = http1::SendRequest<Full<Bytes>>;
type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "balancer")
        .body(Full::new(body))
        .expect("paths are made here, of encoded names")
}

fn server_of(field: Option<&HeaderValue>) -> String {
    let server = field.and_then(|server| server.to_str().ok());
    server.unwrap_or("of an unknown version").to_owned()
}

struct Answer {
    status: StatusCode,
    server: String,
    /// Whether the same may be asked again in a moment.
    is_for_now: bool,
    body: Bytes,
}

/// Prints why nothing came of it; the exit code.
pub(super) fn finished(outcome: Result<ExitCode, AskError>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        complain(&error.to_string());
        ExitCode::FAILURE
    })
}

/// `UPSTREAM/ENDPOINT`
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    pub(super) upstream: String,
    pub(super) endpoint: String,
}

impl std::str::FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((upstream, endpoint)) if !upstream.is_empty() && !endpoint.is_empty() => {
                Ok(Self {
                    upstream: upstream.to_owned(),
                    endpoint: endpoint.to_owned(),
                })
            }
            _ => Err("expected UPSTREAM/ENDPOINT, such as app/127.0.0.1:9001"),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.upstream, self.endpoint)
    }
}

impl Target {
    /// Where the API has it.
    pub(super) fn path(&self) -> String {
        format!(
            "/api/v1/endpoints/{}/{}",
            encoded(&self.upstream),
            encoded(&self.endpoint)
        )
    }
}

/// As a segment of a path (RFC 3986 §2.3).
pub(super) fn encoded(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_an_upstream_and_an_endpoint() {
        let target: Target = "app/[::1]:9001".parse().unwrap();
        assert_eq!(target.path(), "/api/v1/endpoints/app/%5B%3A%3A1%5D%3A9001");
        assert_eq!(target.to_string(), "app/[::1]:9001");
        for wrong in ["app", "/x", "app/", "", "/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
