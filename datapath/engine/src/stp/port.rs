//! One port's variables (17.19 of IEEE 802.1D-2004), by the standard's names where it has any.

use pontoon_wire::bpdu::{Body, Bpdu, BridgeId, flag};

use super::board::Gate;
use super::timer::Timer;
use super::vector::{PORT_BITS, Times, Vector, nanos};
use crate::snapshot::PortId;
use crate::time::Time;

/// Settings of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortConfig {
    pub port: PortId,
    /// Its number on this bridge, 1 to 1023.
    pub number: u16,
    /// 0 to 63; less is better.
    pub priority: u8,
    pub cost: u32,
}

impl PortConfig {
    pub(super) fn id(&self) -> u16 {
        (u16::from(self.priority) << PORT_BITS) | (self.number & ((1 << PORT_BITS) - 1))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Disabled,
    Root,
    Designated,
    Alternate,
    Backup,
}

/// As the tools of 802.1D name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Disabled,
    Blocking,
    Listening,
    Learning,
    Forwarding,
}

/// Where a port's vector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Info {
    Disabled,
    Aged,
    Mine,
    Received,
}

/// Where the topology change machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Inactive,
    Learning,
    Active,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcn,
    Config,
    Rst,
}

impl Kind {
    /// Whether it carries a vector.
    pub(super) fn is_news(self) -> bool {
        self != Self::Tcn
    }
}

/// A BPDU as the machines see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) vector: Vector,
    pub(super) times: Times,
}

impl Message {
    pub(super) fn of(bpdu: &Bpdu) -> Self {
        let (kind, body) = match bpdu {
            Bpdu::Tcn => (Kind::Tcn, Body::default()),
            Bpdu::Config(body) => (Kind::Config, *body),
            Bpdu::Rst(body) => (Kind::Rst, *body),
        };
        // A configuration BPDU has two flags and is always a designated port's.
        let acknowledged = flag::TOPOLOGY_CHANGE | flag::TOPOLOGY_CHANGE_ACK;
        let flags = match kind {
            Kind::Rst => body.flags & !flag::TOPOLOGY_CHANGE_ACK,
            _ => body.flags & acknowledged | flag::ROLE_DESIGNATED,
        };
        Self { kind, flags, vector: Vector::of(&body), times: Times::of(&body) }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn role(&self) -> u8 {
        self.flags & flag::ROLE
    }

    /// Whether it is a designated port's, and `later` neither that port's nor a better one's.
    fn outranks(&self, later: &Self) -> bool {
        let leads = |message: &Self| message.kind.is_news() && message.role() == flag::ROLE_DESIGNATED;
        leads(self) && !(leads(later) && later.vector.supersedes(&self.vector))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) config: PortConfig,
    pub(super) id: u16,
    pub(super) info: Info,
    pub(super) vector: Vector,
    pub(super) times: Times,
    pub(super) designated: Vector,
    pub(super) designated_times: Times,
    pub(super) role: Role,
    pub(super) selected_role: Role,
    pub(super) change: Change,
    /// Taken in by the next run.
    pub(super) message: Option<Message>,
    /// Beyond the budget.
    pub(super) waiting: Option<Message>,
    pub(super) agree: bool,
    pub(super) agreed: bool,
    pub(super) disputed: bool,
    pub(super) fdb_flush: bool,
    pub(super) forward: bool,
    pub(super) learn: bool,
    pub(super) new_info: bool,
    pub(super) oper_edge: bool,
    pub(super) proposed: bool,
    pub(super) proposing: bool,
    pub(super) rcvd_tc: bool,
    pub(super) rcvd_tc_ack: bool,
    pub(super) rcvd_tcn: bool,
    pub(super) re_root: bool,
    pub(super) reselect: bool,
    pub(super) selected: bool,
    pub(super) send_rstp: bool,
    pub(super) sync: bool,
    pub(super) synced: bool,
    pub(super) tc_ack: bool,
    pub(super) tc_prop: bool,
    pub(super) updt_info: bool,
    pub(super) tx_count: u8,
    pub(super) edge_delay: Timer,
    pub(super) fd: Timer,
    pub(super) hello: Timer,
    pub(super) mdelay: Timer,
    pub(super) rb: Timer,
    pub(super) rcvd_info: Timer,
    pub(super) rr: Timer,
    pub(super) tc: Timer,
    pub(super) tx_decay: Timer,
    /// Until when it is taken for one side of a loop with itself.
    pub(super) looped: Timer,
    /// Bridge and port heard last, and until when it counts.
    pub(super) peer: ((BridgeId, u16), Timer),
    /// Until when the port is taken to be on a LAN with more than one other.
    pub(super) shared: Timer,
    /// What the workers were told.
    pub(super) published: Option<Gate>,
}

impl Port {
    pub(super) fn new(config: PortConfig) -> Self {
        Self {
            config,
            id: config.id(),
            info: Info::Disabled,
            vector: Vector::default(),
            times: Times::default(),
            designated: Vector::default(),
            designated_times: Times::default(),
            role: Role::Disabled,
            selected_role: Role::Disabled,
            change: Change::Inactive,
            message: None,
            waiting: None,
            agree: false,
            agreed: false,
            disputed: false,
            fdb_flush: false,
            forward: false,
            learn: false,
            new_info: true,
            oper_edge: true,
            proposed: false,
            proposing: false,
            rcvd_tc: false,
            rcvd_tc_ack: false,
            rcvd_tcn: false,
            re_root: false,
            reselect: true,
            selected: false,
            send_rstp: true,
            sync: false,
            synced: true,
            tc_ack: false,
            tc_prop: false,
            updt_info: false,
            tx_count: 0,
            edge_delay: Timer::EXPIRED,
            fd: Timer::Held,
            hello: Timer::EXPIRED,
            mdelay: Timer::EXPIRED,
            rb: Timer::EXPIRED,
            rcvd_info: Timer::EXPIRED,
            rr: Timer::EXPIRED,
            tc: Timer::EXPIRED,
            tx_decay: Timer::EXPIRED,
            looped: Timer::EXPIRED,
            peer: ((0, 0), Timer::EXPIRED),
            shared: Timer::EXPIRED,
            published: None,
        }
    }

