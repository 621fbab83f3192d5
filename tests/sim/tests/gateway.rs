//! What the gateway does itself: ARP, ICMP, MTUs, DNS, and refusing.

use std::net::Ipv4Addr;

use pontoon_engine::PortId;
use pontoon_sim::frames::{self, BROADCAST, Ends, ICMP, Seen, UDP};
use pontoon_sim::{
    EXTERNAL, GATEWAY, GATEWAY_MAC, GUEST_1, GUEST_2, ISOLATED, SERVER, UPLINK, UPLINK_MAC, World,
};

type Mac = [u8; 6];
type Sent = Vec<(PortId, Vec<u8>)>;

const MAC_1: Mac = [0x52, 0x54, 0, 0, 2, 1];
const MAC_4: Mac = [0x52, 0x54, 0, 0, 2, 4];
const IP_1: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 21);
const IP_4: Ipv4Addr = Ipv4Addr::new(192, 168, 110, 21);
const ISOLATED_MAC: Mac = [0x52, 0x54, 0, 0, 1, 2];
const ISOLATED_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 110, 1);
const SERVER_MAC: Mac = [0x52, 0x54, 0, 0, 8, 1];

fn each(test: impl Fn(World)) {
    each_with(1500, test);
}

fn each_with(mtu: u16, test: impl Fn(World)) {
    for workers in [1, 2, 4] {
        for seed in [1, 8, 64, 512] {
            println!("workers {workers} seed {seed}");
            let narrow = |snapshot: &mut pontoon_engine::Snapshot| {
                snapshot.uplinks.iter_mut().flatten().for_each(|uplink| uplink.mtu = mtu);
            };
            test(World::with(workers, seed, 256, narrow));
        }
    }
}

/// From guest 1 through its gateway.
fn out(to: Ipv4Addr) -> Ends {
    Ends::new((MAC_1, IP_1), (GATEWAY_MAC, to))
}

fn answer_arp(world: &mut World) -> Sent {
    world.receive(UPLINK, &frames::arp(2, (SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL)))
}

/// The only frame, which is IPv4 and left by `port`.
fn only(sent: &Sent, port: PortId) -> Seen {
    assert_eq!(sent.iter().map(|&(port, _)| port).collect::<Vec<_>>(), [port]);
    frames::parse(&sent[0].1)
}

/// An ICMP error to guest 1 that quotes its frame.
fn error(sent: &Sent, frame: &[u8]) -> (u16, u16, u16) {
    let seen = only(sent, GUEST_1);
    assert_eq!((seen.source, seen.destination, seen.protocol), (GATEWAY, IP_1, ICMP));
    assert_eq!(seen.macs, (GATEWAY_MAC, MAC_1));
    assert_eq!(seen.payload, frame[14..].iter().copied().take(548).collect::<Vec<_>>(), "the quotation");
    assert_eq!(seen.rest.0, 0);
    (seen.ports.0, seen.ports.1, seen.rest.1)
}

