//! NAT from the host's own address: guests get out, the host's own traffic is untouched, and what the host does to its
//! interfaces is followed.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_netns_tests::{Proc, Setup, Stop, World, echoes, http_get, in_netns, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const HOST: &str = "203.0.113.3";
const GOOGLE: &str = "203.0.113.80";
/// Behind the router 203.0.113.1, over a link with a smaller MTU.
const FAR: &str = "198.51.100.2";

fn setup() -> Setup {
    Setup { tools: &["ping", "curl", "dig"], ..Setup::default() }
}

/// A world whose host has a way out, with the network natntw and a guest on it.
fn world(setup: &Setup) -> Option<World> {
    let mut world = World::new(setup)?;
    world.ip("host", "route add default via 203.0.113.1");
    world.start_network("natntw", &natntw());
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    Some(world)
}

fn natntw() -> String {
    xml::shared("natntw", "virbr1", 100, 10)
}

/// Adds a namespace behind the internet's router.
fn add_far(world: &World) {
    world.add_namespace("far");
    let (net, far) = (world.ns("net"), world.ns("far"));
    let words =
        ["ip", "link", "add", "far0", "netns", &net, "type", "veth", "peer", "name", "eth0", "netns", &far];
    let _ = pontoon_netns_tests::run(&words).expect_ok("veth pair");
    for (which, dev, address) in [("net", "far0", "198.51.100.1/24"), ("far", "eth0", "198.51.100.2/24")] {
        world.ip(which, &format!("addr add {address} dev {dev}"));
        world.ip(which, &format!("link set {dev} mtu 1400 up"));
        world.keep_order(which, dev);
    }
    world.ip("far", "route add default via 198.51.100.1");
    in_netns(&net, || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forward"));
    world.serve("far", 80);
}

/// The address and port under which a web server outside sees a namespace.
fn seen_as(world: &World, which: &str, server: &str) -> Option<(String, u16)> {
    let target = SocketAddr::new(server.parse().expect("address"), 80);
    let body = in_netns(&world.ns(which), || {
        let patience = Duration::from_millis(900);
        let mut stream = TcpStream::connect_timeout(&target, patience)?;
        // One made just before the host's address changes hears nothing any more.
        stream.set_read_timeout(Some(patience))?;
        http_get(&mut stream, "/")
    });
    let text = String::from_utf8(body.ok()?).expect("text");
    let (address, port) = text.strip_prefix("you are ")?.trim().split_once(" port ")?;
    Some((address.to_owned(), port.parse().expect("port")))
}

fn reserved(world: &World) -> String {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").expect("reserved");
    in_netns(&world.ns("host"), read).trim().to_owned()
}

/// What the host's kernel says to a connection to one of its ports from outside.
fn knocks(world: &World, port: u16) -> Option<std::io::ErrorKind> {
    let target = SocketAddr::new(HOST.parse().expect("address"), port);
    in_netns(&world.ns("net"), || TcpStream::connect_timeout(&target, Duration::from_millis(400)))
        .err()
        .map(|error| error.kind())
}

const REFUSED: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::ConnectionRefused);
const SILENT: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::TimedOut);

fn reaches(world: &World) {
    assert!(world.pings("g1", "google.com"), "by name");
    let (address, port) = seen_as(world, "g1", GOOGLE).expect("TCP");
    assert!(address == HOST && (61000..=65535).contains(&port), "{address} {port}");
    let big =
        ["curl", "-sS", "-m", "50", "-o", "/dev/null", "-w", "%{size_download}", "http://203.0.113.80/20m"];
    assert_eq!(world.exec("g1", &big).expect_ok("curl"), "20000000");
    let dig = world.exec("g1", &["dig", "+short", "@203.0.113.1", "google.com"]);
    assert_eq!(dig.expect_ok("dig"), "203.0.113.80\n", "UDP");
    assert!(world.exec("g1", &["ping", "-n", "-c", "1", "-s", "4000", "-W", "2", GOOGLE]).ok(), "fragments");
    assert_eq!(knocks(world, 61500), SILENT, "nobody's port");
    assert_eq!(knocks(world, 22), REFUSED, "the host's");
}

