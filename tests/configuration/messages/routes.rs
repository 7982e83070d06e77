//! `[[route]]`

use super::{each_has, each_value_has};
use crate::configuration::problems_behind_base;

/// A route that only lacks what `text` says.
fn routes_have(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(
            problems_behind_base(&format!("[[route]]\n{text}\n")),
            [*expected],
            "{text}"
        );
    }
}

#[test]
fn routes() {
    routes_have(&[
        (
            "",
            "1:1: route[0]: needs one action: `upstream`, `split`, `redirect` or `respond`",
        ),
        (
            "upstream = \"app\"\nrespond = {}",
            "3:1: route[0].respond: a route has one action, and this one has `upstream`",
        ),
        (
            "respond = {}\nupstream = \"app\"",
            "3:1: route[0].upstream: a route has one action, and this one has `respond`",
        ),
        (
            "upstream = \"ap\"",
            "2:12: route[0].upstream: no upstream is named \"ap\"; did you mean \"app\"?",
        ),
        (
            "upstream = \"other\"",
            "2:12: route[0].upstream: no upstream is named \"other\"; there is \"app\"",
        ),
        (
            "upstream = 1",
            "2:12: route[0].upstream: must be the name of an upstream, got 1",
        ),
    ]);
    let route = "[[route]]\nupstream = \"app\"\n";
    each_value_has(
        route,
        &[
            (
                "listeners = [\"htp\"]",
                "no listener is named \"htp\"; did you mean \"http\"?",
            ),
            (
                "listeners = [\"other\"]",
                "no listener is named \"other\"; there is \"http\" and \"https\"",
            ),
            (
                "listeners = []",
                "must not be empty; leave the key out for all listeners",
            ),
            (
                "listeners = \"http\"",
                "must be an array of listeners' names, got \"http\"",
            ),
            (
                "listeners = [\"http\", \"http\"]",
                "\"http\" is listed twice",
            ),
            (
                "hosts = []",
                "must not be empty; leave the key out for any host",
            ),
            (
                "hosts = [\"a.com:80\"]",
                "must be a host such as \"app.example.com\" or \"*.example.com\", without port, got \"a.com:80\"",
            ),
            (
                "hosts = [\"a.com\", \"A.com.\"]",
                "\"A.com.\" is listed twice",
            ),
            (
                "hosts = \"a.com\"",
                "must be an array such as [\"app.example.com\"], got \"a.com\"",
            ),
            ("path = \"admin\"", "must begin with \"/\", got \"admin\""),
            (
                "path_exact = \"/a?b\"",
                "must not hold '?'; `query` is not part of a path, got \"/a?b\"",
            ),
            (
                "path = \"/%2fa\"",
                "must not hold %2F: no request with it is routed by it, got \"/%2fa\"",
            ),
            ("path = 1", "must be a path such as \"/admin\", got 1"),
            (
                "path = \"/a\"\npath_exact = \"/b\"",
                "a route has one path, and this one has `path`",
            ),
            (
                "path_regex = \"/a\"\npath = \"/b\"",
                "a route has one path, and this one has `path_regex`",
            ),
            (
                "path_regex = \"(\"",
                "is not a regular expression: unclosed group, got \"(\"",
            ),
            (
                "path_regex = \"(?:a{1000}){1000}\"",
                "is too large: it compiles to more than 1MiB",
            ),
            (
                "path_regex = \"a\"\nexclusive = true",
                "only with `path` or `path_exact`: what a regex takes cannot be known in advance",
            ),
            (
                "methods = []",
                "must not be empty; leave the key out for any method",
            ),
            (
                "methods = [\"get\"]",
                "must be in upper case, got \"get\"; did you mean \"GET\"?",
            ),
            (
                "methods = [\"G T\"]",
                "must be a method such as \"GET\", got \"G T\"",
            ),
            ("methods = [\"GET\", \"GET\"]", "\"GET\" is listed twice"),
            (
                "methods = \"GET\"",
                "must be an array such as [\"GET\", \"HEAD\"], got \"GET\"",
            ),
            ("headers = { host = \"a\" }", "host is matched by `hosts`"),
            (
                "headers = { x-a = \"1\", X-A = \"2\" }",
                "x-a is there twice; header names do not differ by case",
            ),
            (
                "headers = []",
                "must be a table such as { x-name = \"value\" }, got an array",
            ),
        ],
    );
}

