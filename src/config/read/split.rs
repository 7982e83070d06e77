//! Reads `split` and `split_by` of a route.

use super::{Declared, reference};
use crate::config::value::Value;
use crate::config::{Split, SplitBy};
use crate::units::Weight;

/// How a route shares its requests among upstreams; `None` where it does not, or where there is a problem.
pub(super) fn split(
    split: Option<&Value<'_>>,
    by: Option<&Value<'_>>,
    declared: &Declared,
) -> Option<Split> {
    let Some(split) = split else {
        if let Some(by) = by {
            by.source
                .report(by.key_place(), "only with `split`: nothing is shared here");
        }
        return None;
    };
    let by = by.and_then(|by| {
        let names = [("request", SplitBy::Request), ("client", SplitBy::Client)];
        by.one_of(&names, &[])
    });
    let elements = split.non_empty_array(
        "an array such as [{ upstream = \"app\", weight = 9 }, { upstream = \"canary\", weight = 1 }]",
        "; name the upstreams that share the requests",
    )?;
    let mut shares: Vec<(usize, u16)> = Vec::new();
    for element in &elements {
        let Some((upstream, weight)) = share(element, declared) else {
            continue;
        };
        if shares.iter().any(|(known, _)| *known == upstream) {
            let name = &declared.upstreams.0[upstream];
            element.report(format!("{name:?} is listed twice; add the weights up"));
        }
        shares.push((upstream, weight));
    }
    if shares.len() == elements.len() && shares.iter().all(|(_, weight)| *weight == 0) {
        split.report("every weight is 0, so that nobody gets a request; give one of them a weight");
    }
    Some(Split {
        shares,
        by: by.unwrap_or(SplitBy::Request),
    })
}

fn share(value: &Value<'_>, declared: &Declared) -> Option<(usize, u16)> {
    value.table(|table| {
        let upstream = table
            .required("upstream", "\"app\"")
            .and_then(|value| reference(&value, "upstream", &declared.upstreams));
        let weight = match table.get("weight") {
            Some(value) => value.integer(0..=i64::from(Weight::MAX))?,
            None => 1,
        };
        Some((upstream?, u16::try_from(weight).ok()?))
    })?
}
