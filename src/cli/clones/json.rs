//! What was found out, for scripts. Whatever comes from members is made fit for a terminal here, too.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::answers::{BODY, Value};
use super::ask::Question;
use super::compare::{Compared, Group};
use super::members::Asked;
use super::tell::{differing, shown};

/// All of it.
pub(super) fn json(question: &Question, asked: &Asked, compared: &Compared) -> Json {
    let names = |group: &Group| -> Vec<&str> {
        let members = group.members.iter();
        members
            .map(|member| asked.members[*member].name())
            .collect()
    };
    let groups: Vec<Json> = compared
        .groups
        .iter()
        .map(|group| {
            let aspects = compared.aspects.iter();
            let says: Map<String, Json> = aspects
                .filter(|aspect| aspect.differs())
                .filter_map(|aspect| {
                    let value = aspect.values[group.members[0]].as_ref()?;
                    Some((aspect.name.clone(), value.text.clone().into()))
                })
                .collect();
            json!({ "members": names(group), "says": says, "differs_first_in_line": group.line })
        })
        .collect();
    let members: Vec<Json> = asked
        .members
        .iter()
        .enumerate()
        .map(|(index, member)| {
            let times = &compared.times[index];
            let aspects = compared.aspects.iter();
            let says: Map<String, Json> = aspects
                .filter_map(|aspect| {
                    let value: &Value = aspect.values[index].as_ref()?;
                    Some((aspect.name.clone(), value.text.clone().into()))
                })
                .collect();
            let aspects = compared.aspects.iter();
            let changes: Map<String, Json> = aspects
                .filter_map(|aspect| {
                    let changes = aspect.values[index].as_ref()?.changes.clone()?;
                    Some((aspect.name.clone(), changes.into()))
                })
                .collect();
            json!({
                "name": member.name(),
                "address": member.endpoint.address().to_string(),
                "set": member.set,
                "state": member.state,
                "says": says,
                "changes": changes,
                "body_sha256": hash(compared, index),
                "seconds": times.took.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
                "failed": times.failed,
                "why": times.why.as_deref().map(shown),
            })
        })
        .collect();
    json!({
        "upstream": asked.upstream,
        "method": question.method.as_str(),
        "path": question.path,
        "host": shown(&String::from_utf8_lossy(asked.host.as_bytes())),
        "rounds": question.rounds,
        "equal": compared.is_equal(),
        "all_answered": compared.all_answered(),
        "differs_in": differing(compared).collect::<Vec<_>>(),
        "groups": groups,
        "members": members,
        "not_asked": asked.not_asked,
    })
}

/// Of what is compared of its body, if something is.
fn hash(compared: &Compared, member: usize) -> Option<&str> {
    let mut aspects = compared.aspects.iter();
    let body = aspects.find(|aspect| aspect.name == BODY)?;
    body.values[member].as_ref()?.hash()
}
