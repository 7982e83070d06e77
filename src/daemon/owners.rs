//! Whose series there are: those of what a snapshot has.

use std::sync::Arc;

use crate::metrics::owners::Owners;
use crate::snapshot::Snapshot;
use crate::upstream::Endpoint;

/// All that `snapshot` has.
pub(super) fn of(snapshot: &Snapshot) -> Owners<'_> {
    let endpoints = endpoints(snapshot);
    Owners {
        listeners: snapshot.listeners.iter().map(|it| &*it.name).collect(),
        routes: snapshot.routes.iter().map(|it| &*it.name).collect(),
        upstreams: snapshot.upstreams.iter().map(|it| &*it.name).collect(),
        endpoints: endpoints
            .map(|endpoint| (&**endpoint.upstream(), &**endpoint.name()))
            .collect(),
    }
}

/// All endpoints of `snapshot`.
pub(super) fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Endpoint>> {
    let upstreams = snapshot.upstreams.iter();
    upstreams.flat_map(|upstream| upstream.endpoints.iter())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::metrics::labels::NO_ROUTE;
    use crate::metrics::totals::Labels;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;

    #[test]
    fn only_what_is_configured_goes_on() {
        let text = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [\"127.0.0.1:2\"]\n[[route]]\nname = \"r\"\nupstream = \"app\"\n";
        let config = config::parse(text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let snapshot = compiler.compile(&config, None).unwrap().snapshot;
        let owners = of(&snapshot);
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        for (pairs, expected) in [
            (&[][..], true),
            (&[("listener", "l"), ("route", "r")], true),
            (&[("listener", "l"), ("route", NO_ROUTE)], true),
            (&[("listener", "gone"), ("route", "r")], false),
            (&[("listener", "l"), ("route", "gone")], false),
            (&[("upstream", "app"), ("code", "200")], true),
            (&[("upstream", "gone")], false),
            (&[("upstream", "app"), ("endpoint", "127.0.0.1:2")], true),
            (&[("upstream", "app"), ("endpoint", "127.0.0.1:3")], false),
        ] {
            assert_eq!(owners.own_all(&labels(pairs)), expected, "{pairs:?}");
        }
    }
}
