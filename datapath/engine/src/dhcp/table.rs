//! Addresses in use, with the indexes that keep every lookup logarithmic.
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use super::{Lease, Mac, pool::Pool};

/// A client's identity: its identifier if it sends one, else its hardware address (RFC 2131 §4.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Id(Vec<u8>),
    Mac(Mac),
}

impl Key {
    pub(super) fn new(id: Option<&[u8]>, mac: Mac) -> Self {
        id.map_or(Self::Mac(mac), |id| Self::Id(id.to_vec()))
    }

    /// FNV-1a with a final mix; it only chooses where a search starts.
    pub(super) fn hash(&self, seed: u64) -> u64 {
        let bytes: &[u8] = match self {
            Self::Id(id) => id,
            Self::Mac(mac) => mac,
        };
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = bytes.iter().fold(seed ^ 0xcbf2_9ce4_8422_2325, step);
        (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }
}

/// What an address is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Offered,
    Bound,
    /// Expired or released: remembered so that the client gets it again.
    Past,
    /// Declined: nobody gets it.
    Quarantined,
}

/// The `time` of a lease without end.
const FOREVER: u64 = u64::MAX;

/// How to undo the last binding.
#[derive(Clone, Debug)]
pub(super) enum Undo {
    Keep,
    Remove,
    Restore(Box<Lease>),
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) lease: Lease,
    pub(super) phase: Phase,
    /// When the phase ends, or for `Past` when the lease did.
    pub(super) time: u64,
    pub(super) undo: Undo,
    /// The `time` of the `Past` slot that an offer replaced.
    pub(super) past: Option<u64>,
}

impl Slot {
    pub(super) fn bound(key: Key, lease: Lease, undo: Undo) -> Self {
        let time = if lease.expiry == 0 { FOREVER } else { lease.expiry };
        Self { key, lease, phase: Phase::Bound, time, undo, past: None }
    }

    pub(super) fn ip(&self) -> u32 {
        self.lease.ip.to_bits()
    }
}

/// All slots. A client has at most one besides quarantined ones.
pub(super) struct Table {
    pub(super) pool: Pool,
    slots: BTreeMap<u32, Slot>,
    by_key: BTreeMap<Key, u32>,
    by_name: BTreeMap<String, u32>,
    by_mac: BTreeSet<(Mac, u32)>,
    order: BTreeSet<(Phase, u64, u32)>,
    offered: usize,
    quarantined: usize,
}

