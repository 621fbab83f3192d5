//! What brctl shows of a running network's switch.

use pontoon_proto::api::{MacInfo, Reply};
use pontoon_proto::bridge::{BridgePort, BridgeStp};
use pontoon_proto::document::Mac;
use pontoon_proto::message::{PortRole, PortState, TreePort, TreeStatus};

use crate::bridge::{self, BridgeSettings, HOST_NUMBER};
use crate::defaults::hex;
use crate::failure::{Answer, fail};
use crate::live::{Guest, LiveNetwork};
use crate::state::State;

impl State {
    /// The spanning tree of a bridge, as its state machine has it; without one, what a bridge without one shows.
    pub(crate) fn bridge_stp(&self, bridge: &str) -> Answer<Reply> {
        let live = self.live_bridge(bridge).map_err(|_| fail(format!("bridge {bridge} does not exist!")))?;
        let link = self.link()?;
        link.drain();
        let trees = link.status()?.trees;
        let tree = trees.into_iter().find(|tree| tree.network == live.id && live.network.bridge.stp);
        let settings = self.live.bridging.network(live.id);
        let mut stp = match &tree {
            Some(tree) => with_tree(live, tree),
            None => without_tree(live, &settings),
        };
        stp.bridge_max_age = settings.max_age;
        stp.bridge_hello_time = settings.hello;
        stp.bridge_forward_delay = shown_delay(live, &settings);
        stp.ageing_time = u64::from(settings.ageing_seconds) * 100;
        stp.ports = self.stp_ports(live, tree.as_ref(), &stp);
        Ok(Reply::Stp { stp: Box::new(stp) })
    }

    fn stp_ports(&self, live: &LiveNetwork, tree: Option<&TreeStatus>, stp: &BridgeStp) -> Vec<BridgePort> {
        let of_tree = |port: u16| tree.and_then(|tree| tree.ports.iter().find(|found| found.port == port));
        let guests = self.live.guests.iter().filter(|guest| guest.network == live.id);
        let mut ports: Vec<BridgePort> =
            guests.map(|guest| self.stp_port(live, guest, of_tree(guest.port), stp)).collect();
        ports.sort_by(|one, other| (&one.name, one.number).cmp(&(&other.name, other.number)));
        // The host's port is the bridge itself, unless somebody has bridged it further.
        if let Some(host) = of_tree(live.port).filter(|host| !host.edge) {
            ports.push(BridgePort { name: live.bridge().to_owned(), ..tree_port(host) });
        }
        ports
    }

    fn stp_port(
        &self,
        live: &LiveNetwork,
        guest: &Guest,
        tree: Option<&TreePort>,
        stp: &BridgeStp,
    ) -> BridgePort {
        let bridging = bridge::of_guest(&self.live, guest);
        let shown = match tree {
            Some(port) => tree_port(port),
            None => {
                let id = u16::from(bridging.priority) << 10 | bridging.number;
                let carries = !bridging.down && !live.network.bridge.stp;
                BridgePort {
                    number: bridging.number,
                    id,
                    state: word(if carries { PortState::Forwarding } else { PortState::Disabled }),
                    role: role(if carries { PortRole::Designated } else { PortRole::Disabled }),
                    designated_root: stp.designated_root.clone(),
                    designated_cost: stp.root_path_cost,
                    designated_bridge: stp.bridge_id.clone(),
                    designated_port: id,
                    path_cost: bridging.cost,
                    ..BridgePort::default()
                }
            }
        };
        let name = guest.ifname.clone();
        BridgePort { name, hairpin: bridging.hairpin, isolated: bridging.isolated, ..shown }
    }

