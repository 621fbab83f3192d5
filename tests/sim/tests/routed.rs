//! Packets that keep their addresses: forward modes route and open, several subnets, what is behind guests; and NAT
//! with several external addresses.

use std::net::Ipv4Addr;

use pontoon_engine::snapshot::{Forward, Network, Route, Subnet};
use pontoon_engine::{PortId, Snapshot};
use pontoon_sim::frames::{self, BROADCAST, Ends, ICMP, Seen, UDP, parse_arp};
use pontoon_sim::{
    EXTERNAL, GATEWAY, GATEWAY_MAC, GUEST_1, GUEST_2, ISOLATED, SERVER, UPLINK, UPLINK_MAC, World,
};

type Mac = [u8; 6];
type Sent = Vec<(PortId, Vec<u8>)>;

const MAC_1: Mac = [0x52, 0x54, 0, 0, 2, 1];
const MAC_2: Mac = [0x52, 0x54, 0, 0, 2, 2];
const SERVER_MAC: Mac = [0x52, 0x54, 0, 0, 8, 1];
const IP_1: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 21);
const IP_2: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 22);
/// The second subnet of the network.
const MORE: Subnet = Subnet { address: Ipv4Addr::new(192, 168, 128, 1), prefix: 24 };
const MORE_2: Ipv4Addr = Ipv4Addr::new(192, 168, 128, 22);
/// Behind guest 2.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 9, 3, 3);
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(203, 0, 113, 16), Ipv4Addr::new(203, 0, 113, 19));

fn each(edit: impl Fn(&mut Network) + Copy, test: impl Fn(World)) {
    for workers in [1, 2, 4] {
        for seed in [1, 8, 64, 512] {
            println!("workers {workers} seed {seed}");
            let snapshot = |snapshot: &mut Snapshot| snapshot.networks[0].as_mut().into_iter().for_each(edit);
            test(World::with(workers, seed, 256, snapshot));
        }
    }
}

fn mode(forward: Forward) -> impl Fn(&mut Network) + Copy {
    move |network| network.forward = forward
}

/// With a second subnet and a route through guest 2.
fn wide(forward: Forward) -> impl Fn(&mut Network) + Copy {
    move |network| {
        network.forward = forward;
        network.subnets.push(MORE);
        let destination = Subnet { address: Ipv4Addr::new(10, 9, 0, 0), prefix: 16 };
        network.routes = vec![Route { destination, gateway: IP_2 }];
    }
}

fn guest(from: Ipv4Addr, to: Ipv4Addr) -> Ends {
    Ends::new((MAC_1, from), (GATEWAY_MAC, to))
}

fn outside(to: Ipv4Addr) -> Ends {
    Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, to))
}

/// The only frame, which is IPv4 and left by `port`.
fn only(sent: &Sent, port: PortId) -> Seen {
    assert_eq!(sent.iter().map(|&(port, _)| port).collect::<Vec<_>>(), [port]);
    frames::parse(&sent[0].1)
}

/// The ICMP error that is the only frame, sent to `port`.
fn error(sent: &Sent, port: PortId) -> (Ipv4Addr, u16, u16, u16) {
    let seen = only(sent, port);
    assert_eq!(seen.protocol, ICMP);
    (seen.source, seen.ports.0, seen.ports.1, seen.rest.1)
}

/// What was sent asks for `ip` by ARP, from `own` at all of `ports`.
fn asks(sent: &Sent, own: (Mac, Ipv4Addr), ip: Ipv4Addr, ports: &[PortId]) {
    assert_eq!(sent.iter().map(|&(port, _)| port).collect::<Vec<_>>(), ports);
    for (_, frame) in sent {
        let (operation, sender, target) = parse_arp(frame).expect("ARP");
        assert_eq!((&frame[..6], operation, sender, target.1), (&BROADCAST[..], 1, own, ip));
    }
}

/// A guest answers the gateway by ARP.
fn answers(world: &mut World, port: PortId, guest: (Mac, Ipv4Addr), gateway: Ipv4Addr) -> Sent {
    answers_at(world, port, guest, (GATEWAY_MAC, gateway))
}

