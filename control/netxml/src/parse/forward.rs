//! `<forward>`.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::cx::{Cx, Node, Result, attr, child, children, filled, owned};
use super::{device, range};
use crate::error::Class;
use crate::{Forward, Mode, PciAddress, value};

pub(super) fn forward(cx: &Cx<'_>, root: Node<'_>) -> Result<Forward> {
    let Some(node) = child(root, "forward") else { return Ok(Forward::default()) };
    let mode = mode(cx, node)?;
    let managed = attr(node, "managed").is_some_and(|word| word.eq_ignore_ascii_case("yes"));
    let managed = managed && mode == Mode::Hostdev;
    let driver = child(node, "driver").map(|node| device::driver(cx, node)).transpose()?;
    let mut forward = Forward { mode, managed, driver, ..Forward::default() };
    nat(cx, node, &mut forward)?;
    pool(cx, node, &mut forward)?;
    if mode == Mode::Isolated {
        return Ok(Forward::default());
    }
    Ok(forward)
}

fn mode(cx: &Cx<'_>, node: Node<'_>) -> Result<Mode> {
    let Some(word) = filled(node, "mode") else { return Ok(Mode::Nat) };
    Mode::from_word(word).ok_or_else(|| {
        let message = format!("unknown forwarding type '{word}'");
        cx.unsupported(node, "mode", &message).with_help(
            "write nat, route, open or bridge; leave <forward> out for a network without a way outside",
        )
    })
}

/// The devices of the host: interfaces, else PCI addresses, else a physical function.
fn pool(cx: &Cx<'_>, node: Node<'_>, forward: &mut Forward) -> Result<()> {
    let name = &cx.name;
    let other = child(node, "address").or_else(|| child(node, "pf"));
    if filled(node, "dev").is_some() && other.is_some() {
        let message = format!(
            "the <forward> 'dev' attribute cannot be used when <address> or <pf> sub-elements are present in network {name}"
        );
        return Err(cx.xml(node, "dev", &message).with_help("remove dev or the sub-elements"));
    }
    forward.interfaces = interfaces(cx, node)?;
    forward.dev = forward.interfaces.first().cloned();
    if forward.interfaces.is_empty() {
        forward.addresses = addresses(cx, node)?;
    }
    if forward.interfaces.is_empty() && forward.addresses.is_empty() {
        forward.pfs.extend(physical_function(cx, node)?);
    }
    Ok(())
}

/// `dev='..'` and `<interface dev='..'/>` name the same list.
fn interfaces(cx: &Cx<'_>, node: Node<'_>) -> Result<Vec<String>> {
    let network = &cx.name;
    let dev = filled(node, "dev");
    let mut interfaces: Vec<String> = dev.map(str::to_owned).into_iter().collect();
    let mut seen: HashSet<String> = interfaces.iter().cloned().collect();
    for (index, node) in children(node, "interface").enumerate() {
        let Some(name) = owned(node, "dev") else {
            let message = format!(
                "Missing required dev attribute in <forward> <interface> element of network {network}"
            );
            return Err(cx.xml(node, "dev", &message).with_help("write <interface dev='NAME'/>"));
        };
        if let Some(dev) = dev.filter(|_| index == 0) {
            if name == dev {
                continue;
            }
            let message = format!(
                "<forward dev='{dev}'> must match first <interface dev='{name}'/> in network {network}"
            );
            return Err(cx.xml(node, "dev", &message).with_help("name the same interface in both places"));
        }
        if !seen.insert(name.clone()) {
            let message = format!("interface '{name}' can only be listed once in network {network}");
            return Err(cx.xml(node, "dev", &message).with_help("remove one of the two"));
        }
        interfaces.push(name);
    }
    Ok(interfaces)
}

fn addresses(cx: &Cx<'_>, node: Node<'_>) -> Result<Vec<PciAddress>> {
    let network = &cx.name;
    let (mut addresses, mut seen) = (Vec::new(), HashSet::new());
    for node in children(node, "address") {
        let help = "write <address type='pci' domain='0' bus='4' slot='0' function='1'/>";
        match attr(node, "type") {
            Some("pci") => {}
            None => {
                let message = format!("missing address type in network {network}");
                return Err(cx.xml(node, "type", &message).with_help(help));
            }
            Some(kind @ ("none" | "netdev")) => {
                let message = format!("unsupported address type '{kind}' in network {network}");
                return Err(cx.xml(node, "type", &message).with_help(help));
            }
            Some(kind) => {
                let message = format!("unknown address type '{kind}' in network {network}");
                return Err(cx.unsupported(node, "type", &message).with_help(help));
            }
        }
        let pci = device::pci_address(cx, node)?;
        if !seen.insert(pci) {
            let message = format!("PCI device '{pci}' can only be listed once in network {network}");
            return Err(cx.error(node, Class::Xml, &message).with_help("remove one of the two"));
        }
        addresses.push(pci);
    }
    Ok(addresses)
}

