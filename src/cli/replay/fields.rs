//! What is known of a request's header fields and cookies, as far as routes ask for them: a log holds few of them.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::record::{Record, Text};
use crate::config::{AccessLog, Config, Field};

/// What a route asks for besides listener, host, path and method.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Requirement {
    Header(HeaderName, HeaderValue),
    Cookie(Box<str>, Box<str>),
}

/// Whether a request meets a requirement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Met {
    Yes,
    No,
    /// The log does not say.
    Unknown,
}

/// All requirements of a file's routes.
#[derive(Debug)]
pub(super) struct Requirements {
    /// Each with the index of its route.
    all: Vec<(usize, Requirement)>,
    /// Fields that meet all of them.
    most: HeaderMap,
    none: HeaderMap,
}

/// Fields that a request has at least, and those that it has at most: as far as routes can tell.
pub(super) struct Known<'k> {
    pub(super) least: Cow<'k, HeaderMap>,
    pub(super) most: Cow<'k, HeaderMap>,
}

/// What was found out about requirements otherwise than by the fields themselves.
pub(super) type Learned = Vec<(Requirement, bool)>;

impl Requirements {
    pub(super) fn of(config: &Config) -> Self {
        let mut all = Vec::new();
        for (index, route) in config.routes.iter().enumerate() {
            let headers = route.headers.iter();
            let headers =
                headers.map(|(name, value)| Requirement::Header(name.clone(), value.clone()));
            let cookies = route.cookies.iter();
            let cookies =
                cookies.map(|(name, value)| Requirement::Cookie(name.clone(), value.clone()));
            all.extend(headers.chain(cookies).map(|it| (index, it)));
        }
        let most = fields(all.iter().map(|(_, requirement)| requirement));
        Self {
            all,
            most,
            none: HeaderMap::new(),
        }
    }

    /// Whether no route asks for any.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those of the route at `index`.
    pub(super) fn of_route(&self, index: usize) -> impl Iterator<Item = &Requirement> {
        let of_route = move |(route, _): &&(usize, Requirement)| *route == index;
        self.all.iter().filter(of_route).map(|(_, it)| it)
    }

    /// What is known of the request that `record` tells of. `log` is what the log was written by, if that is known: a field that
    /// it would hold is missing where it is missing.
    pub(super) fn known(
        &self,
        record: &Record<'_>,
        log: Option<&AccessLog>,
        learned: &Learned,
    ) -> Known<'_> {
        let says_nothing = record.headers.is_empty() && record.user_agent.is_none();
        if says_nothing && record.referer.is_none() && log.is_none() && learned.is_empty() {
            return Known {
                least: Cow::Borrowed(&self.none),
                most: Cow::Borrowed(&self.most),
            };
        }
        let met = |wanted: &[Met]| {
            let is_met = |requirement: &&Requirement| {
                wanted.contains(&met(requirement, record, log, learned))
            };
            let requirements = self.all.iter().map(|(_, requirement)| requirement);
            Cow::Owned(fields(requirements.filter(is_met)))
        };
        Known {
            least: met(&[Met::Yes]),
            most: met(&[Met::Yes, Met::Unknown]),
        }
    }
}

/// Whether the request meets it.
pub(super) fn met(
    requirement: &Requirement,
    record: &Record<'_>,
    log: Option<&AccessLog>,
    learned: &Learned,
) -> Met {
    if let Some((_, is_met)) = learned.iter().find(|(known, _)| known == requirement) {
        return if *is_met { Met::Yes } else { Met::No };
    }
    // Cookies are never written.
    let Requirement::Header(name, expected) = requirement else {
        return Met::Unknown;
    };
    let (value, is_written): (_, fn(&AccessLog, &HeaderName) -> bool) = match name {
        name if *name == header::USER_AGENT => (record.user_agent.as_ref(), |log, _| {
            log.fields.has(Field::UserAgent)
        }),
        name if *name == header::REFERER => (record.referer.as_ref(), |log, _| {
            log.fields.has(Field::Referer)
        }),
        name => {
            let mut fields = record.headers.iter();
            let found = fields.find(|(logged, _)| logged.as_str() == name.as_str());
            (found.map(|(_, value)| value), |log, name| {
                log.fields.has(Field::Headers) && log.headers.contains(name)
            })
        }
    };
    match value {
        Some(value) => compared(value, expected),
        None if log.is_some_and(|log| is_written(log, name)) => Met::No,
        None => Met::Unknown,
    }
}

/// A logged value is hidden, cut, or made of several that were joined with commas.
fn compared(value: &Text<'_>, expected: &HeaderValue) -> Met {
    let is_doubtful = value.is_hidden() || value.as_str().ends_with('…');
    let (value, expected) = (value.as_str().as_bytes(), expected.as_bytes());
    let is_list = memchr::memmem::find(value, b", ").is_some();
    let holds = memchr::memmem::find(value, expected).is_some();
    match value == expected {
        _ if is_doubtful || (is_list && holds) => Met::Unknown,
        true => Met::Yes,
        false => Met::No,
    }
}

/// Fields that meet `requirements`. Several values of one name do no harm to each other.
fn fields<'r>(requirements: impl Iterator<Item = &'r Requirement>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for requirement in requirements {
        match requirement {
            Requirement::Header(name, value) => {
                fields.append(name, value.clone());
            }
            Requirement::Cookie(name, value) => {
                if let Ok(pair) = HeaderValue::try_from(format!("{name}={value}")) {
                    fields.append(header::COOKIE, pair);
                }
            }
        }
    }
    fields
}
