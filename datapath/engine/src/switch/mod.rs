//! The learning switch's memory: which port an address was last seen on (IEEE 802.1Q 8.7 and 8.8).
//!
//! One table a network, shared by all workers without a lock. An entry is one word (48-bit address, 16-bit port) and
//! the second it was last seen; readers load, writers compare-and-swap and only on new, moved or aged entries. The
//! table never grows: [`BUCKETS`] buckets of [`WAYS`], two candidate buckets an address, keyed hashes. A full pair
//! of buckets leaves the address unlearned, so its frames are flooded; nobody else's entry is evicted for it.

use alloc::boxed::Box;
use core::sync::atomic::{
    AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use pontoon_wire::Mac;

use crate::snapshot::PortId;
use crate::time::Time;

#[cfg(test)]
mod tests;

/// Power of two, so that a hash is masked and not divided.
const BUCKETS: usize = 4096;
/// Entries of a bucket: one cache line.
const WAYS: usize = 4;
/// Addresses one table can hold.
pub const CAPACITY: usize = BUCKETS * WAYS;
/// Ports whose learned addresses are counted.
const PORTS: usize = 4096;
/// Seconds until an address that stays silent is forgotten, unless set otherwise (IEEE 802.1Q table 8-6).
pub const AGEING: u32 = 300;
/// Where the port is in a word.
const PORT_SHIFT: u32 = 48;
/// The bits of a word that are the address.
const ADDRESS: u64 = (1 << PORT_SHIFT) - 1;
/// The word of a free entry: the broadcast address, which is nobody's.
const FREE: u64 = u64::MAX;
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

/// An address as the table has it: an integer whose lowest octet is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// From eight octets, of which the first six are the address.
    #[must_use]
    #[inline]
    pub fn new(octets: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(octets) & ADDRESS)
    }

    /// Multicast and broadcast.
    #[must_use]
    #[inline]
    pub fn is_group(self) -> bool {
        self.0 & 1 == 1
    }

    #[inline]
    fn at(self, port: PortId) -> u64 {
        self.0 | u64::from(port) << PORT_SHIFT
    }

    #[inline]
    fn is_in(self, word: u64) -> bool {
        (self.0 ^ word) & ADDRESS == 0
    }
}

impl From<Mac> for Key {
    #[inline]
    fn from([a, b, c, d, e, f]: Mac) -> Self {
        Self::new([a, b, c, d, e, f, 0, 0])
    }
}

/// Address and port in one word, and the second of the last frame.
#[derive(Debug)]
struct Entry {
    word: AtomicU64,
    seen: AtomicU32,
}

impl Entry {
    const fn free() -> Self {
        Self { word: AtomicU64::new(FREE), seen: AtomicU32::new(0) }
    }

    fn is_static(&self) -> bool {
        self.seen.load(Relaxed) == STATIC
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([Entry; WAYS]);

/// Learned addresses of one network.
#[derive(Debug)]
pub struct MacTable {
    /// How often an entry came, moved or went, or the rules changed.
    changes: AtomicU32,
    secret: [u64; 2],
    ageing: AtomicU32,
    buckets: Box<[Bucket; BUCKETS]>,
    counts: Box<[AtomicU16; PORTS]>,
}

impl MacTable {
    /// An empty table whose hashes depend on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            changes: AtomicU32::new(0),
            secret: [mix(seed), mix(!seed) | 1],
            ageing: AtomicU32::new(AGEING),
            buckets: Box::new([const { Bucket([const { Entry::free() }; WAYS]) }; BUCKETS]),
            counts: Box::new([const { AtomicU16::new(0) }; PORTS]),
        }
    }

    /// True when there is nothing to learn of an address and a port: it was seen there in the same second.
    #[inline(always)]
    fn is_fresh(&self, second: u32, word: u64) -> bool {
        self.seek(Key(word & ADDRESS), |other| other == word).is_some_and(|(entry, _)| {
            let seen = entry.seen.load(Relaxed);
            seen == second || seen == STATIC
        })
    }

    /// Remembers that `mac` is behind `port`, which may have at most `limit` addresses.
    pub fn learn(&self, now: Time, mac: Mac, port: PortId, limit: u16) -> Learned {
        let (second, mac) = (second(now), Key::from(mac));
        match self.find(mac) {
            Some((entry, word)) => self.refresh(entry, word, mac.at(port), second, limit),
            None => self.insert(mac, port, second, limit),
        }
    }

