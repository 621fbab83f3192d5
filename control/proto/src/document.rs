//! The desired state of the datapath, complete in itself. Control builds it, the datapath compiles it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// Six octets, in the order they are sent.
pub type Mac = [u8; 6];

/// Everything the datapath has to know. Ids are chosen by control and stay the same while the thing lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Grows by one with every change; the datapath acknowledges it.
    pub generation: u64,
    pub networks: Vec<Network>,
    pub uplinks: Vec<Uplink>,
    pub ports: Vec<Port>,
    /// How many resolvers there are, the host's and those that networks name, and how many connected sockets of each
    /// were passed.
    pub resolvers: u16,
    pub sockets_per_resolver: u16,
    /// One number a resolver, another whenever its sockets are others.
    #[serde(default)]
    pub resolver_epochs: Vec<u32>,
}

/// One virtual network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: u16,
    pub name: String,
    pub forward: Forward,
    /// The gateway's MAC address, also that of the bridge device in the host.
    pub mac: Mac,
    /// Gateway address and prefix; a network may have none.
    pub address: Option<Ipv4Net>,
    /// Further addresses of the gateway, each in a subnet of its own.
    #[serde(default)]
    pub more_addresses: Vec<Ipv4Net>,
    /// What is behind guests.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Bytes of an IP packet.
    pub mtu: u16,
    /// The uplink this network leaves by; `None` on isolated networks.
    pub uplink: Option<u16>,
    /// External TCP and UDP ports (and ICMP ids) NAT may use, inclusive.
    pub nat_ports: (u16, u16),
    /// External addresses NAT uses, inclusive, instead of the uplink's own.
    #[serde(default)]
    pub nat_addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Who reaches a guest's mappings.
    #[serde(default)]
    pub filtering: Filtering,
    /// External ports that lead to guests.
    #[serde(default)]
    pub port_forwards: Vec<PortForward>,
    pub dhcp: Option<Dhcp>,
    pub dns: Dns,
    /// Seconds after which a learned address is forgotten (IEEE 802.1D default 300).
    pub ageing_seconds: u32,
    #[serde(default)]
    pub bridging: Bridging,
}

/// External ports that lead to a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForward {
    /// Of the IPv4 header.
    pub protocol: u8,
    /// `None`: every address NAT has on the uplink.
    pub address: Option<Ipv4Addr>,
    /// Inclusive.
    pub ports: (u16, u16),
    /// The guest's port behind the first one.
    pub to: u16,
    /// `None`: not known at present.
    pub guest: Option<Ipv4Addr>,
}

/// How a network's switch works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridging {
    /// `None`: no spanning tree.
    pub stp: Option<Stp>,
    /// Addresses are not learned and frames to unknown ones go nowhere: only [`PortBridging::macs`] count
    /// (libvirt's `macTableManager='libvirt'`).
    pub fixed: bool,
}

/// The spanning tree's settings; times in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stp {
    pub priority: u16,
    pub max_age: u32,
    pub hello: u32,
    pub forward_delay: u32,
}

/// What one port does in its network's switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortBridging {
    /// Its number in the network, 1 to 1023; the spanning tree needs it to be nobody else's.
    pub number: u16,
    /// 0 to 63.
    pub priority: u8,
    pub cost: u32,
    /// Isolated ports reach only ports that are not.
    pub isolated: bool,
    /// Frames may leave by the port they came from.
    pub hairpin: bool,
    /// The link is set down: no frames either way.
    pub down: bool,
    /// Addresses that are behind this port for good.
    pub macs: Vec<Mac>,
}

impl Default for PortBridging {
    fn default() -> Self {
        let (number, priority, cost) = (0, 32, 100);
        Self { number, priority, cost, isolated: false, hairpin: false, down: false, macs: Vec::new() }
    }
}

