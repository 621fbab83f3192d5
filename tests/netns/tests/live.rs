//! Networks are redefined while traffic runs through them and beside them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pontoon_netns_tests::{Proc, Setup, World, in_netns, until, xml};
use rustix::process::Signal;
use serde_json::{Value, json};

const OUTSIDE: &str = "203.0.113.80";
const PATIENCE: Duration = Duration::from_secs(10);
/// Datagrams of one stream on their way: some 80 KB of a socket's 200.
const WINDOW: u64 = 64;
/// Redefinitions of the running network.
const CHANGES: usize = 500;

/// Counts of one stream of numbered datagrams that come back.
#[derive(Debug, Default)]
struct Echoes {
    sent: AtomicU64,
    back: AtomicU64,
}

impl Echoes {
    fn outstanding(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.back.load(Ordering::Relaxed))
    }
}

/// Answers every datagram in a namespace, and says when the sender's address is not the first one's.
fn serve_udp(netns: &str, address: &str, stop: &Arc<AtomicBool>, moved: &Arc<AtomicBool>) -> SocketAddr {
    let (stop, moved) = (Arc::clone(stop), Arc::clone(moved));
    in_netns(netns, || {
        let socket = UdpSocket::bind((address, 0)).expect("bind");
        let here = socket.local_addr().expect("address");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        thread::spawn(move || {
            let (mut buffer, mut first) = ([0; 2048], None);
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if *first.get_or_insert(from) != from {
                    moved.store(true, Ordering::Relaxed);
                }
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
        here
    })
}

/// Sends a datagram each millisecond until told to stop, and counts how many different ones come back. It waits while
/// `WINDOW` are on their way, so that none is lost in a socket whose reader gets no processor.
fn stream_udp(netns: &str, to: SocketAddr, stop: &Arc<AtomicBool>) -> (Arc<Echoes>, JoinHandle<()>) {
    let (echoes, stop) = (Arc::new(Echoes::default()), Arc::clone(stop));
    let counts = Arc::clone(&echoes);
    let thread = in_netns(netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        socket.connect(to).expect("connect");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("timeout");
        let back = socket.try_clone().expect("clone");
        let stopped = Arc::clone(&stop);
        let receive = {
            let counts = Arc::clone(&counts);
            move || {
                let (mut buffer, mut seen, mut last) = ([0; 2048], BTreeSet::new(), Instant::now());
                loop {
                    match back.recv(&mut buffer) {
                        Ok(_) => {
                            let number =
                                buffer.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                            // A flow that changes its queue may overtake itself; nothing may come twice.
                            assert!(seen.insert(number), "{number} came again");
                            counts.back.fetch_add(1, Ordering::Relaxed);
                            last = Instant::now();
                        }
                        Err(_) if !stopped.load(Ordering::Relaxed) => {}
                        Err(_) if counts.outstanding() == 0 || last.elapsed() > PATIENCE => return,
                        Err(_) => {}
                    }
                }
            }
        };
        let receiver = thread::spawn(receive);
        thread::spawn(move || {
            let mut bytes = [0; 200];
            while !stop.load(Ordering::Relaxed) {
                bytes[..8].copy_from_slice(&counts.sent.load(Ordering::Relaxed).to_be_bytes());
                if counts.outstanding() < WINDOW && socket.send(&bytes).is_ok() {
                    counts.sent.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
            receiver.join().expect("the receiver");
        })
    });
    (echoes, thread)
}

/// Sends back what comes, on each connection.
fn serve_echo(netns: &str, address: &str) -> SocketAddr {
    in_netns(netns, || {
        let listener = TcpListener::bind((address, 0)).expect("listen");
        let here = listener.local_addr().expect("address");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut buffer = [0; 65536];
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..length]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        here
    })
}

/// One connection that carries numbered blocks there and back until told to stop; returns how many bytes it carried.
fn stream_tcp(netns: &str, to: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<std::io::Result<u64>> {
    let stop = Arc::clone(stop);
    in_netns(netns, || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("connect");
        thread::spawn(move || {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let (mut carried, mut block, mut back) = (0u64, vec![0; 20_000], vec![0; 20_000]);
            while !stop.load(Ordering::Relaxed) {
                block[..8].copy_from_slice(&carried.to_be_bytes());
                stream.write_all(&block)?;
                stream.read_exact(&mut back)?;
                assert!(back == block, "the stream came back changed");
                carried += block.len() as u64;
            }
            Ok(carried)
        })
    })
}

/// A bulk transfer and a ping between two namespaces, from outside this process.
struct Tools {
    server: Proc,
    client: Proc,
    ping: Proc,
}

impl Tools {
    /// The transfer has a small window: what it sends is never too much for a queue.
    fn start(world: &World, from: &str, to: &str, address: &str) -> Self {
        let words = ["iperf3", "-s", "-1", "--forceflush", "-B", address];
        let mut server = world.spawn(to, &format!("iperf3-{to}"), &words);
        server.wait_said("Server listening", 10);
        let words = ["iperf3", "-c", address, "-t", "600", "-w", "128K", "-b", "100M", "-J"];
        let client = world.spawn(from, &format!("iperf3-{from}"), &words);
        let mut ping = world.spawn(from, &format!("ping-{from}"), &["ping", "-n", "-i", "0.01", address]);
        ping.wait_said("icmp_seq=1 ", 10);
        Self { server, client, ping }
    }

    /// Ends them; how many bytes were carried, and how many pings were answered. None between them was lost.
    fn end(mut self) -> (u64, u64) {
        self.ping.stop(Signal::INT);
        self.client.stop(Signal::INT);
        self.server.stop(Signal::INT);
        let report: Value = serde_json::from_str(&self.client.said()).expect("iperf3's report");
        // That it was told to end is the only error.
        assert!(report["error"].as_str().is_some_and(|error| error.starts_with("interrupt")), "{report}");
        let said = self.ping.said();
        let numbers =
            said.lines().filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok());
        let count = numbers.fold(0, |last: u64, number: u64| {
            assert_eq!(number, last + 1, "a ping was lost\n{said}");
            number
        });
        (report["end"]["sum_sent"]["bytes"].as_u64().unwrap_or(0), count)
    }
}

/// The network of the test as it is in round `round`: every part that can change live takes its turn.
fn definition(round: usize) -> String {
    let one_of =
        |part: usize, off: &str, on: &str| if (round >> part) & 1 == 0 { off } else { on }.to_owned();
    let host = format!("<host mac='52:54:00:0a:00:{:02x}' name='h{round}' ip='192.168.100.7'/>", round % 256);
    format!(
        "<network><name>natntw</name><title>round {round}</title>
         <forward mode='nat'><nat><port start='1024' end='{}'/></nat></forward>{}
         <bridge name='virbr1' stp='on' delay='0'/><mtu size='{}'/><domain name='{}' localOnly='{}'/>
         <dns{}><txt name='round' value='{round}'/>
           <host ip='192.168.100.9'><hostname>fixed{round}</hostname></host></dns>
         <ip address='192.168.100.1' netmask='255.255.255.0'><dhcp>
           <range start='192.168.100.10' end='{}'>{}</range>{}</dhcp></ip></network>",
        one_of(0, "65535", "60000"),
        xml::UPLINK,
        one_of(1, "1500", "1600"),
        one_of(2, "lab", "home"),
        one_of(3, "yes", "no"),
        one_of(4, "", " forwardPlainNames='no'"),
        one_of(0, "192.168.100.254", "192.168.100.200"),
        one_of(5, "", "<lease expiry='2' unit='hours'/>"),
        one_of(1, "", &host),
    )
}

/// An element that comes, changes and goes between two definitions: in what runs, in every other round of them in
/// what is kept as well.
fn update(round: usize) -> Value {
    let (block, step) = (round / 4, round % 4);
    let (section, commands) = match block % 2 {
        0 => ("ip-dhcp-host", ["", "add-last", "modify", "delete"]),
        _ => ("dns-host", ["", "add-last", "delete", "add-first"]),
    };
    let xml = match (section, step) {
        ("dns-host", _) => format!("<host ip='192.168.100.6'><hostname>u{block}</hostname></host>"),
        (_, 3) => "<host mac='52:54:00:0b:00:01' ip='192.168.100.8'/>".to_owned(),
        _ => format!("<host mac='52:54:00:0b:00:01' name='u{round}' ip='192.168.100.8'/>"),
    };
    let affect = json!({ "live": true, "config": block % 4 > 1 });
    json!({ "network": "natntw", "command": commands[step], "section": section, "xml": xml, "affect": affect })
}

#[test]
fn redefinitions_under_traffic_lose_nothing_of_others_and_break_no_session() {
    let setup = Setup { workers: 2, unjudged: true, tools: &["iperf3", "ping"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &definition(0));
    world.start_network("hostntw", &xml::hostntw());
    for guest in ["g3", "g4"] {
        world.add_namespace(guest);
    }
    let addresses: Vec<String> = [("g1", "natntw"), ("g2", "natntw"), ("g3", "hostntw"), ("g4", "hostntw")]
        .iter()
        .enumerate()
        .map(|(at, (guest, network))| world.guest(guest, network, "eth0", &format!("52:54:00:d7:8d:6{at}")))
        .collect();
    let [stop, over, moved] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
    let [g1, g2, g3, net] = ["g1", "g2", "g3", "net"].map(|which| world.ns(which));
    let beside = serve_udp(&world.ns("g4"), &addresses[3], &over, &moved);
    let (beside, beside_thread) = stream_udp(&g3, beside, &stop);
    let outside = serve_udp(&net, OUTSIDE, &over, &moved);
    let (outside, outside_thread) = stream_udp(&g1, outside, &stop);
    let streams = [(&g1, &net, OUTSIDE), (&g1, &g2, addresses[1].as_str())]
        .map(|(from, to, address)| stream_tcp(from, serve_echo(to, address), &stop));

    let tools = [("g3", "g4", addresses[3].as_str()), ("g1", "net", OUTSIDE)]
        .map(|(from, to, address)| Tools::start(&world, from, to, address));

    let mut api = world.api();
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    for round in 1..=CHANGES {
        let asked = Instant::now();
        let reply = match round % 4 {
            0 => api.call("net-define", &json!({ "xml": definition(round) })),
            _ => api.call("net-update", &update(round)),
        };
        slowest = slowest.max(asked.elapsed());
        assert_eq!(reply["warnings"], json!([]), "{reply}");
    }
    let each = start.elapsed() / u32::try_from(CHANGES).expect("a count");
    stop.store(true, Ordering::Relaxed);
    for thread in [beside_thread, outside_thread] {
        thread.join().expect("datagrams");
    }
    // Not before: what is on its way is answered.
    over.store(true, Ordering::Relaxed);
    let carried = streams.map(|stream| stream.join().expect("stream").expect("an unbroken session"));
    let tools = tools.map(Tools::end);
    let loss = Echoes::outstanding;
    println!(
        "{CHANGES} changes, {each:?} each, {slowest:?} at most; datagrams lost: {} of {} beside, {} of {} through it; TCP carried {carried:?}; \
         iperf3 and ping {tools:?}",
        loss(&beside),
        beside.sent.load(Ordering::Relaxed),
        loss(&outside),
        outside.sent.load(Ordering::Relaxed),
    );
    assert!(beside.sent.load(Ordering::Relaxed) > 100 && carried.iter().all(|bytes| *bytes > 1_000_000));
    assert!(tools.iter().all(|(bytes, pings)| *bytes > 1_000_000 && *pings > 100), "{tools:?}");
    assert_eq!(loss(&beside), 0, "another network lost frames");
    assert_eq!(loss(&outside), 0, "nothing concerned the session's frames");
    assert!(!moved.load(Ordering::Relaxed), "a session changed its external port");
    let dump = world.works(&["net-dumpxml", "natntw"]);
    assert!(dump.contains(&format!("<title>round {CHANGES}</title>")), "{dump}");
    let leases = world.works(&["net-dhcp-leases", "natntw"]);
    assert!(addresses[..2].iter().all(|address| leases.contains(address.as_str())), "{leases}");
}

#[test]
fn what_only_runs_outlives_control_and_datapath_but_not_the_network() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let host = "<host mac='52:54:00:00:00:01' ip='192.168.100.77'/>";
    let words = ["net-update", "natntw", "add", "ip-dhcp-host", host, "--live"];
    let said = world.works(&words);
    assert_eq!(said, "Updated network natntw live state\n");
    let shown = |world: &World| {
        let dump = |words: &[&str]| world.works(&[&["net-dumpxml", "natntw"], words].concat()).contains(host);
        (dump(&[]), dump(&["--inactive"]))
    };
    assert_eq!(shown(&world), (true, false));
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    assert_eq!(shown(&world), (true, false), "control was replaced");
    let pids = world.datapaths();
    for pid in &pids {
        let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, Signal::KILL).expect("kill");
    }
    until("it is gone", 10, || world.datapaths().iter().all(|pid| !pids.contains(pid)).then_some(()));
    until("another datapath runs", 10, || world.pontoon(&["status"]).ok().then_some(()));
    assert_eq!(world.guest("g1", "natntw", "eth0", "52:54:00:00:00:01"), "192.168.100.77");
    let _ = world.works(&["net-destroy", "natntw"]);
    let _ = world.works(&["net-start", "natntw"]);
    assert_eq!(shown(&world), (false, false), "and the network was stopped");
}
