//! DNS over TCP towards the guests of one network (RFC 7766): smoltcp holds the connections, this module
//! the message framing, the limits and the way frames come in and go out.
//!
//! smoltcp wants to resolve its peers by ARP. The peers' addresses are known from their own frames, so it
//! is told of one invented router for everybody, and the frames it sends there get the peer's address.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::dns::HEADER_LEN;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

pub const CONNECTIONS_MAX: usize = 16;
/// One guest cannot keep the others out.
pub const PER_PEER_MAX: usize = 8;
const IDLE_NS: u64 = 10_000_000_000;
/// No query comes near this; answers may have all 65535.
const QUERY_MAX: usize = 4096;
const RECEIVE_BUFFER: usize = 2 + QUERY_MAX;
const SEND_BUFFER: usize = 16 * 1024;
const PORT: u16 = 53;
const ETHERNET: usize = 14;
/// Segments of one packet are enough for names.
const MTU_MAX: u16 = 1500;

/// From 192.0.0.0/24, which no network uses (RFC 6890): smoltcp's own second address and its router.
const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 10);
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Well under the 60 s that smoltcp trusts a neighbour.
const ROUTER_REFRESH_NS: u64 = 20_000_000_000;

/// Frames towards and from smoltcp.
#[derive(Default)]
struct Queue {
    mtu: u16,
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Incoming(Vec<u8>);
struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Queue {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Incoming(frame), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.mtu) + ETHERNET;
        // taps deliver segments whose checksum the guest left to the hardware it believes in
        let mut checksum = ChecksumCapabilities::default();
        checksum.ipv4 = Checksum::Tx;
        checksum.tcp = Checksum::Tx;
        capabilities.checksum = checksum;
        capabilities
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub mac: [u8; 6],
    pub ip: Ipv4Addr,
    pub port: u16,
}

/// A whole query. The connection gives no other until [`TcpServer::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpQuery<'a> {
    pub conn: u32,
    pub peer: Peer,
    pub payload: &'a [u8],
}

struct Connection {
    id: u32,
    handle: SocketHandle,
    /// none while listening
    peer: Option<Peer>,
    input: Vec<u8>,
    /// the first query of `input` was handed out
    asked: bool,
    output: Vec<u8>,
    written: usize,
    /// the last whole query or piece of an answer; single bytes do not count, or a slow client would
    /// stay for ever
    progress_ns: u64,
    counted: bool,
}

impl Connection {
    /// Length of the first query with its prefix, once all of it is here.
    fn whole(&self) -> Option<usize> {
        let end = 2 + self.announced()?;
        (self.input.len() >= end).then_some(end)
    }

    fn announced(&self) -> Option<usize> {
        let prefix = self.input.first_chunk::<2>()?;
        Some(usize::from(u16::from_be_bytes(*prefix)))
    }

    fn quiet(&self) -> bool {
        !self.asked && self.output.is_empty() && self.whole().is_none()
    }

    fn write(&mut self, socket: &mut Socket<'_>, now_ns: u64) {
        let rest = self.output.get(self.written..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
        let sent = if socket.can_send() { socket.send_slice(rest).unwrap_or(0) } else { 0 };
        self.written += sent;
        if sent > 0 {
            self.progress_ns = now_ns;
        }
        if self.written >= self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    /// Takes what one query needs; the rest waits in the socket and closes the window.
    fn read(&mut self, socket: &mut Socket<'_>, now_ns: u64) {
        let room = RECEIVE_BUFFER.saturating_sub(self.input.len());
        if room > 0 && socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                self.input.extend_from_slice(part);
                (part.len(), ())
            });
            if taken.is_err() {
                socket.abort();
            }
        }
        if self.whole().is_some() && !self.counted {
            self.counted = true;
            self.progress_ns = now_ns;
        }
    }
}

pub struct TcpServer {
    gateway_ip: Ipv4Addr,
    gateway_mac: [u8; 6],
    prefix: u8,
    interface: Interface,
    sockets: SocketSet<'static>,
    queue: Queue,
    connections: Vec<Connection>,
    next_id: u32,
    /// who sent the frame being processed
    latest: Option<(Ipv4Addr, [u8; 6])>,
    router_due_ns: u64,
}

