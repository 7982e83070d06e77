//! Asks the balancer again and again, listens to what it says by itself, and has it do things. What it learns it sends as messages;
//! it ends with whoever receives them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::super::running::{AskError, Running, Target, encoded};
use super::data::{Recent, Status};
use super::events::Lines;
use super::model::{Change, Message};
use super::plain::Plain;

/// Asks one balancer.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) running: Running,
    pub(super) tell: Sender<Message>,
}

/// Tells those who ask what matters now.
#[derive(Debug)]
pub(super) struct Wishes {
    /// Upstreams whose endpoints are on the screen.
    shown: watch::Sender<Vec<String>>,
    status: Arc<Notify>,
}

impl Wishes {
    /// These upstreams are on the screen.
    pub(super) fn show(&self, upstreams: Vec<String>) {
        self.shown.send_if_modified(|shown| {
            let are_others = *shown != upstreams;
            *shown = upstreams;
            are_others
        });
    }

    /// How it stands is asked at once.
    pub(super) fn look(&self) {
        self.status.notify_one();
    }
}

impl Asking {
    /// Asks and listens from now on, every `interval` how it stands.
    pub(super) fn begin(&self, interval: Duration) -> Wishes {
        let (shown, wanted) = watch::channel(Vec::new());
        let (status, recent) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        tokio::spawn(self.clone().status(interval, status.clone()));
        tokio::spawn(self.clone().recent(wanted, recent.clone()));
        tokio::spawn(self.clone().events(status.clone(), recent));
        Wishes { shown, status }
    }

