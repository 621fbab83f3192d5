//! What the gateway says for itself: ARP, ICMP echo, ICMP errors, and cutting packets to a smaller MTU.
//!
//! Pure functions over one frame and a scratch buffer; the only state is the error budget.

use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{Mac, arp, be16, checksum, ethernet, icmp, ipv4, put, vnet};

use crate::snapshot::Subnet;
use crate::time::Time;

#[cfg(test)]
mod tests;

/// ICMP errors a second one worker sends at most (RFC 1812 4.3.2.8), and how many it may save up.
const ERRORS_PER_SECOND: u64 = 200;
const ERROR_BURST: u64 = 50;

/// Token bucket for ICMP errors.
#[derive(Debug)]
pub struct ErrorBudget {
    tokens: u64,
    last: Time,
}

impl Default for ErrorBudget {
    fn default() -> Self {
        Self { tokens: ERROR_BURST, last: Time::default() }
    }
}

impl ErrorBudget {
    /// Takes one token; false when none is left.
    pub fn take(&mut self, now: Time) -> bool {
        let interval = Time::SECOND / ERRORS_PER_SECOND;
        let earned = now.0.saturating_sub(self.last.0) / interval;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(ERROR_BURST);
            self.last = Time(self.last.0.saturating_add(earned.saturating_mul(interval)));
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// Writes the reply to an ARP request for `ip`, which has `mac`; its length.
pub fn arp_reply(request: &arp::Packet, ip: Ipv4Addr, mac: Mac, out: &mut [u8]) -> Option<usize> {
    if request.operation != arp::REQUEST || request.target_ip != ip {
        return None;
    }
    let reply = arp::Packet {
        operation: arp::REPLY,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    reply.emit(out, request.sender_mac)
}

/// Turns an unfragmented echo request into its reply, in place; false when its checksum is wrong.
pub fn echo_reply(frame: &mut [u8], packet: &Packet, partial: bool) -> bool {
    if !partial && !frame.get(packet.l4..packet.end).is_some_and(checksum::valid) {
        return false;
    }
    swap_macs(frame);
    let (source, destination) = (packet.source(), packet.destination());
    let Some(ip) = frame.get_mut(ethernet::HEADER..packet.end) else { return false };
    ipv4::set_source(ip, destination);
    ipv4::set_destination(ip, source);
    put(ip, 8, &[64]);
    put(ip, 10, &[0, 0]);
    if let Some(sum) = ip.get(..packet.ip.header_length).map(checksum::of) {
        put(ip, 10, &sum.to_be_bytes());
    }
    let Some(message) = frame.get_mut(packet.l4..packet.end) else { return false };
    put(message, 0, &[icmp::ECHO_REPLY]);
    put(message, 2, &[0, 0]);
    let sum = checksum::of(message);
    put(message, 2, &sum.to_be_bytes())
}

fn swap_macs(frame: &mut [u8]) {
    if let (Some(destination), Some(source)) = (ethernet::destination(frame), ethernet::source(frame)) {
        put(frame, 0, &source);
        put(frame, 6, &destination);
    }
}

//= RFC5508#REQ-10
/// May an ICMP error be sent about this packet (RFC 1122 3.2.2)?
#[must_use]
pub fn may_answer(packet: &Packet, subnet: Option<Subnet>) -> bool {
    let error = packet.ip.protocol == ipv4::ICMP && icmp::is_error(packet.flags);
    let source = packet.source();
    let unicast = !source.is_unspecified() && !source.is_multicast() && !source.is_broadcast();
    unicast && !error && packet.ip.fragment_offset() == 0 && is_unicast(packet.destination(), subnet)
}

/// Not multicast, broadcast, loopback, reserved or "this network" (RFC 1812 5.3.7).
#[must_use]
pub fn is_unicast(ip: Ipv4Addr, subnet: Option<Subnet>) -> bool {
    let first = ip.octets()[0];
    first != 0
        && first != 127
        && first < 224
        && subnet.is_none_or(|s| ip != s.broadcast() && ip != s.network())
}

//= RFC1191#3
/// Is the packet, or a segment of the super-frame, longer than `mtu` octets of IP?
#[must_use]
pub fn exceeds(frame: &[u8], packet: &Packet, vnet: &vnet::Header, mtu: u16) -> bool {
    let ip_length = if vnet.is_gso() {
        let header = match vnet.kind() {
            vnet::GSO_UDP_L4 => 8,
            _ => frame.get(packet.l4 + 12).map_or(20, |b| usize::from(b >> 4) * 4),
        };
        packet.ip.header_length + header + usize::from(vnet.gso_size.get())
    } else {
        packet.ip.total_length
    };
    ip_length > usize::from(mtu)
}

/// Completes a checksum the sender left to us; the frame needs none afterwards.
pub fn complete_checksum(vnet: &mut vnet::Header, frame: &mut [u8], end: usize) {
    if !vnet.needs_checksum() {
        return;
    }
    let (start, offset) = (usize::from(vnet.csum_start.get()), usize::from(vnet.csum_offset.get()));
    if let Some(bytes) = frame.get_mut(start..end) {
        let sum = match checksum::of(bytes) {
            0 => 0xffff,
            sum => sum,
        };
        put(bytes, offset, &sum.to_be_bytes());
    }
    *vnet = vnet::Header::default();
}

/// Cuts the IPv4 packet of `frame` into fragments of at most `mtu` octets (RFC 791 3.2) and gives each, as a whole
/// frame built in `scratch`, to `send`. Checksums must be complete. False when the packet cannot be cut.
pub fn fragment(
    frame: &[u8],
    packet: &Packet,
    mtu: u16,
    scratch: &mut [u8],
    send: &mut dyn FnMut(&[u8]),
) -> bool {
    let head = packet.l4;
    let room = usize::from(mtu).saturating_sub(packet.ip.header_length) & !7;
    let Some(payload) = frame.get(head..packet.end) else { return false };
    let Some(header) = frame.get(..head) else { return false };
    if room == 0 || scratch.len() < head + room {
        return false;
    }
    let count = payload.len().div_ceil(room);
    for (index, part) in payload.chunks(room).enumerate() {
        let Some(out) = scratch.get_mut(..head + part.len()) else { return false };
        put(out, 0, header);
        put(out, head, part);
        let more = index + 1 < count || packet.ip.fragment & ipv4::MORE_FRAGMENTS != 0;
        let Some(ip) = out.get_mut(ethernet::HEADER..head) else { return false };
        fragment_header(ip, packet.ip.fragment_offset() + index * room, more, part.len());
        send(out);
    }
    true
}

fn fragment_header(ip: &mut [u8], offset: usize, more: bool, payload: usize) {
    let flags = u16::try_from(offset / 8).unwrap_or(0x1fff) | if more { ipv4::MORE_FRAGMENTS } else { 0 };
    let total = u16::try_from(ip.len() + payload).unwrap_or(u16::MAX);
    put(ip, 2, &total.to_be_bytes());
    put(ip, 6, &flags.to_be_bytes());
    put(ip, 10, &[0, 0]);
    let sum = checksum::of(ip);
    put(ip, 10, &sum.to_be_bytes());
}

/// True when the header checksum of the packet at the start of `packet` is right.
#[must_use]
pub fn header_checksum_valid(frame: &[u8], packet: &Packet) -> bool {
    frame.get(ethernet::HEADER..ethernet::HEADER + packet.ip.header_length).is_some_and(checksum::valid)
}

/// The UDP payload of a frame; the UDP length bounds it.
#[must_use]
pub fn udp_payload<'a>(frame: &'a [u8], packet: &Packet) -> Option<&'a [u8]> {
    let length = usize::from(be16(frame, packet.l4 + 4)?);
    frame.get(packet.l4 + 8..packet.l4.checked_add(length)?.min(packet.end))
}

/// A UDP datagram from the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    pub macs: (Mac, Mac),
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
}

