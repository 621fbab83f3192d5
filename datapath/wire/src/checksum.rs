//! Internet checksums (RFC 1071) and their incremental update (RFC 1624 equation 3).

use core::net::Ipv4Addr;

/// A one's-complement sum that is not folded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let (words, tail) = rest.as_chunks::<4>();
        let add = |sum: u64, word: &[u8; 4]| sum.wrapping_add(u64::from(u32::from_be_bytes(*word)));
        let sum = words.iter().fold(self.0.wrapping_add(whole(blocks)), add);
        let tail = match *tail {
            [a] => u32::from(a) << 24,
            [a, b] => u32::from_be_bytes([a, b, 0, 0]),
            [a, b, c] => u32::from_be_bytes([a, b, c, 0]),
            _ => 0,
        };
        let sum = sum.wrapping_add(u64::from(tail));
        // Every addend is below 2^32, so folding once keeps 64 bits from ever overflowing.
        Self((sum & 0xffff_ffff) + (sum >> 32))
    }

    #[must_use]
    #[inline]
    pub fn word(self, word: u16) -> Self {
        Self(self.0.wrapping_add(u64::from(word)))
    }

    #[must_use]
    #[inline]
    pub fn address(self, address: Ipv4Addr) -> Self {
        Self(self.0.wrapping_add(u64::from(address.to_bits())))
    }

    /// The TCP/UDP pseudo header (RFC 9293 3.1).
    #[must_use]
    pub fn pseudo(self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Self {
        self.address(source).address(destination).word(u16::from(protocol)).word(length)
    }

    /// Folded to 16 bits, not complemented: what a partial checksum holds.
    #[must_use]
    #[inline]
    pub fn fold(self) -> u16 {
        fold(self.0)
    }

    /// Folded and complemented: what a checksum field holds.
    #[must_use]
    pub fn finish(self) -> u16 {
        !self.fold()
    }
}

/// Octets that are summed at a time, in lanes the compiler finds vectors for.
const BLOCK: usize = 32;

/// The sum of blocks, folded. Words are summed as the machine has them: a one's-complement sum does not care for the
/// order of octets in a word, as long as the result is put back into it.
fn whole(blocks: &[[u8; BLOCK]]) -> u64 {
    if blocks.is_empty() {
        return 0;
    }
    let mut lanes = [0u64; BLOCK / 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        }
    }
    // 2^28 blocks fit below 2^32 times a word in each lane; no frame has a thousandth of that.
    let sum = fold(lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane)));
    u64::from(u16::from_be_bytes(sum.to_ne_bytes()))
}

/// What changed between old and new header bytes; applied to as many checksums as cover them. It takes billions of
/// changes to wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    #[must_use]
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0.wrapping_add(u64::from(!old) + u64::from(new)))
    }

    /// Words of 32 bits fold to the same as their halves do.
    #[must_use]
    #[inline]
    pub fn address(self, old: Ipv4Addr, new: Ipv4Addr) -> Self {
        Self(self.0.wrapping_add(u64::from(!old.to_bits()) + u64::from(new.to_bits())))
    }

    /// A complete checksum after the change (RFC 1624 equation 3).
    #[must_use]
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !Sum(self.0.wrapping_add(u64::from(!checksum))).fold()
    }

    //= RFC1624#3
    /// A UDP checksum after the change: zero means "none" and stays, and a computed zero is sent as 0xffff
    /// (RFC 768).
    #[must_use]
    #[inline]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        match (checksum, self.apply(checksum)) {
            (0, _) => 0,
            (_, 0) => 0xffff,
            (_, sum) => sum,
        }
    }

    /// A partial checksum (the folded pseudo header, not complemented) after an address change. Ports are not
    /// part of it.
    #[must_use]
    pub fn apply_partial(self, partial: u16) -> u16 {
        Sum(self.0 + u64::from(partial)).fold()
    }
}

/// The checksum of `bytes`, as a field holds it.
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::default().bytes(bytes).finish()
}

/// True when `bytes`, its checksum field included, sum up to what they must.
#[must_use]
#[inline]
pub fn valid(bytes: &[u8]) -> bool {
    match <&[u8; 20]>::try_from(bytes) {
        Ok(header) => is_header_valid(header),
        Err(_) => Sum::default().bytes(bytes).fold() == 0xffff,
    }
}

/// The same for an IPv4 header without options; sums do not care for the order of octets in a word.
#[must_use]
#[inline(always)]
pub fn is_header_valid(header: &[u8; 20]) -> bool {
    let ([one, two], tail) = header.as_chunks::<8>() else { return false };
    let Some(tail) = tail.first_chunk() else { return false };
    let (sum, carry) = u64::from_ne_bytes(*one).overflowing_add(u64::from_ne_bytes(*two));
    // With a carry the sum is small enough for more.
    let (sum, again) = sum.overflowing_add(u64::from(u32::from_ne_bytes(*tail)) + u64::from(carry));
    is_multiple(sum.wrapping_add(u64::from(again)))
}

/// The sum folds to 0xffff: it is a multiple of that, and not zero. What is no multiple ends up above all quotients
/// when it is multiplied by the inverse.
#[inline(always)]
fn is_multiple(sum: u64) -> bool {
    const INVERSE: u64 = 0x0001_0001_0001_0001_u64.wrapping_neg();
    const QUOTIENTS: u64 = u64::MAX / 0xffff;
    sum.wrapping_mul(INVERSE).wrapping_sub(1) < QUOTIENTS
}

/// Folds a sum of words to 16 bits: the halves are added, the carry comes round to the lowest bit.
#[must_use]
#[inline]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 4.1, word by word.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_header_is_valid_when_its_sum_folds_to_all_ones() {
        let mut random = 7u64;
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let multiple = (random >> 17) / 0xffff * 0xffff;
            for sum in [random, multiple, multiple.wrapping_add(1), multiple.wrapping_sub(1), random >> 48] {
                assert_eq!(is_multiple(sum), fold(sum) == 0xffff, "{sum:#x}");
            }
        }
        for sum in [0, 1, 0xfffe, 0xffff, 0x1_fffe, u64::MAX - 1, u64::MAX] {
            assert_eq!(is_multiple(sum), fold(sum) == 0xffff, "{sum:#x}");
        }
    }

    #[test]
    fn every_length_sums_up_by_the_book() {
        let mut octets = [0u8; 300];
        let mut random = 1u32;
        for octet in &mut octets {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *octet = (random >> 24) as u8;
        }
        for length in 0..octets.len() {
            assert_eq!(of(&octets[..length]), by_the_book(&octets[..length]), "{length} octets");
        }
        for filled in [0, 0xff] {
            let octets = [filled; 65_535];
            assert_eq!(of(&octets), by_the_book(&octets));
        }
    }
}
