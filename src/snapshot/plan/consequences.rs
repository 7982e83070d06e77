//! What taking a configuration over would do to who serves now, and whether that is to be refused. Compares; changes nothing.

use super::Side;
use super::held::HeldOut;
use super::serving::Serving;
use crate::config::Problem;
use crate::snapshot::Snapshot;

/// What would become of who serves.
#[derive(Debug)]
pub struct Consequences {
    held_out: Vec<HeldOut>,
    serving: Vec<Serving>,
}

impl Consequences {
    /// Of taking `next` over.
    pub fn between(running: &Snapshot, next: Side<'_>) -> Self {
        Self {
            held_out: HeldOut::between(running, next),
            serving: Serving::between(running, next),
        }
    }

    /// Why it is not taken over unless somebody insists: nobody would be left to take requests, or they would go where nobody has
    /// sent them.
    pub fn refusals(&self) -> Vec<Problem> {
        let held_out = self.held_out.iter().filter_map(HeldOut::refusal);
        let serving = self.serving.iter().filter_map(Serving::refusal);
        held_out.chain(serving).collect()
    }

    /// All of it, in a line each, for who takes it over.
    pub fn told(&self) -> Vec<String> {
        let held_out = self.held_out.iter().map(ToString::to_string);
        let serving = self.serving.iter().map(ToString::to_string);
        held_out.chain(serving).collect()
    }

    /// What a plan warns of: which set serves is among what it shows to be different.
    pub fn warnings(&self) -> Vec<String> {
        let held_out = self.held_out.iter().filter(|it| it.refusal().is_none());
        let held_out = held_out.map(ToString::to_string);
        let refusals = self.refusals().into_iter();
        let refusals = refusals.map(|it| format!("a reload would be refused: {it}"));
        held_out.chain(refusals).collect()
    }
}
