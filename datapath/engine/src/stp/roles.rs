//! The port role transitions machine (17.29): from a role to what the port does with frames.

use super::Bridge;
use super::port::{Port, Role};
use super::timer::Timer;
use super::vector::nanos;
use crate::time::Time;

/// What all ports have in common in one step.
struct Common {
    /// Delay before a port learns, and again before it forwards.
    delay: u64,
    all_synced: bool,
    /// Every other port that was the root port lately has given up that role safely.
    re_rooted: bool,
}

/// What a port asks of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    Taken,
    SyncTree,
    ReRootTree,
}

impl Bridge {
    /// One step of the port role transitions machine.
    pub(super) fn transition(&mut self, now: Time, index: usize) -> bool {
        let (hello, forward_delay) = (nanos(self.root_times.hello), nanos(self.root_times.forward_delay));
        let Some(port) = self.ports.get(index).filter(|port| port.is_settled()) else { return false };
        let delay = if port.send_rstp { hello } else { forward_delay };
        let leads = matches!(port.role, Role::Root | Role::Alternate | Role::Backup);
        let common = Common {
            delay,
            all_synced: leads && self.all_synced(),
            re_rooted: port.role == Role::Root && self.re_rooted(now, index),
        };
        let Some(port) = self.ports.get_mut(index) else { return false };
        if port.role != port.selected_role {
            port.change_role(now, delay, forward_delay, hello);
            return true;
        }
        let step = match port.role {
            Role::Root => port.root_step(now, &common),
            Role::Designated => port.designated_step(now, &common),
            Role::Alternate | Role::Backup => port.alternate_step(&common),
            Role::Disabled => Step::Idle,
        };
        match step {
            Step::SyncTree => self.ports.iter_mut().for_each(|port| port.sync = true),
            Step::ReRootTree => self.ports.iter_mut().for_each(|port| port.re_root = true),
            Step::Idle | Step::Taken => {}
        }
        step != Step::Idle
    }

    fn all_synced(&self) -> bool {
        let synced = |port: &Port| {
            port.is_settled() && port.role == port.selected_role && (port.role == Role::Root || port.synced)
        };
        self.ports.iter().all(synced)
    }

    fn re_rooted(&self, now: Time, index: usize) -> bool {
        self.ports.iter().enumerate().all(|(other, port)| other == index || port.rr.expired(now))
    }
}

impl Port {
    fn change_role(&mut self, now: Time, delay: u64, forward_delay: u64, hello: u64) {
        if self.role == Role::Backup {
            self.rb.release(now, 2 * hello);
        }
        self.role = self.selected_role;
        match self.role {
            Role::Root => {
                self.fd.release(now, delay);
                self.rr = Timer::Held;
            }
            Role::Designated => {
                self.fd.release(now, delay);
                self.rr.release(now, forward_delay);
            }
            Role::Alternate | Role::Backup | Role::Disabled => {
                (self.learn, self.forward) = (false, false);
                (self.sync, self.re_root, self.synced) = (false, false, true);
                (self.fd, self.rr) = (Timer::Held, Timer::EXPIRED);
                if self.role == Role::Backup {
                    self.rb = Timer::Held;
                }
            }
        }
    }

    fn root_step(&mut self, now: Time, common: &Common) -> Step {
        if self.proposed && !self.agree {
            self.proposed = false;
            return Step::SyncTree;
        }
        if (common.all_synced && !self.agree) || (self.proposed && self.agree) {
            (self.proposed, self.sync, self.agree) = (false, false, true);
            self.new_info = true;
            return Step::Taken;
        }
        if (self.agreed && !self.synced) || (self.sync && self.synced) {
            (self.synced, self.sync) = (true, false);
            return Step::Taken;
        }
        if !self.forward && !self.re_root {
            return Step::ReRootTree;
        }
        if self.re_root && self.forward {
            self.re_root = false;
            return Step::Taken;
        }
        let may = self.fd.expired(now) || (common.re_rooted && self.rb.expired(now));
        self.proceed(now, common.delay, may)
    }

    fn designated_step(&mut self, now: Time, common: &Common) -> Step {
        if !self.forward && !self.agreed && !self.proposing && !self.oper_edge {
            self.proposing = true;
            self.edge_delay = Timer::after(now, super::info::MIGRATE);
            self.new_info = true;
            return Step::Taken;
        }
        let quiet = !self.learn && !self.forward;
        if ((quiet || self.agreed || self.oper_edge) && !self.synced) || (self.sync && self.synced) {
            self.rr = Timer::EXPIRED;
            (self.synced, self.sync) = (true, false);
            return Step::Taken;
        }
        let retired = self.rr.expired(now);
        if retired && self.re_root {
            self.re_root = false;
            return Step::Taken;
        }
        let must_stop = (self.sync && !self.synced) || (self.re_root && !retired) || self.disputed;
        if must_stop && !self.oper_edge && !quiet {
            (self.learn, self.forward, self.disputed) = (false, false, false);
            self.fd = Timer::after(now, common.delay);
            return Step::Taken;
        }
        let may = (self.fd.expired(now) || self.agreed || self.oper_edge)
            && (retired || !self.re_root)
            && !self.sync;
        let step = self.proceed(now, common.delay, may);
        if step == Step::Taken && self.forward {
            self.agreed = self.send_rstp;
        }
        step
    }

    fn alternate_step(&mut self, common: &Common) -> Step {
        if self.sync || self.re_root || !self.synced {
            (self.sync, self.re_root, self.synced) = (false, false, true);
            return Step::Taken;
        }
        if self.proposed && !self.agree {
            self.proposed = false;
            return Step::SyncTree;
        }
        if (common.all_synced && !self.agree) || (self.proposed && self.agree) {
            (self.proposed, self.agree) = (false, true);
            self.new_info = true;
            return Step::Taken;
        }
        Step::Idle
    }

    /// From discarding to learning to forwarding, each when it may.
    fn proceed(&mut self, now: Time, delay: u64, may: bool) -> Step {
        if !may || (self.learn && self.forward) {
            return Step::Idle;
        }
        if self.learn {
            self.forward = true;
            self.fd = Timer::EXPIRED;
        } else {
            self.learn = true;
            self.fd = Timer::after(now, delay);
        }
        Step::Taken
    }
}
