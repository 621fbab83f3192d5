//! What a frame is to the coalescer. Looks at headers only; checksums are left to [`super::merge`].

use pontoon_wire::{be16, be32, ethernet, ipv4, vnet};

use crate::snapshot::PortId;

/// TCP flags (RFC 9293 3.1).
pub(super) const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const TAG: usize = 4;
/// DHCP and DHCPv6: clients read whole frames from packet sockets, where a super-frame would reach them uncut.
fn is_raw(port: u16) -> bool {
    matches!(port, 67 | 68 | 546 | 547)
}

/// Where things are in a frame that may be merged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) tcp: bool,
    pub(super) v6: bool,
    /// Offsets of the IP header, the transport header and the payload.
    pub(super) l3: u8,
    pub(super) l4: u8,
    pub(super) payload: u8,
    /// TCP's.
    pub(super) flags: u8,
    pub(super) super_frame: bool,
    /// Octets of payload.
    pub(super) length: u16,
    /// Octets of payload in every segment but the last.
    pub(super) size: u16,
    pub(super) segments: u16,
    pub(super) sequence: u32,
}

impl Shape {
    /// Whether a segment may follow in the same super-frame.
    pub(super) fn may_be_continued(&self) -> bool {
        self.flags & (PSH | FIN) == 0 && (!self.super_frame || self.length.is_multiple_of(self.size))
    }
}

pub(super) enum Class {
    /// Belongs to no flow that can be told.
    Shapeless,
    /// Belongs to a flow and is never merged.
    Lone { key: [u64; 2] },
    /// Carries payload and may be merged.
    Segment { key: [u64; 2], shape: Shape },
}

pub(super) fn classify(port: PortId, vnet: &vnet::Header, frame: &[u8]) -> Class {
    network(port, vnet, frame).unwrap_or(Class::Shapeless)
}

fn network(port: PortId, vnet: &vnet::Header, frame: &[u8]) -> Option<Class> {
    let (mut l3, mut ethertype) = (ethernet::HEADER, ethernet::ethertype(frame)?);
    if ethertype == ethernet::VLAN {
        (l3, ethertype) = (l3 + TAG, be16(frame, ethernet::HEADER + 2)?);
    }
    let bytes = frame.get(l3..)?;
    let mut shape = Shape { l3: l3 as u8, ..Shape::default() };
    let (addresses, protocol, exact) = match ethertype {
        ethernet::IPV4 => v4(&mut shape, bytes)?,
        ethernet::IPV6 => v6(&mut shape, bytes)?,
        _ => return None,
    };
    let l4 = frame.get(usize::from(shape.l4)..)?;
    let ports = be32(l4, 0)?;
    shape.tcp = match protocol {
        ipv4::TCP => true,
        ipv4::UDP => false,
        _ => return None,
    };
    let tail = u64::from(port) << 16 | u64::from(shape.v6) << 8 | u64::from(protocol);
    let key = [addresses, u64::from(ports) << 32 | tail];
    let mergeable = exact && frame.first().is_some_and(|octet| octet & 1 == 0);
    let mergeable = mergeable && if shape.tcp { tcp(&mut shape, l4) } else { udp(&mut shape, l4) };
    Some(match mergeable && offload(&mut shape, vnet) {
        true => Class::Segment { key, shape },
        false => Class::Lone { key },
    })
}

/// Addresses, protocol, and whether the packet ends where the frame does.
fn v4(shape: &mut Shape, bytes: &[u8]) -> Option<(u64, u8, bool)> {
    let ip = bytes.first_chunk::<V4_HEADER>()?;
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & (ipv4::MORE_FRAGMENTS | 0x1fff) != 0;
    if ip[0] != 0x45 || fragment {
        return None;
    }
    shape.l4 = shape.l3 + V4_HEADER as u8;
    let addresses = u64::from_be_bytes([ip[12], ip[13], ip[14], ip[15], ip[16], ip[17], ip[18], ip[19]]);
    Some((addresses, ip[9], usize::from(u16::from_be_bytes([ip[2], ip[3]])) == bytes.len()))
}

/// The addresses are folded: different ones may look alike here and are told apart when they would be merged.
fn v6(shape: &mut Shape, bytes: &[u8]) -> Option<(u64, u8, bool)> {
    let ip = bytes.first_chunk::<V6_HEADER>()?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    shape.v6 = true;
    shape.l4 = shape.l3 + V6_HEADER as u8;
    let (words, _) = ip.as_chunks::<8>();
    let fold = |sum: u64, word: &[u8; 8]| sum.rotate_left(13) ^ u64::from_be_bytes(*word);
    let addresses = words.iter().skip(1).fold(0, fold);
    Some((addresses, ip[6], usize::from(u16::from_be_bytes([ip[4], ip[5]])) + V6_HEADER == bytes.len()))
}

fn tcp(shape: &mut Shape, l4: &[u8]) -> bool {
    let Some(header) = l4.first_chunk::<20>() else { return false };
    let offset = usize::from(header[12] >> 4) * 4;
    if offset < 20 || offset >= l4.len() {
        return false;
    }
    shape.payload = shape.l4 + offset as u8;
    shape.flags = header[13];
    shape.sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    shape.length = (l4.len() - offset) as u16;
    header[13] & (SYN | RST | URG | CWR) == 0
}

fn udp(shape: &mut Shape, l4: &[u8]) -> bool {
    let Some(header) = l4.first_chunk::<UDP_HEADER>() else { return false };
    shape.payload = shape.l4 + UDP_HEADER as u8;
    shape.length = (l4.len() - UDP_HEADER) as u16;
    let port = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    usize::from(u16::from_be_bytes([header[4], header[5]])) == l4.len()
        && shape.length > 0
        && !is_raw(port(header[0], header[1]))
        && !is_raw(port(header[2], header[3]))
        && header[6..] != [0, 0]
}

/// What the vnet header says of segments. One that does not fit the frame is left alone.
fn offload(shape: &mut Shape, vnet: &vnet::Header) -> bool {
    if !vnet.is_gso() {
        (shape.size, shape.segments) = (shape.length, 1);
        return true;
    }
    let kind = match (shape.tcp, shape.v6) {
        (true, false) => vnet::GSO_TCPV4,
        (true, true) => vnet::GSO_TCPV6,
        (false, _) => vnet::GSO_UDP_L4,
    };
    (shape.size, shape.super_frame) = (vnet.gso_size.get(), true);
    if vnet.gso_type != kind || shape.size == 0 || shape.length <= shape.size {
        return false;
    }
    shape.segments = shape.length.div_ceil(shape.size);
    true
}
