//! Reading and checking a document.

mod cx;
mod dhcp;
mod dns;
mod forward;
mod ip;
mod qos;
mod range;
mod uplink;
mod validate;

use cx::{Cx, Node, Result, attr, child, children, owned, text_of};

use crate::element::Element;
use crate::error::{Class, Error};
use crate::{Bridge, DNSMASQ_NAMESPACE, Domain, Network, PONTOON_NAMESPACE};

/// The largest document that is read.
const MAX_LENGTH: usize = 4 << 20;
/// The deepest nesting that is read.
const MAX_DEPTH: usize = 256;

/// Read a document and make every check of `net-define`.
pub fn parse(text: &str) -> Result<Network> {
    read(text, true)
}

/// Read a document with the checks of the format alone, without those on what
/// a network of its mode can support.
pub fn parse_definition(text: &str) -> Result<Network> {
    read(text, false)
}

fn read(text: &str, driver_checks: bool) -> Result<Network> {
    check_size(text)?;
    let document = roxmltree::Document::parse(text).map_err(|error| Error::malformed(text, &error))?;
    let root = document.root_element();
    let mut cx = Cx { text, name: String::new() };
    if root.tag_name().name() != "network" {
        let message = format!("unexpected root element <{}>, expecting <network>", root.tag_name().name());
        return Err(cx.error(root, Class::Xml, &message));
    }
    cx.name = name(&cx, root)?;
    let network = network(&cx, root)?;
    validate::definition(&cx, root, &network)?;
    if driver_checks {
        validate::driver(&cx, root, &network)?;
    }
    Ok(network)
}

/// Refuse what could exhaust memory or stack before it is parsed.
fn check_size(text: &str) -> Result<()> {
    let fail = |offset, what: &str| {
        let mut error = Error::new(text, offset, Class::Plain, "");
        error.message = format!("(network_definition):{}: {what}", error.line);
        Err(error)
    };
    if text.len() > MAX_LENGTH {
        return fail(0, "the document is larger than 4 MiB");
    }
    match too_deep(text.as_bytes()) {
        Some(at) => fail(at, "excessive depth in document: 256"),
        None => Ok(()),
    }
}

