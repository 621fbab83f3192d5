//! The topology change machine (17.31), and edges and protocol versions (17.25, 17.24).

use super::Bridge;
use super::info::MIGRATE;
use super::port::{Change, Info, Kind, Port, Role};
use super::timer::Timer;
use super::vector::nanos;
use crate::time::Time;

impl Bridge {
    /// The version to speak, and whether the port is an edge again.
    pub(super) fn migrate(&mut self, now: Time, index: usize) -> bool {
        let Some(port) = self.ports.get_mut(index) else { return false };
        let heard = port.message.as_ref().map(|message| message.kind);
        let was = (port.send_rstp, port.oper_edge);
        match heard {
            Some(Kind::Config | Kind::Tcn) if port.send_rstp => {
                port.send_rstp = false;
                port.mdelay = Timer::after(now, MIGRATE);
                port.new_info = true;
            }
            Some(Kind::Rst) if !port.send_rstp && port.mdelay.expired(now) => {
                port.send_rstp = true;
                port.mdelay = Timer::after(now, MIGRATE);
            }
            _ => {}
        }
        let silent = heard.is_none() && port.looped.expired(now) && port.edge_delay.expired(now);
        port.oper_edge |= silent && port.send_rstp && port.proposing && port.role == Role::Designated;
        // The loop behind the port is gone, or seems so: the port listens again before it opens.
        let recovers =
            port.info == Info::Mine && port.selected_role == Role::Backup && port.looped.expired(now);
        if recovers && port.is_settled() {
            port.reselect();
            return true;
        }
        was != (port.send_rstp, port.oper_edge)
    }

    /// One step of the topology change machine.
    pub(super) fn topology(&mut self, now: Time, index: usize) -> bool {
        let (hello, long) = (
            nanos(self.root_times.hello) + Time::SECOND,
            nanos(self.root_times.max_age) + nanos(self.root_times.forward_delay),
        );
        let Some(port) = self.ports.get_mut(index) else { return false };
        let carries = matches!(port.role, Role::Root | Role::Designated) && !port.oper_edge;
        match port.change {
            Change::Inactive if port.learn => {
                port.change = Change::Learning;
                port.forget_notices();
                true
            }
            Change::Inactive => false,
            Change::Learning if carries && port.forward => {
                port.change = Change::Active;
                port.start_tc(now, hello, long);
                port.new_info = true;
                self.detected = Timer::after(now, long);
                self.changes = self.changes.wrapping_add(1);
                self.others(index).for_each(|port| port.tc_prop = true);
                true
            }
            Change::Learning if !port.learn && !matches!(port.role, Role::Root | Role::Designated) => {
                port.change = Change::Inactive;
                port.fdb_flush = true;
                port.tc = Timer::EXPIRED;
                port.tc_ack = false;
                true
            }
            Change::Learning => port.forget_notices(),
            Change::Active if !carries => {
                port.change = Change::Learning;
                true
            }
            Change::Active => self.notice(now, index, hello, long),
        }
    }

    /// Takes one notice of a change elsewhere.
    fn notice(&mut self, now: Time, index: usize, hello: u64, long: u64) -> bool {
        let Some(port) = self.ports.get_mut(index) else { return false };
        if port.rcvd_tcn || port.rcvd_tc {
            if port.rcvd_tcn {
                port.start_tc(now, hello, long);
            }
            if port.role == Role::Designated {
                port.tc_ack = true;
            }
            (port.rcvd_tcn, port.rcvd_tc) = (false, false);
            self.others(index).for_each(|port| port.tc_prop = true);
        } else if port.tc_prop {
            port.start_tc(now, hello, long);
            port.fdb_flush = true;
            port.tc_prop = false;
        } else if port.rcvd_tc_ack {
            port.tc = Timer::EXPIRED;
            port.rcvd_tc_ack = false;
        } else {
            return false;
        }
        true
    }
}

impl Port {
    /// `newTcWhile`.
    fn start_tc(&mut self, now: Time, rapid: u64, long: u64) {
        if self.tc.expired(now) {
            self.tc = Timer::after(now, if self.send_rstp { rapid } else { long });
            self.new_info |= self.send_rstp;
        }
    }

    fn forget_notices(&mut self) -> bool {
        let any = self.rcvd_tc || self.rcvd_tcn || self.rcvd_tc_ack || self.tc_prop;
        (self.rcvd_tc, self.rcvd_tcn, self.rcvd_tc_ack, self.tc_prop) = (false, false, false, false);
        any
    }
}
