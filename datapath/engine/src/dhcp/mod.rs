//! The DHCPv4 server of one network (RFC 2131), without clock, randomness or I/O: time is an argument.
//!
//! Limits, all of them against guests that try to starve their neighbours: a MAC address holds at most
//! [`MAX_PER_MAC`] addresses, open offers are capped and held for [`OFFER_SECONDS`], and declined addresses
//! occupy at most a quarter of the pool.
//!
//! A change of configuration takes no address away: a lease that does not fit any more is kept for its client until
//! that client asks again, and refused then.
mod config;
mod name;
mod pool;
mod reply;
mod serve;
mod table;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod model;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests_config;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests_definition;

use alloc::{string::String, vec::Vec};
use core::net::Ipv4Addr;

pub use pontoon_wire::dhcp::MessageType;

pub use self::config::{Boot, Config, Range, Reservation};
use self::{
    pool::{Hosts, Pool},
    table::{Key, Phase, Slot, Table, Undo},
};

pub type Mac = [u8; 6];

/// How long an offered address is held for its client.
pub const OFFER_SECONDS: u64 = 60;
/// How long a declined address stays out of use.
pub const QUARANTINE_SECONDS: u64 = 600;
/// Addresses that one MAC address may hold under different client identifiers; small pools allow fewer.
pub const MAX_PER_MAC: usize = 8;
/// Dynamic addresses beyond this number are not used.
pub const MAX_POOL: u32 = 65536;
/// `lease_seconds` of a lease without end (RFC 2131 §3.3).
pub const INFINITE: u32 = u32::MAX;
/// Expiries handled by one call of [`Server::expire`].
const EXPIRE_BATCH: usize = 256;

/// A bound address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ip: Ipv4Addr,
    pub mac: Mac,
    pub client_id: Option<Vec<u8>>,
    pub hostname: Option<String>,
    /// Unix seconds; 0 = infinite.
    pub expiry: u64,
}

impl Lease {
    fn live(&self, unix: u64) -> bool {
        self.expiry == 0 || self.expiry > unix
    }
}

/// Why a message got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drop {
    Malformed,
    BadCookie,
    NotRequest,
    BadHardware,
    Relayed,
    ForeignChaddr,
    UnexpectedType,
    NoAddress,
    OtherServer,
    WrongNetwork,
    NotOwner,
    Declined,
    TooManyPerMac,
    PoolExhausted,
    NoSpace,
    /// It would have to be written to disk, and this guest has had its share of that.
    Busy,
}

impl Drop {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadCookie => "bad-cookie",
            Self::NotRequest => "not-a-request",
            Self::BadHardware => "bad-hardware-address",
            Self::Relayed => "relayed",
            Self::ForeignChaddr => "foreign-chaddr",
            Self::UnexpectedType => "unexpected-type",
            Self::NoAddress => "no-address",
            Self::OtherServer => "other-server",
            Self::WrongNetwork => "wrong-network",
            Self::NotOwner => "not-owner",
            Self::Declined => "declined-offer",
            Self::TooManyPerMac => "too-many-per-mac",
            Self::PoolExhausted => "pool-exhausted",
            Self::NoSpace => "no-space",
            Self::Busy => "busy",
        }
    }
}

/// What to write to disk. `Set` also supersedes any earlier lease of the same client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(Lease),
    Remove(Ipv4Addr, Mac),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub len: usize,
    pub dst_ip: Ipv4Addr,
    pub dst_mac: Mac,
    pub kind: MessageType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Drop(Drop),
    Reply(Reply),
    /// The change must be on disk before the reply leaves.
    Commit {
        change: Change,
        reply: Reply,
    },
    /// The reply says no to an address the client had, which goes from the disk when there is time.
    Revoke {
        change: Change,
        reply: Reply,
    },
    Release(Change),
}

pub struct Server {
    config: Config,
    seed: u64,
    hosts: Hosts,
    table: Table,
}

