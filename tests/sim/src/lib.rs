//! The real engine with N virtual workers in one deterministic process: virtual time, a seeded schedule, no root.
//!
//! A [`World`] owns the workers and moves frames between their ports; which worker gets a frame is drawn from the
//! seed, as a kernel may choose any queue. Nothing here sleeps or reads a clock.

pub mod fabric;
pub mod frames;
pub mod guest;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

use pontoon_engine::dhcp::{Config as Dhcp, Range};
use pontoon_engine::dns::{Config as Dns, Upstream};
use pontoon_engine::egress::{Event, LeaseChange};
use pontoon_engine::engine::Config;
use pontoon_engine::nat::Slot;
use pontoon_engine::snapshot::{Filtering, Forward, Network, Port, Role, Subnet, Uplink};
use pontoon_engine::switch::MacTable;
use pontoon_engine::{Egress, Engine, FrameRef, Now, PortId, Snapshot, Time};
use pontoon_wire::vnet;

/// Guests' ports of the standard world.
pub const GUEST_1: PortId = 1;
pub const GUEST_2: PortId = 2;
pub const ISOLATED: PortId = 4;
pub const UPLINK: PortId = 6;
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 1, 1];
pub const UPLINK_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 9, 9];
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

/// xorshift64*: the schedule is a function of the seed.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }
}

type Frame = (vnet::Header, Vec<u8>);

/// What the workers asked for.
#[derive(Default)]
struct Outbox {
    sent: Vec<(PortId, Frame)>,
    handed: VecDeque<(u16, PortId, Frame)>,
    leases: VecDeque<u32>,
    lease_changes: usize,
    queries: Vec<(u16, Vec<u8>)>,
    hand_offs: u64,
}

impl Egress for Outbox {
    fn transmit(&mut self, port: PortId, frame: FrameRef<'_>) {
        self.sent.push((port, (frame.vnet, frame.bytes.to_vec())));
    }

    fn hand_off(&mut self, worker: u16, ingress: PortId, frame: FrameRef<'_>) {
        self.hand_offs += 1;
        self.handed.push_back((worker, ingress, (frame.vnet, frame.bytes.to_vec())));
    }

    fn dns_query(&mut self, socket: u16, query: &[u8]) {
        self.queries.push((socket, query.to_vec()));
    }

    fn dns_query_tcp(&mut self, _resolver: u16, _ticket: u32, _query: &[u8]) {}

    fn lease(&mut self, _network: u16, ticket: u32, _change: LeaseChange<'_>) {
        self.leases.push_back(ticket);
        self.lease_changes += 1;
    }

    fn event(&mut self, _event: Event<'_>) {}
}

/// N workers and their ports.
pub struct World {
    pub now: Now,
    pub rng: Rng,
    pub snapshot: Arc<Snapshot>,
    engines: Vec<Engine>,
    outbox: Outbox,
}

impl World {
    /// A NAT network (guests 1 and 2, host 0), an isolated one (guest 4, host 3) and an uplink.
    #[must_use]
    pub fn new(workers: u16, seed: u64) -> Self {
        Self::with_slots(workers, seed, 4096)
    }

    #[must_use]
    pub fn with_slots(workers: u16, seed: u64, slots: usize) -> Self {
        Self::with(workers, seed, slots, |_| {})
    }

    /// The standard world with its configuration changed by `edit`, and `slots` sessions a worker.
    #[must_use]
    pub fn with(workers: u16, seed: u64, slots: usize, edit: impl FnOnce(&mut Snapshot)) -> Self {
        let now = Now { mono: Time::from_secs(1000), unix: 1_700_000_000 };
        let mut snapshot = standard();
        edit(&mut snapshot);
        let snapshot = Arc::new(snapshot);
        let engines = (0..workers)
            .map(|worker| {
                let memory = Box::leak(vec![Slot::default(); slots].into_boxed_slice());
                let mut engine = Engine::new(Config { worker, workers, seed }, memory, now);
                engine.apply(Arc::clone(&snapshot), now);
                engine
            })
            .collect();
        Self { now, rng: Rng(seed | 1), snapshot, engines, outbox: Outbox::default() }
    }

