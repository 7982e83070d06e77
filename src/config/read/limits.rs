//! Reads `upstream.queue`, `route.limits` and `route.timeouts`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::HeaderName;

use crate::config::file::{Source, Table};
use crate::config::value::Value;
use crate::config::{
    Adaptive, Endpoint, Queue, QueueOrder, Rate, RateKey, Route, RouteLimits, RouteTimeouts,
    Upstream, UpstreamTimeouts,
};

/// `upstream.queue`, of an upstream with these endpoints.
pub(super) fn queue(
    value: &Value<'_>,
    endpoints: Option<&[Endpoint]>,
    is_adaptive: bool,
) -> Option<Queue> {
    if let Some(endpoints) = endpoints
        && !is_adaptive
        && endpoints
            .iter()
            .all(|endpoint| endpoint.max_in_flight.is_none())
    {
        value.source.report(
            value.key_place(),
            "has no effect unless an endpoint has a limit: give endpoints a `max_in_flight`, such as endpoints = [{ address = \"127.0.0.1:8080\", max_in_flight = 100 }]",
        );
    }
    warn_of_nobody_waiting(value, endpoints.unwrap_or_default(), is_adaptive);
    value.table(|table| {
        let length = table
            .required("length", "100")
            .and_then(|value| value.integer(1..=LONGEST_QUEUE));
        let wait = table.get("wait").and_then(|value| value.duration());
        let orders =
            [QueueOrder::Fifo, QueueOrder::NewestFirst].map(|order| (order.as_str(), order));
        let order = table
            .get("order")
            .and_then(|value| value.one_of(&orders, &[]));
        let length = usize::try_from(length?).ok()?;
        Some(Queue {
            length: NonZeroUsize::new(length)?,
            wait: wait.unwrap_or(WAIT),
            order: order.unwrap_or(QueueOrder::Fifo),
        })
    })?
}

/// Requests go to whoever has no limit, before any waits.
fn warn_of_nobody_waiting(value: &Value<'_>, endpoints: &[Endpoint], is_adaptive: bool) {
    let has_limit = |endpoint: &&Endpoint| endpoint.max_in_flight.is_some();
    let unlimited = |endpoint: &&Endpoint| !endpoint.backup && !has_limit(endpoint);
    if let Some(endpoint) = endpoints.iter().find(unlimited)
        && !is_adaptive
        && endpoints.iter().any(|endpoint| has_limit(&endpoint))
    {
        value.warn(format!(
            "nobody waits while endpoint {:?} is in use, which has no limit; give it a `max_in_flight`, too",
            endpoint.name
        ));
    }
}

/// `upstream.adaptive`, of an upstream with these endpoints and timeouts.
pub(super) fn adaptive(
    value: &Value<'_>,
    endpoints: Option<&[Endpoint]>,
    timeouts: &UpstreamTimeouts,
) -> Option<Adaptive> {
    value.table(|table| {
        let latency_value = table.required("latency", "\"250ms\"");
        let latency = latency_value.as_ref().and_then(Value::duration);
        if let (Some(latency), Some(value)) = (latency, &latency_value)
            && latency >= timeouts.response_head
        {
            value.report(format!(
                "must be shorter than timeouts.response_head ({:?}), or nothing is ever late; lower it",
                timeouts.response_head
            ));
        }
        let min = table
            .get("min")
            .map_or(Some(NonZeroU32::MIN), |value| count(&value));
        let max = table
            .get("max")
            .map_or(NonZeroU32::new(MOST_FOUND), |value| count(&value));
        let (min, max) = (min?, max?);
        if min > max {
            table.report(format!("min ({min}) must not be more than max ({max})"));
        }
        for endpoint in endpoints.unwrap_or_default() {
            if let Some(limit) = endpoint.max_in_flight.filter(|limit| min > *limit) {
                table.report(format!(
                    "min ({min}) must not be more than max_in_flight ({limit}) of endpoint {:?}; lower the one or raise the other",
                    endpoint.name
                ));
            }
        }
        Some(Adaptive {
            latency: latency?,
            min,
            max,
        })
    })?
}

/// `route.limits`
pub(super) fn route_limits(table: &mut Table<'_>) -> RouteLimits {
    RouteLimits {
        body_bytes: table.get("body_bytes").and_then(|value| value.size()),
        in_flight: table.get("in_flight").and_then(|value| count(&value)),
        rate: table.get("rate").and_then(|value| value.table(rate)?),
    }
}

