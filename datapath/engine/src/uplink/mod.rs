//! The way out: an uplink's address and the link-layer addresses of its next hops (RFC 826).
//!
//! Every worker keeps its own neighbour entries; ARP packets that arrive are shown to all workers. Frames that wait
//! for an answer are few and bounded, in number and in size.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pontoon_wire::brief::{Raw, raw};
use pontoon_wire::{Mac, arp, ethernet, vnet};

use crate::snapshot::Subnet;
use crate::time::Time;

pub mod dhcp_client;
#[cfg(test)]
mod tests;

/// Neighbours one worker remembers on one uplink.
const NEIGHBOURS: usize = 1024;
/// Those of them that have not answered yet: what is asked for in vain must not push out what is known.
const UNRESOLVED: usize = 256;
/// Frames that wait for one neighbour, and for all.
const PENDING: usize = 16;
const WAITING: usize = 256;
/// Seconds an answer is good for before it is asked again, and until it is forgotten.
const FRESH: u64 = 30;
const FORGET: u64 = 120;
/// Requests before a neighbour is given up.
const TRIES: u8 = 3;

/// The address of an uplink that gets one, written by the worker that runs its DHCP client and read by all.
#[derive(Debug, Default)]
pub struct Address {
    /// Address in the high half, prefix in bits 0 to 7, bit 8 set when valid.
    address: AtomicU64,
    gateway: AtomicU64,
    link: [AtomicU32; 3],
}

/// The same as integers that can be held against those of a [`pontoon_wire::brief::Brief`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Zero: none.
    pub address: Raw,
    mask: Raw,
    /// Zero: none.
    gateway: Raw,
}

impl Address {
    /// Of an uplink that has its address for good.
    #[must_use]
    pub fn fixed(subnet: Subnet, gateway: Option<Ipv4Addr>) -> Self {
        let address = Self::default();
        address.set(subnet, gateway);
        address
    }

    pub fn set(&self, subnet: Subnet, gateway: Option<Ipv4Addr>) {
        self.gateway.store(gateway.map_or(0, |g| u64::from(g.to_bits()) | 1 << 32), Ordering::Relaxed);
        let packed = u64::from(subnet.address.to_bits()) << 32 | 0x100 | u64::from(subnet.prefix);
        self.address.store(packed, Ordering::Release);
        let mask = Ipv4Addr::from_bits(subnet.mask());
        self.set_link([raw(subnet.address), raw(mask), gateway.map_or(0, raw)]);
    }

    pub fn clear(&self) {
        self.address.store(0, Ordering::Release);
        self.set_link([0; 3]);
    }

    fn set_link(&self, words: [Raw; 3]) {
        self.link.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
    }

    #[must_use]
    pub fn get(&self) -> Option<(Subnet, Option<Ipv4Addr>)> {
        let packed = self.address.load(Ordering::Acquire);
        let gateway = self.gateway.load(Ordering::Relaxed);
        let subnet =
            Subnet { address: Ipv4Addr::from_bits((packed >> 32) as u32), prefix: (packed & 0xff) as u8 };
        let gateway = (gateway >> 32 == 1).then(|| Ipv4Addr::from_bits((gateway & 0xffff_ffff) as u32));
        (packed & 0x100 != 0).then_some((subnet, gateway))
    }

    /// The address alone.
    #[must_use]
    #[inline(always)]
    pub fn word(&self) -> Raw {
        self.link[0].load(Ordering::Relaxed)
    }

    /// For a moment after a change, one word may be from before it.
    #[must_use]
    #[inline(always)]
    pub fn link(&self) -> Link {
        let [address, mask, gateway] = &self.link;
        Link {
            address: address.load(Ordering::Relaxed),
            mask: mask.load(Ordering::Relaxed),
            gateway: gateway.load(Ordering::Relaxed),
        }
    }
}

impl Link {
    /// Whom to send to on the uplink's segment; zero: nobody.
    #[must_use]
    #[inline(always)]
    pub fn next_hop(&self, destination: Raw) -> Raw {
        if (self.address ^ destination) & self.mask == 0 { destination } else { self.gateway }
    }
}

/// A frame that waits for its next hop.
pub type Waiting = (vnet::Header, Vec<u8>);

#[derive(Debug)]
struct Neighbour {
    mac: Option<Mac>,
    seen: Time,
    asked: Time,
    tries: u8,
    pending: Vec<Waiting>,
}

/// What to do with a frame for a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// Send it there. `ask`: the entry is getting old, an ARP request should go out too.
    Known { mac: Mac, ask: bool },
    /// Keep it with [`Neighbours::wait`]. `ask`: send an ARP request.
    Unknown { ask: bool },
}

/// Link-layer addresses on one uplink.
#[derive(Debug, Default)]
pub struct Neighbours {
    entries: BTreeMap<Ipv4Addr, Neighbour>,
    unresolved: usize,
    waiting: usize,
    /// Frames leave with it.
    own: Mac,
    /// Everybody is there, and nobody is asked.
    only: Option<Mac>,
    last: Last,
}

/// The next hop of the last frame, the link-layer addresses of frames to it, and how long they are surely right.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    ip: Raw,
    until: Time,
    macs: [u8; 12],
}

