//! Reads `request_headers` and `response_headers` of a route. Refuses what would break the framing of a message or what
//! it says of its sender.

use http::HeaderName;

use super::header::{field_name, field_text, field_value};
use crate::config::changes::{FieldValue, HeaderChanges, Part, Variable};
use crate::config::file::Table;
use crate::config::value::Value;
use crate::message::{authority, hop_by_hop};

/// Which messages are changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// The changes a route makes. `None` where there is none, or a problem.
pub(super) fn changes(value: &Value<'_>, direction: Direction) -> Option<HeaderChanges> {
    let changes = value.table(|table| {
        let mut read = Reader {
            direction,
            seen: Vec::new(),
        };
        HeaderChanges {
            set: read.fields(table, "set"),
            add: read.fields(table, "add"),
            remove: read.names(table),
        }
    })?;
    (changes != HeaderChanges::default()).then_some(changes)
}

struct Reader {
    direction: Direction,
    /// Names so far, and in which table.
    seen: Vec<(HeaderName, &'static str)>,
}

impl Reader {
    fn fields(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
    ) -> Vec<(HeaderName, FieldValue)> {
        let entries = table
            .get(key)
            .map(|value| value.entries("a table such as { x-name = \"value\" }"))
            .unwrap_or_default();
        let mut fields = Vec::new();
        for entry in entries {
            let noted = self.name(entry.name, key);
            let name = noted.map_err(|message| entry.source.report(entry.key_place(), message));
            let value = match &name {
                Ok(name) if *name == http::header::HOST => host(&entry),
                _ => template(&entry),
            };
            if let (Ok(name), Some(value)) = (name, value) {
                fields.push((name, value));
            }
        }
        fields
    }

    fn names(&mut self, table: &mut Table<'_>) -> Vec<HeaderName> {
        let elements = table
            .get("remove")
            .and_then(|value| value.array("an array such as [\"x-name\"]"))
            .unwrap_or_default();
        elements
            .iter()
            .filter_map(|element| {
                let text = element.string_such_as("the name of a header")?;
                element.noted(self.name(text, "remove"))
            })
            .collect()
    }

    /// The name `text`, if it may stand in the table `key`.
    fn name(&mut self, text: &str, key: &'static str) -> Result<HeaderName, String> {
        let name = field_name(text)?;
        if let Some(refusal) = self.refusal(name.as_str(), key) {
            return Err(format!("{name} {refusal}"));
        }
        match self.seen.iter().find(|(other, _)| *other == name) {
            Some((_, other)) if *other == key => Err(format!(
                "{name} is there twice; header names do not differ by case"
            )),
            Some((_, other)) => Err(format!(
                "{name} is in `{other}` already; a name stands in one of `set`, `add` and `remove`"
            )),
            None => {
                self.seen.push((name.clone(), key));
                Ok(name)
            }
        }
    }

    fn refusal(&self, name: &str, key: &str) -> Option<&'static str> {
        if hop_by_hop::is_hop_by_hop(name) || matches!(name, "content-length" | "trailer") {
            return Some("belongs to the connection and is set by the balancer; leave it out");
        }
        match (self.direction, name) {
            (Direction::Request, "host") if key != "set" => {
                Some("can only be in `set`: a request has exactly one")
            }
            (
                Direction::Request,
                "forwarded" | "via" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port"
                | "x-forwarded-proto" | "x-request-id",
            ) => Some("says who asked and is set by the balancer; leave it out"),
            (Direction::Response, "host") => Some("is no field of a response"),
            (Direction::Request | Direction::Response, _) => None,
        }
    }
}

/// The host that is asked for at the endpoint.
fn host(value: &Value<'_>) -> Option<FieldValue> {
    let what = "a host such as \"app.internal\" or \"app.internal:8080\"; it takes no variables";
    let text = value.string_such_as(what)?;
    if authority::host(text).is_none() || text.contains('$') {
        return value.expected(what);
    }
    field_value(value).map(FieldValue::Constant)
}

/// A value in which variables may stand. Problems do not show it: it may be a secret.
fn template(value: &Value<'_>) -> Option<FieldValue> {
    let parts = value.noted(parts(field_text(value)?))?;
    match parts.as_slice() {
        [] => Some(FieldValue::Constant(http::HeaderValue::from_static(""))),
        [Part::Text(text)] => http::HeaderValue::from_str(text)
            .ok()
            .map(FieldValue::Constant),
        _ => Some(FieldValue::Filled(parts)),
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            plain.push('$');
            rest = after;
            continue;
        }
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = after.find(|c| !is_of_name(c)).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let Some((_, variable)) = Variable::ALL.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(name));
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(Part::Variable(*variable));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(parts)
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = Variable::ALL
        .iter()
        .map(|(name, _)| format!("${name}"))
        .collect();
    let (last, others) = names.split_last().expect("there are variables");
    format!(
        "knows only {} and {last}, not \"${name}\"; a dollar sign is written \"$$\"",
        others.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn variables_stand_between_text() {
        let variable = Part::Variable;
        for (given, expected) in [
            ("", vec![]),
            ("plain", vec![text("plain")]),
            ("$host", vec![variable(Variable::Host)]),
            (
                "$scheme://$host$path?x",
                vec![
                    variable(Variable::Scheme),
                    text("://"),
                    variable(Variable::Host),
                    variable(Variable::Path),
                    text("?x"),
                ],
            ),
            ("a$$host", vec![text("a$host")]),
            (
                "$$$client_ip",
                vec![text("$"), variable(Variable::ClientIp)],
            ),
        ] {
            assert_eq!(parts(given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn an_unknown_variable_is_told_those_that_exist() {
        assert_eq!(
            parts("x $hots"),
            Err("knows only $client_ip, $host, $path, $request_id and $scheme, not \"$hots\"; a dollar sign is written \"$$\"".to_owned())
        );
        for given in ["$", "a$ b", "$hostname", "$Host", "${host}"] {
            assert!(parts(given).is_err(), "{given}");
        }
    }
}
