//! A bridge of IEEE 802.1D-1998 (clause 8), as Linux has it: version 0 only, relays the root's messages, listens and
//! learns for the forward delay each. Only for tests; topology changes are told and acknowledged, nothing is flushed.

use alloc::vec;
use alloc::vec::Vec;

use pontoon_wire::bpdu::{Body, Bpdu, flag};

use crate::stp::Gate;
use crate::time::Time;

const HELLO: u64 = 2;
const MAX_AGE: u64 = 20;
const FORWARD_DELAY: u64 = 15;
const COST: u32 = 100;

type Send<'a> = &'a mut dyn FnMut(usize, Bpdu);
type Vector = (u64, u32, u64, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Blocking,
    Listening,
    Learning,
    Forwarding,
}

#[derive(Clone, Debug)]
struct Port {
    id: u16,
    state: State,
    /// Designated root, cost, bridge and port, as 8.5.5 has them.
    vector: Vector,
    message_age: Option<Time>,
    forward: Option<Time>,
    hold: Time,
    pending: bool,
    change_ack: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Legacy {
    id: u64,
    root: u64,
    cost: u32,
    root_port: Option<usize>,
    hello: Time,
    tcn: Option<Time>,
    changing: Option<Time>,
    ports: Vec<Port>,
}

impl Legacy {
    pub(super) fn new(id: u64, ports: usize, now: Time) -> Self {
        let port = |index: usize| {
            let number = 0x8001 + index as u16;
            let (state, forward) = (State::Listening, Some(now.after_secs(FORWARD_DELAY)));
            Port {
                id: number,
                state,
                vector: (id, 0, id, number),
                message_age: None,
                forward,
                hold: now,
                pending: false,
                change_ack: false,
            }
        };
        Self {
            id,
            root: id,
            cost: 0,
            root_port: None,
            hello: now.after_secs(HELLO),
            tcn: None,
            changing: None,
            ports: (0..ports).map(port).collect(),
        }
    }

    pub(super) fn gates(&self) -> Vec<Gate> {
        let gate = |port: &Port| match port.state {
            State::Forwarding => Gate::Open,
            State::Learning => Gate::Learning,
            _ => Gate::Closed,
        };
        self.ports.iter().map(gate).collect()
    }

    pub(super) fn next_timeout(&self) -> Time {
        let ports = self.ports.iter().flat_map(|port| {
            [port.message_age, port.forward, port.pending.then_some(port.hold)].into_iter().flatten()
        });
        ports.chain([self.hello]).chain(self.tcn).chain(self.changing).min().unwrap_or(self.hello)
    }

    fn is_root(&self) -> bool {
        self.root == self.id
    }

    fn is_designated(&self, index: usize) -> bool {
        let port = &self.ports[index];
        (port.vector.2, port.vector.3) == (self.id, port.id)
    }

    /// The port's link comes up.
    pub(super) fn plug(&mut self, now: Time, index: usize) {
        let own = (self.root, self.cost, self.id, self.ports[index].id);
        let port = &mut self.ports[index];
        (port.vector, port.message_age) = (own, None);
        (port.state, port.forward) = (State::Listening, Some(now.after_secs(FORWARD_DELAY)));
        self.update(now);
    }

    pub(super) fn receive(&mut self, now: Time, index: usize, bpdu: &Bpdu, send: Send<'_>) {
        match bpdu {
            // Linux drops every version but 0.
            Bpdu::Rst(_) => {}
            Bpdu::Tcn if self.is_designated(index) => {
                self.topology_change(now, send);
                self.ports[index].change_ack = true;
                self.transmit(now, index, send);
            }
            Bpdu::Tcn => {}
            Bpdu::Config(body) => self.configuration(now, index, body, send),
        }
    }

    fn configuration(&mut self, now: Time, index: usize, body: &Body, send: Send<'_>) {
        let heard: Vector = (body.root, body.cost, body.bridge, body.port);
        let was_root = self.is_root();
        let held = self.ports[index].vector;
        // As Linux: worse news of the same sender do not count before the old ones are too old.
        if heard <= held {
            let left = (MAX_AGE * 256).saturating_sub(u64::from(body.message_age)) * Time::SECOND / 256;
            self.ports[index].vector = heard;
            self.ports[index].message_age = Some(Time(now.0 + left));
            self.update(now);
            if was_root && !self.is_root() && self.changing.take().is_some() {
                self.tcn = Some(now.after_secs(HELLO));
                self.send_tcn(send);
            }
            if self.root_port == Some(index) {
                self.changing = (body.flags & flag::TOPOLOGY_CHANGE != 0)
                    .then(|| now.after_secs(MAX_AGE + FORWARD_DELAY));
                self.configure_others(now, send);
                if body.flags & flag::TOPOLOGY_CHANGE_ACK != 0 {
                    self.tcn = None;
                }
            }
        } else if self.is_designated(index) {
            self.transmit(now, index, send);
        }
    }

