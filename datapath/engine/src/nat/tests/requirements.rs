//! Requirements that no other test shows.

use super::*;

const PAYLOADS: [&[u8]; 4] = [
    b"PORT 192,168,122,11,4,1\r\n",
    b"227 Entering Passive Mode (192,168,122,11,4,1).\r\n",
    b"REGISTER sip:x SIP/2.0\r\nContact: <sip:a@192.168.122.11:1025>\r\nContent-Length: 0\r\n\r\n",
    b"PRIVMSG x :\x01DCC SEND a 3232266763 1025 1\x01\r\n",
];

//= RFC4787#REQ-10, RFC5382#REQ-6, ours#slipstream type=test
#[test]
fn payloads_stay_as_they_are_and_open_nothing() {
    for (remote, payload) in [21, 21, 5060, 6667].into_iter().zip(PAYLOADS) {
        let mut bench = Bench::new(16);
        let from = (GUEST, 40000);
        bench.out(&mut tcp(from, (SERVER, remote), 2, 1, 0, b"")).unwrap();
        bench.receive(&mut tcp((SERVER, remote), (EXTERNAL, 40000), 18, 1, 2, b"")).unwrap();
        let mut frame = tcp(from, (SERVER, remote), 24, 2, 2, payload);
        bench.out(&mut frame).unwrap();
        assert_eq!(&frame[54..], payload);
        // As it begins a packet where it is cut behind other data.
        let mut frame = udp(from, (SERVER, remote), payload);
        bench.out(&mut frame).unwrap();
        assert_eq!(&frame[42..], payload);
        let mut back = tcp((SERVER, remote), (EXTERNAL, 40000), 24, 2, 2, payload);
        bench.receive(&mut back).unwrap();
        assert_eq!(&back[54..], payload);
        let syn = bench.receive(&mut tcp((SERVER, 20), (EXTERNAL, 1025), 2, 1, 0, b""));
        assert_eq!(syn, Err(DropReason::NatNoSession));
        assert_eq!(bench.nat.len(), 2);
    }
}

//= RFC7857#6 type=test
#[test]
fn each_protocol_has_mappings_of_its_own() {
    let mut bench = Bench::new(16);
    bench.udp_out((OTHER, 5000), (SERVER, 53)).unwrap();
    let tcp = bench.out(&mut tcp((GUEST, 5000), (SERVER, 53), 2, 1, 0, b"")).unwrap();
    let echo = bench.out(&mut echo(8, GUEST, SERVER, 5000)).unwrap();
    assert_eq!((tcp.source_port, echo.source_port), (5000, 5000));
    assert_ne!(bench.udp_out((GUEST, 5000), (SERVER, 53)), Ok(5000));
}

//= RFC7857#7 type=test
#[test]
fn strangers_and_answers_to_them_keep_nothing_alive() {
    let mut bench = Bench::new(16);
    let mut frame = udp((GUEST, 5000), (SERVER, 53), b"data");
    bench.out(&mut frame).unwrap();
    let mut answer = udp((SERVER, 53), (EXTERNAL, 5000), b"answer");
    bench.receive(&mut answer).unwrap();
    bench.wait(200);
    assert_eq!(bench.udp_in((ROUTER, 9), 5000), Err(DropReason::NatFiltered));
    bench.out(&mut icmp_error(GUEST, SERVER, 3, 3, &answer[14..])).unwrap();
    bench.wait(101);
    assert!(bench.nat.is_empty());
    let mut bench = Bench::new(16);
    let from = (GUEST, 5000);
    bench.out(&mut tcp(from, (SERVER, 80), 2, 1, 0, b"")).unwrap();
    bench.out(&mut tcp(from, (SERVER, 80), 4, 2, 0, b"")).unwrap();
    bench.wait(200);
    bench.out(&mut tcp(from, (SERVER, 80), 4, 2, 0, b"")).unwrap();
    bench.wait(41);
    assert!(bench.nat.is_empty());
}

