//! Reloads by which another set serves, or a flip ends: that is told before, with the answer, in the log and with endpoints; and
//! no request goes where nobody has sent it.

use super::flipping::{asked, await_phase, flip, sets, shown};
use super::{command, done, told};
use crate::support::{Balancer, Origin, Outcome, eventually};

/// What `plan` says of `text`.
fn planned(balancer: &Balancer, text: &str) -> String {
    balancer.write_configuration(text);
    let (code, said) = told(&command(balancer, &["plan"]));
    assert_eq!(code, Some(2), "{said}");
    said
}

fn await_warning(balancer: &Balancer, text: &str) {
    let is_told = || {
        let log = balancer.log();
        log.iter().any(|line| {
            let line = line.replace("\\\"", "\"");
            line.contains("WARN") && line.contains(text)
        })
    };
    eventually(text, is_told);
}

#[test]
fn regression_renaming_the_set_in_use_sends_nobody_back_unless_somebody_insists() {
    let (a, b) = (Origin::named("blue"), Origin::named("green"));
    let text = |set| sets(&[(&a, "blue"), (&b, set)], "");
    let balancer = Balancer::start(&text("green"));
    done(&flip(&balancer, &["--watch", "0s"]));
    let moved = "serves: set \"green\" -> \"blue\" (set \"green\" is gone from the file)";
    let said = planned(&balancer, &text("teal"));
    assert!(said.contains(&format!("\n       {moved}\n")), "{said}");
    assert!(
        said.contains("warning: a reload would be refused: "),
        "{said}"
    );
    let (code, said) = told(&command(&balancer, &["reload"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("upstream.app: app: {moved}")),
        "{said}"
    );
    assert!(said.contains("insist with `--force`"), "{said}");
    // As by a command, so by a signal.
    let Outcome::Rejected(problems) = balancer.reload_as_it_is() else {
        panic!("nobody has insisted");
    };
    assert!(problems.contains(moved), "{problems}");
    let (code, said) = told(&command(&balancer, &["upgrade"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(moved), "{said}");
    assert_eq!(asked(&balancer, 4, "green"), 4);
    assert_eq!(shown(&balancer)["active_set"], "green");
    let (code, said) = told(&command(&balancer, &["reload", "--force"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("warning: app: {moved}")), "{said}");
    await_warning(&balancer, moved);
    assert_eq!(asked(&balancer, 4, "blue"), 4);
    for (endpoint, fact) in [
        ("app/a", "its set serves"),
        ("app/b", "its set is on standby"),
    ] {
        let said = done(&command(&balancer, &["why", endpoint]));
        let last = said.lines().rfind(|line| line.contains("its set "));
        assert!(last.is_some_and(|line| line.contains(fact)), "{said}");
    }
    // Whoever names the set anew has said so.
    done(&command(
        &balancer,
        &["flip", "app", "--to", "teal", "--watch", "0s"],
    ));
    let renamed = text("green").replace("active_set = \"blue\"", "active_set = \"green\"");
    balancer.reloaded(&renamed);
    await_warning(&balancer, "serves: set \"teal\" -> \"green\"");
    assert_eq!(asked(&balancer, 4, "green"), 4);
}

#[test]
fn regression_plan_tells_from_which_set_to_which_requests_go_and_that_a_flip_ends() {
    let (a, b, c) = (
        Origin::named("blue"),
        Origin::named("green"),
        Origin::named("navy"),
    );
    let all = sets(&[(&a, "blue"), (&b, "green"), (&c, "navy")], "");
    let navy = all.replace("active_set = \"blue\"", "active_set = \"navy\"");
    let balancer = Balancer::start(&all);
    let ends = "flip: from \"blue\" to \"green\" under way -> overtaken";
    let begin = || {
        done(&flip(&balancer, &["--watch", "30s", "--no-wait"]));
        await_phase(&balancer, "watching");
    };
    begin();
    let said = planned(&balancer, &navy);
    for line in [
        "active_set: \"blue\" -> \"navy\"",
        "serves: set \"green\" -> \"navy\"",
        ends,
    ] {
        assert!(said.contains(&format!("\n       {line}\n")), "{said}");
    }
    let (code, said) = told(&command(&balancer, &["reload"]));
    assert_eq!(code, Some(0), "{said}");
    let warning = format!("warning: app: serves: set \"green\" -> \"navy\"; {ends}\n");
    assert!(said.contains(&warning), "{said}");
    await_phase(&balancer, "overtaken");
    assert_eq!(asked(&balancer, 4, "navy"), 4);
    // What serves stays, and the way back is gone.
    balancer.reloaded(&all);
    begin();
    let without = sets(&[(&b, "green"), (&c, "navy")], "").replace("\"blue\"", "\"green\"");
    let said = planned(&balancer, &without);
    assert!(
        said.contains(&format!("{ends} (set \"blue\" is gone from the file)\n")),
        "{said}"
    );
    assert!(!said.contains("serves:"), "{said}");
    balancer.reloaded(&without);
    await_phase(&balancer, "overtaken");
    assert_eq!(asked(&balancer, 4, "green"), 4);
}
