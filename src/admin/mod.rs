//! What the operator sees, and may do: metrics, liveness, readiness, status, events; commands. On listeners of its own that serve
//! no traffic: an address, where everything is only read, and a unix socket, over which things are changed as well.

mod actions;
pub mod before;
pub mod command;
pub mod configuration;
pub mod events;
pub mod explain;
pub mod facts;
pub mod history;
pub mod leaving;
mod names;
pub mod openapi;
mod patient;
pub mod problem;
pub mod recent;
pub mod reloads;
mod room;
mod serve;
mod shapes;
pub mod socket;
pub mod status;
pub mod takeover;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use tokio::sync::{mpsc, watch};

use self::command::{Asked, Operator};
use self::configuration::Running;
use self::events::{Events, Over};
use self::history::History;
use self::leaving::Leaving;
use self::names::Names;
use self::patient::Known;
use self::problem::ApiError;
use self::recent::Recent;
use self::reloads::LastReload;
use self::takeover::Neighbours;
use crate::metrics::{Metrics, encode};
use crate::snapshot::Publisher;

/// What the admin listener can tell of.
#[derive(Debug)]
pub struct Admin {
    /// The current snapshot.
    pub publisher: Publisher,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// When the process began.
    pub started: SystemTime,
    /// Real addresses of the listeners, by slot.
    pub addresses: Mutex<Vec<(u32, SocketAddr)>>,
    /// Why the process is not ready; `None` when it is.
    pub unready: Mutex<Option<&'static str>>,
    /// Where commands go: to the daemon.
    pub commands: mpsc::UnboundedSender<Asked>,
    /// Who watches.
    pub events: Events,
    /// What was in the last quarter of an hour.
    pub recent: Recent,
    /// The files that were accepted.
    pub history: Mutex<History>,
    /// What the last reload came to; none: there was none.
    pub last_reload: Mutex<Option<LastReload>>,
    /// Endpoints that reloads have removed.
    pub leaving: Leaving,
    /// `admin.hosts`
    pub hosts: Vec<Box<str>>,
    /// Who takes over, and from whom this process has.
    pub neighbours: Mutex<Neighbours>,
    /// Whether somebody else answers from now on.
    pub left: watch::Sender<bool>,
}

