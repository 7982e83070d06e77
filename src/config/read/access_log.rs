//! Reads `[access_log]`.

use std::path::PathBuf;

use http::HeaderName;

use crate::config::file::Table;
use crate::config::suggest::hint;
use crate::config::value::Value;
use crate::config::{
    AccessLog, AccessLogFormat, AccessLogOnly, AccessLogTarget, Field, Fields, Place, Redact,
};
use crate::message::redact::Secrets;

pub(super) fn access_log(root: &mut Table<'_>) -> AccessLog {
    let file_place = root.place();
    let Some(value) = root.get("access_log") else {
        return default(file_place);
    };
    value.table(table).unwrap_or_else(|| default(root.place()))
}

fn default(place: Place) -> AccessLog {
    AccessLog {
        target: AccessLogTarget::Off,
        format: AccessLogFormat::Json,
        fields: Fields::ALL,
        headers: Vec::new(),
        redact: Redact::default(),
        sample: 1.0,
        only: AccessLogOnly::All,
        slow: None,
        place,
    }
}

fn table(table: &mut Table<'_>) -> AccessLog {
    let target = table.get("target");
    let place = target.as_ref().map_or_else(|| table.place(), Value::place);
    let formats = [
        ("json", AccessLogFormat::Json),
        ("combined", AccessLogFormat::Combined),
    ];
    let format = table
        .get("format")
        .and_then(|value| value.one_of(&formats, &[]))
        .unwrap_or(AccessLogFormat::Json);
    let chosen = table.get("fields");
    let fields = chosen.as_ref().and_then(fields).unwrap_or(Fields::ALL);
    let with = table.get("headers");
    let headers = with.as_ref().map(headers).unwrap_or_default();
    if format == AccessLogFormat::Combined {
        for (value, what) in [(&chosen, "fields"), (&with, "headers")] {
            if let Some(value) = value {
                value.report(format!(
                    "format = \"combined\" has its own: leave `{what}` out, or say format = \"json\""
                ));
            }
        }
    }
    if let Some(with) = &with
        && !fields.has(Field::Headers)
    {
        with.report("`fields` leaves them out: add \"headers\" there");
    }
    let outcomes = [
        ("all", AccessLogOnly::All),
        ("errors", AccessLogOnly::Errors),
    ];
    let only = table
        .get("only")
        .and_then(|value| value.one_of(&outcomes, &[]))
        .unwrap_or(AccessLogOnly::All);
    let share = table.get("sample");
    if let Some(share) = &share
        && only == AccessLogOnly::Errors
    {
        share.warn("changes nothing: only = \"errors\" logs nothing but errors, and all of them");
    }
    AccessLog {
        target: target
            .as_ref()
            .and_then(access_log_target)
            .unwrap_or(AccessLogTarget::Off),
        format,
        fields,
        redact: table
            .get("redact")
            .and_then(|value| value.table(|table| redact(table, &headers)))
            .unwrap_or_default(),
        headers,
        sample: share.as_ref().and_then(sample).unwrap_or(1.0),
        only,
        slow: table.get("slow").and_then(|value| value.duration()),
        place,
    }
}

fn access_log_target(value: &Value<'_>) -> Option<AccessLogTarget> {
    let text = value.string_such_as("\"off\", \"stdout\", \"syslog\", \"journald\" or a path")?;
    match text {
        "off" => return Some(AccessLogTarget::Off),
        "stdout" => return Some(AccessLogTarget::Stdout),
        "syslog" => return Some(AccessLogTarget::Syslog(SYSLOG.into())),
        "journald" => return Some(AccessLogTarget::Journald(JOURNALD.into())),
        _ => {}
    }
    if text.contains("://") {
        return value.expected(
            "a path, or \"syslog:\" and the path of a socket: what leaves this machine is for a log daemon on it",
        );
    }
    if let Some(path) = text.strip_prefix("syslog:") {
        return socket(value, path).map(AccessLogTarget::Syslog);
    }
    if let Some(path) = text.strip_prefix("journald:") {
        return socket(value, path).map(AccessLogTarget::Journald);
    }
    if text.bytes().all(|byte| byte.is_ascii_alphabetic()) && !text.is_empty() {
        let known = ["off", "stdout", "syslog", "journald"];
        value.warn(format!("a file named {text:?}; other than a path, only \"off\", \"stdout\", \"syslog\" and \"journald\" are known (\"./{text}\" for the file){}", hint(text, known)));
    }
    value.path().map(AccessLogTarget::File)
}

