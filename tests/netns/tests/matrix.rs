//! Every kind of port with every other, guests' offloads on and off: data arrives as it was sent, and nobody gets what it
//! did not agree to. Prints what each pair carries (`cargo test --test matrix -- --nocapture`).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use pontoon_netns_tests::{Plug, Setup, World, door, in_netns, xml};
use pontoon_vhost::Features;
use pontoon_vhost::features::{
    CSUM, CTRL_VQ, EVENT_IDX, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_USO, IN_ORDER, MQ, MRG_RXBUF, OFFERED,
    VERSION_1,
};

const KINDS: [&str; 5] = ["tap", "adopt", "stream", "dgram", "vhost"];
/// Octets of one transfer.
const BULK: usize = 1 << 20;
const PINGS: u32 = 25;
/// Smallest datagrams sent at once.
const SMALL: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(20);

/// What is sent, the same on both sides.
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..BULK).map(|_| next()).collect()
}

/// Gives the guest of a kind its interface `eth0` with the address 192.168.110.`number`.
fn plug(world: &World, kind: &str, number: usize) -> Option<Plug> {
    world.add_namespace(kind);
    let (ns, mac) = (world.ns(kind), format!("52:54:00:00:00:{number:02x}"));
    let mut plug = None;
    match kind {
        "tap" => world.attach(kind, "hostntw", "eth0", &mac),
        "adopt" => {
            let host = world.ns("host");
            world.ip(kind, &format!("link add eth0 address {mac} type veth peer name ad0 netns {host}"));
            world.ip(kind, "link set eth0 up");
            let words =
                ["attach-interface", kind, "network", "hostntw", "--kind", "adopt", "--target", "ad0"];
            let _ = world.works(&words);
        }
        "stream" => {
            world.add_plug(kind, "eth0", &mac);
            plug = Some(Plug::connect(&ns, "eth0", &door(world, "hostntw")));
        }
        "vhost" => {
            world.add_plug(kind, "eth0", &mac);
            let socket = world.path("card");
            let path = socket.to_string_lossy().into_owned();
            let words =
                ["attach-interface", kind, "network", "hostntw", "--kind", "vhostuser", "--socket", &path];
            let _ = world.works(&words);
            plug = Some(Plug::vhost_user(&ns, "eth0", &socket, agreed(true)));
        }
        _ => {
            world.add_plug(kind, "eth0", &mac);
            let (ours, theirs) = (world.path("ours"), world.path("theirs"));
            let (from, to) = (ours.to_string_lossy().into_owned(), theirs.to_string_lossy().into_owned());
            let words =
                ["attach-interface", kind, "network", "hostntw", "--kind", "dgram", "--socket", &from];
            let _ = world.works(&[&words[..], &["--peer", &to]].concat());
            plug = Some(Plug::dgram(&ns, "eth0", &theirs, &ours, b""));
        }
    }
    world.ip(kind, &format!("addr add 192.168.110.{number}/24 dev eth0"));
    plug
}

/// What the driver of a vhost-user card agrees to: all it can do, in a packed ring, or no offloads, in a split one.
fn agreed(offloads: bool) -> Features {
    Features(if offloads { OFFERED & !(CTRL_VQ | MQ | IN_ORDER) } else { VERSION_1 | MRG_RXBUF | EVENT_IDX })
}

/// Checksums, and segments where the kind has them, are left to the other side, or not.
fn offload(world: &World, kind: &str, plug: Option<&Plug>, on: bool) {
    if kind == "vhost" {
        plug.expect("a card").agree(agreed(on));
    }
    let state = if on { "on" } else { "off" };
    // A back-end without a virtio-net header is never given super-frames.
    let segments = if matches!(kind, "stream" | "dgram") { "off" } else { state };
    let words = ["ethtool", "-K", "eth0", "tx", state, "tso", segments, "gso", segments];
    let _ = world.exec(kind, &words).expect_ok("ethtool");
}

/// Sends the pattern from one to the other and a word to and fro; Mbit/s and microseconds.
fn transfer(world: &World, from: &str, to: &str, address: &str, data: &[u8]) -> Option<(u64, u64)> {
    let listener = in_netns(&world.ns(to), || TcpListener::bind((address, 0))).expect("listen");
    let place = listener.local_addr().expect("address");
    let server = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut word = [0; 4];
        for _ in 0..PINGS {
            stream.read_exact(&mut word)?;
            stream.write_all(&word)?;
        }
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        stream.write_all(b"done")?;
        Ok(got)
    });
    let client = || -> std::io::Result<(Duration, Duration)> {
        let mut stream = TcpStream::connect_timeout(&place, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let (began, mut word) = (Instant::now(), [0; 4]);
        for _ in 0..PINGS {
            stream.write_all(b"ping")?;
            stream.read_exact(&mut word)?;
        }
        let (pinged, began) = (began.elapsed(), Instant::now());
        stream.write_all(data)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut word)?;
        Ok((began.elapsed(), pinged))
    };
    let (bulk, pinged) = in_netns(&world.ns(from), client).ok()?;
    let got = server.join().ok()?.ok()?;
    let bits = (got.len() as u128 * 8) / bulk.as_micros().max(1);
    (got == data).then_some((bits as u64, pinged.as_micros() as u64 / u64::from(PINGS)))
}

