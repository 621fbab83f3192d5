//! What is merged on its way reaches the receiving kernel as what was sent, and its counters agree.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use pontoon_netns_tests::{Faults, Setup, Wire, World, in_netns, send_frames, xml};
use rustix::net::SendFlags;
use rustix::process::{Pid, Signal, kill_process};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const ONE: Ipv4Addr = Ipv4Addr::new(192, 168, 110, 21);
const TWO: Ipv4Addr = Ipv4Addr::new(192, 168, 110, 22);
const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(20);

/// FNV-1a, 64 bits.
fn digest(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A counter of the kernel of a namespace: `protocol` and `name` as in /proc/net/snmp.
fn counter(world: &World, which: &str, protocol: &str, name: &str) -> u64 {
    let text = in_netns(&world.ns(which), || fs::read_to_string("/proc/thread-self/net/snmp")).expect("snmp");
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let of = |(key, value): (&str, &str)| (key == name).then(|| value.parse().expect("a number"));
    names.split(' ').zip(values.split(' ')).find_map(of).unwrap_or_else(|| panic!("{protocol} {name}"))
}

/// Frames the kernel got from an interface; a super-frame counts once.
fn received(world: &World, which: &str, dev: &str) -> u64 {
    let read = || fs::read_to_string("/proc/thread-self/net/dev");
    let text = in_netns(&world.ns(which), read).expect("devices");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{dev}:")));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)).expect("packets");
    packets.parse().expect("a number")
}

/// Guest 2 on the network, and the end of a wire that guest 1 or the test itself sends into.
fn world(tools: &'static [&'static str]) -> Option<World> {
    // Wrong checksums and overlapping segments are what these tests are about.
    let world = World::new(&Setup { tools, unjudged: true, ..Setup::default() })?;
    world.start_network("hostntw", &xml::hostntw());
    world.add_namespace("wire");
    world.attach("wire", "hostntw", "lan", MAC1);
    world.attach("g2", "hostntw", "eth0", MAC2);
    world.ip("g2", &format!("addr add {TWO}/24 dev eth0"));
    Some(world)
}

/// A datagram of guest 1, with what may be odd about it.
#[derive(Clone, Copy)]
struct Datagram {
    id: u16,
    df: bool,
    ttl: u8,
    tos: u8,
    source: u16,
    length: usize,
    number: u32,
    checksum: Checksum,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Right,
    Wrong,
    Absent,
}

impl Datagram {
    fn payload(&self) -> Vec<u8> {
        let number = self.number.to_be_bytes();
        number
            .iter()
            .copied()
            .chain((0..).map(|at: u32| (at * 7 + self.number) as u8))
            .take(self.length)
            .collect()
    }

