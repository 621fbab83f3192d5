//! Bulk transfers that have to complete; their speed is printed, not judged. And what a service costs that idles.

use pontoon_netns_tests::{Setup, World, run, xml};

const SECONDS: &str = "2";

/// Gbit/s of a TCP transfer between two namespaces.
fn iperf(world: &World, from: &str, to: &str, address: &str) -> f64 {
    let mut server = world.spawn(to, "iperf3", &["iperf3", "-s", "-1", "--forceflush", "-B", address]);
    server.wait_said("Server listening", 10);
    let words = ["iperf3", "-c", address, "-t", SECONDS, "-J", "--connect-timeout", "5000"];
    let report = world.exec(from, &words).expect_ok("iperf3");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let rate = report.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    rate.unwrap_or_else(|| panic!("no rate in {report}")) / 1e9
}

/// The same two guests on a bridge of the kernel.
fn kernel_bridge(world: &World) -> f64 {
    for which in ["br", "k1", "k2"] {
        world.add_namespace(which);
    }
    world.ip("br", "link add br0 type bridge");
    world.ip("br", "link set br0 up");
    let bridge = world.ns("br");
    for (which, port, address) in [("k1", "p1", "10.9.0.1/24"), ("k2", "p2", "10.9.0.2/24")] {
        let ns = world.ns(which);
        let words = [
            "ip", "link", "add", "eth0", "netns", &ns, "type", "veth", "peer", "name", port, "netns", &bridge,
        ];
        let _ = run(&words).expect_ok("veth pair");
        world.ip("br", &format!("link set {port} master br0 up"));
        world.ip(which, &format!("addr add {address} dev eth0"));
        world.ip(which, "link set eth0 up");
    }
    assert!(world.pings("k1", "10.9.0.2"));
    iperf(world, "k1", "k2", "10.9.0.2")
}

fn measured(workers: u16) {
    let setup = Setup { workers, unjudged: true, tools: &["iperf3", "ping"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.guest("g1", "natntw", "eth0", "52:54:00:d7:8d:61");
    let two = world.guest("g2", "natntw", "eth0", "52:54:00:c6:3c:03");
    let switch = iperf(&world, "g1", "g2", &two);
    let nat = iperf(&world, "g1", "net", "203.0.113.80");
    let kernel = kernel_bridge(&world);
    println!(
        "workers {workers}: switch {switch:.2} Gbit/s, NAT {nat:.2} Gbit/s, kernel bridge {kernel:.2} Gbit/s, \
         switch / kernel bridge {:.2}",
        switch / kernel
    );
}

#[test]
fn bulk_transfers_complete_with_one_worker() {
    measured(1);
}

#[test]
fn bulk_transfers_complete_with_two_workers() {
    measured(2);
}

/// Nanoseconds the threads of a process have run. Its own time, so what else the machine does adds nothing.
fn ran(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    let ran = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).expect("schedstat");
        text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).expect("a number")
    });
    ran.sum()
}

#[test]
fn an_idle_service_sleeps_though_it_spins_after_traffic() {
    const WATCHED: std::time::Duration = std::time::Duration::from_secs(3);
    let setup = Setup { workers: 2, tools: &["ping"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.guest("g1", "natntw", "eth0", "52:54:00:d7:8d:61");
    assert!(world.pings("g1", "203.0.113.80"));
    let processes = [world.datapaths(), vec![world.daemon_pid()]].concat();
    assert_eq!(processes.len(), 2);
    let before: u64 = processes.iter().copied().map(ran).sum();
    std::thread::sleep(WATCHED);
    let after: u64 = processes.iter().copied().map(ran).sum();
    let share = (after - before) as f64 / WATCHED.as_nanos() as f64;
    println!("idle: {:.3} % of a processor", share * 100.0);
    assert!(share < 0.01, "{:.2} % of a processor", share * 100.0);
}
