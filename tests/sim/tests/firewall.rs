//! What libvirt's firewall rules let pass, refuse and translate, held against the engine, packet by packet.
//!
//! The rules are libvirt's own test data, read where it is at hand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use pontoon_engine::snapshot::{Forward, Network, Subnet};
use pontoon_engine::{PortId, Snapshot};
use pontoon_netxml::{Mode, Network as Definition};
use pontoon_sim::frames::{self, Ends, ICMP, parse_arp};
use pontoon_sim::{EXTERNAL, GATEWAY_MAC, GUEST_1, GUEST_2, SERVER, UPLINK, UPLINK_MAC, World};

type Mac = [u8; 6];

const MAC_1: Mac = [0x52, 0x54, 0, 0, 2, 1];
const MAC_2: Mac = [0x52, 0x54, 0, 0, 2, 2];
const SERVER_MAC: Mac = [0x52, 0x54, 0, 0, 8, 1];
const BRIDGE: &str = "virbr0";
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);

/// A packet as the rules see it.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    from: (&'a str, Ipv4Addr),
    to: (&'a str, Ipv4Addr),
    protocol: &'a str,
    established: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Reject,
}

/// The rules of each chain, first to be looked at first.
#[derive(Default)]
struct Rules(BTreeMap<String, Vec<Vec<String>>>);

impl Rules {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("rules").replace("\\\n", " ");
        let mut rules = Self::default();
        for line in text.lines().filter(|line| line.contains("insert rule ip ") || line.contains("insert")) {
            let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('\'')).collect();
            let ["nft", "-ae", "insert", "rule", "ip", _, chain, rule @ ..] = &words[..] else { continue };
            let chain = rules.0.entry((*chain).to_owned()).or_default();
            chain.insert(0, rule.iter().map(|word| (*word).to_owned()).collect());
        }
        rules
    }

    /// What the forward hook does: guests among themselves, then what comes, then what goes.
    fn forward(&self, packet: &Packet<'_>) -> Verdict {
        let decided = ["guest_cross", "guest_input", "guest_output"].iter().find_map(|chain| {
            let rest = self.first(chain, packet)?;
            match rest[0].as_str() {
                "accept" => Some(Verdict::Accept),
                "reject" => Some(Verdict::Reject),
                other => panic!("verdict {other}"),
            }
        });
        decided.unwrap_or(Verdict::Accept)
    }

    /// The ports a source is translated to, if it is: all where none are named.
    fn translated(&self, packet: &Packet<'_>) -> Option<(u16, u16)> {
        let rest = self.first("guest_nat", packet)?;
        match &rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["masquerade", "to", range] => {
                let (low, high) = range.strip_prefix(':')?.split_once('-').expect("a range");
                Some((low.parse().expect("port"), high.parse().expect("port")))
            }
            ["masquerade"] => Some((0, u16::MAX)),
            ["return"] => None,
            other => panic!("{other:?}"),
        }
    }

    /// The verdict of the first rule that matches.
    fn first(&self, chain: &str, packet: &Packet<'_>) -> Option<&[String]> {
        self.0.get(chain)?.iter().find_map(|rule| matches(rule, packet))
    }
}

/// What stands behind `counter`, if the conditions before it hold.
fn matches<'a>(rule: &'a [String], packet: &Packet<'_>) -> Option<&'a [String]> {
    let mut rest = rule;
    loop {
        let words: Vec<&str> = rest.iter().map(String::as_str).take(4).collect();
        let (holds, length) = match words[..] {
            ["counter", ..] => return Some(&rest[1..]),
            ["iif" | "iifname", name, ..] => (packet.from.0 == name, 2),
            ["oif" | "oifname", name, ..] => (packet.to.0 == name, 2),
            ["ip", "saddr", net, ..] => (inside(packet.from.1, net), 3),
            ["ip", "daddr", "!=", net] => (!inside(packet.to.1, net), 4),
            ["ip", "daddr", net, ..] => (inside(packet.to.1, net), 3),
            ["ct", "state", "related,established", ..] => (packet.established, 3),
            ["meta", "l4proto", protocol, ..] => (packet.protocol == protocol, 3),
            _ => panic!("a condition that is not known: {rest:?}"),
        };
        if !holds {
            return None;
        }
        rest = &rest[length..];
    }
}

fn inside(ip: Ipv4Addr, net: &str) -> bool {
    let (base, prefix) = net.split_once('/').expect("a prefix");
    let subnet = Subnet { address: base.parse().expect("address"), prefix: prefix.parse().expect("prefix") };
    subnet.contains(ip)
}

