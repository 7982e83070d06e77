//! `upstream.retry`, `route.retry` and `route.hedge`

use super::{each_has, each_value_has};

#[test]
fn of_an_upstream() {
    each_value_has(
        "[upstream.b]\nendpoints = [\"h:1\"]\n",
        &[
            (
                "retry = true",
                "must be a table such as { attempts = 3 }, or false, got true",
            ),
            ("retry = { attempts = 0 }", "must be 1–5, got 0"),
            ("retry = { attempts = 6 }", "must be 1–5, got 6"),
            ("retry = { budget = 1.5 }", "must be 0.0–1.0, got 1.5"),
            ("retry = { budget = -0.1 }", "must be 0.0–1.0, got -0.1"),
            ("retry = { budget_min = -1 }", "must be 0–1000000, got -1"),
            (
                "retry = { statuses = 503 }",
                "must be an array such as [502, 503, 504], got 503",
            ),
            (
                "retry = { statuses = [404] }",
                "must be 429 or 500–599, got 404: any other is an answer",
            ),
            ("retry = { statuses = [503, 503] }", "503 is listed twice"),
            ("retry = { statuses = [600] }", "must be 100–599, got 600"),
            ("retry = { on_timeout = 1 }", "must be true or false, got 1"),
            (
                "retry = { body_bytes = \"1GiB\" }",
                "must be at most \"16MiB\": it is kept in memory, for every request, got \"1GiB\"",
            ),
        ],
    );
}

#[test]
fn contradictions() {
    let upstream = |keys: &str| format!("[upstream.b]\nendpoints = [\"h:1\"]\n{keys}\n");
    let route = |keys: &str| format!("[[route]]\nupstream = \"app\"\npath = \"/b\"\n{keys}\n");
    let cases = [
        (
            upstream("retry = { budget = 0, budget_min = 0 }"),
            "3:9: upstream.b.retry: budget = 0 and budget_min = 0 allow nothing; write retry = false",
        ),
        (
            upstream("retry = { attempt_timeout = \"1s\" }"),
            "3:9: upstream.b.retry: attempt_timeout only with on_timeout = true: otherwise nothing follows a timeout",
        ),
        (
            upstream(
                "timeouts = { response_head = \"5s\" }\nretry = { on_timeout = true, attempt_timeout = \"5s\" }",
            ),
            "4:9: upstream.b.retry: attempt_timeout must be shorter than timeouts.response_head, 5s, after which the client gets a 504",
        ),
        (
            upstream("retry = { attempts = 1, on_timeout = true }"),
            "3:9: upstream.b.retry: attempts = 1 is never again, and the other keys say when; write attempts = 2, or retry = false",
        ),
        (
            route("retry = { budget = 0.1 }"),
            "4:11: route[0].retry.budget: belongs into `upstream.retry`: all routes to an upstream share its budget",
        ),
        (
            route("retry = { attempt_timeout = \"1s\" }"),
            "4:9: route[0].retry: attempt_timeout only with on_timeout = true: otherwise nothing follows a timeout",
        ),
        (
            route("retry = { on_timeout = true, attempt_timeout = \"2m\" }"),
            "4:9: route[0].retry: attempt_timeout must be shorter than the upstream's timeouts.response_head, 60s, after which the client gets a 504",
        ),
        (
            "[[route]]\npath = \"/b\"\nrespond = { status = 200 }\nretry = false\n".to_owned(),
            "4:1: route[0].retry: only with `upstream`: this route sends nothing to an endpoint",
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(text, expected)| (&**text, *expected))
        .collect();
    each_has(&cases);
}

#[test]
fn hedges_that_would_be_none() {
    let route = |keys: &str| {
        format!(
            "[[route]]\nupstream = \"app\"\npath = \"/b\"\nhedge = {{ after = \"1s\" }}\n{keys}\n"
        )
    };
    let cases = [
        (
            route("timeouts = { request = \"1s\" }"),
            "4:19: route[0].hedge.after: must be shorter than timeouts.request, 1s, after which nobody waits for an answer",
        ),
        (
            route("timeouts = { response_head = \"500ms\" }"),
            "4:19: route[0].hedge.after: must be shorter than timeouts.response_head, 500ms, after which nobody waits for an answer",
        ),
        (
            route("retry = { on_timeout = true, attempt_timeout = \"900ms\" }"),
            "4:19: route[0].hedge.after: must be shorter than retry.attempt_timeout, 900ms, after which nobody waits for an answer",
        ),
        (
            route("retry = false"),
            "4:9: route[0].hedge: a hedge is a second attempt, and retry allows one (attempts = 1, or retry = false); let it allow two, or leave this out",
        ),
        (
            route("methods = [\"POST\", \"DELETE\"]"),
            "4:9: route[0].hedge: only requests that change nothing are sent twice at once: GET, HEAD, OPTIONS, TRACE, QUERY, and this route takes none of them; leave it out",
        ),
        (
            "[[route]]\nupstream = \"app\"\npath = \"/b\"\nhedge = { after = \"0s\" }\n".to_owned(),
            "4:19: route[0].hedge.after: must be longer than zero, got \"0s\"",
        ),
        (
            "[[route]]\nupstream = \"app\"\npath = \"/b\"\nhedge = { after = \"1m\" }\n".to_owned(),
            "4:19: route[0].hedge.after: must be shorter than timeouts.response_head, 60s, after which nobody waits for an answer",
        ),
        (
            "[[route]]\nupstream = \"app\"\npath = \"/b\"\nhedge = {}\n".to_owned(),
            "4:9: route[0].hedge: needs `after`, such as after = \"50ms\"",
        ),
        (
            "[[route]]\nupstream = \"app\"\npath = \"/b\"\nhedge = true\n".to_owned(),
            "4:9: route[0].hedge: must be a table, got true",
        ),
        (
            "[[route]]\npath = \"/b\"\nrespond = { status = 200 }\nhedge = { after = \"1s\" }\n"
                .to_owned(),
            "4:1: route[0].hedge: only with `upstream`: this route sends nothing to an endpoint",
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(text, expected)| (&**text, *expected))
        .collect();
    each_has(&cases);
}
