//! The immutable configuration a worker runs on, compiled from control's document.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::Mac;

/// Index of a port in [`Snapshot::ports`].
pub type PortId = u16;

/// An IPv4 address and the prefix of its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Subnet {
    #[must_use]
    pub fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    #[must_use]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        (ip.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    Isolated,
    Nat,
    Route,
    Open,
    Bridge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Host {
        network: u16,
    },
    Guest {
        network: u16,
    },
    Uplink {
        uplink: u16,
    },
    /// A guest's port whose link is set down: it neither sends nor gets.
    Down {
        network: u16,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub role: Role,
    pub max_addresses: u16,
}

/// One network; `network` fields elsewhere index [`Snapshot::networks`].
#[derive(Clone, Debug)]
pub struct Network {
    pub name: String,
    pub forward: Forward,
    pub mac: Mac,
    /// The gateway's address that DHCP and DNS go with; one of `subnets`.
    pub subnet: Option<Subnet>,
    /// Every address of the gateway.
    pub subnets: Vec<Subnet>,
    /// What is behind guests, longest prefix first, then least metric.
    pub routes: Vec<Route>,
    pub mtu: u16,
    pub uplink: Option<u16>,
    pub nat_ports: (u16, u16),
    /// External addresses, inclusive, instead of the uplink's own.
    pub nat_addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Who reaches a guest's mappings.
    pub filtering: Filtering,
    /// External ports that lead to guests.
    pub forwards: Vec<PortForward>,
    pub dhcp: Option<crate::dhcp::Config>,
    pub dns: crate::dns::Config,
    /// Learned addresses, shared by all workers and kept over configuration changes.
    pub macs: Arc<crate::switch::MacTable>,
    /// `None`: everything may pass between all ports.
    pub policy: Option<alloc::boxed::Box<crate::policy::Policy>>,
    /// All ports of the network, for flooding.
    pub ports: Vec<PortId>,
    /// The host's own port.
    pub host: Option<PortId>,
}

/// Whose packets come in by a mapping (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Anybody's: endpoint-independent filtering.
    Endpoint,
    /// Of addresses the guest sent to from there: address-dependent.
    Address,
    /// Of endpoints it sent to: address- and port-dependent.
    #[default]
    AddressAndPort,
}

/// External ports that lead to a guest whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// TCP or UDP.
    pub protocol: u8,
    /// `None`: every address NAT has on the uplink.
    pub address: Option<Ipv4Addr>,
    /// First and last.
    pub ports: (u16, u16),
    /// The guest's port behind the first one.
    pub to: u16,
    /// `None`: not known at present.
    pub guest: Option<Ipv4Addr>,
}

//= RFC4787#REQ-2, RFC7857#4
/// The address of a pool that goes with an inside address.
#[must_use]
pub fn of_pool((first, last): (Ipv4Addr, Ipv4Addr), inside: Ipv4Addr) -> Ipv4Addr {
    let count = u64::from(last.to_bits().saturating_sub(first.to_bits())) + 1;
    let mixed = u64::from(inside.to_bits().wrapping_mul(0x9e37_79b1));
    Ipv4Addr::from_bits(first.to_bits().wrapping_add(((mixed * count) >> 32) as u32))
}

/// A prefix behind a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Subnet,
    pub gateway: Ipv4Addr,
}

impl Network {
    /// The gateway's subnet that holds `ip`.
    #[must_use]
    pub fn subnet_of(&self, ip: Ipv4Addr) -> Option<Subnet> {
        self.subnets.iter().find(|subnet| subnet.contains(ip)).copied()
    }

    #[must_use]
    pub fn is_gateway(&self, ip: Ipv4Addr) -> bool {
        self.subnets.iter().any(|subnet| subnet.address == ip)
    }

    /// Whom to send a packet to `ip` to, on this network; `None`: it is not here.
    #[must_use]
    pub fn hop(&self, ip: Ipv4Addr) -> Option<Ipv4Addr> {
        let behind = || self.routes.iter().find(|route| route.destination.contains(ip)).map(|r| r.gateway);
        self.subnet_of(ip).map(|_| ip).or_else(behind)
    }

    /// The external address of an inside one, always the same (RFC 4787 REQ-2). `own` is the uplink's.
    #[must_use]
    pub fn external(&self, own: Ipv4Addr, inside: Ipv4Addr) -> Ipv4Addr {
        self.nat_addresses.map_or(own, |pool| of_pool(pool, inside))
    }

    /// Packets for `ip` are let in from outside: to the own subnets, and in mode open to all that is behind guests.
    #[must_use]
    pub fn takes_in(&self, ip: Ipv4Addr) -> bool {
        match self.forward {
            Forward::Route => self.subnet_of(ip).is_some(),
            Forward::Open => self.hop(ip).is_some(),
            Forward::Isolated | Forward::Nat | Forward::Bridge => false,
        }
    }
}

/// Where NAT leaves.
#[derive(Clone, Debug)]
pub struct Uplink {
    pub name: String,
    pub port: Option<PortId>,
    pub mac: Mac,
    /// `None`: ask a DHCP server, or a shared uplink that has none.
    pub subnet: Option<Subnet>,
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u16,
    /// What a DHCP server gave, when `subnet` is `None`; kept over configuration changes.
    pub leased: Arc<crate::uplink::Address>,
    /// The address is the host's own.
    pub shared: Option<Shared>,
}

