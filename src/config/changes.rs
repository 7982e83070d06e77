//! `route.request_headers` and `route.response_headers`: what a route changes in the header of a message.

use http::{HeaderName, HeaderValue};

/// Changes of header fields, made in this order. A name stands in one of them only.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderChanges {
    /// `remove`: every field of these names.
    pub remove: Vec<HeaderName>,
    /// `set`: one field of this value takes the place of all of its name.
    pub set: Vec<(HeaderName, FieldValue)>,
    /// `add`: one field more.
    pub add: Vec<(HeaderName, FieldValue)>,
}

impl HeaderChanges {
    /// Whether some value differs from request to request.
    pub fn has_variables(&self) -> bool {
        self.set
            .iter()
            .chain(&self.add)
            .any(|(_, value)| matches!(value, FieldValue::Filled(_)))
    }
}

/// The value of a field that is set or added.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FieldValue {
    /// The same for every request.
    Constant(HeaderValue),
    /// With variables in it. At least one.
    Filled(Vec<Part>),
}

/// A part of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Part {
    /// As it stands in the file; printable ASCII.
    Text(Box<str>),
    /// What the request has in its place.
    Variable(Variable),
}

/// What may be filled in. Written with a dollar sign before its name: `$client_ip`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Variable {
    /// `$client_ip`: the client's address; behind trusted proxies the one they name.
    ClientIp,
    /// `$host`: the host asked for, in lower case, without port.
    Host,
    /// `$path`: the canonical path asked for, before any rewrite, without query.
    Path,
    /// `$request_id`: what the endpoint gets as `X-Request-Id`.
    RequestId,
    /// `$scheme`: `http` or `https`, as the client came to this balancer.
    Scheme,
}

impl Variable {
    /// All there are, with their names.
    pub const ALL: [(&'static str, Self); 5] = [
        ("client_ip", Self::ClientIp),
        ("host", Self::Host),
        ("path", Self::Path),
        ("request_id", Self::RequestId),
        ("scheme", Self::Scheme),
    ];
}
