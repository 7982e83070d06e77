//! The last quarter of an hour, for whoever looks: a point every few seconds, asked for as JSON. Taken and told on threads where
//! nobody waits for it; what has been told is kept for who asks the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Admin;
use super::names::decoded;
use super::problem::ApiError;
use crate::config::hint;
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::metrics::recent::{POINTS, Reading, STEP};
use crate::snapshot::Snapshot;

/// What is kept.
#[derive(Debug)]
pub struct Recent {
    /// Held as long as it takes to add a point, or to get hold of what there is.
    points: Mutex<Arc<crate::metrics::recent::Recent>>,
    /// What has been told since the last point. Held while something is put in words: who asks the same meanwhile waits for it.
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// The point it ends with.
    until: u64,
    texts: HashMap<Asked, Bytes>,
    /// Of all texts.
    bytes: usize,
}

/// What somebody wants to see.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Asked {
    /// The endpoints of this upstream; `None`: all routes and upstreams.
    upstream: Option<String>,
    /// So many of each at most, the last ones.
    points: usize,
}

impl Recent {
    /// Nothing, from `start` on.
    pub fn since(start: SystemTime) -> Self {
        let nothing = crate::metrics::recent::Recent::since(start);
        Self {
            points: Mutex::new(Arc::new(nothing)),
            told: Mutex::default(),
        }
    }

    /// Takes a point, `after` the last one.
    fn take(&self, metrics: &Metrics, snapshot: &Snapshot, after: Duration) {
        let reading = Reading::of(metrics);
        let upstreams = snapshot.upstreams.iter();
        let endpoints = upstreams.flat_map(|upstream| &upstream.endpoints);
        let in_flight: HashMap<(&str, &str), u32> = endpoints
            .map(|it| ((&**it.upstream(), &**it.name()), it.in_flight()))
            .collect();
        let of = |upstream: &str, endpoint: &str| {
            let found = in_flight.get(&(upstream, endpoint));
            found.copied().unwrap_or(0)
        };
        let now = SystemTime::now();
        let mut points = self.points();
        // Whoever reads it at this moment keeps what it has, and this goes on with a copy.
        Arc::make_mut(&mut points).add(reading, of, (now, after));
        drop(points);
        *lock(&self.told) = Told::default();
    }

    /// The last point of each route and upstream, as JSON.
    fn latest(&self) -> serde_json::Result<String> {
        let points = Arc::clone(&self.points());
        serde_json::to_string(&points.latest())
    }

    fn tell(&self, asked: &Asked) -> serde_json::Result<Bytes> {
        let mut told = lock(&self.told);
        let points = Arc::clone(&self.points());
        if told.until != points.until() {
            *told = Told {
                until: points.until(),
                ..Told::default()
            };
        }
        if let Some(text) = told.texts.get(asked) {
            return Ok(text.clone());
        }
        let text = match &asked.upstream {
            Some(upstream) => serde_json::to_vec(&points.endpoints(upstream, asked.points)),
            None => serde_json::to_vec(&points.shown(asked.points)),
        };
        let text = Bytes::from(text?);
        if told.bytes + text.len() <= MOST_TOLD {
            told.bytes += text.len();
            told.texts.insert(asked.clone(), text.clone());
        }
        Ok(text)
    }

    fn points(&self) -> MutexGuard<'_, Arc<crate::metrics::recent::Recent>> {
        lock(&self.points)
    }
}

impl Asked {
    /// From a query that may hold `upstream`, percent-encoded, and `points`, each once.
    fn read(query: &str) -> Result<Self, String> {
        let (mut upstream, mut points) = (None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let is_new = match name {
                "upstream" => {
                    let value = decoded(value);
                    let value = value.ok_or("upstream is not percent-encoded")?;
                    upstream.replace(value).is_none()
                }
                "points" => {
                    let number = value.parse().ok();
                    let number = number.filter(|number| (1..=POINTS).contains(number));
                    let number = number
                        .ok_or_else(|| format!("points must be 1 to {POINTS}, got {value:?}"))?;
                    points.replace(number).is_none()
                }
                other => return Err(format!("nothing is named {other:?}: upstream or points")),
            };
            if !is_new {
                return Err(format!("{name} is given more than once"));
            }
        }
        Ok(Self {
            upstream,
            points: points.unwrap_or(POINTS),
        })
    }
}

