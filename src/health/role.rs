//! Which role an endpoint has, by what it answered to a probe. Pure.

use super::exchange::Answer;
use crate::config::RoleSource;
use crate::units::AppVersion;

/// What `answer` says where `source` tells to look; or why it says nothing. Who says it twice says nothing.
pub fn of(answer: &Answer, source: &RoleSource) -> Result<Box<str>, String> {
    let name = &source.header;
    let fields = [&answer.headers, &answer.trailers];
    let mut said = fields.iter().flat_map(|fields| fields.get_all(name));
    match (said.next(), said.next()) {
        (None, _) => Err(format!("the answer has no {name}")),
        (Some(_), Some(_)) => Err(format!("the answer has several {name}")),
        // What may be shown, as of versions.
        (Some(role), None) => match AppVersion::try_from(role.as_bytes()) {
            Ok(role) => Ok(role.as_str().into()),
            Err(why) => Err(format!("its {name} is {why}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::*;

    #[test]
    fn role_is_said_once_in_head_or_trailers_or_not_at_all() {
        let name = HeaderName::from_static("x-role");
        let source = RoleSource {
            header: name.clone(),
            authority: "authority".into(),
            lifetime: Duration::from_secs(20),
        };
        let fields = |values: &[&'static [u8]]| -> HeaderMap {
            let values = values.iter();
            values
                .map(|value| (name.clone(), HeaderValue::from_bytes(value).unwrap()))
                .collect()
        };
        let said = |head: &[&'static [u8]], trailers: &[&'static [u8]]| {
            let answer = Answer {
                status: StatusCode::OK,
                headers: fields(head),
                body: Bytes::new(),
                trailers: fields(trailers),
            };
            of(&answer, &source).map(String::from)
        };
        let role = |text: &str| Ok(text.to_owned());
        let none = |text: &str| Err(text.to_owned());
        assert_eq!(said(&[b"authority"], &[]), role("authority"));
        assert_eq!(said(&[], &[b"replica"]), role("replica"));
        assert_eq!(said(&[b" authority "], &[]), role("authority"));
        assert_eq!(said(&[], &[]), none("the answer has no x-role"));
        let several = none("the answer has several x-role");
        assert_eq!(said(&[b"authority", b"replica"], &[]), several);
        assert_eq!(said(&[b"authority"], &[b"authority"]), several);
        assert_eq!(said(&[b""], &[]), none("its x-role is empty"));
        let odd = none("its x-role is not printable ASCII");
        assert_eq!(said(&["autorité".as_bytes()], &[]), odd);
    }
}
