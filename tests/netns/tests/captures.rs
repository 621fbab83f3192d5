//! tshark as an independent judge of every frame pontoon sends.

use pontoon_netns_tests::{BAD, Setup, World, bound_address, xml};

fn judged(workers: u16) {
    let setup =
        Setup { workers, no_offload: true, tools: &["tshark", "ping", "curl", "dig"], ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    // A guest without an address hears what is flooded.
    world.attach("g2", "natntw", "eth0", "52:54:00:c6:3c:03");
    world.attach("g1", "natntw", "eth0", "52:54:00:d7:8d:61");
    let uplink = world.capture("net", "eth0");
    let bystander = world.capture("g2", "eth0");
    let guest = world.capture("g1", "eth0");
    let mut client = world.udhcpc("g1", "eth0");
    let _ = bound_address(&mut client);
    assert!(world.pings("g1", "google.com"));
    assert!(world.pings("host", "203.0.113.1"), "the host's own traffic is left alone");
    let _ = world.exec("g1", &["ping", "-n", "-c", "1", "-W", "2", "-t", "1", "203.0.113.80"]);
    assert!(!world.pings("g1", "192.168.100.9"), "nobody has this address");
    for path in ["", "20m"] {
        let url = format!("http://google.com/{path}");
        let _ = world.exec("g1", &["curl", "-sS", "-m", "50", "-o", "/dev/null", &url]).expect_ok("curl");
    }
    let dig = ["dig", "+short", "+tries=2", "@192.168.100.1", "big.test", "TXT"];
    let _ = world.exec("g1", &dig).expect_ok("dig");
    for (place, capture, seen) in [
        ("uplink", uplink, "tcp.dstport == 80"),
        ("guest", guest, "dhcp.option.dhcp == 5 || (dns && ip.src == 192.168.100.1)"),
        ("bystander", bystander, "arp.dst.proto_ipv4 == 192.168.100.9"),
    ] {
        let found = capture.finish(&[seen, BAD]);
        let [seen, bad] = &found[..] else { panic!("two filters") };
        assert!(!seen.is_empty(), "{place}: the capture has what was sent");
        let count = bad.lines().count();
        let first: Vec<_> = bad.lines().take(20).collect();
        assert!(count == 0, "{place}: {count} bad frames\n{}", first.join("\n"));
    }
}

#[test]
fn no_frame_is_malformed_or_has_a_bad_checksum_with_one_worker() {
    judged(1);
}

#[test]
fn no_frame_is_malformed_or_has_a_bad_checksum_with_two_workers() {
    judged(2);
}

#[test]
fn the_judge_sees_a_bad_checksum() {
    let Some(world) = World::new(&Setup { tools: &["tshark", "curl"], ..Setup::default() }) else { return };
    // What stays inside one kernel has partial checksums.
    let capture = world.capture("net", "lo");
    let _ = world.exec("net", &["curl", "-sS", "-m", "20", "http://127.0.0.1/"]).expect_ok("curl");
    let found = capture.finish(&[BAD]);
    assert!(found.iter().any(|lines| !lines.is_empty()));
}
