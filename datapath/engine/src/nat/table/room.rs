//! Sessions that come to a table.

use super::{Host, Table, host_hash};
use crate::DropReason;
use crate::nat::list::seconds;
use crate::nat::slot::Slot;
use crate::nat::timers::renewal;
use crate::time::Time;

/// What the indexes say of a session that is not in them, so that nothing is looked up or hashed twice.
pub(in crate::nat) struct Room {
    host: Option<u32>,
    /// Any session of its mapping, if that exists.
    sibling: Option<u32>,
    out_hash: u32,
    inside_hash: u32,
}

impl Table {
    /// Stores a session whose fields are complete except for timer and seal.
    pub(in crate::nat) fn insert(&mut self, now: Time, slot: Slot) -> Result<u32, DropReason> {
        let room = self.room(&slot);
        self.take(now, slot, &room).map(|(number, _)| number).ok_or(DropReason::NatTableFull)
    }

    /// Room for a session, its external port not known yet, for which nothing has to give way; `None` as well when it
    /// exists, or ran out and is still there.
    pub(in crate::nat) fn easy_room(&self, now: Time, slot: &Slot) -> Option<Room> {
        let room = self.room(slot);
        let sessions =
            room.host.and_then(|host| self.hosts.get(host as usize)).map_or(0, |host| host.sessions);
        if self.free.is_empty() || sessions >= self.quota {
            return None;
        }
        if let Some(sibling) = room.sibling.and_then(|sibling| self.get(sibling))
            && (sibling.expires() <= now.0 || sibling.external != slot.external)
        {
            return None;
        }
        let key = slot.out_key();
        let known = self.by_out.find(room.out_hash, |number| self.is(number, |slot| slot.out_key() == key));
        known.is_none().then_some(room)
    }

    /// The external port of the mapping.
    pub(in crate::nat) fn port_at(&self, room: &Room) -> Option<u16> {
        Some(self.get(room.sibling?)?.external_port.get())
    }

    #[inline]
    fn room(&self, slot: &Slot) -> Room {
        let inside = slot.inside_key();
        let inside_hash = self.hasher.hash(inside);
        let sibling =
            self.by_inside.find(inside_hash, |number| self.is(number, |slot| slot.inside_key() == inside));
        let out_hash = self.hasher.hash(slot.out_key());
        Room { host: self.host(slot.host_key()), sibling, out_hash, inside_hash }
    }

    /// Stores a session as [`Self::insert`] does; `None` when there is no slot left, or no host.
    pub(in crate::nat) fn take(&mut self, now: Time, mut slot: Slot, room: &Room) -> Option<(u32, &Slot)> {
        let number = self.free.pop()?;
        self.latest = now.0;
        slot.renew = renewal(now);
        slot.seal();
        if self.enter(number, &slot, room).is_none() {
            self.free.push(number);
            return None;
        }
        *self.born.get_mut(number as usize)? = seconds(now);
        self.note_begin(now, &slot, room.sibling);
        let place = self.slots.get_mut(number as usize)?;
        *place = slot;
        Some((number, place))
    }

    /// Enters a session that is in its slot, or will be.
    pub(super) fn link(&mut self, number: u32, slot: &Slot) -> Option<()> {
        let room = self.room(slot);
        self.enter(number, slot, &room)
    }

    fn enter(&mut self, number: u32, slot: &Slot, room: &Room) -> Option<()> {
        let host = self.join_host(slot.host_key(), room.host)?;
        if let Some(entry) = self.host_of.get_mut(number as usize) {
            *entry = host;
        }
        if !slot.is_assured() {
            self.young.insert_before(self.young_head(host), number);
        }
        match room.sibling {
            _ if slot.is_forwarded() => {}
            Some(sibling) => self.mapping.insert_before(sibling, number),
            None => {
                self.by_inside.insert(room.inside_hash, number);
                self.by_external.insert(self.hasher.hash(slot.external_key()), number);
            }
        }
        if self.peers.is_some() && !slot.is_forwarded() {
            self.enter_peer(number, slot);
        }
        self.by_out.insert(room.out_hash, number);
        self.by_in.insert(self.hasher.hash(slot.in_key()), number);
        self.timers.insert_before(self.timer_head(slot.class()), number);
        Some(())
    }

    fn join_host(&mut self, key: u64, known: Option<u32>) -> Option<u32> {
        let host = match known {
            Some(host) => host,
            None => self.new_host(key)?,
        };
        self.hosts.get_mut(host as usize)?.sessions += 1;
        Some(host)
    }

    #[cold]
    fn new_host(&mut self, key: u64) -> Option<u32> {
        let host = self.free_hosts.pop()?;
        *self.hosts.get_mut(host as usize)? = Host { key, sessions: 0 };
        self.by_host.insert(host_hash(&self.hasher, key), host);
        Some(host)
    }
}
