//! The typed network definition.

use std::net::{IpAddr, Ipv4Addr};

use crate::Ipv4Net;
use crate::device::{Driver, PciAddress, VirtualPort};
use crate::dnsmasq::DnsmasqOption;
use crate::element::Element;
use crate::forward::PortForward;

/// One virtual network, as defined by a `<network>` document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    pub name: String,
    pub uuid: Option<uuid::Uuid>,
    pub title: Option<String>,
    pub description: Option<String>,
    pub metadata: Option<Element>,
    pub forward: Forward,
    pub bridge: Bridge,
    /// Never 0.
    pub mtu: Option<u32>,
    pub mac: Option<[u8; 6]>,
    pub domain: Option<Domain>,
    /// `<domain register='..'/>`
    pub domain_register: Option<bool>,
    pub dns: Dns,
    pub vlan: Option<Vlan>,
    pub bandwidth: Option<Bandwidth>,
    /// `<port isolated='..'/>`
    pub port_isolated: Option<bool>,
    pub ips: Vec<Ip>,
    pub routes: Vec<Route>,
    pub port_forwards: Vec<PortForward>,
    pub virtualport: Option<VirtualPort>,
    pub portgroups: Vec<PortGroup>,
    pub dnsmasq_options: Vec<String>,
    pub uplink: Option<Uplink>,
    /// `<pontoon:nat filtering=>`.
    pub filtering: Filtering,
    /// `<pontoon:log mappings>`: whether NAT's mappings are logged; `None` leaves it to the daemon.
    pub log_mappings: Option<bool>,
    /// `ipv6='yes'`: guests may talk IPv6 to each other without a gateway address.
    pub ipv6: bool,
    pub trust_guest_rx_filters: Option<bool>,
    /// Elements and attributes that are not part of the format and are dropped, each with its place.
    pub unknown: Vec<String>,
}

/// How traffic leaves the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    Isolated,
    Nat,
    Route,
    Open,
    Bridge,
    Private,
    Vepa,
    Passthrough,
    Hostdev,
}

