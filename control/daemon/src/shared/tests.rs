//! The programs, run by the kernel on frames, against what they are to say.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::program::{self, Face, Forwarded, Maps, Scope};
use super::{local, make_maps};
use crate::ebpf::bpf;
use crate::ebpf::testing::{copies, with_few_rights};

const HOST: [u8; 4] = [203, 0, 113, 3];
const REMOTE: [u8; 4] = [198, 51, 100, 7];
/// An address that has a forward to itself.
const FORWARD: [u8; 4] = [203, 0, 113, 20];
const PORTS: (u16, u16) = (61000, 65535);
const PASS: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

struct Programs {
    inward: OwnedFd,
    outward: OwnedFd,
    inland: OwnedFd,
}

fn scope() -> Scope {
    let host = Ipv4Addr::from(HOST);
    let forward = |protocol, address, ports| Forwarded { protocol, address, ports };
    let forwards =
        vec![forward(6, Some(Ipv4Addr::from(FORWARD)), (443, 443)), forward(17, None, (5353, 5354))];
    let pool = (Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(203, 0, 113, 12));
    Scope { addresses: vec![(host, host), pool], ports: vec![(5000, 5009), PORTS], forwards }
}

fn load() -> Option<(Programs, Maps)> {
    with_few_rights(load_here)
}

fn load_here() -> io::Result<(Programs, Maps)> {
    let maps = make_maps()?;
    // The loopback interface.
    let face = Face { index: 1, ethernet: true, mac: [2; 6] };
    let inward = program::inward(&scope(), &maps, &face, 1);
    let outward = program::outward(&scope(), &maps, &face);
    let inward = bpf::program(&inward, c"pontoon_in").expect("the kernel takes it");
    let outward = bpf::program(&outward, c"pontoon_out").expect("the kernel takes it");
    let inland =
        bpf::program(&local::inland(&scope(), &maps, 1), c"pontoon_lo").expect("the kernel takes it");
    Ok((Programs { inward, outward, inland }, maps))
}

/// An IPv4 packet in a frame for the loopback interface.
struct Packet {
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    fragment: u16,
    id: u16,
    options: usize,
    payload: Vec<u8>,
}

impl Packet {
    fn new(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: Vec<u8>) -> Self {
        Self { source, destination, protocol, fragment: 0, id: 7, options: 0, payload }
    }

    fn ip(&self) -> Vec<u8> {
        let header = 20 + 4 * self.options;
        let length = u16::try_from(header + self.payload.len()).expect("length");
        let mut ip = vec![0x40 | u8::try_from(header / 4).expect("header"), 0];
        ip.extend(length.to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, self.protocol, 0, 0]);
        ip.extend(self.source);
        ip.extend(self.destination);
        ip.resize(header, 1);
        ip.extend(&self.payload);
        ip
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend(self.ip());
        frame
    }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(source.to_be_bytes());
    payload.extend(destination.to_be_bytes());
    payload.resize(20, 0);
    payload
}

fn icmp(kind: u8, id: u16, quoted: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend(id.to_be_bytes());
    payload.extend([0, 1]);
    payload.extend(quoted);
    payload
}

fn arrives(programs: &Programs, packet: &Packet) -> i32 {
    bpf::run(&programs.inward, &packet.frame()).expect("run")
}

fn leaves(programs: &Programs, packet: &Packet) -> i32 {
    bpf::run(&programs.outward, &packet.frame()).expect("run")
}

#[test]
fn ports_of_nat_are_redirected_and_those_of_the_host_are_not() {
    let Some((programs, _maps)) = load() else { return };
    for protocol in [6, 17] {
        for (port, verdict) in [
            (22, PASS),
            (4999, PASS),
            (5000, REDIRECT),
            (5009, REDIRECT),
            (5010, PASS),
            (60999, PASS),
            (61000, REDIRECT),
            (65535, REDIRECT),
        ] {
            for options in [0, 1, 10] {
                let mut packet = Packet::new(REMOTE, HOST, protocol, ports(80, port));
                packet.options = options;
                assert_eq!(arrives(&programs, &packet), verdict, "{protocol} {port} {options}");
                let mut packet = Packet::new(HOST, REMOTE, protocol, ports(port, 80));
                packet.options = options;
                let verdict = if verdict == PASS { DROP } else { REDIRECT };
                assert_eq!(leaves(&programs, &packet), verdict, "{protocol} {port} {options}");
            }
        }
    }
    let other = Packet::new(REMOTE, [203, 0, 113, 4], 6, ports(80, 61000));
    assert_eq!(arrives(&programs, &other), PASS, "another address");
    let pool = Packet::new(REMOTE, [203, 0, 113, 12], 6, ports(80, 61000));
    assert_eq!(arrives(&programs, &pool), REDIRECT, "of the pool");
    let spoofed = Packet::new([203, 0, 113, 4], REMOTE, 6, ports(61000, 80));
    assert_eq!(leaves(&programs, &spoofed), DROP, "another address");
    let gre = Packet::new(REMOTE, HOST, 47, ports(61000, 61000));
    assert_eq!((arrives(&programs, &gre), leaves(&programs, &gre)), (PASS, DROP));
    let short = Packet::new(REMOTE, HOST, 17, vec![0; 4]);
    assert_eq!(arrives(&programs, &short), PASS);
}

