//! Ports of the outside that lead to guests: asked with curl from the internet and from guests.

use pontoon_netns_tests::{Setup, World, in_netns, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:d7:8d:62";
const HOST: &str = "203.0.113.3";
/// A further address of the host.
const SECOND: &str = "203.0.113.9";

/// Who the server behind a URL says that asks it; `None` when nobody answers.
fn asks(world: &World, which: &str, url: &str) -> Option<String> {
    let said = world.exec(which, &["curl", "-sS", "-m", "2", url]);
    let text = said.ok().then(|| said.out.clone())?;
    let (address, _) = text.strip_prefix("you are ")?.split_once(" port ")?;
    Some(address.to_owned())
}

fn url(address: &str, port: u16) -> String {
    format!("http://{address}:{port}/")
}

/// Has a guest answer to names of `test`, one of them with more than a packet holds.
fn serve_names(world: &mut World, which: &str) {
    let long = format!("--txt-record=big.test,{}", vec!["x".repeat(250); 10].join(","));
    let words =
        ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--pid-file="];
    let more = ["--address=/web.test/192.0.2.7", "--local=/test/", "--edns-packet-max=4096", &long];
    let mut server = world.spawn(which, "names", &[&words[..], &more].concat());
    server.wait_said("started", 5);
    world.keep(server);
}

/// The answer to a question by UDP; empty when there is none.
fn dig(world: &World, which: &str, address: &str, port: &str, name: &str) -> String {
    let server = format!("@{address}");
    let options = ["+short", "+notcp", "+ignore", "+tries=1", "+time=2", "+bufsize=4096"];
    world.exec(which, &[&["dig", &server, "-p", port, name, "ANY"][..], &options].concat()).out
}

/// Two guests on natntw, the first one serves.
fn world(workers: u16, shared: bool) -> Option<World> {
    world_with(&Setup { workers, tools: &["curl", "dig"], ..Setup::default() }, shared)
}

fn world_with(setup: &Setup, shared: bool) -> Option<World> {
    let mut world = World::new(setup)?;
    world.ip("host", "route add default via 203.0.113.1");
    let make = if shared { xml::shared } else { xml::nat };
    world.start_network("natntw", &make("natntw", "virbr1", 100, 10));
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let _ = world.guest("g2", "natntw", "eth0", MAC2);
    world.serve("g1", 80);
    Some(world)
}

fn on_a_shared_or_direct_uplink(shared: bool) {
    for workers in [1, 2] {
        let Some(mut world) = world(workers, shared) else { return };
        let outside = if shared { HOST } else { "203.0.113.2" };
        assert_eq!(asks(&world, "net", &url(outside, 8080)), None);
        let add =
            ["port-forward", "add", "natntw", "8080:80", "8443:80", "--guest", "g1", "--live", "--config"];
        assert_eq!(world.works(&add), "Port forwards added to network natntw\n");
        for port in [8080, 8443] {
            let seen = asks(&world, "net", &url(outside, port));
            assert_eq!(seen.as_deref(), Some("203.0.113.1"), "the client's own address");
        }
        let seen = asks(&world, "g2", &url(outside, 8080));
        assert_eq!(seen.as_deref(), Some(outside), "from the same network by the external address");
        let target = format!("{}20m", url(outside, 8080));
        let big = ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", &target];
        assert_eq!(world.exec("net", &big).expect_ok("curl"), "20000000");
        from_another_network(&mut world, shared, outside);
        if shared {
            from_the_host(&world);
        }
        let list = world.works(&["port-forward", "list", "natntw"]);
        assert!(list.contains(" tcp        *         8080    g1      80\n"), "{list}");
        let again = world.pontoon(&["port-forward", "add", "natntw", "8080", "--guest", "g2"]);
        assert!(
            again.err.contains("tcp port 8080 of network 'natntw' is forwarded to 'g1' already"),
            "{}",
            again.err
        );
        let gone = ["port-forward", "delete", "natntw", "8080", "--live", "--config"];
        assert_eq!(world.works(&gone), "Port forward deleted from network natntw\n");
        assert_eq!(asks(&world, "net", &url(outside, 8080)), None);
        assert!(asks(&world, "net", &url(outside, 8443)).is_some(), "the other one stays");
        // What was stored is there again after a restart of the network.
        let _ = world.works(&["net-destroy", "natntw"]);
        let _ = world.works(&["net-start", "natntw"]);
        let _ = world.guest("g1", "natntw", "eth0", MAC1);
        assert!(asks(&world, "net", &url(outside, 8443)).is_some());
    }
}

/// The host reaches forwards at the address it shares and at 127.0.0.1.
fn from_the_host(world: &World) {
    for address in [HOST, "127.0.0.1", "localhost"] {
        let seen = asks(world, "host", &url(address, 8080));
        assert_eq!(seen.as_deref(), Some(HOST), "by {address}");
        let target = format!("{}20m", url(address, 8080));
        let big = ["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{size_download}", &target];
        assert_eq!(world.exec("host", &big).expect_ok("curl"), "20000000", "by {address}");
    }
}

fn from_another_network(world: &mut World, shared: bool, outside: &str) {
    let make = if shared { xml::shared } else { xml::nat };
    world.start_network("other", &make("other", "virbr3", 130, 10));
    world.add_namespace("g3");
    let _ = world.guest("g3", "other", "eth0", "52:54:00:d7:8d:63");
    let seen = asks(world, "g3", &url(outside, 8080));
    assert_eq!(seen.as_deref(), Some(outside), "from another network by the external address");
    let taken = world.pontoon(&["port-forward", "add", "other", "8080", "--guest", "g3"]);
    assert!(taken.err.contains("network 'natntw' has it"), "{}", taken.err);
    let _ = world.works(&["net-destroy", "other"]);
}

#[test]
fn clients_reach_a_guest_by_the_hosts_address() {
    on_a_shared_or_direct_uplink(true);
}

#[test]
fn clients_reach_a_guest_by_an_address_of_pontoons_own() {
    on_a_shared_or_direct_uplink(false);
}

/// Turns the strictest look at sources on, which hosts may have.
fn be_strict(world: &World) {
    let strict = || std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").expect("rp_filter");
    in_netns(&world.ns("host"), strict);
}

fn loopback(world: &World) -> [String; 2] {
    ["accept_local", "route_localnet"].map(|name| {
        let read = || std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/lo/{name}")).expect("switch");
        in_netns(&world.ns("host"), read).trim().to_owned()
    })
}

/// By UDP, in pieces, by a further address of the host, and beside what the host itself serves.
fn by_other_ways(options: &'static [&'static str]) {
    let setup = Setup { workers: 2, tools: &["curl", "dig"], daemon_options: options, ..Setup::default() };
    let Some(mut world) = world_with(&setup, true) else { return };
    be_strict(&world);
    world.ip("host", &format!("addr add {SECOND}/24 dev up0"));
    serve_names(&mut world, "g1");
    world.serve("host", 5353);
    let add = |xml: &str| world.pontoon(&["net-update", "natntw", "add", "port-forward", xml, "--live"]);
    let names = "<portForward proto='udp' guest='g1' dev='up0'><range start='5353' to='53'/></portForward>";
    let web = "<portForward proto='tcp' address='203.0.113.9' guest='g1'><range start='443' to='80'/></portForward>";
    let range = "<portForward proto='tcp' guest='52:54:00:d7:8d:61'><range start='78' end='82'/>\
        <range start='81' exclude='yes'/></portForward>";
    for forward in [names, web, range] {
        let _ = add(forward).expect_ok(forward);
    }
    world.serve("host", 443);
    let other = add(&names.replace("up0", "eth7").replace("5353", "5354"));
    assert!(other.err.contains("a port of 'eth7' cannot be forwarded to network 'natntw'"), "{}", other.err);
    let octets = |text: &str| text.bytes().filter(|byte| *byte == b'x').count();
    for (which, address) in [("net", HOST), ("host", HOST), ("host", "127.0.0.1"), ("g2", HOST)] {
        assert_eq!(dig(&world, which, address, "5353", "web.test"), "192.0.2.7\n", "{which} {address}");
        let big = dig(&world, which, address, "5353", "big.test");
        assert_eq!(octets(&big), 2500, "in pieces: {which} {address}");
        let seen = if which == "net" { "203.0.113.1" } else { HOST };
        assert_eq!(asks(&world, which, &url(address, 80)).as_deref(), Some(seen), "{which} {address}");
        assert_eq!(asks(&world, which, &url(address, 81)), None, "excluded");
    }
    for (which, seen) in [("net", "203.0.113.1"), ("host", SECOND), ("g2", HOST)] {
        assert_eq!(asks(&world, which, &url(SECOND, 443)).as_deref(), Some(seen), "the further address");
    }
    for (which, own) in [("net", "203.0.113.1"), ("host", HOST)] {
        assert_eq!(asks(&world, which, &url(HOST, 443)).as_deref(), Some(own), "the host's own address");
        assert_eq!(asks(&world, which, &url(HOST, 5353)).as_deref(), Some(own), "another protocol");
    }
    let long = ["ping", "-n", "-c", "1", "-s", "4000", "-W", "2", HOST];
    assert!(world.exec("g1", &long).ok(), "fragments to the host itself");
    assert_eq!(loopback(&world), ["1", "1"]);
    world.stop_daemon(Signal::KILL);
    assert!(asks(&world, "host", &url("127.0.0.1", 80)).is_some(), "the datapath holds the programs");
    world.start_daemon();
    assert!(asks(&world, "host", &url(HOST, 80)).is_some());
    let _ = world.works(&["net-destroy", "natntw"]);
    assert_eq!(loopback(&world), ["0", "0"]);
    assert_eq!(asks(&world, "host", &url("127.0.0.1", 443)).as_deref(), Some("127.0.0.1"));
}

