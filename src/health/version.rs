//! Which version of its code an endpoint runs, by what it answered to a probe. Pure.

use super::exchange::Answer;
use crate::config::VersionSource;
use crate::units::AppVersion;

/// What `answer` says where `source` tells to look; or why it says nothing.
pub fn of(answer: &Answer, source: &VersionSource) -> Result<AppVersion, String> {
    match source {
        VersionSource::Header(name) => {
            let fields = [&answer.headers, &answer.trailers];
            let Some(value) = fields.into_iter().find_map(|fields| fields.get(name)) else {
                return Err(format!("the answer has no {name}"));
            };
            AppVersion::try_from(value.as_bytes()).map_err(|why| format!("its {name} is {why}"))
        }
        VersionSource::Pointer(pointer) => {
            let Ok(body) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
                return Err("the first 64 KiB of the answer's body are not JSON".to_owned());
            };
            let version = match body.pointer(pointer) {
                Some(serde_json::Value::String(text)) => AppVersion::try_from(text.as_bytes()),
                Some(serde_json::Value::Number(number)) => {
                    AppVersion::try_from(number.to_string().as_bytes())
                }
                Some(_) => Err("neither text nor a number"),
                None => return Err(format!("the answer's body has nothing at {pointer:?}")),
            };
            version.map_err(|why| format!("what the answer's body has at {pointer:?} is {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    use proptest::prelude::*;

    use super::*;

    fn answer(header: Option<&'static str>, body: &[u8]) -> Answer {
        let name = HeaderName::from_static("x-app-version");
        let value = header.map(|value| (name, HeaderValue::from_static(value)));
        Answer {
            status: StatusCode::OK,
            headers: value.into_iter().collect(),
            body: Bytes::copy_from_slice(body),
            trailers: HeaderMap::new(),
        }
    }

    fn by_header(answer: &Answer) -> Result<String, String> {
        let source = VersionSource::Header(HeaderName::from_static("x-app-version"));
        of(answer, &source).map(|version| version.to_string())
    }

    fn by_pointer(body: &str, pointer: &str) -> Result<String, String> {
        let source = VersionSource::Pointer(pointer.into());
        of(&answer(None, body.as_bytes()), &source).map(|version| version.to_string())
    }

    #[test]
    fn version_stands_in_a_field_of_head_or_trailers() {
        assert_eq!(by_header(&answer(Some("42"), b"")), Ok("42".to_owned()));
        let mut trailing = answer(None, b"");
        trailing.trailers = answer(Some("43"), b"").headers;
        assert_eq!(by_header(&trailing), Ok("43".to_owned()));
        let none = by_header(&answer(None, b"")).unwrap_err();
        assert_eq!(none, "the answer has no x-app-version");
        let empty = by_header(&answer(Some(" "), b"")).unwrap_err();
        assert_eq!(empty, "its x-app-version is empty");
    }

    #[test]
    fn version_stands_in_the_body_at_a_pointer() {
        let body = r#"{"build": {"version": "42-rc", "number": 17, "tags": ["a"], "a/b": "c"}}"#;
        assert_eq!(by_pointer(body, "/build/version"), Ok("42-rc".to_owned()));
        assert_eq!(by_pointer(body, "/build/number"), Ok("17".to_owned()));
        assert_eq!(by_pointer(body, "/build/tags/0"), Ok("a".to_owned()));
        assert_eq!(by_pointer(body, "/build/a~1b"), Ok("c".to_owned()));
        assert_eq!(by_pointer("\"42\"", ""), Ok("42".to_owned()));
        for (body, pointer, why) in [
            (
                body,
                "/build/no",
                "the answer's body has nothing at \"/build/no\"",
            ),
            (
                body,
                "/build",
                "what the answer's body has at \"/build\" is neither text nor a number",
            ),
            (
                "{\"v\": \"a\\nb\"}",
                "/v",
                "what the answer's body has at \"/v\" is not printable ASCII",
            ),
            (
                "{\"v\": \"42\"",
                "/v",
                "the first 64 KiB of the answer's body are not JSON",
            ),
        ] {
            assert_eq!(by_pointer(body, pointer), Err(why.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_body_ends_in_a_panic(body in prop::collection::vec(any::<u8>(), 0..200), pointer in "(/[a-z~01]{0,4}){0,3}") {
            let source = VersionSource::Pointer(pointer.into());
            if let Ok(version) = of(&answer(None, &body), &source) {
                prop_assert!(version.as_str().len() <= AppVersion::LONGEST);
            }
        }
    }
}
