//! The names in a path and the values in a query, read; what cannot be is refused as every error is.

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::ApiError;
use crate::message::hexadecimal;

/// What stands in the braces of a path.
#[derive(Debug)]
pub(super) struct Names<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let names = Path::from_request_parts(parts, state).await;
        names
            .map(|Path(names)| Self(names))
            .map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))
    }
}

/// The number in a query that may hold `name=7`, once, and nothing else.
pub(super) fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, ApiError> {
    let mut found = None;
    let parts = query.unwrap_or_default().split('&');
    for part in parts.filter(|part| !part.is_empty()) {
        let value = part
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='));
        let digits = value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(number) if found.is_none() => found = Some(number),
            _ => {
                let detail = format!("the query may hold {name}=NUMBER, once; got {part:?}");
                return Err(ApiError::new(StatusCode::BAD_REQUEST, detail));
            }
        }
    }
    Ok(found)
}

/// A value of a query, which is percent-encoded; `None`: it is not.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, length) = match (first, after) {
            (b'%', [high, low, ..]) => (hexadecimal::byte(*high, *low)?, 3),
            (b'%', _) => return None,
            (b'+', _) => (b' ', 1),
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn query_holds_its_number_once_or_nothing() {
        let read = |query| number(query, "id").ok();
        assert_eq!(read(None), Some(None));
        assert_eq!(read(Some("")), Some(None));
        assert_eq!(read(Some("&")), Some(None));
        assert_eq!(read(Some("id=7")), Some(Some(7)));
        for wrong in [
            "id",
            "id=",
            "id=+7",
            "id=-1",
            "id=18446744073709551616",
            "id=1&id=1",
            "idx=1",
            "generation=1",
        ] {
            assert_eq!(read(Some(wrong)), None, "{wrong}");
        }
    }
}
