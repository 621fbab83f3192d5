//! The packets that nearly all traffic consists of, in one look: whole IPv4 packets without options, TCP or UDP,
//! behind an untagged Ethernet header. Everything else is for [`Packet`](crate::frame::Packet).
//!
//! Addresses and ports are integers with their octets in the order they were sent: they are compared, hashed and
//! summed only, and none of that asks for an order (RFC 1071 section 2 (B)).

use core::net::Ipv4Addr;

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_ref};

use crate::checksum::{self, fold};
use crate::{ethernet, ipv4, vnet};

/// Version 4 and a header of five words.
const PLAIN: u8 = 0x45;
/// Where the transport header begins in the frame.
const TRANSPORT: u16 = (ethernet::HEADER + ipv4::HEADER) as u16;
/// Set in what is part of a datagram.
const FRAGMENT: u16 = ipv4::MORE_FRAGMENTS | 0x1fff;
/// One less time to live, in the word of the header that holds it.
const TTL_STEP: u16 = u16::from_ne_bytes([1, 0]);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ip {
    version: u8,
    service: u8,
    length: U16,
    id: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    addresses: [u8; 8],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Udp {
    ports: [u8; 4],
    length: U16,
    checksum: [u8; 2],
}

/// The fixed part of a TCP header (RFC 9293 3.1).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tcp {
    ports: [u8; 4],
    pub sequence: U32,
    pub acknowledgement: U32,
    offset: u8,
    pub flags: u8,
    pub window: U16,
    checksum: [u8; 2],
    urgent: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Frame<T> {
    macs: [u8; 12],
    ethertype: U16,
    ip: Ip,
    transport: T,
}

/// An IPv4 address as an integer with its octets in the order they are sent.
pub type Raw = u32;

/// An address in the order it is sent.
#[must_use]
#[inline]
pub fn raw(address: Ipv4Addr) -> Raw {
    Raw::from_ne_bytes(address.octets())
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Source and destination.
    pub addresses: u64,
    /// Source and destination.
    pub ports: u32,
    pub protocol: u8,
    /// Octets of the IP packet.
    pub length: u16,
}

impl Brief {
    /// `None` for every packet that needs a longer look, unsound ones and those at the end of their time to live
    /// included.
    #[must_use]
    #[inline(always)]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (head, _) = Frame::<Udp>::ref_from_prefix(frame).ok()?;
        let (ip, length) = (&head.ip, head.ip.length.get());
        if head.ethertype.get() != ethernet::IPV4
            || ip.version != PLAIN
            || ip.fragment.get() & FRAGMENT != 0
            || ip.ttl <= 1
            || usize::from(length) + ethernet::HEADER > frame.len()
            || !checksum::is_header_valid(transmute_ref!(ip))
        {
            return None;
        }
        let payload = length.checked_sub(ipv4::HEADER as u16)?;
        let whole = match ip.protocol {
            ipv4::UDP => head.transport.length.get() >= 8 && head.transport.length.get() <= payload,
            ipv4::TCP => payload >= size_of::<Tcp>() as u16,
            _ => false,
        };
        whole.then_some(Self {
            addresses: u64::from_ne_bytes(ip.addresses),
            ports: u32::from_ne_bytes(head.transport.ports),
            protocol: ip.protocol,
            length,
        })
    }

    /// The header of a TCP segment and the octets behind it; `None` when it is not sound.
    #[must_use]
    #[inline(always)]
    pub fn tcp<'a>(&self, frame: &'a [u8]) -> Option<(&'a Tcp, u32)> {
        let (head, _) = Frame::<Tcp>::ref_from_prefix(frame).ok()?;
        let header = u32::from(head.transport.offset >> 4) * 4;
        let payload = (u32::from(self.length) - ipv4::HEADER as u32).checked_sub(header)?;
        (header >= size_of::<Tcp>() as u32).then_some((&head.transport, payload))
    }

    #[must_use]
    #[inline]
    pub fn source(&self) -> Raw {
        halves(self.addresses).0
    }

    #[must_use]
    #[inline]
    pub fn destination(&self) -> Raw {
        halves(self.addresses).1
    }

    /// Octets of the IP packet, or of every one a super-frame is cut into.
    #[must_use]
    #[inline(always)]
    pub fn segment(&self, vnet: &vnet::Header, frame: &[u8]) -> u32 {
        if vnet.is_gso() { self.gso_segment(vnet, frame) } else { u32::from(self.length) }
    }

    fn gso_segment(&self, vnet: &vnet::Header, frame: &[u8]) -> u32 {
        let header = match (vnet.kind(), Frame::<Tcp>::ref_from_prefix(frame)) {
            (vnet::GSO_UDP_L4, _) => size_of::<Udp>() as u32,
            (_, Ok((head, _))) => u32::from(head.transport.offset >> 4) * 4,
            _ => size_of::<Tcp>() as u32,
        };
        ipv4::HEADER as u32 + header + u32::from(vnet.gso_size.get())
    }

    /// Replaces the source, lowers the time to live and mends the header's checksum in one go. The transport's is
    /// to be mended by what comes back.
    #[inline(always)]
    pub fn set_source(&self, frame: &mut [u8], address: Raw, port: [u8; 2]) -> Change {
        let [a, b, _, _] = self.ports.to_ne_bytes();
        let change = Change::new((self.source(), [a, b]), (address, port));
        if let Ok((head, _)) = Frame::<Udp>::mut_from_prefix(frame) {
            head.ip.addresses[..4].copy_from_slice(&address.to_ne_bytes());
            head.transport.ports[..2].copy_from_slice(&port);
            head.ip.pass(&change);
        }
        change
    }

    /// The same with the destination.
    #[inline(always)]
    pub fn set_destination(&self, frame: &mut [u8], address: Raw, port: [u8; 2]) -> Change {
        let [_, _, a, b] = self.ports.to_ne_bytes();
        let change = Change::new((self.destination(), [a, b]), (address, port));
        if let Ok((head, _)) = Frame::<Udp>::mut_from_prefix(frame) {
            head.ip.addresses[4..].copy_from_slice(&address.to_ne_bytes());
            head.transport.ports[2..].copy_from_slice(&port);
            head.ip.pass(&change);
        }
        change
    }
}

