//! `<forward mode='bridge'/>`: guests sit in the host's own segment, which neither knows of them nor of pontoon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use pontoon_netns_tests::{Ear, Mouth, Setup, Stop, World, echoes, in_netns, send_frame, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const HOST: &str = "203.0.113.3";
const NEIGHBOUR: &str = "203.0.113.1";
const BRIDGED: &str = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>";

/// A host whose address is on a bridge of its own, with a DHCP server in the segment.
fn world() -> Option<World> {
    let mut world = World::new(&Setup { tools: &["ping"], ..Setup::default() })?;
    world.ip("host", "addr flush dev up0");
    add_bridge(&world);
    let server = world.serve_dhcp("net", "eth0", "203.0.113.100,203.0.113.120");
    world.keep(server);
    Some(world)
}

fn add_bridge(world: &World) {
    world.ip("host", "link add br0 type bridge");
    world.ip("host", "link set up0 master br0");
    world.ip("host", &format!("addr add {HOST}/24 dev br0"));
    world.ip("host", "link set br0 up");
}

/// Sends 4 MB over TCP and compares every byte.
fn bulk(world: &World, from: &str, to: &str, address: &str) {
    const LENGTH: usize = 4 << 20;
    // Letters: of other octets tshark makes protocols that it finds broken.
    let letter = |n: u32| b'a' + (n.wrapping_mul(0x9e37_79b1) >> 28) as u8;
    let data: Vec<u8> = (0..LENGTH as u32).map(letter).collect();
    let target: SocketAddr = format!("{address}:9").parse().expect("address");
    let listener = in_netns(&world.ns(to), || TcpListener::bind(target)).expect("listen");
    let (stream, (mut taken, _)) = std::thread::scope(|scope| {
        let accepted = scope.spawn(|| listener.accept().expect("accept"));
        let connect = || TcpStream::connect_timeout(&target, Duration::from_secs(5)).expect("connect");
        (in_netns(&world.ns(from), connect), accepted.join().expect("thread"))
    });
    taken.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let mut read = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&data).expect("write");
            stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
        });
        taken.read_to_end(&mut read).expect("read");
    });
    assert!(read == data, "{from} to {to}: {} of {LENGTH} bytes, or others", read.len());
}

#[test]
fn guests_are_in_the_segment_of_a_kernel_bridge() {
    let Some(mut world) = world() else { return };
    let file = world.file("lan.xml", BRIDGED);
    let _ = world.works(&["net-define", &file]);
    let _ = world.works(&["net-start", "lan"]);
    let first = world.guest("g1", "lan", "eth0", MAC1);
    let second = world.guest("g2", "lan", "eth0", MAC2);
    for address in [&first, &second] {
        assert!(address.starts_with("203.0.113.1"), "of the segment's server: {address}");
        assert!(world.pings("net", address) && world.pings("host", address), "{address}");
    }
    for target in [HOST, NEIGHBOUR, &second] {
        assert!(world.pings("g1", target), "{target}");
    }
    let neighbours = world.ip("net", &format!("neigh show {first}"));
    assert!(neighbours.contains(MAC1), "with its own address: {neighbours}");
    bulk(&world, "g1", "host", HOST);
    bulk(&world, "host", "g1", &first);
    bulk(&world, "g1", "net", NEIGHBOUR);
    bulk(&world, "net", "g2", &second);
    bulk(&world, "g1", "g2", &second);

    world.ip("host", "link del br0");
    add_bridge(&world);
    until("the new bridge is followed", 5, || world.pings_once("host", &first).then_some(()));

    world.stop_daemon(Signal::KILL);
    assert!(world.pings("net", &first), "the datapath goes on");
    world.start_daemon();
    assert!(world.pings("host", &first), "taken over");
    let _ = world.works(&["net-destroy", "lan"]);
    let links = world.ip("host", "-o link show");
    assert!(!links.contains("pt-br") && links.contains("up0"), "{links}");
    assert!(world.pings("net", HOST), "the host's own");
}

/// A host whose address is on an interface, with a DHCP server in the segment, and a network on that interface.
fn plain_world(setup: Setup, place: &str) -> Option<World> {
    let mut world = World::new(&Setup { tools: &["ping", "tc", "tshark"], ..setup })?;
    let server = world.serve_dhcp("net", "eth0", "203.0.113.100,203.0.113.120");
    world.keep(server);
    let file = world.file("lan.xml", &format!("<network><name>lan</name>{place}</network>"));
    let _ = world.works(&["net-define", &file]);
    let _ = world.works(&["net-start", "lan"]);
    Some(world)
}

const ON_UP0: &str = "<forward mode='bridge'><interface dev='up0'/></forward>";
const NAMED_UP0: &str = "<forward mode='bridge'/><bridge name='up0'/>";

