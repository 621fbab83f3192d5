//! Which addresses can be given to whom: the dynamic pool and the reservations.
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use super::{Config, MAX_POOL, Mac, Range, name};

/// The dynamic addresses: inside the subnet, and neither the gateway's, nor an edge, nor reserved.
pub(super) struct Pool {
    /// Sorted, disjoint, inclusive.
    ranges: Vec<(u32, u32)>,
    excluded: BTreeSet<u32>,
    /// Addresses nobody holds or remembers.
    free: BTreeSet<u32>,
    size: usize,
}

impl Pool {
    pub(super) fn new(config: &Config, hosts: &Hosts) -> Self {
        let ranges = normalise(config);
        let mut excluded: BTreeSet<u32> = hosts.by_ip.keys().copied().collect();
        excluded.insert(config.server.to_bits());
        excluded.extend(config.own.iter().map(|own| own.to_bits()));
        if config.prefix < 31 {
            excluded.extend([config.network(), config.broadcast()]);
        }
        let all = ranges.iter().flat_map(|&(low, high)| low..=high);
        let free: BTreeSet<u32> = all.filter(|ip| !excluded.contains(ip)).collect();
        let size = free.len();
        Self { ranges, excluded, free, size }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn contains(&self, ip: u32) -> bool {
        let after = self.ranges.partition_point(|&(low, _)| low <= ip);
        let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|&(_, high)| ip <= high) && !self.excluded.contains(&ip)
    }

    pub(super) fn is_free(&self, ip: u32) -> bool {
        self.free.contains(&ip)
    }

    pub(super) fn take(&mut self, ip: u32) {
        self.free.remove(&ip);
    }

    pub(super) fn give_back(&mut self, ip: u32) {
        if self.contains(ip) {
            self.free.insert(ip);
        }
    }

    /// A free address, searched from the place that `hash` selects.
    pub(super) fn pick(&self, hash: u64) -> Option<u32> {
        let total: u64 = self.ranges.iter().map(|&(low, high)| u64::from(high - low) + 1).sum();
        let mut at = hash.checked_rem(total)?;
        let mut start = 0;
        for &(low, high) in &self.ranges {
            let len = u64::from(high - low) + 1;
            if at < len {
                start = low + at as u32;
                break;
            }
            at -= len;
        }
        self.free.range(start..).next().or_else(|| self.free.first()).copied()
    }
}

/// Sorts, clips to the subnet, merges, and cuts after `MAX_POOL` addresses.
fn normalise(config: &Config) -> Vec<(u32, u32)> {
    let (network, broadcast) = (config.network(), config.broadcast());
    let clip = |range: &Range| {
        let (low, high) = (range.first.to_bits().max(network), range.last.to_bits().min(broadcast));
        (low <= high).then_some((low, high))
    };
    let mut sorted: Vec<(u32, u32)> = config.ranges.iter().filter_map(clip).collect();
    sorted.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::new();
    let mut left = MAX_POOL;
    for (low, high) in sorted {
        let low = match out.last() {
            Some(&(_, last)) if last >= high => continue,
            Some(&(_, last)) => low.max(last + 1),
            None => low,
        };
        if left == 0 {
            break;
        }
        let high = high.min(low.saturating_add(left - 1));
        left -= high - low + 1;
        out.push((low, high));
    }
    out
}

/// A reservation as far as it does not clash with one before it.
struct Host {
    name: Option<String>,
    ip: Option<u32>,
    lease_seconds: Option<u32>,
    any_client_id: bool,
}

/// The reservations; a host is its index.
pub(super) struct Hosts {
    list: Vec<Host>,
    by_id: BTreeMap<Vec<u8>, usize>,
    by_mac: BTreeMap<Mac, usize>,
    by_ip: BTreeMap<u32, usize>,
    by_name: BTreeMap<String, usize>,
    /// Hosts that their name identifies, because no MAC address does.
    name_only: BTreeMap<String, usize>,
}

impl Hosts {
    /// The first of several reservations for one identity, address or name wins.
    pub(super) fn new(config: &Config) -> Self {
        let mut hosts = Self {
            list: Vec::new(),
            by_id: BTreeMap::new(),
            by_mac: BTreeMap::new(),
            by_ip: BTreeMap::new(),
            by_name: BTreeMap::new(),
            name_only: BTreeMap::new(),
        };
        for (index, host) in config.hosts.iter().enumerate() {
            let name = host.name.as_deref().and_then(|name| name::label(name.as_bytes()));
            let name = name.filter(|name| !hosts.by_name.contains_key(name));
            let ip = host.ip.map(core::net::Ipv4Addr::to_bits).filter(|&ip| config.usable(ip));
            let ip = ip.filter(|ip| !hosts.by_ip.contains_key(ip));
            if let Some(id) = &host.client_id {
                hosts.by_id.entry(id.clone()).or_insert(index);
            }
            if let Some(mac) = host.mac {
                hosts.by_mac.entry(mac).or_insert(index);
            }
            if let Some(name) = &name {
                hosts.by_name.insert(name.clone(), index);
                if host.mac.is_none() {
                    hosts.name_only.insert(name.clone(), index);
                }
            }
            hosts.by_ip.extend(ip.map(|ip| (ip, index)));
            let (lease_seconds, any_client_id) = (host.lease_seconds, host.any_client_id);
            hosts.list.push(Host { name, ip, lease_seconds, any_client_id });
        }
        hosts
    }

    /// The reservation of a client: by identifier, then by MAC address, then by name.
    pub(super) fn find(&self, id: Option<&[u8]>, mac: Mac, name: Option<&str>) -> Option<usize> {
        let found = id.and_then(|id| self.by_id.get(id)).or_else(|| self.by_mac.get(&mac));
        found.or_else(|| self.name_only.get(name?)).copied()
    }

    /// Whether the host is recognised by a name, which anyone can claim.
    pub(super) fn weak(&self, host: usize) -> bool {
        self.name(host).is_some_and(|name| self.name_only.contains_key(name))
    }

    pub(super) fn ip(&self, host: usize) -> Option<u32> {
        self.list.get(host)?.ip
    }

    pub(super) fn lease_seconds(&self, host: usize) -> Option<u32> {
        self.list.get(host)?.lease_seconds
    }

    /// Whether the host's client identifiers mean nothing.
    pub(super) fn any_client_id(&self, host: usize) -> bool {
        self.list.get(host).is_some_and(|host| host.any_client_id)
    }

    pub(super) fn name(&self, host: usize) -> Option<&str> {
        self.list.get(host)?.name.as_deref()
    }

    pub(super) fn at(&self, ip: u32) -> Option<usize> {
        self.by_ip.get(&ip).copied()
    }

    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}
