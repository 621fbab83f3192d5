//! `<portForward>`.

use super::cx::{Cx, Node, Result, attr, children, filled, owned};
use crate::error::Class;
use crate::{Mode, PortForward, PortRange, Protocol, forward};

pub(super) fn all(cx: &Cx<'_>, root: Node<'_>, mode: Mode) -> Result<Vec<PortForward>> {
    let mut forwards: Vec<PortForward> = Vec::new();
    for node in children(root, "portForward") {
        if mode != Mode::Nat {
            let message = format!(
                "network '{}' has <portForward>, which forward mode='{mode}' does not support",
                cx.name
            );
            let error = cx.error(node, Class::Unsupported, &message);
            return Err(error.with_help("only networks with <forward mode='nat'/> have ports to forward"));
        }
        let next = one(cx, node)?;
        if let Some(port) = forwards.iter().find_map(|other| forward::common(other, &next)) {
            let message =
                format!("{} port {port} is forwarded twice in network '{}'", next.proto.as_str(), cx.name);
            return Err(cx
                .error(node, Class::Xml, &message)
                .with_help("each port of an address leads to one guest"));
        }
        forwards.push(next);
    }
    Ok(forwards)
}

pub(crate) fn one(cx: &Cx<'_>, node: Node<'_>) -> Result<PortForward> {
    cx.required(node, "proto")?;
    let proto = match cx.word(node, "proto", &["tcp", "udp"])?.as_deref() {
        Some("udp") => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    let address = attr(node, "address").map(|text| {
        text.parse().map_err(|_| {
            let error = cx.xml(node, "address", &format!("Invalid address '{text}' in <portForward>"));
            error.with_help("write an IPv4 address of the outside, or leave it out for all")
        })
    });
    let Some(guest) = filled(node, "guest") else {
        let error = cx.error(node, Class::Xml, "missing guest attribute in <portForward>");
        return Err(error.with_help("write guest='...' with the guest's MAC address, host name or address"));
    };
    let ranges = children(node, "range").map(|node| range(cx, node)).collect::<Result<Vec<_>>>()?;
    let (dev, guest) = (owned(node, "dev"), guest.to_owned());
    let read = PortForward { proto, address: address.transpose()?, dev, guest, ranges };
    let pieces = read.pieces();
    if pieces.is_empty() {
        let error = cx.error(node, Class::Xml, "<portForward> has no <range> with a port");
        return Err(error.with_help("write <range start='8080'/>"));
    }
    let twice = pieces.iter().enumerate().any(|(at, piece)| {
        pieces.iter().skip(at + 1).any(|other| piece.first <= other.last && other.first <= piece.last)
    });
    if twice {
        return Err(cx.error(node, Class::Xml, "ranges of <portForward> overlap"));
    }
    Ok(read)
}

fn range(cx: &Cx<'_>, node: Node<'_>) -> Result<PortRange> {
    let port = |name| {
        let number = cx.number::<u16>(node, name, 10)?;
        if number == Some(0) { Err(cx.zero(node, name)) } else { Ok(number) }
    };
    cx.required(node, "start")?;
    let (start, end, to) = (port("start")?.unwrap_or(0), port("end")?, port("to")?);
    let exclude = cx.yes_no(node, "exclude")? == Some(true);
    let last = end.unwrap_or(start);
    if last < start {
        let message = format!("port range {start}-{last} in <portForward> ends before it starts");
        return Err(cx.xml(node, "end", &message));
    }
    if exclude && to.is_some() {
        let error = cx.xml(node, "to", "'to' is not allowed in a <range> with exclude='yes'");
        return Err(error.with_help("ports that are excluded lead nowhere"));
    }
    if to.is_some_and(|to| to.checked_add(last - start).is_none()) {
        let error = cx.xml(node, "to", "the guest's ports of a <range> end behind 65535");
        return Err(error.with_help("the guest's ports are as many as the range's, from 'to' on"));
    }
    Ok(PortRange { start, end, to, exclude })
}
