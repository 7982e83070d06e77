//! Whose series stay. Names only.

use std::collections::HashSet;
use std::sync::Arc;

use super::Gone;
use crate::snapshot::Snapshot;
use crate::units::Name;
use crate::upstream::Endpoint;

/// Names of all that has series.
#[derive(Debug)]
pub(super) struct Names<'a> {
    pub(super) listeners: HashSet<&'a str>,
    /// Each with its upstream's name before its own.
    pub(super) endpoints: HashSet<(&'a str, &'a str)>,
    pub(super) upstreams: HashSet<&'a str>,
    pub(super) routes: HashSet<&'a str>,
    /// Routes.
    pub(super) mirrors: HashSet<&'a str>,
    /// Listener and label.
    pub(super) certificates: HashSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    /// Of all that `snapshot` has.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let (listeners, routes) = (&snapshot.listeners, &snapshot.routes);
        let mirrored = routes.iter().filter(|route| route.mirror.is_some());
        let certificates = listeners.iter().flat_map(|listener| {
            let certificates = listener.certificates.iter();
            certificates.map(|certificate| (&*listener.name, &*certificate.label))
        });
        Self {
            listeners: listeners.iter().map(|listener| &*listener.name).collect(),
            endpoints: all_endpoints(snapshot)
                .map(|endpoint| (&**endpoint.upstream(), &**endpoint.name()))
                .collect(),
            upstreams: snapshot.upstreams.iter().map(|it| &*it.name).collect(),
            routes: routes.iter().map(|route| &*route.name).collect(),
            mirrors: mirrored.map(|route| &*route.name).collect(),
            certificates: certificates.collect(),
        }
    }

    /// And of what is `gone`.
    pub(super) fn add(&mut self, gone: &'a Gone) {
        fn text(name: &Name) -> &str {
            name
        }
        self.listeners
            .extend(gone.listeners.iter().map(|it| &*it.name));
        self.endpoints
            .extend(gone.endpoints.iter().map(|it| it.names()));
        self.upstreams.extend(gone.upstreams.iter().map(text));
        self.routes.extend(gone.routes.iter().map(|it| &*it.name));
        self.mirrors.extend(gone.mirrors.iter().map(text));
        let certificates = gone.certificates.iter();
        self.certificates
            .extend(certificates.map(|(listener, label)| (&**listener, &**label)));
    }
}

pub(super) fn all_endpoints(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let upstreams = snapshot.upstreams.iter();
    upstreams.flat_map(|upstream| upstream.endpoints.iter())
}
