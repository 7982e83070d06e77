//! Limits, queues and time limits: what contradicts itself is refused, with what to write instead.

use super::each_value_has;
use crate::configuration::problems_behind_base;

#[test]
fn of_listeners() {
    each_value_has(
        "[listener.b]\naddress = \"0.0.0.0:1\"\n",
        &[
            (
                "limits = { connections_per_client = 0 }",
                "must be at least 1, got 0",
            ),
            (
                "limits = { connections = 5, connections_per_client = 6 }",
                "connections_per_client (6) must not be more than connections; lower it, or leave it out",
            ),
            (
                "limits = { requests_per_connection = 0 }",
                "must be at least 1, got 0",
            ),
            (
                "timeouts = { max_age = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
            (
                "timeouts = { body_rate = \"0B\" }",
                "must be more than zero, got \"0B\"",
            ),
            (
                "timeouts = { body_rate = 100 }",
                "must be \"off\" or a size such as \"100B\", a second, got 100",
            ),
            (
                "timeouts = { body_grace = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
        ],
    );
}

#[test]
fn of_queues() {
    each_value_has(
        "[upstream.b]\nendpoints = [{ address = \"h:1\", max_in_flight = 1 }]\n",
        &[
            (
                "adaptive = { latency = \"1s\", min = 2 }",
                "min (2) must not be more than max_in_flight (1) of endpoint \"h:1\"; lower the one or raise the other",
            ),
            ("queue = {}", "needs `length`, such as length = 100"),
            ("queue = { length = 0 }", "must be 1–1000000, got 0"),
            (
                "queue = { length = 1, wait = \"0s\" }",
                "must be longer than zero, got \"0s\"",
            ),
            (
                "queue = { length = 1, order = \"lifo\" }",
                "must be \"fifo\" or \"newest-first\", got \"lifo\"; did you mean \"fifo\"?",
            ),
        ],
    );
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\n",
        &[
            (
                "adaptive = {}",
                "needs `latency`, such as latency = \"250ms\"",
            ),
            (
                "adaptive = { latency = \"60s\" }",
                "must be shorter than timeouts.response_head (60s), or nothing is ever late; lower it",
            ),
            (
                "adaptive = { latency = \"1s\", min = 0 }",
                "must be 1–1000000000, got 0",
            ),
            (
                "adaptive = { latency = \"1s\", min = 9, max = 8 }",
                "min (9) must not be more than max (8)",
            ),
            (
                "queue = { length = 1 }",
                "has no effect unless an endpoint has a limit: give endpoints a `max_in_flight`, such as endpoints = [{ address = \"127.0.0.1:8080\", max_in_flight = 100 }]",
            ),
        ],
    );
    each_value_has(
        "[upstream.b]\n",
        &[(
            "endpoints = [{ address = \"h:1\", max_in_flight = 0 }]",
            "must be 1–1000000000, got 0",
        )],
    );
}

#[test]
fn of_routes() {
    each_value_has(
        "[[route]]\nupstream = \"app\"\n",
        &[
            ("limits = { in_flight = 0 }", "must be 1–1000000000, got 0"),
            (
                "limits = { body_bytes = \"0B\" }",
                "must be more than zero, got \"0B\"",
            ),
            (
                "limits = { rate = {} }",
                "needs `requests`, such as requests = 100",
            ),
            (
                "limits = { rate = { requests = 0 } }",
                "must be 1–1000000, got 0",
            ),
            (
                "limits = { rate = { requests = 1, burst = 0 } }",
                "must be 1–1000000, got 0",
            ),
            (
                "limits = { rate = { requests = 1, per = \"0s\" } }",
                "must be longer than zero, got \"0s\"",
            ),
            (
                "limits = { rate = { requests = 1, per = \"8760h\", burst = 2 } }",
                "burst (2) takes longer than a year to come back at this rate; lower it",
            ),
            (
                "limits = { rate = { requests = 1, key = \"cookie\" } }",
                "must be \"client-address\", \"route\" or \"header:NAME\" such as \"header:X-Api-Key\", got \"cookie\"",
            ),
            (
                "limits = { rate = { requests = 1, key = \"header:a b\" } }",
                "must be \"client-address\", \"route\" or \"header:NAME\" such as \"header:X-Api-Key\", got \"header:a b\"",
            ),
            (
                "timeouts = { request = \"1s\", response_head = \"2s\" }",
                "response_head must not be longer than request (1s), which ends it; leave it out, or let request be longer",
            ),
            (
                "timeouts = { pool_idle = \"1s\" }",
                "is of connections, which routes share: set it in upstream.timeouts",
            ),
        ],
    );
    assert_eq!(
        problems_behind_base("[[route]]\nrespond = {}\ntimeouts = { request = \"1s\" }\n"),
        ["3:1: route[0].timeouts: only with `upstream`: this route sends nothing to an endpoint"]
    );
}

#[test]
fn of_routes_that_end_before_their_queue() {
    let file = |request: &str| {
        format!(
            "[upstream.b]\nendpoints = [{{ address = \"h:1\", max_in_flight = 1 }}]\nqueue = {{ length = 1 }}\n[[route]]\nupstream = \"b\"\ntimeouts = {{ request = {request:?} }}\n"
        )
    };
    for request in ["500ms", "1s"] {
        let [problem] = &*problems_behind_base(&file(request)) else {
            panic!("{request}")
        };
        assert!(
            problem.starts_with("4:1: route[0]: timeouts.request (")
                && problem.ends_with(") must be longer than upstream.b.queue.wait (1s), or nobody who waits that long is served; raise the one or lower the other"),
            "{problem}"
        );
    }
    assert_eq!(problems_behind_base(&file("2s")), [""; 0]);
}
