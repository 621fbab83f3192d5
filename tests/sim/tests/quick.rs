//! The engine's short way does what the long way does: two worlds, one of which has no short way, are given the same
//! frames and have to send the same, drop the same and remember the same.

use std::net::Ipv4Addr;
use std::sync::Arc;

use pontoon_engine::policy::{Policy, Tree};
use pontoon_engine::snapshot::Subnet;
use pontoon_engine::stp::{self, Board, Gate};
use pontoon_engine::{PortId, Snapshot};
use pontoon_sim::frames::{self, Ends, Station};
use pontoon_sim::{EXTERNAL, GATEWAY_MAC, GUEST_1, GUEST_2, Rng, UPLINK, UPLINK_MAC, World};
use pontoon_wire::frame::Packet;
use pontoon_wire::vnet;

const HOST: PortId = 0;
const GUESTS: [Station; 2] = [
    ([0x52, 0x54, 0, 0, 2, 1], Ipv4Addr::new(192, 168, 100, 21)),
    ([0x52, 0x54, 0, 0, 2, 2], Ipv4Addr::new(192, 168, 100, 22)),
];
const ROUTER: Station = ([0x52, 0x54, 1, 1, 1, 1], Ipv4Addr::new(203, 0, 113, 1));
const REMOTES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(203, 0, 113, 80)];
const PORTS: [u16; 2] = [53, 40_000];
const STEPS: usize = 2500;
/// Few, so that tables fill up.
const SLOTS: usize = 12;

type Given = (PortId, vnet::Header, Vec<u8>);

fn pick<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.below(all.len())]
}

/// True once in `times`.
fn once_in(rng: &mut Rng, times: usize) -> bool {
    rng.below(times) == 0
}

fn packet(rng: &mut Rng, protocol: u8, mut ends: Ends, ports: (u16, u16)) -> Vec<u8> {
    if once_in(rng, 10) {
        ends.ttl = pick(rng, &[1, 2]);
    }
    ends.dont_fragment = once_in(rng, 4);
    let payload = vec![rng.draw() as u8; pick(rng, &[0, 1, 10, 30, 1400, 1472, 1473, 1600])];
    if protocol == frames::UDP {
        return ends.udp(ports, &payload);
    }
    let flags = pick(rng, &["A", "A", "A", "A", "A", "A", "S", "SA", "FA", "R", "", "SF"]);
    let numbers = [
        (101, 101),
        (101, 101),
        (101, 101),
        (100, 101),
        (140, 130),
        (70_000, 101),
        (9_000_000, 101),
        (101, 200_000),
    ];
    ends.tcp(ports, flags, pick(rng, &numbers), &payload)
}

fn from_guest(rng: &mut Rng) -> (PortId, Vec<u8>) {
    let at = rng.below(2);
    let (mut mac, address) = GUESTS[if once_in(rng, 30) { 1 - at } else { at }];
    if once_in(rng, 60) {
        mac = GATEWAY_MAC;
    }
    let port = if once_in(rng, 30) { HOST } else { [GUEST_1, GUEST_2][at] };
    let to = match rng.below(8) {
        0 => (GUESTS[1 - at].0, GUESTS[1 - at].1),
        1 => (pick(rng, &[[0xff; 6], [1, 0x80, 0xc2, 0, 0, 0], [2; 6]]), GUESTS[1 - at].1),
        2 => (GATEWAY_MAC, pick(rng, &[EXTERNAL, GUESTS[1 - at].1, Ipv4Addr::new(192, 168, 110, 7)])),
        _ => (GATEWAY_MAC, pick(rng, &REMOTES)),
    };
    let ports = (pick(rng, &PORTS), pick(rng, &PORTS));
    let protocol = pick(rng, &[frames::UDP, frames::TCP]);
    (port, packet(rng, protocol, Ends::new((mac, address), to), ports))
}

fn from_outside(rng: &mut Rng, heard: &[Packet]) -> (PortId, Vec<u8>) {
    let seen = &heard[rng.below(heard.len())];
    let mac = if once_in(rng, 30) { [0xff; 6] } else { UPLINK_MAC };
    let source = match rng.below(40) {
        0 => EXTERNAL,
        1 => REMOTES[0],
        _ => seen.destination(),
    };
    let to = (mac, if once_in(rng, 40) { GUESTS[0].1 } else { EXTERNAL });
    let ports = (if once_in(rng, 40) { 99 } else { seen.destination_port }, seen.source_port);
    (UPLINK, packet(rng, seen.ip.protocol, Ends::new((ROUTER.0, source), to), ports))
}

/// What a guest with offloads says of a frame, or a liar of any.
fn header(rng: &mut Rng, frame: &[u8]) -> vnet::Header {
    let field = if frame.get(23) == Some(&frames::UDP) { 6 } else { 16 };
    let mut header = vnet::Header { csum_start: 34.into(), csum_offset: field.into(), ..Default::default() };
    match rng.below(8) {
        0 => header.flags = vnet::DATA_VALID,
        1 => header.flags = vnet::NEEDS_CSUM,
        2 => {
            header.flags = vnet::NEEDS_CSUM;
            header.gso_type = if field == 6 { vnet::GSO_UDP_L4 } else { vnet::GSO_TCPV4 };
            header.gso_size = pick(rng, &[48, 100, 1448, 1460, 1461, 1499]).into();
        }
        3 if once_in(rng, 4) => {
            header.flags = rng.draw() as u8;
            header.gso_type = pick(rng, &[0, 1, 4, 5, 0x80]);
            header.csum_offset = (rng.draw() as u16 % 2000).into();
        }
        _ => {}
    }
    header
}

