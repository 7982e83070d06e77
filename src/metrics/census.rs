//! How many series a configuration can come to: a family has at most one for each combination of its labels' values.

use super::catalogue::FAMILIES;
use super::cells::SECONDS;
use super::family::{Family, Kind};
use super::labels::{HIGHEST_CODE, LOWEST_CODE, METHODS, Values};

/// Of what a configuration has how many.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Listeners.
    pub listeners: usize,
    /// Certificates of all listeners.
    pub certificates: usize,
    /// Routes.
    pub routes: usize,
    /// Routes with a mirror.
    pub mirrors: usize,
    /// Upstreams.
    pub upstreams: usize,
    /// Endpoints of all upstreams.
    pub endpoints: usize,
    /// Sets of endpoints, of all upstreams.
    pub sets: usize,
    /// Workers.
    pub workers: usize,
}

/// What requests and responses turn out to be.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Different statuses of a route or an endpoint.
    pub codes: usize,
    /// Different methods that a route is asked with.
    pub methods: usize,
}

impl Mix {
    /// As much as can be.
    pub const ANY: Self = Self {
        codes: (HIGHEST_CODE - LOWEST_CODE + 1) as usize,
        methods: METHODS.len(),
    };

    /// Already much, where nobody makes series on purpose.
    pub const USUAL: Self = Self {
        codes: 8,
        methods: 3,
    };
}

/// The series of every family, most first.
pub fn families(sizes: &Sizes, mix: Mix) -> Vec<(&'static Family, usize)> {
    let count = |family| (family, of(family, sizes, mix));
    let mut all: Vec<_> = FAMILIES.iter().map(count).collect();
    all.sort_by_key(|(_, series)| std::cmp::Reverse(*series));
    all
}

/// The series of all families together, with those of the process.
pub fn total(sizes: &Sizes, mix: Mix) -> usize {
    let families = FAMILIES.iter().map(|family| of(family, sizes, mix));
    families.fold(PROCESS, usize::saturating_add)
}

/// CPU time, memory (2), file descriptors (2), threads, start time.
const PROCESS: usize = 7;
/// Threads that are no workers: the one that decides, those that do for it what takes long, and those that write logs or talk to
/// another process. A few to spare.
const OTHER_THREADS: usize = 16;
/// Buckets, the one beyond, sum and count.
const PER_HISTOGRAM: usize = SECONDS.len() + 3;

