//! The two programs of a shared uplink.
//!
//! Inward, at the host's interface: what belongs to NAT goes to the uplink's tap as it is, super-frames included, and
//! everything else goes on untouched. No range of query ids can be kept from the host, so replies to queries, and errors
//! about them, go to both: who did not ask drops them. Outward, at the tap: what NAT sends goes to the host's interface, by the next hop
//! and with the link-layer address the kernel finds; everything else is dropped, so that who writes to the tap can use
//! no address and no port but NAT's. What the host itself asks of port forwards is in [`super::local`].

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use pontoon_proto::document::Mac;

use super::local;
use crate::ebpf::asm::{Assembler, Helper, If, Instruction, Label, Operation, Register, Size};
use crate::ebpf::{DROP, PASS, on_stack, read};
use Register::{Frame, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};

pub(super) const ETHERNET: i32 = 14;
const IPV4: u16 = 0x0800;
pub(super) const ICMP: u32 = 1;
pub(super) const TCP: u32 = 6;
pub(super) const UDP: u32 = 17;
/// Types of queries that NAT carries, and of their replies: echo and timestamp.
const QUERIES: [u32; 2] = [8, 13];
const REPLIES: [u32; 2] = [0, 14];
/// Unreachable, time exceeded, parameter problem.
const ERRORS: [u32; 3] = [3, 11, 12];
pub(super) const MORE_FRAGMENTS: u32 = 0x2000;
pub(super) const FRAGMENT_OFFSET: i32 = 0x1fff;

/// Offsets in `struct __sk_buff`.
pub(super) const PACKET_TYPE: i16 = 4;
const PROTOCOL: i16 = 16;
const VLAN_PRESENT: i16 = 20;

/// Places on the stack: headers, keys and values of maps.
pub(super) const IP: i16 = -24;
pub(super) const PORTS: i16 = -32;
const QUOTED: i16 = -56;
pub(super) const KEY: i16 = -72;
pub(super) const VALUE: i16 = -80;
/// Source and destination of the host's own packet as it wrote them, and its destination as outside.
pub(super) const WRITTEN: i16 = -88;
pub(super) const OUTSIDE: i16 = -92;
/// Octets of keys, and of values.
pub(super) const LOCAL_KEY: u32 = 12;
pub(super) const ECHO_KEY: u32 = 8;
pub(super) const FRAGMENT_KEY: u32 = 12;
pub(super) const VALUES: u32 = 8;

/// What belongs to NAT on an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// First and last external addresses.
    pub(super) addresses: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// First and last ports there, and query ids.
    pub(super) ports: Vec<(u16, u16)>,
    /// Ports there, or of another address, that lead to guests.
    pub(super) forwards: Vec<Forwarded>,
}

/// Ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Forwarded {
    pub(super) protocol: u8,
    /// `None`: all of NAT's.
    pub(super) address: Option<Ipv4Addr>,
    pub(super) ports: (u16, u16),
}

/// What both programs remember.
#[derive(Debug)]
pub(super) struct Maps {
    /// Queries that were sent, by whom they asked and their id: the host's own may have ids of NAT's range.
    pub(super) echoes: OwnedFd,
    /// Datagrams of which the first fragment was for NAT.
    pub(super) fragments: OwnedFd,
    /// The addresses by which the host itself asked a forward.
    pub(super) locals: OwnedFd,
}

/// The host's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Face {
    pub(super) index: u32,
    /// Its frames begin with a link-layer header; else one is made, with this address.
    pub(super) ethernet: bool,
    pub(super) mac: Mac,
}

