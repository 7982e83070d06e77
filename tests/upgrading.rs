//! A new process takes the place of a running one (`balancer upgrade`): no connection is lost, what was known is known, and
//! whatever goes wrong the running one goes on.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::command::{begun, command, told};
use crate::support::{Balancer, eventually};

mod failing;
mod load;
mod operators;
mod rollbacks;
mod state;

/// Ends every process that has taken over from another, when dropped: nobody else would.
#[derive(Default)]
pub(crate) struct Successors(Vec<Pid>);

impl Successors {
    /// Upgrades `balancer`, which must work. The process that serves now.
    #[track_caller]
    pub(crate) fn upgrade(&mut self, balancer: &Balancer) -> Pid {
        let (code, text) = upgrade(balancer, &[]);
        assert_eq!(code, Some(0), "{text}");
        self.add(&text)
    }

    /// The process that serves by what was said of an upgrade.
    #[track_caller]
    fn add(&mut self, text: &str) -> Pid {
        // process 12 (balancer 0.1.0) serves generation 2; process 11 finishes 3 connections
        let number = text.split(' ').nth(1).and_then(|it| it.parse().ok());
        let pid = Pid::from_raw(number.expect("a number")).expect("not 0");
        self.0.push(pid);
        pid
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Most have ended by themselves.
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}

/// Upgrades `balancer`: the exit code, and what was said.
fn upgrade(balancer: &Balancer, more: &[&str]) -> (Option<i32>, String) {
    asked(balancer, &[&["upgrade"], more].concat())
}

/// The same, without waiting for it.
fn begin(balancer: &Balancer, more: &[&str]) -> Child {
    begun(balancer, &[&["upgrade"], more].concat())
}

/// The same of any command.
fn asked(balancer: &Balancer, arguments: &[&str]) -> (Option<i32>, String) {
    told(&command(balancer, arguments))
}

#[track_caller]
fn await_end(pid: Pid) {
    eventually("the process ends", || {
        rustix::process::test_kill_process(pid).is_err()
    });
}