/// `GET /api/v1/recent`
pub(super) async fn recent(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let wrong = |status| move |wrong: String| ApiError::new(status, wrong);
    let asked = Asked::read(&query.unwrap_or_default()).map_err(wrong(StatusCode::BAD_REQUEST))?;
    if let Some(name) = &asked.upstream {
        exists(&admin.publisher.current(), name).map_err(wrong(StatusCode::NOT_FOUND))?;
    }
    let telling = spawn_blocking(move || admin.recent.tell(&asked)).await;
    let failed = |why: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, why);
    let text = telling.map_err(|error| failed(error.to_string()))?;
    let text = text.map_err(|error| failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn exists(snapshot: &Snapshot, name: &str) -> Result<(), String> {
    let names = || snapshot.upstreams.iter().map(|upstream| &*upstream.name);
    if names().any(|other| *other == *name) {
        return Ok(());
    }
    let hint = hint(name, names());
    Err(format!("no upstream is named {name:?}{hint}"))
}

/// Takes a point every few seconds, as long as the process runs, and tells whoever watches.
pub async fn keep_taking(admin: Arc<Admin>) {
    let mut last = Instant::now();
    let mut beat = interval_at(last + STEP, STEP);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = beat.tick().await;
        let (taking, after) = (Arc::clone(&admin), now - last);
        last = now;
        // Not here: with thousands of endpoints it takes milliseconds, and checks would wait for it.
        let taken = spawn_blocking(move || {
            let snapshot = taking.publisher.current();
            taking.recent.take(&taking.metrics, &snapshot, after);
            let is_watched = taking.events.are_watched();
            is_watched.then(|| taking.recent.latest())
        });
        if let Ok(Some(Ok(latest))) = taken.await {
            admin.events.publish_point(&latest);
        }
    }
}

const MOST_TOLD: usize = 8 << 20; // a thousand endpoints with all their points have 5 MiB

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_may_name_an_upstream_and_how_many_points() {
        let asked = |upstream: Option<&str>, points| Asked {
            upstream: upstream.map(str::to_owned),
            points,
        };
        assert_eq!(Asked::read(""), Ok(asked(None, POINTS)));
        let query = "points=7&upstream=a%2Fb";
        assert_eq!(Asked::read(query), Ok(asked(Some("a/b"), 7)));
        for wrong in [
            "points=0",
            "points=181",
            "points=x",
            "points=1&points=1",
            "upstream=%zz",
            "upstream=a&upstream=a",
            "route=a",
        ] {
            assert!(Asked::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_told_is_told_again_until_there_is_another_point_and_never_too_much_of_it_kept() {
        let recent = Recent::since(SystemTime::UNIX_EPOCH);
        let asked = |points| Asked {
            upstream: None,
            points,
        };
        let first = recent.tell(&asked(1)).unwrap();
        assert_eq!(first.as_ptr(), recent.tell(&asked(1)).unwrap().as_ptr());
        assert_eq!(lock(&recent.told).bytes, first.len());
        lock(&recent.told).bytes = MOST_TOLD;
        recent.tell(&asked(2)).unwrap();
        assert_eq!(lock(&recent.told).texts.len(), 1);
        *recent.points() = Arc::new(crate::metrics::recent::Recent::since(SystemTime::now()));
        let second = recent.tell(&asked(1)).unwrap();
        assert_ne!(first, second);
        assert_eq!(lock(&recent.told).bytes, second.len());
    }
}
