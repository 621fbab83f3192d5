//! Whatever is printed is read again as the same, and nothing that is read makes the reader panic.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pontoon_netxml::{
    Bandwidth, Bridge, Content, DhcpHost, Dns, DnsHost, Domain, Driver, DumpOptions, Element, Forward,
    Forwarder, Ip, Lease, LeaseUnit, Mode, Network, PciAddress, PortGroup, Range, Rate, Route, Section, Srv,
    Txt, UpdateCommand, VirtualPort, VirtualPortKind, Vlan, VlanTag, Written, parse, parse_definition, port,
    update, validate,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9 .'\"&<>\u{e9}\u{2603}_\t-]{1,10}"
}

/// As an attribute may hold it.
fn lines() -> impl Strategy<Value = String> {
    "[a-z0-9 .'\"&<>\u{e9}\n\r\t-]{0,8}"
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}"
}

fn mac() -> impl Strategy<Value = [u8; 6]> {
    any::<[u8; 6]>().prop_map(|mac| [mac[0] & 0xfe, mac[1], mac[2], mac[3], mac[4], mac[5]])
}

fn id() -> impl Strategy<Value = uuid::Uuid> {
    any::<u128>().prop_map(uuid::Uuid::from_u128)
}

fn v4() -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into())
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![v4(), any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into())]
}

fn some(number: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Option<u64>> {
    of(number)
}

fn vlan() -> impl Strategy<Value = Vlan> {
    (any::<bool>(), vec(0u16..4096, 1..4), any::<bool>()).prop_map(|(trunk, ids, native)| {
        let mut tags: Vec<VlanTag> = ids.into_iter().map(|id| VlanTag { id, native_mode: None }).collect();
        tags[0].native_mode = native.then(|| "untagged".to_owned());
        Vlan { trunk: trunk || tags.len() > 1, tags }
    })
}

fn rate() -> impl Strategy<Value = Rate> {
    (1u64.., some(1..=u64::MAX), some(1..=u64::MAX)).prop_map(|(average, peak, burst)| Rate {
        average: Some(average),
        peak,
        burst,
        floor: None,
    })
}

fn bandwidth() -> impl Strategy<Value = Bandwidth> {
    (rate(), of(rate())).prop_map(|(inbound, outbound)| Bandwidth { inbound: Some(inbound), outbound })
}

fn virtual_port() -> impl Strategy<Value = VirtualPort> {
    let qbg = (of(any::<u8>()), of(0u32..0x0100_0000), of(any::<u8>()), of(id())).prop_map(
        |(manager, type_id, type_version, instance)| VirtualPort {
            kind: Some(VirtualPortKind::Qbg),
            manager,
            type_id,
            type_version,
            instance,
            ..VirtualPort::default()
        },
    );
    let ovs = (of(id()), of(word())).prop_map(|(interface, profile)| VirtualPort {
        kind: Some(VirtualPortKind::OpenVSwitch),
        interface,
        profile,
        ..VirtualPort::default()
    });
    prop_oneof![qbg, ovs]
}

fn portgroup() -> impl Strategy<Value = PortGroup> {
    (of(any::<bool>()), of(vlan()), of(virtual_port()), of(bandwidth()), of(any::<bool>())).prop_map(
        |(trust_guest_rx_filters, vlan, virtualport, bandwidth, port_isolated)| PortGroup {
            trust_guest_rx_filters,
            vlan,
            virtualport,
            bandwidth,
            port_isolated,
            ..PortGroup::default()
        },
    )
}

fn dns() -> impl Strategy<Value = Dns> {
    let forwarder = (of(word()), address(), of(1u16..)).prop_map(|(domain, addr, port)| Forwarder {
        domain,
        addr: Some(addr),
        port,
    });
    let txt = (word(), lines()).prop_map(|(name, value)| Txt { name, value });
    let srv = (word(), of(lines()), text(), some(1..=65535), some(1..=65535)).prop_map(
        |(service, domain, target, port, weight)| Srv {
            service,
            protocol: "tcp".to_owned(),
            domain,
            target: Some(target),
            port: port.map(|port| port as u16),
            priority: None,
            weight: weight.map(|weight| weight as u16),
        },
    );
    let host = (address(), vec(text(), 1..3)).prop_map(|(ip, names)| DnsHost { ip, names });
    let lists = (vec(forwarder, 0..3), vec(txt, 0..3), vec(srv, 0..3), vec(host, 0..3));
    (of(Just(true)), of(any::<bool>()), lists).prop_map(
        |(enable, forward_plain_names, (forwarders, txt, srv, hosts))| Dns {
            enable,
            forward_plain_names,
            hosts,
            forwarders,
            txt,
            srv,
        },
    )
}

fn lease() -> impl Strategy<Value = Lease> {
    let unit = prop_oneof![Just(LeaseUnit::Seconds), Just(LeaseUnit::Minutes), Just(LeaseUnit::Hours)];
    prop_oneof![
        Just(Lease { expiry: 0, unit: LeaseUnit::Minutes }),
        (120u64.., unit).prop_map(|(expiry, unit)| Lease { expiry, unit })
    ]
}

fn host() -> impl Strategy<Value = DhcpHost> {
    (mac(), any::<bool>(), of("[a-z0-9]{1,5}[ '&]?"), of("[0-9a-f:]{1,9}"), of(lease())).prop_map(
        |(mac, upper, name, id, lease)| {
            let plain = mac.map(|byte| format!("{byte:x}")).join(":");
            let mac_text = Some(if upper { plain.to_uppercase() } else { plain });
            DhcpHost { mac: Some(mac), mac_text, name, ip: Some(Ipv4Addr::LOCALHOST.into()), id, lease }
        },
    )
}

/// The one `<ip>` with DHCP, 10.0.0.1/24, and its routes.
fn ip() -> impl Strategy<Value = Ip> {
    let range = (1u8..100, 100u8..255, of(lease())).prop_map(|(start, end, lease)| {
        let at = |last| Ipv4Addr::new(10, 0, 0, last).into();
        Range { start: at(start), end: at(end), lease }
    });
    let written = prop_oneof![Just(Written::Netmask), Just(Written::Prefix)];
    let dhcp = (vec(range, 0..3), vec(host(), 0..3), of((lines(), of(address()))));
    (written, of(Just("ipv4".to_owned())), of(any::<bool>()), of(text()), dhcp).prop_map(
        |(written_as_netmask, family, local_ptr, tftp_root, (ranges, hosts, boot))| {
            let boot = boot.filter(|_| !ranges.is_empty() || !hosts.is_empty());
            let (bootp_file, bootp_server) = boot.map_or((None, None), |(file, server)| (Some(file), server));
            let address = Ipv4Addr::new(10, 0, 0, 1).into();
            Ip {
                address,
                prefix: 24,
                written_as_netmask,
                family,
                local_ptr,
                tftp_root,
                ranges,
                hosts,
                bootp_file,
                bootp_server,
            }
        },
    )
}

fn other_ip() -> impl Strategy<Value = Ip> {
    (any::<u128>(), 1u8..=128).prop_map(|(bits, prefix)| Ip {
        address: Ipv6Addr::from_bits(bits).into(),
        prefix,
        written_as_netmask: Written::Prefix,
        family: Some("ipv6".to_owned()),
        local_ptr: None,
        tftp_root: None,
        ranges: Vec::new(),
        hosts: Vec::new(),
        bootp_file: None,
        bootp_server: None,
    })
}

fn route() -> impl Strategy<Value = Route> {
    (any::<u32>(), 0u8..=32, of(1u32..)).prop_map(|(bits, prefix, metric)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Route {
            family: None,
            address: Ipv4Addr::from_bits(bits & mask).into(),
            prefix,
            written_as_netmask: Written::Prefix,
            gateway: Ipv4Addr::new(10, 0, 0, 7).into(),
            metric,
        }
    })
}

