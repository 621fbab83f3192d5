//! Hosts with a real TCP/IP stack (smoltcp) on ports of the world, and the wires between them in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use pontoon_engine::{PortId, Time};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, IpCidr, Ipv4Cidr};

use crate::frames::{Ends, ICMP, Seen, UDP, parse};
use crate::{Rng, UPLINK, World};

/// Frames a host has received and not read, and has sent and nobody took.
#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Send<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Send<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Send<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Send<'_>)> {
        Some((Received(self.received.pop_front()?), Send(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Send<'_>> {
        Some(Send(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// What DHCP gave a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Cidr,
    pub router: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
}

/// One host.
pub struct Host {
    pub port: PortId,
    pub mac: [u8; 6],
    pub lease: Option<Lease>,
    /// Times the DHCP server said yes, and times the lease was lost.
    pub acks: u32,
    pub lost: u32,
    /// ICMP errors received: type and code.
    pub errors: Vec<(u16, u16)>,
    pub sockets: SocketSet<'static>,
    queues: Queues,
    interface: Interface,
    dhcp: Option<SocketHandle>,
}

impl Host {
    fn new(port: PortId, mac: [u8; 6], seed: u64, now: Time) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = seed;
        let interface = Interface::new(config, &mut queues, instant(now));
        let sockets = SocketSet::new(Vec::new());
        let (lease, errors) = (None, Vec::new());
        Self { port, mac, lease, acks: 0, lost: 0, errors, sockets, queues, interface, dhcp: None }
    }

    /// A host that asks for its address by DHCP.
    #[must_use]
    pub fn by_dhcp(port: PortId, mac: [u8; 6], seed: u64, now: Time) -> Self {
        let mut host = Self::new(port, mac, seed, now);
        host.dhcp = Some(host.sockets.add(dhcpv4::Socket::new()));
        host
    }

    /// A host with a configured address.
    #[must_use]
    pub fn configured(port: PortId, mac: [u8; 6], address: Ipv4Addr, now: Time) -> Self {
        let mut host = Self::new(port, mac, 1, now);
        host.set_address(Some(Ipv4Cidr::new(address, 24)), None);
        host
    }

    /// Sets address and default route by hand.
    pub fn set_address(&mut self, address: Option<Ipv4Cidr>, router: Option<Ipv4Addr>) {
        self.interface.update_ip_addrs(|all| {
            all.clear();
            if let Some(address) = address {
                all.push(IpCidr::Ipv4(address)).expect("room for one");
            }
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = router {
            self.interface.routes_mut().add_default_ipv4_route(router).expect("room for one");
        }
    }

    /// Listens on a TCP port.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.listen(port).expect("a port that is not zero");
        self.sockets.add(socket)
    }

    /// Opens a TCP connection.
    pub fn connect(&mut self, remote: (Ipv4Addr, u16), local: u16) -> SocketHandle {
        let handle = self.sockets.add(tcp_socket());
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.interface.context(), remote, local).expect("an address and a route");
        handle
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A UDP socket bound to `port`.
    pub fn udp_bind(&mut self, port: u16) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65_536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).expect("a port that is not zero");
        self.sockets.add(socket)
    }

    pub fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// A socket for echo requests with this id.
    pub fn ping_socket(&mut self, id: u16) -> SocketHandle {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 16], vec![0; 4096]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(icmp::Endpoint::Ident(id)).expect("a fresh socket");
        self.sockets.add(socket)
    }

    /// Sends an echo request.
    pub fn ping(&mut self, handle: SocketHandle, to: Ipv4Addr, id: u16, seq_no: u16) {
        let request = Icmpv4Repr::EchoRequest { ident: id, seq_no, data: b"are you there?" };
        let socket = self.sockets.get_mut::<icmp::Socket>(handle);
        let buffer = socket.send(request.buffer_len(), to.into()).expect("room for a request");
        request.emit(&mut Icmpv4Packet::new_unchecked(buffer), &Default::default());
    }

    /// Sequence numbers of the echo replies that came, and from whom.
    pub fn pongs(&mut self, handle: SocketHandle) -> Vec<(Ipv4Addr, u16)> {
        let socket = self.sockets.get_mut::<icmp::Socket>(handle);
        let mut all = Vec::new();
        while let Ok((bytes, smoltcp::wire::IpAddress::Ipv4(from))) = socket.recv() {
            let packet = Icmpv4Packet::new_checked(bytes).expect("a sound message");
            match Icmpv4Repr::parse(&packet, &Default::default()) {
                Ok(Icmpv4Repr::EchoReply { seq_no, .. }) => all.push((from, seq_no)),
                other => panic!("no echo reply: {other:?}"),
            }
        }
        all
    }

    fn take(&mut self, frame: Vec<u8>) {
        let ours = frame[..6] == self.mac || frame[0] & 1 == 1;
        if ours && frame[12..14] == [8, 0] {
            self.watch(&parse(&frame));
        }
        self.queues.received.push_back(frame);
    }

    fn watch(&mut self, seen: &Seen) {
        match (seen.protocol, seen.ports.0) {
            (ICMP, 3 | 11) => self.errors.push(seen.ports),
            // This build of smoltcp leaves echo requests to us.
            (ICMP, 8) if self.interface.ipv4_addr() == Some(seen.destination) => {
                let ends = Ends::new((self.mac, seen.destination), (seen.macs.0, seen.source));
                self.queues.sent.push_back(ends.echo(false, seen.rest, &seen.payload));
            }
            _ => {}
        }
        if seen.protocol == UDP && seen.ports == (67, 68) && seen.payload[28..34] == self.mac {
            self.acks += u32::from(seen.payload[240..].windows(3).any(|option| option == [53, 1, 5]));
        }
    }

    fn poll(&mut self, now: Time) {
        self.interface.poll(instant(now), &mut self.queues, &mut self.sockets);
        let Some(handle) = self.dhcp else { return };
        match self.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            None => {}
            Some(dhcpv4::Event::Configured(config)) => {
                let dns = config.dns_servers.iter().copied().collect();
                let lease = Lease { address: config.address, router: config.router, dns };
                self.set_address(Some(lease.address), lease.router);
                self.lease = Some(lease);
            }
            Some(dhcpv4::Event::Deconfigured) => {
                self.lost += u32::from(self.lease.take().is_some());
                self.set_address(None, None);
            }
        }
    }

    fn next(&mut self, now: Time) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Time((at.total_micros().max(0) as u64).saturating_mul(1000)))
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 32_768]);
    tcp::Socket::new(buffer(), buffer())
}

