//! Networks of one world joined by cables and plain segments, so that frames may go in circles.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use pontoon_engine::policy::{Policy, Tree};
use pontoon_engine::snapshot::{Port, Role};
use pontoon_engine::stp::{self, Board, Gate};
use pontoon_engine::{PortId, Snapshot, Time};

use crate::World;

/// Ports of one network: the host's first, then guests', then those for cables.
const STRIDE: PortId = 32;
const GUEST: PortId = 1;
const CABLES: PortId = 8;
/// Nanoseconds a frame needs to the other end.
const DELAY: u64 = 20_000;

/// Where a guest of network `index` is plugged in.
#[must_use]
pub fn guest(index: u16) -> PortId {
    index * STRIDE + GUEST
}

/// The `number`th port of network `index` that cables go into.
#[must_use]
pub fn socket(index: u16, number: u16) -> PortId {
    index * STRIDE + CABLES + number
}

/// The bridge identifier of network `index`; the first is the least and so the root.
#[must_use]
pub fn bridge_id(index: u16) -> u64 {
    (0x8000 << 48) | u64::from_be_bytes([0, 0, 0x52, 0x54, 0, 0, 7, index as u8])
}

type Flight = std::cmp::Reverse<(Time, u64, PortId, Vec<u8>)>;

pub struct Fabric {
    pub world: World,
    /// Each joins any number of ports; what one sends, all others get.
    pub segments: Vec<Vec<PortId>>,
    /// Segments that carry frames.
    pub up: Vec<bool>,
    networks: u16,
    flights: BinaryHeap<Flight>,
    count: u64,
    /// What came out of ports that are on no segment.
    pub delivered: BTreeMap<PortId, Vec<Vec<u8>>>,
    /// Frames that crossed a segment, BPDUs not counted.
    pub crossed: u64,
}

impl Fabric {
    /// `networks` with a spanning tree each, or none, and eight ports for cables.
    #[must_use]
    pub fn new(workers: u16, seed: u64, networks: u16, stp: bool, segments: &[Vec<PortId>]) -> Self {
        let mut world = World::with(workers, seed, 64, |snapshot| {
            snapshot.networks.clear();
            snapshot.uplinks.clear();
            snapshot.ports.clear();
            (0..networks).for_each(|index| add(snapshot, index, stp));
        });
        let early = world.advance(0);
        let mut fabric = Self {
            world,
            segments: segments.to_vec(),
            up: vec![true; segments.len()],
            networks,
            flights: BinaryHeap::new(),
            count: 0,
            delivered: BTreeMap::new(),
            crossed: 0,
        };
        fabric.launch(early);
        fabric
    }

    /// Plugs a segment in.
    pub fn connect(&mut self, ports: Vec<PortId>) {
        self.segments.push(ports);
        self.up.push(true);
    }

    /// A guest sends.
    pub fn send(&mut self, port: PortId, frame: &[u8]) {
        let sent = self.world.receive(port, frame);
        self.launch(sent);
    }

    fn launch(&mut self, sent: Vec<(PortId, Vec<u8>)>) {
        let due = Time(self.world.now.mono.0 + DELAY);
        for (port, frame) in sent {
            let Some(segment) = self.segments.iter().position(|ports| ports.contains(&port)) else {
                self.delivered.entry(port).or_default().push(frame);
                continue;
            };
            if !self.up[segment] {
                continue;
            }
            self.crossed += u64::from(frame.first() != Some(&1));
            for &other in self.segments[segment].iter().filter(|&&other| other != port) {
                self.count += 1;
                self.flights.push(std::cmp::Reverse((due, self.count, other, frame.clone())));
            }
        }
    }

    /// Lets time pass, frame by frame.
    ///
    /// # Panics
    /// When so many frames cross that it can only be a storm.
    pub fn run(&mut self, nanos: u64) {
        assert!(self.is_calm(nanos), "a storm");
    }

