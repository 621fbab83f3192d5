//! Guests that come, send some, and are gone in the middle of something, over and over: nobody else waits for it, and
//! nothing of them stays.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pontoon_netns_tests::{Setup, World, door, send_frame, until, xml};
use pontoon_vhost::Features;
use pontoon_vhost::driver::{Buffers, FrontEnd};
use pontoon_vhost::features::{EVENT_IDX, GUEST_CSUM, INDIRECT_DESC, MRG_RXBUF, RING_PACKED, VERSION_1};
use pontoon_wire::vnet;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::ftruncate;
use rustix::process::Signal;

/// Guests of each kind before memory is measured, and after that.
const BEFORE: [usize; 4] = [60, 20, 40, 40];
const ROUNDS: [usize; 4] = [500, 200, 150, 150];
const BUFFERS: Buffers = Buffers { size: 16, receive: 1600, send: 2048, pieces: 2 };
/// How much more memory a process may have at the end, in KB: buffers grow to the largest frames they have carried.
const SLACK: u64 = 6000;

/// Numbers that are the same in every run.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most) + 1).map(|_| self.below(256) as u8).collect()
    }

    /// A frame to everybody, of a type nobody knows.
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([0x52, 0x54, 0, 0xaa, 0, self.below(8) as u8, 0x88, 0xb5]);
        frame.extend(self.bytes(1400));
        frame
    }
}

