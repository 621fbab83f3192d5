//! IPv4 headers (RFC 791).

use core::net::Ipv4Addr;

use crate::{checksum, checksum::Delta};

/// Octets of a header without options.
pub const HEADER: usize = 20;
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub const DONT_FRAGMENT: u16 = 0x4000;
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// The fields of a header that was proved sound: version 4, header and total length within the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub header_length: usize,
    pub total_length: usize,
    pub id: u16,
    /// Flags and fragment offset as sent.
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

impl Header {
    /// Parses the packet at the start of `packet`. With `lenient` the total length may exceed the bytes present,
    /// as it does in the packet an ICMP error quotes.
    #[must_use]
    #[inline]
    pub fn parse(packet: &[u8], lenient: bool) -> Option<Self> {
        let fixed = packet.first_chunk::<HEADER>()?;
        let header_length = usize::from(fixed[0] & 0x0f) * 4;
        let total_length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let sound = fixed[0] >> 4 == 4
            && header_length >= HEADER
            && header_length <= packet.len()
            && total_length >= header_length
            && (lenient || total_length <= packet.len());
        sound.then_some(Self {
            header_length,
            total_length,
            id: u16::from_be_bytes([fixed[4], fixed[5]]),
            fragment: u16::from_be_bytes([fixed[6], fixed[7]]),
            ttl: fixed[8],
            protocol: fixed[9],
            source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
            destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        })
    }

    /// Part of a datagram, the first part included.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment & (MORE_FRAGMENTS | 0x1fff) != 0
    }

    /// Octets from the start of the datagram's payload.
    #[must_use]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.fragment & 0x1fff) * 8
    }

    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }
}

/// Writes a 20-octet header with its checksum; false when there is no room.
pub fn emit(
    packet: &mut [u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: usize,
    id: u16,
    dont_fragment: bool,
) -> bool {
    let Ok(total) = u16::try_from(HEADER + payload) else { return false };
    let Some(header) = packet.first_chunk_mut::<HEADER>() else { return false };
    *header = [0; HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[6..8].copy_from_slice(&(if dont_fragment { DONT_FRAGMENT } else { 0 }).to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Lowers the TTL by one and mends the checksum; the caller has made sure that it is above one.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) {
    let Some([.., ttl, protocol, high, low]) = packet.first_chunk_mut::<12>() else { return };
    let old = u16::from_be_bytes([*ttl, *protocol]);
    let new = old.saturating_sub(0x0100);
    let sum = Delta::default().word(old, new).apply(u16::from_be_bytes([*high, *low]));
    [*ttl, *protocol] = new.to_be_bytes();
    [*high, *low] = sum.to_be_bytes();
}

/// Replaces the source address and mends the header checksum.
#[inline]
pub fn set_source(packet: &mut [u8], new: Ipv4Addr) {
    let Some([_, _, _, _, _, _, _, _, _, _, high, low, a, b, c, d, ..]) = packet.first_chunk_mut::<16>()
    else {
        return;
    };
    set_address([high, low], [a, b, c, d], new);
}

/// Replaces the destination address and mends the header checksum.
#[inline]
pub fn set_destination(packet: &mut [u8], new: Ipv4Addr) {
    let Some([_, _, _, _, _, _, _, _, _, _, high, low, _, _, _, _, a, b, c, d]) =
        packet.first_chunk_mut::<HEADER>()
    else {
        return;
    };
    set_address([high, low], [a, b, c, d], new);
}

#[inline]
fn set_address([high, low]: [&mut u8; 2], [a, b, c, d]: [&mut u8; 4], new: Ipv4Addr) {
    let old = Ipv4Addr::new(*a, *b, *c, *d);
    let sum = Delta::default().address(old, new).apply(u16::from_be_bytes([*high, *low]));
    [*a, *b, *c, *d] = new.octets();
    [*high, *low] = sum.to_be_bytes();
}
