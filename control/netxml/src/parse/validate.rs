//! Checks that concern more than one element.

use std::collections::HashMap;

use super::cx::{Cx, Node, Result, attr, child, children, filled};
use crate::error::{Class, Error};
use crate::{DhcpHost, Mode, Network, mac_string, value};

/// The checks of the format.
pub(super) fn definition(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let at = |name| child(root, name).unwrap_or(root);
    let (mode, name) = (network.forward.mode, &cx.name);
    match mode {
        Mode::Isolated => {}
        Mode::Nat | Mode::Route => {
            if network.ips.is_empty() {
                let message =
                    format!("{mode} forwarding requested, but no IP address provided for network '{name}'");
                let error = cx.error(at("forward"), Class::Xml, &message);
                return Err(error.with_help("add <ip address='192.168.100.1' netmask='255.255.255.0'/>"));
            }
            if network.forward.interfaces.len() > 1 {
                let message = format!(
                    "multiple forwarding interfaces specified for network '{name}', only one is supported"
                );
                return Err(cx.error(at("forward"), Class::Xml, &message).with_help("keep one <interface>"));
            }
        }
        Mode::Open => {
            if !network.forward.interfaces.is_empty() || !network.forward.addresses.is_empty() {
                let message =
                    format!("forward dev not allowed for network '{name}' with forward mode='{mode}'");
                let help = "remove dev, or write mode='route'";
                return Err(cx.xml(at("forward"), "dev", &message).with_help(help));
            }
        }
        _ => pool_mode(cx, root, network)?,
    }
    match child(root, "mtu").filter(|_| network.mtu.is_some() && !mode.owns_bridge()) {
        None => Ok(()),
        Some(node) => {
            let message = format!(
                "mtu size only allowed in open, route, nat, and isolated mode, not in {mode} (network '{name}')"
            );
            Err(cx.error(node, Class::Xml, &message).with_help("the device of the host has its own MTU"))
        }
    }
}

/// Modes that use a device of the host rather than a bridge of their own.
fn pool_mode(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let (mode, name, bridge) = (network.forward.mode, &cx.name, &network.bridge);
    let Some(node) = child(root, "bridge") else { return Ok(()) };
    let fail = |attribute: &str, what: &str| {
        let error = cx.xml(node, attribute, &format!("{what} not allowed in {mode} mode (network '{name}')"));
        Err(error.with_help(format!("remove {attribute}='..' from <bridge>")))
    };
    if mode != Mode::Bridge {
        if bridge.name.is_some() {
            return fail("name", "bridge name");
        }
        if bridge.zone.is_some() {
            return fail("zone", "bridge zone");
        }
        if bridge.mac_table_manager.is_some() {
            return fail("macTableManager", "bridge macTableManager setting");
        }
    }
    let delay = (bridge.delay > 0).then_some("delay");
    let option = delay.or(filled(node, "stp").map(|_| "stp")).or(bridge.zone.as_ref().map(|_| "zone"));
    if let Some(option) = option {
        let message = format!(
            "bridge delay/stp/zone options only allowed in route, nat, and isolated mode, not in {mode} (network '{name}')"
        );
        return Err(cx.xml(node, option, &message).with_help("the bridge of the host has its own settings"));
    }
    let forward = &network.forward;
    let pool = !forward.interfaces.is_empty() || !forward.addresses.is_empty() || !forward.pfs.is_empty();
    if bridge.name.is_some() && pool {
        let message = format!(
            "A network with forward mode='{mode}' can specify a bridge name or a forward dev, but not both (network '{name}')"
        );
        return Err(cx.xml(node, "name", &message).with_help("remove one of the two"));
    }
    Ok(())
}

/// The checks on what a network of its mode can support. What can not run but may stay on disk is
/// refused at its start, see [`Network::unsupported`].
pub(super) fn driver(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    if let Some(node) = child(root, "name").filter(|_| network.name.contains('\n')) {
        let error = cx.error(node, Class::Plain, "invalid char in name: \n");
        return Err(error.with_help("a name is one line of text"));
    }
    if network.forward.mode == Mode::Bridge {
        unsupported_elements(cx, root, network)?;
    }
    dhcp_sections(cx, root, network)?;
    portgroups(cx, root, network)?;
    duplicate_hosts(cx, root, network)
}

