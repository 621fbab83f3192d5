//! From definitions to the document the datapath runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;
use pontoon_netxml::{Ip, Mode, Network as Definition};
use pontoon_proto::Document;
use pontoon_proto::document::{Filtering, Forward, Network, Port, PortBridging, Role, Route, Shared, Uplink};

use crate::bridge;
use crate::live::{Kind, Live, LiveNetwork};
use crate::resolvers::{Resolvers, SOCKETS_EACH};
use crate::{dhcp, dns};

/// libvirt's range of external ports.
pub(crate) const NAT_PORTS: (u16, u16) = (1024, 65535);
/// libvirt's.
const ROUTE_METRIC: u32 = 1;
const DEFAULT_MTU: u16 = 1500;
/// Addresses behind one guest port: containers in a VM are many, a flooding guest is not served.
const GUEST_ADDRESSES: u16 = 256;
const HOST_ADDRESSES: u16 = 64;
const SEGMENT_ADDRESSES: u16 = 8192;

/// What the datapath of a host with these resolvers would be told of a definition, and the resolvers in their places. For
/// tests of what definitions come to.
#[doc(hidden)]
pub fn preview(definition: &Definition, host: &[SocketAddr]) -> (Document, Vec<SocketAddr>) {
    let mut resolvers = Resolvers::of(host);
    let wanted = dns::wanted(std::iter::once(definition), host);
    resolvers.arrange(&wanted);
    let networks = vec![LiveNetwork::new(1, 1, None, definition.clone())];
    let live = Live { networks, ..Live::default() };
    (build(&live, &BTreeSet::new(), &resolvers), wanted)
}

/// `failed` ports are left out until they are attached anew.
pub(crate) fn build(live: &Live, failed: &BTreeSet<u16>, resolvers: &Resolvers) -> Document {
    let resolver_epochs = resolvers.epochs();
    let mut ports = Vec::new();
    for net in &live.networks {
        // Behind a port of the host's bridge is a whole segment.
        let (role, max_addresses) = match net.segment {
            Some(_) => (Role::Guest { network: net.id }, SEGMENT_ADDRESSES),
            None => (Role::Host { network: net.id }, HOST_ADDRESSES),
        };
        ports.push(Port {
            id: net.port,
            name: net.device().into(),
            role,
            max_addresses,
            bridging: bridge::of_host(),
        });
    }
    for uplink in &live.uplinks {
        let role = Role::Uplink { uplink: uplink.id };
        ports.push(Port {
            id: uplink.port,
            name: uplink.dev.clone(),
            role,
            max_addresses: 0,
            bridging: PortBridging::default(),
        });
    }
    for guest in &live.guests {
        let role = Role::Guest { network: guest.network };
        let name = guest.ifname.clone();
        ports.push(Port {
            id: guest.port,
            name,
            role,
            max_addresses: GUEST_ADDRESSES,
            bridging: bridge::of_guest(live, guest),
        });
    }
    ports.retain(|port| !failed.contains(&port.id));
    Document {
        generation: live.generation,
        networks: live.networks.iter().map(|net| network(live, net, resolvers)).collect(),
        uplinks: live.uplinks.iter().map(uplink).collect(),
        ports,
        resolvers: u16::try_from(resolver_epochs.len()).unwrap_or(0),
        sockets_per_resolver: if resolver_epochs.is_empty() { 0 } else { SOCKETS_EACH },
        resolver_epochs,
    }
}

fn filtering(filtering: pontoon_netxml::Filtering) -> Filtering {
    match filtering {
        pontoon_netxml::Filtering::Endpoint => Filtering::Endpoint,
        pontoon_netxml::Filtering::Address => Filtering::Address,
        pontoon_netxml::Filtering::AddressAndPort => Filtering::AddressAndPort,
    }
}

fn uplink(uplink: &crate::live::LiveUplink) -> Uplink {
    Uplink {
        id: uplink.id,
        name: uplink.dev.clone(),
        mac: uplink.mac,
        address: uplink.address,
        gateway: uplink.gateway,
        mtu: uplink.mtu,
        shared: (uplink.kind == Kind::Shared).then(|| Shared { host: uplink.host.clone() }),
    }
}

fn network(all: &Live, live: &LiveNetwork, resolvers: &Resolvers) -> Network {
    let definition = &live.network;
    Network {
        id: live.id,
        name: definition.name.clone(),
        forward: forward(definition.forward.mode),
        mac: definition.mac.unwrap_or_default(),
        address: address(definition),
        more_addresses: addresses(definition).split_off(usize::from(address(definition).is_some())),
        routes: routes(definition),
        mtu: live.mtu(),
        uplink: live.uplink,
        nat_ports: nat_ports(live),
        nat_addresses: definition.forward.nat_addresses,
        filtering: filtering(definition.filtering),
        port_forwards: crate::forwards::describe(live),
        dhcp: dhcp_ip(definition).map(|ip| dhcp::describe(definition, ip)),
        dns: dns::describe(definition, resolvers),
        ageing_seconds: all.bridging.network(live.id).ageing_seconds,
        bridging: bridge::of_network(all, live),
    }
}

