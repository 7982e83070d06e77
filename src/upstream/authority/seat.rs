//! Who gets the seat of the authority, and what is said of it. On the control thread.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Instant, SystemTime};

use tracing::{info, warn};

use super::{Authority, CONTESTED, VACANT};
use crate::units::Name;
use crate::upstream::claims::{Claim, Member, Vacancy, Verdict, decide};
use crate::upstream::journal::Fact;
use crate::upstream::role::PassedOver;
use crate::upstream::{Endpoint, EndpointId, Upstream};

impl Upstream {
    /// Lets who alone claims to be the authority at `now` serve, or nobody. Returns whether that is another one. For the control
    /// thread.
    pub(in crate::upstream) fn seat(&self, now: Instant) -> bool {
        let Some(authority) = &self.authority else {
            return false;
        };
        let endpoints = self.endpoints.iter();
        let members: Vec<Member> = endpoints
            .map(|it| it.look(|state| authority.member(state, now)))
            .collect();
        let mut told = authority.seat.told();
        let lifetime = authority.lifetime();
        let place_of = |id| self.endpoints.iter().position(|it| it.id() == id);
        let before = told.holder.as_ref().and_then(|(id, _)| place_of(*id));
        let verdict = match told.ordered {
            None => decide(&members, before, lifetime),
            Some(holder) => match holder.and_then(place_of) {
                Some(index) => Verdict::Serves(index),
                None => Verdict::Nobody(Vacancy::Unclaimed),
            },
        };
        let claimants: Vec<&Endpoint> = members
            .iter()
            .zip(&self.endpoints)
            .filter(|(member, _)| member.claims(lifetime))
            .map(|(_, endpoint)| &**endpoint)
            .collect();
        let why = match verdict {
            Verdict::Serves(_) => None,
            Verdict::Nobody(vacancy) => Some(self.vacancy(authority, (vacancy, &claimants))),
        };
        let (holder, word) = match verdict {
            Verdict::Serves(index) => {
                let endpoint = &self.endpoints[index];
                // Before it is sent anything.
                endpoint.pass_over(None, false);
                if authority.seat.holder.load(Acquire) != endpoint.id().get() {
                    endpoint.set_ends_tunnels(false);
                }
                (Some(endpoint), endpoint.id().get())
            }
            Verdict::Nobody(Vacancy::Contested) => (None, CONTESTED),
            Verdict::Nobody(Vacancy::Unclaimed | Vacancy::Unheard) => (None, VACANT),
        };
        // From here on every pick goes there.
        let word_before = authority.seat.holder.swap(word, Release);
        for (endpoint, member) in self.endpoints.iter().zip(&members) {
            if holder.is_some_and(|holder| holder.id() == endpoint.id()) {
                continue;
            }
            let claims = member.claims(lifetime);
            let is_lapsed = matches!(member.claim, Claim::Made(_)) && !claims;
            let passed_over = match &why {
                Some(why) if claims => PassedOver::Held((**why).into()),
                _ if is_lapsed => PassedOver::Standby("its claim has lapsed".into()),
                _ => PassedOver::Standby(endpoint.look(|it| it.part.said.to_string()).into()),
            };
            endpoint.pass_over(Some(passed_over), why.is_some());
        }
        told.claimants = claimants.len();
        let holder = holder.map(|it| (it.id(), Name::clone(it.name())));
        let is_other = told.holder != holder;
        if is_other || told.why.as_deref() != why.as_deref() || told.since.is_none() {
            if is_other {
                self.metrics.count_authority_change();
                self.note_holder((&told.holder, &holder));
            }
            // That not all were heard yet is no news where nobody has served.
            if is_other || verdict != Verdict::Nobody(Vacancy::Unheard) {
                self.announce((&told.holder, &holder), why.as_deref());
            }
            told.holder = holder;
            told.why = why.map(Into::into);
            told.since = Some(SystemTime::now());
        }
        word != word_before
    }

    /// Why nobody serves, in words.
    fn vacancy(&self, authority: &Authority, (why, who): (Vacancy, &[&Endpoint])) -> String {
        let names: Vec<&str> = who.iter().map(|endpoint| &**endpoint.name()).collect();
        let names = match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} and {last}", others.join(", "))
            }
            _ => names.concat(),
        };
        match (why, &authority.source) {
            (Vacancy::Unclaimed, Some(_)) => "no endpoint claims to be the authority".to_owned(),
            (Vacancy::Unclaimed, None) => "every endpoint is disabled".to_owned(),
            (Vacancy::Unheard, _) if names.is_empty() => {
                "not every endpoint was heard yet".to_owned()
            }
            (Vacancy::Unheard, _) => {
                format!("{names} claims to be the authority, and not every other was heard yet")
            }
            (Vacancy::Contested, Some(_)) => format!("{names} claim to be the authority"),
            (Vacancy::Contested, None) => format!(
                "{names} are in use, and nothing says which of them is the authority; disable the others"
            ),
        }
    }

    fn note_holder(&self, (before, now): (&Option<Held>, &Option<Held>)) {
        for (held, serves) in [(before, false), (now, true)] {
            let Some((id, _)) = held else { continue };
            if let Some(endpoint) = self.endpoints.iter().find(|it| it.id() == *id) {
                endpoint.journal().note(Fact::Authority(serves));
            }
        }
    }

    fn announce(&self, (before, now): (&Option<Held>, &Option<Held>), why: Option<&str>) {
        let upstream = &self.name;
        let before = before.as_ref().map(|(_, name)| &**name);
        match (now, why) {
            (Some((_, endpoint)), _) if before != Some(endpoint) => {
                info!(%upstream, %endpoint, before, "endpoint is the authority");
            }
            (Some(_), _) => {}
            (None, reason) => {
                warn!(%upstream, before, reason, "no authority: requests are refused");
            }
        }
    }
}

/// Who serves.
type Held = (EndpointId, Name);
