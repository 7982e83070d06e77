//! Which tables a host leads to: exact host, then longest wildcard, then any host. Knows nothing of what they hold.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::config::HostPattern;
use crate::units::Name;

/// A value of type `T` per host pattern.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    exact: HashMap<Name, T, FixedState>,
    /// By what follows `*.`.
    wildcard: HashMap<Name, T, FixedState>,
    /// Labels and bytes of the longest wildcard: a hostile host of thousands of labels costs no more than these.
    most_labels: usize,
    most_bytes: usize,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            wildcard: HashMap::default(),
            most_labels: 0,
            most_bytes: 0,
            any: None,
        }
    }
}

impl<T: Default> Hosts<T> {
    /// The value of `pattern` (`None`: any host), made where there is none.
    pub(super) fn entry(&mut self, pattern: Option<&HostPattern>) -> &mut T {
        match pattern {
            None => self.any.get_or_insert_default(),
            Some(HostPattern::Exact(host)) => self.exact.entry(host.clone()).or_default(),
            Some(HostPattern::Wildcard(parent)) => {
                self.most_labels = self.most_labels.max(parent.split('.').count());
                self.most_bytes = self.most_bytes.max(parent.len());
                self.wildcard.entry(parent.clone()).or_default()
            }
        }
    }
}

impl<T> Hosts<T> {
    /// The values whose patterns take `host`, most specific first.
    pub(super) fn of(&self, host: &str) -> SmallVec<[&T; 4]> {
        let mut found = SmallVec::new();
        found.extend(self.exact.get(host));
        if !self.wildcard.is_empty() {
            let shortest_first = host
                .rmatch_indices('.')
                // At least one byte of a label in front.
                .take_while(|(dot, _)| *dot > 0 && host.len() - dot - 1 <= self.most_bytes)
                .take(self.most_labels);
            let from = found.len();
            found.extend(shortest_first.filter_map(|(dot, _)| self.wildcard.get(&host[dot + 1..])));
            found[from..].reverse();
        }
        found.extend(self.any.as_ref());
        found
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact
            .values_mut()
            .chain(self.wildcard.values_mut())
            .chain(self.any.as_mut())
    }
}

/// Whether `pattern` takes `host`.
pub(super) fn takes(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(exact) => **exact == *host,
        HostPattern::Wildcard(parent) => host
            .strip_suffix(&**parent)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(patterns: &[&str]) -> Hosts<String> {
        let mut hosts = Hosts::default();
        for pattern in patterns {
            let key = match pattern.strip_prefix("*.") {
                Some(parent) => Some(HostPattern::Wildcard(parent.into())),
                None if *pattern == "*" => None,
                None => Some(HostPattern::Exact((*pattern).into())),
            };
            (*pattern).clone_into(hosts.entry(key.as_ref()));
        }
        hosts
    }

    #[test]
    fn exact_comes_before_longest_wildcard_before_any() {
        let hosts = hosts(&["*", "*.test", "*.a.test", "x.a.test"]);
        assert_eq!(
            hosts.of("x.a.test")[..],
            ["x.a.test", "*.a.test", "*.test", "*"]
        );
        assert_eq!(hosts.of("y.a.test")[..], ["*.a.test", "*.test", "*"]);
        assert_eq!(hosts.of("other")[..], ["*"]);
        assert_eq!(hosts.of("")[..], ["*"]);
    }

    #[test]
    fn a_wildcard_takes_one_label_or_more() {
        let hosts = hosts(&["*.a.test"]);
        assert_eq!(hosts.of("x.y.z.a.test")[..], ["*.a.test"]);
        for host in ["a.test", ".a.test", "xa.test", "test"] {
            assert!(hosts.of(host).is_empty(), "{host}");
            assert!(
                !takes(&HostPattern::Wildcard("a.test".into()), host),
                "{host}"
            );
        }
    }

    #[test]
    fn a_host_of_many_labels_is_looked_at_only_as_far_as_wildcards_reach() {
        let host = format!("{}a.test", "x.".repeat(1_000_000));
        assert_eq!(hosts(&["*.a.test"]).of(&host)[..], ["*.a.test"]);
    }
}
