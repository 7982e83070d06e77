//! The report: for people, or as JSON.

use serde_json::{Value, json};

use super::tally::{Change, Example, Group, Side, Tally, shown};
use super::unknown::Unknown;
use crate::cli::table::{Cell, Table, Tone};

/// Kinds of changes that people are told of; the JSON has all.
const MOST_TOLD: usize = 30;

/// For people. Where there is no earlier file to learn from, and it would help, that is said.
pub(super) fn text(tally: &Tally, has_earlier: bool, in_colour: bool) -> String {
    let mut text = format!(
        "{}: {} as before, {} would change, {} cannot be told\n",
        counted(tally.requests, "request"),
        grouped(tally.same),
        grouped(tally.changed()),
        grouped(tally.untold()),
    );
    let changes = sorted(&tally.changes);
    let told: Vec<_> = changes
        .iter()
        .map(|(change, group)| (words(change), *group))
        .collect();
    text.push_str(&section("would change", &told, tally.others, in_colour));
    let unknown = sorted_by(tally.unknown.iter(), ToString::to_string);
    text.push_str(&section("cannot be told", &unknown, 0, in_colour));
    if !has_earlier && tally.unknown.keys().any(Unknown::is_of_fields) {
        text.push_str(
            "  with --from, the file that the log was written under says more of these\n",
        );
    }
    if tally.bad > 0 {
        let mut table = Table::default();
        for (at, why) in &tally.bad_lines {
            table.push(vec![Cell::new(at, Tone::Doubtful), Cell::plain(shown(why))]);
        }
        let left = tally.bad - tally.bad_lines.len() as u64;
        text.push_str(&format!(
            "\n{} could not be read\n{}",
            counted(tally.bad, "line"),
            table.text("  ", in_colour)
        ));
        if left > 0 {
            text.push_str(&format!("  and {} more\n", grouped(left)));
        }
    }
    text
}

fn section(title: &str, groups: &[(String, &Group)], others: u64, in_colour: bool) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let width = groups
        .iter()
        .map(|(_, group)| grouped(group.count).len())
        .max();
    let width = width.unwrap_or_default();
    let mut text = format!("\n{title}\n");
    for (words, group) in groups.iter().take(MOST_TOLD) {
        text.push_str(&format!("  {:>width$}  {words}\n", grouped(group.count)));
        let mut table = Table::default();
        for Example {
            at,
            method,
            host,
            path,
        } in &group.examples
        {
            table.push(vec![
                Cell::plain(format!("{method} {host}{path}")),
                Cell::new(at, Tone::Faint),
            ]);
        }
        text.push_str(&table.text(&" ".repeat(width + 6), in_colour));
    }
    let more = groups.iter().skip(MOST_TOLD).map(|(_, group)| group.count);
    let left = more.sum::<u64>() + others;
    if left > 0 {
        text.push_str(&format!("  and {} of other kinds\n", grouped(left)));
    }
    text
}

/// `route /old -> (none), upstream app -> none, status 2xx -> 404 (no_route)`
pub(super) fn words(change: &Change) -> String {
    let Change {
        differences,
        before,
        after,
    } = change;
    let mut told = Vec::new();
    let mut tell =
        |what: &str, is_another: bool, before: &Option<String>, after: &Option<String>| {
            let (Some(before), Some(after)) = (before, after) else {
                if let (true, Some(after)) = (is_another, after) {
                    told.push(format!("{what} {after}"));
                }
                return;
            };
            if is_another {
                told.push(format!("{what} {before} -> {after}"));
            }
        };
    tell("route", differences.route, &before.route, &after.route);
    tell(
        "upstream",
        differences.upstream,
        &before.upstream,
        &after.upstream,
    );
    tell("status", differences.status, &before.status, &after.status);
    if !differences.route
        && let Some(route) = &after.route
    {
        told.insert(0, format!("route {route}"));
    }
    shown(&told.join(", "))
}

/// The most first.
fn sorted<K: Ord>(groups: &std::collections::HashMap<K, Group>) -> Vec<(&K, &Group)> {
    let mut sorted: Vec<_> = groups.iter().collect();
    sorted.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
    sorted
}

fn sorted_by<'g, K>(
    groups: impl Iterator<Item = (&'g K, &'g Group)>,
    words: impl Fn(&'g K) -> String,
) -> Vec<(String, &'g Group)>
where
    K: 'g,
{
    let mut sorted: Vec<_> = groups
        .map(|(kind, group)| (shown(&words(kind)), group))
        .collect();
    sorted.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
    sorted
}

/// For programs.
pub(super) fn as_json(tally: &Tally) -> Value {
    let changes = sorted(&tally.changes);
    let changes = changes.into_iter().map(|(change, group)| {
        let differences = change.differences;
        let differs = [
            ("route", differences.route),
            ("upstream", differences.upstream),
            ("status", differences.status),
        ];
        let differs = differs.into_iter().filter(|(_, is_another)| *is_another);
        json!({
            "count": group.count,
            "differs": differs.map(|(what, _)| what).collect::<Vec<_>>(),
            "before": side(&change.before),
            "after": side(&change.after),
            "examples": examples(group),
        })
    });
    let unknown = sorted_by(tally.unknown.iter(), ToString::to_string);
    let unknown = unknown.into_iter().map(
        |(why, group)| json!({ "count": group.count, "why": why, "examples": examples(group) }),
    );
    let bad_lines = tally.bad_lines.iter();
    let bad_lines = bad_lines.map(|(at, why)| json!({ "at": at, "why": why }));
    json!({
        "requests": tally.requests,
        "same": tally.same,
        "changed": tally.changed(),
        "cannot_be_told": tally.untold(),
        "bad": tally.bad,
        "changes": changes.collect::<Vec<_>>(),
        "unknown": unknown.collect::<Vec<_>>(),
        "bad_lines": bad_lines.collect::<Vec<_>>(),
    })
}

fn side(side: &Side) -> Value {
    json!({ "route": side.route, "upstream": side.upstream, "status": side.status })
}

fn examples(group: &Group) -> Value {
    let examples = group.examples.iter().map(|example| {
        json!({
            "at": example.at,
            "method": example.method,
            "host": example.host,
            "path": example.path,
        })
    });
    examples.collect()
}

/// `1,204 requests`
pub(super) fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(count)),
    }
}

/// `1,204,331`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (digit, left) in digits.chars().zip((0..digits.len()).rev()) {
        grouped.push(digit);
        if left > 0 && left % 3 == 0 {
            grouped.push(',');
        }
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_204_331, "1,204,331"),
        ] {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!(counted(1, "line"), "1 line");
        assert_eq!(counted(1_204, "request"), "1,204 requests");
    }
}
