//! The path that an endpoint is asked for in the place of the client's, or why nobody is asked for it.

use std::borrow::Cow;

use super::{Query, Router};
use crate::config::Rewrite;
use crate::filter::rewrite::{NotCanonical, rewrite};
use crate::units::ByteSize;

/// Why nobody is asked for a path that was rewritten: a 500.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unsendable<'p> {
    /// It is not in canonical spelling.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// It is longer than a client's may be: a rule that makes more of a path than that is not one for such paths.
    #[error("the rewritten path is longer than limits.uri_bytes")]
    TooLong,
    /// It belongs to an exclusive route that does not go where this one goes.
    #[error("the rewritten path belongs to an exclusive route")]
    Exclusive {
        /// The path.
        path: Cow<'p, str>,
        /// That route.
        route: usize,
    },
}

impl Router {
    /// The path that `rule` makes of the one that is asked for, which has at most `longest` bytes.
    ///
    /// Routes were matched with the client's path, so an exclusive route would not see a path of its own that was only made here:
    /// that goes nowhere but where `goes_within` says that it would go from there as well.
    pub fn sent_path<'p>(
        &self,
        (rule, longest): (&Rewrite, ByteSize),
        asked: &Query<'p>,
        goes_within: impl FnOnce(usize) -> bool,
    ) -> Result<Cow<'p, str>, Unsendable<'p>> {
        let path = rewrite(rule, asked.path)?;
        if path.len() > longest.as_usize() {
            return Err(Unsendable::TooLong);
        }
        let made = Query {
            raw_path: &path,
            path: &path,
            ..*asked
        };
        match self.exclusive(&made) {
            Some(route) if !goes_within(route) => Err(Unsendable::Exclusive { path, route }),
            Some(_) | None => Ok(path),
        }
    }
}