fn forward() -> impl Strategy<Value = Forward> {
    let nat =
        (of(word()), of((1u16..9, 9u16..)), of(any::<bool>())).prop_map(|(dev, nat_ports, nat_ipv6)| {
            Forward {
                mode: Mode::Nat,
                interfaces: dev.iter().cloned().collect(),
                dev,
                nat_ports,
                nat_ipv6,
                ..Forward::default()
            }
        });
    let pci = (any::<u32>(), 1u32..256, 0u32..32, 0u32..8)
        .prop_map(|(domain, bus, slot, function)| PciAddress { domain, bus, slot, function });
    let hostdev = (any::<bool>(), pci, of(text())).prop_map(|(managed, address, model)| Forward {
        mode: Mode::Hostdev,
        managed,
        driver: model.map(|model| Driver { name: Some("vfio".to_owned()), model: Some(model) }),
        addresses: vec![address],
        ..Forward::default()
    });
    let none = prop_oneof![Just(Mode::Isolated), Just(Mode::Open)]
        .prop_map(|mode| Forward { mode, ..Forward::default() });
    prop_oneof![nat, hostdev, none]
}

fn metadata() -> impl Strategy<Value = Element> {
    let leaf = (word(), lines(), of(text())).prop_map(|(name, value, text)| Element {
        name: format!("m:{name}"),
        attributes: vec![("a".to_owned(), value)],
        children: text.map(Content::Text).into_iter().collect(),
    });
    let inner = leaf.prop_recursive(3, 12, 3, |inner| {
        let comment = Just(Content::Comment(" note ".to_owned()));
        let child = prop_oneof![4 => inner.prop_map(Content::Element), 1 => comment];
        (word(), vec(child, 0..3)).prop_map(|(name, children)| Element {
            name: format!("m:{name}"),
            attributes: Vec::new(),
            children,
        })
    });
    inner.prop_map(|mut top| {
        top.attributes.insert(0, ("xmlns:m".to_owned(), "urn:m".to_owned()));
        let children = vec![Content::Element(top)];
        Element { name: "metadata".to_owned(), attributes: Vec::new(), children }
    })
}

