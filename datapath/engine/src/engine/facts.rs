//! What quick decisions depend on, looked up in the snapshot once and not for every frame.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::brief::{Raw, raw};
use pontoon_wire::{Mac, ethernet};

use crate::snapshot::{Forward, Network, PortId, Role, Snapshot, Subnet, Uplink, of_pool};
use crate::stp::Board;
use crate::switch::{Key, MacTable};
use crate::uplink::Address;

/// Octets of an 802.1Q tag, which counts as header and not against the MTU.
const TAG: usize = 4;

/// Facts of one snapshot.
#[derive(Default)]
pub(super) struct Facts {
    ports: Vec<Place>,
    networks: Vec<Option<Lan>>,
}

/// What is behind a port.
#[repr(u8)]
pub(super) enum Place {
    /// Nothing, or nothing that quick decisions can be made about.
    Nothing,
    Network {
        lan: Lan,
        guest: bool,
    },
    Uplink(Exit),
}

/// A network, as far as the switch and known sessions care.
#[derive(Clone)]
pub(super) struct Lan {
    pub(super) id: u16,
    pub(super) mtu: u16,
    pub(super) mac: Mac,
    /// The same address.
    pub(super) gateway: Key,
    /// Octets of the longest frame that is not a super-frame.
    pub(super) longest: usize,
    pub(super) macs: Arc<MacTable>,
    /// What the spanning tree lets ports do, if there is one.
    board: Option<Arc<Board>>,
    /// Where NAT leaves.
    pub(super) exit: Option<Exit>,
    /// External addresses in place of the uplink's own.
    pool: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// An uplink.
#[derive(Clone)]
pub(super) struct Exit {
    pub(super) id: u16,
    pub(super) port: PortId,
    pub(super) mac: Mac,
    pub(super) mtu: u16,
    link: Link,
    /// Where the address is found if a DHCP server gives it.
    leased: Option<Arc<Address>>,
    /// Addresses NAT uses besides it.
    pools: Vec<(Ipv4Addr, Ipv4Addr)>,
}

/// An uplink's address and what is behind it.
#[derive(Clone, Copy, Default)]
pub(super) struct Link {
    pub(super) address: Raw,
    mask: Raw,
    /// Zero: none.
    gateway: Raw,
}

impl Facts {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let networks: Vec<_> = (0..)
            .zip(&snapshot.networks)
            .map(|(id, network)| network.as_ref().map(|network| Lan::new(snapshot, id, network)))
            .collect();
        let inside = |id, network, guest| {
            let lan = lan(&networks, network).filter(|_| is_plain(snapshot, network, id))?;
            Some(Place::Network { lan: lan.clone(), guest })
        };
        let place = |id, role| match role {
            Role::Host { network } => inside(id, network, false),
            Role::Guest { network } => inside(id, network, true),
            Role::Uplink { uplink } => Exit::new(snapshot, uplink).map(Place::Uplink),
            Role::Down { .. } => None,
        };
        let ports = (0..)
            .zip(&snapshot.ports)
            .map(|(id, port)| place(id, port.as_ref()?.role))
            .map(|place| place.unwrap_or(Place::Nothing));
        Self { ports: ports.collect(), networks }
    }

    #[inline]
    pub(super) fn place(&self, port: PortId) -> Option<&Place> {
        let port = usize::from(port);
        if port < self.ports.len() { Some(&self.ports[port]) } else { None }
    }

    #[inline]
    pub(super) fn lan(&self, network: u16) -> Option<&Lan> {
        lan(&self.networks, network)
    }
}

/// The port may reach all others, and does not get back what it sends.
fn is_plain(snapshot: &Snapshot, network: u16, port: PortId) -> bool {
    let policy = snapshot.network(network).and_then(|network| network.policy.as_ref());
    policy.is_none_or(|policy| !policy.isolated.contains(port) && !policy.hairpin.contains(port))
}

#[inline]
fn lan(networks: &[Option<Lan>], id: u16) -> Option<&Lan> {
    networks.get(usize::from(id))?.as_ref()
}

impl Lan {
    fn new(snapshot: &Snapshot, id: u16, network: &Network) -> Self {
        let tree = network.policy.as_ref().and_then(|policy| policy.tree.as_ref());
        let nat = network.forward == Forward::Nat && network.subnet.is_some();
        Self {
            id,
            mtu: network.mtu,
            mac: network.mac,
            gateway: network.mac.into(),
            longest: ethernet::HEADER + TAG + usize::from(network.mtu),
            macs: Arc::clone(&network.macs),
            board: tree.map(|tree| Arc::clone(&tree.board)),
            exit: network.uplink.filter(|_| nat).and_then(|uplink| Exit::new(snapshot, uplink)),
            pool: network.nat_addresses,
        }
    }

    /// The external address of an inside one; `own` is the uplink's.
    #[inline(always)]
    pub(super) fn external(&self, own: Raw, inside: Raw) -> Raw {
        match self.pool {
            None => own,
            Some(pool) => raw(of_pool(pool, Ipv4Addr::from(inside.to_ne_bytes()))),
        }
    }

    /// Frames may come from and go to a port.
    #[inline]
    pub(super) fn is_open(&self, port: PortId) -> bool {
        self.board.as_ref().is_none_or(|board| board.is_open(port))
    }

    /// A frame that another worker handed over may be the sign that a port is to be asked about.
    #[inline]
    pub(super) fn is_accusing(&self) -> bool {
        self.board.as_ref().is_some_and(|board| board.is_accusing())
    }
}

impl Exit {
    fn new(snapshot: &Snapshot, id: u16) -> Option<Self> {
        let Uplink { port, mac, subnet, gateway, mtu, ref leased, .. } = *snapshot.uplink(id)?;
        Some(Self {
            id,
            port: port?,
            mac,
            mtu,
            link: subnet.map_or_else(Link::default, |subnet| Link::new(subnet, gateway)),
            leased: subnet.is_none().then(|| Arc::clone(leased)),
            pools: snapshot.nat_pools(id).collect(),
        })
    }

    /// The address belongs to a pool.
    #[inline]
    pub(super) fn has(&self, address: Raw) -> bool {
        let address = Ipv4Addr::from(address.to_ne_bytes());
        self.pools.iter().any(|(first, last)| (first..=last).contains(&&address))
    }

    /// Its address at present.
    #[inline(always)]
    pub(super) fn link(&self) -> Option<Link> {
        match &self.leased {
            None => Some(self.link),
            Some(leased) => leased.get().map(|(subnet, gateway)| Link::new(subnet, gateway)),
        }
    }
}

impl Link {
    fn new(subnet: Subnet, gateway: Option<Ipv4Addr>) -> Self {
        let mask = Ipv4Addr::from_bits(subnet.mask());
        Self { address: raw(subnet.address), mask: raw(mask), gateway: gateway.map_or(0, raw) }
    }

    /// Whom to send to on the uplink's segment; zero: nobody.
    #[inline]
    pub(super) fn next_hop(&self, destination: Raw) -> Raw {
        if (self.address ^ destination) & self.mask == 0 { destination } else { self.gateway }
    }
}
