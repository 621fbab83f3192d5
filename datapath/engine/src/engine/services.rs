//! DHCP, DNS and the uplinks' own addresses: rare traffic, all of it on worker 0.

mod leases;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::vnet;

use super::{Context, Decision, State};
use crate::dhcp;
use crate::dns::tcp::TcpServer;
use crate::dns::{self, Client, Forwarder, Names, Transport, Verdict, Zone};
use crate::drops::DropReason;
use crate::egress::{Egress, Event, FrameRef};
use crate::gateway::{self, Datagram, UDP_HEADERS};
use crate::snapshot::{Network, PortId, Snapshot, Uplink};
use crate::time::{Now, Time};
use crate::trace::Stage;
use crate::uplink::dhcp_client::{Change, DhcpClient};

/// Largest DNS message (TCP).
const DNS_MAX: usize = 65_535;
/// How often idle TCP connections and DHCP clients are looked at.
const TICK_MILLIS: u64 = 100;

#[derive(Default)]
struct NetworkServices {
    name: alloc::string::String,
    dhcp: Option<dhcp::Server>,
    zone: Option<Zone>,
    /// One an address of the gateway.
    tcp: Vec<TcpServer>,
    /// What `tcp` was made for.
    mtu: u16,
    /// Leases from disk that wait for the server.
    restored: Vec<dhcp::Lease>,
}

pub(super) struct Services {
    seed: u64,
    networks: Vec<NetworkServices>,
    forwarder: Forwarder,
    sockets_per_resolver: u16,
    pending: BTreeMap<u32, leases::Pending>,
    /// One a port, gone with it.
    budgets: BTreeMap<PortId, leases::Budget>,
    ticket: u32,
    clients: BTreeMap<u16, DhcpClient>,
    buffer: Box<[u8]>,
    tick: Time,
}

/// Names of one network's leases.
struct LeaseNames<'a>(Option<&'a dhcp::Server>, u64);

impl Names for LeaseNames<'_> {
    fn by_name(&self, name: &str) -> Option<Ipv4Addr> {
        self.0?.lookup_name(name, self.1)
    }

    fn by_ip(&self, ip: Ipv4Addr) -> Option<&str> {
        self.0?.lookup_ip(ip, self.1)
    }
}

impl Services {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            networks: Vec::new(),
            forwarder: Forwarder::new(seed),
            sockets_per_resolver: 0,
            pending: BTreeMap::new(),
            budgets: BTreeMap::new(),
            ticket: 0,
            clients: BTreeMap::new(),
            buffer: vec![0; DNS_MAX].into_boxed_slice(),
            tick: Time::default(),
        }
    }

    pub(super) fn restore(&mut self, network: u16, lease: dhcp::Lease) {
        let services = self.network(network);
        match &mut services.dhcp {
            Some(server) => server.restore(lease),
            None => services.restored.push(lease),
        }
    }

    pub(super) fn apply(&mut self, snapshot: &Snapshot) {
        for id in 0..snapshot.networks.len().max(self.networks.len()) {
            let id = u16::try_from(id).unwrap_or(u16::MAX);
            match snapshot.network(id) {
                Some(network) => self.apply_network(id, network),
                None => {
                    *self.network(id) = NetworkServices::default();
                    self.forwarder.set_cache(id, 0);
                }
            }
        }
        self.sockets_per_resolver = snapshot.sockets_per_resolver;
        let networks = &self.networks;
        self.forwarder.set_sockets(snapshot.sockets_per_resolver, &snapshot.resolvers, &|id, name, asked| {
            let zone = networks.get(usize::from(id)).and_then(|network| network.zone.as_ref());
            zone.map_or_else(Vec::new, |zone| zone.route(name, asked).to_vec())
        });
        self.clients.retain(|&id, _| snapshot.uplink(id).is_some_and(Uplink::asks_for_address));
        self.budgets.retain(|&port, _| snapshot.port(port).is_some());
    }

    fn apply_network(&mut self, id: u16, network: &Network) {
        let seed = self.seed ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let services = self.network(id);
        if services.name != network.name && !services.name.is_empty() {
            *services = NetworkServices::default();
        }
        services.name.clone_from(&network.name);
        match (&mut services.dhcp, &network.dhcp) {
            (Some(server), Some(config)) if server.config() == config => {}
            (Some(server), Some(config)) => server.reconfigure(config.clone()),
            (slot @ None, Some(config)) => {
                let mut server = dhcp::Server::new(config.clone(), seed);
                services.restored.drain(..).for_each(|lease| server.restore(lease));
                *slot = Some(server);
            }
            (slot, None) => *slot = None,
        }
        let mut before = core::mem::take(&mut services.tcp);
        before.retain(|_| services.mtu == network.mtu);
        services.mtu = network.mtu;
        services.tcp = network
            .subnets
            .iter()
            .filter(|_| network.dns.enabled)
            .map(|subnet| {
                let kept = before.iter().position(|tcp| tcp.address() == subnet.address);
                let (address, prefix) = (subnet.address, subnet.prefix);
                let fresh = || TcpServer::new(network.mac, address, prefix, network.mtu, seed);
                kept.map_or_else(fresh, |place| before.swap_remove(place))
            })
            .collect();
        if services.zone.as_ref().is_none_or(|zone| *zone.config() != network.dns) {
            services.zone = Some(Zone::new(network.dns.clone()));
            self.forwarder.set_cache(id, network.dns.cache_size);
        }
    }

    fn network(&mut self, id: u16) -> &mut NetworkServices {
        let id = usize::from(id);
        if self.networks.len() <= id {
            self.networks.resize_with(id + 1, NetworkServices::default);
        }
        &mut self.networks[id]
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let mut servers = self.networks.iter().flat_map(|network| &network.tcp);
        let busy = servers.any(|tcp| tcp.connections() > 0);
        let tick = (busy || !self.clients.is_empty()).then_some(self.tick);
        [tick, self.forwarder.next_timeout().map(Time)].into_iter().flatten().min()
    }
}

