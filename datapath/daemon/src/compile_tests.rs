use std::net::Ipv4Addr;

use super::*;

type Damage = fn(&mut Document);

fn document() -> Document {
    serde_json::from_value(serde_json::json!({
        "generation": 1, "resolvers": 1, "sockets_per_resolver": 4,
        "uplinks": [{"id": 0, "name": "up0", "mac": [2, 0, 0, 0, 0, 9], "address": null, "gateway": null, "mtu": 1500}],
        "networks": [{
            "id": 1, "name": "default", "forward": "nat", "mac": [2, 0, 0, 0, 0, 1], "address": "192.168.122.1/24",
            "mtu": 1500, "uplink": 0, "nat_ports": [1024, 65535], "ageing_seconds": 300,
            "dhcp": {
                "ranges": [{"first": "192.168.122.2", "last": "192.168.122.254", "lease_seconds": 3600}],
                "lease_seconds": 3600,
            },
            "dns": {"enabled": true, "upstreams": [{"domain": null, "resolvers": [0]}]},
        }],
        "ports": [
            {"id": 0, "name": "virbr0", "role": {"host": {"network": 1}}, "max_addresses": 16},
            {"id": 1, "name": "vnet0", "role": {"guest": {"network": 1}}, "max_addresses": 16},
            {"id": 2, "name": "up0", "role": {"uplink": {"uplink": 0}}, "max_addresses": 1},
        ],
    }))
    .expect("document")
}

#[test]
fn a_sound_document_becomes_a_snapshot_that_is_linked() {
    let running = Running::default().next(document(), 7).expect("compiles");
    let network = running.snapshot.network(1).expect("network");
    assert_eq!((network.host, network.ports.as_slice()), (Some(0), [0, 1].as_slice()));
    assert_eq!(running.snapshot.uplink(0).expect("uplink").port, Some(2));
    assert_eq!(network.dhcp.as_ref().expect("dhcp").server, Ipv4Addr::new(192, 168, 122, 1));
}

#[test]
fn a_network_that_stays_keeps_its_addresses_and_gone_ports_are_named() {
    let first = Running::default().next(document(), 7).expect("compiles");
    let mut changed = document();
    changed.ports.remove(1);
    changed.ports[0].name = "virbr9".to_owned();
    let second = first.next(changed.clone(), 7).expect("compiles");
    let macs = |running: &Running| Arc::as_ptr(&running.snapshot.network(1).expect("network").macs);
    assert_eq!(macs(&first), macs(&second));
    assert_eq!(first.gone(&second), [0, 1]);
    changed.networks[0].name = "other".to_owned();
    let third = second.next(changed, 7).expect("compiles");
    assert_ne!(macs(&second), macs(&third));
    let empty = Document { generation: 4, ..Document::default() };
    assert_eq!(third.closed_networks(&third.next(empty, 7).expect("compiles")), [1]);
}

#[test]
fn what_is_wrong_is_named_by_its_field() {
    let cases: [(&str, Damage); 14] = [
        ("networks[0].dns.upstreams[0]: there is no resolver 1", |document| {
            document.networks[0].dns.upstreams[0].resolvers.push(1);
        }),
        ("sockets_per_resolver", |document| document.sockets_per_resolver = 5000),
        ("networks[0].id: 4096", |document| document.networks[0].id = 4096),
        ("networks[1].id: 1 is used twice", |document| document.networks.push(document.networks[0].clone())),
        ("networks[0].uplink: there is no uplink 5", |document| document.networks[0].uplink = Some(5)),
        ("networks[0].nat_ports", |document| document.networks[0].nat_ports = (9, 8)),
        ("networks[0].dhcp: the network", |document| document.networks[0].address = None),
        ("networks[0].mtu", |document| document.networks[0].mtu = 0),
        ("networks[0].mac", |document| document.networks[0].mac = [255; 6]),
        ("uplinks[0].mac", |document| document.uplinks[0].mac = [1, 0, 0, 0, 0, 0]),
        ("ports[1].id: 0 is used twice", |document| document.ports[1].id = 0),
        ("ports[2].id: 65535", |document| document.ports[2].id = u16::MAX),
        ("ports[1].role: there is no network 3", |document| {
            document.ports[1].role = document::Role::Guest { network: 3 };
        }),
        ("ports[1].role: port 0", |document| document.ports[1].role = document::Role::Host { network: 1 }),
    ];
    for (expected, damage) in cases {
        let mut damaged = document();
        damage(&mut damaged);
        let refused = Running::default().next(damaged, 7).expect_err(expected);
        assert!(refused.starts_with(expected), "{refused} is not {expected}");
    }
}

#[test]
fn pools_are_inside_the_network_and_in_order() {
    for range in [("192.168.122.9", "192.168.122.8"), ("192.168.122.9", "192.168.123.1")] {
        let mut damaged = document();
        let (first, last) = (range.0.parse().expect("ip"), range.1.parse().expect("ip"));
        let range = document::DhcpRange { first, last, lease_seconds: 3600 };
        damaged.networks[0].dhcp.as_mut().expect("dhcp").ranges = vec![range];
        let refused = Running::default().next(damaged, 7).expect_err("refused");
        assert!(refused.starts_with("networks[0].dhcp.ranges[0]"), "{refused}");
    }
}
