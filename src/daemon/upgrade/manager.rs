//! Who has started this process, as far as that can be seen: one that watches this process alone, and is not told of another,
//! takes its end for that of the service, however well the other one serves. A supervisor that shows by nothing is not seen.

use std::path::Path;

use rustix::process::{Pid, getpid, getppid};

/// What the environment says of it. As it was at the start: who loses its parent later has been let go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::daemon) struct Manager {
    /// Whether it can be told that another process is the service.
    is_told: bool,
    /// Whether systemd has started this very process.
    is_systemd: bool,
    /// Whether process 1 has, of a container.
    is_container_init: bool,
}

impl Manager {
    /// Of this process.
    pub(in crate::daemon) fn of_this() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self {
            is_told: std::env::var_os("NOTIFY_SOCKET").is_some(),
            is_systemd: is_started_by_systemd(variable("SYSTEMD_EXEC_PID").as_deref(), getpid()),
            is_container_init: getppid() == Some(Pid::INIT) && is_in_container(),
        }
    }

    /// What to tell an operator where it would take the end of this process for that of the service.
    pub(super) fn follows_only_this(self) -> Option<&'static str> {
        match self {
            Self { is_told: true, .. } => None,
            Self {
                is_systemd: true, ..
            } => Some(
                "systemd follows this process alone, and would end the service with it: set Type=notify; --force upgrades all the same",
            ),
            Self {
                is_container_init: true,
                ..
            } => Some(
                "process 1 of this container has started this process, and may end the container with it: start a new container instead; --force upgrades all the same",
            ),
            Self {
                is_systemd: false,
                is_container_init: false,
                ..
            } => None,
        }
    }
}

/// By `said`, SYSTEMD_EXEC_PID: whoever a service starts has the variable too, with another number.
fn is_started_by_systemd(said: Option<&str>, own: Pid) -> bool {
    said.and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw)
        == Some(own)
}

/// Where /proc is not to be had it is not known, and nothing is in the way.
fn is_in_container() -> bool {
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    namespace.is_ok_and(|namespace| namespace != Path::new(MACHINE))
}

/// The processes of the machine itself: a fixed number in the kernel (PROC_PID_INIT_INO).
const MACHINE: &str = "pid:[4026531836]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regression_manager_that_follows_this_process_alone_is_in_the_way_unless_it_can_be_told() {
        for (is_told, is_systemd, is_container_init, expected) in [
            (false, false, false, None),
            (false, true, false, Some("systemd")),
            (false, false, true, Some("container")),
            (true, true, false, None),
            (true, false, true, None),
        ] {
            let manager = Manager {
                is_told,
                is_systemd,
                is_container_init,
            };
            let follows = manager.follows_only_this();
            assert_eq!(follows.is_some(), expected.is_some(), "{manager:?}");
            let named = expected.unwrap_or_default();
            assert!(follows.unwrap_or_default().contains(named), "{follows:?}");
        }
    }

    #[test]
    fn what_a_service_has_started_is_not_what_systemd_has() {
        let own = getpid();
        let number = own.as_raw_nonzero().to_string();
        assert!(is_started_by_systemd(Some(&number), own));
        for other in [None, Some("1"), Some(""), Some("x"), Some("0")] {
            assert!(!is_started_by_systemd(other, own), "{other:?}");
        }
    }
}
