//! Which endpoints and routes are listed, in which order.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::data::{Endpoint, Route, Series, Status, Traffic, Upstream};

/// One endpoint, with what is known of its traffic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) endpoint: &'a Endpoint,
    pub(super) series: Option<&'a Series>,
}

/// A line of the list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'a> {
    /// What stands below is of this one.
    Upstream(&'a Upstream),
    Endpoint(Row<'a>),
}

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Column {
    /// Troubled ones first.
    State,
    Name,
    Since,
    InFlight,
    Requests,
    Errors,
    Latency,
    Retries,
    Weight,
    Version,
}

/// In which order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sort {
    pub(super) column: Column,
    /// The other way round than is usual.
    pub(super) inverted: bool,
}

impl Column {
    /// As they stand from left to right.
    pub(super) const ALL: [Self; 10] = [
        Self::Name,
        Self::State,
        Self::Since,
        Self::InFlight,
        Self::Requests,
        Self::Errors,
        Self::Latency,
        Self::Retries,
        Self::Weight,
        Self::Version,
    ];

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => "trouble",
            Self::Name => "name",
            Self::Since => "since",
            Self::InFlight => "in flight",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Latency => "p99",
            Self::Retries => "retries",
            Self::Weight => "weight",
            Self::Version => "version",
        }
    }

    /// The next one to the right, or to the left; from the last to the first.
    pub(super) fn beside(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|other| *other == self);
        Self::ALL[(at.unwrap_or(0) + steps) % Self::ALL.len()]
    }
}

/// The endpoints whose texts hold `filter`, in the order of `sort`, below their upstreams where they are `grouped`.
pub(super) fn lines<'a>(
    (status, traffic): (&'a Status, &'a Traffic),
    filter: &str,
    sort: Sort,
    grouped: bool,
) -> Vec<Line<'a>> {
    let mut rows = rows(status, traffic);
    rows.retain(|row| row.holds(filter));
    rows.sort_by(|a, b| sort.order(a, b));
    if !grouped {
        return rows.into_iter().map(Line::Endpoint).collect();
    }
    // An upstream stands where its first endpoint would.
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in &rows {
        let next = places.len();
        places.entry(&row.upstream.name.raw).or_insert(next);
    }
    rows.sort_by_key(|row| places[row.upstream.name.raw.as_str()]);
    let mut lines = Vec::with_capacity(rows.len() + places.len());
    let mut above = None;
    for row in rows {
        let name = &row.upstream.name.raw;
        if above != Some(name) {
            above = Some(name);
            lines.push(Line::Upstream(row.upstream));
        }
        lines.push(Line::Endpoint(row));
    }
    lines
}

/// Every endpoint, in the order of the file.
pub(super) fn rows<'a>(status: &'a Status, traffic: &'a Traffic) -> Vec<Row<'a>> {
    let upstreams = status.upstreams.iter();
    let rows = upstreams.flat_map(|upstream| {
        upstream.endpoints.iter().map(|endpoint| Row {
            upstream,
            endpoint,
            series: traffic.endpoint(&upstream.name.raw, &endpoint.name.raw),
        })
    });
    rows.collect()
}

/// The routes whose texts hold `filter`; those with the most errors first, then those with the most requests.
pub(super) fn routes<'a>(
    (status, traffic): (&'a Status, &'a Traffic),
    filter: &str,
) -> Vec<(&'a Route, Option<&'a Series>)> {
    let routes = status.routes.iter();
    let mut routes: Vec<_> = routes
        .filter(|route| {
            let upstreams = route.upstream.iter();
            let upstreams = upstreams.chain(route.split.iter().map(|share| &share.upstream));
            holds(route.name.shown(), filter)
                || upstreams
                    .into_iter()
                    .any(|name| holds(name.as_str(), filter))
        })
        .map(|route| (route, traffic.routes.get(&route.name.raw)))
        .collect();
    let last = |series: Option<&Series>, errors: bool| {
        let points = series.map(|it| if errors { &it.errors } else { &it.requests });
        points.and_then(|points| points.last()).unwrap_or(0.0)
    };
    routes.sort_by(|a, b| {
        let by = |errors| last(b.1, errors).total_cmp(&last(a.1, errors));
        by(true).then_with(|| by(false))
    });
    routes
}

impl Row<'_> {
    /// Whether it is the one of these names, as they are asked for.
    pub(super) fn is(&self, upstream: &str, endpoint: &str) -> bool {
        self.upstream.name.raw == upstream && self.endpoint.name.raw == endpoint
    }

    /// `UPSTREAM/ENDPOINT`, as it may be drawn.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.upstream.name, self.endpoint.name)
    }

    pub(super) fn requests(&self) -> Option<f32> {
        self.series.and_then(|series| series.requests.last())
    }

    pub(super) fn errors(&self) -> Option<f32> {
        self.series.and_then(|series| series.errors.last())
    }

    pub(super) fn p99(&self) -> Option<f32> {
        self.series.and_then(|series| series.p99.last())
    }

    fn holds(&self, filter: &str) -> bool {
        let Endpoint {
            state,
            reason,
            version,
            set,
            ..
        } = self.endpoint;
        let texts = [reason, version, set].into_iter().flatten();
        filter.is_empty()
            || holds(&self.name(), filter)
            || holds(state.as_str(), filter)
            || texts.into_iter().any(|text| holds(text.as_str(), filter))
    }
}

/// Whatever the case.
fn holds(text: &str, filter: &str) -> bool {
    filter.is_empty() || text.to_lowercase().contains(&filter.to_lowercase())
}

impl Sort {
    fn order(self, a: &Row<'_>, b: &Row<'_>) -> Ordering {
        let most = |of: fn(&Row<'_>) -> f32| of(b).total_cmp(&of(a));
        let order = match self.column {
            Column::State => Ordering::Equal,
            Column::Name => (a.upstream.name.shown(), a.endpoint.name.shown())
                .cmp(&(b.upstream.name.shown(), b.endpoint.name.shown())),
            // The latest change first.
            Column::Since => b.endpoint.since.cmp(&a.endpoint.since),
            Column::InFlight => b.endpoint.in_flight.cmp(&a.endpoint.in_flight),
            Column::Requests => most(|row| row.requests().unwrap_or(-1.0)),
            Column::Errors => most(|row| row.errors().unwrap_or(-1.0)),
            Column::Latency => most(|row| row.p99().unwrap_or(-1.0)),
            Column::Retries => b.endpoint.retries.cmp(&a.endpoint.retries),
            Column::Weight => b.endpoint.weight.cmp(&a.endpoint.weight),
            Column::Version => a.endpoint.version.cmp(&b.endpoint.version),
        };
        let order = order.then_with(|| a.endpoint.urgency().cmp(&b.endpoint.urgency()));
        if self.inverted {
            order.reverse()
        } else {
            order
        }
    }
}
