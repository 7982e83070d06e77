//! What is read of the status and of the last quarter of an hour. There may be more, and some of it may be missing: balancers before
//! it was told say nothing of it.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de::IgnoredAny};

use super::plain::{Name, Plain};
use crate::upstream::state::STANDBY;

/// `GET /api/v1/status`
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub(super) version: Plain,
    pub(super) generation: u64,
    /// Unix time in seconds, as all of them.
    pub(super) started: u64,
    pub(super) last_reload: Option<LastReload>,
    pub(super) upgrade: Option<Upgrade>,
    #[serde(default)]
    pub(super) listeners: Vec<Listener>,
    pub(super) upstreams: Vec<Upstream>,
    #[serde(default)]
    pub(super) routes: Vec<Route>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct LastReload {
    pub(super) by: Plain,
    pub(super) result: Plain,
    pub(super) at: u64,
    pub(super) why: Option<Plain>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Upgrade {
    pub(super) state: Plain,
    pub(super) pid: u32,
    pub(super) connections: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listener {
    pub(super) open_connections: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Upstream {
    pub(super) name: Name,
    pub(super) policy: Plain,
    pub(super) available: usize,
    #[serde(default)]
    pub(super) queued: usize,
    #[serde(default)]
    pub(super) paused: bool,
    #[serde(default)]
    pub(super) held: usize,
    pub(super) headroom: Option<Headroom>,
    /// Who alone serves, where one endpoint does and no other.
    #[serde(default)]
    pub(super) authority: Option<Plain>,
    /// Why nobody does.
    #[serde(default)]
    pub(super) no_authority: Option<Plain>,
    /// The set that serves, where there are sets.
    #[serde(default)]
    pub(super) active_set: Option<Plain>,
    /// The one that the file names, where that is another.
    #[serde(default)]
    pub(super) file_set: Option<Plain>,
    /// The last flip from one to another.
    #[serde(default)]
    pub(super) flip: Option<Flip>,
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Flip {
    pub(super) from: Plain,
    pub(super) to: Plain,
    pub(super) phase: Plain,
    pub(super) over: bool,
    /// Of a hundred requests, those that the new set gets.
    pub(super) percent: u8,
    pub(super) verdict: Option<Plain>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Headroom {
    pub(super) could_lose: usize,
    by: Option<Plain>,
}

impl Headroom {
    /// What has to be said of it: where nobody has said what endpoints can carry, it is what they were seen to carry.
    pub(super) fn caveat(&self) -> &'static str {
        match self.by.as_ref().map(Plain::as_str) {
            Some("max_in_flight") | None => "",
            Some(_) => ", by what was seen so far",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Endpoint {
    pub(super) name: Name,
    pub(super) weight: u32,
    pub(super) mode: Plain,
    pub(super) state: Plain,
    pub(super) reason: Option<Plain>,
    pub(super) since: u64,
    pub(super) in_flight: u32,
    #[serde(default)]
    pub(super) tunnels: i64,
    pub(super) eligible: bool,
    #[serde(default)]
    pub(super) backup: bool,
    pub(super) version: Option<Plain>,
    pub(super) retries: Option<u64>,
    pub(super) set: Option<Plain>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Route {
    pub(super) name: Name,
    pub(super) upstream: Option<Plain>,
    #[serde(default)]
    pub(super) split: Vec<Share>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Share {
    pub(super) upstream: Plain,
    pub(super) weight: u32,
}

impl Endpoint {
    /// How much it asks for attention, most first.
    pub(super) fn urgency(&self) -> Urgency {
        match (self.mode.as_str(), self.state.as_str()) {
            ("draining", _) | (_, "draining") => Urgency::Draining,
            ("disabled", _) => Urgency::Disabled,
            (_, "down" | "unresolved") => Urgency::Down,
            (_, "ejected") => Urgency::Ejected,
            (_, "up" | "unchecked" | STANDBY) => Urgency::Well,
            // Degraded, not known yet, or of a kind that balancers after this one have.
            _ => Urgency::Doubtful,
        }
    }
}

/// See [`Endpoint::urgency`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Urgency {
    Down,
    Ejected,
    Doubtful,
    /// Taken out, by an operator or by itself.
    Draining,
    Disabled,
    Well,
}

impl Urgency {
    /// Whether somebody should look, as nobody wanted it so.
    pub(super) fn is_trouble(self) -> bool {
        match self {
            Self::Down | Self::Ejected | Self::Doubtful => true,
            Self::Draining | Self::Disabled | Self::Well => false,
        }
    }
}

/// `GET /api/v1/recent`, whole or of one upstream.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Recent {
    #[serde(default)]
    routes: Vec<Series>,
    #[serde(default)]
    upstreams: Vec<Series>,
    #[serde(default)]
    endpoints: Vec<Series>,
}

impl Recent {
    /// Of those that are told of.
    pub(super) fn upstream_names(&self) -> Vec<String> {
        self.upstreams.iter().map(|it| it.name.clone()).collect()
    }
}

/// One thing's last quarter of an hour, oldest first.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Series {
    pub(super) name: String,
    /// Per second.
    pub(super) requests: Points,
    pub(super) errors: Points,
    /// Seconds.
    pub(super) p50: Latest,
    pub(super) p95: Latest,
    pub(super) p99: Points,
    #[serde(default)]
    pub(super) in_flight: Latest,
}

/// Numbers, or NaN where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Points(pub(super) Vec<f32>);

/// Only the last one of them is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(from = "Points")]
pub(super) struct Latest(pub(super) Option<f32>);

impl Points {
    pub(super) fn last(&self) -> Option<f32> {
        self.0.last().copied().filter(|point| point.is_finite())
    }
}

impl From<Points> for Latest {
    fn from(points: Points) -> Self {
        Self(points.last())
    }
}

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PointsVisitor)
    }
}

struct PointsVisitor;

impl<'de> Visitor<'de> for PointsVisitor {
    type Value = Points;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers and nulls")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Points, A::Error> {
        let mut points = Vec::new();
        while points.len() < MOST_POINTS {
            let Some(point) = list.next_element::<Option<f32>>()? else {
                return Ok(Points(points));
            };
            points.push(point.unwrap_or(f32::NAN));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Points(points))
    }
}

const MOST_POINTS: usize = 1024; // 180 are promised

/// The last quarter of an hour, found by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    pub(super) routes: HashMap<String, Series>,
    pub(super) upstreams: HashMap<String, Series>,
    /// By upstream, of those that were asked for.
    endpoints: HashMap<String, HashMap<String, Series>>,
    /// Requests and errors per second, of all routes.
    pub(super) requests: Points,
    pub(super) errors: Points,
}

impl Traffic {
    /// Takes the place of what was known of routes and upstreams.
    pub(super) fn take(&mut self, recent: Recent) {
        let sum = |of: fn(&Series) -> &Points| sum(recent.routes.iter().map(of));
        (self.requests, self.errors) = (sum(|it| &it.requests), sum(|it| &it.errors));
        self.routes = by_name(recent.routes);
        self.upstreams = by_name(recent.upstreams);
        // Of what is gone nothing is kept.
        let upstreams = &self.upstreams;
        self.endpoints
            .retain(|name, _| upstreams.contains_key(name));
    }

    /// The same of the endpoints of `upstream`.
    pub(super) fn take_endpoints(&mut self, upstream: String, recent: Recent) {
        self.endpoints.insert(upstream, by_name(recent.endpoints));
    }

    pub(super) fn endpoint(&self, upstream: &str, endpoint: &str) -> Option<&Series> {
        self.endpoints.get(upstream)?.get(endpoint)
    }

    /// The route that is slowest now, and its p99.
    pub(super) fn slowest(&self) -> Option<(&Series, f32)> {
        let p99 = |series: &'_ Series| series.p99.last();
        let routes = self.routes.values();
        let timed = routes.filter_map(|series| p99(series).map(|p99| (series, p99)));
        timed.max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.name.cmp(&a.0.name)))
    }
}