/// For the host's interface: what is NAT's goes to the interface `tap`.
pub(super) fn inward(scope: &Scope, maps: &Maps, face: &Face, tap: u32) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [ports, query, error, hit, other, later, redirect, copy, pass] = [(); 9].map(|()| code.label());
    code.copy(R6, R1);
    for (field, wanted) in [(PACKET_TYPE, 0), (VLAN_PRESENT, 0)] {
        code.load(Size::Four, R0, R6, field);
        code.jump_if(R0, If::Other, wanted, pass);
    }
    packet(&mut code, if face.ethernet { ETHERNET } else { 0 }, pass);
    ours(&mut code, scope, IP + 16, pass);
    code.copy(R0, R8);
    code.compute(Operation::And, R0, FRAGMENT_OFFSET);
    code.jump_if(R0, If::Other, 0, later);
    code.copy(R2, R7);
    read(&mut code, PORTS, 8, pass);
    kinds(&mut code, ports, &[(&REPLIES, query), (&ERRORS, error)], other);

    code.bind(ports);
    endpoint(&mut code, scope, (IP + 16, PORTS + 2), hit, other);

    code.bind(query);
    was_asked(&mut code, scope, maps, IP + 12, other);
    code.jump(hit);

    code.bind(error);
    code.jump_if(R8, If::Common, MORE_FRAGMENTS, other);
    quoted(&mut code, scope, maps, [redirect, copy, pass]);

    code.bind(hit);
    let first = code.label();
    code.jump_if(R8, If::Common, MORE_FRAGMENTS, first);
    code.jump_if(R9, If::Equal, ICMP, copy);
    code.jump(redirect);
    code.bind(first);
    fragment_key(&mut code);
    note(&mut code, &maps.fragments);
    code.jump_if(R9, If::Equal, ICMP, copy);
    code.jump(redirect);

    code.bind(other);
    let stale = code.label();
    code.jump_if(R8, If::Common, MORE_FRAGMENTS, stale);
    code.jump(pass);
    code.bind(stale);
    fragment_key(&mut code);
    on_map(&mut code, &maps.fragments, Helper::MapDelete);
    code.jump(pass);

    code.bind(later);
    fragment_key(&mut code);
    on_map(&mut code, &maps.fragments, Helper::MapLookup);
    code.jump_if_null(R0, pass);
    code.jump_if(R9, If::Equal, ICMP, copy);

    code.bind(redirect);
    if !face.ethernet {
        // A copy could not get a header of its own.
        code.bind(copy);
        link_header(&mut code, face.mac, pass);
    }
    code.set(R1, tap.cast_signed());
    code.set(R2, 0);
    code.call(Helper::Redirect);
    code.exit();

    if face.ethernet {
        code.bind(copy);
        code.copy(R1, R6);
        code.set(R2, tap.cast_signed());
        code.set(R3, 0);
        code.call(Helper::CloneRedirect);
    }
    code.bind(pass);
    code.set(R0, PASS);
    code.exit();
    code.finish()
}

/// For the tap: what NAT sends goes to the host's interface, if it is NAT's.
pub(super) fn outward(scope: &Scope, maps: &Maps, face: &Face) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [ports, query, local, send, drop] = [(); 5].map(|()| code.label());
    code.copy(R6, R1);
    packet(&mut code, ETHERNET, drop);
    ours(&mut code, scope, IP + 12, drop);
    code.load(Size::Four, R0, Frame, IP + 12);
    code.load(Size::Four, R1, Frame, IP + 16);
    code.jump_if_both(R0, If::Equal, R1, local);
    code.compute(Operation::And, R8, FRAGMENT_OFFSET);
    code.jump_if(R8, If::Other, 0, send);
    code.copy(R2, R7);
    read(&mut code, PORTS, 8, drop);
    kinds(&mut code, ports, &[(&QUERIES, query), (&ERRORS, send)], drop);

    code.bind(ports);
    endpoint(&mut code, scope, (IP + 12, PORTS), send, drop);

    code.bind(query);
    let known = code.label();
    in_ports(&mut code, scope, PORTS + 4, known, drop);
    code.bind(known);
    echo_key(&mut code, IP + 16);
    note(&mut code, &maps.echoes);

    code.bind(send);
    code.set(R1, face.index.cast_signed());
    for register in [R2, R3, R4] {
        code.set(register, 0);
    }
    code.call(Helper::RedirectNeighbour);
    code.exit();

    code.bind(local);
    local::answer(&mut code, maps, drop);

    code.bind(drop);
    code.set(R0, DROP);
    code.exit();
    code.finish()
}

/// Reads an IPv4 header that begins at `base`: then R7 is where what follows begins, R8 says of fragments and R9 is the
/// protocol.
pub(super) fn packet(code: &mut Assembler, base: i32, fail: Label) {
    code.load(Size::Four, R0, R6, PROTOCOL);
    code.jump_if(R0, If::Other, u32::from(IPV4.to_be()), fail);
    code.set(R2, base);
    read(code, IP, 20, fail);
    header_length(code, R7, IP, fail);
    code.compute(Operation::Add, R7, base);
    code.load(Size::Two, R8, Frame, IP + 6);
    code.swap(R8, 16);
    code.load(Size::One, R9, Frame, IP + 9);
}