impl TcpServer {
    #[must_use]
    pub fn new(gateway_mac: [u8; 6], gateway_ip: Ipv4Addr, prefix: u8, mtu: u16, seed: u64) -> Self {
        let mut gateway_mac = gateway_mac;
        // smoltcp panics on a group address
        gateway_mac[0] &= 0xfe;
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(gateway_mac)));
        config.random_seed = seed;
        let mut queue = Queue { mtu: mtu.min(MTU_MAX), ..Queue::default() };
        let mut interface = Interface::new(config, &mut queue, Instant::ZERO);
        let odd = gateway_ip.is_unspecified() || gateway_ip.is_multicast() || gateway_ip.is_broadcast();
        interface.update_ip_addrs(|addresses| {
            if !odd {
                let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(gateway_ip), 32));
            }
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(NEAR), 30));
        });
        let _ = interface.routes_mut().add_default_ipv4_route(ROUTER);
        Self {
            gateway_ip,
            gateway_mac,
            prefix,
            interface,
            sockets: SocketSet::new(Vec::new()),
            queue,
            connections: Vec::new(),
            next_id: 0,
            latest: None,
            router_due_ns: 0,
        }
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.gateway_ip
    }

    /// An ethernet frame with a TCP segment for the gateway's port 53; others are ignored.
    pub fn receive(&mut self, now_ns: u64, frame: &[u8], transmit: &mut dyn FnMut(&[u8])) {
        let Some(sender) = sender(frame, self.gateway_ip, self.prefix) else {
            return;
        };
        self.latest = Some(sender);
        self.listen(now_ns);
        self.introduce_router(now_ns);
        self.queue.incoming.push_back(frame.to_vec());
        self.service(now_ns, transmit);
        self.latest = None;
    }

    /// Retransmissions, idle connections, and answers given since.
    pub fn poll(&mut self, now_ns: u64, transmit: &mut dyn FnMut(&[u8])) {
        self.introduce_router(now_ns);
        self.service(now_ns, transmit);
    }

    /// When [`Self::poll`] is due next.
    pub fn next_timeout(&mut self, now_ns: u64) -> Option<u64> {
        let busy = self.connections.iter().filter(|one| one.peer.is_some());
        let idle = busy.map(|one| one.progress_ns.saturating_add(IDLE_NS)).min()?;
        let stack = self.interface.poll_at(instant(now_ns), &self.sockets);
        let stack = stack.map_or(u64::MAX, |at| (at.total_micros().max(0) as u64).saturating_mul(1000));
        Some(idle.min(stack.max(now_ns)))
    }

    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.iter().filter(|one| one.peer.is_some()).count()
    }

    pub fn next_query(&mut self) -> Option<TcpQuery<'_>> {
        let ready = |one: &&mut Connection| !one.asked && one.output.is_empty() && one.whole().is_some();
        let one = self.connections.iter_mut().find(ready)?;
        one.asked = true;
        let (peer, end) = (one.peer?, one.whole()?);
        Some(TcpQuery { conn: one.id, peer, payload: one.input.get(2..end)? })
    }

    /// The answer to the query handed out; leaves with the next [`Self::poll`]. A connection that is gone
    /// is no error.
    pub fn answer(&mut self, conn: u32, payload: &[u8]) {
        let Some(one) = self.connections.iter_mut().find(|one| one.id == conn && one.asked) else {
            return;
        };
        let Ok(length) = u16::try_from(payload.len()) else {
            return;
        };
        let end = one.whole().unwrap_or(0);
        one.input.drain(..end);
        one.asked = false;
        one.counted = false;
        one.output.extend_from_slice(&length.to_be_bytes());
        one.output.extend_from_slice(payload);
    }

    /// Resets a connection whose query gets no answer.
    pub fn close(&mut self, conn: u32) {
        if let Some(one) = self.connections.iter().find(|one| one.id == conn) {
            self.sockets.get_mut::<Socket<'_>>(one.handle).abort();
        }
    }

    /// smoltcp has no backlog: one socket always listens while there is room.
    fn listen(&mut self, now_ns: u64) {
        let waiting = self.connections.iter().any(|one| one.peer.is_none());
        if waiting || self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let buffer = |size| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(Duration::from_secs(10)));
        if socket.listen((self.gateway_ip, PORT)).is_err() {
            return;
        }
        let handle = self.sockets.add(socket);
        self.next_id = self.next_id.wrapping_add(1);
        self.connections.push(Connection {
            id: self.next_id,
            handle,
            peer: None,
            input: Vec::new(),
            asked: false,
            output: Vec::new(),
            written: 0,
            progress_ns: now_ns,
            counted: false,
        });
    }

    fn introduce_router(&mut self, now_ns: u64) {
        if now_ns < self.router_due_ns {
            return;
        }
        self.router_due_ns = now_ns.saturating_add(ROUTER_REFRESH_NS);
        self.queue.incoming.push_back(router_announcement(self.gateway_mac));
    }

    fn service(&mut self, now_ns: u64, transmit: &mut dyn FnMut(&[u8])) {
        self.interface.poll(instant(now_ns), &mut self.queue, &mut self.sockets);
        // before connections go, and with them the addresses of their last segments
        self.drain(transmit);
        self.reap();
        self.relisten();
        self.accept(now_ns);
        for one in &mut self.connections {
            if one.peer.is_none() {
                continue;
            }
            let socket = self.sockets.get_mut::<Socket<'_>>(one.handle);
            one.read(socket, now_ns);
            one.write(socket, now_ns);
            let absurd = one.announced().is_some_and(|length| !(HEADER_LEN..=QUERY_MAX).contains(&length));
            if absurd || now_ns.saturating_sub(one.progress_ns) >= IDLE_NS {
                socket.abort();
            } else if socket.state() == State::CloseWait && one.quiet() {
                socket.close();
            }
        }
        self.interface.poll(instant(now_ns), &mut self.queue, &mut self.sockets);
        self.drain(transmit);
        self.reap();
    }

    /// Gives the connection the frame just opened its peer.
    fn accept(&mut self, now_ns: u64) {
        for index in 0..self.connections.len() {
            let Some(one) = self.connections.get(index).filter(|one| one.peer.is_none()) else {
                continue;
            };
            let handle = one.handle;
            let socket = self.sockets.get::<Socket<'_>>(handle);
            let (Some(remote), Some((ip, mac))) = (socket.remote_endpoint(), self.latest) else {
                continue;
            };
            let same = |one: &&Connection| one.peer.is_some_and(|peer| peer.ip == ip);
            if self.connections.iter().filter(same).count() >= PER_PEER_MAX {
                self.sockets.get_mut::<Socket<'_>>(handle).abort();
            }
            if let Some(one) = self.connections.get_mut(index) {
                one.peer = Some(Peer { mac, ip, port: remote.port });
                one.progress_ns = now_ns;
            }
        }
    }

    /// A handshake reset by its peer leaves the socket listening again (RFC 9293 3.10.7.4).
    fn relisten(&mut self) {
        for one in &mut self.connections {
            if self.sockets.get::<Socket<'_>>(one.handle).state() == State::Listen {
                one.peer = None;
            }
        }
    }

    fn reap(&mut self) {
        let sockets = &mut self.sockets;
        self.connections.retain(|one| {
            let closed = sockets.get::<Socket<'_>>(one.handle).state() == State::Closed;
            if closed {
                sockets.remove(one.handle);
            }
            !closed
        });
    }

    fn drain(&mut self, transmit: &mut dyn FnMut(&[u8])) {
        while let Some(mut frame) = self.queue.outgoing.pop_front() {
            let to = frame.get(30..34).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            let ipv4 = frame.get(12..14) == Some(&[8, 0]);
            let Some(mac) = to.filter(|_| ipv4).and_then(|to| self.mac_of(to.into())) else {
                continue;
            };
            if let Some(place) = frame.get_mut(..6) {
                place.copy_from_slice(&mac);
                transmit(&frame);
            }
        }
    }

    fn mac_of(&self, ip: Ipv4Addr) -> Option<[u8; 6]> {
        let latest = self.latest.filter(|(latest, _)| *latest == ip).map(|(_, mac)| mac);
        let mut peers = self.connections.iter().filter_map(|one| one.peer);
        latest.or_else(|| peers.find(|peer| peer.ip == ip).map(|peer| peer.mac))
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros((now_ns / 1000) as i64)
}

