//! A flip from one set of endpoints to another: how it is asked for, and what is shown of it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::connect_info::ConnectInfo;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::actions::read;
use super::command::{Command, Operator};
use super::names::Names;
use super::problem::ApiError;
use crate::config::hint;
use crate::snapshot::Snapshot;
use crate::units::unix_millis;
use crate::upstream::flip::{Figures, Flip};
use crate::upstream::{Tier, Upstream};

/// What is to be flipped to, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The set that is to serve.
    pub to: String,
    /// Also where it is not fit to.
    pub force: bool,
    /// How long it is watched at each share.
    pub watch: Duration,
    /// Shares of a hundred requests, rising; the last is all.
    pub percent: Vec<u8>,
    /// So many requests are needed of either set; 0: nothing is judged.
    pub min_requests: u32,
    /// By how much the share of failures may rise.
    pub tolerance: f64,
    /// Whether slow answers count.
    pub heeds_latency: bool,
    /// The version that every endpoint of the set must run.
    pub expect_version: Option<String>,
}

/// What has come of a wish for one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Begun {
    /// Its number; none: that set serves already.
    pub flip: Option<u64>,
}

/// The body of a flip.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    to: String,
    force: bool,
    watch_seconds: Option<f64>,
    percent: Vec<u8>,
    min_requests: Option<u32>,
    tolerance: Option<f64>,
    ignore_latency: bool,
    expect_version: Option<String>,
}

/// The body of what has nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `GET /api/v1/upstreams/{upstream}/flip`
#[derive(Debug, Serialize)]
pub struct SetsStatus {
    upstream: String,
    /// The one that serves; none: endpoints are in no sets.
    active_set: Option<String>,
    /// The one that the file names, where that is another.
    file_set: Option<String>,
    sets: Vec<SetStatus>,
    /// The last flip in this process, if any.
    flip: Option<FlipStatus>,
}

#[derive(Debug, Serialize)]
struct SetStatus {
    name: String,
    /// Of a hundred requests.
    percent: u8,
    endpoints: usize,
    /// Those that could be picked if it served.
    well: usize,
}

/// A flip, as it is shown.
#[derive(Debug, Serialize)]
pub struct FlipStatus {
    number: u64,
    from: String,
    to: String,
    phase: &'static str,
    /// Whether nothing more will come of it.
    over: bool,
    percent: u8,
    /// Unix time in milliseconds.
    begun_ms: u64,
    since_ms: u64,
    watch_seconds: f64,
    before: FiguresStatus,
    after: FiguresStatus,
    verdict: Option<String>,
    /// How long the last change of the sets took.
    change_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct FiguresStatus {
    requests: u64,
    errors: u64,
    p99_seconds: Option<f64>,
}

impl From<Figures> for FiguresStatus {
    fn from(figures: Figures) -> Self {
        Self {
            requests: figures.requests,
            errors: figures.errors,
            p99_seconds: figures.p99.map(|time| time.as_secs_f64()),
        }
    }
}

impl From<Flip> for FlipStatus {
    fn from(flip: Flip) -> Self {
        Self {
            number: flip.number,
            from: flip.from.to_string(),
            to: flip.to.to_string(),
            phase: flip.phase.as_str(),
            over: flip.phase.is_over(),
            percent: flip.percent,
            begun_ms: unix_millis(flip.begun),
            since_ms: unix_millis(flip.since),
            watch_seconds: flip.window.as_secs_f64(),
            before: flip.before.into(),
            after: flip.after.into(),
            verdict: flip.verdict,
            change_seconds: flip.took.map(|took| took.as_secs_f64()),
        }
    }
}

impl SetsStatus {
    /// Of the upstream `name`, or why there is none.
    fn of(snapshot: &Snapshot, name: &str) -> Result<Self, ApiError> {
        let upstreams = &snapshot.upstreams;
        let Some(upstream) = upstreams.iter().find(|other| *other.name == *name) else {
            let hint = hint(name, upstreams.iter().map(|other| &*other.name));
            let detail = format!("no upstream is named {name:?}{hint}");
            return Err(ApiError::new(StatusCode::NOT_FOUND, detail));
        };
        let names = upstream.set_names();
        let sets = names.iter().map(|set| SetStatus {
            name: set.to_string(),
            percent: upstream.percent_of(set),
            endpoints: upstream.members(set).count(),
            well: upstream
                .members(set)
                .filter(|it| it.tier() == Tier::Eligible && !it.is_kept())
                .count(),
        });
        Ok(Self {
            upstream: upstream.name.to_string(),
            active_set: upstream.active_set().map(|set| set.to_string()),
            file_set: upstream.file_set().map(|set| set.to_string()),
            sets: sets.collect(),
            flip: last(upstream),
        })
    }
}

/// The last flip of `upstream`.
pub(super) fn last(upstream: &Upstream) -> Option<FlipStatus> {
    upstream.last_flip().map(FlipStatus::from)
}

type Answer = Result<Json<SetsStatus>, ApiError>;

/// `GET /api/v1/upstreams/{upstream}/flip`
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Names(upstream): Names<String>,
) -> Answer {
    SetsStatus::of(&admin.publisher.current(), &upstream).map(Json)
}

