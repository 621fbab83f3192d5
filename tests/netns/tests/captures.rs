//! tshark as an independent judge of every frame pontoon sends: here of all kinds of traffic, with checksums and
//! segments left to pontoon and not. Every test's traffic is judged like that when its world ends.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pontoon_netns_tests::{Setup, World, bound_address, send_frame, xml};

fn judged(workers: u16, no_offload: bool) {
    let setup = Setup { workers, no_offload, tools: &["tshark", "ping", "curl", "dig"], ..Setup::default() };
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
        let found = capture.finish(&[seen]);
        assert!(found.iter().any(|lines| !lines.is_empty()), "{place}: the capture has what was sent");
    }
}

#[test]
fn no_frame_is_malformed_or_has_a_bad_checksum_with_one_worker() {
    judged(1, true);
}

#[test]
fn no_frame_is_malformed_or_has_a_bad_checksum_with_two_workers() {
    judged(2, true);
}

#[test]
fn no_super_frame_has_a_bad_partial_checksum() {
    judged(2, false);
}

#[test]
fn the_judge_sees_a_bad_checksum() {
    let Some(world) = World::new(&Setup { tools: &["tshark"], ..Setup::default() }) else { return };
    // A broadcast datagram of the host, past pontoon, whose IPv4 header checksum is wrong.
    let mut frame =
        [&[0xff; 6][..], &[2, 0, 0, 0, 0, 3], &[8, 0, 0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17]].concat();
    frame.extend([0xde, 0xad, 203, 0, 113, 3, 203, 0, 113, 255, 0, 1, 0, 2, 0, 9, 0, 0, 7]);
    send_frame(&world.ns("host"), "up0", &frame);
    let verdict = catch_unwind(AssertUnwindSafe(|| drop(world)));
    let words = verdict.expect_err("a verdict");
    let words = words.downcast_ref::<String>().expect("its words");
    assert!(words.contains("1 of 1 frames are bad"), "{words}");
}
