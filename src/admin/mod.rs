//! What the operator sees, and may do: metrics, liveness, readiness, status, events; commands. On listeners of its own that serve
//! no traffic: an address, where everything is only read, and a unix socket, over which things are changed as well.

mod actions;
mod audit;
pub mod authority;
pub mod before;
pub mod command;
pub mod configuration;
mod dashboard;
pub mod events;
pub mod explain;
pub mod facts;
pub mod flip;
pub mod history;
pub mod leaving;
mod names;
pub mod openapi;
mod patient;
pub mod problem;
pub mod recent;
pub mod reloads;
mod room;
mod routes;
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
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use socket2::SockRef;
use tokio::sync::{mpsc, watch};

use self::authority::Guesses;
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
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::metrics::encode::{self, Format};
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
    /// Who has tried tokens.
    pub guesses: Guesses,
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
        *lock(&self.unready) = why;
    }

    /// Says what the last reload came to.
    pub fn set_last_reload(&self, last: LastReload) {
        *lock(&self.last_reload) = Some(last);
    }

    /// Says which sockets are open.
    pub fn set_addresses(&self, addresses: Vec<(u32, SocketAddr)>) {
        *lock(&self.addresses) = addresses;
    }
}

/// Serves on `listener`, to read only, until the process ends.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    let router = router()
        .route("/api/v1/status", get(status))
        .route("/api/v1/config", get(configuration))
        .route("/api/v1/events", get(events))
        .route("/api/v1/reload", post(only_over_the_socket))
        .route("/api/v1/rollback", post(only_over_the_socket))
        .route("/api/v1/upgrade", post(only_over_the_socket))
        .route("/api/v1/plan", get(only_over_the_socket))
        .route(
            "/api/v1/upstreams/{upstream}/flip",
            post(only_over_the_socket),
        )
        .route(
            "/api/v1/upstreams/{upstream}/flip/abort",
            post(only_over_the_socket),
        )
        .route(
            "/api/v1/endpoints/{upstream}/{endpoint}/{action}",
            post(actions::set_mode_by_token),
        );
    let left = admin.left();
    let router = router.layer(from_fn_with_state(Arc::clone(&admin), serve::check_host));
    let router = finished(router, admin);
    // The system would keep megabytes for a viewer that does not read. Whom it accepts inherits this.
    SockRef::from(&listener).set_send_buffer_size(serve::BUFFER)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = |client: SocketAddr| router.clone().layer(Extension(ConnectInfo(client)));
    serve::serve(listener, router, left).await;
    Ok(())
}

/// Serves on the unix socket, everything, until the process ends.
pub async fn serve_socket(listener: UnixListener, admin: Arc<Admin>) -> io::Result<()> {
    let router = router()
        .route("/api/v1/status", get(status_over_the_socket))
        .route("/api/v1/config", get(configuration_with_text))
        .route("/api/v1/events", get(events_with_all))
        .route("/api/v1/reload", post(actions::reload))
        .route("/api/v1/rollback", post(actions::rollback))
        .route("/api/v1/upgrade", post(takeover::upgrade))
        .route("/api/v1/plan", get(actions::plan))
        .route("/api/v1/upstreams/{upstream}/flip", post(flip::begin))
        .route("/api/v1/upstreams/{upstream}/flip/abort", post(flip::abort))
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
    // What is said to be text or JSON is no page, whatever it holds.
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// What answers.
pub const SERVER: &str = concat!("balancer/", env!("CARGO_PKG_VERSION"));

async fn only_over_the_socket() -> ApiError {
    let detail = "over TCP this cannot be asked for; ask over the unix socket, admin.socket";
    ApiError::new(StatusCode::FORBIDDEN, detail)
}

fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/", get(dashboard::serve))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/openapi.json", get(openapi::serve))
        .route("/api/v1/recent", get(recent::recent))
        .route("/api/v1/endpoints/{upstream}/{endpoint}/facts", get(facts))
        .route("/api/v1/explain", get(explained))
        .route("/api/v1/upstreams/{upstream}/flip", get(flip::show))
        .route("/api/v1/endpoints/{upstream}/{endpoint}", get(endpoint))
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match *lock(&admin.unready) {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let format = Format::preferred(accept.map_or(&[], HeaderValue::as_bytes));
    // Not here: with thousands of endpoints it takes long, and checks would wait for it.
    let text = tokio::task::spawn_blocking(move || {
        status::refresh_gauges(&admin.publisher.current(), &admin.metrics);
        encode::text(&admin.metrics, format)
    });
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<status::Status> {
    let writable = admin.publisher.current().admin_token.is_some();
    Json(status_of(&admin).writable(writable))
}

async fn status_over_the_socket(State(admin): State<Arc<Admin>>) -> Json<status::Status> {
    Json(status_of(&admin).writable(true))
}

fn status_of(admin: &Admin) -> status::Status {
    let addresses = lock(&admin.addresses).clone();
    let last_reload = lock(&admin.last_reload).clone();
    let snapshot = admin.publisher.current();
    let mut status = status::Status::of(&snapshot, &addresses, admin.started).after(last_reload);
    status.upgrade = admin.succession();
    status.add_before(&admin.neighbours());
    status
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
async fn events(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, ApiError> {
    watch(&admin, Over::Tcp, &headers)
}

async fn events_with_all(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    watch(&admin, Over::Socket, &headers)
}

fn watch(admin: &Admin, over: Over, headers: &HeaderMap) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id");
    // One that is no number of ours is as good as none.
    let last = last.and_then(|last| last.to_str().ok()?.parse().ok());
    let current = admin.publisher.current();
    let Some(stream) = admin.events.watch(&current, over, last) else {
        let detail = "too many are watching";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::new(stream)).into_response())
}
