//! How it stands, in words: who is in trouble, since when and why, and what is left. What somebody who was woken up reads first.

use super::super::status::ago;
use super::super::table::Tone;
use super::data::{Endpoint, Status, Upstream};
use super::plain::Plain;
use crate::upstream::state::STANDBY;

/// Lines, the most important first.
pub(super) type Verdict = Vec<(Tone, String)>;

/// Of a balancer that answers.
pub(super) fn verdict(status: &Status, now: u64) -> Verdict {
    let all = status.upstreams.iter();
    let all: Vec<_> = all
        .flat_map(|upstream| upstream.endpoints.iter().map(move |it| (upstream, it)))
        .collect();
    let mut troubled: Vec<_> = all
        .iter()
        .filter(|(_, endpoint)| endpoint.urgency().is_trouble())
        .copied()
        .collect();
    // The worst first, and of those what has come first: it may be the cause.
    troubled.sort_by_key(|(_, endpoint)| (endpoint.urgency(), endpoint.since));
    let mut verdict = vec![match troubled.first() {
        None => (Tone::Good, well(&all)),
        Some(_) => (Tone::Bad, trouble(&troubled, all.len(), now)),
    }];
    let mut upstreams: Vec<&Upstream> = Vec::new();
    for (upstream, _) in &troubled {
        if !upstreams.iter().any(|it| std::ptr::eq(*it, *upstream)) {
            upstreams.push(upstream);
        }
    }
    // Those that are out on purpose may be all there were.
    let is_out = |it: &&Upstream| !it.endpoints.is_empty() && it.available == 0;
    let out = status.upstreams.iter().filter(is_out);
    for upstream in out {
        if !upstreams.iter().any(|it| std::ptr::eq(*it, upstream)) {
            upstreams.push(upstream);
        }
    }
    upstreams.sort_by_key(|upstream| upstream.available > 0);
    if !upstreams.is_empty() {
        verdict.push(what_is_left(&upstreams));
    } else if let Some(line) = could_lose_none(status) {
        verdict.push((Tone::Doubtful, line));
    }
    verdict.extend(notes(status, now));
    verdict
}

/// Of one that gives no answer since `since`, `why`, where it was seen before `seen`.
pub(super) fn away((since, why): (u64, &Plain), seen: Option<u64>, now: u64) -> Verdict {
    let ago = |then: u64| ago(now.saturating_sub(then));
    let below = seen.map_or_else(
        || "Asked again every second.".to_owned(),
        |seen| {
            format!(
                "Asked again every second. What stands below was so {} ago.",
                ago(seen)
            )
        },
    );
    vec![
        (
            Tone::Bad,
            format!("The balancer gives no answer for {}: {why}", ago(since)),
        ),
        (Tone::Doubtful, below),
    ]
}

fn well(all: &[(&Upstream, &Endpoint)]) -> String {
    let count = |mode: &str| {
        let out = all.iter().filter(|(_, it)| it.state.as_str() == mode);
        out.count()
    };
    let (draining, disabled) = (count("draining"), count("disabled"));
    let serve = all.len() - draining - disabled;
    let mut text = match (serve, all.len()) {
        (_, 0) => "No endpoints are configured".to_owned(),
        (1, 1) => "The endpoint is well".to_owned(),
        (serve, all) if serve == all => format!("All {all} endpoints are well"),
        (serve, all) => format!("{serve} of {all} endpoints are well"),
    };
    for (number, word) in [(draining, "draining"), (disabled, "disabled")] {
        if number > 0 {
            text += &format!(", {number} {word}");
        }
    }
    match count(STANDBY) {
        0 => {}
        waiting => text += &format!(", {waiting} on standby"),
    }
    text + "."
}