fn answers_at(world: &mut World, port: PortId, guest: (Mac, Ipv4Addr), gateway: (Mac, Ipv4Addr)) -> Sent {
    let mut sent = world.receive(port, &frames::arp(2, guest, gateway));
    // The host's own kernel, at ports 0 and 3, may have asked as well.
    sent.retain(|&(port, _)| port != 0 && port != 3);
    sent
}

fn server_answers(world: &mut World) -> Sent {
    world.receive(UPLINK, &frames::arp(2, (SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL)))
}

#[test]
fn a_routed_packet_keeps_its_addresses_both_ways() {
    for forward in [Forward::Route, Forward::Open] {
        each(mode(forward), |mut world| {
            asks(
                &world.receive(GUEST_1, &guest(IP_1, SERVER).udp((5000, 53), b"out")),
                (UPLINK_MAC, EXTERNAL),
                SERVER,
                &[UPLINK],
            );
            let seen = only(&server_answers(&mut world), UPLINK);
            assert_eq!((seen.macs, seen.ttl), ((UPLINK_MAC, SERVER_MAC), 63));
            assert_eq!((seen.source, seen.destination, seen.ports), (IP_1, SERVER, (5000, 53)));

            let sent = world.receive(UPLINK, &outside(IP_2).udp((53, 5000), b"in"));
            asks(&sent, (GATEWAY_MAC, GATEWAY), IP_2, &[GUEST_1, GUEST_2]);
            let seen = only(&answers(&mut world, GUEST_2, (MAC_2, IP_2), GATEWAY), GUEST_2);
            assert_eq!((seen.macs, seen.ttl), ((GATEWAY_MAC, MAC_2), 63));
            assert_eq!((seen.source, seen.destination, seen.payload), (SERVER, IP_2, b"in".to_vec()));
            // Now it is known.
            let seen = only(&world.receive(UPLINK, &outside(IP_2).echo(true, (1, 1), b"")), GUEST_2);
            assert_eq!((seen.source, seen.destination), (SERVER, IP_2));
            assert_eq!((world.sessions(), world.drops()), (0, vec![]));
        });
    }
}

//= RFC5508#REQ-9 type=test
#[test]
fn route_lets_its_own_subnets_pass_and_refuses_all_else() {
    each(wide(Forward::Route), |mut world| {
        server_answers(&mut world);
        for source in [Ipv4Addr::new(10, 1, 1, 1), BEHIND] {
            let sent = world.receive(GUEST_1, &guest(source, SERVER).udp((5000, 53), b""));
            assert_eq!(error(&sent, GUEST_1), (GATEWAY, 3, 13, 0), "{source}");
        }
        for to in [BEHIND, Ipv4Addr::new(10, 1, 1, 1), Ipv4Addr::new(192, 168, 110, 21)] {
            let sent = world.receive(UPLINK, &outside(to).udp((53, 5000), b""));
            assert_eq!(error(&sent, UPLINK), (EXTERNAL, 3, 13, 0), "{to}");
        }
        assert_eq!(world.drops(), [("ip_source_spoofed", 2), ("not_forwarded", 3)]);
    });
}

