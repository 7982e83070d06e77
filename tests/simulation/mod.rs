//! How policies behave when several balancers share endpoints, in a simulation by discrete events: the balancers are the
//! real ones (`Upstream::pick`, `report` and `tick` of compiled configurations), servers, clients and time are not.
//!
//! The same in every run. `SIMULATION=FOLDER cargo test --test balancer simulation` writes the table and the chart there.

mod chart;
mod world;

use std::time::Duration;

use world::{Figures, Scenario, run};

/// Each policy as the file has it.
const POLICIES: [&str; 6] = [
    "round-robin",
    "random",
    "least-connections",
    "two-choices",
    "peak-ewma",
    "hash",
];

/// Four balancers, ten servers of four places each and 20 ms a request, at 70 % of what these can do.
const EVEN: Scenario = Scenario {
    balancers: 4,
    servers: 10,
    places: 4,
    service: Duration::from_millis(20),
    load: 0.7,
    slow: None,
    fails: false,
    joins: false,
    slow_start: Duration::ZERO,
    length: Duration::from_secs(10),
};

/// One server takes three times as long as the others.
const SLOW: Scenario = Scenario {
    slow: Some(3.0),
    load: 0.6,
    ..EVEN
};

/// One server answers 500 within a millisecond, whatever it is asked.
const FAILING: Scenario = Scenario {
    fails: true,
    load: 0.6,
    ..EVEN
};

/// One server joins after three seconds, and is slow at first. Each has about forty-five requests at a time.
const JOINING: Scenario = Scenario {
    joins: true,
    places: 64,
    service: Duration::from_millis(200),
    ..EVEN
};

/// The same, eased in.
const EASED: Scenario = Scenario {
    slow_start: Duration::from_secs(6),
    ..JOINING
};

/// What a policy did in every scenario.
struct Row {
    policy: &'static str,
    even: Figures,
    slow: Figures,
    failing: Figures,
    joining: Figures,
    eased: Figures,
}

fn row(policy: &'static str) -> Row {
    let run = |scenario| run(policy, scenario);
    Row {
        policy,
        even: run(&EVEN),
        slow: run(&SLOW),
        failing: run(&FAILING),
        joining: run(&JOINING),
        eased: run(&EASED),
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = "\
| policy | p50 | p99 | imbalance | one slow: p99 | one failing: errors | one joins: rush | crowd | eased in: rush | crowd |
|---|---|---|---|---|---|---|---|---|---|
"
    .to_owned();
    for row in rows {
        table += &format!(
            "| `{}` | {:.0} ms | {:.0} ms | {:.1} | {:.0} ms | {:.1} % | {} | {} | {} | {} |\n",
            row.policy,
            row.even.p50,
            row.even.p99,
            row.even.imbalance,
            row.slow.p99,
            row.failing.errors * 100.0,
            row.joining.rush,
            row.joining.crowd,
            row.eased.rush,
            row.eased.crowd,
        );
    }
    table
}

#[test]
fn policies_are_good_for_what_they_are_said_to_be() {
    let rows = POLICIES.map(row);
    let table = table(&rows);
    if let Some(folder) = std::env::var_os("SIMULATION") {
        let folder = std::path::Path::new(&folder);
        std::fs::write(folder.join("policies.md"), &table).unwrap();
        std::fs::write(folder.join("policies.svg"), chart::drawn(&rows)).unwrap();
        println!("{table}");
    }
    let of = |policy| rows.iter().find(|row| row.policy == policy).unwrap();
    let (blind, least) = (of("round-robin"), of("least-connections"));
    let (two, ewma) = (of("two-choices"), of("peak-ewma"));

    // Who looks at loads has shorter queues than who draws blindly.
    for row in [least, two, ewma] {
        assert!(row.even.p99 < of("random").even.p99, "{table}");
        assert!(row.even.imbalance < of("random").even.imbalance, "{table}");
    }
    // A server that is slow is avoided by loads, and most by latency.
    assert!(least.slow.p99 < blind.slow.p99 / 2.0, "{table}");
    assert!(ewma.slow.p99 < blind.slow.p99 / 2.0, "{table}");
    assert!(ewma.slow.to_first < least.slow.to_first, "{table}");
    // One that fails fast gets its share where nobody looks, and less where somebody does.
    assert!((0.08..0.12).contains(&blind.failing.errors), "{table}");
    for row in [least, two, ewma] {
        assert!(row.failing.errors < blind.failing.errors / 2.0, "{table}");
    }
    // All balancers send a newcomer everything at once, unless they draw, or it is eased in.
    assert!(two.joining.rush * 2 <= least.joining.rush, "{table}");
    assert!(least.eased.rush * 2 <= least.joining.rush, "{table}");
    // And those who do not look drown it while it is slow.
    assert!(blind.eased.crowd * 2 <= blind.joining.crowd, "{table}");
}

#[test]
fn same_world_runs_the_same_way_again() {
    let short = Scenario {
        length: Duration::from_secs(2),
        ..EVEN
    };
    assert_eq!(run("two-choices", &short), run("two-choices", &short));
}
