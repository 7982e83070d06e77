//! Screens as text, beside those in `screens/`. `WRITE_SCREENS=1 cargo test screens` writes them anew: look at the difference.

use std::fs;
use std::path::PathBuf;

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use serde_json::{Value, json};

use super::super::model::{Event, Message, Model};
use super::super::plain::Plain;
use super::super::text;
use super::super::verdict;
use super::*;

const NOW: u64 = 1_000_000;

fn endpoint(name: &str, state: &str, reason: Option<&str>) -> Value {
    let mode = match state {
        "draining" | "disabled" => state,
        _ => "active",
    };
    json!({ "name": name, "weight": 1, "mode": mode, "state": state, "reason": reason, "since": NOW - 194, "in_flight": 3, "tunnels": 1,
        "eligible": state == "up", "version": "2.4.1", "retries": 7 })
}

fn upstream(name: &str, endpoints: &[Value]) -> Value {
    let available = endpoints.iter().filter(|it| it["eligible"] == true).count();
    let could_lose = available.saturating_sub(1);
    json!({ "name": name, "policy": "least-connections", "available": available, "headroom": { "could_lose": could_lose }, "endpoints": endpoints })
}

fn status(upstreams: &[Value]) -> Value {
    let routes: Vec<_> = upstreams
        .iter()
        .map(|it| json!({ "name": format!("{}.example/", it["name"].as_str().unwrap_or_default()), "upstream": it["name"] }))
        .collect();
    json!({ "version": "0.1.0", "generation": 7, "started": NOW - 3 * 86400 - 7200,
        "last_reload": { "by": "watch", "result": "accepted", "at": NOW - 5 * 3600 },
        "listeners": [{ "open_connections": 312 }], "upstreams": upstreams, "routes": routes })
}

fn series(name: &str, scale: f32) -> Value {
    let wave = |at: u16| f32::from(at % 30) + f32::from(at) / 6.0;
    let points = |of: &dyn Fn(u16) -> f32| (0..180).map(of).collect::<Vec<_>>();
    let (requests, errors) = (
        points(&|at| wave(at) * scale),
        points(&|at| f32::from(u8::from(at > 160)) * scale),
    );
    let seconds = points(&|at| 0.005 + wave(at) / 2000.0);
    json!({ "name": name, "requests": requests, "errors": errors, "p50": seconds, "p95": seconds, "p99": seconds, "in_flight": requests })
}

/// Told `status`, with traffic of everything in it.
fn model(status: &Value) -> Model {
    let mut model = Model::new(NOW);
    let parse = |value: Value| serde_json::from_value(value).unwrap();
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().unwrap().iter();
        names
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all =
        |list: &Value| -> Vec<Value> { names(list).iter().map(|it| series(it, 2.0)).collect() };
    model.update(Message::Status(Ok(
        serde_json::from_value(status.clone()).unwrap()
    )));
    let recent = json!({ "until": NOW, "step_seconds": 5, "routes": all(&status["routes"]), "upstreams": all(&status["upstreams"]) });
    model.update(Message::Recent(parse(recent)));
    for upstream in status["upstreams"].as_array().unwrap() {
        let endpoints =
            json!({ "until": NOW, "step_seconds": 5, "endpoints": all(&upstream["endpoints"]) });
        let name = upstream["name"].as_str().unwrap().to_owned();
        model.update(Message::Endpoints(name, parse(endpoints)));
    }
    for (age, kind, text) in [
        (5 * 3600, "reload", "watch: generation 7 is in use"),
        (
            194,
            "endpoint",
            "app/10.0.0.3:9001: up → down (connection refused)",
        ),
    ] {
        model.update(Message::Event(Event {
            at: NOW - age,
            kind: Plain::of(kind),
            tone: Tone::Plain,
            text: Plain::of(text),
        }));
    }
    model
}

fn app(third: Value) -> Value {
    let up = |name| endpoint(name, "up", None);
    status(&[
        upstream("app", &[up("10.0.0.1:9001"), up("10.0.0.2:9001"), third]),
        upstream("admin", &[up("10.0.0.9:9001")]),
    ])
}

fn well() -> Value {
    app(endpoint("10.0.0.3:9001", "up", None))
}

fn trouble() -> Value {
    app(endpoint(
        "10.0.0.3:9001",
        "down",
        Some("connection refused"),
    ))
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        model.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn screen(model: &mut Model, (width, height): (u16, u16)) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let look = Look {
        in_colour: true,
        is_live: true,
    };
    let area = buffer.area;
    model.page = draw(model, look, area, &mut buffer).max(1);
    buffer
}

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 10)];

/// What `model` looks like at every size is what is kept as `name`.
#[track_caller]
fn assert_screens(name: &str, model: &mut Model) {
    for size in SIZES {
        assert_screen(name, model, size);
    }
}

#[track_caller]
fn assert_screen(name: &str, model: &mut Model, size: (u16, u16)) {
    let shown = text(&screen(model, size));
    let file = format!("src/cli/top/draw/screens/{name}-{}x{}.txt", size.0, size.1);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&file);
    if std::env::var_os("WRITE_SCREENS").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == shown, "{file} is\n{kept}\nand is drawn as\n{shown}");
}

#[test]
fn screens_when_all_is_well() {
    assert_screens("well", &mut model(&well()));
}

#[test]
fn screens_in_trouble() {
    assert_screens("trouble", &mut model(&trouble()));
}

#[test]
fn screens_while_one_is_drained() {
    let mut draining = model(&app(endpoint("10.0.0.3:9001", "draining", None)));
    assert_screens("draining", &mut draining);
}

