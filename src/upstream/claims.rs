//! Who serves where one endpoint of several does: by what each says of its role, and how long ago it said so. Pure.

use std::time::Duration;

/// What an endpoint says of its role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// That it is the authority; so long ago.
    Made(Duration),
    /// That it is not, or nothing where it should, or it is surely not there.
    None,
    /// Nothing was heard of it yet, since so long.
    Unheard(Duration),
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// What it says.
    pub claim: Claim,
    /// The operator has taken it out: whatever it said counts no more.
    pub is_disabled: bool,
}

/// Who serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The one at this index.
    Serves(usize),
    /// Nobody, and why.
    Nobody(Vacancy),
}

/// Why nobody serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Vacancy {
    /// Nobody claims to be the authority.
    Unclaimed,
    /// At most one does, and another one may: it was not heard yet.
    Unheard,
    /// Several do.
    Contested,
}

impl Member {
    /// Whether its claim counts: it was made less than `lifetime` ago.
    pub fn claims(&self, lifetime: Duration) -> bool {
        !self.is_disabled && matches!(self.claim, Claim::Made(age) if age < lifetime)
    }

    fn may_claim(&self, lifetime: Duration) -> bool {
        !self.is_disabled && matches!(self.claim, Claim::Unheard(since) if since < lifetime)
    }
}

/// Who of `members` serves: who alone claims it. `holder` has served until now.
///
/// A claim counts for `lifetime`, whatever has become since of who made it: one that cannot be asked may go on as the authority. For
/// as long nobody new serves while somebody was not heard yet; who serves already goes on.
pub fn decide(members: &[Member], holder: Option<usize>, lifetime: Duration) -> Verdict {
    let indices = 0..members.len();
    let mut claimants = indices.filter(|index| members[*index].claims(lifetime));
    let all_heard = || !members.iter().any(|it| it.may_claim(lifetime));
    match (claimants.next(), claimants.next()) {
        (Some(_), Some(_)) => Verdict::Nobody(Vacancy::Contested),
        (Some(only), None) if holder == Some(only) || all_heard() => Verdict::Serves(only),
        (None, _) if all_heard() => Verdict::Nobody(Vacancy::Unclaimed),
        (Some(_) | None, None) | (None, Some(_)) => Verdict::Nobody(Vacancy::Unheard),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(20);

    fn member(claim: Claim) -> Member {
        Member {
            claim,
            is_disabled: false,
        }
    }

    fn made(seconds: u64) -> Member {
        member(Claim::Made(Duration::from_secs(seconds)))
    }

    fn unheard(seconds: u64) -> Member {
        member(Claim::Unheard(Duration::from_secs(seconds)))
    }

    fn disabled(member: Member) -> Member {
        Member {
            is_disabled: true,
            ..member
        }
    }

    #[test]
    fn serves_who_alone_claims_and_nobody_where_that_is_not_known() {
        use Vacancy::{Contested, Unclaimed, Unheard};
        let no = member(Claim::None);
        for (members, holder, expected) in [
            (&[made(0), no][..], None, Ok(0)),
            (&[no, made(0)], Some(0), Ok(1)),
            (&[no, no], Some(0), Err(Unclaimed)),
            (&[], None, Err(Unclaimed)),
            (&[made(0), made(0)], Some(0), Err(Contested)),
            (&[made(0), made(0), no], None, Err(Contested)),
            // One that was not heard of for a while may go on all the same; not for ever.
            (&[made(19), made(0)], Some(0), Err(Contested)),
            (&[made(20), made(0)], Some(0), Ok(1)),
            (&[made(20), no], Some(0), Err(Unclaimed)),
            // One that is disabled does not.
            (&[disabled(made(1)), made(0)], Some(0), Ok(1)),
            (&[disabled(made(1)), no], Some(0), Err(Unclaimed)),
            // Who was not heard yet may claim it, too.
            (&[made(0), unheard(0)], None, Err(Unheard)),
            (&[made(0), unheard(19)], None, Err(Unheard)),
            (&[made(0), unheard(20)], None, Ok(0)),
            (&[made(0), disabled(unheard(0))], None, Ok(0)),
            (&[made(0), unheard(0)], Some(0), Ok(0)),
            (&[made(0), unheard(0)], Some(1), Err(Unheard)),
            (&[no, unheard(0)], None, Err(Unheard)),
            (&[no, unheard(20)], None, Err(Unclaimed)),
        ] {
            let expected = match expected {
                Ok(index) => Verdict::Serves(index),
                Err(why) => Verdict::Nobody(why),
            };
            assert_eq!(decide(members, holder, LIFETIME), expected, "{members:?}");
        }
    }

    fn any_member() -> impl Strategy<Value = Member> {
        let claim = prop_oneof![
            (0..40_u64).prop_map(|it| Claim::Made(Duration::from_secs(it))),
            Just(Claim::None),
            (0..40_u64).prop_map(|it| Claim::Unheard(Duration::from_secs(it))),
        ];
        (claim, any::<bool>()).prop_map(|(claim, is_disabled)| Member { claim, is_disabled })
    }

    proptest! {
        #[test]
        fn never_one_that_does_not_claim_nor_one_of_two(
            members in prop::collection::vec(any_member(), 0..6),
            holder in prop::option::of(0..6_usize),
        ) {
            let claimants: Vec<usize> = (0..members.len())
                .filter(|index| {
                    let Member { claim, is_disabled } = members[*index];
                    !is_disabled && matches!(claim, Claim::Made(age) if age < LIFETIME)
                })
                .collect();
            match decide(&members, holder, LIFETIME) {
                Verdict::Serves(index) => prop_assert_eq!(claimants, [index]),
                Verdict::Nobody(Vacancy::Unclaimed) => prop_assert!(claimants.is_empty()),
                Verdict::Nobody(Vacancy::Contested) => prop_assert!(claimants.len() > 1),
                Verdict::Nobody(Vacancy::Unheard) => {
                    prop_assert!(claimants.len() < 2);
                    prop_assert!(holder.is_none_or(|holder| !claimants.contains(&holder)));
                }
            }
        }

        #[test]
        fn time_alone_makes_nobody_serve_who_was_not_alone_or_was_not_all_that_was_heard(
            members in prop::collection::vec(any_member(), 1..6),
            later in 0..40_u64,
        ) {
            let later = Duration::from_secs(later);
            let aged: Vec<Member> = members
                .iter()
                .map(|it| Member {
                    claim: match it.claim {
                        Claim::Made(age) => Claim::Made(age + later),
                        Claim::None => Claim::None,
                        Claim::Unheard(since) => Claim::Unheard(since + later),
                    },
                    ..*it
                })
                .collect();
            // Whoever serves after a time of silence claimed it before that as well.
            if let Verdict::Serves(index) = decide(&aged, None, LIFETIME) {
                prop_assert!(members[index].claims(LIFETIME));
            }
        }
    }
}
