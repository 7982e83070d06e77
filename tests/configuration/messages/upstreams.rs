//! `[upstream.NAME]`

use super::{each_has, each_value_has};
use crate::configuration::problems_behind_base;

#[test]
fn upstreams() {
    each_has(&[
        (
            "[upstream.b]\n",
            "1:1: upstream.b: needs `endpoints`, such as endpoints = [\"127.0.0.1:8080\"]",
        ),
        (
            "[upstream.b]\nrole = \"authoritative\"\nendpoints = [\"h:1\", \"h:2\"]\n",
            "2:8: upstream.b.role: needs to know which endpoint is the authority: set health = { role_header = \"X-Role\" } for a field in which checks are told so, or state = \"disabled\" at every other endpoint",
        ),
        (
            "[upstream.b]\nrole = \"authoritative\"\nhealth = { role_header = \"x\" }\nendpoints = [\"h:1\", { address = \"h:2\", backup = true }]\n",
            "1:1: upstream.b: endpoint \"h:2\" (line 11) is a backup: who takes over from the authority says so itself; leave `backup` out",
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
                "must be \"round-robin\", \"least-connections\", \"two-choices\", \"peak-ewma\", \"hash\" or \"random\", got \"round_robin\"; did you mean \"round-robin\"?",
            ),
            (
                "proxy_protocol = \"required\"",
                "must be \"off\", \"v1\" or \"v2\", got \"required\"",
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
                "not for kind = \"tcp\": such a probe just connects",
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
                "must not begin or end with a space",
            ),
            (
                "health = { headers = { a = \"a\\nb\" } }",
                "must be printable ASCII",
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
                "health = { kind = \"http2\" }",
                "must be \"http\", \"tcp\" or \"grpc\", got \"http2\"; did you mean \"http\"?",
            ),
            (
                "health = { kind = \"grpc\" }",
                "gRPC needs HTTP/2: set protocol = \"h2\" on the upstream",
            ),
            (
                "protocol = \"h2\"\nhealth = { kind = \"grpc\", expect_body = \"ok\" }",
                "only for kind = \"http\"",
            ),
            (
                "protocol = \"h2\"\nhealth = { kind = \"grpc\", service = \"a b\" }",
                "must be a service such as \"shop.v1.Basket\", or \"\" for the whole server, got \"a b\"",
            ),
            ("health = { service = \"a\" }", "only for kind = \"grpc\""),
            (
                "role = \"authority\"",
                "must be \"clones\" or \"authoritative\", got \"authority\"",
            ),
            (
                "health = { role_header = \"x-role\" }",
                "health.role_header needs role = \"authoritative\": of clones every one serves; set that, or leave it out",
            ),
            (
                "role = \"authoritative\"\nhealth = { role_header = \"x role\" }",
                "must be the name of a header field such as \"X-Role\", got \"x role\"",
            ),
            (
                "role = \"authoritative\"\nhealth = { role_header = \"x-role\", role_value = \"\" }",
                "is no role: empty",
            ),
            (
                "role = \"authoritative\"\nhealth = { role_header = \"x-role\", kind = \"tcp\" }",
                "not for kind = \"tcp\": such a probe just connects",
            ),
            (
                "role = \"authoritative\"\nhealth = { role_value = \"primary\" }",
                "needs `role_header`: the field in which an endpoint says its role",
            ),
            (
                "role = \"authoritative\"\nhealth = { claim_ttl = \"1m\" }",
                "needs `role_header`: the field in which an endpoint says its role",
            ),
            (
                "role = \"authoritative\"\nhealth = { role_header = \"x-role\", claim_ttl = \"7s\" }",
                "must be at least 8s, or a claim lapses between one check and the next; got 7s",
            ),
            (
                "role = \"authoritative\"\nhealth = { role_header = \"x-role\", busy_interval = \"15s\" }",
                "busy_interval (15s) with role_header: who is the authority would be known too late; leave one of them out",
            ),
            (
                "role = \"authoritative\"\npolicy = \"random\"",
                "has no effect with role = \"authoritative\": one endpoint serves and no other; leave it out",
            ),
            (
                "role = \"authoritative\"\nslow_start = \"1s\"",
                "has no effect with role = \"authoritative\": one endpoint serves and no other; leave it out",
            ),
            (
                "health = { version_header = \"a b\" }",
                "must be the name of a header field such as \"X-App-Version\", got \"a b\"",
            ),
            (
                "health = { version_pointer = \"build/version\" }",
                "must be a JSON pointer such as \"/build/version\", got \"build/version\"",
            ),
            (
                "health = { version_pointer = \"/a~2\" }",
                "must be a JSON pointer such as \"/build/version\", got \"/a~2\"",
            ),
            (
                "health = { version_header = \"a\", expect_version = \"\" }",
                "is no version: empty",
            ),
            (
                "health = { version_header = \"a\", expect_version = 42 }",
                "must be a version such as \"42\", got 42",
            ),
            (
                "health = { version_header = \"a\", expect_version = \"v\u{e9}\" }",
                "is no version: not printable ASCII",
            ),
            (
                "health = { version_header = \"a\", version_pointer = \"/a\" }",
                "has no effect beside `version_header`; leave one of them out",
            ),
            (
                "health = { kind = \"tcp\", version_header = \"a\" }",
                "not for kind = \"tcp\": such a probe just connects",
            ),
            (
                "protocol = \"h2\"\nhealth = { kind = \"grpc\", version_pointer = \"/a\" }",
                "only for kind = \"http\"; set version_header instead",
            ),
            (
                "health = { version_pointer = \"/a\", live_version = true }",
                "needs `version_header`: that is the field looked for in answers to clients",
            ),
            (
                "health = { expect_version = \"42\" }",
                "needs `version_header` or `version_pointer`: while no endpoint says its version, all are held out",
            ),
            (
                "health = { expect_body = \"\" }",
                "must not be empty: every body has that",
            ),
            (
                "health = { expect_header = [\"a\"] }",
                "must be a table such as { x-name = \"value\" }, got an array",
            ),
            (
                "health = { busy_interval = \"4s\" }",
                "busy_interval (4s) must not be shorter than interval (5s)",
            ),
            (
                "health = { busy_interval = \"2h\" }",
                "must be at most \"1h\", got \"2h\"",
            ),
            (
                "health = { fast_interval = \"6s\" }",
                "fast_interval (6s) must not be longer than interval (5s)",
            ),
            (
                "health = { interval = \"9ms\", timeout = \"9ms\" }",
                "must be at least \"10ms\", got \"9ms\"",
            ),
            (
                "health = { fast_interval = \"9ms\" }",
                "must be at least \"10ms\", got \"9ms\"",
            ),
            (
                "passive = false",
                "must be \"off\" or a table such as { consecutive = 5 }, got false",
            ),
            ("passive = { consecutive = 0 }", "must be 1–1000000, got 0"),
            ("passive = { min_requests = 0 }", "must be 1–1000000, got 0"),
            (
                "passive = { ratio = 0 }",
                "must be above 0 and at most 1, got 0",
            ),
            (
                "passive = { max_ejected = 1.1 }",
                "must be above 0 and at most 1, got 1.1",
            ),
            (
                "passive = { window = \"1500ms\" }",
                "must be whole seconds, \"1s\" to \"60s\", got \"1500ms\"",
            ),
            (
                "passive = { window = \"2m\" }",
                "must be whole seconds, \"1s\" to \"60s\", got \"2m\"",
            ),
            (
                "passive = { eject = \"10m\" }",
                "eject (600s) must not be longer than eject_limit (300s)",
            ),
            (
                "passive = { eject_limit = \"5s\" }",
                "eject (10s) must not be longer than eject_limit (5s)",
            ),
            (
                "passive = { statuses = [404] }",
                "must be 500–599, got 404: other answers are no failures of an endpoint",
            ),
            (
                "min_available = 1.5",
                "must be at least 0 and at most 1, got 1.5",
            ),
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
fn policies_and_backups() {
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\npolicy = \"hash\"\n",
        &[
            (
                "hash = { key = \"cokie:sid\" }",
                "must be \"client-address\", \"header:NAME\", \"cookie:NAME\", \"path\" or \"query:NAME\", got \"cokie:sid\"; did you mean \"cookie\"?",
            ),
            (
                "hash = { key = \"cookie\" }",
                "must be \"cookie:NAME\", with the name of the cookie, got \"cookie\"",
            ),
            (
                "hash = { key = \"cookie:a b\" }",
                "must be \"cookie:\" and the name of a cookie, got \"cookie:a b\"",
            ),
            (
                "hash = { key = \"header:\" }",
                "must be \"header:\" and the name of a header, got \"header:\"",
            ),
            (
                "hash = { key = \"query:a=b\" }",
                "must be \"query:\" and the name of a parameter, as it stands in URLs, got \"query:a=b\"",
            ),
            (
                "hash = { bounded_load = 1 }",
                "must be 1.05–10, as a multiple of the mean load, or \"off\", got 1",
            ),
            (
                "hash = { bounded_load = \"none\" }",
                "must be 1.05–10, as a multiple of the mean load, or \"off\", got \"none\"",
            ),
            ("hash = \"path\"", "must be a table, got \"path\""),
        ],
    );
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\", { address = \"h:2\", backup = true }]\n",
        &[
            ("slow_start = \"2h\"", "must be at most 1h, got \"2h\""),
            (
                "spill_below = 0",
                "must be above 0 and at most 1, a share of the endpoints that are no backups, got 0",
            ),
            (
                "spill_below = 1.5",
                "must be above 0 and at most 1, a share of the endpoints that are no backups, got 1.5",
            ),
        ],
    );
    each_has(&[
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\nhash = {}\n",
            "3:1: upstream.b.hash: only with policy = \"hash\"; set that, or leave this out",
        ),
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\npolicy = \"hash\"\nhash = { keys = \"path\" }\n",
            "4:10: upstream.b.hash.keys: unknown key; did you mean `key`?",
        ),
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\nspill_below = 0.5\n",
            "3:1: upstream.b.spill_below: no endpoint is a backup; give one backup = true, or leave this out",
        ),
        (
            "[upstream.b]\nendpoints = [{ address = \"h:1\", backup = true }]\n",
            "1:1: upstream.b: every endpoint is a backup; leave `backup` out at those that are to be used first",
        ),
    ]);
}

