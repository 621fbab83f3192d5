//! Reading and checking a document.

mod bridge;
pub(crate) mod cx;
pub(crate) mod device;
pub(crate) mod dhcp;
pub(crate) mod dns;
mod forward;
mod ip;
mod log;
pub(crate) mod port_forward;
pub(crate) mod qos;
mod range;
mod uplink;
mod validate;

use cx::{Cx, Node, Result, attr, child, child_text, children, filled, owned};
use device::Typed;

use crate::element::Element;
use crate::error::{Class, Error};
use crate::scan::{self, Kind};
use crate::{DNSMASQ_NAMESPACE, Domain, Ip, Network, PortGroup, Route, schema, value};

/// The largest document that is read; libvirt has the same limit.
const MAX_LENGTH: usize = 4 << 20;
/// The deepest nesting that is read.
const MAX_DEPTH: usize = 256;
/// The most `<ip>` elements: each route is looked up among them.
const MAX_IPS: usize = 1024;

/// Read a document and make every check of `net-define`.
pub fn parse(text: &str) -> Result<Network> {
    read(text, true)
}

/// Read a document with the checks of the format alone, without those on what
/// a network of its mode can support.
pub fn parse_definition(text: &str) -> Result<Network> {
    read(text, false)
}

/// Check a document as `net-define --validate` does before it reads it.
pub fn validate(text: &str) -> Result<()> {
    let document = open(text, "(network_definition)")?;
    let cx = Cx { text, name: String::new() };
    root(&cx, &document)?;
    schema::check(&cx, document.root_element(), schema::NETWORK)
}

fn read(text: &str, driver_checks: bool) -> Result<Network> {
    let document = open(text, "(network_definition)")?;
    let mut cx = Cx { text, name: String::new() };
    let root = root(&cx, &document)?;
    cx.name = name(&cx, root)?;
    let network = network(&cx, root)?;
    if driver_checks {
        validate::driver(&cx, root, &network)?;
    }
    Ok(network)
}

/// Read the tree; `source` is how complaints name the text.
pub(crate) fn open<'a>(text: &'a str, source: &str) -> Result<roxmltree::Document<'a>> {
    check_size(text, source)?;
    roxmltree::Document::parse(text).map_err(|error| Error::malformed(text, source, &error))
}

fn root<'a>(cx: &Cx<'_>, document: &'a roxmltree::Document<'_>) -> Result<Node<'a>> {
    let root = document.root_element();
    let found = root.tag_name().name();
    if found != "network" {
        let message = format!("unexpected root element <{found}>, expecting <network>");
        return Err(cx.error(root, Class::Xml, &message).with_help("a definition is <network>...</network>"));
    }
    Ok(root)
}

/// Refuse what could exhaust memory or stack before it is parsed.
fn check_size(text: &str, source: &str) -> Result<()> {
    let fail = |offset, what: &str| {
        let mut error = Error::new(text, offset, Class::Plain, "");
        error.message = format!("{source}:{}: {what}", error.line);
        Err(error)
    };
    if text.len() > MAX_LENGTH {
        return fail(0, "the document is larger than 4 MiB");
    }
    let mut depth = 0usize;
    for tag in scan::tags(text) {
        match tag.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Empty => {}
        }
        if depth > MAX_DEPTH {
            return fail(tag.offset, "excessive depth in document: 256");
        }
    }
    Ok(())
}

fn name(cx: &Cx<'_>, root: Node<'_>) -> Result<String> {
    let Some((node, name)) = child(root, "name").zip(child_text(root, "name")) else {
        let error = cx.error(root, Class::Plain, "missing name information");
        return Err(error.with_help("add <name>NAME</name> inside <network>"));
    };
    if name.contains('/') {
        return Err(cx.error(node, Class::Plain, "invalid char in name: /").with_help("remove the '/'"));
    }
    Ok(name)
}

/// The order of the parts is the order in which libvirt complains.
fn network(cx: &Cx<'_>, root: Node<'_>) -> Result<Network> {
    let mut network = identity(cx, root)?;
    (network.domain, network.domain_register) = domain(cx, root)?;
    network.bandwidth = qos::bandwidth(cx, root, qos::Use::Network)?.map(|(bandwidth, _)| bandwidth);
    network.vlan = qos::vlan(cx, root)?;
    network.port_isolated = qos::port_isolated(cx, root)?;
    network.bridge = bridge::bridge(cx, root)?;
    network.mac = bridge::mac(cx, root)?;
    network.mtu = bridge::mtu(cx, root)?;
    network.dns = dns::dns(cx, root)?;
    network.virtualport = device::virtual_port(cx, root, Typed::Must)?;
    network.portgroups = portgroups(cx, root)?;
    network.ips = ips(cx, root)?;
    network.routes = routes(cx, root, &network.ips)?;
    network.forward = forward::forward(cx, root)?;
    network.port_forwards = port_forward::all(cx, root, network.forward.mode)?;
    validate::definition(cx, root, &network)?;
    network.metadata = child(root, "metadata").map(Element::metadata);
    network.dnsmasq_options = dnsmasq_options(cx, root)?;
    network.uplink = uplink::uplink(cx, root)?;
    network.filtering = uplink::filtering(cx, root, network.forward.mode)?;
    network.log_mappings = log::mappings(cx, root)?;
    network.unknown = schema::ignored(cx, root, schema::NETWORK);
    Ok(network)
}

