//! Bytes to fields and back, one protocol a file.
//!
//! Nothing here allocates, panics on input, reads a clock or keeps state. A parser returns what it could prove
//! about the bytes; a setter writes one field in place and leaves checksums to [`checksum`].
#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod bpdu;
pub mod brief;
pub mod checksum;
pub mod dhcp;
pub mod dns;
pub mod ethernet;
pub mod frame;
pub mod icmp;
pub mod ipv4;
pub mod vnet;

/// A MAC address, in the order it is sent.
pub type Mac = [u8; 6];

/// Reads two octets at `at`, network order.
#[must_use]
#[inline]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads four octets at `at`, network order.
#[must_use]
#[inline]
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes `value` at `at`; false when it does not fit.
#[inline]
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> bool {
    match at.checked_add(value.len()).and_then(|end| bytes.get_mut(at..end)) {
        Some(slot) => {
            slot.copy_from_slice(value);
            true
        }
        None => false,
    }
}
