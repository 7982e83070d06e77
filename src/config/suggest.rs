//! "Did you mean": the known name nearest to a given one. Knows no name itself.

/// The name nearest to `given`, if one is near enough to be a slip of the keyboard.
pub(super) fn nearest<'n>(
    given: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    if given.chars().count() > LONGEST {
        return None;
    }
    let given = folded(given);
    known
        .into_iter()
        .filter_map(|name| {
            let other = folded(name);
            let distance = distance(&given, &other);
            (distance <= given.len().max(other.len()).div_ceil(4).min(3))
                .then_some((distance, name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean X?` for the nearest of `known`, each shown by `show`; else nothing.
pub fn hint<'n>(given: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    nearest(given, known)
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

/// Case and the choice of `-` or `_` do not count as differences.
fn folded(name: &str) -> Vec<char> {
    name.chars()
        .map(|c| {
            if c == '-' {
                '_'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

const LONGEST: usize = 64; // no name is longer, and the work grows with the length

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name() {
        let known = ["address", "protocols", "timeouts", "redirect_to_https"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("addresss", known), Some("address"));
        assert_eq!(nearest("adderss", known), Some("address"));
        assert_eq!(nearest("Address", known), Some("address"));
        assert_eq!(
            nearest("redirect-to-https", known),
            Some("redirect_to_https")
        );
        assert_eq!(nearest("timeout", known), Some("timeouts"));
    }

    #[test]
    fn something_else_finds_nothing() {
        assert_eq!(nearest("colour", ["address", "protocols"]), None);
        assert_eq!(nearest("", ["address"]), None);
        assert_eq!(nearest(&"a".repeat(1000), ["address"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_swap_is_one_step() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("get"), &letters("gte")), 1);
        assert_eq!(distance(&letters(""), &letters("abc")), 3);
        assert_eq!(distance(&letters("abc"), &letters("")), 3);
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
    }
}
