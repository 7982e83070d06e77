//! A configuration with a route of every kind.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use crate::config::*;
use crate::units::{ByteSize, Weight};

fn place() -> Place {
    Place {
        file: Path::new("balancer.toml").into(),
        line: 1,
        column: 1,
        key: "".into(),
    }
}

fn route(name: &str, path: &str) -> Route {
    Route {
        name: name.into(),
        listeners: None,
        hosts: Vec::new(),
        path: PathPattern::Prefix(path.into()),
        methods: None,
        headers: Vec::new(),
        exclusive: false,
        upgrades: Vec::new(),
        action: Action::Forward(0),
        rewrite: None,
        request_headers: None,
        response_headers: None,
        place: place(),
    }
}

fn listener(name: &str, tls: bool) -> Listener {
    let second = Duration::from_secs(1);
    Listener {
        name: name.into(),
        address: ([127, 0, 0, 1], 0).into(),
        tls: tls.then(|| ListenerTls {
            certificates: Vec::new(),
            min_version: TlsVersion::Tls12,
            client_auth: ClientAuth::Off,
        }),
        http2: true,
        http1: true,
        trusted_proxies: Vec::new(),
        proxy_protocol: None,
        forwarded: ForwardedFields::XForwarded,
        hsts: None,
        redirect_to_https: false,
        timeouts: ListenerTimeouts {
            handshake: second,
            header: second,
            body_idle: second,
            keep_alive: second,
        },
        limits: ListenerLimits {
            connections: None,
            header_bytes: ByteSize::kibibytes(64),
            headers: 100,
            uri_bytes: ByteSize::kibibytes(8),
            body_bytes: None,
            h2_streams: 100,
        },
        place: place(),
    }
}

pub(super) fn config() -> Config {
    let second = Duration::from_secs(1);
    let endpoint = |port: u16, weight| Endpoint {
        name: format!("127.0.0.1:{port}").into(),
        address: Address::Socket(([127, 0, 0, 1], port).into()),
        weight,
        mode: None,
        place: place(),
    };
    let header = |value| {
        vec![(
            HeaderName::from_static("x-team"),
            HeaderValue::from_static(value),
        )]
    };
    let name = |text: &str| -> Arc<str> { text.into() };
    let redirect = Redirect {
        to: "/new".into(),
        status: http::StatusCode::PERMANENT_REDIRECT,
    };
    Config {
        process: Process {
            workers: NonZeroUsize::MIN,
            shutdown_delay: second,
            shutdown_grace: second,
            startup_wait: second,
            certificate_poll: None,
            max_connections: None,
        },
        log: Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
        },
        access_log: AccessLog {
            target: AccessLogTarget::Off,
            sample: 1.0,
            only: AccessLogOnly::All,
            place: place(),
        },
        admin: Admin {
            address: ([127, 0, 0, 1], 9900).into(),
            place: place(),
        },
        error_pages: Vec::new(),
        listeners: vec![listener("http", false), listener("https", true)],
        upstreams: vec![Upstream {
            name: name("authority"),
            policy: Policy::RoundRobin,
            endpoints: vec![
                endpoint(9001, Weight::ONE),
                endpoint(9002, Weight::try_from(3).unwrap()),
            ],
            http2: false,
            tls: None,
            health: None,
            timeouts: UpstreamTimeouts {
                connect: second,
                response_head: second,
                stream_idle: second,
                tunnel_idle: second,
                pool_idle: second,
                max_age: second,
            },
            proxy_protocol: None,
            place: place(),
        }],
        routes: vec![
            Route {
                exclusive: true,
                ..route("admin", "/admin")
            },
            route("app", "/"),
            Route {
                action: Action::Redirect(redirect),
                ..route("old", "/old")
            },
            Route {
                headers: header("blue"),
                ..route("blue", "/")
            },
            Route {
                methods: Some(MethodSet(vec![Method::POST, Method::PUT])),
                ..route("writes", "/admin/y")
            },
            Route {
                hosts: vec![
                    HostPattern::Exact(name("other.test")),
                    HostPattern::Wildcard(name("example.org")),
                ],
                ..route("other", "/")
            },
            Route {
                listeners: Some(vec![0]),
                ..route("plain", "/admin/y")
            },
            Route {
                headers: header("green"),
                ..route("green", "/")
            },
        ],
        warnings: Vec::new(),
    }
}
