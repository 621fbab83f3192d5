//! `pontoon run --user` as a user without privilege, towards a small internet in another namespace; and networks of the
//! daemon that leave by sockets too.

use std::fs;
use std::path::PathBuf;

use pontoon_netns_tests::{Output, Setup, World, run, until, xml};
use rustix::process::{Pid, Signal, kill_process};

/// Nobody, in the host's namespace, with a tap device and a resolv.conf such a user finds elsewhere.
const AS_NOBODY: &str = "set -e; mount --make-rprivate /; mount --bind \"$1/resolv.conf\" /etc/resolv.conf; \
    [ -e \"$1/tun\" ] || mknod -m 666 \"$1/tun\" c 10 200; mount --bind \"$1/tun\" /dev/net/tun; cd /; shift; \
    exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";

fn world() -> Option<World> {
    let world =
        World::new(&Setup { tools: &["ping", "curl", "dig", "iperf3", "setpriv"], ..Setup::default() })?;
    // The build may be where nobody else looks.
    fs::copy(world.bin(), world.path("pontoon")).expect("copy");
    world.ip("host", "route add default via 203.0.113.1");
    Some(world)
}

fn as_nobody(world: &World, words: &[&str]) -> Output {
    let (dir, ns) = (world.path("").display().to_string(), world.ns("host"));
    let (pontoon, dir) = (world.path("pontoon").display().to_string(), dir.trim_end_matches('/'));
    let mut all =
        vec!["ip", "netns", "exec", &ns, "unshare", "-m", "sh", "-c", AS_NOBODY, "sh", dir, &pontoon];
    all.extend(["run", "--user"]);
    all.extend(words);
    run(&all)
}

fn in_shell(world: &World, script: &str) -> Output {
    as_nobody(world, &["--", "sh", "-c", script])
}

fn allow_pings(world: &World, groups: &str) {
    let setting = format!("net.ipv4.ping_group_range={groups}");
    let set = world.exec("host", &["sysctl", "-qw", &setting]);
    assert!(set.ok(), "{set:?}");
}

#[test]
fn a_command_has_names_web_ping_and_datagrams_without_any_privilege() {
    let Some(world) = world() else { return };
    allow_pings(&world, "0 65534");
    let script = "ping -c 2 -W 5 google.com && curl -sS -m 20 http://google.com/ && \
        curl -sS -m 30 http://203.0.113.80/20m | wc -c && dig +short +tcp google.com";
    let said = in_shell(&world, script).expect_ok("all of it");
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert!(said.contains("you are 203.0.113.3 port "), "{said}");
    assert!(said.contains("\n20000000\n") && said.ends_with("203.0.113.80\n"), "{said}");
    let server = world.spawn("net", "iperf3.log", &["iperf3", "-s", "-1", "--forceflush"]);
    let script = "for try in 1 2 3 4 5 6 7 8 9; do \
        iperf3 -u -b 20M -l 1200 -t 1 -c 203.0.113.1 && exit 0; sleep 0.2; done; exit 1";
    let said = in_shell(&world, script).expect_ok("datagrams");
    assert!(said.contains("  receiver"), "{said}\n{}", server.said());
}

#[test]
fn what_cannot_be_reached_is_refused_as_anywhere() {
    let Some(world) = world() else { return };
    // Nobody listens, there is no way, and what listens on the host's loopback is the host's.
    world.serve("host", 8080);
    for (url, status) in
        [("http://203.0.113.80:9/", 7), ("http://127.0.0.1:8080/", 7), ("http://10.0.2.1:8080/", 7)]
    {
        let output = as_nobody(&world, &["--", "curl", "-sS", "-m", "5", url]);
        assert_eq!(output.code, Some(status), "{url}: {}", output.err);
    }
    world.ip("host", "route add unreachable 192.0.2.0/24");
    let output = as_nobody(&world, &["--", "curl", "-sS", "-m", "5", "http://192.0.2.1/"]);
    assert!(output.code == Some(7), "{output:?}");
    // Without ping sockets it is said why.
    allow_pings(&world, "1 0");
    let output = as_nobody(&world, &["--", "ping", "-c", "1", "-W", "2", "203.0.113.80"]);
    assert!(output.err.contains("net.ipv4.ping_group_range") && !output.ok(), "{output:?}");
}