fn subnets(definition: &Definition) -> Vec<Subnet> {
    let v4 = definition.ips.iter().filter_map(|ip| match ip.address {
        std::net::IpAddr::V4(address) => Some(Subnet { address, prefix: ip.prefix }),
        std::net::IpAddr::V6(_) => None,
    });
    v4.collect()
}

/// The definition in place of the simulation's first network.
fn world(definition: &Definition) -> World {
    let edit = |network: &mut Network| {
        network.forward = match definition.forward.mode {
            Mode::Nat => Forward::Nat,
            Mode::Route => Forward::Route,
            Mode::Open => Forward::Open,
            _ => Forward::Isolated,
        };
        network.subnets = subnets(definition);
        network.subnet = network.subnets.first().copied();
        network.nat_ports = definition.forward.nat_ports.unwrap_or((1024, 65535));
        network.uplink = (network.forward != Forward::Isolated).then_some(0);
    };
    let edit = |snapshot: &mut Snapshot| snapshot.networks[0].as_mut().into_iter().for_each(edit);
    let mut world = World::with(2, 8, 64, edit);
    // The router outside is known.
    world.receive(GUEST_1, &guest(host(subnets(definition)[0], 9), SERVER).udp((1, 2), b""));
    world.receive(UPLINK, &frames::arp(2, (SERVER_MAC, SERVER), (UPLINK_MAC, EXTERNAL)));
    world
}

fn host(subnet: Subnet, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() + number)
}

fn guest(from: Ipv4Addr, to: Ipv4Addr) -> Ends {
    Ends::new((MAC_1, from), (GATEWAY_MAC, to))
}

/// What became of a frame: the packet that went on, or none; and whether its sender was told.
fn outcome(world: &mut World, port: PortId, frame: &[u8]) -> (Option<(PortId, frames::Seen)>, bool) {
    let mut sent = world.receive(port, frame);
    // Who is asked for answers.
    let asked =
        sent.iter().find_map(|(port, frame)| Some((*port, parse_arp(frame)?.2.1, parse_arp(frame)?.1)));
    sent.retain(|(_, frame)| parse_arp(frame).is_none());
    if let Some((asking, wanted, own)) = asked {
        let (at, mac) = if asking == UPLINK { (UPLINK, SERVER_MAC) } else { (GUEST_2, MAC_2) };
        sent.extend(world.receive(at, &frames::arp(2, (mac, wanted), own)));
        sent.retain(|(_, frame)| parse_arp(frame).is_none());
    }
    let source = frames::parse(frame).source;
    let seen: Vec<_> = sent.iter().map(|(port, frame)| (*port, frames::parse(frame))).collect();
    let told =
        seen.iter().any(|(to, seen)| *to == port && seen.protocol == ICMP && seen.destination == source);
    (seen.into_iter().find(|(to, _)| *to != port || !told), told)
}

fn frame(ends: &Ends, protocol: &str, ports: (u16, u16)) -> Vec<u8> {
    match protocol {
        "tcp" => ends.tcp(ports, "S", (1000, 0), b""),
        "icmp" => ends.echo(true, (ports.0, 1), b"ping"),
        _ => ends.udp(ports, b"packet"),
    }
}

/// Guests among themselves, by way of the gateway, and packets that leave.
fn leaving(name: &str, definition: &Definition, rules: &Rules, outside: &str) -> usize {
    let all = subnets(definition);
    let mut count = 0;
    let sources = all.iter().map(|subnet| host(*subnet, 9)).chain([STRANGER]);
    for source in sources {
        let inside = all.iter().map(|subnet| (BRIDGE, host(*subnet, 20)));
        for to in inside.chain([(outside, SERVER)]) {
            for protocol in ["udp", "tcp", "icmp"] {
                let packet = Packet { from: (BRIDGE, source), to, protocol, established: false };
                let mut world = world(definition);
                let (passed, told) =
                    outcome(&mut world, GUEST_1, &frame(&guest(source, to.1), protocol, (700, 53)));
                let expected = rules.forward(&packet);
                count += 1;
                let Some((port, seen)) = passed.filter(|_| expected == Verdict::Accept) else {
                    assert_eq!(
                        (expected, told),
                        (Verdict::Reject, true),
                        "{name}: {packet:?} {:?}",
                        world.drops()
                    );
                    continue;
                };
                assert_eq!(port == UPLINK, to.0 != BRIDGE, "{name}: {packet:?}");
                match rules.translated(&packet).filter(|_| port == UPLINK) {
                    None => assert_eq!(seen.source, source, "{name}: {packet:?}"),
                    Some((low, high)) => {
                        assert_eq!(seen.source, EXTERNAL, "{name}: {packet:?}");
                        let fits = protocol == "icmp" || (low..=high).contains(&seen.ports.0);
                        assert!(fits, "{name}: {packet:?} leaves by port {}", seen.ports.0);
                    }
                }
            }
        }
    }
    count
}