fn physical_function(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<String>> {
    let network = &cx.name;
    if let Some(second) = children(node, "pf").nth(1) {
        let message = format!("Only one <pf> element is allowed in <forward> of network {network}");
        return Err(cx.error(second, Class::Xml, &message).with_help("remove all but one"));
    }
    let Some(node) = child(node, "pf") else { return Ok(None) };
    owned(node, "dev").map(Some).ok_or_else(|| {
        let message = format!("Missing required dev attribute in <pf> element of network '{network}'");
        cx.xml(node, "dev", &message).with_help("write <pf dev='NAME'/>")
    })
}

fn nat(cx: &Cx<'_>, node: Node<'_>, forward: &mut Forward) -> Result<()> {
    let network = &cx.name;
    if let Some(second) = children(node, "nat").nth(1) {
        let message = format!("Only one <nat> element is allowed in <forward> of network {network}");
        return Err(cx.error(second, Class::Xml, &message).with_help("remove all but one"));
    }
    let Some(node) = child(node, "nat") else { return Ok(()) };
    if forward.mode != Mode::Nat {
        let message =
            format!("The <nat> element can only be used when <forward> 'mode' is 'nat' in network {network}");
        return Err(cx.error(node, Class::Xml, &message).with_help("write mode='nat' or remove <nat>"));
    }
    forward.nat_ipv6 = cx.yes_no(node, "ipv6")?;
    forward.nat_addresses = only(cx, node, "address")?.map(|node| nat_addresses(cx, node)).transpose()?;
    forward.nat_ports = only(cx, node, "port")?.map(|node| nat_ports(cx, node)).transpose()?.flatten();
    Ok(())
}

/// The child of `<nat>` that may stand there once.
fn only<'a>(cx: &Cx<'_>, node: Node<'a>, name: &'static str) -> Result<Option<Node<'a>>> {
    if let Some(second) = children(node, name).nth(1) {
        let message =
            format!("Only one <{name}> element is allowed in <nat> in <forward> in network {}", cx.name);
        return Err(cx.error(second, Class::Xml, &message).with_help("remove all but one"));
    }
    Ok(child(node, name))
}

fn nat_addresses(cx: &Cx<'_>, node: Node<'_>) -> Result<(Ipv4Addr, Ipv4Addr)> {
    let network = &cx.name;
    let help = "write <address start='FIRST' end='LAST'/>";
    let boundary = |name: &str| {
        attr(node, name).ok_or_else(|| {
            let message = format!(
                "missing '{name}' attribute in <address> element in <nat> in <forward> in network {network}"
            );
            cx.xml(node, name, &message).with_help(help)
        })
    };
    let address = |name: &str, text: &str| {
        value::address_v4(text).ok_or_else(|| {
            let message =
                format!("Bad ipv4 {name} address '{text}' in <nat> in <forward> in network '{network}'");
            cx.xml(node, name, &message).with_help(help)
        })
    };
    let (start, end) = (boundary("start")?, boundary("end")?);
    let (start, end) = (address("start", start)?, address("end", end)?);
    range::check_v4(cx, node, start, end)?;
    Ok((start, end))
}

/// Two zeros are as good as nothing.
fn nat_ports(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<(u16, u16)>> {
    let boundary = |name: &str, least: u16| {
        let number = filled(node, name).and_then(|text| value::unsigned(text, 10));
        number.and_then(|port| u16::try_from(port).ok()).filter(|port| *port >= least).ok_or_else(|| {
            let message = format!(
                "Missing or invalid '{name}' attribute in <port> in <nat> in <forward> in network {}",
                cx.name
            );
            let help = format!("write a port from {least} to 65535");
            cx.error_at(node, name, Class::Plain, &message).with_help(help)
        })
    };
    let start = boundary("start", 0)?;
    let end = boundary("end", start)?;
    Ok((end > 0).then_some((start, end)))
}
