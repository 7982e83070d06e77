//! Changes of protocol on a connection: `Upgrade` (RFC 9110 §7.8), and what HTTP/2 has instead of it for WebSocket (RFC 8441).

use http::header::{self, HeaderMap, HeaderValue};

use super::list;

/// What a client asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Protocol(HeaderValue);

/// `websocket` (RFC 6455)
pub const WEBSOCKET: &str = "websocket";

impl Protocol {
    /// WebSocket.
    pub fn websocket() -> Self {
        Self(HeaderValue::from_static(WEBSOCKET))
    }

    /// The first protocol that a request asks for and `allowed` has: lower-case names, without version for all of its
    /// versions. `None` where it asks for none of them: then it is a request as any other (RFC 9110 §7.8).
    pub fn asked(headers: &HeaderMap, allowed: &[Box<str>]) -> Option<Self> {
        if !headers.contains_key(header::UPGRADE)
            || !list::has(headers, &header::CONNECTION, "upgrade")
        {
            return None;
        }
        list::elements(headers, &header::UPGRADE)
            .find(|asked| {
                let name = asked.split(|byte| *byte == b'/').next();
                let is =
                    |allowed: &str, asked: &[u8]| allowed.as_bytes().eq_ignore_ascii_case(asked);
                allowed
                    .iter()
                    .any(|allowed| is(allowed, asked) || name.is_some_and(|name| is(allowed, name)))
            })
            .and_then(|asked| HeaderValue::from_bytes(asked).ok())
            .map(Self)
    }

    /// As a field's value.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// Whether a 101 response switches to this protocol and no other (RFC 9110 §15.2.2).
    pub fn is_agreed(&self, headers: &HeaderMap) -> bool {
        let mut agreed = list::elements(headers, &header::UPGRADE);
        let is_this = agreed
            .next()
            .is_some_and(|agreed| agreed.eq_ignore_ascii_case(self.0.as_bytes()));
        is_this && agreed.next().is_none() && list::has(headers, &header::CONNECTION, "upgrade")
    }
}

/// A `Sec-WebSocket-Key` of `nonce`: HTTP/2 has none, HTTP/1.1 must have one (RFC 6455 §4.1).
pub fn websocket_key(nonce: [u8; 16]) -> HeaderValue {
    encoded(&nonce)
}

/// The `Sec-WebSocket-Accept` that answers `key` (RFC 6455 §4.2.2).
pub fn websocket_accept(key: &HeaderValue) -> HeaderValue {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    encoded(digest.finish().as_ref())
}

fn encoded(bytes: &[u8]) -> HeaderValue {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    HeaderValue::try_from(text).expect("base64 is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing::headers;

    fn asked(lines: &[(&'static str, &'static str)], allowed: &[&str]) -> Option<String> {
        let allowed: Vec<Box<str>> = allowed.iter().map(|&name| name.into()).collect();
        Protocol::asked(&headers(lines), &allowed)
            .map(|protocol| protocol.value().to_str().unwrap().to_owned())
    }

    #[test]
    fn only_what_is_allowed_and_asked_for_twice_is_asked() {
        let both = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
        ];
        assert_eq!(asked(&both, &["websocket"]).as_deref(), Some("WebSocket"));
        assert_eq!(asked(&both, &["tcp"]), None);
        assert_eq!(asked(&both, &[]), None);
        assert_eq!(asked(&[("upgrade", "websocket")], &["websocket"]), None);
        assert_eq!(asked(&[("connection", "upgrade")], &["websocket"]), None);
    }

    #[test]
    fn first_allowed_of_a_list_is_taken_with_its_version() {
        let list = [
            ("connection", "upgrade"),
            ("upgrade", "h2c, foo/2"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(
            asked(&list, &["websocket", "foo"]).as_deref(),
            Some("foo/2")
        );
        assert_eq!(asked(&list, &["foo/2"]).as_deref(), Some("foo/2"));
        assert_eq!(asked(&list, &["foo/3"]), None);
    }

    #[test]
    fn answer_must_name_the_protocol_and_nothing_else() {
        let protocol = Protocol::websocket();
        let agreed = |lines| protocol.is_agreed(&headers(lines));
        assert!(agreed(&[
            ("connection", "Upgrade"),
            ("upgrade", "WebSocket")
        ]));
        assert!(!agreed(&[("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!agreed(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket, h2c")
        ]));
        assert!(!agreed(&[("upgrade", "websocket")]));
        assert!(!agreed(&[("connection", "upgrade")]));
    }

    #[test]
    fn accept_is_that_of_the_specification() {
        // RFC 6455 §1.3
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(websocket_accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(websocket_key(*b"the sample nonce"), key);
    }
}
