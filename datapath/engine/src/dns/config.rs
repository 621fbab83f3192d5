//! What a network's definition says about names.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub enabled: bool,
    /// What nobody can be asked for is REFUSED, so that a guest asks its other server.
    pub isolated: bool,
    pub domain: Option<String>,
    /// Unknown names of `domain` do not exist even if an upstream is named for it. Without one they never leave.
    pub local_only: bool,
    pub forward_plain_names: bool,
    pub gateway: Ipv4Addr,
    pub prefix: u8,
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    pub txt: Vec<(String, String)>,
    pub srv: Vec<Srv>,
    /// Alias, which may begin with `*.`, and target.
    pub cnames: Vec<(String, String)>,
    /// Domains whose every name has one address, or does not exist; the empty one is all.
    pub domains: Vec<(String, Option<IpAddr>)>,
    pub reverse: Vec<Reverse>,
    pub upstreams: Vec<Upstream>,
    /// Answers kept; at most [`super::CACHE_MAX`].
    pub cache_size: u32,
    /// Bytes of an IP packet; 0 is no limit.
    pub mtu: u16,
    /// Seconds that guests may keep local answers.
    pub ttl: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// `_service._protocol`, with a domain or without.
    pub name: String,
    /// `None`: the service is not available (RFC 2782).
    pub target: Option<String>,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

/// A subnet of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reverse {
    pub address: IpAddr,
    pub prefix: u8,
    /// Its names are known here alone, even if an upstream is named for them.
    pub alone: bool,
}

/// Resolvers for a domain, or for all that no other names, tried in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub domain: Option<String>,
    pub resolvers: Vec<u16>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            isolated: false,
            domain: None,
            local_only: false,
            forward_plain_names: false,
            gateway: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            hosts: Vec::new(),
            txt: Vec::new(),
            srv: Vec::new(),
            cnames: Vec::new(),
            domains: Vec::new(),
            reverse: Vec::new(),
            upstreams: Vec::new(),
            cache_size: 0,
            mtu: 0,
            ttl: 0,
        }
    }
}
