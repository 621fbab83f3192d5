//! Frames through the engines of one or two workers.
//!
//! Input: the number of workers and the network's kind, then a sequence of port, flags, time, vnet header (if flagged) and frame (length
//! first).

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use pontoon_engine::egress::{Event, LeaseChange};
use pontoon_engine::engine::Config;
use pontoon_engine::nat::Slot;
use pontoon_engine::snapshot::{Forward, Route, Subnet};
use pontoon_engine::switch::MacTable;
use pontoon_engine::{Egress, Engine, FrameRef, Now, PortId, Snapshot, Time};
use pontoon_sim::{EXTERNAL, GATEWAY_MAC, ISOLATED, UPLINK, UPLINK_MAC, World};
use pontoon_wire::frame::{self, Packet};
use pontoon_wire::{checksum, ethernet, ipv4, put, vnet};

use crate::frames::vnet_header;
use crate::input::Input;

/// A vnet header comes before the frame.
pub const VNET: u8 = 1;
/// The checksums of the frame are made right.
pub const MEND: u8 = 2;
/// The frame is addressed to the gateway, or to the uplink's address.
pub const AIM: u8 = 4;
/// A resolver sends the bytes; they are no frame.
pub const RESOLVER: u8 = 8;
/// Lease writes fail from here on, or work again.
pub const DISK: u8 = 16;

const SLOTS: usize = 64;
const PORTS: PortId = 7;
const ISOLATED_HOST: PortId = 3;

type Given = (u16, PortId, vnet::Header, Vec<u8>);

/// What the network that leaves by the uplink is; added to the first octet of an input.
pub const ROUTE: u8 = 1 << 1;
pub const OPEN: u8 = 2 << 1;
pub const POOL: u8 = 3 << 1;
const KIND: u8 = 3 << 1;

const POOLED: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(203, 0, 113, 16), Ipv4Addr::new(203, 0, 113, 19));
/// The second subnet of a routed network, and the guest before a prefix.
pub(crate) const MORE: Subnet = Subnet { address: Ipv4Addr::new(192, 168, 128, 1), prefix: 24 };
pub(crate) const BEHIND: (Subnet, Ipv4Addr) =
    (Subnet { address: Ipv4Addr::new(10, 9, 0, 0), prefix: 16 }, Ipv4Addr::new(192, 168, 100, 10));

/// Receives what the engines send, and holds it against the invariants.
struct Watch {
    workers: u16,
    kind: u8,
    /// Where the frame at work came from; none for what time brings about.
    ingress: Option<PortId>,
    handed: VecDeque<Given>,
    leases: VecDeque<u32>,
    tcp: VecDeque<u32>,
}

fn is_isolated(port: PortId) -> bool {
    port == ISOLATED || port == ISOLATED_HOST
}

impl Egress for Watch {
    fn transmit(&mut self, port: PortId, frame: FrameRef<'_>) {
        assert!(port < PORTS && port != 5, "port {port} does not exist");
        assert!((ethernet::HEADER..=frame::MAX).contains(&frame.bytes.len()));
        assert!(frame::check(frame.vnet, frame.bytes).is_ok(), "{:?} does not fit the frame", frame.vnet);
        if let Some(ingress) = self.ingress {
            assert_eq!(is_isolated(ingress), is_isolated(port), "from port {ingress} to port {port}");
        }
        if port == UPLINK
            && let Some(packet) = Packet::parse(frame.bytes)
        {
            let pooled = self.kind == POOL && (POOLED.0..=POOLED.1).contains(&packet.source());
            // What the router says for itself of what came from outside, it says as whom it was spoken to.
            let routed = self.kind == ROUTE || self.kind == OPEN;
            assert!(
                packet.source() == EXTERNAL || pooled || routed,
                "a packet leaves with an inside address"
            );
        }
    }

