//! What labels there are and which values each may have: names of the file, words of closed sets, or so many and no more. Nothing
//! that a client sends.

/// The label of a route where there is none: requests refused before routing, or that no route takes.
pub const NO_ROUTE: &str = "(none)";

/// A label of a family.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it may say.
    pub values: Values,
}

/// The values that a label may have.
#[derive(Debug)]
pub enum Values {
    /// Names of listeners.
    Listeners,
    /// Names of routes, and [`NO_ROUTE`].
    Routes,
    /// Names of routes that have a mirror.
    Mirrors,
    /// Names of upstreams.
    Upstreams,
    /// Names of endpoints; always beside that of their upstream.
    Endpoints,
    /// Names of sets of endpoints; always beside that of their upstream.
    Sets,
    /// Certificates of listeners; always beside the listener.
    Certificates,
    /// Threads of the process.
    Threads,
    /// Statuses, from [`LOWEST_CODE`] to [`HIGHEST_CODE`].
    Codes,
    /// One at a time, whatever it is.
    One,
    /// One of these words.
    Words(&'static [&'static str]),
}

impl Label {
    const fn new(name: &'static str, values: Values) -> Self {
        Self { name, values }
    }

    const fn words(name: &'static str, words: &'static [&'static str]) -> Self {
        Self::new(name, Values::Words(words))
    }
}

/// The lowest status that is told apart from those below.
pub const LOWEST_CODE: u16 = 100;
/// The highest status that is told apart from those above.
pub const HIGHEST_CODE: u16 = 599;

/// The `listener` that took the connection.
pub const LISTENER: Label = Label::new("listener", Values::Listeners);
/// The `route` of a request.
pub const ROUTE: Label = Label::new("route", Values::Routes);
/// A `route` with a mirror.
pub const MIRROR: Label = Label::new("route", Values::Mirrors);
/// An `upstream`.
pub const UPSTREAM: Label = Label::new("upstream", Values::Upstreams);
/// An `endpoint` of an upstream.
pub const ENDPOINT: Label = Label::new("endpoint", Values::Endpoints);
/// A `set` of endpoints of an upstream.
pub const SET: Label = Label::new("set", Values::Sets);
/// A `certificate` of a listener.
pub const CERTIFICATE: Label = Label::new("certificate", Values::Certificates);
/// The exact status.
pub const CODE: Label = Label::new("code", Values::Codes);
/// The method of a request.
pub const METHOD: Label = Label::words("method", &METHODS);
/// The `version` of balancer, or that of its code that an endpoint runs.
pub const VERSION: Label = Label::new("version", Values::One);
/// The compiler it was made with.
pub const RUSTC: Label = Label::new("rustc", Values::One);
/// Of the configuration in use.
pub const HASH: Label = Label::new("hash", Values::One);
/// The thread: `where` something happened.
pub const THREAD: Label = Label::new("where", Values::Threads);
/// What clients speak.
pub const PROTO: Label = Label::words("proto", &PROTOS);
/// Of a reload.
pub const RELOAD: Label = Label::words("result", &["accepted", "rejected"]);
/// Of a handshake.
pub const HANDSHAKE: Label = Label::words("result", &["ok", "failed", "timeout"]);
/// Of TLS.
pub const TLS: Label = Label::words("version", &["1.2", "1.3", "none"]);
/// Why a PROXY protocol header was not taken.
pub const HEADER: Label = Label::words("reason", &["source", "malformed", "timeout"]);
/// Why a request failed.
pub const REASON: Label = Label::words("reason", REASONS);
/// Of a connection to an endpoint.
pub const CONNECTION: Label = Label::words("state", &["active", "idle"]);
/// Of an idle connection that was closed.
pub const STALE: Label = Label::words("outcome", &["avoided", "retried", "failed"]);
/// Why a request was not let into a queue, or out of it.
pub const QUEUE: Label = Label::words("why", &["full", "timeout"]);
/// What failed before a retry.
pub const RETRY: Label = Label::words("reason", &RETRIES);
/// Why there was no retry.
pub const DENIED: Label = Label::words("why", &DENIALS);
/// What became of a second attempt.
pub const HEDGE: Label = Label::words("result", &HEDGES);
/// Why a client was sent elsewhere.
pub const REPIN: Label = Label::words("why", &REPINS);
/// Whether the endpoint answered that a client is kept with.
pub const PIN: Label = Label::words("pin", &PINNED);
/// What an answer came to while affinity is audited.
pub const AUDIT: Label = Label::words("result", &AUDITED);
/// What came of a flip from one set of endpoints to another.
pub const FLIP: Label = Label::words("result", &FLIPS);
/// What became of a copy.
pub const COPY: Label = Label::words("result", &COPIES);
/// Why a span was dropped.
pub const SPAN: Label = Label::words("why", &["queue", "refused"]);
/// Of an endpoint.
pub const STATE: Label = Label::words("state", &STATES);
/// Of a check.
pub const CHECK: Label = Label::words("result", &["passed", "failed"]);
/// What an endpoint's health has become.
pub const TO: Label = Label::words("to", &["up", "down", "draining"]);
/// Why an endpoint was set aside.
pub const EJECTION: Label = Label::words("reason", &["consecutive", "ratio"]);

/// Methods that are told apart; the last stands for all others, so that no client makes series.
pub const METHODS: [&str; 10] = [
    "GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "other",
];

/// What clients speak.
pub const PROTOS: [&str; 2] = ["http/1.1", "h2"];

/// What failed before a further attempt, in the order of its enum.
pub(super) const RETRIES: [&str; 7] = [
    "connect",
    "unsent",
    "refused",
    "closed",
    "timeout",
    "status",
    "too_early",
];

/// Why there was no further attempt, in the order of its enum.
pub(super) const DENIALS: [&str; 4] = ["attempts", "body", "budget", "unsafe"];

/// What became of an attempt beside another, in the order of its enum.
pub(super) const HEDGES: [&str; 5] = ["won", "outrun", "failed", "budget", "no_endpoint"];

/// Who answered while affinity is audited, in the order of its enum.
pub(super) const PINNED: [&str; 2] = ["kept", "broken"];

/// What an answer came to then, in the order of its enum.
pub(super) const AUDITED: [&str; 4] = ["ok", "refused", "redirected", "failed"];

/// What came of a flip, in the order of its enum's ends.
pub const FLIPS: [&str; 7] = [
    "kept",
    "unclear",
    "flipped-back",
    "aborted",
    "refused",
    "stranded",
    "overtaken",
];

/// What became of a copy for a mirror.
pub(super) const COPIES: [&str; 5] = ["answered", "failed", "too_large", "incomplete", "dropped"];

/// Every state of an endpoint in one word.
pub const STATES: [&str; 11] = [
    "unchecked",
    "unknown",
    "up",
    "down",
    "ejected",
    "degraded",
    "held",
    "unresolved",
    "draining",
    "disabled",
    "standby",
];

/// Why a client was sent to another endpoint than its cookie names: that one's state, or one of six others.
pub const REPINS: [&str; STATES.len() + 6] = {
    let others = [
        "backup",
        "failed",
        "full",
        "gone",
        "unknown_cookie",
        "version",
    ];
    let mut words = [""; STATES.len() + 6];
    let (states, rest) = words.split_at_mut(STATES.len());
    states.copy_from_slice(&STATES);
    rest.copy_from_slice(&others);
    words
};

/// Every reason why a request failed: that of each `ProxyError`.
pub const REASONS: &[&str] = &[
    "ambiguous_path",
    "body_broken",
    "body_timeout",
    "body_too_large",
    "client_left",
    "closed",
    "conflicting_framing",
    "connect_failed",
    "connect_method",
    "connect_refused",
    "connect_timeout",
    "connection_names",
    "exhausted",
    "expectation",
    "garbage",
    "head_timeout",
    "head_too_large",
    "host",
    "loop",
    "malformed",
    "misdirected",
    "no_authority",
    "no_endpoint",
    "no_route",
    "not_switched",
    "path",
    "paused",
    "queue_full",
    "queue_timeout",
    "rate_limited",
    "request_timeout",
    "response_cut",
    "response_idle",
    "response_timeout",
    "rewrite",
    "route_full",
    "stream_refused",
    "target_too_long",
    "tls_certificate",
    "tls_failed",
    "too_many_fields",
    "tunnel_idle",
    "two_authorities",
    "unasked_101",
    "upgrade",
    "version",
    "wrong_protocol",
];
