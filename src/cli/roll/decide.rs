//! What a rolling restart may do, from what the balancer says of the upstream. Pure: asks nobody and changes nothing.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::config::hint;
use crate::upstream::headroom::carries;
use crate::upstream::state::STANDBY;

/// What is read of an upstream in the status; there may be more.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::cli) struct Group {
    pub(super) name: String,
    headroom: Load,
    /// The set of endpoints that serves, where there are sets.
    #[serde(default)]
    active_set: Option<String>,
    /// The last flip from one to another.
    #[serde(default)]
    flip: Option<Flip>,
    /// The one endpoint that serves, where no other does.
    #[serde(default)]
    authority: Option<String>,
    /// Which versions its endpoints run; none where nobody asks them.
    versions: Option<Vec<Version>>,
    /// The one that the configuration wants them to run; others are held out.
    #[serde(default)]
    pub(super) expect_version: Option<String>,
    pub(super) endpoints: Vec<Member>,
}

#[derive(Clone, Debug, Deserialize)]
struct Version {}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(in crate::cli) struct Flip {
    from: String,
    to: String,
    phase: String,
    over: bool,
}

impl Group {
    /// Whether its endpoints are asked which version they run.
    pub(super) fn asks_version(&self) -> bool {
        self.versions.is_some()
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Load {
    load: u64,
}

/// What is read of one endpoint.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Member {
    /// Its identity: another one under its name has another.
    pub(super) id: u64,
    /// Whether a reload has removed it.
    #[serde(default)]
    pub(super) gone: bool,
    pub(super) name: String,
    pub(super) address: String,
    backup: bool,
    #[serde(default)]
    set: Option<String>,
    pub(super) mode: String,
    pub(super) state: String,
    #[serde(default)]
    health: String,
    pub(super) reason: Option<String>,
    eligible: bool,
    pub(super) in_flight: u32,
    pub(super) tunnels: u32,
    max_in_flight: Option<u32>,
    peak_in_flight: u32,
    slow_start: Option<f64>,
    version: Option<String>,
    version_unknown: Option<String>,
}

impl Member {
    /// Whether nothing is wrong with it, as far as is known.
    pub(super) fn is_well(&self) -> bool {
        match &*self.state {
            "up" | "unchecked" => true,
            // The word is the same before a check has found anything.
            STANDBY => self.health != "unknown",
            _ => false,
        }
    }

    /// Whether it runs `expected`; where that is none, any version will do.
    pub(super) fn runs(&self, expected: Option<&str>) -> bool {
        expected.is_none_or(|expected| self.version.as_deref() == Some(expected))
    }

    /// Whether it is up, as far as is known, but what is known to run is not `expected`.
    pub(super) fn is_up_with_another(&self, expected: &str) -> bool {
        let is_up = self.is_well() || self.state == "held";
        is_up
            && self
                .version
                .as_deref()
                .is_some_and(|version| version != expected)
    }

    /// `version 41`, or that it is unknown and why.
    pub(super) fn version_told(&self) -> String {
        match (&self.version, &self.version_unknown) {
            (Some(version), _) => format!("version {version}"),
            (None, Some(why)) => format!("version unknown: {why}"),
            (None, None) => "version unknown".to_owned(),
        }
    }

    /// Whether it is well and has its full share: nothing, of one that stands by.
    pub(super) fn is_settled(&self) -> bool {
        self.is_well() && (self.slow_start.is_none() || self.state == STANDBY)
    }

    /// How far its share has come, from 0 to 1.
    pub(super) fn progress(&self) -> f64 {
        self.slow_start.unwrap_or(1.0)
    }

    fn can_carry(&self) -> u32 {
        self.max_in_flight.unwrap_or(self.peak_in_flight)
    }
}

/// How many endpoints may be out at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MaxUnavailable {
    Count(usize),
    /// Of all endpoints of the upstream.
    Percent(usize),
}

