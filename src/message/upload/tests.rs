//! Which clients are too slow with their bodies.

use std::future::poll_fn;

use tokio::time::{advance, timeout};

use super::*;

fn upload(idle: u64, rate: Option<Rate>) -> Upload {
    let progress = Rc::<Progress>::default();
    Upload::new(progress, None, Duration::from_secs(idle)).at_least(rate)
}

async fn wait(upload: &mut Upload) -> BodyError {
    poll_fn(|cx| upload.poll_pause(cx)).await
}

const RATE: Rate = Rate {
    per_second: 100,
    grace: Duration::from_secs(10),
};

#[tokio::test(start_paused = true)]
async fn a_client_that_trickles_has_the_grace_and_what_its_bytes_earn() {
    let mut upload = upload(30, Some(RATE));
    let begun = Instant::now();
    for _ in 0..10 {
        let second = Duration::from_secs(1);
        assert!(timeout(second, wait(&mut upload)).await.is_err());
        upload.on_data(&[0; 50]).unwrap();
    }
    assert!(matches!(wait(&mut upload).await, BodyError::Idle));
    // 500 bytes are worth 5 s.
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_fast_enough_may_go_on_for_ever() {
    let mut upload = upload(30, Some(RATE));
    for _ in 0..100 {
        let second = Duration::from_secs(1);
        assert!(timeout(second, wait(&mut upload)).await.is_err());
        upload.on_data(&[0; 100]).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_endpoint_takes_nothing_is_not_the_clients() {
    let mut upload = upload(30, Some(RATE));
    for _ in 0..5 {
        let second = Duration::from_secs(1);
        assert!(timeout(second, wait(&mut upload)).await.is_err());
        upload.on_data(&[0; 1]).unwrap();
        advance(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn client_is_waited_for_from_a_pause_to_what_ends_it() {
    let mut upload = upload(30, None);
    let progress = Rc::clone(&upload.progress);
    assert_eq!(progress.awaited(), None);
    let (second, begun) = (Duration::from_secs(1), Instant::now());
    assert!(timeout(second, wait(&mut upload)).await.is_err());
    assert!(timeout(second, wait(&mut upload)).await.is_err());
    assert_eq!((progress.awaited(), progress.moved()), (Some(begun), None));
    upload.on_data(&[0; 1]).unwrap();
    assert_eq!(progress.awaited(), None);
    assert_eq!(progress.moved(), Some(Instant::now()));
    assert!(timeout(second, wait(&mut upload)).await.is_err());
    progress.begin();
    assert_eq!(progress.awaited(), None, "of an attempt before");
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_only_single_pauses_count() {
    let mut upload = upload(30, None);
    for _ in 0..10 {
        let short = Duration::from_secs(29);
        assert!(timeout(short, wait(&mut upload)).await.is_err());
        upload.on_data(&[0; 1]).unwrap();
    }
    assert!(matches!(wait(&mut upload).await, BodyError::Idle));
}
