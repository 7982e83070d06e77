//! What happens, told to whoever watches, as server-sent events. A viewer that does not keep up is dropped: nothing is kept for
//! it beyond a bound.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::{Endpoint, EndpointId, Upstream};

/// Events that may wait for one viewer.
const WAITING: usize = 256;
/// Viewers at once, over each.
const VIEWERS: usize = 64;
/// What only those are told who may open the unix socket: users, and what files say and where they are.
const WITHHELD: [&str; 4] = ["uid", "pid", "refused", "problems"];
/// So often it is looked what has become of endpoints, while anybody watches.
const LOOK: Duration = Duration::from_millis(200);
/// After so many looks something is said in any case, so that viewers that are gone are noticed.
const LOOKS_PER_WORD: u32 = 50;

/// Who watches.
#[derive(Debug, Default)]
pub struct Events {
    viewers: Mutex<Viewers>,
    /// Number of the latest event. Written and read by the control thread.
    latest: AtomicU64,
}

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
    seen: HashMap<EndpointId, Seen>,
}

#[derive(Debug, Eq, PartialEq)]
struct Seen {
    state: &'static str,
    reason: Option<String>,
    eligible: bool,
}

impl Seen {
    fn of((upstream, endpoint): (&Upstream, &Endpoint)) -> Self {
        let state = endpoint.state();
        Self {
            state: state.word(),
            reason: state.reason,
            eligible: upstream.would_pick(endpoint),
        }
    }
}

