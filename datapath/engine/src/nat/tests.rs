#![allow(clippy::unwrap_used)]
//! In virtual time, against whole frames.

mod adoption;
mod errors;
mod journal;
mod list;
mod model;
mod requirements;
mod sessions;
mod tcp_states;

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::checksum::{self, Sum};
use pontoon_wire::frame::Packet;
use pontoon_wire::{ethernet, icmp, ipv4, put, vnet};

use super::*;

pub(super) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(super) const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 11);
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 12);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
pub(super) const OUTSIDE: Outside =
    Outside { uplink: 3, address: EXTERNAL, ports: (1024, 65535), mtu: 1500, epoch: 1 };
pub(super) const INSIDE: Inside = Inside { network: 1, mac: [2, 0, 0, 0, 0, 11] };

pub(super) type End = (Ipv4Addr, u16);

pub(super) fn slots(count: usize) -> &'static mut [Slot] {
    vec![Slot::default(); count].leak()
}

pub(super) struct Bench {
    pub(super) nat: Nat,
    pub(super) now: Time,
    pub(super) vnet: vnet::Header,
}

impl Bench {
    pub(super) fn new(count: usize) -> Self {
        let now = Time::from_secs(1000);
        Self { nat: Nat::new(0, 1, 42, slots(count), now), now, vnet: vnet::Header::default() }
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now.after_secs(seconds);
        self.nat.expire(self.now);
    }

    pub(super) fn out(&mut self, frame: &mut [u8]) -> Result<Packet, DropReason> {
        let packet = Packet::parse(frame).unwrap();
        self.nat.outbound(self.now, &OUTSIDE, &INSIDE, &self.vnet, frame, &packet)?;
        check(frame, &self.vnet);
        Ok(Packet::parse(frame).unwrap())
    }

    pub(super) fn receive(&mut self, frame: &mut [u8]) -> Result<Packet, DropReason> {
        let packet = Packet::parse(frame).unwrap();
        let own = packet.ip.source == EXTERNAL;
        let inside = self.nat.inbound(self.now, OUTSIDE.uplink, own, &self.vnet, frame, &packet)?;
        assert_eq!(inside, INSIDE);
        check(frame, &self.vnet);
        Ok(Packet::parse(frame).unwrap())
    }

    /// External port after sending UDP.
    pub(super) fn udp_out(&mut self, from: End, to: End) -> Result<u16, DropReason> {
        self.out(&mut udp(from, to, b"ping")).map(|packet| packet.source_port)
    }

    pub(super) fn udp_in(&mut self, from: End, port: u16) -> Result<End, DropReason> {
        let packet = self.receive(&mut udp(from, (EXTERNAL, port), b"pong"))?;
        Ok((packet.ip.destination, packet.destination_port))
    }
}

pub(super) fn ip(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER + ipv4::HEADER + payload.len()];
    ethernet::emit(&mut frame, [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], ethernet::IPV4);
    ipv4::emit(&mut frame[14..], from, to, protocol, payload.len(), 77, true);
    frame[34..].copy_from_slice(payload);
    frame
}

fn sealed(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, mut payload: Vec<u8>, field: usize) -> Vec<u8> {
    let sum = Sum::default().pseudo(from, to, protocol, payload.len() as u16).bytes(&payload).finish();
    let sum = if sum == 0 && protocol == ipv4::UDP { 0xffff } else { sum };
    put(&mut payload, field, &sum.to_be_bytes());
    ip(protocol, from, to, &payload)
}

pub(super) fn udp(from: End, to: End, data: &[u8]) -> Vec<u8> {
    let length = (8 + data.len()) as u16;
    let mut payload = Vec::new();
    [from.1, to.1, length, 0].iter().for_each(|word| payload.extend(word.to_be_bytes()));
    payload.extend(data);
    sealed(ipv4::UDP, from.0, to.0, payload, 6)
}

pub(super) fn tcp(from: End, to: End, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(from.1.to_be_bytes());
    payload.extend(to.1.to_be_bytes());
    payload.extend(seq.to_be_bytes());
    payload.extend(ack.to_be_bytes());
    payload.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    payload.extend(data);
    sealed(ipv4::TCP, from.0, to.0, payload, 16)
}

pub(super) fn message(kind: u8, id: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend(id.to_be_bytes());
    payload.extend([0, 1]);
    payload.extend(data);
    let sum = checksum::of(&payload);
    put(&mut payload, 2, &sum.to_be_bytes());
    payload
}

pub(super) fn echo(kind: u8, from: Ipv4Addr, to: Ipv4Addr, id: u16) -> Vec<u8> {
    ip(ipv4::ICMP, from, to, &message(kind, id, b"abcdefg"))
}

/// All checksums of a frame, computed from scratch.
pub(super) fn check(frame: &[u8], vnet: &vnet::Header) {
    let packet = Packet::parse(frame).unwrap();
    assert!(checksum::valid(&frame[14..packet.l4]), "IP header checksum");
    if packet.ip.is_fragment() || vnet.needs_checksum() {
        return;
    }
    let payload = &frame[packet.l4..packet.end];
    if packet.ip.protocol == ipv4::ICMP {
        assert!(checksum::valid(payload), "ICMP checksum");
        return;
    }
    let sums_addresses = matches!(packet.ip.protocol, ipv4::TCP | ipv4::UDP);
    if !sums_addresses || packet.ip.protocol == ipv4::UDP && payload[6..8] == [0, 0] {
        return;
    }
    let sum = Sum::default().pseudo(
        packet.ip.source,
        packet.ip.destination,
        packet.ip.protocol,
        payload.len() as u16,
    );
    assert_eq!(sum.bytes(payload).fold(), 0xffff, "transport checksum");
}

pub(super) fn icmp_error(from: Ipv4Addr, to: Ipv4Addr, kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, code, 0, 0, 0, 0, 5, 0];
    payload.extend(quoted);
    let sum = checksum::of(&payload);
    put(&mut payload, 2, &sum.to_be_bytes());
    assert!(icmp::is_error(kind));
    ip(ipv4::ICMP, from, to, &payload)
}
