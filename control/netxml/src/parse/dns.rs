//! `<dns>`.

use super::cx::{Cx, Node, Result, attr, child, children, owned, text_of};
use crate::error::Class;
use crate::{Dns, DnsHost, Forwarder, Srv, Txt};

pub(super) fn dns(cx: &Cx<'_>, root: Node<'_>) -> Result<Dns> {
    let Some(node) = child(root, "dns") else { return Ok(Dns::default()) };
    let enable = cx.yes_no(node, "enable")?.unwrap_or(true);
    let forward_plain_names = cx.yes_no(node, "forwardPlainNames")?;
    let mut dns = Dns { enable, forward_plain_names, ..Dns::default() };
    for node in children(node, "forwarder") {
        dns.forwarders.push(forwarder(cx, node)?);
    }
    for node in children(node, "txt") {
        dns.txt.push(txt(cx, node)?);
    }
    for node in children(node, "srv") {
        dns.srv.push(srv(cx, node)?);
    }
    for node in children(node, "host") {
        dns.hosts.push(host(cx, node)?);
    }
    let content = ["forwarder", "txt", "srv", "host"];
    let extra = node.children().find(|n| n.is_element() && content.contains(&n.tag_name().name()));
    if let Some(extra) = extra.filter(|_| !enable) {
        let message = format!("Extra data in disabled network '{}'", cx.name);
        let help = "remove the content of <dns>, or write enable='yes'";
        return Err(cx.error(extra, Class::Xml, &message).with_help(help));
    }
    Ok(dns)
}

fn forwarder(cx: &Cx<'_>, node: Node<'_>) -> Result<Forwarder> {
    let addr = match attr(node, "addr") {
        None => None,
        Some(value) => Some(value.parse().map_err(|_| {
            let message = format!("Invalid forwarder IP address '{value}' in network '{}'", cx.name);
            cx.xml(node, "addr", &message)
        })?),
    };
    let domain = owned(node, "domain");
    if addr.is_none() && domain.is_none() {
        let message = "Invalid forwarder element, must contain at least one of addr or domain";
        return Err(cx.error(node, Class::Xml, message));
    }
    Ok(Forwarder { domain, addr, port: cx.number(node, "port")? })
}

fn txt(cx: &Cx<'_>, node: Node<'_>) -> Result<Txt> {
    let network = &cx.name;
    let fail = |attribute: &str, message: &str| cx.error_at(node, attribute, Class::Plain, message);
    let Some(name) = owned(node, "name") else {
        let message = format!("missing required name attribute in DNS TXT record of network {network}");
        return Err(fail("name", &message));
    };
    if let Some(bad) = name.chars().find(|c| matches!(c, ' ' | ',')) {
        let message = format!("prohibited character in DNS TXT record name '{name}' of network {network}");
        return Err(fail("name", &message).with_help(format!("remove '{bad}' from the name")));
    }
    let Some(value) = owned(node, "value") else {
        let message =
            format!("missing required value attribute in DNS TXT record named '{name}' of network {network}");
        return Err(fail("value", &message));
    };
    Ok(Txt { name, value })
}

fn srv(cx: &Cx<'_>, node: Node<'_>) -> Result<Srv> {
    let network = &cx.name;
    let fail = |attribute: &str, message: &str| cx.error_at(node, attribute, Class::Plain, message);
    let Some(service) = owned(node, "service") else {
        let message = format!("missing required service attribute in DNS SRV record of network '{network}'");
        return Err(fail("service", &message));
    };
    let Some(protocol) = owned(node, "protocol") else {
        let message = format!(
            "missing required protocol attribute in DNS SRV record '{service}' of network '{network}'"
        );
        return Err(fail("protocol", &message));
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !service.chars().all(|c| fine(c) || c == '.') {
        let message = format!(
            "invalid character in service attribute '{service}' in DNS SRV record of network '{network}'"
        );
        return Err(fail("service", &message));
    }
    if !protocol.chars().all(fine) {
        let message = format!(
            "invalid character in protocol attribute '{protocol}' in DNS SRV record of network '{network}'"
        );
        return Err(fail("protocol", &message).with_help("a protocol is such as tcp or udp"));
    }
    let (domain, target) = (owned(node, "domain"), owned(node, "target"));
    let number = |attribute: &str| srv_number(cx, node, attribute, &service, target.is_some());
    let (port, priority, weight) = (number("port")?, number("priority")?, number("weight")?);
    Ok(Srv { service, protocol, domain, target, port, priority, weight })
}

fn srv_number(
    cx: &Cx<'_>,
    node: Node<'_>,
    attribute: &str,
    service: &str,
    has_target: bool,
) -> Result<Option<u16>> {
    let Some(value) = attr(node, attribute) else { return Ok(None) };
    let of = format!("for service '{service}' in network '{}'", cx.name);
    if !has_target {
        let message = format!("DNS SRV {attribute} attribute not permitted without target {of}");
        return Err(cx.error_at(node, attribute, Class::Plain, &message).with_help("add target='HOST'"));
    }
    let number = value.parse::<u16>().ok().filter(|number| attribute != "port" || *number > 0);
    number.map(Some).ok_or_else(|| {
        cx.error_at(node, attribute, Class::Plain, &format!("invalid DNS SRV {attribute} attribute {of}"))
    })
}

fn host(cx: &Cx<'_>, node: Node<'_>) -> Result<DnsHost> {
    let network = &cx.name;
    let Some(value) = attr(node, "ip") else {
        let message = format!("Missing IP address in network '{network}' DNS HOST record");
        return Err(cx.error(node, Class::Plain, &message));
    };
    let ip = value.parse().map_err(|_| {
        let message = format!("Invalid IP address in network '{network}' DNS HOST record");
        cx.error_at(node, "ip", Class::Plain, &message)
    })?;
    let names: Vec<String> = children(node, "hostname").map(text_of).collect();
    if names.is_empty() || names.iter().any(String::is_empty) {
        let message = format!("Missing hostname in network '{network}' DNS HOST record");
        return Err(cx.error(node, Class::Plain, &message).with_help("add <hostname>NAME</hostname>"));
    }
    Ok(DnsHost { ip, names })
}
