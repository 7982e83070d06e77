//! Each kind of problem, with its exact place and words.

use super::{problems, problems_behind_base};

/// Each text, put behind the base, has exactly the one problem.
fn each_has(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(problems_behind_base(text), [*expected], "{text}");
    }
}

/// Each value of `key` has exactly the one problem, with this message.
fn each_value_has(before: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = problems_behind_base(&format!("{before}{text}\n"));
        let [problem] = &*found else {
            panic!("{text}: {found:?}")
        };
        assert!(
            problem.ends_with(&format!(": {expected}")),
            "{text}:\n    found {problem}\n expected {expected}"
        );
    }
}

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
fn unknown_keys() {
    each_has(&[
        (
            "[proces]\n",
            "1:2: proces: unknown key; did you mean `process`?",
        ),
        (
            "[listeners]\n",
            "1:2: listeners: unknown key; did you mean `listener`?",
        ),
        (
            "[log]\nlvl = 1\n",
            "2:1: log.lvl: unknown key; did you mean `level`?",
        ),
        (
            "[log]\ncolour = 1\n",
            "2:1: log.colour: unknown key; allowed here: `level`, `format`",
        ),
        (
            "[log]\n\"a b\" = 1\n",
            "2:1: log.\"a b\": unknown key; allowed here: `level`, `format`",
        ),
        (
            "[upstream.b]\nendpoints = [{ address = \"h:1\", wieght = 2 }]\n",
            "2:33: upstream.b.endpoints[0].wieght: unknown key; did you mean `weight`?",
        ),
    ]);
    assert_eq!(
        problems_behind_base("[nothing]\n"),
        [
            "1:2: nothing: unknown key; allowed here: `process`, `log`, `access_log`, `admin`, `listener`, `upstream`, `route`"
        ]
    );
}

#[test]
fn keys_and_values_of_a_later_version() {
    let upstream = "[upstream.b]\nendpoints = [\"h:1\"]\n";
    each_has(&[
        (
            "[admin]\nsocket = \"run/b.sock\"\n",
            "2:1: admin.socket: not supported yet",
        ),
        (
            "[listener.b]\naddress = \"0.0.0.0:1\"\nproxy_protocol = \"required\"\n",
            "3:18: listener.b.proxy_protocol: \"required\" is not supported yet; use \"off\"",
        ),
        (
            "[upstream.b]\nendpoints = [{ address = \"h:1\", backup = true }]\n",
            "2:33: upstream.b.endpoints[0].backup: not supported yet",
        ),
        (
            "[upstream.b]\nendpoints = [{ address = \"h:1\", max_in_flight = 1 }]\n",
            "2:33: upstream.b.endpoints[0].max_in_flight: not supported yet",
        ),
    ]);
    for policy in ["two-choices", "peak-ewma", "hash", "random"] {
        let expected = format!(
            "3:10: upstream.b.policy: {policy:?} is not supported yet; use \"round-robin\" or \"least-connections\""
        );
        assert_eq!(
            problems_behind_base(&format!("{upstream}policy = {policy:?}\n")),
            [expected]
        );
    }
    for (text, expected) in [
        (
            "protocol = \"h2\"",
            "3:12: upstream.b.protocol: \"h2\" is not supported yet; use \"http/1.1\"",
        ),
        (
            "health = { kind = \"grpc\" }",
            "3:19: upstream.b.health.kind: \"grpc\" is not supported yet; use \"http\" or \"tcp\"",
        ),
        (
            "timeouts = { tunnel_idle = \"1h\" }",
            "3:14: upstream.b.timeouts.tunnel_idle: not supported yet",
        ),
        ("tls = {}", "3:1: upstream.b.tls: not supported yet"),
        ("passive = {}", "3:1: upstream.b.passive: not supported yet"),
        ("retry = {}", "3:1: upstream.b.retry: not supported yet"),
        (
            "slow_start = \"1s\"",
            "3:1: upstream.b.slow_start: not supported yet",
        ),
        (
            "affinity = {}",
            "3:1: upstream.b.affinity: not supported yet",
        ),
        ("queue = {}", "3:1: upstream.b.queue: not supported yet"),
        ("role = \"x\"", "3:1: upstream.b.role: not supported yet"),
    ] {
        assert_eq!(
            problems_behind_base(&format!("{upstream}{text}\n")),
            [expected]
        );
    }
    let keys = [
        "upgrades",
        "rewrite",
        "request_headers",
        "response_headers",
        "timeouts",
        "limits",
        "retry",
        "mirror",
        "query",
    ];
    for key in keys {
        let text = format!("[[route]]\nupstream = \"app\"\n{key} = []\n");
        assert_eq!(
            problems_behind_base(&text),
            [format!("3:1: route[0].{key}: not supported yet")]
        );
    }
    assert_eq!(
        problems_behind_base("[[route]]\nsplit = []\n"),
        ["2:1: route[0].split: not supported yet"]
    );
}