impl Mode {
    /// The word used in the document; `none` for an isolated network.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Isolated => "none",
            Self::Nat => "nat",
            Self::Route => "route",
            Self::Open => "open",
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthrough => "passthrough",
            Self::Hostdev => "hostdev",
        }
    }

    /// The mode a `mode='..'` attribute names.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::Isolated,
            Self::Nat,
            Self::Route,
            Self::Open,
            Self::Bridge,
            Self::Private,
            Self::Vepa,
            Self::Passthrough,
            Self::Hostdev,
        ];
        all.into_iter().find(|mode| mode.as_str() == word)
    }

    /// Whether a network of this mode has a bridge of its own.
    pub fn owns_bridge(self) -> bool {
        matches!(self, Self::Isolated | Self::Nat | Self::Route | Self::Open)
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forward {
    pub mode: Mode,
    /// The uplink to use; always the first of `interfaces` when there is any.
    pub dev: Option<String>,
    pub interfaces: Vec<String>,
    pub nat_ports: Option<(u16, u16)>,
    pub nat_addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    pub nat_ipv6: Option<bool>,
    /// In mode hostdev only.
    pub managed: bool,
    pub driver: Option<Driver>,
    /// The physical function of an SR-IOV pool; at most one.
    pub pfs: Vec<String>,
    /// PCI addresses of an SR-IOV pool.
    pub addresses: Vec<PciAddress>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bridge {
    pub name: Option<String>,
    pub stp: bool,
    pub delay: u32,
    pub zone: Option<String>,
    /// `kernel` or `libvirt`
    pub mac_table_manager: Option<String>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { name: None, stp: true, delay: 0, zone: None, mac_table_manager: None }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    pub local_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// As written; see [`Dns::enabled`].
    pub enable: Option<bool>,
    pub forward_plain_names: Option<bool>,
    pub hosts: Vec<DnsHost>,
    pub forwarders: Vec<Forwarder>,
    pub txt: Vec<Txt>,
    pub srv: Vec<Srv>,
}

impl Dns {
    pub fn enabled(&self) -> bool {
        self.enable != Some(false)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsHost {
    pub ip: IpAddr,
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarder {
    pub domain: Option<String>,
    pub addr: Option<IpAddr>,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txt {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srv {
    pub service: String,
    pub protocol: String,
    pub domain: Option<String>,
    pub target: Option<String>,
    pub port: Option<u16>,
    pub priority: Option<u16>,
    pub weight: Option<u16>,
}

/// How the length of a network prefix was written, and is printed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    #[default]
    Netmask,
    Prefix,
    /// Neither; the natural length of the address class holds.
    Absent,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ip {
    pub address: IpAddr,
    pub prefix: u8,
    pub written_as_netmask: Written,
    /// The `family` attribute as written.
    pub family: Option<String>,
    pub local_ptr: Option<bool>,
    pub tftp_root: Option<String>,
    pub ranges: Vec<Range>,
    pub hosts: Vec<DhcpHost>,
    pub bootp_file: Option<String>,
    pub bootp_server: Option<IpAddr>,
}

impl Ip {
    /// Whether addresses are given out here: there is a range or a static host.
    pub fn has_dhcp(&self) -> bool {
        !self.ranges.is_empty() || !self.hosts.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: IpAddr,
    pub end: IpAddr,
    pub lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// In `unit`; 0 means for ever.
    pub expiry: u64,
    pub unit: LeaseUnit,
}

impl Lease {
    /// The lease time in seconds; `None` means for ever.
    pub fn seconds(self) -> Option<u64> {
        (self.expiry != 0).then(|| self.expiry.saturating_mul(self.unit.seconds()))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseUnit {
    Seconds,
    #[default]
    Minutes,
    Hours,
}

impl LeaseUnit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 3600,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhcpHost {
    pub mac: Option<[u8; 6]>,
    /// The address as written, which is printed again.
    pub mac_text: Option<String>,
    pub name: Option<String>,
    pub ip: Option<IpAddr>,
    pub id: Option<String>,
    pub lease: Option<Lease>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub family: Option<String>,
    pub address: IpAddr,
    pub prefix: u8,
    pub written_as_netmask: Written,
    pub gateway: IpAddr,
    pub metric: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    pub trunk: bool,
    pub tags: Vec<VlanTag>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanTag {
    pub id: u16,
    /// `tagged` or `untagged`
    pub native_mode: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    pub inbound: Option<Rate>,
    pub outbound: Option<Rate>,
}

/// Rates in kB/s, burst in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub average: Option<u64>,
    pub peak: Option<u64>,
    pub floor: Option<u64>,
    pub burst: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortGroup {
    pub name: String,
    pub default: bool,
    pub trust_guest_rx_filters: Option<bool>,
    pub vlan: Option<Vlan>,
    pub virtualport: Option<VirtualPort>,
    pub bandwidth: Option<Bandwidth>,
    pub port_isolated: Option<bool>,
}

/// Whose packets come in by what a guest opened (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    Endpoint,
    Address,
    #[default]
    AddressAndPort,
}

impl Filtering {
    pub const ALL: [Self; 3] = [Self::Endpoint, Self::Address, Self::AddressAndPort];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Address => "address",
            Self::AddressAndPort => "address-and-port",
        }
    }
}

/// `<pontoon:uplink>`: the interface this network reaches the outside by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub kind: UplinkKind,
    /// Empty where the kind is [`UplinkKind::User`], or [`UplinkKind::Shared`]: the interface of the host's default route.
    pub dev: String,
    pub netns: Option<String>,
    /// Absent: the uplink gets its address by DHCP.
    pub address: Option<Ipv4Net>,
    pub gateway: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkKind {
    /// An address of its own on an interface of the host.
    Direct,
    Tap,
    /// The host's own address.
    Shared,
    /// Ordinary sockets of the host.
    User,
}

impl UplinkKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tap => "tap",
            Self::Shared => "shared",
            Self::User => "user",
        }
    }
}

/// A MAC address as lower-case hexadecimal pairs.
pub fn mac_string(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl Network {
    /// The gateway MAC address in text form, when one is set.
    pub fn mac_string(&self) -> Option<String> {
        self.mac.map(mac_string)
    }

    /// The IPv4 part that offers DHCP, when there is one.
    pub fn dhcp4(&self) -> Option<&Ip> {
        self.ips.iter().find(|ip| ip.has_dhcp() && ip.address.is_ipv4())
    }

    /// Lines of dnsmasq's configuration that act.
    pub fn dnsmasq(&self) -> impl Iterator<Item = DnsmasqOption> {
        self.dnsmasq_options.iter().filter_map(|line| DnsmasqOption::parse(line))
    }
}