/// Octets and frames of the network's own tap: "rx" is what the datapath has sent.
fn carried(world: &World, way: &str) -> (u64, u64) {
    let number = |what: &str| {
        let path = format!("/sys/class/net/pt-br0/statistics/{way}_{what}");
        let said = world.exec("host", &["cat", &path]).expect_ok("statistics");
        said.trim().parse::<u64>().expect("number")
    };
    (number("bytes"), number("packets"))
}

/// Frames to a guest that keeps silent arrive once, from outside and from the host.
fn silent_guest_hears(world: &World, guest: &str, mac: [u8; 6]) {
    for (from, dev, number) in [("net", "eth0", 1u32), ("host", "up0", 2)] {
        let ear = Ear::on(&world.ns(guest), "eth0");
        let mut frame = [&mac[..], &[2, 0, 0, 0, 9, 9], &[0x88, 0xb5], &number.to_be_bytes()].concat();
        frame.resize(60, 0);
        send_frame(&world.ns(from), dev, &frame);
        until("it hears", 5, || ear.counts().contains_key(&number).then_some(()));
        assert_eq!(ear.counts(), [(number, 1)].into(), "of {from}");
    }
}

/// Nothing is left at the host's interface.
fn is_as_it_was(world: &World) -> bool {
    let links = world.ip("host", "-d link show");
    !links.contains("pt-br") && !links.replace("promiscuity 0", "").contains("promiscuity")
}

#[test]
fn guests_are_in_the_segment_of_an_interface() {
    let Some(mut world) = plain_world(Setup::default(), ON_UP0) else { return };
    let first = world.guest("g1", "lan", "eth0", MAC1);
    let second = world.guest("g2", "lan", "eth0", MAC2);
    for address in [&first, &second] {
        assert!(address.starts_with("203.0.113.1"), "of the segment's server: {address}");
        assert!(world.pings("net", address) && world.pings("host", address), "{address}");
    }
    for target in [HOST, NEIGHBOUR, &second] {
        assert!(world.pings("g1", target), "{target}");
    }
    for which in ["net", "host"] {
        let neighbours = world.ip(which, &format!("neigh show {first}"));
        assert!(neighbours.contains(MAC1), "with its own address: {neighbours}");
    }
    for (from, to, address, way) in [
        ("g1", "host", HOST, "rx"),
        ("host", "g1", first.as_str(), "tx"),
        ("g1", "net", NEIGHBOUR, "rx"),
        ("net", "g2", &second, "tx"),
    ] {
        let before = carried(&world, way);
        bulk(&world, from, to, address);
        let after = carried(&world, way);
        let mean = (after.0 - before.0) / (after.1 - before.1);
        assert!(mean > 4000, "{from} to {to}: frames of {mean} octets, so few are super-frames");
    }
    bulk(&world, "host", "net", NEIGHBOUR);

    let long = |size: &str| {
        world.exec("g1", &["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", size, HOST]).ok()
    };
    for (mtu, which, what) in [("1400", "host", "smaller"), ("1500", "host", "and larger")] {
        world.ip("net", &format!("link set eth0 mtu {mtu}"));
        world.ip(which, &format!("link set up0 mtu {mtu}"));
        until(what, 5, || world.ip("g1", "link show eth0").contains(&format!("mtu {mtu}")).then_some(()));
        assert!(long("1372") && long("1472") == (mtu == "1500"), "{what}");
    }
    let open = |world: &World| {
        let list = std::fs::read_dir(format!("/proc/{}/fd", world.daemon_pid()));
        list.expect("descriptors").count()
    };
    let before = open(&world);
    for _ in 0..10 {
        let _ = world.works(&["net-destroy", "lan"]);
        assert!(is_as_it_was(&world));
        let _ = world.works(&["net-start", "lan"]);
    }
    let _ = world.works(&["net-destroy", "lan"]);
    assert!(open(&world) < before && world.pings("host", NEIGHBOUR));
}