#[test]
fn forwards_take_their_protocol_and_address_only() {
    let Some((programs, _maps)) = load() else { return };
    for (address, protocol, port, verdict) in [
        (FORWARD, 6, 443, REDIRECT),
        (FORWARD, 17, 443, PASS),
        (HOST, 6, 443, PASS),
        (HOST, 17, 5354, REDIRECT),
        (HOST, 6, 5354, PASS),
        ([203, 0, 113, 11], 17, 5353, REDIRECT),
        (FORWARD, 17, 5353, PASS),
        (FORWARD, 6, 61000, PASS),
    ] {
        let packet = Packet::new(REMOTE, address, protocol, ports(80, port));
        assert_eq!(arrives(&programs, &packet), verdict, "{address:?} {protocol} {port}");
        let packet = Packet::new(address, REMOTE, protocol, ports(port, 80));
        let back = if verdict == PASS { DROP } else { REDIRECT };
        assert_eq!(leaves(&programs, &packet), back, "{address:?} {protocol} {port}");
        let packet = Packet::new(HOST, address, protocol, ports(80, port));
        let asked = bpf::run(&programs.inland, &packet.frame()).expect("run");
        // The host does not ask NAT's ports.
        assert_eq!(asked, verdict, "{address:?} {protocol} {port}");
    }
}

#[test]
fn the_host_hears_nothing_it_did_not_ask_for() {
    let Some((programs, _maps)) = load() else { return };
    let asks = |from, to, client, port| {
        bpf::run(&programs.inland, &Packet::new(from, to, 17, ports(client, port)).frame()).expect("run")
    };
    let answer = |client, port| leaves(&programs, &Packet::new(HOST, HOST, 17, ports(port, client)));
    assert_eq!(answer(4000, 5353), DROP);
    assert_eq!(asks([127, 0, 0, 1], [127, 0, 0, 1], 4000, 5353), REDIRECT);
    assert_eq!(asks([127, 0, 0, 1], [127, 0, 0, 2], 4001, 5353), PASS);
    assert_eq!(asks([127, 0, 0, 1], [127, 0, 0, 1], 4001, 61000), PASS);
    assert_eq!((answer(4000, 5353), answer(4000, 5354), answer(4001, 5353)), (REDIRECT, DROP, DROP));
    let part = |fragment| {
        let mut packet = Packet::new(HOST, HOST, 17, ports(5353, 4000));
        packet.fragment = fragment;
        leaves(&programs, &packet)
    };
    assert_eq!(
        (part(0x2005), part(0x2000), part(0x2005), part(0x000a)),
        (DROP, REDIRECT, REDIRECT, REDIRECT)
    );
}

#[test]
fn frames_that_are_no_ipv4_for_this_host_pass() {
    let Some((programs, _maps)) = load() else { return };
    let good = Packet::new(REMOTE, HOST, 6, ports(80, 61000)).frame();
    let arrives = |frame: &[u8]| bpf::run(&programs.inward, frame).expect("run");
    assert_eq!(arrives(&good), REDIRECT);
    for (at, value) in [(0, 1), (0, 0xff), (0, 2), (12, 0x86), (14, 0x65), (14, 0x44), (14, 0x4f)] {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(arrives(&frame), PASS, "{value:#x} at {at}");
        if at > 0 {
            assert_eq!(bpf::run(&programs.outward, &frame).expect("run"), DROP, "{value:#x} at {at}");
        }
    }
}

