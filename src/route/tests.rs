//! What the router promises, by table, by comparison with a naive model and against an imitation of lenient servers.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::message::canonical_path::{canonicalize, has_encoded_separator, loosest};

const AUTHORITY: usize = 0;
const APP: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// The exclusive route, with this path forwarded.
    Match(&'static str),
    /// The other route, with this path forwarded.
    App(&'static str),
    Refused,
}
use Expected::{App, Match, Refused};

#[test]
fn every_spelling_of_the_table_goes_where_it_says() {
    let router = guarded();
    for (raw, expected) in [
        ("/admin/x", Match("/admin/x")),
        ("/administrator", App("/administrator")),
        ("//admin", Match("/admin")),
        ("/%61dmin", Match("/admin")),
        ("/x/../admin", Match("/admin")),
        ("/x/%2e%2e/admin", Match("/admin")),
        ("/admin/../x", App("/x")),
        ("/x%2f..%2fadmin", Refused),
        ("/ADMIN", Refused),
        ("/admin;x", Refused),
        ("/x/..;/admin", Refused),
        ("/%2561dmin", Refused),
        // Of `GET http://h/admin`, the path.
        ("/admin", Match("/admin")),
        // And their relatives.
        ("/", App("/")),
        ("/admin/", Match("/admin/")),
        ("/admin/x;y", Match("/admin/x;y")),
        ("/admin/X", Match("/admin/X")),
        ("/x%5c..%5cadmin", Refused),
        ("/a%2fb", Refused),
        ("/admin.", Refused),
        ("/admin%20/x", Refused),
        ("/admin%3Fx", Refused),
        ("/.;/admin", Refused),
        ("/;/admin", Refused),
        ("/%25252561dmin", Refused),
        ("/x%2500", Refused),
        ("/%FFadmin", App("/%FFadmin")),
        ("/X;y", App("/X;y")),
        ("/what%3F", App("/what%3F")),
        ("/.well-known/x", App("/.well-known/x")),
        ("/main...feature", App("/main...feature")),
        ("/%2e%2e/admin", Refused),
        ("/admin\\x", Refused),
    ] {
        assert_eq!(outcome(&router, raw), expected, "{raw}");
    }
}

#[test]
fn climbing_back_out_in_disguise_does_not_hide_the_exclusive_path() {
    // A server that folds case but keeps parameters reads this as under /admin; one that drops them reads /x.
    let router = guarded();
    assert_eq!(outcome(&router, "/ADMIN/..;/x"), Refused);
    assert_eq!(outcome(&router, "/x/..%20/admin"), Refused);
    assert_eq!(
        find(&router, "/x/..;/y").unwrap_err().reason,
        Doubt::HiddenParent
    );
}

#[test]
fn a_raw_path_is_guarded_too() {
    // Forwarded as /a/admin, but whoever forwards the raw path shows a lenient server /admin.
    assert_eq!(outcome(&guarded(), "/a/;/../admin"), Refused);
}

#[test]
fn without_an_exclusive_route_nothing_is_refused() {
    let router = compile(vec![route("/admin"), route("/")]);
    for raw in [
        "/ADMIN",
        "/admin;x",
        "/x%2f..%2fadmin",
        "/x/..;/admin",
        "/%25252561",
        "/x%2500",
    ] {
        assert_eq!(find(&router, raw), Ok(Some(1)), "{raw}");
    }
}

#[test]
fn an_exclusive_route_guards_only_its_own_listeners_and_hosts() {
    let exclusive = Matchers {
        exclusive: true,
        listeners: Some(vec![1]),
        hosts: hosts(&["a.test"]),
        ..route("/admin")
    };
    let router = compile(vec![exclusive, route("/")]);
    for (listener, host, refused) in [
        (1, "a.test", true),
        (0, "a.test", false),
        (1, "b.test", false),
    ] {
        for path in ["/ADMIN", "/a%2Fb"] {
            let found = router.find(&Query {
                listener,
                host,
                ..query(path, path)
            });
            assert_eq!(found.is_err(), refused, "{listener} {host} {path}");
        }
    }
}

#[test]
fn an_exclusive_route_guards_only_requests_it_would_take() {
    let post = Some(MethodSet(vec![Method::POST]));
    let exclusive = Matchers {
        exclusive: true,
        methods: post,
        headers: headers(&[("x", "1")]),
        ..route("/admin")
    };
    let router = compile(vec![exclusive, route("/")]);
    let header = headers(&[("x", "1")]).into_iter().collect();
    let get = query("/ADMIN", "/ADMIN");
    let post = Query {
        method: &Method::POST,
        ..get
    };
    assert_eq!(
        router.find(&Query {
            headers: &header,
            ..get
        }),
        Ok(Some(1))
    );
    assert_eq!(router.find(&post), Ok(Some(1)));
    assert_eq!(
        router.find(&Query {
            headers: &header,
            ..post
        }),
        Err(Ambiguous {
            reason: Doubt::Twin,
            route: 0
        })
    );
}

#[test]
fn a_pattern_that_is_not_its_own_loosest_reading_is_guarded_from_plain_spellings() {
    let router = compile(vec![
        Matchers {
            exclusive: true,
            ..route("/Admin;v=1")
        },
        route("/"),
    ]);
    assert_eq!(outcome(&router, "/Admin;v=1/x"), Match("/Admin;v=1/x"));
    for raw in ["/admin", "/admin/x", "/Admin", "/admin;v=1", "/admin;v=2"] {
        assert_eq!(outcome(&router, raw), Refused, "{raw}");
    }
    assert_eq!(outcome(&router, "/x"), App("/x"));
}

#[test]
fn exclusive_routes_that_read_alike_may_stand_side_by_side() {
    let router = compile(vec![
        Matchers {
            exclusive: true,
            ..route("/Admin")
        },
        Matchers {
            exclusive: true,
            hosts: hosts(&["a.test"]),
            ..route("/admin")
        },
        route("/"),
    ]);
    let on_a = |path| {
        router
            .find(&Query {
                host: "a.test",
                ..query(path, path)
            })
            .map_err(|error| error.reason)
    };
    assert_eq!(on_a("/Admin"), Ok(Some(0)));
    assert_eq!(on_a("/admin/x"), Ok(Some(1)));
    assert_eq!(on_a("/ADMIN"), Err(Doubt::Twin));
    assert_eq!(
        find(&router, "/admin").unwrap_err(),
        Ambiguous {
            reason: Doubt::Twin,
            route: 0
        }
    );
}

#[test]
fn an_exclusive_exact_path_is_guarded() {
    let exact = Matchers {
        exclusive: true,
        path: PathPattern::Exact("/stop".into()),
        ..route("/")
    };
    let router = compile(vec![exact, route("/")]);
    assert_eq!(outcome(&router, "/stop"), Match("/stop"));
    assert_eq!(outcome(&router, "/STOP"), Refused);
    assert_eq!(outcome(&router, "/stop;x"), Refused);
    assert_eq!(outcome(&router, "/STOP/x"), App("/STOP/x"));
}

#[test]
fn what_precedence_gives_to_another_route_is_not_a_twin() {
    let router = compile(vec![
        Matchers {
            exclusive: true,
            ..route("/admin")
        },
        Matchers {
            path: PathPattern::Exact("/admin/Health".into()),
            ..route("/")
        },
        Matchers {
            exclusive: true,
            ..route("/admin/users")
        },
        route("/"),
    ]);
    assert_eq!(find(&router, "/admin/Health"), Ok(Some(1)));
    assert_eq!(find(&router, "/admin/users/x"), Ok(Some(2)));
    assert_eq!(
        find(&router, "/admin/USERS").unwrap_err(),
        Ambiguous {
            reason: Doubt::Twin,
            route: 2
        }
    );
    assert_eq!(find(&router, "/admin/other;x"), Ok(Some(0)));
}

#[test]
fn within_a_host_exact_beats_exclusive_beats_regex_beats_prefix() {
    let routes = [
        route("/"),
        route("/a/b/c"),
        Matchers {
            path: PathPattern::Regex(regex::Regex::new("^/a/b").unwrap()),
            ..route("/")
        },
        Matchers {
            path: PathPattern::Regex(regex::Regex::new("c").unwrap()),
            ..route("/")
        },
        Matchers {
            exclusive: true,
            ..route("/a/b/c/d")
        },
        Matchers {
            path: PathPattern::Exact("/a/b/c/d/e".into()),
            ..route("/")
        },
    ];
    let router = compile(routes.to_vec());
    for (path, expected) in [
        ("/a/b/c/d/e", 5),
        ("/a/b/c/d/e/f", 4),
        ("/a/b/c/x", 2),
        ("/c", 3),
        ("/x", 0),
        ("/a/bb", 2),
    ] {
        assert_eq!(find(&router, path), Ok(Some(expected)), "{path}");
    }
    let router = compile(routes[..2].to_vec());
    assert_eq!(find(&router, "/a/b/c/x"), Ok(Some(1)));
    assert_eq!(find(&router, "/a/b/cc"), Ok(Some(0)));
}

#[test]
fn a_more_specific_host_beats_a_better_path() {
    let on = |patterns, path| Matchers {
        hosts: hosts(patterns),
        ..route(path)
    };
    let router = compile(vec![
        route("/a/b"),
        on(&["*.test"], "/a"),
        on(&["*.a.test"], "/"),
        on(&["x.a.test", "y.a.test"], "/only"),
    ]);
    let at = |host, path| {
        router
            .find(&Query {
                host,
                ..query(path, path)
            })
            .unwrap()
    };
    assert_eq!(at("x.a.test", "/only"), Some(3));
    assert_eq!(at("y.a.test", "/only"), Some(3));
    assert_eq!(at("z.a.test", "/a/b"), Some(2));
    assert_eq!(at("z.test", "/a/b"), Some(1));
    assert_eq!(at("", "/a/b"), Some(0));
    assert_eq!(at("", "/"), None);
}

#[test]
fn a_request_that_fails_the_best_route_goes_on_to_the_next_even_of_another_host() {
    let post = Some(MethodSet(vec![Method::POST]));
    let router = compile(vec![
        route("/"),
        Matchers {
            methods: post.clone(),
            ..route("/a")
        },
        Matchers {
            methods: post,
            headers: headers(&[("x", "1")]),
            ..route("/a")
        },
        Matchers {
            hosts: hosts(&["a.test"]),
            listeners: Some(vec![7]),
            ..route("/a")
        },
    ]);
    let header = headers(&[("x", "0"), ("x", "1")]).into_iter().collect();
    let base = Query {
        host: "a.test",
        ..query("/a", "/a")
    };
    assert_eq!(
        router.find(&Query {
            listener: 7,
            ..base
        }),
        Ok(Some(3))
    );
    assert_eq!(router.find(&base), Ok(Some(0)));
    assert_eq!(
        router.find(&Query {
            method: &Method::POST,
            ..base
        }),
        Ok(Some(1))
    );
    assert_eq!(
        router.find(&Query {
            method: &Method::POST,
            headers: &header,
            ..base
        }),
        Ok(Some(2))
    );
}

#[test]
fn routes_that_cannot_be_told_apart_are_a_conflict() {
    let get = || Some(MethodSet(vec![Method::GET]));
    let post = || Some(MethodSet(vec![Method::POST, Method::PUT]));
    let on = |patterns| Matchers {
        hosts: hosts(patterns),
        ..route("/")
    };
    let with = |given: &[_]| Matchers {
        headers: headers(given),
        ..route("/")
    };
    for (first, second, conflict) in [
        (route("/"), route("/"), true),
        (route("/a"), route("/b"), false),
        (
            route("/a"),
            Matchers {
                exclusive: true,
                ..route("/a")
            },
            true,
        ),
        (
            route("/a"),
            Matchers {
                path: PathPattern::Exact("/a".into()),
                ..route("/")
            },
            false,
        ),
        (on(&["a", "b"]), on(&["b"]), true),
        (on(&["a"]), route("/"), false),
        (on(&["a.test"]), on(&["*.a.test"]), false),
        (
            Matchers {
                methods: get(),
                ..route("/")
            },
            Matchers {
                methods: post(),
                ..route("/")
            },
            false,
        ),
        (
            Matchers {
                methods: get(),
                ..route("/")
            },
            Matchers {
                methods: get(),
                ..route("/")
            },
            true,
        ),
        (
            Matchers {
                methods: get(),
                ..route("/")
            },
            route("/"),
            false,
        ),
        (
            Matchers {
                methods: get(),
                ..route("/")
            },
            with(&[("x", "1")]),
            true,
        ),
        (with(&[("x", "1")]), with(&[("x", "2")]), false),
        (with(&[("x", "1")]), with(&[("x", "1")]), true),
        (with(&[("x", "1")]), with(&[("y", "2")]), true),
        (
            with(&[("x", "1"), ("y", "1")]),
            with(&[("y", "1"), ("x", "1")]),
            true,
        ),
        (
            with(&[("x", "1"), ("y", "1")]),
            with(&[("x", "2"), ("z", "1")]),
            false,
        ),
        (
            Matchers {
                listeners: Some(vec![0, 1]),
                ..route("/")
            },
            Matchers {
                listeners: Some(vec![2]),
                ..route("/")
            },
            false,
        ),
        (
            Matchers {
                listeners: Some(vec![0, 1]),
                ..route("/")
            },
            route("/"),
            true,
        ),
    ] {
        let text = format!("{first:?} {second:?}");
        let expected = if conflict {
            vec![Conflict {
                first: 0,
                second: 1,
            }]
        } else {
            vec![]
        };
        assert_eq!(
            Router::compile(vec![first, second])
                .err()
                .unwrap_or_default(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn many_routes_of_one_place_are_told_apart_by_header() {
    let tenant = |index: usize| Matchers {
        headers: headers(&[("tenant", &format!("t{}", index % 9_999))]),
        ..route("/")
    };
    let conflicts = Router::compile((0..10_000).map(tenant).collect()).unwrap_err();
    assert_eq!(
        conflicts,
        [Conflict {
            first: 0,
            second: 9_999
        }]
    );
}

#[test]
fn an_explanation_tells_why_of_every_route() {
    let get = Some(MethodSet(vec![Method::GET]));
    let routes = vec![
        Matchers {
            hosts: hosts(&["a.test"]),
            ..route("/")
        },
        Matchers {
            hosts: hosts(&["*.b.test", "a.test"]),
            ..route("/a")
        },
        Matchers {
            exclusive: true,
            ..route("/a")
        },
        Matchers {
            listeners: Some(vec![1]),
            ..route("/")
        },
        Matchers {
            methods: Some(MethodSet(vec![Method::PUT])),
            ..route("/")
        },
        Matchers {
            headers: headers(&[("x", "1")]),
            ..route("/b")
        },
        Matchers {
            methods: get,
            ..route("/a")
        },
        Matchers {
            headers: headers(&[("x", "1")]),
            ..route("/a/c")
        },
    ];
    let router = compile(routes);
    let given = headers(&[("x", "2")]).into_iter().collect();
    let explanation = router.explain(&Query {
        host: "b.test",
        headers: &given,
        ..query("/a/c", "/a/c")
    });
    assert_eq!(explanation.outcome, Outcome::Route(2));
    let host = |expected| {
        Verdict::Mismatch(Mismatch::Host {
            expected: hosts(expected),
            given: "b.test".into(),
        })
    };
    assert_eq!(
        explanation.routes,
        [
            host(&["a.test"]),
            host(&["*.b.test", "a.test"]),
            Verdict::Chosen,
            Verdict::Mismatch(Mismatch::Listener {
                expected: vec![1],
                given: 0
            }),
            Verdict::Mismatch(Mismatch::Method {
                expected: vec![Method::PUT],
                given: Method::GET
            }),
            Verdict::Mismatch(Mismatch::Path {
                expected: "/b".into(),
                given: "/a/c".into()
            }),
            Verdict::Shadowed {
                by: 2,
                rule: Rule::ExclusivePrefix
            },
            Verdict::Mismatch(Mismatch::Header {
                name: HeaderName::from_static("x"),
                expected: HeaderValue::from_static("1"),
                given: Some(HeaderValue::from_static("2")),
            }),
        ]
    );

    let explanation = router.explain(&Query {
        host: "b.test",
        ..query("/a%2Fc", "/a%2Fc")
    });
    assert_eq!(
        explanation.outcome,
        Outcome::Refused(Ambiguous {
            reason: Doubt::EncodedSeparator,
            route: 2
        })
    );
    assert_eq!(router.explain(&query("/x", "/x")).outcome, Outcome::None);
}

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

    #[test]
    fn no_disguise_of_an_exclusive_path_reaches_another_route(raw_path in disguised()) {
        let router = guarded();
        if let Ok(path) = canonicalize(&raw_path) {
            match router.find(&query(&raw_path, &path)) {
                Err(_) => {}
                Ok(Some(AUTHORITY)) => prop_assert!(is_under("/admin", &path)),
                Ok(_) => for server in Server::all() {
                    let seen = server.reads(&path);
                    prop_assert!(!is_under("/admin", &seen), "{server:?} reads {path} as {seen}");
                }
            }
        }
    }
}

/// The router of the table: `/admin` is exclusive, the rest goes to the app.
fn guarded() -> Router {
    compile(vec![
        Matchers {
            exclusive: true,
            ..route("/admin")
        },
        route("/"),
    ])
}

fn route(prefix: &str) -> Matchers {
    Matchers {
        listeners: None,
        hosts: Vec::new(),
        path: PathPattern::Prefix(prefix.into()),
        methods: None,
        headers: Vec::new(),
        exclusive: false,
    }
}

fn hosts(patterns: &[&str]) -> Vec<HostPattern> {
    let pattern = |text: &&str| match text.strip_prefix("*.") {
        Some(parent) => HostPattern::Wildcard(parent.into()),
        None => HostPattern::Exact((*text).into()),
    };
    patterns.iter().map(pattern).collect()
}

fn headers(given: &[(&'static str, &str)]) -> Vec<(HeaderName, HeaderValue)> {
    given
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect()
}

fn compile(routes: Vec<Matchers>) -> Router {
    Router::compile(routes).unwrap()
}

fn query<'a>(raw_path: &'a str, path: &'a str) -> Query<'a> {
    static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    Query {
        listener: 0,
        host: "",
        method: &Method::GET,
        headers: &NONE,
        raw_path,
        path,
    }
}

fn find(router: &Router, raw: &str) -> Result<Option<usize>, Ambiguous> {
    router.find(&query(raw, &canonicalize(raw).unwrap()))
}

/// What the table of spellings speaks of.
fn outcome(router: &Router, raw: &str) -> Expected {
    let Ok(path) = canonicalize(raw) else {
        return Refused;
    };
    let path_out = || Box::leak(path.clone().into_owned().into_boxed_str());
    match router.find(&query(raw, &path)) {
        Ok(Some(AUTHORITY)) => Match(path_out()),
        Ok(Some(APP)) => App(path_out()),
        Ok(other) => panic!("{raw} went to {other:?}"),
        Err(_) => Refused,
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

/// `/admin/x` behind layers of disguise, and paths that only look like it.
fn disguised() -> impl Strategy<Value = String> {
    let letter = |letter: char| {
        let hex = format!("{:02x}", u32::from(letter));
        prop_oneof![
            8 => Just(letter.to_string()),
            2 => Just(letter.to_ascii_uppercase().to_string()),
            1 => Just(format!("%{hex}")),
            1 => Just(format!("%25{hex}")),
            1 => Just(format!("%2525{hex}")),
        ]
    };
    let admin: Vec<_> = "admin".chars().map(letter).collect();
    let before = prop::sample::select(vec![
        "",
        "",
        "/",
        "/x/..",
        "/x/%2e%2e",
        "/x/..;",
        "/.;",
        "/;",
        "/.",
        "/x%2f..",
        "/x/..%20",
        "/x/%252e%252e",
        "/x/...",
        "/%20",
        "/x;/..",
        "/x/..%255c..",
        "/..",
    ]);
    let separator = prop::sample::select(vec![
        "/", "/", "/", "//", "%2f", "%5C", "%252f", "%255C", "/./", "\\",
    ]);
    let after = prop::sample::select(vec![
        "",
        "/",
        "/x",
        ";x",
        "/..;/x",
        "/../admin",
        "%20",
        ".",
        "%3B",
        "%253bx/y",
        "%3Fx",
        "%23",
        "/%2e%2e;/x",
        "istrator",
        "%20./x",
        "%252fx",
        "/..%20/x",
        "%2500",
        "/.;/x",
        "\\x",
    ]);
    (
        prop::collection::vec(before, 0..3),
        separator,
        admin,
        prop::collection::vec(after, 0..3),
    )
        .prop_map(|(before, separator, admin, after)| {
            format!(
                "{}{separator}{}{}",
                before.concat(),
                admin.concat(),
                after.concat()
            )
        })
        .prop_map(|path| {
            if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            }
        })
}

/// An origin server that takes some liberties and not others.
#[derive(Debug)]
struct Server {
    decodings: u32,
    backslash: bool,
    parameters: bool,
    cut_query: bool,
    merge: bool,
    dots: bool,
    case: bool,
    trim: bool,
}

impl Server {
    fn all() -> impl Iterator<Item = Self> {
        (0..4).flat_map(|decodings| {
            (0..128_u32).map(move |liberties| {
                let takes = |bit: u32| liberties & (1 << bit) != 0;
                Self {
                    decodings,
                    backslash: takes(0),
                    parameters: takes(1),
                    cut_query: takes(2),
                    merge: takes(3),
                    dots: takes(4),
                    case: takes(5),
                    trim: takes(6),
                }
            })
        })
    }

    fn reads(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..self.decodings {
            path = Self::decode(&path);
        }
        if self.cut_query {
            path.truncate(path.find(['?', '#']).unwrap_or(path.len()));
        }
        if self.backslash {
            path = path.replace('\\', "/");
        }
        if self.case {
            path = path.to_ascii_lowercase();
        }
        let mut read: Vec<&str> = Vec::new();
        let mut segments: Vec<&str> = path.split('/').skip(1).collect();
        for segment in &mut segments {
            if self.parameters {
                *segment = segment.split(';').next().unwrap_or_default();
            }
            if self.trim && !matches!(*segment, "." | "..") {
                *segment = segment.trim_end_matches(['.', ' ']);
            }
            match *segment {
                "" if self.merge => {}
                "." if self.dots => {}
                ".." if self.dots => drop(read.pop()),
                segment => read.push(segment),
            }
        }
        format!("/{}", read.join("/"))
    }

    fn decode(path: &str) -> String {
        let mut out = Vec::new();
        let mut rest = path.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let hex = (byte == b'%')
                .then(|| tail.get(..2))
                .flatten()
                .and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(decoded) => {
                    out.push(decoded);
                    rest = &tail[2..];
                }
                None => {
                    out.push(byte);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}
