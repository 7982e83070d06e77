//! `replay`: what is told of a log under another file is what then happens, and of a log under the file that wrote it nothing is
//! told to change.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::peers::Server;
use crate::support::balancer::BINARY;
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::command::told;
use crate::support::h2::Frames;
use crate::support::peers::peer;
use crate::support::{Balancer, Connection, Origin, Refusing, eventually_some};

/// Runs `balancer replay` in `folder`.
fn replay(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .arg("replay")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The report, and the exit code.
#[track_caller]
fn report(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = replay(folder, &[arguments, &["--json"]].concat());
    let report = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        report.unwrap_or_else(|_| panic!("{:?}", told(&output))),
    )
}

/// So many whole lines of the log.
fn await_log(folder: &Path, count: usize) -> Vec<Value> {
    eventually_some("the access log is written", || {
        let text = fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines: Vec<_> = whole.lines().collect();
        (lines.len() >= count).then(|| {
            let lines = lines.iter();
            lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        })
    })
}

/// A request as a client may send it.
#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    target: String,
    host: &'static str,
    beta: Option<&'static str>,
    cookie: bool,
    body: usize,
}

fn target() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "/", "/api", "/api", "/old", "/new", "/admin", "/%61dmin", "/ADMIN", "/x",
        "/x", "/v1", "/v1/y", "/..", "/%2e%2e", "/.", ";a=b", "%2F", "%zz", "%C3%A9", "*", "a",
        "~", "/split", "/own", "/go", "/few",
    ]);
    let query = prop::sample::select(vec!["", "", "?", "?a=b", "?token=secret&x", "?a=/admin"]);
    (prop::collection::vec(piece, 1..5), query, 0..40_u8).prop_map(|(pieces, query, long)| {
        let path = pieces.concat();
        let path = if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        };
        let tail = if long == 0 {
            "l".repeat(400)
        } else {
            String::new()
        };
        format!("{path}{tail}{query}")
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let methods = vec![
        "GET", "GET", "GET", "POST", "HEAD", "PUT", "OPTIONS", "BREW",
    ];
    let hosts = vec![
        HOST,
        HOST,
        "a.test",
        "A.TEST:80",
        "x.a.test",
        "y.x.a.test.",
        "[::1]:1",
        "a b",
    ];
    (
        prop::sample::select(methods),
        target(),
        prop::sample::select(hosts),
        prop::sample::select(vec![None, None, Some("1"), Some("2")]),
        any::<bool>(),
        prop::sample::select(vec![0, 0, 0, 5, 2000]),
    )
        .prop_map(|(method, target, host, beta, cookie, body)| Asked {
            method,
            target,
            host,
            beta,
            cookie,
            body,
        })
}

/// The same ones each time.
fn some(count: usize, strategy: impl Strategy<Value = Asked>) -> Vec<Asked> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut one = || strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(|_| one()).collect()
}

/// Sends it on a connection of its own, and waits for the answer.
fn send(mut connection: Connection, asked: &Asked) {
    let Asked {
        method,
        target,
        host,
        beta,
        cookie,
        body,
    } = asked;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    if let Some(beta) = beta {
        head.push_str(&format!("X-Beta: {beta}\r\n"));
    }
    if *cookie {
        head.push_str("Cookie: try=1\r\n");
    }
    if *body > 0 {
        head.push_str(&format!("Content-Length: {body}\r\n"));
    }
    connection.send(format!("{head}\r\n{}", "b".repeat(*body)));
    connection.try_reply(method).unwrap();
}

