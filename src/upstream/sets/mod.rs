//! Sets of endpoints of which one serves, such as blue and green: which of them requests go to, and what share of them to
//! another one. One store decides for every request that comes after it. Has no clock, and decides nothing by itself.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

use super::flip::Flip;
use super::journal::Fact;
use super::{Endpoint, Upstream, Wish};
use crate::balance::{Cursor, Policy};
use crate::lock::lock;
use crate::units::Name;

/// An upstream's sets, as one snapshot has them.
#[derive(Debug)]
pub struct Division {
    /// Which of them serve; the same through all generations.
    pub sets: Arc<Sets>,
    /// The policy that is not in use, or picks in the set that gets a share: a change of sets is a change of policies, so that
    /// the very first request after it finds one that knows who is eligible.
    pub spare: Policy,
}

/// A set within its upstream; 0 is none.
pub(super) type SetId = u16;

/// Which sets serve, and what came of the last attempt to change that.
#[derive(Debug)]
pub struct Sets {
    /// [`Now`], packed. Written by the control thread, read by every pick. Release and acquire: whoever sees another policy in
    /// use sees it as it was made ready before.
    now: AtomicU64,
    /// Counts requests while they are shared between two sets. Written by workers; relaxed: the number alone matters.
    turn: AtomicUsize,
    /// Counts requests that nobody had room for. Written by workers when there is one, read by the control thread; relaxed, too.
    refused: AtomicU64,
    /// Where the spare policy stands.
    cursor: Cursor,
    /// What was ever called a set here; its place is its number. The control thread's own.
    names: Mutex<Vec<Name>>,
    /// The last flip. Written by the daemon, read for the status.
    flip: Mutex<Option<Flip>>,
    /// The one that the file names, while another serves as an operator wants. Likewise.
    file: Mutex<Option<Name>>,
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            now: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            cursor: Cursor::new(0),
            names: Mutex::default(),
            flip: Mutex::default(),
            file: Mutex::default(),
        }
    }
}

/// Where requests go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Now {
    /// The set that serves.
    serves: SetId,
    /// The one that gets a share; nobody where that is 0.
    next: SetId,
    /// Of a hundred requests. With 0 it is asked where nobody of the set that serves is left: while endpoints change sets.
    percent: u8,
    /// Whether the set that serves is picked from by the spare policy, and the other by the upstream's own.
    swapped: bool,
}

impl Now {
    fn packed(self) -> u64 {
        u64::from(self.serves)
            | u64::from(self.next) << 16
            | u64::from(self.percent) << 32
            | u64::from(self.swapped) << 40
    }

    fn unpacked(bits: u64) -> Self {
        Self {
            serves: bits as u16,
            next: (bits >> 16) as u16,
            percent: (bits >> 32) as u8,
            swapped: bits >> 40 & 1 == 1,
        }
    }

    fn is_shared(self) -> bool {
        self.percent > 0 && self.next != 0
    }

    fn all(self) -> Open {
        Open::Only(
            self.serves,
            match self.next {
                0 => self.serves,
                next => next,
            },
        )
    }
}

/// The sets that a request may go to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Open {
    /// There are none: every endpoint.
    Any,
    /// These two, or this one twice.
    Only(SetId, SetId),
}

impl Open {
    pub(super) fn takes(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Any => true,
            Self::Only(one, other) => {
                let set = endpoint.set();
                set == one || set == other
            }
        }
    }

    /// And those of `set`; of three the second is left out.
    fn and(self, set: SetId) -> Self {
        match self {
            Self::Only(one, other) if set != one && set != other => Self::Only(one, set),
            Self::Any | Self::Only(..) => self,
        }
    }
}

/// How one request is picked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'u> {
    pub(super) policy: &'u Policy,
    pub(super) cursor: &'u Cursor,
    /// Where it goes.
    pub(super) open: Open,
    /// Where a client that was kept with an endpoint may stay.
    pub(super) all: Open,
}

