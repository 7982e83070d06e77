//! What a rolling restart says: a line per step for people, an object per line for scripts.

use serde_json::{Value, json};

use super::super::status::now;
use super::super::table::{complain, say};

/// How it is told.
#[derive(Debug)]
pub(super) struct Teller {
    upstream: String,
    json: bool,
}

/// What has happened; the word is that of the JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Begin,
    Forced,
    LeftOut,
    Planned,
    Draining,
    Empty,
    Hook,
    HookStopped,
    HookDone,
    AsBefore,
    Resumed,
    OtherVersion,
    Well,
    Done,
    Stopped,
    Left,
    Finished,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Forced => "forced",
            Self::LeftOut => "left-out",
            Self::Planned => "planned",
            Self::Draining => "draining",
            Self::Empty => "empty",
            Self::Hook => "hook",
            Self::HookStopped => "hook-stopped",
            Self::HookDone => "hook-done",
            Self::AsBefore => "as-before",
            Self::Resumed => "resumed",
            Self::OtherVersion => "other-version",
            Self::Well => "well",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Left => "left",
            Self::Finished => "finished",
        }
    }

    /// Whether it is no good news.
    fn is_trouble(self) -> bool {
        match self {
            Self::Forced | Self::HookStopped | Self::OtherVersion | Self::Stopped | Self::Left => {
                true
            }
            Self::Begin
            | Self::LeftOut
            | Self::Planned
            | Self::Draining
            | Self::Empty
            | Self::Hook
            | Self::HookDone
            | Self::AsBefore
            | Self::Resumed
            | Self::Well
            | Self::Done
            | Self::Finished => false,
        }
    }
}

impl Teller {
    pub(super) fn new(upstream: &str, json: bool) -> Self {
        Self {
            upstream: upstream.to_owned(),
            json,
        }
    }

    /// Whether standard output is for objects only.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Of the whole upstream.
    pub(super) fn of_all(&self, step: Step, text: &str) {
        self.tell(step, None, text);
    }

    /// Of one endpoint.
    pub(super) fn of(&self, endpoint: &str, step: Step, text: &str) {
        self.tell(step, Some(endpoint), text);
    }

    fn tell(&self, step: Step, endpoint: Option<&str>, text: &str) {
        if self.json {
            say(&format!("{}\n", self.object(step, endpoint, text)));
        } else if step.is_trouble() {
            complain(&self.line(endpoint, text));
        } else {
            say(&format!("{}\n", self.line(endpoint, text)));
        }
    }

    fn object(&self, step: Step, endpoint: Option<&str>, text: &str) -> Value {
        json!({
            "time": now(),
            "upstream": self.upstream,
            "endpoint": endpoint,
            "step": step.as_str(),
            "text": text,
        })
    }

    fn line(&self, endpoint: Option<&str>, text: &str) -> String {
        match endpoint {
            Some(endpoint) => format!("{}/{endpoint}: {text}", self.upstream),
            None => format!("roll {}: {text}", self.upstream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_a_line_and_scripts_an_object() {
        let teller = Teller::new("app", true);
        assert_eq!(teller.line(Some("a"), "empty"), "app/a: empty");
        assert_eq!(teller.line(None, "done"), "roll app: done");
        let mut object = teller.object(Step::HookDone, Some("a"), "it said \"ok\"");
        object["time"] = 7.into();
        assert_eq!(
            object.to_string(),
            r#"{"endpoint":"a","step":"hook-done","text":"it said \"ok\"","time":7,"upstream":"app"}"#
        );
    }
}
