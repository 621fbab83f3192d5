//! DHCP and DNS among many workers: what guests can ask of the disk and of resolvers.

use std::net::Ipv4Addr;

use pontoon_engine::PortId;
use pontoon_engine::snapshot::Subnet;
use pontoon_sim::frames::{BROADCAST, Ends, parse};
use pontoon_sim::{GATEWAY, GATEWAY_MAC, GUEST_1, GUEST_2, World};
use pontoon_wire::dhcp::{Builder, Message, MessageType, code};

type Mac = [u8; 6];

const MAC_1: Mac = [0x52, 0x54, 0, 0, 2, 1];
const MAC_2: Mac = [0x52, 0x54, 0, 0, 2, 2];
const SECOND: u64 = 1_000_000_000;
/// Changes that a port gets written at once, and how many a second after that.
const BURST: usize = 64;
const RATE: usize = 2;

fn each(test: impl Fn(World)) {
    for workers in [1, 2, 4] {
        for seed in [3, 77] {
            println!("workers {workers} seed {seed}");
            test(World::with(workers, seed, 64, |snapshot| {
                let networks = snapshot.networks.iter_mut().flatten();
                networks.for_each(|network| network.dns.cache_size = 100);
            }));
        }
    }
}

/// Sends a DHCP message; kind, address and seconds of the answer, if one comes.
fn say(
    world: &mut World,
    (port, mac): (PortId, Mac),
    kind: MessageType,
    own: Ipv4Addr,
    wanted: Option<Ipv4Addr>,
) -> Option<(MessageType, Ipv4Addr, u32)> {
    let mut bytes = vec![0; 400];
    let mut builder = Builder::new(&mut bytes, 400, 1, 1, mac, kind).expect("room");
    builder.ciaddr(own);
    if let Some(wanted) = wanted {
        builder.option(code::REQUESTED_IP, &wanted.octets()).expect("room");
    }
    let length = builder.finish();
    let ends = match own.is_unspecified() {
        true => Ends::new((mac, own), (BROADCAST, Ipv4Addr::BROADCAST)),
        false => Ends::new((mac, own), (GATEWAY_MAC, GATEWAY)),
    };
    let sent = world.receive(port, &ends.udp((68, 67), &bytes[..length]));
    let (_, frame) = sent.iter().find(|(to, _)| *to == port)?;
    let seen = parse(frame);
    let answer = Message::parse(&seen.payload).ok()?;
    let seconds = answer.option(code::LEASE_TIME).and_then(|data| data.try_into().ok());
    Some((answer.message_type()?, answer.yiaddr(), seconds.map_or(0, u32::from_be_bytes)))
}

fn lease(world: &mut World, guest: (PortId, Mac)) -> Option<Ipv4Addr> {
    let none = Ipv4Addr::UNSPECIFIED;
    let (_, offered, _) = say(world, guest, MessageType::Discover, none, None)?;
    let (kind, given, _) = say(world, guest, MessageType::Request, none, Some(offered))?;
    (kind == MessageType::Ack).then_some(given)
}

#[test]
fn a_guest_that_renews_all_the_time_does_not_keep_the_disk_busy() {
    each(|mut world| {
        let one = (GUEST_1, MAC_1);
        let own = lease(&mut world, one).expect("a lease");
        for _ in 0..1000 {
            let answer = say(&mut world, one, MessageType::Request, own, None);
            assert_eq!(answer, Some((MessageType::Ack, own, 3600)), "every renewal is answered");
        }
        assert_eq!(world.take_lease_changes(), BURST);
        assert!(lease(&mut world, (GUEST_2, MAC_2)).is_some(), "others are not kept waiting");
        assert_eq!(world.take_lease_changes(), 1);
        world.advance(10 * SECOND);
        for _ in 0..1000 {
            let answer = say(&mut world, one, MessageType::Request, own, None);
            assert!(matches!(answer, Some((MessageType::Ack, _, 3590..=3600))), "{answer:?}");
        }
        assert_eq!(world.take_lease_changes(), 10 * RATE);
        let fresh = lease(&mut world, (GUEST_1, [0x52, 0x54, 0, 0, 2, 9]));
        assert_eq!(
            (fresh, world.drops()),
            (None, vec![("dhcp_rate", 1)]),
            "a lease more would be one write more"
        );
    });
}

/// A query for the address of `www.example`.
fn query(id: u16) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    bytes.extend(b"\x03www\x07example\0\0\x01\0\x01");
    bytes
}

#[test]
fn guests_share_a_query_and_its_answer() {
    each(|mut world| {
        let guests = [(GUEST_1, MAC_1, 21), (GUEST_2, MAC_2, 22)].map(|(port, mac, last)| {
            let ends = Ends::new((mac, Ipv4Addr::new(192, 168, 100, last)), (GATEWAY_MAC, GATEWAY));
            (port, ends)
        });
        for (id, (port, ends)) in guests.iter().enumerate() {
            assert_eq!(world.receive(*port, &ends.udp((3333, 53), &query(id as u16))), []);
        }
        let queries = world.take_queries();
        let [(socket, asked)] = &queries[..] else { panic!("{queries:?}") };
        let mut response = asked.clone();
        (response[2], response[7]) = (0x81, 1);
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 9]);
        let sent = world.resolver(*socket, &response);
        for (id, (port, ends)) in guests.iter().enumerate() {
            let (_, frame) = sent.iter().find(|(to, _)| to == port).expect("an answer for each");
            let seen = parse(frame);
            assert_eq!((seen.destination, seen.payload[1]), (ends.source, id as u8));
        }
        world.advance(30 * SECOND);
        let (port, ends) = guests[0];
        let sent = world.receive(port, &ends.udp((3333, 53), &query(7)));
        let (_, frame) = sent.first().expect("it is known");
        let payload = parse(frame).payload;
        assert_eq!(payload[payload.len() - 10..], [0, 0, 0, 30, 0, 4, 198, 51, 100, 9]);
        assert!(world.take_queries().is_empty() && world.drops().is_empty());
    });
}

#[test]
fn every_address_of_the_gateway_answers_for_itself() {
    let second = Subnet { address: Ipv4Addr::new(10, 24, 10, 1), prefix: 24 };
    for workers in [1, 4] {
        let mut world = World::with(workers, 5, 64, |snapshot| {
            let network = snapshot.networks[0].as_mut().expect("the network");
            network.subnets.push(second);
        });
        let guest = Ipv4Addr::new(10, 24, 10, 7);
        let ends = Ends::new((MAC_1, guest), (GATEWAY_MAC, second.address));
        let bare = [&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x06nobody\0\0\x01\0\x01"].concat();
        let sent = world.receive(GUEST_1, &ends.udp((3333, 53), &bare));
        let seen = parse(&sent.first().expect("an answer").1);
        assert_eq!((seen.source, seen.destination, seen.payload[1]), (second.address, guest, 9));
        let sent = world.receive(GUEST_1, &ends.tcp((3334, 53), "S", (100, 0), b""));
        let seen = parse(&sent.first().expect("a handshake").1);
        assert_eq!((seen.source, seen.ports), (second.address, (53, 3334)));
        assert!(world.drops().is_empty());
    }
}