    pub(super) fn reconfigure(&mut self, config: PortConfig, same_bridge: bool) {
        if self.config != config || !same_bridge {
            self.config = config;
            self.id = config.id();
            self.new_info = true;
        }
    }

    /// Asks for the roles to be selected anew.
    pub(super) fn reselect(&mut self) {
        self.reselect = true;
        self.selected = false;
    }

    /// The machines of roles and of transmission stand still until the new roles are known.
    pub(super) fn is_settled(&self) -> bool {
        self.selected && !self.updt_info
    }

    pub(super) fn gate(&self) -> Gate {
        match (self.learn, self.forward) {
            (true, true) => Gate::Open,
            (true, false) => Gate::Learning,
            _ => Gate::Closed,
        }
    }

    pub(super) fn state(&self) -> State {
        match (self.gate(), self.role) {
            (Gate::Open, _) => State::Forwarding,
            (Gate::Learning, _) => State::Learning,
            (Gate::Closed, Role::Root | Role::Designated) => State::Listening,
            (Gate::Closed, Role::Alternate | Role::Backup) => State::Blocking,
            (Gate::Closed, Role::Disabled) => State::Disabled,
        }
    }

    /// Takes note of who speaks. Where more than one does, an agreement may be meant for another (`operPointToPointMAC`).
    pub(super) fn hear(&mut self, now: Time, speaker: (BridgeId, u16)) {
        const REMEMBERED: u64 = 60 * Time::SECOND;
        let until = Timer::after(now, REMEMBERED);
        if self.peer.0 != speaker && !self.peer.1.expired(now) {
            self.shared = until;
        }
        self.peer = (speaker, until);
    }

    /// Takes note of a BPDU that says once more what the port holds already; false when it says more.
    pub(super) fn repeats(&mut self, now: Time, message: &Message) -> bool {
        const NEWS: u8 = flag::PROPOSAL | flag::TOPOLOGY_CHANGE | flag::TOPOLOGY_CHANGE_ACK;
        let same = self.info == Info::Received
            && self.is_settled()
            && self.waiting.is_none()
            && message.kind == (if self.send_rstp { Kind::Rst } else { Kind::Config })
            && message.role() == flag::ROLE_DESIGNATED
            && !message.has(NEWS)
            && (message.vector, message.times) == (self.vector, self.times);
        if same {
            self.refresh(now);
        }
        same
    }

    /// `updtRcvdInfoWhile`: what is held is good for three hellos, unless it is too old.
    pub(super) fn refresh(&mut self, now: Time) {
        let age = self.times.older().message_age;
        let fresh = if age <= self.times.max_age { 3 * nanos(self.times.hello) } else { 0 };
        self.rcvd_info = Timer::after(now, fresh);
    }

    /// Keeps the latest BPDU of the best who speaks, so that on a LAN of many no better root is missed; what others
    /// asked for is not forgotten.
    pub(super) fn wait(&mut self, message: Message) {
        const KEPT: u8 = flag::PROPOSAL | flag::TOPOLOGY_CHANGE | flag::TOPOLOGY_CHANGE_ACK;
        match &mut self.waiting {
            Some(waiting) if message.kind == Kind::Tcn => waiting.flags |= flag::TOPOLOGY_CHANGE,
            Some(waiting) if waiting.outranks(&message) => {
                waiting.flags |= message.flags & flag::TOPOLOGY_CHANGE;
            }
            Some(waiting) => {
                let earlier =
                    if waiting.kind == Kind::Tcn { flag::TOPOLOGY_CHANGE } else { waiting.flags & KEPT };
                *waiting = Message { flags: message.flags | earlier, ..message };
            }
            None => self.waiting = Some(message),
        }
    }

    /// The moment this port's machines have something to do by themselves.
    pub(super) fn next(&self, now: Time) -> Option<Time> {
        let held_back = self.new_info && self.tx_count > 0;
        let received = self.info == Info::Received;
        let moving = !(self.learn && self.forward);
        let timers = [
            (true, self.hello),
            (held_back, self.tx_decay),
            (received, self.rcvd_info),
            (moving, self.fd),
            (true, self.rr),
            (moving, self.rb),
            (self.proposing && self.send_rstp && !self.oper_edge, self.edge_delay),
            (true, self.tc),
            (true, self.looped),
        ];
        timers.into_iter().filter(|(counts, _)| *counts).filter_map(|(_, timer)| timer.deadline(now)).min()
    }
}