#[test]
fn types() {
    each_has(&[
        (
            "[process]\nworkers = \"4\"\n",
            "2:11: process.workers: must be a whole number, 1–1024, got \"4\"",
        ),
        (
            "[process]\nworkers = 1.5\n",
            "2:11: process.workers: must be a whole number, 1–1024, got 1.5",
        ),
        (
            "[process]\nworkers = 0\n",
            "2:11: process.workers: must be 1–1024, got 0",
        ),
        (
            "[process]\nworkers = 99999999999999999999\n",
            "2:11: process.workers: must be 1–1024, got 99999999999999999999",
        ),
        (
            "[process]\nmax_connections = -1\n",
            "2:19: process.max_connections: must be at least 1, got -1",
        ),
        (
            "[process]\nshutdown_grace = 30\n",
            "2:18: process.shutdown_grace: must be a duration such as \"5s\", got 30",
        ),
        (
            "[process]\nshutdown_grace = \"30\"\n",
            "2:18: process.shutdown_grace: must be a duration such as \"5s\" (units: ms, s, m, h), got \"30\"",
        ),
        (
            "[process]\nshutdown_grace = \"9000h\"\n",
            "2:18: process.shutdown_grace: must be at most \"8760h\" (a year), got \"9000h\"",
        ),
        (
            "[log]\nlevel = \"inof\"\n",
            "2:9: log.level: must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\", got \"inof\"; did you mean \"info\"?",
        ),
        (
            "[log]\nformat = 1979-05-27\n",
            "2:10: log.format: must be \"text\" or \"json\", got 1979-05-27",
        ),
        (
            "[log]\nformat = []\n",
            "2:10: log.format: must be \"text\" or \"json\", got an array",
        ),
        (
            "log = 1\n",
            "1:1: upstream.app.log: unknown key; allowed here: `endpoints`, `policy`, `protocol`, `health`, `timeouts`",
        ),
        (
            "[access_log]\nsample = 0\n",
            "2:10: access_log.sample: must be above 0 and at most 1, got 0",
        ),
        (
            "[access_log]\nsample = 1.1\n",
            "2:10: access_log.sample: must be above 0 and at most 1, got 1.1",
        ),
        (
            "[access_log]\nsample = nan\n",
            "2:10: access_log.sample: must be above 0 and at most 1, got nan",
        ),
        (
            "[access_log]\nsample = \"1\"\n",
            "2:10: access_log.sample: must be a number, got \"1\"",
        ),
        (
            "[access_log]\ntarget = \"\"\n",
            "2:10: access_log.target: must be a path, got \"\"",
        ),
        (
            "[access_log]\ntarget = false\n",
            "2:10: access_log.target: must be \"off\", \"stdout\" or a path, got false",
        ),
        (
            "[[route]]\nupstream = \"app\"\nexclusive = 1\n",
            "3:13: route[0].exclusive: must be true or false, got 1",
        ),
    ]);
    assert!(
        problems("process = 1\n").contains(&"1:11: process: must be a table, got 1".to_owned())
    );
    assert!(
        problems("[route]\n")
            .contains(&"1:1: route: must be an array of tables: [[route]], got a table".to_owned())
    );
    assert!(
        problems("[listener]\naddress = \"0.0.0.0:1\"\n")
            .contains(&"2:11: listener.address: must be a table, got \"0.0.0.0:1\"".to_owned())
    );
    assert!(problems("listener = []\n").contains(
        &"1:12: listener: must be a table of listeners: [listener.NAME], got an array".to_owned()
    ));
}

