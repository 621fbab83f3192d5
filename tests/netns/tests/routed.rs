//! Forward modes route and open, several addresses, routes through guests, external address pools: with real kernels
//! on all sides.

use pontoon_netns_tests::{Setup, World, in_netns, run, until, xml};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";

fn setup(workers: u16) -> Setup {
    Setup { workers, tools: &["ping", "curl"], ..Setup::default() }
}

/// natntw in another mode, with more elements behind its `<ip>`.
fn network(forward: &str, uplink: &str, more: &str) -> String {
    format!(
        "<network>
  <name>natntw</name>
  {forward}
  {uplink}
  <bridge name='virbr1' stp='on' delay='0'/>
  <ip address='192.168.100.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.100.10' end='192.168.100.254'/>
    </dhcp>
  </ip>
  {more}
</network>
"
    )
}

/// What a web server says of who asks.
fn asks_as(world: &World, from: &str, url: &str) -> String {
    let page = world.exec(from, &["curl", "-sS", "-m", "20", url]).expect_ok("curl");
    page.split(' ').nth(2).unwrap_or_default().to_owned()
}

fn downloads(world: &World, from: &str, url: &str) {
    let get = ["curl", "-sS", "-m", "50", "-o", "/dev/null", "-w", "%{size_download}", url];
    assert_eq!(world.exec(from, &get).expect_ok("curl"), "20000000");
}

/// Gives a guest a fixed address and a default route.
fn fixed(world: &World, guest: &str, mac: &str, address: &str, gateway: &str) {
    world.attach(guest, "natntw", "eth0", mac);
    world.ip(guest, &format!("addr add {address} dev eth0"));
    world.ip(guest, &format!("route add default via {gateway}"));
}

fn forwards(world: &World, which: &str) {
    let words = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
    let _ = world.exec(which, &words).expect_ok("ip_forward");
}

fn routed(workers: u16) {
    let Some(mut world) = World::new(&setup(workers)) else { return };
    world.start_network("natntw", &network("<forward mode='route'/>", xml::UPLINK, ""));
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    world.ip("net", "route add 192.168.100.0/24 via 203.0.113.2");
    world.serve("g1", 8080);
    assert!(world.pings("g1", "google.com"), "DNS works, and the way out");
    assert!(world.pings("net", &address), "and the way in");
    assert_eq!(asks_as(&world, "g1", "http://203.0.113.80/"), address, "nothing is translated");
    assert_eq!(asks_as(&world, "net", &format!("http://{address}:8080/")), "203.0.113.1");
    downloads(&world, "g1", "http://203.0.113.80/20m");
    downloads(&world, "net", &format!("http://{address}:8080/20m"));
    assert!(world.pings("host", &address) && world.pings("net", "192.168.100.1"));
    // Only the own subnet.
    world.ip("net", "route add 10.9.0.0/24 via 203.0.113.2");
    let refused = world.exec("net", &["ping", "-n", "-c", "1", "-W", "2", "10.9.0.1"]);
    assert!(refused.out.contains("From 203.0.113.2 icmp_seq=1 Packet filtered"), "{refused:?}");
    world.ip("g1", "addr add 10.7.7.7/32 dev lo");
    let spoofed = ["ping", "-n", "-c", "1", "-W", "2", "-I", "10.7.7.7", "203.0.113.80"];
    let refused = world.exec("g1", &spoofed);
    assert!(!refused.ok(), "{refused:?}");
    assert_eq!(world.drops("ip_source_spoofed"), 1);
    let expired = world.exec("net", &["ping", "-n", "-c", "1", "-W", "2", "-t", "1", &address]);
    assert!(expired.out.contains("From 203.0.113.2 icmp_seq=1 Time to live exceeded"), "{expired:?}");
}

#[test]
fn a_routed_network_passes_both_ways_untranslated_with_one_worker() {
    routed(1);
}

#[test]
fn a_routed_network_passes_both_ways_untranslated_with_two_workers() {
    routed(2);
}

