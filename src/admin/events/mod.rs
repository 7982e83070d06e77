//! What happens, told to whoever watches, as server-sent events. A viewer that does not keep up is dropped: nothing is kept for
//! it beyond a bound. What was told of late is told again to those who come.

mod past;
mod seen;

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use self::past::Past;
use self::seen::Seen;
use crate::lock::lock;
use crate::snapshot::{Publisher, Snapshot};
use crate::units::{unix_millis, unix_seconds};

/// Texts that may wait for one viewer; those of one moment are one.
const WAITING: usize = 256;
/// Viewers at once, over each.
pub(super) const VIEWERS: usize = 128;
/// What only those are told who may open the unix socket: who did something, and what files say and where they are.
const WITHHELD: [&str; 5] = ["uid", "pid", "client", "refused", "problems"];
/// So often it is looked what has become of endpoints, while anybody watches.
const LOOK: Duration = Duration::from_millis(200);
/// While nobody does, after so many times that: who comes is told what was.
const LOOKS_UNWATCHED: u32 = 5;
/// After so many looks something is said in any case, so that viewers that are gone are noticed.
const LOOKS_PER_WORD: u32 = 50;
/// So long a browser waits before it comes back, in milliseconds.
const COME_BACK: u32 = 1000;

/// Who watches.
#[derive(Debug, Default)]
pub struct Events(Mutex<Viewers>);

/// How a viewer has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// Whoever may open the address.
    Tcp,
    /// The unix socket: who may do everything.
    Socket,
}

#[derive(Debug, Default)]
struct Viewers {
    senders: Vec<(Over, mpsc::Sender<Bytes>)>,
    /// What they know of endpoints.
    seen: Seen,
    /// Number of the latest event.
    latest: u64,
    past: Past,
}

impl Events {
    /// In a process that began at `start`: its events have greater numbers than those of processes before, so that who comes
    /// back from one of them has seen none of these.
    pub fn since(start: SystemTime) -> Self {
        Self(Mutex::new(Viewers {
            latest: unix_seconds(start) << 20, // exact in JavaScript, and more than come within a second
            ..Viewers::default()
        }))
    }

    /// One more viewer, who knows `snapshot` already; `None` where there are too many who have come the same way. `last` is the
    /// number of the event that it has seen last, if it was here before.
    pub fn watch(&self, snapshot: &Snapshot, over: Over, last: Option<u64>) -> Option<Stream> {
        let mut viewers = self.viewers();
        viewers.senders.retain(|(_, sender)| !sender.is_closed());
        let others = viewers.senders.iter();
        if others.filter(|(other, _)| *other == over).count() >= VIEWERS {
            return None;
        }
        if !viewers.seen.is_begun() {
            // From what this viewer knows on everything is news.
            viewers.look(snapshot);
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let (id, recent) = (viewers.next(), viewers.past.since(last, over));
        let (generation, version) = (snapshot.generation, env!("CARGO_PKG_VERSION"));
        let time = unix_millis(SystemTime::now());
        let first = format!(
            "retry: {COME_BACK}\nid: {id}\nevent: begin\ndata: {{\"generation\":{generation},\"version\":\"{version}\",\"time_ms\":{time},\"recent_events\":{recent}}}\n\n"
        );
        // There is room for a first one.
        let _ = sender.try_send(first.into());
        viewers.senders.push((over, sender));
        Some(Stream(receiver))
    }

    /// Tells everybody.
    pub fn publish(&self, kind: &'static str, data: Value) {
        let mut viewers = self.viewers();
        let told = viewers.note(kind, data);
        viewers.tell(&[told]);
    }

    /// Whether anybody watches.
    pub fn are_watched(&self) -> bool {
        !self.viewers().senders.is_empty()
    }

    /// Tells everybody the last point of the last quarter of an hour, which is JSON already. It is not told again.
    pub fn publish_point(&self, point: &str) {
        let mut viewers = self.viewers();
        let id = viewers.next();
        let text = Bytes::from(format!("id: {id}\nevent: point\ndata: {point}\n\n"));
        viewers.send(&text, &text);
    }

    /// Tells nobody anything more: their streams end.
    pub fn end(&self) {
        self.viewers().senders.clear();
    }

    /// Tells what has become of the endpoints of `snapshot` since it was last looked.
    fn look(&self, snapshot: &Snapshot) {
        self.viewers().look(snapshot);
    }

    fn viewers(&self) -> MutexGuard<'_, Viewers> {
        lock(&self.0)
    }
}

impl Viewers {
    fn next(&mut self) -> u64 {
        self.latest += 1;
        self.latest
    }

    fn look(&mut self, snapshot: &Snapshot) {
        let mut seen = std::mem::take(&mut self.seen);
        let mut told = Vec::new();
        seen.look(snapshot, |kind, data| told.push(self.note(kind, data)));
        self.seen = seen;
        if !told.is_empty() {
            self.tell(&told);
        }
    }

