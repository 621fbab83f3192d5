//! Port forwards: who comes by one reaches the guest, from wherever, and the guest's answers come from there.

use std::net::Ipv4Addr;

use pontoon_engine::PortId;
use pontoon_engine::snapshot::{PortForward, Shared, Snapshot, Subnet};
use pontoon_sim::frames::{self, Ends, Seen, TCP, UDP};
use pontoon_sim::{EXTERNAL, GATEWAY, GATEWAY_MAC, GUEST_1, GUEST_2, UPLINK, UPLINK_MAC, World};

const MAC_1: [u8; 6] = [0x52, 0x54, 0, 0, 2, 1];
const MAC_2: [u8; 6] = [0x52, 0x54, 0, 0, 2, 2];
const IP_1: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 21);
const IP_2: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 22);
const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const CLIENT_MAC: [u8; 6] = [0x52, 0x54, 1, 1, 1, 80];
/// A further address of the uplink.
const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const GUESTS: [(PortId, [u8; 6], Ipv4Addr); 2] = [(GUEST_1, MAC_1, IP_1), (GUEST_2, MAC_2, IP_2)];

fn forward(protocol: u8, ports: (u16, u16), to: u16, guest: Option<Ipv4Addr>) -> PortForward {
    PortForward { protocol, address: None, ports, to, guest }
}

fn set(snapshot: &mut Snapshot, forwards: &[PortForward]) {
    snapshot.networks[0].as_mut().expect("network").forwards = forwards.to_vec();
}

fn standard() -> Vec<PortForward> {
    vec![
        forward(TCP, (8080, 8089), 80, Some(IP_1)),
        forward(UDP, (5353, 5353), 53, Some(IP_1)),
        PortForward { address: Some(SECOND), ..forward(TCP, (443, 443), 443, Some(IP_2)) },
        forward(TCP, (9000, 9000), 9000, None),
    ]
}

fn each(test: impl Fn(World)) {
    for workers in [1, 2, 4] {
        for seed in [1, 8, 64] {
            println!("workers {workers} seed {seed}");
            test(World::with(workers, seed, 256, |snapshot| set(snapshot, &standard())));
        }
    }
}

/// Gives a frame to the world and answers its ARP requests.
fn exchange(world: &mut World, port: PortId, frame: &[u8]) -> Vec<(PortId, Seen)> {
    let (mut sent, mut seen) = (world.receive(port, frame), Vec::new());
    while let Some((port, frame)) = sent.pop() {
        let Some((kind, sender, (_, wanted))) = frames::parse_arp(&frame) else {
            seen.push((port, frames::parse(&frame)));
            continue;
        };
        if kind == 2 {
            assert_eq!(port, 0, "the host hears what the gateway is told");
            continue;
        }
        if port == UPLINK && wanted == CLIENT {
            sent.extend(world.receive(UPLINK, &frames::arp(2, (CLIENT_MAC, wanted), sender)));
        }
        if let Some((_, mac, ip)) = GUESTS.iter().find(|(at, _, ip)| (*at, *ip) == (port, wanted)) {
            sent.extend(world.receive(port, &frames::arp(2, (*mac, *ip), sender)));
        }
    }
    seen
}

