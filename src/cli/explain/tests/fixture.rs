//! A configuration with a route of every kind.

use std::path::Path;

use crate::config::{self, Config};

pub(super) fn config() -> Config {
    config::parse(SOURCE, Path::new("balancer.toml")).unwrap()
}

const SOURCE: &str = r#"
[listener.http]
address = "127.0.0.1:8080"

[listener.https]
address = "127.0.0.1:8443"
tls = { certificates = [{ chain = "a.pem", key = "a.key" }] }

[upstream.authority]
endpoints = ["127.0.0.1:9001", { address = "127.0.0.1:9002", weight = 3 }]

[[route]]
name = "admin"
path = "/admin"
exclusive = true
upstream = "authority"

[[route]]
name = "app"
upstream = "authority"

[[route]]
name = "old"
path = "/old"
redirect = { to = "/new" }

[[route]]
name = "blue"
headers = { x-team = "blue" }
upstream = "authority"

[[route]]
name = "writes"
path = "/admin/y"
methods = ["POST", "PUT"]
upstream = "authority"

[[route]]
name = "other"
hosts = ["other.test", "*.example.org"]
upstream = "authority"

[[route]]
name = "plain"
path = "/admin/y"
listeners = ["http"]
upstream = "authority"

[[route]]
name = "green"
headers = { x-team = "green" }
upstream = "authority"
"#;
