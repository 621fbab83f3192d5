//! The three programs of a network that is in the segment of an interface.
//!
//! The network has a tap, behind which to the datapath are the host and the segment alike; these programs are what is behind
//! it. Arriving and leaving, at the interface: frames to guests go to the tap, those to groups and to addresses nobody has
//! been heard from also to it, and everything else goes on untouched. At the tap: what the datapath sends goes out by the
//! interface, or to the host as if it had arrived there, or both. Who is where is learned from what is sent: a guest can
//! push other guests out of the map, and nobody of the segment, so the host's frames to these are never copied to guests.

use std::os::fd::AsRawFd;

use pontoon_proto::document::Mac;

use crate::ebpf::asm::{Assembler, Helper, If, Instruction, Label, Operation, Register, Size};
use crate::ebpf::bpf::Addresses;
use crate::ebpf::{DROP, PASS, on_stack, read};
use Register::{Frame, R0, R1, R2, R3, R4, R6};

/// Offset in `struct __sk_buff`.
const TC_INDEX: i16 = 44;
/// `BPF_F_INGRESS`.
const TO_HOST: i32 = 1;
const OUT: i32 = 0;

/// Places on the stack: the addresses of a frame, a key and a value of the map.
const TO: i16 = -16;
const FROM: i16 = TO + 6;
const ADDRESSES: i32 = 12;
const KEY: i16 = -24;
const VALUE: i16 = -28;

/// The interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) mac: Mac,
    pub(super) marks: Marks,
}

/// What frames from the tap carry where they have been placed, in [`TC_INDEX`]. It stays there, so that a program and the one
/// that takes its place may both see them; only on the other way, where the host forwards them, does it not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    arriving: u16,
    leaving: u16,
}

impl Marks {
    /// A network's own, the same in every control: frames may come by from networks of other hosts on this machine.
    pub(super) fn of(uuid: [u8; 16]) -> Self {
        let fold = |word: u16, pair: &[u8]| word.rotate_left(5) ^ u16::from_le_bytes([pair[0], pair[1]]);
        let number = uuid.chunks_exact(2).fold(0, fold) | 2;
        Self { arriving: number & !1, leaving: number | 1 }
    }
}

/// Addresses that have sent something, by where they are: in one of the two.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) guests: Addresses,
    pub(super) wire: Addresses,
}

/// For what arrives at the interface.
pub(super) fn arriving(sides: &Sides, device: &Device, tap: u32) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [other, copy, pass] = [(); 3].map(|()| code.label());
    begin(&mut code, device.marks.arriving, device.marks.leaving, pass);
    learn(&mut code, &sides.wire, &sides.guests);
    unless_equal(&mut code, TO, device.mac, other);
    code.jump(pass);
    code.bind(other);
    to_group(&mut code, copy, pass);
    on_map(&mut code, &sides.guests, TO, Helper::MapLookup);
    let elsewhere = code.label();
    code.jump_if_null(R0, elsewhere);
    redirect(&mut code, tap, OUT);
    code.bind(elsewhere);
    on_map(&mut code, &sides.wire, TO, Helper::MapLookup);
    code.jump_if_null(R0, copy);
    code.jump(pass);
    end(&mut code, tap, copy, pass);
    code.finish()
}

/// For what the host sends by the interface.
pub(super) fn leaving(sides: &Sides, marks: Marks, tap: u32) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [inside, copy, pass] = [(); 3].map(|()| code.label());
    begin(&mut code, marks.leaving, marks.arriving, pass);
    to_group(&mut code, copy, pass);
    on_map(&mut code, &sides.wire, TO, Helper::MapLookup);
    code.jump_if_null(R0, inside);
    code.jump(pass);
    code.bind(inside);
    on_map(&mut code, &sides.guests, TO, Helper::MapLookup);
    code.jump_if_null(R0, copy);
    redirect(&mut code, tap, OUT);
    end(&mut code, tap, copy, pass);
    code.finish()
}

/// For what the datapath sends by the tap.
pub(super) fn outward(sides: &Sides, device: &Device) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [foreign, single, host, group, drop] = [(); 5].map(|()| code.label());
    code.copy(R6, R1);
    code.set(R2, 0);
    read(&mut code, TO, ADDRESSES, drop);
    // Nobody speaks for the host.
    unless_equal(&mut code, FROM, device.mac, foreign);
    code.jump(drop);
    code.bind(foreign);
    code.load(Size::One, R0, Frame, FROM);
    code.jump_if(R0, If::Common, 1, drop);
    learn(&mut code, &sides.guests, &sides.wire);
    code.load(Size::One, R0, Frame, TO);
    code.jump_if(R0, If::Common, 1, group);
    unless_equal(&mut code, TO, device.mac, single);
    code.jump(host);
    code.bind(single);
    mark(&mut code, device.marks.leaving);
    redirect(&mut code, device.index, OUT);

    code.bind(group);
    mark(&mut code, device.marks.leaving);
    clone(&mut code, device.index);
    code.bind(host);
    mark(&mut code, device.marks.arriving);
    redirect(&mut code, device.index, TO_HOST);

    code.bind(drop);
    code.set(R0, DROP);
    code.exit();
    code.finish()
}

