//! What a bridge tells about itself.

use alloc::vec::Vec;

use pontoon_wire::bpdu::BridgeId;

use super::Bridge;
use super::port::{Port, Role, State};
use super::vector::Times;
use crate::snapshot::PortId;
use crate::time::Time;

/// Timers are nanoseconds that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub bridge: BridgeId,
    pub root: BridgeId,
    /// Number of the root port; 0 is none.
    pub root_port: u16,
    pub root_cost: u32,
    /// The root's.
    pub times: Times,
    pub hello_left: u64,
    pub tcn_left: u64,
    pub change_left: u64,
    /// A change is being told to neighbours; `detected`: one that this bridge saw first.
    pub changing: bool,
    pub detected: bool,
    /// Changes this bridge saw first, so far.
    pub changes: u64,
    pub ports: Vec<PortReport>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortReport {
    pub port: PortId,
    pub number: u16,
    pub id: u16,
    pub state: State,
    pub role: Role,
    pub edge: bool,
    /// The version spoken is 802.1w's.
    pub rapid: bool,
    pub cost: u32,
    pub designated_root: BridgeId,
    pub designated_cost: u32,
    pub designated_bridge: BridgeId,
    pub designated_port: u16,
    pub message_age_left: u64,
    pub forward_delay_left: u64,
    pub hold_left: u64,
    pub config_pending: bool,
    pub change_ack: bool,
}

impl Bridge {
    #[must_use]
    pub fn report(&self, now: Time) -> Report {
        let root_port = self.root_port.and_then(|index| self.port(index));
        let change_left = self.ports.iter().map(|port| port.tc.left(now)).max().unwrap_or(0);
        let hellos = self.ports.iter().filter(|port| port.role == Role::Designated);
        let tells = root_port.filter(|port| !port.send_rstp && !port.tc.expired(now));
        Report {
            bridge: self.config.id,
            root: self.root.root,
            root_port: root_port.map_or(0, |port| port.config.number),
            root_cost: self.root.cost,
            times: self.root_times,
            hello_left: hellos.map(|port| port.hello.left(now)).min().unwrap_or(0),
            tcn_left: tells.map_or(0, |port| port.hello.left(now)),
            change_left,
            changing: change_left > 0,
            detected: change_left > 0 && !self.detected.expired(now),
            changes: self.changes,
            ports: self.ports.iter().map(|port| port.report(now)).collect(),
        }
    }
}

impl Port {
    fn report(&self, now: Time) -> PortReport {
        PortReport {
            port: self.config.port,
            number: self.config.number,
            id: self.id,
            state: self.state(),
            role: self.role,
            edge: self.oper_edge,
            rapid: self.send_rstp,
            cost: self.config.cost,
            designated_root: self.vector.root,
            designated_cost: self.vector.cost,
            designated_bridge: self.vector.bridge,
            designated_port: self.vector.port,
            message_age_left: if self.role == Role::Designated { 0 } else { self.rcvd_info.left(now) },
            forward_delay_left: if self.state() == State::Forwarding { 0 } else { self.fd.left(now) },
            hold_left: if self.tx_count > 0 { self.tx_decay.left(now) } else { 0 },
            config_pending: self.new_info,
            change_ack: self.tc_ack,
        }
    }
}
