//! `balancer roll`: restarts an upstream's endpoints one after the other, each out of use meanwhile. Everything is asked of the
//! running balancer step by step: whoever ends this command at any moment leaves nothing but endpoints that are out, which
//! `status` shows and `resume` ends.

mod again;
mod alone;
mod decide;
mod hook;
mod steps;
mod stop;
mod tell;
mod turn;
mod wanted;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use self::alone::{Alone, Taken};
pub(super) use self::decide::objection;
use self::decide::{Group, MaxUnavailable, Member, batches, chosen, refusal};
use self::stop::Stop;
use self::tell::{Step, Teller};
use self::turn::{Turn, names, turns};
use super::running::{AskError, At, Running, Target, finished};
use super::status::ago;
use crate::config::{self, duration, hint};

/// Restart endpoints one after the other, each out of use meanwhile.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Whose endpoints.
    #[arg(value_name = "UPSTREAM")]
    upstream: String,
    /// What restarts an endpoint, in a shell, with BALANCER_UPSTREAM, BALANCER_ENDPOINT and BALANCER_ADDRESS set. Without it
    /// each is only drained and resumed.
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,
    /// How long the hook may take; then it is ended, and has failed. Without it as long as it likes.
    #[arg(long, value_name = "DURATION", requires = "hook", value_parser = duration)]
    hook_timeout: Option<Duration>,
    /// How many may be out at once: a number, or a share of all such as 25%.
    #[arg(long, value_name = "N|P%", default_value = "1")]
    max_unavailable: MaxUnavailable,
    /// Go on though others are not well, or could not carry the load.
    #[arg(long)]
    force: bool,
    /// How long to wait between endpoints, such as 30s.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pause: Duration,
    /// How long an endpoint may take to have nothing in flight, and to be well again; then exit with 4.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    timeout: Duration,
    /// The version that an endpoint must run after the hook; until then it is waited for as for one that is not well.
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<String>,
    /// Go on where a roll before this one has stopped: leave out those that are well and run the expected version.
    #[arg(long = "continue", requires = "expect_version")]
    goes_on: bool,
    /// Tell what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// This endpoint only. May be given more than once.
    #[arg(long, value_name = "ENDPOINT")]
    only: Vec<String>,
    /// As JSON, an object per line, for scripts.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// Rolls through an upstream of the balancer that runs with the file at `config`.
pub fn run(args: &Args, config: &Path) -> ExitCode {
    let running = match Running::with(config, &args.at) {
        Ok(running) => running,
        Err(error) => return finished(Err(error)),
    };
    let roll = Roll {
        args,
        config,
        teller: Teller::new(&args.upstream, args.json),
        running,
        stop: Stop::on_signals(),
    };
    match roll.all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Unasked(error)) => finished(Err(error)),
        Err(Ended::Stopped {
            code,
            why,
            batch,
            rest,
            ..
        }) => {
            roll.tell_end(&why, &batch);
            roll.tell_rest(&rest);
            code
        }
    }
}

struct Roll<'a> {
    args: &'a Args,
    config: &'a Path,
    teller: Teller,
    running: Running,
    stop: Stop,
}

/// Why it did not come to its end.
enum Ended {
    /// The balancer gave no answer that helps, and nothing was changed.
    Unasked(AskError),
    /// Something went wrong while `batch` was at work.
    Stopped {
        code: ExitCode,
        why: String,
        batch: Vec<String>,
        /// Whether something may have been done to `batch`; else its turn comes again.
        is_begun: bool,
        /// Those whose turn is still to come.
        rest: Vec<String>,
    },
}

impl Ended {
    /// It was the turn of the first of `batches`.
    fn at(self, batches: &[Vec<String>]) -> Self {
        match self {
            Self::Unasked(error) => Self::Unasked(error),
            Self::Stopped {
                code,
                why,
                batch,
                is_begun,
                ..
            } => Self::Stopped {
                code,
                why,
                batch,
                is_begun,
                rest: batches[usize::from(is_begun)..].concat(),
            },
        }
    }

    /// Nothing was done to its batch but to take it out.
    fn unbegun(mut self) -> Self {
        if let Self::Stopped { is_begun, .. } = &mut self {
            *is_begun = false;
        }
        self
    }
}

impl From<AskError> for Ended {
    fn from(error: AskError) -> Self {
        Self::Unasked(error)
    }
}

fn stopped(code: impl Into<ExitCode>, batch: &[String], why: String) -> Ended {
    Ended::Stopped {
        code: code.into(),
        why,
        batch: batch.to_vec(),
        is_begun: !batch.is_empty(),
        rest: Vec::new(),
    }
}

