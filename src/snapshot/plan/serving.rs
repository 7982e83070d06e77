//! Which upstreams' requests a configuration would send to another set of endpoints than the one that serves, and whose flip would
//! end by it. Compares; changes nothing.

use std::fmt;

use super::Side;
use crate::config::{self, Difference, Place, Problem};
use crate::snapshot::Snapshot;
use crate::units::Name;
use crate::upstream::Upstream;

/// An upstream of which another set would serve, or whose flip would end.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    /// Which.
    pub(super) upstream: Name,
    /// Where that stands in the file.
    place: Place,
    /// The set that serves, and the one that would; none where it is the same one.
    moved: Option<(Name, Name)>,
    /// Whether nobody has said so: the set that serves is gone, and the file names the one that it has named before.
    is_unsaid: bool,
    /// From which to which set a flip is under way that would end.
    flip: Option<(Name, Name)>,
    /// Why: the file has no endpoint of this set.
    gone: Option<Name>,
}

impl Serving {
    /// Every upstream of `next` to which that would happen, in the order of the file.
    pub(super) fn between(running: &Snapshot, next: Side<'_>) -> Vec<Self> {
        let found = next.config.upstreams.iter().filter_map(|configured| {
            let mut upstreams = running.upstreams.iter();
            let upstream = upstreams.find(|it| it.name == configured.name)?;
            Self::of(upstream, configured)
        });
        found.collect()
    }

    fn of(upstream: &Upstream, next: &config::Upstream) -> Option<Self> {
        let serves = upstream.active_set()?;
        let is_gone = |set: &&Name| {
            !next
                .endpoints
                .iter()
                .any(|it| it.set.as_ref() == Some(*set))
        };
        let would = next.active_set.clone().filter(|would| *would != serves);
        let flip = upstream.last_flip().filter(|flip| !flip.phase.is_over());
        let flip = flip.map(|flip| (flip.from, flip.to));
        let flip = flip.filter(|(from, to)| {
            would.is_some() || next.active_set.is_none() || [from, to].iter().any(is_gone)
        });
        if would.is_none() && flip.is_none() {
            return None;
        }
        let gone = match &would {
            Some(_) => Some(&serves).filter(is_gone),
            None => {
                let mut sets = flip.iter().flat_map(|(from, to)| [from, to]);
                sets.find(is_gone)
            }
        };
        Some(Self {
            upstream: Name::clone(&upstream.name),
            place: next.place.clone(),
            is_unsaid: would.is_some() && upstream.file_set() == would && gone.is_some(),
            gone: gone.cloned(),
            moved: would.map(|would| (serves, would)),
            flip,
        })
    }

    /// Why it is not taken over unasked: requests would go where nobody has sent them.
    pub(super) fn refusal(&self) -> Option<Problem> {
        let (_, would) = self.moved.as_ref().filter(|_| self.is_unsaid)?;
        Some(self.place.problem(format!(
            "{self}, and active_set is what it was; flip to {would:?} first, name another set there, or insist with `--force`"
        )))
    }

    /// What would be different, as a plan shows it.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let gone = self.gone.as_ref();
        let gone = gone.map_or_else(String::new, |it| {
            format!(" (set {it:?} is gone from the file)")
        });
        let moved = self.moved.iter().map(|(serves, would)| {
            let (serves, would) = (format!("set {serves:?}"), format!("{would:?}{gone}"));
            Difference::new("serves", serves, would)
        });
        let flip = self.flip.iter().map(|(from, to)| {
            // It is said once why.
            let why = if self.moved.is_some() { "" } else { &gone };
            let flip = format!("from {from:?} to {to:?} under way");
            Difference::new("flip", flip, format!("overtaken{why}"))
        });
        moved.chain(flip).collect()
    }
}

/// `app: serves: set "green" -> "blue" (set "green" is gone from the file)`
impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences = self.differences();
        let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
        write!(f, "{}: {}", self.upstream, differences.join("; "))
    }
}
