//! Reads `upstream.retry` and `route.retry`.

use std::time::Duration;

use toml::de::DeValue;

use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{Budget, Retry, RouteRetry};

/// `upstream.retry`: a table, or `false`. `response_head` is the upstream's.
pub(super) fn upstream(value: &Value<'_>, response_head: Duration) -> Option<(Retry, Budget)> {
    let mut budget = Budget::DEFAULT;
    let said = said(value, |table| {
        if let Some(share) = table.get("budget").and_then(|value| share(&value)) {
            budget.share = share;
        }
        if let Some(min) = table
            .get("budget_min")
            .and_then(|value| whole(&value, 0, 1_000_000))
        {
            budget.min = min;
        }
    })?;
    let retry = said.over(&Retry::DEFAULT);
    if retry.attempts > 1 && budget.share == 0.0 && budget.min == 0 {
        value.report("budget = 0 and budget_min = 0 allow nothing; write retry = false");
    }
    if let Some(said) = said.attempt_timeout {
        if !retry.on_timeout {
            value.report(ONLY_WITH_ON_TIMEOUT);
        } else if said >= response_head {
            value.report(format!(
                "attempt_timeout must be shorter than timeouts.response_head, {response_head:?}, after which the client gets a 504"
            ));
        }
    }
    Some((retry, budget))
}

/// `route.retry`: a table, or `false`. Whether it fits what its upstream says is seen by `fits`.
pub(super) fn route(value: &Value<'_>) -> Option<RouteRetry> {
    said(value, |table| {
        for key in ["budget", "budget_min"] {
            if let Some(value) = table.get(key) {
                value.source.report(
                    value.key_place(),
                    "belongs into `upstream.retry`: all routes to an upstream share its budget",
                );
            }
        }
    })
}

/// Notes what contradicts the upstream's own words.
pub(super) fn fits(value: &Value<'_>, said: &RouteRetry, upstream: (&Retry, Duration)) {
    let (retry, response_head) = upstream;
    let Some(attempt_timeout) = said.attempt_timeout else {
        return;
    };
    if !said.on_timeout.unwrap_or(retry.on_timeout) {
        value.report(ONLY_WITH_ON_TIMEOUT);
    } else if attempt_timeout >= response_head {
        value.report(format!(
            "attempt_timeout must be shorter than the upstream's timeouts.response_head, {response_head:?}, after which the client gets a 504"
        ));
    }
}

const ONLY_WITH_ON_TIMEOUT: &str =
    "attempt_timeout only with on_timeout = true: otherwise nothing follows a timeout";

fn said(value: &Value<'_>, further: impl FnOnce(&mut Table<'_>)) -> Option<RouteRetry> {
    match value.value {
        DeValue::Boolean(false) => {
            return Some(RouteRetry {
                attempts: Some(1),
                ..RouteRetry::default()
            });
        }
        DeValue::Table(_) => {}
        _ => return value.expected("a table such as { attempts = 3 }, or false"),
    }
    value.table(|table| {
        further(table);
        let attempts = table
            .get("attempts")
            .and_then(|value| whole(&value, 1, i64::from(MOST)));
        let said = RouteRetry {
            attempts,
            statuses: table.get("statuses").and_then(|value| statuses(&value)),
            on_timeout: table.get("on_timeout").and_then(|value| value.bool()),
            attempt_timeout: table
                .get("attempt_timeout")
                .and_then(|value| value.duration()),
            body_bytes: table.get("body_bytes").and_then(|value| {
                let size = value.size()?;
                if size.get() > LARGEST {
                    return value.expected("at most \"16MiB\": it is kept in memory, for every request");
                }
                Some(size)
            }),
            idempotency_key: table.get("idempotency_key").and_then(|value| value.bool()),
        };
        let asks = said.statuses.as_ref().is_some_and(|all| !all.is_empty())
            || said.on_timeout == Some(true)
            || said.idempotency_key == Some(true);
        if attempts == Some(1) && asks {
            table.report("attempts = 1 is never again, and the other keys say when; write attempts = 2, or retry = false");
        }
        said
    })
}

fn whole(value: &Value<'_>, low: i64, high: i64) -> Option<u32> {
    u32::try_from(value.integer(low..=high)?).ok()
}

fn share(value: &Value<'_>) -> Option<f64> {
    let share = value.number()?;
    if (0.0..=1.0).contains(&share) {
        Some(share)
    } else {
        value.expected("0.0–1.0")
    }
}

/// Statuses that say of themselves that another attempt may do better.
fn statuses(value: &Value<'_>) -> Option<Vec<u16>> {
    let mut statuses = Vec::new();
    for element in value.array("an array such as [502, 503, 504]")? {
        let Some(status) = whole(&element, 100, 599) else {
            continue;
        };
        let status = status as u16;
        if status != 429 && status < 500 {
            element.report(format!(
                "must be 429 or 500–599, got {status}: any other is an answer"
            ));
        } else if statuses.contains(&status) {
            element.report(format!("{status} is listed twice"));
        } else {
            statuses.push(status);
        }
    }
    statuses.sort_unstable();
    Some(statuses)
}

/// Beyond, trying again is a plan, not a remedy.
const MOST: u32 = 5;
const LARGEST: u64 = 16 << 20;
