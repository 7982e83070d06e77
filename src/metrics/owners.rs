//! Whom series are of: listeners, routes, upstreams and endpoints, by name. Who they are is said by others.

use std::collections::HashSet;

use super::labels::{Label, NO_ROUTE, Values};
use super::totals::Labels;

/// Names of things that series are of.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    /// Listeners.
    pub listeners: HashSet<&'a str>,
    /// Routes.
    pub routes: HashSet<&'a str>,
    /// Upstreams.
    pub upstreams: HashSet<&'a str>,
    /// Endpoints, each with its upstream's name before its own.
    pub endpoints: HashSet<(&'a str, &'a str)>,
}

impl Owners<'_> {
    /// Whether a series with these labels is of nobody else.
    pub fn own_all(&self, labels: &Labels) -> bool {
        let of = |label| labels.get(label).map(String::as_str);
        let is_in = |names: &HashSet<&str>, label| of(label).is_none_or(|it| names.contains(it));
        let is_endpoint = of("endpoint").is_none_or(|endpoint| {
            let upstream = of("upstream").unwrap_or_default();
            self.endpoints.contains(&(upstream, endpoint))
        });
        is_endpoint
            && is_in(&self.listeners, "listener")
            && is_in(&self.upstreams, "upstream")
            && (of("route") == Some(NO_ROUTE) || is_in(&self.routes, "route"))
    }

    /// Whether a series with these `values` of `labels` is of one of them.
    pub(super) fn own_some(&self, labels: &[Label], values: &[&str]) -> bool {
        let mut upstream = "";
        labels
            .iter()
            .zip(values)
            .any(|(label, value)| match label.values {
                Values::Listeners => self.listeners.contains(value),
                Values::Routes | Values::Mirrors => self.routes.contains(value),
                Values::Upstreams => {
                    upstream = value;
                    self.upstreams.contains(value)
                }
                Values::Endpoints => self.endpoints.contains(&(upstream, *value)),
                Values::Sets
                | Values::Certificates
                | Values::Threads
                | Values::Codes
                | Values::One
                | Values::Words(_) => false,
            })
    }

    /// Whether a series with these labels can be of one of them.
    pub(super) fn may_own(&self, labels: &[Label]) -> bool {
        labels.iter().any(|label| match label.values {
            Values::Listeners => !self.listeners.is_empty(),
            Values::Routes | Values::Mirrors => !self.routes.is_empty(),
            Values::Upstreams => !self.upstreams.is_empty(),
            Values::Endpoints => !self.endpoints.is_empty(),
            Values::Sets
            | Values::Certificates
            | Values::Threads
            | Values::Codes
            | Values::One
            | Values::Words(_) => false,
        })
    }
}
