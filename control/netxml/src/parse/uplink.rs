//! `<pontoon:uplink>` and `<pontoon:nat>`.

use std::net::Ipv4Addr;

use super::cx::{Cx, Node, Result, attr, owned};
use crate::error::Class;
use crate::{Filtering, Ipv4Net, Mode, PONTOON_NAMESPACE, Uplink, UplinkKind};

const ATTRIBUTES: [&str; 5] = ["kind", "dev", "netns", "address", "gateway"];

pub(super) fn uplink(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<Uplink>> {
    let mut found = None;
    let ours = |node: &Node<'_>| node.tag_name().namespace() == Some(PONTOON_NAMESPACE);
    for node in root.children().filter(Node::is_element).filter(ours) {
        let tag = node.tag_name().name();
        if tag == "nat" || tag == super::log::TAG {
            continue;
        }
        if tag != "uplink" {
            return Err(cx.error(node, Class::Xml, &format!("unknown element <pontoon:{tag}>")));
        }
        if found.is_some() {
            let message = format!("multiple <pontoon:uplink> elements in network '{}'", cx.name);
            return Err(cx.error(node, Class::Xml, &message));
        }
        found = Some(read(cx, node)?);
    }
    Ok(found)
}

/// `<pontoon:nat filtering='...'/>`.
pub(super) fn filtering(cx: &Cx<'_>, root: Node<'_>, mode: Mode) -> Result<Filtering> {
    let mut all = root.children().filter(|node| node.has_tag_name((PONTOON_NAMESPACE, "nat")));
    let Some(node) = all.next() else { return Ok(Filtering::default()) };
    let refuse = |node, message: &str| Err(cx.error(node, Class::Xml, message));
    if let Some(second) = all.next() {
        return refuse(second, &format!("multiple <pontoon:nat> elements in network '{}'", cx.name));
    }
    if mode != Mode::Nat {
        return refuse(node, &format!("<pontoon:nat> has no meaning with forward mode='{mode}'"));
    }
    if let Some(other) = node.attributes().find(|a| a.namespace().is_some() || a.name() != "filtering") {
        return refuse(node, &format!("unknown attribute '{}' in element 'nat'", other.name()));
    }
    let Some(word) = attr(node, "filtering") else { return Ok(Filtering::default()) };
    Filtering::ALL.into_iter().find(|filtering| filtering.as_str() == word).ok_or_else(|| {
        let message = format!("Invalid value for attribute 'filtering' in element 'nat': '{word}'.");
        let words = "write endpoint (anybody may answer), address or address-and-port (the default)";
        cx.xml(node, "filtering", &message).with_help(words)
    })
}

fn read(cx: &Cx<'_>, node: Node<'_>) -> Result<Uplink> {
    let known = |name: &str| ATTRIBUTES.contains(&name);
    if let Some(other) = node.attributes().find(|a| a.namespace().is_some() || !known(a.name())) {
        let message = format!("unknown attribute '{}' in element 'uplink'", other.name());
        let error = cx.xml(node, other.name(), &message);
        return Err(error.with_help(format!("known attributes: {}", ATTRIBUTES.join(", "))));
    }
    let kind = match cx.required(node, "kind")? {
        "direct" => UplinkKind::Direct,
        "tap" => UplinkKind::Tap,
        "shared" => UplinkKind::Shared,
        "user" => UplinkKind::User,
        other => {
            let message = format!("Invalid value for attribute 'kind' in element 'uplink': '{other}'.");
            return Err(cx
                .xml(node, "kind", &message)
                .with_help("write kind='shared', kind='user', kind='direct' or kind='tap'"));
        }
    };
    match kind {
        UplinkKind::Shared => return shared(cx, node),
        UplinkKind::User => return by_sockets(cx, node),
        UplinkKind::Direct | UplinkKind::Tap => {}
    }
    let dev = interface_name(cx, node)?;
    let address = address(cx, node)?;
    let gateway = gateway(cx, node, address)?;
    Ok(Uplink { kind, dev, netns: owned(node, "netns"), address, gateway })
}

/// The host's own address has nothing to be said about; the interface may be.
fn shared(cx: &Cx<'_>, node: Node<'_>) -> Result<Uplink> {
    for name in ["netns", "address", "gateway"] {
        if attr(node, name).is_some() {
            let message = format!("attribute '{name}' is not allowed in element 'uplink' of kind 'shared'");
            let error = cx.xml(node, name, &message);
            return Err(error.with_help("a shared uplink has the host's own address; write kind='direct'"));
        }
    }
    let dev = if attr(node, "dev").is_some() { interface_name(cx, node)? } else { String::new() };
    Ok(Uplink { kind: UplinkKind::Shared, dev, netns: None, address: None, gateway: None })
}

/// Where packets leave is the host's own routing's to say.
fn by_sockets(cx: &Cx<'_>, node: Node<'_>) -> Result<Uplink> {
    for name in ["dev", "netns", "address", "gateway"] {
        if attr(node, name).is_some() {
            let message = format!("attribute '{name}' is not allowed in element 'uplink' of kind 'user'");
            let error = cx.xml(node, name, &message);
            return Err(error.with_help("the host's sockets and routes decide that; write kind='direct'"));
        }
    }
    Ok(Uplink { kind: UplinkKind::User, dev: String::new(), netns: None, address: None, gateway: None })
}

fn interface_name(cx: &Cx<'_>, node: Node<'_>) -> Result<String> {
    let dev = cx.required(node, "dev")?;
    let fine = |c: char| c.is_ascii_graphic() && c != '/';
    if dev.is_empty() || dev.len() > 15 || dev == "." || dev == ".." || !dev.chars().all(fine) {
        let message = format!("Invalid value for attribute 'dev' in element 'uplink': '{dev}'.");
        let error = cx.xml(node, "dev", &message);
        return Err(error.with_help("an interface name has 1 to 15 characters, without blanks and '/'"));
    }
    Ok(dev.to_owned())
}

fn address(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<Ipv4Net>> {
    let Some(value) = attr(node, "address") else { return Ok(None) };
    value.parse::<Ipv4Net>().map(Some).map_err(|_| {
        let message = format!("Invalid value for attribute 'address' in element 'uplink': '{value}'.");
        let error = cx.xml(node, "address", &message);
        error.with_help(
            "write an IPv4 address and a prefix length, such as 203.0.113.2/24; leave it out for DHCP",
        )
    })
}

fn gateway(cx: &Cx<'_>, node: Node<'_>, address: Option<Ipv4Net>) -> Result<Option<Ipv4Addr>> {
    let Some(value) = attr(node, "gateway") else { return Ok(None) };
    let gateway: Ipv4Addr = value.parse().map_err(|_| {
        let message = format!("Invalid value for attribute 'gateway' in element 'uplink': '{value}'.");
        cx.xml(node, "gateway", &message).with_help("write an IPv4 address")
    })?;
    match address {
        None => {
            let message = "attribute 'gateway' in element 'uplink' requires attribute 'address'";
            Err(cx.xml(node, "gateway", message).with_help("an uplink that uses DHCP learns its gateway"))
        }
        Some(net) if !net.contains(&gateway) || gateway == net.addr() => {
            let message = format!("uplink gateway '{gateway}' is not within subnet {}", net.trunc());
            let error = cx.xml(node, "gateway", &message);
            Err(error.with_help("the gateway is another host of the subnet of the address"))
        }
        Some(_) => Ok(Some(gateway)),
    }
}
