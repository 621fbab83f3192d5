//! The rapid spanning tree protocol (IEEE 802.1D-2004 clause 17), one [`Bridge`] a network, in virtual time.
//!
//! The standard's machines run side by side until none has anything to do; here [`Bridge::settle`] runs their steps in
//! turn until nothing changes, and only then BPDUs leave. What differs from the standard, and why:
//!
//! - Every port begins as an edge (`AdminEdge`): a guest's frames flow at once. The first BPDU heard ends that.
//! - A neighbour that speaks 802.1D is answered in kind at once, not after `MigrateTime`: a Linux bridge does not hear
//!   RST BPDUs at all, and with a forward delay of 2 s it would forward before it was spoken to.
//! - Whether a LAN is point-to-point is not asked of the device but heard: where two others speak, agreements do not
//!   count, and the timers decide. Proposals are answered all the same: else nobody would be heard there any more.
//! - A port that opened as an edge, or by the timers where several speak, opened without its neighbours' consent. When
//!   it becomes the root port it closes until the root port before it has, as if it had been closed all the time.
//! - A port that hears its own BPDUs closes for as long as it does: frames sent there come back.
//! - When the way to the root becomes worse or falls silent, what other ports heard before is asked for anew (`doubt`).
//!   The standard takes it at once; if it is an echo of a root that is gone, it goes round for up to 20 s and opens
//!   loops. Rarely one still goes round, held up by `TxHoldCount`; `MaxAge` ends that.
//! - A BPDU that only repeats what is known costs no run of the machines, others are let in by a [`Budget`] and wait
//!   (on each port the latest of the best that speaks) when it is spent. So no guest can make worker 0 work without bound.

mod board;
mod budget;
mod change;
mod info;
mod port;
mod report;
mod roles;
mod timer;
mod transmit;
mod vector;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use pontoon_wire::bpdu::{Bpdu, BridgeId};

use crate::snapshot::PortId;
use crate::time::Time;
use budget::Budget;
use port::{Message, Port};
use timer::Timer;

pub use board::{Board, Gate};
pub use port::{PortConfig, Role, State};
pub use report::{PortReport, Report};
pub use vector::{PORT_BITS, Times};
use vector::{Vector, from_centis, nanos};

/// Steps of all ports' machines before a run is given up; property tests stay far below.
const MOST_ROUNDS: usize = 256;

/// Settings of one bridge. Times in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub id: BridgeId,
    pub max_age: u32,
    pub hello: u32,
    pub forward_delay: u32,
}

impl Config {
    fn times(&self) -> Times {
        Times {
            message_age: 0,
            max_age: from_centis(self.max_age),
            hello: from_centis(self.hello),
            forward_delay: from_centis(self.forward_delay),
        }
    }
}

/// What the machines want done.
pub trait Effects {
    /// Sends a BPDU out of the port with this number.
    fn send(&mut self, port: PortId, number: u16, bpdu: &Bpdu);
    /// From now on the port does this with frames.
    fn gate(&mut self, port: PortId, gate: Gate);
    /// Forgets the addresses learned on these ports.
    fn flush(&mut self, ports: &[PortId]);
}

/// One bridge's share of the tree.
#[derive(Clone, Debug)]
pub struct Bridge {
    config: Config,
    ports: Vec<Port>,
    /// Ports that went since the last run.
    gone: Vec<PortId>,
    /// Best vector known, as this bridge would send it.
    root: Vector,
    /// Index of the port that leads to the root.
    root_port: Option<usize>,
    root_times: Times,
    budget: Budget,
    /// Until when this bridge tells of a change it saw itself.
    detected: Timer,
    /// Until when better news than those of this port, if it is one that has any, may be older ones.
    doubted: Option<(Timer, Option<usize>)>,
    changes: u64,
    next: Option<Time>,
}

impl Bridge {
    #[must_use]
    pub fn new(config: Config, now: Time) -> Self {
        Self {
            config,
            ports: Vec::new(),
            gone: Vec::new(),
            root: Vector { root: config.id, cost: 0, bridge: config.id, port: 0 },
            root_port: None,
            root_times: config.times(),
            budget: Budget::new(now),
            detected: Timer::EXPIRED,
            doubted: None,
            changes: 0,
            next: Some(now),
        }
    }

    /// Brings settings and ports up to date; if that changes anything, [`Bridge::run`] is due at once.
    pub fn configure(&mut self, now: Time, config: Config, ports: &[PortConfig]) {
        let same = self.config == config;
        let known = |wanted: &PortConfig| self.ports.iter().any(|port| port.config == *wanted);
        if same && self.ports.len() == ports.len() && ports.iter().all(known) {
            return;
        }
        self.config = config;
        let mut old = core::mem::take(&mut self.ports);
        for wanted in ports {
            let kept = old.iter().position(|port| port.config.port == wanted.port);
            let port = match kept.map(|index| old.swap_remove(index)) {
                Some(mut port) => {
                    port.reconfigure(*wanted, same);
                    port
                }
                None => Port::new(*wanted),
            };
            self.ports.push(port);
        }
        self.gone.extend(old.iter().map(|port| port.config.port));
        self.ports.sort_unstable_by_key(|port| port.config.port);
        (self.root_port, self.doubted) = (None, None);
        self.ports.iter_mut().for_each(Port::reselect);
        self.next = Some(now);
    }

