//! Network address and port translation: RFC 4787, 5382, 5508, 7857.
//!
//! Mapping is endpoint-independent: an inside endpoint has one external port for all destinations, and no two
//! inside endpoints share one. Filtering is address-and-port-dependent: only whom the inside endpoint spoke to gets
//! through.

mod begin;
mod forwards;
mod fragments;
mod idents;
mod inbound;
mod index;
mod journal;
mod known;
mod list;
mod mss;
mod order;
mod ports;
mod released;
mod slot;
mod table;
mod tcp;
mod timers;
mod translate;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{Mac, ethernet, icmp, ipv4, vnet};

pub(crate) use self::forwards::Forwards;
use self::fragments::{Found, Fragments};
use self::idents::Idents;
pub use self::journal::{Change, Interest};
pub use self::known::Entry;
pub use self::list::{Action, Look, Phase, Query, Seen, Session};
pub(crate) use self::mss::clamp as clamp_mss;
use self::order::Order;
pub(crate) use self::order::{Step, Waiting};
pub use self::ports::owner;
use self::slot::Flow;
pub use self::slot::{Slot, network_key, uplink_key};
use self::table::Table;
use self::tcp::Segment;
use self::translate::Quoted;
pub(crate) use self::translate::Side;
use crate::DropReason;
use crate::snapshot::Filtering;
use crate::time::Time;

/// The side of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    pub uplink: u16,
    pub address: Ipv4Addr,
    /// First and last external port.
    pub ports: (u16, u16),
    pub mtu: u16,
    /// Names the state of the configuration under which the caller found that the packet's endpoints may speak by
    /// this uplink; zero: ask again for the next packet.
    pub epoch: u32,
}

impl Outside {
    /// A session by this uplink, as far as it is known without the tables.
    fn session(&self, inside: &Inside, flow: &Flow) -> Slot {
        Slot {
            inside: flow.local.0.octets(),
            inside_port: flow.local.1.into(),
            remote: flow.remote.0.octets(),
            remote_port: flow.remote.1.into(),
            external: self.address.octets(),
            network: inside.network.into(),
            uplink: self.uplink.into(),
            mac: inside.mac,
            protocol: flow.protocol,
            epoch: self.epoch,
            ..Slot::default()
        }
    }
}

/// Where a guest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    pub network: u16,
    /// The guest's; every packet it sends refreshes it.
    pub mac: Mac,
}

/// One worker's share.
pub struct Nat {
    table: Table,
    random: ports::Random,
    forwards: Forwards,
    /// By network.
    filtering: Vec<Filtering>,
    worker: (u16, u16),
    idents: Idents,
    sent: Fragments,
    received: Fragments,
    sent_order: Order,
    received_order: Order,
}

/// What a packet is to the NAT.
enum Kind {
    /// Has ports or a query id.
    Session(Flow),
    Error(Quoted),
    /// Behind the first fragment.
    Fragment,
}

/// Port number whose [`owner`] handles a packet from inside.
#[must_use]
pub fn outbound_port(frame: &[u8], packet: &Packet) -> Option<u16> {
    match classify(frame, packet, Side::Source).ok()? {
        Kind::Session(flow) => Some(flow.local.1),
        // The quoted packet was received, so the inside endpoint is its destination.
        Kind::Error(quoted) => Some(quoted.destination_port()),
        Kind::Fragment => None,
    }
}

//= RFC4787#REQ-10, RFC5382#REQ-6, RFC5508#REQ-1, RFC5508#REQ-11, ours#slipstream
/// `local`: the packet's end that is ours.
#[inline]
fn classify(frame: &[u8], packet: &Packet, local: Side) -> Result<Kind, DropReason> {
    let protocol = packet.ip.protocol;
    if protocol == IGMP {
        return Err(DropReason::NatProtocol);
    }
    if packet.ip.fragment_offset() > 0 {
        return Ok(Kind::Fragment);
    }
    let (mut source, mut destination) = (packet.source_port, packet.destination_port);
    if protocol == ipv4::ICMP {
        let kind = packet.flags;
        if icmp::is_error(kind) {
            // An error in pieces has a checksum nobody can mend.
            let whole = !packet.ip.is_fragment();
            let quoted = Quoted::parse(frame, packet).ok_or(DropReason::NatIcmpInner)?;
            return if whole { Ok(Kind::Error(quoted)) } else { Err(DropReason::NatFragment) };
        }
        let carried = if local == Side::Source { icmp::is_query(kind) } else { icmp::is_reply(kind) };
        if !carried {
            let query = icmp::is_query(kind);
            return Err(if query { DropReason::NatNoSession } else { DropReason::NatIcmpType });
        }
        // The id is the local port; the remote side has none (RFC 5508 REQ-1).
        (source, destination) = if local == Side::Source { (source, 0) } else { (0, source) };
    }
    let (source, destination) = ((packet.ip.source, source), (packet.ip.destination, destination));
    let (local, remote) = if local == Side::Source { (source, destination) } else { (destination, source) };
    Ok(Kind::Session(Flow { protocol, local, remote }))
}

