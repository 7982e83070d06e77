//! Operating a balancer that runs: the unix socket, the commands that use it, and what they leave as it is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::command::{command, done, run, told};
use crate::support::{Balancer, Origin};

mod api;
mod auto_rollback;
mod explaining;
mod flipping;
mod flipping_refused;
mod flipping_reloads;
mod flipping_sick;
mod keeping;
mod modes;
mod openapi;
mod planning;
mod racing;
mod recent;
mod refusing;
mod reloading;
mod rolling;
mod rolling_and_flipping;
mod rolling_versions;
mod rolling_with_others;
mod socket;
mod storm;
mod token;
mod top;
mod viewers;
mod watching;

fn socket(balancer: &Balancer) -> PathBuf {
    balancer.directory().join("run/balancer.sock")
}

/// Asks over the socket: the status, and the body as JSON.
#[track_caller]
fn ask(balancer: &Balancer, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket(balancer)).unwrap();
    let length = body.len();
    // Who is refused early may close before all is sent.
    let _ = write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.expect("a status"), body)
}

/// One upstream `app` with these origins as endpoints `a`, `b`, …, and further keys of `a`.
fn config(origins: &[&Origin], of_a: &str, more: &str) -> String {
    let endpoints: Vec<String> = origins
        .iter()
        .zip('a'..)
        .map(|(origin, name)| {
            let keys = if name == 'a' { of_a } else { "" };
            format!(
                "{{ name = \"{name}\", address = \"{}\"{keys} }}",
                origin.address()
            )
        })
        .collect();
    format!(
        "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\nendpoints = [{}]\n[[route]]\nupstream = \"app\"\n{more}\n",
        endpoints.join(", ")
    )
}