    fn frame(&self) -> Vec<u8> {
        let payload = self.payload();
        let length = (payload.len() + 8) as u16;
        let mut frame = [mac(MAC2), mac(MAC1)].concat();
        frame.extend([8, 0, 0x45, self.tos]);
        frame.extend((length + 20).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, 17, 0, 0]);
        frame.extend([ONE.octets(), TWO.octets()].concat());
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame.extend(self.source.to_be_bytes());
        frame.extend(PORT.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&payload);
        let pseudo = [&frame[26..34], &[0, 17], &length.to_be_bytes()[..], &frame[34..]].concat();
        let sum = match (self.checksum, checksum(&pseudo)) {
            (Checksum::Absent, _) => 0,
            (Checksum::Wrong, sum) => sum ^ 0x0101,
            (Checksum::Right, 0) => 0xffff,
            (Checksum::Right, sum) => sum,
        };
        frame[40..42].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

fn mac(text: &str) -> Vec<u8> {
    text.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("hex")).collect()
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Runs of datagrams that could be merged, and oddities between them.
fn datagrams() -> Vec<Datagram> {
    let plain = Datagram {
        id: 1,
        df: true,
        ttl: 64,
        tos: 0,
        source: 6000,
        length: 100,
        number: 0,
        checksum: Checksum::Right,
    };
    let odd: [fn(&mut Datagram); 13] = [
        |_| {},
        |datagram| datagram.length = 1000,
        |datagram| datagram.length = 4,
        |datagram| datagram.id = 0,
        |datagram| (datagram.id, datagram.df) = (0, false),
        |datagram| datagram.id = datagram.id.wrapping_mul(7919),
        |datagram| datagram.df = false,
        |datagram| datagram.ttl = 63,
        |datagram| datagram.tos = 3,
        |datagram| datagram.source = 6001,
        |datagram| datagram.checksum = Checksum::Wrong,
        |datagram| datagram.checksum = Checksum::Absent,
        |datagram| datagram.length = 4 + datagram.number as usize % 60,
    ];
    let mut all = Vec::new();
    for round in 0..52usize {
        for step in 0..12u16 {
            let mut datagram = plain;
            (datagram.id, datagram.number) = (plain.id + all.len() as u16, all.len() as u32);
            // Whole runs of one oddity, and single ones within plain runs.
            if round % 2 == 0 || step % 5 == 3 {
                odd[(round / 2) % odd.len()](&mut datagram);
            }
            all.push(datagram);
        }
    }
    all
}

#[test]
fn datagrams_arrive_one_by_one_in_order_and_wrong_ones_are_refused_by_the_receiver() {
    let Some(mut world) = world(&[]) else { return };
    let socket = in_netns(&world.ns("g2"), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))).expect("bind");
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).expect("room for all");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let given = datagrams();
    let frames: Vec<Vec<u8>> = given.iter().map(Datagram::frame).collect();
    let [datapath] = world.datapaths()[..] else { panic!("one datapath") };
    let datapath = Pid::from_raw(datapath.cast_signed()).expect("pid");
    let before = received(&world, "g2", "eth0");
    // Stopped meanwhile, so that there are frames to merge whatever the speed of the machine.
    kill_process(datapath, Signal::STOP).expect("stop");
    send_frames(&world.ns("wire"), "lan", frames.iter().map(Vec::as_slice));
    kill_process(datapath, Signal::CONT).expect("go on");
    let mut buffer = [0; 2000];
    for datagram in given.iter().filter(|datagram| datagram.checksum != Checksum::Wrong) {
        let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
        assert_eq!(from, SocketAddr::from((ONE, datagram.source)), "datagram {}", datagram.number);
        assert_eq!(&buffer[..length], datagram.payload(), "datagram {}", datagram.number);
    }
    let wrong = given.iter().filter(|datagram| datagram.checksum == Checksum::Wrong).count() as u64;
    assert_eq!(counter(&world, "g2", "Udp", "InCsumErrors"), wrong);
    assert_eq!(counter(&world, "g2", "Udp", "InDatagrams"), given.len() as u64 - wrong);
    assert_eq!(counter(&world, "g2", "Ip", "InHdrErrors"), 0);
    let frames = received(&world, "g2", "eth0") - before;
    println!("{} datagrams arrived in {frames} frames", given.len());
    assert!(frames * 2 < given.len() as u64, "most are merged: {frames} of {}", given.len());
}

/// What one transfer is like.
#[derive(Clone, Copy)]
struct Transfer {
    name: &'static str,
    faults: Faults,
    sysctls: &'static [(&'static str, &'static str)],
    octets: usize,
    /// Octets of each write; whole buffers when 0.
    writes: usize,
    /// What the receiver says it takes in one segment.
    mss: u16,
    urgent: bool,
    /// The receiver begins late and has little room.
    slow: bool,
}

const CLEAN: Faults = Faults { lost: 0, repeated: 0, late: 0, marked: 0 };
const BAD: Faults = Faults { lost: 10, repeated: 20, late: 30, marked: 0 };
const PLAIN: Transfer = Transfer {
    name: "clean",
    faults: CLEAN,
    sysctls: &[],
    octets: 4_000_000,
    writes: 0,
    mss: 1460,
    urgent: false,
    slow: false,
};

fn transfers() -> Vec<Transfer> {
    vec![
        PLAIN,
        Transfer { name: "loss, repetition, reordering", faults: BAD, ..PLAIN },
        Transfer { name: "tiny segments", mss: 100, octets: 200_000, ..PLAIN },
        Transfer { name: "tiny writes", writes: 37, octets: 100_000, faults: BAD, ..PLAIN },
        Transfer { name: "urgent data", urgent: true, octets: 500_000, writes: 3000, ..PLAIN },
        Transfer {
            name: "no timestamps, no SACK",
            sysctls: &[("tcp_timestamps", "0"), ("tcp_sack", "0")],
            faults: Faults { lost: 2, ..BAD },
            octets: 1_000_000,
            ..PLAIN
        },
        Transfer {
            name: "ECN",
            sysctls: &[("tcp_ecn", "1")],
            faults: Faults { marked: 30, ..CLEAN },
            ..PLAIN
        },
        Transfer { name: "zero windows", slow: true, octets: 500_000, ..PLAIN },
        Transfer { name: "no don't-fragment", sysctls: &[("ip_no_pmtu_disc", "1")], faults: BAD, ..PLAIN },
    ]
}