/// Protocol and external endpoint that a packet from outside is for.
#[must_use]
pub fn external(frame: &[u8], packet: &Packet) -> Option<(u8, (Ipv4Addr, u16))> {
    match classify(frame, packet, Side::Destination).ok()? {
        Kind::Session(flow) => Some((flow.protocol, flow.local)),
        Kind::Error(quoted) => Some(quoted.source()),
        Kind::Fragment => None,
    }
}

/// Only of the segment it is on.
const IGMP: u8 = 2;

//= ours#other-protocols
/// A protocol that NAT knows no ports of: its packets are told apart by their addresses alone, so one guest at a time
/// may use it by an uplink.
#[inline]
pub(crate) fn is_portless(protocol: u8) -> bool {
    !matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::ICMP)
}

#[inline]
fn segment(frame: &[u8], packet: &Packet) -> Result<Option<Segment>, DropReason> {
    if packet.ip.protocol != ipv4::TCP {
        return Ok(None);
    }
    Segment::parse(frame, packet).map(Some)
}

impl Nat {
    /// Adopts the sessions found in `slots` that are sound and belong to this worker; all else is zeroed.
    #[must_use]
    pub fn new(worker: u16, workers: u16, seed: u64, slots: &'static mut [Slot], now: Time) -> Self {
        let mut table = Table::new(slots, seed);
        let mine = |port| owner(port, workers) == worker;
        table.adopt(now, |slot| {
            mine(slot.inside_port.get()) && (slot.is_forwarded() || mine(slot.external_port.get()))
        });
        Self {
            idents: Idents::new(worker, workers, table.hasher()),
            table,
            random: ports::Random::new(seed, worker),
            forwards: Forwards::default(),
            filtering: Vec::new(),
            worker: (worker, workers),
            sent: Fragments::new(),
            received: Fragments::new(),
            sent_order: Order::new(),
            received_order: Order::new(),
        }
    }

    /// Port number whose [`owner`] handles a packet from outside: that inside, which is another where a forward says so.
    #[must_use]
    pub fn inbound_port(&self, uplink: u16, frame: &[u8], packet: &Packet) -> Option<u16> {
        let (protocol, external) = external(frame, packet)?;
        let target = self.forwards.at(uplink, protocol, external);
        Some(target.map_or(external.1, |target| target.port))
    }

    /// Has ports lead to guests. Sessions by forwards that are gone end, and so do those that are in the way of new ones.
    pub(crate) fn set_forwards(&mut self, forwards: Forwards) {
        if self.forwards == forwards {
            return;
        }
        self.table.remove_where(|slot| forwards.contradict(slot));
        self.forwards = forwards;
    }

    /// What each network lets in.
    pub(crate) fn set_filtering(&mut self, filtering: Vec<Filtering>) {
        if filtering.contains(&Filtering::Address) {
            self.table.keep_peers();
        }
        self.filtering = filtering;
    }

    pub(crate) fn forwards(&self) -> &Forwards {
        &self.forwards
    }

    /// A packet from inside is of a session.
    pub(crate) fn is_known(&mut self, now: Time, network: u16, frame: &[u8], packet: &Packet) -> bool {
        match classify(frame, packet, Side::Source) {
            Ok(Kind::Session(flow)) => self.table.outgoing(now, network, &flow).is_some(),
            Ok(Kind::Fragment) => self.sent.get(self.table.hasher(), now, network, packet).is_some(),
            Ok(Kind::Error(quoted)) => quoted
                .flow(Side::Destination)
                .is_some_and(|flow| self.table.outgoing(now, network, &flow).is_some()),
            Err(_) => false,
        }
    }

