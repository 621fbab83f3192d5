//! `<ip>` and `<route>`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::cx::{Cx, Node, Result, Subnet, attr, child, natural_prefix, owned};
use super::dhcp;
use crate::error::Class;
use crate::{Ip, Route};

pub(super) fn ip(cx: &Cx<'_>, node: Node<'_>) -> Result<Ip> {
    let name = &cx.name;
    let Some(value) = attr(node, "address") else {
        let message = format!("Missing required address attribute in network '{name}'");
        return Err(cx.xml(node, "address", &message).with_help("write <ip address='192.168.100.1' ...>"));
    };
    let address: IpAddr = value.parse().map_err(|_| {
        let message = format!("Invalid address '{value}' in network '{name}'");
        cx.xml(node, "address", &message)
    })?;
    let natural = natural_prefix(address);
    let (prefix, written) = cx.subnet(&Subnet { node, address, natural })?;
    let mut ip = Ip {
        address,
        prefix,
        written_as_netmask: written,
        family: owned(node, "family"),
        local_ptr: cx.yes_no(node, "localPtr")?,
        tftp_root: child(node, "tftp").and_then(|tftp| owned(tftp, "root")),
        has_dhcp: false,
        ranges: Vec::new(),
        hosts: Vec::new(),
        bootp_file: None,
        bootp_server: None,
    };
    if let Some(node) = child(node, "dhcp") {
        dhcp::dhcp(cx, node, &mut ip)?;
    }
    Ok(ip)
}

fn address_of(cx: &Cx<'_>, node: Node<'_>, attribute: &str) -> Result<IpAddr> {
    let name = &cx.name;
    let Some(value) = attr(node, attribute) else {
        let message =
            format!("Missing required {attribute} attribute in route definition of network '{name}'");
        return Err(cx.xml(node, attribute, &message));
    };
    value.parse().map_err(|_| {
        let message = format!("Bad network {attribute} '{value}' in route definition of network '{name}'");
        cx.xml(node, attribute, &message)
    })
}

pub(super) fn route(cx: &Cx<'_>, node: Node<'_>, ips: &[Ip]) -> Result<Route> {
    let address = address_of(cx, node, "address")?;
    let gateway = address_of(cx, node, "gateway")?;
    let natural = if address.is_unspecified() { 0 } else { natural_prefix(address) };
    let (prefix, written) = cx.subnet(&Subnet { node, address, natural })?;
    let inside = |ip: &Ip| IpNet::new(ip.address, ip.prefix).is_ok_and(|net| net.contains(&gateway));
    if gateway.is_ipv4() != address.is_ipv4() || !ips.iter().any(inside) {
        let message =
            format!("unreachable static route gateway '{gateway}' specified for network '{}'", cx.name);
        let error = cx.error_at(node, "gateway", Class::Unsupported, &message);
        return Err(error.with_help("the gateway must be an address within one of the <ip> subnets"));
    }
    Ok(Route {
        family: owned(node, "family"),
        address,
        prefix,
        written_as_netmask: written,
        gateway,
        metric: cx.number(node, "metric")?,
    })
}