fn errors_come_back(world: &World) {
    let far = |options: &[&str]| {
        world.exec("g1", &[&["ping", "-n", "-c", "1", "-W", "2"], options, &[FAR]].concat())
    };
    assert!(far(&[]).ok());
    let expired = far(&["-t", "2"]).out;
    assert!(expired.contains("From 203.0.113.1 ") && expired.contains("Time to live exceeded"), "{expired}");
    let first = far(&["-t", "1"]).out;
    assert!(first.contains("From 192.168.100.1 ") && first.contains("Time to live exceeded"), "{first}");
    let long = far(&["-M", "do", "-s", "1450"]);
    assert!(long.out.contains("mtu = 1400") || long.out.contains("mtu=1400"), "{}{}", long.out, long.err);
    let big =
        ["curl", "-sS", "-m", "50", "-o", "/dev/null", "-w", "%{size_download}", "http://198.51.100.2/20m"];
    assert_eq!(world.exec("g1", &big).expect_ok("curl"), "20000000", "the path's MTU is found");
    let refused = in_netns(&world.ns("g1"), || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
        socket.connect((FAR, 9)).expect("connect");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        socket.send(b"anybody there").expect("send");
        socket.recv(&mut [0; 16]).expect_err("nobody").kind()
    });
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused, "the error quotes the guest's datagram");
}

#[test]
fn a_guest_leaves_from_the_hosts_address() {
    for workers in [1, 2] {
        let Some(world) = world(&Setup { workers, ..setup() }) else { return };
        add_far(&world);
        assert_eq!(reserved(&world), "61000-65535");
        reaches(&world);
        errors_come_back(&world);
        assert!(world.pings("g1", HOST), "the host answers at its own address");
        world.serve("host", 8022);
        let target = SocketAddr::new(HOST.parse().expect("address"), 8022);
        let of_host = in_netns(&world.ns("g1"), || http_get(&mut TcpStream::connect(target)?, "/"));
        let body = of_host.expect("the host's own service");
        assert!(body.starts_with(b"you are 192.168.100."), "{}", String::from_utf8_lossy(&body));
        let _ = world.works(&["net-destroy", "natntw"]);
        assert_eq!((reserved(&world).as_str(), knocks(&world, 61500)), ("", REFUSED));
        assert!(!world.ip("host", "link show").contains("pt-up"));
    }
}

#[test]
fn hooks_of_older_kernels_do_the_same_and_do_nothing_once_all_is_killed() {
    let Some(mut world) = world(&Setup { daemon_options: &["--classic-hooks"], ..setup() }) else { return };
    add_far(&world);
    reaches(&world);
    errors_come_back(&world);
    world.stop_daemon(Signal::KILL);
    assert!(world.pings("g1", GOOGLE), "the datapath holds the programs");
    world.start_daemon();
    reaches(&world);
    kill_all(&mut world);
    assert_eq!(knocks(&world, 61500), REFUSED);
}

/// What `ping` says it sent, and what came.
fn counts(said: &str) -> (u32, u32) {
    let line = said.lines().find(|line| line.contains(" packets transmitted, ")).unwrap_or_default();
    let number = |word: &str| line.split_once(word)?.0.split([' ', ',']).next_back()?.parse().ok();
    (number(" packets transmitted").unwrap_or(0), number(" received").unwrap_or(0))
}

/// One connection, kept as ssh keeps one: lines there and back.
fn session(client: &str, target: SocketAddr, stop: &AtomicBool) -> u32 {
    use std::io::{Read, Write};
    let mut stream = in_netns(client, || TcpStream::connect(target).expect("connect"));
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let mut lines = 0;
    while !stop.load(Ordering::Relaxed) {
        let line = format!("{lines:8}");
        stream.write_all(line.as_bytes()).expect("write");
        let mut back = [0; 8];
        stream.read_exact(&mut back).expect("the same line");
        assert_eq!(back, line.as_bytes());
        lines += 1;
    }
    lines
}

