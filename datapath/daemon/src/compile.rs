//! Control's document to the engine's snapshot. The only place that knows both; every reference is checked here.

#[path = "compile_services.rs"]
mod services;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::sync::Arc;

use pontoon_engine::snapshot::{
    Filtering, Forward, Network, Port, PortForward, Role, Route, Shared, Snapshot, Subnet, Uplink,
};
use pontoon_engine::switch::MacTable;
use pontoon_engine::{PortId, dhcp};
use pontoon_proto::document::{self, Document};
use pontoon_proto::message;

use crate::bridging;
use crate::queues::MAX_PORTS;

/// Ids of networks and uplinks are below this.
pub(crate) const MAX_IDS: usize = 4096;
/// Sockets to all resolvers.
const MAX_SOCKETS: usize = 4096;
/// The smallest MTU IPv4 allows.
const MIN_MTU: u16 = 68;

/// What workers would run on. For tests of what documents come to.
///
/// # Errors
/// The field that is wrong, and why.
#[doc(hidden)]
pub fn preview(document: Document) -> Result<Arc<Snapshot>, String> {
    Ok(Running::default().next(document, 1)?.snapshot)
}

/// What runs now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    pub(crate) document: Document,
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Running {
    /// Compiles `document`; what stays keeps its learned addresses.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn next(&self, document: Document, seed: u64) -> Result<Self, String> {
        let networks = self.networks(&document, seed)?;
        let uplinks = self.uplinks(&document)?;
        let sockets = usize::from(document.resolvers) * usize::from(document.sockets_per_resolver);
        if sockets > MAX_SOCKETS {
            return refuse("sockets_per_resolver", format_args!("{sockets} sockets are over {MAX_SOCKETS}"));
        }
        // A document without epochs has sockets that never change.
        let mut resolvers = document.resolver_epochs.clone();
        resolvers.resize(usize::from(document.resolvers), 0);
        let mut snapshot = Snapshot {
            generation: document.generation,
            networks,
            uplinks,
            ports: Vec::new(),
            resolvers,
            sockets_per_resolver: document.sockets_per_resolver,
        };
        check_uplinks(&document, &snapshot)?;
        ports(&document, &mut snapshot)?;
        bridging::compile(&document, &mut snapshot, &self.snapshot)?;
        Ok(Self { document, snapshot: Arc::new(snapshot) })
    }

    fn networks(&self, document: &Document, seed: u64) -> Result<Vec<Option<Network>>, String> {
        let mut networks = Vec::new();
        for (index, described) in document.networks.iter().enumerate() {
            let field = format!("networks[{index}]");
            let kept = self.snapshot.network(described.id).filter(|old| old.name == described.name);
            let macs = kept.map_or_else(
                || Arc::new(MacTable::new(seed ^ u64::from(described.id))),
                |old| Arc::clone(&old.macs),
            );
            place(
                &mut networks,
                described.id,
                network(&field, described, macs, document.resolvers)?,
                &field,
            )?;
        }
        Ok(networks)
    }

    fn uplinks(&self, document: &Document) -> Result<Vec<Option<Uplink>>, String> {
        let mut uplinks = Vec::new();
        for (index, described) in document.uplinks.iter().enumerate() {
            let field = format!("uplinks[{index}]");
            if described.mac[0] & 1 == 1 {
                return refuse(format_args!("{field}.mac"), "is a group address");
            }
            if described.mtu < MIN_MTU {
                return refuse(
                    format_args!("{field}.mtu"),
                    format_args!("{} is below {MIN_MTU}", described.mtu),
                );
            }
            let kept = self.snapshot.uplink(described.id).filter(|old| old.name == described.name);
            let (subnet, gateway) = ends(described);
            let uplink = Uplink {
                name: described.name.clone(),
                port: None,
                mac: described.mac,
                subnet,
                gateway,
                mtu: described.mtu,
                leased: kept.map_or_else(Arc::default, |old| Arc::clone(&old.leased)),
                shared: described.shared.as_ref().map(|shared| Shared { host: shared.host.clone() }),
            };
            place(&mut uplinks, described.id, uplink, &field)?;
        }
        Ok(uplinks)
    }

    /// Ports of `self` that are not, or not the same, in `next`.
    #[must_use]
    pub(crate) fn gone(&self, next: &Self) -> Vec<PortId> {
        fn place(port: &document::Port) -> (&String, document::Role, bool) {
            (&port.name, port.role, port.bridging.down)
        }
        let stays: BTreeMap<_, _> = next.document.ports.iter().map(|port| (port.id, place(port))).collect();
        let ports = self.document.ports.iter();
        ports.filter(|port| stays.get(&port.id) != Some(&place(port))).map(|port| port.id).collect()
    }

    /// Networks of `self` that are not in `next`.
    #[must_use]
    pub(crate) fn closed_networks(&self, next: &Self) -> Vec<u16> {
        let ids = self.document.networks.iter().map(|network| network.id);
        ids.filter(|id| next.snapshot.network(*id).is_none()).collect()
    }
}

