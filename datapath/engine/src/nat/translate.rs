//! Rewrites addresses and ports and mends every checksum over them (RFC 3022 4.2).

use core::net::Ipv4Addr;

use pontoon_wire::checksum::{self, Delta};
use pontoon_wire::frame::Packet;
use pontoon_wire::{be16, ethernet, icmp, ipv4, put, vnet};

use super::is_portless;
use super::slot::Flow;
use crate::DropReason;

/// Which end of the packet changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

const DCCP: u8 = 33;
const UDP_LITE: u8 = 136;

fn checksum_offset(protocol: u8) -> usize {
    match protocol {
        ipv4::TCP => 16,
        ipv4::UDP => 6,
        _ => 2,
    }
}

fn port_offset(protocol: u8, side: Side) -> usize {
    match (protocol, side) {
        (ipv4::ICMP, _) => 4,
        (_, Side::Source) => 0,
        (_, Side::Destination) => 2,
    }
}

/// The transport checksum is yet to be completed by someone behind us.
fn is_partial(vnet: &vnet::Header, packet: &Packet) -> bool {
    vnet.needs_checksum()
        && usize::from(vnet.csum_start.get()) == packet.l4
        && usize::from(vnet.csum_offset.get()) == checksum_offset(packet.ip.protocol)
}

/// Writes an address and mends the header checksum.
pub(super) fn address(frame: &mut [u8], at: usize, side: Side, new: Ipv4Addr) {
    let Some(packet) = frame.get_mut(at..) else { return };
    match side {
        Side::Source => ipv4::set_source(packet, new),
        Side::Destination => ipv4::set_destination(packet, new),
    }
}

fn address_of(ip: &ipv4::Header, side: Side) -> Ipv4Addr {
    match side {
        Side::Source => ip.source,
        Side::Destination => ip.destination,
    }
}

/// Writes an endpoint of a packet that carries ports or a query id.
#[inline]
pub(super) fn endpoint(
    frame: &mut [u8],
    packet: &Packet,
    vnet: &vnet::Header,
    side: Side,
    new: (Ipv4Addr, u16),
) {
    let protocol = packet.ip.protocol;
    if is_portless(protocol) {
        return portless(frame, packet, side, new.0);
    }
    let (port, field) = (port_offset(protocol, side), checksum_offset(protocol));
    let Some(transport) = frame.get_mut(packet.l4..) else { return };
    let (Some(old_port), Some(sum)) = (be16(transport, port), be16(transport, field)) else { return };
    let mut delta = Delta::default();
    if protocol != ipv4::ICMP {
        delta = delta.address(address_of(&packet.ip, side), new.0);
    }
    let sum = if is_partial(vnet, packet) {
        // The field holds the pseudo header's sum, which knows addresses but no ports.
        if protocol == ipv4::ICMP { sum } else { delta.apply_partial(sum) }
    } else if protocol == ipv4::UDP {
        delta.word(old_port, new.1).apply_udp(sum)
    } else {
        delta.word(old_port, new.1).apply(sum)
    };
    put(transport, port, &new.1.to_be_bytes());
    put(transport, field, &sum.to_be_bytes());
    address(frame, ethernet::HEADER, side, new.0);
}

//= ours#other-protocols
/// Writes the address of a packet whose protocol has no ports here; two such protocols sum addresses up, at one place.
#[cold]
fn portless(frame: &mut [u8], packet: &Packet, side: Side, new: Ipv4Addr) {
    if matches!(packet.ip.protocol, DCCP | UDP_LITE)
        && let Some(transport) = frame.get_mut(packet.l4..packet.end)
        && let Some(sum) = be16(transport, 6)
    {
        let sum = Delta::default().address(address_of(&packet.ip, side), new).apply_udp(sum);
        put(transport, 6, &sum.to_be_bytes());
    }
    address(frame, ethernet::HEADER, side, new);
}

//= RFC5508#REQ-3
/// RFC 5508 REQ-3: a message with a bad checksum goes no further. Fragments cannot be checked, and a vnet header
/// may say that nobody has to.
pub(super) fn check_icmp(frame: &[u8], packet: &Packet, vnet: &vnet::Header) -> Result<(), DropReason> {
    let known = vnet.flags & (vnet::NEEDS_CSUM | vnet::DATA_VALID) != 0 || packet.ip.is_fragment();
    let message = frame.get(packet.l4..packet.end).ok_or(DropReason::IpMalformed)?;
    if known || checksum::valid(message) { Ok(()) } else { Err(DropReason::NatIcmpChecksum) }
}

