//! The port transmit machine (17.26): what leaves, and when.

use pontoon_wire::bpdu::{Body, Bpdu, flag};

use super::port::{Port, Role};
use super::timer::Timer;
use super::vector::{SECOND, nanos};
use super::{Bridge, Effects};
use crate::time::Time;

/// 17.13.12, `TxHoldCount`: BPDUs of a port in one second.
const HOLD_COUNT: u8 = 6;

impl Bridge {
    /// Sends the BPDU that is due on a port, if one is.
    pub(super) fn transmit(&mut self, now: Time, index: usize, effects: &mut impl Effects) {
        let hello = nanos(self.root_times.hello);
        let age = self.root_port.and_then(|index| self.port(index)).map_or(0, |port| port.info_age(now));
        let Some(port) = self.ports.get_mut(index).filter(|port| port.is_settled()) else { return };
        if port.hello.expired(now) {
            port.hello = Timer::after(now, hello);
            port.new_info |=
                port.role == Role::Designated || (port.role == Role::Root && !port.tc.expired(now));
        }
        port.decay(now);
        if !port.new_info || port.tx_count >= HOLD_COUNT {
            return;
        }
        port.new_info = false;
        let Some(bpdu) = port.bpdu(now, age) else { return };
        if port.tx_count == 0 {
            port.tx_decay = Timer::after(now, Time::SECOND);
        }
        port.tx_count += 1;
        port.tc_ack = false;
        effects.send(port.config.port, port.config.number, &bpdu);
    }
}

impl Port {
    fn decay(&mut self, now: Time) {
        while self.tx_count > 0 && self.tx_decay.expired(now) {
            self.tx_count -= 1;
            let Timer::Until(due) = self.tx_decay else { return };
            self.tx_decay = Timer::after(due, Time::SECOND);
        }
    }

    /// What this role has to say in the version its neighbours speak.
    fn bpdu(&self, now: Time, age: u16) -> Option<Bpdu> {
        let changing = if self.tc.expired(now) { 0 } else { flag::TOPOLOGY_CHANGE };
        let bit = |set: bool, flag: u8| if set { flag } else { 0 };
        match (self.send_rstp, self.role) {
            (_, Role::Disabled) => None,
            (true, role) => {
                let role = match role {
                    Role::Root => flag::ROLE_ROOT,
                    Role::Designated => flag::ROLE_DESIGNATED,
                    _ => flag::ROLE_ALTERNATE,
                };
                let flags = changing
                    | role
                    | bit(self.proposing, flag::PROPOSAL)
                    | bit(self.learn, flag::LEARNING)
                    | bit(self.forward, flag::FORWARDING)
                    | bit(self.agree, flag::AGREEMENT);
                Some(Bpdu::Rst(self.body(flags)))
            }
            (false, Role::Designated) => {
                let flags = changing | bit(self.tc_ack, flag::TOPOLOGY_CHANGE_ACK);
                let body = self.body(flags);
                let message_age = body.message_age.saturating_add(age);
                Some(Bpdu::Config(Body { message_age, ..body }))
            }
            // 802.1D's root ports speak only of changes.
            (false, Role::Root) if changing != 0 => Some(Bpdu::Tcn),
            (false, _) => None,
        }
    }

    /// How old what the port holds has become, as on the wire: 802.1D's bridges add that to the age they tell, so that
    /// all of them give up a lost root at the same time.
    fn info_age(&self, now: Time) -> u16 {
        let age = (3 * nanos(self.times.hello)).saturating_sub(self.rcvd_info.left(now));
        u16::try_from(age * u64::from(SECOND) / Time::SECOND).unwrap_or(u16::MAX)
    }

    fn body(&self, flags: u8) -> Body {
        let (vector, times) = (self.designated, self.designated_times);
        Body {
            flags,
            root: vector.root,
            cost: vector.cost,
            bridge: vector.bridge,
            port: vector.port,
            message_age: times.message_age,
            max_age: times.max_age,
            hello: times.hello,
            forward_delay: times.forward_delay,
        }
    }
}
