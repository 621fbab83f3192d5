//! Networks in a ring: how long until there is a tree, and how often a broadcast arrives meanwhile.

use pontoon_engine::snapshot::Role;
use pontoon_engine::stp::Gate;
use pontoon_engine::{PortId, Time};
use pontoon_sim::fabric::{Fabric, bridge_id, guest, socket};

const MILLI: u64 = 1_000_000;

fn broadcast(from: u16, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_be_bytes();
    let mut frame = [[0xff; 6], [2, 0, 0, 0, 0, from as u8]].concat();
    frame.extend([0x88, 0xb5, a, b, c, d]);
    frame.resize(60, 0);
    frame
}

/// How often the guest of `network` got broadcast `number`.
fn copies(fabric: &Fabric, network: u16, number: u32) -> usize {
    let frames = fabric.delivered.get(&guest(network)).map(Vec::as_slice).unwrap_or_default();
    frames.iter().filter(|frame| frame.get(14..18) == Some(&number.to_be_bytes()[..])).count()
}

/// Cables of a ring of so many networks.
fn ring(networks: u16) -> Vec<Vec<PortId>> {
    (0..networks).map(|n| vec![socket(n, 0), socket((n + 1) % networks, 1)]).collect()
}

/// Broadcasts from everybody every 100 us until there is a tree; the most copies anybody got of one, and of how many.
fn shout(fabric: &mut Fabric, networks: u16, nanos: u64) -> (usize, u32) {
    let mut number = 0;
    let end = fabric.world.now.mono.0 + nanos;
    while fabric.world.now.mono.0 < end {
        for network in 0..networks {
            number += 1;
            fabric.send(guest(network), &broadcast(network, number));
        }
        fabric.run(MILLI / 10);
    }
    fabric.run(10 * MILLI);
    let most = |network| (1..=number).map(|number| copies(fabric, network, number)).max().unwrap_or(0);
    ((0..networks).map(most).max().unwrap_or(0), number)
}

#[test]
fn rings_of_two_and_three_networks_converge_and_carry_each_broadcast_once() {
    for networks in [2, 3] {
        for workers in [1, 2, 4] {
            for seed in 1..=5 {
                let mut fabric = Fabric::new(workers, seed, networks, true, &ring(networks));
                let (most, shouted) = shout(&mut fabric, networks, 20 * MILLI);
                assert!(most <= 8, "{most} copies of one broadcast");
                let took = fabric.converge(Time::SECOND).expect("a tree");
                let at = format!("{networks} networks, {workers} workers, seed {seed}");
                if seed == 1 {
                    println!("{at}: tree within 20 ms of {shouted} broadcasts, at most {most} copies of one");
                }
                assert_eq!(took, 0, "{at}: 20 ms are enough");
                let before = fabric.delivered.clone();
                for network in 0..networks {
                    fabric.delivered.clear();
                    fabric.send(guest(network), &broadcast(network, u32::MAX));
                    fabric.run(5 * MILLI);
                    let all: Vec<_> = (0..networks).map(|other| copies(&fabric, other, u32::MAX)).collect();
                    let expected: Vec<_> = (0..networks).map(|other| usize::from(other != network)).collect();
                    assert_eq!(all, expected, "{at}");
                }
                drop(before);
                let blocked = (0..networks).flat_map(|n| [socket(n, 0), socket(n, 1)]);
                let blocked = blocked.filter(|&port| fabric.gate(port) != Gate::Open).count();
                assert_eq!(blocked, 1, "{at}: one port of the ring");
            }
        }
    }
}

