//! What guests can reach and what cannot reach them.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use pontoon_netns_tests::{Setup, World, http_get, in_netns, xml};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const MAC3: &str = "52:54:00:ae:45:66";
const GOOGLE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

fn setup(workers: u16) -> Setup {
    Setup { workers, tools: &["ping", "curl", "dig"], ..Setup::default() }
}

/// Whether a TCP connection from a namespace comes about.
fn connects(world: &World, which: &str, address: &str, port: u16) -> bool {
    let target = SocketAddr::new(address.parse().expect("address"), port);
    in_netns(&world.ns(which), || TcpStream::connect_timeout(&target, Duration::from_secs(2)).is_ok())
}

fn main_traffic(workers: u16) {
    let Some(mut world) = World::new(&setup(workers)) else { return };
    world.start_network("natntw", &xml::natntw());
    let one = world.guest("g1", "natntw", "eth0", MAC1);
    let two = world.guest("g2", "natntw", "eth0", MAC2);
    assert_ne!(one, two);
    for (from, to) in [("g1", "192.168.100.1"), ("g1", &two), ("g2", &one), ("host", &one), ("host", &two)] {
        assert!(world.pings(from, to), "{from} reaches {to}");
    }
    for guest in ["g1", "g2"] {
        assert!(world.pings(guest, "google.com"), "{guest} leaves through NAT by name");
        let page = world.exec(guest, &["curl", "-sS", "-m", "20", "http://google.com/"]).expect_ok("curl");
        assert!(page.starts_with("you are 203.0.113.2 port "), "{page}");
        let big =
            ["curl", "-sS", "-m", "50", "-o", "/dev/null", "-w", "%{size_download}", "http://google.com/20m"];
        assert_eq!(world.exec(guest, &big).expect_ok("curl"), "20000000");
    }
    many_connections(&world);
    let status = world.works(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("status is JSON");
    assert!(status.is_object(), "{status}");
}

/// 200 at the same time, all open before the first asks.
fn many_connections(world: &World) {
    const COUNT: usize = 200;
    let barrier = Arc::new(Barrier::new(COUNT));
    let served = in_netns(&world.ns("g1"), || {
        let ask = |barrier: Arc<Barrier>| {
            let target = SocketAddr::from((GOOGLE, 80));
            let connected = TcpStream::connect_timeout(&target, Duration::from_secs(15));
            barrier.wait();
            let body = http_get(&mut connected?, "/")?;
            Ok::<bool, std::io::Error>(body.starts_with(b"you are 203.0.113.2 port "))
        };
        let threads: Vec<_> =
            (0..COUNT).map(|_| Arc::clone(&barrier)).map(|b| thread::spawn(move || ask(b))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).filter(|served| *served).count()
    });
    assert_eq!(served, COUNT);
}

#[test]
fn guests_reach_each_other_the_host_and_outside_with_one_worker() {
    main_traffic(1);
}

#[test]
fn guests_reach_each_other_the_host_and_outside_with_two_workers() {
    main_traffic(2);
}

#[test]
fn an_isolated_guest_gets_outside_only_by_its_second_interface() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let address = world.guest("g2", "hostntw", "eth0", MAC1);
    assert!(world.pings("host", &address), "the host reaches the guest");
    assert!(world.pings("g2", "192.168.110.1"), "and the guest the host");
    assert_eq!(world.ip("g2", "-4 route show default"), "", "an isolated network gives no way out");
    let dig = ["dig", "+tries=1", "+time=3", "google.com", "@192.168.110.1"];
    let refused = world.exec("g2", &dig).expect_ok("dig");
    assert!(refused.contains("status: REFUSED"), "{refused}");
    let ping = world.exec("g2", &["ping", "-c", "1", "-W", "2", "google.com"]);
    assert!(!ping.ok(), "{ping:?}");

    let second = world.guest("g2", "natntw", "eth1", MAC2);
    assert!(second.starts_with("192.168.100."), "{second}");
    assert!(world.pings("g2", "google.com"), "google.com answers through the second interface");
    assert!(world.pings("host", &address), "the first interface still works");
}

#[test]
fn networks_do_not_reach_each_other() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    world.start_network("natntw", &xml::natntw());
    world.start_network("hostntw", &xml::hostntw());
    let nat = world.guest("g1", "natntw", "eth0", MAC1);
    let isolated = world.guest("g2", "hostntw", "eth0", MAC2);
    // Routes, so that it is pontoon that refuses.
    world.ip("g2", "route add default via 192.168.110.1");
    world.serve("g1", 8080);
    world.serve("g2", 8080);
    assert!(connects(&world, "host", &nat, 8080) && connects(&world, "host", &isolated, 8080));
    for (from, to) in [("g1", &*isolated), ("g2", &nat), ("g2", "203.0.113.80"), ("g2", "203.0.113.1")] {
        assert!(!world.pings(from, to), "{from} must not reach {to}");
    }
    assert!(!connects(&world, "g1", &isolated, 8080) && !connects(&world, "g2", &nat, 8080));
    assert!(!connects(&world, "g2", "203.0.113.80", 80));
}

#[test]
fn outside_cannot_reach_a_guest() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    world.serve("g1", 8080);
    assert!(connects(&world, "host", &address, 8080), "the host reaches it");
    world.ip("net", "route add 192.168.100.0/24 via 203.0.113.2 dev eth0");
    assert!(!world.pings("net", &address));
    assert!(!connects(&world, "net", &address, 8080));
    assert!(!connects(&world, "net", "203.0.113.2", 8080));
    assert!(world.pings("g1", "203.0.113.80"), "the guest still gets out");
}

#[test]
fn the_gateway_reports_expired_and_too_big_packets() {
    let Some(mut world) = World::new(&Setup { mtu: 1400, ..setup(1) }) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    assert!(world.pings("g1", "203.0.113.80"));
    let ping = ["ping", "-n", "-c", "1", "-W", "3"];
    let expired = world.exec("g1", &[&ping[..], &["-t", "1", "203.0.113.80"]].concat());
    let words = "From 192.168.100.1 icmp_seq=1 Time to live exceeded";
    assert!(!expired.ok() && expired.out.contains(words), "{expired:?}");
    let big = world.exec("g1", &[&ping[..], &["-M", "do", "-s", "1420", "203.0.113.80"]].concat());
    assert!(!big.ok() && big.out.contains("mtu = 1400"), "{big:?}");
    // The kernel has learned: a transfer adapts.
    let url = "http://203.0.113.80/20m";
    let get =
        world.exec("g1", &["curl", "-sS", "-m", "50", "-o", "/dev/null", "-w", "%{size_download}", url]);
    assert_eq!(get.expect_ok("curl"), "20000000");
}

#[test]
fn names_of_guests_and_long_answers_resolve() {
    let Some(mut world) = World::new(&setup(1)) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let two = world.guest("g2", "natntw", "eth0", MAC3);
    let dig = ["dig", "+tries=2", "+time=3", "@192.168.100.1"];
    let ask = |words: &[&str]| world.exec("g1", &[&dig[..], words].concat()).expect_ok("dig");
    assert_eq!(ask(&["+short", "g2"]).trim(), two);
    assert_eq!(ask(&["+short", "google.com"]).trim(), "203.0.113.80");
    assert_eq!(ask(&["+short", "+tcp", "google.com"]).trim(), "203.0.113.80");
    let long = ask(&["+short", "+bufsize=512", "big.test", "TXT"]);
    assert!(long.matches('x').count() == 2500, "a truncated answer is asked again by TCP: {long}");
    assert!(ask(&["nothere.test"]).contains("status: NXDOMAIN"));
}