#[test]
fn redirects() {
    each_value_has(
        "[[route]]\n",
        &[
            (
                "redirect = {}",
                "needs `to`, such as to = \"https://{host}{path}{query}\"",
            ),
            ("redirect = \"/x\"", "must be a table, got \"/x\""),
            (
                "redirect = { to = \"/x\", status = 200 }",
                "must be 301, 302, 303, 307 or 308, got 200",
            ),
            (
                "redirect = { to = \"/{hots}\" }",
                "knows only {host}, {path} and {query}, not \"{hots}\"",
            ),
            (
                "redirect = { to = \"/{host\" }",
                "knows only {host}, {path} and {query}, not \"{host\"",
            ),
            (
                "redirect = { to = \"/a}\" }",
                "knows only {host}, {path} and {query}, not \"}\"",
            ),
            (
                "redirect = { to = \"/{path}\" }",
                "must not begin with two slashes ({path} brings its own), got \"/{path}\"",
            ),
            (
                "redirect = { to = \"//a.com\" }",
                "must not begin with two slashes ({path} brings its own), got \"//a.com\"",
            ),
        ],
    );
    for to in [
        "",
        "x",
        "ftp://a.com",
        "javascript:alert(1)",
        "https://",
        "/a b",
        "/a\\\\b",
        "/ä",
        "/\\r\\nset-cookie: a",
        "{host}",
    ] {
        let found = problems_behind_base(&format!("[[route]]\nredirect = {{ to = \"{to}\" }}\n"));
        let expected = "2:19: route[0].redirect.to: must be an absolute URL or a path, such as \"https://{host}{path}{query}\" or \"/new\"";
        assert_eq!(found, [format!("{expected}, got \"{to}\"")]);
    }
    for to in [
        "/",
        "{path}",
        "{path}{query}#top",
        "https://{host}{path}{query}",
        "http://a.com:80/x?y={host}",
    ] {
        assert_eq!(
            problems_behind_base(&format!("[[route]]\nredirect = {{ to = {to:?} }}\n")),
            [""; 0]
        );
    }
}

#[test]
fn responses() {
    each_value_has(
        "[[route]]\n",
        &[
            ("respond = 404", "must be a table, got 404"),
            ("respond = { status = 100 }", "must be 200–599, got 100"),
            ("respond = { status = 600 }", "must be 200–599, got 600"),
            (
                "respond = { status = \"404\" }",
                "must be a whole number, 200–599, got \"404\"",
            ),
            (
                "respond = { status = 204, body = \"x\" }",
                "must be empty: a 204 has no body",
            ),
            ("respond = { body = 1 }", "must be a string, got 1"),
            (
                "respond = { headers = { content-length = \"1\" } }",
                "content-length is set by the balancer; leave it out",
            ),
            (
                "respond = { headers = { \"\" = \"1\" } }",
                "\"\" is not a header name",
            ),
        ],
    );
}

#[test]
fn upgrades() {
    each_value_has(
        "[[route]]\nupstream = \"app\"\nupgrades = ",
        &[
            (
                "\"websocket\"",
                "must be an array such as [\"websocket\"], got \"websocket\"",
            ),
            (
                "[\"web socket\"]",
                "must be a protocol's name such as \"websocket\", got \"web socket\"",
            ),
            (
                "[\"a/b/c\"]",
                "must be a protocol's name such as \"websocket\", got \"a/b/c\"",
            ),
            (
                "[\"websocket\", \"WebSocket\"]",
                "\"WebSocket\" is listed twice",
            ),
            (
                "[\"h2c\"]",
                "\"h2c\" would hide further requests from the routes; HTTP/2 and TLS are spoken without it",
            ),
        ],
    );
    each_has(&[(
        "[[route]]\nrespond = { status = 204 }\nupgrades = [\"websocket\"]\n",
        "3:12: route[0].upgrades: only with `upstream`: nobody else can change protocols",
    )]);
}

