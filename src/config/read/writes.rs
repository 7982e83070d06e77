//! Reads `writes` and `read_your_writes` of a route.

use std::time::Duration;

use super::{Declared, affinity, cookie, reference};
use crate::config::value::Value;
use crate::config::{ReadYourWrites, ReadsAndWrites};

/// Where a route's requests go by what they may do, where `writes` says so and others go to `reads`.
pub(super) fn writes(
    (writes, read_your_writes): (Option<&Value<'_>>, Option<&Value<'_>>),
    reads: Option<usize>,
    declared: &Declared,
) -> Option<ReadsAndWrites> {
    let given = read_your_writes;
    let read_your_writes = given.and_then(self::read_your_writes);
    let Some(value) = writes else {
        if let Some(given) = given {
            let message = "needs `writes`: the upstream that gets what may change something";
            given.source.report(given.key_place(), message);
        }
        return None;
    };
    let writes = reference(value, "upstream", &declared.upstreams);
    let (reads, writes) = (reads?, writes?);
    if reads == writes {
        value.report(format!(
            "{value} is the route's `upstream`, too; leave this out"
        ));
    }
    Some(ReadsAndWrites {
        reads,
        writes,
        read_your_writes,
    })
}

/// A time, or a table with it.
fn read_your_writes(value: &Value<'_>) -> Option<ReadYourWrites> {
    if !value.value.is_table() {
        return Some(ReadYourWrites {
            window: window(value)?,
            cookie: COOKIE.into(),
            key_file: None,
            path: "/".into(),
            place: value.place(),
        });
    }
    value.table(|table| {
        let window = table
            .required("window", "\"2s\"")
            .and_then(|value| window(&value));
        let cookie = table.get("cookie").map(|value| cookie::name(&value));
        let key_file = table.get("key_file");
        let path = table
            .get("path")
            .and_then(|value| affinity::cookie_path(&value));
        Some(ReadYourWrites {
            window: window?,
            cookie: cookie.unwrap_or_else(|| Some(COOKIE.into()))?,
            place: key_file
                .as_ref()
                .map_or_else(|| table.place(), |value| value.place()),
            key_file: match key_file {
                Some(value) => Some(value.path()?),
                None => None,
            },
            path: path.unwrap_or_else(|| "/".into()),
        })
    })?
}

fn window(value: &Value<'_>) -> Option<Duration> {
    let window = value.duration()?;
    if window > LONGEST {
        return value.expected("at most \"1h\"");
    }
    Some(window)
}

const COOKIE: &str = "wrote";
const LONGEST: Duration = Duration::from_secs(3600); // who reads there longer than that might as well always
