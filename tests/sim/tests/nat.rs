//! NAT against a model that remembers sessions in a map.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use pontoon_engine::PortId;
use pontoon_sim::frames::{self, Ends, ICMP, Seen, TCP, UDP};
use pontoon_sim::{EXTERNAL, GATEWAY_MAC, GUEST_1, GUEST_2, ISOLATED, Rng, UPLINK, UPLINK_MAC, World};

const GUESTS: [(PortId, [u8; 6], Ipv4Addr); 2] = [
    (GUEST_1, [0x52, 0x54, 0, 0, 2, 1], Ipv4Addr::new(192, 168, 100, 21)),
    (GUEST_2, [0x52, 0x54, 0, 0, 2, 2], Ipv4Addr::new(192, 168, 100, 22)),
];
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const REMOTES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(203, 0, 113, 80), Ipv4Addr::new(198, 51, 100, 7), Ipv4Addr::new(198, 51, 100, 8)];

fn mac_of(ip: Ipv4Addr) -> [u8; 6] {
    let hop = if ip.octets()[..3] == ROUTER.octets()[..3] { ip } else { ROUTER };
    [0x52, 0x54, 1, 1, 1, hop.octets()[3]]
}

/// Gives a frame to the world and answers its ARP requests; what was sent else, and the hand-offs it took.
fn exchange(world: &mut World, port: PortId, frame: &[u8]) -> (Vec<(PortId, Seen)>, u64) {
    let before = world.hand_offs();
    let mut sent = world.receive(port, frame);
    let hand_offs = world.hand_offs() - before;
    let mut seen = Vec::new();
    while let Some((port, frame)) = sent.pop() {
        match frames::parse_arp(&frame) {
            Some((1, sender, (_, wanted))) => {
                assert_eq!((port, sender), (UPLINK, (UPLINK_MAC, EXTERNAL)));
                sent.extend(world.receive(UPLINK, &frames::arp(2, (mac_of(wanted), wanted), sender)));
            }
            Some(other) => panic!("unexpected ARP {other:?}"),
            None => seen.push((port, frames::parse(&frame))),
        }
    }
    seen.sort_by_key(|(port, _)| *port);
    (seen, hand_offs)
}

/// Protocol, guest, inside port.
type Inside = (u8, usize, u16);
type Remote = (Ipv4Addr, u16);

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Asked,
    Answered,
    Established,
}

#[derive(Clone, Copy)]
struct Session {
    last: u64,
    phase: Phase,
    /// Sequence numbers of guest and remote.
    numbers: (u32, u32),
}

#[derive(Default)]
struct Model {
    sessions: BTreeMap<(Inside, Remote), Session>,
    external: BTreeMap<Inside, u16>,
    /// Ports that mappings had, of whom and until when.
    released: BTreeMap<(u8, u16), (Inside, u64)>,
    heard: [Option<u64>; 2],
    drops: BTreeMap<&'static str, u64>,
}

impl Model {
    fn expire(&mut self, now: u64) {
        self.sessions.retain(|(inside, _), session| {
            let seconds = match (inside.0, session.phase) {
                (UDP, _) => 300,
                (ICMP, _) => 60,
                (_, Phase::Established) => 7440,
                _ => 240,
            };
            now - session.last <= seconds
        });
        let sessions = &self.sessions;
        self.external.retain(|inside, port| {
            let lives = sessions.keys().any(|key| key.0 == *inside);
            if !lives {
                self.released.insert((inside.0, *port), (*inside, now));
            }
            lives
        });
        self.released.retain(|_, (_, since)| now - *since < 120);
    }

    /// The endpoint behind an external port.
    fn inside(&self, protocol: u8, port: u16) -> Option<Inside> {
        self.external
            .iter()
            .find(|(inside, at)| inside.0 == protocol && **at == port)
            .map(|(inside, _)| *inside)
    }

    /// A port was another endpoint's within the last two minutes (RFC 6888 REQ-8).
    fn rests(&self, inside: Inside, port: u16) -> bool {
        self.released.get(&(inside.0, port)).is_some_and(|(owner, _)| *owner != inside)
    }