impl FromStr for MaxUnavailable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        let parsed = match text.strip_suffix('%') {
            Some(percent) => number(percent)
                .filter(|percent| *percent <= 100)
                .map(Self::Percent),
            None => number(text).map(Self::Count),
        };
        parsed.ok_or("expected a number from 1, or a share such as 25%")
    }
}

impl fmt::Display for MaxUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl MaxUnavailable {
    /// So many of `all`: what is shared is rounded down, but never to none.
    fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (all * percent / 100).max(1),
        }
    }
}

/// Why endpoints may not be taken out now.
#[derive(Debug, Eq, PartialEq)]
pub(in crate::cli) enum Refusal {
    /// Others are not well, each as `name is state`.
    Unwell(Vec<String>),
    /// Nobody would be left.
    Nobody,
    /// This one alone serves, and another would have to take its place first.
    Authority(String),
    /// A flip of this upstream is under way, which holds one set against the other and may go back; how far it is.
    Flip(String, Flip),
    /// The rest could not carry what is in flight.
    Overload { load: u64, rest: u64, limited: bool },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwell(others) => {
                write!(f, "not all others are well: {}", others.join(", "))
            }
            Self::Flip(
                upstream,
                Flip {
                    from, to, phase, ..
                },
            ) => write!(
                f,
                "a flip from {from} to {to} is under way ({phase}), which compares them and may go back; wait for its end, or end it: `balancer flip {upstream} --abort`"
            ),
            Self::Authority(name) => write!(
                f,
                "{name} is the authority, and requests get 503 while it is out, unless another endpoint alone claims to be it; let another one take over first"
            ),
            Self::Nobody => f.write_str("no other endpoint is left to take requests"),
            Self::Overload {
                load,
                rest,
                limited: true,
            } => write!(
                f,
                "the others may have {rest} requests at once (max_in_flight), and {load} were in flight within the last minute"
            ),
            Self::Overload {
                load,
                rest,
                limited: false,
            } => write!(
                f,
                "the others were never seen to carry more than {rest} requests at once, and {load} were in flight within the last minute; max_in_flight would say what they can"
            ),
        }
    }
}

/// The endpoints to go through, in the order of the file and the authority last: those named, or all that are not disabled.
pub(super) fn chosen(group: &Group, only: &[String]) -> Result<Vec<String>, String> {
    let names = || group.endpoints.iter().map(|member| &*member.name);
    let prefix = format!("{}/", group.name);
    let mut wanted = Vec::with_capacity(only.len());
    for name in only {
        let name = name.strip_prefix(&prefix).unwrap_or(name);
        if !names().any(|other| other == name) {
            let hint = hint(name, names());
            return Err(format!(
                "upstream {:?} has no endpoint {name:?}{hint}",
                group.name
            ));
        }
        wanted.push(name);
    }
    let is_chosen = |member: &&Member| match &*wanted {
        [] => member.mode != "disabled",
        wanted => wanted.contains(&&*member.name),
    };
    let chosen = group.endpoints.iter().filter(is_chosen);
    let mut chosen: Vec<_> = chosen.map(|member| member.name.clone()).collect();
    chosen.sort_by_key(|name| group.authority.as_ref() == Some(name));
    if chosen.is_empty() {
        return Err(format!("upstream {:?} has nobody to restart", group.name));
    }
    Ok(chosen)
}

/// Who is out together.
pub(super) fn batches(
    group: &Group,
    chosen: &[String],
    max_unavailable: MaxUnavailable,
) -> Vec<Vec<String>> {
    let together = max_unavailable.of(group.endpoints.len());
    chosen.chunks(together).map(<[_]>::to_vec).collect()
}