/// Destination and source as a frame has them.
fn macs(destination: Mac, source: Mac) -> [u8; 12] {
    let [[a, b, c, d, e, f], [g, h, i, j, k, l]] = [destination, source];
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

impl Neighbours {
    /// Destination and source of a frame to `ip`, when that is so well known that nobody has to be asked.
    #[inline(always)]
    #[must_use]
    pub fn recent(&self, now: Time, ip: Raw) -> Option<&[u8; 12]> {
        (self.last.ip == ip && now < self.last.until).then_some(&self.last.macs)
    }

    /// Frames leave with address `own` from now on, all of them to `only` if that is given.
    pub fn renew(&mut self, own: Mac, only: Option<Mac>) {
        (self.own, self.only, self.last) = (own, only, Last::default());
    }

    pub fn resolve(&mut self, now: Time, ip: Ipv4Addr) -> Resolve {
        let resolved = self.search(now, ip);
        if let Resolve::Known { mac, ask: false } = resolved {
            let known = self.entries.get(&ip).map(|entry| entry.seen.after_secs(FRESH));
            let until = if self.only.is_some() { Time(u64::MAX) } else { known.unwrap_or(now) };
            self.last = Last { ip: raw(ip), until, macs: macs(mac, self.own) };
        }
        resolved
    }

    fn search(&mut self, now: Time, ip: Ipv4Addr) -> Resolve {
        if let Some(mac) = self.only {
            return Resolve::Known { mac, ask: false };
        }
        if !self.entries.contains_key(&ip) {
            if self.unresolved >= UNRESOLVED {
                return Resolve::Unknown { ask: false };
            }
            self.make_room();
            let fresh = Neighbour { mac: None, seen: now, asked: now, tries: 1, pending: Vec::new() };
            self.entries.insert(ip, fresh);
            self.unresolved += 1;
            return Resolve::Unknown { ask: true };
        }
        let Some(entry) = self.entries.get_mut(&ip) else { return Resolve::Unknown { ask: false } };
        let Some(mac) = entry.mac else { return Resolve::Unknown { ask: false } };
        let ask = now >= entry.seen.after_secs(FRESH) && now >= entry.asked.after_secs(1);
        if ask {
            entry.asked = now;
        }
        Resolve::Known { mac, ask }
    }

    /// Keeps a frame until `ip` answers; false when too many wait already.
    pub fn wait(&mut self, ip: Ipv4Addr, vnet: vnet::Header, frame: &[u8]) -> bool {
        let Some(entry) = self.entries.get_mut(&ip) else { return false };
        if entry.pending.len() >= PENDING || self.waiting >= WAITING {
            return false;
        }
        self.waiting += 1;
        entry.pending.push((vnet, frame.to_vec()));
        true
    }

    /// `ip` is at `mac`. Only answers somebody waits for, or refreshes of known neighbours, are believed.
    pub fn learn(&mut self, now: Time, ip: Ipv4Addr, mac: Mac) -> Vec<Waiting> {
        let Some(entry) = self.entries.get_mut(&ip) else { return Vec::new() };
        if ethernet::is_group(mac) {
            return Vec::new();
        }
        self.last = Last::default();
        if entry.mac.is_none() {
            self.unresolved = self.unresolved.saturating_sub(1);
        }
        (entry.mac, entry.seen, entry.tries) = (Some(mac), now, 0);
        self.waiting = self.waiting.saturating_sub(entry.pending.len());
        core::mem::take(&mut entry.pending)
    }

    /// Asks again for the unresolved, forgets the silent. `ask` gets addresses to send requests for; the return
    /// value is how many waiting frames were given up.
    pub fn expire(&mut self, now: Time, ask: &mut dyn FnMut(Ipv4Addr)) -> usize {
        let mut lost = 0;
        self.last = Last::default();
        let unresolved = &mut self.unresolved;
        self.entries.retain(|&ip, entry| {
            if entry.mac.is_some() {
                return now < entry.seen.after_secs(FORGET);
            }
            if now < entry.asked.after_secs(1) {
                return true;
            }
            if entry.tries >= TRIES {
                lost += entry.pending.len();
                *unresolved = unresolved.saturating_sub(1);
                return false;
            }
            entry.tries += 1;
            entry.asked = now;
            ask(ip);
            true
        });
        self.waiting = self.waiting.saturating_sub(lost);
        lost
    }

    /// Something waits for an answer, so [`Self::expire`] should run every second.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.unresolved > 0
    }

    /// The oldest entry goes when the table is full.
    fn make_room(&mut self) {
        if self.entries.len() < NEIGHBOURS {
            return;
        }
        self.last = Last::default();
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.seen).map(|(&ip, _)| ip);
        if let Some(entry) = oldest.and_then(|ip| self.entries.remove(&ip)) {
            self.unresolved -= usize::from(entry.mac.is_none());
            self.waiting = self.waiting.saturating_sub(entry.pending.len());
        }
    }
}

/// The address to ask ARP for.
#[must_use]
pub fn next_hop(subnet: Subnet, gateway: Option<Ipv4Addr>, destination: Ipv4Addr) -> Option<Ipv4Addr> {
    if subnet.contains(destination) { Some(destination) } else { gateway }
}

/// Writes an ARP request; its length.
pub fn arp_request(mac: Mac, ip: Ipv4Addr, target: Ipv4Addr, out: &mut [u8]) -> Option<usize> {
    let request = arp::Packet {
        operation: arp::REQUEST,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: [0; 6],
        target_ip: target,
    };
    request.emit(out, ethernet::BROADCAST)
}
