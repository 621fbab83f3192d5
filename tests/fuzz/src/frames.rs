//! One frame with its vnet header: parsers, and the gateway's functions over what they accept.
//!
//! Input: 10 octets of vnet header, then the frame.

use std::net::Ipv4Addr;

use pontoon_engine::{gateway, nat, snapshot::Subnet};
use pontoon_wire::brief::{Brief, raw};
use pontoon_wire::frame::{self, Packet};
use pontoon_wire::{arp, checksum, ethernet, icmp, ipv4, vnet};
use zerocopy::FromBytes;

use crate::input::Input;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

/// A vnet header of the first 10 octets of the input.
pub(crate) fn vnet_header(input: &mut Input<'_>) -> vnet::Header {
    let mut bytes = [0; vnet::LENGTH];
    let given = input.bytes(10);
    bytes[..given.len()].copy_from_slice(given);
    vnet::Header::read_from_bytes(&bytes).unwrap_or_default()
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let header = vnet_header(&mut input);
    let bytes = input.0;
    if let Some(request) = arp::Packet::parse(bytes) {
        reply_to_arp(&request);
    }
    if let Ok(checked) = frame::check(header, bytes) {
        assert_eq!(frame::check(checked, bytes), Ok(checked), "a checked header passes again");
        complete(checked, bytes);
    }
    let packet = Packet::parse(bytes);
    brief(bytes, packet.as_ref());
    let Some(packet) = packet else { return };
    assert!(packet.l4 <= packet.end && packet.end <= bytes.len());
    look(header, bytes, &packet);
    echo(bytes, &packet);
    report(bytes, &packet);
    for mtu in [0, 20, 68, 576, 1500] {
        cut(bytes, &packet, mtu);
    }
}

/// What the quick look finds, the long one finds too.
fn brief(bytes: &[u8], packet: Option<&Packet>) {
    let Some(brief) = Brief::parse(bytes) else { return };
    let Some(packet) = packet else {
        assert!(brief.tcp(bytes).is_none(), "a packet that is only sound at first sight");
        return;
    };
    assert!(gateway::header_checksum_valid(bytes, packet) && !packet.ip.is_fragment() && packet.ip.ttl > 1);
    assert_eq!((brief.source(), brief.destination()), (raw(packet.source()), raw(packet.destination())));
    let ports = [packet.source_port.to_be_bytes(), packet.destination_port.to_be_bytes()];
    assert_eq!(brief.ports.to_ne_bytes(), *ports.as_flattened());
    assert_eq!((brief.protocol, usize::from(brief.length)), (packet.ip.protocol, packet.ip.total_length));
}

fn reply_to_arp(request: &arp::Packet) {
    let mut out = [0; 64];
    if let Some(length) = gateway::arp_reply(request, request.target_ip, MACS.0, &mut out) {
        assert!(arp::Packet::parse(&out[..length]).is_some_and(|reply| reply.operation == arp::REPLY));
    }
}

fn complete(header: vnet::Header, bytes: &[u8]) {
    let (mut header, mut copy) = (header, bytes.to_vec());
    gateway::complete_checksum(&mut header, &mut copy, bytes.len());
    assert!(!header.needs_checksum());
}

fn look(header: vnet::Header, bytes: &[u8], packet: &Packet) {
    let _ = gateway::may_answer(packet, Some(Subnet { address: ADDRESS, prefix: 24 }));
    let _ = gateway::exceeds(bytes, packet, &header, 1500);
    let _ = gateway::header_checksum_valid(bytes, packet);
    let _ = (nat::outbound_port(bytes, packet), nat::external(bytes, packet));
    if let Some(payload) = gateway::udp_payload(bytes, packet) {
        assert!(packet.l4 + 8 + payload.len() <= bytes.len());
    }
}

fn echo(bytes: &[u8], packet: &Packet) {
    let mut reply = bytes.to_vec();
    let request = packet.ip.protocol == ipv4::ICMP && !packet.ip.is_fragment();
    if request && gateway::echo_reply(&mut reply, packet, false) {
        assert!(gateway::header_checksum_valid(&reply, packet));
        assert!(checksum::valid(&reply[packet.l4..packet.end]));
    }
}

fn report(bytes: &[u8], packet: &Packet) {
    let error = icmp::Error { kind: icmp::UNREACHABLE, code: icmp::PORT_UNREACHABLE, rest: 0 };
    let mut out = [0; 2048];
    let offending = &bytes[ethernet::HEADER..packet.end];
    let Some(length) = icmp::emit_error(&mut out, MACS, ADDRESS, packet.source(), error, offending) else {
        return;
    };
    let message = &out[..length];
    let parsed = Packet::parse(message);
    assert!(parsed.is_some_and(|parsed| checksum::valid(&message[parsed.l4..parsed.end])));
}

fn cut(bytes: &[u8], packet: &Packet, mtu: u16) {
    let (mut scratch, mut joined) = (vec![0; 16_384], Vec::new());
    let whole = gateway::fragment(bytes, packet, mtu, &mut scratch, &mut |part| {
        joined.extend_from_slice(piece(part));
        assert!(part.len() <= ethernet::HEADER + usize::from(mtu));
    });
    if whole {
        assert_eq!(joined, bytes[packet.l4..packet.end], "the pieces are the whole");
    }
}

/// The payload of a fragment.
fn piece(part: &[u8]) -> &[u8] {
    let ip = ipv4::Header::parse(&part[ethernet::HEADER..], false);
    assert!(ip.is_some(), "a fragment has a sound header");
    ip.map_or(&[], |ip| &part[ethernet::HEADER + ip.header_length..])
}
