//! Fragments through NAT: in any order, with overlaps, and more than there is room for.

use std::net::Ipv4Addr;

use pontoon_engine::PortId;
use pontoon_sim::frames::{self, Ends, join, piece};
use pontoon_sim::{EXTERNAL, GATEWAY_MAC, GUEST_1, GUEST_2, SERVER, UPLINK, UPLINK_MAC, World};

type Station = (PortId, [u8; 6], Ipv4Addr);

const ONE: Station = (GUEST_1, [0x52, 0x54, 0, 0, 2, 1], Ipv4Addr::new(192, 168, 100, 21));
const OTHER: Station = (GUEST_2, [0x52, 0x54, 0, 0, 2, 2], Ipv4Addr::new(192, 168, 100, 22));
const SERVER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 8, 1];
/// Octets of a fragment.
const PART: usize = 488;

fn each(test: impl Fn(World)) {
    for workers in [1, 2, 4] {
        for seed in [1, 8, 64] {
            println!("workers {workers} seed {seed}");
            let mut world = World::new(workers, seed);
            for station in [ONE, OTHER] {
                world.receive(station.0, &out(station).udp((5000 + station.0, 53), b"who is there"));
                world.receive(UPLINK, &frames::arp(2, (SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL)));
                world.receive(UPLINK, &back().udp((53, 5000 + station.0), b"I"));
            }
            test(world);
        }
    }
}

fn out(from: Station) -> Ends {
    Ends::new((from.1, from.2), (GATEWAY_MAC, SERVER))
}

fn back() -> Ends {
    Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL))
}

fn payload() -> Vec<u8> {
    (0..1400_u32).map(|at| (at * 7) as u8).collect()
}

/// Gives frames to the world; what left by `to`.
fn give(world: &mut World, from: PortId, to: PortId, parts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut sent: Vec<_> = parts.iter().flat_map(|part| world.receive(from, part)).collect();
    sent.retain(|(_, frame)| frames::parse_arp(frame).is_none());
    assert!(sent.iter().all(|(port, _)| *port == to), "{sent:?}");
    sent.into_iter().map(|(_, frame)| frame).collect()
}

fn numbered(frame: &[u8], id: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    let (header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).expect("a header");
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    frame
}

//= RFC4787#REQ-14 type=test
#[test]
fn fragments_come_in_any_order_and_all_arrive() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    each(|mut world| {
        let ways = [(GUEST_1, UPLINK, out(ONE).udp((5001, 53), &payload())), {
            (UPLINK, GUEST_1, back().udp((53, 5001), &payload()))
        }];
        for (from, to, whole) in ways {
            for (id, order) in (100..).zip(ORDERS) {
                let whole = numbered(&whole, id);
                let parts: Vec<_> = order
                    .iter()
                    .map(|&n| piece(&whole, n * PART..((n + 1) * PART).min(whole.len() - 34)))
                    .collect();
                let sent = give(&mut world, from, to, &parts);
                assert_eq!(frames::parse(&sent[0]).fragment.0, 0, "the first goes first: {order:?}");
                let seen = join(&sent, 1500).unwrap_or_else(|| panic!("{order:?}: {sent:?}"));
                let expected = if to == UPLINK { (EXTERNAL, SERVER) } else { (SERVER, ONE.2) };
                assert_eq!((seen.source, seen.destination), expected);
                assert_eq!((seen.payload, seen.ttl), (payload(), 63));
            }
        }
        assert_eq!(world.drops(), []);
    });
}

