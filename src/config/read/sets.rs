//! Reads `active_set`, and holds it against the sets that endpoints are in.

use super::name;
use crate::config::file::Table;
use crate::config::suggest::hint;
use crate::config::value::{Value, listed};
use crate::config::{Endpoint, Mode};
use crate::units::Name;

/// Every endpoint of an upstream is in a set, or none is; with sets it is said which one serves.
pub(super) fn active(table: &mut Table<'_>, endpoints: Option<&[Endpoint]>) -> Option<Name> {
    let value = table.get("active_set");
    let endpoints = endpoints?;
    let mut sets: Vec<&Name> = Vec::new();
    for set in endpoints
        .iter()
        .filter_map(|endpoint| endpoint.set.as_ref())
    {
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    let Some(first) = sets.first() else {
        if let Some(value) = value.filter(|_| !endpoints.is_empty()) {
            value.source.report(
                value.key_place(),
                "no endpoint is in a set; give each its `set`, or leave this out",
            );
        }
        return None;
    };
    if let Some(without) = endpoints.iter().find(|endpoint| endpoint.set.is_none()) {
        let (name, line) = (&without.name, without.place.line);
        table.report(format!(
            "endpoint {name:?} (line {line}) is in no `set`, and others are; give it one, too"
        ));
    }
    let Some(value) = value else {
        // With a role the remedy is another one, and it is told there.
        if table.find("role").is_none() {
            table.report(format!(
                "endpoints are in sets; say which of them serves: active_set = {first:?}"
            ));
        }
        return None;
    };
    let active = among(&value, &sets)?;
    for set in &sets {
        let members = || endpoints.iter().filter(|it| it.set.as_ref() == Some(*set));
        if members().all(|endpoint| endpoint.backup) {
            let line = members().next().map_or(0, |endpoint| endpoint.place.line);
            table.report(format!(
                "every endpoint of set {set:?} (line {line}) is a backup; leave `backup` out at those that are to be used first"
            ));
        }
    }
    let is_disabled = |endpoint: &Endpoint| endpoint.mode == Some(Mode::Disabled);
    let mut serving = endpoints
        .iter()
        .filter(|it| it.set.as_ref() == Some(&active));
    if serving.all(is_disabled) {
        value.warn("every endpoint of this set is disabled: requests get 503");
    }
    if sets.len() == 1 {
        value.warn("every endpoint is in this set: there is none to flip to");
    }
    Some(active)
}

fn among(value: &Value<'_>, sets: &[&Name]) -> Option<Name> {
    let text = value.string()?;
    if let Some(set) = sets.iter().find(|set| ****set == *text) {
        return Some(Name::clone(set));
    }
    let names = || sets.iter().map(|set| &***set);
    let (all, hint) = (listed(names()), hint(text, names()));
    value.report(format!(
        "must be the set of an endpoint, {all}, got {value}{hint}"
    ));
    None
}

/// `set` of an endpoint.
pub(super) fn set(value: &Value<'_>) -> Option<Name> {
    value.noted(name::valid(value.string()?))
}
