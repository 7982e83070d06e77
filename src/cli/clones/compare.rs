//! Who says the same: members in groups by all that differs. Pure.

use std::time::Duration;

use http::Method;

use super::answers::{Aspect, BODY, Value, Wanted, aspects, said};
use super::ask::Rounds;
use super::body;
use super::members::Asked;

/// What came of asking everybody.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) aspects: Vec<Aspect>,
    /// By member.
    pub(super) times: Vec<Times>,
    /// Members that say the same, by their index, the largest group first. Who did not answer is in none.
    pub(super) groups: Vec<Group>,
}

/// Members that say the same.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Group {
    pub(super) members: Vec<usize>,
    /// The line in which their body differs first from the first group's.
    pub(super) line: Option<usize>,
}

/// How a member answered.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Times {
    /// How long it took, the shortest first.
    pub(super) took: Vec<Duration>,
    /// How often it did not answer.
    pub(super) failed: usize,
    /// Why, for the first of these.
    pub(super) why: Option<String>,
}

impl Compared {
    /// What was `answered` by the members of `asked`, in their order.
    pub(super) fn of(
        asked: &Asked,
        (method, wanted): (&Method, &Wanted<'_>),
        answered: &[Rounds],
    ) -> Self {
        let has_bodies = *method != Method::HEAD;
        let mut aspects = aspects(&asked.members, answered, (wanted, has_bodies));
        aspects.retain(|aspect| !aspect.is_none());
        let mut groups = groups(&aspects, answering(answered));
        let said = |member: usize| said(&answered[member], wanted.ignored);
        if has_bodies && let Some((first, others)) = groups.split_first_mut() {
            let most = said(first.members[0]);
            for group in others {
                group.line = body::first_difference(&most, &said(group.members[0]));
            }
        }
        Self {
            aspects,
            times: answered.iter().map(times).collect(),
            groups,
        }
    }

    /// Whether those who answered do not all say the same.
    pub(super) fn differs(&self) -> bool {
        self.groups.len() > 1
    }

    /// Whether they do; none where that cannot be told, or nobody has answered.
    pub(super) fn is_equal(&self) -> Option<bool> {
        let is_known = self.differs() || !self.groups.is_empty() && !self.is_untold();
        is_known.then(|| !self.differs())
    }

    /// Whether some of those who say the same say so little of it each time that it is not known of their bodies.
    pub(super) fn is_untold(&self) -> bool {
        let body = self.aspects.iter().find(|aspect| aspect.name == BODY);
        let is_told = |member: &usize| {
            let value = body.and_then(|body| body.values[*member].as_ref());
            value.is_none_or(|value| value.hash().is_some())
        };
        let mut groups = self.groups.iter().filter(|it| it.members.len() > 1);
        groups.any(|group| !group.members.iter().all(is_told))
    }

    /// Whether everybody answered, each time.
    pub(super) fn all_answered(&self) -> bool {
        self.times.iter().all(|times| times.failed == 0)
    }
}

fn times(rounds: &Rounds) -> Times {
    let mut took: Vec<_> = rounds.iter().flatten().map(|heard| heard.took).collect();
    took.sort_unstable();
    Times {
        failed: rounds.len() - took.len(),
        why: rounds
            .iter()
            .find_map(|heard| heard.as_ref().err().cloned()),
        took,
    }
}

/// Who has answered at least once.
fn answering(answered: &[Rounds]) -> impl Iterator<Item = usize> {
    let has_answered = |rounds: &Rounds| rounds.iter().any(Result::is_ok);
    let members = answered.iter().enumerate();
    members.filter_map(move |(member, rounds)| has_answered(rounds).then_some(member))
}

fn groups(aspects: &[Aspect], members: impl Iterator<Item = usize>) -> Vec<Group> {
    let mut groups: Vec<(Vec<&str>, Group)> = Vec::new();
    for member in members {
        let of_member = aspects.iter().map(|aspect| aspect.values[member].as_ref());
        let keys: Option<Vec<&str>> = of_member
            .map(|it: Option<&Value>| Some(&*it?.key))
            .collect();
        let Some(keys) = keys else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == keys) {
            Some((_, group)) => group.members.push(member),
            None => groups.push((
                keys,
                Group {
                    members: vec![member],
                    line: None,
                },
            )),
        }
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(_, group)| group).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aspect(name: &str, values: &[Option<&str>]) -> Aspect {
        let value = |text: &str| Value {
            key: text.to_owned(),
            text: text.to_owned(),
            changes: None,
        };
        Aspect {
            name: name.to_owned(),
            values: values.iter().map(|it| it.map(value)).collect(),
        }
    }

    #[test]
    fn members_are_grouped_by_all_they_say_and_the_largest_group_comes_first() {
        let aspects = [
            aspect(
                "status",
                &[Some("200"), Some("200"), None, Some("200"), Some("500")],
            ),
            aspect("body", &[Some("x"), Some("y"), None, Some("y"), Some("y")]),
        ];
        let members: Vec<_> = groups(&aspects, [0, 1, 3, 4].into_iter())
            .into_iter()
            .map(|it| it.members)
            .collect();
        assert_eq!(members, [vec![1, 3], vec![0], vec![4]]);
    }
}
