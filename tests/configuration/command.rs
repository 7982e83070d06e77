//! `balancer check`, from outside.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn balancer(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_balancer"))
        .args(arguments)
        .output()
        .expect("the binary was built for this test")
}

fn written(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("balancer.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn check(path: &Path) -> (Option<i32>, String, String) {
    let output = balancer(&["check", "--config", path.to_str().unwrap()]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn check_accepts_a_valid_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[listener.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nrespond = {}\n";
    let path = written(&folder, text);
    let (code, stdout, stderr) = check(&path);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.starts_with(&format!("{}: ok", path.display())),
        "{stdout}"
    );
}

#[test]
fn check_prints_warnings_and_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [\"127.0.0.1:9\"]\n";
    let path = written(&folder, text);
    let (code, _, stderr) = check(&path);
    assert_eq!(code, Some(0), "{stderr}");
    let warning = format!("{}:3:1: upstream.app: no route uses it", path.display());
    assert!(stderr.contains(&warning), "{stderr}");
}

#[test]
fn regression_check_of_many_upstreams_says_a_doubt_of_all_of_them_in_a_few_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "[listener.http]\naddress = \"127.0.0.1:0\"\n".to_owned();
    for index in 0..100 {
        text += &format!("[upstream.u{index}]\nendpoints = [\"127.0.0.1:9\"]\n");
    }
    let path = written(&folder, &text);
    let (code, _, stderr) = check(&path);
    assert_eq!(code, Some(0), "{stderr}");
    let of_upstreams = stderr.lines().filter(|line| line.contains(": upstream.u"));
    let of_upstreams: Vec<_> = of_upstreams.collect();
    assert_eq!(of_upstreams.len(), 20, "{stderr}");
    let expected = "upstream.u19: no route uses it; 80 more like this";
    assert!(of_upstreams[19].ends_with(expected), "{stderr}");
}

#[test]
fn check_prints_every_problem_with_its_place_and_exits_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(
        &folder,
        "[listener.http]\naddress = 5\n[[route]]\nupstream = \"app\"\n",
    );
    let (code, _, stderr) = check(&path);
    assert_eq!(code, Some(78), "{stderr}");
    for place in ["2:11: listener.http.address: ", "4:12: route[0].upstream: "] {
        assert!(
            stderr.contains(&format!("{}:{place}", path.display())),
            "{stderr}"
        );
    }
}

#[test]
fn check_exits_78_for_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.toml");
    let (code, _, stderr) = check(&path);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains(&path.display().to_string()), "{stderr}");
}

#[test]
fn check_exits_78_for_a_missing_certificate_and_says_where_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[listener.https]\naddress = \"127.0.0.1:0\"\ntls = { certificates = [{ chain = \"no.pem\", key = \"no.key\" }] }\n";
    let path = written(&folder, text);
    let (code, _, stderr) = check(&path);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains(&format!("{}:3:", path.display())),
        "{stderr}"
    );
    assert!(stderr.contains("no.pem"), "{stderr}");
}

#[test]
fn run_refuses_an_invalid_file_as_check_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "[listener.http]\naddress = 5\n");
    let output = balancer(&["run", "--config", path.to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(
        stderr.contains(&format!("{}:2:11: listener.http.address: ", path.display())),
        "{stderr}"
    );
}

#[test]
fn wrong_usage_exits_64() {
    for arguments in [
        &["chekc"][..],
        &["check", "--confg", "x"],
        &["check", "--config"],
    ] {
        let output = balancer(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
}

#[test]
fn completions_and_manual_name_every_command_and_option() {
    let said = |arguments: &[&str]| {
        let output = balancer(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let manual = said(&["man"]);
    assert!(manual.contains(".TH balancer 1"), "{manual}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = said(&["completions", shell]);
        for word in ["drain", "rollback", "timeout", "config"] {
            assert!(completions.contains(word), "{word} for {shell}");
            assert!(manual.contains(word), "{word} in the manual");
        }
    }
    assert_eq!(balancer(&["completions", "tcsh"]).status.code(), Some(64));
}
