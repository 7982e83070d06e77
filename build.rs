//! Tells the program which compiler makes it: `balancer_build_info` says so.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(compiler).arg("--version").output();
    // `rustc 1.95.0 (...)`. A program that does not know is better than none.
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = said
        .ok()
        .and_then(|said| said.split(' ').nth(1).map(str::to_owned));
    let version = version.map_or_else(|| "unknown".to_owned(), |it| it.trim().to_owned());
    println!("cargo::rustc-env=BALANCER_RUSTC={version}");
}