/// What nobody forwards is not translated either.
fn unforwarded(name: &str, definition: &Definition, rules: &Rules, outside: &str) {
    let source = host(subnets(definition)[0], 9);
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 5)] {
        let packet =
            Packet { from: (BRIDGE, source), to: (outside, to), protocol: "udp", established: false };
        assert_eq!(rules.translated(&packet), None, "{name}: {packet:?}");
        let mut world = world(definition);
        let sessions = world.sessions();
        let (passed, _) = outcome(&mut world, GUEST_1, &guest(source, to).udp((700, 53), b""));
        assert!(passed.is_none() && world.sessions() == sessions, "{name}: {packet:?}");
    }
}

/// Packets from outside to guests: of their own accord, and as answers.
fn arriving(name: &str, definition: &Definition, rules: &Rules, outside: &str) -> usize {
    let all = subnets(definition);
    for to in all.iter().map(|subnet| host(*subnet, 20)) {
        for protocol in ["udp", "tcp", "icmp"] {
            let packet = Packet { from: (outside, SERVER), to: (BRIDGE, to), protocol, established: false };
            let mut world = world(definition);
            let ends = Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, to));
            let (passed, told) = outcome(&mut world, UPLINK, &frame(&ends, protocol, (53, 700)));
            match rules.forward(&packet) {
                Verdict::Accept => {
                    let (port, seen) = passed.unwrap_or_else(|| panic!("{name}: {packet:?} is not let in"));
                    assert_eq!((port, seen.source, seen.destination), (GUEST_2, SERVER, to), "{name}");
                }
                Verdict::Reject => assert!(passed.is_none() && told, "{name}: {packet:?}"),
            }
        }
    }
    for from in all.iter().map(|subnet| host(*subnet, 9)) {
        let out = Packet { from: (BRIDGE, from), to: (outside, SERVER), protocol: "udp", established: false };
        let back = Packet { from: out.to, to: out.from, established: true, ..out };
        let mut world = world(definition);
        let (passed, _) = outcome(&mut world, GUEST_1, &guest(from, SERVER).udp((700, 53), b""));
        let Some((_, seen)) = passed.filter(|(port, _)| *port == UPLINK) else { continue };
        assert_eq!((rules.forward(&out), rules.forward(&back)), (Verdict::Accept, Verdict::Accept), "{name}");
        let ends = Ends::new((SERVER_MAC, SERVER), (UPLINK_MAC, seen.source));
        let mut sent = world.receive(UPLINK, &ends.udp((53, seen.ports.0), b"answer"));
        if sent.iter().any(|(_, frame)| parse_arp(frame).is_some()) {
            let own = (GATEWAY_MAC, all.iter().find(|subnet| subnet.contains(from)).expect("own").address);
            sent = world.receive(GUEST_1, &frames::arp(2, (MAC_1, from), own));
        }
        sent.retain(|(port, _)| *port == GUEST_1);
        let seen = frames::parse(&sent.first().expect("the answer arrives").1);
        assert_eq!((seen.destination, seen.ports), (from, (53, 700)), "{name}");
    }
    3 * all.len()
}

#[test]
fn the_engine_decides_as_libvirts_rules_do() {
    let data = match pontoon_compat_tests::data() {
        Ok(data) => data.join("networkxml2firewalldata"),
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let mut networks = 0;
    for entry in std::fs::read_dir(&data).expect("the data").flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let rules = data.join(format!("{name}-linux.nftables"));
        if path.extension().is_none_or(|extension| extension != "xml") || !rules.exists() {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("definition");
        let definition = pontoon_netxml::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rules = Rules::read(&rules);
        let outside = definition.forward.dev.as_deref().unwrap_or("eth0");
        let verdicts =
            leaving(&name, &definition, &rules, outside) + arriving(&name, &definition, &rules, outside);
        if definition.forward.mode == Mode::Nat {
            unforwarded(&name, &definition, &rules, outside);
        }
        println!("{name}: {verdicts} verdicts agree");
        networks += 1;
    }
    assert!(networks >= 5, "{networks} networks in {}", data.display());
}
