//! What a port knows and from whom: the port information machine (17.27) and the selection of roles (17.28).

use core::cmp::Ordering;

use pontoon_wire::bpdu::{BridgeId, flag};

use super::Bridge;
use super::port::{Info, Kind, Message, Port, Role};
use super::timer::Timer;
use super::vector::Vector;
use crate::time::Time;

/// 17.13.9, `MigrateTime`.
pub(super) const MIGRATE: u64 = 3 * Time::SECOND;
/// How long a BPDU may be on its way from one bridge to the next.
const ECHO: u64 = Time::SECOND / 10;

impl Bridge {
    /// One step of the port information machine.
    pub(super) fn information(&mut self, now: Time, index: usize) -> bool {
        let Some(port) = self.ports.get_mut(index) else { return false };
        if port.info == Info::Disabled {
            port.info = Info::Aged;
            port.reselect();
            return true;
        }
        if port.selected && port.updt_info {
            port.take_own();
            return true;
        }
        if port.updt_info || port.info == Info::Aged {
            return false;
        }
        match port.message.take() {
            Some(message) => {
                self.take_in(now, index, &message);
                true
            }
            None if port.info == Info::Received && port.rcvd_info.expired(now) => {
                port.forget();
                if self.root_port == Some(index) {
                    self.doubt_all_but(now, None);
                }
                true
            }
            None => false,
        }
    }

    fn take_in(&mut self, now: Time, index: usize, message: &Message) {
        if self.is_echo(now, index, message) {
            return;
        }
        if self.ports.get_mut(index).is_some_and(|port| port.take_in(now, message)) {
            self.doubt(now, index);
        }
    }

    /// A neighbour's way to the root has become worse, and so it has on all its ports. If it was this bridge's way too,
    /// what others said before may be an echo of what is lost, which would go round and round until it is too old
    /// (and open loops on its way); so it has to be heard again before it counts.
    fn doubt(&mut self, now: Time, index: usize) {
        let Some(&Port { vector: news, times, .. }) = self.port(index) else { return };
        let root_port = self.root_port;
        let mut lost = root_port == Some(index);
        for (other, port) in self.ports.iter_mut().enumerate() {
            let old = port.info == Info::Received && port.vector.is_of_bridge(news.bridge);
            if old && (port.vector.root, port.vector.cost) < (news.root, news.cost) {
                (port.vector.root, port.vector.cost, port.times) = (news.root, news.cost, times);
                port.reselect();
                lost |= root_port == Some(other);
            }
        }
        if lost {
            self.doubt_all_but(now, Some((index, news.bridge)));
        }
    }

    /// Forgets what others said before, except the bridge that has the news, and for a while believes nothing better.
    fn doubt_all_but(&mut self, now: Time, news: Option<(usize, BridgeId)>) {
        self.doubted = Some((Timer::after(now, ECHO), news.map(|(index, _)| index)));
        let known = [Some(self.config.id), news.map(|(_, bridge)| bridge)];
        let doubtful = |port: &&mut Port| {
            port.info == Info::Received && !known.iter().flatten().any(|id| port.vector.is_of_bridge(*id))
        };
        self.ports.iter_mut().filter(doubtful).for_each(Port::forget);
    }

    /// Whether a message may have been on its way when the news came that the way to the root is worse.
    fn is_echo(&mut self, now: Time, index: usize, message: &Message) -> bool {
        let Some((until, news)) = self.doubted else { return false };
        if until.expired(now) || news == Some(index) || message.role() != flag::ROLE_DESIGNATED {
            return false;
        }
        let Some(port) = self.ports.get_mut(index) else { return false };
        let cost = message.vector.cost.saturating_add(port.config.cost);
        let better = message.kind.is_news() && (message.vector.root, cost) < (self.root.root, self.root.cost);
        if better {
            port.disputed |= core::mem::take(&mut port.oper_edge);
            port.edge_delay = Timer::after(now, MIGRATE);
        }
        better
    }

    /// When no echo can arrive any more: asks once more for what was not believed.
    pub(super) fn end_doubt(&mut self, now: Time) {
        if self.doubted.is_some_and(|(until, _)| until.expired(now)) {
            self.doubted = None;
            self.ports
                .iter_mut()
                .for_each(|port| port.new_info |= port.info == Info::Mine && !port.oper_edge);
        }
    }

    /// `updtRolesTree`: once some port asks for it, all roles are found anew.
    pub(super) fn select_roles(&mut self, now: Time) -> bool {
        if !self.ports.iter().any(|port| port.reselect) {
            return false;
        }
        self.find_root();
        let (root, times, own) = (self.root, self.root_times, self.config.id);
        for (index, port) in self.ports.iter_mut().enumerate() {
            port.designated = Vector { port: port.id, ..root };
            port.designated_times = times;
            let is_root = self.root_port == Some(index);
            (port.selected_role, port.updt_info) = port.role_for(now, is_root, own);
            (port.reselect, port.selected) = (false, true);
        }
        true
    }