/// A bit of everything that decides where a request goes.
fn much(origin: &Origin, refusing: &Refusing) -> String {
    format!(
        r#"
        [access_log]
        target = "access.log"
        headers = ["x-beta"]
        [listener.http]
        address = "127.0.0.1:0"
        limits = {{ uri_bytes = "300B" }}
        [listener.plain]
        address = "127.0.0.1:0"
        redirect_to_https = true
        [listener.https]
        address = "127.0.0.1:0"
        tls = {{ certificates = [{{ chain = "a.pem", key = "a.key" }}, {{ chain = "b.pem", key = "b.key" }}] }}
        limits = {{ uri_bytes = "300B" }}
        [upstream.app]
        endpoints = ["{origin}"]
        [upstream.gone]
        endpoints = ["{refusing}"]
        [[route]]
        path = "/admin"
        exclusive = true
        upstream = "gone"
        [[route]]
        name = "beta"
        path = "/api"
        methods = ["GET", "HEAD", "POST"]
        headers = {{ x-beta = "1" }}
        upstream = "app"
        [[route]]
        name = "tried"
        path = "/new"
        cookies = {{ try = "1" }}
        upstream = "gone"
        [[route]]
        name = "read"
        path = "/api"
        methods = ["GET", "HEAD"]
        upstream = "app"
        [[route]]
        name = "host"
        hosts = ["a.test", "*.a.test"]
        path = "/x"
        upstream = "gone"
        [[route]]
        name = "versioned"
        path_regex = "^/v1/?(.*)$"
        rewrite = {{ regex = "^/v1/?(.*)$", to = "/$1" }}
        upstream = "app"
        [[route]]
        name = "shared"
        path = "/split"
        split = [{{ upstream = "app", weight = 2 }}, {{ upstream = "gone" }}]
        [[route]]
        path = "/own"
        respond = {{ status = 200, body = "own" }}
        limits = {{ rate = {{ requests = 3, per = "60s", key = "route" }} }}
        [[route]]
        path = "/go"
        redirect = {{ to = "https://b.test{{path}}" }}
        [[route]]
        path = "/few"
        upstream = "app"
        limits = {{ body_bytes = "1KiB" }}
        [[route]]
        path_exact = "/"
        upstream = "app"
        [[route]]
        path = "/old"
        upstream = "app"
        "#,
        origin = origin.address(),
        refusing = refusing.address(),
    )
}