    /// Has every frame decided the long way, for comparison.
    pub fn take_long_way(&mut self) {
        self.engines.iter_mut().for_each(Engine::take_long_way);
    }

    /// Changes the configuration under way.
    pub fn reapply(&mut self, edit: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.snapshot);
        edit(&mut snapshot);
        self.snapshot = Arc::new(snapshot);
        for engine in &mut self.engines {
            engine.apply(Arc::clone(&self.snapshot), self.now);
        }
    }

    /// A frame arrives on `port`, at whichever worker the schedule draws; returns all frames sent because of it.
    pub fn receive(&mut self, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        self.receive_with(port, vnet::Header::default(), frame)
            .into_iter()
            .map(|(port, (_, bytes))| (port, bytes))
            .collect()
    }

    pub fn receive_with(&mut self, port: PortId, header: vnet::Header, frame: &[u8]) -> Vec<(PortId, Frame)> {
        let worker = self.rng.below(self.engines.len());
        let mut bytes = frame.to_vec();
        self.engines[worker].receive(self.now, port, header, &mut bytes, &mut self.outbox);
        self.settle();
        std::mem::take(&mut self.outbox.sent)
    }

    /// Lets time pass; returns what was sent meanwhile.
    pub fn advance(&mut self, nanos: u64) -> Vec<(PortId, Vec<u8>)> {
        let before = self.now.mono.secs();
        self.now.mono = Time(self.now.mono.0 + nanos);
        self.now.unix += self.now.mono.secs() - before;
        for engine in &mut self.engines {
            let mut turns = 0;
            while engine.next_timeout().is_some_and(|due| due <= self.now.mono) {
                engine.timeout(self.now, &mut self.outbox);
                turns += 1;
                assert!(turns < 1000, "an engine wants to be woken for what it has done already");
            }
        }
        self.settle();
        std::mem::take(&mut self.outbox.sent).into_iter().map(|(port, (_, bytes))| (port, bytes)).collect()
    }

    /// Runs hand-offs and disk writes until nothing moves.
    fn settle(&mut self) {
        loop {
            if let Some((worker, port, (header, mut bytes))) = self.outbox.handed.pop_front() {
                let engine = &mut self.engines[usize::from(worker)];
                engine.handed(self.now, port, header, &mut bytes, &mut self.outbox);
            } else if let Some(ticket) = self.outbox.leases.pop_front() {
                self.engines[0].lease_synced(self.now, ticket, true, &mut self.outbox);
            } else {
                return;
            }
        }
    }

    /// All workers run on another configuration from now on.
    pub fn apply(&mut self, snapshot: Snapshot) {
        self.snapshot = Arc::new(snapshot);
        for engine in &mut self.engines {
            engine.apply(Arc::clone(&self.snapshot), self.now);
        }
    }

    /// The spanning tree of a network.
    #[must_use]
    pub fn tree(&self, network: u16) -> Option<pontoon_engine::stp::Report> {
        self.engines[0].trees(self.now).find(|(id, _)| *id == network).map(|(_, report)| report)
    }