/// Who sent this frame, if it is a segment for the server from inside its network.
fn sender(frame: &[u8], gateway: Ipv4Addr, prefix: u8) -> Option<(Ipv4Addr, [u8; 6])> {
    let (ethernet, packet) = frame.split_first_chunk::<14>()?;
    let header = packet.first_chunk::<20>()?;
    let start = usize::from(header[0] & 15) * 4;
    let port = packet.get(start + 2..start + 4)?;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let fits = ethernet[12..] == [8, 0] && header[0] >> 4 == 4 && header[9] == 6 && start >= 20;
    if !fits || fragment || port != PORT.to_be_bytes() || header[16..] != gateway.octets() {
        return None;
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let inside = (u32::from(source) ^ u32::from(gateway)) & mask == 0;
    let mac = ethernet[6..12].try_into().ok()?;
    (inside && source != gateway).then_some((source, mac))
}

/// An ARP reply (RFC 826) from the invented router.
fn router_announcement(gateway_mac: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&gateway_mac);
    frame.extend_from_slice(&ROUTER_MAC);
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend_from_slice(&ROUTER_MAC);
    frame.extend_from_slice(&ROUTER.octets());
    frame.extend_from_slice(&gateway_mac);
    frame.extend_from_slice(&NEAR.octets());
    frame
}

#[cfg(test)]
#[path = "tests_tcp.rs"]
mod tests;