    /// An event in words, which will be told again for a while.
    fn note(&mut self, kind: &'static str, mut data: Value) -> Told {
        data["time_ms"] = json!(unix_millis(SystemTime::now()));
        let all = Text::new(kind, &data);
        let is_withheld = |key: &str| WITHHELD.contains(&key);
        let open = match data.as_object_mut() {
            Some(keys) if keys.keys().any(|key| is_withheld(key)) => {
                keys.retain(|key, _| !is_withheld(key));
                Text::new(kind, &data)
            }
            _ => all.clone(),
        };
        let id = self.next();
        let told = Told { id, all, open };
        self.past.push(&told);
        told
    }

    /// All at once: a thousand endpoints that change together are one text.
    fn tell(&mut self, told: &[Told]) {
        if self.senders.is_empty() {
            return;
        }
        let text = |of: fn(&Told) -> &Text| {
            let texts = told.iter().map(|told| of(told).event(told.id));
            Bytes::from(texts.collect::<String>())
        };
        self.send(&text(|told| &told.all), &text(|told| &told.open));
    }

    /// Who has no room for it is not told anything any more.
    fn send(&mut self, all: &Bytes, open: &Bytes) {
        self.senders.retain(|(over, sender)| {
            let text = match over {
                Over::Tcp => open,
                Over::Socket => all,
            };
            sender.try_send(text.clone()).is_ok()
        });
    }
}

/// An event in words.
struct Told {
    id: u64,
    all: Text,
    /// Without what is withheld.
    open: Text,
}