    /// A mapping keeps its port; a new one has the inside port, or one nobody has.
    fn check_port(&mut self, at: &str, inside: Inside, port: u16) {
        let expected = match self.external.get(&inside) {
            Some(&port) => Some(port),
            None if self.inside(inside.0, inside.2).is_none() && !self.rests(inside, inside.2) => {
                Some(inside.2)
            }
            None => None,
        };
        assert!(!self.rests(inside, port), "{at}: {inside:?} {port} was another's until lately");
        assert!(expected.is_none_or(|expected| expected == port), "{at}: {inside:?} {port} {expected:?}");
        assert!(port >= 1024, "{at}: {port}");
        let owner = self.inside(inside.0, port);
        assert!(owner.is_none_or(|owner| owner == inside), "{at}: {port} is shared");
        self.external.insert(inside, port);
    }

    fn dropped(&mut self, name: &'static str) {
        *self.drops.entry(name).or_default() += 1;
    }
}

struct Run {
    world: World,
    model: Model,
    rng: Rng,
    at: String,
}

impl Run {
    fn new(workers: u16, seed: u64) -> Self {
        let rng = Rng(seed * 0x9e37_79b9 + u64::from(workers));
        Self { world: World::new(workers, seed), model: Model::default(), rng, at: String::new() }
    }

    fn now(&self) -> u64 {
        self.world.now.mono.secs()
    }

    fn payload(&mut self) -> Vec<u8> {
        (0..self.rng.below(200)).map(|_| self.rng.draw() as u8).collect()
    }

    fn outbound(&mut self) {
        let protocol = [UDP, TCP, ICMP][self.rng.below(3)];
        let inside = (protocol, self.rng.below(2), 5000 + self.rng.below(6) as u16);
        let port = if protocol == ICMP { 0 } else { [53, 4000][self.rng.below(2)] };
        let remote = (REMOTES[self.rng.below(3)], port);
        let payload = self.payload();
        let (frame, session) = self.segment_out(inside, remote, &payload);
        let (sent, hand_offs) = exchange(&mut self.world, GUESTS[inside.1].0, &frame);
        assert!(hand_offs <= 1, "{}: {hand_offs} hand-offs", self.at);
        let [(UPLINK, seen)] = &sent[..] else { panic!("{}: {inside:?} {remote:?} {sent:?}", self.at) };
        let external = if protocol == ICMP { seen.rest.0 } else { seen.ports.0 };
        assert_eq!((seen.source, seen.destination), (EXTERNAL, remote.0), "{}", self.at);
        assert_eq!((seen.macs, seen.ttl), ((UPLINK_MAC, mac_of(remote.0)), 63), "{}", self.at);
        assert_eq!(seen.payload, payload, "{}", self.at);
        if protocol != ICMP {
            assert_eq!(seen.ports.1, remote.1, "{}", self.at);
        }
        self.model.check_port(&self.at, inside, external);
        self.model.sessions.insert((inside, remote), session);
        self.model.heard[inside.1] = Some(self.now());
    }

    fn segment_out(&mut self, inside: Inside, remote: Remote, payload: &[u8]) -> (Vec<u8>, Session) {
        let ends = Ends::new((GUESTS[inside.1].1, GUESTS[inside.1].2), (GATEWAY_MAC, remote.0));
        let now = self.now();
        let fresh = Session { last: now, phase: Phase::Asked, numbers: (self.rng.draw() as u32, 0) };
        let mut session = self.model.sessions.get(&(inside, remote)).copied().unwrap_or(fresh);
        session.last = now;
        let ports = (inside.2, remote.1);
        let frame = match (inside.0, session.phase) {
            (UDP, _) => ends.udp(ports, payload),
            (ICMP, _) => ends.echo(true, (inside.2, 1), payload),
            (_, Phase::Asked) => ends.tcp(ports, "S", session.numbers, payload),
            _ => {
                session.phase = Phase::Established;
                session.numbers.0 = session.numbers.0.wrapping_add(1);
                ends.tcp(ports, "A", (session.numbers.0, session.numbers.1.wrapping_add(1)), payload)
            }
        };
        (frame, session)
    }