    /// A packet leaves: rewrites its source. The TTL is the caller's.
    ///
    /// # Errors
    /// Why it must not leave.
    pub fn outbound(
        &mut self,
        now: Time,
        outside: &Outside,
        inside: &Inside,
        vnet: &vnet::Header,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Result<(), DropReason> {
        let flow = match classify(frame, packet, Side::Source)? {
            Kind::Fragment => return self.outbound_fragment(now, outside, inside, frame, packet),
            Kind::Error(quoted) => {
                return self.outbound_error(now, outside, inside, vnet, frame, packet, &quoted);
            }
            Kind::Session(flow) => flow,
        };
        if flow.protocol == ipv4::ICMP {
            translate::check_icmp(frame, packet, vnet)?;
        }
        let segment = segment(frame, packet)?;
        let number = match self.current(now, outside, inside, &flow) {
            Some(number) => {
                self.advance(now, number, outside, inside, segment.as_ref());
                number
            }
            None => self.open(now, outside, inside, &flow, segment.as_ref())?,
        };
        let slot = self.table.slot(number);
        let external = (Ipv4Addr::from(slot.external), slot.external_port.get());
        translate::endpoint(frame, packet, vnet, Side::Source, external);
        let id = self.identify(frame, packet, vnet);
        if packet.ip.is_fragment() {
            let found = Found { address: external.0, uplink: outside.uplink, inside: *inside, id };
            self.sent.put(self.table.hasher(), now, inside.network, packet, found);
        }
        Ok(())
    }

    /// Gives a packet that leaves an identification of its own, unless it needs none; what it has then.
    fn identify(&mut self, frame: &mut [u8], packet: &Packet, vnet: &vnet::Header) -> u16 {
        let renewed = if idents::is_needed(frame) || packet.ip.is_fragment() {
            self.idents.renew(self.table.hasher(), frame, Some(vnet))
        } else {
            None
        };
        renewed.unwrap_or(packet.ip.id)
    }

    /// The session, unless it is one through an uplink or address the network had before.
    fn current(&mut self, now: Time, outside: &Outside, inside: &Inside, flow: &Flow) -> Option<u32> {
        let number = self.table.outgoing(now, inside.network, flow)?;
        let slot = self.table.slot(number);
        let same = slot.is_forwarded() || slot.external == outside.address.octets();
        if slot.uplink.get() == outside.uplink && same {
            return Some(number);
        }
        self.table.remove(number);
        None
    }

    //= RFC4787#REQ-6
    fn advance(
        &mut self,
        now: Time,
        number: u32,
        outside: &Outside,
        inside: &Inside,
        segment: Option<&Segment>,
    ) {
        let Some(slot) = self.table.slot_mut(number) else { return };
        let before = slot.class();
        (slot.mac, slot.epoch) = (inside.mac, outside.epoch);
        if slot.is_forwarded() && segment.is_none() {
            slot.assure();
        }
        let refresh = segment.is_none_or(|segment| tcp::outbound(slot, segment));
        self.table.touch(now, number, before, refresh);
    }

    fn open(
        &mut self,
        now: Time,
        outside: &Outside,
        inside: &Inside,
        flow: &Flow,
        segment: Option<&Segment>,
    ) -> Result<u32, DropReason> {
        let mut slot = outside.session(inside, flow);
        if let Some(segment) = segment {
            tcp::open(&mut slot, segment)?;
        }
        self.table.make_room(now, inside.network, flow.local.0)?;
        let own = outside.address;
        match self.forwards.of_inside(inside.network, flow.protocol, flow.local, own) {
            Some(external) => slot.forward(external),
            None => slot.external_port = self.external_port(now, outside, inside, flow)?.into(),
        }
        self.table.insert(now, slot)
    }

    //= RFC4787#REQ-1, RFC5382#REQ-1, RFC7857#11
    /// The mapping's port, or a port for a new mapping.
    fn external_port(
        &mut self,
        now: Time,
        outside: &Outside,
        inside: &Inside,
        flow: &Flow,
    ) -> Result<u16, DropReason> {
        while let Some(number) = self.table.mapping_of(now, inside.network, outside.uplink, flow) {
            let slot = self.table.slot(number);
            if slot.external == outside.address.octets() {
                return Ok(slot.external_port.get());
            }
            self.table.remove(number);
        }
        if is_portless(flow.protocol) {
            let free = self.table.is_free(outside.uplink, flow.protocol, 0);
            return if free { Ok(0) } else { Err(DropReason::NatProtocolTaken) };
        }
        self.pick_port(now, inside.network, outside, flow).ok_or(DropReason::NatPortsExhausted)
    }

    //= RFC4787#REQ-3, RFC5382#REQ-7, RFC7857#3
    /// A port for a new mapping.
    fn pick_port(&mut self, now: Time, network: u16, outside: &Outside, flow: &Flow) -> Option<u16> {
        if !self.forwards.is_empty() {
            return self.pick_beside(now, network, outside, flow);
        }
        let (worker, workers) = self.worker;
        let uplink = outside.uplink;
        let picked = ports::pick(&mut self.random, flow.local.1, outside.ports, |port| {
            owner(port, workers) == worker && self.table.is_free(uplink, flow.protocol, port)
        });
        let rested = |&port: &u16| self.table.may_have(now, network, uplink, flow, port);
        picked.filter(rested).or_else(|| self.pick_beside(now, network, outside, flow))
    }

    /// The same where forwards have ports, or ports rest. Apart, so that the usual case is compiled into one piece.
    #[cold]
    #[inline(never)]
    fn pick_beside(&mut self, now: Time, network: u16, outside: &Outside, flow: &Flow) -> Option<u16> {
        let (worker, workers) = self.worker;
        let Outside { uplink, .. } = *outside;
        // Where all free ports rest, one of those has to do.
        [true, false].into_iter().find_map(|must_rest: bool| {
            ports::pick(&mut self.random, flow.local.1, outside.ports, |port| {
                owner(port, workers) == worker
                    && !self.forwards.has_port(uplink, flow.protocol, port)
                    && self.table.is_free(uplink, flow.protocol, port)
                    && (!must_rest || self.table.may_have(now, network, uplink, flow, port))
            })
        })
    }

    fn outbound_fragment(
        &mut self,
        now: Time,
        outside: &Outside,
        inside: &Inside,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Result<(), DropReason> {
        let found = self.sent.get(self.table.hasher(), now, inside.network, packet);
        let found = found.filter(|found| found.uplink == outside.uplink).ok_or(DropReason::NatFragment)?;
        translate::address(frame, ethernet::HEADER, Side::Source, found.address);
        idents::set(frame, found.id).ok_or(DropReason::IpMalformed)
    }

    //= RFC5508#REQ-5, RFC5508#REQ-7, RFC7857#12
    #[expect(clippy::too_many_arguments)]
    fn outbound_error(
        &mut self,
        now: Time,
        outside: &Outside,
        inside: &Inside,
        vnet: &vnet::Header,
        frame: &mut [u8],
        packet: &Packet,
        quoted: &Quoted,
    ) -> Result<(), DropReason> {
        translate::check_icmp(frame, packet, vnet)?;
        let flow = quoted.flow(Side::Destination).filter(|_| quoted.is_header_valid(frame));
        let flow = flow.ok_or(DropReason::NatIcmpInner)?;
        let number = self.table.outgoing(now, inside.network, &flow).ok_or(DropReason::NatNoSession)?;
        let slot = self.table.slot(number);
        let external = if slot.is_forwarded() { slot.external.into() } else { outside.address };
        if slot.uplink.get() != outside.uplink || slot.external != external.octets() {
            return Err(DropReason::NatNoSession);
        }
        translate::error(
            frame,
            packet,
            vnet,
            quoted,
            Side::Destination,
            (external, slot.external_port.get()),
        );
        self.identify(frame, packet, vnet);
        Ok(())
    }

    /// Ends sessions whose time is over, a bounded number a call.
    pub fn expire(&mut self, now: Time) {
        self.table.expire(now);
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.table.next_timeout()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// The uplink's address changed or went away.
    pub fn flush_uplink(&mut self, uplink: u16) {
        self.table.remove_where(|slot| slot.uplink.get() == uplink);
        self.forget_fragments();
    }

    pub fn flush_network(&mut self, network: u16) {
        self.table.remove_where(|slot| slot.network.get() == network);
        self.forget_fragments();
    }

    fn forget_fragments(&mut self) {
        self.sent.clear();
        self.received.clear();
        self.sent_order.clear();
        self.received_order.clear();
    }
}
