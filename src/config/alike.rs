//! Of many warnings that say the same, a few: nobody reads thousands of lines, nor what stands between them. Pure.

use std::collections::HashMap;

use super::Problem;

/// The first of each kind among `warnings`, the last of which says how many more there are.
pub fn first_of_each_kind(warnings: Vec<Problem>) -> Vec<Problem> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for warning in &warnings {
        *counts.entry(kind(&warning.message)).or_default() += 1;
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    let shown = |mut warning: Problem| {
        let kind = kind(&warning.message);
        let all = counts.get(&kind).copied().unwrap_or_default();
        let seen = seen.entry(kind).or_default();
        *seen += 1;
        if *seen > SHOWN {
            return None;
        }
        if *seen == SHOWN && all > SHOWN {
            warning.message += &format!("; {} more like this", all - SHOWN);
        }
        Some(warning)
    };
    warnings.into_iter().filter_map(shown).collect()
}

/// `message` without what differs between two of a kind: names, which are quoted, and numbers.
fn kind(message: &str) -> String {
    let outside = message.split('"').step_by(2);
    let mut kind = outside.collect::<Vec<_>>().join("\"");
    kind.retain(|c| !c.is_ascii_digit());
    kind
}

const SHOWN: usize = 20; // of a kind: enough to see what they have in common

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Place;

    #[test]
    fn regression_thousands_of_a_kind_are_a_few_lines() {
        let place = |line| Place {
            file: Path::new("balancer.toml").into(),
            line,
            column: 1,
            key: "".into(),
        };
        let mut warnings = Vec::new();
        for line in 0..5000 {
            warnings.push(place(line).problem("no route uses it"));
            let message = format!("upstream \"u{line}\" (line {line}) has no second endpoint");
            warnings.push(place(line).problem(message));
        }
        warnings.push(place(1).problem("alone"));
        warnings.extend((0..20).map(|line| place(line).problem("just as many")));
        let shown = first_of_each_kind(warnings.clone());
        assert_eq!(shown.len(), 20 + 20 + 1 + 20);
        assert_eq!(shown[..38], warnings[..38], "in their order, and whole");
        assert_eq!(shown[38].message, "no route uses it; 4980 more like this");
        assert_eq!(
            shown[39].message,
            "upstream \"u19\" (line 19) has no second endpoint; 4980 more like this"
        );
        assert_eq!(shown[40..], warnings[10_000..]);
    }
}