    /// Lets time pass, or stops at what can only be a storm.
    pub fn is_calm(&mut self, nanos: u64) -> bool {
        let end = Time(self.world.now.mono.0 + nanos);
        let before = self.count;
        loop {
            let flight = self.flights.peek().map(|flight| flight.0.0);
            let next = flight.into_iter().chain(self.world.next_timeout()).min().filter(|due| *due <= end);
            let Some(next) = next else { break };
            let sent = self.world.advance(next.0.saturating_sub(self.world.now.mono.0));
            self.launch(sent);
            while let Some(flight) = self.flights.peek().filter(|flight| flight.0.0 <= next) {
                let (port, frame) = (flight.0.2, flight.0.3.clone());
                self.flights.pop();
                let sent = self.world.receive(port, &frame);
                self.launch(sent);
            }
            if self.count - before > 100_000 {
                return false;
            }
        }
        let sent = self.world.advance(end.0 - self.world.now.mono.0);
        self.launch(sent);
        true
    }

    #[must_use]
    pub fn gate(&self, port: PortId) -> Gate {
        let network = self.world.snapshot.network(port / STRIDE);
        network.and_then(|network| network.policy.as_ref()).map_or(Gate::Open, |policy| policy.gate(port))
    }

    /// Whether open ports join all that segments join, without a loop.
    #[must_use]
    pub fn is_tree(&self) -> bool {
        let (open, looped) = self.walk(true);
        !looped && open == self.walk(false).0
    }

    fn walk(&self, only_open: bool) -> (Vec<usize>, bool) {
        let networks = usize::from(self.networks);
        let mut set: Vec<usize> = (0..networks + self.segments.len()).collect();
        let mut looped = false;
        for (segment, ports) in self.segments.iter().enumerate().filter(|(index, _)| self.up[*index]) {
            for &port in ports.iter().filter(|&&port| !only_open || self.gate(port) == Gate::Open) {
                let (one, other) = (set[usize::from(port / STRIDE)], set[networks + segment]);
                looped |= one == other;
                let (low, high) = (one.min(other), one.max(other));
                set.iter_mut().filter(|place| **place == high).for_each(|place| *place = low);
            }
        }
        set.truncate(networks);
        (set, looped)
    }

    /// Nanoseconds until there is a tree that then stays for two seconds.
    pub fn converge(&mut self, most: u64) -> Option<u64> {
        const STEP: u64 = 100_000;
        let start = self.world.now.mono.0;
        let mut since = None;
        while self.world.now.mono.0 - start < most + 2 * Time::SECOND {
            let now = self.world.now.mono.0;
            since = if self.is_tree() { since.or(Some(now)) } else { None };
            if since.is_some_and(|since| now - since > 2 * Time::SECOND) {
                return since.map(|since| since - start);
            }
            self.run(STEP);
        }
        None
    }
}

fn add(snapshot: &mut Snapshot, index: u16, stp: bool) {
    let first = index * STRIDE;
    let ports: Vec<PortId> =
        [first, first + GUEST].into_iter().chain((0..8).map(|n| socket(index, n))).collect();
    let mut network = crate::network(
        &format!("net{index}"),
        100 + index as u8,
        [0x52, 0x54, 0, 0, 7, index as u8],
        false,
        ports.clone(),
    );
    network.policy = stp.then(|| Box::new(Policy { tree: Some(tree(index, &ports)), ..Policy::default() }));
    snapshot.networks.push(Some(network));
    snapshot.ports.resize(usize::from(first + STRIDE), None);
    for &port in &ports {
        let role = if port == first { Role::Host { network: index } } else { Role::Guest { network: index } };
        snapshot.ports[usize::from(port)] = Some(Port { role, max_addresses: 64 });
    }
}

fn tree(index: u16, ports: &[PortId]) -> Tree {
    let config = stp::Config { id: bridge_id(index), max_age: 2000, hello: 200, forward_delay: 200 };
    let configs =
        (1..).zip(ports).map(|(number, &port)| stp::PortConfig { port, number, priority: 32, cost: 100 });
    Tree { config, ports: configs.collect(), board: Arc::new(Board::new([].into_iter())) }
}