/// Guest 1 behind a wire with faults, its segments cut by its own kernel.
fn connect_guest(world: &World) {
    world.ip("wire", &format!("link add v0 type veth peer name eth0 netns {}", world.ns("g1")));
    world.ip("wire", "link set v0 up");
    world.ip("g1", &format!("link set eth0 address {MAC1} up"));
    world.ip("g1", &format!("addr add {ONE}/24 dev eth0"));
    let off = ["ethtool", "-K", "eth0", "tso", "off", "gso", "off"];
    let _ = world.exec("g1", &off).expect_ok("ethtool");
    let off = ["ethtool", "-K", "v0", "gro", "off"];
    let _ = world.exec("wire", &off).expect_ok("ethtool");
}

fn set(world: &World, which: &str, sysctls: &[(&str, &str)]) -> Vec<(String, String)> {
    let change = |(key, value): &(&str, &str)| {
        let path = format!("/proc/sys/net/ipv4/{key}");
        let old = fs::read_to_string(&path).expect("sysctl");
        fs::write(&path, value).expect("sysctl");
        ((*key).to_owned(), old.trim().to_owned())
    };
    in_netns(&world.ns(which), || sysctls.iter().map(change).collect())
}

/// Sends a pattern and returns its digest, which the receiver's has to equal.
fn send(stream: &mut TcpStream, transfer: &Transfer) -> u64 {
    let data: Vec<u8> = (0..transfer.octets).map(|at| (at * 31 + at / 251) as u8).collect();
    let size = if transfer.writes == 0 { 1 << 16 } else { transfer.writes };
    stream.set_nodelay(transfer.writes > 0).expect("nodelay");
    for (index, piece) in data.chunks(size).enumerate() {
        let (last, front) = piece.split_last().expect("octets");
        if transfer.urgent && index % 5 == 0 {
            stream.write_all(front).expect("write");
            let sent = rustix::net::send(stream.as_fd(), &[*last], SendFlags::OOB).expect("urgent octet");
            assert_eq!(sent, 1);
        } else {
            stream.write_all(piece).expect("write");
        }
    }
    stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
    digest(0, &data)
}

fn receive(listener: &TcpListener, transfer: Transfer) -> (usize, u64) {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    rustix::net::sockopt::set_socket_oobinline(&stream, true).expect("urgent octets in line");
    let (mut count, mut state, mut buffer) = (0, 0, vec![0; 1 << 16]);
    loop {
        // The window closes again and again: the point is that the sender waits for this reader.
        if transfer.slow && count % 50_000 < 2000 {
            thread::sleep(Duration::from_millis(5));
        }
        let room = if transfer.slow { 1500 } else { buffer.len() };
        match stream.read(&mut buffer[..room]).expect("octets in time") {
            0 => return (count, state),
            length => {
                count += length;
                state = digest(state, &buffer[..length]);
            }
        }
    }
}

fn one_transfer(world: &World, transfer: Transfer) -> (u64, u64) {
    let old: Vec<_> = ["g1", "g2"].map(|which| (which, set(world, which, transfer.sysctls))).into();
    let mss = transfer.mss;
    world.ip("g2", &format!("route replace 192.168.110.0/24 dev eth0 src {TWO} advmss {mss}"));
    let wire = Wire::new(&world.ns("wire"), "v0", "lan", transfer.faults);
    let before = received(world, "g2", "eth0");
    let listener = in_netns(&world.ns("g2"), || TcpListener::bind((TWO, PORT))).expect("listen");
    if transfer.slow {
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8192).expect("buffer");
    }
    let receiver = thread::spawn(move || receive(&listener, transfer));
    let sent = in_netns(&world.ns("g1"), || {
        let mut stream = TcpStream::connect((TWO, PORT)).expect("connect");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        send(&mut stream, &transfer)
    });
    let (count, got) = receiver.join().expect("receiver");
    assert_eq!((count, got), (transfer.octets, sent), "{}", transfer.name);
    for (which, old) in &old {
        let old: Vec<(&str, &str)> = old.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        set(world, which, &old);
    }
    (wire.carried(), received(world, "g2", "eth0") - before)
}

#[test]
fn streams_arrive_whole_over_a_bad_wire() {
    let Some(world) = world(&["ethtool"]) else { return };
    connect_guest(&world);
    let mut sum = (0, 0);
    for transfer in transfers() {
        let (carried, arrived) = one_transfer(&world, transfer);
        println!("{}: {carried} segments arrived in {arrived} frames", transfer.name);
        sum = (sum.0 + carried, sum.1 + arrived);
    }
    for (protocol, name) in [("Tcp", "InErrs"), ("Tcp", "InCsumErrors"), ("Ip", "InHdrErrors")] {
        assert_eq!(counter(&world, "g2", protocol, name), 0, "{protocol} {name}");
    }
    assert!(sum.1 * 10 < sum.0 * 9, "some are merged: {} segments in {} frames", sum.0, sum.1);
}