    /// Pins `mac` to `port` for good.
    pub fn insert_static(&self, mac: Mac, port: PortId) -> Learned {
        self.remove(mac);
        self.insert(mac.into(), port, STATIC, u16::MAX)
    }

    /// The port `mac` is behind; `None` when it was never seen or is aged.
    #[must_use]
    pub fn lookup(&self, now: Time, mac: Mac) -> Option<PortId> {
        self.place(second(now), mac.into())
    }

    #[inline(always)]
    fn place(&self, second: u32, mac: Key) -> Option<PortId> {
        if mac.is_group() {
            return None;
        }
        let (entry, word) = self.seek(mac, |word| mac.is_in(word))?;
        let seen = entry.seen.load(Relaxed);
        // Where the address is right, the difference is the port.
        (seen == second || self.fresh(seen, second)).then_some(port_of(mac.0 ^ word))
    }

    /// From now on an address is forgotten after so many seconds of silence; 0: within the second it was seen in.
    pub fn set_ageing(&self, seconds: u32) {
        self.ageing.store(seconds, Relaxed);
        self.changed();
    }

    #[inline(always)]
    fn changes(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// To be called after a change, so that nobody takes what was before for what is now.
    fn changed(&self) {
        self.changes.fetch_add(1, Release);
    }

    /// A static entry, and one that another worker with a faster clock has seen, is as fresh as can be.
    #[inline]
    fn fresh(&self, seen: u32, second: u32) -> bool {
        second.saturating_sub(seen) <= self.ageing.load(Relaxed)
    }

    /// Forgets an address that was learned; false when there is none.
    pub fn forget(&self, mac: Mac) -> bool {
        let learned = self.find(mac.into()).filter(|(entry, _)| !entry.is_static());
        learned.inspect(|(entry, word)| self.clear(entry, *word)).is_some()
    }

    /// Forgets one address.
    pub fn remove(&self, mac: Mac) {
        if let Some((entry, word)) = self.find(mac.into()) {
            self.clear(entry, word);
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
        let wanted = |word| entries.iter().any(|&(mac, port)| Key::from(mac).at(port) == word);
        self.clear_where(0, CAPACITY, |word, seen| seen == STATIC && !wanted(word));
        for &(mac, port) in entries {
            let known = self.find(mac.into());
            if !known.is_some_and(|(entry, word)| entry.is_static() && word == Key::from(mac).at(port)) {
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
        for entry in self.buckets.iter().flat_map(|bucket| &bucket.0) {
            let (word, seen) = (entry.word.load(Relaxed), entry.seen.load(Relaxed));
            if word != FREE && self.fresh(seen, second) {
                visit(
                    mac_of(word),
                    port_of(word),
                    if seen == STATIC { 0 } else { second.saturating_sub(seen) },
                );
            }
        }
    }

    fn refresh(&self, entry: &Entry, old: u64, new: u64, second: u32, limit: u16) -> Learned {
        let last = entry.seen.load(Relaxed);
        if old == new {
            if last != second && last != STATIC {
                entry.seen.store(second, Relaxed);
            }
            return Learned::Known;
        }
        if last == STATIC {
            return Learned::Refused;
        }
        if !self.take(port_of(new), limit) {
            return Learned::PortLimit;
        }
        if entry.word.compare_exchange(old, new, Relaxed, Relaxed).is_err() {
            self.give(port_of(new));
            return Learned::Refused;
        }
        entry.seen.store(second, Relaxed);
        self.changed();
        self.give(port_of(old));
        Learned::Moved
    }

    /// Groups are nobody's, so no entry is one's.
    fn insert(&self, mac: Key, port: PortId, second: u32, limit: u16) -> Learned {
        if mac.is_group() {
            return Learned::Refused;
        }
        if !self.take(port, limit) {
            return Learned::PortLimit;
        }
        for entry in self.places(mac).into_iter().flat_map(|at| self.bucket(at)) {
            if entry.word.compare_exchange(FREE, mac.at(port), Relaxed, Relaxed).is_ok() {
                entry.seen.store(second, Relaxed);
                self.changed();
                return Learned::New;
            }
        }
        self.give(port);
        Learned::Refused
    }

    /// The entry of an address, with its word.
    fn find(&self, mac: Key) -> Option<(&Entry, u64)> {
        self.seek(mac, |word| mac.is_in(word)).filter(|_| !mac.is_group())
    }

    /// An entry that an address may have; a free one looks like broadcast's.
    #[inline(always)]
    fn seek(&self, mac: Key, is: impl Fn(u64) -> bool) -> Option<(&Entry, u64)> {
        let [first, second] = self.places(mac);
        self.seek_in(first, &is).or_else(|| self.seek_in(second, &is))
    }

    #[inline(always)]
    fn seek_in(&self, at: usize, is: impl Fn(u64) -> bool) -> Option<(&Entry, u64)> {
        let entries = self.bucket(at).iter().map(|entry| (entry, entry.word.load(Relaxed)));
        entries.into_iter().find(|&(_, word)| is(word))
    }

    #[inline]
    fn bucket(&self, at: usize) -> &[Entry; WAYS] {
        &self.buckets[at % BUCKETS].0
    }

    /// The buckets an address may be in. Both factors are secret, so nobody can aim at one.
    #[inline]
    fn places(&self, mac: Key) -> [usize; 2] {
        let product = u128::from(mac.0 ^ self.secret[0]) * u128::from(self.secret[1]);
        let hash = (product >> 64) as u64 ^ product as u64;
        [(hash as usize) % BUCKETS, ((hash >> 32) as usize) % BUCKETS]
    }

    fn clear_where(&self, from: usize, count: usize, doomed: impl Fn(u64, u32) -> bool) {
        for index in from..CAPACITY.min(from.saturating_add(count)) {
            let entry = &self.bucket(index / WAYS)[index % WAYS];
            let word = entry.word.load(Relaxed);
            if word != FREE && doomed(word, entry.seen.load(Relaxed)) {
                self.clear(entry, word);
            }
        }
    }

    fn clear(&self, entry: &Entry, word: u64) {
        if entry.word.compare_exchange(word, FREE, Relaxed, Relaxed).is_ok() {
            self.changed();
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

/// What a worker looked up last: frames come in rows. Good until time or table changes.
#[derive(Debug)]
pub struct Memo {
    now: Time,
    /// The second that is in.
    second: u32,
    changes: u32,
    /// An address and the port it is surely behind.
    source: u64,
    /// An address and the network it was looked up in, and the port it was found behind.
    destination: u64,
    port: PortId,
}

impl Default for Memo {
    fn default() -> Self {
        Self::new(Time::default(), 0)
    }
}

impl Memo {
    fn new(now: Time, changes: u32) -> Self {
        Self { now, second: second(now), changes, source: FREE, destination: FREE, port: 0 }
    }

    /// Has to come before each of the others.
    #[inline(always)]
    pub fn open(&mut self, macs: &MacTable, now: Time) {
        let changes = macs.changes();
        if self.now != now || self.changes != changes {
            *self = Self::new(now, changes);
        }
    }

    /// True when `mac` is known to be behind `port`, and nothing is to be learned. It is not `never`'s.
    #[inline(always)]
    pub fn is_fresh(&mut self, macs: &MacTable, mac: Key, port: PortId, never: Key) -> bool {
        let word = mac.at(port);
        self.source == word || (mac != never && self.find_source(macs, word))
    }

    #[cold]
    #[inline(never)]
    fn find_source(&mut self, macs: &MacTable, word: u64) -> bool {
        let fresh = macs.is_fresh(self.second, word);
        if fresh {
            self.source = word;
        }
        fresh
    }

    /// The port of `network` that `mac` is behind.
    #[inline(always)]
    pub fn place(&mut self, macs: &MacTable, network: u16, mac: Key) -> Option<PortId> {
        let word = mac.at(network);
        if self.destination == word { Some(self.port) } else { self.find_place(macs, word) }
    }

    #[cold]
    #[inline(never)]
    fn find_place(&mut self, macs: &MacTable, word: u64) -> Option<PortId> {
        self.port = macs.place(self.second, Key(word & ADDRESS))?;
        self.destination = word;
        Some(self.port)
    }
}

/// Seconds fit in 32 bits for 136 years of uptime; the top value is kept for static entries.
#[inline]
fn second(now: Time) -> u32 {
    u32::try_from(now.secs()).unwrap_or(STATIC - 1).min(STATIC - 1)
}

fn mac_of(word: u64) -> Mac {
    let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
    [a, b, c, d, e, f]
}

#[inline]
fn port_of(word: u64) -> PortId {
    (word >> PORT_SHIFT) as PortId
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
