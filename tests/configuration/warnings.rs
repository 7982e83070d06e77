//! What is allowed but probably not meant.

use super::{valid, valid_behind_base};

fn warnings(text: &str) -> Vec<String> {
    let config = valid(&format!(
        "[listener.http]\naddress = \"0.0.0.0:8080\"\n[listener.two]\naddress = \"0.0.0.0:8081\"\n{text}"
    ));
    config
        .warnings
        .iter()
        .map(|warning| warning.to_string()[2..].to_owned())
        .collect()
}

#[test]
fn an_upstream_nobody_uses() {
    assert_eq!(
        warnings("[upstream.a]\nendpoints = [\"h:1\"]\n"),
        ["5:1: upstream.a: no route uses it"]
    );
}

#[test]
fn a_token_that_is_sent_where_others_may_listen() {
    let with = |address: &str| {
        warnings(&format!(
            "[admin]\naddress = \"{address}\"\ntoken_file = \"t\"\n"
        ))
    };
    let found = with("0.0.0.0:9900");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .starts_with("7:14: admin.token_file: admin.address (0.0.0.0:9900) speaks no TLS: "),
        "{found:?}"
    );
    for loopback in ["127.0.0.1:9900", "[::1]:9900"] {
        assert!(with(loopback).is_empty(), "{loopback}");
    }
}

#[test]
fn one_endpoint_without_being_an_authority() {
    let text = "[upstream.a]\nendpoints = [\"h:1\"]\n[[route]]\nupstream = \"a\"\n";
    assert_eq!(
        warnings(text),
        ["5:1: upstream.a: one endpoint: nothing to fall back on"]
    );
    assert!(warnings(&format!("{text}exclusive = true\n")).is_empty());
}

#[test]
fn endpoints_that_are_never_ejected_or_more_than_is_said() {
    let with = |endpoints: &str, keys: &str, route: &str| {
        warnings(&format!(
            "[upstream.a]\nendpoints = [{endpoints}]\nhealth = {{}}\n{keys}\n[[route]]\nupstream = \"a\"\n{route}\n"
        ))
    };
    let two = "\"h:1\", \"h:2\"";
    let kept = |share: &str| {
        [format!(
            "5:1: upstream.a: min_available ({share}) keeps all 2 endpoints in use: `passive` ejects none of them; lower it, or say passive = \"off\""
        )]
    };
    assert_eq!(with(two, "min_available = 1", ""), kept("1"));
    assert_eq!(with(two, "min_available = 0.6", ""), kept("0.6"));
    for (endpoints, keys, route) in [
        (two, "", ""),
        (two, "min_available = 1\npassive = \"off\"", ""),
        (two, "min_available = 1", "exclusive = true"),
        ("\"h:1\", \"h:2\", \"h:3\"", "min_available = 0.6", ""),
    ] {
        assert_eq!(with(endpoints, keys, route), [""; 0], "{keys}");
    }
    let backup = "\"h:1\", \"h:2\", { address = \"h:3\", backup = true }";
    assert_eq!(
        with(backup, "passive = { max_ejected = 0.2 }", ""),
        [
            "5:1: upstream.a: passive.max_ejected (0.2) does not bind while a backup is well: more may be ejected then, as far as min_available (0.5) allows; raise that, or leave max_ejected out"
        ]
    );
    for keys in [
        "",
        "passive = { max_ejected = 0.2 }\nmin_available = 0.8",
        "passive = { max_ejected = 0.1 }\nmin_available = 0.9",
    ] {
        assert_eq!(with(backup, keys, ""), [""; 0], "{keys}");
    }
}

#[test]
fn queue_in_which_nobody_waits() {
    let with = |endpoints: &str, keys: &str| {
        warnings(&format!(
            "[upstream.a]\nendpoints = [{endpoints}]\nhealth = {{}}\n{keys}\nqueue = {{ length = 9 }}\n[[route]]\nupstream = \"a\"\n"
        ))
    };
    let limited = "{ address = \"h:1\", max_in_flight = 1 }";
    assert_eq!(
        with(&format!("{limited}, \"h:2\""), ""),
        [
            "9:9: upstream.a.queue: nobody waits while endpoint \"h:2\" is in use, which has no limit; give it a `max_in_flight`, too"
        ]
    );
    let backup = format!("{limited}, {{ address = \"h:2\", backup = true }}");
    assert_eq!(with(&backup, ""), [""; 0]);
    let adaptive = "adaptive = { latency = \"1s\" }";
    assert_eq!(with(&format!("{limited}, \"h:2\""), adaptive), [""; 0]);
}

