//! `[listener.NAME]`

use super::{each_has, each_value_has};
use crate::configuration::{problems, problems_behind_base};

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
                "proxy_protocol = \"require\"",
                "must be \"off\" or \"required\", got \"require\"; did you mean \"required\"?",
            ),
            (
                "proxy_protocol = \"required\"",
                "needs proxy_protocol_from, the networks of the proxies in front, such as proxy_protocol_from = [\"10.0.0.0/8\"]",
            ),
            (
                "proxy_protocol = \"required\"\nproxy_protocol_from = []",
                "must not be empty; name the networks of the proxies in front",
            ),
            (
                "proxy_protocol = \"required\"\nproxy_protocol_from = \"10.0.0.0/8\"",
                "must be an array of networks such as [\"10.0.0.0/8\"], got \"10.0.0.0/8\"",
            ),
            (
                "proxy_protocol = \"required\"\nproxy_protocol_from = [\"10.0.0.1/8\"]",
                "has bits set beyond its prefix; write \"10.0.0.0/8\", got \"10.0.0.1/8\"",
            ),
            (
                "proxy_protocol_from = [\"10.0.0.0/8\"]",
                "has no effect unless proxy_protocol is \"required\"",
            ),
            (
                "proxy_protocol = \"off\"\nproxy_protocol_from = [\"10.0.0.0/8\"]",
                "has no effect unless proxy_protocol is \"required\"",
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
            (
                "forwarded = \"rfc7239\"",
                "must be \"x-forwarded\", \"forwarded\" or \"both\", got \"rfc7239\"",
            ),
            (
                "hsts = {}",
                "only with tls: clients take it over https alone, and it must not be sent otherwise (RFC 6797 §7.2)",
            ),
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
                "tls.policy = \"old\"",
                "must be \"intermediate\" or \"modern\", got \"old\"",
            ),
            (
                "tls.policy = \"modern\"\ntls.min_version = \"1.2\"",
                "contradicts policy = \"modern\", which is TLS 1.3 only; leave one of the two out",
            ),
            (
                "tls.client_crl = \"crl\"",
                "has no effect unless client_auth is \"optional\" or \"required\"",
            ),
            (
                "tls.forward_identity = { subject = \"X-A\" }",
                "has no effect unless client_auth is \"optional\" or \"required\"",
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
            ("hsts = true", "must be a table, got true"),
            (
                "hsts = { max_age = 31536000 }",
                "must be a duration such as \"5s\", got 31536000",
            ),
            (
                "hsts = { max_age = \"1500ms\" }",
                "must be whole seconds, got \"1500ms\"",
            ),
            (
                "hsts = { max_age = \"9000h\" }",
                "must be at most \"8760h\" (a year), got \"9000h\"",
            ),
            (
                "hsts = { preload = \"yes\" }",
                "must be true or false, got \"yes\"",
            ),
            (
                "tls.client_auth = \"optional\"\ntls.client_ca = \"ca\"\ntls.forward_identity = {}",
                "names no field; set one, such as certificate = \"Client-Cert\"",
            ),
            (
                "tls.client_auth = \"optional\"\ntls.client_ca = \"ca\"\ntls.forward_identity = { subject = \"X-A\", san = \"x-a\" }",
                "x-a is there twice; each needs a field of its own",
            ),
            (
                "tls.client_auth = \"optional\"\ntls.client_ca = \"ca\"\ntls.forward_identity = { subject = \"a b\" }",
                "must be the name of a header field such as \"Client-Cert\", got \"a b\"",
            ),
            (
                "tls.client_auth = \"optional\"\ntls.client_ca = \"ca\"\ntls.forward_identity = { subject = \"X_A\" }",
                "x_a never reaches an endpoint; names with `_` do not either",
            ),
            (
                "tls.client_auth = \"optional\"\ntls.client_ca = \"ca\"\ntls.forward_identity = { subject = \"Host\" }",
                "host has a meaning of its own; choose another name",
            ),
            (
                "redirect_to_https = true",
                "must not be set on a listener with tls: its requests are https already",
            ),
        ],
    );
    assert!(problems_behind_base("[listener.b]\naddress = \"0.0.0.0:1\"\ntls.certificates = [{ chain = \"a\", key = \"b\" }]\nprotocols = [\"h2\"]\n").is_empty());
}
