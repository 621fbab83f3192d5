//! The programs, run by the kernel on frames, and which interfaces are refused.

use std::fs;
use std::os::fd::OwnedFd;

use super::program::{self, Device, Marks, Sides};
use super::splice::make_sides;
use super::{fault, is_wireless};
use crate::ebpf::bpf;
use crate::ebpf::testing::{copies, with_few_rights};
use crate::netlink::Link;

const HOST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 3];
const THIRD: [u8; 6] = [0x52, 0x54, 0, 0, 0, 4];
const ALL: [u8; 6] = [0xff; 6];
const PASS: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

struct Programs {
    sides: Sides,
    arriving: OwnedFd,
    leaving: OwnedFd,
    outward: OwnedFd,
}

fn load() -> Option<Programs> {
    with_few_rights(|| {
        let sides = make_sides()?;
        // The loopback interface.
        let device = Device { index: 1, mac: HOST, marks: Marks::of([7; 16]) };
        let arriving = bpf::program(&program::arriving(&sides, &device, 1), c"arriving");
        let leaving = bpf::program(&program::leaving(&sides, device.marks, 1), c"leaving");
        let outward = bpf::program(&program::outward(&sides, &device), c"outward");
        let taken = "the kernel takes it";
        let (arriving, leaving) = (arriving.expect(taken), leaving.expect(taken));
        Ok(Programs { sides, arriving, leaving, outward: outward.expect(taken) })
    })
}

/// What a program says to a frame, and how many copies it sends.
fn ask(program: &OwnedFd, to: [u8; 6], from: [u8; 6]) -> (i32, u64) {
    let before = copies();
    let frame = [&to[..], &from, &[0x88, 0xb5], &[0; 46]].concat();
    (bpf::run(program, &frame).expect("run"), copies() - before)
}

#[test]
fn frames_to_guests_are_theirs_and_those_of_the_host_are_not() {
    let Some(programs) = load() else { return };
    let Programs { sides, arriving, leaving, outward } = &programs;
    for program in [arriving, leaving] {
        assert_eq!(ask(program, GUEST, OTHER), (PASS, 1), "nobody knows where it is");
    }
    assert_eq!(ask(outward, ALL, GUEST), (REDIRECT, 1), "to the host, and a copy out");
    for program in [arriving, leaving] {
        assert_eq!(ask(program, GUEST, OTHER), (REDIRECT, 0));
        assert_eq!(ask(program, OTHER, THIRD), (PASS, 0), "somebody of the segment");
        for group in [ALL, [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0x10]] {
            assert_eq!(ask(program, group, OTHER), (PASS, 1), "{group:?}: it goes to both");
        }
        for last in [0, 2, 3, 0x0e, 0x0f] {
            assert_eq!(ask(program, [1, 0x80, 0xc2, 0, 0, last], OTHER), (PASS, 0), "no bridge passes it");
        }
    }
    assert_eq!(ask(arriving, HOST, GUEST), (PASS, 0));
    assert!(!sides.guests.has(GUEST) && sides.wire.has(GUEST), "it has moved to the segment");
    assert_eq!(ask(leaving, GUEST, HOST), (PASS, 0));
    assert_eq!(ask(outward, OTHER, GUEST), (REDIRECT, 0));
    assert!(sides.guests.has(GUEST) && !sides.wire.has(GUEST), "and back");
    assert_eq!(ask(leaving, GUEST, HOST), (REDIRECT, 0));
}

#[test]
fn what_guests_send_goes_to_whom_it_is_for_and_is_remembered() {
    let Some(programs) = load() else { return };
    let Programs { sides, arriving, leaving, outward } = &programs;
    assert_eq!(ask(arriving, HOST, OTHER), (PASS, 0));
    let ask_tap = |to, from| ask(outward, to, from);
    assert_eq!(ask_tap(OTHER, GUEST), (REDIRECT, 0));
    assert_eq!(ask_tap(HOST, GUEST), (REDIRECT, 0));
    assert_eq!(ask_tap(OTHER, HOST), (DROP, 0), "nobody speaks for the host");
    assert_eq!(ask_tap(OTHER, ALL), (DROP, 0));
    assert!(sides.guests.has(GUEST) && !sides.guests.has(HOST) && !sides.guests.has(ALL));
    for number in 0..20_000u16 {
        let [high, low] = number.to_be_bytes();
        let from = [2, 0, 0, 0, high, low];
        assert_eq!(ask_tap(OTHER, from), (REDIRECT, 0), "the map never fills");
        assert!(sides.guests.has(from));
    }
    assert_eq!(ask(leaving, OTHER, HOST), (PASS, 0), "a guest's flood has pushed out nobody of the segment");
    assert_eq!(ask(arriving, GUEST, OTHER).1, 1 - u64::from(sides.guests.has(GUEST)), "forgotten or not");
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        mtu: 1500,
        mac: Some([2; 6]),
        loopback: false,
        is_bridge: false,
        controller: None,
        lower: None,
    }
}

#[test]
fn interfaces_that_others_have_are_refused_with_advice() {
    let (plain, bridge, bond) =
        (link(900, "pt-none"), Link { is_bridge: true, ..link(901, "br0") }, link(902, "bond0"));
    let above = Link { lower: Some(900), ..link(903, "macvtap0") };
    let said = |link: &Link, others: &[Link]| {
        fault("pt-none", link, others).map(|fault| (fault.why, fault.help)).unwrap_or_default()
    };
    assert_eq!(said(&plain, &[bridge.clone(), bond.clone()]).0, "");
    for (controller, element) in [(901, "<bridge name='br0'/>"), (902, "<interface dev='bond0'/>")] {
        let (why, help) =
            said(&Link { controller: Some(controller), ..plain.clone() }, &[bridge.clone(), bond.clone()]);
        assert!(why.starts_with("it is part of") && help.contains(element), "{why}: {help}");
    }
    assert!(said(&plain, &[above]).0.contains("'macvtap0' is a macvlan"));
    assert!(said(&Link { mac: None, ..plain.clone() }, &[]).0.contains("no Ethernet"));
    assert!(said(&Link { loopback: true, ..plain }, &[]).0.contains("no Ethernet"));
}

#[test]
fn wireless_interfaces_are_known_by_what_they_have_in_sysfs() {
    let root = crate::testing::scratch("wireless");
    fs::create_dir_all(root.join("wlan0/phy80211")).expect("directory");
    fs::create_dir_all(root.join("eth0")).expect("directory");
    assert!(is_wireless(&root, "wlan0") && !is_wireless(&root, "eth0") && !is_wireless(&root, "eth7"));
    fs::remove_dir_all(&root).expect("clean");
}
