//! The engine with one worker, ready to be measured: neighbours known, addresses learned, sessions open.

pub mod coalesce;
pub mod guests;
pub mod taps;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use etherparse::PacketBuilder;
use pontoon_engine::egress::{Event, LeaseChange};
use pontoon_engine::engine::Config;
use pontoon_engine::nat::{Slot, owner};
use pontoon_engine::{Egress, Engine, FrameRef, Now, PortId, Time};
use pontoon_sim::{EXTERNAL, GATEWAY_MAC, GUEST_1, GUEST_2, UPLINK, UPLINK_MAC, World};
use pontoon_wire::{Mac, arp, be16, vnet};

/// Octets of every frame measured: the smallest Ethernet frames cost the most per octet.
pub const FRAME: usize = 64;
pub type Frame = [u8; FRAME];

/// Inside endpoints; sessions beyond this number share them and differ in the remote address.
pub const ENDPOINTS: usize = 32_768;
/// Guest addresses that the endpoints are spread over.
const ADDRESSES: usize = 200;
/// Addresses on each of two ports, 4096 together.
const CROWD: u16 = 2048;
const GUEST_MAC: Mac = [0x52, 0x54, 0, 0, 0, 1];
const OTHER_MAC: Mac = [0x52, 0x54, 0, 0, 0, 2];
const ROUTER_MAC: Mac = [0x52, 0x54, 0, 0, 7, 7];
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const REMOTE_PORT: u16 = 443;
const SOURCE_PORT_AT: usize = 34;

/// Takes frames and forgets them.
#[derive(Default)]
pub struct Discard {
    pub sent: u64,
}

impl Egress for Discard {
    fn transmit(&mut self, _port: PortId, frame: FrameRef<'_>) {
        black_box(frame.bytes.as_ptr());
        self.sent += 1;
    }

