//! Server-sent events (HTML §9.2), and what they say in words.

use serde_json::Value;

use super::super::table::Tone;
use super::model::Event;
use super::plain::Plain;
use crate::upstream::state::STANDBY;

/// What is said, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

/// One event.
#[derive(Debug)]
pub(super) struct Said {
    kind: String,
    data: Value,
}

impl Lines {
    /// The events that end within `bytes`.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        self.0.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some(end) = self.0.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.0.drain(..end + 2).collect();
            said.extend(Said::of(&String::from_utf8_lossy(&event)));
        }
        if self.0.len() > LONGEST {
            self.0.clear();
        }
        said
    }
}

impl Said {
    fn of(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            kind: field("event: ")?.to_owned(),
            data: serde_json::from_str(field("data: ")?).ok()?,
        })
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// What is listed of it: of the first one, what was before and after `latest`, in milliseconds. That is moved on.
    pub(super) fn events(&self, latest: &mut u64) -> Vec<Event> {
        let one = std::slice::from_ref(&self.data);
        let (all, is_past) = match self.data["recent_events"].as_array() {
            Some(past) if self.kind == "begin" => (&past[..], true),
            _ => (one, false),
        };
        let since = *latest;
        let mut events = Vec::new();
        for data in all {
            let at = data["time_ms"].as_u64().unwrap_or(0);
            if is_past && at <= since {
                continue;
            }
            *latest = at.max(*latest);
            let kind = data["kind"].as_str().filter(|_| is_past);
            events.extend(event(kind.unwrap_or(&self.kind), data));
        }
        events
    }
}

fn event(kind: &str, data: &Value) -> Option<Event> {
    let word = |key: &str| data[key].as_str().unwrap_or_default();
    let (tone, text) = match kind {
        "begin" | "point" => return None,
        // Its weight has changed, as it is eased in, or whether it is picked.
        "endpoint" if data["before"] == data["state"] && data["reason"].is_null() => return None,
        "endpoint" => endpoint(data),
        "pause" => pause(data),
        "reload" if data["result"] == "accepted" => {
            let count = |key: &str| data[key].as_u64().unwrap_or(0);
            let text = format!(
                "{}: generation {} is in use; {} endpoints kept, {} added, {} draining",
                word("by"),
                count("generation"),
                count("kept"),
                count("added"),
                count("draining")
            );
            match data["why"].as_str() {
                Some(why) => (Tone::Doubtful, format!("{text}: {why}")),
                None => (Tone::Good, text),
            }
        }
        "reload" => {
            let problems = word("problems").replace('\n', "; ");
            (Tone::Bad, format!("{}: rejected: {problems}", word("by")))
        }
        "operator" => operator(data),
        "flip" => flip(data),
        "upgrade" if data["result"] == "done" => {
            let text = format!("process {} serves now", data["pid"]);
            (Tone::Good, text)
        }
        "upgrade" if data["result"] == "failed" => {
            (Tone::Bad, format!("failed: {}", word("problems")))
        }
        // Of a kind that balancers after this one have.
        _ => (Tone::Plain, in_full(data)),
    };
    Some(Event {
        at: data["time_ms"].as_u64().unwrap_or(0) / 1000,
        kind: Plain::of(kind),
        tone,
        text: Plain::of(&text),
    })
}