fn unsupported_elements(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let (name, mode, dns) = (&cx.name, network.forward.mode, &network.dns);
    let records = !dns.txt.is_empty() || !dns.hosts.is_empty() || !dns.srv.is_empty();
    let found = [
        ("mac", network.mac.is_some()),
        ("ip", !network.ips.is_empty()),
        ("dns", records),
        ("domain", network.domain.is_some()),
    ];
    let fail = |what: &str, element: &'static str| {
        let node = child(root, element).unwrap_or(root);
        let message = format!("Unsupported {what} element in network {name} with forward mode='{mode}'");
        Err(cx.error(node, Class::Unsupported, &message).with_help("remove the element"))
    };
    if let Some((element, _)) = found.into_iter().find(|(_, present)| *present) {
        return fail(&format!("<{element}>"), element);
    }
    if network.bandwidth.is_some() && network.bridge.name.is_none() {
        return fail("network-wide <bandwidth>", "bandwidth");
    }
    Ok(())
}

fn dhcp_sections(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let mut seen = [false, false];
    for (node, ip) in children(root, "ip").zip(&network.ips).filter(|(_, ip)| ip.has_dhcp()) {
        let [v4, v6] = &mut seen;
        let (seen, family) = if ip.address.is_ipv4() { (v4, "IPv4") } else { (v6, "IPv6") };
        if std::mem::replace(seen, true) {
            let message = format!(
                "Multiple {family} dhcp sections found -- dhcp is supported only for a single {family} address on each network"
            );
            let place = child(node, "dhcp").unwrap_or(node);
            let error = cx.error(place, Class::Unsupported, &message);
            return Err(error.with_help("keep <dhcp> in one of the <ip> elements"));
        }
    }
    Ok(())
}

fn portgroups(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let name = &cx.name;
    let groups = || children(root, "portgroup").zip(&network.portgroups);
    let mut places: HashMap<&str, Vec<Node<'_>>> = HashMap::new();
    for (node, group) in groups() {
        places.entry(&group.name).or_default().push(node);
    }
    let mut default: Option<&str> = None;
    for (node, group) in groups() {
        let fail = |node, attribute: &str, message: String| cx.unsupported(node, attribute, &message);
        if group.default
            && let Some(first) = default.replace(&group.name)
        {
            let message = format!(
                "network '{name}' has multiple default <portgroup> elements ({first} and {}), but only one default is allowed",
                group.name
            );
            return Err(fail(node, "default", message).with_help("keep one default='yes'"));
        }
        if let Some(second) = places.get(group.name.as_str()).and_then(|places| places.get(1)) {
            let message = format!(
                "multiple <portgroup> elements with the same name ({}) in network '{name}'",
                group.name
            );
            return Err(fail(*second, "name", message).with_help("rename or remove one of the two"));
        }
        let mode = network.forward.mode;
        if group.bandwidth.is_some() && mode == Mode::Bridge && network.bridge.name.is_none() {
            let message = format!(
                "Unsupported <bandwidth> element in network '{name}' in portgroup '{}' with forward mode='{mode}'",
                group.name
            );
            return Err(fail(node, "", message).with_help("remove the element, or name a bridge"));
        }
    }
    Ok(())
}

/// Two reservations of one family that share a MAC address, id, name or
/// address can not both hold.
fn duplicate_hosts(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let mut seen: HashMap<(bool, &str, String), Node<'_>> = HashMap::new();
    let sections = children(root, "ip")
        .zip(&network.ips)
        .filter_map(|(ip, read)| Some((child(ip, "dhcp")?, read.address.is_ipv6(), &read.hosts)));
    for (dhcp, v6, hosts) in sections {
        for (node, host) in children(dhcp, "host").zip(hosts) {
            for (key, value) in keys(host) {
                if let Some(first) = seen.insert((v6, key, value), node) {
                    return Err(duplicate(cx, node, first, key));
                }
            }
        }
    }
    Ok(())
}

/// What must be unique, in comparable form.
fn keys(host: &DhcpHost) -> impl Iterator<Item = (&'static str, String)> {
    let keys = [
        ("mac", host.mac.map(mac_string)),
        ("id", host.id.as_deref().map(str::to_ascii_lowercase)),
        ("name", host.name.as_deref().map(str::to_ascii_lowercase)),
        ("ip", host.ip.map(value::address_text)),
    ];
    keys.into_iter().filter_map(|(key, value)| Some((key, value?)))
}

fn duplicate(cx: &Cx<'_>, host: Node<'_>, first: Node<'_>, key: &str) -> Error {
    let value = |name: &str, absent: &'static str| attr(first, name).unwrap_or(absent).to_owned();
    let message = format!(
        "there is an existing dhcp host entry in network '{}' that matches \"<host mac='{}' name='{}' ip='{}'/>\"",
        cx.name,
        value("mac", "unknown"),
        value("name", "(null)"),
        value("ip", "unknown")
    );
    let line = cx.error(first, Class::Plain, "").line;
    cx.error_at(host, key, Class::Invalid, &message)
        .with_help(format!("the host on line {line} has the same {key}; change or remove one of the two"))
}
