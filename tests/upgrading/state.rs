//! What the process before knew, the new one knows: what operators want, what was found out about endpoints, what was counted.

use super::Successors;
use crate::support::client::HOST;
use crate::support::command::{command, done};
use crate::support::{Balancer, Connection, Origin, Refusing, eventually, get};

#[test]
fn modes_health_ejections_counters_and_files_go_on() {
    let origins = ["a", "b", "c", "d"].map(Origin::named);
    let [a, b, c, d] = &origins;
    d.probe_status(500);
    let refusing = Refusing::new();
    let checked = "health = { path = \"/probe\", interval = \"1s\", timeout = \"1s\", fast_interval = \"1s\" }";
    let configuration = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n\
         [upstream.app]\npassive = {{ consecutive = 1, eject = \"5m\" }}\nendpoints = [\
         {{ name = \"a\", address = \"{}\" }}, {{ name = \"b\", address = \"{}\" }}, \
         {{ name = \"bad\", address = \"{}\" }}]\n\
         [upstream.checked]\n{checked}\nendpoints = [\
         {{ name = \"c\", address = \"{}\" }}, {{ name = \"d\", address = \"{}\" }}]\n\
         [[route]]\nname = \"main\"\nupstream = \"app\"\n[[route]]\npath = \"/checked\"\nupstream = \"checked\"\n",
        a.address(),
        b.address(),
        refusing.address(),
        c.address(),
        d.address(),
    );
    let mut balancer = Balancer::start(&configuration);
    let state = |upstream: &str, name: &str| {
        let endpoint = balancer.endpoint(upstream, name);
        endpoint["state"].as_str().unwrap_or_default().to_owned()
    };
    eventually("the one that refuses is ejected", || {
        assert_eq!(get(balancer.http(), "/").status, 200);
        state("app", "bad") == "ejected"
    });
    balancer.await_health("checked", "d", "down");
    done(&command(&balancer, &["drain", "app/b"]));
    balancer.reloaded(&format!("{configuration}\n# once more\n"));
    let until = balancer.endpoint("app", "bad")["ejected"]["until"].clone();
    let since = balancer.endpoint("checked", "d")["since"].clone();
    let requests = |code: &str| {
        let labels = [("route", "main"), ("code", code)];
        balancer.metrics().sum("balancer_requests_total", &labels)
    };
    let answered = requests("200");
    assert!(answered > 0.0);
    let durations = || {
        let labels = [("route", "main")];
        balancer
            .metrics()
            .sum("balancer_request_duration_seconds_count", &labels)
    };
    let measured = durations();

    let mut successors = Successors::default();
    for generation in 3..5 {
        successors.upgrade(&balancer);
        assert_eq!(balancer.status()["generation"], generation);
        assert_eq!(state("app", "b"), "draining");
        assert_eq!(state("app", "bad"), "ejected");
        assert_eq!(balancer.endpoint("app", "bad")["ejected"]["until"], until);
        // From the first moment on, without a probe of its own.
        assert_eq!(state("checked", "c"), "up");
        assert_eq!(state("checked", "d"), "down");
        assert_eq!(balancer.endpoint("checked", "d")["since"], since);
        assert_eq!((requests("200"), durations()), (answered, measured));
    }
    for _ in 0..10 {
        assert_eq!(get(balancer.http(), "/").text(), "a");
    }
    assert_eq!(get(balancer.http(), "/checked").text(), "c");
    assert_eq!(
        (requests("200"), durations()),
        (answered + 10.0, measured + 10.0)
    );
    let labels = [("endpoint", "bad"), ("reason", "consecutive")];
    let ejections = balancer
        .metrics()
        .sum("balancer_endpoint_ejections_total", &labels);
    assert_eq!(ejections, 1.0);

    // What operators do goes on as well.
    done(&command(&balancer, &["rollback", "1"]));
    assert_eq!(balancer.status()["generation"], 5);
    done(&command(&balancer, &["resume", "app/b"]));
    assert_eq!(state("app", "b"), "unchecked");
    assert_eq!(balancer.wait_exit().code(), Some(0));
}

#[test]
fn regression_what_the_new_file_has_not_is_left_behind_at_once() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let configuration = |origin: &Origin| {
        format!(
            "[listener.http]\naddress = \"127.0.0.1:0\"\n[listener.{name}]\naddress = \"127.0.0.1:0\"\n\
             [upstream.{name}]\nendpoints = [\"{address}\"]\n[[route]]\nname = \"{name}\"\nupstream = \"{name}\"\n",
            name = if std::ptr::eq(origin, &a) {
                "first"
            } else {
                "second"
            },
            address = origin.address()
        )
    };
    let mut balancer = Balancer::start(&configuration(&a));
    assert_eq!(get(balancer.address("first"), "/").text(), "a");
    let first = balancer.address("first");
    balancer.write_configuration(&configuration(&b));
    let mut successors = Successors::default();
    successors.upgrade(&balancer);
    // From the moment on in which that is said: nobody is let in by the process before.
    for _ in 0..20 {
        assert_eq!(get(balancer.http(), "/").text(), "b");
        assert_eq!(balancer.status()["generation"], 2);
    }
    assert_eq!(get(balancer.address("second"), "/").text(), "b");
    assert_eq!(balancer.wait_exit().code(), Some(0));
    assert!(std::net::TcpStream::connect(first).is_err());
    let metrics = balancer.metrics();
    assert!(!metrics.text.contains("\"first\""), "{}", metrics.text);
}

#[test]
fn regression_who_has_just_written_reads_there_from_the_new_process_too() {
    let (clone, authority) = (Origin::named("clone"), Origin::named("authority"));
    let configuration = format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.clones]\nendpoints = [\"{}\"]\n\
         [upstream.authority]\nendpoints = [\"{}\"]\n[[route]]\nupstream = \"clones\"\nwrites = \"authority\"\n\
         read_your_writes = \"1h\"\n",
        clone.address(),
        authority.address()
    );
    let balancer = Balancer::start(&configuration);
    let ask = |method: &str, cookie: &str| {
        let mut connection = Connection::open(balancer.http());
        connection.send(format!(
            "{method} / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        connection.reply()
    };
    let reply = ask("POST", "x=1");
    let said = reply.field("set-cookie").expect("a cookie");
    let cookie = said.split(';').next().unwrap();
    let mut successors = Successors::default();
    for _ in 0..2 {
        successors.upgrade(&balancer);
        assert_eq!(ask("GET", cookie).text(), "authority");
        assert_eq!(ask("GET", "x=1").text(), "clone");
    }
}
