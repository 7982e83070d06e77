//! Sockets that are open before the configuration is read: those of the process that this one takes the place of, or of a service
//! manager (`LISTEN_FDS`, see sd_listen_fds(3)). What no listener takes is closed.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tracing::warn;

use super::upgrade::Heir;
use crate::snapshot::compile::is_same_address;
use crate::units::Name;

/// What is there already.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) sockets: Vec<Passed>,
    /// The admin's unix socket, and where it is.
    pub(super) admin_socket: Option<(PathBuf, UnixListener)>,
    /// Of the manager's, those of a kind that nothing here is of.
    pub(super) unfit: Vec<String>,
    /// Takes over from another process.
    pub(super) heir: Option<Heir>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) whose: Whose,
    /// As the process before has it configured; as the manager has opened it.
    pub(super) address: SocketAddr,
    pub(super) socket: TcpListener,
}

impl Passed {
    /// One that does not block, as whoever accepts from it waits for other things, too: a manager's usually does.
    pub(super) fn new(whose: Whose, address: SocketAddr, socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            whose,
            address,
            socket,
        })
    }
}

/// Who had a socket opened.
#[derive(Debug)]
pub(super) enum Whose {
    /// The listener of this name.
    Listener(String),
    /// The admin.
    Admin,
    /// The service manager, under this name.
    Manager(String),
}

impl Inherited {
    /// What the environment says there is. Fails where this process shall take over from another and cannot.
    pub fn from_environment() -> io::Result<Self> {
        if let Some(inherited) = Heir::from_environment()? {
            return Ok(inherited);
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut inherited = Self::default();
        let mut passed = ListenFd::from_env();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            let listener = passed.take_tcp_listener(index);
            match listener.map(|it| it.map(|socket| (socket.local_addr(), socket))) {
                Ok(Some((Ok(address), socket))) => {
                    let passed = Passed::new(Whose::Manager(name), address, socket)?;
                    inherited.sockets.push(passed);
                }
                Ok(_) => inherited.unfit.push(name),
                Err(_) => {
                    // Whatever it is instead, it is closed.
                    drop(passed.take_unix_listener(index));
                    drop(passed.take_udp_socket(index));
                    drop(passed.take_unix_datagram(index));
                    inherited.unfit.push(name);
                }
            }
        }
        Ok(inherited)
    }

    /// Tells the process that this one should have taken over from, if any, that nothing comes of it.
    pub fn give_up(&self, why: &str) {
        if let Some(heir) = &self.heir {
            heir.give_up(why);
        }
    }

    /// Those of the listener `name` at `address`. A manager's belongs to whose address it has; to whom it is named after only
    /// where that is nobody's, i.e. not among `configured`: all sockets of one unit share a name.
    pub(super) fn of_listener(
        &mut self,
        name: &Name,
        address: SocketAddr,
        configured: &[SocketAddr],
    ) -> Vec<TcpListener> {
        let mut taken = self.take(|passed| match &passed.whose {
            Whose::Listener(before) => {
                let before: Name = before.as_str().into();
                is_same_address((passed.address, &before), (address, name))
            }
            Whose::Admin => false,
            Whose::Manager(_) => passed.address == address,
        });
        taken.extend(self.take(|passed| match &passed.whose {
            Whose::Listener(_) | Whose::Admin => false,
            Whose::Manager(named) => {
                let is_wanted =
                    **name == *named.as_str() && !configured.contains(&passed.address);
                if is_wanted && address.port() != 0 {
                    warn!(
                        listener = %name, configured = %address, address = %passed.address,
                        "a socket of the service manager's has the listener's name and another address, and is used; make both the same"
                    );
                }
                is_wanted
            }
        }));
        taken
    }

    /// The admin's at `address`.
    pub(super) fn of_admin(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let found = self.take(|passed| match &passed.whose {
            Whose::Listener(_) => false,
            Whose::Admin | Whose::Manager(_) => passed.address == address,
        });
        found.into_iter().next()
    }