#[test]
fn open_lets_everything_pass_that_has_a_way() {
    each(wide(Forward::Open), |mut world| {
        let frame = Ends::new((MAC_2, BEHIND), (GATEWAY_MAC, SERVER)).udp((5000, 53), b"");
        world.receive(GUEST_2, &frame);
        let seen = only(&server_answers(&mut world), UPLINK);
        assert_eq!((seen.source, seen.destination), (BEHIND, SERVER));
        let sent = world.receive(UPLINK, &outside(BEHIND).udp((53, 5000), b"back"));
        asks(&sent, (GATEWAY_MAC, GATEWAY), IP_2, &[GUEST_1, GUEST_2]);
        let seen = only(&answers(&mut world, GUEST_2, (MAC_2, IP_2), GATEWAY), GUEST_2);
        assert_eq!((seen.macs, seen.destination), ((GATEWAY_MAC, MAC_2), BEHIND));
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn guests_reach_the_other_subnets_of_their_network_and_what_is_behind_guests_in_every_mode() {
    for forward in [Forward::Isolated, Forward::Nat, Forward::Route, Forward::Open] {
        each(wide(forward), |mut world| {
            let sent = world.receive(GUEST_1, &guest(IP_1, MORE_2).udp((1, 2), b"across"));
            asks(&sent, (GATEWAY_MAC, MORE.address), MORE_2, &[GUEST_1, GUEST_2]);
            let seen = only(&answers(&mut world, GUEST_2, (MAC_2, MORE_2), MORE.address), GUEST_2);
            assert_eq!((seen.macs, seen.ttl), ((GATEWAY_MAC, MAC_2), 63));
            assert_eq!((seen.source, seen.destination, seen.ports), (IP_1, MORE_2, (1, 2)));
            let sent = world.receive(GUEST_1, &guest(IP_1, BEHIND).udp((1, 2), b""));
            asks(&sent, (GATEWAY_MAC, GATEWAY), IP_2, &[GUEST_1, GUEST_2]);
            let seen = only(&answers(&mut world, GUEST_2, (MAC_2, IP_2), GATEWAY), GUEST_2);
            assert_eq!((seen.macs, seen.destination), ((GATEWAY_MAC, MAC_2), BEHIND));
            assert_eq!((world.sessions(), world.drops()), (0, vec![]));
        });
    }
}

#[test]
fn the_gateway_has_all_its_addresses() {
    each(wide(Forward::Nat), |mut world| {
        for own in [GATEWAY, MORE.address] {
            let request = frames::arp(1, (MAC_1, IP_1), ([0; 6], own));
            let sent = world.receive(GUEST_1, &request);
            let (operation, sender, _) = parse_arp(&sent[0].1).expect("ARP");
            assert_eq!((sent.len(), operation, sender), (1, 2, (GATEWAY_MAC, own)));
            let seen = only(&world.receive(GUEST_1, &guest(IP_1, own).echo(true, (1, 1), b"")), GUEST_1);
            assert_eq!((seen.source, seen.ports.0), (own, 0));
            let claim = frames::arp(2, (MAC_1, own), (MAC_2, IP_2));
            assert_eq!(world.receive(GUEST_1, &claim), [], "nobody else claims it");
        }
        assert_eq!(world.drops(), [("arp_spoof", 2)]);
    });
}

#[test]
fn each_subnet_is_translated() {
    each(wide(Forward::Nat), |mut world| {
        for (source, number) in [(IP_1, 1), (Ipv4Addr::new(192, 168, 128, 21), 2)] {
            world.receive(GUEST_1, &guest(source, SERVER).udp((5000 + number, 53), b"out"));
            let seen = only(&server_answers(&mut world), UPLINK);
            assert_eq!((seen.source, seen.destination), (EXTERNAL, SERVER));
            let back = outside(EXTERNAL).udp((53, seen.ports.0), b"back");
            let seen = only(&world.receive(UPLINK, &back), GUEST_1);
            assert_eq!((seen.destination, seen.ports.1), (source, 5000 + number));
            world.advance(200_000_000_000);
        }
    });
}

#[test]
fn who_is_told_when_a_routed_packet_is_too_old_or_too_long() {
    each(mode(Forward::Route), |mut world| {
        world.receive(UPLINK, &outside(IP_2).udp((53, 5000), b""));
        answers(&mut world, GUEST_2, (MAC_2, IP_2), GATEWAY);
        let old = Ends { ttl: 1, ..outside(IP_2) };
        assert_eq!(error(&world.receive(UPLINK, &old.udp((53, 5000), b"")), UPLINK), (EXTERNAL, 11, 0, 0));
        let long = Ends { dont_fragment: true, ..outside(IP_2) }.udp((53, 5000), &[0; 1600]);
        assert_eq!(error(&world.receive(UPLINK, &long), UPLINK), (EXTERNAL, 3, 4, 1500));
        let sent = world.receive(UPLINK, &outside(IP_2).udp((53, 5000), &[0; 1600]));
        assert_eq!(sent.iter().map(|&(port, _)| port).collect::<Vec<_>>(), [GUEST_2; 2], "in fragments");
        let old = Ends { ttl: 1, ..guest(IP_1, SERVER) };
        assert_eq!(error(&world.receive(GUEST_1, &old.udp((1, 2), b"")), GUEST_1), (GATEWAY, 11, 0, 0));
        let long = Ends { dont_fragment: true, ..guest(IP_1, SERVER) }.udp((1, 2), &[0; 1600]);
        assert_eq!(error(&world.receive(GUEST_1, &long), GUEST_1), (GATEWAY, 3, 4, 1500));
        assert_eq!(world.drops(), [("fragmentation_needed", 2), ("ttl_expired", 2)]);
    });
}

#[test]
fn nobody_outside_passes_for_a_guest() {
    each(mode(Forward::Open), |mut world| {
        for source in [IP_1, Ipv4Addr::new(192, 168, 110, 7), Ipv4Addr::new(224, 0, 0, 1), EXTERNAL] {
            let liar = Ends::new((SERVER_MAC, source), (UPLINK_MAC, IP_2));
            assert_eq!(world.receive(UPLINK, &liar.udp((1, 2), b"")), [], "{source}");
        }
        for to in [Ipv4Addr::new(192, 168, 100, 255), Ipv4Addr::new(192, 168, 100, 0)] {
            assert_eq!(world.receive(UPLINK, &outside(to).udp((1, 2), b"")), [], "{to}");
        }
        assert_eq!(world.drops(), [("ip_source_spoofed", 4), ("martian_destination", 2)]);
        // The router's own address on the network is answered for.
        let seen = only(&world.receive(UPLINK, &outside(GATEWAY).echo(true, (1, 1), b"")), UPLINK);
        assert_eq!((seen.source, seen.ports.0), (GATEWAY, 0));
        let sent = world.receive(UPLINK, &outside(GATEWAY).udp((1, 2), b""));
        assert_eq!(error(&sent, UPLINK), (EXTERNAL, 3, 3, 0));
    });
}

#[test]
fn a_scan_from_outside_fills_a_bounded_table_and_leaves_known_guests_alone() {
    let wide = |network: &mut Network| {
        network.forward = Forward::Route;
        network.subnets = vec![Subnet { address: Ipv4Addr::new(10, 0, 0, 1), prefix: 8 }];
    };
    each(wide, |mut world| {
        let (known, gateway) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        world.receive(UPLINK, &outside(known).udp((1, 2), b""));
        answers(&mut world, GUEST_2, (MAC_2, known), gateway);
        for number in 0..3000u32 {
            world.receive(UPLINK, &outside(Ipv4Addr::from_bits(0x0a01_0000 + number)).udp((1, 2), b""));
        }
        assert!(world.dropped("neighbour_queue_full") > 1000);
        assert_eq!(
            only(&world.receive(UPLINK, &outside(known).udp((1, 2), b"")), GUEST_2).destination,
            known
        );
        for _ in 0..5 {
            world.advance(1_000_000_000);
        }
        let lost = world.dropped("neighbour_unresolved") + world.dropped("neighbour_queue_full");
        assert_eq!(lost, 3000, "every frame that was given up is counted");
    });
}

#[test]
fn routed_networks_reach_each_other_and_no_other_network() {
    let both = |snapshot: &mut Snapshot, second: Forward| {
        for (network, forward) in snapshot.networks.iter_mut().flatten().zip([Forward::Route, second]) {
            network.forward = forward;
        }
    };
    let other = Ipv4Addr::new(192, 168, 110, 21);
    for (second, passes) in
        [(Forward::Route, true), (Forward::Open, true), (Forward::Nat, false), (Forward::Isolated, false)]
    {
        let mut world = World::with(2, 8, 16, |snapshot| both(snapshot, second));
        let sent = world.receive(GUEST_1, &guest(IP_1, other).udp((1, 2), b""));
        if passes {
            asks(&sent, ([0x52, 0x54, 0, 0, 1, 2], Ipv4Addr::new(192, 168, 110, 1)), other, &[ISOLATED]);
        } else {
            assert_eq!(error(&sent, GUEST_1), (GATEWAY, 3, 13, 0), "{second:?}");
        }
    }
}

#[test]
fn behind_nat_a_routed_network_is_reached_as_from_outside_and_answers() {
    const ISOLATED_GATEWAY: (Mac, Ipv4Addr) = ([0x52, 0x54, 0, 0, 1, 2], Ipv4Addr::new(192, 168, 110, 1));
    let other = (MAC_2, Ipv4Addr::new(192, 168, 110, 21));
    for workers in [1, 2, 4] {
        for seed in [1, 8, 64] {
            let edit = |snapshot: &mut Snapshot| {
                let second = snapshot.networks[1].as_mut().expect("a network");
                (second.forward, second.uplink) = (Forward::Route, Some(0));
            };
            let mut world = World::with(workers, seed, 16, edit);
            let sent = world.receive(GUEST_1, &guest(IP_1, other.1).udp((5000, 53), b"question"));
            asks(&sent, ISOLATED_GATEWAY, other.1, &[ISOLATED]);
            let seen = only(&answers_at(&mut world, ISOLATED, other, ISOLATED_GATEWAY), ISOLATED);
            assert_eq!((seen.source, seen.destination, seen.ports.1), (EXTERNAL, other.1, 53));
            let back = Ends::new(other, (ISOLATED_GATEWAY.0, EXTERNAL)).udp((53, seen.ports.0), b"answer");
            let seen = only(&world.receive(ISOLATED, &back), GUEST_1);
            assert_eq!((seen.macs, seen.source), ((GATEWAY_MAC, MAC_1), other.1));
            assert_eq!((seen.destination, seen.ports.1, seen.payload), (IP_1, 5000, b"answer".to_vec()));
            let strange = Ends::new(other, (ISOLATED_GATEWAY.0, EXTERNAL)).udp((53, 4), b"");
            assert_eq!(world.receive(ISOLATED, &strange), []);
            assert_eq!(world.drops(), [("nat_no_session", 1)]);
        }
    }
}

//= RFC4787#REQ-2, RFC7857#4 type=test
#[test]
fn a_guest_has_one_address_of_the_pool_and_keeps_it() {
    let pool = |network: &mut Network| network.nat_addresses = Some(POOL);
    each(pool, |mut world| {
        let mut used = std::collections::BTreeMap::new();
        for guest_number in 0..16u8 {
            let inside = Ipv4Addr::new(192, 168, 100, 30 + guest_number);
            for port in [5000, 6000] {
                let mut sent = world.receive(GUEST_1, &guest(inside, SERVER).udp((port, 53), b"out"));
                sent.extend(server_answers(&mut world));
                sent.retain(|(_, frame)| parse_arp(frame).is_none());
                let seen = only(&sent, UPLINK);
                assert!((POOL.0..=POOL.1).contains(&seen.source), "{}", seen.source);
                assert_eq!(*used.entry(inside).or_insert(seen.source), seen.source, "one address a guest");
                let back = outside(seen.source).udp((53, seen.ports.0), b"back");
                let external = (seen.source, seen.ports.0);
                // Once the session is known, packets take the short way.
                for _ in 0..3 {
                    let seen = only(&world.receive(UPLINK, &back), GUEST_1);
                    assert_eq!((seen.destination, seen.ports.1, seen.protocol), (inside, port, UDP));
                    let again = world.receive(GUEST_1, &guest(inside, SERVER).udp((port, 53), b"again"));
                    let seen = only(&again, UPLINK);
                    assert_eq!((seen.source, seen.ports.0), external);
                }
            }
        }
        let distinct: std::collections::BTreeSet<_> = used.values().collect();
        assert!(distinct.len() > 1, "{used:?}");
        for address in [POOL.0, POOL.1, EXTERNAL] {
            let sent = world.receive(UPLINK, &frames::arp(1, (SERVER_MAC, SERVER), ([0; 6], address)));
            let (operation, sender, _) = parse_arp(&sent[0].1).expect("ARP");
            assert_eq!((operation, sender), (2, (UPLINK_MAC, address)));
            let strange = outside(address).udp((1, 2), b"");
            assert_eq!(world.receive(UPLINK, &strange), [], "nobody is behind {address}:2");
        }
        assert_eq!(world.dropped("nat_no_session"), 3);
    });
}
