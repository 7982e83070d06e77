//! The last quarter of an hour, as people want to look at it: rates and latencies of each route, upstream and endpoint, made of
//! the metrics at every step. Where nothing scrapes the balancer this is what there is; it does not outlive the process.

mod reading;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use self::reading::Counted;
pub use self::reading::Reading;
use super::cells::SECONDS;
use crate::units::unix_seconds;

/// Between two points.
pub const STEP: Duration = Duration::from_secs(5);
/// Points kept: 15 minutes.
pub const POINTS: usize = 180;
/// Latencies shown: half, and all but one in 20, in 100.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// What has been, of every route, upstream and endpoint that there is.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    routes: BTreeMap<String, Series>,
    upstreams: BTreeMap<String, Group>,
    /// Unix time in seconds of the last point.
    until: u64,
}

/// One upstream, and its endpoints.
#[derive(Clone, Debug, Default)]
struct Group {
    points: Points,
    endpoints: BTreeMap<String, Series>,
}

/// One route or endpoint: what was counted by the last point, and the points.
#[derive(Clone, Debug, Default)]
struct Series {
    last: Counted,
    points: Points,
    /// Whether it was there at the last point.
    is_there: bool,
}

/// Those kept, oldest first.
#[derive(Clone, Debug, Default)]
struct Points(VecDeque<Point>);

/// What was between two points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// A second.
    requests: f32,
    errors: f32,
    /// Seconds; none where nothing was answered.
    quantiles: [Option<f32>; 3],
    /// At its end.
    in_flight: u32,
}

/// Points of each route and upstream, or of each endpoint of one upstream, as JSON. The lists begin with the oldest point; the
/// last one ended at `until`.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// Unix time in seconds.
    until: u64,
    /// Between two points.
    step_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<Named<'a, Lists>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstreams: Option<Vec<Named<'a, Lists>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<Named<'a, Lists>>>,
}

/// The last point of each route and upstream, as JSON.
#[derive(Debug, Serialize)]
pub struct Latest<'a> {
    /// Unix time in seconds.
    until: u64,
    routes: Vec<Named<'a, Numbers>>,
    upstreams: Vec<Named<'a, Numbers>>,
}

#[derive(Debug, Serialize)]
struct Named<'a, T> {
    /// Of an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    name: &'a str,
    #[serde(flatten)]
    points: T,
}

#[derive(Debug, Default, Serialize)]
struct Lists {
    /// A second.
    requests: Vec<f32>,
    errors: Vec<f32>,
    /// Seconds.
    p50: Vec<Option<f32>>,
    p95: Vec<Option<f32>>,
    p99: Vec<Option<f32>>,
    in_flight: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct Numbers {
    requests: f32,
    errors: f32,
    p50: Option<f32>,
    p95: Option<f32>,
    p99: Option<f32>,
    in_flight: u32,
}

impl Recent {
    /// Nothing yet.
    pub fn since(start: SystemTime) -> Self {
        Self {
            until: unix_seconds(start),
            ..Self::default()
        }
    }

    /// Adds a point, `after` the last one: what was counted is `reading`, and `in_flight` tells what each endpoint has, by the
    /// names of its upstream and its own. What is in the reading no more is let go of.
    pub fn add(
        &mut self,
        reading: Reading,
        in_flight: impl Fn(&str, &str) -> u32,
        (now, after): (SystemTime, Duration),
    ) {
        self.until = unix_seconds(now);
        for (name, counted) in reading.routes {
            let in_flight = reading.in_flight.get(&name).copied().unwrap_or(0);
            let series = self.routes.entry(name).or_default();
            series.add(counted, in_flight, after);
        }
        // Of what each endpoint has done since, and not of the sums: those fall when an endpoint goes.
        for (upstream, endpoints) in reading.endpoints {
            let (mut sum, mut all) = (Counted::default(), 0_u32);
            let group = self.upstreams.entry(upstream.clone()).or_default();
            for (endpoint, counted) in endpoints {
                let has = in_flight(&upstream, &endpoint);
                let series = group.endpoints.entry(endpoint).or_default();
                sum.add(&series.add(counted, has, after));
                all = all.saturating_add(has);
            }
            group.points.push(sum.point(all, after));
        }
        let is_there = |_: &String, series: &mut Series| std::mem::take(&mut series.is_there);
        self.routes.retain(is_there);
        self.upstreams.retain(|_, group| {
            group.endpoints.retain(is_there);
            !group.endpoints.is_empty()
        });
    }

