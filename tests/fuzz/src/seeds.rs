//! Valid inputs to start from.

use std::net::Ipv4Addr;

use etherparse::{IpHeaders, Ipv4Header};
use etherparse::{Ipv4Extensions, PacketBuilder, PacketBuilderStep, ip_number};
use pontoon_engine::PortId;
use pontoon_sim::{GATEWAY, GATEWAY_MAC, GUEST_1, GUEST_2, ISOLATED, UPLINK, UPLINK_MAC};
use pontoon_wire::bpdu::{Body, Bpdu, FRAME, flag};
use pontoon_wire::dhcp::{Builder, MessageType, code};
use pontoon_wire::{Mac, arp, vnet};

use crate::sequence::{AIM, BEHIND, MEND, MORE, OPEN, OUTSIDE, POOL, RESOLVER, ROUTE, VNET, step};
use crate::uplink;

type Seed = (&'static str, Vec<u8>);

const GUEST: (Mac, Ipv4Addr) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(192, 168, 100, 10));
const ROUTER: Mac = [2, 0, 0, 0, 0, 9];
const OFFLOAD: [u8; 10] = [vnet::NEEDS_CSUM, vnet::GSO_TCPV4, 54, 0, 100, 0, 34, 0, 16, 0];

#[must_use]
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "frames" => frames(),
        "dhcp" => dhcp(),
        "dns" => dns(),
        "bpdu" => bpdus(),
        "uplink" => uplinks(),
        "coalesce" => coalesced(),
        "netxml" => crate::netxml::seeds(),
        "vhost" => crate::vhost::seeds(),
        "user" => crate::user::seeds(),
        _ => sequences(),
    }
}

/// Streams of one flow each, all flows in turn, and every oddity once.
fn coalesced() -> Vec<Seed> {
    let names =
        ["tcp", "tcp-tagged", "tcp6", "tcp-other-port", "udp", "udp-tagged", "udp6", "udp-other-port"];
    let mut seeds: Vec<Seed> =
        (0..).zip(names).map(|(flow, name)| (name, [flow, 0, 5, 0].repeat(12))).collect();
    seeds.push(("interleaved", (0..40).flat_map(|step| [step % 8, 0, 3, step % 3]).collect()));
    seeds.push(("supers", (0..12).flat_map(|step| [step % 4, 0, 0x35, 1]).collect()));
    seeds.push(("oddities", (0..32).flat_map(|odd| [0, 0, 4, 0, 0, odd, 4, 0]).collect()));
    seeds.push(("shapeless", [4, 0, 5, 0, 8, 0, 0, 0, 4, 0, 5, 0, 9, 0, 0, 0, 4, 0, 5, 0].to_vec()));
    seeds
}

fn out(to: Ipv4Addr) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(GUEST.0, GATEWAY_MAC).ip(headers(GUEST.1, to))
}

fn back() -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(ROUTER, UPLINK_MAC).ip(headers(OUTSIDE.1, OUTSIDE.0))
}

fn headers(from: Ipv4Addr, to: Ipv4Addr) -> IpHeaders {
    let header = Ipv4Header {
        time_to_live: 64,
        protocol: ip_number::UDP,
        source: from.octets(),
        destination: to.octets(),
        ..Ipv4Header::default()
    };
    IpHeaders::Ipv4(header, Ipv4Extensions::default())
}

fn udp(step: PacketBuilderStep<IpHeaders>, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let written = step.udp(ports.0, ports.1).write(&mut frame, payload);
    assert!(written.is_ok());
    frame
}

/// A segment with `flags` (of the first octet's low bits): SYN 2, RST 4, ACK 16.
fn tcp(step: PacketBuilderStep<IpHeaders>, ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let written = step.tcp(ports.0, ports.1, 1000, 8192).write(&mut frame, payload);
    assert!(written.is_ok());
    frame[47] = flags;
    frame
}

fn ping(step: PacketBuilderStep<IpHeaders>, reply: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    let echo = if reply { step.icmpv4_echo_reply(7, 1) } else { step.icmpv4_echo_request(7, 1) };
    assert!(echo.write(&mut frame, &[0; 24]).is_ok());
    frame
}

