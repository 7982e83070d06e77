//! What a route that rewrites paths makes of one, as the data path works it out: asked of a file, not of what runs.

use std::borrow::Cow;

use crate::config::{Config, Rewrite};
use crate::filter;
use crate::filter::rewrite::NotCanonical;
use crate::route::{Query, Router};
use crate::units::Name;

/// Why a request is refused whose path was rewritten: a 500.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unsendable {
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    #[error("the rewritten path is longer than limits.uri_bytes")]
    TooLong,
    #[error("the rewritten path belongs to the exclusive route {route}")]
    Exclusive { path: Box<str>, route: Name },
}

/// The path that an endpoint of the route at `index` is asked for in the place of `asked`.
pub(super) fn sent_path<'p>(
    (config, router): (&Config, &Router),
    (index, rewrite): (usize, &Rewrite),
    asked: &Query<'p>,
) -> Result<Cow<'p, str>, Unsendable> {
    let path = filter::rewrite::rewrite(rewrite, asked.path)?;
    let limits = &config.listeners[asked.listener].limits;
    if path.len() > limits.uri_bytes.as_usize() {
        return Err(Unsendable::TooLong);
    }
    let made = Query {
        raw_path: &path,
        path: &path,
        ..*asked
    };
    let action = |route: usize| &config.routes[route].action;
    match router.exclusive(&made) {
        Some(other) if !action(index).is_within(action(other), asked.method) => {
            Err(Unsendable::Exclusive {
                route: Name::clone(&config.routes[other].name),
                path: path.into(),
            })
        }
        Some(_) | None => Ok(path),
    }
}