impl Roll<'_> {
    fn all(&self) -> Result<(), Ended> {
        let begun = Instant::now();
        let group = self.group()?;
        let nobody = |why| stopped(1, &[], why);
        self.may_expect(&group)?;
        let chosen = chosen(&group, &self.args.only).map_err(nobody)?;
        if let (Some(wanted), None) = (&self.args.expect_version, &self.args.hook)
            && let Some(why) = wanted::nothing_restarts(&group, &chosen, wanted)
        {
            return Err(nobody(why));
        }
        let batches = batches(&group, &chosen, self.args.max_unavailable);
        let together = batches.first().map_or(0, Vec::len);
        let all = format!("{}, {together} at a time", endpoints(chosen.len()));
        if self.args.dry_run {
            self.teller
                .of_all(Step::Begin, &format!("{all}; nothing is changed"));
            return self.dry(&group, &batches);
        }
        let _alone = self.alone()?;
        self.teller.of_all(Step::Begin, &all);
        let mut done = 0;
        for (index, batch) in batches.iter().enumerate() {
            if done > 0 {
                self.stop.sleep(self.args.pause);
            }
            if self.stop.is_wanted() {
                let why = "stopped by a signal, between endpoints".to_owned();
                return Err(stopped(1, &[], why).at(&batches[index..]));
            }
            let turns = self.batch(batch);
            let turns = turns.map_err(|ended| ended.at(&batches[index..]))?;
            done += turns.len();
            for turn in &turns {
                let text = format!("done, {done} of {}", chosen.len());
                self.teller.of(&turn.name, Step::Done, &text);
            }
        }
        let long = ago(begun.elapsed().as_secs());
        let text = format!("{} done after {long}", endpoints(done));
        self.teller.of_all(Step::Finished, &text);
        Ok(())
    }

    /// Takes those of `batch` that have their turn through it.
    fn batch(&self, batch: &[String]) -> Result<Vec<Turn>, Ended> {
        let group = self.group().map_err(|error| of(&error, &[]))?;
        let (turns, left_out) = self.turns(&group, batch);
        for (name, why) in left_out {
            self.teller.of(&name, Step::LeftOut, &why);
        }
        if !turns.is_empty() {
            self.may_expect(&group)?;
            self.may_go(&group, &names(&turns))?;
            self.one(&group, &turns)?;
        }
        Ok(turns)
    }

    /// Tells what would be done as things are.
    fn dry(&self, group: &Group, batches: &[Vec<String>]) -> Result<(), Ended> {
        let mut is_refused = false;
        for batch in batches {
            let (turns, left_out) = self.turns(group, batch);
            for (name, why) in left_out {
                self.teller.of(&name, Step::LeftOut, &why);
            }
            if turns.is_empty() {
                continue;
            }
            let batch = names(&turns);
            let why = refusal(group, &batch);
            let text = match &why {
                None => "would be drained, restarted and resumed".to_owned(),
                Some(why) if self.args.force => format!("would be taken out although {why}"),
                Some(why) => format!("would be refused: {why}"),
            };
            for turn in &turns {
                let text = match &why {
                    None if !turn.was_active() => {
                        format!("would be restarted, and stay {}", turn.before)
                    }
                    _ => text.clone(),
                };
                self.teller.of(&turn.name, Step::Planned, &text);
            }
            is_refused |= why.is_some() && !self.args.force;
        }
        if is_refused {
            return Err(stopped(1, &[], "it would be refused".to_owned()));
        }
        Ok(())
    }

    fn turns(&self, group: &Group, batch: &[String]) -> (Vec<Turn>, Vec<(String, String)>) {
        let expected = self.args.expect_version.as_deref();
        let done = expected.filter(|_| self.args.goes_on);
        turns(group, batch, !self.args.only.is_empty(), done)
    }

    /// Nobody else may roll through the same endpoints meanwhile.
    fn alone(&self) -> Result<Option<Alone>, Ended> {
        match Alone::with(self.running.socket(), &self.args.upstream) {
            Ok(alone) => Ok(Some(alone)),
            Err(Taken::Held) => {
                let why = "another roll goes through this upstream; wait for its end";
                Err(stopped(1, &[], why.to_owned()))
            }
            Err(Taken::Io(path, error)) => {
                let path = path.display();
                let text = format!("nothing keeps a second roll away: {path}: {error}");
                self.teller.of_all(Step::Forced, &text);
                Ok(None)
            }
        }
    }

    /// Whether the version that is waited for can be reached, and the configuration lets it serve.
    fn may_expect(&self, group: &Group) -> Result<(), Ended> {
        let Some(wanted) = &self.args.expect_version else {
            return Ok(());
        };
        let place = |expected: &str| {
            if self.args.at.is_by_socket() {
                return None;
            }
            let config = config::load(self.config).ok()?;
            let mut upstreams = config.upstreams.iter();
            let upstream = upstreams.find(|upstream| *upstream.name == *group.name)?;
            let (version, place) = upstream.expected_version()?;
            // Another one than the file of what runs, where it says something else.
            (version.as_str() == expected).then(|| place.clone())
        };
        match wanted::contradiction(group, wanted, place) {
            Some(why) => Err(stopped(1, &[], why)),
            None => Ok(()),
        }
    }

    fn may_go(&self, group: &Group, batch: &[String]) -> Result<(), Ended> {
        let Some(why) = refusal(group, batch) else {
            return Ok(());
        };
        let names = batch.join(", ");
        if self.args.force {
            let text = format!("{names} taken out although {why}");
            self.teller.of_all(Step::Forced, &text);
            return Ok(());
        }
        let why = format!("{names} not taken out: {why} (--force goes on all the same)");
        Err(stopped(1, &[], why))
    }

    /// Says why it has ended, what is left of it, and what to do about that.
    fn tell_end(&self, why: &str, batch: &[String]) {
        self.teller.of_all(Step::Stopped, why);
        for name in batch {
            let target = self.target(name);
            let text = match self.get(name, None) {
                Ok(member) if member.mode == "active" => {
                    format!("left in use, {}", member.state)
                }
                Ok(member) => {
                    let words = [
                        "balancer".to_owned(),
                        "resume".to_owned(),
                        target.to_string(),
                    ];
                    let at = self.args.at.as_options(self.config);
                    let resume = again::typed(words.into_iter().chain(at));
                    format!(
                        "left {}; when it is well, `{resume}` gives it requests again",
                        member.mode
                    )
                }
                Err(error) => format!("nobody knows how it is: {error}"),
            };
            self.teller.of(name, Step::Left, &text);
        }
    }

    /// Says who was not reached, and how to go on with them.
    fn tell_rest(&self, rest: &[String]) {
        if rest.is_empty() {
            return;
        }
        let how = again::command(self.args, rest, self.config);
        let text = format!("not reached: {}; to go on: {how}", rest.join(", "));
        self.teller.of_all(Step::Left, &text);
    }

    fn target(&self, endpoint: &str) -> Target {
        Target {
            upstream: self.args.upstream.clone(),
            endpoint: endpoint.to_owned(),
        }
    }

    fn group(&self) -> Result<Group, AskError> {
        group(&self.running, &self.args.upstream)
    }

    /// The one of this name, or of this name and `id`.
    fn get(&self, endpoint: &str, id: Option<u64>) -> Result<Member, AskError> {
        let id = id.map_or_else(String::new, |id| format!("?id={id}"));
        let path = format!("{}{id}", self.target(endpoint).path());
        self.running.get(&path)
    }

    /// The mode before, and how it is now. Asked again and again while an upgrade is under way.
    fn post(&self, endpoint: &str, action: &str) -> Result<(String, Member), AskError> {
        #[derive(Deserialize)]
        struct Changed {
            before: String,
            endpoint: Member,
        }
        let path = format!("{}/{action}", self.target(endpoint).path());
        let begun = Instant::now();
        loop {
            match self.running.post(&path, Bytes::new()) {
                Ok(Changed { before, endpoint }) => return Ok((before, endpoint)),
                // Also where a signal has asked for the end: an endpoint that is well shall not be left out.
                Err(AskError::Later(_)) if begun.elapsed() < self.args.timeout => {
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What `--timeout` is where it is not given.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Between two tries of what is put off.
const AGAIN: Duration = Duration::from_millis(200);

fn of(error: &AskError, batch: &[String]) -> Ended {
    stopped(1, batch, error.to_string())
}

fn endpoints(number: usize) -> String {
    format!("{number} endpoint{}", if number == 1 { "" } else { "s" })
}

/// The upstream of this name as it is now.
pub(super) fn group(running: &Running, wanted: &str) -> Result<Group, AskError> {
    #[derive(Deserialize)]
    struct Status {
        version: String,
        upstreams: Vec<Value>,
    }
    let Status { version, upstreams } = running.get("/api/v1/status")?;
    let name = |upstream: &Value| upstream["name"].as_str().unwrap_or_default().to_owned();
    let Some(found) = upstreams.iter().find(|it| name(it) == *wanted) else {
        let names: Vec<_> = upstreams.iter().map(name).collect();
        let hint = hint(wanted, names.iter().map(|name| &**name));
        return Err(AskError::Unknown(format!(
            "no upstream is named {wanted:?}{hint}"
        )));
    };
    Group::deserialize(found).map_err(|_| AskError::Version(format!("balancer/{version}")))
}