#[test]
fn datagrams_ranges_and_further_addresses_lead_to_guests() {
    by_other_ways(&[]);
}

#[test]
fn hooks_of_older_kernels_serve_the_host_too() {
    by_other_ways(&["--classic-hooks"]);
}

#[test]
fn a_port_of_a_program_of_the_host_is_refused_with_its_name() {
    let Some(world) = world(1, true) else { return };
    world.serve("host", 8022);
    let add = |port: &str, proto: &str| {
        world.pontoon(&["port-forward", "add", "natntw", port, "--guest", MAC1, "--proto", proto])
    };
    let refused = add("8020-8030", "tcp");
    assert!(!refused.ok());
    let words = "tcp ports 8020-8030 of the host cannot be forwarded to network 'natntw': tcp 8022 of ";
    assert!(refused.err.contains(words) && refused.err.contains("(pid "), "{}", refused.err);
    assert!(add("8022", "udp").ok(), "another protocol");
    assert!(add("8088:80", "tcp").ok());
    assert_eq!(asks(&world, "net", &url(HOST, 8088)).as_deref(), Some("203.0.113.1"));
    let reserved = world.exec("host", &["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]).out;
    assert_eq!(reserved.trim(), "8022,8088,61000-65535");
}

#[test]
fn a_forward_follows_its_guest_to_another_lease_and_to_a_static_address() {
    let Some(world) = world(2, true) else { return };
    for guest in [MAC1, "g1"] {
        let port = if guest == MAC1 { "8080:80" } else { "8081:80" };
        let _ = world.works(&["port-forward", "add", "natntw", port, "--guest", guest]);
    }
    let _ = world.works(&["port-forward", "add", "natntw", "8082:80", "--guest", "192.168.100.200"]);
    let both = |world: &World| {
        let answers = |port| asks(world, "net", &url(HOST, port)).is_some();
        answers(8080) && answers(8081)
    };
    assert!(both(&world));
    assert_eq!(asks(&world, "net", &url(HOST, 8082)), None);
    let host = format!("<host mac='{MAC1}' name='g1' ip='192.168.100.77'/>");
    let _ = world.works(&["net-update", "natntw", "add", "ip-dhcp-host", &host, "--live"]);
    world.ip("g1", "addr flush dev eth0");
    let mut client = world.udhcpc("g1", "eth0");
    assert_eq!(pontoon_netns_tests::bound_address(&mut client), "192.168.100.77");
    until("the forwards have followed", 5, || both(&world).then_some(()));
    // A guest that never asked for a lease is asked for by ARP.
    world.ip("g1", "addr add 192.168.100.200/24 dev eth0");
    assert!(asks(&world, "net", &url(HOST, 8082)).is_some());
}