impl State {
    pub(super) fn dns_udp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &[u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::Dns);
        if self.hand_over(context, 0, frame)? {
            return Ok(());
        }
        let payload = gateway::udp_payload(frame, packet).ok_or(DropReason::IpMalformed)?;
        let mac = pontoon_wire::ethernet::source(frame).ok_or(DropReason::Runt)?;
        let transport = Transport::Udp;
        let (ip, port, server) = (packet.source(), packet.source_port, packet.destination());
        let client = Client { network: id, mac, ip, port, server, transport };
        let Services { networks, forwarder, buffer, .. } = &mut self.services;
        let services = networks.get(usize::from(id)).ok_or(DropReason::DnsDropped)?;
        let zone = services.zone.as_ref().ok_or(DropReason::DnsDropped)?;
        let names = LeaseNames(services.dhcp.as_ref(), context.now.unix);
        match forwarder.query(context.now.mono.0, zone, &names, client, payload, buffer) {
            Verdict::Answer(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                deliver(
                    networks,
                    context.now,
                    context.snapshot,
                    &mut self.scratch,
                    client,
                    bytes,
                    context.out,
                );
                Ok(())
            }
            Verdict::Forward { socket, len, .. } => {
                context.out.dns_query(socket, buffer.get(..len).unwrap_or_default());
                Ok(())
            }
            Verdict::Waiting => Ok(()),
            Verdict::Drop(_) => Err(DropReason::DnsDropped),
        }
    }

    pub(super) fn dns_tcp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &[u8],
    ) -> Decision {
        self.trail.pass(Stage::Dns);
        if self.hand_over(context, 0, frame)? {
            return Ok(());
        }
        let (port, now) = (context.ingress, context.now);
        for tcp in &mut self.services.network(id).tcp {
            tcp.receive(now.mono.0, frame, &mut |bytes| context.send_plain(port, bytes));
        }
        self.dns_tcp_queries(now, context.snapshot, id, context.out);
        Ok(())
    }

    /// Takes up what arrived whole on the network's DNS connections.
    fn dns_tcp_queries(&mut self, now: Now, snapshot: &Snapshot, id: u16, out: &mut impl Egress) {
        let Services { networks, forwarder, buffer, sockets_per_resolver, ticket, .. } = &mut self.services;
        loop {
            let Some(services) = networks.get_mut(usize::from(id)) else { return };
            let asked = |tcp: &mut TcpServer| {
                let server = tcp.address();
                tcp.next_query().map(|query| (server, query.conn, query.peer, query.payload.to_vec()))
            };
            let Some((server, conn, peer, payload)) = services.tcp.iter_mut().find_map(asked) else { return };
            let (mac, ip, port) = (peer.mac, peer.ip, peer.port);
            let client = Client { network: id, mac, ip, port, server, transport: Transport::Tcp(conn) };
            let Some(zone) = &services.zone else { return };
            let names = LeaseNames(services.dhcp.as_ref(), now.unix);
            match forwarder.query(now.mono.0, zone, &names, client, &payload, buffer) {
                Verdict::Answer(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    deliver(networks, now, snapshot, &mut self.scratch, client, bytes, out);
                }
                Verdict::Forward { socket, len, .. } => {
                    let query = buffer.get(..len).unwrap_or_default();
                    ask_tcp(out, *sockets_per_resolver, ticket, socket, query);
                }
                Verdict::Waiting => {}
                Verdict::Drop(_) => {
                    self.drops.count(DropReason::DnsDropped);
                    if let Some(tcp) = server_of(networks, &client) {
                        tcp.close(conn);
                    }
                }
            }
        }
    }

    pub(super) fn dns_response(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        socket: u16,
        message: &[u8],
        out: &mut impl Egress,
    ) {
        let Services { networks, forwarder, buffer, sockets_per_resolver, ticket, .. } = &mut self.services;
        let scratch = &mut self.scratch;
        let found = forwarder.response(now.mono.0, socket, message, buffer, &mut |event| {
            settle(networks, now, snapshot, scratch, (*sockets_per_resolver, &mut *ticket), event, out);
        });
        if !found {
            self.drops.count(DropReason::DnsDropped);
        }
    }

    pub(super) fn dns_failed(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        socket: u16,
        tcp: bool,
        out: &mut impl Egress,
    ) {
        let Services { networks, forwarder, sockets_per_resolver, ticket, .. } = &mut self.services;
        let scratch = &mut self.scratch;
        forwarder.upstream_failed(now.mono.0, socket, tcp, &mut |event| {
            settle(networks, now, snapshot, scratch, (*sockets_per_resolver, &mut *ticket), event, out);
        });
    }

    pub(super) fn services_timeout(&mut self, now: Now, snapshot: &Snapshot, out: &mut impl Egress) {
        if self.config.worker != 0 {
            return;
        }
        let Services { networks, forwarder, sockets_per_resolver, ticket, .. } = &mut self.services;
        let scratch = &mut self.scratch;
        forwarder.expire(now.mono.0, &mut |event| {
            settle(networks, now, snapshot, scratch, (*sockets_per_resolver, &mut *ticket), event, out);
        });
        if now.mono < self.services.tick {
            return;
        }
        self.services.tick = now.mono.after_millis(TICK_MILLIS);
        for id in 0..self.services.networks.len() {
            let id = u16::try_from(id).unwrap_or(u16::MAX);
            let services = self.services.network(id);
            if let Some(server) = &mut services.dhcp {
                server.expire(now.unix, &mut |_| {});
            }
            poll_tcp(&mut self.services.networks, now, snapshot, id, out);
            self.dns_tcp_queries(now, snapshot, id, out);
        }
        self.poll_uplinks(now, snapshot, out);
    }

    fn poll_uplinks(&mut self, now: Now, snapshot: &Snapshot, out: &mut impl Egress) {
        for (id, uplink) in snapshot.uplinks.iter().enumerate() {
            let id = u16::try_from(id).unwrap_or(u16::MAX);
            if uplink.as_ref().is_some_and(Uplink::asks_for_address) {
                self.run_client(now, snapshot, id, None, out);
            }
        }
    }

    pub(super) fn uplink_dhcp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &[u8],
        packet: &Packet,
    ) {
        let whole = frame.get(..packet.end);
        self.run_client(context.now, context.snapshot, id, whole, context.out);
    }

    fn run_client(
        &mut self,
        now: Now,
        snapshot: &Snapshot,
        id: u16,
        frame: Option<&[u8]>,
        out: &mut impl Egress,
    ) {
        let Some(uplink) = snapshot.uplink(id) else { return };
        let Some(port) = uplink.port else { return };
        let seed = self.services.seed ^ u64::from(id);
        let client =
            self.services.clients.entry(id).or_insert_with(|| DhcpClient::new(uplink.mac, seed, now.mono.0));
        let change = client.poll(now.mono.0, frame, &mut |bytes| {
            out.transmit(port, FrameRef { vnet: vnet::Header::default(), bytes });
        });
        match change {
            Some(Change::Configured(subnet, gateway)) => {
                if uplink.leased.get().is_some_and(|(old, _)| old.address != subnet.address) {
                    self.nat.flush_uplink(id);
                }
                uplink.leased.set(subnet, gateway);
                let (address, prefix) = (subnet.address, subnet.prefix);
                out.event(Event::UplinkConfigured { uplink: &uplink.name, address, prefix });
            }
            Some(Change::Lost) if uplink.leased.get().is_some() => {
                uplink.leased.clear();
                out.event(Event::UplinkLost { uplink: &uplink.name });
            }
            Some(Change::Lost) | None => {}
        }
    }
}

