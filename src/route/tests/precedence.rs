//! Which of several routes that match is taken, when they cannot be told apart, and what is said of those not taken.

use super::*;

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
