//! A guest of `pontoon run --user` that sends any frames, and hosts on the loopback that do anything.
//!
//! Input: steps that begin with an octet. [`FRAME`] has an octet of flags, ten of a vnet header if [`VNET`] is among them,
//! and a block that is a frame; whom it is for is written over, so that nothing leaves the loopback. The others are what
//! the host does with its youngest connection, or its datagrams, or time that passes.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_ports::{HEADROOM, Received, Sent};
use pontoon_user::{Config, Limits, Link, User};
use pontoon_wire::frame::Packet;
use pontoon_wire::{be16, be32, checksum, ethernet, ipv4, put, vnet};
use rustix::net::sockopt;

use crate::frames::vnet_header;
use crate::input::Input;

pub const FRAME: u8 = 0;
pub const WRITE: u8 = 1;
pub const READ: u8 = 2;
pub const END: u8 = 3;
pub const RESET: u8 = 4;
pub const DATAGRAM: u8 = 5;
pub const PASS: u8 = 6;
const STEPS: u8 = 7;

/// Of a frame: lengths and checksums are made right.
pub const MEND: u8 = 1;
pub const VNET: u8 = 2;
/// It is for the gateway.
pub const GATEWAY_S: u8 = 4;
/// It is for a port nobody listens on.
pub const CLOSED: u8 = 8;
/// What it acknowledges counts from what has been sent to it.
pub const ACKNOWLEDGE: u8 = 16;

const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const LIMITS: Limits = Limits { connections: 3, endpoints: 2, pings: 2 };
const L4: usize = ethernet::HEADER + ipv4::HEADER;

#[derive(Default)]
struct Frames {
    to_host: VecDeque<(vnet::Header, Vec<u8>)>,
    to_guest: Vec<(vnet::Header, Vec<u8>)>,
}

struct Wire(Rc<RefCell<Frames>>);

impl Link for Wire {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let Some((vnet, frame)) = self.0.borrow_mut().to_host.pop_front() else {
            return Received::WouldBlock;
        };
        put(buffer, HEADROOM, &frame);
        Received::Frame { vnet, length: frame.len() }
    }

    fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        self.0.borrow_mut().to_guest.push((header, parts.concat()));
        Sent::Done
    }
}

/// Addresses and ports, as they are in what the guest sends.
type Ends = [u8; 12];

fn ends(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16)) -> Ends {
    let mut ends = [0; 12];
    put(&mut ends, 0, &source.octets());
    put(&mut ends, 4, &destination.octets());
    put(&mut ends, 8, &ports.0.to_be_bytes());
    put(&mut ends, 10, &ports.1.to_be_bytes());
    ends
}

/// What a host sends on each of its connections.
fn octet(at: u32) -> u8 {
    (at % 251) as u8
}

struct Bench {
    user: User,
    frames: Rc<RefCell<Frames>>,
    bell: UdpSocket,
    listener: TcpListener,
    /// Bound, and nobody listens.
    closed: UdpSocket,
    host: UdpSocket,
    peers: Vec<SocketAddr>,
    streams: Vec<(TcpStream, u32)>,
    /// Of the guest's connections: the first number of what it is sent, and the next.
    heard: HashMap<Ends, (u32, u32)>,
    now: Instant,
    delivered: usize,
}

impl Bench {
    fn new() -> Self {
        let frames = Rc::new(RefCell::new(Frames::default()));
        let socket = || {
            let socket = UdpSocket::bind((LOCAL, 0)).expect("bind");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        };
        let bell = socket();
        bell.connect(bell.local_addr().expect("address")).expect("connect");
        let listener = TcpListener::bind((LOCAL, 0)).expect("listen");
        listener.set_nonblocking(true).expect("nonblocking");
        let (gateway, resolvers) = (GATEWAY, Vec::new());
        let config = Config { gateway, resolvers, mtu: 1500, limits: LIMITS, loopback: true };
        let user = User::new(config, Box::new(Wire(Rc::clone(&frames))), &bell).expect("user");
        let (closed, host, peers, streams) = (socket(), socket(), Vec::new(), Vec::new());
        let (heard, now, delivered) = (HashMap::new(), Instant::now(), 0);
        Self { user, frames, bell, listener, closed, host, peers, streams, heard, now, delivered }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % STEPS {
            FRAME => self.frame(input),
            WRITE => {
                let count = u32::from(input.word());
                if let Some((stream, sent)) = self.streams.last_mut() {
                    let octets: Vec<u8> = (*sent..*sent + count).map(octet).collect();
                    *sent += stream.write(&octets).unwrap_or_default() as u32;
                }
            }
            READ => {
                let mut octets = vec![0; usize::from(input.word())];
                let _ = self.streams.last_mut().map(|(stream, _)| stream.read(&mut octets));
            }
            END => drop(self.streams.last().map(|(stream, _)| stream.shutdown(Shutdown::Write))),
            RESET => drop(self.streams.pop().map(|(stream, _)| forget(&stream))),
            DATAGRAM => {
                let octets = input.block();
                let _ = self.peers.last().map(|peer| self.host.send_to(octets, peer));
            }
            _ => self.now += Duration::from_millis(10 * u64::from(input.word())),
        }
    }