/// `POST /api/v1/upstreams/{upstream}/flip`
pub(super) async fn begin(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    Names(upstream): Names<String>,
    body: Body,
) -> Answer {
    let wanted = read::<Asked>(body).await?.wanted()?;
    let name = upstream.clone();
    let command = |reply| Command::Flip {
        upstream,
        wanted: Box::new(wanted),
        reply,
    };
    admin.ask(by, command).await?;
    SetsStatus::of(&admin.publisher.current(), &name).map(Json)
}

/// `POST /api/v1/upstreams/{upstream}/flip/abort`
pub(super) async fn abort(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(by): ConnectInfo<Operator>,
    Names(upstream): Names<String>,
    body: Body,
) -> Answer {
    let Nothing {} = read(body).await?;
    let name = upstream.clone();
    let command = |reply| Command::AbortFlip(upstream, reply);
    admin.ask(by, command).await?;
    SetsStatus::of(&admin.publisher.current(), &name).map(Json)
}

impl Asked {
    fn wanted(self) -> Result<Wanted, ApiError> {
        let wrong = |what: &str| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, what));
        if self.to.is_empty() {
            return wrong("`to` is missing: the set that is to serve");
        }
        let watch = self.watch_seconds.unwrap_or(DEFAULT_WATCH.as_secs_f64());
        let Ok(watch) = Duration::try_from_secs_f64(watch) else {
            return wrong("`watch_seconds` is no time");
        };
        if watch > LONGEST_WATCH {
            return wrong("`watch_seconds` is more than a day");
        }
        let tolerance = self.tolerance.unwrap_or(DEFAULT_TOLERANCE);
        if !(0.0..1.0).contains(&tolerance) {
            return wrong("`tolerance` is no share from 0 to below 1");
        }
        let percent = match &*self.percent {
            [] => vec![100],
            steps => steps.to_vec(),
        };
        if !is_rising(&percent) {
            return wrong(
                "`percent` are no numbers from 1 to 100, each above the one before, the last 100",
            );
        }
        Ok(Wanted {
            to: self.to,
            force: self.force,
            watch,
            percent,
            min_requests: self.min_requests.unwrap_or(DEFAULT_MIN_REQUESTS),
            tolerance,
            heeds_latency: !self.ignore_latency,
            expect_version: self.expect_version,
        })
    }
}

/// Whether these are shares that can be given one after the other.
pub fn is_rising(percent: &[u8]) -> bool {
    let is_rising = percent.windows(2).all(|pair| pair[0] < pair[1]);
    is_rising && percent.first().is_some_and(|it| *it > 0) && percent.last() == Some(&100)
}

/// How long a set is watched at each share, unless something else is said.
pub const DEFAULT_WATCH: Duration = Duration::from_secs(60);
/// How many requests are needed of either set.
pub const DEFAULT_MIN_REQUESTS: u32 = 100;
/// By how much the share of failures may rise: half a point.
pub const DEFAULT_TOLERANCE: f64 = 0.005;
/// A set that is watched for longer can be flipped back by hand.
pub const LONGEST_WATCH: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rise_to_all() {
        for right in [&[100][..], &[1, 2, 100]] {
            assert!(is_rising(right), "{right:?}");
        }
        for wrong in [
            &[][..],
            &[50],
            &[0, 100],
            &[50, 10, 100],
            &[100, 100],
            &[101],
        ] {
            assert!(!is_rising(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_default_and_what_is_wrong_is_refused() {
        let read = |text: &str| {
            let body: Asked = serde_json::from_str(text).unwrap();
            body.wanted()
        };
        let wanted = read(r#"{"to": "green"}"#).unwrap();
        assert_eq!(
            wanted,
            Wanted {
                to: "green".to_owned(),
                force: false,
                watch: DEFAULT_WATCH,
                percent: vec![100],
                min_requests: 100,
                tolerance: 0.005,
                heeds_latency: true,
                expect_version: None,
            }
        );
        for wrong in [
            "{}",
            r#"{"to": "a", "watch_seconds": -1}"#,
            r#"{"to": "a", "watch_seconds": 1e9}"#,
            r#"{"to": "a", "tolerance": 1}"#,
            r#"{"to": "a", "percent": [100, 10]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
