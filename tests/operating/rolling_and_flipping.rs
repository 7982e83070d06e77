//! `roll` and `flip` at once on the same upstream, and a balancer that is killed under a roll: each ends in a state that has a
//! name, is safe, and is shown.

use rustix::process::Signal;

use super::flipping::{CHECKED, asked, phase, shown, started_with};
use super::rolling::{begun, mode, restarting};
use super::{command, done, told};
use crate::support::{Balancer, Origin, eventually};

/// Blue and green, two of each, checked, all up.
fn started(origins: &[Origin; 4]) -> Balancer {
    let [a, b, c, d] = origins;
    let members = [(a, "blue"), (b, "blue"), (c, "green"), (d, "green")];
    started_with(&members, CHECKED)
}

fn origins() -> [Origin; 4] {
    ["blue", "blue", "green", "green"].map(Origin::named)
}

#[test]
fn roll_is_refused_while_a_flip_is_under_way_and_goes_on_after_it() {
    let origins = origins();
    let balancer = started(&origins);
    let flip = ["flip", "app", "--to", "green", "--watch", "1h", "--no-wait"];
    done(&command(&balancer, &flip));
    eventually("it is watched", || phase(&balancer) == "watching");
    // The old set is the way back, the new one is looked at: neither is to be restarted now.
    for name in ["a", "c"] {
        let roll = ["roll", "app", "--only", name, "--hook", "true"];
        let (code, said) = told(&command(&balancer, &roll));
        assert_eq!(code, Some(1), "{said}");
        let why = "a flip from blue to green is under way (watching)";
        assert!(said.contains(why), "{said}");
        assert!(said.contains("`balancer flip app --abort`"), "{said}");
        assert_eq!(mode(&balancer, name), "active");
    }
    assert_eq!(phase(&balancer), "watching");
    done(&command(&balancer, &["flip", "app", "--abort"]));
    done(&command(
        &balancer,
        &["roll", "app", "--only", "c", "--hook", "true"],
    ));
    assert_eq!(shown(&balancer)["active_set"], "blue");
}

#[test]
fn flip_during_a_roll_is_told_to_both() {
    let origins = origins();
    let balancer = started(&origins);
    let directory = balancer.directory();
    let hook = restarting(directory);
    let arguments = ["roll", "app", "--only", "c", "--only", "d", "--hook", &hook];
    let roll = begun(&balancer, &arguments);
    eventually("the hook runs", || directory.join("stop-c").exists());
    // What is out on purpose is missed by nobody; with nobody else left there would be no flip.
    done(&command(&balancer, &["disable", "app/d"]));
    let flip = ["flip", "app", "--to", "green", "--watch", "1h", "--no-wait"];
    let (code, said) = told(&command(&balancer, &flip));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody of set green may be asked"), "{said}");
    assert_eq!(asked(&balancer, 3, "blue"), 3);
    done(&command(&balancer, &["resume", "app/d"]));
    balancer.await_health("app", "d", "up");
    done(&command(&balancer, &flip));
    eventually("it is watched", || phase(&balancer) == "watching");
    assert_eq!(asked(&balancer, 3, "green"), 3);
    // The one at work is finished, and the next is not begun.
    std::fs::write(directory.join("started-c"), "").unwrap();
    let (code, said) = told(&roll.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("app/c: done, 1 of 2"), "{said}");
    let why = "d not taken out: a flip from blue to green is under way (watching)";
    assert!(said.contains(why), "{said}");
    assert!(
        said.contains("not reached: d; to go on: balancer roll app --hook "),
        "{said}"
    );
    for name in ["c", "d"] {
        assert_eq!(mode(&balancer, name), "active");
    }
    assert_eq!(phase(&balancer), "watching");
}

#[test]
fn balancer_that_is_killed_under_a_roll_comes_back_with_everybody_in_use_and_the_roll_says_that_nobody_knows()
 {
    let origins = origins();
    let mut balancer = started(&origins);
    let directory = balancer.directory().to_owned();
    let hook = restarting(&directory);
    let roll = begun(&balancer, &["roll", "app", "--only", "a", "--hook", &hook]);
    eventually("the hook runs", || directory.join("stop-a").exists());
    balancer.signal(Signal::KILL);
    balancer.wait_exit();
    std::fs::write(directory.join("started-a"), "").unwrap();
    let (code, said) = told(&roll.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("app/a: the hook is done"), "{said}");
    assert!(
        said.contains("app/a: nobody knows how it is: no balancer runs with "),
        "{said}"
    );
    let again = started(&origins);
    assert_eq!(mode(&again, "a"), "active");
    assert_eq!(asked(&again, 4, "blue"), 4);
}

#[test]
fn regression_standby_is_done_once_a_check_has_found_it_well_and_waits_for_no_share() {
    let mut origins = origins();
    let [a, b, c, d] = &origins;
    let members = [(a, "blue"), (b, "blue"), (c, "green"), (d, "green")];
    let balancer = started_with(
        &members,
        &CHECKED.replace("slow_start = \"0s\"", "slow_start = \"1h\""),
    );
    let roll = ["roll", "app", "--only", "c", "--hook", "true"];
    let said = done(&command(&balancer, &roll));
    assert!(said.contains("app/c: standby\n"), "{said}");
    assert!(balancer.endpoint("app", "c")["slow_start"].is_number());
    // Nobody knows yet how it is: that it stands by says nothing.
    origins[2].stop();
    let (code, said) = told(&command(
        &balancer,
        &[&roll[..], &["--timeout", "1s"]].concat(),
    ));
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains(": c is "), "{said}");
}