    /// Unix time in seconds of the last point.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The last `points` of every route and upstream.
    pub fn shown(&self, points: usize) -> Shown<'_> {
        let routes = self.routes.iter();
        let upstreams = self.upstreams.iter();
        Shown {
            routes: Some(
                routes
                    .map(|(name, series)| named(name, series.points.lists(points)))
                    .collect(),
            ),
            upstreams: Some(
                upstreams
                    .map(|(name, group)| named(name, group.points.lists(points)))
                    .collect(),
            ),
            ..self.envelope()
        }
    }

    /// The last `points` of every endpoint of `upstream`.
    pub fn endpoints<'a>(&'a self, upstream: &'a str, points: usize) -> Shown<'a> {
        let group = self.upstreams.get(upstream);
        let endpoints = group.iter().flat_map(|group| &group.endpoints);
        let shown = endpoints.map(|(name, series)| Named {
            upstream: Some(upstream),
            ..named(name, series.points.lists(points))
        });
        Shown {
            endpoints: Some(shown.collect()),
            ..self.envelope()
        }
    }

    /// The last point of every route and upstream.
    pub fn latest(&self) -> Latest<'_> {
        let last = |name, points: &Points| Some(named(name, points.last()?));
        let routes = self.routes.iter();
        let upstreams = self.upstreams.iter();
        Latest {
            until: self.until,
            routes: routes
                .filter_map(|(name, series)| last(name, &series.points))
                .collect(),
            upstreams: upstreams
                .filter_map(|(name, group)| last(name, &group.points))
                .collect(),
        }
    }

    fn envelope<'a>(&self) -> Shown<'a> {
        Shown {
            until: self.until,
            step_seconds: STEP.as_secs(),
            routes: None,
            upstreams: None,
            endpoints: None,
        }
    }
}

fn named<T>(name: &str, points: T) -> Named<'_, T> {
    Named {
        upstream: None,
        name,
        points,
    }
}

impl Series {
    /// Adds a point: what was counted by now, of which it returns what is more than by the last one.
    fn add(&mut self, counted: Counted, in_flight: u32, after: Duration) -> Counted {
        let more = counted.since(&self.last);
        self.points.push(more.point(in_flight, after));
        self.last = counted;
        self.is_there = true;
        more
    }
}

impl Points {
    fn push(&mut self, point: Point) {
        if self.0.len() == POINTS {
            self.0.pop_front();
        } else {
            // Room for no more than are kept: by doubling it would be half as much again.
            self.0
                .reserve_exact(1.max(self.0.len().min(POINTS - self.0.len())));
        }
        self.0.push_back(point);
    }

    fn lists(&self, points: usize) -> Lists {
        let mut lists = Lists::default();
        for point in self.0.iter().skip(self.0.len().saturating_sub(points)) {
            lists.requests.push(point.requests);
            lists.errors.push(point.errors);
            let [p50, p95, p99] = point.quantiles;
            lists.p50.push(p50);
            lists.p95.push(p95);
            lists.p99.push(p99);
            lists.in_flight.push(point.in_flight);
        }
        lists
    }

    fn last(&self) -> Option<Numbers> {
        let point = self.0.back()?;
        let [p50, p95, p99] = point.quantiles;
        Some(Numbers {
            requests: point.requests,
            errors: point.errors,
            p50,
            p95,
            p99,
            in_flight: point.in_flight,
        })
    }
}

impl Counted {
    /// What was between two points, `after` one another.
    fn point(&self, in_flight: u32, after: Duration) -> Point {
        let rate = |count: u64| {
            let rate = count as f64 / after.as_secs_f64().max(0.001);
            // As many digits as anybody reads.
            ((rate * 1000.0).round() / 1000.0) as f32
        };
        Point {
            requests: rate(self.requests),
            errors: rate(self.errors),
            quantiles: QUANTILES
                .map(|share| quantile(&self.buckets, self.timed, share).map(seconds)),
            in_flight,
        }
    }
}

