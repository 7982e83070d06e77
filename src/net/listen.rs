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

/// Spreads sockets that are open already over `count` workers: none is left without one who accepts from it, as what queues up
/// on it would wait for ever, or be reset. Workers for which there is none get a copy of one: a further socket on that address
/// would get its share of new connections at once, while this process may be far from accepting and may never come to it.
pub fn spread(sockets: Vec<TcpListener>, count: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let of_others = sockets
        .iter()
        .cycle()
        .take(count.saturating_sub(sockets.len()));
    let copies: Vec<_> = of_others
        .map(TcpListener::try_clone)
        .collect::<io::Result<_>>()?;
    let mut spread: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    for (index, socket) in sockets.into_iter().chain(copies).enumerate() {
        spread[index % count].push(socket);
    }
    Ok(spread)
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
    fn every_socket_gets_a_worker_and_every_worker_a_socket() {
        let spread_over = |open: usize, count: usize| {
            let sockets = bind("127.0.0.1:0".parse().unwrap(), open).unwrap();
            let address = sockets[0].local_addr().unwrap();
            let spread = spread(sockets, count).unwrap();
            let all = spread.iter().flatten();
            assert!(
                all.into_iter()
                    .all(|it| it.local_addr().unwrap() == address)
            );
            spread.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(spread_over(2, 2), [1, 1]);
        assert_eq!(spread_over(3, 2), [2, 1]);
        assert_eq!(spread_over(1, 3), [1, 1, 1]);
        assert_eq!(spread_over(2, 5), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn regression_no_worker_more_takes_connections_from_those_who_accept() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let accepting = sockets[0].try_clone().unwrap();
        let _starting = spread(sockets, 4).unwrap();
        for _ in 0..16 {
            let _client = std::net::TcpStream::connect(address).unwrap();
            assert!(accepting.accept().is_ok());
        }
    }

    #[test]
    fn address_in_use_is_an_error() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = bind(sockets[0].local_addr().unwrap(), 1).expect_err("bound twice");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