/// Sends a DNS answer to the guest that asked.
fn deliver(
    networks: &mut [NetworkServices],
    now: Now,
    snapshot: &Snapshot,
    scratch: &mut [u8],
    client: Client,
    answer: &[u8],
    out: &mut impl Egress,
) {
    let Some(network) = snapshot.network(client.network) else { return };
    if let Transport::Tcp(conn) = client.transport {
        if let Some(tcp) = server_of(networks, &client) {
            tcp.answer(conn, answer);
        }
        poll_tcp(networks, now, snapshot, client.network, out);
        return;
    }
    let Some(port) = network.macs.lookup(now.mono, client.mac) else { return };
    if !pontoon_wire::put(scratch, UDP_HEADERS, answer) {
        return;
    }
    let macs = (network.mac, client.mac);
    let datagram = Datagram { macs, source: (client.server, 53), destination: (client.ip, client.port) };
    if let Some(bytes) = datagram.seal(scratch, answer.len()).and_then(|n| scratch.get(..n)) {
        out.transmit(port, FrameRef { vnet: vnet::Header::default(), bytes });
    }
}

/// The TCP stack a client is connected to.
fn server_of<'n>(networks: &'n mut [NetworkServices], client: &Client) -> Option<&'n mut TcpServer> {
    let services = networks.get_mut(usize::from(client.network))?;
    services.tcp.iter_mut().find(|tcp| tcp.address() == client.server)
}