    fn frame(&mut self, input: &mut Input<'_>) {
        let flags = input.byte();
        let mut vnet = if flags & VNET != 0 { vnet_header(input) } else { vnet::Header::default() };
        let mut frame = input.block().to_vec();
        self.aim(&mut frame, flags);
        if flags & MEND != 0 && frame.len() > L4 {
            let total = frame.len() - ethernet::HEADER;
            put(&mut frame, 16, &(total as u16).to_be_bytes());
            put(&mut frame, 24, &[0, 0]);
            let sum = checksum::of(&frame[ethernet::HEADER..L4]);
            put(&mut frame, 24, &sum.to_be_bytes());
            vnet.flags |= if vnet.needs_checksum() { 0 } else { vnet::DATA_VALID };
        }
        self.frames.borrow_mut().to_host.push_back((vnet, frame));
        let _ = self.bell.send(b"!");
    }

    /// Whatever it was to be for is the loopback or the gateway.
    fn aim(&self, frame: &mut [u8], flags: u8) {
        if ethernet::ethertype(frame) != Some(ethernet::IPV4) {
            return;
        }
        let to = if flags & GATEWAY_S != 0 { GATEWAY } else { LOCAL };
        put(frame, 30, &to.octets());
        let l4 = ethernet::HEADER + usize::from(frame.get(14).copied().unwrap_or_default() & 15) * 4;
        let port = match (flags & CLOSED, frame.get(23)) {
            (0, Some(&ipv4::TCP)) => self.listener.local_addr(),
            (0, _) => self.host.local_addr(),
            _ => self.closed.local_addr(),
        };
        put(frame, l4 + 2, &port.expect("address").port().to_be_bytes());
        if flags & ACKNOWLEDGE == 0 {
            return;
        }
        let Some(source) = be32(frame, 26).map(Ipv4Addr::from_bits) else { return };
        let ports = be16(frame, l4).zip(be16(frame, l4 + 2));
        let next = ports.and_then(|ports| self.heard.get(&ends(source, to, ports))).map(|(_, next)| *next);
        if let Some((next, wanted)) = next.zip(be32(frame, l4 + 8)) {
            put(frame, l4 + 8, &next.wrapping_add(wanted).to_be_bytes());
        }
    }

    fn turn(&mut self) {
        for _ in 0..2 {
            let now = self.now;
            self.user.turn_at(Some(Duration::ZERO), || now).expect("turn");
            let _ = self.bell.recv(&mut [0; 4]);
        }
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).expect("nonblocking");
            self.streams.push((stream, 0));
        }
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = self.host.recv_from(&mut buffer) {
            self.peers.push(from);
        }
        let [connections, endpoints, pings] = self.user.open();
        assert!(connections <= LIMITS.connections && endpoints <= LIMITS.endpoints && pings <= LIMITS.pings);
        let frames = std::mem::take(&mut self.frames.borrow_mut().to_guest);
        frames.iter().for_each(|(vnet, frame)| self.check(vnet, frame));
    }

    /// Every frame for the guest is one, and what it carries is what the host has sent.
    fn check(&mut self, vnet: &vnet::Header, frame: &[u8]) {
        if ethernet::ethertype(frame) == Some(ethernet::ARP) {
            return;
        }
        let packet = Packet::parse(frame).expect("a packet");
        assert_eq!(packet.end, frame.len(), "its length");
        assert!(checksum::valid(&frame[ethernet::HEADER..packet.l4]), "its header's checksum");
        assert!(pontoon_wire::frame::check(*vnet, frame).is_ok(), "its offload");
        if packet.ip.protocol != ipv4::TCP {
            self.delivered += 1;
            return;
        }
        let at = packet.l4;
        let sequence = be32(frame, at + 4).expect("a header");
        let payload = &frame[at + usize::from(frame[at + 12] >> 4) * 4..];
        let length = payload.len() as u32;
        let ports = (packet.destination_port, packet.source_port);
        let ends = ends(packet.destination(), packet.source(), ports);
        if packet.flags & 2 != 0 {
            let next = sequence.wrapping_add(1);
            self.heard.insert(ends, (next, next));
        }
        let Some((first, next)) = self.heard.get_mut(&ends) else { return };
        let offset = sequence.wrapping_sub(*first);
        for (at, found) in payload.iter().enumerate() {
            let at = offset.wrapping_add(at as u32);
            assert_eq!(*found, octet(at), "the octet at {at} of a connection");
        }
        let end = sequence.wrapping_add(length);
        if packet.flags & 6 == 0 && end.wrapping_sub(*next) < 1 << 31 {
            *next = end;
        }
        self.delivered += payload.len();
    }
}

