//! Whether bodies are the same, apart from what is in them by chance: words that change from one answer of a member to its next,
//! such as tokens and times, are not compared. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use regex::bytes::Regex;

use crate::message::hexadecimal;

/// What is to be told of a member's bodies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Body {
    /// Of the first one, without what is ignored.
    pub(super) bytes: usize,
    /// SHA-256 of what is compared, in hexadecimal digits. `None`: too little is the same each time to compare.
    pub(super) hash: Option<String>,
    pub(super) changes: Changes,
}

/// What changes from one of a member's answers to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Changes {
    Nothing,
    /// So many words, of so many.
    Words(usize, usize),
    /// So much that nothing can be compared.
    All,
}

/// The bodies of one member, one at least, without what is ignored.
pub(super) type Said<'a> = Vec<Cow<'a, [u8]>>;

/// What `body` is without what `ignored` finds.
pub(super) fn without<'a>(body: &'a [u8], ignored: &[Regex]) -> Cow<'a, [u8]> {
    let mut rest = Cow::Borrowed(body);
    for regex in ignored {
        if let Cow::Owned(less) = regex.replace_all(&rest, &b""[..]) {
            rest = Cow::Owned(less);
        }
    }
    rest
}

/// What is to be told of each member's bodies: where two hashes are the same, so are the bodies, apart from words that change.
pub(super) fn compare(members: &[Said<'_>]) -> Vec<Body> {
    let masks = masks(members);
    // What changes at one member is compared at none that says as many words.
    let mut changing: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for mask in masks.iter().flatten() {
        let of_so_many = changing.entry(mask.words).or_default();
        of_so_many.extend(&mask.changing);
    }
    let mut untold: BTreeSet<usize> = BTreeSet::new();
    for (said, mask) in members.iter().zip(&masks) {
        if let (Some(first), Some(mask)) = (said.first(), mask)
            && !is_told_by(first, &changing[&mask.words])
        {
            untold.insert(mask.words);
        }
    }
    let is_plain = masks
        .iter()
        .all(|mask| matches!(mask, Some(mask) if mask.changing.is_empty()));
    let told = members.iter().zip(&masks).map(|(said, mask)| {
        let first = said.first().map_or(&b""[..], |body| body);
        let (hash, changes) = match mask {
            None => (None, Changes::All),
            Some(_) if is_plain => (Some(hash(first)), Changes::Nothing),
            Some(mask) => {
                let changing = &changing[&mask.words];
                let changes = match mask.changing.len() {
                    0 => Changes::Nothing,
                    some => Changes::Words(some, mask.words),
                };
                let is_told = !untold.contains(&mask.words);
                let hash = is_told.then(|| hash(&blanked(first, changing)));
                (hash, changes)
            }
        };
        Body {
            bytes: first.len(),
            hash,
            changes,
        }
    });
    told.collect()
}

/// The number of the line, from 1, in which `other` differs first from `one`; words that change in either's bodies do not count.
pub(super) fn first_difference(one: &Said<'_>, other: &Said<'_>) -> Option<usize> {
    let changing: BTreeSet<usize> = masks(&[one.clone(), other.clone()])
        .into_iter()
        .flatten()
        .flat_map(|mask| mask.changing)
        .collect();
    let (mut before, mut after) = (words(one.first()?), words(other.first()?));
    let mut line = 1;
    for index in 0.. {
        let (before, after) = (before.next(), after.next());
        if before.is_none() && after.is_none() {
            return None;
        }
        if before != after && !changing.contains(&index) {
            // In a gap it is the line that the gap begins in, unless both go on alike.
            let alike = before
                .unwrap_or_default()
                .iter()
                .zip(after.unwrap_or_default());
            let alike = alike.take_while(|(before, after)| before == after);
            return Some(line + alike.filter(|(byte, _)| **byte == b'\n').count());
        }
        line += after.map_or(0, |word| word.iter().filter(|byte| **byte == b'\n').count());
    }
    None
}

/// Which words of a member's bodies change.
struct Mask {
    /// How many there are.
    words: usize,
    changing: BTreeSet<usize>,
}

/// `None`: its bodies have not even the same number of words.
fn masks(members: &[Said<'_>]) -> Vec<Option<Mask>> {
    let is_same = |said: &Said<'_>| said.windows(2).all(|pair| pair[0] == pair[1]);
    if members.iter().all(is_same) {
        let nothing = || Mask {
            words: 0,
            changing: BTreeSet::new(),
        };
        return members.iter().map(|_| Some(nothing())).collect();
    }
    members.iter().map(mask).collect()
}

fn mask(said: &Said<'_>) -> Option<Mask> {
    let first: Vec<_> = words(said.first()?).collect();
    let mut changing = BTreeSet::new();
    for other in &said[1..] {
        let mut count = 0;
        for (index, word) in words(other).enumerate() {
            if *first.get(index)? != word {
                changing.insert(index);
            }
            count += 1;
        }
        if count != first.len() {
            return None;
        }
    }
    Some(Mask {
        words: first.len(),
        changing,
    })
}

/// Whether enough of `body` is left without these words to say something of it: half of its words. What stands between does not count.
fn is_told_by(body: &[u8], changing: &BTreeSet<usize>) -> bool {
    let (mut all, mut left) = (0, 0);
    for (index, word) in words(body).enumerate() {
        if !word.first().is_some_and(|byte| is_between(*byte)) {
            all += 1;
            left += usize::from(!changing.contains(&index));
        }
    }
    left * 2 >= all
}

/// `body` with a zero in place of each of these words.
fn blanked(body: &[u8], changing: &BTreeSet<usize>) -> Vec<u8> {
    let mut blanked = Vec::with_capacity(body.len());
    for (index, word) in words(body).enumerate() {
        if changing.contains(&index) {
            blanked.push(0);
        } else {
            blanked.extend_from_slice(word);
        }
    }
    blanked
}

/// `body`, cut between words and what stands between them.
fn words(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.chunk_by(|one, other| is_between(*one) == is_between(*other))
}

/// What values end at in HTML, JSON and the like.
fn is_between(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"<>\"'&;,{}[]()=".contains(&byte)
}

fn hash(bytes: &[u8]) -> String {
    hexadecimal::digits(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said<'a>(bodies: &[&'a str]) -> Said<'a> {
        bodies
            .iter()
            .map(|it| Cow::Borrowed(it.as_bytes()))
            .collect()
    }

    fn same(one: &Body, other: &Body) -> bool {
        one.hash == other.hash
    }

    #[test]
    fn bodies_that_do_not_change_are_compared_as_they_are() {
        let told = compare(&[said(&["a", "a"]), said(&["a", "a"]), said(&["b", "b"])]);
        assert!(same(&told[0], &told[1]) && !same(&told[0], &told[2]));
        // As `sha256sum` has it.
        let of_a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(told[0].hash.as_deref(), Some(of_a));
        assert_eq!((told[0].bytes, told[0].changes), (1, Changes::Nothing));
    }

    #[test]
    fn words_that_change_from_answer_to_answer_are_not_compared() {
        let form = |token: &str, title: &str| {
            format!("<h1>{title}</h1>\n<input name=\"csrf\" value=\"{token}\">")
        };
        let (a, b, c) = (form("x1", "Shop"), form("x2", "Shop"), form("x3", "Shop 2"));
        let d = form("x4", "Shop 2");
        let members = [said(&[&a, &b]), said(&[&b, &a]), said(&[&c, &d])];
        let told = compare(&members);
        assert!(same(&told[0], &told[1]) && !same(&told[0], &told[2]));
        assert!(matches!(told[0].changes, Changes::Words(1, _)));
        assert_eq!(first_difference(&members[0], &members[1]), None);
        assert_eq!(first_difference(&members[0], &members[2]), Some(1));
    }

    #[test]
    fn what_changes_at_one_member_alone_makes_no_difference() {
        let told = compare(&[
            said(&["at 1 all well", "at 2 all well"]),
            said(&["at 2 all well", "at 2 all well"]),
        ]);
        assert!(same(&told[0], &told[1]));
        assert_eq!(told[1].changes, Changes::Nothing);
    }

    #[test]
    fn what_has_another_number_of_words_each_time_is_not_compared_at_all() {
        let told = compare(&[
            said(&["a", "a b"]),
            said(&["a", "a b c"]),
            said(&["a", "a"]),
        ]);
        assert_eq!(told[0].changes, Changes::All);
        assert!(same(&told[0], &told[1]) && !same(&told[0], &told[2]));
    }

    #[test]
    fn regression_bodies_of_which_more_than_half_changes_are_not_compared() {
        let told = compare(&[
            said(&["id 1 x 2 y", "id 3 z 4 u"]),
            said(&["id 5 v 6 w", "id 7 a 8 b"]),
            said(&["id 5 v 6 w", "id 5 v 6 w"]),
        ]);
        assert!(told.iter().all(|body| body.hash.is_none()), "{told:?}");
        assert_eq!(told[0].changes, Changes::Words(4, 9));
        assert_eq!(told[2].changes, Changes::Nothing);
        // Half of it is enough to tell them apart.
        let told = compare(&[said(&["at 1", "at 2"]), said(&["in 1", "in 2"])]);
        assert!(told[0].hash.is_some() && !same(&told[0], &told[1]));
    }

    #[test]
    fn what_is_ignored_is_left_out() {
        let ignored = [
            Regex::new("t=[0-9]+").unwrap(),
            Regex::new("(?m)^#.*$").unwrap(),
        ];
        assert_eq!(&*without(b"a t=12 b\n# c\nd", &ignored), b"a  b\n\nd");
        assert!(matches!(without(b"plain", &ignored), Cow::Borrowed(_)));
    }

    #[test]
    fn first_line_that_differs_is_named() {
        let line = |one, other| first_difference(&said(&[one]), &said(&[other]));
        assert_eq!(line("a\nb\nc", "a\nb\nd"), Some(3));
        assert_eq!(line("a\nb", "a\nb\nc"), Some(2));
        assert_eq!(line("a\n\n\nb", "a\nb"), Some(2));
        assert_eq!(line("", "a"), Some(1));
        assert_eq!(line("a", "a"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn words_are_all_there_is(body in prop::collection::vec(prop::sample::select(&b"ab <=\n"[..]), 0..40)) {
            prop_assert_eq!(words(&body).collect::<Vec<_>>().concat(), &body[..]);
            prop_assert_eq!(blanked(&body, &BTreeSet::new()), body);
        }

        #[test]
        fn members_whose_bodies_never_change_are_told_apart_exactly(
            bodies in prop::collection::vec(prop::collection::vec(prop::sample::select(&b"ab <\n"[..]), 0..6), 1..5)
        ) {
            let members: Vec<Said<'_>> = bodies.iter().map(|it| vec![Cow::Borrowed(&it[..]); 2]).collect();
            let told = compare(&members);
            for (one, body) in told.iter().zip(&bodies) {
                for (other, beside) in told.iter().zip(&bodies) {
                    prop_assert_eq!(same(one, other), body == beside);
                }
            }
            for (one, body) in members.iter().zip(&bodies) {
                for (other, beside) in members.iter().zip(&bodies) {
                    prop_assert_eq!(first_difference(one, other).is_none(), body == beside);
                }
            }
        }
    }
}
