//! By which interface, and with which address, the host itself would leave.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use pontoon_proto::document::Mac;

use super::program::Face;
use crate::netlink::{self, request};

/// Somewhere in the internet. Nothing is sent there: the kernel is asked how it would be.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 41, 0, 4);
/// Addresses of the host a datapath is told of.
const MAX_ADDRESSES: usize = 1024;

/// The host's way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WayOut {
    pub(super) name: String,
    pub(super) face: Face,
    pub(super) address: Ipv4Net,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) mtu: u16,
}

/// The way out by the interface `over`, or by the default route. Rules and tables are the kernel's to follow.
pub(super) fn way_out(over: Option<&str>, own: Mac) -> io::Result<Option<WayOut>> {
    let links = netlink::links()?;
    let wanted = match over {
        Some(name) => match links.iter().find(|link| link.name == name) {
            Some(link) => Some(link.index),
            None => return Ok(None),
        },
        None => None,
    };
    let Some((index, source, gateway)) = lookup(wanted)? else { return Ok(None) };
    let Some(link) = links.into_iter().find(|link| link.index == index && !link.loopback) else {
        return Ok(None);
    };
    let of_link = netlink::addresses()?.into_iter().filter(|(at, _)| *at == index);
    let net = of_link.map(|(_, net)| net).find(|net| net.addr() == source);
    let address = net.or_else(|| Ipv4Net::new(source, 32).ok());
    let face = Face { index, ethernet: link.mac.is_some(), mac: link.mac.unwrap_or(own) };
    let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
    Ok(address.map(|address| WayOut { name: link.name, face, address, gateway, mtu }))
}

/// The interface, source address and gateway of packets to the outside.
fn lookup(over: Option<u32>) -> io::Result<Option<(u32, Ipv4Addr, Option<Ipv4Addr>)>> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(OUTSIDE))];
    message.attributes.extend(over.map(RouteAttribute::Oif));
    let answers = match request(RouteNetlinkMessage::GetRoute(message), NLM_F_ACK) {
        Ok(answers) => answers,
        // No route, or one that says so.
        Err(error) if is_no_route(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let route = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    let Some(route) = route.filter(|route| route.header.kind == RouteType::Unicast) else { return Ok(None) };
    let (mut index, mut source, mut gateway) = (None, None, None);
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(value) => index = Some(value),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(address),
            _ => {}
        }
    }
    Ok(index.zip(source).map(|(index, source)| (index, source, gateway)))
}

fn is_no_route(error: &io::Error) -> bool {
    let known =
        [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENODEV, libc::EACCES, libc::EINVAL, libc::ENETDOWN];
    error.raw_os_error().is_some_and(|code| known.contains(&code))
}

/// Addresses of the host besides `address`: what is sent to them is for itself.
pub(super) fn others(address: Option<Ipv4Addr>) -> io::Result<Vec<Ipv4Addr>> {
    let all = netlink::addresses()?.into_iter().map(|(_, net)| net.addr());
    let mut others: Vec<_> = all.filter(|other| Some(*other) != address).collect();
    others.sort_unstable();
    others.dedup();
    others.truncate(MAX_ADDRESSES);
    Ok(others)
}

/// A host keeps an address it is on its way to lose a route for: `address` is still on interface `index`.
pub(super) fn still_has(index: u32, address: Ipv4Addr) -> bool {
    let is = |(at, net): &(u32, Ipv4Net)| *at == index && net.addr() == address;
    netlink::addresses().is_ok_and(|all| all.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_without_harm() {
        // Whatever this machine's routes are, it is an answer and no error.
        way_out(None, [2; 6]).expect("an answer");
        assert_eq!(way_out(Some("pt-none"), [2; 6]).expect("an answer"), None);
        assert!(!others(None).expect("addresses").iter().any(Ipv4Addr::is_loopback));
    }
}