#[test]
fn changes_of_headers() {
    let route = "[[route]]\nupstream = \"app\"\n";
    let own = "belongs to the connection and is set by the balancer; leave it out";
    let identity = "says who asked and is set by the balancer; leave it out";
    for name in [
        "connection",
        "te",
        "transfer-encoding",
        "content-length",
        "trailer",
    ] {
        for key in ["request_headers", "response_headers"] {
            let expected = format!("{name} {own}");
            each_value_has(
                route,
                &[
                    (
                        &format!("{key} = {{ set = {{ {name} = \"1\" }} }}"),
                        &expected,
                    ),
                    (
                        &format!("{key} = {{ add = {{ {name} = \"1\" }} }}"),
                        &expected,
                    ),
                    (&format!("{key} = {{ remove = [\"{name}\"] }}"), &expected),
                ],
            );
        }
    }
    for name in [
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-request-id",
    ] {
        let expected = format!("{name} {identity}");
        each_value_has(
            route,
            &[
                (
                    &format!("request_headers = {{ set = {{ {name} = \"1\" }} }}"),
                    &expected,
                ),
                (
                    &format!("request_headers = {{ remove = [\"{name}\"] }}"),
                    &expected,
                ),
            ],
        );
    }
    each_value_has(
        route,
        &[
            ("request_headers = []", "must be a table, got an array"),
            (
                "request_headers = { st = {} }",
                "unknown key; did you mean `set`?",
            ),
            (
                "request_headers = { set = [] }",
                "must be a table such as { x-name = \"value\" }, got an array",
            ),
            (
                "request_headers = { remove = \"x-a\" }",
                "must be an array such as [\"x-name\"], got \"x-a\"",
            ),
            (
                "request_headers = { remove = [1] }",
                "must be the name of a header, got 1",
            ),
            (
                "request_headers = { remove = [\":authority\"] }",
                "\":authority\" is not a header name",
            ),
            (
                "request_headers = { set = { \"a b\" = \"1\" } }",
                "\"a b\" is not a header name",
            ),
            (
                "request_headers = { set = { x-a = \"1\", X-A = \"2\" } }",
                "x-a is there twice; header names do not differ by case",
            ),
            (
                "request_headers = { set = { x-a = \"1\" }, remove = [\"X-A\"] }",
                "x-a is in `set` already; a name stands in one of `set`, `add` and `remove`",
            ),
            (
                "request_headers = { set = { x-a = \"secret\\r\\n\" } }",
                "must be printable ASCII",
            ),
            (
                "request_headers = { set = { x-a = \" secret\" } }",
                "must not begin or end with a space",
            ),
            (
                "request_headers = { set = { x-a = 1 } }",
                "must be a string, got 1",
            ),
            (
                "response_headers = { set = { x-a = \"$hots\" } }",
                "knows only $client_ip, $host, $path, $request_id and $scheme, not \"$hots\"; a dollar sign is written \"$$\"",
            ),
            (
                "request_headers = { add = { host = \"a\" } }",
                "host can only be in `set`: a request has exactly one",
            ),
            (
                "request_headers = { remove = [\"host\"] }",
                "host can only be in `set`: a request has exactly one",
            ),
            (
                "request_headers = { set = { host = \"a b\" } }",
                "must be a host such as \"app.internal\" or \"app.internal:8080\"; it takes no variables, got \"a b\"",
            ),
            (
                "request_headers = { set = { host = \"$host\" } }",
                "must be a host such as \"app.internal\" or \"app.internal:8080\"; it takes no variables, got \"$host\"",
            ),
            (
                "response_headers = { set = { host = \"a\" } }",
                "host is no field of a response",
            ),
        ],
    );
    each_value_has(
        "[[route]]\nrespond = {}\n",
        &[(
            "request_headers = { remove = [\"x-a\"] }",
            "only with `upstream`: this route sends nothing to an endpoint",
        )],
    );
}

