//! `<forward>`.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::cx::{Cx, Node, Result, attr, child, children, owned};
use crate::element::Element;
use crate::error::Class;
use crate::{Forward, Mode};

pub(super) fn forward(cx: &Cx<'_>, root: Node<'_>) -> Result<Forward> {
    let Some(node) = child(root, "forward") else { return Ok(Forward::default()) };
    let mode = mode(cx, node)?;
    let interfaces = interfaces(cx, node)?;
    let mut forward = Forward {
        mode,
        dev: interfaces.first().cloned(),
        interfaces,
        managed: cx.yes_no(node, "managed")?.unwrap_or(false),
        driver: child(node, "driver").map(Element::from_node),
        addresses: addresses(cx, node)?,
        ..Forward::default()
    };
    for node in children(node, "pf") {
        forward.pfs.push(cx.required(node, "dev")?.to_owned());
    }
    if let Some(nat) = child(node, "nat") {
        read_nat(cx, nat, &mut forward)?;
    }
    Ok(forward)
}

fn mode(cx: &Cx<'_>, node: Node<'_>) -> Result<Mode> {
    let Some(word) = attr(node, "mode") else { return Ok(Mode::Nat) };
    Mode::from_word(word).ok_or_else(|| {
        let message = format!("unknown forwarding type '{word}'");
        cx.error_at(node, "mode", Class::Unsupported, &message).with_help(
            "write nat, route, open or bridge; leave <forward> out for a network without a way outside",
        )
    })
}

/// `dev='..'` and `<interface dev='..'/>` name the same list.
fn interfaces(cx: &Cx<'_>, node: Node<'_>) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut interfaces = Vec::new();
    for node in children(node, "interface") {
        let dev = cx.required(node, "dev")?;
        if !seen.insert(dev) {
            let message = format!("interface '{dev}' is listed more than once in network '{}'", cx.name);
            return Err(cx.xml(node, "dev", &message));
        }
        interfaces.push(dev.to_owned());
    }
    match (owned(node, "dev"), interfaces.first()) {
        (Some(dev), None) => interfaces.push(dev),
        (Some(dev), Some(first)) if dev != *first => {
            let message = format!(
                "forward dev '{dev}' must match first interface element dev '{first}' in network '{}'",
                cx.name
            );
            return Err(cx.xml(node, "dev", &message));
        }
        _ => {}
    }
    Ok(interfaces)
}

fn addresses(cx: &Cx<'_>, node: Node<'_>) -> Result<Vec<Element>> {
    let mut seen = HashSet::new();
    let mut addresses = Vec::new();
    for node in children(node, "address") {
        let part = |name: &str| attr(node, name).unwrap_or("").to_owned();
        if !seen.insert(["domain", "bus", "slot", "function"].map(part)) {
            let message = format!("a PCI address is listed more than once in network '{}'", cx.name);
            return Err(cx.error(node, Class::Xml, &message));
        }
        addresses.push(Element::from_node(node));
    }
    Ok(addresses)
}

fn read_nat(cx: &Cx<'_>, node: Node<'_>, forward: &mut Forward) -> Result<()> {
    let network = &cx.name;
    if forward.mode != Mode::Nat {
        let message =
            format!("The <nat> element can only be used when <forward> 'mode' is 'nat' in network {network}");
        return Err(cx.error(node, Class::Xml, &message));
    }
    for name in ["address", "port"] {
        if let Some(second) = children(node, name).nth(1) {
            let message =
                format!("Only one <{name}> element is allowed in <nat> in <forward> in network {network}");
            return Err(cx.error(second, Class::Xml, &message));
        }
    }
    forward.nat_ipv6 = cx.yes_no(node, "ipv6")?;
    forward.nat_addresses = child(node, "address").map(|node| nat_addresses(cx, node)).transpose()?;
    forward.nat_ports = child(node, "port").map(|node| nat_ports(cx, node)).transpose()?;
    Ok(())
}

fn nat_addresses(cx: &Cx<'_>, node: Node<'_>) -> Result<(Ipv4Addr, Ipv4Addr)> {
    let network = &cx.name;
    let boundary = |name: &str| {
        let Some(value) = attr(node, name) else {
            let message = format!(
                "Missing '{name}' attribute in <address> element in <nat> in <forward> in network {network}"
            );
            return Err(cx.xml(node, name, &message));
        };
        value.parse::<Ipv4Addr>().map_err(|_| {
            let message =
                format!("Bad ipv4 {name} address '{value}' in <nat> in <forward> in network '{network}'");
            cx.xml(node, name, &message)
        })
    };
    let (start, end) = (boundary("start")?, boundary("end")?);
    if start > end {
        let message = format!("range {start} - {end} is reversed ");
        return Err(cx
            .error_at(node, "start", Class::Internal, &message)
            .with_help("exchange start and end"));
    }
    Ok((start, end))
}

fn nat_ports(cx: &Cx<'_>, node: Node<'_>) -> Result<(u16, u16)> {
    let boundary = |name: &str| {
        let number = attr(node, name).and_then(|value| value.parse::<u16>().ok()).filter(|port| *port > 0);
        number.ok_or_else(|| {
            let message = format!(
                "Missing or invalid '{name}' attribute in <port> in <nat> in <forward> in network {}",
                cx.name
            );
            cx.xml(node, name, &message).with_help("a port is a number from 1 to 65535")
        })
    };
    let (start, end) = (boundary("start")?, boundary("end")?);
    if start > end {
        let message = format!(
            "Missing or invalid 'end' attribute in <port> in <nat> in <forward> in network {}",
            cx.name
        );
        return Err(cx.xml(node, "end", &message).with_help("end must not be below start"));
    }
    Ok((start, end))
}