/// An ICMP error from outside about `packet`.
fn unreachable(packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let written = back().icmpv4_raw(3, 4, [0, 0, 5, 0]).write(&mut frame, &packet[14..]);
    assert!(written.is_ok());
    frame
}

fn fragment(mut frame: Vec<u8>, field: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: Ipv4Addr, to: Mac) -> Vec<u8> {
    let mut frame = vec![0; 42];
    let packet = arp::Packet {
        operation,
        sender_mac: sender.0,
        sender_ip: sender.1,
        target_mac: [0; 6],
        target_ip: target,
    };
    packet.emit(&mut frame, to);
    frame
}

fn frames() -> Vec<Seed> {
    let plain = |frame: Vec<u8>| [&[0; 10], &frame[..]].concat();
    let offload = |frame: Vec<u8>| [&OFFLOAD, &frame[..]].concat();
    vec![
        ("arp", plain(arp(arp::REQUEST, GUEST, GATEWAY, [0xff; 6]))),
        ("udp", plain(udp(out(OUTSIDE.1), (1000, 2000), b"hello"))),
        ("tcp", plain(tcp(out(OUTSIDE.1), (1000, 80), 2, &[]))),
        ("super", offload(tcp(out(OUTSIDE.1), (1000, 80), 16, &[1; 900]))),
        ("ping", plain(ping(out(GATEWAY), false))),
        ("error", plain(unreachable(&udp(out(OUTSIDE.1), (1000, 2000), b"hello")))),
        ("fragment", plain(fragment(udp(out(OUTSIDE.1), (1, 2), &[2; 800]), 0x2000))),
        ("fragment-last", plain(fragment(udp(out(OUTSIDE.1), (1, 2), &[2; 800]), 0x0064))),
        ("long", plain(udp(out(OUTSIDE.1), (1000, 2000), &[3; 1700]))),
    ]
}

fn bpdus() -> Vec<Seed> {
    let body = Body {
        flags: flag::ROLE_DESIGNATED | flag::PROPOSAL,
        root: 0x7000_0200_0000_0002,
        bridge: 0x8000_0200_0000_0002,
        port: 0x8001,
        max_age: 20 << 8,
        hello: 2 << 8,
        forward_delay: 15 << 8,
        ..Body::default()
    };
    let own = Body { bridge: 0x8000_0200_0000_0001, root: 0x8000_0200_0000_0001, ..body };
    let heard = |port: u8, bpdu: Bpdu| {
        let mut frame = [0; FRAME];
        assert!(bpdu.emit(&mut frame, ROUTER).is_some());
        [&[port, 31][..], &(FRAME as u16).to_be_bytes(), &frame].concat()
    };
    vec![
        ("config", heard(0, Bpdu::Config(body))),
        ("rapid", heard(1, Bpdu::Rst(body))),
        ("change", [heard(2, Bpdu::Tcn), heard(0, Bpdu::Rst(Body { flags: 1, ..body }))].concat()),
        ("looped", heard(3, Bpdu::Rst(own))),
        ("two", [heard(0, Bpdu::Rst(body)), heard(1, Bpdu::Rst(Body { cost: 5, ..body }))].concat()),
    ]
}

/// A message of a DHCP server to an uplink's client.
fn offered(kind: MessageType) -> Vec<u8> {
    offered_from(OUTSIDE.1, kind)
}

fn offered_from(server: Ipv4Addr, kind: MessageType) -> Vec<u8> {
    let mut bytes = [0; 548];
    let Ok(mut builder) = Builder::new(&mut bytes, 548, 2, 0x1234, uplink::MAC, kind) else {
        return Vec::new();
    };
    for (code, data) in [(54, &[203, 0, 113, 1][..]), (51, &[0, 0, 0, 60]), (1, &[255, 255, 255, 0])] {
        assert!(builder.option(code, data).is_ok());
    }
    assert!(builder.option(3, &[203, 0, 113, 1]).is_ok());
    let length = builder.finish();
    bytes[16..20].copy_from_slice(&OUTSIDE.0.octets());
    let server = PacketBuilder::ethernet2(ROUTER, uplink::MAC).ip(headers(server, Ipv4Addr::BROADCAST));
    udp(server, (67, 68), &bytes[..length])
}