//= RFC5722#3 type=test
#[test]
fn an_overlap_ends_the_datagram_and_a_copy_does_not() {
    each(|mut world| {
        for (id, from, to, whole) in [
            (7, GUEST_1, UPLINK, out(ONE).udp((5001, 53), &payload())),
            (8, UPLINK, GUEST_1, back().udp((53, 5001), &payload())),
        ] {
            let whole = numbered(&whole, id);
            let end = whole.len() - 34;
            let [first, second] = frames::cut(&whole, PART);
            for parts in [
                vec![first.clone(), piece(&whole, 480..960), second.clone()],
                vec![second.clone(), piece(&whole, 480..960), first.clone()],
                // Two ends.
                vec![first.clone(), piece(&whole[..34 + 960], 480..960), second.clone()],
            ] {
                let sent = give(&mut world, from, to, &parts);
                assert_eq!(join(&sent, 1500), None, "{sent:?}");
                world.advance(31_000_000_000);
            }
            let parts = [first.clone(), first.clone(), piece(&whole, 496..960), piece(&whole, PART..496)];
            let mut sent = give(&mut world, from, to, &parts);
            sent.extend(give(&mut world, from, to, &[piece(&whole, 960..end)]));
            assert!(join(&sent, 1500).is_some(), "{sent:?}");
            world.advance(31_000_000_000);
        }
        let lost: u64 = world.drops().iter().map(|(_, count)| count).sum();
        assert_eq!(lost, world.dropped("nat_fragment_overlap") + world.dropped("nat_fragment"));
    });
}

//= RFC6864#4.1, RFC7857#10 type=test
#[test]
fn guests_with_one_identification_have_two_outside() {
    each(|mut world| {
        let halves = |from: Station| frames::cut(&out(from).udp((5000 + from.0, 53), &payload()), PART);
        let ([a, b], [c, d]) = (halves(ONE), halves(OTHER));
        let mut sent = Vec::new();
        for (port, part) in [(GUEST_1, a), (GUEST_2, d), (GUEST_2, c), (GUEST_1, b)] {
            sent.extend(give(&mut world, port, UPLINK, &[part]));
        }
        let (one, other): (Vec<_>, Vec<_>) =
            sent.iter().cloned().partition(|frame| frame[18..20] == sent[0][18..20]);
        let ports = [one, other].map(|parts| join(&parts, 1500).map(|seen| seen.ports.0));
        assert_eq!(ports, [Some(5000 + GUEST_1), Some(5000 + GUEST_2)]);
        // Whole datagrams that may be cut on their way have numbers of their own too, others need none.
        let mut ends = out(ONE);
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let sent = give(&mut world, GUEST_1, UPLINK, &[ends.udp((5001, 53), b"x")]);
            ids.insert([sent[0][18], sent[0][19]]);
        }
        assert_eq!(ids.len(), 500);
        ends.dont_fragment = true;
        let sent = give(&mut world, GUEST_1, UPLINK, &[ends.udp((5001, 53), b"x")]);
        assert_eq!(sent[0][18..20], [0x12, 0x34]);
    });
}

//= RFC4787#REQ-14a type=test
#[test]
fn half_datagrams_take_bounded_room_and_nothing_from_others() {
    let mut world = World::new(2, 5);
    world.receive(GUEST_2, &out(OTHER).udp((5002, 53), b"who is there"));
    world.receive(UPLINK, &frames::arp(2, (SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL)));
    let whole = out(ONE).udp((5001, 53), &payload());
    for number in 0..20_000_u32 {
        let half = numbered(&frames::cut(&whole, PART)[1], number as u16);
        assert!(give(&mut world, GUEST_1, UPLINK, &[half]).is_empty());
        if number % 1000 == 0 {
            let whole = out(OTHER).udp((5002, 53), &payload());
            let [first, second] = frames::cut(&numbered(&whole, number as u16 + 1), PART);
            let sent = give(&mut world, GUEST_2, UPLINK, &[second, first]);
            assert!(join(&sent, 1500).is_some());
        }
    }
    let kept = 20_000 - world.dropped("nat_fragment");
    assert!(kept <= 2 * 128, "{kept} halves wait");
    world.advance(32_000_000_000);
    assert_eq!(world.dropped("nat_fragment"), 20_000, "what waits in vain is counted in the end");
}

/// From one guest to the external endpoint of the other.
#[test]
fn fragments_between_guests_come_in_any_order() {
    each(|mut world| {
        let to = Ends::new((ONE.1, ONE.2), (GATEWAY_MAC, EXTERNAL));
        let [first, second] = frames::cut(&to.udp((5001, 5002), &payload()), PART);
        let sent = give(&mut world, GUEST_1, GUEST_2, &[second, first]);
        let seen = join(&sent, 1500).expect("all of it");
        assert_eq!((seen.source, seen.destination, seen.ports), (EXTERNAL, OTHER.2, (5001, 5002)));
        assert_eq!(seen.payload, payload());
    });
}
