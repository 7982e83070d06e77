//! Which series of another process's go on here: those of what is configured here, too.

use std::collections::HashSet;

use crate::metrics::handles::NO_ROUTE;
use crate::metrics::totals::Labels;
use crate::snapshot::Snapshot;
use crate::units::Name;

/// Whether everything that labels name is in `snapshot`.
pub(super) fn known(snapshot: &Snapshot) -> impl Fn(&Labels) -> bool + use<> {
    let listeners: HashSet<Name> = snapshot
        .listeners
        .iter()
        .map(|it| Name::clone(&it.name))
        .collect();
    let routes: HashSet<Name> = snapshot
        .routes
        .iter()
        .map(|it| Name::clone(&it.name))
        .collect();
    let upstreams: HashSet<Name> = snapshot
        .upstreams
        .iter()
        .map(|it| Name::clone(&it.name))
        .collect();
    let endpoints = snapshot.upstreams.iter().flat_map(|it| &it.endpoints);
    let endpoints: HashSet<(Name, Name)> = endpoints
        .map(|it| (Name::clone(it.upstream()), Name::clone(it.name())))
        .collect();
    move |labels| {
        let of = |label| labels.get(label).map(String::as_str);
        let is_in =
            |names: &HashSet<Name>, label| of(label).is_none_or(|name| names.contains(name));
        let is_endpoint = of("endpoint").is_none_or(|endpoint| {
            let upstream = of("upstream").unwrap_or_default();
            endpoints.contains(&(upstream.into(), endpoint.into()))
        });
        is_endpoint
            && is_in(&listeners, "listener")
            && is_in(&upstreams, "upstream")
            && (of("route") == Some(NO_ROUTE) || is_in(&routes, "route"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::metrics::Metrics;
    use crate::snapshot::compile::Compiler;
    use crate::tls::Tickets;

    #[test]
    fn only_what_is_configured_goes_on() {
        let text = "[listener.l]\naddress = \"127.0.0.1:1\"\n[upstream.app]\nendpoints = [\"127.0.0.1:2\"]\n[[route]]\nname = \"r\"\nupstream = \"app\"\n";
        let config = config::parse(text, Path::new("f")).unwrap();
        let mut compiler = Compiler::new(Arc::new(Metrics::new()), Tickets::new().unwrap(), 0);
        let known = known(&compiler.compile(&config, None).unwrap().snapshot);
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
            assert_eq!(known(&labels(pairs)), expected, "{pairs:?}");
        }
    }
}