prop_compose! {
    fn identity()(
        name in "[a-z0-9 .'\"&<>\u{e9}_-]{1,12}", uuid in of(id()), title in of(text()),
        description in of("[a-z'\"&<>\n\r ]{1,20}"), metadata in of(metadata()), ipv6 in any::<bool>(),
        trust_guest_rx_filters in of(any::<bool>()), domain in of((lines(), of(any::<bool>()))),
    ) -> Network {
        let register = domain.as_ref().and_then(|(_, register)| *register);
        let domain = domain.map(|(name, _)| Domain { name, local_only: true });
        Network {
            name, uuid, title, description, metadata, ipv6, trust_guest_rx_filters, domain,
            domain_register: register, ..Network::default()
        }
    }
}

prop_compose! {
    fn network()(
        identity in identity(), forward in forward(), bridge in (of(text()), any::<bool>(), any::<u32>()),
        mtu in of(1u32..), mac in of(mac()), dns in dns(), vlan in of(vlan()), bandwidth in of(bandwidth()),
        port_isolated in of(any::<bool>()), ip in ip(), more in vec(other_ip(), 0..2),
        routes in vec(route(), 0..3), groups in vec(portgroup(), 0..3),
        rest in (of(virtual_port()), vec(lines(), 0..3)),
    ) -> Network {
        let owns = forward.mode.owns_bridge();
        let (name, stp, delay) = bridge;
        let bridge = if owns { Bridge { name, stp, delay, ..Bridge::default() } } else { Bridge::default() };
        let named = |(at, group)| PortGroup { name: format!("g{at}"), default: at == 1, ..group };
        Network {
            mtu: mtu.filter(|_| owns), mac, dns, vlan, bandwidth, port_isolated, forward, bridge,
            ips: std::iter::once(ip).chain(more).collect(), routes,
            portgroups: groups.into_iter().enumerate().map(named).collect(),
            virtualport: rest.0, dnsmasq_options: rest.1, ..identity
        }
    }
}

fn print(network: &Network) -> String {
    network.to_xml(&DumpOptions { inactive: true, connections: None })
}

/// Everything that is read from a hostile text, and that it is stable once read.
fn read_anyhow(text: &str) {
    let _ = validate(text).map_err(|error| error.render("x"));
    let _ = port::validate(text).map_err(|error| error.render("x"));
    let _ = parse(text).map_err(|error| error.render("x"));
    if let Ok(port) = port::parse(text) {
        assert_eq!(port::parse(&port.to_xml()).unwrap(), port);
    }
    if let Ok(mut network) = parse_definition(text) {
        let _ = (network.warnings(), network.unsupported());
        network.unknown.clear();
        let printed = print(&network);
        let again =
            parse_definition(&printed).unwrap_or_else(|error| panic!("{printed}\n{}", error.render("x")));
        assert_eq!(print(&again), printed, "{text}");
    }
}

const SAMPLE: &str = include_str!("sample.xml");

proptest! {
    #[test]
    fn what_is_printed_is_read_again(network in network()) {
        let printed = print(&network);
        let again = parse_definition(&printed).map_err(|error| TestCaseError::fail(format!("{printed}\n{}", error.render("x"))))?;
        prop_assert_eq!(&again, &network, "{}", printed);
        prop_assert_eq!(print(&again), printed);
    }

    #[test]
    fn mutations_never_panic(
        edits in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[<>/='\" &;a-z0-9:\u{e9}\u{0}-]{0,6}"), 1..4),
    ) {
        let mut chars: Vec<char> = SAMPLE.chars().collect();
        for (from, length, junk) in &edits {
            let from = from.index(chars.len());
            let to = (from + length.index(12)).min(chars.len());
            chars.splice(from..to, junk.chars());
        }
        read_anyhow(&chars.into_iter().collect::<String>());
    }

    /// Attributes that hold anything at all.
    #[test]
    fn values_never_panic(at in any::<prop::sample::Index>(), value in prop_oneof![
        "[-+]?(0x)?[0-9]{0,21}", "[0-9a-f:./]{0,12}", "(yes|no|YES|on|default|none|)", lines(), Just("\u{7f}".to_owned()),
    ]) {
        let quoted: Vec<&str> = SAMPLE.split('\'').collect();
        let at = at.index(quoted.len() / 2) * 2 + 1;
        let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;");
        let parts: Vec<&str> = quoted.iter().enumerate().map(|(i, part)| if i == at { &value } else { *part }).collect();
        read_anyhow(&parts.join("'"));
    }

    #[test]
    fn updates_never_panic(
        section in prop::sample::select(Section::ALL.to_vec()),
        command in prop::sample::select(vec![UpdateCommand::Modify, UpdateCommand::Delete, UpdateCommand::AddLast, UpdateCommand::AddFirst]),
        index in -2i32..4,
        xml in "<(host|range|interface|portgroup|txt|srv)( (ip|mac|name|start|end|dev|value|service|protocol|target|port)='[0-9a-z:.]{0,9}'){0,3}(/>|><hostname>[a-z]{0,3}</hostname></host>)",
    ) {
        let network = parse_definition(SAMPLE).unwrap();
        match update(&network, command, section, index, &xml) {
            Err(error) => drop(error.render("x")),
            Ok(changed) => drop(print(&changed)),
        }
    }
}
