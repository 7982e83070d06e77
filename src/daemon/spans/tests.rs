//! When spans are sent, which are lost, and what is said of it.

use std::path::Path;

use super::*;
use crate::config;
use crate::snapshot::compile::Compiler;
use crate::tls::Tickets;

const TEXT: &str = "[listener.a]\naddress = \"127.0.0.1:80\"\n[[route]]\nrespond = { status = 204 }\n\
    [tracing]\nendpoint = \"http://127.0.0.1:4318\"\n";

fn sending(more: &str) -> Sending {
    let metrics = Arc::new(Metrics::new());
    let config = config::parse(&format!("{TEXT}{more}"), Path::new("f")).unwrap();
    let mut compiler = Compiler::new(Arc::clone(&metrics), Tickets::new().unwrap(), 0);
    let compiled = compiler.compile(&config, None).unwrap();
    Sending::new(Publisher::new(compiled.snapshot), &metrics)
}

fn block(kibibytes: usize) -> Block {
    Block {
        bytes: vec![1; kibibytes * 1024],
        spans: 100,
    }
}

fn taken() -> Outcome {
    Outcome::Taken {
        refused: 0,
        why: String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn regression_what_fills_a_batch_is_sent_at_once() {
    for more in ["", "queue = \"64KiB\"\n"] {
        let mut sending = sending(more);
        sending.take(block(1));
        assert_eq!(sending.next, Instant::now() + GATHER);
        // More than may wait comes within the second.
        for _ in 0..200 {
            sending.take(block(40));
            if sending.next <= Instant::now() {
                let _delivery = sending.send();
                sending.note(taken());
            }
        }
        assert_eq!(sending.no_room.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_waits_however_much_comes() {
    let mut sending = sending("");
    sending.take(block(40));
    let _delivery = sending.send();
    sending.note(Outcome::Later(None, "away".to_owned()));
    for _ in 0..200 {
        sending.take(block(40));
    }
    assert!(sending.next >= Instant::now() + FIRST_PAUSE);
    assert!(sending.no_room.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn regression_trouble_that_comes_and_goes_is_said_once_a_minute() {
    let mut sending = sending("");
    let begun = Instant::now();
    let away = || Outcome::Later(None, "away".to_owned());
    sending.note(away());
    for second in 1..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        sending.note(taken());
        assert!(!sending.owes_good_news);
        sending.note(away());
        assert_eq!((sending.said, second), (Some(begun), second));
        assert!(!sending.owes_good_news);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    sending.note(away());
    assert_eq!(sending.said, Some(begun + SAY_AGAIN));
    assert!(sending.owes_good_news);
}

#[tokio::test(start_paused = true)]
async fn regression_spans_that_are_left_at_the_end_are_counted() {
    // A collector that is away.
    let mut away = sending("");
    away.take(block(1));
    away.is_ending = true;
    let _delivery = away.send();
    away.take(block(1));
    away.note(Outcome::Later(None, "away".to_owned()));
    assert_eq!(away.lost.get(), 200);
    // One that hangs: some are sent and not taken, some wait, some have not come here yet.
    let hangs = sending("");
    let lost = hangs.lost.clone();
    let (way, blocks) = outbox::way();
    let (end, ends) = oneshot::channel();
    for _ in 0..3 {
        way.try_send(block(1)).unwrap();
    }
    end.send(Instant::now()).unwrap();
    hangs.run(blocks, ends).await;
    assert_eq!(lost.get(), 300);
    drop(way);
}

#[tokio::test(start_paused = true)]
async fn regression_nobody_is_told_that_spans_are_taken_again_where_only_room_was_lacking() {
    let mut sending = sending("");
    sending.say(Trouble::NoRoom, "there is no room for more");
    assert!(sending.said.is_some() && !sending.owes_good_news);
}
