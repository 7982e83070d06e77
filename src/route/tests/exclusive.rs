//! No other spelling of an exclusive path reaches another route, and nothing else is refused for it.

use super::*;

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
        // What some servers fold to ASCII, overlong spellings, spaces around.
        ("/adm%C4%B1n", Refused),
        ("/ADM%C4%B0N", Refused),
        ("/%EF%BD%81dmin", Refused),
        ("/x%EF%BC%8F..%EF%BC%8Fadmin", Refused),
        ("/x%C0%AFadmin", Refused),
        ("/admin%C2%A0", Refused),
        ("/admin%85", Refused),
        ("/%20admin", Refused),
        ("/caf%C3%A9", App("/caf%C3%A9")),
        ("/%E7%AE%A1%E7%90%86", App("/%E7%AE%A1%E7%90%86")),
        ("/caf%E9", App("/caf%E9")),
        ("/admin%20/x", Refused),
        ("/admin%3Fx", Refused),
        ("/.;/admin", Refused),
        ("/;/admin", Refused),
        ("/%25252561dmin", Refused),
        ("/x%2500", Refused),
        ("/%FFadmin", Refused),
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