/// Why those of `batch` may not be taken out of `group` as it is now. What is disabled is out on purpose, and asked for nothing.
pub(super) fn refusal(group: &Group, batch: &[String]) -> Option<Refusal> {
    if let Some(flip) = group.flip.as_ref().filter(|flip| !flip.over) {
        return Some(Refusal::Flip(group.name.clone(), flip.clone()));
    }
    if let Some(authority) = &group.authority {
        // Nobody misses those who stand by.
        let is_out = batch.contains(authority);
        return is_out.then(|| Refusal::Authority(authority.clone()));
    }
    // Nobody misses a set that gets no requests, and it carries nothing for others.
    let serves = |member: &&Member| {
        group.active_set.is_none() || member.set == group.active_set || member.eligible
    };
    let serving = || group.endpoints.iter().filter(serves);
    if !serving().any(|member| batch.contains(&member.name)) {
        return None;
    }
    let others =
        || serving().filter(|member| !batch.contains(&member.name) && member.mode != "disabled");
    let unwell: Vec<_> = others()
        .filter(|member| !member.is_well())
        .map(|member| format!("{} is {}", member.name, member.state))
        .collect();
    if !unwell.is_empty() {
        return Some(Refusal::Unwell(unwell));
    }
    let carried = |members: &[&Member]| -> Vec<u32> {
        members.iter().map(|member| member.can_carry()).collect()
    };
    let (in_use, waiting): (Vec<&Member>, Vec<&Member>) =
        others().partition(|member| member.eligible || !member.backup);
    let bearing = if in_use.is_empty() { &waiting } else { &in_use };
    if bearing.is_empty() {
        return Some(Refusal::Nobody);
    }
    let load = group.headroom.load;
    let rest = carried(bearing);
    let is_carried = carries(&rest, &[], load);
    (!is_carried).then(|| Refusal::Overload {
        load,
        rest: rest.iter().map(|it| u64::from(*it)).sum(),
        limited: bearing.iter().all(|member| member.max_in_flight.is_some()),
    })
}