impl Server {
    /// `seed` spreads clients over the pool; it must stay the same for first addresses to be reproducible.
    pub fn new(config: Config, seed: u64) -> Self {
        let hosts = Hosts::new(&config);
        let table = Table::new(Pool::new(&config, &hosts));
        Self { config, seed, hosts, table }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the configuration. Leases stay, also those that do not fit it: their guests use the addresses until
    /// they ask again.
    pub fn reconfigure(&mut self, config: Config) {
        let fresh = Self::new(config, self.seed);
        let old = core::mem::replace(self, fresh);
        for slot in old.table.into_slots() {
            if slot.phase == Phase::Bound {
                self.adopt(slot);
            } else if self.table.pool.contains(slot.ip()) {
                self.table.insert(slot);
            }
        }
    }

    /// Takes a lease from disk before traffic starts. What no guest could have is ignored.
    pub fn restore(&mut self, lease: Lease) {
        let id_fits = lease.client_id.as_ref().is_none_or(|id| (1..=255).contains(&id.len()));
        if !id_fits || lease.mac[0] & 1 != 0 {
            return;
        }
        let rank = |expiry: u64| expiry.checked_sub(1).unwrap_or(u64::MAX);
        let key = Key::new(lease.client_id.as_deref(), lease.mac);
        let newer = |slot: &Slot| rank(slot.lease.expiry) > rank(lease.expiry);
        let taken = self.table.get(lease.ip.to_bits()).is_some_and(newer);
        if taken || self.table.of(&key).is_some_and(newer) {
            return;
        }
        self.adopt(Slot::bound(key, lease, Undo::Keep));
    }

    /// Inserts a bound slot whose address is the network's at all.
    fn adopt(&mut self, mut slot: Slot) {
        let wanted = slot.lease.hostname.as_deref().and_then(|name| name::label(name.as_bytes()));
        let host = self.hosts.find(slot.lease.client_id.as_deref(), slot.lease.mac, wanted.as_deref());
        let ip = slot.ip();
        if !self.config.usable(ip) {
            return;
        }
        slot.lease.hostname = self.assign_name(host, wanted, ip, 0);
        self.table.insert(slot);
    }

    /// Whether a client that is this host, or none, may go on having an address.
    fn fits(&self, host: Option<usize>, ip: u32) -> bool {
        match host.and_then(|host| self.hosts.ip(host)) {
            Some(reserved) => reserved == ip,
            None => self.table.pool.contains(ip),
        }
    }

    /// All bound leases, including those that expired but were not yet collected by [`Self::expire`].
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.table.bound()
    }

    /// The address of a reserved name or of a live lease; `name` is a single label in any case.
    pub fn lookup_name(&self, name: &str, unix: u64) -> Option<Ipv4Addr> {
        let mut buffer = [0; 63];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        let lower = core::str::from_utf8(lower).ok()?;
        let reserved = self.hosts.named(lower).and_then(|host| self.hosts.ip(host));
        reserved.map(Ipv4Addr::from_bits).or_else(|| {
            let lease = self.table.named(lower)?;
            lease.live(unix).then_some(lease.ip)
        })
    }

    /// The name of a live lease or of a reserved address.
    pub fn lookup_ip(&self, ip: Ipv4Addr, unix: u64) -> Option<&str> {
        let slot = self.table.get(ip.to_bits());
        let live = slot.filter(|slot| slot.phase == Phase::Bound && slot.lease.live(unix));
        match live.and_then(|slot| slot.lease.hostname.as_deref()) {
            Some(name) => Some(name),
            None => self.hosts.name(self.hosts.at(ip.to_bits())?),
        }
    }

    /// Drops what is due, at most a batch of it; `out` sees the bound leases among it, to be removed from disk.
    pub fn expire(&mut self, unix: u64, out: &mut dyn FnMut(&Lease)) {
        self.table.sweep_held(unix, EXPIRE_BATCH);
        for _ in 0..EXPIRE_BATCH {
            let Some(lease) = self.table.expire_one(unix) else { return };
            out(&lease);
        }
    }

    /// The `Set` for this address with this expiry is on disk.
    pub fn committed(&mut self, ip: Ipv4Addr, mac: Mac, expiry: u64) {
        let Some(slot) = self.table.get_mut(ip.to_bits()) else { return };
        if slot.lease.mac == mac && slot.lease.expiry == expiry {
            slot.undo = Undo::Keep;
        }
    }

    /// Undoes the last `Set` for this address because it did not reach the disk: a new lease vanishes, a renewed
    /// one gets its previous expiry back. To be called before the next message of that client is handled.
    pub fn commit_failed(&mut self, ip: Ipv4Addr, mac: Mac) {
        let Some(slot) = self.table.get(ip.to_bits()) else { return };
        if slot.phase != Phase::Bound || slot.lease.mac != mac {
            return;
        }
        let Some(slot) = self.table.remove(ip.to_bits()) else { return };
        match slot.undo {
            Undo::Keep => self.table.insert(slot),
            Undo::Remove => {}
            Undo::Restore(lease) => self.table.insert(Slot::bound(slot.key, *lease, Undo::Keep)),
        }
    }

    /// The name a client gets: its reserved one, else the wanted one unless another host has it.
    fn assign_name(&self, host: Option<usize>, wanted: Option<String>, ip: u32, unix: u64) -> Option<String> {
        if let Some(name) = host.and_then(|host| self.hosts.name(host)) {
            return Some(name.into());
        }
        let wanted = wanted?;
        let other =
            self.table.named(&wanted).is_some_and(|lease| lease.ip.to_bits() != ip && lease.live(unix));
        (!other && self.hosts.named(&wanted).is_none()).then_some(wanted)
    }
}