#[test]
fn arp_for_the_gateway_is_answered_and_not_flooded() {
    each(|mut world| {
        let ask = |to: Ipv4Addr| frames::arp(1, (MAC_1, IP_1), ([0; 6], to));
        let sent = world.receive(GUEST_1, &ask(GATEWAY));
        assert_eq!(sent, [(GUEST_1, frames::arp(2, (GATEWAY_MAC, GATEWAY), (MAC_1, IP_1)))]);
        let mut direct = ask(GATEWAY);
        direct[..6].copy_from_slice(&GATEWAY_MAC);
        assert_eq!(world.receive(GUEST_1, &direct), sent, "asked by unicast");
        let other = ask(Ipv4Addr::new(192, 168, 100, 22));
        let mut flooded = world.receive(GUEST_1, &other);
        flooded.sort();
        assert_eq!(flooded, [(0, other.clone()), (GUEST_2, other)], "others are the guests' own business");
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn a_guest_that_claims_to_be_the_gateway_is_dropped() {
    each(|mut world| {
        for operation in [1, 2] {
            for claimed in [MAC_1, GATEWAY_MAC] {
                let target = ([0xff; 6], IP_1);
                let mut frame = frames::arp(operation, (claimed, GATEWAY), target);
                frame[6..12].copy_from_slice(&MAC_1);
                assert_eq!(world.receive(GUEST_1, &frame), []);
            }
        }
        assert_eq!(world.drops(), [("arp_spoof", 4)]);
        let frame = Ends::new((GATEWAY_MAC, GATEWAY), (BROADCAST, IP_1)).udp((1, 2), b"");
        assert_eq!(world.receive(GUEST_1, &frame), []);
        assert_eq!(world.drops(), [("arp_spoof", 4), ("source_gateway", 1)]);
    });
}

#[test]
fn echo_requests_to_gateway_and_external_address_are_answered() {
    each(|mut world| {
        let payload = [7; 333];
        let seen = only(&world.receive(GUEST_1, &out(GATEWAY).echo(true, (9, 3), &payload)), GUEST_1);
        assert_eq!((seen.source, seen.destination, seen.macs), (GATEWAY, IP_1, (GATEWAY_MAC, MAC_1)));
        assert_eq!((seen.ports, seen.rest, seen.ttl), ((0, 0), (9, 3), 64));
        assert_eq!(seen.payload, payload);
        let outside = Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL));
        let seen = only(&world.receive(UPLINK, &outside.echo(true, (9, 3), &payload)), UPLINK);
        assert_eq!((seen.source, seen.destination, seen.macs), (EXTERNAL, SERVER, (UPLINK_MAC, SERVER_MAC)));
        assert_eq!((seen.ports, seen.rest), ((0, 0), (9, 3)));
        assert_eq!(world.drops(), []);
        let mut frame = out(GATEWAY).echo(true, (9, 3), &payload);
        frame[60] ^= 1;
        assert_eq!(world.receive(GUEST_1, &frame), []);
        assert_eq!(world.drops(), [("nat_icmp_checksum", 1)]);
    });
}

//= ours#ttl type=test
#[test]
fn the_last_hop_of_a_packet_is_told_and_no_session_is_made() {
    each(|mut world| {
        for ttl in [0, 1] {
            let frame = Ends { ttl, ..out(SERVER) }.udp((5000, 53), &[1; 900]);
            assert_eq!(error(&world.receive(GUEST_1, &frame), &frame), (11, 0, 0));
        }
        assert_eq!(world.drops(), [("ttl_expired", 2)]);
        assert_eq!(world.sessions(), 0);
    });
}

//= RFC4787#REQ-13, RFC1191#3 type=test
#[test]
fn a_packet_too_long_for_the_uplink_is_refused_with_its_mtu() {
    each_with(1400, |mut world| {
        let whole = Ends { dont_fragment: true, ..out(SERVER) };
        let frame = whole.udp((5000, 53), &[1; 1400 - 28 + 1]);
        assert_eq!(error(&world.receive(GUEST_1, &frame), &frame), (3, 4, 1400));
        assert_eq!((world.sessions(), world.drops()), (0, vec![("fragmentation_needed", 1)]));
        world.receive(GUEST_1, &whole.udp((5000, 53), &[1; 1400 - 28]));
        let seen = only(&answer_arp(&mut world), UPLINK);
        assert_eq!((seen.length, seen.source, seen.ports), (1400, EXTERNAL, (5000, 53)));
        assert_eq!(world.drops(), [("fragmentation_needed", 1)]);
    });
}

/// Puts fragments together and checks that they are sound.
fn join(fragments: &Sent, mtu: usize) -> Seen {
    let parts: Vec<_> = fragments.iter().map(|(_, frame)| frame.clone()).collect();
    frames::join(&parts, mtu).expect("all fragments")
}

/// Sends a long datagram that may be fragmented, when the next hop is known.
fn long_datagram(world: &mut World, payload: &[u8]) -> Sent {
    let sent = world.receive(GUEST_1, &out(SERVER).udp((5000, 53), payload));
    assert!(sent.iter().all(|&(port, _)| port == UPLINK));
    sent
}

//= RFC4787#REQ-13a type=test
#[test]
fn a_long_packet_that_may_be_fragmented_leaves_in_sound_pieces() {
    each_with(1400, |mut world| {
        let payload: Vec<u8> = (0..1450u32).map(|at| (at * 7) as u8).collect();
        world.receive(GUEST_1, &out(SERVER).udp((5000, 53), b"who is there"));
        only(&answer_arp(&mut world), UPLINK);
        let sent = long_datagram(&mut world, &payload);
        assert_eq!(sent.len(), 2);
        let seen = join(&sent, 1400);
        assert_eq!((seen.source, seen.destination, seen.ports), (EXTERNAL, SERVER, (5000, 53)));
        assert_eq!(seen.payload, payload);
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn a_long_packet_that_waited_for_arp_leaves_in_pieces_as_well() {
    each_with(1400, |mut world| {
        let payload = [3; 1450];
        let sent = long_datagram(&mut world, &payload);
        assert!(frames::parse_arp(&sent[0].1).is_some(), "the next hop is asked for first");
        let seen = join(&answer_arp(&mut world), 1400);
        assert_eq!(seen.payload, payload);
    });
}

/// A DNS query of type A in a UDP payload.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Id and response code of an answer.
fn answer(seen: &Seen, from: Ipv4Addr, to: Ipv4Addr) -> (u16, u8) {
    assert_eq!((seen.protocol, seen.ports), (UDP, (53, 3333)));
    assert_eq!((seen.source, seen.destination), (from, to));
    assert!(seen.payload[2] & 0x80 != 0, "an answer");
    (u16::from_be_bytes([seen.payload[0], seen.payload[1]]), seen.payload[3] & 15)
}

#[test]
fn dns_answers_for_bare_names_and_forwards_the_others() {
    each(|mut world| {
        let ask = |id: u16, name: &str| out(GATEWAY).udp((3333, 53), &query(id, name));
        let seen = only(&world.receive(GUEST_1, &ask(11, "nobody")), GUEST_1);
        assert_eq!(answer(&seen, GATEWAY, IP_1), (11, 3));
        assert!(world.take_queries().is_empty(), "bare names stay here");

        assert_eq!(world.receive(GUEST_1, &ask(12, "www.example.org")), []);
        let queries = world.take_queries();
        let [(socket, forwarded)] = &queries[..] else { panic!("{queries:?}") };
        let mut response = forwarded.clone();
        response[2] |= 0x80;
        response[3] |= 0x80;
        response[7] = 1;
        let end = 12 + "www.example.org".len() + 2 + 4;
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 9];
        response.splice(end..end, record);
        let mut forged = response.clone();
        forged[0] ^= 1;
        assert_eq!(world.resolver(*socket, &forged), [], "another id");
        assert_eq!(world.resolver((socket + 1) % 8, &response), [], "another socket");
        let seen = only(&world.resolver(*socket, &response), GUEST_1);
        assert_eq!(answer(&seen, GATEWAY, IP_1), (12, 0));
        assert!(
            seen.payload.ends_with(&[198, 51, 100, 9])
                || seen.payload.windows(4).any(|w| w == [198, 51, 100, 9])
        );
        assert_eq!(world.resolver(*socket, &response), [], "a second answer");
        assert_eq!(world.drops(), [("dns_dropped", 3)]);
    });
}

#[test]
fn a_query_no_resolver_answers_fails_in_the_end() {
    each(|mut world| {
        assert_eq!(world.receive(GUEST_1, &out(GATEWAY).udp((3333, 53), &query(13, "www.example.org"))), []);
        let mut sent = Vec::new();
        for _ in 0..60 {
            sent.extend(world.advance(500_000_000));
        }
        assert_eq!(answer(&only(&sent, GUEST_1), GATEWAY, IP_1), (13, 2));
        assert!(world.take_queries().len() > 1, "it was asked again");
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn dns_of_an_isolated_network_refuses_outside_names() {
    each(|mut world| {
        let ends = Ends::new((MAC_4, IP_4), (ISOLATED_MAC, ISOLATED_GATEWAY));
        let sent = world.receive(ISOLATED, &ends.udp((3333, 53), &query(14, "www.example.org")));
        assert_eq!(answer(&only(&sent, ISOLATED), ISOLATED_GATEWAY, IP_4), (14, 5));
        assert!(world.take_queries().is_empty());
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn nobody_outside_reaches_a_guest_by_its_own_address() {
    each(|mut world| {
        world.receive(GUEST_1, &out(GATEWAY).echo(true, (1, 1), b""));
        for (to, frame) in [IP_1, IP_4]
            .map(|to| (to, Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, to)).echo(true, (5, 1), b"hello")))
        {
            let seen = only(&world.receive(UPLINK, &frame), UPLINK);
            assert_eq!((seen.source, seen.destination), (EXTERNAL, SERVER), "{to}");
            assert_eq!((seen.protocol, seen.ports), (ICMP, (3, 13)), "{to}");
            assert_eq!(seen.payload, frame[14..], "{to}");
        }
        assert_eq!(world.drops(), [("not_forwarded", 2)]);
    });
}

#[test]
fn somebody_outside_is_told_when_a_packet_of_its_session_is_too_old_or_too_long() {
    for workers in [1, 2, 4] {
        let narrow = |snapshot: &mut pontoon_engine::Snapshot| {
            snapshot.networks.iter_mut().flatten().for_each(|network| network.mtu = 1400);
        };
        let mut world = World::with(workers, 8, 256, narrow);
        world.receive(GUEST_1, &out(SERVER).udp((5000, 53), b"open"));
        only(&answer_arp(&mut world), UPLINK);
        let ends = Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL));
        let old = Ends { ttl: 1, ..ends }.udp((53, 5000), b"an answer");
        let long = Ends { dont_fragment: true, ..ends }.udp((53, 5000), &[7; 1400]);
        for (frame, expected) in [(old, (11, 0, 0)), (long, (3, 4, 1400))] {
            let seen = only(&world.receive(UPLINK, &frame), UPLINK);
            assert_eq!(
                (seen.macs, seen.source, seen.destination),
                ((UPLINK_MAC, SERVER_MAC), EXTERNAL, SERVER)
            );
            assert_eq!((seen.ports.0, seen.ports.1, seen.rest.1), expected);
            assert_eq!(
                seen.payload,
                frame[14..].iter().copied().take(548).collect::<Vec<_>>(),
                "as it was sent"
            );
        }
        // Without a session nobody is told.
        let strange = Ends { ttl: 1, ..ends }.udp((53, 5001), b"");
        assert_eq!(world.receive(UPLINK, &strange), []);
        let fits = only(&world.receive(UPLINK, &ends.udp((53, 5000), b"an answer")), GUEST_1);
        assert_eq!(fits.destination, IP_1);
        assert_eq!(world.drops(), [("fragmentation_needed", 1), ("nat_no_session", 1), ("ttl_expired", 1)]);
    }
}

#[test]
fn nobody_outside_passes_for_a_guest_with_the_external_address_as_source() {
    each(|mut world| {
        world.receive(GUEST_1, &out(SERVER).udp((5000, 53), b"open"));
        only(&answer_arp(&mut world), UPLINK);
        let liar = Ends::new((SERVER_MAC, EXTERNAL), (UPLINK_MAC, EXTERNAL));
        assert_eq!(world.receive(UPLINK, &liar.udp((4444, 5000), b"let me in")), []);
        assert_eq!(world.sessions(), 1);
    });
}

//= ours#spoofed type=test
#[test]
fn a_guest_sends_from_no_address_but_its_networks() {
    each(|mut world| {
        for source in [GATEWAY, Ipv4Addr::UNSPECIFIED] {
            let ends = Ends::new((MAC_1, source), (GATEWAY_MAC, SERVER));
            assert_eq!(world.receive(GUEST_1, &ends.udp((5000, 53), b"")), [], "{source}");
        }
        for source in [SERVER, IP_4] {
            let ends = Ends::new((MAC_1, source), (GATEWAY_MAC, SERVER));
            let seen = only(&world.receive(GUEST_1, &ends.udp((5000, 53), b"")), GUEST_1);
            assert_eq!((seen.destination, seen.protocol, seen.ports), (source, ICMP, (3, 13)), "refused");
        }
        assert_eq!(world.drops(), [("ip_source_spoofed", 4)]);
        for to in [[224, 0, 0, 1], [127, 0, 0, 1], [255; 4], [192, 168, 100, 255], [0, 0, 0, 1]] {
            assert_eq!(world.receive(GUEST_1, &out(to.into()).udp((5000, 53), b"")), [], "{to:?}");
        }
        assert_eq!(world.drops(), [("ip_source_spoofed", 4), ("martian_destination", 5)]);
        let frame = out(IP_4).udp((5000, 53), b"");
        assert_eq!(error(&world.receive(GUEST_1, &frame), &frame), (3, 13, 0), "another network");
        assert_eq!(world.sessions(), 0);
    });
}

#[test]
fn a_guest_that_answers_as_a_dhcp_server_is_dropped() {
    each(|mut world| {
        let ends = Ends::new((MAC_1, IP_1), (BROADCAST, Ipv4Addr::BROADCAST));
        assert_eq!(world.receive(GUEST_1, &ends.udp((67, 68), &[2; 300])), []);
        assert_eq!(world.drops(), [("dhcp_rogue", 1)]);
    });
}
