//! What was found out, for people. Whatever comes from members is made fit for a terminal.

use std::time::Duration;

use super::answers::{Aspect, BODY};
use super::ask::Question;
use super::compare::{Compared, Group, Times};
use super::members::{Asked, Member};
use crate::cli::table::{Cell, Table, Tone};
use crate::message::unfit::is_unfit;

/// `text` without what a terminal would act upon, and not endless.
pub(super) fn shown(text: &str) -> String {
    let fit = |c: char| {
        if is_unfit(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut fit: String = text.chars().take(LONGEST).map(fit).collect();
    if text.chars().nth(LONGEST).is_some() {
        fit.push('…');
    }
    fit
}

/// `5,120`
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// All of it.
pub(super) fn text(
    question: &Question,
    asked: &Asked,
    compared: &Compared,
    in_colour: bool,
) -> String {
    let Question {
        method,
        path,
        rounds,
        ..
    } = question;
    let times = match rounds {
        1 => "once".to_owned(),
        rounds => format!("{rounds} times"),
    };
    let host = shown(&String::from_utf8_lossy(asked.host.as_bytes()));
    let mut text = format!(
        "{}: {method} {path}, each asked {times}, as {host} ({})\n",
        asked.upstream, asked.host_by
    );
    text.push_str(&said(asked, compared, in_colour));
    text.push('\n');
    text.push_str(&members(asked, compared).text("  ", in_colour));
    text.push_str(&notes(asked, compared));
    text.push_str(&format!("\n{}\n", verdict(compared)));
    text
}

/// What everybody says, and what some do.
fn said(asked: &Asked, compared: &Compared, in_colour: bool) -> String {
    let answering: usize = compared.groups.iter().map(|it| it.members.len()).sum();
    let Some(first) = compared.groups.first() else {
        return String::new();
    };
    let of_group = |group: &Group, differs: bool| {
        let mut table = Table::default();
        let aspects = compared.aspects.iter();
        for aspect in aspects.filter(|aspect| aspect.differs() == differs) {
            table.push(vec![
                Cell::new(&aspect.name, Tone::Faint),
                Cell::plain(told(aspect, group)),
            ]);
        }
        table.text("  ", in_colour)
    };
    let common = of_group(first, false);
    let mut text = String::new();
    if !common.is_empty() {
        text.push_str(&match answering {
            1 => "it says\n".to_owned(),
            all if all < asked.members.len() => format!("all {all} that answered say\n"),
            all => format!("all {all} say\n"),
        });
        text.push_str(&common);
    }
    if !compared.differs() {
        return text;
    }
    for group in &compared.groups {
        let names: Vec<_> = group
            .members
            .iter()
            .map(|member| name(asked, &asked.members[*member]))
            .collect();
        text.push_str(&match &names[..] {
            [alone] if group != first || answering == 2 => format!("{alone} says\n"),
            names => format!("{} of {answering} say: {}\n", names.len(), names.join(", ")),
        });
        text.push_str(&of_group(group, true));
    }
    text
}

fn told(aspect: &Aspect, group: &Group) -> String {
    let value = aspect.values[group.members[0]].as_ref();
    let text = value.map_or_else(String::new, |value| value.text.clone());
    match group.line {
        Some(line) if aspect.name == BODY => format!("{text}, differs first in line {line}"),
        _ => text,
    }
}

/// `app/10.0.0.3:8080 (set blue)`
fn name(asked: &Asked, member: &Member) -> String {
    let set = member.set.as_ref();
    let set = set.map_or_else(String::new, |set| format!(" (set {set})"));
    format!("{}/{}{set}", asked.upstream, member.name())
}

fn members(asked: &Asked, compared: &Compared) -> Table {
    let mut heading = vec!["endpoint"];
    heading.extend(asked.is_live.then_some("state"));
    heading.extend(["answered in", "at most", ""]);
    let mut table = Table::with_heading(&heading);
    for (member, times) in asked.members.iter().zip(&compared.times) {
        let mut row = vec![Cell::plain(member.name())];
        if asked.is_live {
            row.push(Cell::plain(member.state.as_deref().unwrap_or_default()));
        }
        row.push(Cell::plain(
            median(times).map(milliseconds).unwrap_or_default(),
        ));
        row.push(Cell::plain(
            times
                .took
                .last()
                .copied()
                .map(milliseconds)
                .unwrap_or_default(),
        ));
        row.push(Cell::new(failed(times), Tone::Bad));
        table.push(row);
    }
    table
}

/// Why it did not answer, and how often.
fn failed(times: &Times) -> String {
    let Some(why) = &times.why else {
        return String::new();
    };
    let why = shown(why);
    match (times.failed, times.took.len()) {
        (_, 0) => format!("no answer: {why}"),
        (failed, answered) => format!("no answer {failed} of {} times: {why}", failed + answered),
    }
}

/// The middle one.
fn median(times: &Times) -> Option<Duration> {
    let last = times.took.len().checked_sub(1)?;
    times.took.get(last / 2).copied()
}

/// `0.4 ms`, `12 ms`
fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

/// What else there is to know of it.
fn notes(asked: &Asked, compared: &Compared) -> String {
    let mut text = String::new();
    for aspect in &compared.aspects {
        let mut changing: Vec<(&str, &str)> = Vec::new();
        for (member, value) in asked.members.iter().zip(&aspect.values) {
            let changes = value.as_ref().and_then(|it| it.changes.as_deref());
            changing.extend(changes.map(|changes| (member.name(), changes)));
        }
        if let Some((_, what)) = changing.first() {
            let names: Vec<_> = changing.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            let aspect = &aspect.name;
            text.push_str(&format!(
                "  {aspect} differs from itself, at {names}: {what}\n"
            ));
        }
    }
    if !asked.not_asked.is_empty() {
        let names = asked.not_asked.join(", ");
        text.push_str(&format!("  not asked, for it is disabled: {names}\n"));
    }
    text
}

/// In one line.
fn verdict(compared: &Compared) -> String {
    let silent = compared.times.iter().filter(|it| it.failed > 0).count();
    let silent = match silent {
        0 => String::new(),
        1 => "; 1 did not answer each time".to_owned(),
        silent => format!("; {silent} did not answer each time"),
    };
    let answering: usize = compared.groups.iter().map(|it| it.members.len()).sum();
    let differing: Vec<_> = differing(compared).collect();
    let verdict = match (answering, &differing[..]) {
        (0, _) => "nobody has answered".to_owned(),
        (1, _) => "there is nobody to compare with".to_owned(),
        (all, []) if compared.is_untold() => format!(
            "whether all {all} say the same cannot be told: most of their bodies changes from answer to answer"
        ),
        (all, []) => format!("all {all} say the same"),
        (_, names) => format!("they differ in {}", names.join(" and ")),
    };
    verdict + &silent
}

/// The names of what differs.
pub(super) fn differing(compared: &Compared) -> impl Iterator<Item = &str> {
    let aspects = compared.aspects.iter();
    aspects
        .filter(|aspect| aspect.differs())
        .map(|aspect| &*aspect.name)
}

const LONGEST: usize = 200; // of a value: more tells people nothing

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_not_shown() {
        assert_eq!(shown("a\x1b[2Jb\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(shown(&"x".repeat(LONGEST + 1)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn numbers_are_told_in_thousands() {
        let told = [0, 999, 1000, 5120, 1_234_567].map(grouped);
        assert_eq!(told, ["0", "999", "1,000", "5,120", "1,234,567"]);
    }

    #[test]
    fn median_is_the_middle_one() {
        let of = |took: &[u64]| {
            median(&Times {
                took: took.iter().copied().map(Duration::from_millis).collect(),
                ..Times::default()
            })
            .map(milliseconds)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[4]), Some("4.0 ms".to_owned()));
        assert_eq!(of(&[1, 12, 300]), Some("12 ms".to_owned()));
        assert_eq!(of(&[1, 12]), Some("1.0 ms".to_owned()));
    }
}
