//! What the answers of members say of each thing that is compared. Pure.

use std::collections::BTreeSet;

use http::header::{self, HeaderMap, HeaderName};
use regex::bytes::Regex;

use super::ask::{Heard, Rounds};
use super::body::{self, Body, Changes, Said};
use super::members::Member;
use super::tell::{grouped, shown};
use crate::config::VersionSource;
use crate::health::version;

/// What is compared beside status, cookies and bodies, and what of bodies is not.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) headers: Vec<HeaderName>,
    pub(super) ignored: &'a [Regex],
    /// Where answers say which version a member runs, if they do.
    pub(super) version: Option<&'a VersionSource>,
}

/// One thing that is compared.
#[derive(Debug)]
pub(super) struct Aspect {
    pub(super) name: String,
    /// By member; `None` where it did not answer.
    pub(super) values: Vec<Option<Value>>,
}

/// What a member says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Value {
    /// Equal where it is the same.
    pub(super) key: String,
    /// For people.
    pub(super) text: String,
    /// What it is that changes from answer to answer, if something does.
    pub(super) changes: Option<String>,
}

impl Value {
    /// Of a body: by what it is told apart, if by something.
    pub(super) fn hash(&self) -> Option<&str> {
        (self.key != CHANGES).then_some(&*self.key)
    }
}

impl Aspect {
    /// Whether those who answered do not all say the same.
    pub(super) fn differs(&self) -> bool {
        let mut keys = self.values.iter().flatten().map(|value| &value.key);
        let first = keys.next();
        keys.any(|key| Some(key) != first)
    }

    /// Whether there is nothing to be said.
    pub(super) fn is_none(&self) -> bool {
        let mut values = self.values.iter().flatten();
        values.all(|value| value.key == NONE)
    }
}

/// Everything that is compared, in the order in which it is told.
pub(super) fn aspects(
    members: &[Member],
    answered: &[Rounds],
    (wanted, has_bodies): (&Wanted<'_>, bool),
) -> Vec<Aspect> {
    let each = |name: &str, of_one: &dyn Fn(&Member, &Heard) -> String, telling| Aspect {
        name: name.to_owned(),
        values: members
            .iter()
            .zip(answered)
            .map(|(member, rounds)| {
                let heard = rounds.iter().flatten();
                value(heard.map(|it| of_one(member, it)), telling)
            })
            .collect(),
    };
    let status = |_: &Member, heard: &Heard| heard.answer.status.to_string();
    let mut aspects = vec![each("status", &status, Telling::Yes)];
    if let Some(source) = wanted.version {
        let version = |member: &Member, heard: &Heard| version_of(source, member, heard);
        aspects.push(each("version", &version, Telling::Yes));
    }
    for name in &wanted.headers {
        let field = |_: &Member, heard: &Heard| field(&heard.answer.headers, name);
        aspects.push(each(name.as_str(), &field, Telling::No));
    }
    let cookies = |_: &Member, heard: &Heard| cookies(&heard.answer.headers);
    aspects.push(each("cookies", &cookies, Telling::Yes));
    if has_bodies {
        aspects.push(bodies(answered, wanted.ignored));
    }
    aspects
}

/// Whether it says something of a member that it answers in several ways: one that answers 200 and 500 is not like one that answers
/// 200, and not by chance. Where it does not, several ways are like any other several.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Telling {
    Yes,
    No,
}

fn value(rounds: impl Iterator<Item = String>, telling: Telling) -> Option<Value> {
    let mut ways: Vec<String> = Vec::new();
    for said in rounds {
        if !ways.contains(&said) {
            ways.push(said);
        }
    }
    let several = ways.len() > 1;
    let text = match telling {
        _ if !several => ways.first()?.clone(),
        Telling::Yes => ways.join(", then "),
        Telling::No => "changes".to_owned(),
    };
    ways.sort_unstable();
    Some(Value {
        key: match telling {
            _ if !several => text.clone(),
            Telling::Yes => ways.join("\0"),
            Telling::No => CHANGES.to_owned(),
        },
        changes: several.then(|| text.clone()),
        text,
    })
}

/// What its answer says, or else what checks have found.
fn version_of(source: &VersionSource, member: &Member, heard: &Heard) -> String {
    let of_answer = match source {
        VersionSource::Header(_) => version::of(&heard.answer, source).ok(),
        // That is in the answer to a check.
        VersionSource::Pointer(_) => None,
    };
    let version = of_answer.map(|version| version.to_string());
    let version = version.or_else(|| member.version.as_deref().map(shown));
    version.unwrap_or_else(|| "unknown".to_owned())
}