impl Events {
    /// One more viewer, who knows `snapshot` already; `None` where there are too many who have come the same way.
    pub fn watch(&self, snapshot: &Snapshot, over: Over) -> Option<Stream> {
        let mut viewers = self.viewers();
        viewers.senders.retain(|(_, sender)| !sender.is_closed());
        let others = viewers.senders.iter();
        if others.filter(|(other, _)| *other == over).count() >= VIEWERS {
            return None;
        }
        if viewers.senders.is_empty() {
            viewers.seen = all(snapshot).map(|it| (it.1.id(), Seen::of(it))).collect();
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let first = json!({
            "generation": snapshot.generation,
            "version": env!("CARGO_PKG_VERSION"),
        });
        // There is room for a first one.
        let _ = sender.try_send(self.text("begin", &first).to(over));
        viewers.senders.push((over, sender));
        Some(Stream(receiver))
    }

    /// Tells everybody.
    pub fn publish(&self, kind: &str, data: &Value) {
        let mut viewers = self.viewers();
        if !viewers.senders.is_empty() {
            viewers.tell(&self.text(kind, data));
        }
    }

    /// Whether anybody watches.
    pub fn are_watched(&self) -> bool {
        !self.viewers().senders.is_empty()
    }

    /// Tells everybody the last point of the last quarter of an hour, which is JSON already.
    pub fn publish_point(&self, point: &str) {
        let id = self.latest.fetch_add(1, Relaxed) + 1;
        let all = Bytes::from(format!("id: {id}\nevent: point\ndata: {point}\n\n"));
        let open = all.clone();
        self.viewers().tell(&Told { all, open });
    }

    /// Tells nobody anything more: their streams end.
    pub fn end(&self) {
        self.viewers().senders.clear();
    }

    /// Tells what has become of the endpoints of `snapshot` since it was last looked.
    fn look(&self, snapshot: &Snapshot) {
        let mut viewers = self.viewers();
        if viewers.senders.is_empty() {
            viewers.seen = HashMap::new();
            return;
        }
        let mut before = std::mem::take(&mut viewers.seen);
        for (upstream, endpoint) in all(snapshot) {
            let now = Seen::of((upstream, endpoint));
            let known = before.remove(&endpoint.id());
            if known.as_ref() != Some(&now) {
                let data = json!({
                    "generation": snapshot.generation,
                    "upstream": &**endpoint.upstream(),
                    "endpoint": &**endpoint.name(),
                    "before": known.map(|known| known.state),
                    "state": now.state,
                    "reason": now.reason,
                    "eligible": now.eligible,
                });
                viewers.tell(&self.text("endpoint", &data));
            }
            viewers.seen.insert(endpoint.id(), now);
        }
    }

    fn text(&self, kind: &str, data: &Value) -> Told {
        let id = self.latest.fetch_add(1, Relaxed) + 1;
        let mut data = data.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        data["time_ms"] = json!(now.unwrap_or_default().as_millis() as u64);
        let text = |data: &Value| Bytes::from(format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"));
        let all = text(&data);
        let is_withheld = |key: &str| WITHHELD.contains(&key);
        let open = match data.as_object_mut() {
            Some(keys) if keys.keys().any(|key| is_withheld(key)) => {
                keys.retain(|key, _| !is_withheld(key));
                text(&data)
            }
            _ => all.clone(),
        };
        Told { all, open }
    }

    fn viewers(&self) -> MutexGuard<'_, Viewers> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewers {
    /// Who has no room for it is not told anything any more.
    fn tell(&mut self, told: &Told) {
        self.senders
            .retain(|(over, sender)| sender.try_send(told.to(*over)).is_ok());
    }
}

/// An event in words.
struct Told {
    all: Bytes,
    /// Without what is withheld.
    open: Bytes,
}

impl Told {
    fn to(&self, over: Over) -> Bytes {
        match over {
            Over::Tcp => self.open.clone(),
            Over::Socket => self.all.clone(),
        }
    }
}

/// Looks what becomes of endpoints, as long as the process runs.
pub async fn follow(events: &Events, publisher: &Publisher) {
    for look in 1_u32.. {
        sleep(LOOK).await;
        events.look(&publisher.current());
        if look % LOOKS_PER_WORD == 0 {
            let word = Bytes::from_static(b":\n\n");
            let (all, open) = (word.clone(), word);
            events.viewers().tell(&Told { all, open });
        }
    }
}

fn all(snapshot: &Snapshot) -> impl Iterator<Item = (&Upstream, &Endpoint)> {
    let upstreams = snapshot.upstreams.iter();
    upstreams.flat_map(|upstream| {
        let endpoints = upstream.endpoints.iter();
        endpoints.map(|endpoint| (&**upstream, &**endpoint))
    })
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

    use http_body_util::BodyExt;

    use super::*;
    use crate::config::{self, Mode};
    use crate::metrics::Metrics;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;

    fn snapshot() -> Snapshot {
        let text = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [\"127.0.0.1:2\"]\n[[route]]\nupstream = \"app\"\n";
        let config = config::parse(text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        compiler.compile(&config, None).unwrap().snapshot
    }

    async fn next(stream: &mut Stream) -> Option<String> {
        let frame = stream.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn viewer_is_told_of_a_change_once() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut stream = events.watch(&snapshot, Over::Tcp).unwrap();
        let first = next(&mut stream).await.unwrap();
        assert!(first.starts_with("id: 1\nevent: begin\ndata: {"), "{first}");
        snapshot.upstreams[0].endpoints[0].set_mode(Mode::Draining);
        events.look(&snapshot);
        events.look(&snapshot);
        events.publish("last", &json!({}));
        let told = next(&mut stream).await.unwrap();
        assert!(told.contains("event: endpoint\n"), "{told}");
        assert!(told.contains("\"state\":\"draining\""), "{told}");
        assert!(told.contains("\"before\":\"unchecked\""), "{told}");
        let last = next(&mut stream).await.unwrap();
        assert!(last.contains("event: last\n"), "{last}");
    }

    #[tokio::test]
    async fn viewer_that_does_not_read_is_dropped_and_others_are_not() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut slow = events.watch(&snapshot, Over::Tcp).unwrap();
        let mut quick = events.watch(&snapshot, Over::Tcp).unwrap();
        for number in 0..2 * WAITING {
            events.publish("n", &json!({ "number": number }));
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
            .map(|_| events.watch(&snapshot, Over::Tcp).unwrap())
            .collect();
        assert!(events.watch(&snapshot, Over::Tcp).is_none());
        let _other = events
            .watch(&snapshot, Over::Socket)
            .expect("counted apart");
        streams.pop();
        assert!(events.watch(&snapshot, Over::Tcp).is_some());
    }

    #[tokio::test]
    async fn regression_over_tcp_nobody_is_told_what_files_say_or_who_did_something() {
        let (events, snapshot) = (Events::default(), snapshot());
        let mut open = events.watch(&snapshot, Over::Tcp).unwrap();
        let mut all = events.watch(&snapshot, Over::Socket).unwrap();
        for stream in [&mut open, &mut all] {
            next(stream).await.unwrap();
        }
        let data = json!({ "by": "reload", "uid": 1000, "refused": "/etc/x: secret", "problems": "/etc/x" });
        events.publish("reload", &data);
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
}
