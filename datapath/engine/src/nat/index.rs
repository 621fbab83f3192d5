//! Structures of fixed size over slot numbers: a hash index and rings.
//!
//! The index is not `hashbrown`'s: that one leaves tombstones and grows or rehashes as a whole once they add up,
//! in the middle of a frame. Deleting by shifting back keeps every operation short and allocation at start-up.

use alloc::vec;
use alloc::vec::Vec;

use super::slot::Key;

/// Hashes keys under two secrets, so that nobody can aim at one bucket: the product of both words, each masked,
/// folded in half.
pub(super) struct Hasher([u64; 2]);

impl Hasher {
    pub(super) fn new(seed: u64) -> Self {
        Self([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03].map(|step: u64| mix(seed.wrapping_add(step))))
    }

    #[inline(always)]
    pub(super) fn hash(&self, [first, second]: Key) -> u32 {
        let product = u128::from(first ^ self.0[0]) * u128::from(second ^ self.0[1]);
        ((product >> 64) ^ product) as u32
    }
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    hash: u32,
    /// Slot number plus one; zero: empty.
    entry: u32,
}

/// Slot numbers by hash: open addressing with linear probing.
pub(super) struct Index {
    buckets: Vec<Bucket>,
    mask: usize,
}

impl Index {
    /// Room for `capacity` entries at a load of 0.8 at most.
    pub(super) fn new(capacity: usize) -> Self {
        let length = (capacity + capacity / 4 + 1).next_power_of_two();
        Self { buckets: vec![Bucket::default(); length], mask: length - 1 }
    }

    fn bucket(&self, at: usize) -> Bucket {
        self.buckets.get(at & self.mask).copied().unwrap_or_default()
    }

    fn set(&mut self, at: usize, bucket: Bucket) {
        let at = at & self.mask;
        if let Some(slot) = self.buckets.get_mut(at) {
            *slot = bucket;
        }
    }

    /// Where the entry is, and its number.
    #[inline]
    fn position(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mut at = hash as usize & self.mask;
        // One bucket in five at least is empty, and ends the search.
        loop {
            let bucket = self.buckets.get(at)?;
            let number = bucket.entry.checked_sub(1)?;
            if bucket.hash == hash && is(number) {
                return Some((at, number));
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is).map(|(_, number)| number)
    }

    /// What nearly every search finds: the entry in the first bucket if its hash is right, be it the one that is
    /// looked for or not. An empty bucket yields no number that exists.
    #[inline(always)]
    pub(super) fn first(&self, hash: u32) -> Option<u32> {
        let bucket = self.buckets.get(hash as usize & self.mask)?;
        (bucket.hash == hash).then_some(bucket.entry.wrapping_sub(1))
    }

    /// The caller keeps to the capacity.
    #[inline]
    pub(super) fn insert(&mut self, hash: u32, number: u32) {
        let mut at = hash as usize & self.mask;
        for _ in 0..=self.mask {
            let Some(bucket) = self.buckets.get_mut(at) else { return };
            if bucket.entry == 0 {
                *bucket = Bucket { hash, entry: number.wrapping_add(1) };
                return;
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    pub(super) fn replace(&mut self, hash: u32, old: u32, new: u32) {
        if let Some((at, _)) = self.position(hash, |number| number == old) {
            self.set(at, Bucket { hash, entry: new + 1 });
        }
    }

    pub(super) fn remove(&mut self, hash: u32, number: u32) {
        let Some((mut hole, _)) = self.position(hash, |other| other == number) else { return };
        let start = hole;
        for at in start + 1..=start + self.mask {
            let bucket = self.bucket(at);
            if bucket.entry == 0 {
                break;
            }
            let from_home = at.wrapping_sub(bucket.hash as usize) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.set(hole, bucket);
                hole = at & self.mask;
            }
        }
        self.set(hole, Bucket::default());
    }
}

/// Circular doubly linked lists over fixed numbers. Numbers behind the slots serve as list heads.
pub(super) struct Rings(Vec<[u32; 2]>);

impl Rings {
    pub(super) fn new(length: usize) -> Self {
        Self((0..length as u32).map(|number| [number, number]).collect())
    }

    fn get(&self, number: u32) -> [u32; 2] {
        self.0.get(number as usize).copied().unwrap_or([number, number])
    }

    #[inline]
    fn set(&mut self, number: u32, side: usize, value: u32) {
        if let Some(links) = self.0.get_mut(number as usize) {
            links[side & 1] = value;
        }
    }

    pub(super) fn next(&self, number: u32) -> u32 {
        self.get(number)[0]
    }

    /// What follows `head`, unless the list is empty.
    pub(super) fn first(&self, head: u32) -> Option<u32> {
        Some(self.next(head)).filter(|&number| number != head)
    }

    /// Before a head means at the end of its list.
    #[inline]
    pub(super) fn insert_before(&mut self, at: u32, number: u32) {
        let Some(links) = self.0.get_mut(at as usize) else { return };
        let previous = core::mem::replace(&mut links[1], number);
        self.set(previous, 0, number);
        if let Some(links) = self.0.get_mut(number as usize) {
            *links = [at, previous];
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        let [next, previous] = self.get(number);
        if next == number {
            return;
        }
        self.set(previous, 0, next);
        self.set(next, 1, previous);
        self.set(number, 0, number);
        self.set(number, 1, number);
    }
}
