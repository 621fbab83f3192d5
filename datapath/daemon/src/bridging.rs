//! How a network's switch works: from control's document to the engine's policy, and back to reports.

use std::collections::BTreeSet;
use std::sync::Arc;

use pontoon_engine::PortId;
use pontoon_engine::policy::{Policy, Tree};
use pontoon_engine::snapshot::{Network, Snapshot};
use pontoon_engine::stp::{self, Board, PortReport, Report};
use pontoon_proto::document::{self, Document, Mac, Role, Stp};
use pontoon_proto::message::{PortRole, PortState, TreePort, TreeStatus};

/// Hundredths of a second, as a Linux bridge has them.
const MAX_AGE: (u32, u32) = (600, 4000);
const HELLO: (u32, u32) = (100, 1000);
const FORWARD_DELAY: (u32, u32) = (200, 3000);
const NUMBER: (u32, u32) = (1, 1023);
const PRIORITY: (u32, u32) = (0, 63);
const COST: (u32, u32) = (1, 65_535);

/// Gives every network of `snapshot` the policy its document asks for; trees of `before` stay.
///
/// # Errors
/// The field that is wrong, and why.
pub(crate) fn compile(document: &Document, snapshot: &mut Snapshot, before: &Snapshot) -> Result<(), String> {
    for (index, described) in document.networks.iter().enumerate() {
        let mut policy = Policy { floods_unknown: !described.bridging.fixed, ..Policy::default() };
        let mut plain = policy.floods_unknown;
        for (_, port) in ports(document, described.id) {
            if port.bridging.isolated {
                policy.isolated.insert(port.id);
            }
            if port.bridging.hairpin {
                policy.hairpin.insert(port.id);
            }
            plain &= !port.bridging.isolated && !port.bridging.hairpin;
        }
        if let Some(stp) = described.bridging.stp {
            check(&format!("networks[{index}].bridging.stp"), stp)?;
            policy.tree = Some(tree(document, described, stp, before)?);
            plain = false;
        }
        let network = snapshot.networks.get_mut(usize::from(described.id)).and_then(Option::as_mut);
        if let Some(network) = network.filter(|_| !plain) {
            network.policy = Some(Box::new(policy));
        }
    }
    Ok(())
}

/// The ports of a network whose link is not down, with their places in the document.
fn ports(document: &Document, network: u16) -> impl Iterator<Item = (usize, &document::Port)> {
    let belongs =
        move |role| matches!(role, Role::Host { network: n } | Role::Guest { network: n } if n == network);
    document.ports.iter().enumerate().filter(move |(_, port)| belongs(port.role) && !port.bridging.down)
}

fn tree(
    document: &Document,
    described: &document::Network,
    stp: Stp,
    before: &Snapshot,
) -> Result<Tree, String> {
    let (mut numbers, mut configs) = (BTreeSet::new(), Vec::new());
    for (index, port) in ports(document, described.id) {
        let (field, bridging) = (format!("ports[{index}].bridging"), &port.bridging);
        within(&format!("{field}.number"), bridging.number.into(), NUMBER)?;
        within(&format!("{field}.priority"), bridging.priority.into(), PRIORITY)?;
        within(&format!("{field}.cost"), bridging.cost, COST)?;
        if !numbers.insert(bridging.number) {
            return Err(format!("{field}.number: {} is used twice", bridging.number));
        }
        let &document::PortBridging { number, priority, cost, .. } = bridging;
        configs.push(stp::PortConfig { port: port.id, number, priority, cost });
    }
    let [a, b, c, d, e, f] = described.mac;
    let id = u64::from(stp.priority) << 48 | u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let Stp { max_age, hello, forward_delay, .. } = stp;
    let config = stp::Config { id, max_age, hello, forward_delay };
    let old = before.network(described.id).filter(|old| old.name == described.name);
    Ok(Tree { config, ports: configs, board: board(old) })
}

/// The board a tree had before; what forwarded without a tree goes on until the tree says otherwise.
fn board(old: Option<&Network>) -> Arc<Board> {
    let tree = old.and_then(|old| old.policy.as_ref()).and_then(|policy| policy.tree.as_ref());
    match tree {
        Some(tree) => Arc::clone(&tree.board),
        None => Arc::new(Board::new(old.into_iter().flat_map(|old| old.ports.iter().copied()))),
    }
}

fn check(field: &str, stp: Stp) -> Result<(), String> {
    within(&format!("{field}.max_age"), stp.max_age, MAX_AGE)?;
    within(&format!("{field}.hello"), stp.hello, HELLO)?;
    within(&format!("{field}.forward_delay"), stp.forward_delay, FORWARD_DELAY)
}

fn within(field: &str, value: u32, (least, most): (u32, u32)) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{field}: {value} is not between {least} and {most}"))
}

/// Brings what is shared by all snapshots up to date: ageing and static addresses.
pub(crate) fn settle(document: &Document, snapshot: &Snapshot) {
    for described in &document.networks {
        let Some(network) = snapshot.network(described.id) else { continue };
        network.macs.set_ageing(described.ageing_seconds);
        if described.bridging.fixed {
            network.macs.flush();
        }
        let pinned = |(_, port): (usize, &document::Port)| {
            let id = port.id;
            port.bridging.macs.iter().map(move |mac| (*mac, id)).collect::<Vec<(Mac, PortId)>>()
        };
        let entries: Vec<(Mac, PortId)> = ports(document, described.id).flat_map(pinned).collect();
        network.macs.replace_static(&entries);
    }
}

/// One tree as control hears of it.
#[must_use]
pub(crate) fn status(network: u16, report: &Report) -> TreeStatus {
    let seconds = |time: u16| (u32::from(time) * 100 + 128) / 256;
    TreeStatus {
        network,
        bridge: report.bridge,
        root: report.root,
        root_port: report.root_port,
        root_cost: report.root_cost,
        max_age: seconds(report.times.max_age),
        hello: seconds(report.times.hello),
        forward_delay: seconds(report.times.forward_delay),
        hello_timer: centis(report.hello_left),
        tcn_timer: centis(report.tcn_left),
        topology_change_timer: centis(report.change_left),
        topology_change: report.changing,
        topology_change_detected: report.detected,
        changes: report.changes,
        ports: report.ports.iter().map(port).collect(),
    }
}

fn port(report: &PortReport) -> TreePort {
    TreePort {
        port: report.port,
        number: report.number,
        id: report.id,
        state: match report.state {
            stp::State::Disabled => PortState::Disabled,
            stp::State::Blocking => PortState::Blocking,
            stp::State::Listening => PortState::Listening,
            stp::State::Learning => PortState::Learning,
            stp::State::Forwarding => PortState::Forwarding,
        },
        role: match report.role {
            stp::Role::Disabled => PortRole::Disabled,
            stp::Role::Root => PortRole::Root,
            stp::Role::Designated => PortRole::Designated,
            stp::Role::Alternate => PortRole::Alternate,
            stp::Role::Backup => PortRole::Backup,
        },
        edge: report.edge,
        rapid: report.rapid,
        cost: report.cost,
        designated_root: report.designated_root,
        designated_cost: report.designated_cost,
        designated_bridge: report.designated_bridge,
        designated_port: report.designated_port,
        message_age_timer: centis(report.message_age_left),
        forward_delay_timer: centis(report.forward_delay_left),
        hold_timer: centis(report.hold_left),
        config_pending: report.config_pending,
        topology_change_ack: report.change_ack,
    }
}

fn centis(nanos: u64) -> u32 {
    u32::try_from(nanos / 10_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "bridging_tests.rs"]
mod tests;
