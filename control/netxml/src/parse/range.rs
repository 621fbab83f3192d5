//! Checks on a range of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::cx::{Cx, Node, Result};
use crate::error::{Class, Error};
use crate::value::address_text;

/// `within` is the gateway's address and prefix length of the subnet that must hold the range.
pub(super) fn check(
    cx: &Cx<'_>,
    node: Node<'_>,
    within: Option<(IpAddr, u8)>,
    start: IpAddr,
    end: IpAddr,
) -> Result<()> {
    let range = format!("range {} - {}", address_text(start), address_text(end));
    let fail = |attribute: &str, message: &str| cx.error_at(node, attribute, Class::Internal, message);
    if start.is_ipv4() != end.is_ipv4() {
        let error = fail("end", &format!("mismatch of address family in {range}"));
        return Err(error.with_help("write both ends in the same family"));
    }
    if let Some((gateway, prefix)) = within {
        inside(&fail, &range, (gateway, prefix), start, end)?;
    }
    match (start, end) {
        (IpAddr::V4(start), IpAddr::V4(end)) => order_v4(&fail, &range, start, end),
        (IpAddr::V6(start), IpAddr::V6(end)) => order_v6(&fail, &range, start, end),
        _ => Ok(()),
    }
}

type Fail<'a> = dyn Fn(&str, &str) -> Error + 'a;

fn inside(
    fail: &Fail<'_>,
    range: &str,
    (gateway, prefix): (IpAddr, u8),
    start: IpAddr,
    end: IpAddr,
) -> Result<()> {
    let network = address_text(gateway);
    if start.is_ipv4() != gateway.is_ipv4() {
        let error = fail("start", &format!("mismatch of address family in {range} for network {network}"));
        return Err(error.with_help("move the range to an <ip> of its family"));
    }
    let Ok(net) = IpNet::new(gateway, prefix) else { return Ok(()) };
    if !net.contains(&start) || !net.contains(&end) {
        let outside = if net.contains(&start) { "end" } else { "start" };
        let message = format!("{range} is not entirely within network {network}/{prefix}");
        return Err(fail(outside, &message).with_help(format!("the subnet is {}", net.trunc())));
    }
    let (IpAddr::V4(gateway), IpAddr::V4(start), IpAddr::V4(end)) = (gateway, start, end) else {
        return Ok(());
    };
    let Ok(net) = Ipv4Net::new(gateway, prefix) else { return Ok(()) };
    if start == net.network() {
        let message = format!("start of {range} in network {network}/{prefix} is the network address");
        return Err(fail("start", &message).with_help("start one address later"));
    }
    if end == net.broadcast() {
        let message = format!("end of {range} in network {network}/{prefix} is the broadcast address");
        return Err(fail("end", &message).with_help("end one address earlier"));
    }
    Ok(())
}

fn too_large(fail: &Fail<'_>, range: &str) -> Error {
    fail("end", &format!("{range} is too large (> 65535)")).with_help("use several smaller ranges")
}

/// Both ends agree in the first two octets.
fn order_v4(fail: &Fail<'_>, range: &str, start: Ipv4Addr, end: Ipv4Addr) -> Result<()> {
    if start.octets()[..2] != end.octets()[..2] {
        return Err(too_large(fail, range));
    }
    if start > end {
        return Err(fail("start", &format!("{range} is reversed ")).with_help("exchange start and end"));
    }
    Ok(())
}

/// Both ends agree in all but the last two octets.
fn order_v6(fail: &Fail<'_>, range: &str, start: Ipv6Addr, end: Ipv6Addr) -> Result<()> {
    if start.segments()[..7] != end.segments()[..7] {
        return Err(too_large(fail, range));
    }
    if start > end {
        let message = format!("{range} start larger than end");
        return Err(fail("start", &message).with_help("exchange start and end"));
    }
    Ok(())
}

pub(super) fn check_v4(cx: &Cx<'_>, node: Node<'_>, start: Ipv4Addr, end: Ipv4Addr) -> Result<()> {
    check(cx, node, None, start.into(), end.into())
}
