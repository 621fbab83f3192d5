//! A super-frame as the segments it stands for, and checksums completed: for ports that take neither.

use pontoon_wire::checksum::{self, Sum};
use pontoon_wire::{be16, be32, ethernet, ipv4, put, vnet};

use super::flow::{FIN, PSH};

const CWR: u8 = 0x80;

/// Where the layers of a super-frame begin.
struct Layers {
    l3: usize,
    l4: usize,
    payload: usize,
    v6: bool,
    tcp: bool,
}

/// Hands every segment of a frame, with complete checksums and built in `scratch`, to `send`; a frame that needs
/// nothing done goes there as it is. False when the vnet header does not fit the frame or `scratch` is too short,
/// and then nothing was sent.
///
/// `fixed_id`: the segments' IPv4 identifications are all the same instead of counting up.
pub fn segment(
    header: vnet::Header,
    frame: &[u8],
    fixed_id: bool,
    scratch: &mut [u8],
    mut send: impl FnMut(&[u8]),
) -> bool {
    if !header.is_gso() {
        return complete(header, frame, scratch, send);
    }
    let size = usize::from(header.gso_size.get());
    let Some(layers) = layers(header, frame) else { return false };
    let Some((head, payload)) = frame.split_at_checked(layers.payload) else { return false };
    if size == 0 || payload.is_empty() || head.len() + size.min(payload.len()) > scratch.len() {
        return false;
    }
    let last = payload.len().div_ceil(size) - 1;
    for (index, piece) in payload.chunks(size).enumerate() {
        let Some(room) = scratch.get_mut(..head.len() + piece.len()) else { return false };
        let (front, back) = room.split_at_mut(head.len());
        front.copy_from_slice(head);
        back.copy_from_slice(piece);
        layers.network(room, if fixed_id { 0 } else { index as u16 });
        layers.transport(room, (index * size) as u32, index == 0, index == last);
        send(room);
    }
    true
}

fn complete(header: vnet::Header, frame: &[u8], scratch: &mut [u8], mut send: impl FnMut(&[u8])) -> bool {
    if !header.needs_checksum() {
        send(frame);
        return true;
    }
    let (start, offset) = (usize::from(header.csum_start.get()), usize::from(header.csum_offset.get()));
    let Some(room) = scratch.get_mut(..frame.len()) else { return false };
    room.copy_from_slice(frame);
    let Some(sum) = room.get(start..).map(checksum::of) else { return false };
    // No other checksum's field is 6 octets into its header.
    let sum = if offset == 6 && sum == 0 { 0xffff } else { sum };
    let done = put(room, start + offset, &sum.to_be_bytes());
    if done {
        send(room);
    }
    done
}

fn layers(header: vnet::Header, frame: &[u8]) -> Option<Layers> {
    let (mut l3, mut ethertype) = (ethernet::HEADER, ethernet::ethertype(frame)?);
    if ethertype == ethernet::VLAN {
        (l3, ethertype) = (l3 + 4, be16(frame, ethernet::HEADER + 2)?);
    }
    let ip = frame.get(l3..)?;
    let v6 = ethertype == ethernet::IPV6;
    let (length, protocol) = match (ethertype, *ip.first()?) {
        (ethernet::IPV4, first @ 0x45..=0x4f) => (usize::from(first & 0x0f) * 4, *ip.get(9)?),
        (ethernet::IPV6, 0x60..=0x6f) => (40, *ip.get(6)?),
        _ => return None,
    };
    let (l4, tcp) = (l3 + length, protocol == ipv4::TCP);
    let fits = match header.kind() {
        vnet::GSO_TCPV4 => tcp && !v6,
        vnet::GSO_TCPV6 => tcp && v6,
        vnet::GSO_UDP_L4 => protocol == ipv4::UDP,
        _ => false,
    };
    let transport = if tcp { usize::from(*frame.get(l4 + 12)? >> 4) * 4 } else { 8 };
    let payload = l4 + transport;
    (fits && transport >= 8 && (!tcp || transport >= 20) && payload <= frame.len()).then_some(Layers {
        l3,
        l4,
        payload,
        v6,
        tcp,
    })
}

impl Layers {
    fn network(&self, segment: &mut [u8], step: u16) {
        let length = segment.len();
        if self.v6 {
            put(segment, self.l3 + 4, &((length - self.l3 - 40) as u16).to_be_bytes());
            return;
        }
        let id = be16(segment, self.l3 + 4).unwrap_or_default().wrapping_add(step);
        put(segment, self.l3 + 2, &((length - self.l3) as u16).to_be_bytes());
        put(segment, self.l3 + 4, &id.to_be_bytes());
        put(segment, self.l3 + 10, &[0, 0]);
        let sum = segment.get(self.l3..self.l4).map_or(0, checksum::of);
        put(segment, self.l3 + 10, &sum.to_be_bytes());
    }

    fn transport(&self, segment: &mut [u8], ahead: u32, first: bool, last: bool) {
        let length = (segment.len() - self.l4) as u16;
        let field = self.l4 + if self.tcp { 16 } else { 6 };
        if self.tcp {
            let sequence = be32(segment, self.l4 + 4).unwrap_or_default().wrapping_add(ahead);
            put(segment, self.l4 + 4, &sequence.to_be_bytes());
            if let Some(flags) = segment.get_mut(self.l4 + 13) {
                *flags &= if last { 0xff } else { !(FIN | PSH) };
                *flags &= if first { 0xff } else { !CWR };
            }
        } else {
            put(segment, self.l4 + 4, &length.to_be_bytes());
        }
        put(segment, field, &[0, 0]);
        let addresses = if self.v6 { self.l3 + 8..self.l3 + 40 } else { self.l3 + 12..self.l3 + 20 };
        let protocol = if self.tcp { ipv4::TCP } else { ipv4::UDP };
        let sum = Sum::default()
            .bytes(segment.get(addresses).unwrap_or_default())
            .word(u16::from(protocol))
            .word(length)
            .bytes(segment.get(self.l4..).unwrap_or_default())
            .finish();
        let sum = if !self.tcp && sum == 0 { 0xffff } else { sum };
        put(segment, field, &sum.to_be_bytes());
    }
}
