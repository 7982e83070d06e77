//! `balancer flip`: lets another set of an upstream's endpoints serve. The running balancer does all of it and sees to the end;
//! this only asks, and shows how far it is: whoever ends this command at any moment ends nothing else.

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::EXIT_TIMEOUT;
use super::file_set::what_comes_of_it;
use super::running::{AskError, At, Running, encoded, finished};
use super::table::{complain, say};
use crate::admin::flip::{DEFAULT_MIN_REQUESTS, LONGEST_WATCH, is_rising};
use crate::config::duration;
use crate::snapshot::plan::Plan;

/// The new set was worse, and the old one serves again.
pub const EXIT_FLIPPED_BACK: u8 = 3;

/// Let another set of endpoints serve, and go back where that is worse.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["to", "abort", "status"]))]
pub struct Args {
    /// Whose endpoints.
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
    /// The set that is to serve.
    #[arg(long, value_name = "SET", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    to: Option<String>,
    /// End a flip that is under way: the old set serves again.
    #[arg(long)]
    abort: bool,
    /// Show which set serves, and how far a flip is.
    #[arg(long)]
    status: bool,
    /// How long the new set is watched, at each share; 0s: not at all.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = watch, requires = "to")]
    watch: Duration,
    /// Shares of a hundred requests that the new set gets one after the other, the last 100.
    #[arg(long, value_name = "P,P,100", default_value = "100", value_parser = shares, requires = "to")]
    percent: Shares,
    /// So many requests are needed of either set to compare them; 0: they are not compared.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MIN_REQUESTS, requires = "to")]
    min_requests: u32,
    /// By how much the share of failures may rise, in points of a hundred.
    #[arg(long, value_name = "P%", default_value = "0.5%", value_parser = points, requires = "to")]
    tolerance: Points,
    /// Do not go back because answers are slower.
    #[arg(long, requires = "to")]
    ignore_latency: bool,
    /// The version that every endpoint of the new set must run.
    #[arg(long, value_name = "VERSION", requires = "to")]
    expect_version: Option<String>,
    /// Also where the new set is not fit to take over.
    #[arg(long, requires = "to")]
    force: bool,
    /// Do not wait for the end.
    #[arg(long, requires = "to")]
    no_wait: bool,
    /// As JSON, an object per line, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

fn watch(text: &str) -> Result<Duration, &'static str> {
    let watch = duration(text).ok().filter(|it| *it <= LONGEST_WATCH);
    watch.ok_or("expected a day at most, such as 90s (units: ms, s, m, h)")
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Shares(Vec<u8>);

fn shares(text: &str) -> Result<Shares, &'static str> {
    let numbers = text.split(',').map(|part| part.trim().parse().ok());
    let numbers: Option<Vec<u8>> = numbers.collect();
    let rising = numbers.filter(|numbers| is_rising(numbers));
    rising
        .map(Shares)
        .ok_or("expected rising numbers from 1, the last 100, such as 10,50,100")
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Points(f64);

fn points(text: &str) -> Result<Points, &'static str> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let number = number.filter(|number| (0.0..100.0).contains(number));
    number
        .map(|number| Points(number / 100.0))
        .ok_or("expected points of a hundred, such as 0.5%")
}

/// What is read of the answer; there may be more.
#[derive(Debug, Deserialize)]
struct Sets {
    active_set: Option<String>,
    sets: Vec<Set>,
    flip: Option<Flip>,
}

#[derive(Debug, Deserialize)]
struct Set {
    name: String,
    percent: u8,
    endpoints: usize,
    well: usize,
}

/// How far a flip is.
#[derive(Debug, Deserialize)]
pub(super) struct Flip {
    number: u64,
    from: String,
    to: String,
    phase: String,
    over: bool,
    percent: u8,
    watch_seconds: f64,
    before: Figures,
    after: Figures,
    verdict: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Figures {
    requests: u64,
    errors: u64,
    p99_seconds: Option<f64>,
}

impl Figures {
    /// `1 of 200 failed, 99 of 100 within 10 ms`
    fn text(&self) -> String {
        let failed = format!("{} of {} failed", self.errors, self.requests);
        match self.p99_seconds {
            Some(seconds) => format!(
                "{failed}, 99 of 100 within {:?}",
                Duration::from_secs_f64(seconds)
            ),
            None => failed,
        }
    }
}

/// Flips an upstream of the balancer that runs with the file at `config`.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    finished(Running::with(config, &args.at).and_then(|running| flip(args, &running)))
}

fn flip(args: &Args, running: &Running) -> Result<ExitCode, AskError> {
    let path = format!("/api/v1/upstreams/{}/flip", encoded(&args.upstream));
    let teller = Teller { args };
    let code = act(&teller, (running, &path))?;
    if !args.no_wait && !args.json {
        teller.tell_file((running, &path));
    }
    Ok(code)
}

