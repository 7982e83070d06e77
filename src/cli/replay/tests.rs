//! What is told of single lines. That a log of a balancer that runs with the same file tells of no change is proven in `tests/`.

use super::*;
use crate::config;

const LISTENERS: &str = r#"
    [listener.http]
    address = "127.0.0.1:80"
    limits = { uri_bytes = "200B" }
    [listener.other]
    address = "127.0.0.1:81"
    [upstream.app]
    endpoints = ["127.0.0.1:1"]
    [upstream.new]
    endpoints = ["127.0.0.1:2"]
"#;

fn ways(text: &str) -> Ways {
    let text = format!("{LISTENERS}{text}");
    Ways::of(config::parse(&text, Path::new("balancer.toml")).unwrap()).unwrap()
}

fn replay(text: &str) -> Replay {
    Replay {
        ways: ways(text),
        earlier: None,
        assumed: Assumed::default(),
    }
}

/// What is told of a line, in words: a change, why none can be told, or nothing.
fn told(replay: &Replay, line: &str) -> String {
    let record = Record::read(line.as_bytes()).unwrap();
    match replay.change(&record) {
        Ok(None) => "same".to_owned(),
        Ok(Some(change)) => told::words(&change),
        Err(unknown) => unknown.to_string(),
    }
}

/// A line with these members besides the usual ones; later ones are meant where they stand twice.
fn line(members: &str) -> String {
    let usual = r#"{"listener":"http","method":"GET","host":"h","path":"/x","route":"all","upstream":"app","endpoint":"127.0.0.1:1","status":200,"who":"upstream"}"#;
    let mut line: serde_json::Map<_, _> = serde_json::from_str(usual).unwrap();
    let more: serde_json::Map<_, _> = serde_json::from_str(&format!("{{{members}}}")).unwrap();
    line.extend(more);
    line.retain(|_, value| !value.is_null());
    serde_json::to_string(&line).unwrap()
}

const PLAIN: &str = "[[route]]\nname = \"all\"\nupstream = \"app\"\n";
const OWN: &str = r#""upstream":null,"endpoint":null,"who":"balancer""#;

#[test]
fn a_request_that_goes_elsewhere_is_told_with_all_that_is_another() {
    for (file, members, expected) in [
        (PLAIN, "", "same"),
        (
            "[[route]]\nname = \"all\"\nupstream = \"new\"\n",
            "",
            "route all, upstream app -> new",
        ),
        (
            "[[route]]\npath = \"/y\"\nupstream = \"app\"\n",
            "",
            "route all -> (none), upstream app -> none, status 2xx -> 404 (no_route)",
        ),
        (
            "[[route]]\npath = \"/y\"\nupstream = \"app\"\n",
            r#""status":404"#,
            "route all -> (none), upstream app -> none",
        ),
        (
            "[[route]]\nname = \"all\"\nrespond = { status = 204 }\n",
            "",
            "route all, upstream app -> none",
        ),
        (
            "[[route]]\nname = \"all\"\nredirect = { to = \"/z\" }\n",
            "",
            "route all, upstream app -> none, status 2xx -> 308 (redirect)",
        ),
        (
            "[[route]]\npath = \"/x\"\nupstream = \"app\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
            "",
            "route all -> /x",
        ),
        (
            "[[route]]\nname = \"all\"\nsplit = [{ upstream = \"app\" }, { upstream = \"new\" }]\n",
            "",
            "same",
        ),
        (
            "[[route]]\nname = \"all\"\nsplit = [{ upstream = \"app\", weight = 0 }, { upstream = \"new\" }]\n",
            "",
            "route all, upstream app -> new",
        ),
        (
            "[[route]]\nname = \"all\"\npath = \"/X\"\nexclusive = true\nupstream = \"app\"\n",
            "",
            "route all -> (none), upstream app -> none, status 2xx -> 400 (ambiguous_path)",
        ),
        (
            "[[route]]\nlisteners = [\"other\"]\nname = \"all\"\nupstream = \"app\"\n",
            "",
            "route all -> (none), upstream app -> none, status 2xx -> 404 (no_route)",
        ),
        (
            "[[route]]\nname = \"all\"\nupstream = \"app\"\nlimits = { body_bytes = \"5B\" }\n",
            r#""request_bytes":6"#,
            "route all, status 2xx -> 413 (body_too_large)",
        ),
        (
            "[[route]]\nname = \"all\"\nupstream = \"app\"\nlimits = { body_bytes = \"5B\" }\n",
            r#""request_bytes":6,"status":101"#,
            "same",
        ),
        (
            PLAIN,
            r#""listener":"gone""#,
            "route all -> (none), upstream app -> none, status 2xx -> no such listener",
        ),
    ] {
        let ways = replay(file);
        assert_eq!(told(&ways, &line(members)), expected, "{file} {members}");
    }
    let long = format!(
        r#""path":"/{}","query":"{}""#,
        "p".repeat(99),
        "q".repeat(99)
    );
    assert_eq!(told(&replay(PLAIN), &line(&long)), "same", "200 bytes");
    let long = long.replacen("/p", "/pp", 1);
    assert_eq!(
        told(&replay(PLAIN), &line(&long)),
        "route all -> (none), upstream app -> none, status 2xx -> 414 (target_too_long)"
    );
}

