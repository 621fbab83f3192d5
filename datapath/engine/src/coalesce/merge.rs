//! When a frame continues another (the rules of the kernel's `tcp_gro_receive`, `udp_gro_receive_segment` and
//! `inet_gro_receive`, made strict where those change octets), and the headers of what comes of it.

use core::net::Ipv4Addr;

use pontoon_wire::checksum::{self, Sum};
use pontoon_wire::{ethernet, ipv4, put, vnet};

use super::flow::{FIN, PSH, Shape};
use super::{MAX_SEGMENTS, Waiting};

const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// How IPv4 identifications go on from segment to segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steps {
    Unknown,
    /// All the same; only with don't-fragment set.
    Fixed,
    Counting,
}

/// Whether `frame` continues `head`, whose first frame is `bytes`; if so, `head` counts it in.
pub(super) fn joins(
    head: &mut Waiting,
    bytes: &[u8],
    vnet: &vnet::Header,
    shape: &Shape,
    frame: &[u8],
) -> bool {
    let Some(steps) = steps(head, bytes, shape, frame) else { return false };
    let alike = fits(head, shape) && same_headers(head, bytes, shape, frame);
    if !alike || !sound(vnet, shape, frame) {
        return false;
    }
    if !head.verified && !sound(&head.vnet, &head.shape, bytes) {
        return false;
    }
    head.verified = true;
    head.steps = steps;
    head.frames += 1;
    head.segments += shape.segments;
    head.length += u32::from(shape.length);
    head.next_sequence = head.next_sequence.wrapping_add(u32::from(shape.length));
    head.tail |= shape.flags & (PSH | FIN);
    head.open =
        head.tail == 0 && shape.length.is_multiple_of(head.shape.size) && head.segments < MAX_SEGMENTS;
    true
}

/// Sizes: all segments alike but a shorter last, and no more than an IP packet holds.
fn fits(head: &Waiting, shape: &Shape) -> bool {
    let size =
        if shape.super_frame { shape.size == head.shape.size } else { shape.length <= head.shape.size };
    let length = head.length as usize + usize::from(shape.length) - usize::from(shape.l3);
    size && length <= usize::from(u16::MAX)
        && head.segments.saturating_add(shape.segments) <= MAX_SEGMENTS
        && (!shape.tcp || head.next_sequence == shape.sequence)
}

/// The identification rule; IPv6 has none.
fn steps(head: &Waiting, bytes: &[u8], shape: &Shape, frame: &[u8]) -> Option<Steps> {
    if shape.v6 {
        return Some(Steps::Counting);
    }
    let at = usize::from(shape.l3) + 4;
    let [old_high, old_low, flags] = *bytes.get(at..)?.first_chunk()?;
    let [high, low] = *frame.get(at..)?.first_chunk()?;
    let ahead = u16::from_be_bytes([high, low]).wrapping_sub(u16::from_be_bytes([old_high, old_low]));
    let counts = ahead == head.segments;
    match head.steps {
        Steps::Unknown if counts => Some(Steps::Counting),
        Steps::Unknown | Steps::Fixed if ahead == 0 && !shape.super_frame && flags & 0x40 != 0 => {
            Some(Steps::Fixed)
        }
        Steps::Counting if counts => Some(Steps::Counting),
        _ => None,
    }
}

/// Everything but lengths, identification, sequence, PSH, FIN and checksums is the same, octet for octet. Ports are
/// in the key that brought the two together, and so are IPv4's addresses.
fn same_headers(head: &Waiting, bytes: &[u8], shape: &Shape, frame: &[u8]) -> bool {
    if head.shape.l3 != shape.l3 || head.shape.payload != shape.payload {
        return false;
    }
    let (l3, l4) = (usize::from(shape.l3), usize::from(shape.l4));
    let network = match (bytes.first_chunk(), frame.first_chunk()) {
        (Some(one), Some(two)) if !shape.v6 && l3 == ethernet::HEADER => same_plain(one, two),
        _ => {
            let same = |from: usize, to: usize| bytes.get(from..to) == frame.get(from..to);
            let until = if shape.v6 { l3 + 4 } else { l3 + 2 };
            same(0, until) && same(l3 + 6, l3 + 10) && (!shape.v6 || same(l3 + 10, l4))
        }
    };
    network && (!shape.tcp || same_tcp(head, bytes, shape, frame))
}

/// Ethernet and IPv4 without tag and options: addresses, type, version, TOS; don't-fragment, TTL and protocol.
fn same_plain(one: &[u8; 24], two: &[u8; 24]) -> bool {
    let word = |bytes: &[u8; 24], at: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    // 16..24 begins with the length and the identification, which may differ.
    word(one, 0) == word(two, 0) && word(one, 8) == word(two, 8) && one[20..] == two[20..]
}

