//! `upstream.hash`: what consistent hashing picks by.

use http::HeaderName;

/// `upstream.hash`
#[derive(Clone, Debug, PartialEq)]
pub struct Hash {
    /// `key`. Default: the client's address.
    pub key: HashKey,
    /// `bounded_load`: how much of the mean load an endpoint may have, in thousandths. Default 1250; `None` where it is
    /// `"off"`.
    pub bounded_load: Option<u32>,
}

/// `upstream.hash.key`: requests with the same value go to the same endpoint. Those without go by the client's address.
#[derive(Clone, Debug, PartialEq)]
pub enum HashKey {
    /// `"client-address"`, as trusted proxies name it.
    ClientAddress,
    /// `"header:NAME"`
    Header(HeaderName),
    /// `"cookie:NAME"`
    Cookie(Box<str>),
    /// `"path"`: the canonical one, as the client sent it.
    Path,
    /// `"query:NAME"`: a parameter.
    Query(Box<str>),
}
