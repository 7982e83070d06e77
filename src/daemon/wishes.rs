//! What operators want of endpoints beyond what the file says. The file beats it: where it says what an endpoint shall be, a
//! reload forgets what an operator wanted. By name: an endpoint that gets another address is wanted as before.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, Mode};
use crate::snapshot::plan::{ByOperator, SetByOperator};
use crate::units::Name;
use crate::upstream::Upstream;

/// Modes by upstream and endpoint, and sets by upstream.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes(HashMap<(Name, Name), Mode>, HashMap<Name, SetWish>);

/// The set that is to serve, and the one that the file named then: as long as it names that one, the wish holds.
#[derive(Clone, Debug, PartialEq)]
struct SetWish {
    set: Name,
    file: Name,
}

impl Wishes {
    /// Writes them into `config`, as it was read from its file, and forgets those that it contradicts or has no endpoint for.
    pub(super) fn lay_over(&mut self, config: &mut Config) {
        let mut left = std::mem::take(&mut self.0);
        let mut sets = std::mem::take(&mut self.1);
        for upstream in &mut config.upstreams {
            if let Some(wish) = sets.remove(&upstream.name)
                && upstream.active_set.as_ref() == Some(&wish.file)
                && upstream
                    .endpoints
                    .iter()
                    .any(|it| it.set.as_ref() == Some(&wish.set))
            {
                upstream.active_set = Some(Name::clone(&wish.set));
                self.1.insert(Name::clone(&upstream.name), wish);
            }
            for endpoint in &mut upstream.endpoints {
                let key = (Name::clone(&upstream.name), Name::clone(&endpoint.name));
                if let Some(mode) = left.remove(&key)
                    && endpoint.mode.is_none()
                {
                    endpoint.mode = Some(mode);
                    self.0.insert(key, mode);
                }
            }
        }
    }

    /// One more, in `config` too. False where that has no such endpoint.
    pub(super) fn set(
        &mut self,
        config: &mut Config,
        (upstream, endpoint): (&str, &str),
        mode: Mode,
    ) -> bool {
        let mut upstreams = config.upstreams.iter_mut();
        let found = upstreams.find(|other| *other.name == *upstream);
        let endpoint = found.and_then(|upstream| {
            let mut endpoints = upstream.endpoints.iter_mut();
            let endpoint = endpoints.find(|other| *other.name == *endpoint)?;
            Some((Name::clone(&upstream.name), endpoint))
        });
        let Some((upstream, endpoint)) = endpoint else {
            return false;
        };
        endpoint.mode = Some(mode);
        let key = (upstream, Name::clone(&endpoint.name));
        match mode {
            // As without a word.
            Mode::Active => self.0.remove(&key),
            Mode::Draining | Mode::Disabled => self.0.insert(key, mode),
        };
        true
    }

    /// The set of an upstream that is to serve, in `config` too.
    pub(super) fn set_active(&mut self, config: &mut Config, upstream: &str, set: &Name) {
        let mut upstreams = config.upstreams.iter_mut();
        let Some(found) = upstreams.find(|other| *other.name == *upstream) else {
            return;
        };
        let Some(active) = found.active_set.replace(Name::clone(set)) else {
            return;
        };
        let before = self.1.remove(&found.name);
        let file = before.map_or(active, |before| before.file);
        // As without a word.
        if file != *set {
            let set = Name::clone(set);
            self.1
                .insert(Name::clone(&found.name), SetWish { set, file });
        }
    }

    /// Tells each of `upstreams` which set the file names, where another one is wanted.
    pub(super) fn tell(&self, upstreams: &[Arc<Upstream>]) {
        for upstream in upstreams {
            let wish = self.1.get(&upstream.name);
            upstream.tell_file_set(wish.map(|wish| Name::clone(&wish.file)));
        }
    }

    /// What is wanted of sets, in order of the upstreams' names.
    pub(super) fn sets(&self) -> Vec<SetByOperator> {
        let wish = |(upstream, wish): (&Name, &SetWish)| SetByOperator {
            upstream: upstream.to_string(),
            set: wish.set.to_string(),
            file: wish.file.to_string(),
        };
        let mut list: Vec<_> = self.1.iter().map(wish).collect();
        list.sort_by(|a, b| a.upstream.cmp(&b.upstream));
        list
    }

    /// And these, as [`sets`](Self::sets) lists them.
    pub(super) fn with_sets(mut self, sets: &[SetByOperator]) -> Self {
        let wishes = sets.iter().map(|one| {
            let wish = SetWish {
                set: one.set.as_str().into(),
                file: one.file.as_str().into(),
            };
            (one.upstream.as_str().into(), wish)
        });
        self.1 = wishes.collect();
        self
    }

    /// What is wanted of one.
    pub(super) fn of(&self, upstream: &Name, endpoint: &Name) -> Option<Mode> {
        let key = (Name::clone(upstream), Name::clone(endpoint));
        self.0.get(&key).copied()
    }

