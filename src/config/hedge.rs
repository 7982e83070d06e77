//! `route.hedge`: when a request is sent to a second endpoint, because the first takes its time.

use std::time::Duration;

use http::Method;

use super::Place;

/// `route.hedge`
#[derive(Clone, Debug)]
pub struct Hedge {
    /// `after`: so long has the first endpoint to answer.
    pub after: Duration,
    /// Where the table stands.
    pub place: Place,
}

impl Hedge {
    /// Whether requests with `method` may be sent to two endpoints at the same time: those that only ask for something
    /// (RFC 9110 §9.2.1, RFC 10008 for QUERY). That a request could be repeated is not enough: of two `DELETE`s at once one is
    /// told that there is nothing, and may be first.
    pub fn takes(method: &Method) -> bool {
        method.is_safe() || method.as_str() == "QUERY"
    }
}