    /// The best way to the root, this bridge itself included.
    fn find_root(&mut self) {
        let own = self.config.id;
        let mut best = Vector { root: own, cost: 0, bridge: own, port: 0 };
        let (mut times, mut through) = (self.config.times(), None);
        let mut best_port = 0;
        for (index, port) in self.ports.iter().enumerate() {
            if port.info != Info::Received || port.vector.is_of_bridge(own) {
                continue;
            }
            let cost = port.vector.cost.saturating_add(port.config.cost);
            let path = Vector { cost, ..port.vector };
            if path.cmp(&best).then(port.id.cmp(&best_port)) == Ordering::Less {
                (best, best_port) = (path, port.id);
                (times, through) = (port.times.older(), Some(index));
            }
        }
        self.root = Vector { bridge: own, port: 0, ..best };
        self.root_port = through;
        self.root_times = times;
    }
}

impl Port {
    /// UPDATE: the port has the bridge's own information.
    fn take_own(&mut self) {
        (self.proposing, self.proposed) = (false, false);
        self.agreed = self.agreed && self.info == Info::Mine && self.designated <= self.vector;
        self.synced = self.synced && self.agreed;
        (self.vector, self.times) = (self.designated, self.designated_times);
        self.updt_info = false;
        self.info = Info::Mine;
        self.new_info = true;
    }

    /// The port no longer knows of anybody better than this bridge.
    fn forget(&mut self) {
        self.info = Info::Aged;
        self.reselect();
    }

    /// RECEIVE and what follows from it. True when the port's information has become worse.
    fn take_in(&mut self, now: Time, message: &Message) -> bool {
        let was_edge = core::mem::take(&mut self.oper_edge);
        self.edge_delay = Timer::after(now, MIGRATE);
        if message.kind == Kind::Tcn {
            self.rcvd_tcn = true;
            return false;
        }
        if message.role() != flag::ROLE_DESIGNATED {
            if matches!(message.role(), flag::ROLE_ROOT | flag::ROLE_ALTERNATE)
                && message.vector >= self.vector
            {
                self.record_agreement(now, message);
                self.set_tc_flags(message);
            }
            return false;
        }
        let same = message.vector == self.vector;
        let worse = self.info == Info::Received && message.vector > self.vector;
        if message.vector.supersedes(&self.vector) && !(same && self.times == message.times) {
            if was_edge || (self.info == Info::Mine && !self.shared.expired(now)) {
                // It opened without all neighbours' consent: as the root port it waits for the one before it.
                (self.learn, self.forward) = (false, false);
            }
            self.take_superior(now, message);
            return worse;
        }
        if same && self.info == Info::Received {
            self.record_proposal(message);
            self.set_tc_flags(message);
            self.refresh(now);
        } else if !same {
            // Who thinks less of itself than this port does is to hear so; one that forwards already does not hear us.
            self.new_info |= self.info == Info::Mine;
            if message.has(flag::LEARNING) {
                (self.disputed, self.agreed) = (true, false);
            }
        }
        false
    }

    fn take_superior(&mut self, now: Time, message: &Message) {
        (self.agreed, self.proposing) = (false, false);
        self.record_proposal(message);
        self.set_tc_flags(message);
        self.agree = self.agree && self.info == Info::Received && message.vector <= self.vector;
        (self.vector, self.times) = (message.vector, message.times);
        self.refresh(now);
        self.info = Info::Received;
        self.reselect();
    }

    fn record_proposal(&mut self, message: &Message) {
        self.proposed |= message.has(flag::PROPOSAL);
    }

    fn record_agreement(&mut self, now: Time, message: &Message) {
        self.agreed = message.has(flag::AGREEMENT) && self.shared.expired(now);
        self.proposing = self.proposing && !self.agreed;
    }

    fn set_tc_flags(&mut self, message: &Message) {
        self.rcvd_tc |= message.has(flag::TOPOLOGY_CHANGE);
        self.rcvd_tc_ack |= message.has(flag::TOPOLOGY_CHANGE_ACK);
    }

    /// The role for what the port knows, and whether it takes the bridge's own information.
    fn role_for(&self, now: Time, is_root: bool, own: u64) -> (Role, bool) {
        let stale = (self.vector, self.times) != (self.designated, self.designated_times);
        match self.info {
            Info::Disabled => (Role::Disabled, false),
            Info::Aged => (Role::Designated, true),
            Info::Mine if !self.looped.expired(now) => (Role::Backup, false),
            Info::Mine => (Role::Designated, stale),
            Info::Received if is_root => (Role::Root, false),
            Info::Received if self.designated < self.vector => (Role::Designated, true),
            Info::Received if self.vector.is_of_bridge(own) => (Role::Backup, false),
            Info::Received => (Role::Alternate, false),
        }
    }
}
