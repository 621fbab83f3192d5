//! `<ip>` and `<route>`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::cx::{Cx, Node, Result, attr, child, filled, owned};
use super::dhcp;
use crate::error::Error;
use crate::value::{address, address_text, natural_prefix, netmask_bits};
use crate::{Ip, Route, Written};

pub(super) fn ip(cx: &Cx<'_>, node: Node<'_>) -> Result<Ip> {
    let name = &cx.name;
    let Some(text) = filled(node, "address") else {
        let message = format!("Missing required address attribute in network '{name}'");
        return Err(cx.xml(node, "address", &message).with_help("write <ip address='192.168.100.1' ...>"));
    };
    let address = address(text).ok_or_else(|| {
        let message = format!("Invalid address '{text}' in network '{name}'");
        cx.xml(node, "address", &message).with_help("write an IPv4 or IPv6 address")
    })?;
    let mask = netmask(cx, node)?;
    let prefix = cx.number::<u32>(node, "prefix", 10)?.filter(|prefix| *prefix > 0);
    let local_ptr = cx.yes_no(node, "localPtr")?;
    let (prefix, written) = length(cx, node, address, mask, prefix)?;
    let family = filled(node, "family").map(str::to_owned);
    let mut ip = Ip {
        address,
        prefix,
        written_as_netmask: written,
        family,
        local_ptr,
        tftp_root: None,
        ranges: Vec::new(),
        hosts: Vec::new(),
        bootp_file: None,
        bootp_server: None,
    };
    if let Some(node) = child(node, "dhcp") {
        dhcp::dhcp(cx, node, &mut ip)?;
    }
    if let Some(tftp) = child(node, "tftp") {
        if ip.address.is_ipv6() {
            let message = format!("Unsupported <tftp> element in an IPv6 element in network '{name}'");
            return Err(cx.unsupported(tftp, "", &message).with_help("move it to the IPv4 <ip>"));
        }
        ip.tftp_root = filled(tftp, "root").map(str::to_owned);
    }
    Ok(ip)
}

fn netmask(cx: &Cx<'_>, node: Node<'_>) -> Result<Option<IpAddr>> {
    let Some(text) = filled(node, "netmask") else { return Ok(None) };
    address(text).map(Some).ok_or_else(|| {
        let message = format!("Invalid netmask '{text}' in network '{}'", cx.name);
        cx.xml(node, "netmask", &message).with_help("a netmask is such as 255.255.255.0")
    })
}

/// The prefix length, and how it is written.
fn length(
    cx: &Cx<'_>,
    node: Node<'_>,
    ip: IpAddr,
    mask: Option<IpAddr>,
    prefix: Option<u32>,
) -> Result<(u8, Written)> {
    let (name, text) = (&cx.name, filled(node, "address").unwrap_or(""));
    let fail = |attribute: &str, message: &str| cx.unsupported(node, attribute, message);
    let most = family(cx, node, ip)?;
    if let Some(mask) = mask.filter(|_| ip.is_ipv6()) {
        let message = format!("netmask not allowed for IPv6 address '{text}' in network '{name}'");
        let help = format!("write prefix='64' instead of {}", address_text(mask));
        return Err(fail("netmask", &message).with_help(help));
    }
    if let Some(mask) = mask {
        let bits = match mask {
            IpAddr::V4(mask) => netmask_bits(mask),
            IpAddr::V6(_) => None,
        };
        let Some(bits) = bits else {
            let written = filled(node, "netmask").unwrap_or("");
            let message = format!(
                "Invalid netmask '{written}' for address '{text}' in network '{name}' (both must be IPv4)"
            );
            let help = "a netmask is ones and then zeros, such as 255.255.255.0; prefix='24' means the same";
            return Err(fail("netmask", &message).with_help(help));
        };
        if prefix.is_some() {
            let message = format!("Network '{name}' IP address cannot have both a prefix and a netmask");
            return Err(fail("prefix", &message).with_help("remove one of the two"));
        }
        return Ok((bits, Written::Netmask));
    }
    let Some(prefix) = prefix else { return Ok((natural_prefix(ip), Written::Absent)) };
    match u8::try_from(prefix) {
        Ok(length) if length <= most => Ok((length, Written::Prefix)),
        _ => {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("Invalid {family} prefix '{prefix}' in network '{name}'");
            Err(fail("prefix", &message).with_help(format!("write a number from 1 to {most}")))
        }
    }
}