fn trouble(troubled: &[(&Upstream, &Endpoint)], all: usize, now: u64) -> String {
    let s = if all == 1 { "" } else { "s" };
    let told = troubled.iter().take(TOLD).map(|(upstream, endpoint)| {
        let since = ago(now.saturating_sub(endpoint.since));
        let reason = endpoint.reason.as_ref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!(
            "{}/{} {} for {since}{reason}",
            upstream.name, endpoint.name, endpoint.state
        )
    });
    let mut told: Vec<_> = told.collect();
    if troubled.len() > TOLD {
        told.push(format!("{} more", troubled.len() - TOLD));
    }
    format!(
        "{} of {all} endpoint{s} in trouble: {}.",
        troubled.len(),
        told.join("; ")
    )
}

fn what_is_left(upstreams: &[&Upstream]) -> (Tone, String) {
    let is_out = upstreams.iter().any(|upstream| upstream.available == 0);
    let tone = if is_out { Tone::Bad } else { Tone::Doubtful };
    let left = upstreams.iter().take(TOLD).map(|upstream| {
        let (name, available) = (&upstream.name, upstream.available);
        let all = upstream.endpoints.len();
        let headroom = upstream.headroom.as_ref();
        let headroom = headroom.map(|it| (it.could_lose, it.caveat()));
        match (available, headroom) {
            (0, _) => match &upstream.no_authority {
                Some(why) => format!("{name}: {why}, requests are refused"),
                None => format!("{name}: nobody is left, requests are refused"),
            },
            (_, Some((0, caveat))) => {
                format!("{name}: {available} of {all} serve, could lose no more{caveat}")
            }
            (_, Some((more, caveat))) => {
                format!("{name}: {available} of {all} serve, could lose {more} more{caveat}")
            }
            (_, None) => format!("{name}: {available} of {all} serve"),
        }
    });
    let mut left: Vec<_> = left.collect();
    if upstreams.len() > TOLD {
        left.push(format!("{} more upstreams", upstreams.len() - TOLD));
    }
    (tone, format!("{}.", left.join("; ")))
}

/// That the next loss would be felt.
fn could_lose_none(status: &Status) -> Option<String> {
    // Of a single endpoint that goes without saying, as of one that alone serves.
    let tight = status.upstreams.iter().filter(|upstream| {
        let headroom = upstream.headroom.as_ref();
        let is_alone = upstream.endpoints.len() == 1 || upstream.authority.is_some();
        !is_alone && headroom.is_some_and(|it| it.could_lose == 0)
    });
    let tight: Vec<_> = tight.collect();
    let names = tight.iter().map(|upstream| upstream.name.shown());
    let mut told: Vec<_> = names.take(TOLD).map(str::to_owned).collect();
    if tight.len() > TOLD {
        told.push(format!("{} more", tight.len() - TOLD));
    }
    let headroom = tight.first()?.headroom.as_ref()?;
    let told = told.join(", ");
    Some(format!("{told} could lose none{}.", headroom.caveat()))
}

/// What else is not as usual.
fn notes(status: &Status, now: u64) -> Verdict {
    let mut notes: Verdict = status.upstreams.iter().filter_map(flip).collect();
    if let Some(last) = &status.last_reload {
        let ago = ago(now.saturating_sub(last.at));
        match (last.by.as_str(), last.result.as_str()) {
            ("auto-rollback", "accepted") => {
                let why = last.why.clone().unwrap_or_default();
                notes.push((Tone::Doubtful, format!("Rolled back {ago} ago: {why}.")));
            }
            (by, "rejected") => {
                let generation = status.generation;
                notes.push((Tone::Bad, format!("The last reload ({by}) was rejected {ago} ago; generation {generation} is still in use.")));
            }
            _ => {}
        }
    }
    if let Some(upgrade) = &status.upgrade {
        let pid = upgrade.pid;
        notes.push((
            Tone::Doubtful,
            match upgrade.connections {
                Some(left) => {
                    format!("Process {pid}, from before the upgrade, finishes {left} connections.")
                }
                None => format!("Upgrade: process {pid} is {}.", upgrade.state),
            },
        ));
    }
    for upstream in &status.upstreams {
        if let (Some(active), Some(file)) = (&upstream.active_set, &upstream.file_set) {
            let name = &upstream.name;
            let line = format!(
                "Set {active} of {name} serves, the file says {file}: a restart lets that serve."
            );
            notes.push((Tone::Doubtful, line));
        }
        if upstream.paused {
            let (name, held) = (&upstream.name, upstream.held);
            notes.push((
                Tone::Doubtful,
                format!("{name} is paused, {held} requests wait."),
            ));
        } else if upstream.queued > 0 {
            let (name, queued) = (&upstream.name, upstream.queued);
            notes.push((
                Tone::Doubtful,
                format!("{name} is full, {queued} requests wait."),
            ));
        }
    }
    notes
}

