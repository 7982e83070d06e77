//! What speaks against the version that a roll waits for, before anything is done. Pure.

use super::decide::Group;
use crate::config::Place;
use crate::upstream::versions::nobody_asks;

/// Nobody tells which version runs, or the configuration holds out whoever runs `wanted`; `place` is where it says so.
pub(super) fn contradiction(
    group: &Group,
    wanted: &str,
    place: impl FnOnce(&str) -> Option<Place>,
) -> Option<String> {
    let name = &group.name;
    if !group.asks_version() {
        return Some(nobody_asks(name));
    }
    let expected = group.expect_version.as_deref();
    let expected = expected.filter(|expected| *expected != wanted)?;
    let place = match place(expected) {
        Some(place) => place.to_string(),
        None => format!("upstream.{name}.health.expect_version of what runs"),
    };
    Some(format!(
        "{place}: {expected:?} holds out who runs {wanted}: take that out and reload, then roll, then set it to {wanted:?} and reload"
    ))
}

/// Nothing restarts those of `chosen` that do not run `wanted`.
pub(super) fn nothing_restarts(group: &Group, chosen: &[String], wanted: &str) -> Option<String> {
    let mut others = group.endpoints.iter().filter(|member| {
        chosen.contains(&member.name) && member.mode == "active" && !member.runs(Some(wanted))
    });
    let first = others.next()?;
    let more = match others.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "nothing brings version {wanted} to {} ({}){more}: say with --hook what restarts an endpoint",
        first.name,
        first.version_told()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::decide::tests::{group, member};
    use super::*;

    #[test]
    fn regression_version_that_nothing_brings_is_refused() {
        let mut members = ["a", "b", "c", "d"].map(|name| member(name, "up", None, 0));
        for (member, version) in members.iter_mut().zip(["42", "41", "41"]) {
            member["version"] = version.into();
        }
        members[2] = member("c", "draining", None, 0);
        let group = group(0, &members);
        let all = ["a", "b", "c", "d"].map(str::to_owned);
        assert_eq!(
            nothing_restarts(&group, &all, "42").unwrap(),
            "nothing brings version 42 to b (version 41) and 1 more: say with --hook what restarts an endpoint"
        );
        assert_eq!(nothing_restarts(&group, &all[..1], "42"), None);
    }
}
