#![allow(clippy::unwrap_used)]

use smoltcp::wire::{ArpPacket, EthernetFrame, Ipv4Packet, TcpPacket};

use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const MILLI: u64 = 1_000_000;

/// A guest with smoltcp's own TCP.
struct Guest {
    interface: Interface,
    sockets: SocketSet<'static>,
    queue: Queue,
    mac: [u8; 6],
    now: u64,
    sent: usize,
}

impl Guest {
    fn new(last: u8) -> Self {
        let mac = [2, 0, 0, 0, 1, last];
        let mut queue = Queue { mtu: 1500, ..Queue::default() };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        let mut interface = Interface::new(config, &mut queue, Instant::ZERO);
        let ip = Ipv4Addr::new(10, 9, 0, last);
        interface.update_ip_addrs(|list| list.push(IpCidr::new(ip.into(), 24)).unwrap());
        Self { interface, sockets: SocketSet::new(Vec::new()), queue, mac, now: 0, sent: 0 }
    }

    fn connect(&mut self, port: u16) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 70_000]);
        let handle = self.sockets.add(Socket::new(buffer(), buffer()));
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), (GATEWAY, 53), port).unwrap();
        handle
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// One millisecond: whatever either side has to say.
    fn step(&mut self, server: &mut TcpServer) {
        self.now += MILLI;
        self.interface.poll(instant(self.now), &mut self.queue, &mut self.sockets);
        let mut back = Vec::new();
        while let Some(mut frame) = self.queue.outgoing.pop_front() {
            if frame[12..14] == [8, 6] {
                back.push(arp_reply(&frame));
                continue;
            }
            self.sent += 1;
            // a partial checksum, as taps deliver
            frame[14 + 20 + 16] ^= 0x55;
            server.receive(self.now, &frame, &mut |frame| back.push(frame.to_vec()));
        }
        server.poll(self.now, &mut |frame| back.push(frame.to_vec()));
        for frame in &back {
            let arp = frame[12..14] == [8, 6];
            let own = arp || frame[30..34] == [10, 9, 0, self.mac[5]];
            assert_eq!(frame[..6] == self.mac, own, "sent to the address of its IP address");
            check_sums(frame);
        }
        self.queue.incoming.extend(back);
    }

    fn run(&mut self, server: &mut TcpServer, millis: u64) {
        (0..millis).for_each(|_| self.step(server));
    }
}

fn arp_reply(request: &[u8]) -> Vec<u8> {
    let arp = ArpPacket::new_checked(&request[14..]).unwrap();
    let mut frame = router_announcement(GATEWAY_MAC);
    frame[..6].copy_from_slice(&request[6..12]);
    frame[22..28].copy_from_slice(&GATEWAY_MAC);
    frame[28..32].copy_from_slice(arp.target_protocol_addr());
    frame[38..42].copy_from_slice(arp.source_protocol_addr());
    frame
}

fn check_sums(frame: &[u8]) {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    if frame[12..14] != [8, 0] {
        return;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    assert!(ip.verify_checksum());
    assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
}

fn server() -> TcpServer {
    TcpServer::new(GATEWAY_MAC, GATEWAY, 24, 1500, 7)
}

#[test]
fn split_prefix_pipelining_and_a_long_answer() {
    let (mut server, mut guest) = (server(), Guest::new(5));
    let handle = guest.connect(40_000);
    guest.run(&mut server, 5);
    for byte in b"\0\x0dfirst message\0\x0esecond message" {
        guest.socket(handle).send_slice(&[*byte]).unwrap();
        guest.step(&mut server);
    }
    guest.run(&mut server, 5);
    let query = server.next_query().unwrap();
    let peer = Peer { mac: [2, 0, 0, 0, 1, 5], ip: Ipv4Addr::new(10, 9, 0, 5), port: 40_000 };
    assert_eq!((query.payload, query.peer), (b"first message".as_slice(), peer));
    let conn = query.conn;
    assert_eq!(server.next_query(), None, "one at a time");
    let long = vec![0xab; 65_535];
    server.answer(conn, &long);
    guest.run(&mut server, 200);
    let mut got = vec![0; 65_537];
    assert_eq!(guest.socket(handle).recv_slice(&mut got), Ok(65_537));
    assert!(got[..2] == [0xff, 0xff] && got[2..] == long);
    assert_eq!(server.next_query().unwrap().payload, b"second message");
    guest.socket(handle).close();
    guest.run(&mut server, 5);
    server.answer(conn, b"answered after the guest's FIN");
    guest.run(&mut server, 20);
    assert_eq!(guest.socket(handle).recv_slice(&mut got), Ok(32));
    assert_eq!(server.connections(), 0, "closed in order");
}

#[test]
fn idle_and_dribbling_connections_end() {
    let (mut server, mut guest) = (server(), Guest::new(5));
    let handle = guest.connect(40_000);
    guest.run(&mut server, 5);
    assert_eq!(server.connections(), 1);
    assert!(server.next_timeout(guest.now).is_some());
    for _ in 0..9 {
        guest.socket(handle).send_slice(b"\x01").unwrap();
        guest.run(&mut server, 1000);
    }
    assert_eq!(server.connections(), 1);
    guest.run(&mut server, 1100);
    assert_eq!((server.connections(), guest.socket(handle).state()), (0, State::Closed));
}

#[test]
fn connections_are_limited_and_come_back() {
    let mut server = server();
    let mut guests: Vec<Guest> = (5..8).map(Guest::new).collect();
    for guest in &mut guests {
        (0..10).for_each(|port| {
            guest.connect(40_000 + port);
        });
        guest.run(&mut server, 20);
    }
    assert_eq!(server.connections(), CONNECTIONS_MAX, "8 + 8, none for the third");
    let first = &mut guests[0];
    first.run(&mut server, 10_100);
    assert!(server.connections() < CONNECTIONS_MAX);
    let late = first.connect(50_000);
    first.run(&mut server, 20);
    assert_eq!(first.socket(late).state(), State::Established);
}

#[test]
fn only_the_network_is_served() {
    let (mut outside, mut guest) = (TcpServer::new(GATEWAY_MAC, GATEWAY, 30, 1500, 7), Guest::new(5));
    let handle = guest.connect(40_000);
    guest.run(&mut outside, 50);
    assert!(guest.sent > 0);
    assert_eq!((outside.connections(), guest.socket(handle).state()), (0, State::SynSent));
}

#[test]
fn an_absurd_length_resets_and_odd_addresses_do_not_panic() {
    let (mut server, mut guest) = (server(), Guest::new(5));
    let handle = guest.connect(40_000);
    guest.run(&mut server, 5);
    guest.socket(handle).send_slice(b"\xff\xff").unwrap();
    guest.run(&mut server, 10);
    assert_eq!((server.connections(), guest.socket(handle).state()), (0, State::Closed));
    let handle = guest.connect(40_001);
    guest.run(&mut server, 5);
    guest.socket(handle).send_slice(b"\0\0").unwrap();
    guest.run(&mut server, 10);
    assert_eq!((server.connections(), guest.socket(handle).state()), (0, State::Closed));
    let odd = TcpServer::new([0xff; 6], Ipv4Addr::UNSPECIFIED, 0, 0, 0);
    assert_eq!(odd.connections(), 0);
}
