//! Each kind of problem, with its exact place and words.

mod limits;
mod listeners;
mod retries;
mod routes;
mod tracing;
mod traffic;
mod upstreams;

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
            "1:2: nothing: unknown key; allowed here: `process`, `log`, `access_log`, `tracing`, `admin`, `error_pages`, `listener`, `upstream`, `route`"
        ]
    );
}

#[test]
fn keys_and_values_of_a_later_version() {
    assert_eq!(
        problems_behind_base("[[route]]\nupstream = \"app\"\nquery = []\n"),
        ["3:1: route[0].query: not supported yet"]
    );
}

#[test]
fn types() {
    each_has(&[
        (
            "[admin]\nsocket = false\n",
            "2:10: admin.socket: must be \"off\" or a path, got false",
        ),
        (
            &format!("[admin]\nsocket = \"/{}\"\n", "x".repeat(120)),
            "2:10: admin.socket: must be a path of at most 107 bytes, as the system wants it of sockets, got \"/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"…",
        ),
        (
            "[admin]\ntoken_file = 5\n",
            "2:14: admin.token_file: must be a path, got 5",
        ),
        (
            "[admin]\nhosts = \"a.example\"\n",
            "2:9: admin.hosts: must be an array such as [\"balancer.example.com\"], got \"a.example\"",
        ),
        (
            "[admin]\nhosts = [\"a.example:9900\"]\n",
            "2:10: admin.hosts[0]: must be a host's name such as \"balancer.example.com\", without a port, got \"a.example:9900\"",
        ),
        (
            "[admin]\nhosts = [\"a.example\", \"A.example\"]\n",
            "2:23: admin.hosts[1]: \"A.example\" is listed twice",
        ),
        (
            "[admin]\naudit = 1\n",
            "2:9: admin.audit: must be a path, got 1",
        ),
        (
            "[process]\ndrain_tunnel_timeout = 600\n",
            "2:24: process.drain_tunnel_timeout: must be a duration such as \"5s\", got 600",
        ),
        (
            "[process]\nworkers = \"4\"\n",
            "2:11: process.workers: must be a whole number, 1–1024, got \"4\"",
        ),
        (
            "[process]\ncertificate_poll = \"never\"\n",
            "2:20: process.certificate_poll: must be a duration such as \"5s\" (units: ms, s, m, h), got \"never\"",
        ),
        (
            "[process]\ncertificate_poll = 60\n",
            "2:20: process.certificate_poll: must be \"off\" or a duration such as \"1m\", got 60",
        ),
        (
            "[process]\ncertificate_poll = \"1ms\"\n",
            "2:20: process.certificate_poll: must be \"off\" or at least \"100ms\", got \"1ms\"",
        ),
        (
            "[process]\nconfig_poll = true\n",
            "2:15: process.config_poll: must be \"off\" or a duration such as \"1s\", got true",
        ),
        (
            "[process]\nauto_rollback = true\n",
            "2:17: process.auto_rollback: must be a table such as { ratio = 0.05 }, got true",
        ),
        (
            "[process]\nauto_rollback = { ratio = 1 }\n",
            "2:27: process.auto_rollback.ratio: must be above 0 and below 1, got 1",
        ),
        (
            "[process]\nauto_rollback = { min_requests = 5 }\n",
            "2:34: process.auto_rollback.min_requests: must be 10–1000000000, got 5",
        ),
        (
            "[process]\nauto_rollback = { window = \"2h\" }\n",
            "2:28: process.auto_rollback.window: must be \"1s\" to \"1h\", got \"2h\"",
        ),
        (
            "[process]\nauto_rollback = { errors = \"5xx\" }\n",
            "2:28: process.auto_rollback.errors: must be \"own\" or \"all\", got \"5xx\"",
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
            "1:1: upstream.app.log: unknown key; allowed here: `endpoints`, `policy`, `hash`, `slow_start`, `spill_below`, `active_set`, `protocol`, `tls`, `proxy_protocol`, `health`, `passive`, `min_available`, `timeouts`, `adaptive`, `queue`, `affinity`, `state`, `pause`, `retry`, `role`",
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
            "2:10: access_log.target: must be \"off\", \"stdout\", \"syslog\", \"journald\" or a path, got false",
        ),
        (
            "[access_log]\ntarget = \"syslog://10.0.0.1:514\"\n",
            "2:10: access_log.target: must be a path, or \"syslog:\" and the path of a socket: what leaves this machine is for a log daemon on it, got \"syslog://10.0.0.1:514\"",
        ),
        (
            "[access_log]\ntarget = \"journald:\"\n",
            "2:10: access_log.target: must be a path after the colon, such as \"syslog:/dev/log\", got \"journald:\"",
        ),
        (
            "[access_log]\nformat = \"common\"\n",
            "2:10: access_log.format: must be \"json\" or \"combined\", got \"common\"",
        ),
        (
            "[access_log]\nfields = []\n",
            "2:10: access_log.fields: must not be empty; leave it out for all of them",
        ),
        (
            "[access_log]\nfields = [\"statis\"]\n",
            "2:11: access_log.fields[0]: no field is named \"statis\"; did you mean \"status\"?",
        ),
        (
            "[access_log]\nfields = [\"path\", \"path\"]\n",
            "2:19: access_log.fields[1]: \"path\" is listed twice",
        ),
        (
            "[access_log]\nformat = \"combined\"\nfields = [\"path\"]\n",
            "3:10: access_log.fields: format = \"combined\" has its own: leave `fields` out, or say format = \"json\"",
        ),
        (
            "[access_log]\nfields = [\"path\"]\nheaders = [\"x-a\"]\n",
            "3:11: access_log.headers: `fields` leaves them out: add \"headers\" there",
        ),
        (
            "[access_log]\nheaders = [\"Referer\"]\n",
            "2:12: access_log.headers[0]: referer stands in the field \"referer\": leave it out here",
        ),
        (
            "[access_log]\nredact = { query = \"token\" }\n",
            "2:20: access_log.redact.query: must be \"all\", or an array of parameters' names such as [\"token\"], got \"token\"",
        ),
        (
            "[access_log]\nredact = { query = [\"a=b\"] }\n",
            "2:21: access_log.redact.query[0]: must be the name of a parameter, as it is when decoded, got \"a=b\"",
        ),
        (
            "[access_log]\nredact = { headers = [\"x-a\"] }\n",
            "2:23: access_log.redact.headers[0]: x-a is not logged: add it to `access_log.headers`, or leave it out here",
        ),
        (
            "[access_log]\nslow = \"0s\"\n",
            "2:8: access_log.slow: must be longer than zero, got \"0s\"",
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
fn error_pages() {
    let own = "must be the status of an error of the balancer's own: 400, 404, 405, 408, 413, 414, 417, 421, 429, 431, 500, 501, 502, 503, 504, 505, 508";
    each_has(&[
        (
            "[error_pages]\n\"403\" = \"403.html\"\n",
            &format!("2:1: error_pages.403: {own}"),
        ),
        (
            "[error_pages]\n5xx = \"5xx.html\"\n",
            &format!("2:1: error_pages.5xx: {own}"),
        ),
        (
            "[error_pages]\n502 = 502\n",
            "2:7: error_pages.502: must be a path, got 502",
        ),
        (
            "[error_pages]\n502 = \"pages/502\"\n",
            "2:7: error_pages.502: must be a file whose name ends in .html, .json or .txt, got \"pages/502\"",
        ),
        (
            "[error_pages]\n502 = \"502.HTM\"\n",
            "2:7: error_pages.502: must be a file whose name ends in .html, .json or .txt, got \"502.HTM\"",
        ),
    ]);
    assert!(
        problems("error_pages = 1\n").contains(
            &"1:15: error_pages: must be a table such as { \"502\" = \"pages/502.html\" }, got 1"
                .to_owned()
        )
    );
}
