//! The switch against a model that does it the slow way.

use std::collections::BTreeMap;

use pontoon_engine::PortId;
use pontoon_sim::{GATEWAY_MAC, Rng, World};

type Mac = [u8; 6];

/// Seconds until a silent address is forgotten.
const AGEING: u64 = 300;

/// Network, ports, gateway's address.
const NETWORKS: [(&[PortId], Mac); 2] = [(&[0, 1, 2], GATEWAY_MAC), (&[3, 4], [0x52, 0x54, 0, 0, 1, 2])];

#[derive(Default)]
struct Model {
    seen: BTreeMap<(usize, Mac), (PortId, u64)>,
    drops: BTreeMap<&'static str, u64>,
}

impl Model {
    /// Where a frame that is neither IPv4 nor ARP goes.
    fn egress(&mut self, second: u64, port: PortId, destination: Mac, source: Mac) -> Vec<PortId> {
        let id = usize::from(port > 2);
        let (ports, gateway) = NETWORKS[id];
        let host = ports[0];
        let link_local = destination[..5] == [1, 0x80, 0xc2, 0, 0] && destination[5] < 16;
        if port != host {
            if source[0] & 1 == 1 || source == [0; 6] {
                return self.dropped("source_group");
            }
            if source == gateway {
                return self.dropped("source_gateway");
            }
        }
        if link_local {
            return self.dropped("link_local");
        }
        if port != host {
            self.seen.insert((id, source), (port, second));
        }
        if destination == gateway {
            return if port == host { self.dropped("same_port") } else { vec![host] };
        }
        let known = self.seen.get(&(id, destination)).filter(|(_, seen)| second - seen <= AGEING);
        match known {
            Some(&(at, _)) if destination[0] & 1 == 0 => {
                if at == port {
                    return self.dropped("same_port");
                }
                vec![at]
            }
            _ => ports.iter().copied().filter(|&other| other != port).collect(),
        }
    }

    fn dropped(&mut self, name: &'static str) -> Vec<PortId> {
        *self.drops.entry(name).or_default() += 1;
        Vec::new()
    }
}

fn address(rng: &mut Rng) -> Mac {
    match rng.below(24) {
        0 => [0xff; 6],
        1 => [1, 0, 0x5e, 0, 0, rng.below(3) as u8],
        2 => [1, 0x80, 0xc2, 0, 0, rng.below(20) as u8],
        3 => NETWORKS[rng.below(2)].1,
        4 => [0; 6],
        _ => [0x52, 0x54, 0, 0, 7, rng.below(8) as u8],
    }
}

#[test]
fn every_frame_leaves_by_exactly_the_ports_the_model_says() {
    for workers in [1, 2, 4] {
        for seed in 1..=6 {
            run(workers, seed);
        }
    }
}

fn run(workers: u16, seed: u64) {
    let mut world = World::new(workers, seed);
    let mut rng = Rng(seed * 0x9e37_79b9 + u64::from(workers));
    let mut model = Model::default();
    for step in 0..2500 {
        let at = format!("workers {workers} seed {seed} step {step}");
        if rng.below(12) == 0 {
            let seconds = [1, 20, 150, AGEING - 1, AGEING, AGEING + 1][rng.below(6)];
            assert!(world.advance(seconds * 1_000_000_000).is_empty(), "{at}: time alone sends nothing");
        }
        let port = rng.below(5) as PortId;
        let (destination, source) = (address(&mut rng), address(&mut rng));
        let mut frame = [destination, source].concat();
        frame.extend([0x88, 0xb5]);
        frame.extend((0..46 + rng.below(100)).map(|_| rng.draw() as u8));
        let expected = model.egress(world.now.mono.secs(), port, destination, source);
        let mut sent = world.receive(port, &frame);
        sent.sort();
        assert!(sent.iter().all(|(to, bytes)| *to != port && *bytes == frame), "{at}: back, or changed");
        let ports: Vec<_> = sent.iter().map(|&(to, _)| to).collect();
        assert_eq!(ports, expected, "{at}: {destination:02x?} from {source:02x?} on {port}");
        assert!(ports.iter().all(|&to| (to > 2) == (port > 2)), "{at}: crossed networks");
    }
    assert_eq!(world.hand_offs(), 0, "switching needs no other worker");
    let drops: BTreeMap<_, _> = world.drops().into_iter().collect();
    assert_eq!(drops, model.drops, "workers {workers} seed {seed}");
}

#[test]
fn a_port_with_all_its_addresses_used_still_forwards_and_learns_no_more() {
    let mut world = World::new(2, 5);
    let frame = |to: Mac, from: Mac| [&to[..], &from[..], &[0x88, 0xb5], &[0; 46]].concat();
    for last in 0..80 {
        let sent = world.receive(1, &frame([0xff; 6], [2, 0, 0, 0, 0, last]));
        assert_eq!(sent.len(), 2, "address {last}");
    }
    assert_eq!(world.drops(), [("mac_limit", 16)]);
    let sent = world.receive(2, &frame([2, 0, 0, 0, 0, 63], [2, 0, 0, 0, 1, 0]));
    assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [1], "the 64th was learned");
    let sent = world.receive(2, &frame([2, 0, 0, 0, 0, 64], [2, 0, 0, 0, 1, 0]));
    assert_eq!(sent.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [0, 1], "the 65th is flooded");
}

#[test]
fn frames_longer_than_the_network_carries_and_runts_are_dropped() {
    let mut world = World::new(1, 5);
    let head = [[0xff; 6], [2, 0, 0, 0, 0, 1]].concat();
    let frame = |length: usize| [&head[..], &[0x88, 0xb5], &vec![0; length - 14]].concat();
    assert_eq!(world.receive(1, &frame(14 + 4 + 1500)).len(), 2);
    assert!(world.receive(1, &frame(14 + 4 + 1501)).is_empty());
    assert!(world.receive(1, &head).is_empty());
    assert!(world.receive(5, &frame(64)).is_empty(), "a port nobody configured");
    assert_eq!(world.drops(), [("mtu_exceeded", 1), ("runt", 1), ("unknown_port", 1)]);
}