/// Lets the network's TCP stacks send what they have.
fn poll_tcp(networks: &mut [NetworkServices], now: Now, snapshot: &Snapshot, id: u16, out: &mut impl Egress) {
    let (Some(network), Some(services)) = (snapshot.network(id), networks.get_mut(usize::from(id))) else {
        return;
    };
    for tcp in services.tcp.iter_mut().filter(|tcp| tcp.connections() > 0) {
        tcp.poll(now.mono.0, &mut |bytes| {
            let port =
                pontoon_wire::ethernet::destination(bytes).and_then(|mac| network.macs.lookup(now.mono, mac));
            if let Some(port) = port {
                out.transmit(port, FrameRef { vnet: vnet::Header::default(), bytes });
            }
        });
    }
}

/// Does what the forwarder wants done about a query.
fn settle(
    networks: &mut [NetworkServices],
    now: Now,
    snapshot: &Snapshot,
    scratch: &mut [u8],
    (sockets_per_resolver, ticket): (u16, &mut u32),
    event: dns::Event<'_>,
    out: &mut impl Egress,
) {
    match event {
        dns::Event::Ask { socket, tcp: false, bytes } => out.dns_query(socket, bytes),
        dns::Event::Ask { socket, tcp: true, bytes } => {
            ask_tcp(out, sockets_per_resolver, ticket, socket, bytes);
        }
        dns::Event::Answer { client, bytes } => {
            deliver(networks, now, snapshot, scratch, client, bytes, out);
        }
    }
}

/// Asks over TCP; the ticket carries the socket the answer must be matched to.
fn ask_tcp(out: &mut impl Egress, sockets_per_resolver: u16, ticket: &mut u32, socket: u16, query: &[u8]) {
    *ticket = ticket.wrapping_add(1);
    let resolver = socket / sockets_per_resolver.max(1);
    out.dns_query_tcp(resolver, (*ticket << 16) | u32::from(socket), query);
}
