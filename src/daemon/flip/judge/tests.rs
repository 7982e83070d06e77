//! What is found of sets that are drawn, and what is not.

use super::*;

/// Draws answers as a set gives them: so many fail, so many take long.
struct Draw {
    random: fastrand::Rng,
    fails: f64,
    /// Shares of the buckets, the last one for the rest.
    times: Vec<f64>,
}

impl Draw {
    fn new(seed: u64, fails: f64, times: &[f64]) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            fails,
            times: times.to_vec(),
        }
    }

    fn add(&mut self, answers: &mut Answers, count: u64) {
        for _ in 0..count {
            answers.requests += 1;
            answers.errors += u64::from(self.random.f64() < self.fails);
            let mut left = self.random.f64();
            let at = self.times.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            answers.within[at.unwrap_or(self.times.len())] += 1;
        }
    }
}

/// Most within 5 ms, 2 % within 10 ms, and exactly one in a hundred takes up to 100 ms: the hardest case for the 99th
/// percentile.
const TIMES: [f64; 6] = [0.5, 0.3, 0.17, 0.01, 0.0, 0.01];
const LIMITS: Limits = Limits {
    min_requests: 100,
    tolerance: 0.005,
    heeds_latency: true,
};

/// After how many requests of the new set something is found, looked for as a trial does.
fn found(seed: u64, (was, is): (f64, f64), baseline: u64, most: u64) -> Option<(u64, Fault)> {
    let (mut before, mut after) = (Answers::default(), Answers::default());
    Draw::new(seed, was, &TIMES).add(&mut before, baseline);
    let mut draw = Draw::new(!seed, is, &TIMES);
    let mut next = u64::from(LIMITS.min_requests);
    while after.requests < most {
        let more = next.min(most) - after.requests;
        draw.add(&mut after, more);
        if let Some(fault) = fault(&before, (&after, &after), &LIMITS) {
            return Some((after.requests, fault));
        }
        next = ((after.requests as f64 * GROWTH) as u64).max(after.requests + 1);
    }
    None
}

fn share_found(runs: u64, shares: (f64, f64), baseline: u64, most: u64) -> f64 {
    let found = (0..runs).filter(|seed| found(seed * 7 + 1, shares, baseline, most).is_some());
    found.count() as f64 / runs as f64
}

#[test]
fn equal_sets_are_hardly_ever_found_unequal() {
    for share in [0.0, 0.01, 0.05, 0.3] {
        for baseline in [300, 3000] {
            let false_alarms = share_found(300, (share, share), baseline, 5000);
            assert!(false_alarms <= 0.01, "{share} {baseline}: {false_alarms}");
        }
    }
}

#[test]
fn doubled_share_of_failures_is_found_within_a_thousand_requests() {
    let detected = share_found(400, (0.05, 0.1), 5000, 1000);
    assert!(detected >= 0.95, "{detected}");
}

#[test]
#[ignore = "minutes without optimisation: cargo test --release --lib flip::judge -- --ignored --nocapture"]
fn table_of_what_is_found() {
    println!("equal sets, found worse within 50,000 requests:");
    for share in [0.0, 0.001, 0.005, 0.01, 0.05, 0.2, 0.5] {
        for baseline in [100, 300, 1000, 5000, 50_000] {
            let alarms = share_found(1000, (share, share), baseline, 50_000);
            println!("{share:6} of {baseline:6} before: {:.2} %", alarms * 100.0);
            assert!(alarms <= 0.01);
        }
    }
    println!("doubled share, found within 1,000 requests:");
    for share in [0.005, 0.01, 0.02, 0.05, 0.1, 0.2] {
        for baseline in [1000, 2000, 3000, 5000, 50_000] {
            let detected = share_found(1000, (share, 2.0 * share), baseline, 1000);
            println!(
                "{share:6} of {baseline:6} before: {:.1} %",
                detected * 100.0
            );
        }
    }
}