    /// From one of the remotes to a port of a mapping, or to any.
    fn inbound(&mut self) {
        let mappings: Vec<_> = self.model.external.iter().map(|(inside, port)| (inside.0, *port)).collect();
        let (protocol, external) = match mappings.get(self.rng.below(mappings.len() + 3)) {
            Some(&mapping) => mapping,
            None => ([UDP, TCP, ICMP][self.rng.below(3)], 5000 + self.rng.below(9) as u16),
        };
        let port = if protocol == ICMP { 0 } else { [53, 4000][self.rng.below(2)] };
        let remote = (REMOTES[self.rng.below(3)], port);
        let inside = self.model.inside(protocol, external);
        let session = inside.and_then(|inside| self.model.sessions.get(&(inside, remote)).copied());
        let payload = self.payload();
        let ends = Ends::new((mac_of(remote.0), remote.0), (UPLINK_MAC, EXTERNAL));
        let ports = (remote.1, external);
        let frame = match (protocol, session) {
            (UDP, _) => ends.udp(ports, &payload),
            (ICMP, _) => ends.echo(false, (external, 1), &payload),
            (_, Some(Session { phase: Phase::Established, numbers, .. })) => {
                ends.tcp(ports, "A", (numbers.1.wrapping_add(1), numbers.0), &payload)
            }
            (_, Some(session)) => {
                ends.tcp(ports, "SA", (77_000, session.numbers.0.wrapping_add(1)), &payload)
            }
            (_, None) => ends.tcp(ports, "S", (1, 0), &payload),
        };
        let (sent, hand_offs) = exchange(&mut self.world, UPLINK, &frame);
        assert!(hand_offs <= 1, "{}: {hand_offs} hand-offs", self.at);
        let (Some(inside), Some(session)) = (inside, session) else {
            assert!(sent.is_empty(), "{}: a stranger got in: {sent:?}", self.at);
            self.model.dropped(if inside.is_some() { "nat_filtered" } else { "nat_no_session" });
            return;
        };
        self.answered(inside, remote, session);
        self.arrived(&sent, inside, remote, &payload);
        assert!(sent.iter().all(|(_, seen)| seen.ttl == 63), "{}", self.at);
    }

    fn answered(&mut self, inside: Inside, remote: Remote, mut session: Session) {
        let now = self.now();
        match (inside.0, session.phase) {
            (TCP, Phase::Asked) => (session.phase, session.numbers.1) = (Phase::Answered, 77_000),
            (TCP, Phase::Answered) => {}
            _ => session.last = now,
        }
        self.model.sessions.insert((inside, remote), session);
    }

    /// The guest got it, from whom it expects; others only when nobody knows where the guest is.
    fn arrived(&self, sent: &[(PortId, Seen)], inside: Inside, remote: Remote, payload: &[u8]) {
        let (port, mac, address) = GUESTS[inside.1];
        let known = self.model.heard[inside.1].is_some_and(|heard| self.now() - heard <= 300);
        let expected = if known { vec![port] } else { vec![0, GUEST_1, GUEST_2] };
        let ports: Vec<_> = sent.iter().map(|&(port, _)| port).collect();
        assert_eq!(ports, expected, "{}: {inside:?} {remote:?}", self.at);
        let seen = &sent[0].1;
        assert_eq!((seen.source, seen.destination), (remote.0, address), "{}", self.at);
        assert_eq!((seen.macs, &seen.payload[..]), ((GATEWAY_MAC, mac), payload), "{}", self.at);
        match inside.0 {
            ICMP => assert_eq!((seen.ports, seen.rest.0), ((0, 0), inside.2), "{}", self.at),
            _ => assert_eq!(seen.ports, (remote.1, inside.2), "{}", self.at),
        }
    }

    /// A guest speaks UDP to the external endpoint of one of them.
    fn hairpin(&mut self) {
        let endpoints = self.model.external.iter().filter(|(inside, _)| inside.0 == UDP);
        let endpoints: Vec<_> = endpoints.map(|(inside, port)| (*inside, *port)).collect();
        let Some(&(to, external)) = endpoints.get(self.rng.below(endpoints.len())) else { return };
        let from = (UDP, self.rng.below(2), 5000 + self.rng.below(6) as u16);
        let payload = self.payload();
        let (frame, session) = self.segment_out(from, (EXTERNAL, external), &payload);
        let (sent, hand_offs) = exchange(&mut self.world, GUESTS[from.1].0, &frame);
        assert!(hand_offs <= 2, "{}: {hand_offs} hand-offs", self.at);
        self.model.heard[from.1] = Some(self.now());
        let [(_, seen), ..] = &sent[..] else { panic!("{}: {from:?} {to:?}: nothing came", self.at) };
        let source = seen.ports.0;
        self.model.check_port(&self.at, from, source);
        self.model.sessions.insert((from, (EXTERNAL, external)), session);
        self.model.sessions.insert((to, (EXTERNAL, source)), session);
        self.arrived(&sent, to, (EXTERNAL, source), &payload);
    }
}