/// Checks `family` and returns the longest prefix of it.
fn family(cx: &Cx<'_>, node: Node<'_>, ip: IpAddr) -> Result<u8> {
    let (name, text) = (&cx.name, filled(node, "address").unwrap_or(""));
    let fail = |error: Error| {
        let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
        Err(error.with_help(format!("write family='{family}'")))
    };
    let unsupported = |message: String| fail(cx.unsupported(node, "family", &message));
    match (filled(node, "family"), ip) {
        (None | Some("ipv4"), IpAddr::V4(_)) => Ok(32),
        (Some("ipv6"), IpAddr::V6(_)) => Ok(128),
        (None, _) => {
            unsupported(format!("no family specified for non-IPv4 address '{text}' in network '{name}'"))
        }
        (Some("ipv4"), _) => {
            unsupported(format!("ipv4 family specified for non-IPv4 address '{text}' in network '{name}'"))
        }
        (Some("ipv6"), _) => {
            unsupported(format!("Family 'ipv6' specified for non-IPv6 address '{text}' in network '{name}'"))
        }
        (Some(other), _) => {
            fail(cx.xml(node, "family", &format!("Unrecognized family '{other}' in network '{name}'")))
        }
    }
}

struct RouteCx<'a> {
    cx: &'a Cx<'a>,
    node: Node<'a>,
}

impl RouteCx<'_> {
    fn fail(&self, attribute: &str, message: &str) -> Error {
        self.cx.xml(self.node, attribute, &format!("{}: {message}", self.cx.name))
    }

    fn required(&self, name: &str) -> Result<&str> {
        attr(self.node, name).ok_or_else(|| {
            let error = self.fail(name, &format!("Missing required {name} attribute in route definition"));
            error.with_help("write <route address='SUBNET' prefix='24' gateway='GUEST'/>")
        })
    }

    fn address(&self, name: &str, words: &str, text: &str) -> Result<IpAddr> {
        address(text).ok_or_else(|| {
            let error = self.fail(name, &format!("Bad {words} address '{text}' in route definition"));
            error.with_help("write an IPv4 or IPv6 address")
        })
    }

    /// Both addresses are of the family, whose longest prefix is returned.
    fn family(&self, target: IpAddr, gateway: IpAddr) -> Result<u8> {
        let address = attr(self.node, "address").unwrap_or("");
        let wrong = |attribute: &str, message: String| {
            let error = self.fail(attribute, &message);
            Err(error.with_help("address, gateway and family must be of one family: ipv4 or ipv6"))
        };
        let family = attr(self.node, "family");
        match family {
            None | Some("ipv4") => {
                let words = if family.is_some() { "IPv4" } else { "No" };
                // libvirt names the address in both messages.
                let message = |what| {
                    format!("{words} family specified for non-IPv4 {what} '{address}' in route definition")
                };
                match (target, gateway) {
                    (IpAddr::V6(_), _) => wrong("address", message("address")),
                    (_, IpAddr::V6(_)) => wrong("gateway", message("gateway")),
                    _ => Ok(32),
                }
            }
            Some("ipv6") if target.is_ipv4() => wrong(
                "address",
                format!("ipv6 family specified for non-IPv6 address '{address}' in route definition"),
            ),
            Some("ipv6") => Ok(128),
            Some(other) => wrong("family", format!("Unrecognized family '{other}' in route definition")),
        }
    }

    fn length(&self, target: IpAddr, gateway: IpAddr) -> Result<(u8, Written)> {
        let prefix = self.cx.number::<u32>(self.node, "prefix", 10)?;
        let most = self.family(target, gateway)?;
        let (text, mask) = (attr(self.node, "address").unwrap_or(""), attr(self.node, "netmask"));
        if let Some(mask) = mask.filter(|_| most == 32) {
            return self.netmask(mask, prefix);
        }
        if mask.is_some() {
            let message = format!("Specifying netmask invalid for IPv6 address '{text}' in route definition");
            return Err(self.fail("netmask", &message).with_help("write prefix instead"));
        }
        if most == 128 && gateway.is_ipv4() {
            let gateway = attr(self.node, "gateway").unwrap_or("");
            let message =
                format!("ipv6 specified for non-IPv6 gateway address '{gateway}' in route definition");
            return Err(self.fail("gateway", &message).with_help("write an IPv6 gateway"));
        }
        let written = if prefix.is_some() { Written::Prefix } else { Written::Absent };
        let prefix = prefix.unwrap_or(0);
        match u8::try_from(prefix) {
            Ok(length) if length <= most => Ok((length, written)),
            _ => {
                let message =
                    format!("Invalid prefix {prefix} specified in route definition, must be 0 - {most}");
                Err(self.fail("prefix", &message).with_help(format!("write a number from 0 to {most}")))
            }
        }
    }

    fn netmask(&self, mask: &str, prefix: Option<u32>) -> Result<(u8, Written)> {
        let text = attr(self.node, "address").unwrap_or("");
        let bits = match self.address("netmask", "netmask", mask)? {
            IpAddr::V4(mask) => netmask_bits(mask),
            IpAddr::V6(_) => None,
        };
        let Some(bits) = bits else {
            let message = format!("Invalid netmask '{mask}' for address '{text}' (both must be IPv4)");
            return Err(self.fail("netmask", &message).with_help("a netmask is ones and then zeros"));
        };
        if prefix.is_some() {
            let message = "Route definition cannot have both a prefix and a netmask";
            return Err(self.fail("prefix", message).with_help("remove one of the two"));
        }
        Ok((bits, Written::Netmask))
    }
}