fn socket(value: &Value<'_>, path: &str) -> Option<PathBuf> {
    if path.is_empty() || path.contains('\0') {
        return value.expected("a path after the colon, such as \"syslog:/dev/log\"");
    }
    let path = value.source.resolve(path);
    if path.as_os_str().len() > LONGEST_SOCKET {
        return value.expected(format_args!(
            "a path of at most {LONGEST_SOCKET} bytes, as the system wants it of sockets"
        ));
    }
    Some(path)
}

fn fields(value: &Value<'_>) -> Option<Fields> {
    let elements = value.non_empty_array(
        "an array such as [\"time\", \"path\", \"status\"]",
        "; leave it out for all of them",
    )?;
    let mut chosen: Vec<Field> = Vec::new();
    for element in &elements {
        let Some(text) = element.string_such_as("the name of a field such as \"status\"") else {
            continue;
        };
        match Field::ALL.iter().find(|(name, _)| *name == text) {
            Some((_, field)) if chosen.contains(field) => {
                element.report(format!("{element} is listed twice"));
            }
            Some((_, field)) => chosen.push(*field),
            None => {
                let hint = hint(text, Field::NAMES);
                let all = if hint.is_empty() {
                    format!("; there are {}", Field::NAMES.join(", "))
                } else {
                    hint
                };
                element.report(format!("no field is named {element}{all}"));
            }
        }
    }
    Some(chosen.into_iter().collect())
}

/// Fields of requests that have no place of their own in a line.
fn headers(value: &Value<'_>) -> Vec<HeaderName> {
    let own = |name: &HeaderName| match name.as_str() {
        "user-agent" => Some("user_agent"),
        "referer" => Some("referer"),
        "host" => Some("host"),
        "traceparent" => Some("trace_id"),
        _ => None,
    };
    let names = names(value, |name| {
        own(name).map(|own| format!("stands in the field {own:?}: leave it out here"))
    });
    if names.len() > MOST_HEADERS {
        value.report(format!("at most {MOST_HEADERS}, got {}", names.len()));
    }
    names
}

fn redact(table: &mut Table<'_>, logged: &[HeaderName]) -> Redact {
    Redact {
        query: table.get("query").and_then(|value| secrets(&value)),
        headers: table
            .get("headers")
            .map(|value| {
                names(&value, |name| {
                    let is_there =
                        logged.contains(name) || ["user-agent", "referer"].contains(&name.as_str());
                    (!is_there).then(|| {
                        "is not logged: add it to `access_log.headers`, or leave it out here"
                            .to_owned()
                    })
                })
            })
            .unwrap_or_default(),
    }
}

fn secrets(value: &Value<'_>) -> Option<Secrets> {
    let what = "\"all\", or an array of parameters' names such as [\"token\"]";
    if let toml::de::DeValue::String(text) = value.value {
        return match &**text {
            "all" => Some(Secrets::All),
            _ => value.expected(what),
        };
    }
    let mut names: Vec<Box<str>> = Vec::new();
    for element in &value.non_empty_array(what, "; leave it out to show everything")? {
        let Some(text) = element.string_such_as("the name of a parameter such as \"token\"") else {
            continue;
        };
        if text.trim().is_empty() || text.contains(['&', '=', ';', '?', '#', '%', '[', '/']) {
            let _: Option<()> = element.expected("the name of a parameter, as it is when decoded");
            continue;
        }
        // Whatever its case in requests, see `Secrets`.
        let name = text.trim().to_ascii_lowercase();
        if names.iter().any(|known| **known == *name) {
            element.report(format!("{element} is listed twice"));
        }
        names.push(name.into());
    }
    Some(Secrets::Named(names.into()))
}

/// Names of header fields, each once; `refusal` says why one may not stand there.
fn names(value: &Value<'_>, refusal: impl Fn(&HeaderName) -> Option<String>) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = Vec::new();
    let elements = value.array("an array such as [\"x-tenant\"]");
    for element in &elements.unwrap_or_default() {
        let what = "the name of a header field such as \"x-tenant\"";
        let Some(text) = element.string_such_as(what) else {
            continue;
        };
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            let _: Option<()> = element.expected(what);
            continue;
        };
        if let Some(why) = refusal(&name) {
            element.report(format!("{name} {why}"));
        } else if names.contains(&name) {
            element.report(format!("{element} is listed twice"));
        } else {
            names.push(name);
        }
    }
    names
}

fn sample(value: &Value<'_>) -> Option<f64> {
    let sample = value.number()?;
    if sample > 0.0 && sample <= 1.0 {
        Some(sample)
    } else {
        value.expected("above 0 and at most 1")
    }
}

const SYSLOG: &str = "/dev/log";
const JOURNALD: &str = "/run/systemd/journal/socket";
const LONGEST_SOCKET: usize = 107; // sun_path has 108 with its end
const MOST_HEADERS: usize = 16; // each is looked up in every request that is logged