#[test]
fn sets() {
    let (blue, green) = (
        "{ address = \"h:1\", set = \"blue\" }",
        "{ address = \"h:2\", set = \"green\" }",
    );
    each_value_has(
        &format!("[upstream.b]\nendpoints = [{blue}, {green}]\n"),
        &[
            (
                "active_set = \"gren\"",
                "must be the set of an endpoint, \"blue\" or \"green\", got \"gren\"; did you mean \"green\"?",
            ),
            ("active_set = 1", "must be a string, got 1"),
        ],
    );
    each_has(&[
        (
            "[upstream.b]\nendpoints = [{ address = \"h:1\", set = \"blue\" }]\n",
            "1:1: upstream.b: endpoints are in sets; say which of them serves: active_set = \"blue\"",
        ),
        (
            "[upstream.b]\nrole = \"authoritative\"\nendpoints = [{ address = \"h:1\", set = \"blue\" }]\n",
            "1:1: upstream.b: endpoint \"h:1\" (line 10) is in a set: of an authoritative upstream one endpoint serves, whatever set it is in; leave `set` out of each",
        ),
        (
            "[upstream.b]\nactive_set = \"a\"\nendpoints = [{ address = \"h:1\", set = \"a\" }, { address = \"h:2\", set = \"b\", backup = true }]\n",
            "1:1: upstream.b: every endpoint of set \"b\" (line 10) is a backup; leave `backup` out at those that are to be used first",
        ),
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\nactive_set = \"blue\"\n",
            "3:1: upstream.b.active_set: no endpoint is in a set; give each its `set`, or leave this out",
        ),
        (
            "[upstream.b]\nactive_set = \"blue\"\nendpoints = [\"h:1\", { address = \"h:2\", set = \"blue\" }]\n",
            "1:1: upstream.b: endpoint \"h:1\" (line 10) is in no `set`, and others are; give it one, too",
        ),
        (
            "[upstream.b]\nactive_set = \"a b\"\nendpoints = [{ address = \"h:2\", set = \"a b\" }]\n",
            "3:39: upstream.b.endpoints[0].set: a name has 1–64 characters of A-Z, a-z, 0-9, \"_\", \".\" and \"-\", got \"a b\"",
        ),
    ]);
}

