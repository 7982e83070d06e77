//! `upstream.affinity`: how a client is kept with the endpoint that answered it first, or with those that run the same code.

use std::path::PathBuf;
use std::time::Duration;

use super::Place;

/// `upstream.affinity`
#[derive(Clone, Debug)]
pub struct Affinity {
    /// `by`: with whom a client is kept.
    pub by: KeptBy,
    /// `cookie`: the name of the cookie that says who it was.
    pub cookie: Box<str>,
    /// `key_file`: what the cookie is signed with. Read when the snapshot is compiled.
    pub key_file: PathBuf,
    /// `path`: for which paths clients send it. Default `/`.
    pub path: Box<str>,
    /// `max_age`: how long clients keep it. Default: until they are closed.
    pub max_age: Option<Duration>,
    /// `audit`: the share of clients' safe requests that goes to another endpoint than they are kept with, to see whether they could be
    /// moved. Default: none. Only by endpoint.
    pub audit: Option<f64>,
    /// Where `key_file` stands.
    pub place: Place,
}

/// `affinity.by`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeptBy {
    /// `"endpoint"` (default): with the endpoint that answered it.
    Endpoint,
    /// `"version"`: with any endpoint that runs the same version of the code.
    Version,
}

impl Affinity {
    /// Keys that one file holds at most: the one in use, and the one before or after it.
    pub const KEYS: usize = 2;
    /// The shortest key, in characters: as much as `openssl rand -hex 16` makes.
    pub const SHORTEST_KEY: usize = 32;
}
