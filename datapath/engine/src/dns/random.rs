//! Ids, sockets and letter cases that nobody can guess who does not know the seed.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// A keyed hash over a counter and its own output.
pub(super) struct Random {
    secrets: RapidSecrets,
    state: u64,
    counter: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { secrets: RapidSecrets::seed(seed), state: seed, counter: 0 }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut block = [0; 16];
        let (left, right) = block.split_at_mut(8);
        left.copy_from_slice(&self.counter.to_le_bytes());
        right.copy_from_slice(&self.state.to_le_bytes());
        let drawn = rapidhash_v3_seeded(&block, &self.secrets);
        self.state = self.state.rotate_left(23) ^ drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        drawn
    }

    pub(super) fn below(&mut self, bound: u16) -> u16 {
        (self.next() % u64::from(bound.max(1))) as u16
    }

    /// One random bit for the case of each letter (draft-vixie-dnsext-dns0x20).
    pub(super) fn mix_case(&mut self, name: &mut [u8]) {
        for part in name.chunks_mut(64) {
            let mut bits = self.next();
            for byte in part.iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
                *byte = if bits & 1 == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
                bits >>= 1;
            }
        }
    }
}
