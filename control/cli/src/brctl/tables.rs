//! What brctl prints, byte for byte.

use std::fmt::Write;

use pontoon_proto::api::{BridgeInfo, MacInfo};
use pontoon_proto::bridge::{BridgePort, BridgeStp};

use crate::tables::Format;

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// `show`; with `legacy` each bridge has the `-nic` dummy libvirt gave it up to 6.x.
pub(super) fn bridges(bridges: &[&BridgeInfo], format: Format) -> String {
    if bridges.is_empty() {
        return String::new();
    }
    let mut text = "bridge name\tbridge id\t\tSTP enabled\tinterfaces\n".to_owned();
    for bridge in bridges {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}\t\t{}\t{}\t\t", bridge.name, bridge.id, yes(bridge.stp));
        let dummy = (format == Format::Legacy).then(|| dummy(&bridge.name));
        let ports: Vec<String> = dummy.into_iter().chain(bridge.interfaces.iter().cloned()).collect();
        text.push_str(&ports.join("\n\t\t\t\t\t\t\t"));
        text.push('\n');
    }
    text
}

fn dummy(bridge: &str) -> String {
    format!("{bridge}-nic")
}

/// `showmacs`, sorted by address.
pub(super) fn macs(macs: &[MacInfo]) -> String {
    let mut sorted: Vec<&MacInfo> = macs.iter().collect();
    sorted.sort_by(|a, b| a.mac.cmp(&b.mac));
    let mut text = "port no\tmac addr\t\tis local?\tageing timer\n".to_owned();
    for entry in sorted {
        let age = entry.age_seconds;
        let _ = writeln!(text, "{:3}\t{}\t{}\t\t{age:4}.00", entry.port, entry.mac, yes(entry.local));
    }
    text
}

/// `showstp`.
pub(super) fn stp(stp: &BridgeStp, format: Format) -> String {
    let mut text = format!("{}\n bridge id\t\t{}\n", stp.name, stp.bridge_id);
    let mut line = |left: &str, value: &str, right: &str, other: &str| {
        let _ = writeln!(text, " {left}{value}\t\t\t{right}{other}");
    };
    let number = |value: u32| format!("{value:4}");
    let time = |value: u32| time(u64::from(value));
    let (root_port, cost) = (number(stp.root_port.into()), number(stp.root_path_cost));
    let root = format!("{}\n root port\t\t{root_port}", stp.designated_root);
    line("designated root\t", &root, "path cost\t\t", &cost);
    line("max age\t\t", &time(stp.max_age), "bridge max age\t\t", &time(stp.bridge_max_age));
    line("hello time\t\t", &time(stp.hello_time), "bridge hello time\t", &time(stp.bridge_hello_time));
    let delays = (time(stp.forward_delay), time(stp.bridge_forward_delay));
    line("forward delay\t\t", &delays.0, "bridge forward delay\t", &delays.1);
    let ageing = format!("{}\n hello timer\t\t{}", self::time(stp.ageing_time), time(stp.hello_timer));
    line("ageing time\t\t", &ageing, "tcn timer\t\t", &time(stp.tcn_timer));
    line("topology change timer\t", &time(stp.topology_change_timer), "gc timer\t\t", &time(0));
    let flags = [
        (stp.topology_change, "TOPOLOGY_CHANGE "),
        (stp.topology_change_detected, "TOPOLOGY_CHANGE_DETECTED "),
    ];
    let _ = writeln!(text, " flags\t\t\t{}\n\n", words(&flags));
    let nic = (format == Format::Legacy).then(|| nic(stp));
    nic.iter().chain(&stp.ports).for_each(|one| port(&mut text, one));
    text
}

/// The dummy was never up.
fn nic(stp: &BridgeStp) -> BridgePort {
    BridgePort {
        name: dummy(&stp.name),
        number: 1,
        id: 0x8001,
        state: "disabled".to_owned(),
        path_cost: 100,
        designated_root: stp.designated_root.clone(),
        designated_bridge: stp.bridge_id.clone(),
        designated_cost: stp.root_path_cost,
        designated_port: 0x8001,
        ..BridgePort::default()
    }
}

fn port(text: &mut String, port: &BridgePort) {
    let time = |value: u32| time(u64::from(value));
    let flags =
        [(port.config_pending, "CONFIG_PENDING "), (port.topology_change_ack, "TOPOLOGY_CHANGE_ACK ")];
    let hairpin = if port.hairpin { "\n hairpin mode\t\t   1" } else { "" };
    let _ = write!(
        text,
        "{} ({})
 port id\t\t{:04x}\t\t\tstate\t\t{:>15}
 designated root\t{}\tpath cost\t\t{:4}
 designated bridge\t{}\tmessage age timer\t{}
 designated port\t{:04x}\t\t\tforward delay timer\t{}
 designated cost\t{:4}\t\t\thold timer\t\t{}
 flags\t\t\t{}{hairpin}

",
        port.name,
        port.number,
        port.id,
        port.state,
        port.designated_root,
        port.path_cost,
        port.designated_bridge,
        time(port.message_age_timer),
        port.designated_port,
        time(port.forward_delay_timer),
        port.designated_cost,
        time(port.hold_timer),
        words(&flags),
    );
}

fn words(flags: &[(bool, &str)]) -> String {
    flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect()
}

/// Hundredths of a second, as `%4i.%.2i`.
fn time(hundredths: u64) -> String {
    format!("{:4}.{:02}", hundredths / 100, hundredths % 100)
}