#[test]
fn the_status_is_the_command_s_and_nothing_is_left() {
    let Some(world) = world() else { return };
    assert_eq!(in_shell(&world, "exit 7").code, Some(7));
    assert_eq!(in_shell(&world, "kill -9 $$").code, Some(137));
    assert_eq!(as_nobody(&world, &["--", "/no/such/command"]).code, Some(127));
    let who = as_nobody(&world, &["--keep-id", "--", "id", "-u"]).expect_ok("id");
    assert_eq!(who, "65534\n");
    // What the command leaves running ends with it, by whatever name: here one of this test's own.
    let name = world.path("lingers").display().to_string();
    fs::copy("/bin/sleep", &name).expect("copy");
    let script = format!("{name} 1000 & setsid {name} 1000 & sleep 0.2; exit 3");
    assert_eq!(in_shell(&world, &script).code, Some(3));
    let running = run(&["pgrep", "-f", &format!("^{name} 1000")]);
    assert_eq!(running.code, Some(1), "{running:?}");
}

/// Processes that have the sockets of the daemon's networks.
fn helpers(world: &World) -> Vec<i32> {
    let daemon = world.daemon_pid().to_string();
    let found = run(&["pgrep", "-P", &daemon, "-f", "user-uplink --fd"]).out;
    found.lines().filter_map(|line| line.parse().ok()).collect()
}

fn curls(world: &World, url: &str) -> String {
    world.exec("g1", &["curl", "-sS", "-m", "30", url]).out
}

#[test]
fn a_network_leaves_by_sockets_of_the_host_and_outlives_their_process() {
    const MAC: &str = "52:54:00:d7:8d:61";
    let setup = Setup { workers: 2, tools: &["ping", "curl", "dig", "iperf3"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.ip("host", "route add default via 203.0.113.1");
    allow_pings(&world, "0 65534");
    let uplink = "  <pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='user'/>\n  <bridge";
    world.start_network("natntw", &xml::shared("natntw", "virbr1", 100, 10).replace("  <bridge", uplink));
    let _ = world.guest("g1", "natntw", "eth0", MAC);
    assert!(world.pings("g1", "google.com"), "names and ping");
    let seen = curls(&world, "http://google.com/");
    assert!(seen.starts_with("you are 203.0.113.3 port "), "{seen}");
    assert_eq!(curls(&world, "http://203.0.113.80/20m").len(), 20_000_000);
    let dig = world.exec("g1", &["dig", "+short", "@203.0.113.1", "google.com"]);
    assert_eq!(dig.expect_ok("dig"), "203.0.113.80\n", "UDP");
    let _server = world.spawn("net", "iperf3.log", &["iperf3", "-s", "-1"]);
    let iperf = ["iperf3", "-u", "-R", "-b", "20M", "-l", "1200", "-t", "1", "-c", "203.0.113.1"];
    let said = until("iperf3 serves", 10, || Some(world.exec("g1", &iperf)).filter(Output::ok)).out;
    assert!(said.contains("  receiver"), "{said}");
    // The end of the process is that of its connections, and of nothing else.
    let before = helpers(&world);
    let [pid] = before.as_slice() else { panic!("{before:?}") };
    kill_process(Pid::from_raw(*pid).expect("pid"), Signal::KILL).expect("kill");
    until("another process has the sockets", 10, || {
        let now = helpers(&world);
        (now.len() == 1 && now != before).then_some(())
    });
    until("the network leaves again", 10, || {
        curls(&world, "http://google.com/").starts_with("you are").then_some(())
    });
    // It outlives the daemon, and ends with the network.
    let process = helpers(&world).pop().map(|pid| PathBuf::from(format!("/proc/{pid}"))).expect("a process");
    world.stop_daemon(Signal::KILL);
    assert!(curls(&world, "http://google.com/").starts_with("you are"));
    world.start_daemon();
    assert!(curls(&world, "http://google.com/").starts_with("you are"));
    let _ = world.works(&["net-destroy", "natntw"]);
    until("no process is left", 10, || (!process.exists()).then_some(()));
}
