//! The maximum segment size that TCP ends offer each other (RFC 9293 3.7.1, RFC 6691).

use pontoon_wire::checksum::Delta;
use pontoon_wire::{be16, ipv4, put};

const SYN: u8 = 2;
/// Octets of TCP's header without options.
const HEADER: usize = 20;
const KIND: u8 = 2;
const LENGTH: u8 = 4;

/// Lowers what a SYN offers to what packets of `mtu` octets hold; never raises it, nor adds the option where there is
/// none. `l4` and `end` are where the segment begins and ends; `partial`: somebody behind us computes its checksum.
//= RFC6691#2
pub(crate) fn clamp(frame: &mut [u8], l4: usize, end: usize, partial: bool, mtu: u16) {
    let Some(segment) = frame.get_mut(l4..end) else { return };
    if segment.get(13).is_none_or(|flags| flags & SYN == 0) {
        return;
    }
    let most = mtu.saturating_sub((ipv4::HEADER + HEADER) as u16);
    let options = usize::from(segment.get(12).map_or(0, |offset| offset >> 4)) * 4;
    let Some(at) = find(segment.get(HEADER..options).unwrap_or_default()) else { return };
    let at = HEADER + at;
    let (Some(offered), Some(sum)) = (be16(segment, at), be16(segment, 16)) else { return };
    if offered <= most {
        return;
    }
    put(segment, at, &most.to_be_bytes());
    if partial {
        return;
    }
    let mut delta = Delta::default().word(offered, most);
    if at % 2 == 1 {
        delta = Delta::default().word(offered.swap_bytes(), most.swap_bytes());
    }
    put(segment, 16, &delta.apply(sum).to_be_bytes());
}

/// Where the option's value is; nothing behind an end of the list or an option of impossible length is looked at.
fn find(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *options.get(at..)? {
            [0, ..] | [] => return None,
            [1, ..] => at += 1,
            [KIND, LENGTH, _, _, ..] => return Some(at + 2),
            [_, length, ..] if length >= 2 => at += usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use pontoon_wire::checksum;

    /// A SYN with these options at offset 3 of a frame, and its checksum (without a pseudo header, as nothing there changes).
    fn syn(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; HEADER];
        segment[12] = ((HEADER + options.len()) / 4) as u8 * 16;
        segment[13] = flags;
        segment.extend(options);
        let sum = checksum::of(&segment);
        put(&mut segment, 16, &sum.to_be_bytes());
        [&[9, 9, 9][..], &segment].concat()
    }

    fn clamped(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut frame = syn(flags, options);
        let end = frame.len();
        clamp(&mut frame, 3, end, false, 1400);
        assert!(checksum::valid(&frame[3..]), "{options:?}");
        frame.split_off(3 + HEADER)
    }

    //= RFC6691#2 type=test
    #[test]
    fn a_syn_offers_no_more_than_the_uplink_carries() {
        let (high, low) = (1360_u16.to_be_bytes()[0], 1360_u16.to_be_bytes()[1]);
        for (given, expected) in [
            (&[2, 4, 0x23, 0x28][..], &[2, 4, high, low][..]),
            (&[1, 1, 4, 2, 2, 4, 0x23, 0x28], &[1, 1, 4, 2, 2, 4, high, low]),
            // At an odd place, where the words of the checksum are others.
            (&[1, 2, 4, 0x23, 0x28, 1, 1, 0], &[1, 2, 4, high, low, 1, 1, 0]),
            // Never raised.
            (&[2, 4, 2, 24], &[2, 4, 2, 24]),
            (&[2, 4, 5, 80], &[2, 4, 5, 80]),
            // Behind the end, of another length, cut short, or none at all.
            (&[0, 0, 0, 0, 2, 4, 0x23, 0x28], &[0, 0, 0, 0, 2, 4, 0x23, 0x28]),
            (&[2, 3, 0x23, 0x28], &[2, 3, 0x23, 0x28]),
            (&[3, 0, 2, 4, 0x23, 0x28, 0, 0], &[3, 0, 2, 4, 0x23, 0x28, 0, 0]),
            (&[1, 1, 2, 4], &[1, 1, 2, 4]),
            (&[8, 200, 1, 1], &[8, 200, 1, 1]),
            (&[], &[]),
        ] {
            assert_eq!(clamped(SYN, given), expected);
            assert_eq!(clamped(SYN | 16, given), expected);
            assert_eq!(clamped(16, given), given, "only in a SYN");
        }
        let mut short = syn(SYN, &[2, 4, 0x23, 0x28]);
        for end in 0..short.len() {
            clamp(&mut short, 3, end, false, 1400);
        }
    }
}