#[test]
fn two_upstreams_that_set_the_same_cookie() {
    let with = |cookie: &str| {
        let text = ["a", "b"].map(|name| {
            let cookie = if name == "a" { "c" } else { cookie };
            format!("[upstream.{name}]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {{}}\naffinity = {{ cookie = \"{cookie}\", key_file = \"k\" }}\n[[route]]\npath = \"/{name}\"\nupstream = \"{name}\"\n")
        });
        warnings(&text.concat())
    };
    assert_eq!(
        with("c"),
        [
            "12:1: upstream.b: sets the same cookie \"c\" as upstream \"a\" (line 5): a client of both loses its place in one; give it another name or `path`"
        ]
    );
    assert_eq!(with("d"), [""; 0]);
}

#[test]
fn regression_two_routes_whose_cookies_say_different_things_of_who_has_written() {
    let with = |first: &str, second: &str| {
        let upstream = |name: &str| {
            format!("[upstream.{name}]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {{}}\n")
        };
        let upstreams = ["app", "a", "b"].map(upstream).concat();
        warnings(&format!(
            "{upstreams}[[route]]\nname = \"first\"\nupstream = \"app\"\n{first}\n[[route]]\nname = \"second\"\npath = \"/x\"\nupstream = \"app\"\n{second}\n[[route]]\npath = \"/a\"\nupstream = \"a\"\n[[route]]\npath = \"/b\"\nupstream = \"b\"\n"
        ))
    };
    let a = "writes = \"a\"\nread_your_writes = \"2s\"";
    let found = with(a, "writes = \"b\"\nread_your_writes = \"2s\"");
    assert_eq!(
        found,
        [
            "24:20: route[1].read_your_writes: sets the same cookie \"wrote\" as route \"first\" (line 14), which has another `writes`: a client of both may not read what it has written; give one of them another `cookie` or `path`"
        ]
    );
    let longer = with(a, "writes = \"a\"\nread_your_writes = \"3s\"");
    assert!(
        longer[0].contains("which has another `window`"),
        "{longer:?}"
    );
    let key = "writes = \"a\"\nread_your_writes = { window = \"2s\", key_file = \"k\" }";
    assert!(with(a, key)[0].contains("which has another key"));
    let named = "writes = \"b\"\nread_your_writes = { window = \"2s\", cookie = \"w\" }";
    for (first, second) in [
        (a.to_owned(), a.to_owned()),
        (a.to_owned(), named.to_owned()),
        // Clients tell hosts apart.
        (
            format!("hosts = [\"a.test\"]\n{a}"),
            format!("hosts = [\"b.test\"]\n{}", a.replace("\"a\"", "\"b\"")),
        ),
    ] {
        assert_eq!(with(&first, &second), [""; 0]);
    }
    let of_host = format!("hosts = [\"a.test\"]\n{}", a.replace("\"a\"", "\"b\""));
    assert_eq!(with(a, &of_host).len(), 1);
    assert_eq!(with(&of_host, a).len(), 1);
}

#[test]
fn regression_rewriting_what_writes_into_an_exclusive_route_that_writes_elsewhere() {
    let with = |route: &str| {
        let upstream = |name: &str| {
            format!("[upstream.{name}]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {{}}\n")
        };
        let upstreams = ["app", "auth"].map(upstream).concat();
        warnings(&format!(
            "{upstreams}[[route]]\npath = \"/admin\"\nexclusive = true\nupstream = \"app\"\nwrites = \"auth\"\n[[route]]\npath = \"/pub\"\nrewrite = {{ prefix = \"/admin\" }}\n{route}\n"
        ))
    };
    let found = with("upstream = \"app\"");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].ends_with("belongs to the exclusive route \"/admin\" of another upstream: such requests that may change something are answered 500"),
        "{found:?}"
    );
    for fine in [
        "upstream = \"app\"\nmethods = [\"GET\", \"HEAD\"]",
        "upstream = \"app\"\nwrites = \"auth\"",
        "upstream = \"auth\"",
    ] {
        assert_eq!(with(fine), [""; 0], "{fine}");
    }
}

