//! How trials end, look by look.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits {
    min_requests: 100,
    tolerance: 0.005,
    heeds_latency: true,
};

fn answers(requests: u64, errors: u64) -> Answers {
    let mut answers = Answers {
        requests,
        errors,
        ..Answers::default()
    };
    answers.within[2] = requests;
    answers
}

fn trial(steps: &[u8], before: u64) -> Trial {
    let mut trial = Trial::new(steps.to_vec(), 60 * SECOND, LIMITS);
    trial.begin(answers(before, 0), 0);
    trial
}

fn look(trial: &mut Trial, seconds: u32, new: Answers, in_flight: u64) -> Look {
    let news = News {
        new,
        in_flight,
        ..News::default()
    };
    trial.look((seconds * SECOND, 30 * SECOND), &news)
}

#[test]
fn good_set_is_kept_when_its_time_is_over() {
    let mut trial = trial(&[100], 1000);
    assert_eq!(look(&mut trial, 1, answers(500, 0), 3), Look::Open);
    assert_eq!(look(&mut trial, 59, answers(500, 1), 3), Look::Open);
    assert_eq!(look(&mut trial, 60, answers(0, 0), 3), Look::Kept);
}

#[test]
fn bad_set_is_found_before() {
    let mut trial = trial(&[100], 1000);
    assert_eq!(look(&mut trial, 1, answers(99, 99), 0), Look::Open);
    let found = look(&mut trial, 2, answers(1, 1), 0);
    assert!(
        matches!(found, Look::Worse(Fault::Errors { .. })),
        "{found:?}"
    );
}

#[test]
fn slow_first_moments_are_forgiven_and_slow_ones_after_are_not() {
    let mut slow = answers(500, 0);
    slow.within = [0; 15];
    slow.within[9] = 500;
    let mut trial = trial(&[100], 1000);
    assert_eq!(look(&mut trial, 14, slow, 0), Look::Open);
    assert_eq!(look(&mut trial, 20, answers(200, 0), 0), Look::Open);
    let found = look(&mut trial, 30, slow, 0);
    assert!(
        matches!(found, Look::Worse(Fault::Slow { .. })),
        "{found:?}"
    );
}

#[test]
fn requests_that_hang_are_waited_for() {
    let mut trial = trial(&[100], 1000);
    assert_eq!(look(&mut trial, 60, answers(60, 0), 500), Look::Open);
    assert_eq!(look(&mut trial, 70, answers(150, 0), 500), Look::Open);
    let found = look(&mut trial, 80, answers(500, 500), 0);
    assert!(matches!(found, Look::Worse(_)), "{found:?}");
}

#[test]
fn too_few_requests_tell_nothing() {
    let mut few = trial(&[100], 1000);
    assert_eq!(look(&mut few, 60, answers(99, 0), 0), Look::Open);
    assert!(matches!(
        look(&mut few, 90, answers(0, 0), 0),
        Look::Unclear(_)
    ));
    // Nothing that comes changes what was before.
    let mut nothing_before = trial(&[100], 99);
    let found = look(&mut nothing_before, 60, answers(500, 500), 0);
    assert!(matches!(found, Look::Unclear(_)), "{found:?}");
}

#[test]
fn shares_are_widened_one_after_the_other_and_each_is_judged_by_itself() {
    let mut trial = trial(&[10, 50, 100], 1000);
    assert_eq!(trial.percent(), 10);
    assert_eq!(look(&mut trial, 60, answers(900, 0), 0), Look::Widen(50));
    assert_eq!(look(&mut trial, 1, answers(50, 0), 0), Look::Open);
    assert_eq!(look(&mut trial, 60, answers(900, 0), 0), Look::Widen(100));
    // Of eighteen hundred good ones before nothing is left.
    let found = look(&mut trial, 2, answers(200, 30), 0);
    assert!(matches!(found, Look::Worse(_)), "{found:?}");
}

#[test]
fn regression_old_set_is_what_it_is_held_against_as_long_as_it_gets_requests() {
    // Both fail since: it is not the new set.
    let mut shared = trial(&[50, 100], 100_000);
    let mut at_second = |second, old, new| {
        let news = News {
            old,
            new,
            ..News::default()
        };
        shared.look((second * SECOND, SECOND), &news)
    };
    for second in 1..60 {
        let found = at_second(second, answers(100, 10), answers(100, 10));
        assert_eq!(found, Look::Open, "{second}");
    }
    let found = at_second(60, answers(100, 10), answers(100, 10));
    assert_eq!(found, Look::Widen(100));
    // The new one alone fails.
    let mut alone = trial(&[50, 100], 1000);
    let news = News {
        old: answers(1000, 0),
        new: answers(200, 20),
        ..News::default()
    };
    let found = alone.look((SECOND, SECOND), &news);
    assert!(matches!(found, Look::Worse(_)), "{found:?}");
}

#[test]
fn regression_set_that_hardly_answers_is_told_from_one_that_nobody_asks_and_soon() {
    for (answered, in_flight, hangs) in [
        (0, 100, true),
        (9, 100, true),
        (10, 100, false),
        (0, 99, false),
    ] {
        let mut trial = trial(&[100], 1000);
        let come = answers(answered, 0);
        assert_eq!(look(&mut trial, 4, come, in_flight), Look::Open);
        let found = look(&mut trial, 5, answers(0, 0), in_flight);
        let is_silent = matches!(found, Look::Worse(Fault::Silent { .. }));
        assert_eq!(is_silent, hangs, "{found:?}");
        let found = look(&mut trial, 90, answers(0, 0), in_flight);
        assert_eq!(matches!(found, Look::Unclear(_)), !hangs, "{found:?}");
    }
}

#[test]
fn long_polls_and_those_of_the_share_before_are_no_silence() {
    let slow = |requests| {
        let mut slow = answers(requests, 0);
        slow.within = [0; 15];
        slow.within[12] = requests;
        slow
    };
    let mut polls = Trial::new(vec![100], 600 * SECOND, LIMITS);
    polls.begin(slow(1000), 0);
    assert_eq!(look(&mut polls, 60, answers(0, 0), 500), Look::Open);
    let found = look(&mut polls, 150, answers(0, 0), 500);
    assert!(matches!(found, Look::Worse(_)), "{found:?}");
    // Who has an answer stays, as with events that are sent one by one.
    let mut streams = trial(&[50, 100], 1000);
    let come = answers(5000, 0);
    assert_eq!(look(&mut streams, 60, come, 20), Look::Widen(100));
    assert_eq!(look(&mut streams, 10, answers(1, 0), 119), Look::Open);
    let found = look(&mut streams, 10, answers(1, 0), 120);
    assert!(matches!(found, Look::Worse(_)), "{found:?}");
}

#[test]
fn without_requests_asked_for_time_alone_decides() {
    let limits = Limits {
        min_requests: 0,
        ..LIMITS
    };
    let mut trial = Trial::new(vec![10, 100], SECOND, limits);
    assert_eq!(look(&mut trial, 1, answers(0, 0), 9), Look::Widen(100));
    assert_eq!(look(&mut trial, 1, answers(5, 5), 9), Look::Kept);
    let mut unwatched = Trial::new(vec![100], Duration::ZERO, LIMITS);
    assert_eq!(look(&mut unwatched, 0, answers(0, 0), 0), Look::Kept);
}
