//! Who a client is, as far as its address tells, and how many connections each has. Knows nothing of HTTP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use foldhash::quality::RandomState;

use crate::lock::lock;

/// The network that stands for one client: an IPv4 address by itself, an IPv6 address with its /64, all of which one
/// subscriber has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Connections by client. Asked when a connection begins or ends, never for a request. It remembers whoever has a
/// connection, nobody else.
#[derive(Debug, Default)]
pub struct PerClient(Mutex<HashMap<IpAddr, usize, RandomState>>);

impl PerClient {
    /// Counts one connection more from `address`; `None` where that would be more than `limit`.
    pub fn admit(self: &Arc<Self>, address: IpAddr, limit: NonZeroUsize) -> Option<OfClient> {
        let client = network(address);
        let mut open = lock(&self.0);
        let count = open.entry(client).or_default();
        if *count >= limit.get() {
            return None;
        }
        *count += 1;
        Some(OfClient {
            all: Arc::clone(self),
            client,
        })
    }
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub struct OfClient {
    all: Arc<PerClient>,
    client: IpAddr,
}

impl Drop for OfClient {
    fn drop(&mut self) {
        let mut open = lock(&self.all.0);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_so_many_and_is_forgotten_with_the_last() {
        let all = Arc::new(PerClient::default());
        let two = NonZeroUsize::new(2).unwrap();
        let admit = |text| all.admit(address(text), two);
        let (first, second) = (admit("192.0.2.1"), admit("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && admit("192.0.2.1").is_none());
        let other = admit("192.0.2.2");
        assert!(other.is_some());
        drop(first);
        let third = admit("192.0.2.1");
        assert!(third.is_some() && admit("192.0.2.1").is_none());
        drop((second, third, other));
        assert!(lock(&all.0).is_empty());
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(network(address("192.0.2.1")), address("192.0.2.1"));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
        assert_eq!(
            network(address("2001:db8:1:2:3:4:5:6")),
            address("2001:db8:1:2::")
        );
    }
}
