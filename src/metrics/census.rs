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
    let (by_endpoint, by_certificate) = (
        has(|values| matches!(values, Values::Endpoints)),
        has(|values| matches!(values, Values::Certificates)),
    );
    let values = family.labels.iter().map(|label| match label.values {
        // Told apart by what each has.
        Values::Upstreams if by_endpoint => 1,
        Values::Listeners if by_certificate => 1,
        Values::Listeners => sizes.listeners,
        Values::Routes => sizes.routes + 1,
        Values::Mirrors => sizes.mirrors,
        Values::Upstreams => sizes.upstreams,
        Values::Endpoints => sizes.endpoints,
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
