//! What a server is told.
use alloc::{string::String, vec::Vec};
use core::net::Ipv4Addr;

use super::Mac;

/// A host with a fixed address, a fixed name, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    pub mac: Option<Mac>,
    pub client_id: Option<Vec<u8>>,
    /// The host is its MAC address, whatever identifiers its systems send.
    pub any_client_id: bool,
    /// Without `mac`, the host is recognised by the name it sends, too.
    pub name: Option<String>,
    pub ip: Option<Ipv4Addr>,
    /// `None`: that of the range the address is in.
    pub lease_seconds: Option<u32>,
}

/// Addresses for whoever asks; both ends belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
    /// [`super::INFINITE`] for leases without end.
    pub lease_seconds: u32,
}

/// Where a guest that boots from the network finds its first program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    pub file: String,
    pub server_name: String,
    /// `None`: the gateway.
    pub next_server: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The gateway, which is the server identifier.
    pub server: Ipv4Addr,
    pub prefix: u8,
    /// Other addresses of the gateway; nobody gets them.
    pub own: Vec<Ipv4Addr>,
    pub ranges: Vec<Range>,
    pub hosts: Vec<Reservation>,
    /// Of addresses in no range.
    pub lease_seconds: u32,
    /// `None` on isolated networks.
    pub router: Option<Ipv4Addr>,
    pub dns: Option<Ipv4Addr>,
    pub domain: Option<String>,
    /// 0 to announce none.
    pub mtu: u16,
    pub boot: Option<Boot>,
    /// Options for those who ask for them. One that the server would send anyway is replaced, or left out if its data
    /// is empty.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Ipv4Addr::UNSPECIFIED,
            prefix: 32,
            own: Vec::new(),
            ranges: Vec::new(),
            hosts: Vec::new(),
            lease_seconds: 3600,
            router: None,
            dns: None,
            domain: None,
            mtu: 0,
            boot: None,
            options: Vec::new(),
        }
    }
}

impl Config {
    pub(super) fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0)
    }

    pub(super) fn network(&self) -> u32 {
        self.server.to_bits() & self.mask()
    }

    pub(super) fn broadcast(&self) -> u32 {
        self.network() | !self.mask()
    }

    /// Whether a guest may use the address at all.
    pub(super) fn usable(&self, ip: u32) -> bool {
        let edge = self.prefix < 31 && (ip == self.network() || ip == self.broadcast());
        ip & self.mask() == self.network() && !edge && !self.is_own(ip)
    }

    fn is_own(&self, ip: u32) -> bool {
        ip == self.server.to_bits() || self.own.iter().any(|own| own.to_bits() == ip)
    }

    /// How long an address is given out for at most, if its host says nothing else.
    pub(super) fn seconds_at(&self, ip: Ipv4Addr) -> u32 {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&ip));
        range.map_or(self.lease_seconds, |range| range.lease_seconds)
    }

    /// What the definition wants sent for an option.
    pub(super) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(listed, _)| *listed == code).map(|(_, data)| data.as_slice())
    }
}