#[test]
fn mirrors_that_act_twice_or_on_what_is_not_theirs() {
    let with = |mirrored: &str, exclusive: &str, mirror: &str| {
        let upstream = |name: &str| {
            format!("[upstream.{name}]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {{}}\n")
        };
        let found = warnings(&format!(
            "{}{}{}[[route]]\nupstream = \"a\"\nexclusive = {mirrored}\nmirror = {{ upstream = \"{mirror}\" }}\n[[route]]\npath = \"/admin\"\nexclusive = {exclusive}\nupstream = \"b\"\n",
            upstream("a"),
            upstream("b"),
            upstream("shadow"),
        ));
        let of_others =
            |warning: &String| !warning.contains("shadow: no route uses it") || mirror == "shadow";
        found.into_iter().filter(of_others).collect::<Vec<_>>()
    };
    let of_mirror = "17:10: route[0].mirror: ";
    // An upstream that is a mirror only needs nothing to fall back on, and is not unused.
    assert_eq!(with("false", "false", "shadow"), [""; 0]);
    assert_eq!(with("false", "false", "b"), [""; 0]);
    assert_eq!(
        with("false", "true", "b"),
        [format!(
            "{of_mirror}copies go to upstream \"b\" of the exclusive route \"/admin\", which other routes must not reach"
        )]
    );
    assert_eq!(
        with("true", "false", "shadow"),
        [format!(
            "{of_mirror}requests of an exclusive route are acted on by upstream \"shadow\", too"
        )]
    );
    assert_eq!(
        with("false", "false", "a"),
        [format!(
            "{of_mirror}upstream \"a\" gets every such request twice: as itself and as its mirror"
        )]
    );
}

#[test]
fn hedges_that_have_nowhere_to_go_or_move_clients() {
    let with = |endpoints: &str, keys: &str| {
        let text = format!(
            "[upstream.a]\nendpoints = [{endpoints}]\nhealth = {{}}\n{keys}\n[[route]]\nupstream = \"a\"\nexclusive = true\nhedge = {{ after = \"1s\" }}\n"
        );
        warnings(&text)
    };
    let nowhere =
        "12:9: route[0].hedge: upstream \"a\" has no second endpoint to ask, backups not counted";
    assert_eq!(with("\"h:1\"", ""), [nowhere]);
    let backup = "\"h:1\", { address = \"h:2\", backup = true }";
    assert_eq!(with(backup, ""), [nowhere]);
    let two = "\"h:1\", \"h:2\"";
    assert_eq!(with(two, ""), [""; 0]);
    assert_eq!(
        with(two, "affinity = { cookie = \"c\", key_file = \"k\" }"),
        [
            "12:9: route[0].hedge: upstream \"a\" has `affinity`: a client whose second endpoint answers first moves there"
        ]
    );
    let by_version = "health = { version_header = \"x\" }\naffinity = { by = \"version\", cookie = \"c\", key_file = \"k\" }";
    let text = format!(
        "[upstream.a]\nendpoints = [{two}]\n{by_version}\n[[route]]\nupstream = \"a\"\nexclusive = true\nhedge = {{ after = \"1s\" }}\n"
    );
    assert_eq!(warnings(&text), [""; 0]);
}

#[test]
fn several_endpoints_without_health() {
    let text = "[upstream.a]\nendpoints = [\"h:1\", \"h:2\"]\n[[route]]\nupstream = \"a\"\n";
    assert_eq!(
        warnings(text),
        [
            "5:1: upstream.a: no `health`: that an endpoint is down is found out by clients' requests"
        ]
    );
    assert_eq!(
        warnings(&text.replace("[[route]]", "passive = \"off\"\n[[route]]")),
        ["5:1: upstream.a: no `health`: an endpoint that is down keeps its share of requests"]
    );
    assert!(warnings(&format!("{text}[upstream.a.health]\n")).is_empty());
}

#[test]
fn a_slow_start_that_the_policy_does_not_have() {
    let text = "[upstream.a]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {}\npolicy = \"hash\"\nslow_start = \"9s\"\n[[route]]\nupstream = \"a\"\n";
    assert_eq!(
        warnings(text),
        [
            "9:14: upstream.a.slow_start: policy hash has no slow start: keys would move with every step"
        ]
    );
    assert!(warnings(&text.replace("9s", "0s")).is_empty());
}

#[test]
fn endpoints_that_are_not_verified() {
    let text = "[upstream.a]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {}\ntls = { verify = false }\n[[route]]\nupstream = \"a\"\n";
    let found = warnings(text);
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .starts_with("8:18: upstream.a.tls.verify: endpoints' certificates are NOT verified"),
        "{found:?}"
    );
    assert!(warnings(&text.replace("false", "true")).is_empty());
}

