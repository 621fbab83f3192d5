//! Links, addresses and routes of the calling thread's network namespace, over rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};

use ipnet::Ipv4Net;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use pontoon_proto::document::Route;

use crate::slow;

/// What is asked of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Its frames have link-layer headers of Ethernet, with this address.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) loopback: bool,
    /// It is a bridge of the kernel's.
    pub(crate) is_bridge: bool,
    /// The bridge it is a port of, or the like.
    pub(crate) controller: Option<u32>,
    /// The interface it is a macvlan, an ipvlan or the like of.
    pub(crate) lower: Option<u32>,
}

/// Changes to one link; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Change {
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: Option<u16>,
    pub(crate) up: bool,
    pub(crate) carrier: Option<bool>,
    /// The bridge it becomes a port of.
    pub(crate) controller: Option<u32>,
}

/// All links.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    let answers = request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
    Ok(answers.into_iter().filter_map(to_link).collect())
}

pub(crate) fn link(name: &str) -> io::Result<Option<Link>> {
    Ok(links()?.into_iter().find(|link| link.name == name))
}

/// Number of an interface. Unlike all else here it does not wait for the lock that the kernel has for all changes of
/// links, which other namespaces' comings and goings hold for long.
pub(crate) fn index(name: &str) -> io::Result<Option<u32>> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(rustix::io::Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn to_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let header = message.header;
    let (name, loopback) = (String::new(), header.flags.contains(LinkFlags::Loopback));
    let (mtu, mac, is_bridge, controller) = (1500, None, false, None);
    let mut link = Link { index: header.index, name, mtu, mac, loopback, is_bridge, controller, lower: None };
    let (mut other, mut is_upper) = (None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(facts) => {
                link.is_bridge = facts.contains(&LinkInfo::Kind(InfoKind::Bridge));
                is_upper =
                    facts.iter().any(|fact| matches!(fact, LinkInfo::Kind(kind) if is_upper_kind(kind)));
            }
            LinkAttribute::Link(index) => other = Some(index),
            LinkAttribute::Address(address) if header.link_layer_type == LinkLayerType::Ether => {
                link.mac = <[u8; 6]>::try_from(address.as_slice()).ok();
            }
            _ => {}
        }
    }
    link.lower = other.filter(|_| is_upper);
    Some(link)
}

fn is_upper_kind(kind: &InfoKind) -> bool {
    matches!(kind, InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap)
}

pub(crate) fn change(index: u32, change: Change) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if change.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    if let Some(mac) = change.mac {
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
    }
    if let Some(carrier) = change.carrier {
        message.attributes.push(LinkAttribute::Carrier(u8::from(carrier)));
    }
    if let Some(controller) = change.controller {
        message.attributes.push(LinkAttribute::Controller(controller));
    }
    if let Some(mtu) = change.mtu {
        message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
    }
    request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
}

pub(crate) fn delete(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    request(RouteNetlinkMessage::DelLink(message), NLM_F_ACK).map(drop)
}

pub(crate) fn add_address(index: u32, net: Ipv4Net) -> io::Result<()> {
    let message = RouteNetlinkMessage::NewAddress(address_of(index, net));
    request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
}

pub(crate) fn delete_address(index: u32, net: Ipv4Net) -> io::Result<()> {
    request(RouteNetlinkMessage::DelAddress(address_of(index, net)), NLM_F_ACK).map(drop)
}

fn address_of(index: u32, net: Ipv4Net) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(net.addr())),
        AddressAttribute::Address(IpAddr::V4(net.addr())),
        AddressAttribute::Broadcast(net.broadcast()),
    ];
    message
}

/// A route by a gateway on the interface; one that is there already is well.
pub(crate) fn add_route(index: u32, route: &Route) -> io::Result<()> {
    match request(
        RouteNetlinkMessage::NewRoute(route_of(index, route)),
        NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    ) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn delete_route(index: u32, route: &Route) -> io::Result<()> {
    request(RouteNetlinkMessage::DelRoute(route_of(index, route)), NLM_F_ACK).map(drop)
}

fn route_of(index: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet(route.destination.addr())),
        RouteAttribute::Gateway(RouteAddress::Inet(route.gateway)),
        RouteAttribute::Oif(index),
        RouteAttribute::Priority(route.metric),
    ];
    message
}

/// Hears of changed links, addresses, routes and rules of the namespace it is made in.
pub(crate) struct Monitor(Socket);

