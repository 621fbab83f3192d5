//! Identifications of datagrams that are not atomic (RFC 6864): guests that share an external address must not use one
//! twice, or the pieces of their datagrams would be put together.

use alloc::vec::Vec;

use pontoon_wire::checksum::Delta;
use pontoon_wire::{be16, ethernet, ipv4, put, vnet};

use super::index::Hasher;

/// Pairs of ends have one of so many counters, so that a number does not come back soon, nor says what others send.
const COUNTERS: usize = 1024;
const ID: usize = ethernet::HEADER + 4;
const FRAGMENT: usize = ethernet::HEADER + 6;
const CHECKSUM: usize = ethernet::HEADER + 10;

pub(super) struct Idents {
    counters: Vec<u16>,
    /// This worker's part of all numbers, first and length.
    part: (u16, u16),
}

impl Idents {
    pub(super) fn new(worker: u16, workers: u16, hasher: &Hasher) -> Self {
        let length = u16::MAX / workers.max(1);
        let start = |number: u64| (hasher.hash([number, u64::MAX - 1]) % u32::from(length)) as u16;
        let counters = (0..COUNTERS as u64).map(start).collect();
        Self { counters, part: (worker.wrapping_mul(length), length) }
    }

    /// A number for the translated packet of a frame, or the first of as many as a super-frame is cut into.
    fn next(&mut self, hasher: &Hasher, frame: &[u8], offload: Option<&vnet::Header>) -> Option<u16> {
        let addresses = frame.get(ethernet::HEADER + 12..)?.first_chunk()?;
        let protocol = frame.get(ethernet::HEADER + 9)?;
        let count = match offload {
            Some(vnet) if vnet.is_gso() => frame.len().div_ceil(usize::from(vnet.gso_size.get()).max(1)),
            _ => 1,
        };
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let hash = hasher.hash([u64::from_ne_bytes(*addresses), u64::from(*protocol)]);
        let counter = self.counters.get_mut(hash as usize % COUNTERS)?;
        let (first, length) = self.part;
        if *counter >= length.saturating_sub(count) {
            *counter = 0;
        }
        let id = first.wrapping_add(*counter);
        *counter = counter.wrapping_add(count);
        Some(id)
    }

    /// Gives a translated packet that may be cut, or is a piece, an identification of its own; what it has then.
    //= RFC6864#4.1, RFC7857#10
    #[cold]
    #[inline(never)]
    pub(super) fn renew(
        &mut self,
        hasher: &Hasher,
        frame: &mut [u8],
        offload: Option<&vnet::Header>,
    ) -> Option<u16> {
        let id = self.next(hasher, frame, offload)?;
        set(frame, id)?;
        Some(id)
    }
}

/// It may be cut, or has been (RFC 6864 section 4: not atomic).
#[inline(always)]
pub(super) fn is_needed(frame: &[u8]) -> bool {
    frame.get(FRAGMENT).is_some_and(|&flags| flags & (ipv4::DONT_FRAGMENT >> 8) as u8 == 0)
}

/// Writes an identification and mends the header's checksum.
pub(super) fn set(frame: &mut [u8], id: u16) -> Option<()> {
    let (old, sum) = (be16(frame, ID)?, be16(frame, CHECKSUM)?);
    let sum = Delta::default().word(old, id).apply(sum);
    put(frame, ID, &id.to_be_bytes());
    put(frame, CHECKSUM, &sum.to_be_bytes()).then_some(())
}