impl Sets {
    /// How many requests have found no room so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn now(&self) -> Now {
        Now::unpacked(self.now.load(Acquire))
    }

    /// Whether a request, of this key where it has one, is one of the `percent` that go to the other set. Who has the same key
    /// goes the same way.
    fn is_drawn(&self, percent: u8, key: Option<u64>, is_real: bool) -> bool {
        let percent = usize::from(percent);
        match key {
            // Not the bits by which the policy goes.
            Some(key) => (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100 < percent as u64,
            None => {
                let turn = match is_real {
                    true => self.turn.fetch_add(1, Relaxed),
                    false => self.turn.load(Relaxed),
                } % 100;
                // Spread evenly over every hundred.
                (turn + 1) * percent / 100 > turn * percent / 100
            }
        }
    }

    /// The number of the set `name`, from 1; the same for the same name as long as the process lives.
    fn id(&self, name: &Name) -> SetId {
        let mut names = lock(&self.names);
        let place = names.iter().position(|known| known == name);
        let place = place.unwrap_or_else(|| {
            names.push(Arc::clone(name));
            names.len() - 1
        });
        SetId::try_from(place + 1).unwrap_or(SetId::MAX)
    }

    fn name(&self, id: SetId) -> Option<Name> {
        let place = usize::from(id).checked_sub(1)?;
        lock(&self.names).get(place).cloned()
    }

    fn flip(&self) -> Option<Flip> {
        lock(&self.flip).clone()
    }

    fn tell(&self, flip: Flip) {
        *lock(&self.flip) = Some(flip);
    }
}