#[test]
fn an_interface_that_goes_is_missed_and_found_again() {
    let Some(mut world) = plain_world(Setup::default(), NAMED_UP0) else { return };
    let first = world.guest("g1", "lan", "eth0", MAC1);
    let second = world.guest("g2", "lan", "eth0", MAC2);
    let gone = |world: &World, count| {
        let said = || world.daemon_log().matches("interface up0 is gone").count() == count;
        until("it is missed", 5, || said().then_some(()));
        let tap = || world.ip("host", "link show pt-br0").contains("NO-CARRIER");
        until("the tap says so too", 5, || tap().then_some(()));
        assert!(world.pings("g1", &second), "guests reach each other");
    };
    world.ip("host", "link set up0 down");
    world.ip("host", "link set up0 name other0");
    gone(&world, 1);
    world.ip("host", "link set other0 name up0");
    world.ip("host", "link set up0 up");
    until("it is named so again", 5, || world.pings_once("host", &first).then_some(()));
    assert!(world.pings("net", &first));

    world.ip("host", "link del up0");
    gone(&world, 2);
    world.add_uplink();
    until("another is there", 5, || world.pings_once("net", &first).then_some(()));
    assert!(world.pings("host", &second));
    world.ip("host", "link set up0 address 52:54:00:00:00:77");
    until("its address is another", 5, || {
        // A kernel that has just heard of the old address does not believe in a new one for a second.
        world.ip("g2", "neigh flush all");
        world.pings_once("host", &second).then_some(())
    });
    world.ip("g1", "neigh flush all");
    bulk(&world, "g1", "host", HOST);
}

/// Every broadcast of one is heard once by all others, and not by itself.
fn broadcasts_come_once(world: &World) {
    const PLACES: [(&str, &str, u8); 4] =
        [("host", "up0", 1), ("net", "eth0", 2), ("g1", "eth0", 3), ("g2", "eth0", 4)];
    for (from, dev, last) in PLACES {
        let ears = PLACES.map(|(which, dev, _)| (which, Ear::on(&world.ns(which), dev)));
        let mouth = Mouth::on(&world.ns(from), dev, [2, 0, 0, 0, 9, last], Duration::from_millis(2));
        mouth.wait(50);
        drop(mouth);
        // The last are on their way.
        let all = |ear: &Ear| ear.counts().len() >= 50;
        until("all hear", 5, || ears.iter().all(|(which, ear)| *which == from || all(ear)).then_some(()));
        for (which, ear) in &ears {
            let expected = u32::from(*which != from);
            assert_eq!(ear.most(), expected, "of {from}, by {which}");
        }
    }
}

#[test]
fn programs_at_the_interface_leave_the_hosts_own_traffic_alone() {
    let Some(mut world) = plain_world(Setup { unjudged: true, ..Setup::default() }, ON_UP0) else { return };
    let first = world.guest("g1", "lan", "eth0", MAC1);
    world.attach("g2", "lan", "eth0", MAC2);
    silent_guest_hears(&world, "g2", [0x52, 0x54, 0, 0xc6, 0x3c, 0x03]);
    broadcasts_come_once(&world);
    let at = |address: &str, port| SocketAddr::new(address.parse().expect("address"), port);
    let (host, net, guest) = (world.ns("host"), world.ns("net"), world.ns("g1"));
    let stop = AtomicBool::new(false);
    let results = thread::scope(|scope| {
        let ending = Stop(&stop);
        let out = scope.spawn(|| echoes((&host, 0), (&net, at(NEIGHBOUR, 7000)), &stop));
        let inward = scope.spawn(|| echoes((&net, 0), (&host, at(HOST, 7001)), &stop));
        bulk(&world, "g1", "net", NEIGHBOUR);
        world.stop_daemon(Signal::KILL);
        assert!(world.pings("net", &first) && world.pings("g1", HOST), "the datapath goes on");
        world.start_daemon();
        silent_guest_hears(&world, "g1", [0x52, 0x54, 0, 0xd7, 0x8d, 0x61]);
        assert!(world.pings("host", &first), "taken over");
        world.kill_datapaths();
        until("another datapath", 5, || world.pings_once("g1", HOST).then_some(()));
        assert!(world.pings("net", &first));
        world.kill_all();
        until("all is gone", 5, || is_as_it_was(&world).then_some(()));
        drop(ending);
        [out, inward].map(|thread| thread.join().expect("echoes"))
    });
    for (sent, came, twice) in results {
        assert!(sent > 1000 && (came, twice) == (sent, 0), "{sent} sent, {came} came, {twice} twice");
    }
    assert!(!world.pings_once("host", &first), "{guest} has no cable any more");
}

#[test]
fn programs_of_older_kernels_do_the_same_at_the_interface() {
    let setup = Setup { daemon_options: &["--classic-hooks"], ..Setup::default() };
    let Some(mut world) = plain_world(setup, NAMED_UP0) else { return };
    let first = world.guest("g1", "lan", "eth0", MAC1);
    let _ = world.guest("g2", "lan", "eth0", MAC2);
    broadcasts_come_once(&world);
    bulk(&world, "g1", "host", HOST);
    bulk(&world, "net", "g1", &first);
    let filters = |world: &World| {
        let list = |way| world.exec("host", &["tc", "filter", "show", "dev", "up0", way]).out;
        list("ingress") + &list("egress")
    };
    assert_eq!(filters(&world).matches("handle 0x2").count(), 2, "{}", filters(&world));
    world.kill_all();
    assert!(world.pings("host", NEIGHBOUR), "what is left does nothing");
    world.start_daemon();
    let _ = world.works(&["net-start", "lan"]);
    assert_eq!(filters(&world).matches("handle 0x2").count(), 2, "they are replaced");
    let _ = world.works(&["net-destroy", "lan"]);
    assert_eq!(filters(&world), "");
    assert!(is_as_it_was(&world) && world.pings("host", NEIGHBOUR));
}