#[test]
fn an_open_network_reaches_what_is_behind_a_guest_from_everywhere() {
    let Some(mut world) = World::new(&setup(2)) else { return };
    let route = "<route address='10.9.0.0' prefix='24' gateway='192.168.100.5' metric='7'/>";
    world.start_network("natntw", &network("<forward mode='open'/>", xml::UPLINK, route));
    let listed = world.ip("host", "route show 10.9.0.0/24");
    assert_eq!(listed.trim(), "10.9.0.0/24 via 192.168.100.5 dev virbr1 proto static metric 7");
    let one = world.guest("g1", "natntw", "eth0", MAC1);
    fixed(&world, "g2", MAC2, "192.168.100.5/24", "192.168.100.1");
    forwards(&world, "g2");
    world.add_namespace("g3");
    let (g2, g3) = (world.ns("g2"), world.ns("g3"));
    let words =
        ["ip", "link", "add", "back", "netns", &g2, "type", "veth", "peer", "name", "eth0", "netns", &g3];
    let _ = run(&words).expect_ok("veth pair");
    for (which, dev, address) in [("g2", "back", "10.9.0.1/24"), ("g3", "eth0", "10.9.0.7/24")] {
        world.ip(which, &format!("addr add {address} dev {dev}"));
        world.ip(which, &format!("link set {dev} up"));
    }
    world.ip("g3", "route add default via 10.9.0.1");
    for net in ["192.168.100.0/24", "10.9.0.0/24"] {
        world.ip("net", &format!("route add {net} via 203.0.113.2"));
    }
    for from in ["g1", "host", "net"] {
        assert!(world.pings(from, "10.9.0.7"), "{from} reaches what is behind the guest");
    }
    for to in ["203.0.113.80", &one, "192.168.100.1"] {
        assert!(world.pings("g3", to), "what is behind the guest reaches {to}");
    }
    world.serve("g3", 8080);
    assert_eq!(asks_as(&world, "net", "http://10.9.0.7:8080/"), "203.0.113.1");
    assert_eq!(asks_as(&world, "g3", "http://203.0.113.80/"), "10.9.0.7");
    downloads(&world, "g3", "http://203.0.113.80/20m");
    assert_eq!(world.works(&["net-destroy", "natntw"]), "Network natntw destroyed\n");
    assert_eq!(world.ip("host", "route show 10.9.0.0/24"), "");
}

#[test]
fn a_smaller_mtu_holds_on_all_devices_and_senders_outside_are_told() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    let mtu = "<mtu size='1400'/>";
    world.start_network("natntw", &network("<forward mode='route'/>", xml::UPLINK, mtu));
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    world.ip("net", "route add 192.168.100.0/24 via 203.0.113.2");
    for (which, dev) in [("host", "virbr1"), ("g1", "eth0")] {
        let link = world.ip(which, &format!("link show {dev}"));
        assert!(link.contains("mtu 1400 "), "{link}");
    }
    assert!(world.pings("net", &address));
    let big = world.exec("net", &["ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1420", &address]);
    assert!(big.out.contains("From 203.0.113.2 icmp_seq=1 Frag needed and DF set (mtu = 1400)"), "{big:?}");
    world.serve("g1", 8080);
    downloads(&world, "net", &format!("http://{address}:8080/20m"));
    downloads(&world, "g1", "http://203.0.113.80/20m");
}

#[test]
fn a_network_with_two_subnets_serves_and_joins_both() {
    let Some(mut world) = World::new(&setup(2)) else { return };
    let more = "<ip address='192.168.128.1' netmask='255.255.255.0'/>";
    world.start_network("natntw", &network("<forward mode='nat'/>", xml::UPLINK, more));
    let listed = world.ip("host", "-4 -o addr show dev virbr1");
    assert!(listed.contains("192.168.100.1/24") && listed.contains("192.168.128.1/24"), "{listed}");
    let one = world.guest("g1", "natntw", "eth0", MAC1);
    fixed(&world, "g2", MAC2, "192.168.128.5/24", "192.168.128.1");
    for (from, to) in [
        ("g2", "192.168.128.1"),
        ("g2", "192.168.100.1"),
        ("g2", "203.0.113.80"),
        ("g2", &*one),
        ("g1", "192.168.128.5"),
        ("host", "192.168.128.5"),
    ] {
        assert!(world.pings(from, to), "{from} reaches {to}");
    }
    assert_eq!(asks_as(&world, "g2", "http://203.0.113.80/"), "203.0.113.2");
    world.serve("g2", 8080);
    downloads(&world, "g1", "http://192.168.128.5:8080/20m");
    // One more while it runs, then only the first.
    let third = format!("{more}<ip address='192.168.129.1' netmask='255.255.255.0'/>");
    for (more, present) in [(&*third, true), ("", false)] {
        let file = world.file("natntw.xml", &network("<forward mode='nat'/>", xml::UPLINK, more));
        let _ = world.works(&["net-define", &file]);
        let listed = world.ip("host", "-4 -o addr show dev virbr1");
        assert_eq!(listed.contains("192.168.129.1/24"), present, "{listed}");
        assert!(world.pings("g1", "192.168.100.1") && world.pings("g1", "203.0.113.80"));
    }
    assert!(!world.pings("g2", "192.168.128.1"), "the subnet is gone");
}