#[test]
fn what_the_balancer_answered_by_its_file_is_told_where_the_file_says_otherwise() {
    let own = |members: &str| line(&format!("{OWN},{members}"));
    let none = r#""route":"(none)""#;
    for (file, line, expected) in [
        (
            PLAIN,
            own(&format!(r#"{none},"status":404,"reason":"no_route""#)),
            "route (none) -> all, upstream none -> app, status 404 (no_route) -> the endpoint's",
        ),
        (
            "[[route]]\npath = \"/y\"\nupstream = \"app\"\n",
            own(&format!(r#"{none},"status":404,"reason":"no_route""#)),
            "same",
        ),
        (
            PLAIN,
            own(&format!(r#"{none},"status":308"#)),
            "route (none) -> all, upstream none -> app, status 3xx -> the endpoint's",
        ),
        (
            "[[route]]\nname = \"all\"\nredirect = { to = \"/z\" }\n",
            own(r#""status":200"#),
            "route all, status 2xx -> 308 (redirect)",
        ),
        // Whatever a file says, a request that was refused for what it is stays refused.
        (
            PLAIN,
            own(&format!(r#"{none},"status":400,"reason":"host","host":"""#)),
            "same",
        ),
        (
            PLAIN,
            own(&format!(
                r#"{none},"status":400,"reason":"malformed","method":"-","path":"-""#
            )),
            "same",
        ),
        (
            PLAIN,
            own(&format!(
                r#"{none},"status":400,"reason":"path","path":"/%zz""#
            )),
            "same",
        ),
        (
            PLAIN,
            own(&format!(
                r#"{none},"status":405,"reason":"connect_method","method":"CONNECT","path":"""#
            )),
            "same",
        ),
        (
            PLAIN,
            own(&format!(
                r#"{none},"status":204,"method":"OPTIONS","path":"*""#
            )),
            "same",
        ),
        // Over HTTP/2 a tunnel has a path, and is routed as GET.
        (
            "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\nupstream = \"app\"\n",
            line(r#""method":"CONNECT""#),
            "same",
        ),
        // What goes wrong at endpoints, and by chance, is not the file's doing.
        (
            PLAIN,
            line(r#""status":503,"reason":"no_endpoint","endpoint":null,"who":"balancer""#),
            "same",
        ),
        (
            PLAIN,
            line(r#""status":499,"reason":"client_left","who":"balancer""#),
            "same",
        ),
        (
            "[[route]]\nname = \"all\"\nrespond = { status = 200 }\nlimits = { rate = { requests = 1 } }\n",
            own(r#""status":429,"reason":"rate_limited""#),
            "same",
        ),
        (
            "[[route]]\nname = \"all\"\nrespond = { status = 200 }\n",
            own(r#""status":429,"reason":"rate_limited""#),
            "route all, status 429 (rate_limited) -> 200 (respond)",
        ),
        (
            PLAIN,
            line(r#""status":503,"reason":"route_full","endpoint":null,"who":"balancer""#),
            "route all, status 503 (route_full) -> the endpoint's",
        ),
    ] {
        assert_eq!(told(&replay(file), &line), expected, "{file} {line}");
    }
}

#[test]
fn what_is_not_in_the_log_is_named() {
    let two =
        "[[route]]\nhosts = [\"h\"]\nname = \"all\"\nmethods = [\"GET\"]\nupstream = \"app\"\n";
    let own = |reason: &str| format!(r#"{OWN},"route":"(none)","reason":"{reason}""#);
    let method = r#""method":"-","path":"-","status":414"#;
    for (file, members, expected) in [
        (PLAIN, r#""path":null"#.to_owned(), "path is not in the log"),
        (
            PLAIN,
            r#""path":"/a;token=***""#.to_owned(),
            "the path is hidden in part",
        ),
        (PLAIN, r#""host":null,"method":null"#.to_owned(), "same"),
        (
            two,
            r#""host":null"#.to_owned(),
            "host is not in the log; --host says what to take it for",
        ),
        (
            two,
            r#""method":null"#.to_owned(),
            "method is not in the log",
        ),
        (
            PLAIN,
            r#""listener":null"#.to_owned(),
            "listener is not in the log; --listener says what to take it for",
        ),
        (
            PLAIN,
            format!("{},{method}", own("target_too_long")),
            "it was refused for the size of its head, which is not in the log",
        ),
        (
            PLAIN,
            format!(r#"{},"status":414,"query":"***""#, own("target_too_long")),
            "it was refused for the length of its target, which is not in the log",
        ),
        (
            "[[route]]\nname = \"all\"\nupstream = \"app\"\nlimits = { body_bytes = \"5B\" }\n",
            r#""status":413,"reason":"body_too_large","who":"balancer""#.to_owned(),
            "it was refused for the length of its body, which is not in the log, and there still is a limit",
        ),
        (
            PLAIN,
            format!(r#"{},"status":499"#, own("client_left")),
            "the client left before the log could say what it would have got",
        ),
    ] {
        assert_eq!(told(&replay(file), &line(&members)), expected, "{members}");
    }
}

#[test]
fn lines_are_taken_to_be_of_the_host_and_listener_that_are_named() {
    let mut replay = replay(
        "[[route]]\nhosts = [\"H.test\"]\nlisteners = [\"other\"]\nname = \"all\"\nupstream = \"app\"\n",
    );
    replay.assumed = Assumed {
        listener: Some("other".to_owned()),
        host: Some("h.TEST:80".to_owned()),
    };
    assert_eq!(
        told(&replay, &line(r#""host":null,"listener":null"#)),
        "same"
    );
    assert_eq!(
        told(&replay, &line(r#""host":null,"listener":"gone""#)),
        "same"
    );
    let elsewhere = told(&replay, &line(r#""host":null"#));
    assert!(
        elsewhere.contains("404 (no_route)"),
        "what a line says counts: {elsewhere}"
    );
}

const BETA: &str = "[[route]]\nname = \"beta\"\nheaders = { x-beta = \"1\" }\nupstream = \"new\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n";
const COOKIE: &str = "[[route]]\nname = \"beta\"\ncookies = { try = \"1\" }\nupstream = \"new\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n";

#[test]
fn routes_by_header_are_decided_by_what_the_log_has_of_headers() {
    let unknown = "route beta matches on header x-beta, which is not in the log";
    for (file, members, expected) in [
        (BETA, "", unknown),
        (
            BETA,
            r#""headers":{"x-beta":"1"}"#,
            "route all -> beta, upstream app -> new",
        ),
        (BETA, r#""headers":{"x-beta":"2"}"#, "same"),
        (BETA, r#""headers":{"x-beta":"***"}"#, unknown),
        (BETA, r#""headers":{"x-beta":"2, 1"}"#, unknown),
        (BETA, r#""headers":{"x-beta":"2, 3"}"#, "same"),
        (BETA, r#""headers":{"x-other":"1"}"#, unknown),
        (
            COOKIE,
            "",
            "route beta matches on cookie try, which is not in the log",
        ),
        // No header leads there.
        (
            "[[route]]\nname = \"beta\"\npath = \"/y\"\nheaders = { x-beta = \"1\" }\nupstream = \"new\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
            "",
            "same",
        ),
        (
            "[[route]]\nname = \"beta\"\nheaders = { user-agent = \"curl\" }\nupstream = \"new\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n",
            r#""user_agent":"curl""#,
            "route all -> beta, upstream app -> new",
        ),
    ] {
        assert_eq!(told(&replay(file), &line(members)), expected, "{members}");
    }
}

#[test]
fn routes_under_both_files_are_compared_and_what_the_log_says_of_headers_by_its_route_is_believed()
{
    let both = |earlier: &str, file: &str| Replay {
        earlier: Some(ways(earlier)),
        ..replay(file)
    };
    let moved = BETA.replace("new", "app");
    for (earlier, file, members, expected) in [
        // What the log says of the route does not matter by itself.
        (PLAIN, PLAIN, r#""route":"old","upstream":"old""#, "same"),
        (PLAIN, PLAIN, r#""route":null,"upstream":null"#, "same"),
        (
            PLAIN,
            "[[route]]\npath = \"/y\"\nupstream = \"app\"\n",
            "",
            "route all -> (none), upstream app -> none, status the endpoint's -> 404 (no_route)",
        ),
        (BETA, BETA, r#""route":"all""#, "same"),
        (BETA, &moved, r#""route":"all""#, "same"),
        (
            BETA,
            &moved,
            r#""route":"beta","upstream":"new""#,
            "route beta, upstream new -> app",
        ),
        (
            COOKIE,
            &COOKIE.replace("new", "app"),
            r#""route":"beta","upstream":"new""#,
            "route beta, upstream new -> app",
        ),
        // Nothing is known of another header.
        (
            BETA,
            &BETA.replace("x-beta", "x-gamma"),
            r#""route":"all""#,
            "route beta matches on header x-gamma, which is not in the log",
        ),
        (
            PLAIN,
            BETA,
            "",
            "route beta matches on header x-beta, which is not in the log",
        ),
        (
            &format!("[access_log]\nheaders = [\"x-beta\"]\n{PLAIN}"),
            BETA,
            "",
            "same",
        ),
        (
            PLAIN,
            PLAIN,
            r#""listener":"gone""#,
            "listener gone is not in the earlier file",
        ),
        (
            "[[route]]\nname = \"all\"\nsplit = [{ upstream = \"app\" }, { upstream = \"new\" }]\n",
            PLAIN,
            "",
            "route all, upstream app or new -> app",
        ),
    ] {
        let told = told(&both(earlier, file), &line(members));
        assert_eq!(told, expected, "{earlier} {file} {members}");
    }
}

#[test]
fn where_writes_go_elsewhere_the_method_tells_and_who_has_written_lately_is_not_known() {
    let both = "[[route]]\nname = \"all\"\nupstream = \"app\"\nwrites = \"new\"\n";
    let after = format!("{both}read_your_writes = \"2s\"\n");
    let at_new = r#""upstream":"new","endpoint":"127.0.0.1:2""#;
    for (file, members, expected) in [
        (both, "".to_owned(), "same"),
        (
            both,
            r#""method":"POST""#.to_owned(),
            "route all, upstream app -> new",
        ),
        (both, format!(r#"{at_new},"method":"POST""#), "same"),
        (both, at_new.to_owned(), "route all, upstream new -> app"),
        (&after, at_new.to_owned(), "same"),
        (&after, "".to_owned(), "same"),
        (
            both,
            r#""method":null"#.to_owned(),
            "method is not in the log",
        ),
    ] {
        assert_eq!(told(&replay(file), &line(&members)), expected, "{members}");
    }
}

#[test]
fn a_log_without_upstreams_says_nothing_by_that() {
    let replay = replay(PLAIN);
    let add = |tally: &mut Tally, members: &str| {
        let text = line(members);
        let record = Record::read(text.as_bytes()).unwrap();
        let line = lines::Line {
            file: Path::new("log"),
            number: 1,
            bytes: None,
        };
        match replay.change(&record).unwrap() {
            Some(change) => tally.add_change(&line, &record, change),
            None => tally.add_same(&record),
        }
    };
    let without = r#""upstream":null,"endpoint":null,"who":null"#;
    let mut tally = Tally::new(3);
    add(&mut tally, without);
    add(&mut tally, &format!(r#"{without},"route":"old""#));
    tally.settle();
    assert_eq!((tally.same, tally.changed()), (1, 1));
    let change = tally.changes.keys().next().unwrap();
    assert_eq!(told::words(change), "route old -> all");

    let mut tally = Tally::new(3);
    add(&mut tally, without);
    add(&mut tally, "");
    tally.settle();
    assert_eq!((tally.same, tally.changed()), (1, 1), "others have one");
}

#[test]
fn kinds_are_told_with_the_most_first_and_different_examples() {
    let replay = replay("[[route]]\nname = \"all\"\npath = \"/y\"\nupstream = \"new\"\n");
    let mut tally = Tally::new(2);
    let paths = ["/x", "/x", "/x2", "/y", "/x3", "/\u{202e}"];
    for (path, number) in paths.into_iter().zip(1..) {
        let text = line(&format!(r#""path":"{path}""#));
        let record = Record::read(text.as_bytes()).unwrap();
        let line = lines::Line {
            file: Path::new("log"),
            number,
            bytes: None,
        };
        let change = replay.change(&record).unwrap().unwrap();
        tally.add_change(&line, &record, change);
    }
    let line = lines::Line {
        file: Path::new("log"),
        number: 7,
        bytes: None,
    };
    tally.add_bad(&line, "\x1b[31m".to_owned());
    tally.settle();
    assert_eq!(
        told::text(&tally, false, false),
        "6 requests: 0 as before, 6 would change, 0 cannot be told\n\
         \n\
         would change\n\
         \x20 4  route all -> (none), upstream app -> none, status 2xx -> 404 (no_route)\n\
         \x20      GET h/x   log:1\n\
         \x20      GET h/x2  log:3\n\
         \x20 1  route all, upstream app -> new\n\
         \x20      GET h/y  log:4\n\
         \x20 1  route all -> (none), upstream app -> none, status 2xx -> 400 (path)\n\
         \x20      GET h/\u{fffd}  log:6\n\
         \n\
         1 line could not be read\n\
         \x20 log:7  \u{fffd}[31m\n"
    );
    let json = told::as_json(&tally);
    assert_eq!(json["changed"], 6);
    assert_eq!(json["changes"][0]["count"], 4);
    assert_eq!(json["changes"][0]["after"]["status"], "404 (no_route)");
    assert_eq!(
        json["changes"][1]["differs"],
        serde_json::json!(["upstream"])
    );
    assert_eq!(json["bad_lines"][0]["at"], "log:7");
}
