//! Packets from outside: whom they are for, and whether they may enter.

use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{ethernet, ipv4, vnet};

use super::forwards::Target;
use super::fragments::Found;
use super::slot::{Flow, Slot};
use super::tcp::{self, Segment};
use super::translate::{self, Quoted, Side};
use super::{Inside, Kind, Nat, classify, segment};
use crate::DropReason;
use crate::snapshot::Filtering;
use crate::time::Time;

impl Nat {
    /// A packet arrived for an external address: rewrites its destination and says where it goes. `own`: it was sent by one
    /// of our guests and comes back in (hairpin, RFC 4787 REQ-9).
    ///
    /// # Errors
    /// Why it must not enter.
    pub fn inbound(
        &mut self,
        now: Time,
        uplink: u16,
        own: bool,
        vnet: &vnet::Header,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Result<Inside, DropReason> {
        let flow = match classify(frame, packet, Side::Destination)? {
            Kind::Fragment => return self.inbound_fragment(now, uplink, frame, packet),
            Kind::Error(quoted) => return self.inbound_error(now, uplink, vnet, frame, packet, &quoted),
            Kind::Session(flow) => flow,
        };
        if flow.protocol == ipv4::ICMP {
            translate::check_icmp(frame, packet, vnet)?;
        }
        let segment = segment(frame, packet)?;
        let number = match self.table.incoming(now, uplink, &flow) {
            Some(number) => self.answered(now, number, segment.as_ref())?,
            None => self.accept(now, (uplink, own), &flow, segment.as_ref())?,
        };
        let slot = self.table.slot(number);
        let local = (Ipv4Addr::from(slot.inside), slot.inside_port.get());
        let inside = Inside { network: slot.network.get(), mac: slot.mac };
        translate::endpoint(frame, packet, vnet, Side::Destination, local);
        if packet.ip.is_fragment() {
            let found = Found { address: local.0, uplink, inside, id: packet.ip.id };
            self.received.put(self.table.hasher(), now, uplink, packet, found);
        }
        Ok(inside)
    }

    //= RFC7857#7
    /// Inbound traffic refreshes established sessions only: strangers must not keep a mapping open (RFC 7857
    /// section 7).
    fn answered(&mut self, now: Time, number: u32, segment: Option<&Segment>) -> Result<u32, DropReason> {
        let slot = self.table.slot_mut(number).ok_or(DropReason::NatNoSession)?;
        let before = slot.class();
        let refresh = match segment {
            Some(segment) => tcp::inbound(slot, segment)?,
            // Who comes by a forward is answered before the session counts as more than an attempt.
            None if slot.is_forwarded() => slot.is_assured(),
            None => {
                slot.assure();
                true
            }
        };
        self.table.touch(now, number, before, refresh);
        Ok(number)
    }

    //= RFC4787#REQ-9, RFC5382#REQ-8
    /// A packet without a session enters if another guest sent it, to an endpoint that has a mapping: guests find each
    /// other through the external address without having spoken before (RFC 4787 REQ-9). Others enter as the network
    /// has it.
    fn accept(
        &mut self,
        now: Time,
        (uplink, own): (u16, bool),
        flow: &Flow,
        segment: Option<&Segment>,
    ) -> Result<u32, DropReason> {
        if let Some(target) = self.forwards.at(uplink, flow.protocol, flow.local) {
            return self.accept_forwarded(now, uplink, flow, segment, target);
        }
        let number = self.table.mapping_at(now, uplink, flow).ok_or(DropReason::NatNoSession)?;
        let sibling = self.table.slot(number);
        if sibling.external != flow.local.0.octets() {
            return Err(DropReason::NatFiltered);
        }
        if !own {
            return self.let_in(now, uplink, flow, segment, &sibling).map(|()| number);
        }
        let mut slot = Slot {
            remote: flow.remote.0.octets(),
            remote_port: flow.remote.1.into(),
            inside: sibling.inside,
            inside_port: sibling.inside_port,
            external: sibling.external,
            external_port: sibling.external_port,
            network: sibling.network,
            uplink: sibling.uplink,
            mac: sibling.mac,
            protocol: sibling.protocol,
            ..Slot::default()
        };
        if let Some(segment) = segment {
            tcp::accept(&mut slot, segment)?;
        }
        let address = sibling.inside.into();
        self.table.make_room(now, sibling.network.get(), address)?;
        // Making room may have ended the last session of the mapping.
        self.table.mapping_at(now, uplink, flow).ok_or(DropReason::NatTableFull)?;
        self.table.insert(now, slot)
    }

    /// A stranger's packet passes, where its network lets it, and leaves nothing behind: it costs no session and keeps no
    /// mapping alive. What the guest answers opens a session. TCP begins with a SYN, a query's answers are for who asked.
    //= RFC4787#REQ-8, RFC5382#REQ-3, RFC7857#7
    fn let_in(
        &mut self,
        now: Time,
        uplink: u16,
        flow: &Flow,
        segment: Option<&Segment>,
        sibling: &Slot,
    ) -> Result<(), DropReason> {
        let begins = segment.is_none_or(Segment::is_first);
        let network = usize::from(sibling.network.get());
        let may = match self.filtering.get(network).copied().unwrap_or_default() {
            Filtering::Endpoint => true,
            Filtering::Address => self.table.knows_peer(now, uplink, flow),
            Filtering::AddressAndPort => false,
        };
        let carried = matches!(flow.protocol, ipv4::TCP | ipv4::UDP);
        if may && begins && carried { Ok(()) } else { Err(DropReason::NatFiltered) }
    }

    /// Somebody comes by a forward. Where the guest is in its network is not known yet.
    fn accept_forwarded(
        &mut self,
        now: Time,
        uplink: u16,
        flow: &Flow,
        segment: Option<&Segment>,
        target: Target,
    ) -> Result<u32, DropReason> {
        let guest = target.guest.ok_or(DropReason::NatNoGuest)?;
        let inside = Flow { local: (guest, target.port), ..*flow };
        if self.table.outgoing(now, target.network, &inside).is_some() {
            // The same client speaks to the guest's port by another forward.
            return Err(DropReason::NatFiltered);
        }
        let mut slot = Slot {
            inside: guest.octets(),
            inside_port: target.port.into(),
            remote: flow.remote.0.octets(),
            remote_port: flow.remote.1.into(),
            network: target.network.into(),
            uplink: uplink.into(),
            protocol: flow.protocol,
            ..Slot::default()
        };
        slot.forward(flow.local);
        if let Some(segment) = segment {
            tcp::accept(&mut slot, segment)?;
        }
        self.table.make_room(now, target.network, guest)?;
        self.table.insert(now, slot)
    }

    fn inbound_fragment(
        &mut self,
        now: Time,
        uplink: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Result<Inside, DropReason> {
        let found = self.received.get(self.table.hasher(), now, uplink, packet);
        let found = found.ok_or(DropReason::NatFragment)?;
        translate::address(frame, ethernet::HEADER, Side::Destination, found.address);
        Ok(found.inside)
    }

    //= RFC4787#REQ-12, RFC4787#REQ-12a, RFC4787#REQ-12b, RFC5382#REQ-9, RFC5382#REQ-10, RFC5508#REQ-4, RFC5508#REQ-6
    /// From any address (RFC 4787 REQ-12a): routers on the way speak for a destination. Neither refreshes nor ends
    /// the session (RFC 5508 REQ-6).
    fn inbound_error(
        &mut self,
        now: Time,
        uplink: u16,
        vnet: &vnet::Header,
        frame: &mut [u8],
        packet: &Packet,
        quoted: &Quoted,
    ) -> Result<Inside, DropReason> {
        translate::check_icmp(frame, packet, vnet)?;
        let flow = quoted.flow(Side::Source).filter(|_| quoted.is_header_valid(frame));
        let flow = flow.ok_or(DropReason::NatIcmpInner)?;
        let number = self.table.incoming(now, uplink, &flow).ok_or(DropReason::NatNoSession)?;
        let slot = self.table.slot(number);
        let local = (Ipv4Addr::from(slot.inside), slot.inside_port.get());
        translate::error(frame, packet, vnet, quoted, Side::Source, local);
        Ok(Inside { network: slot.network.get(), mac: slot.mac })
    }
}