fn act(teller: &Teller<'_>, (running, path): (&Running, &str)) -> Result<ExitCode, AskError> {
    let args = teller.args;
    if args.status {
        teller.show(&running.get(path)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.abort {
        let told = running.post(&format!("{path}/abort"), "{}".into())?;
        let sets = teller.tell(&told)?;
        let is_back = sets.flip.is_some_and(|it| it.phase == "aborted");
        return Ok(ExitCode::from(u8::from(!is_back)));
    }
    let body = json!({
        "to": args.to,
        "force": args.force,
        "watch_seconds": args.watch.as_secs_f64(),
        "percent": args.percent.0,
        "min_requests": args.min_requests,
        "tolerance": args.tolerance.0,
        "ignore_latency": args.ignore_latency,
        "expect_version": args.expect_version,
    });
    let told = running.post(path, body.to_string().into())?;
    let sets = Sets::deserialize(&told).map_err(|_| teller.unlike())?;
    if sets.active_set == args.to {
        // No flip was begun: it would be warming.
        teller.tell_nothing(&told, &sets);
        return Ok(ExitCode::SUCCESS);
    }
    teller.tell(&told)?;
    match sets.flip {
        Some(flip) if !args.no_wait => follow(teller, (running, path), flip),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Says what happens until the flip is over.
fn follow(
    teller: &Teller<'_>,
    (running, path): (&Running, &str),
    begun: Flip,
) -> Result<ExitCode, AskError> {
    let mut last = (begun.phase, begun.percent);
    let mut lost: Option<Instant> = None;
    loop {
        sleep(LOOK);
        let told: Value = match running.get(path) {
            Ok(told) => told,
            // Between two processes, where one takes the place of the other, nobody answers for a moment.
            Err(error) => match *lost.get_or_insert_with(Instant::now) {
                since if since.elapsed() < LOST => continue,
                _ => return Err(error),
            },
        };
        lost = None;
        let sets = Sets::deserialize(&told).map_err(|_| teller.unlike())?;
        let Some(flip) = sets.flip.filter(|it| it.number == begun.number) else {
            let active = sets.active_set.unwrap_or_default();
            complain(&format!(
                "the balancer was started anew, and knows nothing of this flip: set {active} serves"
            ));
            return Ok(ExitCode::FAILURE);
        };
        let now = (flip.phase.clone(), flip.percent);
        if now != last {
            teller.tell(&told)?;
            last = now;
        }
        if flip.over {
            return Ok(code(&flip.phase));
        }
    }
}

fn code(phase: &str) -> ExitCode {
    match phase {
        "kept" => ExitCode::SUCCESS,
        "flipped-back" => EXIT_FLIPPED_BACK.into(),
        "unclear" => EXIT_TIMEOUT.into(),
        _ => ExitCode::FAILURE,
    }
}

struct Teller<'a> {
    args: &'a Args,
}

impl Teller<'_> {
    /// Says how far it is now.
    fn tell(&self, told: &Value) -> Result<Sets, AskError> {
        let sets = Sets::deserialize(told).map_err(|_| self.unlike())?;
        if self.args.json {
            say(&format!("{told}\n"));
            return Ok(sets);
        }
        let active = sets.active_set.as_deref().unwrap_or_default();
        let text = match &sets.flip {
            Some(flip) => format!("flip {}: {}", self.args.upstream, flip.text(active)),
            None => format!("flip {}: set {active} serves", self.args.upstream),
        };
        let is_trouble = sets.flip.as_ref().is_some_and(Flip::is_trouble);
        if is_trouble {
            complain(&text);
        } else {
            say(&format!("{text}\n"));
        }
        Ok(sets)
    }

    /// Says that there was nothing to do.
    fn tell_nothing(&self, told: &Value, sets: &Sets) {
        let (upstream, set) = (&self.args.upstream, sets.active_set.as_deref());
        say(&match self.args.json {
            true => format!("{told}\n"),
            false => format!(
                "flip {upstream}: set {} serves already; nothing was done\n",
                set.unwrap_or_default()
            ),
        });
    }

    /// Says which set serves.
    fn show(&self, told: &Value) -> Result<(), AskError> {
        let sets = Sets::deserialize(told).map_err(|_| self.unlike())?;
        if self.args.json {
            say(&format!("{told}\n"));
            return Ok(());
        }
        let upstream = &self.args.upstream;
        if sets.sets.is_empty() {
            say(&format!("{upstream}: endpoints are in no sets\n"));
        }
        for set in &sets.sets {
            let Set {
                name,
                percent,
                endpoints,
                well,
            } = set;
            say(&format!(
                "{upstream}: set {name} gets {percent} % of requests; {well} of {endpoints} endpoints are well\n"
            ));
        }
        if let Some(flip) = &sets.flip {
            let text = flip.text(sets.active_set.as_deref().unwrap_or_default());
            say(&format!("flip {upstream}: {text}\n"));
        }
        Ok(())
    }

    /// Says what comes of the file, where that names another set than the one that serves.
    fn tell_file(&self, (running, path): (&Running, &str)) {
        let Ok(sets) = running.get::<Sets>(path) else {
            return;
        };
        // Who watches has better things to do than to plan, and it is not said yet which set is to stay.
        if sets.flip.is_some_and(|flip| !flip.over) {
            return;
        }
        // Of a file that cannot be read, nothing comes.
        let Ok(plan) = running.get::<Plan>("/api/v1/plan") else {
            return;
        };
        let (upstream, active) = (&self.args.upstream, sets.active_set.unwrap_or_default());
        if let Some(text) = what_comes_of_it(&plan, upstream, &active) {
            say(&format!("flip {upstream}: {text}\n"));
        }
    }

    fn unlike(&self) -> AskError {
        AskError::Version("of another version".to_owned())
    }
}

impl Flip {
    /// Whether it is no good news.
    fn is_trouble(&self) -> bool {
        self.over && self.phase != "kept"
    }

    /// In words, where the set `active` serves.
    pub(super) fn text(&self, active: &str) -> String {
        let Self {
            from, to, percent, ..
        } = self;
        let verdict = self.verdict.as_deref();
        let because = verdict.map_or_else(String::new, |verdict| format!(": {verdict}"));
        let watched = Duration::from_secs_f64(self.watch_seconds);
        let (watched, came_to) = match watched.is_zero() {
            true => (
                "and nothing is watched".to_owned(),
                "nothing was watched".to_owned(),
            ),
            false => {
                let (before, after) = (self.before.text(), self.after.text());
                (
                    format!("watched for {watched:?}"),
                    format!("{after} (before: {before})"),
                )
            }
        };
        match &*self.phase {
            "warming" => format!(
                "every endpoint of set {to} is probed once more{because}; ending this command does not end the flip, `--abort` does"
            ),
            "watching" => format!("{percent} % of requests go to set {to} now, {watched}{because}"),
            "kept" => format!("done, set {to} serves: {came_to}"),
            "flipped-back" => format!("flipped back, set {from} serves{because}"),
            "unclear" => format!("too little to tell, set {active} serves{because}"),
            "refused" => format!("not done, set {active} serves{because}"),
            phase => format!("{phase}, set {active} serves{because}"),
        }
    }
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// So long nobody need answer.
const LOST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_points_are_read() {
        assert_eq!(shares("10, 50,100"), Ok(Shares(vec![10, 50, 100])));
        for wrong in ["", "10", "50,10,100", "0,100", "10,1000", "a,100"] {
            assert!(shares(wrong).is_err(), "{wrong}");
        }
        assert_eq!(points("0.5%"), Ok(Points(0.005)));
        assert_eq!(points("2"), Ok(Points(0.02)));
        for wrong in ["", "%", "-1%", "100%", "nan"] {
            assert!(points(wrong).is_err(), "{wrong}");
        }
        assert_eq!(watch("24h"), Ok(LONGEST_WATCH));
        assert_eq!(watch("0s"), Ok(Duration::ZERO));
        for wrong in ["25h", "99999h", "60", ""] {
            assert!(watch(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn set_that_is_not_watched_is_not_said_to_be() {
        let figures = json!({ "requests": 0, "errors": 0 });
        let text = |phase, watch| {
            let flip = json!({ "number": 1, "from": "blue", "to": "green", "phase": phase, "over": false, "percent": 100, "watch_seconds": watch, "before": figures, "after": figures });
            serde_json::from_value::<Flip>(flip).unwrap().text("green")
        };
        assert_eq!(
            text("watching", 0.0),
            "100 % of requests go to set green now, and nothing is watched"
        );
        let kept = text("kept", 0.0);
        assert!(
            kept.starts_with("done, set green serves: nothing was watched"),
            "{kept}"
        );
        assert!(text("watching", 60.0).ends_with("now, watched for 60s"));
    }

    #[test]
    fn every_end_has_its_code() {
        let codes = crate::upstream::flip::Phase::ENDS.map(|phase| code(phase.as_str()));
        let expected = [0, 4, 3, 1, 1, 1, 1].map(ExitCode::from);
        assert_eq!(format!("{codes:?}"), format!("{expected:?}"));
    }
}
