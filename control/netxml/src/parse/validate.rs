//! Checks that concern more than one element.

use std::collections::{HashMap, HashSet};

use super::cx::{Cx, Node, Result, attr, child, children};
use crate::error::{Class, Error};
use crate::{Mode, Network, mac_string};

/// The checks of the format.
pub(super) fn definition(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let at = |name| child(root, name).unwrap_or(root);
    let (mode, forward, name) = (network.forward.mode, &network.forward, &cx.name);
    match mode {
        Mode::Isolated => {}
        Mode::Nat | Mode::Route => {
            if network.ips.is_empty() {
                let message =
                    format!("{mode} forwarding requested, but no IP address provided for network '{name}'");
                let error = cx.error(at("forward"), Class::Xml, &message);
                return Err(error.with_help("add <ip address='192.168.100.1' netmask='255.255.255.0'/>"));
            }
        }
        Mode::Open => {
            if !forward.interfaces.is_empty() {
                let message =
                    format!("forward dev not allowed for network '{name}' with forward mode='{mode}'");
                return Err(cx.xml(at("forward"), "dev", &message));
            }
        }
        _ => pool_mode(cx, root, network)?,
    }
    portgroups(cx, root)?;
    duplicate_hosts(cx, root)
}

/// Modes that use a device of the host rather than a bridge of their own.
fn pool_mode(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    let (mode, name) = (network.forward.mode, &cx.name);
    if let Some(node) = child(root, "mtu") {
        let message = format!(
            "mtu size only allowed in open, route, nat, and isolated mode, not in {mode} (network '{name}')"
        );
        return Err(cx.error(node, Class::Xml, &message));
    }
    let Some(node) = child(root, "bridge") else { return Ok(()) };
    if mode != Mode::Bridge && network.bridge.name.is_some() {
        let message = format!("bridge name not allowed in {mode} mode (network '{name}')");
        return Err(cx.xml(node, "name", &message));
    }
    let option = ["delay", "stp", "zone"].into_iter().find(|option| attr(node, option).is_some());
    if let Some(option) = option {
        let message = format!(
            "bridge delay/stp/zone options only allowed in route, nat, and isolated mode, not in {mode} (network '{name}')"
        );
        return Err(cx.xml(node, option, &message));
    }
    let pool = !network.forward.interfaces.is_empty() || !network.forward.pfs.is_empty();
    if network.bridge.name.is_some() && pool {
        let message = format!(
            "A network with forward mode='{mode}' can specify a bridge name or a forward dev, but not both (network '{name}')"
        );
        return Err(cx.xml(node, "name", &message));
    }
    Ok(())
}

fn portgroups(cx: &Cx<'_>, root: Node<'_>) -> Result<()> {
    let network = &cx.name;
    let mut names = HashSet::new();
    let mut default: Option<&str> = None;
    for node in children(root, "portgroup") {
        let name = attr(node, "name").unwrap_or("");
        if !names.insert(name) {
            let message =
                format!("multiple <portgroup> elements with the same name ({name}) in network '{network}'");
            return Err(cx.xml(node, "name", &message));
        }
        if attr(node, "default") != Some("yes") {
            continue;
        }
        if let Some(first) = default.replace(name) {
            let message = format!(
                "network '{network}' has multiple default <portgroup> elements ({first} and {name}), but only one default is allowed"
            );
            return Err(cx.xml(node, "default", &message));
        }
    }
    Ok(())
}

/// Two reservations of one family that share a MAC address, id, name or
/// address can not both hold.
fn duplicate_hosts(cx: &Cx<'_>, root: Node<'_>) -> Result<()> {
    let mut seen: HashMap<(bool, &str, String), Node<'_>> = HashMap::new();
    let sections = children(root, "ip").filter_map(|ip| Some((ip, child(ip, "dhcp")?)));
    for (ip, dhcp) in sections {
        let v6 = attr(ip, "family") == Some("ipv6");
        for host in children(dhcp, "host") {
            for key in ["mac", "id", "name", "ip"] {
                let Some(value) = attr(host, key) else { continue };
                if let Some(first) = seen.insert((v6, key, comparable(key, value)), host) {
                    return Err(duplicate(cx, host, first, key));
                }
            }
        }
    }
    Ok(())
}

fn comparable(key: &str, value: &str) -> String {
    let mac = if key == "mac" { super::cx::parse_mac(value) } else { None };
    let ip = if key == "ip" { value.parse::<std::net::IpAddr>().ok() } else { None };
    match (mac, ip) {
        (Some(mac), _) => mac_string(mac),
        (_, Some(ip)) => ip.to_string(),
        _ => value.to_ascii_lowercase(),
    }
}

fn duplicate(cx: &Cx<'_>, host: Node<'_>, first: Node<'_>, key: &str) -> Error {
    let value = |name: &str| attr(first, name).unwrap_or("unknown");
    let message = format!(
        "there is an existing dhcp host entry in network '{}' that matches \"<host mac='{}' name='{}' ip='{}'/>\"",
        cx.name,
        value("mac"),
        value("name"),
        value("ip")
    );
    let line = cx.error(first, Class::Plain, "").line;
    cx.error_at(host, key, Class::Invalid, &message)
        .with_help(format!("the host on line {line} has the same {key}; change or remove one of the two"))
}

/// The checks on what a network of its mode can support.
pub(super) fn driver(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    if !network.forward.mode.owns_bridge() {
        unsupported_elements(cx, root, network)?;
    }
    let forward = &network.forward;
    if matches!(forward.mode, Mode::Nat | Mode::Route) && forward.interfaces.len() > 1 {
        let message = format!(
            "multiple forwarding interfaces specified for network '{}', only one is supported",
            cx.name
        );
        return Err(cx.error(child(root, "forward").unwrap_or(root), Class::Xml, &message));
    }
    dhcp_sections(cx, root, network)
}

fn unsupported_elements(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    for element in ["ip", "mac", "dns", "domain"] {
        if let Some(node) = child(root, element) {
            let message = format!(
                "Unsupported <{element}> element in network {} with forward mode='{}'",
                cx.name, network.forward.mode
            );
            return Err(cx.error(node, Class::Unsupported, &message));
        }
    }
    Ok(())
}

fn dhcp_sections(cx: &Cx<'_>, root: Node<'_>, network: &Network) -> Result<()> {
    for (v6, family) in [(false, "IPv4"), (true, "IPv6")] {
        let mut sections = children(root, "ip").zip(&network.ips).filter(|(_, ip)| {
            let offers = !ip.ranges.is_empty() || !ip.hosts.is_empty();
            ip.address.is_ipv6() == v6 && offers
        });
        if let Some((node, _)) = sections.nth(1) {
            let message = format!(
                "Multiple {family} dhcp sections found -- dhcp is supported only for a single {family} address on each network"
            );
            let place = child(node, "dhcp").unwrap_or(node);
            return Err(cx.error(place, Class::Unsupported, &message));
        }
    }
    Ok(())
}