fn only(mut seen: Vec<(PortId, Seen)>) -> (PortId, Seen) {
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

fn from_client(to: Ipv4Addr) -> Ends {
    Ends::new((CLIENT_MAC, CLIENT), (UPLINK_MAC, to))
}

fn guest_to(guest: usize, to: Ipv4Addr) -> Ends {
    let (_, mac, ip) = GUESTS[guest];
    Ends::new((mac, ip), (GATEWAY_MAC, to))
}

#[test]
fn a_stranger_comes_in_with_its_own_address_and_is_answered_from_the_port_it_asked() {
    each(|mut world| {
        for (port, inside) in [(8080, 80), (8085, 85), (8089, 89)] {
            let syn = from_client(EXTERNAL).tcp((4000, port), "S", (100, 0), b"");
            let (to, seen) = only(exchange(&mut world, UPLINK, &syn));
            assert_eq!((to, seen.macs), (GUEST_1, (GATEWAY_MAC, MAC_1)));
            assert_eq!((seen.source, seen.destination, seen.ports), (CLIENT, IP_1, (4000, inside)));
            let answer = guest_to(0, CLIENT).tcp((inside, 4000), "SA", (500, 101), b"");
            let (to, seen) = only(exchange(&mut world, GUEST_1, &answer));
            assert_eq!((to, seen.source, seen.ports), (UPLINK, EXTERNAL, (port, 4000)));
            for text in [b"GET", b"now"] {
                let data = from_client(EXTERNAL).tcp((4000, port), "A", (101, 501), text);
                assert_eq!(only(exchange(&mut world, UPLINK, &data)).1.ports, (4000, inside));
                let data = guest_to(0, CLIENT).tcp((inside, 4000), "A", (501, 104), text);
                assert_eq!(only(exchange(&mut world, GUEST_1, &data)).1.ports, (port, 4000));
            }
        }
        let ask = from_client(EXTERNAL).udp((4000, 5353), b"q");
        assert_eq!(only(exchange(&mut world, UPLINK, &ask)).1.ports, (4000, 53));
        let tell = guest_to(0, CLIENT).udp((53, 4000), b"a");
        assert_eq!(only(exchange(&mut world, GUEST_1, &tell)).1.ports, (5353, 4000));
        assert_eq!((world.sessions(), world.drops()), (4, vec![]));
    });
}

#[test]
fn another_address_of_the_uplink_is_answered_for_and_leads_elsewhere() {
    each(|mut world| {
        let ask = frames::arp(1, (CLIENT_MAC, CLIENT), ([0; 6], SECOND));
        let answers = world.receive(UPLINK, &ask);
        assert_eq!(frames::parse_arp(&answers[0].1).map(|arp| arp.1), Some((UPLINK_MAC, SECOND)));
        let syn = from_client(SECOND).tcp((4000, 443), "S", (100, 0), b"");
        let (to, seen) = only(exchange(&mut world, UPLINK, &syn));
        assert_eq!((to, seen.destination, seen.ports), (GUEST_2, IP_2, (4000, 443)));
        let answer = guest_to(1, CLIENT).tcp((443, 4000), "SA", (500, 101), b"");
        assert_eq!(only(exchange(&mut world, GUEST_2, &answer)).1.source, SECOND);
        let syn = from_client(EXTERNAL).tcp((4000, 443), "S", (100, 0), b"");
        assert_eq!(exchange(&mut world, UPLINK, &syn).len(), 0, "the other address has no such port");
        assert_eq!(world.drops(), [("nat_no_session", 1)]);
    });
}

#[test]
fn a_guest_of_the_same_network_comes_by_the_external_address() {
    each(|mut world| {
        let syn = guest_to(1, EXTERNAL).tcp((4000, 8080), "S", (100, 0), b"");
        let (to, seen) = only(exchange(&mut world, GUEST_2, &syn));
        assert_eq!((to, seen.source, seen.destination), (GUEST_1, EXTERNAL, IP_1));
        assert_eq!(seen.ports.1, 80);
        let answer = guest_to(0, EXTERNAL).tcp((80, seen.ports.0), "SA", (500, 101), b"");
        let (to, seen) = only(exchange(&mut world, GUEST_1, &answer));
        assert_eq!((to, seen.source, seen.destination), (GUEST_2, EXTERNAL, IP_2));
        assert_eq!((seen.ports, world.drops()), ((8080, 4000), vec![]));
    });
}

#[test]
fn the_host_comes_from_the_address_it_shares() {
    each(|mut world| {
        world.reapply(|snapshot| {
            let uplink = snapshot.uplinks[0].as_mut().expect("uplink");
            uplink.shared = Some(Shared::default());
            uplink.subnet = Some(Subnet { address: EXTERNAL, prefix: 32 });
            uplink.gateway = Some(EXTERNAL);
            snapshot.networks[0].as_mut().expect("network").nat_ports = (61000, 65535);
        });
        let host = |mac| Ends::new(([0; 6], EXTERNAL), (mac, EXTERNAL));
        let syn = host([0; 6]).tcp((4000, 8080), "S", (100, 0), b"");
        let (to, seen) = only(exchange(&mut world, UPLINK, &syn));
        assert_eq!((to, seen.source, seen.destination, seen.ports), (GUEST_1, EXTERNAL, IP_1, (4000, 80)));
        let answer = guest_to(0, EXTERNAL).tcp((80, 4000), "SA", (500, 101), b"");
        let (to, seen) = only(exchange(&mut world, GUEST_1, &answer));
        assert_eq!((to, seen.source, seen.destination), (UPLINK, EXTERNAL, EXTERNAL));
        assert_eq!(seen.ports, (8080, 4000));
        // From the wire nobody has that address, and no answer goes to the host that it did not ask for.
        let syn = host(UPLINK_MAC).tcp((4001, 8080), "S", (100, 0), b"");
        assert_eq!(exchange(&mut world, UPLINK, &syn).len(), 0);
        let direct = guest_to(0, EXTERNAL).tcp((80, 4002), "SA", (500, 101), b"");
        let (to, seen) = only(exchange(&mut world, GUEST_1, &direct));
        assert_eq!((to, seen.source), (0, IP_1), "a connection to the guest's own address");
        assert_eq!(world.drops(), [("ip_source_spoofed", 1)]);
    });
}

#[test]
fn forwards_that_change_end_their_sessions_and_no_others() {
    each(|mut world| {
        let syn = |port| from_client(EXTERNAL).tcp((4000, port), "S", (100, 0), b"");
        assert_eq!(only(exchange(&mut world, UPLINK, &syn(8080))).0, GUEST_1);
        assert_eq!(only(exchange(&mut world, UPLINK, &syn(8081))).0, GUEST_1);
        let _ = exchange(&mut world, GUEST_2, &guest_to(1, CLIENT).udp((7000, 9), b"x"));
        assert_eq!(exchange(&mut world, UPLINK, &syn(9000)).len(), 0, "nobody knows where that guest is");
        assert_eq!((world.sessions(), world.drops()), (3, vec![("nat_no_guest", 1)]));
        // The guest has another address now, and one port is forwarded no more.
        let moved =
            [forward(TCP, (8080, 8080), 80, Some(IP_2)), forward(TCP, (9000, 9000), 9000, Some(IP_2))];
        world.reapply(|snapshot| set(snapshot, &moved));
        assert_eq!(world.sessions(), 1);
        assert_eq!(only(exchange(&mut world, UPLINK, &syn(8080))).0, GUEST_2);
        assert_eq!(only(exchange(&mut world, UPLINK, &syn(9000))).0, GUEST_2);
        assert_eq!(exchange(&mut world, UPLINK, &syn(8081)).len(), 0);
        world.reapply(|snapshot| set(snapshot, &[]));
        assert_eq!(world.sessions(), 1);
    });
}

#[test]
fn no_mapping_gets_a_port_of_a_forward_and_a_guest_speaks_from_its_own() {
    each(|mut world| {
        // Who has the port already loses it to the forward.
        world.reapply(|snapshot| set(snapshot, &[]));
        let ask = guest_to(1, CLIENT).udp((5353, 9), b"x");
        assert_eq!(only(exchange(&mut world, GUEST_2, &ask)).1.ports, (5353, 9));
        world.reapply(|snapshot| set(snapshot, &standard()));
        assert_eq!(world.sessions(), 0);
        let (_, seen) = only(exchange(&mut world, GUEST_2, &ask));
        assert_ne!(seen.ports.0, 5353);
        let (_, seen) = only(exchange(&mut world, GUEST_1, &guest_to(0, CLIENT).udp((53, 9), b"x")));
        assert_eq!(seen.ports.0, 5353, "what it sends from there comes from the forward's port");
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn strangers_without_an_answer_keep_nothing_alive() {
    each(|mut world| {
        let ask = from_client(EXTERNAL).udp((4000, 5353), b"q");
        let _ = exchange(&mut world, UPLINK, &ask);
        for _ in 0..4 {
            world.advance(100_000_000_000);
            let _ = exchange(&mut world, UPLINK, &ask);
        }
        assert_eq!(world.sessions(), 1);
        let _ = (world.advance(400_000_000_000), GATEWAY);
        assert_eq!(world.sessions(), 0);
    });
}
