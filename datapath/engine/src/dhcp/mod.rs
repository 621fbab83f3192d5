//! placeholder until the server lands
use alloc::{string::String, vec::Vec};
use core::net::Ipv4Addr;
pub type Mac = [u8; 6];
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub mac: Option<Mac>,
    pub client_id: Option<Vec<u8>>,
    pub name: Option<String>,
    pub ip: Option<Ipv4Addr>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub server: Ipv4Addr,
    pub prefix: u8,
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub hosts: Vec<Reservation>,
    pub lease_seconds: u32,
    pub router: Option<Ipv4Addr>,
    pub dns: Option<Ipv4Addr>,
    pub domain: Option<String>,
    pub mtu: u16,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ip: Ipv4Addr,
    pub mac: Mac,
    pub client_id: Option<Vec<u8>>,
    pub hostname: Option<String>,
    pub expiry: u64,
}