/// Times are multiples of seven seconds, so that none is so near to a timeout that both would be right.
fn jump(rng: &mut Rng) -> u64 {
    7 * [1, 2, 8, 9, 20, 34, 35, 42, 43, 1063][rng.below(10)]
}

fn run(workers: u16, seed: u64, hairpin: bool) {
    let mut run = Run::new(workers, seed);
    for step in 0..1200 {
        run.at = format!("workers {workers} seed {seed} step {step}");
        if run.rng.below(15) == 0 {
            let seconds = jump(&mut run.rng);
            let sent = run.world.advance(seconds * 1_000_000_000);
            assert!(sent.is_empty(), "{}: time alone sends nothing: {sent:02x?}", run.at);
            let now = run.now();
            run.model.expire(now);
        }
        match run.rng.below(5) {
            0 | 1 => run.outbound(),
            2 if hairpin => run.hairpin(),
            _ => run.inbound(),
        }
        assert_eq!(run.world.sessions(), run.model.sessions.len(), "{}", run.at);
    }
    let drops: BTreeMap<_, _> = run.world.drops().into_iter().collect();
    assert_eq!(drops, run.model.drops, "{}", run.at);
    run.world.advance(8000 * 1_000_000_000);
    assert_eq!(run.world.sessions(), 0, "{}: all expired", run.at);
}

fn each(test: impl Fn(u16, u64)) {
    for workers in [1, 2, 4] {
        for seed in 1..=8 {
            test(workers, seed);
        }
    }
}

//= RFC4787#REQ-1, RFC5382#REQ-1, RFC4787#REQ-3, RFC5382#REQ-5, RFC6888#REQ-8 type=test
#[test]
fn sessions_are_translated_as_the_model_says() {
    each(|workers, seed| run(workers, seed, false));
}

#[test]
fn guests_reach_each_other_through_their_external_endpoints_on_one_worker() {
    (1..=8).for_each(|seed| run(1, seed, true));
}

//= RFC4787#REQ-9 type=test
#[test]
fn guests_reach_each_other_through_their_external_endpoints() {
    each(|workers, seed| run(workers, seed, true));
}

/// From guest 1 to the first remote, with the outside view of its datagram.
fn open(world: &mut World, port: u16) -> (Vec<u8>, Vec<u8>) {
    let (guest, mac, address) = GUESTS[0];
    let frame = Ends::new((mac, address), (GATEWAY_MAC, REMOTES[0])).udp((port, 53), b"open");
    exchange(world, guest, &frame);
    let sent = world.receive(guest, &frame);
    assert_eq!(sent.len(), 1);
    (frame, sent[0].1.clone())
}

#[test]
fn icmp_errors_about_a_session_reach_its_guest_and_quote_what_the_guest_sent() {
    each(|workers, seed| {
        let at = format!("workers {workers} seed {seed}");
        let mut world = World::new(workers, seed);
        for port in 5000..5010 {
            let (inside, outside) = open(&mut world, port);
            let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0];
            message.extend(&outside[14..]);
            let sum =
                message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| b.into()));
            let sum = sum.sum::<u32>();
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            // A router on the way, which the guest never spoke to.
            let ends = Ends::new((mac_of(ROUTER), ROUTER), (UPLINK_MAC, EXTERNAL));
            let frame = ends.raw(ICMP, &message);
            let (sent, hand_offs) = exchange(&mut world, UPLINK, &frame);
            assert!(hand_offs <= 1, "{at}");
            let [(GUEST_1, seen)] = &sent[..] else { panic!("{at}: {sent:?}") };
            assert_eq!((seen.source, seen.destination), (ROUTER, GUESTS[0].2), "{at}");
            assert_eq!((seen.ports, seen.rest), ((3, 4), (0, 1280)), "{at}");
            let mut quoted = inside[..14].to_vec();
            quoted.extend(&seen.payload);
            let (quoted, inside) = (frames::parse(&quoted), frames::parse(&inside));
            assert_eq!((quoted.source, quoted.ports), (inside.source, inside.ports), "{at}");
            assert_eq!((quoted.destination, quoted.payload), (inside.destination, inside.payload), "{at}");
        }
        assert_eq!(world.drops(), [], "{at}");
    });
}

