//! Sessions and mappings of one worker.
//!
//! A session is a slot. A mapping (RFC 4787 REQ-1) is the ring of the sessions that share an external port: it lives
//! exactly as long as one of them does. Indexes and rings are kept outside the slots and rebuilt from them.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use super::index::{Hasher, Index, Rings};
use super::journal::Journal;
use super::list::seconds;
use super::released::{Port, Released};
use super::slot::{Flow, Key, Slot, external_key, host_key};
use super::timers::{Class, renewal};
use crate::DropReason;
use crate::time::Time;

mod peers;
mod room;

/// Sessions one call of [`Table::expire`] ends at most, so that a turn stays short.
const BATCH: usize = 256;
/// Sessions an inside address may always have.
const MIN_QUOTA: u32 = 64;

#[derive(Clone, Copy, Default)]
struct Host {
    key: u64,
    sessions: u32,
}

pub(super) struct Table {
    slots: &'static mut [Slot],
    hasher: Hasher,
    by_out: Index,
    by_in: Index,
    by_inside: Index,
    by_external: Index,
    by_host: Index,
    /// By slot: sessions of one mapping.
    mapping: Rings,
    /// By slot, then one head a [`Class`]: in order of expiry.
    timers: Rings,
    /// By slot, then one head a host: sessions nobody answered yet, oldest first.
    young: Rings,
    hosts: Vec<Host>,
    host_of: Vec<u32>,
    /// By slot: the second its session began.
    born: Vec<u32>,
    pub(super) journal: Journal,
    free: Vec<u32>,
    free_hosts: Vec<u32>,
    peers: Option<peers::Peers>,
    released: Released,
    /// When something was done last.
    latest: u64,
    quota: u32,
}

fn host_hash(hasher: &Hasher, key: u64) -> u32 {
    hasher.hash([key, u64::MAX])
}

fn released_port(slot: &Slot) -> Port {
    Port { uplink: slot.uplink.get(), protocol: slot.protocol, port: slot.external_port.get() }
}

impl Table {
    pub(super) fn new(slots: &'static mut [Slot], seed: u64) -> Self {
        let count = slots.len().min(u32::MAX as usize / 4);
        // Fewer hosts than slots keeps index memory low; a host has many sessions.
        let hosts = (count / 2).max(64).min(count);
        Self {
            slots,
            hasher: Hasher::new(seed),
            by_out: Index::new(count),
            by_in: Index::new(count),
            by_inside: Index::new(count),
            by_external: Index::new(count),
            by_host: Index::new(hosts),
            mapping: Rings::new(count),
            timers: Rings::new(count + Class::ALL.len()),
            young: Rings::new(count + hosts),
            hosts: vec![Host::default(); hosts],
            host_of: vec![0; count],
            born: vec![0; count],
            journal: Journal::default(),
            free: (0..count as u32).rev().collect(),
            free_hosts: (0..hosts as u32).rev().collect(),
            peers: None,
            released: Released::new(),
            latest: 0,
            quota: MIN_QUOTA.max(count as u32 / 2),
        }
    }

    /// Takes over the sound sessions found in the slots and zeroes what is not. Two that contradict each other
    /// cannot both be right: the first stays.
    pub(super) fn adopt(&mut self, now: Time, mine: impl Fn(&Slot) -> bool) {
        let mut found: Vec<(u64, u32)> = Vec::new();
        self.born.fill(seconds(now));
        for (number, slot) in (0..self.host_of.len() as u32).zip(self.slots.iter_mut()) {
            slot.renew = slot.renew.min(renewal(now));
            if slot.is_sound() && slot.expires() > now.0 && mine(slot) {
                // The other process's checks and sums are not ours.
                slot.epoch = 0;
                slot.seal();
                found.push((slot.expires(), number));
            } else {
                *slot = Slot::default();
            }
        }
        found.sort_unstable();
        self.free.clear();
        let slots = (0..self.host_of.len() as u32).zip(self.slots.iter());
        self.free.extend(slots.rev().filter(|(_, slot)| !slot.is_used()).map(|(number, _)| number));
        for (_, number) in found {
            let slot = self.slot(number);
            if !self.contradicts(&slot) && self.link(number, &slot).is_some() {
                continue;
            }
            self.put(number, Slot::default());
            self.free.push(number);
        }
    }

    fn contradicts(&self, slot: &Slot) -> bool {
        if slot.is_forwarded() {
            return self.find_out(slot.out_key()).is_some() || self.find_in(slot.in_key()).is_some();
        }
        let inside = self.find_inside(slot.inside_key());
        let external = self.find_external(slot.external_key());
        let same = |number: u32| {
            let other = self.slot(number);
            other.inside_key() == slot.inside_key()
                && other.external_key() == slot.external_key()
                && other.external == slot.external
        };
        inside != external
            || inside.is_some_and(|number| !same(number))
            || self.find_out(slot.out_key()).is_some()
            || self.find_in(slot.in_key()).is_some()
    }

    /// The second the session of a slot began.
    pub(super) fn born(&self, number: u32) -> u32 {
        self.born.get(number as usize).copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.capacity() - self.free.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.host_of.len()
    }

