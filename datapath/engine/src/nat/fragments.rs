//! Which datagram a fragment belongs to.
//!
//! Only the first fragment names the ports. What it was translated to is remembered, so that the others of the same
//! datagram follow (RFC 4787 REQ-14). A fixed table bounds what half datagrams can cost (REQ-14a).

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;

use super::Inside;
use super::index::Hasher;
use super::slot::Key;
use crate::time::Time;

const SETS: usize = 256;
const WAYS: usize = 4;
const SECONDS: u64 = 30;

#[derive(Clone, Copy, Default)]
struct Entry {
    key: Key,
    expires: Time,
    address: u32,
    inside: Inside,
}

/// Datagrams of one direction.
pub(super) struct Fragments(Vec<[Entry; WAYS]>);

/// `link`: network or uplink the datagram came from.
fn key(link: u16, packet: &Packet) -> Key {
    let ip = &packet.ip;
    [
        u64::from(ip.source.to_bits()) << 32 | u64::from(ip.destination.to_bits()),
        u64::from(link) << 32 | u64::from(ip.id) << 16 | u64::from(ip.protocol),
    ]
}

impl Fragments {
    pub(super) fn new() -> Self {
        Self(vec![[Entry::default(); WAYS]; SETS])
    }

    fn set(&mut self, hasher: &Hasher, key: Key) -> &mut [Entry] {
        let set = hasher.hash(key) as usize % SETS;
        self.0.get_mut(set).map_or(&mut [], |set| set.as_mut_slice())
    }

    //= RFC4787#REQ-14a
    /// Remembers a first fragment by the packet as it arrived; the oldest of the set makes room.
    pub(super) fn put(
        &mut self,
        hasher: &Hasher,
        now: Time,
        link: u16,
        packet: &Packet,
        address: Ipv4Addr,
        inside: Inside,
    ) {
        let key = key(link, packet);
        let set = self.set(hasher, key);
        let at = set
            .iter()
            .position(|entry| entry.key == key)
            .or_else(|| (0..set.len()).min_by_key(|&at| set.get(at).map(|entry| entry.expires)));
        if let Some(entry) = at.and_then(|at| set.get_mut(at)) {
            *entry = Entry { key, expires: now.after_secs(SECONDS), address: address.to_bits(), inside };
        }
    }

    pub(super) fn get(
        &mut self,
        hasher: &Hasher,
        now: Time,
        link: u16,
        packet: &Packet,
    ) -> Option<(Ipv4Addr, Inside)> {
        let key = key(link, packet);
        let entry = self.set(hasher, key).iter().find(|entry| entry.key == key && entry.expires > now)?;
        Some((Ipv4Addr::from_bits(entry.address), entry.inside))
    }

    /// Forgets datagrams whose remembered facts no longer hold.
    pub(super) fn clear(&mut self) {
        self.0.fill([Entry::default(); WAYS]);
    }
}
