//! What quick decisions depend on, looked up in the snapshot once and not for every frame.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::brief::{Raw, raw};
use pontoon_wire::{Mac, ethernet};

use super::opening::{Inside, Opening};
use crate::nat;
use crate::snapshot::{Forward, Network, PortId, Role, Snapshot, Uplink, of_pool};
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
    Guest(Lan),
    Host(Lan),
    Uplink(Exit),
}

/// A network, as far as the switch and known sessions care.
#[derive(Clone)]
pub(super) struct Lan {
    pub(super) id: u16,
    /// The same in session keys.
    pub(super) session_key: u64,
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
    /// Who may open sessions there.
    pub(super) opening: Option<Arc<Opening>>,
    /// External addresses in place of the uplink's own.
    pub(super) pool: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// An uplink.
#[derive(Clone)]
pub(super) struct Exit {
    pub(super) id: u16,
    pub(super) port: PortId,
    /// Its own address.
    pub(super) mac: Key,
    pub(super) session_key: u64,
    pub(super) mtu: u16,
    /// Its address at present.
    pub(super) address: Arc<Address>,
    /// Addresses NAT uses besides it.
    pools: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl Facts {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let all = Arc::new(Inside::of(snapshot));
        let networks: Vec<_> = (0..)
            .zip(&snapshot.networks)
            .map(|(id, network)| network.as_ref().map(|network| Lan::new(snapshot, id, network, &all)))
            .collect();
        let inside =
            |id, network| lan(&networks, network).filter(|_| is_plain(snapshot, network, id)).cloned();
        let place = |id, role| match role {
            Role::Host { network } => inside(id, network).map(Place::Host),
            Role::Guest { network } => inside(id, network).map(Place::Guest),
            Role::Uplink { uplink } => Exit::new(snapshot, uplink).map(Place::Uplink),
            Role::Down { .. } => None,
        };
        let ports = (0..)
            .zip(&snapshot.ports)
            .map(|(id, port)| place(id, port.as_ref()?.role))
            .map(|place| place.unwrap_or(Place::Nothing));
        Self { ports: ports.collect(), networks }
    }

    #[inline(always)]
    pub(super) fn places(&self) -> &[Place] {
        &self.ports
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
    fn new(snapshot: &Snapshot, id: u16, network: &Network, all: &Arc<Inside>) -> Self {
        let tree = network.policy.as_ref().and_then(|policy| policy.tree.as_ref());
        let nat = network.forward == Forward::Nat && network.subnet.is_some();
        Self {
            id,
            session_key: nat::network_key(id),
            mtu: network.mtu,
            mac: network.mac,
            gateway: network.mac.into(),
            longest: ethernet::HEADER + TAG + usize::from(network.mtu),
            macs: Arc::clone(&network.macs),
            board: tree.map(|tree| Arc::clone(&tree.board)),
            opening: nat.then(|| Arc::new(Opening::new(network, all))),
            exit: network.uplink.filter(|_| nat).and_then(|uplink| Exit::new(snapshot, uplink)),
            pool: network.nat_addresses,
        }
    }

    /// `external` is what NAT makes of an inside address, where that is not simply the uplink's own.
    #[cold]
    pub(super) fn translates(&self, inside: Raw, external: Raw) -> bool {
        let inside = Ipv4Addr::from(inside.to_le_bytes());
        self.pool.is_some_and(|pool| raw(of_pool(pool, inside)) == external)
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
        let address = match subnet {
            Some(subnet) => Arc::new(Address::fixed(subnet, gateway)),
            None => Arc::clone(leased),
        };
        let session_key = nat::uplink_key(id);
        let pools = snapshot.nat_pools(id).collect();
        Some(Self { id, port: port?, mac: mac.into(), session_key, mtu, address, pools })
    }

    /// The address belongs to a pool.
    #[cold]
    pub(super) fn has(&self, address: Raw) -> bool {
        let address = Ipv4Addr::from(address.to_le_bytes());
        self.pools.iter().any(|(first, last)| (first..=last).contains(&&address))
    }
}
