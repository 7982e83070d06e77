//! What the operator sees: metrics, liveness, readiness, status. Read-only, on a listener of its own that serves no traffic.

pub mod facts;
pub mod status;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

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
}

impl Admin {
    /// Says whether the process is ready, and if not, why.
    pub fn set_unready(&self, why: Option<&'static str>) {
        *self.unready.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Says which sockets are open.
    pub fn set_addresses(&self, addresses: Vec<(u32, SocketAddr)>) {
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

/// Serves on `listener` until the process ends.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router(admin)).await
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/endpoints/{upstream}/{endpoint}/facts", get(facts))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match *admin.unready.lock().unwrap_or_else(PoisonError::into_inner) {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    status::refresh_gauges(&admin.publisher.current(), &admin.metrics);
    match encode::text(&admin.metrics) {
        Ok(text) => ([(header::CONTENT_TYPE, encode::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<status::Status> {
    let addresses = admin
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    Json(status::Status::of(
        &admin.publisher.current(),
        &addresses,
        admin.started,
    ))
}

async fn facts(
    State(admin): State<Arc<Admin>>,
    Path((upstream, endpoint)): Path<(String, String)>,
) -> Response {
    match facts::Facts::of(&admin.publisher.current(), &upstream, &endpoint) {
        Some(facts) => Json(facts).into_response(),
        None => (StatusCode::NOT_FOUND, "no such endpoint\n").into_response(),
    }
}
