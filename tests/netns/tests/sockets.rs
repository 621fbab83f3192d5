//! Guests on unix sockets, with QEMU's framing: they come, go, stop and return, and nobody else notices.

use std::time::{Duration, Instant};

use pontoon_netns_tests::{Plug, Proc, Setup, World, bound_address, door, http_get, in_netns, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const MAC3: &str = "52:54:00:ae:45:66";

fn world(workers: u16) -> Option<World> {
    World::new(&Setup { workers, tools: &["ping", "ethtool"], ..Setup::default() })
}

/// Plugs a guest in at the network's own socket and gets it a lease.
fn plugged(world: &World, guest: &str, network: &str, mac: &str) -> (Plug, Proc, String) {
    world.add_plug(guest, "eth0", mac);
    let plug = Plug::connect(&world.ns(guest), "eth0", &door(world, network));
    let (client, address) = leased(world, guest);
    (plug, client, address)
}

fn leased(world: &World, guest: &str) -> (Proc, String) {
    let mut client = world.udhcpc(guest, "eth0");
    let address = bound_address(&mut client);
    (client, address)
}

fn interfaces(world: &World) -> Vec<serde_json::Value> {
    let mut api = world.api();
    let said = api.call("interfaces", &serde_json::json!({}));
    said.get("interfaces").and_then(|list| list.as_array().cloned()).unwrap_or_default()
}

const ARP_IGNORE: &str = "/proc/sys/net/ipv4/conf/ad0/arp_ignore";

fn arp_ignore(world: &World) -> String {
    world.exec("host", &["cat", ARP_IGNORE]).expect_ok("arp_ignore").trim().to_owned()
}

fn download(world: &World, guest: &str) -> usize {
    let get = || {
        let mut stream = std::net::TcpStream::connect(("203.0.113.80", 80)).expect("connect");
        http_get(&mut stream, "/20m").expect("download").len()
    };
    in_netns(&world.ns(guest), get)
}

#[test]
fn who_connects_has_an_interface_as_long_as_the_connection_lasts() {
    let Some(world) = world(2) else { return };
    world.start_network("natntw", &xml::natntw());
    let (plug, client, address) = plugged(&world, "g1", "natntw", MAC1);
    assert!(world.pings("g1", "203.0.113.80") && world.pings("host", &address));
    assert_eq!(download(&world, "g1"), 20_000_000);
    let leases = world.works(&["net-dhcp-leases", "natntw"]);
    assert!(leases.contains(&address) && leases.contains(" g1 "), "{leases}");
    let known =
        until("its address is learned", 5, || interfaces(&world).into_iter().find(|one| one["mac"] == MAC1));
    assert_eq!((&known["network"], &known["cable"]), (&"natntw".into(), &"stream".into()), "{known}");
    let ports = world.works(&["net-port-list", "natntw", "--details"]);
    let peer = format!("pid-{}", std::process::id());
    assert!(ports.contains(MAC1) && ports.contains("stream") && ports.contains(&peer), "{ports}");
    let words: Vec<&str> = ports.lines().last().unwrap_or_default().split_whitespace().collect();
    assert!(words.ends_with(&["up", "1", "-", "-"]), "one queue and no offloads: {ports}");
    let said = world.works(&["qemu-args", "natntw"]);
    assert!(said.contains(&format!("addr.path={}", door(&world, "natntw").display())), "{said}");
    for (verb, kind, words) in [
        ("qemu-args", "dgram", "remote.type=unix"),
        ("qemu-args", "tap", "bridge,id=net0,br=virbr1,helper="),
        ("qemu-args", "vhostuser", "memory-backend=mem0"),
        ("domain-xml", "bridge", "<source bridge='virbr1'/>"),
        ("domain-xml", "ethernet", "--kind adopt --target t-guest"),
        ("domain-xml", "vhostuser", "mode='client'"),
    ] {
        let said = world.works(&[verb, "natntw", "--kind", kind]);
        assert!(said.contains(words), "{verb} {kind}: {said}");
    }
    drop((plug, client));
    until("its port goes with it", 5, || interfaces(&world).is_empty().then_some(()));
    let again = Plug::connect(&world.ns("g1"), "eth0", &door(&world, "natntw"));
    until("it is back", 5, || world.pings("g1", "192.168.100.1").then_some(()));
    let _ = world.works(&["net-destroy", "natntw"]);
    until("the connection ends with the network", 5, || again.is_closed().then_some(()));
    assert!(!door(&world, "natntw").exists());
}

#[test]
fn a_stopped_guest_delays_nobody_and_loses_its_own_frames_by_name() {
    let Some(world) = world(1) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let (held, _client, stopped) = plugged(&world, "g1", "hostntw", MAC1);
    let (_plug, _other, address) = plugged(&world, "g2", "hostntw", MAC2);
    assert!(world.pings("host", &stopped));
    held.hold(true);
    let flood = ["ping", "-n", "-q", "-s", "1400", "-l", "3000", "-c", "3000", "-w", "1", &stopped];
    let before = world.drops("port_full");
    let _ = world.exec("host", &flood);
    let began = Instant::now();
    assert!(world.pings("host", &address), "the other one answers");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(world.drops("port_full") > before, "{}", world.works(&["status"]));
    held.hold(false);
    until("it goes on where it was", 10, || world.pings("host", &stopped).then_some(()));
}

#[test]
fn a_peer_that_listens_or_sends_datagrams_may_come_late_and_return() {
    let Some(world) = world(2) else { return };
    world.start_network("natntw", &xml::natntw());
    let socket = |name: &str| world.path(name).to_string_lossy().into_owned();
    let attach = |domain: &str, rest: &[&str]| {
        let words = ["attach-interface", domain, "network", "natntw"];
        world.works(&[&words[..], rest].concat())
    };
    world.add_namespace("g3");
    for (guest, mac) in [("g1", MAC1), ("g2", MAC2), ("g3", MAC3)] {
        world.add_plug(guest, "eth0", mac);
    }
    // None of the three is there yet.
    let (listens, ours, theirs, door) = (socket("q"), socket("p"), socket("g"), socket("v"));
    attach("g1", &["--mac", MAC1, "--kind", "stream", "--socket", &listens]);
    attach("g2", &["--mac", MAC2, "--kind", "dgram", "--socket", &ours, "--peer", &theirs]);
    attach("g3", &["--mac", MAC3, "--kind", "dgram", "--socket", &door]);
    let listen = || Plug::listen(&world.ns("g1"), "eth0", world.path("q").as_path());
    let dgram = || Plug::dgram(&world.ns("g2"), "eth0", &world.path("g"), &world.path("p"), b"");
    let vfkit = || Plug::dgram(&world.ns("g3"), "eth0", &world.path("w"), &world.path("v"), b"VFKT");
    let (stream, datagrams, greeting) = (listen(), dgram(), vfkit());
    for guest in ["g1", "g2", "g3"] {
        let (_client, address) = leased(&world, guest);
        assert!(world.pings("host", &address), "{guest}");
    }
    assert_eq!(download(&world, "g1"), 20_000_000);
    assert_eq!(download(&world, "g2"), 20_000_000);
    drop((stream, datagrams, greeting));
    let (_stream, _datagrams, _greeting) = (listen(), dgram(), vfkit());
    for guest in ["g1", "g2", "g3"] {
        until(&format!("{guest} is back"), 15, || world.pings(guest, "203.0.113.80").then_some(()));
    }
    for mac in [MAC1, MAC2, MAC3] {
        let guest = ["g1", "g2", "g3"][[MAC1, MAC2, MAC3].iter().position(|one| *one == mac).unwrap_or(0)];
        let _ = world.works(&["detach-interface", guest, "network", "--mac", mac]);
    }
    assert!(interfaces(&world).is_empty() && !world.path("p").exists());
}

#[test]
fn connections_outlive_the_datapath_and_control() {
    let Some(mut world) = world(2) else { return };
    world.start_network("natntw", &xml::natntw());
    let (plug, _client, address) = plugged(&world, "g1", "natntw", MAC1);
    world.ip("host", "link add ad0 type veth peer name ad1");
    let _ = world.exec("host", &["sh", "-c", &format!("echo 2 > {ARP_IGNORE}")]).expect_ok("arp_ignore");
    let attach = ["attach-interface", "g2", "network", "natntw", "--kind", "adopt", "--target", "ad0"];
    let _ = world.works(&[&attach[..], &["--mac", MAC2]].concat());
    assert_eq!(arp_ignore(&world), "8", "the host does not answer there");
    for pid in world.datapaths() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("pid");
        rustix::process::kill_process(pid, Signal::KILL).expect("kill");
    }
    until("the next datapath serves", 10, || world.pings("host", &address).then_some(()));
    world.stop_daemon(Signal::KILL);
    assert!(world.pings("g1", "203.0.113.80"), "without control");
    world.start_daemon();
    assert!(world.pings("g1", "203.0.113.80") && !plug.is_closed());
    assert_eq!(interfaces(&world).len(), 2);
    let _ = world.works(&["detach-interface", "g2", "network", "--mac", MAC2]);
    assert_eq!(arp_ignore(&world), "2", "as it was before control and datapath died");
    for pid in world.datapaths() {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("pid");
        rustix::process::kill_process(pid, Signal::KILL).expect("kill");
    }
    until("the control that took over holds it too", 10, || world.pings("host", &address).then_some(()));
    drop(plug);
    until("its port goes with it", 5, || interfaces(&world).is_empty().then_some(()));
}