#[test]
fn echo_replies_go_to_whom_has_asked() {
    let Some((programs, _maps)) = load() else { return };
    let reply = |from, id| Packet::new(from, HOST, 1, icmp(0, id, &[]));
    assert_eq!(arrives(&programs, &reply(REMOTE, 61234)), PASS, "the host's own ping");
    let ask = |id| Packet::new(HOST, REMOTE, 1, icmp(8, id, &[]));
    assert_eq!(leaves(&programs, &ask(61234)), REDIRECT);
    assert_eq!(leaves(&programs, &ask(99)), DROP);
    let copied = |packet: &Packet| {
        let before = copies();
        (arrives(&programs, packet), copies() - before)
    };
    assert_eq!(copied(&reply(REMOTE, 61234)), (PASS, 1), "it goes to both");
    assert_eq!(copied(&reply(REMOTE, 61235)), (PASS, 0));
    assert_eq!(copied(&reply([198, 51, 100, 8], 61234)), (PASS, 0));
    let request = Packet::new(REMOTE, HOST, 1, icmp(8, 61234, &[]));
    assert_eq!(arrives(&programs, &request), PASS, "the host answers");
    assert_eq!(leaves(&programs, &Packet::new(HOST, REMOTE, 1, icmp(0, 61234, &[]))), DROP);
}

#[test]
fn errors_go_to_whom_they_are_about() {
    let Some((programs, _maps)) = load() else { return };
    let router = [198, 51, 100, 1];
    let about = |quoted: &Packet, kind| Packet::new(router, HOST, 1, icmp(kind, 0, &quoted.ip()));
    for (protocol, port, verdict) in
        [(6, 61000, REDIRECT), (17, 61000, REDIRECT), (6, 22, PASS), (17, 40000, PASS), (47, 61000, PASS)]
    {
        for options in [0, 3] {
            let mut quoted = Packet::new(HOST, REMOTE, protocol, ports(port, 61001));
            quoted.options = options;
            for kind in [3, 11, 12] {
                assert_eq!(arrives(&programs, &about(&quoted, kind)), verdict, "{protocol} {port} {kind}");
            }
            assert_eq!(arrives(&programs, &about(&quoted, 5)), PASS, "a redirect is the host's");
        }
    }
    let others = Packet::new([203, 0, 113, 4], REMOTE, 6, ports(61000, 80));
    assert_eq!(arrives(&programs, &about(&others, 3)), PASS);
    let ask = Packet::new(HOST, REMOTE, 1, icmp(8, 61234, &[]));
    assert_eq!(arrives(&programs, &about(&ask, 11)), PASS, "the host's own traceroute");
    assert_eq!(leaves(&programs, &ask), REDIRECT);
    let before = copies();
    assert_eq!((arrives(&programs, &about(&ask, 11)), copies() - before), (PASS, 1), "it goes to both");
    let sent = Packet::new(HOST, router, 1, icmp(3, 0, &Packet::new(router, HOST, 6, ports(80, 61000)).ip()));
    assert_eq!(leaves(&programs, &sent), REDIRECT, "a guest's error");
}

#[test]
fn later_fragments_follow_the_first() {
    let Some((programs, _maps)) = load() else { return };
    let part = |port, id, fragment| {
        let mut packet = Packet::new(REMOTE, HOST, 17, ports(53, port));
        (packet.fragment, packet.id) = (fragment, id);
        packet
    };
    let (first, later) = (0x2000, 0x2005);
    assert_eq!(arrives(&programs, &part(0, 1, later)), PASS, "nobody knows whose");
    assert_eq!(arrives(&programs, &part(61000, 1, first)), REDIRECT);
    assert_eq!(arrives(&programs, &part(0, 1, later)), REDIRECT);
    assert_eq!(arrives(&programs, &part(0, 1, 0x000a)), REDIRECT);
    assert_eq!(arrives(&programs, &part(0, 2, later)), PASS, "another datagram");
    // The host's own datagram with an identification that NAT's had before.
    assert_eq!(arrives(&programs, &part(40000, 1, first)), PASS);
    assert_eq!(arrives(&programs, &part(0, 1, later)), PASS);
    for count in 0..5000u16 {
        assert_eq!(arrives(&programs, &part(61000, count, first)), REDIRECT, "the map never fills");
    }
}

#[test]
fn an_interface_without_link_layer_is_understood() {
    let Some((_, maps)) = load() else { return };
    let face = Face { index: 1, ethernet: false, mac: [2; 6] };
    let inward = program::inward(&scope(), &maps, &face, 1);
    bpf::program(&inward, c"pontoon_in").expect("the kernel takes it");
}