/// Octets before the payload of a [`Datagram`].
pub const UDP_HEADERS: usize = ethernet::HEADER + ipv4::HEADER + 8;

impl Datagram {
    /// Writes the headers around a payload that already stands at [`UDP_HEADERS`]; the frame's length.
    pub fn seal(&self, frame: &mut [u8], payload: usize) -> Option<usize> {
        let end = UDP_HEADERS + payload;
        let frame = frame.get_mut(..end)?;
        ethernet::emit(frame, self.macs.1, self.macs.0, ethernet::IPV4);
        let length = u16::try_from(8 + payload).ok()?;
        let ip = frame.get_mut(ethernet::HEADER..)?;
        ipv4::emit(ip, self.source.0, self.destination.0, ipv4::UDP, usize::from(length), 0, false);
        let udp = ip.get_mut(ipv4::HEADER..)?;
        put(udp, 0, &self.source.1.to_be_bytes());
        put(udp, 2, &self.destination.1.to_be_bytes());
        put(udp, 4, &length.to_be_bytes());
        put(udp, 6, &[0, 0]);
        let sum = checksum::Sum::default()
            .pseudo(self.source.0, self.destination.0, ipv4::UDP, length)
            .bytes(udp)
            .finish();
        put(udp, 6, &(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
        Some(end)
    }
}