/// Closes without a trace, so that ports are free at once.
fn forget(stream: &TcpStream) {
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

pub fn run(data: &[u8]) {
    let _ = play(data);
}

/// Octets of TCP and datagrams the guest was sent, and octets of streams that hosts can read.
fn play(data: &[u8]) -> (usize, usize) {
    let (mut input, mut bench) = (Input(data), Bench::new());
    while !input.is_empty() {
        bench.step(&mut input);
        bench.turn();
    }
    let mut arrived = 0;
    for (stream, _) in &mut bench.streams {
        let mut rest = vec![0; 1 << 16];
        arrived += stream.read(&mut rest).unwrap_or_default();
        forget(stream);
    }
    (bench.delivered, arrived)
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

fn packet(flags: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; L4];
    ethernet::emit(&mut frame, [0x52, 0x54, 0, 0x75, 0x70, 1], MAC, ethernet::IPV4);
    ipv4::emit(&mut frame[ethernet::HEADER..], GUEST, LOCAL, protocol, payload.len(), 0, true);
    frame.extend(payload);
    step(flags | MEND, &frame)
}

fn step(flags: u8, frame: &[u8]) -> Vec<u8> {
    [&[FRAME, flags][..], &(frame.len() as u16).to_be_bytes(), frame].concat()
}

fn tcp(flags: u8, of: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let header =
        [&[0x10, 0, 0, 0][..], &sequence.to_be_bytes(), &[0, 0, 0, 0, 0x50, of, 0x40, 0, 0, 0, 0, 0]];
    packet(flags, ipv4::TCP, &[&header.concat(), payload].concat())
}

fn udp(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    packet(flags, ipv4::UDP, &[&[0x20, 0, 0, 0][..], &length, &[0, 0], payload].concat())
}

/// Connections that open, carry and end; datagrams both ways; what is refused and answered.
#[must_use]
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    let open = [tcp(0, SYN, 999, &[]), tcp(ACKNOWLEDGE, ACK, 1000, &[])].concat();
    let question = tcp(ACKNOWLEDGE, ACK, 1000, b"question");
    let acknowledge = tcp(ACKNOWLEDGE, ACK, 1008, &[]);
    let answer = [&[WRITE, 0x20, 0][..], &acknowledge, &[WRITE, 0, 9], &acknowledge].concat();
    let end =
        [tcp(ACKNOWLEDGE, ACK | FIN, 1008, &[]), vec![END], tcp(ACKNOWLEDGE, ACK, 1009, &[0, 1])].concat();
    let again = [vec![WRITE, 1, 0, PASS, 0, 40, PASS, 0, 90], acknowledge.repeat(4)].concat();
    let mut many = vec![FRAME, VNET | MEND, vnet::NEEDS_CSUM, vnet::GSO_UDP_L4, 42, 0, 100, 0, 34, 0, 6, 0];
    many.extend(&udp(0, &[7; 450])[2..]);
    let arp = [
        &[0xff; 6][..],
        &MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &MAC,
        &[10, 0, 2, 2],
        &[0; 6],
        &[10, 0, 2, 1],
    ];
    vec![
        ("stream", [&open[..], &question, &[READ, 0, 99], &answer, &end].concat()),
        ("lost", [&open[..], &question, &again].concat()),
        ("gap", [&open[..], &tcp(ACKNOWLEDGE, ACK, 1100, b"later"), &question, &[PASS, 0, 90]].concat()),
        ("reset", [&open[..], &question, &tcp(0, RST, 1008, &[]), &open, &[RESET], &question].concat()),
        ("refused", [tcp(CLOSED, SYN, 999, &[]), udp(CLOSED, b"?"), udp(GATEWAY_S, b"?")].concat()),
        (
            "datagrams",
            [udp(0, b"one").repeat(3), vec![DATAGRAM, 0, 2, 1, 2], udp(0, &[]), vec![DATAGRAM, 0, 0]]
                .concat(),
        ),
        ("super", [many, vec![DATAGRAM, 0, 2, 1, 2, PASS, 0xff, 0xff]].concat()),
        (
            "gateway",
            [step(0, &arp.concat()), packet(GATEWAY_S, ipv4::ICMP, &[8, 0, 0, 0, 1, 2, 3, 4])].concat(),
        ),
        ("ping", packet(0, ipv4::ICMP, &[8, 0, 0, 0, 1, 2, 3, 4])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a busy machine the loopback may carry something a turn late.
    #[test]
    fn seeds_get_as_far_as_octets() {
        let mut found = HashMap::new();
        let whole = (0..50).any(|_| {
            found = seeds().into_iter().map(|(name, bytes)| (name, play(&bytes))).collect();
            let some = ["datagrams", "super", "refused", "gateway"].iter().all(|name| found[name].0 > 0);
            some && found["stream"].0 == 0x2009
                && found["lost"].0 > 512
                && (found["lost"].1, found["gap"].1) == (8, 8)
        });
        assert!(whole, "{found:?}");
    }
}