    /// The admin's unix socket, where it is at `path`.
    pub(super) fn of_admin_socket(&mut self, path: &Path) -> Option<UnixListener> {
        let (_, listener) = self.admin_socket.take_if(|(found, _)| found == path)?;
        Some(listener)
    }

    fn take(&mut self, is_wanted: impl Fn(&Passed) -> bool) -> Vec<TcpListener> {
        let taken = self.sockets.extract_if(.., |passed| is_wanted(passed));
        taken.map(|passed| passed.socket).collect()
    }

    /// Closes what nobody has taken. Of the manager's that is said: what comes there is answered by nobody. Another process goes on
    /// with its own until it ends.
    pub(super) fn close_rest(&mut self) {
        for Passed { whose, address, .. } in self.sockets.drain(..) {
            if let Whose::Manager(name) = whose {
                warn!(%address, name, "a socket of the service manager's is no listener's and is closed; give a listener its address or name");
            }
        }
        for name in self.unfit.drain(..) {
            warn!(
                name,
                "a socket of the service manager's is no TCP listener and is closed"
            );
        }
        self.admin_socket = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(whose: Whose) -> (Passed, SocketAddr) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (Passed::new(whose, address, socket).unwrap(), address)
    }

    #[test]
    fn managers_socket_belongs_to_its_address_or_its_name_and_once() {
        let (named, _) = passed(Whose::Manager("web".to_owned()));
        let (unnamed, address) = passed(Whose::Manager("balancer.socket".to_owned()));
        let mut inherited = Inherited {
            sockets: vec![named, unnamed],
            ..Inherited::default()
        };
        let elsewhere: SocketAddr = "127.0.0.9:9".parse().unwrap();
        let mut count = |name: &str, address| {
            let taken = inherited.of_listener(&name.into(), address, &[address]);
            taken.len()
        };
        assert_eq!(count("api", elsewhere), 0);
        assert_eq!(count("web", elsewhere), 1);
        assert_eq!(count("api", address), 1);
        assert_eq!(count("api", address), 0);
    }

    #[test]
    fn regression_sockets_that_share_a_name_go_where_their_addresses_are() {
        let named = || passed(Whose::Manager("http".to_owned()));
        let ((one, first), (other, second), (third, _)) = (named(), named(), named());
        let mut inherited = Inherited {
            sockets: vec![third, other, one],
            ..Inherited::default()
        };
        let configured = [first, second];
        let address = |socket: &TcpListener| socket.local_addr().unwrap();
        let taken = inherited.of_listener(&"http".into(), first, &configured);
        // What is nobody's by its address is the name's.
        assert_eq!(taken.len(), 2);
        assert_eq!(address(&taken[0]), first);
        let taken = inherited.of_listener(&"internal".into(), second, &configured);
        assert_eq!(taken.iter().map(address).collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn regression_nobody_blocks_on_what_was_passed() {
        let (admin, address) = passed(Whose::Manager("admin".to_owned()));
        let mut inherited = Inherited {
            sockets: vec![admin],
            ..Inherited::default()
        };
        let listener = inherited.of_admin(address).unwrap();
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn sockets_of_another_process_go_where_they_were_configured() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let of = |whose| Passed {
            address: any,
            ..passed(whose).0
        };
        let mut inherited = Inherited {
            sockets: vec![
                of(Whose::Admin),
                of(Whose::Listener("a".to_owned())),
                of(Whose::Listener("a".to_owned())),
                of(Whose::Listener("b".to_owned())),
            ],
            ..Inherited::default()
        };
        assert_eq!(inherited.of_listener(&"a".into(), any, &[any]).len(), 2);
        assert!(inherited.of_admin(any).is_some());
        assert!(inherited.of_admin(any).is_none());
        assert_eq!(inherited.sockets.len(), 1);
        inherited.close_rest();
        assert!(inherited.sockets.is_empty());
    }
}