impl Upstream {
    /// How a request of this wish is picked for; one that is only asked about takes no turn.
    pub(super) fn way(&self, wish: &Wish, is_real: bool) -> Way<'_> {
        let Some(division) = &self.division else {
            return Way {
                policy: &self.policy,
                cursor: &self.cursor,
                open: Open::Any,
                all: Open::Any,
            };
        };
        let sets = &division.sets;
        let now = sets.now();
        let is_next = now.is_shared() && sets.is_drawn(now.percent, wish.key, is_real);
        let set = if is_next { now.next } else { now.serves };
        let (policy, cursor) = match now.swapped != is_next {
            false => (&self.policy, &*self.cursor),
            true => (&division.spare, &sets.cursor),
        };
        Way {
            policy,
            cursor,
            open: Open::Only(set, set),
            all: now.all(),
        }
    }

    /// The policy that picks in the set that serves.
    pub(super) fn policy_in_use(&self) -> &Policy {
        match &self.division {
            Some(division) if division.sets.now().swapped => &division.spare,
            _ => &self.policy,
        }
    }

    /// The sets that requests go to, each by itself.
    pub(super) fn each_open(&self) -> Vec<Open> {
        let Some(division) = &self.division else {
            return vec![Open::Any];
        };
        let now = division.sets.now();
        let mut each = vec![Open::Only(now.serves, now.serves)];
        if now.is_shared() {
            each.push(Open::Only(now.next, now.next));
        }
        each
    }

    /// All of them together.
    pub(super) fn open(&self) -> Open {
        let division = self.division.as_ref();
        division.map_or(Open::Any, |it| it.sets.now().all())
    }

    /// Whether `endpoint`, one of its own, is of a set that no request goes to.
    pub fn is_standby(&self, endpoint: &Endpoint) -> bool {
        !self.open().takes(endpoint)
    }

    /// Whether two of its endpoints serve together, if they do.
    pub fn is_together(&self, one: &Endpoint, other: &Endpoint) -> bool {
        self.division.is_none() || one.set() == other.set()
    }

    /// The state of `endpoint`, one of its own, in a word.
    pub fn word(&self, endpoint: &Endpoint) -> &'static str {
        endpoint.state().word_of(self.is_standby(endpoint))
    }

    /// The set that serves, where there are sets.
    pub fn active_set(&self) -> Option<Name> {
        let sets = &self.division.as_ref()?.sets;
        sets.name(sets.now().serves)
    }

    /// The set that gets a share, and how much of a hundred.
    pub fn next_set(&self) -> Option<(Name, u8)> {
        let sets = &self.division.as_ref()?.sets;
        let now = sets.now();
        let name = sets.name(now.next)?;
        now.is_shared().then_some((name, now.percent))
    }

    /// How many of a hundred requests go to the set `name`.
    pub fn percent_of(&self, name: &str) -> u8 {
        let next = self.next_set();
        let (next, percent) = next.map_or((None, 0), |(next, percent)| (Some(next), percent));
        if next.is_some_and(|next| *next == *name) {
            percent
        } else if self.active_set().is_some_and(|active| *active == *name) {
            100 - percent
        } else {
            0
        }
    }

    /// A request has found no room, and has waited for some as long as it may.
    pub fn note_refused(&self) {
        if let Some(division) = &self.division {
            division.sets.refused.fetch_add(1, Relaxed);
        }
    }

    /// What the last flip has come to, or how far it is.
    pub fn last_flip(&self) -> Option<Flip> {
        self.division.as_ref()?.sets.flip()
    }

    /// The set that the file in use names, where another one serves as an operator wants.
    pub fn file_set(&self) -> Option<Name> {
        lock(&self.division.as_ref()?.sets.file).clone()
    }

    /// The set that `endpoint`, one of its own, is in.
    pub fn set_of(&self, endpoint: &Endpoint) -> Option<Name> {
        self.division.as_ref()?.sets.name(endpoint.set())
    }

    /// Every set that one of its endpoints is in, in the order of the file.
    pub fn set_names(&self) -> Vec<Name> {
        let mut names = Vec::new();
        for name in self.endpoints.iter().filter_map(|it| self.set_of(it)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Its endpoints that are in the set `name`.
    pub fn members(&self, name: &str) -> impl Iterator<Item = &Arc<Endpoint>> {
        let id = self.division.as_ref().map(|it| it.sets.id(&name.into()));
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| Some(endpoint.set()) == id)
    }

    /// Says how far a flip is.
    pub fn tell_flip(&self, flip: &Flip) {
        if let Some(division) = &self.division {
            division.sets.tell(flip.clone());
        }
    }

    /// Says which set the file names where another one serves.
    pub fn tell_file_set(&self, set: Option<Name>) {
        if let Some(division) = &self.division {
            *lock(&division.sets.file) = set;
        }
    }

    /// Puts each of its endpoints into the one of `sets` at its place, and lets the set `name` serve, as the file or an operator
    /// says; before the refresh. Requests that are shared go on being shared, as long as somebody is left in both sets.
    ///
    /// An older generation shares endpoints and goes on picking meanwhile: at no moment is nobody in the set that serves. Without
    /// sets endpoints stay where they are, for that generation's sake.
    pub fn divide<'n>(&self, sets: impl Iterator<Item = Option<&'n Name>>, name: Option<&Name>) {
        let (Some(division), Some(name)) = (&self.division, name) else {
            return;
        };
        let ids = sets.map(|set| set.map_or(0, |set| division.sets.id(set)));
        let ids: Vec<_> = self.endpoints.iter().zip(ids).collect();
        let (sets, before) = (&division.sets, division.sets.now());
        let (serves, serving) = (sets.id(name), self.serving());
        if before.serves != serves {
            // Those who have moved already are asked once nobody else is left.
            let both = Now {
                next: serves,
                percent: 0,
                ..before
            };
            sets.now.store(both.packed(), Release);
        }
        let is_coming = |(_, id): &&(&Arc<Endpoint>, SetId)| *id == serves;
        let coming = ids.iter().filter(is_coming);
        for (endpoint, id) in coming.chain(ids.iter().filter(|it| !is_coming(it))) {
            endpoint.set_set(*id);
        }
        let has_next = self.endpoints.iter().any(|it| it.set() == before.next);
        if before.serves != serves || (before.is_shared() && !has_next) {
            let now = Now {
                serves,
                swapped: before.swapped,
                ..Now::default()
            };
            sets.now.store(now.packed(), Release);
        }
        self.note_serving(&serving);
    }

    /// Sends all requests to the set `name`: one store, and every pick after it goes there. The control thread's.
    pub fn switch(&self, name: &str) {
        let Some(division) = &self.division else {
            return;
        };
        let (sets, before) = (&division.sets, division.sets.now());
        let serves = sets.id(&name.into());
        if self.members(name).next().is_none() {
            // Nobody is sent where nobody is.
            return;
        }
        if before.serves == serves {
            self.share(name, 0);
            return;
        }
        let swapped = !before.swapped;
        let serving = self.serving();
        self.prepare(swapped, serves);
        self.prepare_sides(serves);
        let now = Now {
            serves,
            swapped,
            ..Now::default()
        };
        sets.now.store(now.packed(), Release);
        self.refresh();
        self.note_serving(&serving);
    }

    /// Sends so many of a hundred requests to the set `name`, and the others where they went before. The control thread's.
    pub fn share(&self, name: &str, percent: u8) {
        let Some(division) = &self.division else {
            return;
        };
        let (sets, before) = (&division.sets, division.sets.now());
        let (next, serving) = (sets.id(&name.into()), self.serving());
        if self.members(name).next().is_none() {
            return;
        }
        if percent == 0 {
            // The spare policy picks for those who get a share until they get none.
            let now = Now {
                next: 0,
                percent,
                ..before
            };
            sets.now.store(now.packed(), Release);
            self.refresh();
            self.note_serving(&serving);
            return;
        }
        self.prepare(!before.swapped, next);
        self.prepare_sides(next);
        let now = Now {
            next,
            percent: percent.min(100),
            ..before
        };
        sets.now.store(now.packed(), Release);
        self.refresh();
        self.note_serving(&serving);
    }

    /// Sends requests where another process does: all to the set `name`, but for so many of a hundred that go to `next`.
    pub fn obey(&self, name: &str, next: Option<(&str, u8)>) {
        // A share that goes on is not taken away in between.
        if next.is_none() || self.active_set().is_none_or(|active| *active != *name) {
            self.switch(name);
        }
        if let Some((next, percent)) = next {
            self.share(next, percent);
        }
    }

    /// Those of its endpoints that were in a set before, each with whether that gets requests.
    fn serving(&self) -> Vec<(&Endpoint, bool)> {
        let open = self.open();
        let known = self.endpoints.iter().filter(|it| it.set() != 0);
        known.map(|it| (&**it, open.takes(it))).collect()
    }

    /// Notes with endpoints whose set has begun to get requests, or gets none any more, since it was as in `before`.
    fn note_serving(&self, before: &[(&Endpoint, bool)]) {
        let now = self.open();
        for (endpoint, served) in before {
            let serves = now.takes(endpoint);
            if serves != *served {
                endpoint.journal().note(Fact::Serves(serves));
            }
        }
    }

    /// Makes a policy that is not in use ready for a set.
    fn prepare(&self, swapped: bool, set: SetId) {
        let policy = match (&self.division, swapped) {
            (Some(division), true) => &division.spare,
            _ => &self.policy,
        };
        let open = Open::Only(set, set);
        policy.refresh(&self.endpoints, |endpoint| {
            self.is_eligible_in(open, endpoint)
        });
    }

    /// Makes the sides of versions ready for `set` beside those that requests go to. Each pick looks who of them it may have.
    fn prepare_sides(&self, set: SetId) {
        self.refresh_sides(self.open().and(set));
    }

    /// Makes the policies in use ready for who is eligible now.
    pub(super) fn refresh_policies(&self) {
        let Some(division) = &self.division else {
            let is_eligible = |endpoint: &Arc<Endpoint>| self.is_eligible(endpoint);
            self.policy.refresh(&self.endpoints, is_eligible);
            return;
        };
        let now = division.sets.now();
        self.prepare(now.swapped, now.serves);
        if now.is_shared() {
            self.prepare(!now.swapped, now.next);
        }
    }
}

#[cfg(test)]
mod tests;