/// A prefix behind a guest of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: Ipv4Net,
    pub gateway: Ipv4Addr,
    /// Of two routes to one prefix the one with less counts.
    pub metric: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    Isolated,
    Nat,
    Route,
    Open,
    Bridge,
}

/// Whose packets NAT lets in by a mapping of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filtering {
    /// Anybody's.
    Endpoint,
    /// Of addresses the guest sent to.
    Address,
    /// Of endpoints the guest sent to.
    #[default]
    AddressAndPort,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dhcp {
    pub ranges: Vec<DhcpRange>,
    pub hosts: Vec<DhcpHost>,
    /// Of addresses in no range; `u32::MAX` is infinite.
    pub lease_seconds: u32,
    pub boot: Option<DhcpBoot>,
    /// Code and data. Sent to those who ask; in place of what the server says itself, and empty instead of it.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Addresses of the gateway besides the network's.
    pub own: Vec<Ipv4Addr>,
}

/// Inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpRange {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
    pub lease_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DhcpHost {
    pub mac: Option<Mac>,
    pub client_id: Option<Vec<u8>>,
    /// The host is its MAC address, whatever identifier it sends.
    pub any_client_id: bool,
    pub name: Option<String>,
    pub ip: Option<Ipv4Addr>,
    /// `None`: that of the address's range.
    pub lease_seconds: Option<u32>,
}

/// What a guest that boots from the network is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpBoot {
    pub file: String,
    pub server_name: String,
    /// `None`: the gateway.
    pub next_server: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    pub enabled: bool,
    pub domain: Option<String>,
    /// Unknown names of `domain` do not exist, even if an upstream is named for it.
    pub local_only: bool,
    pub forward_plain_names: bool,
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    pub txt: Vec<(String, String)>,
    pub srv: Vec<Srv>,
    /// Alias, which may begin with `*.`, and target.
    pub cnames: Vec<(String, String)>,
    /// Domains whose every name has one address, or does not exist; the empty one is all.
    pub domains: Vec<(String, Option<IpAddr>)>,
    /// Subnets of the network.
    pub reverse: Vec<Reverse>,
    /// Who is asked for what is not known here; the longest domain that fits counts. None: nobody is asked.
    pub upstreams: Vec<Upstream>,
    /// Answers kept; 0 keeps none.
    pub cache_size: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Srv {
    /// With the underscores, e.g. `_ldap._tcp.example.com`.
    pub name: String,
    /// `None`: the service is not available.
    pub target: Option<String>,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

/// Reverse names of a subnet leave only if an upstream is named for them, and never if it is `alone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverse {
    pub subnet: IpNet,
    pub alone: bool,
}

/// Resolvers for one domain, or for all that no other names, tried in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub domain: Option<String>,
    /// Places in the list of resolvers.
    pub resolvers: Vec<u16>,
}

/// Where NAT leaves. The interface itself is a descriptor that comes with [`crate::message::ToDatapath::Attach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    pub id: u16,
    /// Names it in messages and counters, e.g. `up0`.
    pub name: String,
    pub mac: Mac,
    /// `None`: ask a DHCP server upstream, unless the uplink is shared.
    pub address: Option<Ipv4Net>,
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u16,
    /// The address is the host's own, or the host has none at present.
    #[serde(default)]
    pub shared: Option<Shared>,
}

/// An uplink behind which the host's kernel finds the next hops, so that frames may carry any link-layer address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Further addresses of the host: packets to them are for the host itself.
    pub host: Vec<Ipv4Addr>,
}

/// A place frames come from and go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub id: u16,
    /// Interface name, e.g. `vnet0`, `virbr1`, `up0`.
    pub name: String,
    pub role: Role,
    /// Addresses it may teach the switch.
    pub max_addresses: u16,
    #[serde(default)]
    pub bridging: PortBridging,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The host's own tap (`virbrN`) of this network.
    Host { network: u16 },
    /// A guest's port on this network.
    Guest { network: u16 },
    /// The interface of this uplink.
    Uplink { uplink: u16 },
}