fn fragments(workers: u16, seed: u64) {
    let at = format!("workers {workers} seed {seed}");
    let mut world = World::new(workers, seed);
    let (guest, mac, address) = GUESTS[0];
    open(&mut world, 5000);
    let payload: Vec<u8> = (0..1200u32).map(|at| (at * 3) as u8).collect();
    let out = Ends::new((mac, address), (GATEWAY_MAC, REMOTES[0])).udp((5000, 53), &payload);
    let back = Ends::new((mac_of(REMOTES[0]), REMOTES[0]), (UPLINK_MAC, EXTERNAL)).udp((53, 5000), &payload);
    for (from, to, frame) in [(guest, UPLINK, out), (UPLINK, guest, back)] {
        for (number, part) in frames::cut(&frame, 640).iter().enumerate() {
            let (sent, _) = exchange(&mut world, from, part);
            let [(port, seen)] = &sent[..] else { panic!("{at}: part {number} from {from}: {sent:?}") };
            let ends = if to == UPLINK { (EXTERNAL, REMOTES[0]) } else { (REMOTES[0], address) };
            assert_eq!((*port, (seen.source, seen.destination)), (to, ends), "{at}");
            assert_eq!(seen.fragment, (number * 640, number == 0), "{at}");
        }
    }
    assert_eq!(world.drops(), [], "{at}");
}

#[test]
fn fragments_follow_their_first_on_one_worker() {
    (1..=8).for_each(|seed| fragments(1, seed));
}

#[test]
fn fragments_follow_their_first_whichever_worker_gets_them() {
    each(fragments);
}

//= RFC4787#REQ-9, RFC5382#REQ-8 type=test
#[test]
fn guests_of_two_networks_and_of_several_external_addresses_reach_each_other() {
    for workers in [1, 2, 4] {
        for pools in [false, true] {
            let mut world = World::with(workers, 3, 256, |snapshot| {
                // The isolated network is one behind the same uplink instead.
                let [Some(one), Some(other)] = &mut snapshot.networks[..] else { panic!("two networks") };
                (other.forward, other.uplink) = (one.forward, one.uplink);
                if pools {
                    let address = |last| Ipv4Addr::new(203, 0, 113, last);
                    one.nat_addresses = Some((address(20), address(20)));
                    other.nat_addresses = Some((address(30), address(30)));
                }
            });
            let external = |last: u8| if pools { Ipv4Addr::new(203, 0, 113, last) } else { EXTERNAL };
            let called = ([0x52, 0x54, 0, 0, 2, 4], Ipv4Addr::new(192, 168, 110, 21));
            let gateway = |to| ([0x52, 0x54, 0, 0, 1, 2], to);
            exchange(&mut world, ISOLATED, &Ends::new(called, gateway(REMOTES[0])).udp((6000, 53), b"open"));
            let (port, mac, address) = GUESTS[0];
            let call = Ends::new((mac, address), (GATEWAY_MAC, external(30))).udp((7000, 6000), b"hello");
            let (sent, _) = exchange(&mut world, port, &call);
            let [(ISOLATED, seen)] = &sent[..] else { panic!("{workers} {pools}: {sent:?}") };
            assert_eq!((seen.source, seen.ports), (external(20), (7000, 6000)));
            let back = Ends::new(called, gateway(external(20))).udp((6000, 7000), b"who calls?");
            let (sent, _) = exchange(&mut world, ISOLATED, &back);
            let [(GUEST_1, seen)] = &sent[..] else { panic!("{workers} {pools}: {sent:?}") };
            assert_eq!((seen.source, seen.destination), (external(30), address));
        }
    }
}
