//! Reads `process.auto_rollback`.

use std::time::Duration;

use crate::config::file::Table;
use crate::config::value::Value;
use crate::config::{AutoRollback, CountedErrors};

pub(super) fn auto_rollback(value: &Value<'_>) -> Option<AutoRollback> {
    if !value.value.is_table() {
        return value.expected("a table such as { ratio = 0.05 }");
    }
    value.table(table)
}

fn table(table: &mut Table<'_>) -> AutoRollback {
    let errors = [("own", CountedErrors::Own), ("all", CountedErrors::All)];
    AutoRollback {
        ratio: table
            .get("ratio")
            .and_then(|value| ratio(&value))
            .unwrap_or(RATIO),
        min_requests: table
            .get("min_requests")
            .and_then(|value| u32::try_from(value.integer(FEWEST..=MOST)?).ok())
            .unwrap_or(MIN_REQUESTS),
        window: table
            .get("window")
            .and_then(|value| window(&value))
            .unwrap_or(WINDOW),
        errors: table
            .get("errors")
            .and_then(|value| value.one_of(&errors, &[]))
            .unwrap_or(CountedErrors::Own),
    }
}

fn ratio(value: &Value<'_>) -> Option<f64> {
    let ratio = value.number()?;
    if ratio > 0.0 && ratio < 1.0 {
        Some(ratio)
    } else {
        value.expected("above 0 and below 1")
    }
}

fn window(value: &Value<'_>) -> Option<Duration> {
    let window = value.duration()?;
    if (SHORTEST..=LONGEST).contains(&window) {
        Some(window)
    } else {
        value.expected("\"1s\" to \"1h\"")
    }
}

const RATIO: f64 = 0.05;
const MIN_REQUESTS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(30);
const FEWEST: i64 = 10; // of fewer, chance alone makes half
const MOST: i64 = 1_000_000_000;
const SHORTEST: Duration = Duration::from_secs(1); // each look counts through all series
const LONGEST: Duration = Duration::from_secs(3600); // who waits longer can roll back by hand