fn frame(rng: &mut Rng, heard: &[Packet]) -> Given {
    let outside = !heard.is_empty() && once_in(rng, 2);
    let (port, mut frame) = if outside { from_outside(rng, heard) } else { from_guest(rng) };
    if once_in(rng, 12) && frame.len() > 80 {
        let [first, second] = frames::cut(&frame, 8 * (1 + rng.below(frame.len() / 8 - 6)));
        frame = if once_in(rng, 2) { first } else { second };
    }
    if once_in(rng, 12) {
        let at = rng.below(frame.len().min(60));
        frame[at] ^= 1 << rng.below(8);
    }
    if once_in(rng, 40) {
        frame.truncate(rng.below(frame.len()));
    }
    if once_in(rng, 10) {
        frame.extend([0; 6]);
    }
    (port, header(rng, &frame), frame)
}

/// What the ports of the NAT network may do to each other, by `seed`.
fn policy(snapshot: &mut Snapshot, seed: u64) {
    let network = snapshot.networks[0].as_mut().expect("the NAT network");
    let mut policy = Policy::default();
    match seed % 4 {
        0 => return,
        1 => [GUEST_1, GUEST_2].into_iter().for_each(|port| policy.isolated.insert(port)),
        2 => {
            policy.hairpin.insert(GUEST_1);
            policy.floods_unknown = false;
        }
        _ => policy.tree = Some(tree(&network.ports)),
    }
    network.policy = Some(Box::new(policy));
}

/// A tree whose ports were open before, but for guest 2's.
fn tree(ports: &[PortId]) -> Tree {
    let config = stp::Config { id: 1, max_age: 2000, hello: 200, forward_delay: 1500 };
    let configs =
        (1..).zip(ports).map(|(number, &port)| stp::PortConfig { port, number, priority: 32, cost: 100 });
    Tree { config, ports: configs.collect(), board: Arc::new(Board::new([HOST, GUEST_1].into_iter())) }
}

struct Pair {
    short: World,
    long: World,
    /// What came out at the uplink last.
    heard: Vec<Packet>,
}

impl Pair {
    fn new(workers: u16, seed: u64) -> Self {
        let world = || World::with(workers, seed, SLOTS, |snapshot| policy(snapshot, seed));
        let (short, mut long) = (world(), world());
        long.take_long_way();
        Self { short, long, heard: Vec::new() }
    }

    fn give(&mut self, (port, header, frame): &Given, at: &str) {
        let sent = self.short.receive_with(*port, *header, frame);
        assert_eq!(
            sent,
            self.long.receive_with(*port, *header, frame),
            "{at}: {port} {header:?} {frame:02x?}"
        );
        for (_, (_, bytes)) in sent.iter().filter(|(port, _)| *port == UPLINK) {
            match frames::parse_arp(bytes) {
                Some((1, sender, (_, wanted))) => {
                    let answer = frames::arp(2, (ROUTER.0, wanted), sender);
                    self.give(&(UPLINK, vnet::Header::default(), answer), at);
                }
                _ => self.hear(bytes),
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Some(packet) = Packet::parse(bytes).filter(|packet| packet.ip.protocol != frames::ICMP) else {
            return;
        };
        self.heard.insert(0, packet);
        self.heard.truncate(6);
    }

    /// A network that was somewhere else covers one of the remote hosts, or no longer does.
    fn move_network(&mut self, away: bool) {
        let address = if away { Ipv4Addr::new(192, 168, 110, 1) } else { Ipv4Addr::new(198, 51, 100, 1) };
        for world in [&mut self.short, &mut self.long] {
            world.reapply(|snapshot| {
                let network = snapshot.networks[1].as_mut().expect("the isolated network");
                network.subnet = Some(Subnet { address, prefix: 24 });
            });
        }
    }

    /// The tree, if there is one, lets a port do more or less than before.
    fn turn_gate(&mut self, port: PortId, gate: Gate) {
        for world in [&self.short, &self.long] {
            let policy = world.snapshot.networks[0].as_ref().and_then(|network| network.policy.as_ref());
            if let Some(tree) = policy.and_then(|policy| policy.tree.as_ref()) {
                tree.board.set(port, gate);
            }
        }
    }

    fn compare(&mut self, at: &str) {
        assert_eq!(self.short.sessions(), self.long.sessions(), "{at}");
        assert_eq!(self.short.drops(), self.long.drops(), "{at}");
    }
}

fn run(workers: u16, seed: u64) {
    let mut pair = Pair::new(workers, seed);
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9) | 1);
    for step in 0..STEPS {
        let at = format!("workers {workers} seed {seed} step {step}");
        if once_in(&mut rng, 30) {
            let nanos = pick(&mut rng, &[1_000_000, 1_000_000_000, 20_000_000_000, 130_000_000_000]);
            assert_eq!(pair.short.advance(nanos), pair.long.advance(nanos), "{at}");
        }
        if once_in(&mut rng, 100) {
            pair.move_network(once_in(&mut rng, 2));
        }
        if once_in(&mut rng, 40) {
            let gate = pick(&mut rng, &[Gate::Closed, Gate::Learning, Gate::Open, Gate::Open]);
            pair.turn_gate(pick(&mut rng, &[HOST, GUEST_1, GUEST_2]), gate);
        }
        let given = frame(&mut rng, &pair.heard);
        pair.give(&given, &at);
        pair.compare(&at);
    }
}

#[test]
fn the_short_way_ends_where_the_long_way_does() {
    for workers in [1, 2] {
        (1..=12).for_each(|seed| run(workers, seed));
    }
}