fn instant(now: Time) -> Instant {
    Instant::from_micros((now.0 / 1000) as i64)
}

enum Hop {
    ToWorld(PortId),
    ToHost(PortId),
}

/// The world, its hosts and the wires between them.
pub struct Net {
    pub world: World,
    pub hosts: Vec<Host>,
    /// Of a thousand frames on the uplink, how many are lost, and how many microseconds later others are at most.
    pub loss: usize,
    pub jitter: usize,
    /// Nanoseconds the world's timers may be late: a day is over sooner with coarse ones.
    pub lateness: u64,
    rng: Rng,
    wire: BTreeMap<(u64, u64), (Hop, Vec<u8>)>,
    count: u64,
}

impl Net {
    #[must_use]
    pub fn new(world: World, seed: u64) -> Self {
        let rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (hosts, wire) = (Vec::new(), BTreeMap::new());
        Self { world, hosts, loss: 0, jitter: 0, lateness: 0, rng, wire, count: 0 }
    }

    /// Runs until `done` or for `seconds`; whether it was done.
    pub fn run(&mut self, seconds: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.world.now.mono.after_secs(seconds);
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let now = self.world.now.mono;
            if now >= end {
                return false;
            }
            // `done` may have given the hosts something to send.
            let hosts = self.hosts.iter_mut().filter_map(|host| host.next(now)).min();
            let wire = self.wire.keys().next().map(|&(at, _)| Time(at));
            let world = self.world.next_timeout().map(|due| Time(due.0 + self.lateness));
            let next = [hosts, wire, world].into_iter().flatten().min().unwrap_or(end);
            // A microsecond at least: smoltcp knows nothing shorter.
            let next = next.min(end).max(Time(now.0 + 1000));
            let sent = self.world.advance(next.0 - now.0);
            self.travel(sent);
        }
    }

    /// Moves what is due, until nothing moves at this instant.
    fn settle(&mut self) {
        let now = self.world.now.mono;
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= now.0) {
            match entry.remove() {
                (Hop::ToWorld(port), frame) => {
                    let sent = self.world.receive(port, &frame);
                    self.travel(sent);
                }
                (Hop::ToHost(port), frame) => {
                    if let Some(host) = self.hosts.iter_mut().find(|host| host.port == port) {
                        host.take(frame);
                    }
                }
            }
        }
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            host.poll(now);
            let port = host.port;
            while let Some(frame) = self.hosts[at].queues.sent.pop_front() {
                self.put(port, Hop::ToWorld(port), frame);
            }
        }
    }

    fn travel(&mut self, sent: Vec<(PortId, Vec<u8>)>) {
        for (port, frame) in sent {
            self.put(port, Hop::ToHost(port), frame);
        }
    }

    fn put(&mut self, port: PortId, hop: Hop, frame: Vec<u8>) {
        let mut delay = 20_000;
        if port == UPLINK {
            if self.rng.below(1000) < self.loss {
                return;
            }
            delay += 500_000 + self.rng.below(self.jitter + 1) as u64 * 1000;
        }
        self.count += 1;
        self.wire.insert((self.world.now.mono.0 + delay, self.count), (hop, frame));
    }
}