impl Ip {
    #[inline(always)]
    fn pass(&mut self, change: &Change) {
        // Parsing has seen more than one.
        self.ttl = self.ttl.wrapping_sub(1);
        let sum = u16::from_ne_bytes(self.checksum);
        self.checksum = mended(sum, change.addresses + u64::from(!TTL_STEP)).to_ne_bytes();
    }
}

/// Source and destination.
#[inline]
fn halves(addresses: u64) -> (Raw, Raw) {
    let (first, second) = (addresses as u32, (addresses >> 32) as u32);
    if cfg!(target_endian = "little") { (first, second) } else { (second, first) }
}

/// What was taken from the words of an endpoint and added to them: far from overflow.
#[derive(Clone, Copy)]
pub struct Change {
    addresses: u64,
    ports: u64,
}

impl Change {
    #[inline(always)]
    fn new(old: (Raw, [u8; 2]), new: (Raw, [u8; 2])) -> Self {
        Self {
            addresses: u64::from(!old.0) + u64::from(new.0),
            ports: u64::from(!u16::from_ne_bytes(old.1)) + u64::from(u16::from_ne_bytes(new.1)),
        }
    }

    /// Mends the checksum of a TCP segment. `vnet`: it may be for somebody behind us to complete.
    #[inline(always)]
    pub fn mend_tcp(&self, frame: &mut [u8], vnet: &vnet::Header) {
        let Ok((head, _)) = Frame::<Tcp>::mut_from_prefix(frame) else { return };
        let sum = u16::from_ne_bytes(head.transport.checksum);
        head.transport.checksum =
            if is_partial(vnet, 16) { self.partial(sum) } else { self.complete(sum) }.to_ne_bytes();
    }

    /// The same for a UDP datagram: zero means "none" and stays, and a computed zero is sent as 0xffff (RFC 768).
    #[inline(always)]
    pub fn mend_udp(&self, frame: &mut [u8], vnet: &vnet::Header) {
        let Ok((head, _)) = Frame::<Udp>::mut_from_prefix(frame) else { return };
        let sum = u16::from_ne_bytes(head.transport.checksum);
        let new = if is_partial(vnet, 6) {
            self.partial(sum)
        } else {
            match (sum, self.complete(sum)) {
                (0, _) => 0,
                (_, 0) => 0xffff,
                (_, sum) => sum,
            }
        };
        head.transport.checksum = new.to_ne_bytes();
    }

    #[inline(always)]
    fn complete(&self, sum: u16) -> u16 {
        mended(sum, self.addresses + self.ports)
    }

    /// The sum of the pseudo header has no ports and is not complemented.
    #[cold]
    #[inline(never)]
    fn partial(&self, sum: u16) -> u16 {
        fold(u64::from(sum) + self.addresses)
    }
}

/// The transport checksum at `field` is yet to be completed by somebody behind us.
#[inline(always)]
fn is_partial(vnet: &vnet::Header, field: u16) -> bool {
    vnet.needs_checksum() && vnet.csum_start.get() == TRANSPORT && vnet.csum_offset.get() == field
}

/// A complete checksum after a change (RFC 1624 equation 3).
#[inline(always)]
fn mended(sum: u16, change: u64) -> u16 {
    !fold(u64::from(!sum) + change)
}