    /// Addresses a bridge knows, its own first of all.
    pub(crate) fn bridge_macs(&self, bridge: &str) -> Answer<Reply> {
        let live = self.live_bridge(bridge).map_err(|_| fail(format!("bridge {bridge} does not exist!")))?;
        let link = self.link()?;
        link.drain();
        let status = link.status()?;
        let mac = live.network.mac.unwrap_or_default();
        let mut macs = vec![MacInfo { port: HOST_NUMBER, mac: hex(&mac), local: true, age_seconds: 0 }];
        let learned = status.macs.iter().filter(|entry| entry.network == live.id && entry.mac != mac);
        macs.extend(learned.map(|entry| MacInfo {
            port: self.port_number(live, entry.port),
            mac: hex(&entry.mac),
            local: false,
            age_seconds: entry.age_seconds,
        }));
        macs.sort_by(|one, other| one.mac.cmp(&other.mac));
        Ok(Reply::Macs { macs })
    }

    fn port_number(&self, live: &LiveNetwork, port: u16) -> u16 {
        if port == live.port { HOST_NUMBER } else { self.live.bridging.port(port).number }
    }
}

fn shown_delay(live: &LiveNetwork, settings: &BridgeSettings) -> u32 {
    let delay = if live.network.bridge.stp { bridge::running_delay } else { bridge::set_delay };
    delay(settings, &live.network)
}

fn with_tree(live: &LiveNetwork, tree: &TreeStatus) -> BridgeStp {
    BridgeStp {
        name: live.bridge().to_owned(),
        stp: true,
        bridge_id: id(tree.bridge),
        designated_root: id(tree.root),
        root_port: tree.root_port,
        root_path_cost: tree.root_cost,
        max_age: tree.max_age,
        hello_time: tree.hello,
        forward_delay: tree.forward_delay,
        hello_timer: tree.hello_timer,
        tcn_timer: tree.tcn_timer,
        topology_change_timer: tree.topology_change_timer,
        topology_change: tree.topology_change,
        topology_change_detected: tree.topology_change_detected,
        changes: tree.changes,
        ..BridgeStp::default()
    }
}

fn without_tree(live: &LiveNetwork, settings: &BridgeSettings) -> BridgeStp {
    let own = bridge_id(settings.priority, live.network.mac.unwrap_or_default());
    BridgeStp {
        name: live.bridge().to_owned(),
        stp: live.network.bridge.stp,
        bridge_id: own.clone(),
        designated_root: own,
        max_age: settings.max_age,
        hello_time: settings.hello,
        forward_delay: shown_delay(live, settings),
        ..BridgeStp::default()
    }
}

fn tree_port(port: &TreePort) -> BridgePort {
    BridgePort {
        number: port.number,
        id: port.id,
        state: word(port.state),
        role: role(port.role),
        edge: port.edge,
        rapid: port.rapid,
        designated_root: id(port.designated_root),
        path_cost: port.cost,
        designated_bridge: id(port.designated_bridge),
        designated_port: port.designated_port,
        designated_cost: port.designated_cost,
        message_age_timer: port.message_age_timer,
        forward_delay_timer: port.forward_delay_timer,
        hold_timer: port.hold_timer,
        config_pending: port.config_pending,
        topology_change_ack: port.topology_change_ack,
        ..BridgePort::default()
    }
}

fn word(state: PortState) -> String {
    let word = match state {
        PortState::Disabled => "disabled",
        PortState::Listening => "listening",
        PortState::Learning => "learning",
        PortState::Forwarding => "forwarding",
        PortState::Blocking => "blocking",
    };
    word.to_owned()
}

fn role(role: PortRole) -> String {
    let word = match role {
        PortRole::Disabled => "disabled",
        PortRole::Root => "root",
        PortRole::Designated => "designated",
        PortRole::Alternate => "alternate",
        PortRole::Backup => "backup",
    };
    word.to_owned()
}

pub(crate) fn bridge_id(priority: u16, mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac;
    id(u64::from(priority) << 48 | u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

fn id(id: u64) -> String {
    format!("{:04x}.{:012x}", id >> 48, id & 0xffff_ffff_ffff)
}