#[test]
fn nat_leaves_by_an_interface_on_which_guests_are() {
    let Some(mut world) = plain_world(Setup { workers: 2, ..Setup::default() }, ON_UP0) else { return };
    world.ip("host", "route add default via 203.0.113.1");
    world.start_network("natntw", &xml::shared("natntw", "virbr1", 100, 10));
    let bridged = world.guest("g1", "lan", "eth0", MAC1);
    let _ = world.guest("g2", "natntw", "eth0", MAC2);
    for target in [NEIGHBOUR, HOST, &bridged] {
        assert!(world.pings("g2", target), "{target}");
    }
    bulk(&world, "g2", "g1", &bridged);
    bulk(&world, "g2", "net", NEIGHBOUR);
    bulk(&world, "host", "g1", &bridged);
}

#[test]
fn tags_stay_on_frames_to_and_from_an_interface() {
    let setup = Setup { unjudged: true, ..Setup::default() };
    let Some(world) = plain_world(setup, ON_UP0) else { return };
    world.attach("g1", "lan", "eth0", MAC1);
    let captures = ["net", "g1"].map(|which| world.capture(which, "eth0"));
    for (from, last) in [("net", 8), ("g1", 9)] {
        let tag = [0x81, 0, 0, 7];
        let mut frame = [&[0xff; 6][..], &[2, 0, 0, 0, 9, last], &tag, &[0x88, 0xb5]].concat();
        frame.resize(64, 0);
        send_frame(&world.ns(from), "eth0", &frame);
    }
    for capture in captures {
        let seen = capture.finish(&["vlan.id == 7 && vlan.etype == 0x88b5"]);
        assert_eq!(seen[0].lines().count(), 2, "its own and the other's: {seen:?}");
    }
}

#[test]
fn interfaces_that_cannot_be_shared_are_refused_with_advice() {
    let Some(world) = plain_world(Setup::default(), ON_UP0) else { return };
    world.ip("host", "link add br1 type bridge");
    world.ip("host", "link add port0 type veth peer name lower0");
    world.ip("host", "link set port0 master br1");
    world.ip("host", "link add link lower0 name mac0 type macvlan");
    world.ip("host", "tuntap add pt-tun mode tun");
    let start = |dev: &str| {
        let xml =
            "<network><name>NAME</name><forward mode='bridge'><interface dev='DEV'/></forward></network>";
        let file = world.file("next.xml", &xml.replace("NAME", &format!("n-{dev}")).replace("DEV", dev));
        let _ = world.works(&["net-define", &file]);
        world.pontoon(&["net-start", &format!("n-{dev}")])
    };
    for (dev, why, help) in [
        ("up0", "is that of network 'lan'", "attach guests to 'lan'"),
        ("pt-br0", "is that of network 'lan'", "attach guests to 'lan'"),
        ("port0", "it is part of 'br1'", "<bridge name='br1'/>"),
        ("lower0", "'mac0' is a macvlan", "ip link del mac0"),
        ("pt-tun", "it has no Ethernet", "MAC addresses"),
        ("lo", "it has no Ethernet", "MAC addresses"),
        ("none0", "does not exist", "ip -br link"),
    ] {
        let said = start(dev);
        assert!(!said.ok() && said.err.contains(why) && said.err.contains(help), "{dev}: {}", said.err);
    }
    assert!(start("br1").ok(), "a bridge");
    let words = ["attach-interface", "--domain", "g1", "--type", "bridge", "--source", "up0"];
    let _ = world.works(&words);
    assert!(world.works(&["domiflist", "g1"]).contains("up0"), "its name stands for the network");
}

#[test]
fn what_is_no_bridge_is_refused_with_advice() {
    let Some(world) = world() else { return };
    for (place, words) in [
        ("<bridge name='up0'/>", "it is part of 'br0'"),
        ("<bridge name='br7'/>", "bridge or interface 'br7' of network 'lan' does not exist"),
    ] {
        let file = world.file("lan.xml", &BRIDGED.replace("<bridge name='br0'/>", place));
        let _ = world.works(&["net-define", &file]);
        let said = world.pontoon(&["net-start", "lan"]);
        assert!(!said.ok() && said.err.contains(words), "{}", said.err);
    }
}