#[test]
fn tunnels_to_endpoints_that_are_not_asked_for_them() {
    let text = "[upstream.a]\nendpoints = [\"h:1\", \"h:2\"]\nhealth = {}\nprotocol = \"h2\"\n[[route]]\nupgrades = [\"websocket\"]\nupstream = \"a\"\n";
    assert_eq!(
        warnings(text),
        [
            "10:12: route[0].upgrades: does nothing: endpoints of the upstream \"a\" speak HTTP/2 and are not asked for tunnels; \
              write [], or let an upstream with `protocol = \"http/1.1\"` have this route"
        ]
    );
    for fine in [
        text.replace("[\"websocket\"]", "[]"),
        text.replace("upgrades = [\"websocket\"]", ""),
        text.replace("\"h2\"", "\"http/1.1\""),
    ] {
        assert!(warnings(&fine).is_empty(), "{fine}");
    }
}

#[test]
fn a_file_that_looks_like_a_slip_and_a_star_that_means_nothing() {
    let config = valid_behind_base(
        "[access_log]\ntarget = \"stderr\"\n[[route]]\npath = \"/a/*\"\nupstream = \"app\"\n",
    );
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings[1].starts_with("f:9:10: access_log.target: a file named \"stderr\""),
        "{warnings:?}"
    );
    assert!(
        warnings[2].starts_with("f:11:8: route[0].path: \"*\" stands for itself"),
        "{warnings:?}"
    );
}

#[test]
fn a_sample_of_nothing_but_errors() {
    let config = valid_behind_base("[access_log]\nonly = \"errors\"\nsample = 0.5\n");
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    let said = "f:10:10: access_log.sample: changes nothing: only = \"errors\" logs nothing but errors, and all of them";
    assert!(
        warnings.iter().any(|warning| warning == said),
        "{warnings:?}"
    );
}

/// Warnings for an exclusive route (lines 5 to 8) followed by another route (from line 9).
fn shadowed(exclusive: &str, route: &str) -> Vec<String> {
    warnings(&format!(
        "[[route]]\nexclusive = true\nrespond = {{}}\n{exclusive}\n[[route]]\nrespond = {{}}\n{route}\n"
    ))
}

#[test]
fn a_more_specific_host_that_takes_paths_of_an_exclusive_route() {
    let found = shadowed("path = \"/admin\"", "hosts = [\"a.com\"]\npath = \"/\"");
    assert_eq!(
        found,
        [
            "5:1: route[0]: exclusive route \"/admin\" comes after route \"a.com/\" (line 9) on a.com: a more specific \
             host wins; repeat the exclusive route with its host"
        ]
    );
    let admin = "path = \"/admin\"";
    for route in [
        "hosts = [\"*.a.com\"]",
        "hosts = [\"a.com\"]\npath = \"/admin\"",
        "hosts = [\"a.com\"]\npath = \"/admin/x\"",
        "hosts = [\"a.com\"]\npath_exact = \"/admin/x\"",
        "hosts = [\"a.com\"]\npath_regex = \"x$\"",
        "hosts = [\"a.com\"]\npath_regex = \"min$\"",
    ] {
        assert_eq!(shadowed(admin, route).len(), 1, "{route}");
    }
    let wildcard = "path = \"/admin\"\nhosts = [\"*.a.com\"]";
    assert_eq!(shadowed(wildcard, "hosts = [\"b.a.com\"]").len(), 1);
    assert_eq!(shadowed(wildcard, "hosts = [\"*.b.a.com\"]").len(), 1);
}

#[test]
fn many_routes_that_shadow_one_exclusive_route_are_one_warning() {
    let routes: Vec<_> = (0..10)
        .map(|index| format!("[[route]]\nrespond = {{}}\nhosts = [\"{index}.a.com\"]\n"))
        .collect();
    let exclusive = "[[route]]\nexclusive = true\nrespond = {}\npath = \"/admin\"\n";
    let found = warnings(&format!("{exclusive}{}", routes.concat()));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("route \"3.a.com/\" (line 18) on 3.a.com and 6 more:"),
        "{found:?}"
    );
}