    /// How it stands, every `interval` and whenever it is nudged.
    async fn status(self, interval: Duration, nudge: Arc<Notify>) {
        loop {
            let asked = self.ask::<Box<Status>>("/api/v1/status").await;
            let told = asked.map_err(|error| Plain::of(&error));
            if self.tell.send(Message::Status(told)).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(interval) => {}
                () = nudge.notified() => sleep(SOONEST.min(interval)).await,
            }
        }
    }

    /// The last quarter of an hour of routes and upstreams, and of the endpoints of those upstreams that are `wanted`; of others in
    /// turn how it is now, for those who sort by it.
    async fn recent(self, mut wanted: watch::Receiver<Vec<String>>, nudge: Arc<Notify>) {
        let mut next = 0;
        loop {
            // Balancers before it was told have none.
            if let Ok(recent) = self.ask::<Recent>("/api/v1/recent").await {
                let all = recent.upstream_names();
                let shown = wanted.borrow_and_update().clone();
                let message = Message::Recent(recent);
                if self.tell.send(message).await.is_err() {
                    return;
                }
                for (upstream, is_shown) in in_turn(shown, &all, &mut next) {
                    let points = if is_shown { "" } else { "&points=1" };
                    let name = encoded(&upstream);
                    let path = format!("/api/v1/recent?upstream={name}{points}");
                    // One that a reload has just removed is not missed.
                    if let Ok(recent) = self.ask::<Recent>(&path).await {
                        let message = Message::Endpoints(upstream, recent);
                        if self.tell.send(message).await.is_err() {
                            return;
                        }
                    }
                }
            }
            tokio::select! {
                () = sleep(STEP) => {}
                () = nudge.notified() => {}
                Ok(()) = wanted.changed() => sleep(SCROLLED).await,
            }
        }
    }

    /// What it says by itself. Others look at once where that means something to them.
    async fn events(self, status: Arc<Notify>, recent: Arc<Notify>) {
        let mut latest = 0;
        loop {
            if let Ok(mut body) = self.running.follow("/api/v1/events").await {
                // It may have been away: nobody waits for the next turn to see that it is back.
                status.notify_one();
                let mut lines = Lines::default();
                while let Ok(Some(Ok(frame))) = timeout(SILENT, body.frame()).await {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    for said in lines.take(&data) {
                        match said.kind() {
                            "point" => recent.notify_one(),
                            "begin" => {}
                            _ => status.notify_one(),
                        }
                        for event in said.events(&mut latest) {
                            if self.tell.send(Message::Event(event)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            }
            if self.tell.is_closed() {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// Has an endpoint drained or resumed.
    pub(super) async fn set(self, change: Change, upstream: String, endpoint: String) {
        #[derive(Deserialize)]
        struct Changed {
            before: Plain,
            endpoint: Now,
        }
        #[derive(Deserialize)]
        struct Now {
            state: Plain,
            mode: Plain,
        }
        let target = Target { upstream, endpoint };
        let path = format!("{}/{}", target.path(), change.as_str());
        let asked = self.running.asked(Method::POST, &path, Bytes::new());
        let outcome = match timeout(PATIENCE, asked).await {
            Ok(Ok(Changed { before, endpoint })) if before == endpoint.mode => {
                Ok(format!("{target}: {}, as it was", endpoint.state))
            }
            Ok(Ok(Changed { before, endpoint })) => {
                Ok(format!("{target}: {}, was {before}", endpoint.state))
            }
            Ok(Err(error)) => Err(format!("{target}: {error}")),
            Err(_) => Err(format!("{target}: {}", no_answer())),
        };
        let plain = |text: String| Plain::of(&text);
        let message = Message::Done(outcome.map(plain).map_err(plain));
        // Who has ended meanwhile does not want to know.
        let _ = self.tell.send(message).await;
    }

    /// What is at `path`, or why not.
    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let asked = self.running.asked(Method::GET, path, Bytes::new());
        match timeout(PATIENCE, asked).await {
            Ok(asked) => asked.map_err(|error: AskError| error.to_string()),
            Err(_) => Err(no_answer()),
        }
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

/// Those of `all` that are `shown`, and of the others so many that each has its turn in a while. With each whether it is shown.
fn in_turn(mut shown: Vec<String>, all: &[String], next: &mut usize) -> Vec<(String, bool)> {
    shown.retain(|name| all.contains(name));
    shown.truncate(SHOWN);
    let others = all.iter().cycle().skip(*next).take(all.len());
    let others = others.filter(|name| !shown.contains(name)).cloned();
    let others: Vec<_> = others.take(OTHERS).map(|name| (name, false)).collect();
    *next = (*next + OTHERS) % all.len().max(1);
    let shown = shown.into_iter().map(|name| (name, true));
    shown.chain(others).collect()
}

const STEP: Duration = Duration::from_secs(7); // points are 5 s apart, and each is told of
const PATIENCE: Duration = Duration::from_secs(5); // of the balancer, which may be busy
const SILENT: Duration = Duration::from_secs(30); // it says something every 10 s
const AGAIN: Duration = Duration::from_secs(1);
const SOONEST: Duration = Duration::from_millis(100); // so that a storm of events is looked at once
const SCROLLED: Duration = Duration::from_millis(300); // somebody who scrolls is not done yet
const SHOWN: usize = 8; // upstreams of which all points are asked for: as many as are in view
const OTHERS: usize = 16; // upstreams in a round: a load that nobody notices

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn upstreams_on_the_screen_are_asked_for_first_and_all_get_their_turn() {
        let all: Vec<String> = (0..40).map(|number| format!("u{number}")).collect();
        let shown = names(&["u7", "gone"]);
        let (mut next, mut asked) = (0, Vec::new());
        for _ in 0..3 {
            let turn = in_turn(shown.clone(), &all, &mut next);
            assert_eq!(turn.len(), 1 + OTHERS);
            assert_eq!(turn[0], ("u7".to_owned(), true));
            asked.extend(turn.into_iter().map(|(name, _)| name));
        }
        assert!(all.iter().all(|name| asked.contains(name)), "{asked:?}");
        let few = names(&["a", "b"]);
        let turn = in_turn(Vec::new(), &few, &mut 1);
        assert_eq!(turn, [("b".to_owned(), false), ("a".to_owned(), false)]);
        assert!(in_turn(names(&["a"]), &[], &mut 0).is_empty());
    }
}