/// How many of the smallest datagrams a second arrive, of those that do.
fn datagrams(world: &World, from: &str, to: &str, address: &str) -> u64 {
    let bind = |which: &str, place: &str| in_netns(&world.ns(which), || UdpSocket::bind((place, 0)));
    let (receiver, sender) = (bind(to, address).expect("bind"), bind(from, "0.0.0.0").expect("bind"));
    sender.connect(receiver.local_addr().expect("address")).expect("connect");
    receiver.set_read_timeout(Some(Duration::from_millis(15))).expect("timeout");
    let (began, mut last, mut count) = (Instant::now(), Duration::ZERO, 0);
    let sending = std::thread::spawn(move || (0..SMALL).for_each(|_| drop(sender.send(b"small"))));
    while count < SMALL && receiver.recv(&mut [0; 8]).is_ok() {
        (count, last) = (count + 1, began.elapsed());
    }
    sending.join().expect("sent");
    (u128::from(count) * 1_000_000 / last.as_micros().max(1)) as u64
}

/// Queues, and what is left to either side, as `net-port-list` shows it of a kind.
fn shown(world: &World, kind: &str) -> [String; 3] {
    let table = world.works(&["-q", "net-port-list", "hostntw", "--details"]);
    let row = table.lines().find(|line| line.split_whitespace().nth(4) == Some(kind));
    let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    [7, 8, 9].map(|place| words.get(place).copied().unwrap_or_default().to_owned())
}

/// What is agreed is shown for every kind; the driver of a card agrees again and again.
fn check_shown(world: &World, card: &Plug) {
    let all = "checksum,tso,uso";
    for (kind, queues, offloads) in [
        ("tap", "2", all),
        ("adopt", "2", all),
        ("stream", "1", "-"),
        ("dgram", "1", "-"),
        ("vhostuser", "1", all),
    ] {
        assert_eq!(shown(world, kind), [queues, offloads, offloads], "{kind}");
    }
    for (features, takes, sends) in [
        (VERSION_1 | CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6, "checksum,tso", "checksum"),
        (VERSION_1 | HOST_USO, "-", "-"),
    ] {
        card.agree(Features(features));
        assert_eq!(shown(world, "vhostuser"), ["1", takes, sends]);
    }
    card.agree(agreed(true));
}

#[test]
fn every_pair_carries_tcp_with_offloads_on_and_off() {
    let setup = Setup { workers: 2, unjudged: true, tools: &["ethtool"], ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let plugs: Vec<Option<Plug>> =
        KINDS.iter().zip(20..).map(|(kind, number)| plug(&world, kind, number)).collect();
    check_shown(&world, plugs[4].as_ref().expect("a card"));
    let data = pattern();
    let mut failed = Vec::new();
    println!("{:>8} {:>8} {:>9} {:>8} {:>8} {:>8}", "from", "to", "offloads", "Mbit/s", "small/s", "us");
    let mut states = [None; KINDS.len()];
    for offloads in [[true, true], [true, false], [false, true], [false, false]] {
        for (from, one) in KINDS.iter().enumerate() {
            for (to, other) in KINDS.iter().enumerate().filter(|(to, _)| *to != from) {
                for (number, on) in [from, to].into_iter().zip(offloads) {
                    if states[number].replace(on) != Some(on) {
                        offload(&world, KINDS[number], plugs[number].as_ref(), on);
                    }
                }
                let state = offloads.map(|on| if on { "on" } else { "off" }).join(",");
                let address = format!("192.168.110.{}", 20 + to);
                let Some((rate, pause)) = transfer(&world, one, other, &address, &data) else {
                    failed.push(format!("{one} to {other}, {state}"));
                    continue;
                };
                let small = datagrams(&world, one, other, &address);
                println!("{one:>8} {other:>8} {state:>9} {rate:>8} {small:>8} {pause:>8}");
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}\n{}", world.works(&["status"]));
    assert_eq!(world.drops("vnet_checksum") + world.drops("vnet_gso_size"), 0);
}
