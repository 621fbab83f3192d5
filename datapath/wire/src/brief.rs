//! The packets that nearly all traffic consists of, in one look: whole IPv4 packets without options, TCP or UDP,
//! behind an untagged Ethernet header. Everything else is for [`Packet`](crate::frame::Packet).
//!
//! Addresses and ports are integers whose lowest octet was sent first, as most machines load them: they are compared,
//! hashed and summed only, and none of that asks for an order (RFC 1071 section 2 (B)).

use core::net::Ipv4Addr;

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_ref};

use crate::checksum::{self, fold};
use crate::{ethernet, ipv4, vnet};

/// Version 4 and a header of five words.
const PLAIN: u8 = 0x45;
/// Where the transport header begins in the frame.
const TRANSPORT: u16 = (ethernet::HEADER + ipv4::HEADER) as u16;
/// Octets of the shortest headers.
const IP: u32 = ipv4::HEADER as u32;
const UDP: u32 = size_of::<Udp>() as u32;
const TCP: u32 = size_of::<Tcp>() as u32;
/// The offset of data behind the shortest TCP header, as the header has it.
const SHORTEST: u8 = (TCP as u8 / 4) << 4;
/// Octets of all headers looked at.
pub const LONGEST_HEAD: usize = size_of::<Frame<Tcp>>();
/// Set in what is part of a datagram.
const FRAGMENT: u16 = ipv4::MORE_FRAGMENTS | 0x1fff;
/// One less time to live, in the word of the header that holds it.
const TTL_STEP: u16 = u16::from_le_bytes([1, 0]);

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

/// An IPv4 address as an integer whose lowest octet is the first.
pub type Raw = u32;

#[must_use]
#[inline]
pub fn raw(address: Ipv4Addr) -> Raw {
    Raw::from_le_bytes(address.octets())
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Source in the lower half, destination in the upper.
    pub addresses: u64,
    /// Likewise.
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
        let length_in_header = u32::from(head.transport.length.get());
        let whole = match ip.protocol {
            ipv4::UDP => length_in_header >= UDP && IP + length_in_header <= u32::from(length),
            // The header says how long it is, see [`Self::tcp`].
            ipv4::TCP => true,
            _ => false,
        };
        if !whole {
            return None;
        }
        Some(Self {
            addresses: u64::from_le_bytes(ip.addresses),
            ports: u32::from_le_bytes(head.transport.ports),
            protocol: ip.protocol,
            length,
        })
    }

    /// The header of a TCP segment; `None` when it is not sound.
    #[must_use]
    #[inline(always)]
    pub fn tcp<'a>(&self, frame: &'a [u8]) -> Option<&'a Tcp> {
        let (head, _) = Frame::<Tcp>::ref_from_prefix(frame).ok()?;
        let offset = head.transport.offset;
        let sound = offset >= SHORTEST && IP + u32::from(offset >> 4) * 4 <= u32::from(self.length);
        sound.then_some(&head.transport)
    }

    /// The transport's header and what it carries.
    #[must_use]
    pub fn transport<'a>(&self, frame: &'a [u8]) -> Option<&'a [u8]> {
        frame.get(usize::from(TRANSPORT)..ethernet::HEADER + usize::from(self.length))
    }

    #[must_use]
    #[inline]
    pub fn source_port(&self) -> u16 {
        (self.ports as u16).swap_bytes()
    }

    #[must_use]
    #[inline]
    pub fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }

    #[must_use]
    #[inline]
    pub fn source(&self) -> Raw {
        self.addresses as Raw
    }

    #[must_use]
    #[inline]
    pub fn destination(&self) -> Raw {
        (self.addresses >> 32) as Raw
    }

    /// Octets of the IP packet, or of every one a super-frame is cut into.
    #[must_use]
    #[inline(always)]
    pub fn segment(&self, offload: Option<&vnet::Header>, frame: &[u8]) -> u32 {
        match offload {
            None => u32::from(self.length),
            Some(vnet) => segment(self.length, vnet, frame),
        }
    }

    /// Replaces the source, lowers the time to live and mends both checksums in one go. `change` is of the endpoint;
    /// `offload`: the transport's checksum may be for somebody behind us to complete.
    #[inline(always)]
    pub fn set_source(
        &self,
        frame: &mut [u8],
        (address, port): (Raw, [u8; 2]),
        change: Change,
        offload: Option<&vnet::Header>,
    ) {
        let Ok((head, _)) = Frame::<Udp>::mut_from_prefix(frame) else { return };
        head.ip.addresses[..4].copy_from_slice(&address.to_le_bytes());
        head.transport.ports[..2].copy_from_slice(&port);
        self.mend(frame, change, offload);
    }

    /// The same with the destination.
    #[inline(always)]
    pub fn set_destination(
        &self,
        frame: &mut [u8],
        (address, port): (Raw, [u8; 2]),
        change: Change,
        offload: Option<&vnet::Header>,
    ) {
        let Ok((head, _)) = Frame::<Udp>::mut_from_prefix(frame) else { return };
        head.ip.addresses[4..].copy_from_slice(&address.to_le_bytes());
        head.transport.ports[2..].copy_from_slice(&port);
        self.mend(frame, change, offload);
    }

    #[inline(always)]
    fn mend(&self, frame: &mut [u8], change: Change, offload: Option<&vnet::Header>) {
        let Ok((head, _)) = Frame::<Udp>::mut_from_prefix(frame) else { return };
        // Parsing has seen more than one.
        head.ip.ttl = head.ip.ttl.wrapping_sub(1);
        mend(&mut head.ip.checksum, change.header);
        if self.protocol == ipv4::UDP {
            let sum = &mut head.transport.checksum;
            match offload {
                Some(vnet) if is_partial(vnet, 6) => change.mend_partial(sum),
                _ => change.mend_udp(sum),
            }
        } else if let Ok((head, _)) = Frame::<Tcp>::mut_from_prefix(frame) {
            let sum = &mut head.transport.checksum;
            match offload {
                Some(vnet) if is_partial(vnet, 16) => change.mend_partial(sum),
                _ => mend(sum, change.transport),
            }
        }
    }
}

