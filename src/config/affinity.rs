//! `upstream.affinity`: how a client is kept with the endpoint that answered it first.

use std::path::PathBuf;
use std::time::Duration;

use super::Place;

/// `upstream.affinity`
#[derive(Clone, Debug)]
pub struct Affinity {
    /// `cookie`: the name of the cookie that says which endpoint it was.
    pub cookie: Box<str>,
    /// `key_file`: what the cookie is signed with. Read when the snapshot is compiled.
    pub key_file: PathBuf,
    /// `path`: for which paths clients send it. Default `/`.
    pub path: Box<str>,
    /// `max_age`: how long clients keep it. Default: until they are closed.
    pub max_age: Option<Duration>,
    /// Where `key_file` stands.
    pub place: Place,
}

impl Affinity {
    /// Keys that one file holds at most: the one in use, and the one before or after it.
    pub const KEYS: usize = 2;
    /// The shortest key, in characters: as much as `openssl rand -hex 16` makes.
    pub const SHORTEST_KEY: usize = 32;
}