/// Acknowledgement, offset, flags, window, urgent pointer and options.
fn same_tcp(head: &Waiting, bytes: &[u8], shape: &Shape, frame: &[u8]) -> bool {
    let (l4, end) = (usize::from(shape.l4), usize::from(shape.payload));
    let (Some(one), Some(two)) = (bytes.get(l4..end), frame.get(l4..end)) else { return false };
    let (Some((one, options)), Some((two, others))) =
        (one.split_first_chunk::<20>(), two.split_first_chunk::<20>())
    else {
        return false;
    };
    let flags = (head.shape.flags ^ shape.flags) & !(PSH | FIN) == 0;
    flags
        && one[8..12] == two[8..12]
        && one[12] == two[12]
        && one[14..16] == two[14..16]
        && one[18..20] == two[18..20]
        && options == others
}

/// Checksums are right, or left to complete and begun right.
fn sound(vnet: &vnet::Header, shape: &Shape, frame: &[u8]) -> bool {
    let (l3, l4) = (usize::from(shape.l3), usize::from(shape.l4));
    let (Some(ip), Some(segment)) = (frame.get(l3..l4), frame.get(l4..)) else { return false };
    // A sum of 0xffff would verify too, but nobody who computes it writes that.
    if !shape.v6 && (!checksum::valid(ip) || ip.get(10..12) == Some(&[0xff, 0xff])) {
        return false;
    }
    let offset = if shape.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let Some(field) = segment.get(offset..).and_then(|field| field.first_chunk::<2>()) else { return false };
    let field = u16::from_be_bytes(*field);
    let pseudo = pseudo(shape, ip, segment.len());
    if vnet.needs_checksum() {
        return usize::from(vnet.csum_start.get()) == l4
            && usize::from(vnet.csum_offset.get()) == offset
            && field == pseudo.fold();
    }
    if vnet.flags & vnet::DATA_VALID != 0 {
        return true;
    }
    pseudo.bytes(segment).fold() == 0xffff && !(shape.tcp && field == 0xffff)
}

/// Sum of the pseudo header for `length` octets of transport header and payload.
fn pseudo(shape: &Shape, ip: &[u8], length: usize) -> Sum {
    let protocol = if shape.tcp { ipv4::TCP } else { ipv4::UDP };
    let sum = Sum::default().word(u16::from(protocol)).word(length as u16);
    match ip.get(12..20).and_then(|addresses| addresses.first_chunk::<8>()) {
        Some(&[a, b, c, d, e, f, g, h]) if !shape.v6 => {
            sum.address(Ipv4Addr::new(a, b, c, d)).address(Ipv4Addr::new(e, f, g, h))
        }
        _ => sum.bytes(ip.get(8..40).unwrap_or_default()),
    }
}

/// Makes the headers of the first frame those of the whole, and says what the vnet header has to.
pub(super) fn finish(waiting: &Waiting, head: &mut [u8]) -> vnet::Header {
    let shape = &waiting.shape;
    let (l3, l4) = (usize::from(shape.l3), usize::from(shape.l4));
    let whole = waiting.length as usize;
    finish_network(shape, head, whole);
    let offset = if shape.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let sum = head.get(l3..l4).map_or(0, |ip| pseudo(shape, ip, whole - l4).fold());
    put(head, l4 + offset, &sum.to_be_bytes());
    if !shape.tcp {
        put(head, l4 + 4, &((whole - l4) as u16).to_be_bytes());
    } else if let Some(flags) = head.get_mut(l4 + 13) {
        *flags |= waiting.tail;
    }
    let kind = match (shape.tcp, shape.v6) {
        (true, false) => vnet::GSO_TCPV4,
        (true, true) => vnet::GSO_TCPV6,
        (false, _) => vnet::GSO_UDP_L4,
    };
    vnet::Header {
        flags: vnet::NEEDS_CSUM,
        gso_type: kind,
        header_length: u16::from(shape.payload).into(),
        gso_size: shape.size.into(),
        csum_start: u16::from(shape.l4).into(),
        csum_offset: (offset as u16).into(),
        buffers: 0.into(),
    }
}

fn finish_network(shape: &Shape, head: &mut [u8], whole: usize) {
    let (l3, l4) = (usize::from(shape.l3), usize::from(shape.l4));
    if shape.v6 {
        put(head, l3 + 4, &((whole - l4) as u16).to_be_bytes());
        return;
    }
    put(head, l3 + 2, &((whole - l3) as u16).to_be_bytes());
    put(head, l3 + 10, &[0, 0]);
    let sum = head.get(l3..l4).map_or(0, checksum::of);
    put(head, l3 + 10, &sum.to_be_bytes());
}
