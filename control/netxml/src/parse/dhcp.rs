//! `<dhcp>`: ranges, static hosts, lease times, boot files.

use std::net::IpAddr;

use super::cx::{Cx, Node, Result, attr, child, children, owned};
use super::range;
use crate::error::Class;
use crate::{DhcpHost, Ip, Lease, LeaseUnit, Range, value};

/// Whether what is read is a whole entry or describes one to look for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Whole,
    Partial,
}

pub(super) fn dhcp(cx: &Cx<'_>, node: Node<'_>, ip: &mut Ip) -> Result<()> {
    for node in children(node, "range") {
        ip.ranges.push(dhcp_range(cx, node, ip)?);
    }
    for node in children(node, "host") {
        ip.hosts.push(host(cx, node, ip, Entry::Whole)?);
    }
    if let Some(node) = child(node, "bootp").filter(|_| ip.address.is_ipv4()) {
        ip.bootp_file = Some(cx.required(node, "file")?.to_owned());
        let server = attr(node, "server");
        ip.bootp_server = server.map(|server| cx.socket_address(node, "server", server)).transpose()?;
    }
    Ok(())
}

pub(crate) fn dhcp_range(cx: &Cx<'_>, node: Node<'_>, ip: &Ip) -> Result<Range> {
    let boundary = |attribute: &str| {
        let value = attr(node, attribute).ok_or_else(|| {
            let message = format!("Missing '{attribute}' attribute in dhcp range for network '{}'", cx.name);
            cx.xml(node, attribute, &message).with_help("a range is <range start='FIRST' end='LAST'/>")
        })?;
        cx.socket_address(node, attribute, value)
    };
    let (start, end) = (boundary("start")?, boundary("end")?);
    let within = Some((ip.address, ip.prefix));
    range::check(cx, node, within, start, end)?;
    Ok(Range { start, end, lease: lease(cx, node)? })
}

fn lease(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<Lease>> {
    let Some(node) = child(parent, "lease") else { return Ok(None) };
    let Some(expiry) = cx.number::<u64>(node, "expiry", 0)? else { return Ok(None) };
    let unit = match cx.word(node, "unit", &["seconds", "minutes", "hours"])?.as_deref() {
        Some("seconds") if expiry > 0 => LeaseUnit::Seconds,
        Some("hours") if expiry > 0 => LeaseUnit::Hours,
        _ => LeaseUnit::Minutes,
    };
    let lease = Lease { expiry, unit };
    if lease.seconds().is_some_and(|seconds| seconds < 120) {
        let message = "The minimum lease time should be greater than 2 minutes";
        let error = cx.unsupported(node, "expiry", message);
        return Err(error.with_help("write 2 minutes or more; 0 means that a lease never ends"));
    }
    Ok(Some(lease))
}

pub(crate) fn host(cx: &Cx<'_>, node: Node<'_>, ip: &Ip, entry: Entry) -> Result<DhcpHost> {
    let v6 = ip.address.is_ipv6();
    let mac = host_mac(cx, node, v6)?;
    let (id, name) = (host_id(cx, node)?, host_name(cx, node)?);
    let address = host_address(cx, node)?;
    let named = mac.is_some() || name.is_some();
    let missing = |words: &str, help: &str| {
        let message = format!("{words} '{}'", cx.name);
        Err(cx.error(node, Class::Xml, &message).with_help(help))
    };
    if entry == Entry::Partial && !named && address.is_none() {
        let words = "At least one of name, mac, or ip attribute must be specified for static host definition in network";
        return missing(words, "write the attribute the host is found by");
    }
    if entry == Entry::Whole && v6 && id.is_none() && name.is_none() {
        return must_have(cx, node, "IPv6", "id");
    }
    if entry == Entry::Whole && !v6 && !named {
        return must_have(cx, node, "IPv4", "mac");
    }
    if entry == Entry::Whole && address.is_none() {
        return missing("Missing IP address in static host definition for network", "add ip='ADDRESS'");
    }
    let mac_text = owned(node, "mac");
    Ok(DhcpHost { mac, mac_text, name, ip: address, id, lease: lease(cx, node)? })
}

fn must_have(cx: &Cx<'_>, node: Node<'_>, family: &str, key: &str) -> Result<DhcpHost> {
    let message =
        format!("Static host definition in {family} network '{}' must have {key} or name attribute", cx.name);
    Err(cx.error(node, Class::Xml, &message).with_help(format!("add {key}='..' or name='..'")))
}

fn host_mac(cx: &Cx<'_>, node: Node<'_>, v6: bool) -> Result<Option<[u8; 6]>> {
    let Some(value) = attr(node, "mac") else { return Ok(None) };
    let name = &cx.name;
    if v6 {
        let message = format!(
            "Invalid to specify MAC address '{value}' in network '{name}' IPv6 static host definition"
        );
        return Err(cx.xml(node, "mac", &message).with_help("name the host by id (its DUID) or name"));
    }
    let bad = format!("Cannot parse MAC address '{value}' in network '{name}'");
    let multicast = format!("expected unicast mac address, found multicast '{value}' in network '{name}'");
    cx.unicast_mac(node, "mac", value, &bad, &multicast).map(Some)
}

fn host_name(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<String>> {
    let Some(value) = attr(node, "name") else { return Ok(None) };
    if !value.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        let message = format!("Cannot use host name '{value}' in network '{}'", cx.name);
        return Err(cx.xml(node, "name", &message).with_help("a host name starts with a letter or digit"));
    }
    Ok(Some(value.to_owned()))
}

fn host_id(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<String>> {
    let Some(value) = attr(node, "id") else { return Ok(None) };
    let fine = |c: char| c.is_ascii_hexdigit() || c == ':';
    match value.chars().find(|c| !fine(*c)) {
        None => Ok(Some(value.to_owned())),
        Some(c) => {
            let message = format!("Invalid character '{c}' in id '{value}' of network '{}'", cx.name);
            Err(cx.xml(node, "id", &message).with_help("an id is hexadecimal pairs separated by colons"))
        }
    }
}

fn host_address(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<IpAddr>> {
    let Some(text) = attr(node, "ip") else { return Ok(None) };
    value::address(text).map(Some).ok_or_else(|| {
        let message = format!("Invalid IP address in static host definition for network '{}'", cx.name);
        cx.xml(node, "ip", &message).with_help("write an address of the subnet")
    })
}
