//! The host itself asks a port forward, at the address it shares or at 127.0.0.1.
//!
//! Such packets come by the loopback interface. A program there takes those to forwards to the tap, sent from and to the
//! address outside, and remembers what their addresses were; answers at the tap go back by the loopback interface with
//! these. An answer to nobody is dropped, so that who writes to the tap speaks only to programs that have spoken first.
//! Of two sockets with one port that ask one forward by different addresses, the one that spoke last is answered.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::program::{
    self, ETHERNET, FRAGMENT_OFFSET, IP, KEY, MORE_FRAGMENTS, Maps, OUTSIDE, PACKET_TYPE, PORTS, Scope, TCP,
    UDP, WRITTEN,
};
use crate::ebpf::asm::{Assembler, Helper, If, Instruction, Label, Operation, Register, Size};
use crate::ebpf::{PASS, on_stack, read};
use Register::{Frame, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};

use crate::disk::Disk;

/// The loopback interface of any network namespace.
pub(super) const LOOPBACK: u32 = 1;
/// `BPF_F_INGRESS`.
const ARRIVES: i32 = 1;
/// `BPF_F_PSEUDO_HDR` with the four octets of an address, and `BPF_F_MARK_MANGLED_0`.
const ADDRESS: i32 = 0x10 | 4;
const KEEP_NONE: i32 = 0x20;
/// Where frames have addresses and the header's checksum.
const SOURCE_AT: i32 = ETHERNET + 12;
const SUM_AT: i32 = ETHERNET + 10;

/// For the loopback interface: what the host asks of forwards goes to the interface `tap`.
pub(super) fn inland(scope: &Scope, maps: &Maps, tap: u32) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let [hit, note, known, redirect, pass] = [(); 5].map(|()| code.label());
    code.copy(R6, R1);
    code.load(Size::Four, R0, R6, PACKET_TYPE);
    code.jump_if(R0, If::Other, 0, pass);
    program::packet(&mut code, ETHERNET, pass);
    code.jump_if(R8, If::Common, MORE_FRAGMENTS | FRAGMENT_OFFSET.cast_unsigned(), pass);
    ports(&mut code, pass);
    asked(&mut code, scope, hit, pass);

    code.bind(hit);
    local_key(&mut code, (PORTS, PORTS + 2));
    program::on_map(&mut code, &maps.locals, Helper::MapLookup);
    code.jump_if_null(R0, note);
    for offset in [0, 4] {
        code.load(Size::Four, R1, R0, offset);
        code.load(Size::Four, R2, Frame, WRITTEN + offset);
        code.jump_if_both(R1, If::Other, R2, note);
    }
    code.jump(known);
    code.bind(note);
    program::update(&mut code, &maps.locals, WRITTEN);
    code.bind(known);
    readdress(&mut code, [OUTSIDE; 2], redirect, pass);
    code.bind(redirect);
    code.set(R1, tap.cast_signed());
    code.set(R2, 0);
    code.call(Helper::Redirect);
    code.exit();

    code.bind(pass);
    code.set(R0, PASS);
    code.exit();
    code.finish()
}

/// At the tap: a packet with one address at both ends is an answer to the host.
pub(super) fn answer(code: &mut Assembler, maps: &Maps, drop: Label) {
    let [later, whole, known, arrive] = [(); 4].map(|()| code.label());
    code.load(Size::Four, R0, Frame, IP + 12);
    code.store(Size::Four, Frame, OUTSIDE, R0);
    code.copy(R0, R8);
    code.compute(Operation::And, R0, FRAGMENT_OFFSET);
    code.jump_if(R0, If::Other, 0, later);
    ports(code, drop);
    local_key(code, (PORTS + 2, PORTS));
    find(code, &maps.locals, drop);
    code.jump_if(R8, If::Common, MORE_FRAGMENTS, known);
    code.jump(whole);
    code.bind(known);
    program::fragment_key(code);
    program::update(code, &maps.fragments, WRITTEN);
    code.jump(whole);
    code.bind(later);
    program::fragment_key(code);
    find(code, &maps.fragments, drop);
    // The checksum is in the first fragment.
    code.set(R9, 0);
    code.bind(whole);
    readdress(code, [WRITTEN + 4, WRITTEN], arrive, drop);
    code.bind(arrive);
    // The loopback interface's own address.
    for place in [KEY, KEY + 4] {
        code.store_value(Size::Four, Frame, place, 0);
    }
    store(code, 0, KEY, 6, drop);
    code.set(R1, LOOPBACK.cast_signed());
    code.set(R2, ARRIVES);
    code.call(Helper::Redirect);
    code.exit();
}

/// Reads the ports of TCP and UDP.
fn ports(code: &mut Assembler, fail: Label) {
    let carried = code.label();
    code.jump_if(R9, If::Equal, TCP, carried);
    code.jump_if(R9, If::Other, UDP, fail);
    code.bind(carried);
    code.copy(R2, R7);
    read(code, PORTS, 8, fail);
}

/// The packet's destination is a forward; its addresses, as written and as outside.
fn asked(code: &mut Assembler, scope: &Scope, yes: Label, no: Label) {
    let same = code.label();
    let own = scope.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, |(first, _)| *first);
    for offset in [0, 4] {
        code.load(Size::Four, R1, Frame, IP + 12 + offset);
        code.store(Size::Four, Frame, WRITTEN + offset, R1);
    }
    code.swap(R1, 32);
    code.jump_if(R1, If::Other, Ipv4Addr::LOCALHOST.to_bits(), same);
    code.set(R1, own.to_bits().cast_signed());
    code.bind(same);
    code.copy(R2, R1);
    code.swap(R2, 32);
    code.store(Size::Four, Frame, OUTSIDE, R2);
    code.load(Size::Two, R0, Frame, PORTS + 2);
    code.swap(R0, 16);
    program::forwarded(code, scope, yes);
    code.jump(no);
}

