//! What holds for requests to an upstream: when its endpoints count as well, and how long and how often they are asked.

use super::lines::{Lines, join};
use crate::config::{Adaptive, Config, Health, Passive, Probe, Retry, Route, Upstream};

/// The rules of the upstream at `index` for requests of `route`, each by its key.
pub(super) fn rules(config: &Config, route: &Route, index: usize) -> Lines {
    let upstream = &config.upstreams[index];
    let fails_closed = config
        .routes
        .iter()
        .any(|route| route.exclusive && route.action.upstreams().any(|asked| asked == index));
    let mut lines = Lines::indented();
    if upstream.authoritative {
        lines.push("role", role(upstream));
    }
    let told = upstream.health.as_ref().map(health);
    lines.push("health", told.unwrap_or_else(|| "none".to_owned()));
    let told = upstream.passive.as_ref().map(passive);
    lines.push("passive", told.unwrap_or_else(|| "off".to_owned()));
    lines.push(
        "min_available",
        if upstream.authoritative {
            "none: one endpoint serves and no other".to_owned()
        } else if fails_closed {
            "none: a route that leads there is exclusive".to_owned()
        } else {
            percent(upstream.min_available)
        },
    );
    let told = match upstream.slow_start.is_zero() {
        true => "none".to_owned(),
        false => format!("{:?}", upstream.slow_start),
    };
    lines.push("slow_start", told);
    if let Some(share) = upstream.spill_below {
        lines.push("spill_below", percent(share));
    }
    let said = route.retry.as_ref().map(|said| said.over(&upstream.retry));
    lines.push(
        "retry",
        retry(said.as_ref().unwrap_or(&upstream.retry), upstream),
    );
    let timeouts = route.timeouts.over(&upstream.timeouts);
    let told = [
        ("connect", timeouts.connect),
        ("response_head", timeouts.response_head),
        ("stream_idle", timeouts.stream_idle),
        ("tunnel_idle", timeouts.tunnel_idle),
        ("pool_idle", timeouts.pool_idle),
        ("max_age", timeouts.max_age),
    ];
    let told = told.map(|(name, limit)| format!("{name} {limit:?}"));
    lines.push("timeouts", join(told, ", "));
    limits(&mut lines, upstream);
    lines
}

/// How many requests endpoints have at once, where that is limited, and who waits.
fn limits(lines: &mut Lines, upstream: &Upstream) {
    let told = upstream.endpoints.iter().filter_map(|endpoint| {
        let limit = endpoint.max_in_flight?;
        Some(format!("{limit} at {}", endpoint.name))
    });
    let told = join(told, ", ");
    if !told.is_empty() {
        lines.push("max_in_flight", told);
    }
    if let Some(Adaptive { latency, min, max }) = &upstream.adaptive {
        lines.push(
            "adaptive",
            format!("{min} to {max} in flight at an endpoint, for {latency:?}"),
        );
    }
    if let Some(queue) = &upstream.queue {
        let order = queue.order.as_str();
        lines.push(
            "queue",
            format!("{} wait for {:?}, {order}", queue.length, queue.wait),
        );
    }
}

fn health(health: &Health) -> String {
    let probe = match &health.probe {
        Probe::Http { path, .. } => format!("GET {path}"),
        Probe::Tcp => "tcp".to_owned(),
        Probe::Grpc { service, .. } if service.is_empty() => "grpc".to_owned(),
        Probe::Grpc { service, .. } => format!("grpc {service}"),
    };
    let Health {
        interval,
        fast_interval,
        busy_interval,
        timeout,
        fall,
        rise,
        ..
    } = health;
    let busy = match busy_interval == interval {
        true => String::new(),
        false => format!(", {busy_interval:?} while clients are answered"),
    };
    let version = match (&health.version, &health.expect_version) {
        (None, _) => String::new(),
        (Some(_), None) => "; says its version".to_owned(),
        (Some(_), Some(version)) => format!("; held unless it runs version {version}"),
    };
    format!(
        "{probe} every {interval:?}, {fast_interval:?} while it changes{busy}, within {timeout:?}; down after {fall}, up after {rise}{version}"
    )
}

/// Who serves, where one endpoint does and no other.
fn role(upstream: &Upstream) -> String {
    let source = upstream.health.as_ref().and_then(|it| it.role.as_ref());
    match source {
        Some(source) => format!(
            "authoritative: the one that alone answers checks with {}: {}; a claim counts for {:?}",
            source.header, source.authority, source.lifetime
        ),
        None => "authoritative: the one that is not disabled".to_owned(),
    }
}

fn passive(passive: &Passive) -> String {
    let Passive {
        consecutive,
        ratio,
        min_requests,
        window,
        eject,
        eject_limit,
        max_ejected,
        statuses,
    } = passive;
    let statuses = match statuses.is_empty() {
        true => String::new(),
        false => format!(", or answers {}", join(statuses, ", ")),
    };
    format!(
        "{consecutive} failures{statuses}, in a row, or {} of {min_requests} in {window:?}: ejected for {eject:?} to {eject_limit:?}, at most {}",
        percent(*ratio),
        percent(*max_ejected),
    )
}

fn retry(retry: &Retry, upstream: &Upstream) -> String {
    if retry.attempts == 1 {
        return "never".to_owned();
    }
    let mut told = vec![format!("{} attempts", retry.attempts)];
    if !retry.statuses.is_empty() {
        told.push(format!("after {}", join(&retry.statuses, ", ")));
    }
    match retry.attempt_timeout {
        _ if !retry.on_timeout => {}
        Some(timeout) => told.push(format!("after {timeout:?} without a response")),
        None => told.push("after a timeout".to_owned()),
    }
    if retry.idempotency_key {
        told.push("with an Idempotency-Key whatever the method".to_owned());
    }
    told.push(format!("bodies up to {}", retry.body_bytes));
    told.push(format!(
        "budget {} or {} a second",
        percent(upstream.budget.share),
        upstream.budget.min
    ));
    join(told, ", ")
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1000.0).round() / 10.0)
}
