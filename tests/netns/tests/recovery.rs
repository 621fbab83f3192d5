//! A datapath that dies under open connections: its successor has the same devices and the same sessions.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pontoon_netns_tests::{Setup, World, in_netns, until, xml};
use rustix::process::Signal;

const MAC1: &str = "52:54:00:d7:8d:61";
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80)), 7);
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that are silent while the datapath is gone.
const SILENT: usize = 50;
/// Between two messages of the connection that is not.
const PACE: Duration = Duration::from_millis(2);
/// TCP sends again after 200 ms at the soonest, and may have to do so twice.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// An echo server in a namespace; it ends with the test's process.
fn serve_echo(netns: &str) {
    in_netns(netns, || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVER.port())).expect("listen");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        });
    });
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(bytes.get(..count).unwrap_or_default())?;
    }
}

fn connect(netns: &str) -> TcpStream {
    let stream = in_netns(netns, || TcpStream::connect_timeout(&SERVER, PATIENCE)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

fn still_works(mut stream: &TcpStream, word: &[u8; 4]) -> bool {
    let mut answer = [0; 4];
    stream.write_all(word).and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *word
}

/// A connection that sends numbers all the time and wants each of them back, in order.
struct Talk {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    /// Numbers that came back and the longest time none did.
    reader: JoinHandle<(u64, Duration)>,
}

impl Talk {
    fn start(stream: TcpStream) -> Self {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writer = stream.try_clone().expect("clone");
        let ended = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let mut number = 0u64;
            while !ended.load(Ordering::Relaxed) {
                writer.write_all(&number.to_be_bytes()).expect("the connection lives");
                number += 1;
                thread::sleep(PACE);
            }
            writer.shutdown(std::net::Shutdown::Write).expect("the connection lives");
            number
        });
        let count = Arc::clone(&heard);
        let reader = thread::spawn(move || hear(stream, &count));
        Self { stop, heard, sender, reader }
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits until `more` numbers have come back.
    fn goes_on(&self, more: u64) {
        let before = self.heard();
        until("the connection goes on", 20, || (self.heard() >= before + more).then_some(()));
    }

    fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("sender");
        let (heard, gap) = self.reader.join().expect("reader");
        assert_eq!(heard, sent, "every number came back");
        gap
    }
}

fn hear(mut stream: TcpStream, count: &AtomicU64) -> (u64, Duration) {
    let (mut number, mut last, mut gap) = (0u64, Instant::now(), Duration::ZERO);
    let mut bytes = [0; 8];
    while stream.read_exact(&mut bytes).is_ok() {
        assert_eq!(u64::from_be_bytes(bytes), number, "in order");
        gap = gap.max(last.elapsed());
        last = Instant::now();
        number += 1;
        count.store(number, Ordering::Relaxed);
    }
    (number, gap)
}

fn kill_datapath(world: &mut World) {
    let before = world.datapaths();
    let pid = before.first().and_then(|pid| i32::try_from(*pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a datapath");
    rustix::process::kill_process(pid, Signal::KILL).expect("kill");
    until("another datapath runs", 10, || {
        let now = world.datapaths();
        (!now.is_empty() && now != before).then_some(())
    });
}

/// Connections through NAT before and after `disturb`; the longest time the busy one was silent.
fn connections_survive(workers: u16, disturb: impl FnOnce(&mut World)) -> Option<Duration> {
    let mut world = World::new(&Setup { workers, tools: &["ping"], ..Setup::default() })?;
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    serve_echo(&world.ns("net"));
    let guest = world.ns("g1");
    let silent: Vec<TcpStream> = (0..SILENT).map(|_| connect(&guest)).collect();
    assert!(silent.iter().all(|stream| still_works(stream, b"here")));
    let talk = Talk::start(connect(&guest));
    // A datapath that dies in its first second is not replaced before that is over.
    talk.goes_on(500);
    disturb(&mut world);
    talk.goes_on(200);
    let dead = silent.iter().filter(|stream| !still_works(stream, b"also")).count();
    assert_eq!(dead, 0, "connections that did not survive");
    assert!(world.pings("host", &address) && world.pings("g1", "203.0.113.80"));
    let gap = talk.finish();
    assert!(gap < LONGEST_GAP, "silent for {gap:?}");
    Some(gap)
}

fn datapath_killed(workers: u16) {
    if let Some(gap) = connections_survive(workers, kill_datapath) {
        println!("{workers} workers, datapath killed: the connection was silent for {} ms", gap.as_millis());
    }
}

#[test]
fn connections_survive_the_datapath_with_one_worker() {
    datapath_killed(1);
}

#[test]
fn connections_survive_the_datapath_with_two_workers() {
    datapath_killed(2);
}

#[test]
fn connections_survive_control_and_then_the_datapath_it_took_over() {
    let both = |world: &mut World| {
        world.stop_daemon(Signal::KILL);
        world.start_daemon();
        kill_datapath(world);
        assert!(world.works(&["brctl", "show", "virbr1"]).contains("eth0"), "the guest's port is known");
    };
    if let Some(gap) = connections_survive(2, both) {
        println!("control, then datapath killed: the connection was silent for {} ms", gap.as_millis());
    }
}

#[test]
fn a_datapath_that_was_taken_over_ends_with_its_new_control() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let before = world.datapaths();
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    assert_eq!(world.datapaths(), before);
    let pid = before.first().and_then(|pid| i32::try_from(*pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a datapath");
    // It does not even hear the request to end.
    rustix::process::kill_process(pid, Signal::STOP).expect("stop");
    world.stop_daemon(Signal::TERM);
    assert!(world.datapaths().is_empty(), "a datapath that does not end is killed");
    assert!(!world.ip("host", "-o link show").contains("virbr1"));
}

#[test]
fn a_datapath_that_does_not_answer_is_replaced() {
    let Some(mut world) = World::new(&Setup::default()) else { return };
    world.start_network("natntw", &xml::natntw());
    let _ = world.works(&["net-autostart", "natntw"]);
    let before = world.datapaths();
    let pid = before.first().and_then(|pid| i32::try_from(*pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a datapath");
    world.stop_daemon(Signal::KILL);
    // Not before: the kernel wakes a stopped process whose parent ends.
    rustix::process::kill_process(pid, Signal::STOP).expect("stop");
    world.start_daemon();
    let after = world.datapaths();
    assert!(after.len() == 1 && after != before, "{before:?}, {after:?}");
    assert_eq!(world.works(&["net-list", "--name"]), "natntw\n");
}

#[test]
fn a_network_whose_uplink_is_gone_at_a_takeover_stays_and_gets_it_back() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    assert!(world.pings("g1", "203.0.113.80"));
    world.stop_daemon(Signal::KILL);
    world.ip("host", "link del up0");
    world.start_daemon();
    assert_eq!(world.works(&["net-list", "--name"]), "natntw\n");
    assert!(world.pings("host", &address), "the network still switches");
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    assert_eq!(world.works(&["net-list", "--name"]), "natntw\n", "also when it was known to have failed");
    world.add_uplink();
    until("the uplink works again", 15, || world.pings("g1", "203.0.113.80").then_some(()));
}