impl Table {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            slots: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_mac: BTreeSet::new(),
            order: BTreeSet::new(),
            offered: 0,
            quarantined: 0,
        }
    }

    pub(super) fn into_slots(self) -> impl Iterator<Item = Slot> {
        self.slots.into_values()
    }

    pub(super) fn get(&self, ip: u32) -> Option<&Slot> {
        self.slots.get(&ip)
    }

    /// For changes that no index knows of.
    pub(super) fn get_mut(&mut self, ip: u32) -> Option<&mut Slot> {
        self.slots.get_mut(&ip)
    }

    /// The slot of a client.
    pub(super) fn of(&self, key: &Key) -> Option<&Slot> {
        self.get(*self.by_key.get(key)?)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Lease> {
        self.get(*self.by_name.get(name)?).map(|slot| &slot.lease)
    }

    pub(super) fn bound(&self) -> impl Iterator<Item = &Lease> {
        self.slots.values().filter(|slot| slot.phase == Phase::Bound).map(|slot| &slot.lease)
    }

    /// Addresses that a MAC address occupies.
    pub(super) fn held_by(&self, mac: Mac) -> usize {
        self.by_mac.range((mac, 0)..=(mac, u32::MAX)).count()
    }

    /// Puts a slot in place of whatever its address and its client had before.
    pub(super) fn insert(&mut self, slot: Slot) {
        let ip = slot.ip();
        self.remove(ip);
        if slot.phase != Phase::Quarantined
            && let Some(other) = self.by_key.insert(slot.key.clone(), ip)
        {
            self.remove(other);
            self.by_key.insert(slot.key.clone(), ip);
        }
        match slot.phase {
            Phase::Offered => self.offered += 1,
            Phase::Quarantined => self.quarantined += 1,
            Phase::Bound | Phase::Past => {}
        }
        if matches!(slot.phase, Phase::Offered | Phase::Bound) {
            self.by_mac.insert((slot.lease.mac, ip));
        }
        if let (Phase::Bound, Some(name)) = (slot.phase, &slot.lease.hostname) {
            self.by_name.insert(name.clone(), ip);
        }
        self.order.insert((slot.phase, slot.time, ip));
        self.pool.take(ip);
        self.slots.insert(ip, slot);
    }

    pub(super) fn remove(&mut self, ip: u32) -> Option<Slot> {
        let slot = self.slots.remove(&ip)?;
        if self.by_key.get(&slot.key) == Some(&ip) {
            self.by_key.remove(&slot.key);
        }
        if let Some(name) = &slot.lease.hostname
            && self.by_name.get(name) == Some(&ip)
        {
            self.by_name.remove(name);
        }
        match slot.phase {
            Phase::Offered => self.offered -= 1,
            Phase::Quarantined => self.quarantined -= 1,
            Phase::Bound | Phase::Past => {}
        }
        self.by_mac.remove(&(slot.lease.mac, ip));
        self.order.remove(&(slot.phase, slot.time, ip));
        self.pool.give_back(ip);
        Some(slot)
    }

    /// The earliest address of a phase.
    fn first(&self, phase: Phase) -> Option<(u64, u32)> {
        let (_, time, ip) = self.order.range((phase, 0, 0)..=(phase, u64::MAX, u32::MAX)).next()?;
        Some((*time, *ip))
    }

    /// The address whose lease ended longest ago.
    pub(super) fn oldest_expired(&self, unix: u64) -> Option<u32> {
        let until = unix.min(FOREVER - 1);
        let bound = self.order.range((Phase::Bound, 0, 0)..=(Phase::Bound, until, u32::MAX));
        // Reserved addresses can be expired too, but only their host gets them.
        let bound = bound.map(|(_, time, ip)| (*time, *ip)).find(|(_, ip)| self.pool.contains(*ip));
        [bound, self.first(Phase::Past)].into_iter().flatten().min().map(|(_, ip)| ip)
    }

    /// Turns a slot into a memory of its client, if the address is one a client can get again by memory.
    pub(super) fn retire(&mut self, ip: u32, when: u64) -> Option<Lease> {
        let slot = self.remove(ip)?;
        let lease = slot.lease.clone();
        if self.pool.contains(ip) {
            self.insert(Slot { phase: Phase::Past, time: when, undo: Undo::Keep, past: None, ..slot });
        }
        Some(lease)
    }

    /// Ends an offer: the address is forgotten unless its client had it before.
    pub(super) fn withdraw(&mut self, ip: u32) {
        match self.get(ip).map(|slot| slot.past) {
            Some(Some(when)) => drop(self.retire(ip, when)),
            Some(None) => drop(self.remove(ip)),
            None => {}
        }
    }

    /// Retires the bound lease that expired first.
    pub(super) fn expire_one(&mut self, unix: u64) -> Option<Lease> {
        let (time, ip) = self.first(Phase::Bound).filter(|(time, _)| *time <= unix && *time != FOREVER)?;
        self.retire(ip, time)
    }

    /// Ends due offers and quarantines.
    pub(super) fn sweep_held(&mut self, unix: u64, batch: usize) {
        for _ in 0..batch {
            match self.first(Phase::Offered) {
                Some((time, ip)) if time <= unix => self.withdraw(ip),
                _ => break,
            }
        }
        for _ in 0..batch {
            match self.first(Phase::Quarantined) {
                Some((time, ip)) if time <= unix => drop(self.remove(ip)),
                _ => break,
            }
        }
    }

    /// Holds an address for a client; the oldest offer makes room when too many are open.
    pub(super) fn offer(&mut self, slot: Slot) {
        let limit = (self.pool.size() / 2).clamp(16, 4096);
        if self.offered >= limit
            && let Some((_, ip)) = self.first(Phase::Offered)
        {
            self.withdraw(ip);
        }
        self.insert(slot);
    }

    /// Takes a declined address out of use; the oldest comes back when a quarter of the pool is out.
    pub(super) fn quarantine(&mut self, ip: u32, until: u64) {
        let Some(slot) = self.remove(ip) else { return };
        let limit = if self.pool.size() < 2 { 0 } else { (self.pool.size() / 4).max(1) };
        if self.quarantined >= limit
            && let Some((_, oldest)) = self.first(Phase::Quarantined)
        {
            self.remove(oldest);
        }
        if self.quarantined < limit {
            self.insert(Slot { phase: Phase::Quarantined, time: until, past: None, ..slot });
        }
    }
}
