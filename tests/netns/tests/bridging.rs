//! What ports of a bridge may do to each other, seen by guests' traffic.

use std::time::Duration;

use pontoon_netns_tests::{Ear, Mouth, Setup, World, send_frame, until, xml};

const MAC1: &str = "52:54:00:d7:8d:61";
const GUEST1: [u8; 6] = [0x52, 0x54, 0, 0xd7, 0x8d, 0x61];
const EVERY: Duration = Duration::from_millis(2);
const MAC2: &str = "52:54:00:c6:3c:03";
const GATEWAY: &str = "192.168.110.1";

/// Two guests with leases on network `hostntw`, and the second one's address.
fn two_guests(tools: &'static [&'static str], definition: &str) -> Option<(World, String)> {
    let mut world = World::new(&Setup { tools, ..Setup::default() })?;
    world.start_network("hostntw", definition);
    let _ = world.guest("g1", "hostntw", "eth0", MAC1);
    let second = world.guest("g2", "hostntw", "eth0", MAC2);
    Some((world, second))
}

/// An Ethernet frame from the first guest to `to`, marked by its protocol.
fn marked(to: [u8; 6], protocol: u16) -> Vec<u8> {
    [&to[..], &GUEST1, &protocol.to_be_bytes(), &[0; 46]].concat()
}

#[test]
fn isolated_ports_reach_the_host_and_not_each_other() {
    let isolated = xml::hostntw().replace("  <bridge", "  <port isolated='yes'/>\n  <bridge");
    let Some((world, second)) = two_guests(&["ping"], &isolated) else { return };
    assert!(world.pings("g1", GATEWAY) && world.pings("g2", GATEWAY));
    assert!(!world.pings_once("g1", &second), "from one isolated port to another");
}

#[test]
fn a_link_that_is_set_down_carries_nothing_until_it_is_up() {
    let Some((world, second)) = two_guests(&["ping"], &xml::hostntw()) else { return };
    let virsh = world.program("virsh");
    let set = |state: &str| {
        let said = virsh.run(&["domif-setlink", "g2", "eth0", state]);
        assert_eq!(said.out, "Device updated successfully\n\n", "{}", said.err);
    };
    assert!(world.pings("g1", &second));
    set("down");
    assert!(!world.pings_once("g1", &second), "the link is down");
    set("up");
    until("the guest is reached again", 10, || world.pings_once("g1", &second).then_some(()));
}

#[test]
fn with_a_static_table_unknown_addresses_are_not_flooded() {
    let tools = &["ping", "tshark"];
    let managed = xml::hostntw().replace("delay='0'/>", "delay='0' macTableManager='libvirt'/>");
    let Some((world, second)) = two_guests(tools, &managed) else { return };
    assert!(world.pings("g1", &second), "addresses of guests are in the table");
    let capture = world.capture("g2", "eth0");
    send_frame(&world.ns("g1"), "eth0", &marked([0x52, 0x54, 0, 1, 2, 3], 0x88b5));
    send_frame(&world.ns("g1"), "eth0", &marked([0xff; 6], 0x88b6));
    let seen = capture.finish(&["eth.type == 0x88b5", "eth.type == 0x88b6"]);
    let lines: Vec<usize> = seen.iter().map(|lines| lines.lines().count()).collect();
    assert_eq!(lines, [0, 1], "{seen:?}");
}

#[test]
fn hairpin_gives_a_port_its_own_frames_back() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    let brctl = world.program("brctl");
    world.start_network("hostntw", &xml::hostntw());
    let _ = world.guest("g1", "hostntw", "eth0", MAC1);
    let netns = world.ns("g1");
    let (ear, mouth) = (Ear::on(&netns, "eth0"), Mouth::on(&netns, "eth0", GUEST1, EVERY));
    mouth.wait(100);
    assert_eq!(ear.most(), 0, "nobody hears himself");
    let said = brctl.run(&["hairpin", "virbr2", "eth0", "on"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    until("what the port sends comes back", 10, || (ear.most() > 0).then_some(()));
    mouth.wait(100);
    assert_eq!(ear.most(), 1, "each once");
}
