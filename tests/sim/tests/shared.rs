//! An uplink with the host's own address: nobody is asked by ARP, and what is for the host goes to the host.

use std::net::Ipv4Addr;

use pontoon_engine::snapshot::{Shared, Snapshot, Subnet};
use pontoon_sim::frames::{self, Ends, ICMP, UDP};
use pontoon_sim::{EXTERNAL, GATEWAY, GATEWAY_MAC, GUEST_1, GUEST_2, SERVER, UPLINK, UPLINK_MAC, World};

const MAC_1: [u8; 6] = [0x52, 0x54, 0, 0, 2, 1];
const MAC_2: [u8; 6] = [0x52, 0x54, 0, 0, 2, 2];
const IP_1: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 21);
const IP_2: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 22);
/// Of the host, on another interface.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The host's port of the network.
const HOST: u16 = 0;

fn share(snapshot: &mut Snapshot, address: Option<Ipv4Addr>) {
    for uplink in snapshot.uplinks.iter_mut().flatten() {
        uplink.shared = Some(Shared { host: vec![OTHER] });
        (uplink.subnet, uplink.gateway) = (address.map(|address| Subnet { address, prefix: 32 }), address);
    }
    snapshot.networks.iter_mut().flatten().for_each(|network| network.nat_ports = (61000, 65535));
}

fn each(test: impl Fn(World)) {
    for workers in [1, 2, 4] {
        for seed in [1, 8, 64, 512] {
            println!("workers {workers} seed {seed}");
            test(World::with(workers, seed, 256, |snapshot| share(snapshot, Some(EXTERNAL))));
        }
    }
}

fn out(to: Ipv4Addr) -> Ends {
    Ends::new((MAC_1, IP_1), (GATEWAY_MAC, to))
}

#[test]
fn packets_leave_at_once_wherever_they_go() {
    each(|mut world| {
        for to in [SERVER, FAR, SERVER] {
            for port in 61000..61010 {
                let sent = world.receive(GUEST_1, &out(to).udp((port, 53), b"q"));
                assert_eq!(sent.len(), 1, "no ARP");
                let seen = frames::parse(&sent[0].1);
                assert_eq!((sent[0].0, seen.source, seen.destination), (UPLINK, EXTERNAL, to));
                assert_eq!((seen.macs, seen.ports, seen.ttl), ((UPLINK_MAC, UPLINK_MAC), (port, 53), 63));
                // Whatever address the host's kernel let it come in by.
                for mac in [UPLINK_MAC, [0x52, 0x54, 9, 9, 9, 9]] {
                    let back = Ends::new(([2; 6], to), (mac, EXTERNAL)).udp((53, port), b"a");
                    let sent = world.receive(UPLINK, &back);
                    assert_eq!(sent.len(), 1);
                    assert_eq!((sent[0].0, frames::parse(&sent[0].1).destination), (GUEST_1, IP_1));
                }
            }
            world.advance(200_000_000_000);
        }
        assert_eq!(world.drops(), []);
    });
}

#[test]
fn what_is_for_the_host_goes_to_the_host() {
    each(|mut world| {
        for (to, port) in [(EXTERNAL, 22), (EXTERNAL, 60999), (OTHER, 22), (OTHER, 61000)] {
            let frame = out(to).tcp((5000, port), "S", (1, 0), b"");
            assert_eq!(world.receive(GUEST_1, &frame), [(HOST, frame.clone())], "{to} {port}");
        }
        let ping = out(EXTERNAL).echo(true, (61000, 1), b"x");
        assert_eq!(world.receive(GUEST_1, &ping), [(HOST, ping.clone())]);
        assert_eq!((world.sessions(), world.drops()), (0, vec![]));
    });
}

#[test]
fn guests_meet_at_nats_ports_of_the_hosts_address() {
    each(|mut world| {
        let _ = world.receive(GUEST_1, &out(FAR).udp((61005, 9), b"here I am"));
        let two = Ends::new((MAC_2, IP_2), (GATEWAY_MAC, EXTERNAL));
        let _ =
            world.receive(GUEST_2, &Ends::new((MAC_2, IP_2), (GATEWAY_MAC, FAR)).udp((61006, 9), b"me too"));
        let sent = world.receive(GUEST_2, &two.udp((61006, 61005), b"hello"));
        let seen = sent.iter().find(|(port, _)| *port == GUEST_1).map(|(_, frame)| frames::parse(frame));
        let seen = seen.expect("through NAT and back");
        assert_eq!((seen.protocol, seen.source, seen.ports), (UDP, EXTERNAL, (61006, 61005)));
    });
}

#[test]
fn sessions_end_with_the_address_and_without_one_guests_are_told() {
    each(|mut world| {
        let ask = out(SERVER).udp((61000, 53), b"q");
        assert_eq!(world.receive(GUEST_1, &ask).len(), 1);
        assert_eq!(world.sessions(), 1);
        world.reapply(|snapshot| share(snapshot, None));
        assert_eq!(world.sessions(), 0);
        let sent = world.receive(GUEST_1, &ask);
        let seen = frames::parse(&sent[0].1);
        assert_eq!((sent.len(), sent[0].0, seen.protocol, seen.source), (1, GUEST_1, ICMP, GATEWAY));
        assert_eq!(seen.ports, (3, 0));
        assert_eq!(world.advance(10_000_000_000), [], "no DHCP server is asked for one");
        let next = Ipv4Addr::new(203, 0, 113, 7);
        world.reapply(|snapshot| share(snapshot, Some(next)));
        assert_eq!(frames::parse(&world.receive(GUEST_1, &ask)[0].1).source, next);
        let late = Ends::new(([2; 6], SERVER), (UPLINK_MAC, EXTERNAL)).udp((53, 61000), b"a");
        assert_eq!(world.receive(UPLINK, &late).len(), 0);
    });
}