#[test]
fn one_error_of_three_tells_nothing() {
    let answers = |requests, errors| Answers {
        requests,
        errors,
        ..Answers::default()
    };
    let none = answers(100_000, 0);
    let fault_of = |after: Answers| fault(&none, (&after, &after), &LIMITS);
    assert_eq!(fault_of(answers(3, 1)), None);
    assert_eq!(fault_of(answers(99, 99)), None);
    assert!(matches!(
        fault_of(answers(100, 100)),
        Some(Fault::Errors { .. })
    ));
    // Certain, and too little to matter.
    assert_eq!(fault_of(answers(1_000_000, 1000)), None);
    // Nothing is known of before.
    let few = answers(99, 0);
    assert_eq!(fault(&few, (&answers(1000, 1000), &none), &LIMITS), None);
}

#[test]
fn requests_given_up_have_failed_where_they_had_waited_for_longer_than_is_usual() {
    let mut before = Answers::default();
    Draw::new(1, 0.0, &[0.0, 0.5, 0.5]).add(&mut before, 1000);
    let with = |at: usize, left: u64, answered: u64| {
        let mut answers = Answers::default();
        Draw::new(2, 0.0, &[0.0, 0.5, 0.5]).add(&mut answers, answered);
        answers.left[at] = left;
        answers
    };
    let of = |after: Answers| fault(&before, (&after, &after), &LIMITS);
    // Nearly all came within 5 ms, and these have waited for 5 to 10: clients leave when they like.
    assert_eq!(of(with(3, 500, 500)), None);
    let Some(found) = of(with(5, 50, 50)) else {
        panic!("not found");
    };
    let why = found.to_string();
    assert!(
        why.contains("50 of 100 requests failed (50.0 %; 50 were given up after more than 10ms)"),
        "{why}"
    );
    assert!(
        of(with(SECONDS.len(), 100, 0)).is_some(),
        "nobody is answered"
    );
    // They left as often before.
    before.left[5] = 1000;
    assert_eq!(fault(&before, (&with(5, 50, 50), &before), &LIMITS), None);
}

#[test]
fn answers_that_take_more_than_twice_as_long_are_found_and_a_few_of_them_are_not() {
    let drawn = |seed, times: &[f64], count| {
        let mut answers = Answers::default();
        Draw::new(seed, 0.0, times).add(&mut answers, count);
        answers
    };
    let before = drawn(1, &[0.5, 0.3, 0.2], 3000);
    let of = |after: Answers| fault(&before, (&after, &after), &LIMITS);
    // Within the next bound: the same, or nearly so.
    assert_eq!(of(drawn(2, &[0.2, 0.2, 0.3, 0.3], 3000)), None);
    let slow = of(drawn(3, &[0.4, 0.3, 0.2, 0.0, 0.1], 500));
    let Some(Fault::Slow { limit, before, .. }) = slow else {
        panic!("{slow:?}");
    };
    assert_eq!(
        (limit, before),
        (Duration::from_millis(10), Duration::from_millis(5))
    );
    let mut few = drawn(4, &[0.5, 0.3, 0.2], 191);
    few.requests += 9;
    few.within[9] += 9;
    assert_eq!(of(few), None);
    // Only where that is asked about.
    let after = drawn(3, &[0.4, 0.3, 0.2, 0.0, 0.1], 500);
    let limits = Limits {
        heeds_latency: false,
        ..LIMITS
    };
    assert_eq!(
        fault(&drawn(1, &TIMES, 3000), (&after, &after), &limits),
        None
    );
}

#[test]
fn what_has_not_ended_may_fail_yet() {
    let answers = |requests, errors| Answers {
        requests,
        errors,
        ..Answers::default()
    };
    let before = answers(1000, 0);
    assert!(!may_fail(&before, (&answers(1000, 0), 5), &LIMITS));
    assert!(may_fail(&before, (&answers(1000, 0), 500), &LIMITS));
    assert!(may_fail(&before, (&answers(0, 0), 50), &LIMITS));
}
