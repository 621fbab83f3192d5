//! 802.1Q tags: networks carry them untouched, and an uplink does not take a tagged frame for its own.

use pontoon_netns_tests::{Setup, World, send_frame, until, xml};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const SENDER: [u8; 6] = [0x52, 0x54, 0, 0xd7, 0x8d, 0x61];

/// An ARP request for `target`, with or without a tag.
fn who_has(target: [u8; 4], vlan: Option<u16>) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &SENDER].concat();
    if let Some(vlan) = vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(SENDER);
    frame.extend([203, 0, 113, 77, 0, 0, 0, 0, 0, 0]);
    frame.extend(target);
    frame
}

#[test]
fn a_network_carries_tagged_frames_with_their_tag() {
    let Some(world) = World::new(&Setup { tools: &["tshark"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    world.attach("g1", "natntw", "eth0", MAC1);
    world.attach("g2", "natntw", "eth0", MAC2);
    let capture = world.capture("g2", "eth0");
    // For the gateway's address: only the untagged one is the gateway's to answer.
    for vlan in [Some(7), None] {
        send_frame(&world.ns("g1"), "eth0", &who_has([192, 168, 100, 1], vlan));
    }
    let seen = capture.finish(&["vlan.id == 7 && arp.dst.proto_ipv4 == 192.168.100.1", "arp && !vlan"]);
    let lines: Vec<usize> = seen.iter().map(|lines| lines.lines().count()).collect();
    assert_eq!(lines, [1, 0], "{seen:?}");
}

#[test]
fn a_tagged_frame_on_an_uplink_is_not_taken_for_an_untagged_one() {
    let Some(mut world) = World::new(&Setup { tools: &["tshark", "ping"], ..Setup::default() }) else {
        return;
    };
    world.start_network("natntw", &xml::natntw());
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    assert!(world.pings("g1", "203.0.113.80"));
    let capture = world.capture("net", "eth0");
    let before = world.drops("uplink_not_ours");
    send_frame(&world.ns("net"), "eth0", &who_has([203, 0, 113, 2], Some(7)));
    until("it is dropped by its name", 5, || (world.drops("uplink_not_ours") > before).then_some(()));
    send_frame(&world.ns("net"), "eth0", &who_has([203, 0, 113, 2], None));
    let seen =
        capture.finish(&["vlan.id == 7 && arp", "arp.opcode == 2 && arp.src.proto_ipv4 == 203.0.113.2"]);
    let lines: Vec<usize> = seen.iter().map(|lines| lines.lines().count()).collect();
    assert_eq!(lines, [1, 1], "the tagged question is not answered, the other is: {seen:?}");
}