fn field(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let values: Vec<_> = values
        .map(|value| shown(&String::from_utf8_lossy(value.as_bytes())))
        .collect();
    or_none(&values)
}

/// The names of the cookies that are set. Values are whose they are: not shown.
fn cookies(headers: &HeaderMap) -> String {
    let names: BTreeSet<String> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .map(|value| {
            let name = value.as_bytes().split(|byte| b"=;".contains(byte)).next();
            shown(String::from_utf8_lossy(name.unwrap_or_default()).trim())
        })
        .collect();
    or_none(&names.into_iter().collect::<Vec<_>>())
}

fn or_none(values: &[String]) -> String {
    if values.is_empty() {
        NONE.to_owned()
    } else {
        values.join(", ")
    }
}

/// What a member's bodies are without what is ignored.
pub(super) fn said<'a>(rounds: &'a Rounds, ignored: &[Regex]) -> Said<'a> {
    let heard = rounds.iter().flatten();
    heard
        .map(|heard| body::without(&heard.answer.body, ignored))
        .collect()
}

fn bodies(answered: &[Rounds], ignored: &[Regex]) -> Aspect {
    let said: Vec<Said<'_>> = answered.iter().map(|it| said(it, ignored)).collect();
    let answering: Vec<_> = said.iter().filter(|it| !it.is_empty()).cloned().collect();
    let told = body::compare(&answering);
    let is_blanked = told.iter().any(|it| it.changes != Changes::Nothing);
    let mut told = told.iter();
    let values = said.iter().zip(answered).map(|(said, rounds)| {
        if said.is_empty() {
            return None;
        }
        let is_cut = rounds.iter().flatten().any(|heard| heard.is_cut);
        told.next().map(|body| of_body(body, is_blanked, is_cut))
    });
    Aspect {
        name: BODY.to_owned(),
        values: values.collect(),
    }
}

/// `is_blanked`: words that change are not compared.
fn of_body(body: &Body, is_blanked: bool, is_cut: bool) -> Value {
    let changes = match body.changes {
        Changes::Nothing => None,
        Changes::Words(some, all) => Some(format!(
            "{} of {} words, which are not compared",
            grouped(some),
            grouped(all.div_ceil(2))
        )),
        Changes::All => Some("its length in words, so it is not compared".to_owned()),
    };
    let Some(hash) = &body.hash else {
        return Value {
            key: CHANGES.to_owned(),
            text: "changes".to_owned(),
            changes,
        };
    };
    let size = match is_cut {
        true => format!("the first {} bytes", grouped(body.bytes)),
        false => format!("{} bytes", grouped(body.bytes)),
    };
    let short = hash.get(..SHORT).unwrap_or(hash);
    let without = if is_blanked {
        " without what changes"
    } else {
        ""
    };
    Value {
        key: hash.clone(),
        text: format!("{size}, sha256 {short}{without}"),
        changes,
    }
}

/// The aspect that is the body.
pub(super) const BODY: &str = "body";
/// Of a field that is not there, and of no cookies.
const NONE: &str = "none";
/// No value of a field, nor a hash.
const CHANGES: &str = "\0";
const SHORT: usize = 12; // digits of a hash that are enough to tell some apart by eye

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rounds: &[&str], telling: Telling) -> Value {
        value(rounds.iter().map(|it| (*it).to_owned()), telling).unwrap()
    }

    #[test]
    fn member_that_answers_in_several_ways_is_not_like_one_that_does_not() {
        let steady = told(&["200", "200", "200"], Telling::Yes);
        let wavering = told(&["200", "500", "200"], Telling::Yes);
        assert_eq!((steady.text.as_str(), steady.changes), ("200", None));
        assert_eq!(wavering.text, "200, then 500");
        assert_ne!(steady.key, wavering.key);
        assert_eq!(wavering.key, told(&["500", "200", "500"], Telling::Yes).key);
        assert_eq!(value([].into_iter(), Telling::Yes), None);
    }

    #[test]
    fn fields_that_change_are_alike() {
        let one = told(&["a", "b"], Telling::No);
        assert_eq!(one.key, told(&["c", "d"], Telling::No).key);
        assert_ne!(one.key, told(&["a", "a"], Telling::No).key);
    }

    #[test]
    fn cookies_are_told_by_their_names_alone() {
        let mut headers = HeaderMap::new();
        for cookie in ["sid=secret; Path=/", "csrf=\x22x\x22", "sid=other", "odd"] {
            let value = http::HeaderValue::from_static(cookie);
            headers.append(header::SET_COOKIE, value);
        }
        assert_eq!(cookies(&headers), "csrf, odd, sid");
        assert_eq!(cookies(&HeaderMap::new()), NONE);
    }
}
