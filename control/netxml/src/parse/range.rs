//! Checks on a DHCP range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::cx::{Cx, Node, Result};
use crate::Ip;
use crate::error::{Class, Error};

/// The most addresses a range may span, less one.
const MAX_SPAN: u128 = 65535;

pub(super) fn check(cx: &Cx<'_>, node: Node<'_>, ip: &Ip, start: IpAddr, end: IpAddr) -> Result<()> {
    let fail = |attribute: &str, message: &str| cx.error_at(node, attribute, Class::Internal, message);
    if start.is_ipv4() != end.is_ipv4() {
        return Err(fail("end", &format!("mismatch of address family in range {start} - {end}")));
    }
    let gateway = ip.address;
    if start.is_ipv4() != gateway.is_ipv4() {
        let message = format!("mismatch of address family in range {start} - {end} for network {gateway}");
        return Err(fail("start", &message));
    }
    let prefix = ip.prefix;
    if let Ok(net) = IpNet::new(gateway, prefix) {
        let outside = if net.contains(&start) { "end" } else { "start" };
        if !net.contains(&start) || !net.contains(&end) {
            let message = format!("range {start} - {end} is not entirely within network {gateway}/{prefix}");
            return Err(fail(outside, &message).with_help(format!("the subnet is {}", net.trunc())));
        }
    }
    match (gateway, start, end) {
        (IpAddr::V4(gateway), IpAddr::V4(start), IpAddr::V4(end)) => v4(&fail, gateway, prefix, start, end),
        (_, IpAddr::V6(start), IpAddr::V6(end)) => v6(&fail, start, end),
        _ => Ok(()),
    }
}

type Fail<'a> = dyn Fn(&str, &str) -> Error + 'a;

fn v4(fail: &Fail<'_>, gateway: Ipv4Addr, prefix: u8, start: Ipv4Addr, end: Ipv4Addr) -> Result<()> {
    let range = format!("range {start} - {end}");
    if let Ok(net) = Ipv4Net::new(gateway, prefix) {
        if start == net.network() {
            let message = format!("start of {range} in network {gateway}/{prefix} is the network address");
            return Err(fail("start", &message));
        }
        if end == net.broadcast() {
            let message = format!("end of {range} in network {gateway}/{prefix} is the broadcast address");
            return Err(fail("end", &message));
        }
    }
    if start > end {
        return Err(fail("start", &format!("{range} is reversed ")).with_help("exchange start and end"));
    }
    span(fail, &range, u128::from(start.to_bits()), u128::from(end.to_bits()))
}

fn v6(fail: &Fail<'_>, start: Ipv6Addr, end: Ipv6Addr) -> Result<()> {
    let range = format!("range {start} - {end}");
    if start > end {
        return Err(
            fail("start", &format!("{range} start larger than end")).with_help("exchange start and end")
        );
    }
    span(fail, &range, start.to_bits(), end.to_bits())
}

fn span(fail: &Fail<'_>, range: &str, start: u128, end: u128) -> Result<()> {
    if end - start > MAX_SPAN {
        let error = fail("end", &format!("{range} is too large (> 65535)"));
        return Err(error.with_help("use several smaller ranges"));
    }
    Ok(())
}
