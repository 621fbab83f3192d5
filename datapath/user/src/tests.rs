//! A guest made of frames, and servers on the loopback of the test's own namespace.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_ports::{HEADROOM, Received, Sent};
use pontoon_wire::frame::Packet;
use pontoon_wire::{arp, checksum, ethernet, icmp, ipv4, vnet};

use crate::{Config, Limits, Link, User};

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

#[derive(Default)]
struct Frames {
    to_host: VecDeque<Vec<u8>>,
    to_guest: VecDeque<Vec<u8>>,
    /// Frames that stood for several datagrams.
    gathered: usize,
}

struct Wire(Rc<RefCell<Frames>>);

impl Link for Wire {
    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let Some(frame) = self.0.borrow_mut().to_host.pop_front() else { return Received::WouldBlock };
        buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(&frame);
        Received::Frame {
            vnet: vnet::Header { flags: vnet::DATA_VALID, ..Default::default() },
            length: frame.len(),
        }
    }

    fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        let frame = parts.concat();
        let mut frames = self.0.borrow_mut();
        if header.gso_type != vnet::GSO_UDP_L4 {
            frames.to_guest.push_back(frame);
            return Sent::Done;
        }
        frames.gathered += 1;
        let (head, payload) = frame.split_at(42);
        let from = Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]);
        let cut = payload.chunks(header.gso_size.get().into()).map(|datagram| {
            let mut one = [head, datagram].concat();
            ipv4::emit(&mut one[14..], from, GUEST, ipv4::UDP, 8 + datagram.len(), 0, true);
            one[38..40].copy_from_slice(&(8 + datagram.len() as u16).to_be_bytes());
            one
        });
        frames.to_guest.extend(cut);
        Sent::Done
    }
}

struct Bench {
    user: User,
    frames: Rc<RefCell<Frames>>,
    // Readable whenever there is a frame, as a tap is.
    bell: UdpSocket,
}

/// What the guest hears of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    port: u16,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    payload: Vec<u8>,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let frames = Rc::new(RefCell::new(Frames::default()));
        let bell = UdpSocket::bind((LOCAL, 0)).expect("bell");
        let config = Config { gateway: GATEWAY, resolvers: Vec::new(), mtu: 1500, limits, loopback: true };
        let user = User::new(config, Box::new(Wire(Rc::clone(&frames))), &bell).expect("user");
        Self { user, frames, bell }
    }

    fn packet(&mut self, protocol: u8, to: Ipv4Addr, payload: &[u8]) {
        let mut frame = vec![0; 34];
        ethernet::emit(&mut frame, crate::side::GATEWAY_MAC, MAC, ethernet::IPV4);
        ipv4::emit(&mut frame[14..], GUEST, to, protocol, payload.len(), 0, true);
        frame.extend(payload);
        self.frame(frame);
    }

    fn frame(&mut self, frame: Vec<u8>) {
        self.frames.borrow_mut().to_host.push_back(frame);
        self.bell.send_to(b"!", self.bell.local_addr().expect("address")).expect("ring");
    }

    fn udp(&mut self, port: u16, to: SocketAddrV4, payload: &[u8]) {
        let mut octets = [port, to.port(), 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
        octets.extend(payload);
        self.packet(ipv4::UDP, *to.ip(), &octets);
    }

    fn tcp(&mut self, ports: (u16, u16), flags: u8, numbers: (u32, u32), payload: &[u8]) {
        let mut octets = [ports.0, ports.1].map(u16::to_be_bytes).concat();
        octets.extend([numbers.0, numbers.1].map(u32::to_be_bytes).concat());
        octets.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        octets.extend(payload);
        self.packet(ipv4::TCP, LOCAL, &octets);
    }

    /// Turns until `find` has something in what came for the guest.
    fn until<T>(&mut self, mut find: impl FnMut(&[u8]) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let next = self.frames.borrow_mut().to_guest.pop_front();
            match next {
                Some(frame) => {
                    if let Some(found) = find(&frame) {
                        return found;
                    }
                }
                None => {
                    assert!(Instant::now() < end, "nothing came");
                    self.user.turn(Some(Duration::from_millis(20))).expect("turn");
                }
            }
        }
    }

    fn hear(&mut self, mut wanted: impl FnMut(&Heard) -> bool) -> Heard {
        self.until(|frame| {
            let packet = Packet::parse(frame).filter(|packet| packet.ip.protocol == ipv4::TCP)?;
            let head = &frame[packet.l4..];
            let word = |at| pontoon_wire::be32(head, at).expect("header");
            let heard = Heard {
                port: packet.destination_port,
                sequence: word(4),
                acknowledgement: word(8),
                flags: packet.flags,
                window: pontoon_wire::be16(head, 14).expect("header"),
                payload: head[usize::from(head[12] >> 4) * 4..].to_vec(),
            };
            wanted(&heard).then_some(heard)
        })
    }

    /// Opens a connection from `port`; what the guest's next number has to acknowledge.
    fn open(&mut self, port: u16, to: SocketAddr) -> u32 {
        self.tcp((port, to.port()), SYN, (1000, 0), &[]);
        let answer = self.hear(|heard| heard.flags == SYN | ACK && heard.port == port);
        assert_eq!(answer.acknowledgement, 1001);
        let next = answer.sequence.wrapping_add(1);
        self.tcp((port, to.port()), ACK, (1001, next), &[]);
        next
    }

    fn turn(&mut self) {
        self.user.turn(Some(Duration::from_millis(1))).expect("turn");
    }
}

fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((LOCAL, 0)).expect("listen");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

fn opened(bench: &mut Bench, port: u16) -> (TcpStream, u16, u32) {
    let (listener, address) = server();
    let next = bench.open(port, address);
    (listener.accept().expect("accept").0, address.port(), next)
}

#[test]
fn a_stream_goes_both_ways_and_ends_in_order() {
    let mut bench = Bench::new(Limits::default());
    let (mut host, port, next) = opened(&mut bench, 4000);
    bench.tcp((4000, port), ACK, (1001, next), b"question");
    assert_eq!(bench.hear(|heard| heard.acknowledgement == 1009).flags, ACK);
    let mut question = [0; 8];
    host.read_exact(&mut question).expect("read");
    assert_eq!(&question, b"question");
    host.write_all(b"answer").expect("write");
    let answer = bench.hear(|heard| !heard.payload.is_empty());
    assert_eq!((answer.sequence, answer.payload.as_slice()), (next, &b"answer"[..]));
    bench.tcp((4000, port), ACK | FIN, (1009, next + 6), &[]);
    bench.hear(|heard| heard.acknowledgement == 1010);
    assert_eq!(host.read(&mut question).expect("end"), 0);
    drop(host);
    let end = bench.hear(|heard| heard.flags & FIN != 0);
    assert_eq!(end.sequence, next + 6);
    bench.tcp((4000, port), ACK, (1010, next + 7), &[]);
    bench.turn();
    bench.turn();
    assert_eq!(bench.user.open(), [0, 0, 0]);
}

#[test]
fn a_guest_learns_that_nobody_listens() {
    let mut bench = Bench::new(Limits::default());
    let (listener, address) = server();
    drop(listener);
    bench.tcp((4001, address.port()), SYN, (1000, 0), &[]);
    let refused = bench.hear(|heard| heard.port == 4001);
    assert_eq!((refused.flags, refused.acknowledgement), (RST | ACK, 1001));
    assert_eq!(bench.user.open(), [0, 0, 0]);
}

#[test]
fn what_is_lost_is_sent_again() {
    let mut bench = Bench::new(Limits::default());
    let (mut host, port, next) = opened(&mut bench, 4002);
    host.write_all(b"once").expect("write");
    let first = bench.hear(|heard| !heard.payload.is_empty());
    let again = bench.hear(|heard| !heard.payload.is_empty());
    assert_eq!((first.sequence, &first.payload), (again.sequence, &again.payload), "by the timer");
    for _ in 0..3 {
        bench.tcp((4002, port), ACK, (1001, next), &[]);
    }
    assert_eq!(bench.hear(|heard| !heard.payload.is_empty()).payload, b"once", "by duplicates");
    // A gap is not taken, and what it should have been is asked for.
    bench.tcp((4002, port), ACK, (1101, next + 4), b"later");
    assert_eq!(bench.hear(|heard| heard.payload.is_empty()).acknowledgement, 1001);
}