    /// When [`Bridge::run`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.next
    }

    /// A BPDU arrived.
    pub fn receive(&mut self, now: Time, port: PortId, bpdu: &Bpdu, effects: &mut impl Effects) {
        let Some(index) = self.find(port) else { return };
        let message = Message::of(bpdu);
        let own = (self.config.id, self.ports.get(index).map_or(0, |port| port.id));
        let Some(port) = self.ports.get_mut(index) else { return };
        if message.kind.is_news() && (message.vector.bridge, message.vector.port) == own {
            port.looped = Timer::after(now, 3 * nanos(self.root_times.hello));
            (port.oper_edge, port.agreed, port.proposing) = (false, false, false);
            if port.selected_role != Role::Backup {
                port.reselect();
                self.run(now, effects);
            }
            return;
        }
        if message.kind.is_news() {
            port.hear(now, (message.vector.bridge, message.vector.port));
        }
        if port.repeats(now, &message) {
            return;
        }
        if port.waiting.is_none() && self.budget.take(now) {
            port.message = Some(message);
            self.run(now, effects);
        } else {
            port.wait(message);
            self.schedule(now);
        }
    }

    /// Frames behind `port` may be going in circles: asks by a BPDU, which finds out before more frames do.
    pub fn suspect(&mut self, now: Time, port: PortId, effects: &mut impl Effects) {
        let Some(index) = self.find(port) else { return };
        if !self.budget.take(now) {
            return;
        }
        if let Some(port) = self.ports.get_mut(index) {
            port.new_info |= port.send_rstp || port.role == Role::Designated;
        }
        self.run(now, effects);
    }

    /// Runs the machines as far as they go, tells the effects, and finds the next timeout.
    pub fn run(&mut self, now: Time, effects: &mut impl Effects) {
        self.admit_waiting(now);
        self.end_doubt(now);
        self.settle(now);
        self.publish(now, effects);
        self.schedule(now);
    }

    /// Lets in what waited for the budget.
    fn admit_waiting(&mut self, now: Time) {
        if !self.ports.iter().any(|port| port.waiting.is_some()) || !self.budget.take(now) {
            return;
        }
        for port in &mut self.ports {
            if port.message.is_none() {
                port.message = port.waiting.take();
            }
        }
    }

    fn settle(&mut self, now: Time) {
        for _ in 0..MOST_ROUNDS {
            let mut busy = false;
            for index in 0..self.ports.len() {
                busy |= self.migrate(now, index);
                busy |= self.information(now, index);
            }
            busy |= self.select_roles(now);
            for index in 0..self.ports.len() {
                busy |= self.transition(now, index);
                busy |= self.topology(now, index);
            }
            if !busy {
                return;
            }
        }
        debug_assert!(false, "the machines do not come to rest");
    }

    /// Closes and forgets, then sends, then opens: what a neighbour is told is true already.
    fn publish(&mut self, now: Time, effects: &mut impl Effects) {
        let mut flushed = Vec::new();
        self.gone.drain(..).for_each(|port| effects.gate(port, Gate::Closed));
        for port in &mut self.ports {
            let gate = port.gate();
            if port.published != Some(gate) && gate != Gate::Open {
                effects.gate(port.config.port, gate);
                port.published = Some(gate);
            }
            if core::mem::take(&mut port.fdb_flush) {
                flushed.push(port.config.port);
            }
        }
        if !flushed.is_empty() {
            effects.flush(&flushed);
        }
        for index in 0..self.ports.len() {
            self.transmit(now, index, effects);
        }
        for port in &mut self.ports {
            let gate = port.gate();
            if port.published != Some(gate) {
                effects.gate(port.config.port, gate);
                port.published = Some(gate);
            }
        }
    }

    fn schedule(&mut self, now: Time) {
        let ports = self.ports.iter().filter_map(|port| port.next(now));
        let waits = self.ports.iter().any(|port| port.waiting.is_some());
        let doubted = self.doubted.and_then(|(until, _)| until.deadline(now));
        self.next = ports.chain(doubted).chain(waits.then(|| self.budget.next(now))).min();
    }

    fn find(&self, port: PortId) -> Option<usize> {
        self.ports.binary_search_by_key(&port, |port| port.config.port).ok()
    }

    fn port(&self, index: usize) -> Option<&Port> {
        self.ports.get(index)
    }

    fn others(&mut self, index: usize) -> impl Iterator<Item = &mut Port> {
        self.ports.iter_mut().enumerate().filter(move |(other, _)| *other != index).map(|(_, port)| port)
    }
}
