//! `<dhcp>`: ranges, static hosts, lease times, boot files.

use std::net::IpAddr;

use super::cx::{Cx, Node, Result, attr, child, children, owned};
use super::range;
use crate::{DhcpHost, Ip, Lease, LeaseUnit, Range};

pub(super) fn dhcp(cx: &Cx<'_>, node: Node<'_>, ip: &mut Ip) -> Result<()> {
    ip.has_dhcp = true;
    for node in children(node, "range") {
        ip.ranges.push(dhcp_range(cx, node, ip)?);
    }
    for node in children(node, "host") {
        ip.hosts.push(host(cx, node, ip.address.is_ipv6())?);
    }
    if let Some(node) = child(node, "bootp") {
        ip.bootp_file = Some(cx.required(node, "file")?.to_owned());
        ip.bootp_server = owned(node, "server");
    }
    Ok(())
}

fn dhcp_range(cx: &Cx<'_>, node: Node<'_>, ip: &Ip) -> Result<Range> {
    let boundary = |attribute: &str| {
        let value = attr(node, attribute).ok_or_else(|| {
            let message = format!("Missing '{attribute}' attribute in dhcp range for network '{}'", cx.name);
            cx.xml(node, attribute, &message).with_help("a range is <range start='FIRST' end='LAST'/>")
        })?;
        cx.socket_address(node, attribute, value)
    };
    let (start, end) = (boundary("start")?, boundary("end")?);
    range::check(cx, node, ip, start, end)?;
    Ok(Range { start, end, lease: lease(cx, node)? })
}

fn lease(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<Lease>> {
    let Some(node) = child(parent, "lease") else { return Ok(None) };
    cx.required(node, "expiry")?;
    let expiry: u32 = cx.number(node, "expiry")?.unwrap_or(0);
    let unit = match attr(node, "unit") {
        Some("seconds") => LeaseUnit::Seconds,
        None | Some("minutes") => LeaseUnit::Minutes,
        Some("hours") => LeaseUnit::Hours,
        Some(other) => {
            let message = format!("Invalid value for attribute 'unit' in element 'lease': '{other}'.");
            return Err(cx.xml(node, "unit", &message).with_help("write seconds, minutes or hours"));
        }
    };
    let lease = Lease { expiry, unit };
    if lease.seconds().is_some_and(|seconds| seconds < 120) {
        let error = cx.xml(node, "expiry", "The minimum lease time should be greater than 2 minutes");
        return Err(error.with_help("0 means that a lease never ends"));
    }
    Ok(Some(lease))
}

fn host(cx: &Cx<'_>, node: Node<'_>, v6: bool) -> Result<DhcpHost> {
    let mac = host_mac(cx, node, v6)?;
    let (name, id) = (host_name(cx, node)?, host_id(cx, node)?);
    if mac.is_none() && name.is_none() && (!v6 || id.is_none()) {
        let (family, key) = if v6 { ("IPv6", "id") } else { ("IPv4", "mac") };
        let message = format!(
            "Static host definition in {family} network '{}' must have {key} or name attribute",
            cx.name
        );
        return Err(cx.xml(node, "", &message));
    }
    let ip = host_address(cx, node, v6)?;
    Ok(DhcpHost { mac, name, ip: Some(ip), id, lease: lease(cx, node)? })
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
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '/' | '\'' | '"' | '<' | '>' | '&');
    let starts_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts_well || !value.chars().all(plain) || value.len() > 253 {
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

fn host_address(cx: &Cx<'_>, node: Node<'_>, v6: bool) -> Result<IpAddr> {
    let name = &cx.name;
    let Some(value) = attr(node, "ip") else {
        let message = format!("Missing IP address in static host definition for network '{name}'");
        return Err(cx.xml(node, "ip", &message).with_help("add ip='ADDRESS'"));
    };
    match value.parse::<IpAddr>() {
        Ok(address) if address.is_ipv6() == v6 => Ok(address),
        _ => {
            let message = format!("Invalid IP address in static host definition for network '{name}'");
            Err(cx.xml(node, "ip", &message))
        }
    }
}