fn rate(table: &mut Table<'_>) -> Option<Rate> {
    let requests = table
        .required("requests", "100")
        .and_then(|value| frequency(&value));
    let per = table
        .get("per")
        .map_or(Some(Duration::from_secs(1)), |value| value.duration());
    let burst = table.get("burst").map(|value| frequency(&value));
    let key = table
        .get("key")
        .map_or(Some(RateKey::ClientAddress), |value| rate_key(&value));
    let (requests, per) = (requests?, per?);
    let burst = burst.unwrap_or(Some(requests))?;
    if (per / requests.get()).saturating_mul(burst.get()) > LONGEST_BURST {
        table.report(format!(
            "burst ({burst}) takes longer than a year to come back at this rate; lower it"
        ));
    }
    Some(Rate {
        requests,
        per,
        burst,
        key: key?,
    })
}

fn rate_key(value: &Value<'_>) -> Option<RateKey> {
    let what = "\"client-address\", \"route\" or \"header:NAME\" such as \"header:X-Api-Key\"";
    match value.string_such_as(what)? {
        "client-address" => Some(RateKey::ClientAddress),
        "route" => Some(RateKey::Route),
        text => {
            let name = text
                .strip_prefix("header:")
                .and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
            name.map_or_else(|| value.expected(what), |name| Some(RateKey::Header(name)))
        }
    }
}

/// `route.timeouts`
pub(super) fn route_timeouts(table: &mut Table<'_>) -> RouteTimeouts {
    let mut read = |key| {
        let value = table.get(key)?;
        Some((value.duration()?, value))
    };
    let request = read("request");
    let mut within = |key| {
        let (duration, value) = read(key)?;
        if let Some((request, _)) = &request
            && duration > *request
        {
            value.report(format!(
                "{} must not be longer than request ({request:?}), which ends it; leave it out, or let request be longer",
                value.name
            ));
        }
        Some(duration)
    };
    let timeouts = RouteTimeouts {
        connect: within("connect"),
        response_head: within("response_head"),
        stream_idle: within("stream_idle"),
        tunnel_idle: read("tunnel_idle").map(|(duration, _)| duration),
        request: request.map(|(duration, _)| duration),
    };
    for key in ["pool_idle", "max_age"] {
        if let Some(value) = table.get(key) {
            value.source.report(
                value.key_place(),
                "is of connections, which routes share: set it in upstream.timeouts",
            );
        }
    }
    timeouts
}

/// Routes whose requests end before they would have waited to the end. `upstreams` are all that there are.
pub(super) fn report_long_waits(source: &Source<'_>, upstreams: &[Upstream], routes: &[Route]) {
    for route in routes {
        let asked = route.action.upstreams();
        let Some(request) = route.timeouts.request else {
            continue;
        };
        for upstream in asked.filter_map(|index| upstreams.get(index)) {
            let Some(queue) = upstream
                .queue
                .as_ref()
                .filter(|queue| queue.wait >= request)
            else {
                continue;
            };
            source.report(
                route.place.clone(),
                format!(
                    "timeouts.request ({request:?}) must be longer than upstream.{}.queue.wait ({:?}), or nobody who waits that long is served; raise the one or lower the other",
                    upstream.name, queue.wait
                ),
            );
        }
    }
}

/// `max_in_flight`, `in_flight`
pub(super) fn count(value: &Value<'_>) -> Option<NonZeroU32> {
    let count = value.integer(1..=MOST_IN_FLIGHT)?;
    NonZeroU32::new(u32::try_from(count).ok()?)
}

fn frequency(value: &Value<'_>) -> Option<NonZeroU32> {
    let count = value.integer(1..=MOST_REQUESTS)?;
    NonZeroU32::new(u32::try_from(count).ok()?)
}

const WAIT: Duration = Duration::from_secs(1);
const LONGEST_BURST: Duration = Duration::from_secs(8760 * 3600); // so that no count of nanoseconds overflows
const MOST_FOUND: u32 = 1_000; // at once at one endpoint: unusual already
const LONGEST_QUEUE: i64 = 1_000_000; // each waits with a connection and some kilobytes
const MOST_IN_FLIGHT: i64 = 1_000_000_000; // far below where counts would wrap around
const MOST_REQUESTS: i64 = 1_000_000; // so that a single one takes a nanosecond of any `per`, and more