    fn hand_off(&mut self, worker: u16, ingress: PortId, frame: FrameRef<'_>) {
        assert!(worker < self.workers, "worker {worker} does not exist");
        self.handed.push_back((worker, ingress, frame.vnet, frame.bytes.to_vec()));
    }

    fn dns_query(&mut self, socket: u16, _query: &[u8]) {
        assert!(socket < 8, "socket {socket} does not exist");
        assert!(!self.ingress.is_some_and(is_isolated), "an isolated network asks no resolver");
    }

    fn dns_query_tcp(&mut self, resolver: u16, ticket: u32, _query: &[u8]) {
        assert!(resolver < 1, "resolver {resolver} does not exist");
        assert!(!self.ingress.is_some_and(is_isolated), "an isolated network asks no resolver");
        self.tcp.push_back(ticket);
    }

    fn lease(&mut self, _network: u16, ticket: u32, _change: LeaseChange<'_>) {
        self.leases.push_back(ticket);
    }

    fn event(&mut self, _event: Event<'_>) {}
}

struct Run {
    engines: Vec<Engine>,
    watch: Watch,
    now: Now,
    disk: bool,
}

/// The simulation's network of a kind, with nothing learned.
fn snapshot(kind: u8) -> Snapshot {
    static STANDARD: OnceLock<Arc<Snapshot>> = OnceLock::new();
    let standard = STANDARD.get_or_init(|| World::with_slots(1, 1, 1).snapshot);
    let mut snapshot = Snapshot::clone(standard);
    if let Some(network) = &mut snapshot.networks[0] {
        match kind {
            POOL => network.nat_addresses = Some(POOLED),
            ROUTE | OPEN => {
                network.forward = if kind == ROUTE { Forward::Route } else { Forward::Open };
                network.subnets.push(MORE);
                network.routes = vec![Route { destination: BEHIND.0, gateway: BEHIND.1 }];
            }
            _ => {}
        }
    }
    for network in snapshot.networks.iter_mut().flatten() {
        network.macs = Arc::new(MacTable::new(1));
    }
    snapshot
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let shape = input.byte();
    let (workers, kind) = (u16::from(shape % 2) + 1, shape & KIND);
    let memory: Vec<*mut [Slot]> =
        (0..workers).map(|_| Box::into_raw(vec![Slot::default(); SLOTS].into_boxed_slice())).collect();
    let mut run = Run::new(&memory, kind);
    while !input.is_empty() {
        run.step(&mut input);
    }
    drop(run);
    for slots in memory {
        // SAFETY: the pointer came from a box, and the engine that used the slots is gone.
        drop(unsafe { Box::from_raw(slots) });
    }
}

impl Run {
    fn new(memory: &[*mut [Slot]], kind: u8) -> Self {
        let now = Now { mono: Time::from_secs(1000), unix: 1_700_000_000 };
        let (snapshot, workers) = (Arc::new(snapshot(kind)), memory.len() as u16);
        let engines = (0..workers).zip(memory).map(|(worker, &slots)| {
            // SAFETY: the slots are this engine's alone and outlive it.
            let slots: &'static mut [Slot] = unsafe { &mut *slots };
            let mut engine = Engine::new(Config { worker, workers, seed: 1 }, slots, now);
            engine.apply(Arc::clone(&snapshot), now);
            engine
        });
        let watch = Watch {
            workers,
            kind,
            ingress: None,
            handed: VecDeque::new(),
            leases: VecDeque::new(),
            tcp: VecDeque::new(),
        };
        Self { engines: engines.collect(), watch, now, disk: true }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (port, flags, time) = (input.byte(), input.byte(), input.byte());
        self.pass(time);
        self.disk ^= flags & DISK != 0;
        let header = if flags & VNET != 0 { vnet_header(input) } else { vnet::Header::default() };
        let mut frame = input.block().to_vec();
        if flags & RESOLVER != 0 {
            self.engines[0].dns_response(self.now, u16::from(port), &frame, &mut self.watch);
        } else {
            self.frame(port, flags, header, &mut frame);
        }
        self.settle();
    }

