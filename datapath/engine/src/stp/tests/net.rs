//! Bridges joined by LANs. Every member of a LAN hears what another sends, some microseconds later.

use alloc::vec;
use alloc::vec::Vec;

use pontoon_wire::bpdu::Bpdu;

use super::legacy::Legacy;
use crate::snapshot::PortId;
use crate::stp::{Bridge, Config, Effects, Gate, PortConfig, Role};
use crate::time::Time;

/// A tree that stays this long stays for good: no information is older than 20 s.
pub(super) const SETTLED: u64 = 55 * Time::SECOND;
pub(super) const FORWARD_DELAY: u32 = 200;

pub(super) fn config(id: u64) -> Config {
    Config { id, max_age: 2000, hello: 200, forward_delay: FORWARD_DELAY }
}

pub(super) fn port(port: PortId) -> PortConfig {
    PortConfig { port, number: port + 1, priority: 32, cost: 100 }
}

#[derive(Debug)]
pub(super) enum Node {
    Rapid(Bridge),
    Legacy(Legacy),
}

/// One bridge, and what its workers would see.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: Node,
    /// LAN of each port.
    pub(super) lans: Vec<usize>,
    pub(super) gates: Vec<Gate>,
    pub(super) flushed: u32,
    outbox: Vec<(PortId, Bpdu)>,
}

struct Out<'a> {
    gates: &'a mut [Gate],
    flushed: &'a mut u32,
    outbox: &'a mut Vec<(PortId, Bpdu)>,
}

impl Effects for Out<'_> {
    fn send(&mut self, port: PortId, _number: u16, bpdu: &Bpdu) {
        self.outbox.push((port, *bpdu));
    }

    fn gate(&mut self, port: PortId, gate: Gate) {
        if let Some(place) = self.gates.get_mut(usize::from(port)) {
            *place = gate;
        }
    }

    fn flush(&mut self, ports: &[PortId]) {
        *self.flushed += ports.len() as u32;
    }
}

impl Member {
    fn with(&mut self, act: impl FnOnce(&mut Node, &mut Out<'_>)) {
        let mut out = Out { gates: &mut self.gates, flushed: &mut self.flushed, outbox: &mut self.outbox };
        act(&mut self.node, &mut out);
        if let Node::Legacy(bridge) = &self.node {
            self.gates = bridge.gates();
        }
    }

    fn next(&self) -> Option<Time> {
        match &self.node {
            Node::Rapid(bridge) => bridge.next_timeout(),
            Node::Legacy(bridge) => Some(bridge.next_timeout()),
        }
    }
}

/// A frame on its way.
#[derive(Debug)]
struct Flight {
    due: Time,
    to: (usize, PortId),
    bpdu: Bpdu,
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) members: Vec<Member>,
    /// Whether a LAN carries anything.
    pub(super) up: Vec<bool>,
    pub(super) sent: u64,
    flights: Vec<Flight>,
    /// Nanoseconds each LAN takes; what is sent first arrives first.
    delays: Vec<u64>,
    /// Nanoseconds in which some loop was closed.
    pub(super) looped: u64,
}

impl Net {
    /// `lans` lists the bridges on each; bridge `n` has the identifier given. `None` delays are the 1998 standard's.
    pub(super) fn new(ids: &[u64], legacy: &[bool], lans: &[Vec<usize>], seed: u64) -> Self {
        let now = Time::from_secs(1000);
        let mut ports: Vec<Vec<usize>> = vec![Vec::new(); ids.len()];
        for (lan, members) in lans.iter().enumerate() {
            members.iter().for_each(|&member| ports[member].push(lan));
        }
        let members = ids.iter().zip(legacy).zip(&ports).map(|((&id, &old), lans)| {
            let configs: Vec<PortConfig> = (0..lans.len()).map(|index| port(index as PortId)).collect();
            let node = if old {
                Node::Legacy(Legacy::new(id, lans.len(), now))
            } else {
                let mut bridge = Bridge::new(config(id), now);
                bridge.configure(now, config(id), &configs);
                Node::Rapid(bridge)
            };
            Member {
                node,
                lans: lans.clone(),
                gates: vec![Gate::Closed; lans.len()],
                flushed: 0,
                outbox: Vec::new(),
            }
        });
        let (members, up) = (members.collect(), vec![true; lans.len()]);
        let mut rng = seed | 1;
        let delays = lans.iter().map(|_| 5_000 + draw(&mut rng, 100_000)).collect();
        Self { now, members, up, sent: 0, flights: Vec::new(), delays, looped: 0 }
    }

    /// Lets time pass, event by event.
    pub(super) fn run(&mut self, nanos: u64) {
        let end = Time(self.now.0 + nanos);
        loop {
            let timers = self.members.iter().filter_map(Member::next);
            let due = timers.chain(self.flights.iter().map(|flight| flight.due)).min();
            let Some(due) = due.filter(|due| *due <= end).map(|due| due.max(self.now)) else { break };
            self.pass_to(due);
            self.deliver();
            self.timeouts();
            self.launch();
        }
        self.pass_to(end);
    }

