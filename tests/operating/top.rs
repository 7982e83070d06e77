//! `balancer top` on a terminal: what an operator sees and does, and that the terminal is given back.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::{command, done, told};
use crate::support::balancer::BINARY;
use crate::support::terminal::Terminal;
use crate::support::{Balancer, Origin, eventually, get, simple};

const SIZE: (u16, u16) = (80, 24);

fn top(config: &Path, arguments: &[&str]) -> Terminal {
    let mut command = Command::new(BINARY);
    command.args(["top", "--interval", "100ms", "--config"]);
    command.arg(config).args(arguments);
    Terminal::run(&command, SIZE)
}

fn top_of(balancer: &Balancer) -> Terminal {
    top(&balancer.directory().join("balancer.toml"), &[])
}

/// `simple`, with checks that notice soon.
fn checked(origins: &[&Origin]) -> String {
    let health = "health = { kind = \"tcp\", interval = \"200ms\", fast_interval = \"100ms\", timeout = \"200ms\", fall = 1 }\n\n        [[route]]";
    simple(origins).replace("[[route]]", health)
}

#[test]
fn endpoint_that_dies_is_named_and_so_is_one_that_is_back() {
    let (a, mut b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&checked(&[&a, &b]));
    let terminal = top_of(&balancer);
    terminal.await_text("All 2 endpoints are well.");
    assert!(terminal.is_taken());
    let name = b.address().to_string();
    b.stop();
    terminal.await_text(&format!("1 of 2 endpoints in trouble: app/{name} down for"));
    terminal.await_text("app: 1 of 2 serve, could lose no more");
    b.start_again();
    terminal.await_text("All 2 endpoints are well.");
}

#[test]
fn endpoint_is_drained_and_resumed_after_a_question() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&simple(&[&a, &b]));
    let name = a.address().to_string();
    let mode = || balancer.endpoint("app", &name)["mode"].clone();
    let mut terminal = top_of(&balancer);
    terminal.await_text(&format!("▸ {name}"));
    terminal.press("d");
    terminal.await_text(&format!("Drain app/{name}?"));
    terminal.await_text("1 of app remains");
    terminal.press("n");
    eventually("the question is gone", || {
        !terminal.text().contains("Drain app")
    });
    assert_eq!(mode(), "active");
    terminal.press("dxy");
    terminal.await_text(&format!("app/{name}: draining, was active"));
    terminal.await_text("1 of 2 endpoints are well, 1 draining.");
    assert_eq!(mode(), "draining");
    assert!((0..4).all(|_| get(balancer.http(), "/").text() == "b"));
    terminal.press("rY");
    terminal.await_text("was draining");
    assert_eq!(mode(), "active");
    // Whoever watches is told of operators, too.
    terminal.press("3");
    terminal.await_text(&format!("resume app/{name}, user "));
}

#[test]
fn terminal_is_given_back_in_every_way_out() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let key = |keys: &'static str| -> Box<dyn Fn(&mut Terminal)> {
        Box::new(move |terminal| terminal.press(keys))
    };
    let signal = |signal| -> Box<dyn Fn(&mut Terminal)> {
        Box::new(move |terminal| terminal.signal(signal))
    };
    for leave in [
        key("q"),
        key("\x03"),
        signal(Signal::TERM),
        signal(Signal::INT),
        signal(Signal::HUP),
        signal(Signal::QUIT),
    ] {
        let mut terminal = top_of(&balancer);
        terminal.await_text("The endpoint is well.");
        leave(&mut terminal);
        assert_eq!(terminal.wait_exit().code(), Some(0));
        eventually("the terminal is as before", || terminal.is_as_before());
    }
}