fn uplinks() -> Vec<Seed> {
    let heard =
        |kind: u8, frame: &[u8]| [&[kind, 33][..], &(frame.len() as u16).to_be_bytes(), frame].concat();
    let offer = heard(uplink::ANSWER, &offered(MessageType::Offer));
    let ack = heard(uplink::ANSWER, &offered(MessageType::Ack));
    let nak = heard(uplink::ANSWER, &offered(MessageType::Nak));
    let from_nobody = |kind| heard(uplink::ANSWER, &offered_from(Ipv4Addr::UNSPECIFIED, kind));
    let later = [uplink::ANSWER, 35, 0, 0].to_vec();
    let nobody =
        [heard(0, &[]), from_nobody(MessageType::Offer), from_nobody(MessageType::Ack), later.clone(), later]
            .concat();
    let leave = heard(uplink::SEND | 80 << 2, &udp(out(OUTSIDE.1), (1, 2), b"hello"));
    let met = heard(0, &arp(arp::REPLY, (ROUTER, Ipv4Addr::new(203, 0, 113, 16)), OUTSIDE.0, UPLINK_MAC));
    vec![
        ("lease", [heard(0, &[]), offer.clone(), ack.clone()].concat()),
        ("refused", [heard(0, &[]), offer.clone(), nak].concat()),
        ("renewed", [heard(0, &[]), offer, ack.clone(), heard(0, &[]), ack].concat()),
        ("nobody", nobody),
        ("neighbour", [leave.clone(), met, leave].concat()),
    ]
}

fn message(kind: MessageType, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = [0; 548];
    let Ok(mut builder) = Builder::new(&mut bytes, 548, 1, 0x1234, GUEST.0, kind) else { return Vec::new() };
    for (code, data) in options {
        assert!(builder.option(*code, data).is_ok());
    }
    let length = builder.finish();
    bytes[..length].to_vec()
}

fn discover() -> Vec<u8> {
    let options: [(u8, &[u8]); 2] =
        [(code::PARAMETER_LIST, &[1, 3, 6, 15, 26, 28]), (code::HOST_NAME, b"guest")];
    message(MessageType::Discover, &options)
}

fn request() -> Vec<u8> {
    let wanted: &[u8] = &[192, 168, 100, 12];
    message(MessageType::Request, &[(code::REQUESTED_IP, wanted), (code::CLIENT_ID, &[1, 2, 3])])
}

fn selecting() -> Vec<u8> {
    let options: [(u8, &[u8]); 2] =
        [(code::REQUESTED_IP, &[192, 168, 100, 12]), (code::SERVER_ID, &[192, 168, 100, 1])];
    message(MessageType::Request, &options)
}

fn dhcp() -> Vec<Seed> {
    let one = |flags: u8, bytes: &[u8]| step(1, flags, 1, &[], bytes);
    let release = message(MessageType::Release, &[(code::SERVER_ID, &[192, 168, 100, 1])]);
    let decline = message(
        MessageType::Decline,
        &[(code::REQUESTED_IP, &[192, 168, 100, 12]), (code::SERVER_ID, &GATEWAY.octets())],
    );
    vec![
        ("discover", one(0, &discover())),
        ("request", one(0, &request())),
        ("four-way", [one(0, &discover()), one(0, &selecting())].concat()),
        ("disk", [one(0, &discover()), one(1, &selecting()), one(2, &selecting())].concat()),
        ("release", [one(0, &discover()), one(0, &selecting()), one(0, &release)].concat()),
        ("decline", [one(0, &discover()), one(0, &selecting()), one(0, &decline)].concat()),
        (
            "busy",
            [one(0, &discover()), one(0, &selecting()), one(8, &selecting()), one(8, &release)].concat(),
        ),
        (
            "wanted",
            one(0, &message(MessageType::Discover, &[(code::PARAMETER_LIST, &[1, 42, 66, 67, 119, 224])])),
        ),
        ("named", one(0, &message(MessageType::Discover, &[(code::HOST_NAME, b"four")]))),
        ("inform", one(0, &message(MessageType::Inform, &[]))),
        (
            "overload",
            one(0, &message(MessageType::Discover, &[(code::OVERLOAD, &[3]), (code::MAX_SIZE, &[2, 64])])),
        ),
    ]
}

