//! The learning switch's memory: which port an address was last seen on (IEEE 802.1Q 8.7 and 8.8).
//!
//! One table a network, shared by all workers without a lock. A slot is one word (48-bit address, 16-bit port) and
//! the second it was last seen; readers load, writers compare-and-swap and only on new, moved or aged entries. The
//! table never grows: [`BUCKETS`] buckets of [`WAYS`], two candidate buckets an address, keyed hashes. A full pair
//! of buckets leaves the address unlearned, so its frames are flooded; nobody else's entry is evicted for it.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use pontoon_wire::Mac;

use crate::snapshot::PortId;
use crate::time::Time;

#[cfg(test)]
mod tests;

/// Power of two, so that a hash is masked and not divided.
const BUCKETS: usize = 2048;
/// Slots of a bucket: one cache line of words.
const WAYS: usize = 8;
/// Addresses one table can hold.
pub const CAPACITY: usize = BUCKETS * WAYS;
/// Ports whose learned addresses are counted.
const PORTS: usize = 4096;
/// Seconds until an address that stays silent is forgotten, unless set otherwise (IEEE 802.1Q table 8-6).
pub const AGEING: u32 = 300;
/// `seen` of an entry that never ages.
const STATIC: u32 = u32::MAX;

/// What became of a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    Known,
    New,
    Moved,
    /// The port has as many addresses as it may.
    PortLimit,
    /// Both buckets are full, or the address is pinned to another port.
    Refused,
}

/// Learned addresses of one network.
#[derive(Debug)]
pub struct MacTable {
    seed: u64,
    ageing: AtomicU32,
    words: Box<[[AtomicU64; WAYS]]>,
    seen: Box<[AtomicU32]>,
    counts: Box<[AtomicU16]>,
}