/// Lets pass what the tap's program has placed, and reads the addresses of everything else: also of what it has placed on the
/// other way, and comes by this one.
fn begin(code: &mut Assembler, placed: u16, other: u16, pass: Label) {
    let fresh = code.label();
    code.copy(R6, R1);
    code.load(Size::Four, R0, R6, TC_INDEX);
    code.jump_if(R0, If::Equal, placed.into(), pass);
    code.jump_if(R0, If::Other, other.into(), fresh);
    mark(code, 0);
    code.bind(fresh);
    code.set(R2, 0);
    read(code, TO, ADDRESSES, pass);
}

fn mark(code: &mut Assembler, mark: u16) {
    code.set(R0, mark.into());
    code.store(Size::Four, R6, TC_INDEX, R0);
}

/// Has frames to groups copied, unless no bridge passes them on.
fn to_group(code: &mut Assembler, copy: Label, pass: Label) {
    let single = code.label();
    code.load(Size::One, R0, Frame, TO);
    code.compute(Operation::And, R0, 1);
    code.jump_if(R0, If::Equal, 0, single);
    if_link_local(code, copy, pass);
    code.jump(copy);
    code.bind(single);
}

fn end(code: &mut Assembler, tap: u32, copy: Label, pass: Label) {
    code.bind(copy);
    clone(code, tap);
    code.bind(pass);
    code.set(R0, PASS);
    code.exit();
}

/// The sender is on this side, and no longer on the other.
fn learn(code: &mut Assembler, side: &Addresses, other: &Addresses) {
    let [new, known] = [(); 2].map(|()| code.label());
    on_map(code, side, FROM, Helper::MapLookup);
    code.jump_if_null(R0, new);
    code.jump(known);
    code.bind(new);
    on_map(code, other, FROM, Helper::MapDelete);
    code.store_value(Size::Four, Frame, VALUE, 1);
    on_stack(code, R3, VALUE);
    code.set(R4, 0);
    on_map(code, side, FROM, Helper::MapUpdate);
    code.bind(known);
}

/// Looks up, enters or removes the address at `place`. Registers behind R2 are the caller's.
fn on_map(code: &mut Assembler, side: &Addresses, place: i16, helper: Helper) {
    for word in [0, 2, 4] {
        code.load(Size::Two, R0, Frame, place + word);
        code.store(Size::Two, Frame, KEY + word, R0);
    }
    code.store_value(Size::Two, Frame, KEY + 6, 0);
    code.map(R1, side.fd().as_raw_fd());
    on_stack(code, R2, KEY);
    code.call(helper);
}

/// Goes on if the address at `place` is `mac`.
fn unless_equal(code: &mut Assembler, place: i16, mac: Mac, other: Label) {
    let [a, b, c, d, e, f] = mac;
    for (word, pair) in [(0, [a, b]), (2, [c, d]), (4, [e, f])] {
        code.load(Size::Two, R0, Frame, place + word);
        code.jump_if(R0, If::Other, u16::from_ne_bytes(pair).into(), other);
    }
}

/// 01-80-C2-00-00-00 to -0F: no bridge passes them on.
fn if_link_local(code: &mut Assembler, other: Label, yes: Label) {
    for (word, pair) in [(0, [0x01, 0x80]), (2, [0xc2, 0x00])] {
        code.load(Size::Two, R0, Frame, TO + word);
        code.jump_if(R0, If::Other, u16::from_ne_bytes(pair).into(), other);
    }
    code.load(Size::Two, R0, Frame, TO + 4);
    code.swap(R0, 16);
    code.jump_if(R0, If::UpTo, 0x000f, yes);
}

/// Ends with the frame at an interface.
fn redirect(code: &mut Assembler, interface: u32, flags: i32) {
    code.set(R1, interface.cast_signed());
    code.set(R2, flags);
    code.call(Helper::Redirect);
    code.exit();
}

/// Sends a copy out by an interface.
fn clone(code: &mut Assembler, interface: u32) {
    code.copy(R1, R6);
    code.set(R2, interface.cast_signed());
    code.set(R3, OUT);
    code.call(Helper::CloneRedirect);
}