impl Admin {
    /// Says whether the process is ready, and if not, why.
    pub fn set_unready(&self, why: Option<&'static str>) {
        *self.unready.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Says what the last reload came to.
    pub fn set_last_reload(&self, last: LastReload) {
        *self
            .last_reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// Says which sockets are open.
    pub fn set_addresses(&self, addresses: Vec<(u32, SocketAddr)>) {
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

/// Serves on `listener`, to read only, until the process ends.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let router = router()
        .route("/api/v1/config", get(configuration))
        .route("/api/v1/events", get(events))
        .route("/api/v1/reload", post(only_over_the_socket))
        .route("/api/v1/rollback", post(only_over_the_socket))
        .route("/api/v1/upgrade", post(only_over_the_socket))
        .route("/api/v1/plan", get(only_over_the_socket))
        .route(
            "/api/v1/endpoints/{upstream}/{endpoint}/{action}",
            post(only_over_the_socket),
        );
    let left = admin.left();
    let router = router.layer(from_fn_with_state(Arc::clone(&admin), serve::check_host));
    let router = finished(router, admin);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    serve::serve(listener, |_| router.clone(), left).await;
    Ok(())
}

/// Serves on the unix socket, everything, until the process ends.
pub async fn serve_socket(listener: UnixListener, admin: Arc<Admin>) -> io::Result<()> {
    let router = router()
        .route("/api/v1/config", get(configuration_with_text))
        .route("/api/v1/events", get(events_with_all))
        .route("/api/v1/reload", post(actions::reload))
        .route("/api/v1/rollback", post(actions::rollback))
        .route("/api/v1/upgrade", post(takeover::upgrade))
        .route("/api/v1/plan", get(actions::plan))
        .route(
            "/api/v1/endpoints/{upstream}/{endpoint}/{action}",
            post(actions::set_mode),
        );
    let left = admin.left();
    let router = finished(router, admin);
    let listener = Known(tokio::net::UnixListener::from_std(listener)?);
    let router = |operator: Option<Operator>| {
        let operator = operator.unwrap_or(Operator::NOBODY);
        router.clone().layer(Extension(ConnectInfo(operator)))
    };
    serve::serve(listener, router, left).await;
    Ok(())
}

fn finished(router: Router<Arc<Admin>>, admin: Arc<Admin>) -> Router {
    router
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, NOTHING_THERE) })
        .method_not_allowed_fallback(|| async {
            let detail = "this path is asked for with another method";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(map_response(name_server))
        .with_state(admin)
}

/// What is said of a path that this version does not know.
pub const NOTHING_THERE: &str = "there is nothing at this path";

/// Commands of another version can tell.
async fn name_server(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    response
}

/// What answers.
pub const SERVER: &str = concat!("balancer/", env!("CARGO_PKG_VERSION"));

async fn only_over_the_socket() -> ApiError {
    let detail = "over TCP everything is read-only; ask over the unix socket, admin.socket";
    ApiError::new(StatusCode::FORBIDDEN, detail)
}

fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/openapi.json", get(openapi::serve))
        .route("/api/v1/status", get(status))
        .route("/api/v1/recent", get(recent::recent))
        .route("/api/v1/endpoints/{upstream}/{endpoint}/facts", get(facts))
        .route("/api/v1/explain", get(explained))
        .route("/api/v1/endpoints/{upstream}/{endpoint}", get(endpoint))
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match *admin.unready.lock().unwrap_or_else(PoisonError::into_inner) {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    status::refresh_gauges(&admin.publisher.current(), &admin.metrics);
    let metrics = Arc::clone(&admin.metrics);
    // Not here: with thousands of endpoints it takes long, and checks would wait for it.
    match tokio::task::spawn_blocking(move || encode::text(&metrics)).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, encode::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<status::Status> {
    let addresses = admin
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let last_reload = admin
        .last_reload
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let snapshot = admin.publisher.current();
    let mut status = status::Status::of(&snapshot, &addresses, admin.started).after(last_reload);
    status.upgrade = admin.succession();
    status.add_before(&admin.neighbours());
    Json(status)
}

async fn facts(
    State(admin): State<Arc<Admin>>,
    Names((upstream, endpoint)): Names<(String, String)>,
) -> Result<Json<facts::Facts>, ApiError> {
    facts::Facts::of(&admin.publisher.current(), &upstream, &endpoint)
        .map(Json)
        .map_err(|unknown| ApiError::new(StatusCode::NOT_FOUND, unknown))
}

async fn endpoint(
    State(admin): State<Arc<Admin>>,
    Names((upstream, endpoint)): Names<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<status::EndpointStatus>, ApiError> {
    if let Some(id) = names::number(query.as_deref(), "id")? {
        let current = admin.publisher.current();
        let among = (&*current, &admin.leaving);
        let (names, id) = ((&*upstream, &*endpoint), admin.own_id(id));
        let found = status::Status::endpoint_with(among, names, id);
        let found = found.map(|found| found.and_before(&admin.neighbours()));
        let found = found.or_else(|| admin.only_before(names, id));
        return found.map(Json).ok_or_else(|| {
            let detail = "nothing of this endpoint is left";
            ApiError::new(StatusCode::GONE, detail)
        });
    }
    status::Status::endpoint(&admin.publisher.current(), &upstream, &endpoint)
        .map(|found| Json(found.and_before(&admin.neighbours())))
        .map_err(|unknown| ApiError::new(StatusCode::NOT_FOUND, unknown))
}

async fn explained(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
) -> Result<Json<explain::Explained>, ApiError> {
    explain::Asked::read(&query.unwrap_or_default())
        .and_then(|asked| explain::explain(&admin.publisher.current(), &asked))
        .map(Json)
        .map_err(|wrong| ApiError::new(StatusCode::BAD_REQUEST, wrong))
}

/// Whoever may open the address may not have been meant to read the file: it is only named.
async fn configuration(State(admin): State<Arc<Admin>>) -> Json<Running> {
    Json(Running::of(&admin, false))
}

async fn configuration_with_text(State(admin): State<Arc<Admin>>) -> Json<Running> {
    Json(Running::of(&admin, true))
}

/// Likewise of what rejected files say, and who has done something.
async fn events(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    watch(&admin, Over::Tcp)
}

async fn events_with_all(State(admin): State<Arc<Admin>>) -> Result<Response, ApiError> {
    watch(&admin, Over::Socket)
}

fn watch(admin: &Admin, over: Over) -> Result<Response, ApiError> {
    let Some(stream) = admin.events.watch(&admin.publisher.current(), over) else {
        let detail = "too many are watching";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::new(stream)).into_response())
}
