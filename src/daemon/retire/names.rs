//! Whose series stay. Names only.

use std::collections::HashSet;

use super::Gone;
use crate::daemon::owners;
use crate::metrics::owners::Owners;
use crate::snapshot::Snapshot;
use crate::units::Name;

/// Names of all that has series.
#[derive(Debug)]
pub(super) struct Names<'a> {
    pub(super) owners: Owners<'a>,
    /// Routes.
    pub(super) mirrors: HashSet<&'a str>,
    /// Listener and label.
    pub(super) certificates: HashSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    /// Of all that `snapshot` has.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let (listeners, routes) = (snapshot.listeners.iter(), snapshot.routes.iter());
        let mirrored = routes.filter(|route| route.mirror.is_some());
        let certificates = listeners.flat_map(|listener| {
            let certificates = listener.certificates.iter();
            certificates.map(|certificate| (&*listener.name, &*certificate.label))
        });
        Self {
            owners: owners::of(snapshot),
            mirrors: mirrored.map(|route| &*route.name).collect(),
            certificates: certificates.collect(),
        }
    }

    /// And of what is `gone`.
    pub(super) fn add(&mut self, gone: &'a Gone) {
        let owners = gone.owners();
        self.owners.listeners.extend(owners.listeners);
        self.owners.endpoints.extend(owners.endpoints);
        self.owners.upstreams.extend(owners.upstreams);
        self.owners.routes.extend(owners.routes);
        self.mirrors.extend(gone.mirrors.iter().map(text));
        let certificates = gone.certificates.iter();
        self.certificates
            .extend(certificates.map(|(listener, label)| (&**listener, &**label)));
    }
}

fn text(name: &Name) -> &str {
    name
}