    fn update(&mut self, now: Time) {
        let own = (self.id, 0, self.id, 0);
        let mut best: (Vector, u16) = (own, 0);
        self.root_port = None;
        for (index, port) in self.ports.iter().enumerate() {
            if self.is_designated(index) || port.vector.0 >= self.id {
                continue;
            }
            let path = ((port.vector.0, port.vector.1 + COST, port.vector.2, port.vector.3), port.id);
            if path < best {
                best = path;
                self.root_port = Some(index);
            }
        }
        (self.root, self.cost) = if self.root_port.is_some() { (best.0.0, best.0.1) } else { (self.id, 0) };
        for index in 0..self.ports.len() {
            let own = (self.root, self.cost, self.id, self.ports[index].id);
            let port = &self.ports[index];
            if self.is_designated(index) || port.vector.0 != self.root || own < port.vector {
                self.ports[index].vector = own;
                self.ports[index].message_age = None;
            }
            self.select_state(now, index);
        }
    }

    fn select_state(&mut self, now: Time, index: usize) {
        let carries = self.root_port == Some(index) || self.is_designated(index);
        let port = &mut self.ports[index];
        if !carries {
            (port.state, port.forward, port.pending) = (State::Blocking, None, false);
        } else if port.state == State::Blocking {
            (port.state, port.forward) = (State::Listening, Some(now.after_secs(FORWARD_DELAY)));
        }
    }

    pub(super) fn tick(&mut self, now: Time, send: Send<'_>) {
        if self.hello <= now {
            self.hello = now.after_secs(HELLO);
            if self.is_root() {
                self.configure_others(now, send);
            }
        }
        for index in 0..self.ports.len() {
            self.port_timers(now, index, send);
        }
        if self.tcn.is_some_and(|due| due <= now) {
            self.tcn = Some(now.after_secs(HELLO));
            self.send_tcn(send);
        }
        self.changing = self.changing.filter(|due| *due > now);
    }

    fn port_timers(&mut self, now: Time, index: usize, send: Send<'_>) {
        if self.ports[index].message_age.is_some_and(|due| due <= now) {
            self.ports[index].message_age = None;
            self.ports[index].vector = (self.root, self.cost, self.id, self.ports[index].id);
            let was_root = self.is_root();
            self.update(now);
            if self.is_root() && !was_root {
                self.topology_change(now, send);
                self.configure_others(now, send);
            }
        }
        if self.ports[index].forward.is_some_and(|due| due <= now) {
            let port = &mut self.ports[index];
            (port.state, port.forward) = match port.state {
                State::Listening => (State::Learning, Some(now.after_secs(FORWARD_DELAY))),
                _ => (State::Forwarding, None),
            };
            if port.state == State::Forwarding {
                self.topology_change(now, send);
            }
        }
        if self.ports[index].pending && self.ports[index].hold <= now {
            self.transmit(now, index, send);
        }
    }

    fn configure_others(&mut self, now: Time, send: Send<'_>) {
        for index in 0..self.ports.len() {
            if self.is_designated(index) {
                self.transmit(now, index, send);
            }
        }
    }

    fn topology_change(&mut self, now: Time, send: Send<'_>) {
        if self.is_root() {
            self.changing = Some(now.after_secs(MAX_AGE + FORWARD_DELAY));
        } else if self.tcn.is_none() {
            self.tcn = Some(now.after_secs(HELLO));
            self.send_tcn(send);
        }
    }

    fn send_tcn(&self, send: Send<'_>) {
        if let Some(index) = self.root_port {
            send(index, Bpdu::Tcn);
        }
    }

    fn transmit(&mut self, now: Time, index: usize, send: Send<'_>) {
        if self.ports[index].hold > now {
            self.ports[index].pending = true;
            return;
        }
        let age = match self.root_port.and_then(|index| self.ports[index].message_age) {
            Some(due) => (MAX_AGE + 1) * 256 - due.0.saturating_sub(now.0) * 256 / Time::SECOND,
            None => 0,
        };
        let port = &mut self.ports[index];
        if age >= MAX_AGE * 256 {
            port.pending = false;
            return;
        }
        let changing = if self.changing.is_some() { flag::TOPOLOGY_CHANGE } else { 0 };
        let ack = if port.change_ack { flag::TOPOLOGY_CHANGE_ACK } else { 0 };
        (port.pending, port.change_ack, port.hold) = (false, false, now.after_secs(1));
        let body = Body {
            flags: changing | ack,
            root: self.root,
            cost: self.cost,
            bridge: self.id,
            port: port.id,
            message_age: age as u16,
            max_age: MAX_AGE as u16 * 256,
            hello: HELLO as u16 * 256,
            forward_delay: FORWARD_DELAY as u16 * 256,
        };
        send(index, Bpdu::Config(body));
    }
}

/// Nobody else to talk to: the model itself is sound.
#[test]
fn three_old_bridges_in_a_ring_block_one_port() {
    let ids = [1, 2, 3].map(|id| 0x8000_0000_0000_0000 | id);
    let lans = vec![vec![0, 1], vec![1, 2], vec![2, 0]];
    let mut net = super::net::Net::new(&ids, &[true; 3], &lans, 7);
    let took = net.converge(100).expect("a tree");
    assert!(took <= 2 * FORWARD_DELAY * Time::SECOND + Time::SECOND, "{took}");
    let open = net.members.iter().flat_map(|member| &member.gates).filter(|gate| **gate == Gate::Open);
    assert_eq!(open.count(), 5);
    assert_eq!(net.looped, 0);
}
