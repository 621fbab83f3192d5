//! What a network by sockets is: addresses, resolvers, limits.

use std::net::{Ipv4Addr, SocketAddrV4};

const DNS: u16 = 53;

/// How many of each there may be; every one holds a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    pub endpoints: usize,
    pub pings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, endpoints: 1024, pings: 64 }
    }
}

impl Limits {
    /// No more than these, of so many descriptors that may be open.
    #[must_use]
    pub fn within(self, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let spare = descriptors.saturating_sub(32).max(8);
        Self {
            connections: self.connections.min(spare / 4 * 3),
            endpoints: self.endpoints.min(spare / 8),
            pings: self.pings.min(spare / 8),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub gateway: Ipv4Addr,
    /// Addresses that answer DNS, and whom they stand for.
    pub resolvers: Vec<(Ipv4Addr, SocketAddrV4)>,
    pub mtu: u16,
    pub limits: Limits,
    /// Whether guests reach what listens on the host's loopback alone; they name it as the host does.
    pub loopback: bool,
}

impl Config {
    /// Addresses that are the gateway's: answered by ARP and pinged without leaving.
    #[must_use]
    pub(crate) fn is_ours(&self, address: Ipv4Addr) -> bool {
        address == self.gateway || self.resolvers.iter().any(|(ours, _)| *ours == address)
    }

    /// Where on the host's side `remote` is; `None` for what guests do not reach.
    #[must_use]
    pub(crate) fn host(&self, remote: SocketAddrV4) -> Option<SocketAddrV4> {
        let address = *remote.ip();
        let resolver = self.resolvers.iter().find(|(ours, _)| *ours == address && remote.port() == DNS);
        if let Some((_, resolver)) = resolver {
            return Some(*resolver);
        }
        let nobody = address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0;
        let refused = nobody || (address.is_loopback() && !self.loopback) || self.is_ours(address);
        (!refused && remote.port() != 0).then_some(remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_do_not_reach_loopback_groups_and_the_gateway() {
        let at = |text: &str| text.parse::<SocketAddrV4>().expect("an endpoint");
        let gateway = Ipv4Addr::new(10, 0, 2, 2);
        let resolvers = vec![(gateway, at("127.0.0.53:53"))];
        let config = Config { gateway, resolvers, mtu: 1500, limits: Limits::default(), loopback: false };
        for refused in
            ["127.0.0.1:80", "224.0.0.1:5", "255.255.255.255:67", "0.0.0.0:80", "10.0.2.2:80", "1.2.3.4:0"]
        {
            assert_eq!(config.host(at(refused)), None, "{refused}");
        }
        assert_eq!(config.host(at("10.0.2.2:53")), Some(at("127.0.0.53:53")));
        assert_eq!(config.host(at("192.0.2.7:80")), Some(at("192.0.2.7:80")));
    }

    #[test]
    fn limits_fit_the_descriptors_there_are() {
        assert_eq!(Limits::default().within(1 << 20), Limits::default());
        let few = Limits::default().within(256);
        assert!(few.connections + few.endpoints + few.pings <= 256 - 32, "{few:?}");
    }
}
