//! External ports that lead to guests whoever asks (port forwards).
//!
//! A session of a forward belongs to no mapping: its external endpoint is the forward's, for as long as that exists.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::ipv4;

use super::slot::{Flow, Slot};
use crate::snapshot::{Forward as Mode, Snapshot};

/// One range of external ports and the guest behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    network: u16,
    uplink: u16,
    protocol: u8,
    /// `None`: every address NAT has on the uplink.
    address: Option<Ipv4Addr>,
    ports: (u16, u16),
    to: u16,
    /// `None`: nobody knows where the guest is.
    guest: Option<Ipv4Addr>,
}

/// A set of port numbers; takes no memory while it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(Vec<u64>);

impl Ports {
    const WORDS: usize = (1 << 16) / 64;

    fn insert(&mut self, port: u16) {
        if self.0.is_empty() {
            self.0 = vec![0; Self::WORDS];
        }
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            *word |= 1 << (port % 64);
        }
    }

    #[inline(always)]
    fn has(&self, port: u16) -> bool {
        self.0.get(usize::from(port / 64)).is_some_and(|word| word >> (port % 64) & 1 != 0)
    }
}

/// All forwards of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwards {
    entries: Vec<Entry>,
    /// Ports that are outside, or inside, of any forward: nearly all packets need no look at the entries.
    outside: Ports,
    inside: Ports,
}

/// Where a forward leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) network: u16,
    pub(super) guest: Option<Ipv4Addr>,
    pub(super) port: u16,
}

impl Forwards {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut all = Self::default();
        for (id, network) in snapshot.numbered().filter(|(_, network)| network.forward == Mode::Nat) {
            let Some(uplink) = network.uplink else { continue };
            for forward in &network.forwards {
                let &crate::snapshot::PortForward { protocol, address, ports, to, guest } = forward;
                all.add(Entry { network: id, uplink, protocol, address, ports, to, guest });
            }
        }
        all
    }

    fn add(&mut self, entry: Entry) {
        for port in entry.ports.0..=entry.ports.1 {
            self.outside.insert(port);
            self.inside.insert(entry.to.wrapping_add(port - entry.ports.0));
        }
        self.entries.push(entry);
    }

    /// What an external endpoint leads to.
    #[inline(always)]
    pub(super) fn at(&self, uplink: u16, protocol: u8, external: (Ipv4Addr, u16)) -> Option<Target> {
        if protocol == ipv4::ICMP || !self.outside.has(external.1) {
            return None;
        }
        self.find_at(uplink, protocol, external)
    }

    #[cold]
    #[inline(never)]
    fn find_at(&self, uplink: u16, protocol: u8, (address, port): (Ipv4Addr, u16)) -> Option<Target> {
        let fits = |entry: &&Entry| {
            entry.uplink == uplink
                && entry.protocol == protocol
                && entry.address.is_none_or(|own| own == address)
                && (entry.ports.0..=entry.ports.1).contains(&port)
        };
        let entry = self.entries.iter().find(fits)?;
        let port = entry.to.wrapping_add(port - entry.ports.0);
        Some(Target { network: entry.network, guest: entry.guest, port })
    }

    /// Some forward has this external port, so that no mapping may have it.
    pub(super) fn has_port(&self, uplink: u16, protocol: u8, port: u16) -> bool {
        let of_entry = |entry: &Entry| {
            entry.uplink == uplink
                && entry.protocol == protocol
                && (entry.ports.0..=entry.ports.1).contains(&port)
        };
        self.outside.has(port) && self.entries.iter().any(of_entry)
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The external endpoint of a guest's endpoint that a forward leads to: what it sends comes from there. `own` is the
    /// external address it has otherwise.
    #[inline(always)]
    pub(super) fn of_inside(
        &self,
        network: u16,
        protocol: u8,
        local: (Ipv4Addr, u16),
        own: Ipv4Addr,
    ) -> Option<(Ipv4Addr, u16)> {
        if !self.inside.has(local.1) {
            return None;
        }
        let entry = self.find_inside(network, protocol, local)?;
        Some((entry.address.unwrap_or(own), entry.ports.0.wrapping_add(local.1.wrapping_sub(entry.to))))
    }

    #[cold]
    #[inline(never)]
    fn find_inside(&self, network: u16, protocol: u8, local: (Ipv4Addr, u16)) -> Option<&Entry> {
        self.entries.iter().find(|entry| {
            entry.network == network
                && entry.protocol == protocol
                && entry.guest == Some(local.0)
                && local.1.wrapping_sub(entry.to) <= entry.ports.1 - entry.ports.0
        })
    }

    /// A packet of this flow takes the long way.
    #[inline(always)]
    pub(super) fn concerns(&self, network: u16, flow: &Flow) -> bool {
        self.inside.has(flow.local.1) && self.find_inside(network, flow.protocol, flow.local).is_some()
    }

    /// A packet of a guest's to the host's address may be an answer to one that came by a forward. Fragments go one way,
    /// whatever they are: only the first says.
    pub(crate) fn may_answer(&self, network: u16, packet: &Packet) -> bool {
        let protocol = packet.ip.protocol;
        if !matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::ICMP) {
            return false;
        }
        packet.ip.is_fragment()
            || protocol == ipv4::ICMP && self.has_guest(network, packet.source())
            || self.leads_to(network, protocol, (packet.source(), packet.source_port))
    }

    /// A guest's endpoint is behind a forward.
    fn leads_to(&self, network: u16, protocol: u8, local: (Ipv4Addr, u16)) -> bool {
        self.inside.has(local.1) && self.find_inside(network, protocol, local).is_some()
    }

    /// An external endpoint leads to a guest.
    pub(crate) fn takes(&self, uplink: u16, protocol: u8, external: (Ipv4Addr, u16)) -> bool {
        self.at(uplink, protocol, external).is_some()
    }

    /// The address is of a guest behind a forward.
    pub(crate) fn has_guest(&self, network: u16, guest: Ipv4Addr) -> bool {
        self.entries.iter().any(|entry| entry.network == network && entry.guest == Some(guest))
    }

    /// A session contradicts the forwards: those it came by are gone, or there are some now it would have come by.
    pub(super) fn contradict(&self, slot: &Slot) -> bool {
        let external = (slot.external.into(), slot.external_port.get());
        let (network, guest) = (slot.network.get(), slot.inside.into());
        let target = self.at(slot.uplink.get(), slot.protocol, external);
        if slot.is_forwarded() {
            let wanted = Target { network, guest: Some(guest), port: slot.inside_port.get() };
            return target != Some(wanted);
        }
        target.is_some() || self.leads_to(network, slot.protocol, (guest, slot.inside_port.get()))
    }
}