/// The length of the IPv4 header at `place`.
fn header_length(code: &mut Assembler, to: Register, place: i16, fail: Label) {
    code.load(Size::One, to, Frame, place);
    code.copy(R0, to);
    code.compute(Operation::ShiftRight, R0, 4);
    code.jump_if(R0, If::Other, 4, fail);
    code.compute(Operation::And, to, 15);
    code.compute(Operation::ShiftLeft, to, 2);
    code.jump_if(to, If::Below, 20, fail);
}

/// The address at `place` is NAT's.
fn ours(code: &mut Assembler, scope: &Scope, place: i16, fail: Label) {
    let yes = code.label();
    code.load(Size::Four, R0, Frame, place);
    code.swap(R0, 32);
    let own = scope.forwards.iter().filter_map(|forward| forward.address).map(|address| (address, address));
    let bits = |(first, last): (Ipv4Addr, Ipv4Addr)| (first.to_bits(), last.to_bits());
    in_ranges(code, R0, scope.addresses.iter().copied().chain(own).map(bits), yes, fail);
    code.bind(yes);
}

/// The address and port at these places are NAT's, or a forward's of protocol R9.
fn endpoint(code: &mut Assembler, scope: &Scope, (address, port): (i16, i16), yes: Label, no: Label) {
    let nat = code.label();
    code.load(Size::Four, R1, Frame, address);
    code.swap(R1, 32);
    code.load(Size::Two, R0, Frame, port);
    code.swap(R0, 16);
    forwarded(code, scope, yes);
    nat_address(code, scope, nat, no);
    code.bind(nat);
    in_ranges(code, R0, scope.ports.iter().map(wide), yes, no);
}

/// The address in R1 and port in R0 are a forward's of protocol R9.
pub(super) fn forwarded(code: &mut Assembler, scope: &Scope, yes: Label) {
    let (of_one, of_all): (Vec<&Forwarded>, Vec<_>) =
        scope.forwards.iter().partition(|forward| forward.address.is_some());
    for forward in of_one {
        let next = code.label();
        code.jump_if(R1, If::Other, forward.address.map_or(0, Ipv4Addr::to_bits), next);
        of_protocol(code, forward, yes, next);
        code.bind(next);
    }
    let [all, none] = [(); 2].map(|()| code.label());
    if !of_all.is_empty() {
        nat_address(code, scope, all, none);
        code.bind(all);
        for forward in of_all {
            let next = code.label();
            of_protocol(code, forward, yes, next);
            code.bind(next);
        }
    }
    code.bind(none);
}

fn of_protocol(code: &mut Assembler, forward: &Forwarded, yes: Label, no: Label) {
    code.jump_if(R9, If::Other, forward.protocol.into(), no);
    in_ranges(code, R0, [wide(&forward.ports)].into_iter(), yes, no);
}

fn nat_address(code: &mut Assembler, scope: &Scope, yes: Label, no: Label) {
    let bits = |(first, last): &(Ipv4Addr, Ipv4Addr)| (first.to_bits(), last.to_bits());
    in_ranges(code, R1, scope.addresses.iter().map(bits), yes, no);
}

fn wide((first, last): &(u16, u16)) -> (u32, u32) {
    (u32::from(*first), u32::from(*last))
}

/// The query id at `place` is NAT's.
fn in_ports(code: &mut Assembler, scope: &Scope, place: i16, yes: Label, no: Label) {
    code.load(Size::Two, R0, Frame, place);
    code.swap(R0, 16);
    in_ranges(code, R0, scope.ports.iter().map(wide), yes, no);
}

fn in_ranges(
    code: &mut Assembler,
    register: Register,
    ranges: impl Iterator<Item = (u32, u32)>,
    yes: Label,
    no: Label,
) {
    for (first, last) in ranges {
        let next = code.label();
        code.jump_if(register, If::Below, first, next);
        code.jump_if(register, If::UpTo, last, yes);
        code.bind(next);
    }
    code.jump(no);
}

/// By protocol R9: TCP and UDP, or the type of ICMP.
fn kinds(code: &mut Assembler, ports: Label, types: &[(&[u32], Label)], other: Label) {
    code.jump_if(R9, If::Equal, TCP, ports);
    code.jump_if(R9, If::Equal, UDP, ports);
    code.jump_if(R9, If::Other, ICMP, other);
    code.load(Size::One, R0, Frame, PORTS);
    for (types, label) in types {
        types.iter().for_each(|kind| code.jump_if(R0, If::Equal, *kind, *label));
    }
    code.jump(other);
}