/// A question for `name`, whose labels are in wire form.
fn question(name: &[u8], kind: u16, edns: bool) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&[(kind >> 8) as u8, kind as u8, 0, 1]);
    if edns {
        bytes.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    }
    bytes
}

const LOCAL: &[u8] = b"\x05guest\x07example\x04test\0";
const FOREIGN: &[u8] = b"\x03www\x07example\x03org\0";
const REVERSE: &[u8] = b"\x0210\x03100\x03168\x03192\x07in-addr\x04arpa\0";
const TEXT: &[u8] = b"\x04text\x07example\x04test\0";

fn dns() -> Vec<Seed> {
    let ask = |bytes: &[u8]| step(0, 53, 10, &[], bytes);
    let answer = [&[0, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4][..]].concat();
    let answered = [&[3][..], &answer[1..]].concat();
    let segment =
        |flags: u8, payload: &[u8]| step(5, 0, 10, &[], &tcp(out(GATEWAY), (1000, 53), flags, payload));
    vec![
        ("local", ask(&question(LOCAL, 1, false))),
        ("reverse", ask(&question(REVERSE, 12, false))),
        ("text", ask(&question(TEXT, 16, true))),
        ("any", ask(&question(FOREIGN, 255, false))),
        ("forward", ask(&question(FOREIGN, 28, true))),
        ("answered", [ask(&question(FOREIGN, 1, false)), step(2, 0, 20, &[], &answer)].concat()),
        ("refused", [ask(&question(FOREIGN, 1, true)), step(2, 0, 20, &[], &answered)].concat()),
        (
            "failed",
            [ask(&question(FOREIGN, 1, false)), step(3, 0, 20, &[], &[]), step(3, 2, 35, &[], &[])].concat(),
        ),
        ("service", ask(&question(b"\x02_s\x04_tcp\x07example\x04test\0", 33, true))),
        ("alias", ask(&question(b"\x01a\x04star\0", 1, false))),
        ("six", ask(&question(b"\x03six\x07example\x04test\0", 28, false))),
        ("everybody", ask(&question(b"\x01x\x03all\x04test\0", 1, false))),
        ("corp", ask(&question(b"\x01x\x04corp\0", 1, false))),
        (
            "cached",
            [
                ask(&question(FOREIGN, 1, false)),
                step(2, 0, 20, &[], &answer),
                ask(&question(FOREIGN, 1, false)),
            ]
            .concat(),
        ),
        (
            "together",
            [
                ask(&question(FOREIGN, 1, false)),
                step(0, 54, 10, &[], &question(FOREIGN, 1, false)),
                step(2, 0, 20, &[], &answer),
            ]
            .concat(),
        ),
        ("moved", [ask(&question(FOREIGN, 1, false)), step(4, 7, 20, &[], &[])].concat()),
        ("tcp", [segment(2, &[]), segment(16, &[0, 12, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])].concat()),
    ]
}

/// What the uplink's router says, so that frames leave.
fn met() -> Vec<u8> {
    step(UPLINK, 0, 0, &[], &arp(arp::REPLY, (ROUTER, OUTSIDE.1), OUTSIDE.0, UPLINK_MAC))
}

fn go(port: PortId, flags: u8, frame: &[u8]) -> Vec<u8> {
    step(port, flags, 10, &[], frame)
}

fn sequence(steps: &[Vec<u8>]) -> Vec<u8> {
    [&[0][..], &steps.concat()].concat()
}

