//! `<forward mode='bridge'/>`: guests sit in the host's own segment, which neither knows of them nor of pontoon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pontoon_netns_tests::{Setup, World, in_netns, until};
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

/// Sends 8 MB over TCP and compares every byte.
fn bulk(world: &World, from: &str, to: &str, address: &str) {
    const LENGTH: usize = 8 << 20;
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

#[test]
fn what_is_no_bridge_is_refused_with_advice() {
    let Some(world) = world() else { return };
    for (place, words) in [
        ("<bridge name='up0'/>", "is not a bridge"),
        ("<bridge name='br7'/>", "bridge 'br7' of network 'lan' does not exist"),
    ] {
        let file = world.file("lan.xml", &BRIDGED.replace("<bridge name='br0'/>", place));
        let _ = world.works(&["net-define", &file]);
        let said = world.pontoon(&["net-start", "lan"]);
        assert!(!said.ok() && said.err.contains(words), "{}", said.err);
    }
}
