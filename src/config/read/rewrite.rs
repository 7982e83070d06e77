//! Reads `rewrite` of a route, and refuses what could never make a path.

use regex::Regex;

use super::{path, route};
use crate::config::value::Value;
use crate::config::{PathPattern, Rewrite};

/// How a route that takes `route_path` makes another path of it.
pub(super) fn rewrite(value: &Value<'_>, route_path: Option<&PathPattern>) -> Option<Rewrite> {
    value.table(|table| {
        let [prefix, regex, to] = ["prefix", "regex", "to"].map(|key| table.get(key));
        match (prefix, regex, to) {
            (Some(prefix), None, None) => by_prefix(&prefix, route_path?),
            (None, Some(regex), Some(to)) => {
                let regex = route::regex(&regex)?;
                let to = replacement(&to, &regex)?;
                Some(Rewrite::Regex { regex, to })
            }
            _ => {
                table.report("needs either `prefix`, or `regex` and `to`");
                None
            }
        }
    })?
}

fn by_prefix(value: &Value<'_>, route_path: &PathPattern) -> Option<Rewrite> {
    let text = value.string_such_as("a path such as \"/new\"")?;
    value.noted(path::canonical(text))?;
    value.noted(check_characters(text))?;
    let PathPattern::Prefix(from) = route_path else {
        value.source.report(
            value.key_place(),
            "only with `path`, of which it takes the place; use `regex` and `to`",
        );
        return None;
    };
    let without_slash = |path: &str| path.strip_suffix('/').unwrap_or(path).into();
    Some(Rewrite::Prefix {
        from: without_slash(from),
        to: without_slash(text),
    })
}

/// What takes the place of a match.
fn replacement(value: &Value<'_>, regex: &Regex) -> Option<Box<str>> {
    let text = value.string_such_as("a path such as \"/new/$1\"")?;
    value.noted(check_characters(text))?;
    let has_groups = value.noted(check_groups(text, regex))?;
    // What a match begins and ends with, as far as it can be told without reading the regex.
    let pattern = regex.as_str();
    let from_begin = pattern.starts_with('^') && !pattern.contains('|');
    let to_end = pattern.ends_with('$') && !pattern.ends_with("\\$");
    if from_begin && !text.is_empty() && !text.starts_with(['/', '$']) {
        value.report(format!(
            "must begin with \"/\": it takes the place of a path's begin, got {value}"
        ));
        return None;
    }
    if from_begin && to_end && !has_groups {
        value.noted(path::canonical(text))?;
    }
    Some(text.into())
}

/// Whether all characters may stand in the path of a request, or refer to groups.
fn check_characters(text: &str) -> Result<(), String> {
    let refuses =
        |c: &char| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '\\' | '<' | '>' | '`');
    match text.chars().find(refuses) {
        Some(c) => Err(format!("must not hold {c:?}, got {text:?}")),
        None => Ok(()),
    }
}

/// Whether there are references to groups; each must be one of the regex.
fn check_groups(text: &str, regex: &Regex) -> Result<bool, String> {
    let exists = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|known| known == name),
    };
    let mut has_groups = false;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            has_groups = true; // not a plain path, either
            rest = after;
            continue;
        }
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, after) = match after.strip_prefix('{').map(|inner| inner.split_once('}')) {
            Some(Some((name, after))) => (name, after),
            Some(None) => (after, ""),
            None => after.split_at(after.find(|c| !is_of_name(c)).unwrap_or(after.len())),
        };
        if !exists(name) {
            return Err(format!(
                "names a group that `regex` does not have: \"${name}\" (a dollar sign is written \"$$\", and \"${{1}}\" where a letter follows), got {text:?}"
            ));
        }
        has_groups = true;
        rest = after;
    }
    Ok(has_groups)
}