    fn pass(&mut self, time: u8) {
        let nanos = 1_u64 << (time % 40);
        let before = self.now.mono.secs();
        self.now.mono.0 += nanos;
        self.now.unix += self.now.mono.secs() - before;
        for engine in &mut self.engines {
            if engine.next_timeout().is_some_and(|due| due <= self.now.mono) {
                engine.timeout(self.now, &mut self.watch);
            }
        }
        self.settle();
    }

    fn frame(&mut self, port: u8, flags: u8, header: vnet::Header, frame: &mut [u8]) {
        let worker = usize::from(port >> 7) % self.engines.len();
        let port = PortId::from(port & 7);
        if flags & AIM != 0 {
            aim(port, frame);
        }
        if flags & MEND != 0 {
            mend(frame);
        }
        self.watch.ingress = Some(port);
        self.engines[worker].receive(self.now, port, header, frame, &mut self.watch);
    }

    fn settle(&mut self) {
        while let Some((worker, port, header, mut frame)) = self.watch.handed.pop_front() {
            self.watch.ingress = Some(port);
            let engine = &mut self.engines[usize::from(worker)];
            engine.handed(self.now, port, header, &mut frame, &mut self.watch);
        }
        self.watch.ingress = None;
        while let Some(ticket) = self.watch.leases.pop_front() {
            self.engines[0].lease_synced(self.now, ticket, self.disk, &mut self.watch);
        }
        while let Some(ticket) = self.watch.tcp.pop_front() {
            self.engines[0].dns_tcp_response(self.now, ticket, &[], &mut self.watch);
        }
        self.check();
    }

    fn check(&self) {
        assert!(self.watch.handed.is_empty(), "only frames that arrive are handed over");
        for engine in &self.engines {
            assert!(engine.sessions() <= SLOTS);
        }
    }
}

fn aim(port: PortId, frame: &mut [u8]) {
    let mac = match port {
        UPLINK => UPLINK_MAC,
        ISOLATED | ISOLATED_HOST => [0x52, 0x54, 0, 0, 1, 2],
        _ => GATEWAY_MAC,
    };
    put(frame, 0, &mac);
}

/// Makes the checksums of an IPv4 packet right.
fn mend(frame: &mut [u8]) {
    let Some(packet) = Packet::parse(frame) else { return };
    put(frame, ethernet::HEADER + 10, &[0, 0]);
    let sum = checksum::of(&frame[ethernet::HEADER..packet.l4]);
    put(frame, ethernet::HEADER + 10, &sum.to_be_bytes());
    let (field, pseudo) = match packet.ip.protocol {
        ipv4::TCP => (16, true),
        ipv4::UDP => (6, true),
        ipv4::ICMP => (2, false),
        _ => return,
    };
    if packet.ip.fragment_offset() > 0 {
        return;
    }
    put(frame, packet.l4 + field, &[0, 0]);
    let segment = &frame[packet.l4..packet.end];
    let mut sum = checksum::Sum::default().bytes(segment);
    if pseudo {
        sum = sum.pseudo(packet.source(), packet.destination(), packet.ip.protocol, segment.len() as u16);
    }
    put(frame, packet.l4 + field, &sum.finish().to_be_bytes());
}

/// One step of an input for [`run`].
#[must_use]
pub fn step(port: PortId, flags: u8, time: u8, header: &[u8], frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![port as u8, flags, time];
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&(frame.len() as u16).to_be_bytes());
    bytes.extend_from_slice(frame);
    bytes
}

/// Octets of [`EXTERNAL`] and its neighbour, for seeds.
pub(crate) const OUTSIDE: (Ipv4Addr, Ipv4Addr) = (EXTERNAL, Ipv4Addr::new(203, 0, 113, 80));