#[test]
fn names() {
    each_has(&[
        (
            "[listener.\"a b\"]\naddress = \"0.0.0.0:1\"\n",
            "1:11: listener.\"a b\": a name has 1–64 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", got \"a b\"",
        ),
        (
            "[upstream.\"\"]\nendpoints = [\"h:1\"]\n",
            "1:11: upstream.\"\": a name has 1–64 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", got \"\"",
        ),
        (
            "[[route]]\nname = \"/\"\nupstream = \"app\"\n",
            "2:8: route[0].name: a name has 1–64 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", got \"/\"",
        ),
        (
            "[[route]]\nname = \"a\"\nupstream = \"app\"\n[[route]]\nname = \"a\"\nupstream = \"app\"\n",
            "5:8: route[1].name: \"a\" is the name of another route (line 9)",
        ),
        (
            "[[route]]\nname = 1\nupstream = \"app\"\n",
            "2:8: route[0].name: must be a string, got 1",
        ),
    ]);
}

#[test]
fn listeners() {
    assert_eq!(
        problems(""),
        [
            "1:1: needs at least one listener: [listener.NAME] with an address such as \"0.0.0.0:8080\""
        ]
    );
    each_has(&[
        (
            "[listener.b]\n",
            "1:1: listener.b: needs `address`, such as address = \"0.0.0.0:8080\"",
        ),
        (
            "[listener.b]\naddress = \"0.0.0.0:8080\"\n",
            "2:11: listener.b.address: 0.0.0.0:8080 is taken by listener.http.address (line 2)",
        ),
        (
            "[admin]\naddress = \"0.0.0.0:8080\"\n",
            "2:11: admin.address: 0.0.0.0:8080 is taken by listener.http.address (line 2)",
        ),
    ]);
    assert!(
        problems_behind_base(
            "[listener.b]\naddress = \"0.0.0.0:0\"\n[listener.c]\naddress = \"0.0.0.0:0\"\n"
        )
        .is_empty()
    );
    let ip = "must be an IP address and port such as \"0.0.0.0:8080\" or \"[::]:8080\"";
    for address in [
        "\"localhost:80\"",
        "\"0.0.0.0\"",
        "\":80\"",
        "80",
        "\"::1:80x\"",
    ] {
        let text = format!("[listener.b]\naddress = {address}\n");
        assert_eq!(
            problems_behind_base(&text),
            [format!("2:11: listener.b.address: {ip}, got {address}")]
        );
    }
    each_value_has(
        "[listener.b]\naddress = \"0.0.0.0:1\"\n",
        &[
            (
                "protocols = []",
                "must not be empty; leave the key out for both protocols",
            ),
            (
                "protocols = [\"h2\"]",
                "\"h2\" alone needs tls, where it is negotiated; add \"http/1.1\" or tls",
            ),
            (
                "protocols = [\"h2\", \"http/1.1\", \"h2\"]",
                "\"h2\" is listed twice",
            ),
            (
                "protocols = \"h2\"",
                "must be an array such as [\"h2\", \"http/1.1\"], got \"h2\"",
            ),
            (
                "trusted_proxies = [\"10.0.0.0/33\"]",
                "must be a network such as \"10.0.0.0/8\" or an IP address, got \"10.0.0.0/33\"",
            ),
            (
                "trusted_proxies = [\"10.0.0.1/8\"]",
                "has bits set beyond its prefix; write \"10.0.0.0/8\", got \"10.0.0.1/8\"",
            ),
            (
                "trusted_proxies = [\"proxy\"]",
                "must be a network such as \"10.0.0.0/8\" or an IP address, got \"proxy\"",
            ),
            (
                "trusted_proxies = \"10.0.0.0/8\"",
                "must be an array of networks such as [\"10.0.0.0/8\"], got \"10.0.0.0/8\"",
            ),
            (
                "timeouts = { header = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
            (
                "timeouts = { head = \"1s\" }",
                "unknown key; did you mean `header`?",
            ),
            (
                "limits = { header_bytes = 65536 }",
                "must be a size such as \"64KiB\", got 65536",
            ),
            (
                "limits = { header_bytes = \"64k\" }",
                "must be a size such as \"64KiB\" (units: B, KiB, MiB, GiB), got \"64k\"",
            ),
            (
                "limits = { body_bytes = \"0B\" }",
                "must be more than zero, got \"0B\"",
            ),
            ("limits = { connections = 0 }", "must be at least 1, got 0"),
            ("limits = { h2_streams = 0 }", "must be 1–2147483647, got 0"),
            ("limits = { headers = 20000 }", "must be 1–10000, got 20000"),
            ("tls = true", "must be a table, got true"),
            (
                "tls = {}",
                "needs `certificates`, such as certificates = [{ chain = \"server.pem\", key = \"server.key\" }]",
            ),
            (
                "tls = { certificates = [] }",
                "must not be empty; TLS needs one",
            ),
            (
                "tls = { certificates = [{ chain = \"a\" }] }",
                "needs `key`, such as key = \"server.key\"",
            ),
            (
                "tls = { certificates = [{ key = \"a\" }] }",
                "needs `chain`, such as chain = \"server.pem\"",
            ),
            (
                "tls = { certificates = [{ chain = \"\", key = \"a\" }] }",
                "must be a path, got \"\"",
            ),
        ],
    );
    each_value_has(
        "[listener.b]\naddress = \"0.0.0.0:1\"\ntls.certificates = [{ chain = \"a\", key = \"b\" }]\n",
        &[
            (
                "tls.min_version = \"1.1\"",
                "must be \"1.2\" or \"1.3\", got \"1.1\"; did you mean \"1.2\"?",
            ),
            (
                "tls.client_ca = \"ca\"",
                "has no effect unless client_auth is \"optional\" or \"required\"",
            ),
            (
                "tls.client_ca = \"ca\"\ntls.client_auth = \"off\"",
                "has no effect unless client_auth is \"optional\" or \"required\"",
            ),
            (
                "tls.client_auth = \"required\"",
                "needs client_ca, such as client_ca = \"clients.pem\"",
            ),
            (
                "tls.client_auth = \"optional\"",
                "needs client_ca, such as client_ca = \"clients.pem\"",
            ),
            (
                "tls.client_auth = \"must\"\ntls.client_ca = \"ca\"",
                "must be \"off\", \"optional\" or \"required\", got \"must\"",
            ),
            (
                "redirect_to_https = true",
                "must not be set on a listener with tls: its requests are https already",
            ),
        ],
    );
    assert!(problems_behind_base("[listener.b]\naddress = \"0.0.0.0:1\"\ntls.certificates = [{ chain = \"a\", key = \"b\" }]\nprotocols = [\"h2\"]\n").is_empty());
}

#[test]
fn upstreams() {
    each_has(&[
        (
            "[upstream.b]\n",
            "1:1: upstream.b: needs `endpoints`, such as endpoints = [\"127.0.0.1:8080\"]",
        ),
        (
            "[upstream.b]\nendpoints = []\n",
            "2:13: upstream.b.endpoints: must not be empty; an upstream needs one endpoint",
        ),
        (
            "[upstream.b]\nendpoints = \"h:1\"\n",
            "2:13: upstream.b.endpoints: must be an array such as [\"127.0.0.1:8080\"], got \"h:1\"",
        ),
        (
            "[upstream.b]\nendpoints = [\"h:1\", \"H:1\"]\n",
            "2:21: upstream.b.endpoints[1]: address h:1 is there already (line 9)",
        ),
        (
            "[upstream.b]\nendpoints = [{ address = \"h:1\", name = \"a\" }, { address = \"h:2\", name = \"a\" }]\n",
            "2:47: upstream.b.endpoints[1]: name \"a\" is taken (line 9)",
        ),
        (
            "[upstream.b]\nendpoints = [8080]\n",
            "2:14: upstream.b.endpoints[0]: must be \"host:port\" or a table such as { address = \"127.0.0.1:8080\", weight = 2 }, got 8080",
        ),
        (
            "[upstream.b]\nendpoints = [{}]\n",
            "2:14: upstream.b.endpoints[0]: needs `address`, such as address = \"127.0.0.1:8080\"",
        ),
        (
            "[upstream.b]\nendpoints = [\"h\"]\n",
            "2:14: upstream.b.endpoints[0]: must be host:port such as \"127.0.0.1:8080\", with a port, got \"h\"",
        ),
    ]);
    each_value_has(
        "[upstream.b]\n",
        &[
            (
                "endpoints = [{ address = \"h:1\", weight = 1001 }]",
                "must be 1–1000, got 1001",
            ),
            (
                "endpoints = [{ address = \"h:1\", state = \"up\" }]",
                "must be \"active\", \"draining\" or \"disabled\", got \"up\"",
            ),
            (
                "endpoints = [{ address = \"h:1\", name = \"a:b\" }]",
                "a name has 1–64 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", got \"a:b\"",
            ),
            (
                "endpoints = [{ address = 1 }]",
                "must be host:port such as \"127.0.0.1:8080\", got 1",
            ),
        ],
    );
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\n",
        &[
            (
                "policy = \"round_robin\"",
                "must be \"round-robin\" or \"least-connections\", got \"round_robin\"; did you mean \"round-robin\"?",
            ),
            (
                "health = { path = \"healthz\" }",
                "must be a path such as \"/healthz\", got \"healthz\"",
            ),
            (
                "health = { path = \"/a b\" }",
                "must be a path such as \"/healthz\", got \"/a b\"",
            ),
            (
                "health = { path = \"/a#b\" }",
                "must be a path such as \"/healthz\", got \"/a#b\"",
            ),
            (
                "health = { host = \"a b\" }",
                "must be a host such as \"app.example.com\", got \"a b\"",
            ),
            (
                "health = { host = \"\" }",
                "must be a host such as \"app.example.com\", got \"\"",
            ),
            (
                "health = { interval = \"1s\" }",
                "timeout (2s) must not be longer than interval (1s)",
            ),
            (
                "health = { timeout = \"6s\" }",
                "timeout (6s) must not be longer than interval (5s)",
            ),
            (
                "health = { interval = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
            ("health = { fall = 0 }", "must be 1–1000, got 0"),
            ("health = { rise = 0 }", "must be 1–1000, got 0"),
            (
                "health = { kind = \"tcp\", path = \"/\" }",
                "only for kind = \"http\"; a \"tcp\" probe just connects",
            ),
            (
                "health = { headers = { host = \"a\" } }",
                "host is set by `host`",
            ),
            (
                "health = { headers = { \"a b\" = \"a\" } }",
                "\"a b\" is not a header name",
            ),
            (
                "health = { headers = { a = \" a\" } }",
                "must be without space at its ends, got \" a\"",
            ),
            (
                "health = { headers = { a = \"a\\nb\" } }",
                "must be printable ASCII, got \"a\\nb\"",
            ),
            (
                "health = { headers = { a = 1 } }",
                "must be a string, got 1",
            ),
            (
                "health = { headers = { te = \"a\" } }",
                "te is set by the balancer; leave it out",
            ),
            ("health = \"/healthz\"", "must be a table, got \"/healthz\""),
            (
                "timeouts = { connect = \"0ms\" }",
                "must be longer than zero, got \"0ms\"",
            ),
        ],
    );
    for statuses in [
        "\"\"",
        "\"20\"",
        "\"200-\"",
        "\"299-200\"",
        "\"99\"",
        "\"600\"",
        "\"2xx\"",
        "\"+200\"",
        "200",
        "\"200,\"",
    ] {
        let text = format!(
            "[upstream.b]\nendpoints = [\"h:1\"]\nhealth = {{ expect_status = {statuses} }}\n"
        );
        let expected = format!(
            "3:28: upstream.b.health.expect_status: must be statuses such as \"200-299\" or \"200,204,301-308\", got {statuses}"
        );
        assert_eq!(problems_behind_base(&text), [expected]);
    }
}

#[test]
fn routes() {
    routes_have(&[
        (
            "",
            "1:1: route[0]: needs one action: `upstream`, `redirect` or `respond`",
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
