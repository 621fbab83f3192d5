//! Sessions by mapping and remote address, for networks that let in whoever has an address a guest spoke to.

use super::{Index, Rings, Slot, Table};
use crate::nat::slot::{Flow, Key};
use crate::time::Time;

/// Built when a network asks for it first, from then on kept.
pub(super) struct Peers {
    by: Index,
    /// By slot: sessions of one mapping with one remote address.
    rings: Rings,
}

fn key(slot: &Slot) -> Key {
    peer_key(slot.external_key(), u32::from_be_bytes(slot.remote))
}

fn peer_key([link, protocol]: Key, remote: u32) -> Key {
    [link, protocol | u64::from(remote) << 32]
}

impl Table {
    /// Keeps sessions by remote address from now on.
    pub(in crate::nat) fn keep_peers(&mut self) {
        if self.peers.is_some() {
            return;
        }
        let count = self.capacity();
        self.peers = Some(Peers { by: Index::new(count), rings: Rings::new(count) });
        for number in 0..count as u32 {
            let slot = self.slot(number);
            if slot.is_used() && !slot.is_forwarded() {
                self.enter_peer(number, &slot);
            }
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn enter_peer(&mut self, number: u32, slot: &Slot) {
        let sibling = self.find_peer(key(slot));
        let hash = self.hasher.hash(key(slot));
        let Some(peers) = &mut self.peers else { return };
        match sibling {
            Some(sibling) => peers.rings.insert_before(sibling, number),
            None => peers.by.insert(hash, number),
        }
    }

    pub(super) fn leave_peer(&mut self, number: u32, slot: &Slot) {
        let hash = self.hasher.hash(key(slot));
        let Some(peers) = &mut self.peers else { return };
        match peers.rings.first(number) {
            Some(sibling) => peers.by.replace(hash, number, sibling),
            None => peers.by.remove(hash, number),
        }
        peers.rings.remove(number);
    }

    fn find_peer(&self, wanted: Key) -> Option<u32> {
        let peers = self.peers.as_ref()?;
        peers.by.find(self.hasher.hash(wanted), |number| self.is(number, |slot| key(slot) == wanted))
    }

    /// The mapping of an external port has a living session with the remote address.
    pub(in crate::nat) fn knows_peer(&mut self, now: Time, uplink: u16, flow: &Flow) -> bool {
        let external = crate::nat::slot::external_key(uplink, flow.protocol, flow.local.1);
        let wanted = peer_key(external, flow.remote.0.to_bits());
        loop {
            match self.find_peer(wanted) {
                Some(number) if self.alive(now, number).is_some() => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }
}
