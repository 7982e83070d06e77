//! Changes the fields of a header. Which names may be changed was settled when the file was read.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};

use crate::config::{FieldValue, HeaderChanges, Part, Variable};

/// What variables stand for in one request. Made only for routes that use some.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `$client_ip`
    pub client_ip: IpAddr,
    /// `$host`
    pub host: Box<str>,
    /// `$path`
    pub path: Box<str>,
    /// `$request_id`; what a trusted proxy sends need not be ASCII.
    pub request_id: HeaderValue,
    /// `$scheme`
    pub scheme: HeaderValue,
}

/// Makes `changes` in `headers`. Without `facts` variables are empty.
pub fn apply(changes: &HeaderChanges, headers: &mut HeaderMap, facts: Option<&Facts>) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value) in &changes.set {
        headers.insert(name, filled(value, facts));
    }
    for (name, value) in &changes.add {
        headers.append(name, filled(value, facts));
    }
}

fn filled(value: &FieldValue, facts: Option<&Facts>) -> HeaderValue {
    let parts = match value {
        FieldValue::Constant(value) => return value.clone(),
        FieldValue::Filled(parts) => parts,
    };
    let mut bytes = Vec::new();
    for part in parts {
        match (part, facts) {
            (Part::Text(text), _) => bytes.extend_from_slice(text.as_bytes()),
            (Part::Variable(variable), Some(facts)) => push(&mut bytes, *variable, facts),
            (Part::Variable(_), None) => {}
        }
    }
    // Nothing that a variable stands for can be more than a value may hold: it came in one, or is a path.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(bytes))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn push(bytes: &mut Vec<u8>, variable: Variable, facts: &Facts) {
    match variable {
        Variable::ClientIp => {
            bytes.extend_from_slice(facts.client_ip.to_canonical().to_string().as_bytes());
        }
        Variable::Host => bytes.extend_from_slice(facts.host.as_bytes()),
        Variable::Path => bytes.extend_from_slice(facts.path.as_bytes()),
        Variable::RequestId => bytes.extend_from_slice(facts.request_id.as_bytes()),
        Variable::Scheme => bytes.extend_from_slice(facts.scheme.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::message::testing::headers;

    fn constant(name: &'static str, value: &'static str) -> (HeaderName, FieldValue) {
        (
            HeaderName::from_static(name),
            FieldValue::Constant(HeaderValue::from_static(value)),
        )
    }

    #[test]
    fn set_replaces_add_appends_and_remove_removes_every_field_of_a_name() {
        let changes = HeaderChanges {
            remove: vec![HeaderName::from_static("x-gone")],
            set: vec![constant("x-set", "new")],
            add: vec![constant("x-added", "2"), constant("x-fresh", "3")],
        };
        let mut fields = headers(&[
            ("x-gone", "1"),
            ("x-gone", "2"),
            ("x-set", "1"),
            ("x-set", "2"),
            ("x-added", "1"),
            ("x-kept", "1"),
        ]);
        apply(&changes, &mut fields, None);
        let expected = headers(&[
            ("x-set", "new"),
            ("x-added", "1"),
            ("x-added", "2"),
            ("x-fresh", "3"),
            ("x-kept", "1"),
        ]);
        assert_eq!(fields, expected);
    }

    #[test]
    fn variables_stand_for_facts_of_the_request() {
        let facts = Facts {
            client_ip: "::ffff:192.0.2.1".parse().unwrap(),
            host: "app.test".into(),
            path: "/a%20b".into(),
            request_id: HeaderValue::from_bytes(b"id-\xff").unwrap(),
            scheme: HeaderValue::from_static("https"),
        };
        let mut parts = Vec::new();
        for (_, variable) in Variable::ALL {
            parts.push(Part::Variable(variable));
            parts.push(Part::Text("|".into()));
        }
        let changes = HeaderChanges {
            set: vec![(HeaderName::from_static("x-all"), FieldValue::Filled(parts))],
            ..HeaderChanges::default()
        };
        assert!(changes.has_variables());
        let mut fields = HeaderMap::new();
        apply(&changes, &mut fields, Some(&facts));
        assert_eq!(
            fields["x-all"].as_bytes(),
            b"192.0.2.1|app.test|/a%20b|id-\xff|https|"
        );
    }
}