#[test]
fn stopped_it_gives_the_terminal_back_and_takes_it_again() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let mut terminal = top_of(&balancer);
    type Stop = fn(&mut Terminal);
    let stops: [(&str, Stop); 2] = [
        ("by Ctrl-Z", |terminal| terminal.press("\x1a")),
        ("by a signal", |terminal| terminal.signal(Signal::TSTP)),
    ];
    for (how, stop) in stops {
        terminal.await_text("The endpoint is well.");
        stop(&mut terminal);
        eventually(how, || terminal.is_stopped());
        eventually("the terminal is as before", || terminal.is_as_before());
        terminal.signal(Signal::CONT);
        eventually("the terminal is taken", || terminal.is_taken());
    }
    // What nobody can prepare for.
    terminal.signal(Signal::STOP);
    eventually("it is stopped", || terminal.is_stopped());
    terminal.signal(Signal::CONT);
    terminal.await_text("The endpoint is well.");
    terminal.press("q");
    assert_eq!(terminal.wait_exit().code(), Some(0));
    eventually("the terminal is as before", || terminal.is_as_before());
}

#[test]
fn balancer_that_is_away_is_told_and_one_that_is_back_is_shown() {
    let origin = Origin::named("a");
    let kept = tempfile::TempDir::new().unwrap();
    let with_socket = format!(
        "{}\n[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"{}\"\n",
        simple(&[&origin]),
        kept.path().join("socket").display()
    );
    let config = kept.path().join("balancer.toml");
    let mut balancer = Balancer::start(&with_socket);
    fs::write(&config, &with_socket).unwrap();
    let terminal = top(&config, &[]);
    terminal.await_text("The endpoint is well.");
    balancer.reloaded(&with_socket);
    terminal.await_text("generation 2");
    balancer.signal(Signal::TERM);
    balancer.wait_exit();
    terminal.await_text("The balancer gives no answer for");
    let _balancer = Balancer::start(&with_socket);
    terminal.await_text("The endpoint is well.");
    terminal.await_text("generation 1");
}

#[test]
fn other_sizes_are_filled() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let terminal = top_of(&balancer);
    terminal.await_text("q quit  ? help");
    for size in [(120, 40), (40, 10), (20, 3), (80, 24)] {
        terminal.resize(size);
        eventually("the last row is the last row", || {
            let text = terminal.text();
            let last = text.lines().last().unwrap_or_default().to_owned();
            text.lines().count() == usize::from(size.1) && last.starts_with("q quit  ? help")
        });
    }
}

#[test]
fn one_screen_is_printed_as_plain_text() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let balancer = Balancer::start(&simple(&[&a, &b]));
    let text = done(&command(&balancer, &["top", "--once"]));
    assert!(text.starts_with("balancer 0"), "{text}");
    for part in [
        "\nAll 2 endpoints are well.\n",
        "\napp: 2 of 2 serve",
        &format!("\n  {} ", a.address()),
        &format!("\n  {} ", b.address()),
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn without_a_terminal_or_a_balancer_it_says_so_and_touches_nothing() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let (code, text) = told(&command(&balancer, &["top"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("top needs a terminal; `balancer top --once`"),
        "{text}"
    );
    let elsewhere = tempfile::TempDir::new().unwrap();
    let mut terminal = top(&elsewhere.path().join("balancer.toml"), &[]);
    assert_eq!(terminal.wait_exit().code(), Some(1));
    terminal.await_text("balancer: no balancer runs with");
    assert!(terminal.is_as_before());
    assert!(
        !terminal.written().contains('\x1b'),
        "{:?}",
        terminal.written()
    );
}

#[test]
fn without_colour_there_is_none() {
    let origin = Origin::named("a");
    let balancer = Balancer::start(&simple(&[&origin]));
    let colours = |value: &str| {
        let mut command = Command::new(BINARY);
        command.args(["top", "--config"]).env("NO_COLOR", value);
        command.arg(balancer.directory().join("balancer.toml"));
        let terminal = Terminal::run(&command, SIZE);
        terminal.await_text("The endpoint is well.");
        terminal.is_coloured()
    };
    assert!(!colours("1"));
    assert!(colours(""), "an empty one says nothing");
}
