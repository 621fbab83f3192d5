//! Every kind of port with every other, guests' offloads on and off: data arrives as it was sent, and nobody gets what it
//! did not agree to. Prints what each pair carries (`cargo test --test matrix -- --nocapture`).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pontoon_netns_tests::{Plug, Setup, World, door, in_netns, xml};

const KINDS: [&str; 4] = ["tap", "adopt", "stream", "dgram"];
/// Octets of one transfer.
const BULK: usize = 1 << 20;
const PINGS: u32 = 50;
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

/// Checksums, and segments where the kind has them, are left to the other side, or not.
fn offload(world: &World, kind: &str, on: bool) {
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

#[test]
fn every_pair_carries_tcp_with_offloads_on_and_off() {
    let setup = Setup { workers: 2, unjudged: true, tools: &["ethtool"], ..Setup::default() };
    let Some(world) = World::new(&setup) else { return };
    world.start_network("hostntw", &xml::hostntw());
    let _plugs: Vec<Option<Plug>> =
        KINDS.iter().zip(20..).map(|(kind, number)| plug(&world, kind, number)).collect();
    let data = pattern();
    let mut failed = Vec::new();
    println!("{:>8} {:>8} {:>9} {:>8} {:>8}", "from", "to", "offloads", "Mbit/s", "us");
    for offloads in [[true, true], [true, false], [false, true], [false, false]] {
        for (from, one) in KINDS.iter().enumerate() {
            for (to, other) in KINDS.iter().enumerate().filter(|(to, _)| *to != from) {
                offload(&world, one, offloads[0]);
                offload(&world, other, offloads[1]);
                let state = offloads.map(|on| if on { "on" } else { "off" }).join(",");
                match transfer(&world, one, other, &format!("192.168.110.{}", 20 + to), &data) {
                    Some((rate, pause)) => println!("{one:>8} {other:>8} {state:>9} {rate:>8} {pause:>8}"),
                    None => failed.push(format!("{one} to {other}, {state}")),
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}\n{}", world.works(&["status"]));
    assert_eq!(world.drops("vnet_checksum") + world.drops("vnet_gso_size"), 0);
}
