//! Traces and where they go.

use super::{each_has, each_value_has};
use crate::configuration::{problems_behind_base, valid_behind_base};

#[test]
fn traces_need_a_collector() {
    each_has(&[
        (
            "[tracing]\n",
            "1:1: tracing: needs `endpoint`, such as endpoint = \"http://127.0.0.1:4318\"",
        ),
        (
            "[[tracing]]\n",
            "1:1: tracing: must be a table, got an array",
        ),
        (
            "[tracing]\nendpoint = \"http://h:1\"\nsamples = 1\n",
            "3:1: tracing.samples: unknown key; did you mean `sample`?",
        ),
    ]);
    let url = "must be a URL such as \"http://127.0.0.1:4318\" or \"https://collector.example.com/v1/traces\", got";
    for wrong in [
        "\"127.0.0.1:4318\"",
        "\"grpc://h:4317\"",
        "\"/v1/traces\"",
        "\"http://\"",
        "\"http://h:0\"",
        "\"http://h:99999\"",
        "\"http://h/?a=b\"",
        "\"http://a b/\"",
        "\"\"",
        "4318",
    ] {
        let found = problems_behind_base(&format!("[tracing]\nendpoint = {wrong}\n"));
        assert_eq!(found, [format!("2:12: tracing.endpoint: {url} {wrong}")]);
    }
    // A password is not shown.
    let found = problems_behind_base("[tracing]\nendpoint = \"http://me:secret@h:1\"\n");
    assert_eq!(
        found,
        [
            "2:12: tracing.endpoint: must not hold a name or password; send them as a field of header_files"
        ]
    );
}

#[test]
fn what_is_said_of_traces_can_be_so() {
    each_value_has(
        "[tracing]\nendpoint = \"http://h:4318\"\n",
        &[
            ("sample = 1.5", "must be 0 to 1, got 1.5"),
            ("sample = -0.1", "must be 0 to 1, got -0.1"),
            ("sample = nan", "must be 0 to 1, got nan"),
            ("sample = \"1%\"", "must be a number, got \"1%\""),
            (
                "sample = 0\nparent_based = false",
                "0 with parent_based = false traces nothing: raise it, or remove [tracing]",
            ),
            ("parent_based = 1", "must be true or false, got 1"),
            ("query = \"no\"", "must be true or false, got \"no\""),
            (
                "service_name = \"\"",
                "must be 1–1024 bytes of text, got \"\"",
            ),
            (
                "resource = { \"service.name\" = \"a\" }",
                "is set by `service_name`",
            ),
            ("resource = { a = 1 }", "must be a string, got 1"),
            (
                "headers = { content-length = \"1\" }",
                "content-length is set by the balancer; leave it out",
            ),
            (
                "header_files = { \"a b\" = \"f\" }",
                "\"a b\" is not a header name",
            ),
            ("header_files = { a = \"\" }", "must be a path, got \"\""),
            ("timeout = \"0s\"", "must be longer than zero, got \"0s\""),
            ("queue = \"1KiB\"", "must be 64KiB to 1GiB, got \"1KiB\""),
            ("queue = 100", "must be a size such as \"64KiB\", got 100"),
            ("tls = {}", "only where endpoint is https"),
        ],
    );
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = valid_behind_base("[tracing]\nendpoint = \"https://c.example.com\"\n");
    let tracing = config.tracing.expect("traces");
    assert_eq!(tracing.collector.address.to_string(), "c.example.com:443");
    assert_eq!(&*tracing.collector.path, "/v1/traces");
    assert!(tracing.collector.tls.is_some());
    assert_eq!(
        (tracing.sample, tracing.parent_based, tracing.query),
        (0.01, true, false)
    );
    assert_eq!(&*tracing.service_name, "balancer");
    assert_eq!(tracing.timeout.as_secs(), 10);
    assert_eq!(tracing.queue.to_string(), "4MiB");
    let config = valid_behind_base("[tracing]\nendpoint = \"http://localhost/v9/x\"\n");
    let collector = config.tracing.expect("traces").collector;
    assert_eq!(collector.address.to_string(), "127.0.0.1:80");
    assert_eq!(&*collector.path, "/v9/x");
}
