//! Reads `upstream.passive` and `upstream.min_available`.

use std::time::Duration;

use crate::config::Passive;
use crate::config::file::Table;
use crate::config::value::Value;

/// `"off"` or a table; not there: the defaults.
pub(super) fn passive(value: Option<&Value<'_>>) -> Option<Passive> {
    let Some(value) = value else {
        return Some(default());
    };
    if value.value.as_str() == Some("off") {
        return None;
    }
    if !value.value.is_table() {
        return value.expected("\"off\" or a table such as { consecutive = 5 }");
    }
    value.table(table)
}

fn table(table: &mut Table<'_>) -> Passive {
    let default = default();
    let mut count = |key, default| {
        let count = table.get(key).and_then(|value| value.integer(1..=MOST));
        count
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(default)
    };
    let consecutive = count("consecutive", default.consecutive);
    let min_requests = count("min_requests", default.min_requests);
    let mut part = |key, default| {
        let part = table.get(key).and_then(|value| share(&value));
        part.unwrap_or(default)
    };
    let ratio = part("ratio", default.ratio);
    let max_ejected = part("max_ejected", default.max_ejected);
    let window = table.get("window").and_then(|value| window(&value));
    let eject_value = table.get("eject");
    let limit_value = table.get("eject_limit");
    let eject = eject_value
        .as_ref()
        .and_then(Value::duration)
        .unwrap_or(default.eject);
    let eject_limit = limit_value
        .as_ref()
        .and_then(Value::duration)
        .unwrap_or(default.eject_limit);
    if eject > eject_limit
        && let Some(value) = eject_value.or(limit_value)
    {
        value.report(format!(
            "eject ({eject:?}) must not be longer than eject_limit ({eject_limit:?})"
        ));
    }
    Passive {
        consecutive,
        ratio,
        min_requests,
        window: window.unwrap_or(default.window),
        eject,
        eject_limit,
        max_ejected,
        statuses: table
            .get("statuses")
            .and_then(|value| statuses(&value))
            .unwrap_or(default.statuses),
    }
}

/// `upstream.min_available`
pub(super) fn min_available(value: &Value<'_>) -> Option<f64> {
    let number = value.number()?;
    if (0.0..=1.0).contains(&number) {
        Some(number)
    } else {
        value.expected("at least 0 and at most 1")
    }
}

fn share(value: &Value<'_>) -> Option<f64> {
    let number = value.number()?;
    if number > 0.0 && number <= 1.0 {
        Some(number)
    } else {
        value.expected("above 0 and at most 1")
    }
}

fn window(value: &Value<'_>) -> Option<Duration> {
    let window = value.duration()?;
    if window.subsec_nanos() == 0 && window <= LONGEST_WINDOW {
        Some(window)
    } else {
        value.expected("whole seconds, \"1s\" to \"60s\"")
    }
}

fn statuses(value: &Value<'_>) -> Option<Vec<u16>> {
    let elements = value.array("an array such as [502, 503, 504]")?;
    let status = |element: &Value<'_>| {
        let status = element.integer(100..=599)?;
        if status < 500 {
            element.report(format!(
                "must be 500–599, got {status}: other answers are no failures of an endpoint"
            ));
            return None;
        }
        u16::try_from(status).ok()
    };
    Some(elements.iter().filter_map(status).collect())
}

fn default() -> Passive {
    Passive {
        consecutive: 5,
        ratio: 0.5,
        min_requests: 20,
        window: Duration::from_secs(10),
        eject: Duration::from_secs(10),
        eject_limit: Duration::from_secs(300),
        max_ejected: 0.5,
        statuses: vec![502, 503, 504],
    }
}

/// Of an upstream's endpoints, how many stay in use whatever soft evidence says.
pub(super) const MIN_AVAILABLE: f64 = 0.5;
const LONGEST_WINDOW: Duration = Duration::from_secs(60); // every endpoint keeps a sample for each of its seconds
const MOST: i64 = 1_000_000; // beyond that nothing is ever ejected