#[test]
fn an_exclusive_route_that_nobody_shadows() {
    let admin = "path = \"/admin\"";
    for route in [
        "",
        "hosts = [\"a.com\"]\npath = \"/administrator\"",
        "hosts = [\"a.com\"]\npath_exact = \"/\"",
        "hosts = [\"a.com\"]\npath_regex = \"^/x\"",
        "hosts = [\"a.com\"]\npath = \"/admin\"\nexclusive = true",
        "hosts = [\"a.com\"]\n[[route]]\nrespond = {}\nhosts = [\"a.com\"]\npath = \"/admin\"\nexclusive = true",
        "hosts = [\"a.com\"]\n[[route]]\nrespond = {}\nhosts = [\"a.com\"]\nexclusive = true",
    ] {
        assert_eq!(shadowed(admin, route), [""; 0], "{route}");
    }
    assert_eq!(
        shadowed(
            "path = \"/admin\"\nhosts = [\"*.a.com\"]",
            "hosts = [\"a.com\"]"
        ),
        [""; 0]
    );
    assert_eq!(
        shadowed(
            "path = \"/admin\"\nhosts = [\"b.com\"]",
            "hosts = [\"a.com\"]"
        ),
        [""; 0]
    );
    let elsewhere = "hosts = [\"a.com\"]\nlisteners = [\"two\"]";
    assert_eq!(
        shadowed("path = \"/admin\"\nlisteners = [\"http\"]", elsewhere),
        [""; 0]
    );
    assert_eq!(
        shadowed(
            "path = \"/admin\"\nlisteners = [\"http\", \"two\"]",
            elsewhere
        )
        .len(),
        1
    );
}

#[test]
fn a_route_that_makes_nothing_but_paths_of_an_exclusive_route() {
    let with = |upstream: &str, prefix: &str, more: &str| {
        let text = format!(
            r#"[upstream.app]
endpoints = ["127.0.0.1:1"]
[upstream.b]
endpoints = ["127.0.0.1:1"]
[[route]]
path = "/admin"
exclusive = true
upstream = "app"
{more}
[[route]]
name = "old"
path = "/old"
upstream = "{upstream}"
rewrite = {{ prefix = "{prefix}" }}
"#
        );
        let found = warnings(&text);
        found.iter().any(|warning| {
            warning.contains("every path it makes belongs to the exclusive route \"/admin\"")
        })
    };
    assert!(with("b", "/admin", ""));
    assert!(with("b", "/admin/x", ""));
    assert!(!with("b", "/", ""));
    assert!(!with("b", "/administrator", ""));
    assert!(!with("app", "/admin", ""), "its own upstream");
    assert!(!with("b", "/admin", "hosts = [\"a.com\"]"), "another host");
}

#[test]
fn sets_of_which_one_would_be_held_out_for_its_version() {
    let with = |health: &str| {
        let text = format!(
            "[upstream.app]\nactive_set = \"a\"\nhealth = {{ version_header = \"v\"{health} }}\n\
             endpoints = [{{ address = \"127.0.0.1:1\", set = \"a\" }}, {{ address = \"127.0.0.1:2\", set = \"b\" }}]\n[[route]]\nupstream = \"app\"\n"
        );
        let found = warnings(&text);
        found.iter().any(|it| it.contains("a flip to it refused"))
    };
    assert!(with(", expect_version = \"1\""));
    assert!(!with(""));
}

#[test]
fn a_route_of_which_nothing_goes_one_of_two_ways() {
    let with = |methods: &str| {
        let text = format!(
            "[upstream.app]\nendpoints = [\"127.0.0.1:1\"]\n[upstream.one]\nendpoints = [\"127.0.0.1:2\"]\n\
             [[route]]\nupstream = \"app\"\nwrites = \"one\"\n{methods}\n"
        );
        let found = warnings(&text);
        found.into_iter().find(|it| it.contains("gets nothing"))
    };
    assert!(with("methods = [\"GET\"]").is_some_and(|it| it.contains("`writes`")));
    assert!(with("methods = [\"POST\"]").is_some_and(|it| it.contains("`upstream`")));
    assert_eq!(with("methods = [\"GET\", \"POST\"]"), None);
    assert_eq!(with(""), None);
}

#[test]
fn preloading_without_what_it_asks_for() {
    let with = |hsts: &str| {
        let text = format!(
            "[listener.b]\naddress = \"0.0.0.0:1\"\ntls = {{ certificates = [{{ chain = \"a\", key = \"b\" }}] }}\nhsts = {{ {hsts} }}\n"
        );
        let found = warnings(&text);
        found
            .iter()
            .any(|warning| warning.contains("listener.b.hsts: lists of preloaded domains ask for"))
    };
    assert!(with("preload = true"));
    assert!(with(
        "preload = true, include_subdomains = true, max_age = \"1h\""
    ));
    assert!(!with("preload = true, include_subdomains = true"));
    assert!(!with(""));
}