#[test]
fn guests_have_external_addresses_of_a_pool() {
    let Some(mut world) = World::new(&setup(2)) else { return };
    let forward =
        "<forward mode='nat'><nat><address start='203.0.113.16' end='203.0.113.19'/></nat></forward>";
    world.start_network("natntw", &network(forward, xml::UPLINK, ""));
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let _ = world.guest("g2", "natntw", "eth0", MAC2);
    for guest in ["g1", "g2"] {
        let external = asks_as(&world, guest, "http://203.0.113.80/");
        assert!(("203.0.113.16"..="203.0.113.19").contains(&&*external), "{external}");
        for _ in 0..3 {
            assert_eq!(
                asks_as(&world, guest, "http://203.0.113.80/"),
                external,
                "the same for all connections"
            );
        }
        downloads(&world, guest, "http://203.0.113.80/20m");
        assert!(world.pings(guest, "203.0.113.80"));
    }
    let target = SocketAddr::from(([203, 0, 113, 16], 80));
    let open =
        in_netns(&world.ns("net"), || TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok());
    assert!(!open, "nobody gets in");
}

#[test]
fn an_uplink_takes_an_address_of_its_own_by_dhcp() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    let refused = world.pontoon(&[
        "net-define",
        &world.file("shared.xml", &network("<forward mode='route' dev='up0'/>", "", "")),
    ]);
    assert_eq!(refused.code, Some(0), "a definition is kept");
    let refused = world.pontoon(&["net-start", "natntw"]);
    assert_eq!(refused.code, Some(1));
    for words in [
        "network 'natntw' has forward dev='up0', and the host itself has the address 203.0.113.3",
        "203.0.113.0/24",
    ] {
        assert!(refused.err.contains(words), "{}", refused.err);
    }
    let file = world.file("disagree.xml", &network("<forward dev='up7'/>", xml::UPLINK, ""));
    let _ = world.works(&["net-define", &file]);
    let refused = world.pontoon(&["net-start", "natntw"]);
    let words = "network 'natntw' has forward dev='up7' but a <pontoon:uplink> on 'up0'";
    assert!(refused.code == Some(1) && refused.err.contains(words), "{}", refused.err);

    let (host, net) = (world.ns("host"), world.ns("net"));
    let words =
        ["ip", "link", "add", "up1", "netns", &host, "type", "veth", "peer", "name", "eth1", "netns", &net];
    let _ = run(&words).expect_ok("veth pair");
    world.ip("net", "addr add 198.51.100.1/24 dev eth1");
    world.ip("net", "link set eth1 up");
    let _server = world.serve_dhcp("net", "eth1", "198.51.100.50,198.51.100.60");
    let uplink = "<pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='direct' dev='up1'/>";
    world.start_network("natntw", &network("<forward mode='nat' dev='up1'/>", uplink, ""));
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    until("the uplink has an address", 20, || world.pings("g1", "198.51.100.1").then_some(()));
    let external = asks_as(&world, "g1", "http://198.51.100.1/");
    assert!(external.starts_with("198.51.100.5") || external == "198.51.100.60", "{external}");
}

#[test]
fn a_routed_network_without_an_uplink_leaves_by_the_hosts_routes() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    let file = world.file("natntw.xml", &network("<forward mode='route'/>", "", ""));
    let _ = world.works(&["net-define", &file]);
    let refused = world.pontoon(&["net-start", "natntw"]);
    let words =
        "network 'natntw' has forward mode='route' but no <pontoon:uplink>, and this host does not forward";
    assert!(refused.code == Some(1) && refused.err.contains(words), "{}", refused.err);
    forwards(&world, "host");
    let _ = world.works(&["net-start", "natntw"]);
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    world.ip("net", "route add 192.168.100.0/24 via 203.0.113.3");
    assert!(world.pings("g1", "203.0.113.80") && world.pings("net", &address));
    assert_eq!(asks_as(&world, "g1", "http://203.0.113.80/"), address);
    downloads(&world, "g1", "http://203.0.113.80/20m");
}
