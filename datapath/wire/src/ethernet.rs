//! Ethernet II (IEEE 802.3): destination, source, type.

use crate::{Mac, be16};

/// Octets of an untagged header.
pub const HEADER: usize = 14;
pub const BROADCAST: Mac = [0xff; 6];

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const IPV6: u16 = 0x86dd;
/// Outer tag of two (IEEE 802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
const TAG: usize = 4;
/// Tags looked behind; more are no sound frame's.
const MAX_TAGS: usize = 2;

/// Where the frame goes; `None` for fewer than 14 octets.
#[must_use]
#[inline]
pub fn destination(frame: &[u8]) -> Option<Mac> {
    frame.first_chunk().copied()
}

#[must_use]
#[inline]
pub fn source(frame: &[u8]) -> Option<Mac> {
    let header = frame.first_chunk::<HEADER>()?;
    header[6..].first_chunk().copied()
}

#[must_use]
#[inline]
pub fn ethertype(frame: &[u8]) -> Option<u16> {
    be16(frame, 12)
}

/// Type and offset of what the frame carries, behind its tags; `None` when it is cut short or has too many.
#[must_use]
pub fn payload(frame: &[u8]) -> Option<(u16, usize)> {
    for tags in 0..=MAX_TAGS {
        let offset = HEADER + tags * TAG;
        match be16(frame, offset - 2)? {
            VLAN | SERVICE_VLAN => {}
            ethertype => return Some((ethertype, offset)),
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_looked_behind() {
        let mut frame = [0; 30];
        frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
        assert_eq!(payload(&frame), Some((IPV4, 14)));
        frame[12..18].copy_from_slice(&[0x81, 0, 0, 7, 0x86, 0xdd]);
        assert_eq!(payload(&frame), Some((IPV6, 18)));
        frame[12..22].copy_from_slice(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0]);
        assert_eq!(payload(&frame), Some((IPV4, 22)));
        assert_eq!(payload(&frame[..21]), None, "cut short");
        frame[20..22].copy_from_slice(&VLAN.to_be_bytes());
        assert_eq!(payload(&frame), None, "three tags");
    }
}