#[test]
fn a_host_that_does_not_read_closes_the_window_and_loses_nothing() {
    let mut bench = Bench::new(Limits::default());
    let (mut host, port, next) = opened(&mut bench, 4003);
    let (mut sent, mut window) = (0u32, 64_000u32);
    let octet = |at: u32| (at % 251) as u8;
    while window > 0 {
        let length = window.min(32_000);
        let payload: Vec<u8> = (sent..sent + length).map(octet).collect();
        bench.tcp((4003, port), ACK, (1001 + sent, next), &payload);
        sent += length;
        // This guest does not scale windows.
        window = bench.hear(|heard| heard.acknowledgement == 1001 + sent).window.into();
        assert!(sent < 64 << 20, "the window never closed");
    }
    bench.tcp((4003, port), ACK, (1001 + sent, next), b"beyond");
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; sent as usize];
        host.read_exact(&mut all).expect("read");
        (all, host)
    });
    assert!(
        bench.hear(|heard| heard.window > 0).acknowledgement == 1001 + sent,
        "what was beyond it is not taken"
    );
    while !reader.is_finished() {
        bench.turn();
    }
    let (all, _host) = reader.join().expect("reader");
    assert!(all.iter().zip(0..).all(|(is, at)| *is == octet(at)));
}

#[test]
fn a_full_table_of_connections_refuses_and_serves_on() {
    let mut bench = Bench::new(Limits { connections: 2, ..Limits::default() });
    let (listener, address) = server();
    bench.open(5000, address);
    bench.open(5001, address);
    bench.tcp((5002, address.port()), SYN, (1000, 0), &[]);
    assert_eq!(bench.hear(|heard| heard.port == 5002).flags, RST | ACK);
    assert_eq!(bench.user.open()[0], 2);
    // A reset makes room, and is passed on.
    bench.tcp((5000, address.port()), RST, (1001, 0), &[]);
    let mut first = listener.accept().expect("accept").0;
    bench.turn();
    assert!(first.read(&mut [0]).is_err());
    bench.open(5002, address);
}

#[test]
fn datagrams_are_answered_and_a_full_table_forgets_the_oldest() {
    let mut bench = Bench::new(Limits { endpoints: 3, ..Limits::default() });
    let host = UdpSocket::bind((LOCAL, 0)).expect("bind");
    let SocketAddr::V4(to) = host.local_addr().expect("address") else { panic!("IPv6") };
    let mut seen = Vec::new();
    for port in 6000..6010 {
        bench.udp(port, to, b"there");
        bench.turn();
        let mut buffer = [0; 16];
        let (length, from) = host.recv_from(&mut buffer).expect("datagram");
        assert_eq!(&buffer[..length], b"there");
        seen.push(from);
        assert!(bench.user.open()[1] <= 3);
    }
    host.send_to(b"old", seen[0]).expect("send");
    host.send_to(b"back", seen[9]).expect("send");
    let (port, payload) = bench.until(|frame| {
        let packet = Packet::parse(frame).filter(|packet| packet.ip.protocol == ipv4::UDP)?;
        Some((packet.destination_port, frame[packet.l4 + 8..].to_vec()))
    });
    assert_eq!((port, payload.as_slice()), (6009, &b"back"[..]));
}

#[test]
fn datagrams_of_one_turn_arrive_one_by_one_and_in_order() {
    let mut bench = Bench::new(Limits::default());
    let hosts = [(); 2].map(|()| UdpSocket::bind((LOCAL, 0)).expect("bind"));
    let to = |which: usize| match hosts[which].local_addr() {
        Ok(SocketAddr::V4(to)) => to,
        other => panic!("{other:?}"),
    };
    // Equal ones, a shorter one that ends the run, a longer one, an empty one, and another target between.
    let sizes = [7, 7, 7, 3, 7, 9, 0, 9, 1400, 1400];
    for (count, size) in sizes.into_iter().enumerate() {
        bench.udp(6200, to(0), &vec![count as u8; size]);
        bench.udp(6200, to(usize::from(count % 4 == 3)), b"*");
    }
    bench.turn();
    let mut got = Vec::new();
    let mut buffer = [0; 2000];
    while got.len() < sizes.len() {
        hosts[0].set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        let length = hosts[0].recv(&mut buffer).expect("datagram");
        if buffer[..length] != *b"*" {
            got.push((length, buffer[..length].to_vec()));
        }
    }
    let sent = sizes.into_iter().enumerate().map(|(count, size)| (size, vec![count as u8; size]));
    assert_eq!(got, sent.collect::<Vec<_>>());
}

