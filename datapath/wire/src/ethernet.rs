//! Ethernet II (IEEE 802.3): destination, source, type.

use crate::{Mac, be16};

/// Octets of an untagged header.
pub const HEADER: usize = 14;
pub const BROADCAST: Mac = [0xff; 6];

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const IPV6: u16 = 0x86dd;

/// Where the frame goes; `None` for fewer than 14 octets.
#[must_use]
#[inline]
pub fn destination(frame: &[u8]) -> Option<Mac> {
    frame.first_chunk().copied()
}

#[must_use]
#[inline]
pub fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..)?.first_chunk().copied()
}

#[must_use]
#[inline]
pub fn ethertype(frame: &[u8]) -> Option<u16> {
    be16(frame, 12)
}

/// Group bit of the first octet: multicast and broadcast.
#[must_use]
#[inline]
pub fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// 01-80-C2-00-00-00 to -0F, which no bridge forwards (IEEE 802.1D 7.12.6).
#[must_use]
#[inline]
pub fn is_link_local(mac: Mac) -> bool {
    mac[..5] == [0x01, 0x80, 0xc2, 0, 0] && mac[5] & 0xf0 == 0
}

/// Writes a header at the start of `frame`; false when there is no room.
pub fn emit(frame: &mut [u8], destination: Mac, source: Mac, ethertype: u16) -> bool {
    let Some(header) = frame.first_chunk_mut::<HEADER>() else { return false };
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&source);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    true
}