/// Tries until somebody is there.
fn met<T>(what: &str, mut meet: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(met) = meet() {
            return met;
        }
        assert!(Instant::now() < deadline, "nobody answers: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A guest on a stream socket, which ends in the middle of a frame, with one that cannot be, or without reading.
fn stream(rng: &mut Rng, path: &Path) {
    let mut socket = met("stream", || UnixStream::connect(path).ok());
    for _ in 0..rng.below(4) {
        let frame = rng.frame();
        let _ = socket.write_all(&[&(frame.len() as u32).to_be_bytes()[..], &frame].concat());
    }
    let rest = rng.bytes(80);
    let _ = match rng.below(3) {
        0 => socket.write_all(&[&1000u32.to_be_bytes()[..], &rest].concat()),
        1 => socket.write_all(&rest),
        _ => Ok(()),
    };
}

/// A guest on a datagram socket.
fn dgram(rng: &mut Rng, here: &Path, there: &Path) {
    let _ = fs::remove_file(here);
    let socket = UnixDatagram::bind(here).expect("bind");
    let greet = || socket.connect(there).and_then(|()| socket.send(b"VFKT")).ok();
    let _ = met("dgram", greet);
    for _ in 0..rng.below(4) {
        let _ = match rng.below(3) {
            0 => socket.send(&rng.bytes(60)),
            _ => socket.send(&rng.frame()),
        };
    }
}

/// A guest with its front-end.
fn vhost(rng: &mut Rng, path: &Path) {
    match rng.below(8) {
        0 => drop(met("vhost-user", || UnixStream::connect(path).ok())),
        1 => {
            let mut socket = met("vhost-user", || UnixStream::connect(path).ok());
            let _ = socket.write_all(&rng.bytes(60));
        }
        kind => {
            let features = features(rng);
            let mut front = met("vhost-user", || FrontEnd::connect(path, features, BUFFERS).ok());
            work(rng, &mut front);
            end(rng, front, kind);
        }
    }
}

fn features(rng: &mut Rng) -> Features {
    let some = [EVENT_IDX, GUEST_CSUM, INDIRECT_DESC, MRG_RXBUF, RING_PACKED];
    Features(some.into_iter().filter(|_| rng.below(2) == 0).fold(VERSION_1, |all, one| all | one))
}

fn work(rng: &mut Rng, front: &mut FrontEnd) {
    for _ in 0..rng.below(8) {
        front.card.send(vnet::Header::default(), &rng.frame());
    }
    let _ = front.flush();
    let _ = front.receive(&mut vec![0; 4096], |_, _| ());
}

/// How it comes to its end.
fn end(rng: &mut Rng, mut front: FrontEnd, kind: usize) {
    match kind {
        2 => {
            let more = features(rng);
            if let Ok(mut front) = front.restart(more, BUFFERS) {
                work(rng, &mut front);
            }
            return;
        }
        3 | 4 => scribble(rng, &mut front),
        5 => drop(ftruncate(front.memory(), rng.below(2) as u64 * 4096)),
        6 => messages(rng, &front),
        // Killed while all is well.
        _ => {}
    }
    let _ = front.wake();
    if rng.below(2) == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The guest's memory, rings first of all, becomes anything.
fn scribble(rng: &mut Rng, front: &mut FrontEnd) {
    for _ in 0..rng.below(200) {
        let (bytes, at) = (rng.bytes(32), rng.below(4096) as u64);
        let _ = rustix::io::pwrite(front.memory(), &bytes, at);
        let _ = front.wake();
    }
}

fn messages(rng: &mut Rng, front: &FrontEnd) {
    for _ in 0..rng.below(20) {
        let (request, body) = (rng.below(42) as u32, rng.bytes(64));
        let event = eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
        let fds = [event.as_fd(), front.memory().as_fd()];
        let count = rng.below(3);
        if front.say(request, &body, &fds[..count]).is_err() {
            return;
        }
    }
}

/// What a process has: descriptors, and memory in KB.
#[derive(Clone, Copy, Debug)]
struct Holds {
    fds: usize,
    memory: u64,
}

fn holds(pid: u32) -> Holds {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("process").count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("process");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("VmRSS");
    Holds { fds, memory }
}

/// Guests of all kinds at once.
fn play(places: &Places, rounds: [usize; 4], seed: u64) {
    let run = |number: usize, one: &(dyn Fn(&mut Rng) + Sync)| {
        let mut rng = Rng(seed + number as u64);
        (0..rounds[number]).for_each(|_| one(&mut rng));
    };
    let Places { door, ours, theirs, cards: [card, other] } = places;
    std::thread::scope(|scope| {
        scope.spawn(|| run(0, &|rng| stream(rng, door)));
        scope.spawn(|| run(1, &|rng| dgram(rng, theirs, ours)));
        scope.spawn(|| run(2, &|rng| vhost(rng, card)));
        scope.spawn(|| run(3, &|rng| vhost(rng, other)));
    });
}

struct Places {
    door: PathBuf,
    ours: PathBuf,
    theirs: PathBuf,
    cards: [PathBuf; 2],
}

/// Whoever looks at it stops when the test ends, well or not.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many echoes of the summary of ping were lost, and the longest time of one in milliseconds.
fn echoes(said: &str) -> Option<(u32, f32)> {
    let line = said.lines().find(|line| line.contains("packets transmitted"))?;
    let mut counts = line.split(", ").filter_map(|part| part.split(' ').next()?.parse::<u32>().ok());
    let times = said.lines().find(|line| line.starts_with("rtt"))?.split('/').nth(5)?;
    Some((counts.next()?.checked_sub(counts.next()?)?, times.parse().ok()?))
}

/// Waits until all connections are forgotten: their interfaces are gone.
fn settled(world: &World) {
    until("who has gone is forgotten", 20, || {
        let ports = world.works(&["net-port-list", "hostntw", "--details"]);
        (!ports.contains("pid-")).then_some(())
    });
}

#[test]
fn a_thousand_guests_that_die_delay_nobody_and_leave_nothing() {
    let setup = Setup { workers: 2, unjudged: true, tools: &["ping"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let address = world.guest("g1", "hostntw", "eth0", "52:54:00:00:00:01");
    world.attach("g2", "hostntw", "eth0", "52:54:00:00:00:02");
    let places = Places {
        door: door(&world, "hostntw"),
        ours: world.path("ours"),
        theirs: world.path("theirs"),
        cards: ["card", "other"].map(|name| world.path(name)),
    };
    for (kind, socket) in
        [("dgram", &places.ours), ("vhostuser", &places.cards[0]), ("vhostuser", &places.cards[1])]
    {
        let path = socket.to_string_lossy().into_owned();
        let words = ["attach-interface", kind, "network", "hostntw", "--kind", kind, "--socket", &path];
        let _ = world.works(&words);
    }
    let quiet = AtomicBool::new(false);
    let processes = [world.daemon_pid(), world.datapaths()[0]];
    let mut ping = world.spawn("host", "ping", &["ping", "-n", "-q", "-i", "0.02", &address]);
    let ns = world.ns("g2");
    let (before, after) = std::thread::scope(|scope| {
        // There is always something for everybody: who does not take it is found out.
        scope.spawn(|| {
            let mut rng = Rng(1);
            while !quiet.load(Ordering::Relaxed) {
                send_frame(&ns, "eth0", &rng.frame());
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let _ends = Ends(&quiet);
        play(&places, BEFORE, 10);
        settled(&world);
        let before = processes.map(holds);
        let began = Instant::now();
        for i in 0..1 {
            play(&places, ROUNDS, 100 + i);
            settled(&world);
            println!("{:?}", processes.map(holds));
        }
        println!("{} guests in {:.1} s", ROUNDS.iter().sum::<usize>(), began.elapsed().as_secs_f32());
        settled(&world);
        (before, processes.map(holds))
    });
    println!("{before:?}, then {after:?}");
    for (before, after) in before.into_iter().zip(after) {
        // Those of a door that is just open or closed may differ.
        assert!(after.fds <= before.fds + 4, "descriptors are left");
        assert!(after.memory <= before.memory + SLACK, "memory is left");
    }
    ping.stop(Signal::INT);
    let (lost, longest) = echoes(&ping.said()).expect("a summary");
    assert!(lost <= 1 && longest < 1500.0, "somebody else waited: {}", ping.said());
    assert_eq!(world.datapaths(), [processes[1]], "it did not die");
}