/// The flip that is under way, or has come to what nobody wanted.
fn flip(upstream: &Upstream) -> Option<(Tone, String)> {
    let (name, flip) = (&upstream.name, upstream.flip.as_ref()?);
    let (from, to, percent) = (&flip.from, &flip.to, flip.percent);
    let active = upstream.active_set.as_ref().unwrap_or(from);
    let why = flip.verdict.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    let phase = flip.phase.as_str();
    if !flip.over {
        let line = format!(
            "{name} flips from {from} to {to} ({phase}): {percent} % to {to}, set {active} serves{why}."
        );
        return Some((Tone::Doubtful, line));
    }
    let (tone, came_to) = match phase {
        "flipped-back" => (Tone::Doubtful, "went back"),
        "stranded" => (Tone::Bad, "could not go back"),
        "refused" => (Tone::Doubtful, "was refused"),
        "unclear" => (Tone::Doubtful, "had too little to tell"),
        // As somebody wanted it.
        _ => return None,
    };
    let line = format!("The last flip of {name} to {to} {came_to}, set {active} serves{why}.");
    Some((tone, line))
}

const TOLD: usize = 3; // what a glance takes in

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoint(name: &str, state: &str, reason: Option<&str>) -> Value {
        let mode = match state {
            "draining" | "disabled" => state,
            _ => "active",
        };
        json!({ "name": name, "weight": 1, "mode": mode, "state": state, "reason": reason, "since": 940, "in_flight": 0, "eligible": state == "up" })
    }

    fn told(endpoints: &[Value], could_lose: usize, more: Value) -> Vec<String> {
        let available = endpoints.iter().filter(|it| it["eligible"] == true).count();
        let mut status = json!({ "version": "1", "generation": 7, "started": 0, "upstreams": [{ "name": "app", "policy": "round-robin", "available": available, "headroom": { "could_lose": could_lose }, "endpoints": endpoints }] });
        for (key, value) in more.as_object().unwrap() {
            status[key] = value.clone();
        }
        let status = serde_json::from_value(status).unwrap();
        let verdict = verdict(&status, 1000).into_iter();
        verdict.map(|(_, line)| line).collect()
    }

    #[test]
    fn all_is_well() {
        let well = [endpoint("a", "up", None), endpoint("b", "up", None)];
        assert_eq!(told(&well, 1, json!({})), ["All 2 endpoints are well."]);
        assert_eq!(
            told(&well, 0, json!({})),
            ["All 2 endpoints are well.", "app could lose none."]
        );
        let waits = [endpoint("a", "up", None), endpoint("b", "standby", None)];
        assert_eq!(
            told(&waits, 1, json!({})),
            ["All 2 endpoints are well, 1 on standby."]
        );
        assert_eq!(told(&well[..1], 0, json!({})), ["The endpoint is well."]);
        let seen = json!({ "upstreams": [{ "name": "app", "policy": "random", "available": 2, "headroom": { "could_lose": 0, "by": "observed_peak" }, "endpoints": well }] });
        assert_eq!(
            told(&[], 0, seen)[1],
            "app could lose none, by what was seen so far."
        );
    }

    #[test]
    fn trouble_is_told_with_who_since_when_why_and_what_is_left() {
        let mut endpoints = vec![
            endpoint("a", "up", None),
            endpoint("b", "degraded", Some("slow")),
            endpoint("c", "down", Some("refused")),
            endpoint("d", "draining", None),
        ];
        assert_eq!(
            told(&endpoints, 0, json!({})),
            [
                "2 of 4 endpoints in trouble: app/c down for 1 min 0 s (refused); app/b degraded for 1 min 0 s (slow).",
                "app: 1 of 4 serve, could lose no more."
            ]
        );
        endpoints.remove(0);
        let left = &told(&endpoints, 0, json!({}))[1];
        assert_eq!(left, "app: nobody is left, requests are refused.");
    }

    #[test]
    fn where_one_serves_and_no_other_that_none_can_be_lost_goes_without_saying() {
        let told_of = |authority: Option<&str>, why: Option<&str>| {
            let states = ["up", "standby"].map(|state| {
                let state = if authority.is_some() {
                    state
                } else {
                    "standby"
                };
                endpoint("a", state, None)
            });
            let available = usize::from(authority.is_some());
            let upstream = json!({ "name": "app", "policy": "random", "available": available, "headroom": { "could_lose": 0 }, "authority": authority, "no_authority": why, "endpoints": states });
            told(&[], 0, json!({ "upstreams": [upstream] }))
        };
        let well = ["All 2 endpoints are well, 1 on standby."];
        assert_eq!(told_of(Some("a"), None), well);
        let lines = told_of(None, Some("no endpoint claims to be the authority"));
        let refused = "app: no endpoint claims to be the authority, requests are refused.";
        assert_eq!(lines[1], refused);
    }

    #[test]
    fn those_that_are_out_on_purpose_are_no_trouble_unless_they_are_all() {
        let drained = endpoint("a", "draining", None);
        assert_eq!(
            told(&[drained.clone(), endpoint("b", "up", None)], 1, json!({})),
            ["1 of 2 endpoints are well, 1 draining."]
        );
        assert_eq!(
            told(&[drained], 0, json!({})),
            [
                "0 of 1 endpoints are well, 1 draining.",
                "app: nobody is left, requests are refused."
            ]
        );
    }

    #[test]
    fn regression_flip_that_is_under_way_or_went_back_is_told() {
        let told_of = |active: &str, phase: &str, percent: u8, verdict: Option<&str>| {
            let over = !matches!(phase, "warming" | "watching");
            let flip = json!({ "from": "blue", "to": "green", "phase": phase, "over": over, "percent": percent, "verdict": verdict });
            let endpoints = [endpoint("a", "up", None), endpoint("b", "standby", None)];
            let upstream = json!({ "name": "app", "policy": "random", "available": 1, "active_set": active, "flip": flip, "endpoints": endpoints });
            told(&[], 0, json!({ "upstreams": [upstream] })).split_off(1)
        };
        assert_eq!(
            told_of("blue", "watching", 10, None),
            ["app flips from blue to green (watching): 10 % to green, set blue serves."]
        );
        let why = Some("9 of 100 requests failed");
        assert_eq!(
            told_of("blue", "flipped-back", 0, why),
            ["The last flip of app to green went back, set blue serves: 9 of 100 requests failed."]
        );
        assert_eq!(
            told_of("green", "stranded", 100, None),
            ["The last flip of app to green could not go back, set green serves."]
        );
        assert!(told_of("green", "kept", 100, None).is_empty());
    }

    #[test]
    fn set_that_the_file_does_not_name_is_told() {
        let endpoints = [endpoint("a", "up", None), endpoint("b", "standby", None)];
        let upstream = json!({ "name": "app", "policy": "random", "available": 1, "active_set": "green", "file_set": "blue", "endpoints": endpoints });
        assert_eq!(
            told(&[], 0, json!({ "upstreams": [upstream] })).split_off(1),
            ["Set green of app serves, the file says blue: a restart lets that serve."]
        );
    }

    #[test]
    fn reload_that_is_not_in_use_is_told() {
        let rejected = json!({ "last_reload": { "by": "watch", "result": "rejected", "at": 990 } });
        assert_eq!(
            told(&[endpoint("a", "up", None)], 0, rejected)[1],
            "The last reload (watch) was rejected 10 s ago; generation 7 is still in use."
        );
    }
}
