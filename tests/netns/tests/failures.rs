//! What goes wrong, and what goes on all the same.

use std::fs;

use pontoon_netns_tests::{BIG, Setup, World, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";

/// A verb that has to be refused with these words.
fn refused(world: &World, words: &[&str], expected: &[&str]) {
    let output = world.pontoon(words);
    assert_eq!(output.code, Some(1), "{words:?}: {output:?}");
    assert!(output.err.starts_with("error: "), "{output:?}");
    for part in expected {
        assert!(output.err.contains(part), "'{part}' in {output:?}");
    }
}

#[test]
fn killing_control_disturbs_no_traffic_and_its_successor_takes_over() {
    let Some(mut world) = World::new(&Setup { tools: &["ping", "curl"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let one = world.guest("g1", "natntw", "eth0", MAC1);
    let datapaths = world.datapaths();
    assert_eq!(datapaths.len(), 1);
    let file = world.path("20m");
    let name = file.to_string_lossy().into_owned();
    let get = ["curl", "-sS", "-m", "50", "--limit-rate", "4M", "-o", &name, "http://203.0.113.80/20m"];
    let size = || fs::metadata(&file).map_or(0, |data| data.len());
    let mut transfer = world.spawn("g1", "curl", &get);
    until("the transfer runs", 10, || (size() > 2_000_000).then_some(()));

    world.stop_daemon(Signal::KILL);
    let there = size();
    assert!(there < BIG as u64, "still under way");
    until("traffic goes on without control", 10, || (size() > there + 2_000_000).then_some(()));
    assert!(world.pings("host", &one), "and the host's own interface works");
    let table = world.pontoon(&["net-list"]);
    assert_eq!(table.code, Some(1), "nobody to ask: {table:?}");

    world.start_daemon();
    assert_eq!(world.datapaths(), datapaths, "the same datapath process");
    assert!(transfer.wait(60).success(), "{}", transfer.said());
    assert_eq!(size(), BIG as u64);
    assert_eq!(world.works(&["net-list", "--name"]), "natntw\n");
    let brctl = world.works(&["brctl", "show", "virbr1"]);
    assert!(brctl.contains("eth0"), "the port is known: {brctl}");
    let leases = world.works(&["net-dhcp-leases", "natntw"]);
    assert!(leases.contains(&one), "{leases}");
    let two = world.guest("g2", "natntw", "eth0", MAC2);
    assert!(world.pings("g1", &two) && world.pings("g2", "203.0.113.80"));
}

#[test]
fn a_datapath_that_dies_is_replaced() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let one = world.guest("g1", "natntw", "eth0", MAC1);
    let before = world.datapaths();
    let pid = before.first().and_then(|pid| i32::try_from(*pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a datapath");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill");
    until("another datapath runs", 10, || {
        let now = world.datapaths();
        (!now.is_empty() && now != before).then_some(())
    });
    until("the guest is reached again", 15, || world.pings("host", &one).then_some(()));
    assert!(world.pings("g1", "203.0.113.80"), "with its old lease and the same interface");
    assert!(world.works(&["net-dhcp-leases", "natntw"]).contains(&one));
}

#[test]
fn wrong_input_is_refused_with_its_place_and_nothing_stops() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);

    let file = world.file("torn.xml", "<network>\n  <name>torn</name>\n  <forward mode='nat'>\n</network>\n");
    refused(&world, &["net-define", &file], &["Failed to define network from", &format!("{file}:4:"), "^"]);
    let text = xml::hostntw().replace("end='192.168.110.254'", "end='192.168.111.9'");
    let file = world.file("range.xml", &text);
    let words = "range 192.168.110.10 - 192.168.111.9 is not entirely within network 192.168.110.1/24";
    refused(&world, &["net-define", &file], &[words, &format!("{file}:6:")]);
    let file = world.file("bridge.xml", &xml::isolated("other", "virbr1", 120, 10));
    refused(&world, &["net-define", &file], &["bridge name 'virbr1' already in use."]);
    let file = world.file("subnet.xml", &xml::isolated("again", "virbr5", 100, 10));
    let _ = world.works(&["net-define", &file]);
    let words = "internal error: Network is already in use by interface virbr1";
    refused(&world, &["net-start", "again"], &["Failed to start network again", words, "is free"]);

    let file = world.file("leaves.xml", &xml::nat("leaves", "virbr6", 121, 10).replace("up0", "nope0"));
    let _ = world.works(&["net-define", &file]);
    refused(&world, &["net-start", "leaves"], &["uplink interface 'nope0'", "does not exist"]);
    let shared = "<pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='shared'/>";
    let stays = xml::isolated("stays", "virbr7", 123, 10);
    let stays = stays.replace("  <bridge", &format!("  <forward mode='route'/>{shared}<bridge"));
    let file = world.file("stays.xml", &stays);
    let _ = world.works(&["net-define", &file]);
    refused(
        &world,
        &["net-start", "stays"],
        &["forward mode='route', for which the host's address cannot be shared", "kind='direct'"],
    );
    refused(&world, &["net-start", "natntw"], &["network is already active"]);
    refused(&world, &["net-info", "none"], &["Network not found: no network with matching name 'none'"]);
    refused(&world, &["net-strat", "natntw"], &["unknown command: 'net-strat'"]);
    refused(&world, &["net-define", "/nowhere.xml"], &["/nowhere.xml"]);

    let second = world.second_daemon();
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("another daemon"), "{second:?}");

    assert_eq!(world.works(&["net-list", "--name"]), "natntw\n");
    assert!(world.pings("host", &address) && world.pings("g1", "203.0.113.80"));
}