fn identity(cx: &Cx<'_>, root: Node<'_>) -> Result<Network> {
    let uuid = uuid(cx, root)?;
    let title = title(cx, root)?;
    let ipv6 = ipv6(cx, root)?;
    Ok(Network {
        name: cx.name.clone(),
        uuid,
        title,
        description: child_text(root, "description"),
        ipv6,
        trust_guest_rx_filters: cx.yes_no(root, "trustGuestRxFilters")?,
        ..Network::default()
    })
}

fn uuid(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<uuid::Uuid>> {
    let Some((node, text)) = child(root, "uuid").zip(child_text(root, "uuid")) else { return Ok(None) };
    value::uuid(&text).map(Some).ok_or_else(|| {
        let error = cx.error(node, Class::Internal, "malformed uuid element");
        error.with_help("write 32 hexadecimal digits in five groups, or leave <uuid> out to get a new one")
    })
}

fn title(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<String>> {
    let Some((node, title)) = child(root, "title").zip(child_text(root, "title")) else { return Ok(None) };
    if title.contains('\n') {
        let error = cx.error(node, Class::Xml, "Network title can't contain newlines");
        return Err(error.with_help("write it on one line; <description> may have several"));
    }
    Ok(Some(title))
}

fn ipv6(cx: &Cx<'_>, root: Node<'_>) -> Result<bool> {
    match filled(root, "ipv6") {
        None | Some("no") => Ok(false),
        Some("yes") => Ok(true),
        Some(word) => {
            let message = format!("Invalid ipv6 setting '{word}' in network '{}'", cx.name);
            Err(cx.xml(root, "ipv6", &message).with_help("write ipv6='yes' or ipv6='no'"))
        }
    }
}

fn domain(cx: &Cx<'_>, root: Node<'_>) -> Result<(Option<Domain>, Option<bool>)> {
    let Some(node) = child(root, "domain") else { return Ok((None, None)) };
    let name = owned(node, "name");
    let local_only = cx.yes_no(node, "localOnly")?.unwrap_or(false);
    let register = cx.yes_no(node, "register")?;
    if register == Some(true) && !local_only {
        let message = format!(
            "attribute 'register=yes' in <domain> element requires 'localOnly=yes' in network {}",
            cx.name
        );
        return Err(cx.unsupported(node, "register", &message).with_help("add localOnly='yes'"));
    }
    let register = register.filter(|_| name.is_some());
    Ok((name.map(|name| Domain { name, local_only }), register))
}

fn portgroups(cx: &Cx<'_>, root: Node<'_>) -> Result<Vec<PortGroup>> {
    children(root, "portgroup").map(|node| qos::portgroup(cx, node)).collect()
}

fn ips(cx: &Cx<'_>, root: Node<'_>) -> Result<Vec<Ip>> {
    if let Some(node) = children(root, "ip").nth(MAX_IPS) {
        let message = format!("network '{}' has more than {MAX_IPS} <ip> elements", cx.name);
        return Err(cx.error(node, Class::Unsupported, &message).with_help("use larger subnets"));
    }
    children(root, "ip").map(|node| ip::ip(cx, node)).collect()
}

fn routes(cx: &Cx<'_>, root: Node<'_>, ips: &[Ip]) -> Result<Vec<Route>> {
    let routes: Vec<Route> =
        children(root, "route").map(|node| ip::route(cx, node)).collect::<Result<_>>()?;
    for (node, route) in children(root, "route").zip(&routes) {
        ip::reachable(cx, node, route, ips)?;
    }
    Ok(routes)
}

fn dnsmasq_options(cx: &Cx<'_>, root: Node<'_>) -> Result<Vec<String>> {
    let is = |node: &Node<'_>, name: &str| node.has_tag_name((DNSMASQ_NAMESPACE, name));
    let lists = root.children().filter(|node| is(node, "options"));
    let options = lists.flat_map(|list| list.children().filter(|node| is(node, "option")));
    let value = |node| {
        attr(node, "value").map(str::to_owned).ok_or_else(|| {
            let error = cx.error(node, Class::Internal, "No dnsmasq options value specified");
            error.with_help("write <dnsmasq:option value='LINE'/>")
        })
    };
    options.map(value).collect()
}