#[test]
fn a_log_under_the_file_that_wrote_it_tells_of_no_change() {
    let authority = Authority::new("ca");
    let (origin, refusing) = (Origin::named("app"), Refusing::new());
    let balancer = Balancer::start_with(&much(&origin, &refusing), |directory| {
        authority.issue(&[HOST, "a.test"]).write(directory, "a");
        authority
            .issue(&["b.test", "x.a.test"])
            .write(directory, "b");
    });
    let secure = Tls::new(&authority, "a.test");
    let mut count = 0;
    for (asked, number) in some(400, asked()).iter().zip(0..) {
        let connection = match number % 8 {
            0 => Connection::open(balancer.address("plain")),
            1 | 2 => Connection::secure(balancer.address("https"), &secure).unwrap(),
            _ => Connection::open(balancer.http()),
        };
        send(connection, asked);
        count += 1;
    }
    let raw = |text: &str| {
        let mut connection = Connection::open(balancer.http());
        connection.send(text);
        connection.try_reply("GET").unwrap();
    };
    for text in [
        "OPTIONS * HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET http://x.a.test/x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET /v1/admin HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        raw(text);
        count += 1;
    }
    // Over HTTP/2, where the path of what is refused for its length is known, and tunnels have one.
    let long = format!("/{}", "l".repeat(400));
    let mut frames = Frames::open(balancer.address("https"), &secure.offering(&["h2"]));
    for (stream, path) in [(1, "/"), (3, "/api/x"), (5, long.as_str()), (7, "/ADMIN")] {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a.test"),
            (":path", path),
        ];
        frames.request(stream, &fields);
        frames.ending(stream);
        count += 1;
    }
    let log = await_log(balancer.directory(), count);
    assert_eq!(log.len(), count, "each has a line");

    let had = |member: &str, value: &str| log.iter().filter(|line| line[member] == value).count();
    for reason in [
        "ambiguous_path",
        "body_too_large",
        "connect_method",
        "connect_refused",
        "host",
        "malformed",
        "misdirected",
        "no_route",
        "path",
        "rate_limited",
        "rewrite",
        "target_too_long",
        "version",
    ] {
        assert!(had("reason", reason) > 0, "{reason} is among them");
    }
    for route in [
        "/admin",
        "beta",
        "tried",
        "read",
        "host",
        "versioned",
        "shared",
        "/own",
        "/go",
        "/old",
    ] {
        assert!(had("route", route) > 0, "{route} is among them");
    }

    let folder = balancer.directory();
    let (code, by_log) = report(folder, &["access.log"]);
    assert_eq!(
        (code, &by_log["changed"]),
        (Some(0), &0.into()),
        "{by_log:#}"
    );
    assert_eq!(by_log["requests"], count);
    assert_eq!(by_log["bad"], 0);
    let (code, by_file) = report(folder, &["access.log", "--from", "balancer.toml"]);
    assert_eq!(
        (code, &by_file["changed"]),
        (Some(0), &0.into()),
        "{by_file:#}"
    );
    // Which header a request had is known by the log that the file asks for; which cookie, by the route it took.
    let why = |report: &Value, word: &str| {
        let unknown = report["unknown"].as_array().unwrap().iter();
        let with_word = unknown.filter(|it| it["why"].as_str().unwrap().contains(word));
        with_word
            .map(|it| it["count"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(why(&by_log, "header x-beta") > 0, "{by_log:#}");
    assert!(why(&by_log, "cookie try") > 0, "{by_log:#}");
    assert_eq!(why(&by_file, "header"), 0, "{by_file:#}");
    assert_eq!(why(&by_file, "cookie"), 0, "{by_file:#}");
    assert!(why(&by_file, "size of its head") > 0, "{by_file:#}");
}

/// Route, upstream and class of the status.
fn course(line: &Value) -> (Value, Value, u64) {
    let status = line["status"].as_u64().unwrap();
    (
        line["route"].clone(),
        line["upstream"].clone(),
        status / 100,
    )
}

#[test]
fn what_is_told_to_change_is_what_then_does() {
    let (origin, other) = (Origin::named("app"), Origin::named("other"));
    let config = |routes: &str| {
        format!(
            "[process]\nworkers = 1\n[access_log]\ntarget = \"access.log\"\n[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n[upstream.other]\nendpoints = [\"{}\"]\n{routes}",
            origin.address(),
            other.address()
        )
    };
    let earlier = config(
        r#"
        [[route]]
        name = "all"
        upstream = "app"
        [[route]]
        path = "/old"
        upstream = "other"
        [[route]]
        path = "/api"
        methods = ["GET", "PUT"]
        respond = { status = 200 }
        [[route]]
        path = "/go"
        redirect = { to = "/new" }
        [[route]]
        hosts = ["*.a.test"]
        upstream = "other"
        "#,
    );
    let later = config(
        r#"
        [[route]]
        path = "/admin"
        exclusive = true
        upstream = "other"
        [[route]]
        path = "/api"
        upstream = "app"
        [[route]]
        path = "/x"
        methods = ["GET"]
        upstream = "other"
        [[route]]
        path_regex = "^/v1/?(.*)$"
        rewrite = { regex = "^/v1/?(.*)$", to = "/$1" }
        upstream = "app"
        [[route]]
        path = "/go"
        respond = { status = 410 }
        [[route]]
        name = "all"
        methods = ["GET", "HEAD", "POST"]
        upstream = "app"
        [[route]]
        hosts = ["x.a.test"]
        upstream = "other"
        "#,
    );
    let requests = some(250, asked());
    let play = |configuration: &str| {
        let balancer = Balancer::start(configuration);
        for asked in &requests {
            send(Connection::open(balancer.http()), asked);
        }
        let log = await_log(balancer.directory(), requests.len());
        (balancer, log)
    };
    let (balancer, before) = play(&earlier);
    let (_after, after) = play(&later);
    let differing = before.iter().zip(&after);
    let differing = differing
        .filter(|(before, after)| course(before) != course(after))
        .count();
    assert!((50..200).contains(&differing), "{differing}");

    let folder = balancer.directory();
    fs::write(folder.join("new.toml"), &later).unwrap();
    for from in [&[][..], &["--from", "balancer.toml"]] {
        let arguments = [&["access.log", "--config", "new.toml"], from].concat();
        let (code, report) = report(folder, &arguments);
        assert_eq!(code, Some(2));
        assert_eq!(report["changed"], differing, "{report:#}");
        assert_eq!(report["same"], requests.len() - differing);
        let changes = report["changes"].as_array().unwrap();
        let counts = changes
            .iter()
            .map(|change| change["count"].as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), differing as u64);
        // Every example did what was told of it.
        for change in changes {
            for example in change["examples"].as_array().unwrap() {
                let at = example["at"].as_str().unwrap().rsplit_once(':').unwrap().1;
                let at = at.parse::<usize>().unwrap() - 1;
                assert_eq!(change["after"]["route"], after[at]["route"], "{change:#}");
                let upstream = after[at]["upstream"].as_str().unwrap_or("none");
                assert_eq!(change["after"]["upstream"], upstream, "{change:#}");
                let status = change["after"]["status"].as_str().unwrap();
                if let Some(own) = status.get(..3).and_then(|own| own.parse::<u64>().ok()) {
                    assert_eq!(own, after[at]["status"], "{change:#}");
                }
            }
        }
    }
}

/// Requests of this host, each answered.
fn get_all(balancer: &Balancer, paths: &[&str]) {
    let mut connection = Connection::open(balancer.http());
    for path in paths {
        connection.get(path);
    }
}

#[test]
fn a_log_of_gunicorn_behind_the_balancer_and_one_of_nginx_alone_are_told_alike() {
    let Some(gunicorn) = peer("gunicorn", "gunicorn") else {
        return;
    };
    let Some(nginx) = peer("nginx", "nginx-light") else {
        return;
    };
    let app = Server::gunicorn(&gunicorn, "blue");
    let config = |routes: &str| {
        format!(
            "[access_log]\ntarget = \"access.log\"\n[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n{routes}",
            app.address()
        )
    };
    let later = config(
        "[[route]]\npath = \"/new\"\nupstream = \"app\"\n[[route]]\nname = \"all\"\npath_exact = \"/\"\nupstream = \"app\"\n",
    );
    let balancer = Balancer::start(&config("[[route]]\nname = \"all\"\nupstream = \"app\"\n"));
    let paths = [
        "/",
        "/old/x",
        "/old/x?a=b",
        "/old/y",
        "/new/\"x\"",
        "//new/../old/z",
    ];
    get_all(&balancer, &paths);
    await_log(balancer.directory(), paths.len());
    let folder = balancer.directory();
    fs::write(folder.join("new.toml"), &later).unwrap();
    let output = replay(folder, &["access.log", "-c", "new.toml"]);
    assert_eq!(
        told(&output),
        (
            Some(2),
            "6 requests: 1 as before, 5 would change, 0 cannot be told\n\
             \n\
             would change\n\
             \x20 4  route all -> (none), upstream app -> none, status 2xx -> 404 (no_route)\n\
             \x20      GET app.test/old/x          access.log:2\n\
             \x20      GET app.test/old/y          access.log:4\n\
             \x20      GET app.test//new/../old/z  access.log:6\n\
             \x20 1  route all -> /new\n\
             \x20      GET app.test/new/\"x\"  access.log:5\n"
                .to_owned()
        )
    );

    // The same asked of nginx, which has never heard of routes: what it answered is all there is to compare with.
    let server = Server::nginx_that_logs(&nginx);
    let mut connection = Connection::open(server.address());
    for path in paths {
        connection.get(path);
    }
    let log = eventually_some("nginx has written its log", || {
        let text = fs::read_to_string(server.directory().join("access.log")).ok()?;
        (text.lines().count() == paths.len()).then_some(text)
    });
    fs::write(folder.join("nginx.log"), log).unwrap();
    let (code, report) = report(
        folder,
        &["nginx.log", "-c", "new.toml", "--from", "balancer.toml"],
    );
    assert_eq!(
        (code, &report["changed"]),
        (Some(2), &5.into()),
        "{report:#}"
    );
    assert_eq!(report["bad"], 0);
    let (code, report) = self::report(folder, &["nginx.log", "-c", "new.toml"]);
    assert_eq!(
        (code, &report["changed"]),
        (Some(2), &4.into()),
        "{report:#}"
    );
    assert_eq!(
        report["changes"][0]["differs"],
        serde_json::json!(["status"]),
        "it names no route: {report:#}"
    );
}

#[test]
fn fields_that_are_not_logged_are_not_compared_and_hidden_ones_are_not_guessed() {
    let origin = Origin::named("app");
    let config = |log: &str, routes: &str| {
        format!(
            "[access_log]\ntarget = \"access.log\"\n{log}\n[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"{}\"]\n[upstream.new]\nendpoints = [\"127.0.0.1:1\"]\n{routes}",
            origin.address()
        )
    };
    let earlier = "[[route]]\nname = \"all\"\nupstream = \"app\"\n";
    let later = config(
        "",
        "[[route]]\npath = \"/moved\"\nupstream = \"new\"\n[[route]]\nname = \"all\"\npath_exact = \"/x\"\nupstream = \"app\"\n",
    );
    for (log, same, changed, untold) in [
        ("fields = [\"method\", \"path\", \"status\"]", 3, 1, 0),
        ("fields = [\"path\", \"route\"]", 2, 2, 0),
        ("fields = [\"time\", \"status\"]", 0, 0, 4),
        ("redact = { query = [\"token\"] }", 2, 1, 1),
        ("format = \"combined\"", 3, 1, 0),
    ] {
        let balancer = Balancer::start(&config(log, earlier));
        get_all(
            &balancer,
            &["/x", "/x?token=secret", "/moved", "/y;token=secret"],
        );
        let folder = balancer.directory();
        eventually_some("the access log is written", || {
            let text = fs::read_to_string(folder.join("access.log")).ok()?;
            (text.lines().count() == 4).then_some(())
        });
        fs::write(folder.join("new.toml"), &later).unwrap();
        let (_, report) = report(folder, &["access.log", "-c", "new.toml"]);
        let counts = ["same", "changed", "cannot_be_told"].map(|it| report[it].as_u64().unwrap());
        assert_eq!(counts, [same, changed, untold], "{log}: {report:#}");
    }
}

#[test]
fn logs_that_cannot_be_read_and_lines_that_are_none_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = "[listener.http]\naddress = \"127.0.0.1:80\"\n[upstream.app]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\nupstream = \"app\"\n";
    fs::write(folder.join("balancer.toml"), config).unwrap();
    let line = r#"{"listener":"http","method":"GET","host":"h","path":"/","route":"/","upstream":"app","status":200}"#;
    fs::write(
        folder.join("a.log"),
        format!("{line}\nnonsense\n\n{line}\n{{\"path\":"),
    )
    .unwrap();
    fs::write(folder.join("b.log"), format!("{line}\n")).unwrap();
    fs::write(folder.join("none.log"), "one\ntwo\n").unwrap();
    fs::write(folder.join("empty.log"), "").unwrap();
    fs::write(folder.join("c.log.gz"), b"\x1f\x8b\x08\0").unwrap();
    fs::write(folder.join("bad.toml"), "[listener.http]\n").unwrap();
    for (arguments, code, expected) in [
        (
            &["a.log", "b.log"][..],
            0,
            &[
                "3 requests: 3 as before, 0 would change, 0 cannot be told\n",
                "2 lines could not be read\n  a.log:2  neither JSON nor the combined format\n  a.log:5  EOF while parsing",
            ][..],
        ),
        (
            &["empty.log"],
            1,
            &["0 requests", "balancer: no line was read\n"],
        ),
        (&["none.log"], 1, &["2 lines could not be read"]),
        (
            &["missing.log"],
            1,
            &["balancer: missing.log cannot be read: No such file"],
        ),
        (&["."], 1, &["balancer: . cannot be read: Is a directory"]),
        (
            &["c.log.gz"],
            1,
            &["c.log.gz is compressed: zcat c.log.gz | balancer replay -"],
        ),
        (
            &["b.log", "-c", "bad.toml"],
            78,
            &["bad.toml:1:1: listener.http: needs `address`"],
        ),
        (
            &["b.log", "--from", "bad.toml"],
            78,
            &["bad.toml:1:1: listener.http: needs `address`"],
        ),
        (&[], 64, &["<LOG>"]),
    ] {
        let (found, text) = told(&replay(folder, arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {text}");
        for expected in expected {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
    }

    let mut child = Command::new(BINARY)
        .args(["replay", "-"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{line}\nx").as_bytes()).unwrap();
    drop(input);
    let (code, text) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0));
    assert!(text.starts_with("1 request: 1 as before"), "{text}");
    assert!(text.contains("  -:2  neither JSON"), "{text}");
}

/// `cargo test --release --test balancer replaying -- --ignored --nocapture` says how long a million lines take.
#[test]
#[ignore = "a figure of a release build on a quiet machine, not a promise"]
fn a_million_lines() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut routes = String::new();
    for n in 0..200 {
        routes.push_str(&format!(
            "[[route]]\npath = \"/p{n}\"\nupstream = \"app\"\n"
        ));
    }
    let config = format!(
        "[listener.http]\naddress = \"127.0.0.1:80\"\n[upstream.app]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\npath = \"/admin\"\nexclusive = true\nupstream = \"app\"\n{routes}"
    );
    fs::write(folder.join("balancer.toml"), config).unwrap();
    let mut log = std::io::BufWriter::new(fs::File::create(folder.join("access.log")).unwrap());
    for n in 0..1_000_000 {
        let route = n % 220;
        writeln!(log, "{{\"time\":\"2026-11-21T10:36:27.970Z\",\"generation\":1,\"request_id\":\"81bb368b0000e759\",\"client\":\"127.0.0.1\",\"listener\":\"http\",\"protocol\":\"HTTP/1.1\",\"method\":\"GET\",\"host\":\"h.example.com\",\"path\":\"/p{route}/some/page/{n}\",\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\",\"route\":\"/p{route}\",\"upstream\":\"app\",\"endpoint\":\"127.0.0.1:9001\",\"attempts\":1,\"status\":200,\"who\":\"upstream\",\"request_bytes\":0,\"response_bytes\":218,\"connect_ms\":0.180,\"head_ms\":0.757,\"total_ms\":0.790}}").unwrap();
    }
    log.flush().unwrap();
    for from in [&[][..], &["--from", "balancer.toml"]] {
        let begun = std::time::Instant::now();
        let (code, report) = report(folder, &[&["access.log"], from].concat());
        println!("a million lines {from:?}: {:?}", begun.elapsed());
        assert_eq!(report["requests"], 1_000_000);
        assert_eq!(code, Some(if from.is_empty() { 2 } else { 0 }));
    }
}