/// The external ports of a network.
pub(crate) fn nat_ports(live: &LiveNetwork) -> (u16, u16) {
    let wanted = live.network.forward.nat_ports.unwrap_or(NAT_PORTS);
    let chosen = live.ports.filter(|chosen| chosen.wanted == live.network.forward.nat_ports);
    chosen.map_or(wanted, |chosen| chosen.range)
}

/// Modes without a bridge of their own are no network of the datapath.
fn forward(mode: Mode) -> Forward {
    match mode {
        Mode::Nat => Forward::Nat,
        Mode::Route => Forward::Route,
        Mode::Open => Forward::Open,
        Mode::Bridge => Forward::Bridge,
        _ => Forward::Isolated,
    }
}

pub(crate) fn mtu(definition: &Definition) -> u16 {
    definition.mtu.map_or(DEFAULT_MTU, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// The gateway's address: that of the IPv4 `<ip>` with DHCP, else the first.
pub(crate) fn address(definition: &Definition) -> Option<Ipv4Net> {
    let first = || definition.ips.iter().find(|ip| ip.address.is_ipv4());
    let ip = dhcp_ip(definition).or_else(first)?;
    Ipv4Net::new(v4(ip.address)?, ip.prefix).ok()
}

/// Every IPv4 address of the gateway, that of [`address`] first.
pub(crate) fn addresses(definition: &Definition) -> Vec<Ipv4Net> {
    let first = address(definition);
    let all = definition.ips.iter().filter_map(|ip| Ipv4Net::new(v4(ip.address)?, ip.prefix).ok());
    first.into_iter().chain(all.filter(|net| Some(*net) != first)).collect()
}

/// Prefixes behind guests.
pub(crate) fn routes(definition: &Definition) -> Vec<Route> {
    let route = |route: &pontoon_netxml::Route| {
        Some(Route {
            destination: Ipv4Net::new(v4(route.address)?, route.prefix).ok()?.trunc(),
            gateway: v4(route.gateway)?,
            metric: route.metric.unwrap_or(ROUTE_METRIC),
        })
    };
    definition.routes.iter().filter_map(route).collect()
}

/// An empty `<dhcp>` serves nobody.
pub(crate) fn dhcp_ip(definition: &Definition) -> Option<&Ip> {
    definition.ips.iter().find(|ip| ip.has_dhcp() && ip.address.is_ipv4())
}

pub(crate) fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_proto::document::DhcpRange;

    const XML: &str = "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid>\
        <bridge name='virbr1'/><mac address='52:54:00:01:02:03'/><domain name='lab' localOnly='yes'/>\
        <ip address='10.1.0.1' prefix='24'><dhcp><range start='10.1.0.2' end='10.1.0.9'/>\
        <host mac='52:54:00:aa:bb:cc' name='a' ip='10.1.0.5'/></dhcp></ip></network>";

    #[test]
    fn a_definition_becomes_a_document() {
        let definition = pontoon_netxml::parse(XML).expect("xml");
        let live = Live {
            generation: 3,
            networks: vec![LiveNetwork::new(2, 7, None, definition)],
            ..Live::default()
        };
        let mut resolvers = Resolvers::read(std::path::Path::new("/nonexistent"));
        resolvers.arrange(&["127.0.0.1:53".parse().expect("address")]);
        let document = build(&live, &BTreeSet::new(), &resolvers);
        assert_eq!((document.generation, document.resolvers, document.sockets_per_resolver), (3, 1, 32));
        let network = &document.networks[0];
        assert_eq!(network.forward, Forward::Isolated);
        assert_eq!(network.address, Some("10.1.0.1/24".parse().expect("net")));
        assert_eq!((network.mtu, network.nat_ports), (1500, (1024, 65535)));
        let dhcp = network.dhcp.as_ref().expect("dhcp");
        let (first, last) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 9));
        assert_eq!(dhcp.ranges, [DhcpRange { first, last, lease_seconds: 3600 }]);
        assert_eq!(dhcp.hosts[0].ip, Some(Ipv4Addr::new(10, 1, 0, 5)));
        assert!(network.dns.local_only && network.dns.domain.as_deref() == Some("lab"));
        assert_eq!(document.ports[0].role, Role::Host { network: 2 });
        assert!(build(&live, &BTreeSet::from([7]), &resolvers).ports.is_empty());
    }
}
