//! Internet checksums (RFC 1071) and their incremental update (RFC 1624 equation 3).

use core::net::Ipv4Addr;

/// A one's-complement sum that is not folded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let mut chunks = bytes.chunks_exact(4);
        for chunk in &mut chunks {
            if let Some(four) = chunk.first_chunk() {
                sum += u64::from(u32::from_be_bytes(*four));
            }
        }
        match *chunks.remainder() {
            [a] => sum += u64::from(a) << 8,
            [a, b] => sum += u64::from(u16::from_be_bytes([a, b])),
            [a, b, c] => sum += u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
            _ => {}
        }
        // Every addend is below 2^32, so folding once keeps 64 bits from ever overflowing.
        Self((sum & 0xffff_ffff) + (sum >> 32))
    }

    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// The TCP/UDP pseudo header (RFC 9293 3.1).
    #[must_use]
    pub fn pseudo(self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Self {
        self.bytes(&source.octets()).bytes(&destination.octets()).word(u16::from(protocol)).word(length)
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
#[inline]
pub fn is_header_valid(header: &[u8; 20]) -> bool {
    let ([one, two], tail) = header.as_chunks::<8>() else { return false };
    let Some(tail) = tail.first_chunk() else { return false };
    let (sum, carry) = u64::from_ne_bytes(*one).overflowing_add(u64::from_ne_bytes(*two));
    // With a carry the sum is small enough for more.
    let (sum, again) = sum.overflowing_add(u64::from(u32::from_ne_bytes(*tail)) + u64::from(carry));
    fold(sum.wrapping_add(u64::from(again))) == 0xffff
}

/// Folds a sum of words to 16 bits: the halves are added, the carry comes round to the lowest bit.
#[must_use]
#[inline]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}