impl Monitor {
    pub(crate) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in
            [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV4_RULE]
        {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Reads what is reported; true when there was something, or too much to keep.
    pub(crate) fn drain(&self) -> bool {
        let mut changed = false;
        // What has changed is looked up anyway.
        let mut buffer = Vec::with_capacity(1);
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, libc::MSG_TRUNC) {
                Ok(_) => changed = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(_) => return changed,
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The subnets this namespace already uses: every IPv4 address and every route but the default ones, each with
/// the index of its interface.
pub(crate) fn subnets_in_use() -> io::Result<Vec<(u32, Ipv4Net)>> {
    let mut used: Vec<_> = addresses()?.into_iter().map(|(index, net)| (index, net.trunc())).collect();
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let routes = request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
    used.extend(routes.into_iter().filter_map(route_subnet));
    Ok(used)
}

/// Every IPv4 address but those of loopback, with the index of its interface.
pub(crate) fn addresses() -> io::Result<Vec<(u32, Ipv4Net)>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
    Ok(answers.into_iter().filter_map(address_subnet).collect())
}

fn address_subnet(message: RouteNetlinkMessage) -> Option<(u32, Ipv4Net)> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    let net = Ipv4Net::new(address, message.header.prefix_len).ok()?;
    (!address.is_loopback()).then_some((message.header.index, net))
}

fn route_subnet(message: RouteNetlinkMessage) -> Option<(u32, Ipv4Net)> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let prefix = message.header.destination_prefix_length;
    if prefix == 0 || message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut destination, mut index) = (None, 0);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = Some(address),
            RouteAttribute::Oif(value) => index = value,
            _ => {}
        }
    }
    Some((index, Ipv4Net::new(destination?, prefix).ok()?.trunc()))
}

/// The first of libvirt's usual /24 subnets that overlaps none of `used`.
pub(crate) fn free_subnet(used: &[Ipv4Net]) -> Option<Ipv4Net> {
    (122..=254)
        .map(|third| Ipv4Addr::new(192, 168, third, 0))
        .chain((100..=254).map(|third| Ipv4Addr::new(10, 88, third, 0)))
        .filter_map(|address| Ipv4Net::new(address, 24).ok())
        .find(|net| !used.iter().any(|other| overlap(*net, *other)))
}

pub(crate) fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Sends one request and reads the answer to its end, which takes `NLM_F_ACK` or `NLM_F_DUMP`.
pub(crate) fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = 1;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    slow::noted(
        || "the kernel's answer about interfaces".to_owned(),
        || {
            socket.send(&bytes, 0)?;
            let mut answers = Vec::new();
            loop {
                let (datagram, _) = socket.recv_from_full()?;
                if read_datagram(&datagram, &mut answers)? {
                    return Ok(answers);
                }
            }
        },
    )
}

/// Takes the messages of one datagram; true when the answer is complete. A message the crate cannot read (a new
/// kernel's attribute) is passed over.
fn read_datagram(datagram: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
        let Some(one) = rest.get(..length).filter(|one| one.len() >= 16) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "short netlink message"));
        };
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(true),
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("net")
    }

    #[test]
    fn subnets_overlap_wholly_or_in_part() {
        assert!(overlap(net("192.168.122.0/24"), net("192.168.122.0/24")));
        assert!(overlap(net("192.168.0.0/16"), net("192.168.122.0/24")));
        assert!(overlap(net("192.168.122.128/25"), net("192.168.122.0/24")));
        assert!(!overlap(net("192.168.123.0/24"), net("192.168.122.0/24")));
    }

    #[test]
    fn the_free_subnet_is_the_first_that_overlaps_nothing() {
        assert_eq!(free_subnet(&[]), Some(net("192.168.122.0/24")));
        assert_eq!(
            free_subnet(&[net("192.168.122.0/24"), net("192.168.123.64/26")]),
            Some(net("192.168.124.0/24"))
        );
        assert_eq!(free_subnet(&[net("192.168.0.0/16")]), Some(net("10.88.100.0/24")));
    }

    #[test]
    fn loopback_is_listed() {
        let link = link("lo").expect("netlink").expect("lo");
        assert_eq!((link.index, link.name.as_str()), (1, "lo"));
        assert_eq!(index("lo").expect("lo"), Some(1));
        for none in ["pt-none", "longer than a name can be"] {
            assert_eq!(index(none).expect("asked"), None);
        }
    }
}