/// Sends back what every connection says.
fn serve_echo(netns: &str, port: u16) {
    let listener = in_netns(netns, || std::net::TcpListener::bind(("0.0.0.0", port)).expect("listen"));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut stream.try_clone().expect("copy"), &mut stream));
        }
    });
}

#[test]
fn the_hosts_own_packets_neither_go_missing_nor_come_twice() {
    let Some(world) = world(&Setup { tools: &["ping", "iperf3", "dig"], unjudged: true, ..setup() }) else {
        return;
    };
    let (host, net) = (world.ns("host"), world.ns("net"));
    let at = |address: &str, port| SocketAddr::new(address.parse().expect("address"), port);
    serve_echo(&net, 2222);
    serve_echo(&host, 22);
    let mut servers: Vec<Proc> = ["5201", "5202"]
        .map(|port| {
            world.spawn("net", &format!("iperf3-{port}"), &["iperf3", "-s", "--forceflush", "-p", port])
        })
        .into();
    servers.iter_mut().for_each(|server| drop(server.wait_said("listening", 10)));
    let load = world.spawn("g1", "load", &["iperf3", "-c", GOOGLE, "-p", "5201", "-t", "20", "-P", "2"]);
    let back = ["iperf3", "-c", GOOGLE, "-p", "5202", "-t", "3", "-R", "-J"];
    // The same identifier as NAT may use, and of a size that comes in fragments.
    let ping = |id: &str, size: &str| {
        let words = ["ping", "-q", "-n", "-e", id, "-s", size, "-c", "150", "-i", "0.01", "-W", "3", GOOGLE];
        world.exec("host", &words).out
    };
    let stop = AtomicBool::new(false);
    let (results, lines) = thread::scope(|scope| {
        let ending = Stop(&stop);
        let out = scope.spawn(|| echoes((&host, 0), (&net, at(GOOGLE, 7000)), &stop));
        let near = scope.spawn(|| echoes((&host, 60999), (&net, at(GOOGLE, 7001)), &stop));
        let inward = scope.spawn(|| echoes((&net, 61000), (&host, at(HOST, 60998)), &stop));
        let ssh_out = scope.spawn(|| session(&host, at(GOOGLE, 2222), &stop));
        let ssh_in = scope.spawn(|| session(&net, at(HOST, 22), &stop));
        let guest = scope.spawn(|| {
            world.exec("g1", &["ping", "-q", "-e", "61234", "-c", "100", "-i", "0.02", GOOGLE]).out
        });
        for (id, size) in [("61234", "56"), ("7", "56"), ("61235", "3000")] {
            let said = ping(id, size);
            // A guest that asks the same with the same id at the same time is answered in the host's hearing.
            let (sent, came) = counts(&said);
            let exact = (sent, came) == (150, 150) && !said.contains("duplicates");
            assert!(exact || id == "61234" && came >= 150 && came >= sent, "{id}: {said}");
        }
        for _ in 0..20 {
            let dig = world.exec("host", &["dig", "+short", "+tries=1", "@203.0.113.1", "google.com"]);
            assert_eq!(dig.expect_ok("dig"), "203.0.113.80\n");
        }
        let iperf = world.exec("host", &back).expect_ok("the host's iperf3");
        assert!(iperf.contains("\"bits_per_second\""));
        let guest = guest.join().expect("ping");
        // It hears the host's answers too, and has enough of them before it has asked as often.
        let (sent, came) = counts(&guest);
        assert!(came >= 100 && came >= sent, "{guest}");
        drop(ending);
        let results = [out, near, inward].map(|thread| thread.join().expect("echoes"));
        (results, [ssh_out, ssh_in].map(|thread| thread.join().expect("session")))
    });
    drop(load);
    for (sent, came, twice) in results {
        assert!(sent > 1000 && (came, twice) == (sent, 0), "{sent} sent, {came} came, {twice} twice");
    }
    assert!(lines.iter().all(|lines| *lines > 500), "{lines:?}");
    assert_eq!(
        (world.drops("nat_no_session"), world.drops("uplink_not_ours")),
        (0, 0),
        "nothing was the host's"
    );
}