/// NAT asked the address at `remote` with the query id that was read.
fn was_asked(code: &mut Assembler, scope: &Scope, maps: &Maps, remote: i16, no: Label) {
    let in_range = code.label();
    in_ports(code, scope, PORTS + 4, in_range, no);
    code.bind(in_range);
    echo_key(code, remote);
    on_map(code, &maps.echoes, Helper::MapLookup);
    code.jump_if_null(R0, no);
}

/// An ICMP error quotes a packet of NAT, a query of NAT, or neither.
fn quoted(code: &mut Assembler, scope: &Scope, maps: &Maps, [yes, asked, no]: [Label; 3]) {
    let [ports, query] = [(); 2].map(|()| code.label());
    code.compute(Operation::Add, R7, 8);
    code.copy(R2, R7);
    read(code, QUOTED, 20, no);
    header_length(code, R9, QUOTED, no);
    code.add(R7, R9);
    ours(code, scope, QUOTED + 12, no);
    code.load(Size::Two, R0, Frame, QUOTED + 6);
    code.swap(R0, 16);
    code.compute(Operation::And, R0, FRAGMENT_OFFSET);
    code.jump_if(R0, If::Other, 0, no);
    code.load(Size::One, R9, Frame, QUOTED + 9);
    code.copy(R2, R7);
    read(code, PORTS, 8, no);
    kinds(code, ports, &[(&QUERIES, query)], no);
    code.bind(ports);
    endpoint(code, scope, (QUOTED + 12, PORTS), yes, no);
    code.bind(query);
    was_asked(code, scope, maps, QUOTED + 16, no);
    code.jump(asked);
}

fn echo_key(code: &mut Assembler, remote: i16) {
    code.load(Size::Four, R0, Frame, remote);
    code.store(Size::Four, Frame, KEY, R0);
    code.load(Size::Two, R0, Frame, PORTS + 4);
    code.store(Size::Two, Frame, KEY + 4, R0);
    code.store_value(Size::Two, Frame, KEY + 6, 0);
}

/// Source, destination, identification, protocol.
pub(super) fn fragment_key(code: &mut Assembler) {
    for (from, to) in [(IP + 12, KEY), (IP + 16, KEY + 4)] {
        code.load(Size::Four, R0, Frame, from);
        code.store(Size::Four, Frame, to, R0);
    }
    code.load(Size::Two, R0, Frame, IP + 4);
    code.store(Size::Two, Frame, KEY + 8, R0);
    code.store(Size::Two, Frame, KEY + 10, R9);
}

pub(super) fn on_map(code: &mut Assembler, map: &OwnedFd, helper: Helper) {
    code.map(R1, map.as_raw_fd());
    on_stack(code, R2, KEY);
    code.call(helper);
}

/// Notes the key.
fn note(code: &mut Assembler, map: &OwnedFd) {
    for place in [VALUE, VALUE + 4] {
        code.store_value(Size::Four, Frame, place, 1);
    }
    update(code, map, VALUE);
}

/// Notes the key with the value at a place of the stack.
pub(super) fn update(code: &mut Assembler, map: &OwnedFd, value: i16) {
    code.map(R1, map.as_raw_fd());
    on_stack(code, R2, KEY);
    on_stack(code, R3, value);
    code.set(R4, 0);
    code.call(Helper::MapUpdate);
}

/// Puts a link-layer header before a packet that has none.
fn link_header(code: &mut Assembler, mac: Mac, fail: Label) {
    code.copy(R1, R6);
    code.set(R2, ETHERNET);
    code.set(R3, 0);
    code.call(Helper::ChangeHead);
    code.jump_if(R0, If::Other, 0, fail);
    let [a, b, c, d, e, f] = mac;
    let [high, low] = IPV4.to_be_bytes();
    let words = [[a, b], [c, d], [e, f], [0; 2], [0; 2], [0; 2], [high, low]];
    for (word, place) in words.into_iter().zip((IP..).step_by(2)) {
        code.store_value(Size::Two, Frame, place, u16::from_ne_bytes(word).into());
    }
    code.copy(R1, R6);
    code.set(R2, 0);
    on_stack(code, R3, IP);
    code.set(R4, ETHERNET);
    code.set(R5, 0);
    code.call(Helper::StoreBytes);
}