#[test]
fn tls() {
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\n",
        &[
            ("tls = true", "must be a table, got true"),
            (
                "protocol = \"h3\"",
                "must be \"http/1.1\" or \"h2\", got \"h3\"; did you mean \"h2\"?",
            ),
            (
                "tls = { server_name = \"a b\" }",
                "must be a host name or an IP address such as \"app.internal\", got \"a b\"",
            ),
            ("tls = { verify = 0 }", "must be true or false, got 0"),
            ("tls = { ca = 1 }", "must be a path, got 1"),
            (
                "tls = { client_certificate = { chain = \"a\" } }",
                "needs `key`, such as key = \"server.key\"",
            ),
        ],
    );
    each_has(&[
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\ntls = { ca = \"ca.pem\", verify = false }\n",
            "3:9: upstream.b.tls.ca: has no effect with verify = false",
        ),
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\nprotocol = \"h2\"\nproxy_protocol = \"v2\"\n",
            "1:1: upstream.b: proxy_protocol with protocol = \"h2\": a connection would carry requests of many clients, and the header names one; leave one of them out",
        ),
        (
            "[upstream.b]\nendpoints = [\"h:1\"]\ntls = { server_nam = \"x\" }\n",
            "3:9: upstream.b.tls.server_nam: unknown key; did you mean `server_name`?",
        ),
    ]);
}