#[test]
fn a_ring_is_whole_again_after_a_cable_is_cut_or_a_port_set_down() {
    for workers in [1, 2, 4] {
        let mut fabric = Fabric::new(workers, 3, 3, true, &ring(3));
        fabric.run(10 * Time::SECOND);
        let root = |fabric: &Fabric, network| fabric.world.tree(network).expect("a tree").root;
        assert_eq!([0, 1, 2].map(|network| root(&fabric, network)), [bridge_id(0); 3]);
        fabric.up[0] = false;
        let cut = fabric.converge(10 * Time::SECOND).expect("a tree without the cable");
        assert!(cut <= 6_200 * MILLI, "{cut}: three hellos are missed, echoes get 100 ms, then it is quick");
        fabric.up[0] = true;
        let back = fabric.converge(10 * Time::SECOND).expect("a tree with the cable");
        assert!(back <= 2_100 * MILLI, "{back}: the next hello finds it");
        let mut snapshot = (*fabric.world.snapshot).clone();
        for port in [socket(0, 0), socket(1, 1)] {
            set_down(&mut snapshot, port);
        }
        fabric.world.apply(snapshot);
        fabric.up[0] = false;
        let down = fabric.converge(10 * Time::SECOND).expect("a tree without the ports");
        assert!(down <= 2 * MILLI, "{down}: nobody has to wait for silence");
        println!(
            "{workers} workers: cable cut {} ms, back {} ms, port down {} us",
            cut / MILLI,
            back / MILLI,
            down / 1000
        );
    }
}

fn set_down(snapshot: &mut pontoon_engine::Snapshot, port: PortId) {
    let place = snapshot.ports[usize::from(port)].as_mut().expect("a port");
    let Role::Guest { network } = place.role else { panic!("not a guest's") };
    place.role = Role::Down { network };
    let network = snapshot.networks[usize::from(network)].as_mut().expect("a network");
    network.ports.retain(|other| *other != port);
    let tree = network.policy.as_mut().and_then(|policy| policy.tree.as_mut()).expect("a tree");
    tree.ports.retain(|other| other.port != port);
}

/// Ports that have been guests' for long, and then somebody bridges them: the first frame that comes round is noticed.
#[test]
fn a_loop_closed_behind_ports_that_forward_already_makes_no_storm() {
    let cases: [(&str, Vec<Vec<PortId>>); 4] = [
        ("a cable between two ports", vec![vec![socket(0, 0), socket(0, 1)]]),
        ("a hub with three ports", vec![vec![socket(0, 0), socket(0, 1), socket(0, 2)]]),
        ("two cables", ring(2)),
        ("four cables", (0..4).map(|n| vec![socket(0, n), socket(1, n)]).collect()),
    ];
    for (what, segments) in cases {
        for workers in [1, 2, 4] {
            let mut fabric = Fabric::new(workers, 9, 2, true, &[]);
            fabric.run(100_700 * MILLI);
            segments.iter().for_each(|ports| fabric.connect(ports.clone()));
            fabric.send(guest(0), &broadcast(0, 1));
            let took = fabric.converge(Time::SECOND).expect("a tree");
            let most = (0..2).map(|network| copies(&fabric, network, 1)).max().unwrap_or(0);
            let crossed = fabric.crossed;
            println!(
                "{what}, {workers} workers: tree after {} us, at most {most} copies, {crossed} crossings",
                took / 1000
            );
            assert!(most <= 20 && crossed <= 120 && took <= 2 * MILLI, "{what}");
        }
    }
}

#[test]
fn without_a_tree_the_same_ring_is_a_storm() {
    let mut fabric = Fabric::new(1, 1, 2, false, &ring(2));
    fabric.send(guest(0), &broadcast(0, 1));
    assert!(!fabric.is_calm(10 * Time::SECOND), "the test can tell a storm");
}

#[test]
fn bpdus_end_here_with_a_tree_and_without() {
    let mut bpdu = vec![0; 60];
    let message = pontoon_wire::bpdu::Bpdu::Tcn;
    message.emit(&mut bpdu, [2, 0, 0, 0, 0, 1]).expect("room");
    for stp in [true, false] {
        let mut fabric = Fabric::new(2, 1, 1, stp, &[]);
        fabric.send(guest(0), &bpdu);
        let mut lldp = bpdu.clone();
        lldp[5] = 0x0e;
        fabric.send(guest(0), &lldp);
        fabric.send(guest(0), &bpdu[..17]);
        let passed = fabric.delivered.values().flatten().filter(|frame| frame[6] == 2);
        assert_eq!(passed.count(), 0);
        let expected: &[(&str, u64)] =
            if stp { &[("bpdu_malformed", 1), ("link_local", 1)] } else { &[("link_local", 3)] };
        assert_eq!(fabric.world.drops(), expected);
    }
}