/// To the tenth of a microsecond.
fn seconds(seconds: f64) -> f32 {
    ((seconds * 1e7).round() / 1e7) as f32
}

/// The duration that a `share` of `total` did not exceed, as far as cumulative `buckets` tell: straight between two bounds, and
/// the last bound for what took longer.
fn quantile(buckets: &[u64], total: u64, share: f64) -> Option<f64> {
    if total == 0 {
        return None;
    }
    let rank = share * total as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, count) in SECONDS.iter().zip(buckets) {
        if *count as f64 >= rank && *count > below {
            let part = (rank - below as f64) / (*count - below) as f64;
            return Some(lower + (bound - lower) * part.clamp(0.0, 1.0));
        }
        (lower, below) = (*bound, *count);
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::owners::Owners;
    use crate::metrics::{EndpointMetrics, Metrics, RouteMetrics};

    fn shown(recent: &Recent) -> Value {
        serde_json::to_value(recent.shown(POINTS)).unwrap()
    }

    fn endpoints(recent: &Recent, upstream: &str) -> Value {
        serde_json::to_value(recent.endpoints(upstream, POINTS)).unwrap()["endpoints"].take()
    }

    fn take(recent: &mut Recent, metrics: &Metrics) {
        let in_flight = |_: &str, endpoint: &str| if endpoint == "one" { 2 } else { 5 };
        let now = UNIX_EPOCH + Duration::from_secs(100);
        recent.add(Reading::of(metrics), in_flight, (now, STEP));
    }

    /// The first of the two endpoints is gone.
    fn retire(metrics: &Metrics) {
        metrics.retire(&Owners {
            endpoints: [("app", "one")].into(),
            ..Owners::default()
        });
    }

    #[test]
    fn points_are_what_was_counted_between_them() {
        let metrics = Metrics::new();
        let route = RouteMetrics::new(&metrics, "/", ["http"].into_iter());
        let endpoint = EndpointMetrics::new(&metrics, "app", "one");
        let mut recent = Recent::default();
        take(&mut recent, &metrics);
        for code in [200, 200, 503, 404, 500] {
            route.count(0, &http::Method::GET, code);
            route.duration.observe(0.002);
            endpoint.count(code);
            endpoint.response.observe(20.0);
        }
        for _ in 0..10 {
            endpoint.count_failure("refused");
        }
        route.in_flight.set(3);
        take(&mut recent, &metrics);
        take(&mut recent, &metrics);
        let shown = shown(&recent);
        assert_eq!(
            (&shown["until"], &shown["step_seconds"]),
            (&json!(100), &json!(5))
        );
        let route = &shown["routes"][0];
        assert_eq!(route["name"], "/");
        assert_eq!(route["requests"], json!([0.0, 1.0, 0.0]));
        assert_eq!(route["errors"][1], json!(0.4_f32));
        assert_eq!(route["in_flight"], json!([0, 3, 3]));
        assert_eq!(
            route["p50"],
            json!([null, 0.00175_f32, null]),
            "between 1 and 2.5 ms"
        );
        let endpoint = &endpoints(&recent, "app")[0];
        assert_eq!(
            (&endpoint["upstream"], &endpoint["name"]),
            (&json!("app"), &json!("one"))
        );
        assert_eq!(endpoint["requests"], json!([0.0, 3.0, 0.0]));
        assert_eq!(endpoint["errors"][1], json!(2.4_f32));
        assert!(endpoint["p99"][1].as_f64().unwrap() > 15.0);
        assert_eq!(endpoint["in_flight"], json!([2, 2, 2]));
        assert_eq!(endpoints(&recent, "other"), json!([]));
        // The last point alone.
        let last = serde_json::to_value(recent.latest()).unwrap();
        assert_eq!(last["routes"][0]["in_flight"], 3);
        assert_eq!(last["upstreams"][0]["p50"], Value::Null);
        let one = serde_json::to_value(recent.shown(1)).unwrap();
        assert_eq!(one["routes"][0]["in_flight"], json!([3]));
    }

    #[test]
    fn upstream_is_the_sum_of_its_endpoints_and_says_nothing_more_when_one_of_them_goes() {
        let metrics = Metrics::new();
        let [one, two] = ["one", "two"].map(|name| EndpointMetrics::new(&metrics, "app", name));
        let mut recent = Recent::default();
        take(&mut recent, &metrics);
        // Nine of ten are quick.
        for number in 0..100 {
            let (endpoint, took) = if number % 10 == 0 {
                (&two, 0.4)
            } else {
                (&one, 0.002)
            };
            endpoint.response.observe(took);
            endpoint.count(200);
        }
        take(&mut recent, &metrics);
        retire(&metrics);
        take(&mut recent, &metrics);
        let upstream = &shown(&recent)["upstreams"][0];
        assert_eq!(upstream["name"], "app");
        assert_eq!(upstream["requests"], json!([0.0, 20.0, 0.0]));
        assert_eq!(upstream["in_flight"], json!([7, 7, 5]));
        let at = |list: &str| upstream[list][1].as_f64().unwrap();
        assert!(at("p50") < 0.0025 && at("p95") > 0.25, "{upstream}");
        let left = endpoints(&recent, "app");
        assert_eq!(left.as_array().unwrap().len(), 1);
        assert_eq!(left[0]["name"], "two");
    }

    #[test]
    fn a_quarter_of_an_hour_is_kept_and_nothing_of_what_is_gone() {
        let metrics = Metrics::new();
        let _endpoint = EndpointMetrics::new(&metrics, "app", "one");
        let mut recent = Recent::default();
        for _ in 0..POINTS + 5 {
            take(&mut recent, &metrics);
        }
        let lists = [
            &endpoints(&recent, "app")[0],
            &shown(&recent)["upstreams"][0],
        ];
        for list in lists {
            let points = list["requests"].as_array().unwrap().len();
            assert_eq!(points as u64 * STEP.as_secs(), 15 * 60);
        }
        retire(&metrics);
        take(&mut recent, &metrics);
        assert_eq!(endpoints(&recent, "app"), json!([]));
        assert_eq!(shown(&recent)["upstreams"], json!([]));
    }

    #[test]
    fn a_quarter_of_an_hour_of_a_thousand_endpoints_fits_into_32_mebibytes() {
        let metrics = Metrics::new();
        let _endpoint = EndpointMetrics::new(&metrics, "app", "one");
        let mut recent = Recent::default();
        for _ in 0..2 * POINTS {
            take(&mut recent, &metrics);
        }
        let series = &recent.upstreams["app"].endpoints["one"];
        let counted = |series: &Series| series.last.buckets.capacity() * size_of::<u64>();
        let points = series.points.0.capacity() * size_of::<Point>();
        assert!(
            series.points.0.capacity() <= POINTS + POINTS / 10,
            "{points}"
        );
        // A name of the greatest length, and what a map needs besides, twice: half of it may be empty.
        let one = size_of::<Series>() + counted(series) + points + 2 * 256;
        let (routes, copies) = (200, 2); // while it is read, there may be a second one
        assert!(copies * (1000 + routes) * one <= 24 << 20, "{one}");
    }

    proptest! {
        #[test]
        fn quantiles_are_in_order_and_within_the_bounds(counts in prop::collection::vec(0_u64..1000, 14), over in 0_u64..10) {
            let mut sum = 0;
            let buckets: Vec<u64> = counts.iter().map(|count| {
                sum += count;
                sum
            }).collect();
            let of = |share| quantile(&buckets, sum + over, share);
            if sum + over == 0 {
                prop_assert_eq!(of(0.5), None);
            } else {
                let [p50, p95, p99] = QUANTILES.map(|share| of(share).unwrap());
                prop_assert!(0.0 <= p50 && p50 <= p95 && p95 <= p99 && p99 <= 60.0);
            }
        }

        #[test]
        fn a_quantile_lies_in_the_bucket_of_the_sample_it_stands_for(samples in prop::collection::vec(0.0_f64..60.0, 1..200)) {
            let mut samples = samples;
            samples.sort_by(f64::total_cmp);
            let buckets: Vec<u64> = SECONDS.iter()
                .map(|bound| samples.iter().filter(|it| *it <= bound).count() as u64).collect();
            let median = quantile(&buckets, samples.len() as u64, 0.5).unwrap();
            let real = samples[(samples.len() - 1) / 2];
            let bucket = |value: f64| SECONDS.iter().position(|bound| value <= *bound);
            prop_assert_eq!(bucket(median), bucket(real));
        }
    }
}
