//! `<dns>`.

use std::net::IpAddr;

use super::cx::{Cx, Node, Result, attr, child, children, filled, owned, text_of};
use super::dhcp::Entry;
use crate::error::{Class, Error};
use crate::{Dns, DnsHost, Forwarder, Srv, Txt, value};

/// The longest service name, so that a record fits its answer.
const MAX_SERVICE: usize = 512 - 30;

pub(super) fn dns(cx: &Cx<'_>, root: Node<'_>) -> Result<Dns> {
    let Some(node) = child(root, "dns") else { return Ok(Dns::default()) };
    let enable = cx.yes_no(node, "enable")?;
    let forward_plain_names = cx.yes_no(node, "forwardPlainNames")?;
    let mut dns = Dns { enable, forward_plain_names, ..Dns::default() };
    for node in children(node, "forwarder") {
        dns.forwarders.push(forwarder(cx, node)?);
    }
    for node in children(node, "host") {
        dns.hosts.extend(whole_host(cx, node)?);
    }
    for node in children(node, "srv") {
        dns.srv.push(srv(cx, node, Entry::Whole)?.into());
    }
    for node in children(node, "txt") {
        let (name, value) = txt(cx, node, Entry::Whole)?;
        dns.txt.push(Txt { name, value: value.unwrap_or_default() });
    }
    let content = ["forwarder", "txt", "srv", "host"];
    let extra = node.children().find(|n| n.is_element() && content.contains(&n.tag_name().name()));
    if let Some(extra) = extra.filter(|_| !dns.enabled()) {
        let message = format!("Extra data in disabled network '{}'", cx.name);
        let help = "remove the content of <dns>, or write enable='yes'";
        return Err(cx.error(extra, Class::Xml, &message).with_help(help));
    }
    Ok(dns)
}

fn forwarder(cx: &Cx<'_>, node: Node<'_>) -> Result<Forwarder> {
    let (mut addr, mut port) = (None, None);
    if let Some(text) = attr(node, "addr") {
        addr = Some(value::address(text).ok_or_else(|| {
            let message = format!("Invalid forwarder IP address '{text}' in network '{}'", cx.name);
            cx.xml(node, "addr", &message).with_help("write the address of a name server")
        })?);
        port = forwarder_port(cx, node)?;
    }
    let domain = owned(node, "domain");
    if addr.is_none() && domain.is_none() {
        let message = "Invalid forwarder element, must contain at least one of addr or domain";
        let help = "write <forwarder addr='ADDRESS'/> or <forwarder domain='DOMAIN'/>";
        return Err(cx.error(node, Class::Xml, message).with_help(help));
    }
    Ok(Forwarder { domain, addr, port })
}

fn forwarder_port(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<u16>> {
    let Some(text) = attr(node, "port") else { return Ok(None) };
    let help = "a port is a number from 1 to 65535; 53 when left out";
    match value::signed(text, 10) {
        None => Err(cx.bad_value(node, "port", " Expected integer value").with_help(help)),
        Some(..0) => Err(cx.bad_value(node, "port", " Expected non-negative value").with_help(help)),
        Some(0) => Err(cx.zero(node, "port")),
        Some(port) => u16::try_from(port).map(Some).map_err(|_| {
            let message = format!("invalid argument: port '{port}' out of range");
            cx.error_at(node, "port", Class::Plain, &message).with_help(help)
        }),
    }
}

/// Name and value; the value may be missing in a partial record.
pub(crate) fn txt(cx: &Cx<'_>, node: Node<'_>, entry: Entry) -> Result<(String, Option<String>)> {
    let network = &cx.name;
    let fail = |attribute: &str, message: &str| cx.error_at(node, attribute, Class::Plain, message);
    let Some(name) = owned(node, "name") else {
        let message = format!("missing required name attribute in DNS TXT record of network {network}");
        return Err(fail("name", &message).with_help("write <txt name='NAME' value='TEXT'/>"));
    };
    if let Some(bad) = name.chars().find(|c| matches!(c, ' ' | ',')) {
        let message = format!("prohibited character in DNS TXT record name '{name}' of network {network}");
        return Err(fail("name", &message).with_help(format!("remove '{bad}' from the name")));
    }
    let value = owned(node, "value");
    if value.is_none() && entry == Entry::Whole {
        let message =
            format!("missing required value attribute in DNS TXT record named '{name}' of network {network}");
        return Err(fail("value", &message).with_help("write <txt name='NAME' value='TEXT'/>"));
    }
    Ok((name, value))
}

/// An SRV record of which any part may be missing.
#[derive(Default)]
pub(crate) struct PartialSrv {
    pub(crate) service: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) target: Option<String>,
    port: Option<u16>,
    priority: Option<u16>,
    weight: Option<u16>,
}

impl From<PartialSrv> for Srv {
    fn from(srv: PartialSrv) -> Self {
        let PartialSrv { service, protocol, domain, target, port, priority, weight } = srv;
        let (service, protocol) = (service.unwrap_or_default(), protocol.unwrap_or_default());
        Self { service, protocol, domain, target, port, priority, weight }
    }
}

