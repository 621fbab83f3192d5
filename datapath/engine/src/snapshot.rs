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
    pub subnet: Option<Subnet>,
    pub mtu: u16,
    pub uplink: Option<u16>,
    pub nat_ports: (u16, u16),
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

/// Where NAT leaves.
#[derive(Clone, Debug)]
pub struct Uplink {
    pub name: String,
    pub port: Option<PortId>,
    pub mac: Mac,
    /// `None`: ask a DHCP server.
    pub subnet: Option<Subnet>,
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u16,
    /// What a DHCP server gave, when `subnet` is `None`; kept over configuration changes.
    pub leased: Arc<crate::uplink::Address>,
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
}
