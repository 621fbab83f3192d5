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

//= ours#other-protocols type=test
#[test]
fn other_protocols_pass_for_the_one_guest_that_uses_them() {
    for protocol in (0..=255).filter(|protocol| !matches!(protocol, 1 | 2 | 6 | 17)) {
        let mut bench = Bench::new(16);
        let sent = bench.out(&mut ip(protocol, GUEST, SERVER, &[0x5a; 24])).unwrap();
        assert_eq!(sent.ip.source, EXTERNAL);
        assert_eq!(bench.out(&mut ip(protocol, GUEST, ROUTER, &[0; 24])).unwrap().ip.source, EXTERNAL);
        let other = bench.out(&mut ip(protocol, OTHER, SERVER, &[0; 24]));
        assert_eq!(other, Err(DropReason::NatProtocolTaken));
        let back = bench.receive(&mut ip(protocol, SERVER, EXTERNAL, &[0; 24])).unwrap();
        assert_eq!(back.ip.destination, GUEST);
        let stranger = Ipv4Addr::new(203, 0, 113, 9);
        let refused = bench.receive(&mut ip(protocol, stranger, EXTERNAL, &[0; 24]));
        assert_eq!(refused, Err(DropReason::NatFiltered));
        bench.wait(301);
        assert!(bench.out(&mut ip(protocol, OTHER, SERVER, &[0; 24])).is_ok(), "once nobody else does");
    }
}

#[test]
fn errors_about_other_protocols_pass_and_checksums_over_addresses_are_mended() {
    let mut bench = Bench::new(16);
    let original = ip(50, GUEST, SERVER, &[7; 24]);
    let mut frame = original.clone();
    bench.out(&mut frame).unwrap();
    let mut error = icmp_error(ROUTER, EXTERNAL, 3, 4, &frame[14..]);
    assert_eq!(bench.receive(&mut error).unwrap().ip.destination, GUEST);
    assert_eq!(&error[42..], &original[14..]);
    for protocol in [33, 136] {
        let payload = [9, 9, 9, 9, 9, 9, 0, 0, 9, 9, 9, 9].to_vec();
        let mut frame = sealed(protocol, GUEST, SERVER, payload, 6);
        bench.out(&mut frame).unwrap();
        let sum = Sum::default().pseudo(EXTERNAL, SERVER, protocol, 12).bytes(&frame[34..46]);
        assert_eq!(sum.fold(), 0xffff);
    }
}

//= RFC6888#REQ-8 type=test
#[test]
fn a_released_port_rests_for_all_but_the_endpoint_that_had_it() {
    for (seconds, expected) in [(1, false), (118, false), (121, true)] {
        let mut bench = Bench::new(64);
        assert_eq!(bench.udp_out((GUEST, 5000), (SERVER, 53)), Ok(5000));
        bench.wait(301);
        bench.wait(seconds);
        assert_eq!(bench.udp_out((OTHER, 5000), (SERVER, 53)) == Ok(5000), expected, "{seconds}");
    }
    let mut bench = Bench::new(64);
    bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    bench.wait(301);
    assert_eq!(bench.udp_out((GUEST, 5000), (ROUTER, 53)), Ok(5000));
    // Where there is nothing but ports that rest, one of them has to do.
    let narrow = Outside { ports: (2000, 2000), ..OUTSIDE };
    let mut bench = Bench::new(64);
    for host in [GUEST, OTHER] {
        let mut frame = udp((host, 9000), (SERVER, 1), b"");
        let packet = Packet::parse(&frame).unwrap();
        bench.nat.outbound(bench.now, &narrow, &INSIDE, &bench.vnet, &mut frame, &packet).unwrap();
        bench.wait(301);
    }
}

fn filtering(mode: Filtering) -> Bench {
    let mut bench = Bench::new(64);
    // One session from before the network asked for it.
    bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    bench.nat.set_filtering(vec![Filtering::default(), mode]);
    bench
}

//= RFC4787#REQ-8, RFC5382#REQ-3 type=test
#[test]
fn filtering_is_as_the_network_has_it() {
    for (mode, port, address) in [
        (Filtering::Endpoint, true, true),
        (Filtering::Address, true, false),
        (Filtering::AddressAndPort, false, false),
    ] {
        let mut bench = filtering(mode);
        let allowed = |yes: bool| if yes { Ok((GUEST, 5000)) } else { Err(DropReason::NatFiltered) };
        assert_eq!(bench.udp_in((SERVER, 53), 5000), Ok((GUEST, 5000)));
        assert_eq!(bench.udp_in((SERVER, 54), 5000), allowed(port), "{mode:?}");
        assert_eq!(bench.udp_in((ROUTER, 53), 5000), allowed(address), "{mode:?}");
        // Nothing was left behind, and nothing kept alive.
        assert_eq!(bench.nat.len(), 1);
        bench.wait(299);
        let _ = bench.udp_in((ROUTER, 53), 5000);
        let _ = bench.udp_in((SERVER, 54), 5000);
        bench.wait(2);
        assert!(bench.nat.is_empty());
        // With the last session to an address, others of it are strangers.
        bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
        bench.wait(200);
        bench.udp_out((GUEST, 5000), (ROUTER, 53)).unwrap();
        bench.wait(101);
        assert_eq!(bench.udp_in((SERVER, 54), 5000), allowed(mode == Filtering::Endpoint), "{mode:?}");
        assert_eq!(bench.udp_in((ROUTER, 54), 5000), allowed(port), "{mode:?}");
    }
}

//= RFC5382#REQ-3 type=test
#[test]
fn a_connection_may_begin_outside_where_the_network_lets_it() {
    let mut bench = filtering(Filtering::Endpoint);
    let (inside, outside, mapped) = ((GUEST, 6000), (ROUTER, 9000), (EXTERNAL, 6000));
    bench.out(&mut tcp(inside, (SERVER, 80), 2, 1, 0, b"")).unwrap();
    assert_eq!(bench.receive(&mut tcp(outside, mapped, 16, 7, 1, b"")), Err(DropReason::NatFiltered));
    bench.receive(&mut tcp(outside, mapped, 2, 100, 0, b"")).unwrap();
    bench.out(&mut tcp(inside, outside, 18, 500, 101, b"")).unwrap();
    bench.receive(&mut tcp(outside, mapped, 16, 101, 501, b"")).unwrap();
    bench.receive(&mut tcp(outside, mapped, 24, 101, 501, b"hello")).unwrap();
    bench.out(&mut tcp(inside, outside, 16, 501, 106, b"")).unwrap();
    bench.wait(7000);
    bench.receive(&mut tcp(outside, mapped, 24, 106, 501, b"still here")).unwrap();
}