/// Why `name` may not be taken out of `group` by itself, at an operator's own word: nobody would be left, or not enough by what
/// limits say. What was only seen is no reason, for where two share the load neither was seen to carry all of it. Of whoever is
/// not well nothing is expected, and whoever gets no requests is missed by nobody.
pub(in crate::cli) fn objection(group: &Group, name: &str) -> Option<Refusal> {
    let mut members = group.endpoints.iter();
    members.find(|member| member.name == name && member.eligible)?;
    let is_there = |member: &&Member| {
        let serves = group.active_set.is_none() || member.set == group.active_set;
        member.name != name && serves && (member.eligible || (member.backup && member.is_well()))
    };
    let others = group.endpoints.iter().filter(is_there);
    let (in_use, waiting): (Vec<_>, Vec<_>) = others.partition(|member| member.eligible);
    let bearing = if in_use.is_empty() { waiting } else { in_use };
    if bearing.is_empty() {
        return Some(Refusal::Nobody);
    }
    let limits = bearing.iter().map(|member| member.max_in_flight);
    let limits: Vec<_> = limits.collect::<Option<_>>()?;
    let load = group.headroom.load;
    (!carries(&limits, &[], load)).then(|| Refusal::Overload {
        load,
        rest: limits.iter().map(|it| u64::from(*it)).sum(),
        limited: true,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn member(
        name: &str,
        state: &str,
        limit: Option<u32>,
        peak: u32,
    ) -> serde_json::Value {
        let mode = match state {
            "draining" | "disabled" => state,
            _ => "active",
        };
        json!({ "id": 1, "name": name, "address": "127.0.0.1:1", "backup": name.starts_with("spare"), "mode": mode,
            "state": state, "reason": null, "eligible": state == "up" && !name.starts_with("spare"), "in_flight": 0,
            "tunnels": 0, "max_in_flight": limit, "peak_in_flight": peak, "slow_start": null })
    }

    pub(in super::super) fn group(load: u64, members: &[serde_json::Value]) -> Group {
        let group = json!({ "name": "app", "headroom": { "load": load }, "endpoints": members });
        serde_json::from_value(group).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn rest_must_carry_the_load_by_limits_or_by_what_was_seen() {
        let limited: Vec<_> = ["a", "b", "c"]
            .map(|name| member(name, "up", Some(10), 3))
            .into();
        assert_eq!(refusal(&group(20, &limited), &names(&["a"])), None);
        let refused = refusal(&group(21, &limited), &names(&["a"])).unwrap();
        assert_eq!(
            refused.to_string(),
            "the others may have 20 requests at once (max_in_flight), and 21 were in flight within the last minute"
        );
        assert!(refusal(&group(11, &limited), &names(&["a", "b"])).is_some());
        let seen: Vec<_> = ["a", "b", "c"]
            .map(|name| member(name, "up", None, 3))
            .into();
        assert_eq!(refusal(&group(6, &seen), &names(&["c"])), None);
        let refused = refusal(&group(7, &seen), &names(&["c"])).unwrap();
        assert!(
            refused
                .to_string()
                .contains("never seen to carry more than 6"),
            "{refused}"
        );
    }

    #[test]
    fn others_must_be_well_unless_they_are_out_on_purpose() {
        let members = |state| [member("a", "up", None, 0), member("b", state, None, 0)];
        for state in [
            "down",
            "unknown",
            "ejected",
            "draining",
            "degraded",
            "unresolved",
        ] {
            let refused = refusal(&group(0, &members(state)), &names(&["a"]));
            assert_eq!(
                refused,
                Some(Refusal::Unwell(vec![format!("b is {state}")]))
            );
            // Whoever is unwell itself may be restarted: that is how it is mended.
            assert_eq!(refusal(&group(0, &members(state)), &names(&["b"])), None);
        }
        let disabled = group(0, &members("disabled"));
        assert_eq!(refusal(&disabled, &names(&["a"])), Some(Refusal::Nobody));
    }

    #[test]
    fn authority_comes_last_and_goes_when_another_has_taken_over() {
        let members = [
            member("a", "up", None, 5),
            member("b", "standby", None, 0),
            member("c", "down", None, 0),
        ];
        let mut group = group(0, &members);
        group.authority = Some("a".to_owned());
        let all = chosen(&group, &[]).unwrap();
        assert_eq!(all, ["b", "c", "a"]);
        assert_eq!(refusal(&group, &all[..2]), None);
        let refused = Refusal::Authority("a".to_owned());
        assert_eq!(refusal(&group, &all[1..]), Some(refused));
        group.authority = Some("b".to_owned());
        assert_eq!(refusal(&group, &names(&["a"])), None);
    }

    #[test]
    fn one_is_taken_out_by_itself_while_limits_say_that_others_carry_the_load() {
        let limited = |name, limit| member(name, "up", Some(limit), 0);
        let alone = group(0, &[member("a", "up", None, 5)]);
        assert_eq!(objection(&alone, "a"), Some(Refusal::Nobody));
        let with_one_down = [member("a", "up", None, 5), member("b", "down", None, 5)];
        let with_one_down = group(0, &with_one_down);
        assert_eq!(objection(&with_one_down, "a"), Some(Refusal::Nobody));
        assert_eq!(objection(&with_one_down, "b"), None, "nobody misses it");
        let three = [limited("a", 9), limited("b", 4), limited("c", 5)];
        assert_eq!(objection(&group(9, &three), "a"), None);
        assert_eq!(
            objection(&group(10, &three), "a"),
            Some(Refusal::Overload {
                load: 10,
                rest: 9,
                limited: true
            })
        );
        let seen_only = [limited("a", 9), member("b", "up", None, 1)];
        assert_eq!(objection(&group(10, &seen_only), "a"), None);
        let with_backup = [limited("a", 9), limited("spare", 9)];
        assert_eq!(objection(&group(9, &with_backup), "a"), None);
        assert!(objection(&group(10, &with_backup), "a").is_some());
    }

    #[test]
    fn set_on_standby_is_restarted_at_will_and_stands_in_for_nobody() {
        let in_set = |name, set: &str, state| {
            let mut member = member(name, state, Some(10), 3);
            member["set"] = set.into();
            member
        };
        let members = [
            in_set("a", "blue", "up"),
            in_set("b", "blue", "up"),
            in_set("c", "green", "standby"),
            in_set("d", "green", "down"),
        ];
        let group = json!({ "name": "app", "active_set": "blue", "headroom": { "load": 10 }, "endpoints": members });
        let mut group: Group = serde_json::from_value(group).unwrap();
        assert_eq!(refusal(&group, &names(&["c", "d"])), None);
        assert_eq!(refusal(&group, &names(&["a"])), None);
        assert_eq!(refusal(&group, &names(&["a", "b"])), Some(Refusal::Nobody));
        group.headroom.load = 11;
        assert!(refusal(&group, &names(&["a"])).is_some());
    }

    #[test]
    fn regression_standby_is_settled_at_once_when_a_check_has_found_it_well() {
        let settled = |state, health: &str, slow_start: Option<f64>| {
            let mut member = member("a", state, None, 0);
            member["health"] = health.into();
            member["slow_start"] = slow_start.into();
            let member: Member = serde_json::from_value(member).unwrap();
            (member.is_well(), member.is_settled())
        };
        assert_eq!(settled("standby", "up", Some(0.1)), (true, true));
        assert_eq!(settled("standby", "unchecked", None), (true, true));
        assert_eq!(settled("standby", "unknown", None), (false, false));
        assert_eq!(settled("up", "up", Some(0.1)), (true, false));
    }

    #[test]
    fn backups_carry_the_load_only_where_nobody_else_is_left() {
        let members = [
            member("a", "up", Some(5), 0),
            member("spare", "up", Some(50), 0),
        ];
        assert_eq!(refusal(&group(20, &members), &names(&["a"])), None);
        let members = [
            member("a", "up", Some(5), 0),
            member("b", "up", Some(5), 0),
            member("spare", "up", Some(50), 0),
        ];
        assert!(refusal(&group(20, &members), &names(&["a"])).is_some());
    }

    #[test]
    fn all_but_the_disabled_are_gone_through_unless_some_are_named() {
        let members = [
            member("a", "up", None, 0),
            member("web-1", "disabled", None, 0),
            member("c", "up", None, 0),
        ];
        let group = group(0, &members);
        assert_eq!(chosen(&group, &[]), Ok(names(&["a", "c"])));
        assert_eq!(
            chosen(&group, &names(&["c", "app/web-1"])),
            Ok(names(&["web-1", "c"]))
        );
        assert_eq!(
            chosen(&group, &names(&["web-2"])),
            Err("upstream \"app\" has no endpoint \"web-2\"; did you mean \"web-1\"?".to_owned())
        );
    }

    #[test]
    fn as_many_are_out_together_as_may_be() {
        let members: Vec<_> = (0..5)
            .map(|it| member(&it.to_string(), "up", None, 0))
            .collect();
        let group = group(0, &members);
        let chosen = chosen(&group, &[]).unwrap();
        let sizes = |text: &str| -> Vec<usize> {
            let batches = batches(&group, &chosen, text.parse().unwrap());
            batches.iter().map(Vec::len).collect()
        };
        assert_eq!(sizes("1"), [1, 1, 1, 1, 1]);
        assert_eq!(sizes("2"), [2, 2, 1]);
        assert_eq!(sizes("50%"), [2, 2, 1]);
        assert_eq!(sizes("1%"), [1, 1, 1, 1, 1]);
        assert_eq!(sizes("9"), [5]);
        for wrong in ["0", "0%", "101%", "x", "", "-1", "%"] {
            assert!(wrong.parse::<MaxUnavailable>().is_err(), "{wrong}");
        }
    }
}