/// The packet an ICMP error is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    /// Offset in the frame.
    at: usize,
    end: usize,
    ip: ipv4::Header,
    source_port: u16,
    destination_port: u16,
    kind: u8,
}

impl Quoted {
    //= RFC5508#REQ-3b, RFC5508#REQ-3c
    /// Parses what is there; the quote may end behind the first eight octets of the transport header.
    pub(super) fn parse(frame: &[u8], packet: &Packet) -> Option<Self> {
        let at = packet.l4 + icmp::HEADER;
        let bytes = frame.get(at..packet.end)?;
        let ip = ipv4::Header::parse(bytes, true)?;
        let transport = bytes.get(ip.header_length..ip.total_length.min(bytes.len()))?;
        if ip.fragment_offset() > 0 || transport.len() < 8 {
            return None;
        }
        let (source_port, destination_port) = match ip.protocol {
            ipv4::ICMP => (be16(transport, 4)?, be16(transport, 4)?),
            other if is_portless(other) => (0, 0),
            _ => (be16(transport, 0)?, be16(transport, 2)?),
        };
        let end = at + ip.header_length + transport.len();
        let kind = *transport.first()?;
        Some(Self { at, end, ip, source_port, destination_port, kind })
    }

    //= RFC5508#REQ-3a
    /// RFC 5508 REQ-3a (and 3b: options are part of the header, 3c: the inner transport checksum is not checked).
    pub(super) fn is_header_valid(&self, frame: &[u8]) -> bool {
        frame.get(self.at..self.at + self.ip.header_length).is_some_and(checksum::valid)
    }

    /// Protocol, and where the quoted packet came from.
    pub(super) fn source(&self) -> (u8, (Ipv4Addr, u16)) {
        (self.ip.protocol, (self.ip.source, self.source_port))
    }

    pub(super) fn destination_port(&self) -> u16 {
        self.destination_port
    }

    /// The flow whose local end is the given side; an error about ICMP must be about a query (a reply, seen from
    /// the other side), never about an error.
    pub(super) fn flow(&self, local: Side) -> Option<Flow> {
        let icmp = self.ip.protocol == ipv4::ICMP;
        if icmp
            && !(if local == Side::Source { icmp::is_query(self.kind) } else { icmp::is_reply(self.kind) })
        {
            return None;
        }
        let source = (self.ip.source, self.source_port);
        let destination = (self.ip.destination, self.destination_port);
        let (local, mut remote) =
            if local == Side::Source { (source, destination) } else { (destination, source) };
        if icmp {
            remote.1 = 0;
        }
        Some(Flow { protocol: self.ip.protocol, local, remote })
    }

    /// Writes one endpoint of the quoted packet with the checksums that are inside the quote.
    fn set(&self, frame: &mut [u8], side: Side, new: (Ipv4Addr, u16)) {
        let protocol = self.ip.protocol;
        if is_portless(protocol) {
            return address(frame, self.at, side, new.0);
        }
        let transport = self.at + self.ip.header_length;
        let port = transport + port_offset(protocol, side);
        let Some(old_port) = be16(frame, port) else { return };
        let field = transport + checksum_offset(protocol);
        if let Some(sum) = be16(frame, field).filter(|_| field + 2 <= self.end) {
            let mut delta = Delta::default().word(old_port, new.1);
            if protocol != ipv4::ICMP {
                delta = delta.address(address_of(&self.ip, side), new.0);
            }
            let sum = if protocol == ipv4::UDP { delta.apply_udp(sum) } else { delta.apply(sum) };
            put(frame, field, &sum.to_be_bytes());
        }
        put(frame, port, &new.1.to_be_bytes());
        address(frame, self.at, side, new.0);
    }
}

//= RFC5508#REQ-3d
/// Rewrites an ICMP error: the endpoint inside and the address outside (RFC 5508 REQ-4, REQ-5).
pub(super) fn error(
    frame: &mut [u8],
    packet: &Packet,
    vnet: &vnet::Header,
    quoted: &Quoted,
    inner: Side,
    new: (Ipv4Addr, u16),
) {
    quoted.set(frame, inner, new);
    let outer = if inner == Side::Source { Side::Destination } else { Side::Source };
    address(frame, ethernet::HEADER, outer, new.0);
    if is_partial(vnet, packet) {
        return;
    }
    let field = packet.l4 + checksum_offset(ipv4::ICMP);
    put(frame, field, &[0, 0]);
    if let Some(sum) = frame.get(packet.l4..packet.end).map(checksum::of) {
        put(frame, field, &sum.to_be_bytes());
    }
}