#[cold]
#[inline(never)]
fn segment(length: u16, vnet: &vnet::Header, frame: &[u8]) -> u32 {
    let header = match (vnet.kind(), Frame::<Tcp>::ref_from_prefix(frame)) {
        (vnet::GSO_NONE, _) => return u32::from(length),
        (vnet::GSO_UDP_L4, _) => UDP,
        (_, Ok((head, _))) => u32::from(head.transport.offset >> 4) * 4,
        _ => TCP,
    };
    IP + header + u32::from(vnet.gso_size.get())
}

/// What it does to one's complement sums that one endpoint is replaced by another and the time to live is lowered:
/// to the sum of the IP header, and to that of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub header: u16,
    pub transport: u16,
}

impl Change {
    #[must_use]
    pub fn new(old: (Raw, [u8; 2]), new: (Raw, [u8; 2])) -> Self {
        let address = fold(u64::from(!old.0) + u64::from(new.0));
        let port = add(!u16::from_le_bytes(old.1), u16::from_le_bytes(new.1));
        Self { header: add(address, !TTL_STEP), transport: add(address, port) }
    }

    /// From new to old.
    #[must_use]
    #[inline(always)]
    pub fn reversed(self) -> Self {
        // The time to live is lowered this way too.
        Self { header: add(!self.header, !(2 * TTL_STEP)), transport: !self.transport }
    }

    //= RFC1624#3
    /// Zero means "none" and stays, and a computed zero is sent as 0xffff (RFC 768).
    #[inline(always)]
    fn mend_udp(self, sum: &mut [u8; 2]) {
        if *sum != [0; 2] {
            mend(sum, self.transport);
            if *sum == [0; 2] {
                *sum = [0xff; 2];
            }
        }
    }

    /// The sum of the pseudo header has no ports and is not complemented.
    #[cold]
    fn mend_partial(self, sum: &mut [u8; 2]) {
        let address = add(self.header, TTL_STEP);
        *sum = add(u16::from_le_bytes(*sum), address).to_le_bytes();
    }
}

/// The transport checksum at `field` is yet to be completed by somebody behind us.
#[inline(always)]
fn is_partial(vnet: &vnet::Header, field: u16) -> bool {
    vnet.needs_checksum() && vnet.csum_start.get() == TRANSPORT && vnet.csum_offset.get() == field
}

/// Adds as one's complements: the carry comes round.
#[inline(always)]
fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum.wrapping_add(carry.into())
}

/// A complete checksum after a change: what RFC 1624 equation 3 yields, `!(!sum + change)`, with less to do.
#[inline(always)]
fn mend(sum: &mut [u8; 2], change: u16) {
    let (difference, borrow) = u16::from_le_bytes(*sum).overflowing_sub(change);
    *sum = difference.wrapping_sub(borrow.into()).to_le_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_mended_as_equation_3_has_it() {
        for sum in (0..=u16::MAX).step_by(5) {
            for change in [0, 1, 2, 3, 5, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff, sum, !sum] {
                let mut octets = sum.to_le_bytes();
                mend(&mut octets, change);
                assert_eq!(u16::from_le_bytes(octets), !add(!sum, change), "{sum:#x} {change:#x}");
            }
        }
    }
}