#[test]
fn ports_that_somebody_has_are_refused_with_the_name() {
    let Some(world) = World::new(&setup()) else { return };
    world.ip("host", "route add default via 203.0.113.1");
    let server = world.spawn("host", "nc", &["busybox", "nc", "-l", "-p", "61500"]);
    until("it listens", 5, || listens(&world, 61500).then_some(()));
    let file = world.file("natntw.xml", &natntw().replace("'1024' end='65535'", "'61400' end='61600'"));
    let _ = world.works(&["net-define", &file]);
    let refused = world.pontoon(&["net-start", "natntw"]);
    let expected = format!(
        "error: Failed to start network natntw\n\
         error: operation failed: NAT of network 'natntw' cannot have the host's ports 61400-61600: \
         tcp 61500 of busybox (pid {})\n",
        server.pid()
    );
    assert!(refused.err.starts_with(&expected), "{}\n{expected}", refused.err);
    assert!(refused.err.contains("kind='direct'"), "{}", refused.err);
    assert_eq!(reserved(&world), "");
    assert!(!world.ip("host", "link show").contains("pt-up"));

    // A definition that leaves the choice gets other ports.
    world.start_network("natntw", &natntw());
    assert_eq!(reserved(&world), "28672-32767");
    drop(server);
    let other = world.file("other.xml", &natntw().replace("'1024' end='65535'", "'40000' end='40999'"));
    assert_eq!(world.works(&["net-define", &other]), format!("Network natntw defined from {other}\n"));
    assert_eq!(reserved(&world), "40000-40999", "a running network changes its ports");
    assert!(world.works(&["net-dumpxml", "natntw"]).contains("<port start='40000' end='40999'/>"));
}

/// Whether the host has a socket on this port.
fn listens(world: &World, port: u16) -> bool {
    let table =
        in_netns(&world.ns("host"), || std::fs::read_to_string("/proc/thread-self/net/tcp").expect("tcp"));
    let v6 = in_netns(&world.ns("host"), || {
        std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default()
    });
    (table + &v6).contains(&format!(":{port:04X} "))
}

#[test]
fn what_the_host_does_to_its_interfaces_is_followed_within_a_second() {
    let Some(world) = world(&setup()) else { return };
    let within_a_second = |what: &str, expected: &str| {
        let begin = Instant::now();
        until(what, 5, || seen_as(&world, "g1", GOOGLE).filter(|(address, _)| address == expected));
        // A connection that was lost before is tried again after a second.
        assert!(begin.elapsed() < Duration::from_millis(2200), "{what}: {:?}", begin.elapsed());
    };
    within_a_second("at first", HOST);
    world.ip("host", "addr del 203.0.113.3/24 dev up0");
    world.ip("host", "addr add 203.0.113.7/24 dev up0");
    world.ip("host", "route replace default via 203.0.113.1");
    within_a_second("renumbered", "203.0.113.7");

    world.ip("host", "link del up0");
    until("no way out", 2, || (!world.pings_once("g1", GOOGLE)).then_some(()));
    let unreachable = world.exec("g1", &["ping", "-n", "-c", "1", "-W", "1", GOOGLE]).out;
    assert!(unreachable.contains("Net Unreachable"), "{unreachable}");
    world.add_uplink();
    world.ip("host", "route add default via 203.0.113.1");
    within_a_second("the interface is back", HOST);

    // Another interface takes the default route, with another MTU.
    world.add_wire("up1", "eth1", "192.0.2.3/24", "192.0.2.1/24", 1400);
    world.ip("host", "route replace default via 192.0.2.1");
    world.ip("host", "route del 203.0.113.0/24 dev up0");
    within_a_second("another interface", "192.0.2.3");
    world.ip("host", "route add 203.0.113.0/24 dev up0");
    let long = world.exec("g1", &["ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1450", GOOGLE]);
    assert!(long.out.contains("From 192.168.100.1") && long.out.contains("1400"), "{}{}", long.out, long.err);
    world.ip("host", "route replace default via 203.0.113.1");
    within_a_second("and back", HOST);

    // A rule, as VPNs set one.
    world.ip("host", "route add default via 192.0.2.1 table 7");
    world.ip("host", "rule add to 198.0.0.0/8 table 7 pref 100");
    until("a rule", 3, || world.daemon_log().contains("192.0.2.3 on up1").then_some(()));
}

