//! A refused reload changes nothing, whatever it was refused for: requests, status, configuration, series and the plan are as
//! they were.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde_json::Value;

use super::{ask, command, config, done, told};
use crate::support::certificates::Authority;
use crate::support::client::{HOST, Tls};
use crate::support::{Balancer, Connection, Origin, Outcome, Reply};

/// A way to be refused, what it makes of a good file and the folder beside it, and what is then said.
struct Way {
    what: &'static str,
    make: fn(&str, &Path) -> Option<String>,
    said: &'static str,
}

const fn way(
    what: &'static str,
    make: fn(&str, &Path) -> Option<String>,
    said: &'static str,
) -> Way {
    Way { what, make, said }
}

const WAYS: &[Way] = &[
    way(
        "no TOML",
        |good, _| Some(format!("{good}[upstream")),
        "balancer.toml:",
    ),
    way("nothing in it", |_, _| Some(String::new()), "listener"),
    way(
        "an unknown key",
        |good, _| Some(good.replace("policy", "polcy")),
        "policy",
    ),
    way(
        "a value of another kind",
        |good, _| Some(good.replace("\"round-robin\"", "3")),
        "upstream.app.policy",
    ),
    way(
        "a name that nothing has",
        |good, _| Some(good.replace("upstream = \"app\"", "upstream = \"ap\"")),
        "no upstream is named \"ap\"",
    ),
    way(
        "routes that cannot be told apart",
        |good, _| {
            Some(format!(
                "{good}[[route]]\nname = \"again\"\nupstream = \"app\"\n\
                 [listener.more]\naddress = \"127.0.0.1:0\"\n"
            ))
        },
        "cannot be told apart",
    ),
    way(
        "a key of another certificate",
        |good, folder| {
            fs::copy(folder.join("other.key"), folder.join("leaf.key")).unwrap();
            Some(good.to_owned())
        },
        "leaf.",
    ),
    way(
        "a certificate that is none",
        |good, folder| {
            fs::write(folder.join("leaf.pem"), "nothing").unwrap();
            Some(good.to_owned())
        },
        "leaf.pem",
    ),
    way(
        "no certificate",
        |good, folder| {
            fs::remove_file(folder.join("leaf.pem")).unwrap();
            Some(good.to_owned())
        },
        "leaf.pem",
    ),
    way(
        "an address that is taken",
        |good, folder| {
            let taken = fs::read_to_string(folder.join("taken")).unwrap();
            Some(format!(
                "{good}[listener.more]\naddress = \"{taken}\"\n[upstream.more]\nendpoints = [\"{taken}\"]\n\
                 [[route]]\npath = \"/more\"\nupstream = \"more\"\n"
            ))
        },
        "listener `more` cannot listen on",
    ),
    way(
        "an access log in no folder",
        |good, _| {
            Some(format!(
                "{good}[access_log]\ntarget = \"nowhere/access.log\"\n"
            ))
        },
        "nowhere",
    ),
    way(
        "an access log that is a folder",
        |good, _| Some(format!("{good}[access_log]\ntarget = \"run\"\n")),
        "access_log",
    ),
    way(
        "bytes that are no text",
        |good, folder| {
            let file = folder.join("balancer.toml");
            fs::write(file, [good.as_bytes(), b"# \xff\n"].concat()).unwrap();
            None
        },
        "is not UTF-8",
    ),
    way(
        "no file",
        |_, folder| {
            fs::remove_file(folder.join("balancer.toml")).unwrap();
            None
        },
        "balancer.toml",
    ),
];

/// All that can be seen of a balancer from outside and does not move by itself.
#[derive(Debug, PartialEq)]
struct Seen {
    replies: Vec<String>,
    certificate: Vec<u8>,
    status: Value,
    configuration: (u16, Value),
    series: BTreeSet<String>,
    generation: Option<f64>,
}

fn seen(balancer: &Balancer, tls: &Tls) -> Seen {
    let mut secure = Connection::secure(balancer.address("https"), tls).unwrap();
    let replies = ["/", "/fixed", "/moved", "/x/../fixed", "/limited?a=1"];
    let replies = replies.map(|path| written(&secure.get(path)));
    let metrics = balancer.metrics();
    let samples = metrics.text.lines().filter(|line| !line.starts_with('#'));
    // Whoever asks is counted: not how often, but what there is.
    let names = samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
    let mut status = balancer.status();
    for listener in status["listeners"].as_array_mut().expect("listeners") {
        listener["open_connections"] = Value::Null;
    }
    // What was in flight at once is forgotten after a while.
    for upstream in status["upstreams"].as_array_mut().expect("upstreams") {
        upstream["headroom"] = Value::Null;
        for endpoint in upstream["endpoints"].as_array_mut().expect("endpoints") {
            endpoint["peak_in_flight"] = Value::Null;
        }
    }
    // That it was refused is told.
    status["last_reload"] = Value::Null;
    Seen {
        replies: replies.into(),
        certificate: secure.certificate().to_vec(),
        status,
        configuration: ask(balancer, "GET", "/api/v1/config", ""),
        // Reloads are counted by their outcome.
        series: names
            .filter(|name| !name.starts_with("balancer_config_reloads_total"))
            .collect(),
        generation: metrics.find("balancer_config_generation", &[]),
    }
}

