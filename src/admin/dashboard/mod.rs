//! The page at `/`: one document out of the binary, which asks for nothing but the API. What its headers allow is its own script
//! and style, told by their hashes: a name or a reason that holds markup runs nothing, whatever the page does with it.

mod page;

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What goes with every answer.
static HEADERS: LazyLock<[(HeaderName, HeaderValue); 7]> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        sha256(page::SCRIPT),
        sha256(page::STYLE),
    );
    let tag = format!("\"{}\"", sha256(page::PAGE));
    let value = |text: &str| HeaderValue::from_str(text).expect("base64 is ASCII");
    let fixed = HeaderValue::from_static;
    [
        (header::CONTENT_TYPE, fixed("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, value(&policy)),
        (header::X_FRAME_OPTIONS, fixed("DENY")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            fixed("same-origin"),
        ),
        // Another version has another page under the same address.
        (header::CACHE_CONTROL, fixed("no-cache")),
        (header::ETAG, value(&tag)),
    ]
});

fn sha256(text: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// `GET /`
pub(super) async fn serve(asked: HeaderMap) -> Response {
    let headers = HEADERS.clone();
    let [.., (_, tag)] = &headers;
    let known = asked.get_all(header::IF_NONE_MATCH).into_iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    let tag = tag.to_str().unwrap_or_default();
    let is_known = known.any(|tags| tags.split(',').any(|it| it.trim() == tag));
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, page::PAGE).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn page_is_sent_once_with_what_keeps_foreign_code_out() {
        let first = serve(HeaderMap::new()).await;
        let tag = first.headers()[header::ETAG].clone();
        let policy = first.headers()[header::CONTENT_SECURITY_POLICY].clone();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let sent = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(sent, page::PAGE);
        let again = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        let again = serve(again).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn what_the_hashes_stand_for_is_what_the_page_holds() {
        let holds = |text: &str| page::PAGE.matches(text).count();
        for (name, text) in [("style", page::STYLE), ("script", page::SCRIPT)] {
            assert_eq!(holds(&format!("<{name}>{text}</{name}>")), 1, "{name}");
            assert_eq!(holds(&format!("<{name}")), 1, "{name}: no other");
        }
        assert!(page::PAGE.len() <= 150 << 10, "{}", page::PAGE.len());
    }
}