#[test]
fn an_interface_that_is_named_is_kept_to() {
    let Some(mut world) = World::new(&setup()) else { return };
    world.ip("host", "route add default via 203.0.113.1");
    world.start_network("natntw", &natntw().replace("mode='nat'>", "mode='nat' dev='up1'>"));
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    let unreachable = world.exec("g1", &["ping", "-n", "-c", "1", "-W", "1", GOOGLE]).out;
    assert!(unreachable.contains("Net Unreachable"), "{unreachable}");
    world.add_wire("up1", "eth1", "192.0.2.3/24", "192.0.2.1/24", 1500);
    until("the interface is there", 5, || {
        seen_as(&world, "g1", "192.0.2.1").filter(|(address, _)| address == "192.0.2.3")
    });
    // A second network with the default route's address beside it.
    let other = xml::shared("other", "virbr2", 101, 10);
    world.start_network("other", &other);
    let _ = world.guest("g2", "other", "eth0", "52:54:00:c6:3c:03");
    assert_eq!(seen_as(&world, "g2", GOOGLE).expect("out").0, HOST);
    assert_eq!(seen_as(&world, "g1", GOOGLE).expect("out").0, "192.0.2.3", "by the same way as before");
    assert_eq!(world.ip("host", "-br link show").matches("pt-up").count(), 2);
}

fn kill_all(world: &mut World) {
    world.kill_all();
    until("the tap goes", 5, || (!world.ip("host", "link show").contains("pt-up")).then_some(()));
}

#[test]
fn programs_outlive_each_process_alone_and_not_both() {
    let Some(mut world) = world(&setup()) else { return };
    let mut stream = in_netns(&world.ns("g1"), || TcpStream::connect((GOOGLE, 80)).expect("connect"));
    world.stop_daemon(Signal::KILL);
    assert!(world.pings("g1", GOOGLE), "control is gone");
    assert_eq!(knocks(&world, 61500), SILENT);
    world.start_daemon();
    assert!(world.pings("g1", GOOGLE), "another control");
    world.kill_datapaths();
    until("another datapath", 5, || world.pings_once("g1", GOOGLE).then_some(()));
    let body = http_get(&mut stream, "/").expect("the session is still there");
    assert!(body.starts_with(b"you are 203.0.113.3 port "), "{}", String::from_utf8_lossy(&body));

    kill_all(&mut world);
    assert_eq!(knocks(&world, 61500), REFUSED, "the kernel answers again");
    assert_eq!(reserved(&world), "61000-65535", "which only keeps the host from giving them away");
    world.start_daemon();
    until("what was left is mended", 5, || reserved(&world).is_empty().then_some(()));
    let _ = world.works(&["net-start", "natntw"]);
    assert_eq!(reserved(&world), "61000-65535");
    world.stop_daemon(Signal::TERM);
    assert_eq!((reserved(&world).as_str(), knocks(&world, 61500)), ("", REFUSED));
}