/// A reply without what is new in each.
fn written(reply: &Reply) -> String {
    let fields = reply.head.fields.iter();
    let lasting =
        fields.filter(|(name, _)| !["date", "x-request-id"].contains(&&*name.to_lowercase()));
    format!(
        "{} {:?} {}",
        reply.status,
        lasting.collect::<Vec<_>>(),
        reply.text()
    )
}

fn good(origin: &Origin) -> String {
    let tls = "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"leaf.pem\", key = \"leaf.key\" }] }\n";
    format!(
        "{tls}{}[[route]]\npath = \"/fixed\"\nrespond = {{ body = \"fixed\" }}\n\
         [[route]]\npath = \"/moved\"\nredirect = {{ to = \"/fixed\" }}\n\
         [[route]]\npath = \"/limited\"\nupstream = \"app\"\nresponse_headers = {{ set = {{ x-set = \"1\" }} }}\n",
        config(&[origin], "", "")
            .replace("[upstream.app]", "[upstream.app]\npolicy = \"round-robin\"")
    )
}

#[test]
fn refused_reload_leaves_everything_as_it_was_in_fourteen_ways() {
    let origin = Origin::named("a");
    let authority = Authority::new("test");
    let (leaf, other) = (authority.issue(&[HOST]), authority.issue(&[HOST]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let good = good(&origin);
    let balancer = Balancer::start_with(&good, |directory| {
        leaf.write(directory, "leaf");
        other.write(directory, "other");
        fs::write(directory.join("taken"), address.to_string()).unwrap();
    });
    let tls = Tls::new(&authority, HOST);
    seen(&balancer, &tls); // What is made when it is first used is there.
    let before = seen(&balancer, &tls);
    assert_eq!(before.replies.len(), 5);
    for (number, way) in (1..).zip(WAYS) {
        let folder = balancer.directory();
        let bad = (way.make)(&good, folder);
        // By signal and by command.
        let problems = match bad.map(|bad| balancer.reload(&bad)) {
            Some(Outcome::Rejected(problems)) => problems,
            None => match balancer.reload_as_it_is() {
                Outcome::Rejected(problems) => problems,
                accepted @ Outcome::Accepted(_) => panic!("{}: {accepted:?}", way.what),
            },
            accepted => panic!("{}: {accepted:?}", way.what),
        };
        assert!(problems.contains(way.said), "{}: {problems}", way.what);
        let (code, said) = told(&command(&balancer, &["reload"]));
        assert_eq!(code, Some(1), "{}: {said}", way.what);
        assert!(said.contains(way.said), "{}: {said}", way.what);
        let mut after = seen(&balancer, &tls);
        let appeared: Vec<_> = after.series.difference(&before.series).collect();
        assert!(appeared.is_empty(), "{}: {appeared:?}", way.what);
        let vanished: Vec<_> = before.series.difference(&after.series).collect();
        assert!(vanished.is_empty(), "{}: {vanished:?}", way.what);
        after.series.clone_from(&before.series);
        assert_eq!(after, before, "{}", way.what);
        let rejected = [("result", "rejected")];
        let count = balancer
            .metrics()
            .sum("balancer_config_reloads_total", &rejected);
        assert_eq!(count, f64::from(2 * number), "{}", way.what);

        // The good file is good again, and nothing of the bad one has stayed behind.
        leaf.write(folder, "leaf");
        balancer.write_configuration(&good);
        assert!(
            done(&command(&balancer, &["plan"]))
                .starts_with("nothing would change against generation 1\n")
        );
    }
    let last = balancer
        .metrics()
        .find("balancer_config_last_reload_successful", &[]);
    assert_eq!(last, Some(0.0));
    assert_eq!(balancer.reloaded(&good), 2);
}

#[test]
fn regression_pipe_in_the_place_of_a_key_is_refused_at_once_and_operators_are_heard() {
    let origin = Origin::named("a");
    let good = config(&[&origin], "", "");
    let balancer = Balancer::start_with(&good, |directory| {
        let pipe = std::process::Command::new("mkfifo")
            .arg(directory.join("pipe"))
            .status();
        assert!(pipe.unwrap().success());
    });
    let affinity = good.replace(
        "[[route]]",
        "affinity = { cookie = \"c\", key_file = \"pipe\" }\n[[route]]",
    );
    let listener = "tls.certificates = [{ chain = \"pipe\", key = \"pipe\" }]\n[upstream.app]";
    let certificate = good.replace("[upstream.app]", listener);
    for bad in [affinity, certificate] {
        let Outcome::Rejected(problems) = balancer.reload(&bad) else {
            panic!("it was taken over");
        };
        assert!(
            problems.contains("pipe cannot be read: it is no regular file"),
            "{problems}"
        );
        let (code, _) = told(&command(&balancer, &["reload"]));
        assert_eq!(code, Some(1));
        let (code, said) = told(&command(&balancer, &["plan"]));
        assert_eq!(code, Some(1), "{said}");
        done(&command(&balancer, &["drain", "app/a", "--force"]));
        done(&command(&balancer, &["resume", "app/a"]));
    }
}