    pub(super) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    pub(super) fn slot(&self, number: u32) -> Slot {
        self.slots.get(number as usize).copied().unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn get(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)
    }

    #[inline(always)]
    pub(super) fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)
    }

    fn put(&mut self, number: u32, slot: Slot) {
        if let Some(place) = self.slot_mut(number) {
            *place = slot;
        }
    }

    #[inline]
    fn is(&self, number: u32, test: impl Fn(&Slot) -> bool) -> bool {
        self.slots.get(number as usize).is_some_and(test)
    }

    #[inline]
    fn find_out(&self, key: Key) -> Option<u32> {
        self.by_out.find(self.hasher.hash(key), |number| self.is(number, |slot| slot.out_key() == key))
    }

    #[inline]
    fn find_in(&self, key: Key) -> Option<u32> {
        self.by_in.find(self.hasher.hash(key), |number| self.is(number, |slot| slot.in_key() == key))
    }

    fn find_inside(&self, key: Key) -> Option<u32> {
        self.by_inside.find(self.hasher.hash(key), |number| self.is(number, |slot| slot.inside_key() == key))
    }

    fn find_external(&self, key: Key) -> Option<u32> {
        self.by_external
            .find(self.hasher.hash(key), |number| self.is(number, |slot| slot.external_key() == key))
    }

    /// A session found after its end, but before its turn in [`Table::expire`], is gone.
    fn alive(&mut self, now: Time, number: u32) -> Option<u32> {
        if self.is(number, |slot| slot.expires() > now.0) {
            return Some(number);
        }
        self.latest = now.0;
        self.remove(number);
        None
    }

    /// The session of an inside endpoint.
    pub(super) fn outgoing(&mut self, now: Time, network: u16, flow: &Flow) -> Option<u32> {
        let number = self.find_out(flow.out_key(network))?;
        self.alive(now, number)
    }

    /// The session of an external endpoint.
    pub(super) fn incoming(&mut self, now: Time, uplink: u16, flow: &Flow) -> Option<u32> {
        let number = self.find_in(flow.in_key(uplink))?;
        self.alive(now, number)
    }

    /// The session whose packets from inside have `key`.
    #[inline(always)]
    pub(super) fn known_out(&mut self, key: Key) -> Option<(u32, &mut Slot)> {
        let hash = self.hasher.hash(key);
        let number = match self.by_out.first(hash) {
            Some(number) => number,
            None => self.known_out_behind(hash, key)?,
        };
        let slot = self.slots.get_mut(number as usize)?;
        (slot.out_key() == key).then_some((number, slot))
    }

    #[cold]
    #[inline(never)]
    fn known_out_behind(&self, hash: u32, key: Key) -> Option<u32> {
        self.by_out.find(hash, |number| self.is(number, |slot| slot.out_key() == key))
    }

    /// The session whose packets from outside have `key`.
    #[inline(always)]
    pub(super) fn known_in(&self, key: Key) -> Option<(u32, &Slot)> {
        let hash = self.hasher.hash(key);
        let number = match self.by_in.first(hash) {
            Some(number) => number,
            None => self.known_in_behind(hash, key)?,
        };
        let slot = self.slots.get(number as usize)?;
        (slot.in_key() == key).then_some((number, slot))
    }

    #[cold]
    #[inline(never)]
    fn known_in_behind(&self, hash: u32, key: Key) -> Option<u32> {
        self.by_in.find(hash, |number| self.is(number, |slot| slot.in_key() == key))
    }

    /// Any living session of the inside endpoint's mapping.
    pub(super) fn mapping_of(&mut self, now: Time, network: u16, uplink: u16, flow: &Flow) -> Option<u32> {
        let key = flow.inside_key(network, uplink);
        loop {
            let number = self.find_inside(key)?;
            if self.alive(now, number).is_some() {
                return Some(number);
            }
        }
    }

    /// Any living session of the mapping of an external port.
    pub(super) fn mapping_at(&mut self, now: Time, uplink: u16, flow: &Flow) -> Option<u32> {
        let key = external_key(uplink, flow.protocol, flow.local.1);
        loop {
            let number = self.find_external(key)?;
            if self.alive(now, number).is_some() {
                return Some(number);
            }
        }
    }

    pub(super) fn is_free(&self, uplink: u16, protocol: u8, port: u16) -> bool {
        self.find_external(external_key(uplink, protocol, port)).is_none()
    }

    /// A port that is free has rested long enough, or was the same endpoint's.
    #[inline(always)]
    pub(super) fn may_have(&self, now: Time, network: u16, uplink: u16, flow: &Flow, port: u16) -> bool {
        let resting = self.released.owner(now.0, &Port { uplink, protocol: flow.protocol, port });
        resting.is_none_or(|owner| owner.is(self.hasher.hash(flow.inside_key(network, uplink))))
    }

    fn host(&self, key: u64) -> Option<u32> {
        self.by_host.find(host_hash(&self.hasher, key), |host| {
            self.hosts.get(host as usize).is_some_and(|entry| entry.key == key)
        })
    }

    fn young_head(&self, host: u32) -> u32 {
        self.host_of.len() as u32 + host
    }

    fn timer_head(&self, class: Class) -> u32 {
        self.host_of.len() as u32 + class as u32
    }

    //= RFC4787#REQ-11, RFC6888#REQ-11
    /// Makes sure that an inside address can get one more session. When the table is full, its own oldest session
    /// nobody answered gives way, never another host's (RFC 6888 REQ-11).
    pub(super) fn make_room(&mut self, now: Time, network: u16, address: Ipv4Addr) -> Result<(), DropReason> {
        let key = host_key(network, address);
        let sessions =
            self.host(key).and_then(|host| self.hosts.get(host as usize)).map_or(0, |host| host.sessions);
        if sessions >= self.quota {
            self.expire(now);
            let host = self.host(key).and_then(|host| self.hosts.get(host as usize));
            if host.is_some_and(|host| host.sessions >= self.quota) {
                return Err(DropReason::NatQuota);
            }
        }
        if self.free.is_empty() {
            self.expire(now);
        }
        if self.free.is_empty() {
            let host = self.host(key).ok_or(DropReason::NatTableFull)?;
            let oldest = self.young.first(self.young_head(host)).ok_or(DropReason::NatTableFull)?;
            self.remove(oldest);
        }
        Ok(())
    }

    fn leave_host(&mut self, host: u32) {
        let Some(entry) = self.hosts.get_mut(host as usize) else { return };
        entry.sessions = entry.sessions.saturating_sub(1);
        if entry.sessions == 0 {
            let key = entry.key;
            self.by_host.remove(host_hash(&self.hasher, key), host);
            self.free_hosts.push(host);
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        let slot = self.slot(number);
        if !slot.is_used() {
            return;
        }
        self.note_end(number, &slot);
        self.by_out.remove(self.hasher.hash(slot.out_key()), number);
        self.by_in.remove(self.hasher.hash(slot.in_key()), number);
        if !slot.is_forwarded() {
            self.leave_mapping(number, &slot);
        }
        self.timers.remove(number);
        self.young.remove(number);
        self.leave_host(self.host_of.get(number as usize).copied().unwrap_or(0));
        self.put(number, Slot::default());
        self.free.push(number);
    }

    /// No other session shares the mapping.
    pub(super) fn is_alone(&self, number: u32) -> bool {
        self.mapping.first(number).is_none()
    }

    fn leave_mapping(&mut self, number: u32, slot: &Slot) {
        let (inside, external) = (self.hasher.hash(slot.inside_key()), self.hasher.hash(slot.external_key()));
        match self.mapping.first(number) {
            Some(sibling) => {
                self.by_inside.replace(inside, number, sibling);
                self.by_external.replace(external, number, sibling);
            }
            None => {
                self.by_inside.remove(inside, number);
                self.by_external.remove(external, number);
                self.released.put(self.latest, &released_port(slot), inside);
            }
        }
        self.mapping.remove(number);
        if self.peers.is_some() {
            self.leave_peer(number, slot);
        }
    }

    /// Takes note of a packet: the session's class may have changed, and `refresh` restarts its timer.
    pub(super) fn touch(&mut self, now: Time, number: u32, before: Class, refresh: bool) {
        let Some(slot) = self.slot_mut(number) else { return };
        let (class, assured) = (slot.class(), slot.is_assured());
        if class != before || (refresh && now.0 >= slot.renew) {
            self.rearm(now, number, class);
        }
        if assured {
            self.young.remove(number);
        }
    }

    /// Restarts the timer of a session that a packet keeps alive, unless it has run out.
    #[cold]
    #[inline(never)]
    pub(super) fn keep(&mut self, now: Time, number: u32) -> Option<&mut Slot> {
        let class = self.get(number).filter(|slot| slot.expires() > now.0)?.class();
        self.rearm(now, number, class);
        self.slot_mut(number)
    }

    /// Restarts the timer of a session that is of `class` now.
    #[cold]
    pub(super) fn rearm(&mut self, now: Time, number: u32, class: Class) {
        let Some(slot) = self.slot_mut(number) else { return };
        slot.renew = renewal(now);
        self.timers.remove(number);
        self.timers.insert_before(self.timer_head(class), number);
    }

    pub(super) fn expire(&mut self, now: Time) {
        let mut left = BATCH;
        self.latest = now.0;
        for class in Class::ALL {
            while let Some(number) = self.timers.first(self.timer_head(class)) {
                if left == 0 || self.slot(number).expires() > now.0 {
                    break;
                }
                self.remove(number);
                left -= 1;
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        Class::ALL
            .iter()
            .filter_map(|&class| self.timers.first(self.timer_head(class)))
            .map(|number| Time(self.slot(number).expires()))
            .min()
    }

    pub(super) fn remove_where(&mut self, test: impl Fn(&Slot) -> bool) {
        for number in 0..self.host_of.len() as u32 {
            if self.is(number, |slot| slot.is_used() && test(slot)) {
                self.remove(number);
            }
        }
    }
}
