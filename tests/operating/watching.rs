//! `process.config_poll`: the file is taken over when it holds something else.

use std::fs;
use std::os::unix::fs::symlink;

use super::{command, done, told};
use crate::support::{Balancer, eventually, eventually_some, get};

/// A file that is looked at often, and answers `answer`.
fn text(answer: &str) -> String {
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = {{ body = \"{answer}\" }}\n\
         [process]\nworkers = 1\nconfig_poll = \"100ms\"\n"
    )
}

/// Answers `answer` at `/`, and everything else with a page for 404.
fn with_page(answer: &str) -> String {
    format!("{}[error_pages]\n\"404\" = \"404.txt\"\n", text(answer))
        .replace("[[route]]", "[[route]]\npath_exact = \"/\"")
}

fn await_answer(balancer: &Balancer, answer: &str) {
    eventually(&format!("{answer:?} is the answer"), || {
        get(balancer.http(), "/").text() == answer
    });
}

#[test]
fn changed_file_is_taken_over_without_a_signal() {
    let balancer = Balancer::start(&text("first"));
    assert_eq!(balancer.events("configuration file is watched").len(), 1);
    assert_eq!(balancer.status()["last_reload"], serde_json::Value::Null);
    balancer.write_configuration(&text("second"));
    await_answer(&balancer, "second");
    let last = balancer.status()["last_reload"].clone();
    assert_eq!(
        (&last["by"], &last["result"]),
        (&"watch".into(), &"accepted".into())
    );
    // Written in place, and without its end for a moment.
    let file = balancer.directory().join("balancer.toml");
    let whole = fs::read_to_string(&file)
        .unwrap()
        .replace("second", "third");
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    fs::write(&file, &whole).unwrap();
    await_answer(&balancer, "third");
    assert_eq!(balancer.status()["generation"], 3);
}

#[test]
fn rejected_content_is_tried_once_until_it_changes() {
    let balancer = Balancer::start(&text("first"));
    balancer.write_configuration("nonsense = 1");
    eventually("it is rejected", || {
        !balancer.events("configuration rejected").is_empty()
    });
    let (_, said) = told(&command(&balancer, &["status"]));
    assert!(
        said.contains("the last reload (watch) was rejected"),
        "{said}"
    );
    // As a signal that finds the same again: that is said once more, and not looked at after it.
    balancer.reload_as_it_is();
    balancer.write_configuration(&text("second"));
    await_answer(&balancer, "second");
    assert_eq!(balancer.events("configuration rejected").len(), 2);
    assert_eq!(balancer.status()["generation"], 2);
    let metrics = balancer.metrics();
    assert_eq!(
        metrics.sum("balancer_config_last_reload_successful", &[]),
        1.0
    );
}

#[test]
fn links_that_lead_elsewhere_count_as_kubernetes_swaps_them() {
    let balancer = Balancer::start_with(&text("first"), |directory| {
        fs::create_dir(directory.join("..v1")).unwrap();
        symlink("..v1", directory.join("..data")).unwrap();
        symlink("..data/balancer.toml", directory.join("balancer.toml")).unwrap();
    });
    let directory = balancer.directory();
    let first = fs::read_to_string(directory.join("..v1/balancer.toml")).unwrap();
    fs::create_dir(directory.join("..v2")).unwrap();
    fs::write(
        directory.join("..v2/balancer.toml"),
        first.replace("first", "second"),
    )
    .unwrap();
    symlink("..v2", directory.join("..next")).unwrap();
    fs::rename(directory.join("..next"), directory.join("..data")).unwrap();
    await_answer(&balancer, "second");
}

#[test]
fn files_that_are_named_are_watched_too() {
    let balancer = Balancer::start_with(&with_page("first"), |directory| {
        fs::write(directory.join("404.txt"), "one").unwrap();
    });
    let page = || get(balancer.http(), "/missing").text();
    assert_eq!(page(), "one");
    fs::write(balancer.directory().join("404.txt"), "two").unwrap();
    eventually("the other page is there", || page() == "two");
    // One that is missing is waited for.
    balancer.write_configuration(&with_page("second").replace("404.txt", "other.txt"));
    eventually("it is rejected", || {
        !balancer.events("configuration rejected").is_empty()
    });
    fs::write(balancer.directory().join("other.txt"), "three").unwrap();
    eventually("the other page is there", || page() == "three");
}

#[test]
fn rollback_is_not_undone_by_the_file_that_is_still_there() {
    let balancer = Balancer::start(&text("first"));
    balancer.write_configuration(&text("second"));
    await_answer(&balancer, "second");
    done(&command(&balancer, &["rollback"]));
    assert_eq!(get(balancer.http(), "/").text(), "first");
    balancer.write_configuration(&text("third"));
    await_answer(&balancer, "third");
    let previous: Vec<u64> = eventually_some("three have been taken over", || {
        let events = balancer.events("configuration reloaded");
        let previous = events
            .iter()
            .map(|event| event["previous"].as_u64().unwrap());
        (events.len() == 3).then(|| previous.collect())
    });
    assert_eq!(previous, [1, 2, 3], "nothing came between");
}

#[test]
fn regression_rollback_is_not_undone_when_another_file_changes_and_that_file_is_taken_over() {
    let balancer = Balancer::start_with(&with_page("first"), |directory| {
        fs::write(directory.join("404.txt"), "one").unwrap();
    });
    let page = || get(balancer.http(), "/missing").text();
    balancer.write_configuration(&with_page("second"));
    await_answer(&balancer, "second");
    done(&command(&balancer, &["rollback"]));
    fs::write(balancer.directory().join("404.txt"), "two").unwrap();
    eventually("the other page is there", || page() == "two");
    assert_eq!(get(balancer.http(), "/").text(), "first");
    // However often.
    fs::write(balancer.directory().join("404.txt"), "three").unwrap();
    eventually("the third page is there", || page() == "three");
    assert_eq!(get(balancer.http(), "/").text(), "first");
    eventually("both are in the log", || {
        balancer.events("files reloaded").len() == 2
    });
    balancer.write_configuration(&with_page("third"));
    await_answer(&balancer, "third");
}

#[test]
fn regression_files_in_use_are_renewed_while_the_configuration_on_disk_cannot_be_used() {
    let balancer = Balancer::start_with(&with_page("first"), |directory| {
        fs::write(directory.join("404.txt"), "one").unwrap();
    });
    balancer.write_configuration("nonsense = 1");
    eventually("it is rejected", || {
        !balancer.events("configuration rejected").is_empty()
    });
    fs::write(balancer.directory().join("404.txt"), "two").unwrap();
    eventually("the other page is there", || {
        get(balancer.http(), "/missing").text() == "two"
    });
    assert_eq!(get(balancer.http(), "/").text(), "first");
}
