//! placeholder until the forwarder lands
use alloc::{string::String, vec::Vec};
use core::net::Ipv4Addr;
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub enabled: bool,
    pub isolated: bool,
    pub domain: Option<String>,
    pub local_only: bool,
    pub forward_plain_names: bool,
    pub gateway: Ipv4Addr,
    pub prefix: u8,
    pub hosts: Vec<(Ipv4Addr, Vec<String>)>,
    pub txt: Vec<(String, String)>,
    pub lease_seconds_ttl: u32,
}