fn of(family: &Family, sizes: &Sizes, mix: Mix) -> usize {
    let has = |wanted: fn(&Values) -> bool| {
        let mut labels = family.labels.iter();
        labels.any(|label| wanted(&label.values))
    };
    let (by_part, by_certificate) = (
        has(|values| matches!(values, Values::Endpoints | Values::Sets)),
        has(|values| matches!(values, Values::Certificates)),
    );
    let values = family.labels.iter().map(|label| match label.values {
        // Told apart by what each has.
        Values::Upstreams if by_part => 1,
        Values::Listeners if by_certificate => 1,
        Values::Listeners => sizes.listeners,
        Values::Routes => sizes.routes + 1,
        Values::Mirrors => sizes.mirrors,
        Values::Upstreams => sizes.upstreams,
        Values::Endpoints => sizes.endpoints,
        Values::Sets => sizes.sets,
        Values::Certificates => sizes.certificates,
        Values::Threads => sizes.workers + OTHER_THREADS,
        Values::Codes => mix.codes,
        Values::One => 1,
        // The only set whose words clients choose from.
        Values::Words(_) if label.name == "method" => mix.methods,
        Values::Words(words) => words.len(),
    });
    let per_series = match family.kind {
        Kind::Counter | Kind::Gauge => 1,
        Kind::Histogram => PER_HISTOGRAM,
    };
    values.fold(per_series, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::encode::{Format, text};
    use crate::metrics::labels::{FLIPS, REASONS, REPINS};
    use crate::metrics::{
        EndpointMetrics, ListenerMetrics, Metrics, MirrorMetrics, RouteMetrics, UpstreamMetrics,
    };

    /// Lines of each family.
    fn lines(metrics: &Metrics) -> BTreeMap<String, usize> {
        let text = text(metrics, Format::Text);
        let mut families = BTreeMap::new();
        let mut count = &mut 0;
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                let name = head.split(' ').next().unwrap_or_default();
                count = families.entry(name.to_owned()).or_default();
            } else if !line.starts_with('#') {
                *count += 1;
            }
        }
        families
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("n{index}")).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_family_ever_has_more_series_than_are_said(
            (listeners, routes, mirrors) in (1..4_usize, 0..4_usize, 0..4_usize),
            (endpoints, sets) in (proptest::collection::vec(0..4_usize, 0..3), 0..4_usize),
            events in proptest::collection::vec((any::<prop::sample::Index>(), 0..1000_u16, 0..12_usize), 0..200),
        ) {
            let metrics = Metrics::new();
            let listeners = names(listeners);
            let mirrors = mirrors.min(routes);
            for name in &listeners {
                ListenerMetrics::new(&metrics, name);
                metrics.tls_certificate_not_after.with_label_values(&[name, "a.pem"]);
            }
            let made: Vec<_> = names(routes)
                .iter()
                .map(String::as_str)
                .chain(["(none)"])
                .map(|name| RouteMetrics::new(&metrics, name, listeners.iter().map(String::as_str)))
                .collect();
            for name in &names(routes)[..mirrors] {
                MirrorMetrics::new(&metrics, name);
            }
            let upstreams: Vec<_> = names(endpoints.len())
                .iter()
                .zip(&endpoints)
                .map(|(name, endpoints)| {
                    let endpoints = names(*endpoints);
                    let endpoints = endpoints.iter().map(|it| EndpointMetrics::new(&metrics, name, it)).inspect(|it| { it.shown(&metrics); });
                    (UpstreamMetrics::new(&metrics, name), endpoints.collect::<Vec<_>>())
                })
                .collect();
            for name in names(upstreams.len()) {
                for set in names(sets.div_ceil(upstreams.len())) {
                    // As many as there are, however they are spread.
                    if metrics.active_set.len() < sets {
                        metrics.active_set.with_label_values(&[&name, &set]);
                    }
                }
                metrics.set_differs.with_label_values(&[&name]);
                for result in FLIPS {
                    metrics.flips.with_label_values(&[&*name, result]).inc();
                }
                metrics.paused.with_label_values(&[&name]);
                metrics.held_requests.with_label_values(&[&name]);
            }
            let asked = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "BREW", "STEEP", "SIP"];
            let (mut codes, mut methods) = (HashSet::new(), HashSet::new());
            for (which, code, method) in &events {
                let route = which.get(&made);
                let method = Method::from_bytes(asked[*method].as_bytes()).unwrap();
                route.count(which.index(listeners.len()), &method, *code);
                route.count_error(REASONS[which.index(REASONS.len())]);
                codes.insert(code.clamp(&LOWEST_CODE, &HIGHEST_CODE));
                methods.insert(METHODS.iter().position(|known| *known == method.as_str()));
                if !upstreams.is_empty() {
                    let (upstream, endpoints) = which.get(&upstreams);
                    upstream.count_repin(REPINS[which.index(REPINS.len())]);
                    if !endpoints.is_empty() {
                        which.get(endpoints).count(*code);
                        which.get(endpoints).count_failure(REASONS[which.index(REASONS.len())]);
                    }
                }
            }
            let sizes = Sizes {
                listeners: listeners.len(),
                certificates: listeners.len(),
                routes,
                mirrors,
                upstreams: upstreams.len(),
                endpoints: endpoints.iter().sum(),
                sets,
                workers: 1,
            };
            let mix = Mix { codes: codes.len(), methods: methods.len() };
            let found = lines(&metrics);
            for (family, most) in families(&sizes, mix) {
                let found = found.get(family.name).copied().unwrap_or_default();
                prop_assert!(found <= most, "{}: {found} and not {most}", family.name);
            }
            // Where nothing depends on what requests turn out to be, it is as many as that.
            for (family, most) in families(&sizes, mix) {
                let is_certain = family.name.starts_with("balancer_endpoint_state") || family.kind == Kind::Histogram;
                let found = found.get(family.name).copied().unwrap_or_default();
                prop_assert!(found == most || !is_certain, "{}: {found} of {most}", family.name);
            }
            let found: usize = found.values().sum();
            prop_assert!(found <= total(&sizes, mix) && total(&sizes, mix) <= total(&sizes, Mix::ANY));
        }
    }
}