/// The client's port, the forward's, the protocol, and the forward's address.
fn local_key(code: &mut Assembler, (client, forward): (i16, i16)) {
    for (from, to) in [(client, KEY), (forward, KEY + 2)] {
        code.load(Size::Two, R0, Frame, from);
        code.store(Size::Two, Frame, to, R0);
    }
    code.store(Size::Four, Frame, KEY + 4, R9);
    code.load(Size::Four, R0, Frame, OUTSIDE);
    code.store(Size::Four, Frame, KEY + 8, R0);
}

/// Reads the addresses that a map has for the key.
fn find(code: &mut Assembler, map: &OwnedFd, fail: Label) {
    program::on_map(code, map, Helper::MapLookup);
    code.jump_if_null(R0, fail);
    for offset in [0, 4] {
        code.load(Size::Four, R1, R0, offset);
        code.store(Size::Four, Frame, WRITTEN + offset, R1);
    }
}

/// Gives the packet these as source and destination, and mends the checksums of header and protocol R9.
fn readdress(code: &mut Assembler, to: [i16; 2], done: Label, fail: Label) {
    let [change, udp, header] = [(); 3].map(|()| code.label());
    for (from, to) in [IP + 12, IP + 16].into_iter().zip(to) {
        code.load(Size::Four, R0, Frame, from);
        code.load(Size::Four, R1, Frame, to);
        code.jump_if_both(R0, If::Other, R1, change);
    }
    code.jump(done);
    code.bind(change);
    code.jump_if(R9, If::Equal, UDP, udp);
    code.jump_if(R9, If::Other, TCP, header);
    mend(code, Helper::MendSum, (R7, 16), ADDRESS, to, fail);
    code.jump(header);
    code.bind(udp);
    mend(code, Helper::MendSum, (R7, 6), ADDRESS | KEEP_NONE, to, fail);
    code.bind(header);
    code.set(R8, SUM_AT);
    mend(code, Helper::MendHeaderSum, (R8, 0), 4, to, fail);
    for (to, place) in to.into_iter().zip([KEY, KEY + 4]) {
        code.load(Size::Four, R0, Frame, to);
        code.store(Size::Four, Frame, place, R0);
    }
    store(code, SOURCE_AT, KEY, 8, fail);
}

/// Mends a checksum for source and destination.
fn mend(
    code: &mut Assembler,
    helper: Helper,
    (base, offset): (Register, i32),
    flags: i32,
    to: [i16; 2],
    fail: Label,
) {
    for (from, to) in [IP + 12, IP + 16].into_iter().zip(to) {
        code.copy(R1, R6);
        code.copy(R2, base);
        code.compute(Operation::Add, R2, offset);
        code.load(Size::Four, R3, Frame, from);
        code.load(Size::Four, R4, Frame, to);
        code.set(R5, flags);
        code.call(helper);
        code.jump_if(R0, If::Other, 0, fail);
    }
}

/// Writes `length` octets of the stack into the frame.
fn store(code: &mut Assembler, at: i32, place: i16, length: i32, fail: Label) {
    code.copy(R1, R6);
    code.set(R2, at);
    on_stack(code, R3, place);
    code.set(R4, length);
    code.set(R5, 0);
    code.call(Helper::StoreBytes);
    code.jump_if(R0, If::Other, 0, fail);
}

/// What the loopback interface has to take from a program, besides what the host sends: packets from the host's own
/// addresses, 127.0.0.1 among them. It brings none from elsewhere.
const SWITCHES: [&str; 2] = ["accept_local", "route_localnet"];
const PLACE: &str = "/proc/sys/net/ipv4/conf/lo";

/// Turns the switches on that are off, or those off that were turned on because of us, which the note says also to the
/// daemon after one that was killed.
pub(super) fn switch(disk: &dyn Disk, note: &Path, on: bool) -> io::Result<()> {
    switch_in(Path::new(PLACE), disk, note, on)
}

fn switch_in(place: &Path, disk: &dyn Disk, note: &Path, on: bool) -> io::Result<()> {
    let noted =
        disk.read(note).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into());
    if !on {
        if noted.is_empty() {
            return Ok(());
        }
        for name in SWITCHES.iter().filter(|name| noted.lines().any(|line| line == **name)) {
            fs::write(place.join(name), "0\n")?;
        }
        return disk.remove(note);
    }
    for name in SWITCHES {
        let path = place.join(name);
        if fs::read_to_string(&path)?.trim() != "0" {
            continue;
        }
        let noted =
            disk.read(note).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into());
        disk.replace_unsynced(note, format!("{noted}{name}\n").as_bytes())?;
        fs::write(path, "1\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn switches_are_left_as_they_were_found() {
        let dir = crate::testing::scratch("switches");
        fs::create_dir_all(&dir).expect("directory");
        let note = dir.join("note");
        let read =
            || SWITCHES.map(|name| fs::read_to_string(dir.join(name)).expect("switch").trim().to_owned());
        fs::write(dir.join("accept_local"), "1\n").expect("switch");
        fs::write(dir.join("route_localnet"), "0\n").expect("switch");
        let set = |on| switch_in(&dir, &RealDisk, &note, on).expect("switched");
        set(true);
        // Killed here, and started again.
        set(true);
        assert_eq!((read(), note.exists()), (["1".into(), "1".into()], true));
        set(false);
        assert_eq!((read(), note.exists()), (["1".into(), "0".into()], false));
        set(false);
        fs::remove_dir_all(&dir).expect("clean");
    }
}