impl MacTable {
    /// An empty table whose hashes depend on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ageing: AtomicU32::new(AGEING),
            words: (0..BUCKETS).map(|_| Default::default()).collect(),
            seen: (0..CAPACITY).map(|_| AtomicU32::new(0)).collect(),
            counts: (0..PORTS).map(|_| AtomicU16::new(0)).collect(),
        }
    }

    /// Remembers that `mac` is behind `port`, which may have at most `limit` addresses.
    #[inline]
    pub fn learn(&self, now: Time, mac: Mac, port: PortId, limit: u16) -> Learned {
        let (second, key) = (second(now), pack(mac, 0));
        match self.find(key) {
            Some((slot, word)) => self.refresh(slot, word, pack(mac, port), second, limit),
            None => self.insert(key, port, second, limit),
        }
    }

    /// Pins `mac` to `port` for good.
    pub fn insert_static(&self, mac: Mac, port: PortId) -> Learned {
        self.remove(mac);
        self.insert(pack(mac, 0), port, STATIC, u16::MAX)
    }

    /// The port `mac` is behind; `None` when it was never seen or is aged.
    #[must_use]
    #[inline]
    pub fn lookup(&self, now: Time, mac: Mac) -> Option<PortId> {
        let (slot, word) = self.find(pack(mac, 0))?;
        let seen = self.seen.get(slot)?.load(Relaxed);
        self.fresh(seen, second(now)).then_some(port_of(word))
    }

    /// From now on an address is forgotten after so many seconds of silence; 0: within the second it was seen in.
    pub fn set_ageing(&self, seconds: u32) {
        self.ageing.store(seconds, Relaxed);
    }

    #[inline]
    fn fresh(&self, seen: u32, second: u32) -> bool {
        seen == STATIC || second.saturating_sub(seen) <= self.ageing.load(Relaxed)
    }

    /// Forgets an address that was learned; false when there is none.
    pub fn forget(&self, mac: Mac) -> bool {
        let found = self.find(pack(mac, 0));
        let learned =
            found.filter(|(slot, _)| self.seen.get(*slot).is_some_and(|s| s.load(Relaxed) != STATIC));
        learned.inspect(|(slot, word)| self.clear(*slot, *word)).is_some()
    }

    /// Forgets one address.
    pub fn remove(&self, mac: Mac) {
        if let Some((slot, word)) = self.find(pack(mac, 0)) {
            self.clear(slot, word);
        }
    }

    /// Forgets what was learned on `port`.
    pub fn flush_port(&self, port: PortId) {
        self.clear_where(0, CAPACITY, |word, _| port_of(word) == port);
    }

    /// Forgets what was learned on `ports`; static entries stay.
    pub fn flush_learned(&self, ports: &[PortId]) {
        self.clear_where(0, CAPACITY, |word, seen| seen != STATIC && ports.contains(&port_of(word)));
    }

    /// Forgets everything that was learned.
    pub fn flush(&self) {
        self.clear_where(0, CAPACITY, |_, seen| seen != STATIC);
    }

    /// Makes `entries` the static ones.
    pub fn replace_static(&self, entries: &[(Mac, PortId)]) {
        let wanted = |word| entries.iter().any(|&(mac, port)| pack(mac, port) == word);
        self.clear_where(0, CAPACITY, |word, seen| seen == STATIC && !wanted(word));
        for &(mac, port) in entries {
            let known = self.find(pack(mac, 0)).filter(|(_, word)| *word == pack(mac, port));
            let pinned =
                known.and_then(|(slot, _)| self.seen.get(slot)).map(|seen| seen.load(Relaxed) == STATIC);
            if pinned != Some(true) {
                self.insert_static(mac, port);
            }
        }
    }

    /// Forgets aged entries of slots `from .. from + count`; returns where to go on.
    pub fn sweep(&self, now: Time, from: usize, count: usize) -> usize {
        let second = second(now);
        self.clear_where(from, count, |_, seen| !self.fresh(seen, second));
        if from + count >= CAPACITY { 0 } else { from + count }
    }

    /// Every address that is not aged, with its port and the seconds since it was seen.
    pub fn for_each(&self, now: Time, visit: &mut dyn FnMut(Mac, PortId, u32)) {
        let second = second(now);
        for (word, seen) in self.words.iter().flatten().zip(&self.seen) {
            let (word, seen) = (word.load(Relaxed), seen.load(Relaxed));
            if word != 0 && self.fresh(seen, second) {
                visit(
                    mac_of(word),
                    port_of(word),
                    if seen == STATIC { 0 } else { second.saturating_sub(seen) },
                );
            }
        }
    }

    #[inline]
    fn refresh(&self, slot: usize, old: u64, new: u64, second: u32, limit: u16) -> Learned {
        let (Some(word), Some(seen)) = (self.word(slot), self.seen.get(slot)) else {
            return Learned::Refused;
        };
        let last = seen.load(Relaxed);
        if old == new {
            if last != second && last != STATIC {
                seen.store(second, Relaxed);
            }
            return Learned::Known;
        }
        if last == STATIC {
            return Learned::Refused;
        }
        self.move_to(word, seen, old, new, second, limit)
    }

    #[cold]
    fn move_to(
        &self,
        word: &AtomicU64,
        seen: &AtomicU32,
        old: u64,
        new: u64,
        second: u32,
        limit: u16,
    ) -> Learned {
        if !self.take(port_of(new), limit) {
            return Learned::PortLimit;
        }
        if word.compare_exchange(old, new, Relaxed, Relaxed).is_err() {
            self.give(port_of(new));
            return Learned::Refused;
        }
        seen.store(second, Relaxed);
        self.give(port_of(old));
        Learned::Moved
    }

    #[cold]
    fn insert(&self, key: u64, port: PortId, second: u32, limit: u16) -> Learned {
        if !self.take(port, limit) {
            return Learned::PortLimit;
        }
        for slot in self.candidates(key) {
            let (Some(word), Some(seen)) = (self.word(slot), self.seen.get(slot)) else { continue };
            if word.compare_exchange(0, key | u64::from(port), Relaxed, Relaxed).is_ok() {
                seen.store(second, Relaxed);
                return Learned::New;
            }
        }
        self.give(port);
        Learned::Refused
    }

    #[inline]
    fn word(&self, slot: usize) -> Option<&AtomicU64> {
        self.words.get(slot / WAYS).map(|bucket| &bucket[slot % WAYS])
    }

    #[inline]
    fn find(&self, key: u64) -> Option<(usize, u64)> {
        for bucket in self.buckets(key) {
            for (way, word) in self.words.get(bucket)?.iter().enumerate() {
                let word = word.load(Relaxed);
                if (word ^ key) <= 0xffff && word != 0 {
                    return Some((bucket * WAYS + way, word));
                }
            }
        }
        None
    }

    #[inline]
    fn buckets(&self, key: u64) -> [usize; 2] {
        let hash = mix(key ^ self.seed);
        [(hash as usize) % BUCKETS, ((hash >> 32) as usize) % BUCKETS]
    }

    fn candidates(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let [first, second] = self.buckets(key);
        (first * WAYS..first * WAYS + WAYS).chain(second * WAYS..second * WAYS + WAYS)
    }

    fn clear_where(&self, from: usize, count: usize, doomed: impl Fn(u64, u32) -> bool) {
        for slot in from..CAPACITY.min(from.saturating_add(count)) {
            let (Some(word), Some(seen)) = (self.word(slot), self.seen.get(slot)) else { continue };
            let word = word.load(Relaxed);
            if word != 0 && doomed(word, seen.load(Relaxed)) {
                self.clear(slot, word);
            }
        }
    }

    fn clear(&self, slot: usize, word: u64) {
        if self.word(slot).is_some_and(|w| w.compare_exchange(word, 0, Relaxed, Relaxed).is_ok()) {
            self.give(port_of(word));
        }
    }

    fn take(&self, port: PortId, limit: u16) -> bool {
        let Some(count) = self.counts.get(usize::from(port)) else { return false };
        count.fetch_update(Relaxed, Relaxed, |n| (n < limit).then(|| n + 1)).is_ok()
    }

    fn give(&self, port: PortId) {
        if let Some(count) = self.counts.get(usize::from(port)) {
            // An update that finds zero has nothing to give back.
            let _ = count.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
        }
    }
}

/// Seconds fit in 32 bits for 136 years of uptime; the top value is kept for static entries.
fn second(now: Time) -> u32 {
    u32::try_from(now.secs()).unwrap_or(STATIC - 1).min(STATIC - 1)
}

fn pack(mac: Mac, port: PortId) -> u64 {
    let [a, b, c, d, e, f] = mac;
    let [g, h] = port.to_be_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn mac_of(word: u64) -> Mac {
    let [a, b, c, d, e, f, _, _] = word.to_be_bytes();
    [a, b, c, d, e, f]
}

fn port_of(word: u64) -> PortId {
    (word & 0xffff) as PortId
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