/// Address and gateway of an uplink. Behind one that the host shares there is one next hop.
fn ends(described: &document::Uplink) -> (Option<Subnet>, Option<Ipv4Addr>) {
    let address = described.address.map(|net| net.addr());
    let prefix = described.address.map_or(32, |net| net.prefix_len());
    match described.shared {
        Some(_) => (address.map(|address| Subnet { address, prefix: 32 }), address),
        None => (address.map(|address| Subnet { address, prefix }), described.gateway),
    }
}

fn refuse<T>(field: impl Display, why: impl Display) -> Result<T, String> {
    Err(format!("{field}: {why}"))
}

fn place<T>(places: &mut Vec<Option<T>>, id: u16, value: T, field: &str) -> Result<(), String> {
    let index = usize::from(id);
    if index >= MAX_IDS.min(MAX_PORTS) {
        return refuse(format_args!("{field}.id"), format_args!("{id} is not below {MAX_IDS}"));
    }
    if places.len() <= index {
        places.resize_with(index + 1, || None);
    }
    match places.get_mut(index) {
        Some(place @ None) => *place = Some(value),
        _ => return refuse(format_args!("{field}.id"), format_args!("{id} is used twice")),
    }
    Ok(())
}

fn network(
    field: &str,
    described: &document::Network,
    macs: Arc<MacTable>,
    resolvers: u16,
) -> Result<Network, String> {
    let subnet = described.address.map(|net| Subnet { address: net.addr(), prefix: net.prefix_len() });
    let forward = forward(described.forward);
    if described.mtu < MIN_MTU {
        return refuse(format_args!("{field}.mtu"), format_args!("{} is below {MIN_MTU}", described.mtu));
    }
    if described.mac[0] & 1 == 1 {
        return refuse(format_args!("{field}.mac"), "is a group address");
    }
    let (low, high) = described.nat_ports;
    if forward == Forward::Nat && (low == 0 || low > high) {
        return refuse(format_args!("{field}.nat_ports"), format_args!("{low}-{high} is not a port range"));
    }
    let dhcp = match (&described.dhcp, subnet) {
        (Some(dhcp), Some(subnet)) => Some(services::dhcp(field, described, dhcp, subnet)?),
        (Some(_), None) => return refuse(format_args!("{field}.dhcp"), "the network has no address"),
        (None, _) => None,
    };
    Ok(Network {
        name: described.name.clone(),
        forward,
        mac: described.mac,
        subnet,
        mtu: described.mtu,
        uplink: described.uplink,
        nat_ports: described.nat_ports,
        subnets: subnets(field, described)?,
        routes: routes(field, described)?,
        nat_addresses: nat_addresses(field, described)?,
        filtering: filtering(described.filtering),
        forwards: forwards(field, described)?,
        dhcp,
        dns: services::dns(field, described, subnet, resolvers)?,
        macs,
        policy: None,
        ports: Vec::new(),
        host: None,
    })
}

fn filtering(filtering: document::Filtering) -> Filtering {
    match filtering {
        document::Filtering::Endpoint => Filtering::Endpoint,
        document::Filtering::Address => Filtering::Address,
        document::Filtering::AddressAndPort => Filtering::AddressAndPort,
    }
}

fn forwards(field: &str, described: &document::Network) -> Result<Vec<PortForward>, String> {
    let one = |(index, forward): (usize, &document::PortForward)| {
        let &document::PortForward { protocol, address, ports: (first, last), to, guest } = forward;
        let sound = first > 0 && to > 0 && first <= last && to.checked_add(last - first).is_some();
        if !sound || !matches!(protocol, 6 | 17) {
            let what = format_args!("ports {first}-{last} to {to} of protocol {protocol}");
            return refuse(format_args!("{field}.port_forwards[{index}]"), what);
        }
        Ok(PortForward { protocol, address, ports: (first, last), to, guest })
    };
    described.port_forwards.iter().enumerate().map(one).collect()
}

