//! The router agrees with a model that looks at every route in turn.

use proptest::prelude::*;

use super::*;
use crate::message::canonical_path::{has_encoded_separator, loosest};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_router_agrees_with_the_model(
        routes in prop::collection::vec(any_route(), 0..12),
        listener in 0_usize..2,
        host in prop::sample::select(vec!["", "a.test", "b.a.test", "c.b.a.test", "test", "other"]),
        method in prop::sample::select(vec![Method::GET, Method::POST]),
        given in any_headers(),
        raw_path in any_path(),
    ) {
        let router = compile_without_conflicts(routes);
        let given: HeaderMap = given.into_iter().collect();
        if let Ok(path) = canonicalize(&raw_path) {
            let query = Query { listener, host, method: &method, headers: &given, raw_path: &raw_path, path: &path };
            let found = router.find(&query).map_err(drop);
            prop_assert_eq!(found, model(router.routes(), &query));
            let explanation = router.explain(&query);
            for (index, (verdict, route)) in explanation.routes.iter().zip(router.routes()).enumerate() {
                prop_assert_eq!(!matches!(verdict, Verdict::Mismatch(_)), takes(route, &query));
                prop_assert_eq!(*verdict == Verdict::Chosen, found == Ok(Some(index)));
            }
        }
    }
}

fn any_route() -> impl Strategy<Value = Matchers> {
    let host = prop::sample::select(vec![
        "a.test",
        "b.a.test",
        "*.test",
        "*.a.test",
        "*.b.a.test",
    ]);
    let prefix = prop::sample::select(vec!["/", "/a", "/A", "/a/b", "/a;x", "/a/b/c", "/b"]);
    let exact = prop::sample::select(vec!["/", "/a", "/a/", "/a/B", "/a/b/c/d"]);
    let regex = prop::sample::select(vec!["^/a", "b$", "c"]);
    let path = prop_oneof![
        4 => prefix.prop_map(|path| PathPattern::Prefix(path.into())),
        2 => exact.prop_map(|path| PathPattern::Exact(path.into())),
        1 => regex.prop_map(|regex| PathPattern::Regex(regex::Regex::new(regex).unwrap())),
    ];
    let methods =
        prop::collection::vec(prop::sample::select(vec![Method::GET, Method::POST]), 1..3);
    let listeners = prop::collection::vec(0_usize..2, 1..3);
    let rarely = || prop::bool::weighted(0.3);
    (
        prop::option::weighted(0.3, listeners),
        prop::collection::vec(host, 0..3),
        path,
        prop::option::weighted(0.3, methods.prop_map(MethodSet)),
        prop_oneof![2 => Just(Vec::new()), 1 => any_headers()],
        rarely(),
    )
        .prop_map(
            |(listeners, patterns, path, methods, headers, exclusive)| Matchers {
                listeners,
                hosts: hosts(&patterns),
                exclusive: exclusive && !matches!(path, PathPattern::Regex(_)),
                path,
                methods,
                headers,
                cookies: Vec::new(),
            },
        )
}

fn any_headers() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let one = (
        prop::sample::select(vec!["x", "y"]),
        prop::sample::select(vec!["1", "2"]),
    );
    prop::collection::vec(one, 0..3).prop_map(|given| headers(&given))
}

fn any_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "A",
        "B",
        "c",
        "d",
        "a;x",
        "%61",
        "%2541",
        "",
        "..",
        "..;",
        ".;",
        "a%2Fb",
        "%25252561",
        "a.",
        "%3Bx",
    ]);
    let plain = prop::sample::select(vec!["a", "b", "c", "d", ""]);
    let pieces = prop_oneof![
        prop::collection::vec(plain, 1..6),
        prop::collection::vec(piece, 1..6)
    ];
    pieces.prop_map(|pieces| format!("/{}", pieces.join("/")))
}

fn compile_without_conflicts(mut routes: Vec<Matchers>) -> Router {
    if let Err(conflicts) = Router::compile(routes.clone()) {
        for conflict in conflicts.iter().rev() {
            routes.remove(conflict.second);
        }
    }
    compile(routes)
}

fn takes(route: &Matchers, query: &Query<'_>) -> bool {
    route.admit(query) && route.take_path(query.path) && takes_host(route, query.host)
}

fn takes_host(route: &Matchers, host: &str) -> bool {
    route.hosts.is_empty() || route.hosts.iter().any(|pattern| host::takes(pattern, host))
}

/// What `Router::find` should say, route by route.
fn model(routes: &[Matchers], query: &Query<'_>) -> Result<Option<usize>, ()> {
    let on =
        |route: &Matchers| takes_host(route, query.host) && route.take_listener(query.listener);
    if routes.iter().any(|route| route.exclusive && on(route)) {
        if has_encoded_separator(query.path) {
            return Err(());
        }
        for path in [query.path, query.raw_path] {
            let reading = match loosest(path).map_err(drop)? {
                Some(reading) if reading.climbs && path == query.path => return Err(()),
                Some(reading) => String::from_utf8(reading.path).unwrap(),
                None => path.to_owned(),
            };
            // An undisguised raw path says nothing that the canonical one does not.
            if path == query.path || loosest(path).unwrap().is_some() {
                no_twin(routes, query, &reading)?;
            }
        }
    }
    let precedence = |(index, route): &(usize, &Matchers)| {
        let host = route
            .hosts
            .iter()
            .filter(|pattern| host::takes(pattern, query.host))
            .map(|pattern| match pattern {
                HostPattern::Exact(_) => usize::MAX,
                HostPattern::Wildcard(parent) => parent.len(),
            });
        let path = match &route.path {
            PathPattern::Exact(_) => (3, 0),
            PathPattern::Prefix(prefix) if route.exclusive => (2, prefix.len()),
            PathPattern::Regex(_) => (1, routes.len() - index),
            PathPattern::Prefix(prefix) => (0, prefix.len()),
        };
        (host.max(), path, route.count(), routes.len() - index)
    };
    let taking = routes
        .iter()
        .enumerate()
        .filter(|(_, route)| takes(route, query));
    Ok(taking.max_by_key(precedence).map(|(index, _)| index))
}

fn no_twin(routes: &[Matchers], query: &Query<'_>, reading: &str) -> Result<(), ()> {
    let loosened = |route: &Matchers| match &route.path {
        PathPattern::Regex(_) => None,
        PathPattern::Exact(pattern) | PathPattern::Prefix(pattern) => {
            Some(match loosest(pattern).unwrap() {
                Some(reading) => String::from_utf8(reading.path).unwrap(),
                None => pattern.to_string(),
            })
        }
    };
    let covers = |route: &Matchers| match route.path {
        PathPattern::Exact(_) => loosened(route).as_deref() == Some(reading),
        _ => loosened(route).is_some_and(|pattern| is_under(&pattern, reading)),
    };
    let over: Vec<&Matchers> = routes
        .iter()
        .filter(|route| {
            route.exclusive && route.admit(query) && takes_host(route, query.host) && covers(route)
        })
        .collect();
    let is_matched = |route: &&Matchers| {
        // `/` as a prefix and as an exact path are read alike only at the root.
        let alike = |other: &&&Matchers| {
            loosened(other) == loosened(route)
                && (loosened(route).as_deref() != Some("/")
                    || matches!(other.path, PathPattern::Exact(_))
                        == matches!(route.path, PathPattern::Exact(_)))
        };
        over.iter()
            .filter(alike)
            .any(|other| other.take_path(query.path))
    };
    if over.iter().all(is_matched) {
        Ok(())
    } else {
        Err(())
    }
}
