//! What changes something: read strictly, handed to the daemon, answered with what came of it. Over the unix socket; over TCP
//! only what concerns one endpoint, and with a token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::Admin;
use super::command::{Asked, Command, Operator, Refused, Reloaded, Reply, RollbackTo, Wanted};
use super::names::{self, Names};
use super::problem::ApiError;
use super::status::{EndpointStatus, Status};
use crate::config::Mode;
use crate::snapshot::plan::Plan;

/// More than any action needs.
const LONGEST_BODY: usize = 16 * 1024;

type Shared = State<Arc<Admin>>;
type Answer<T> = Result<Json<T>, ApiError>;

/// The body of actions that have nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What a change of an endpoint's mode has come to.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    /// The mode before.
    before: &'static str,
    endpoint: EndpointStatus,
}

pub(super) async fn reload(
    State(admin): Shared,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Body,
) -> Answer<Reloaded> {
    let wanted: Wanted = read(body).await?;
    let command = |reply| Command::Reload(wanted, reply);
    admin.ask(by, command).await.map(Json)
}

pub(super) async fn rollback(
    State(admin): Shared,
    ConnectInfo(by): ConnectInfo<Operator>,
    body: Body,
) -> Answer<Reloaded> {
    let wanted: RollbackTo = read(body).await?;
    let command = |reply| Command::Rollback(wanted, reply);
    admin.ask(by, command).await.map(Json)
}

pub(super) async fn plan(
    State(admin): Shared,
    ConnectInfo(by): ConnectInfo<Operator>,
    RawQuery(query): RawQuery,
) -> Answer<Plan> {
    let expected = names::number(query.as_deref(), "expect_generation")?;
    let command = |reply| Command::Plan(expected, reply);
    admin.ask(by, command).await.map(Json)
}

pub(super) async fn set_mode(
    State(admin): Shared,
    ConnectInfo(by): ConnectInfo<Operator>,
    Names((upstream, endpoint, action)): Names<(String, String, String)>,
    body: Body,
) -> Answer<Changed> {
    let Nothing {} = read(body).await?;
    let mode = match &*action {
        "drain" => Mode::Draining,
        "resume" => Mode::Active,
        "disable" => Mode::Disabled,
        _ => {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                format!("no action is named {action:?}: drain, resume or disable"),
            ));
        }
    };
    let names = (upstream.clone(), endpoint.clone());
    let command = |reply| Command::SetMode {
        upstream: names.0,
        endpoint: names.1,
        mode,
        reply,
    };
    let before = admin.ask(by, command).await?;
    admin.heard_before().await;
    let snapshot = admin.publisher.current();
    let endpoint = Status::endpoint(&snapshot, &upstream, &endpoint)
        .map_err(|unknown| ApiError::new(StatusCode::NOT_FOUND, unknown))?;
    Ok(Json(Changed {
        before: before.as_str(),
        endpoint: endpoint.and_before(&admin.neighbours()),
    }))
}

/// The same over TCP, for who knows the token.
pub(super) async fn set_mode_by_token(
    State(admin): Shared,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    names: Names<(String, String, String)>,
    body: Body,
) -> Answer<Changed> {
    let by = admin.authorize(client, &headers)?;
    set_mode(State(admin), ConnectInfo(by), names, body).await
}

impl Admin {
    /// Hands a command to the daemon, and waits for what comes of it.
    pub(super) async fn ask<T>(
        &self,
        by: Operator,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let command = command(sender);
        // Nobody is left to obey once the process is about to end.
        let ending = || {
            let detail = "the balancer is shutting down";
            // Where another process takes over, that one may.
            ApiError::for_now(StatusCode::SERVICE_UNAVAILABLE, detail)
        };
        if self.commands.send(Asked { by, command }).is_err() {
            return Err(ending());
        }
        let outcome: Result<T, Refused> = receiver.await.map_err(|_| ending())?;
        outcome.map_err(ApiError::from)
    }
}

/// The body as `T`; one that is empty says nothing.
pub(super) async fn read<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiError> {
    let Ok(bytes) = to_bytes(body, LONGEST_BODY).await else {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {LONGEST_BODY} bytes, or was cut"),
        ));
    };
    if bytes.is_empty() {
        return Ok(T::default());
    }
    let refused = |status, error: serde_json::Error| {
        ApiError::new(status, format!("the body cannot be read: {error}"))
    };
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| refused(StatusCode::BAD_REQUEST, error))?;
    if !value.is_object() {
        let detail = "the body is no JSON object";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    serde_json::from_value(value).map_err(|error| refused(StatusCode::UNPROCESSABLE_ENTITY, error))
}