pub(crate) fn srv(cx: &Cx<'_>, node: Node<'_>, entry: Entry) -> Result<PartialSrv> {
    let service = srv_service(cx, node, entry)?;
    let protocol = srv_protocol(cx, node, entry, service.as_deref())?;
    let (domain, target) = (owned(node, "domain"), owned(node, "target"));
    let mut srv = PartialSrv { service, protocol, domain, target, ..PartialSrv::default() };
    srv.port = srv_number(cx, node, ("port", "invalid"), &srv, 1)?;
    srv.priority = srv_number(cx, node, ("priority", "Invalid"), &srv, 0)?;
    srv.weight = srv_number(cx, node, ("weight", "invalid"), &srv, 0)?;
    Ok(srv)
}

fn srv_service(cx: &Cx<'_>, node: Node<'_>, entry: Entry) -> Result<Option<String>> {
    let network = &cx.name;
    let fail = |message: &str| cx.error_at(node, "service", Class::Plain, message);
    let Some(service) = owned(node, "service") else {
        if entry == Entry::Partial {
            return Ok(None);
        }
        let message = format!("missing required service attribute in DNS SRV record of network '{network}'");
        return Err(fail(&message).with_help("write service='NAME', such as ldap"));
    };
    if service.len() > MAX_SERVICE {
        let message = format!(
            "service attribute '{service}' in network '{network}' is too long, limit is {MAX_SERVICE} bytes"
        );
        return Err(fail(&message).with_help("services have short names, such as ldap"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "_-+/*".contains(c);
    if let Some(bad) = service.chars().find(|c| !fine(*c)) {
        let message = format!(
            "invalid character in service attribute '{service}' in DNS SRV record of network '{network}'"
        );
        return Err(fail(&message).with_help(format!("remove '{bad}'")));
    }
    Ok(Some(service))
}

fn srv_protocol(cx: &Cx<'_>, node: Node<'_>, entry: Entry, service: Option<&str>) -> Result<Option<String>> {
    let network = &cx.name;
    let fail = |message: &str| {
        cx.error_at(node, "protocol", Class::Plain, message).with_help("a protocol is such as tcp or udp")
    };
    let Some(protocol) = owned(node, "protocol") else {
        if entry == Entry::Partial {
            return Ok(None);
        }
        let service = service.unwrap_or("");
        return Err(fail(&format!(
            "missing required protocol attribute in DNS SRV record '{service}' of network '{network}'"
        )));
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "-+/".contains(c);
    if !protocol.chars().all(fine) {
        return Err(fail(&format!(
            "invalid character in protocol attribute '{protocol}' in DNS SRV record of network '{network}'"
        )));
    }
    Ok(Some(protocol))
}

/// A number of an SRV record, which counts as absent when it is 0.
fn srv_number(
    cx: &Cx<'_>,
    node: Node<'_>,
    (attribute, invalid): (&str, &str),
    srv: &PartialSrv,
    least: u16,
) -> Result<Option<u16>> {
    let Some(text) = filled(node, attribute) else { return Ok(None) };
    let number = value::unsigned(text, 10).and_then(|number| u32::try_from(number).ok());
    let of = format!("for service '{}' in network '{}'", srv.service.as_deref().unwrap_or("(null)"), cx.name);
    let fail = |message: String| cx.error_at(node, attribute, Class::Plain, &message);
    if number.is_some() && srv.target.is_none() {
        let message = format!("DNS SRV {attribute} attribute not permitted without target {of}");
        return Err(fail(message).with_help("add target='HOST'"));
    }
    match number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number >= least) {
        Some(number) => Ok(Some(number).filter(|number| *number > 0)),
        None => {
            let error = fail(format!("{invalid} DNS SRV {attribute} attribute {of}"));
            Err(error.with_help(format!("write a number from {least} to 65535")))
        }
    }
}

/// Address and names of a host; either may be missing in a partial record.
pub(crate) fn host(cx: &Cx<'_>, node: Node<'_>, entry: Entry) -> Result<(Option<IpAddr>, Vec<String>)> {
    let network = &cx.name;
    let fail = |words: &str| -> Error {
        let message = format!("{words} in network '{network}' DNS HOST record");
        cx.error_at(node, "ip", Class::Plain, &message)
            .with_help("write <host ip='ADDRESS'><hostname>NAME</hostname></host>")
    };
    let names: Vec<String> = children(node, "hostname").map(text_of).collect();
    if names.iter().any(String::is_empty) || (names.is_empty() && entry == Entry::Whole) {
        return Err(fail("Missing hostname"));
    }
    match attr(node, "ip") {
        Some(ip) => Ok((Some(value::address(ip).ok_or_else(|| fail("Invalid IP address"))?), names)),
        None if entry == Entry::Whole => Err(fail("Missing IP address")),
        None if names.is_empty() => Err(fail("Missing ip and hostname")),
        None => Ok((None, names)),
    }
}

pub(crate) fn whole_host(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<DnsHost>> {
    let (ip, names) = host(cx, node, Entry::Whole)?;
    Ok(ip.map(|ip| DnsHost { ip, names }))
}