    fn hand_off(&mut self, _worker: u16, _ingress: PortId, _frame: FrameRef<'_>) {}

    fn dns_query(&mut self, _socket: u16, _query: &[u8]) {}

    fn dns_query_tcp(&mut self, _resolver: u16, _ticket: u32, _query: &[u8]) {}

    fn lease(&mut self, _network: u16, _ticket: u32, _change: LeaseChange<'_>) {}

    fn event(&mut self, _event: Event<'_>) {}
}

/// Remembers the source port of the last frame.
#[derive(Default)]
struct Capture {
    port: Option<u16>,
}

impl Egress for Capture {
    fn transmit(&mut self, _port: PortId, frame: FrameRef<'_>) {
        self.port = be16(frame.bytes, SOURCE_PORT_AT);
    }

    fn hand_off(&mut self, _worker: u16, _ingress: PortId, _frame: FrameRef<'_>) {}

    fn dns_query(&mut self, _socket: u16, _query: &[u8]) {}

    fn dns_query_tcp(&mut self, _resolver: u16, _ticket: u32, _query: &[u8]) {}

    fn lease(&mut self, _network: u16, _ticket: u32, _change: LeaseChange<'_>) {}

    fn event(&mut self, _event: Event<'_>) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// What a segment of a TCP connection is.
#[derive(Clone, Copy)]
enum Part {
    Open,
    Accept,
    Data,
}

/// One packet between two endpoints.
#[derive(Clone, Copy)]
struct Packet {
    macs: (Mac, Mac),
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    protocol: Protocol,
    part: Part,
}

impl Packet {
    fn frame(&self) -> Frame {
        let builder = PacketBuilder::ethernet2(self.macs.0, self.macs.1).ipv4(
            self.source.0.octets(),
            self.destination.0.octets(),
            64,
        );
        let (from, to) = (self.source.1, self.destination.1);
        let mut frame = [0; FRAME];
        let mut room = frame.as_mut_slice();
        let written = match (self.protocol, self.part) {
            (Protocol::Udp, _) => builder.udp(from, to).write(&mut room, &[0; 22]),
            (Protocol::Tcp, Part::Open) => builder.tcp(from, to, 100, 8192).syn().write(&mut room, &[]),
            (Protocol::Tcp, Part::Accept) => {
                builder.tcp(from, to, 500, 8192).syn().ack(101).write(&mut room, &[])
            }
            (Protocol::Tcp, Part::Data) => {
                let (sequence, acknowledged) = if to == REMOTE_PORT { (101, 501) } else { (501, 101) };
                builder.tcp(from, to, sequence, 8192).ack(acknowledged).write(&mut room, &[0; 10])
            }
        };
        assert!(written.is_ok(), "the frame has room for every packet");
        frame
    }
}

/// A worker and its clock.
pub struct Lab {
    pub engine: Engine,
    pub now: Now,
    workers: u16,
    pub out: Discard,
    externals: Vec<u16>,
}

impl Lab {
    /// Memory for `slots` sessions is never given back.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self::among(1, slots)
    }

    /// The first of several workers, with all addresses of [`Self::crowd`] allowed.
    #[must_use]
    pub fn among(workers: u16, slots: usize) -> Self {
        let now = Now { mono: Time::from_secs(1000), unix: 1_700_000_000 };
        let memory = Box::leak(vec![Slot::default(); slots].into_boxed_slice());
        let mut engine = Engine::new(Config { worker: 0, workers, seed: 7 }, memory, now);
        let world = World::with(1, 7, 64, |snapshot| {
            snapshot.ports.iter_mut().flatten().for_each(|port| port.max_addresses = CROWD);
        });
        engine.apply(Arc::clone(&world.snapshot), now);
        let mut lab = Self { engine, now, workers, out: Discard::default(), externals: Vec::new() };
        lab.receive(GUEST_2, &switched(OTHER_MAC, GUEST_MAC));
        lab.meet_router();
        lab
    }

    /// Packets of this inside port belong to the worker.
    fn is_mine(&self, session: usize) -> bool {
        owner(inside_port(session), self.workers) == 0
    }

    /// Learns addresses on two ports; frames from each of one to one of the other.
    pub fn crowd(&mut self) -> Vec<Frame> {
        let mac = |side: u8, n: u16| [0x52, 0x54, 1, side, (n >> 8) as u8, n as u8];
        (0..CROWD).for_each(|n| self.receive(GUEST_2, &switched(mac(2, n), GUEST_MAC)));
        let frames: Vec<Frame> = (0..CROWD).map(|n| switched(mac(1, n), mac(2, CROWD - 1 - n))).collect();
        frames.iter().for_each(|frame| self.receive(GUEST_1, frame));
        frames
    }

    fn meet_router(&mut self) {
        let first = (0..ENDPOINTS).find(|&session| self.is_mine(session)).unwrap_or_default();
        self.receive(GUEST_1, &outbound(first, Protocol::Udp, Part::Data));
        let reply = arp::Packet {
            operation: arp::REPLY,
            sender_mac: ROUTER_MAC,
            sender_ip: ROUTER,
            target_mac: UPLINK_MAC,
            target_ip: EXTERNAL,
        };
        let mut frame = [0; FRAME];
        reply.emit(&mut frame, UPLINK_MAC);
        self.receive(UPLINK, &frame);
    }

    /// The engine rewrites frames in place, so it gets a copy.
    #[inline]
    pub fn receive(&mut self, port: PortId, frame: &Frame) {
        let mut copy = *frame;
        self.engine.receive(self.now, port, vnet::Header::default(), &mut copy, &mut self.out);
    }

    /// [`Self::receive`] with its instructions counted. As in a worker, nothing is known of the frame before.
    #[inline]
    pub fn count(&mut self, port: PortId, frame: &Frame) {
        let (mut copy, vnet) = (*frame, vnet::Header::default());
        self.counted(black_box(port), black_box(vnet), black_box(&mut copy));
    }

    #[inline(never)]
    fn counted(&mut self, port: PortId, vnet: vnet::Header, frame: &mut [u8]) {
        self.engine.receive(self.now, port, vnet, frame, &mut self.out);
    }

    /// Sends a frame on without the engine: what [`Self::count`] counts besides it.
    #[inline]
    pub fn count_nothing(&mut self, port: PortId, frame: &Frame) {
        let (mut copy, vnet) = (*frame, vnet::Header::default());
        self.counted_nothing(black_box(port), black_box(vnet), black_box(&mut copy));
    }

    #[inline(never)]
    fn counted_nothing(&mut self, port: PortId, vnet: vnet::Header, frame: &mut [u8]) {
        self.out.transmit(port, FrameRef { vnet, bytes: frame });
    }

    /// Lets `nanos` pass and does what is due.
    pub fn pass(&mut self, nanos: u64) {
        self.now.mono.0 += nanos;
        if self.engine.next_timeout().is_some_and(|due| due <= self.now.mono) {
            self.engine.timeout(self.now, &mut self.out);
        }
    }

    /// Opens sessions `0..count` and has them answered.
    pub fn open(&mut self, count: usize, protocol: Protocol) {
        for session in 0..count {
            let mut capture = Capture::default();
            let mut frame = outbound(session, protocol, Part::Open);
            self.engine.receive(self.now, GUEST_1, vnet::Header::default(), &mut frame, &mut capture);
            if session < ENDPOINTS {
                self.externals.push(capture.port.unwrap_or_default());
            }
            let answer = self.inbound(session, protocol, Part::Accept);
            self.receive(UPLINK, &answer);
            self.receive(GUEST_1, &outbound(session, protocol, Part::Data));
        }
    }

    /// Frames of up to `limit` sessions, spread evenly over `count`.
    #[must_use]
    pub fn outbound_frames(&self, count: usize, limit: usize, protocol: Protocol) -> Vec<Frame> {
        let mine = spread(count, limit).filter(|&session| self.is_mine(session));
        mine.map(|session| outbound(session, protocol, Part::Data)).collect()
    }

    /// The answers to [`Self::outbound_frames`].
    #[must_use]
    pub fn inbound_frames(&self, count: usize, limit: usize, protocol: Protocol) -> Vec<Frame> {
        let mine = spread(count, limit).filter(|&session| self.is_mine(session));
        mine.map(|session| self.inbound(session, protocol, Part::Data)).collect()
    }

    fn inbound(&self, session: usize, protocol: Protocol, part: Part) -> Frame {
        let external = self.externals.get(session % ENDPOINTS).copied().unwrap_or_default();
        Packet {
            macs: (ROUTER_MAC, UPLINK_MAC),
            source: (remote(session), REMOTE_PORT),
            destination: (EXTERNAL, external),
            protocol,
            part,
        }
        .frame()
    }
}

/// Every `n`-th of `count` sessions, in an order that is not the one they were opened in.
fn spread(count: usize, limit: usize) -> impl Iterator<Item = usize> {
    // A prime that divides no count used here, so that no session comes twice.
    (0..count.min(limit)).map(move |step| step.wrapping_mul(7_368_787) % count)
}

fn inside_port(session: usize) -> u16 {
    2000 + (session % ENDPOINTS / ADDRESSES) as u16
}

fn remote(session: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 51, 0, 1).to_bits() + (session / ENDPOINTS) as u32)
}

fn outbound(session: usize, protocol: Protocol, part: Part) -> Frame {
    let endpoint = session % ENDPOINTS;
    let address = Ipv4Addr::new(192, 168, 100, 10 + (endpoint % ADDRESSES) as u8);
    Packet {
        macs: (GUEST_MAC, GATEWAY_MAC),
        source: (address, inside_port(session)),
        destination: (remote(session), REMOTE_PORT),
        protocol,
        part,
    }
    .frame()
}

/// The first packets of sessions that do not exist yet; no two of one inside endpoint.
#[must_use]
pub fn new_frames() -> Vec<Frame> {
    (1..ENDPOINTS).map(|session| outbound(session, Protocol::Udp, Part::Open)).collect()
}

/// A frame from one guest to another.
#[must_use]
pub fn switched(source: Mac, destination: Mac) -> Frame {
    Packet {
        macs: (source, destination),
        source: (Ipv4Addr::new(192, 168, 100, 20), 1000),
        destination: (Ipv4Addr::new(192, 168, 100, 21), 2000),
        protocol: Protocol::Udp,
        part: Part::Data,
    }
    .frame()
}

/// A frame from guest 1 to guest 2, whose place is known.
#[must_use]
pub fn known_unicast() -> Frame {
    switched(GUEST_MAC, OTHER_MAC)
}