/// The gateway's addresses, the first beside DHCP first.
fn subnets(field: &str, described: &document::Network) -> Result<Vec<Subnet>, String> {
    let all = described.address.iter().chain(&described.more_addresses);
    let subnets: Vec<Subnet> =
        all.map(|net| Subnet { address: net.addr(), prefix: net.prefix_len() }).collect();
    for (index, subnet) in subnets.iter().enumerate() {
        if subnets
            .iter()
            .take(index)
            .any(|other| other.contains(subnet.address) || subnet.contains(other.address))
        {
            let why = format_args!("{}/{} overlaps another", subnet.address, subnet.prefix);
            return refuse(format_args!("{field}.more_addresses"), why);
        }
    }
    Ok(subnets)
}

/// Routes in the order they are looked through.
fn routes(field: &str, described: &document::Network) -> Result<Vec<Route>, String> {
    let mut routes: Vec<&document::Route> = described.routes.iter().collect();
    routes.sort_by_key(|route| (std::cmp::Reverse(route.destination.prefix_len()), route.metric));
    let mut compiled = Vec::new();
    for route in routes {
        let mut gateways = described.address.iter().chain(&described.more_addresses);
        if !gateways.any(|net| net.contains(&route.gateway) && net.addr() != route.gateway) {
            let why = format_args!("{} is no guest of the network", route.gateway);
            return refuse(format_args!("{field}.routes"), why);
        }
        let destination =
            Subnet { address: route.destination.network(), prefix: route.destination.prefix_len() };
        compiled.push(Route { destination, gateway: route.gateway });
    }
    Ok(compiled)
}

fn nat_addresses(field: &str, described: &document::Network) -> Result<Option<(Ipv4Addr, Ipv4Addr)>, String> {
    match described.nat_addresses {
        Some((first, last)) if first > last => {
            refuse(format_args!("{field}.nat_addresses"), format_args!("{first} is behind {last}"))
        }
        pool => Ok(pool),
    }
}

fn forward(forward: document::Forward) -> Forward {
    match forward {
        document::Forward::Isolated => Forward::Isolated,
        document::Forward::Nat => Forward::Nat,
        document::Forward::Route => Forward::Route,
        document::Forward::Open => Forward::Open,
        document::Forward::Bridge => Forward::Bridge,
    }
}

fn check_uplinks(document: &Document, snapshot: &Snapshot) -> Result<(), String> {
    for (index, network) in document.networks.iter().enumerate() {
        if let Some(uplink) = network.uplink.filter(|uplink| snapshot.uplink(*uplink).is_none()) {
            return refuse(
                format_args!("networks[{index}].uplink"),
                format_args!("there is no uplink {uplink}"),
            );
        }
    }
    Ok(())
}

fn ports(document: &Document, snapshot: &mut Snapshot) -> Result<(), String> {
    for (index, described) in document.ports.iter().enumerate() {
        let field = format!("ports[{index}]");
        let role = match described.role {
            document::Role::Host { network } => Role::Host { network },
            document::Role::Guest { network } if described.bridging.down => Role::Down { network },
            document::Role::Guest { network } => Role::Guest { network },
            document::Role::Uplink { uplink } => Role::Uplink { uplink },
        };
        let fixed = |id| document.networks.iter().any(|network| network.id == id && network.bridging.fixed);
        let max_addresses = match role {
            Role::Guest { network } if fixed(network) => 0,
            _ => described.max_addresses,
        };
        let port = Port { role, max_addresses };
        place(&mut snapshot.ports, described.id, port, &field)?;
        join(snapshot, described.id, role).or_else(|why| refuse(format_args!("{field}.role"), why))?;
    }
    Ok(())
}

/// Enters a port where its role belongs.
fn join(snapshot: &mut Snapshot, id: PortId, role: Role) -> Result<(), String> {
    let place = match role {
        Role::Uplink { uplink } => {
            let uplinks = snapshot.uplinks.get_mut(usize::from(uplink)).and_then(Option::as_mut);
            &mut uplinks.ok_or_else(|| format!("there is no uplink {uplink}"))?.port
        }
        Role::Down { .. } => return Ok(()),
        Role::Host { network } | Role::Guest { network } => {
            let networks = snapshot.networks.get_mut(usize::from(network)).and_then(Option::as_mut);
            let found = networks.ok_or_else(|| format!("there is no network {network}"))?;
            found.ports.push(id);
            if matches!(role, Role::Guest { .. }) {
                return Ok(());
            }
            &mut found.host
        }
    };
    match place.replace(id) {
        None => Ok(()),
        Some(other) => Err(format!("port {other} has this role already")),
    }
}

/// A lease as the engine knows it.
#[must_use]
pub(crate) fn lease(lease: message::Lease) -> dhcp::Lease {
    let message::Lease { ip, mac, client_id, hostname, expiry } = lease;
    dhcp::Lease { ip, mac, client_id, hostname, expiry }
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