    /// Those of a [`list`](Self::list).
    pub(super) fn listed(list: &[ByOperator]) -> Self {
        let modes = [Mode::Active, Mode::Draining, Mode::Disabled];
        let wish = |one: &ByOperator| {
            let mode = modes.into_iter().find(|mode| mode.as_str() == one.mode)?;
            Some((
                (one.upstream.as_str().into(), one.endpoint.as_str().into()),
                mode,
            ))
        };
        Self(list.iter().filter_map(wish).collect(), HashMap::new())
    }

    /// All, in order of their names.
    pub(super) fn list(&self) -> Vec<ByOperator> {
        let mut list: Vec<_> = self
            .0
            .iter()
            .map(|((upstream, endpoint), mode)| ByOperator {
                upstream: upstream.to_string(),
                endpoint: endpoint.to_string(),
                mode: mode.as_str().to_owned(),
            })
            .collect();
        list.sort_by(|a, b| (&a.upstream, &a.endpoint).cmp(&(&b.upstream, &b.endpoint)));
        list
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn config(endpoints: &str) -> Config {
        let text = format!(
            "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [{endpoints}]\n[[route]]\nupstream = \"app\"\n"
        );
        config::parse(&text, Path::new("f")).unwrap()
    }

    fn modes(config: &Config) -> Vec<Option<Mode>> {
        let endpoints = config.upstreams[0].endpoints.iter();
        endpoints.map(|endpoint| endpoint.mode).collect()
    }

    const A: &str = "{ name = \"a\", address = \"127.0.0.1:2\" }";
    const B: &str = "{ name = \"b\", address = \"127.0.0.1:3\" }";

    #[test]
    fn wish_survives_files_that_say_nothing_of_it() {
        let mut wishes = Wishes::default();
        let mut first = config(&format!("{A}, {B}"));
        assert!(wishes.set(&mut first, ("app", "b"), Mode::Draining));
        assert_eq!(modes(&first), [None, Some(Mode::Draining)]);
        // In another place, at another address.
        let mut next = config(&format!("{}, {A}", B.replace(":3", ":4")));
        wishes.lay_over(&mut next);
        assert_eq!(modes(&next), [Some(Mode::Draining), None]);
        assert!(!wishes.set(&mut next, ("app", "c"), Mode::Draining));
        assert!(!wishes.set(&mut next, ("ap", "a"), Mode::Draining));
    }

    #[test]
    fn file_that_says_what_an_endpoint_shall_be_ends_the_wish() {
        let mut wishes = Wishes::default();
        let mut first = config(A);
        wishes.set(&mut first, ("app", "a"), Mode::Disabled);
        let mut says = config(&A.replace(" }", ", state = \"active\" }"));
        wishes.lay_over(&mut says);
        assert_eq!(modes(&says), [Some(Mode::Active)]);
        let mut silent = config(A);
        wishes.lay_over(&mut silent);
        assert_eq!(modes(&silent), [None], "it is forgotten");
    }

    #[test]
    fn endpoint_that_was_gone_comes_back_without_it_and_so_does_one_resumed() {
        let mut wishes = Wishes::default();
        let mut first = config(&format!("{A}, {B}"));
        wishes.set(&mut first, ("app", "a"), Mode::Draining);
        wishes.set(&mut first, ("app", "b"), Mode::Draining);
        assert_eq!(wishes.list().len(), 2);
        assert_eq!(Wishes::listed(&wishes.list()).0, wishes.0);
        wishes.set(&mut first, ("app", "b"), Mode::Active);
        wishes.lay_over(&mut config(B));
        let mut back = config(&format!("{A}, {B}"));
        wishes.lay_over(&mut back);
        assert_eq!(modes(&back), [None, None]);
        assert!(wishes.list().is_empty());
    }

    #[test]
    fn set_that_an_operator_lets_serve_holds_as_long_as_the_file_names_the_same() {
        let (a, b) = (
            A.replace(" }", ", set = \"blue\" }"),
            B.replace(" }", ", set = \"green\" }"),
        );
        let file = |active: &str| {
            let text = format!(
                "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nactive_set = \"{active}\"\nendpoints = [{a}, {b}]\n[[route]]\nupstream = \"app\"\n"
            );
            config::parse(&text, Path::new("f")).unwrap()
        };
        let active = |config: &Config| config.upstreams[0].active_set.clone().unwrap();
        let mut wishes = Wishes::default();
        let mut running = file("blue");
        wishes.set_active(&mut running, "app", &"green".into());
        assert_eq!(&*active(&running), "green");
        let told = wishes.sets();
        wishes = Wishes::default().with_sets(&told);
        let mut next = file("blue");
        wishes.lay_over(&mut next);
        assert_eq!(&*active(&next), "green");
        // Back to what the file says: nothing is left to remember.
        wishes.set_active(&mut next, "app", &"blue".into());
        assert!(wishes.sets().is_empty());
        wishes.set_active(&mut next, "app", &"green".into());
        let mut other = file("green");
        wishes.lay_over(&mut other);
        assert!(wishes.sets().is_empty(), "the file says so itself");
        let mut back = file("blue");
        wishes.lay_over(&mut back);
        assert_eq!(&*active(&back), "blue");
    }
}