fn by_name(series: Vec<Series>) -> HashMap<String, Series> {
    let named = series.into_iter().map(|it| (it.name.clone(), it));
    named.collect()
}

/// The lists end at the same moment, and may begin at several.
fn sum<'a>(lists: impl Iterator<Item = &'a Points>) -> Points {
    let mut sum: Vec<f32> = Vec::new();
    for Points(list) in lists {
        if list.len() > sum.len() {
            let missing = list.len() - sum.len();
            sum.splice(0..0, std::iter::repeat_n(0.0, missing));
        }
        let ahead = sum.len() - list.len();
        for (sum, point) in sum[ahead..].iter_mut().zip(list) {
            *sum += if point.is_finite() { *point } else { 0.0 };
        }
    }
    Points(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn series(name: &str, requests: &[f32]) -> serde_json::Value {
        let nothing: Vec<Option<f32>> = vec![None; requests.len()];
        json!({ "name": name, "requests": requests, "errors": requests, "p50": nothing, "p95": nothing, "p99": [0.5, null, 0.25], "in_flight": [] })
    }

    #[test]
    fn totals_are_those_of_all_routes_up_to_the_same_moment() {
        let recent = json!({ "until": 1, "step_seconds": 5, "routes": [series("a", &[1.0, 2.0]), series("b", &[10.0, 20.0, 30.0])], "upstreams": [series("app", &[1.0])] });
        let mut traffic = Traffic::default();
        traffic.take(serde_json::from_value(recent).unwrap());
        assert_eq!(traffic.requests, Points(vec![10.0, 21.0, 32.0]));
        let (slowest, p99) = traffic.slowest().unwrap();
        assert_eq!((&*slowest.name, p99), ("a", 0.25), "the first of the same");
        assert_eq!(traffic.routes["a"].p95.0, None);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut traffic = Traffic::default();
        let recent = |value| serde_json::from_value::<Recent>(value).unwrap();
        traffic.take(recent(json!({ "upstreams": [series("app", &[1.0])] })));
        let endpoints = json!({ "endpoints": [series("one", &[1.0])] });
        traffic.take_endpoints("app".to_owned(), recent(endpoints));
        assert!(traffic.endpoint("app", "one").is_some());
        traffic.take(recent(json!({ "upstreams": [] })));
        assert!(traffic.endpoint("app", "one").is_none());
    }

    #[test]
    fn endpoint_of_a_kind_that_nobody_knows_yet_is_doubtful() {
        let endpoint = |mode: &str, state: &str| -> Endpoint {
            serde_json::from_value(json!({ "name": "a", "weight": 1, "mode": mode, "state": state, "since": 1, "in_flight": 0, "eligible": false })).unwrap()
        };
        for (mode, state, urgency) in [
            ("active", "up", Urgency::Well),
            ("active", "unchecked", Urgency::Well),
            ("active", "down", Urgency::Down),
            ("active", "unresolved", Urgency::Down),
            ("active", "ejected", Urgency::Ejected),
            ("active", "degraded", Urgency::Doubtful),
            ("active", "held", Urgency::Doubtful),
            ("active", "standby", Urgency::Well),
            ("active", "draining", Urgency::Draining),
            ("draining", "draining", Urgency::Draining),
            ("disabled", "disabled", Urgency::Disabled),
        ] {
            assert_eq!(endpoint(mode, state).urgency(), urgency, "{mode} {state}");
        }
    }
}