    /// Plugs a LAN in or out. Guests are never quiet: the first frame that goes round makes rapid bridges ask. Old ones
    /// see their link.
    pub(super) fn turn(&mut self, lan: usize) {
        self.up[lan] = !self.up[lan];
        let now = self.now;
        if !self.up[lan] {
            return;
        }
        for member in &mut self.members {
            let ports = (0..).zip(&member.lans).filter(|(_, its)| **its == lan).map(|(port, _)| port);
            for port in ports.collect::<Vec<PortId>>() {
                member.with(|node, out| match node {
                    Node::Rapid(bridge) => bridge.suspect(now, port, out),
                    Node::Legacy(bridge) => bridge.plug(now, usize::from(port)),
                });
            }
        }
        self.launch();
    }

    fn pass_to(&mut self, then: Time) {
        if self.has_loop() {
            self.looped += then.0 - self.now.0;
        }
        self.now = then;
    }

    fn deliver(&mut self) {
        let now = self.now;
        self.flights.sort_by_key(|flight| flight.due);
        let count = self.flights.iter().take_while(|flight| flight.due <= now).count();
        for flight in self.flights.drain(..count).collect::<Vec<_>>() {
            let (member, port) = flight.to;
            let lan = self.members[member].lans[usize::from(port)];
            if !self.up[lan] {
                continue;
            }
            self.members[member].with(|node, out| match node {
                Node::Rapid(bridge) => bridge.receive(now, port, &flight.bpdu, out),
                Node::Legacy(bridge) => {
                    bridge.receive(now, usize::from(port), &flight.bpdu, &mut |port, bpdu| {
                        out.outbox.push((port as PortId, bpdu));
                    });
                }
            });
        }
    }

    fn timeouts(&mut self) {
        let now = self.now;
        for member in &mut self.members {
            let mut turns = 0;
            while member.next().is_some_and(|due| due <= now) {
                member.with(|node, out| match node {
                    Node::Rapid(bridge) => bridge.run(now, out),
                    Node::Legacy(bridge) => bridge.tick(now, &mut |port, bpdu| {
                        out.outbox.push((port as PortId, bpdu));
                    }),
                });
                turns += 1;
                assert!(turns < 10, "a bridge wants to run without end");
            }
        }
    }

    fn launch(&mut self) {
        for from in 0..self.members.len() {
            for (port, bpdu) in core::mem::take(&mut self.members[from].outbox) {
                self.sent += 1;
                let lan = self.members[from].lans[usize::from(port)];
                let due = Time(self.now.0 + self.delays[lan]);
                for (member, port) in self.on_lan(lan, (from, port)) {
                    if self.up[lan] {
                        self.flights.push(Flight { due, to: (member, port), bpdu });
                    }
                }
            }
        }
    }

    fn on_lan(&self, lan: usize, but: (usize, PortId)) -> Vec<(usize, PortId)> {
        let mut found = Vec::new();
        for (member, its) in self.members.iter().enumerate() {
            for (port, _) in its.lans.iter().enumerate().filter(|(_, other)| **other == lan) {
                if (member, port as PortId) != but {
                    found.push((member, port as PortId));
                }
            }
        }
        found
    }

    pub(super) fn has_loop(&self) -> bool {
        self.walk(true).1
    }

    /// Whether everything that is joined by LANs is joined by open ports as well, and without a loop.
    pub(super) fn is_tree(&self) -> bool {
        let (open, looped) = self.walk(true);
        !looped && open == self.walk(false).0
    }

    /// Joins bridges and LANs by their ports (all, or open ones) into sets, and says whether a loop was found.
    fn walk(&self, only_open: bool) -> (Vec<usize>, bool) {
        let bridges = self.members.len();
        let mut set: Vec<usize> = (0..bridges + self.up.len()).collect();
        let mut looped = false;
        for (member, its) in self.members.iter().enumerate() {
            for (&lan, gate) in its.lans.iter().zip(&its.gates) {
                if !self.up[lan] || (only_open && *gate != Gate::Open) {
                    continue;
                }
                let (one, other) = (set[member], set[bridges + lan]);
                looped |= one == other;
                let (low, high) = (one.min(other), one.max(other));
                set.iter_mut().filter(|place| **place == high).for_each(|place| *place = low);
            }
        }
        // LANs stand apart when they are down; the bridges' sets are what counts.
        set.truncate(bridges);
        (set, looped)
    }

    /// Runs until there has been a tree for some seconds; how long it took to come to it.
    pub(super) fn converge(&mut self, most_seconds: u64) -> Option<u64> {
        let (start, step) = (self.now, 10_000_000);
        let mut tree_since = None;
        while self.now.0 - start.0 < most_seconds * Time::SECOND {
            self.run(step);
            tree_since = if self.is_tree() { tree_since.or(Some(self.now)) } else { None };
            if let Some(since) = tree_since.filter(|since| self.now.0 - since.0 > SETTLED) {
                return Some(since.0 - start.0);
            }
        }
        None
    }

    pub(super) fn role(&self, member: usize, port: usize) -> Role {
        match &self.members[member].node {
            Node::Rapid(bridge) => bridge.report(self.now).ports[port].role,
            Node::Legacy(_) => Role::Disabled,
        }
    }

    pub(super) fn bridge(&mut self, member: usize) -> &mut Bridge {
        match &mut self.members[member].node {
            Node::Rapid(bridge) => bridge,
            Node::Legacy(_) => panic!("a bridge of the other kind"),
        }
    }
}

fn draw(rng: &mut u64, below: u64) -> u64 {
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    *rng % below
}