fn endpoint(data: &Value) -> (Tone, String) {
    let word = |key: &str| data[key].as_str().unwrap_or_default();
    let state = word("state");
    let tone = match state {
        "down" | "unresolved" | "ejected" => Tone::Bad,
        "up" | "unchecked" | STANDBY => Tone::Good,
        _ => Tone::Doubtful,
    };
    let before = match word("before") {
        "" => String::new(),
        before if before == state => String::new(),
        before => format!("{before} → "),
    };
    let why = match word("reason") {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let name = format!("{}/{}", word("upstream"), word("endpoint"));
    (tone, format!("{name}: {before}{state}{why}"))
}

fn pause(data: &Value) -> (Tone, String) {
    let name = data["upstream"].as_str().unwrap_or_default();
    if data["paused"] == true {
        (Tone::Doubtful, format!("{name}: paused"))
    } else {
        (Tone::Good, format!("{name}: goes on"))
    }
}

fn flip(data: &Value) -> (Tone, String) {
    let word = |key: &str| data[key].as_str().unwrap_or_default();
    let tone = match word("phase") {
        "kept" => Tone::Good,
        "flipped-back" | "stranded" => Tone::Bad,
        "warming" | "watching" => Tone::Plain,
        _ => Tone::Doubtful,
    };
    let share = match word("phase") {
        "watching" => format!(", {} % of requests", data["percent"]),
        _ => String::new(),
    };
    let why = match word("verdict") {
        "" => String::new(),
        verdict => format!(": {verdict}"),
    };
    let (upstream, from, to) = (word("upstream"), word("from"), word("to"));
    let text = format!("{upstream}: {from} → {to} {}{share}{why}", word("phase"));
    (tone, text)
}

fn operator(data: &Value) -> (Tone, String) {
    let word = |key: &str| data[key].as_str().unwrap_or_default();
    let mut text = format!("{} {}", word("action"), word("target"));
    if let Some(uid) = data["uid"].as_u64() {
        text += &format!(", user {uid}");
    }
    match data["refused"].as_str() {
        Some(refused) => (Tone::Bad, format!("{text}: refused: {refused}")),
        None => (Tone::Plain, text),
    }
}

/// `key value, key value`
fn in_full(data: &Value) -> String {
    let pairs = data.as_object().into_iter().flatten();
    let is_text = |key: &str| key != "time_ms" && key != "kind";
    let pairs = pairs.filter(|(key, value)| is_text(key) && !value.is_null());
    let words = pairs.map(|(key, value)| match value {
        Value::String(text) => format!("{key} {text}"),
        value => format!("{key} {value}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

const LONGEST: usize = 1 << 20; // far above any event: what is longer is none

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_come() {
        let text = ": comment\n\nid: 1\nevent: begin\ndata: {}\n\nid: 2\nevent: endpoint\ndata: {\"upstream\":\"app\",\"endpoint\":\"a\",\"before\":\"up\",\"state\":\"down\",\"reason\":\"refused\",\"time_ms\":5000}\n\n";
        for piece in 1..text.len() {
            let (mut lines, mut latest) = (Lines::default(), 0);
            let pieces = text.as_bytes().chunks(piece);
            let said: Vec<_> = pieces.flat_map(|piece| lines.take(piece)).collect();
            let events: Vec<_> = said
                .iter()
                .flat_map(|said| said.events(&mut latest))
                .collect();
            assert_eq!((said.len(), events.len()), (2, 1));
            assert_eq!(events[0].text.as_str(), "app/a: up → down (refused)");
            assert_eq!(events[0].at, 5);
        }
        let mut lines = Lines::default();
        lines.take(&vec![b'x'; LONGEST + 1]);
        assert!(lines.0.is_empty(), "nothing is kept without end");
    }

    #[test]
    fn what_was_before_is_told_once() {
        let past = |times: &[u64]| {
            let events: Vec<_> = times
                .iter()
                .map(|at| serde_json::json!({ "kind": "pause", "upstream": "app", "paused": true, "time_ms": at }))
                .collect();
            Said {
                kind: "begin".to_owned(),
                data: serde_json::json!({ "recent_events": events, "time_ms": 9000 }),
            }
        };
        let mut latest = 0;
        let times = |events: Vec<Event>| events.iter().map(|it| it.at).collect::<Vec<_>>();
        assert_eq!(times(past(&[1000, 2000]).events(&mut latest)), [1, 2]);
        let told = past(&[1000, 2000, 3000]).events(&mut latest);
        assert_eq!(times(told), [3], "it comes back");
        assert_eq!(latest, 3000);
    }

    #[test]
    fn events_are_told_in_words() {
        let told = |kind: &str, data: Value| event(kind, &data).unwrap().text.to_string();
        let accepted = serde_json::json!({ "by": "signal", "result": "accepted", "generation": 3, "kept": 2, "added": 1, "draining": 0 });
        assert_eq!(
            told("reload", accepted),
            "signal: generation 3 is in use; 2 endpoints kept, 1 added, 0 draining"
        );
        let rejected = serde_json::json!({ "by": "watch", "result": "rejected", "problems": "f:1:1: a\nf:2:1: b" });
        assert_eq!(
            told("reload", rejected),
            "watch: rejected: f:1:1: a; f:2:1: b"
        );
        let drain = serde_json::json!({ "action": "drain", "target": "app/a", "uid": 0 });
        assert_eq!(told("operator", drain), "drain app/a, user 0");
        let flip = serde_json::json!({ "upstream": "app", "from": "blue", "to": "green", "phase": "watching", "percent": 10, "verdict": null });
        assert_eq!(
            told("flip", flip),
            "app: blue → green watching, 10 % of requests"
        );
        let paused = serde_json::json!({ "upstream": "app", "paused": true });
        assert_eq!(told("pause", paused), "app: paused");
        let other = serde_json::json!({ "name": "app\u{1b}", "is": 2, "time_ms": 1 });
        assert_eq!(told("other", other), "is 2, name app\u{fffd}");
        let eased = serde_json::json!({ "before": "up", "state": "up", "weight": 3 });
        assert!(event("endpoint", &eased).is_none());
    }
}