pub(super) fn route(cx: &Cx<'_>, node: Node<'_>) -> Result<Route> {
    let route = RouteCx { cx, node };
    cx.number::<u32>(node, "prefix", 10)?;
    let metric: Option<u32> = cx.number(node, "metric", 10)?;
    if metric == Some(0) {
        return Err(cx.zero(node, "metric").with_help("leave metric out for the default"));
    }
    let (target, gateway) = (route.required("address")?, route.required("gateway")?);
    let address = route.address("address", "network", target)?;
    let via = route.address("gateway", "gateway", gateway)?;
    let (prefix, written) = route.length(address, via)?;
    let net = IpNet::new(address, prefix).map(|net| net.trunc()).ok();
    if let Some(net) = net.filter(|net| net.addr() != address) {
        let message = format!("Address '{target}' in route definition is not a network address");
        let help = match written {
            Written::Absent => "add the prefix length of the subnet".to_owned(),
            _ => format!("the subnet is {net}"),
        };
        return Err(route.fail("address", &message).with_help(help));
    }
    let family = owned(node, "family");
    Ok(Route { family, address, prefix, written_as_netmask: written, gateway: via, metric })
}

/// A gateway is within one of the subnets.
pub(super) fn reachable(cx: &Cx<'_>, node: Node<'_>, route: &Route, ips: &[Ip]) -> Result<()> {
    let inside = |ip: &Ip| IpNet::new(ip.address, ip.prefix).is_ok_and(|net| net.contains(&route.gateway));
    if ips.iter().any(inside) {
        return Ok(());
    }
    let message = format!(
        "unreachable static route gateway '{}' specified for network '{}'",
        address_text(route.gateway),
        cx.name
    );
    let error = cx.unsupported(node, "gateway", &message);
    Err(error.with_help("the gateway must be an address within one of the <ip> subnets"))
}