/// Chi-square over 64 classes: 63 degrees of freedom exceed 114 once in ten thousand times.
//= RFC6056#3.3 type=test
#[test]
fn chosen_ports_are_spread_evenly_and_in_no_order() {
    let mut bench = Bench::new(16_384);
    let outside = Outside { ports: (0, 65535), ..OUTSIDE };
    let (mut classes, mut steps) = ([0_u32; 64], [0_u32; 2]);
    let mut last = 0;
    for host in 0..6400_u32 {
        // The inside port cannot be kept: zero is nobody's.
        let from = Ipv4Addr::from_bits(GUEST.to_bits() + host);
        let mut frame = udp((from, 0), (SERVER, 53), b"");
        let packet = Packet::parse(&frame).unwrap();
        bench.nat.outbound(bench.now, &outside, &INSIDE, &bench.vnet, &mut frame, &packet).unwrap();
        let port = Packet::parse(&frame).unwrap().source_port;
        classes[usize::from(port >> 10)] += 1;
        steps[usize::from(port > last)] += 1;
        last = port;
    }
    let chi: f64 = classes.iter().map(|&count| (f64::from(count) - 100.0).powi(2) / 100.0).sum();
    assert!(chi < 114.0, "{chi} {classes:?}");
    assert!(steps.iter().all(|&count| count > 2900), "{steps:?}");
}

//= RFC1624#3 type=test
#[test]
fn a_million_mended_checksums_are_right() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Zeros and ones of all kinds come often.
        [state as u16, 0, 0xffff, (state >> 16) as u16][(state >> 62) as usize]
    };
    let mut frame = udp((GUEST, 1), (SERVER, 2), &[0; 4]);
    let mut seen = [0_u32; 2];
    for _ in 0..1_000_000 {
        let words: [u16; 9] = core::array::from_fn(|_| draw());
        let [a, b, c, d, port, to, x, y, new] = words;
        let (source, target) = (address(a, b), address(c, d));
        put(&mut frame, 24, &[0, 0]);
        put(&mut frame, 26, &source.octets());
        put(&mut frame, 30, &target.octets());
        let sum = checksum::of(&frame[14..34]);
        put(&mut frame, 24, &sum.to_be_bytes());
        [(34, port), (36, to), (42, x), (44, y)].iter().for_each(|(at, word)| {
            put(&mut frame, *at, &word.to_be_bytes());
        });
        let sum = transport_sum(&frame, source, target);
        put(&mut frame, 40, &sum.to_be_bytes());
        let packet = Packet::parse(&frame).unwrap();
        let external = address(new, x);
        translate::endpoint(&mut frame, &packet, &vnet::Header::default(), Side::Source, (external, new));
        assert!(checksum::valid(&frame[14..34]), "{words:x?}");
        let mended = u16::from_be_bytes([frame[40], frame[41]]);
        assert_eq!(mended, transport_sum(&frame, external, target), "{words:x?}");
        seen[0] += u32::from(mended == 0xffff);
        seen[1] += u32::from(mended == 0);
    }
    assert!(seen[0] > 0 && seen[1] == 0, "{seen:?}");
}

fn address(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// The UDP checksum of a frame as a sender computes it.
fn transport_sum(frame: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> u16 {
    let length = (frame.len() - 34) as u16;
    let sum = Sum::default().pseudo(source, destination, ipv4::UDP, length);
    match sum.bytes(&frame[34..40]).bytes(&frame[42..]).finish() {
        0 => 0xffff,
        sum => sum,
    }
}

/// Every type and code, with a quote and without: nothing but what a session expects passes, and no session ends.
//= RFC5508#REQ-10, RFC5508#REQ-11 type=test
#[test]
fn every_kind_of_icmp_is_told_apart() {
    let mut bench = Bench::new(16);
    let mut frame = udp((GUEST, 5000), (SERVER, 53), b"data");
    bench.out(&mut frame).unwrap();
    for kind in 0..=255 {
        for code in [0, 1, 4, 13, 255] {
            let mut payload = vec![kind, code, 0, 0, 0, 0, 5, 0];
            payload.extend(&frame[14..]);
            let sum = checksum::of(&payload);
            put(&mut payload, 2, &sum.to_be_bytes());
            let result = bench.receive(&mut ip(ipv4::ICMP, ROUTER, EXTERNAL, &payload));
            let expected = match kind {
                3 | 11 | 12 => None,
                0 | 8 | 13 | 14 => Some(DropReason::NatNoSession),
                _ => Some(DropReason::NatIcmpType),
            };
            assert_eq!(result.err(), expected, "type {kind} code {code}");
        }
    }
    assert_eq!(bench.nat.len(), 1);
}