fn sequences() -> Vec<Seed> {
    let routed = routed_in();
    let first = go(GUEST_1, 0, &udp(out(OUTSIDE.1), (2000, 80), b"hello"));
    let answer = go(UPLINK, 0, &udp(back(), (80, 2000), b"hello"));
    let error = go(UPLINK, MEND, &unreachable(&udp(from_external(), (2000, 80), b"hello")));
    let syn = go(GUEST_1, MEND, &tcp(out(OUTSIDE.1), (2000, 80), 2, &[]));
    let accept = go(UPLINK, MEND, &tcp(back(), (80, 2000), 18, &[]));
    let reset = go(UPLINK, MEND, &tcp(back(), (80, 2000), 4, &[]));
    let offload = step(GUEST_1, VNET, 10, &OFFLOAD, &tcp(out(OUTSIDE.1), (2000, 80), 16, &[1; 900]));
    let pieces = [0x2000, 0x0002]
        .map(|field| go(GUEST_1, MEND, &fragment(udp(out(OUTSIDE.1), (1, 2), &[2; 8]), field)));
    let to_self = go(GUEST_1, MEND, &udp(out(OUTSIDE.0), (3000, 2000), b"hairpin"));
    let lease = |frame: Vec<u8>| go(GUEST_1, MEND, &udp(out(GATEWAY), (68, 67), &frame));
    let isolated = go(ISOLATED, AIM | MEND, &udp(out(OUTSIDE.1), (2000, 80), b"hello"));
    vec![
        ("udp", sequence(&[first.clone(), met(), first.clone(), answer.clone()])),
        ("error", sequence(&[first.clone(), met(), error])),
        ("tcp", sequence(&[syn.clone(), met(), accept.clone(), reset])),
        ("offload", sequence(&[syn, met(), accept, offload])),
        ("fragments", sequence(&[first.clone(), met(), pieces.concat()])),
        ("hairpin", sequence(&[first.clone(), met(), to_self])),
        (
            "ping",
            sequence(&[
                go(GUEST_1, 0, &ping(out(OUTSIDE.1), false)),
                met(),
                go(UPLINK, 0, &ping(back(), true)),
            ]),
        ),
        (
            "gateway",
            sequence(&[
                go(GUEST_1, 0, &ping(out(GATEWAY), false)),
                go(GUEST_2, 0, &arp(arp::REQUEST, GUEST, GATEWAY, [0xff; 6])),
            ]),
        ),
        ("dhcp", sequence(&[lease(discover()), lease(selecting())])),
        (
            "dns",
            sequence(&[
                go(GUEST_1, MEND, &udp(out(GATEWAY), (2000, 53), &question(FOREIGN, 1, false))),
                go(0, RESOLVER, &question(FOREIGN, 1, false)),
            ]),
        ),
        ("dns-tcp", sequence(&[go(GUEST_1, MEND, &tcp(out(GATEWAY), (2000, 53), 2, &[]))])),
        ("isolated", sequence(&[isolated, met(), answer])),
        ("workers", [&[1][..], &first, &met(), &first].concat()),
        ("pool", [&[POOL | 1][..], &first, &met(), &first].concat()),
        ("routed", [&[ROUTE][..], &first, &met(), &routed].concat()),
        ("open", [&[OPEN | 1][..], &first, &met(), &routed].concat()),
    ]
}

/// From outside to a guest, and to what is behind it, before and after it answers by ARP; and across its subnets.
fn routed_in() -> Vec<u8> {
    let behind = Ipv4Addr::from_bits(BEHIND.0.address.to_bits() + 7);
    let to = |ip: Ipv4Addr| {
        let step = PacketBuilder::ethernet2(ROUTER, UPLINK_MAC).ip(headers(OUTSIDE.1, ip));
        go(UPLINK, MEND, &udp(step, (80, 2000), b"hello"))
    };
    let across = Ipv4Addr::from_bits(MORE.address.to_bits() + 9);
    let reply = |ip, gateway| go(GUEST_1, 0, &arp(arp::REPLY, (GUEST.0, ip), gateway, GATEWAY_MAC));
    [
        to(GUEST.1),
        reply(GUEST.1, GATEWAY),
        to(GUEST.1),
        to(behind),
        go(GUEST_1, MEND, &udp(out(across), (1, 2), b"across")),
        reply(across, MORE.address),
    ]
    .concat()
}

fn from_external() -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(GUEST.0, GATEWAY_MAC).ip(headers(OUTSIDE.0, OUTSIDE.1))
}