#[test]
fn screens_before_an_endpoint_is_drained() {
    let mut model = model(&well());
    press(&mut model, "jd");
    assert_screens("question", &mut model);
}

#[test]
fn screens_without_a_balancer() {
    let mut model = model(&trouble());
    let why =
        "no balancer runs with balancer.toml: the one that made /run/balancer/admin.sock has ended";
    model.update(Message::Status(Err(Plain::of(why))));
    model.update(Message::Time(NOW + 12));
    assert_screens("away", &mut model);
}

#[test]
fn screens_of_a_thousand_endpoints() {
    let upstreams: Vec<_> = (0..40)
        .map(|group| {
            let endpoints: Vec<_> = (0..25)
                .map(|number| {
                    let state = if group == 17 && number == 3 {
                        "down"
                    } else {
                        "up"
                    };
                    endpoint(&format!("10.0.{group}.{number}:9001"), state, None)
                })
                .collect();
            upstream(&format!("group-{group}"), &endpoints)
        })
        .collect();
    let mut model = model(&status(&upstreams));
    let first = text(&screen(&mut model, (80, 24)));
    assert!(
        first.contains("▸ 10.0.17.3:9001         down"),
        "who is in trouble is on top:\n{first}"
    );
    press(&mut model, "jjjjjjjjjjjjjjjjjjjjjjjjjjjjjj");
    assert_screens("thousand", &mut model);
}

#[test]
fn screens_of_names_in_all_scripts_and_of_hostile_ones() {
    let endpoints = [
        endpoint("端点一号服务器甲乙丙丁戊己庚辛", "up", None),
        endpoint("e\u{301}\u{301}\u{301}te\u{301} 👩‍👩‍👧 ✈️", "up", None),
        endpoint(
            "\x1b[2J\x1b]0;owned\x07",
            "down",
            Some("\x1b[31mred\x1b[0m\r\nsecond \u{9b}2K \u{202e}nwod"),
        ),
        endpoint(
            "a-name-that-is-far-too-long-for-any-column-there-is-and-goes-on-and-on.example.org:65535",
            "\x1b[Hup",
            None,
        ),
    ];
    let mut hostile = status(&[upstream("\u{202e}\x1b[1mapp", &endpoints)]);
    hostile["version"] = json!("\x1b[5m1");
    let mut model = model(&hostile);
    model.update(Message::Event(Event {
        at: NOW,
        kind: Plain::of("\x1b[0m"),
        tone: Tone::Bad,
        text: Plain::of("\x1bc"),
    }));
    assert_screens("hostile", &mut model);
    for keys in ["", "\t", "\t", "1d", "n/\x1b", "\n?"] {
        press(&mut model, keys);
        for size in SIZES {
            let buffer = screen(&mut model, size);
            let shown: String = buffer
                .content
                .iter()
                .map(ratatui::buffer::Cell::symbol)
                .collect();
            let is_hostile = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            assert!(!shown.contains(is_hostile), "{shown:?}");
        }
    }
}

#[test]
fn screens_of_the_other_views_and_of_help() {
    let mut model = model(&trouble());
    press(&mut model, "\t");
    assert_screens("routes", &mut model);
    press(&mut model, "\t");
    assert_screens("events", &mut model);
    press(&mut model, "?");
    assert_screens("help", &mut model);
}

#[test]
fn screens_filtered_and_sorted() {
    let mut model = model(&trouble());
    press(&mut model, "g<i/10.0\n");
    assert_screen("sorted", &mut model, (120, 40));
}

#[test]
fn balancer_that_tells_less_is_shown_all_the_same() {
    let status = json!({ "version": "0.0.1", "generation": 1, "started": NOW, "upstreams": [{ "name": "app", "policy": "random", "available": 1,
        "endpoints": [{ "name": "a", "weight": 1, "mode": "active", "state": "up", "since": NOW, "in_flight": 0, "eligible": true }] }] });
    let mut model = Model::new(NOW);
    assert_screen("asked", &mut model, (80, 24));
    model.update(Message::Status(Ok(serde_json::from_value(status).unwrap())));
    assert_screen("less", &mut model, (80, 24));
}

#[test]
fn every_size_is_drawn_and_the_dialog_can_be_answered_in_it() {
    let mut model = model(&trouble());
    for keys in ["", "\t", "\t", "\td", "n?", "?/x"] {
        press(&mut model, keys);
        for width in (0..50).step_by(3).chain([80, 300]) {
            for height in (0..40).step_by(3).chain([100]) {
                let buffer = screen(&mut model, (width, height));
                if model.question.is_some() && width >= 40 && height >= 5 {
                    assert!(
                        text(&buffer).contains("y  drain it"),
                        "{width}x{height}\n{}",
                        text(&buffer)
                    );
                }
            }
        }
    }
}

#[test]
fn without_colour_the_words_are_the_same_and_no_cell_has_one() {
    let model = model(&trouble());
    let drawn = |in_colour| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        let area = buffer.area;
        draw(
            &model,
            Look {
                in_colour,
                is_live: true,
            },
            area,
            &mut buffer,
        );
        buffer
    };
    let (with, without) = (drawn(true), drawn(false));
    assert_eq!(text(&with), text(&without));
    let colours = |buffer: &Buffer| {
        buffer
            .content
            .iter()
            .filter(|cell| cell.fg != ratatui::style::Color::Reset)
            .count()
    };
    assert!(colours(&with) > 0);
    assert_eq!(colours(&without), 0);
    // What is said in red is said in words.
    assert_eq!(
        verdict::verdict(model.status.as_ref().unwrap(), NOW)[0].0,
        Tone::Bad
    );
    assert!(text(&without).contains("1 of 4 endpoints in trouble"));
}