#[test]
fn rewrites() {
    let route = "[[route]]\nupstream = \"app\"\npath = \"/a\"\n";
    each_value_has(
        route,
        &[
            ("rewrite = \"/b\"", "must be a table, got \"/b\""),
            ("rewrite = {}", "needs either `prefix`, or `regex` and `to`"),
            (
                "rewrite = { prefix = \"/b\", to = \"/c\" }",
                "needs either `prefix`, or `regex` and `to`",
            ),
            (
                "rewrite = { regex = \"b\" }",
                "needs either `prefix`, or `regex` and `to`",
            ),
            (
                "rewrite = { prefx = \"/b\", regex = \"b\", to = \"/c\" }",
                "unknown key; did you mean `prefix`?",
            ),
            (
                "rewrite = { prefix = \"b\" }",
                "must begin with \"/\", got \"b\"",
            ),
            (
                "rewrite = { prefix = \"/b//c\" }",
                "must be in canonical spelling: write \"/b/c\", got \"/b//c\"",
            ),
            (
                "rewrite = { regex = \"(\", to = \"/\" }",
                "is not a regular expression: unclosed group, got \"(\"",
            ),
            (
                "rewrite = { regex = \"^/a\", to = \"/b?c\" }",
                "must not hold '?', got \"/b?c\"",
            ),
            (
                "rewrite = { prefix = \"/<b>\" }",
                "must not hold '<', got \"/<b>\"",
            ),
            (
                "rewrite = { regex = \"^/a$\", to = \"\" }",
                "must begin with \"/\", got \"\"",
            ),
            (
                "rewrite = { regex = \"^/a\", to = \"b\" }",
                "must begin with \"/\": it takes the place of a path's begin, got \"b\"",
            ),
            (
                "rewrite = { regex = \"^/a$\", to = \"/b/../..\" }",
                "must not climb above \"/\", got \"/b/../..\"",
            ),
            (
                "rewrite = { regex = \"^/(a)\", to = \"/$2\" }",
                "names a group that `regex` does not have: \"$2\" (a dollar sign is written \"$$\", and \"${1}\" where a letter follows), got \"/$2\"",
            ),
            (
                "rewrite = { regex = \"^/(a)\", to = \"/$1b\" }",
                "names a group that `regex` does not have: \"$1b\" (a dollar sign is written \"$$\", and \"${1}\" where a letter follows), got \"/$1b\"",
            ),
        ],
    );
    each_value_has(
        "[[route]]\nupstream = \"app\"\npath_exact = \"/a\"\n",
        &[(
            "rewrite = { prefix = \"/b\" }",
            "only with `path`, of which it takes the place; use `regex` and `to`",
        )],
    );
    each_value_has(
        "[[route]]\nrespond = {}\n",
        &[(
            "rewrite = { prefix = \"/b\" }",
            "only with `upstream`: this route sends nothing to an endpoint",
        )],
    );
    for rewrite in [
        "{ prefix = \"/\" }",
        "{ regex = \"^/(?<x>a)(b)?\", to = \"/${x}c$x/$1$2$$\" }",
        "{ regex = \"a\", to = \"b\" }",
        "{ regex = \"^/a\", to = \"\" }",
        "{ regex = \"^/a|b$\", to = \"c\" }",
        "{ regex = \"^(.*)$\", to = \"$1.html\" }",
    ] {
        let found = problems_behind_base(&format!("{route}rewrite = {rewrite}\n"));
        assert_eq!(found, [""; 0], "{rewrite}");
    }
}