/// What goes for an uplink whose address is the host's: the host's kernel finds the next hops, and is sent what is for
/// the host itself. Without an address the host has none at present. The subnet is the address alone and its own
/// gateway, so that there is one next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Further addresses of the host.
    pub host: Vec<Ipv4Addr>,
}

impl Uplink {
    /// It gets its address from a DHCP server.
    #[must_use]
    pub fn asks_for_address(&self) -> bool {
        self.subnet.is_none() && self.shared.is_none()
    }
}

/// Everything a worker has to know. Ids are stable; a hole is `None`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub generation: u64,
    pub networks: Vec<Option<Network>>,
    pub uplinks: Vec<Option<Uplink>>,
    pub ports: Vec<Option<Port>>,
    /// One number a resolver, another whenever its sockets are others.
    pub resolvers: Vec<u32>,
    pub sockets_per_resolver: u16,
}

impl Snapshot {
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id))?.as_ref()
    }

    #[must_use]
    pub fn network(&self, id: u16) -> Option<&Network> {
        self.networks.get(usize::from(id))?.as_ref()
    }

    #[must_use]
    pub fn uplink(&self, id: u16) -> Option<&Uplink> {
        self.uplinks.get(usize::from(id))?.as_ref()
    }

    /// Networks with their ids.
    pub fn numbered(&self) -> impl Iterator<Item = (u16, &Network)> {
        (0..).zip(&self.networks).filter_map(|(id, network)| Some((id, network.as_ref()?)))
    }

    /// NAT uses this address on the uplink, besides the uplink's own.
    #[must_use]
    pub fn in_nat_pool(&self, uplink: u16, ip: Ipv4Addr) -> bool {
        self.nat_pools(uplink).any(|(first, last)| (first..=last).contains(&ip))
    }

    /// NAT may use this external port, or query id, on the uplink.
    #[must_use]
    pub fn is_nat_port(&self, uplink: u16, port: u16) -> bool {
        let networks = self.networks.iter().flatten();
        let mut nat = networks.filter(|n| n.forward == Forward::Nat && n.uplink == Some(uplink));
        nat.any(|network| (network.nat_ports.0..=network.nat_ports.1).contains(&port))
    }

    /// Pools of NAT on an uplink, and addresses of port forwards there.
    pub fn nat_pools(&self, uplink: u16) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        let networks = self.networks.iter().flatten();
        let nat = networks.filter(move |n| n.forward == Forward::Nat && n.uplink == Some(uplink));
        nat.flat_map(|network| {
            let own = network.forwards.iter().filter_map(|forward| forward.address);
            network.nat_addresses.into_iter().chain(own.map(|address| (address, address)))
        })
    }

    /// The routed network behind this uplink that `ip` is in.
    #[must_use]
    pub fn routed_to(&self, uplink: u16, ip: Ipv4Addr) -> Option<(u16, &Network)> {
        self.numbered().find(|(_, network)| network.uplink == Some(uplink) && network.takes_in(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: [u8; 4], prefix: u8) -> Subnet {
        Subnet { address: text.into(), prefix }
    }

    fn network() -> Network {
        Network {
            name: "n".into(),
            forward: Forward::Route,
            mac: [2; 6],
            subnet: Some(net([10, 0, 0, 1], 24)),
            subnets: [net([10, 0, 0, 1], 24), net([10, 0, 1, 1], 24)].into(),
            routes: [(net([10, 9, 0, 0], 16), [10, 0, 1, 7].into())]
                .map(|(destination, gateway)| Route { destination, gateway })
                .into(),
            mtu: 1500,
            uplink: Some(0),
            nat_ports: (1, 2),
            nat_addresses: None,
            filtering: Filtering::default(),
            forwards: Vec::new(),
            dhcp: None,
            dns: crate::dns::Config::default(),
            macs: Arc::new(crate::switch::MacTable::new(1)),
            policy: None,
            ports: Vec::new(),
            host: None,
        }
    }

    #[test]
    fn a_packet_goes_to_a_subnet_or_to_the_guest_before_it() {
        let mut network = network();
        assert_eq!(network.hop([10, 0, 1, 200].into()), Some([10, 0, 1, 200].into()));
        assert_eq!(network.hop([10, 9, 3, 3].into()), Some([10, 0, 1, 7].into()));
        assert_eq!(network.hop([10, 8, 3, 3].into()), None);
        assert!(network.takes_in([10, 0, 0, 9].into()) && !network.takes_in([10, 9, 3, 3].into()));
        network.forward = Forward::Open;
        assert!(network.takes_in([10, 9, 3, 3].into()) && !network.takes_in([10, 8, 3, 3].into()));
    }

    #[test]
    fn a_pool_gives_each_inside_address_one_external_one_and_uses_all() {
        let mut network = network();
        let (own, first, last) = ([203, 0, 113, 2].into(), [203, 0, 113, 10], [203, 0, 113, 13]);
        assert_eq!(network.external(own, [10, 0, 0, 5].into()), own);
        network.nat_addresses = Some((first.into(), last.into()));
        let mut seen = [0; 4];
        for guest in 2..=254 {
            let external = network.external(own, [10, 0, 0, guest].into());
            assert_eq!(external, network.external(own, [10, 0, 0, guest].into()));
            seen[usize::from(external.octets()[3] - 10)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 40), "{seen:?}");
        network.nat_addresses = Some(([0; 4].into(), [255; 4].into()));
        let _ = network.external(own, [255; 4].into());
    }
}