#[test]
fn datagrams_for_the_guest_come_together_and_in_order() {
    let mut bench = Bench::new(Limits::default());
    let host = UdpSocket::bind((LOCAL, 0)).expect("bind");
    let SocketAddr::V4(to) = host.local_addr().expect("address") else { panic!("IPv6") };
    bench.udp(6300, to, b"here");
    bench.turn();
    let (_, from) = host.recv_from(&mut [0; 16]).expect("datagram");
    let at = SocketAddrV4::new(LOCAL, from.port());
    // Equal ones, a shorter one that ends the run, a longer one, an empty one; then what leaves as one of many.
    let sizes = [7, 7, 7, 3, 7, 9, 0, 9, 1400, 1400, 60_000, 60_000];
    for (count, size) in sizes.into_iter().enumerate() {
        host.send_to(&vec![count as u8; size], at).expect("send");
    }
    let many: Vec<u8> = (0..4050u32).map(|at| (at / 100) as u8).collect();
    pontoon_ports::sys::send_segments(&host, &many, 100, at).expect("segments");
    let sent = sizes.into_iter().enumerate().map(|(count, size)| vec![count as u8; size]);
    let mut sent = sent.chain(many.chunks(100).map(<[u8]>::to_vec));
    let total = sizes.len() + 41;
    for _ in 0..total {
        let got = bench.until(|frame| {
            let packet = Packet::parse(frame).filter(|packet| packet.ip.protocol == ipv4::UDP)?;
            Some(frame[packet.l4 + 8..].to_vec())
        });
        let wanted = sent.next().expect("as many");
        assert!(got == wanted, "{} octets of {:?} for {}", got.len(), got.first(), wanted.len());
    }
    let gathered = bench.frames.borrow().gathered;
    assert!(gathered >= 2, "{gathered}");
}

#[test]
fn strangers_are_not_let_in() {
    let mut bench = Bench::new(Limits::default());
    let host = UdpSocket::bind((LOCAL, 0)).expect("bind");
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).expect("bind");
    let SocketAddr::V4(to) = host.local_addr().expect("address") else { panic!("IPv6") };
    bench.udp(6100, to, b"");
    bench.turn();
    let (length, from) = host.recv_from(&mut [0; 16]).expect("an empty datagram");
    assert_eq!(length, 0);
    let at = SocketAddr::from((LOCAL, from.port()));
    stranger.send_to(b"stranger", at).expect("send");
    host.send_to(b"friend", at).expect("send");
    let payload = bench.until(|frame| Packet::parse(frame).map(|packet| frame[packet.l4 + 8..].to_vec()));
    assert_eq!(payload, b"friend");
}

#[test]
fn the_gateway_answers_arp_and_ping_and_refuses_the_rest() {
    let mut bench = Bench::new(Limits::default());
    let mut frame = vec![0; 42];
    let (target_mac, target_ip) = ([0; 6], GATEWAY);
    let asked =
        arp::Packet { operation: arp::REQUEST, sender_mac: MAC, sender_ip: GUEST, target_mac, target_ip };
    asked.emit(&mut frame, ethernet::BROADCAST).expect("room");
    bench.frame(frame);
    let answer = bench.until(arp::Packet::parse);
    assert_eq!((answer.sender_ip, answer.target_mac), (GATEWAY, MAC));
    bench.packet(ipv4::ICMP, GATEWAY, &[8, 0, 0, 0, 1, 2, 3, 4, 5]);
    let echo = bench.until(|frame| Packet::parse(frame).map(|packet| frame[packet.l4..].to_vec()));
    assert_eq!((echo[0], &echo[4..], checksum::of(&echo)), (icmp::ECHO_REPLY, &[1, 2, 3, 4, 5][..], 0));
    bench.udp(7000, SocketAddrV4::new(GATEWAY, 80), b"?");
    let refused = bench.until(|frame| Packet::parse(frame).map(|packet| frame[packet.l4..].to_vec()));
    assert_eq!(refused[..2], [icmp::UNREACHABLE, icmp::ADMINISTRATIVELY_PROHIBITED]);
    assert_eq!(bench.user.open(), [0, 0, 0]);
}

/// Sockets of this kind are for some groups only, so only what is refused and counted can be asked for everywhere.
#[test]
fn pings_are_as_many_as_the_table_has_places() {
    let mut bench = Bench::new(Limits { pings: 2, ..Limits::default() });
    for id in 0..9 {
        bench.packet(ipv4::ICMP, LOCAL, &[8, 0, 0, 0, 0, id, 0, 1]);
        bench.until(|frame| Packet::parse(frame).map(|_| ()));
        assert!(bench.user.open()[2] <= 2);
    }
}
