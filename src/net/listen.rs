//! Listening sockets, several on one address: one for each worker.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for an `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds `count` sockets to `address`; the kernel spreads new connections over them (`SO_REUSEPORT`). Port 0 is chosen once for all.
///
/// Fails where another process listens there already, also when that one shares its port: two balancers on one address
/// are a mistake, not a plan.
pub fn bind(mut address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // A socket without SO_REUSEPORT cannot be bound beside anyone else's.
    drop(socket(address, false)?);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address, true)?;
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        socket.listen(BACKLOG)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

fn socket(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier process in TIME_WAIT do not keep us out.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_one_listener_share_the_port_chosen() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert_ne!(address.port(), 0);
        assert!(
            sockets
                .iter()
                .all(|socket| socket.local_addr().unwrap() == address)
        );
    }

    #[test]
    fn address_in_use_is_an_error() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = bind(sockets[0].local_addr().unwrap(), 1).expect_err("bound twice");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
