//! Whether a set of endpoints may take over: whether all of it is well, runs the version that is expected, and could carry the
//! load. Looks; changes nothing.

use crate::admin::command::Refused;
use crate::admin::flip::Wanted;
use crate::config::{Mode, hint};
use crate::units::Name;
use crate::upstream::state::HELD;
use crate::upstream::versions::nobody_asks;
use crate::upstream::{Endpoint, Tier, Upstream};

/// The set of this name, and the one that serves; or why there is none.
pub(super) fn sets(upstream: &Upstream, to: &str) -> Result<(Name, Name), Refused> {
    let name = &upstream.name;
    let Some(from) = upstream.active_set() else {
        return Err(Refused::Conflict(format!(
            "upstream {name:?} has no sets: give each of its endpoints a `set`, and it `active_set`"
        )));
    };
    let names = upstream.set_names();
    let Some(found) = names.iter().find(|set| ***set == *to) else {
        let hint = hint(to, names.iter().map(|set| &**set));
        return Err(Refused::Unknown(format!(
            "upstream {name:?} has no endpoint in set {to:?}{hint}"
        )));
    };
    Ok((from, Name::clone(found)))
}

/// What speaks against letting `to` take over from `from` as `wanted`, which is forced then; or that it is refused, and why.
pub(super) fn may_take_over(
    upstream: &Upstream,
    (from, to): (&str, &str),
    wanted: &Wanted,
) -> Result<Vec<String>, Refused> {
    let refused = |why| Err(Refused::Conflict(why));
    if from != to
        && let Some(why) = nobody(upstream, to)
    {
        let hint = match is_held_out(upstream, to) {
            true => "; take `health.expect_version` out of the file and reload first",
            false => "",
        };
        return refused(format!("{why}; this cannot be forced{hint}"));
    }
    let doubts = doubts(upstream, (from, to), wanted.expect_version.as_deref());
    if doubts.is_empty() || wanted.force {
        return Ok(doubts);
    }
    let why = list(&doubts, "");
    refused(match from == to {
        true => format!("set {to} serves already, and is not as it should be: {why}"),
        false => format!("set {to} is not fit to take over: {why} (--force goes on all the same)"),
    })
}

/// Why the set `to` may not take over from `from`, in as many words as there are reasons.
pub(super) fn doubts(
    upstream: &Upstream,
    (from, to): (&str, &str),
    expected_version: Option<&str>,
) -> Vec<String> {
    let wanted = || upstream.members(to).filter(|it| is_wanted(it));
    let mut doubts = unwell(upstream, to);
    if expected_version.is_some() && !upstream.asks_version() {
        doubts.push(nobody_asks(&upstream.name));
    } else if let Some(expected) = expected_version {
        let others = wanted().filter(|endpoint| {
            let version = endpoint.version();
            version.is_none_or(|version| version.as_str() != expected)
        });
        doubts.extend(others.map(|endpoint| {
            let (name, runs) = (endpoint.name(), endpoint.state().version);
            format!("{name}: {runs}, want {expected}")
        }));
    }
    if from == to {
        // It carries the load as it is.
        return doubts;
    }
    let load = upstream.headroom().load;
    let can_carry = capacity(upstream, from, to);
    if can_carry < load {
        doubts.push(format!(
            "set {to} could carry {can_carry} requests at once, by max_in_flight or by what the endpoints of {from} have carried, and {load} were in flight within the last minute"
        ));
    }
    doubts
}

/// Who of the set is not well, of those that are wanted: in what state, and why.
fn unwell(upstream: &Upstream, set: &str) -> Vec<String> {
    let wanted = upstream.members(set).filter(|it| is_wanted(it));
    let unwell = wanted.filter(|it| it.tier() != Tier::Eligible || it.is_kept());
    let said = unwell.map(|endpoint| {
        let state = endpoint.state();
        let reason = state.why().map(|reason| format!(" ({reason})"));
        let (name, word) = (endpoint.name(), state.word());
        format!("{name} is {word}{}", reason.unwrap_or_default())
    });
    said.collect()
}

/// That nobody of the set may be asked, and why.
pub(super) fn nobody(upstream: &Upstream, set: &str) -> Option<String> {
    let why = || list(&unwell(upstream, set), "all are out");
    (!has_anybody(upstream, set)).then(|| format!("nobody of set {set} may be asked: {}", why()))
}

/// That more of `to` than of `from` are unwell, and who.
pub(super) fn is_sicker(upstream: &Upstream, (from, to): (&str, &str)) -> Option<String> {
    let [was, is] = [from, to].map(|set| unwell(upstream, set));
    (is.len() > was.len()).then(|| format!("set {to} is not well: {}", list(&is, "")))
}

/// Whether somebody of the set may be asked at all.
pub(super) fn has_anybody(upstream: &Upstream, set: &str) -> bool {
    upstream.members(set).any(|it| it.tier() != Tier::Never)
}

/// Whether endpoints of the set are out for the version that they run.
fn is_held_out(upstream: &Upstream, set: &str) -> bool {
    let mut members = upstream.members(set);
    members.any(|it| it.state().word() == HELD)
}

/// Those that neither an operator nor the file has taken out: who is out on purpose is none that is missing.
pub(super) fn is_wanted(endpoint: &Endpoint) -> bool {
    endpoint.state().mode == Mode::Active
}

/// How many requests at once the set `to` can carry. One without a limit has carried nothing as yet: it is taken to carry as
/// much as the best of `from`, by its weight.
fn capacity(upstream: &Upstream, from: &str, to: &str) -> u64 {
    let per_weight = upstream
        .members(from)
        .map(|endpoint| f64::from(endpoint.peak_in_flight()) / f64::from(endpoint.weight()));
    let per_weight = per_weight.fold(0.0, f64::max);
    let in_use = upstream
        .members(to)
        .filter(|it| it.tier() == Tier::Eligible && !it.is_backup());
    let each = in_use.map(|endpoint| match endpoint.max_in_flight() {
        Some(limit) => u64::from(limit.get()),
        None => {
            let by_others = (per_weight * f64::from(endpoint.weight())) as u64;
            by_others
                .max(u64::from(endpoint.peak_in_flight()))
                .max(ANYBODY)
        }
    });
    each.sum()
}

/// The first of them, and how many more there are.
pub(super) fn list(reasons: &[String], none: &str) -> String {
    let shown = reasons.iter().take(NAMED).cloned().collect::<Vec<_>>();
    match reasons.len().saturating_sub(NAMED) {
        0 if shown.is_empty() => none.to_owned(),
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

/// So many requests at once anybody can carry.
const ANYBODY: u64 = 10;
const NAMED: usize = 5; // of a thousand that are down the first say enough