/// Where tags nest too deeply; comments and the like hold no tags.
fn too_deep(text: &[u8]) -> Option<usize> {
    const OPAQUE: [(&[u8], &[u8]); 3] = [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
    let (mut depth, mut at) = (0usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some((open, close)) = OPAQUE.iter().find(|(open, _)| rest.starts_with(open)) {
            let body = rest.get(open.len()..)?;
            at += open.len() + body.windows(close.len()).position(|part| part == *close)? + close.len();
            continue;
        }
        at += 1;
        if rest.starts_with(b"</") {
            depth = depth.saturating_sub(1);
        } else if rest.starts_with(b"<") {
            let length = start_tag_length(rest)?;
            at += length;
            depth += usize::from(rest.get(length.wrapping_sub(1)) != Some(&b'/'));
        }
        if depth > MAX_DEPTH {
            return Some(at - 1);
        }
    }
    None
}

/// The bytes of a start tag before its `>`, which may also stand in a quote.
fn start_tag_length(tag: &[u8]) -> Option<usize> {
    let mut quote = None;
    tag.iter().position(|&byte| {
        match quote {
            Some(open) if open == byte => quote = None,
            None if byte == b'\'' || byte == b'"' => quote = Some(byte),
            _ => {}
        }
        quote.is_none() && byte == b'>'
    })
}

fn name(cx: &Cx<'_>, root: Node<'_>) -> Result<String> {
    let node = child(root, "name");
    let name = node.map(text_of).unwrap_or_default();
    let Some(node) = node.filter(|_| !name.is_empty()) else {
        let error = cx.error(root, Class::Plain, "missing name information");
        return Err(error.with_help("add <name>NAME</name> inside <network>"));
    };
    if name.contains('/') {
        return Err(cx.error(node, Class::Xml, &format!("name {name} cannot contain '/'")));
    }
    if name == "." || name == ".." {
        return Err(cx.error(node, Class::Xml, &format!("name cannot be '{name}'")));
    }
    if let Some(c) = name.chars().find(|c| c.is_control()) {
        let message = format!("invalid char in name: {:02x}", u32::from(c));
        return Err(cx.error(node, Class::Xml, &message).with_help("a name is one line of plain text"));
    }
    Ok(name)
}

fn network(cx: &Cx<'_>, root: Node<'_>) -> Result<Network> {
    let mut ips = Vec::new();
    for node in children(root, "ip") {
        ips.push(ip::ip(cx, node)?);
    }
    let mut routes = Vec::new();
    for node in children(root, "route") {
        routes.push(ip::route(cx, node, &ips)?);
    }
    let mut portgroups = Vec::new();
    for node in children(root, "portgroup") {
        portgroups.push(qos::portgroup(cx, node)?);
    }
    let domain = child(root, "domain").map(|node| domain(cx, node)).transpose()?;
    let (domain, domain_register) = domain.map_or((None, false), |(domain, on)| (Some(domain), on));
    Ok(Network {
        name: cx.name.clone(),
        uuid: uuid(cx, root)?,
        title: title(cx, root)?,
        description: child(root, "description").map(text_of).filter(|text| !text.is_empty()),
        metadata: child(root, "metadata").map(Element::from_node),
        forward: forward::forward(cx, root)?,
        bridge: bridge(cx, root)?,
        mtu: mtu(cx, root)?,
        mac: mac(cx, root)?,
        domain,
        domain_register,
        dns: dns::dns(cx, root)?,
        vlan: qos::vlan(cx, root)?,
        bandwidth: qos::bandwidth(cx, root)?,
        port_isolated: qos::port_isolated(cx, root)?,
        ips,
        routes,
        virtualport: child(root, "virtualport").map(Element::from_node),
        portgroups,
        dnsmasq_options: dnsmasq_options(cx, root)?,
        uplink: uplink::uplink(cx, root)?,
        ipv6: cx.yes_no(root, "ipv6")?.unwrap_or(false),
        trust_guest_rx_filters: cx.yes_no(root, "trustGuestRxFilters")?,
        unknown: unknown(root),
    })
}

fn uuid(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<uuid::Uuid>> {
    let Some(node) = child(root, "uuid") else { return Ok(None) };
    uuid::Uuid::parse_str(text_of(node).trim()).map(Some).map_err(|_| {
        let error = cx.error(node, Class::Xml, "malformed uuid element");
        error.with_help("write 32 hexadecimal digits in five groups, or leave <uuid> out to get a new one")
    })
}

fn title(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<String>> {
    let Some(node) = child(root, "title") else { return Ok(None) };
    let title = text_of(node);
    if title.contains('\n') {
        return Err(cx.error(node, Class::Xml, "Title can't contain newlines"));
    }
    Ok(Some(title).filter(|title| !title.is_empty()))
}

fn bridge(cx: &Cx<'_>, root: Node<'_>) -> Result<Bridge> {
    let Some(node) = child(root, "bridge") else { return Ok(Bridge::default()) };
    let manager = owned(node, "macTableManager");
    if manager.as_deref().is_some_and(|word| word != "kernel" && word != "libvirt") {
        let word = manager.unwrap_or_default();
        let message = format!("Invalid value for attribute 'macTableManager' in element 'bridge': '{word}'.");
        return Err(cx.xml(node, "macTableManager", &message));
    }
    Ok(Bridge {
        name: owned(node, "name").filter(|name| !name.is_empty()),
        stp: cx.on_off(node, "stp")?.unwrap_or(true),
        delay: cx.number(node, "delay")?.unwrap_or(0),
        zone: owned(node, "zone"),
        mac_table_manager: manager,
    })
}

fn mtu(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<u16>> {
    let Some(node) = child(root, "mtu") else { return Ok(None) };
    cx.required(node, "size")?;
    cx.number(node, "size")
}

fn mac(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<[u8; 6]>> {
    let Some(node) = child(root, "mac") else { return Ok(None) };
    let Some(value) = attr(node, "address") else { return Ok(None) };
    let name = &cx.name;
    let bad = format!("Invalid bridge mac address '{value}' in network '{name}'");
    let multicast = format!("Invalid multicast bridge mac address '{value}' in network '{name}'");
    cx.unicast_mac(node, "address", value, &bad, &multicast).map(Some)
}

fn domain(cx: &Cx<'_>, node: Node<'_>) -> Result<(Domain, bool)> {
    let domain = Domain {
        name: cx.required(node, "name")?.to_owned(),
        local_only: cx.yes_no(node, "localOnly")?.unwrap_or(false),
    };
    Ok((domain, cx.yes_no(node, "register")?.unwrap_or(false)))
}

fn dnsmasq_options(cx: &Cx<'_>, root: Node<'_>) -> Result<Vec<String>> {
    let is = |node: &Node<'_>, name: &str| node.has_tag_name((DNSMASQ_NAMESPACE, name));
    let lists = root.children().filter(|node| is(node, "options"));
    let options = lists.flat_map(|list| list.children().filter(|node| is(node, "option")));
    options.map(|node| cx.required(node, "value").map(str::to_owned)).collect()
}

/// Elements below the root that mean nothing here, each once.
fn unknown(root: Node<'_>) -> Vec<String> {
    const KNOWN: [&str; 19] = [
        "name",
        "uuid",
        "title",
        "description",
        "metadata",
        "forward",
        "bridge",
        "mtu",
        "mac",
        "domain",
        "dns",
        "vlan",
        "bandwidth",
        "port",
        "ip",
        "route",
        "virtualport",
        "portgroup",
        "network",
    ];
    let mut names: Vec<String> = Vec::new();
    for node in root.children().filter(Node::is_element) {
        let tag = node.tag_name();
        let known = match tag.namespace() {
            None => KNOWN.contains(&tag.name()),
            Some(space) => space == DNSMASQ_NAMESPACE || space == PONTOON_NAMESPACE,
        };
        if !known && names.len() < 32 && !names.iter().any(|name| name == tag.name()) {
            names.push(tag.name().to_owned());
        }
    }
    names
}