    /// When the first engine wants to be woken.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.engines.iter().filter_map(Engine::next_timeout).min()
    }

    /// Lease changes written to disk since the last call.
    pub fn take_lease_changes(&mut self) -> usize {
        std::mem::take(&mut self.outbox.lease_changes)
    }

    /// Queries sent to resolvers since the last call.
    pub fn take_queries(&mut self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.outbox.queries)
    }

    /// A resolver answers.
    pub fn resolver(&mut self, socket: u16, datagram: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        self.engines[0].dns_response(self.now, socket, datagram, &mut self.outbox);
        self.settle();
        std::mem::take(&mut self.outbox.sent).into_iter().map(|(port, (_, bytes))| (port, bytes)).collect()
    }

    #[must_use]
    pub fn sessions(&self) -> usize {
        self.engines.iter().map(Engine::sessions).sum()
    }

    #[must_use]
    pub fn hand_offs(&self) -> u64 {
        self.outbox.hand_offs
    }

    /// The most sessions any one worker has.
    #[must_use]
    pub fn fullest(&self) -> usize {
        self.engines.iter().map(Engine::sessions).max().unwrap_or(0)
    }

    /// Drops of all workers of one name.
    #[must_use]
    pub fn dropped(&self, name: &str) -> u64 {
        self.drops().iter().find(|(reason, _)| *reason == name).map_or(0, |&(_, count)| count)
    }

    /// Drops of all workers, in order of their names.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<(&'static str, u64)> = Vec::new();
        for (reason, count) in self.engines.iter().flat_map(|engine| engine.drops().iter()) {
            match all.iter_mut().find(|(name, _)| *name == reason.name()) {
                Some((_, sum)) => *sum += count,
                None => all.push((reason.name(), count)),
            }
        }
        all.sort_unstable();
        all
    }
}

pub(crate) fn network(name: &str, third: u8, mac: [u8; 6], nat: bool, ports: Vec<PortId>) -> Network {
    let gateway = Ipv4Addr::new(192, 168, third, 1);
    let (first, last) = (Ipv4Addr::new(192, 168, third, 10), Ipv4Addr::new(192, 168, third, 254));
    let anybody = Upstream { domain: None, resolvers: vec![0] };
    Network {
        name: name.into(),
        forward: if nat { Forward::Nat } else { Forward::Isolated },
        mac,
        subnet: Some(Subnet { address: gateway, prefix: 24 }),
        subnets: vec![Subnet { address: gateway, prefix: 24 }],
        routes: vec![],
        mtu: 1500,
        uplink: nat.then_some(0),
        nat_ports: (1024, 65535),
        nat_addresses: None,
        filtering: Filtering::default(),
        forwards: vec![],
        dhcp: Some(Dhcp {
            server: gateway,
            prefix: 24,
            ranges: vec![Range { first, last, lease_seconds: 3600 }],
            router: nat.then_some(gateway),
            dns: Some(gateway),
            mtu: 1500,
            ..Dhcp::default()
        }),
        dns: Dns {
            enabled: true,
            isolated: !nat,
            gateway,
            prefix: 24,
            upstreams: nat.then_some(anybody).into_iter().collect(),
            ..Dns::default()
        },
        macs: Arc::new(MacTable::new(u64::from(third))),
        policy: None,
        host: ports.first().copied(),
        ports,
    }
}

fn standard() -> Snapshot {
    let port = |role| Some(Port { role, max_addresses: 64 });
    let uplink = Uplink {
        name: "up0".into(),
        port: Some(UPLINK),
        mac: UPLINK_MAC,
        subnet: Some(Subnet { address: EXTERNAL, prefix: 24 }),
        gateway: Some(Ipv4Addr::new(203, 0, 113, 1)),
        mtu: 1500,
        leased: Arc::default(),
        shared: None,
    };
    Snapshot {
        generation: 1,
        networks: vec![
            Some(network("natntw", 100, GATEWAY_MAC, true, vec![0, GUEST_1, GUEST_2])),
            Some(network("hostntw", 110, [0x52, 0x54, 0, 0, 1, 2], false, vec![3, ISOLATED])),
        ],
        uplinks: vec![Some(uplink)],
        ports: vec![
            port(Role::Host { network: 0 }),
            port(Role::Guest { network: 0 }),
            port(Role::Guest { network: 0 }),
            port(Role::Host { network: 1 }),
            port(Role::Guest { network: 1 }),
            None,
            port(Role::Uplink { uplink: 0 }),
        ],
        resolvers: vec![1],
        sockets_per_resolver: 8,
    }
}
