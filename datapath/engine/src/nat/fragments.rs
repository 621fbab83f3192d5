//! Which datagram a fragment belongs to.
//!
//! Only the first fragment names the ports. What it was translated to is remembered, so that the others of the same
//! datagram follow (RFC 4787 REQ-14); [`super::order`] has them come behind it. A fixed table bounds what half datagrams
//! can cost (REQ-14a): all of one sender share a set, in which its oldest give way.

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::vnet;

use super::index::Hasher;
use super::order::{Order, Step, key, sender};
use super::slot::Key;
use super::{Inside, Nat, Side};
use crate::DropReason;
use crate::time::Time;

const SETS: usize = 128;
const WAYS: usize = 16;
const SECONDS: u64 = 30;

#[derive(Clone, Copy, Default)]
struct Entry {
    key: Key,
    expires: Time,
    found: Found,
}

/// What became of the first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) address: Ipv4Addr,
    pub(super) uplink: u16,
    pub(super) inside: Inside,
    /// Its identification outside.
    pub(super) id: u16,
}

impl Default for Found {
    fn default() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED, uplink: 0, inside: Inside::default(), id: 0 }
    }
}

/// Datagrams of one direction.
pub(super) struct Fragments(Vec<[Entry; WAYS]>);

impl Fragments {
    pub(super) fn new() -> Self {
        Self(vec![[Entry::default(); WAYS]; SETS])
    }

    fn set(&mut self, hasher: &Hasher, sender: Key) -> &mut [Entry] {
        let set = hasher.hash(sender) as usize % SETS;
        self.0.get_mut(set).map_or(&mut [], |set| set.as_mut_slice())
    }

    //= RFC4787#REQ-14a
    /// Remembers a first fragment by the packet as it arrived; the oldest of the set makes room.
    pub(super) fn put(&mut self, hasher: &Hasher, now: Time, link: u16, packet: &Packet, found: Found) {
        let key = key(link, packet);
        let set = self.set(hasher, sender(link, packet));
        let at = set
            .iter()
            .position(|entry| entry.key == key)
            .or_else(|| (0..set.len()).min_by_key(|&at| set.get(at).map(|entry| entry.expires)));
        if let Some(entry) = at.and_then(|at| set.get_mut(at)) {
            *entry = Entry { key, expires: now.after_secs(SECONDS), found };
        }
    }

    pub(super) fn get(&mut self, hasher: &Hasher, now: Time, link: u16, packet: &Packet) -> Option<Found> {
        let key = key(link, packet);
        let set = self.set(hasher, sender(link, packet));
        set.iter().find(|entry| entry.key == key && entry.expires > now).map(|entry| entry.found)
    }

    /// Forgets datagrams whose remembered facts no longer hold.
    pub(super) fn clear(&mut self) {
        self.0.fill([Entry::default(); WAYS]);
    }
}

impl Nat {
    /// The order of fragments from inside, or from outside.
    fn order(&mut self, from: Side) -> (&mut Order, &Hasher) {
        let order = if from == Side::Source { &mut self.sent_order } else { &mut self.received_order };
        (order, self.table.hasher())
    }

    /// The worker that sees all fragments of a datagram. `link`: the network or uplink it came by.
    pub(crate) fn keeper(&self, link: u16, packet: &Packet) -> u16 {
        let hash = self.table.hasher().hash(key(link, packet));
        u16::try_from(hash % u32::from(self.worker.1.max(1))).unwrap_or(0)
    }

    /// What is to be done with a fragment; of the first one, `port` names its owner.
    ///
    /// # Errors
    /// Why it does not go on.
    pub(crate) fn note_fragment(
        &mut self,
        now: Time,
        (from, link): (Side, u16),
        packet: &Packet,
        port: Option<u16>,
    ) -> Result<Step, DropReason> {
        let (order, hasher) = self.order(from);
        order.note(hasher, now, link, packet, port)
    }

    /// Keeps a fragment that is to wait for the first of its datagram.
    ///
    /// # Errors
    /// When too much waits already.
    pub(crate) fn hold_fragment(
        &mut self,
        now: Time,
        (from, link): (Side, u16),
        packet: &Packet,
        held: (vnet::Header, &[u8]),
    ) -> Result<(), DropReason> {
        let (order, hasher) = self.order(from);
        order.hold(hasher, now, link, packet, held)
    }

    /// Gives up fragments that have waited too long.
    pub(crate) fn expire_fragments(&mut self, now: Time) {
        self.sent_order.expire(now);
        self.received_order.expire(now);
    }

    pub(crate) fn has_waiting_fragments(&self) -> bool {
        self.sent_order.is_waiting() || self.received_order.is_waiting()
    }

    /// Fragments that were given up since the last call.
    pub(crate) fn take_lost_fragments(&mut self) -> u64 {
        self.sent_order.take_lost() + self.received_order.take_lost()
    }
}