/// Its kind, and JSON of one line: no name can end it.
#[derive(Clone)]
struct Text(&'static str, String);

impl Text {
    fn new(kind: &'static str, data: &Value) -> Self {
        Self(kind, data.to_string())
    }

    fn event(&self, id: u64) -> String {
        let Self(kind, data) = self;
        format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
    }

    /// As it stands in a list.
    fn listed(&self) -> String {
        let Self(kind, data) = self;
        let rest = data.strip_prefix('{').unwrap_or_default();
        format!("{{\"kind\":\"{kind}\",{rest}")
    }
}

/// Looks what becomes of endpoints, as long as the process runs.
pub async fn follow(events: &Events, publisher: &Publisher) {
    for look in 1_u32.. {
        sleep(LOOK).await;
        if look % LOOKS_UNWATCHED == 0 || events.are_watched() {
            events.look(&publisher.current());
        }
        if look % LOOKS_PER_WORD == 0 {
            let word = Bytes::from_static(b":\n\n");
            events.viewers().send(&word, &word);
        }
    }
}

/// What one viewer is sent, until it is dropped.
#[derive(Debug)]
pub struct Stream(mpsc::Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use http_body_util::BodyExt;

    use super::*;
    use crate::config::{self, Mode};
    use crate::metrics::Metrics;
    use crate::snapshot::compile::{Compiler, apply};
    use crate::tls::Tickets;
    use crate::units::AppVersion;
    use crate::upstream::state::Evidence;
    use crate::upstream::{Health, Runs, Said};

    fn snapshot() -> Snapshot {
        of("\"127.0.0.1:2\"")
    }

    fn of(endpoints: &str) -> Snapshot {
        with("", endpoints)
    }

    fn with(keys: &str, endpoints: &str) -> Snapshot {
        let text = format!(
            "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\n{keys}\nendpoints = [{endpoints}]\n[[route]]\nupstream = \"app\"\n"
        );
        let config = config::parse(&text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        apply(&snapshot, &config);
        snapshot
    }

    async fn next(stream: &mut Stream) -> Option<String> {
        let frame = stream.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn viewer_is_told_of_a_change_once() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        let first = next(&mut stream).await.unwrap();
        let start = "retry: 1000\nid: 1\nevent: begin\ndata: {";
        assert!(first.starts_with(start), "{first}");
        events.look(&snapshot);
        snapshot.upstreams[0].endpoints[0].set_mode(Mode::Draining);
        events.look(&snapshot);
        events.look(&snapshot);
        events.publish("last", json!({}));
        let told = next(&mut stream).await.unwrap();
        assert!(told.contains("event: endpoint\n"), "{told}");
        assert!(told.contains("\"state\":\"draining\""), "{told}");
        assert!(told.contains("\"before\":\"unchecked\""), "{told}");
        let last = next(&mut stream).await.unwrap();
        assert!(last.contains("event: last\n"), "{last}");
    }

    #[tokio::test]
    async fn regression_viewer_of_the_first_moment_is_told_of_what_changes_in_it() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        snapshot.upstreams[0].endpoints[0].set_mode(Mode::Draining);
        events.look(&snapshot);
        next(&mut stream).await.unwrap();
        let told = next(&mut stream).await.unwrap();
        assert!(told.contains("\"before\":\"unchecked\""), "{told}");
    }

    #[tokio::test]
    async fn regression_version_that_changes_all_the_time_washes_nothing_else_away() {
        let (events, snapshot) = (Events::default(), snapshot());
        events.look(&snapshot);
        let endpoint = &snapshot.upstreams[0].endpoints[0];
        endpoint.set_mode(Mode::Draining);
        for number in 0..300 {
            let version = AppVersion::try_from(number.to_string().as_bytes()).unwrap();
            endpoint.set_version(Runs::Version(version));
            events.look(&snapshot);
        }
        endpoint.set_mode(Mode::Active);
        events.look(&snapshot);
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        let told = recent(&next(&mut stream).await.unwrap());
        let version = |event: &Value| event["version"].clone();
        let versions: Vec<_> = told.iter().map(version).collect();
        assert_eq!(versions, ["0", "1", "2", "3", "4", "5", "6", "7", "299"]);
        assert_eq!(told[8]["before"], "draining");
    }

    #[tokio::test]
    async fn who_serves_where_one_does_is_told_with_the_reason_where_nobody_does() {
        let keys = "role = \"authoritative\"\nhealth = { role_header = \"x-role\" }";
        let snapshot = with(keys, "\"127.0.0.1:2\", \"127.0.0.1:3\"");
        let (events, upstream) = (Events::default(), &snapshot.upstreams[0]);
        let hear = |roles: [&str; 2]| {
            for (endpoint, role) in upstream.endpoints.iter().zip(roles) {
                endpoint.hear_role(Said::Role(role.into(), std::time::Instant::now()));
            }
            upstream.refresh();
            events.look(&snapshot);
        };
        hear(["authority", "replica"]);
        hear(["authority", "authority"]);
        hear(["replica", "authority"]);
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        let mut told = recent(&next(&mut stream).await.unwrap());
        told.retain(|event| event["kind"] == "authority");
        let said =
            |event: &Value| json!([event["upstream"], event["from"], event["to"], event["why"]]);
        let said: Vec<_> = told.iter().map(said).collect();
        let (one, other) = ("127.0.0.1:2", "127.0.0.1:3");
        let both = format!("{one} and {other} claim to be the authority");
        assert_eq!(
            said,
            [
                json!(["app", one, null, both]),
                json!(["app", null, other, null])
            ]
        );
    }

    #[tokio::test]
    async fn viewer_that_does_not_read_is_dropped_and_others_are_not() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut slow = events.watch(&snapshot, Over::Tcp, None).unwrap();
        let mut quick = events.watch(&snapshot, Over::Tcp, None).unwrap();
        for number in 0..2 * WAITING {
            events.publish("n", json!({ "number": number }));
            assert!(next(&mut quick).await.is_some());
        }
        assert_eq!(events.viewers().senders.len(), 1);
        let mut got = 0;
        while next(&mut slow).await.is_some() {
            got += 1;
        }
        assert_eq!(got, WAITING);
    }

    #[test]
    fn there_is_an_end_to_viewers_and_room_again_when_one_leaves() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut streams: Vec<_> = (0..VIEWERS)
            .map(|_| events.watch(&snapshot, Over::Tcp, None).unwrap())
            .collect();
        assert!(events.watch(&snapshot, Over::Tcp, None).is_none());
        let _other = events
            .watch(&snapshot, Over::Socket, None)
            .expect("counted apart");
        streams.pop();
        assert!(events.watch(&snapshot, Over::Tcp, None).is_some());
    }

    #[tokio::test]
    async fn regression_over_tcp_nobody_is_told_what_files_say_or_who_did_something() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut open = events.watch(&snapshot, Over::Tcp, None).unwrap();
        let mut all = events.watch(&snapshot, Over::Socket, None).unwrap();
        for stream in [&mut open, &mut all] {
            next(stream).await.unwrap();
        }
        let data = json!({ "by": "reload", "uid": 1000, "refused": "/etc/x: secret", "problems": "/etc/x" });
        events.publish("reload", data);
        let (open, all) = (
            next(&mut open).await.unwrap(),
            next(&mut all).await.unwrap(),
        );
        for secret in ["1000", "/etc/x"] {
            assert!(
                !open.contains(secret) && all.contains(secret),
                "{open} {all}"
            );
        }
        assert!(open.contains("\"by\":\"reload\""), "{open}");
        let id = |text: &str| text.lines().next().map(str::to_owned);
        assert_eq!(id(&open), id(&all), "the same event");
    }

    fn recent(first: &str) -> Vec<Value> {
        let data = first.split("data: ").nth(1).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        data["recent_events"].as_array().unwrap().clone()
    }

    #[tokio::test]
    async fn who_comes_is_told_what_was_and_who_comes_back_what_it_has_missed() {
        let (events, snapshot) = (Events::default(), snapshot());
        events.look(&snapshot);
        snapshot.upstreams[0].endpoints[0].set_mode(Mode::Draining);
        events.look(&snapshot);
        for number in 0..150 {
            events.publish("n", json!({ "number": number, "uid": 7 }));
        }
        let first = async |over, last| {
            let mut stream = events.watch(&snapshot, over, last).unwrap();
            recent(&next(&mut stream).await.unwrap())
        };
        let all = first(Over::Tcp, None).await;
        assert_eq!((all.len(), &all[99]["number"]), (100, &json!(149)));
        assert_eq!(
            (&all[0]["kind"], &all[0]["uid"]),
            (&json!("n"), &Value::Null)
        );
        assert_eq!(first(Over::Socket, None).await[0]["uid"], 7);
        // The first of all was the endpoint's.
        let missed = first(Over::Tcp, Some(0)).await;
        assert_eq!(
            (missed.len(), &missed[0]["state"]),
            (151, &json!("draining"))
        );
        assert_eq!(first(Over::Tcp, Some(148)).await.len(), 3);
        assert_eq!(first(Over::Tcp, Some(u64::MAX)).await.len(), 0);
        for number in 0..1000 {
            events.publish("n", json!({ "number": number }));
        }
        assert_eq!(first(Over::Tcp, Some(0)).await.len(), 256);
        // One that is large is told, and not told again.
        events.publish("large", json!({ "text": "x".repeat(10_000) }));
        assert_eq!(first(Over::Tcp, None).await[99]["number"], 999);
    }

    #[test]
    fn numbers_go_on_where_another_process_takes_over() {
        let at = |seconds| Events::since(UNIX_EPOCH + Duration::from_secs(seconds));
        let (before, after) = (at(1_800_000_000), at(1_800_000_001));
        for _ in 0..1000 {
            before.publish("n", json!({}));
        }
        assert!(before.viewers().latest < after.viewers().latest);
        assert!(at(4_000_000_000).viewers().latest < 1 << 53);
    }

    #[tokio::test]
    async fn hostile_names_and_reasons_end_no_event_and_begin_none() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        next(&mut stream).await.unwrap();
        events.look(&snapshot);
        let hostile =
            "</script><img src=x onerror=alert(1)>\n\nevent: begin\r\ndata: {}\u{2028}\u{1b}[2J\"";
        let down = Health::Down(Evidence::Hard);
        snapshot.upstreams[0].endpoints[0].set_health(down, Some(hostile.to_owned()));
        events.look(&snapshot);
        let told = next(&mut stream).await.unwrap();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 4, "id, event, data and the end: {told}");
        assert!(!told.contains(['\r', '\u{1b}']), "{told}");
        let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["reason"], hostile);
        assert_eq!(
            (&data["health"], &data["eligible"]),
            (&json!("down"), &json!(false))
        );
        assert_eq!(
            (&data["weight"], &data["mode"]),
            (&json!(1), &json!("active"))
        );
    }

    #[tokio::test]
    async fn change_of_sets_is_told_of_all_who_stand_by_or_serve_now() {
        let endpoints = "{ address = \"127.0.0.1:2\", set = \"blue\" }, { address = \"127.0.0.1:3\", set = \"green\" }";
        let (events, snapshot) = (Events::default(), with("active_set = \"blue\"", endpoints));
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        next(&mut stream).await.unwrap();
        events.look(&snapshot);
        snapshot.upstreams[0].switch("green");
        events.look(&snapshot);
        let told = next(&mut stream).await.unwrap();
        for (port, before, state) in [(2, "unchecked", "standby"), (3, "standby", "unchecked")] {
            let named = format!("\"endpoint\":\"127.0.0.1:{port}\"");
            let line = told.lines().find(|line| line.contains(&named)).unwrap();
            let data: Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(
                (&data["before"], &data["state"], &data["eligible"]),
                (&json!(before), &json!(state), &json!(port == 3))
            );
        }
    }

    #[tokio::test]
    async fn regression_a_thousand_endpoints_that_change_at_once_drop_nobody() {
        let endpoints: Vec<_> = (1..=1000)
            .map(|port| format!("\"127.0.0.1:{port}\""))
            .collect();
        let snapshot = of(&endpoints.join(","));
        let events = Events::default();
        let mut stream = events.watch(&snapshot, Over::Tcp, None).unwrap();
        events.look(&snapshot);
        for endpoint in &snapshot.upstreams[0].endpoints {
            endpoint.set_mode(Mode::Disabled);
        }
        events.look(&snapshot);
        next(&mut stream).await.unwrap();
        let told = next(&mut stream).await.unwrap();
        assert_eq!(told.matches("event: endpoint\n").count(), 1000);
    }
}
