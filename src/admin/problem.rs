//! Errors of the admin API, as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::command::Refused;
use crate::config::Problem;

/// An error as a client of the API sees it.
#[derive(Debug, Serialize)]
pub struct ApiError {
    /// No page describes it further.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// What is wrong, in a sentence.
    detail: String,
    /// When or how it may be asked again.
    #[serde(skip)]
    again: Option<Again>,
    /// Every problem of a configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<ProblemView>,
}

/// When or how something may be asked again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    /// After so many seconds: `Retry-After`.
    After(u64),
    /// With a token: `WWW-Authenticate` (RFC 6750).
    WithToken,
}

#[derive(Debug, Serialize)]
struct ProblemView {
    file: String,
    line: u32,
    column: u32,
    key: String,
    message: String,
}

impl ApiError {
    /// One with `status`.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            again: None,
            problems: Vec::new(),
        }
    }

    /// One that may be over in a moment.
    pub fn for_now(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, detail).again(Again::After(1))
    }

    /// The same, which may be asked again.
    pub(super) fn again(mut self, again: Again) -> Self {
        self.again = Some(again);
        self
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Config(errors) => Self {
                problems: errors.0.iter().map(ProblemView::from).collect(),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "the configuration cannot be used; the running one stays",
                )
            },
            Refused::Unknown(what) => Self::new(StatusCode::NOT_FOUND, what),
            Refused::Conflict(what) => Self::new(StatusCode::CONFLICT, what),
            Refused::Later(what) => Self::for_now(StatusCode::CONFLICT, what),
            Refused::Forbidden(what) => Self::new(StatusCode::FORBIDDEN, what),
            Refused::Failed(what) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, what),
        }
    }
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        let place = &problem.place;
        Self {
            file: place.file.display().to_string(),
            line: place.line,
            column: place.column,
            key: place.key.to_string(),
            message: problem.message.clone(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let again = self.again;
        let mut response = (status, axum::Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind);
        match again {
            Some(Again::After(seconds)) => {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            Some(Again::WithToken) => {
                let scheme = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            None => {}
        }
        response
    }
}
