use super::*;

/// Packets inside hosts send, to be quoted.
fn originals() -> Vec<Vec<u8>> {
    vec![
        udp((GUEST, 500), (SERVER, 33434), b"some data"),
        tcp((GUEST, 500), (SERVER, 80), 2, 1, 0, b""),
        echo(8, GUEST, SERVER, 500),
        echo(13, GUEST, SERVER, 500),
    ]
}

//= RFC5508#REQ-4, RFC4787#REQ-12a, RFC4787#REQ-12b, RFC5382#REQ-9 type=test
#[test]
fn errors_from_outside_restore_the_quoted_packet() {
    for original in originals() {
        for (kind, code) in [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (11, 0), (11, 1), (12, 0)] {
            for from in [SERVER, ROUTER] {
                let mut bench = Bench::new(16);
                let mut frame = original.clone();
                bench.out(&mut frame).unwrap();
                let mut error = icmp_error(from, EXTERNAL, kind, code, &frame[14..]);
                let packet = bench.receive(&mut error).unwrap();
                assert_eq!((packet.ip.source, packet.ip.destination), (from, GUEST));
                assert_eq!(&error[34..36], &[kind, code]);
                assert_eq!(&error[42..], &original[14..], "quoted packet as it was sent");
                assert_eq!(bench.nat.len(), 1);
            }
        }
    }
}

//= RFC5508#REQ-3c, RFC5508#REQ-3d type=test
#[test]
fn short_quotes_and_extensions() {
    for original in originals() {
        let mut bench = Bench::new(16);
        let mut frame = original.clone();
        bench.out(&mut frame).unwrap();
        let mut error = icmp_error(ROUTER, EXTERNAL, 11, 0, &frame[14..42]);
        bench.receive(&mut error).unwrap();
        let tcp = original[23] == ipv4::TCP;
        assert_eq!(&error[42..70], &original[14..42]);
        let mut quote = frame[14..].to_vec();
        quote.resize(128, 0);
        quote.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]);
        let mut error = icmp_error(ROUTER, EXTERNAL, 11, 0, &quote);
        bench.receive(&mut error).unwrap();
        assert_eq!(&error[42..42 + original.len() - 14], &original[14..], "{tcp}");
        assert_eq!(&error[170..], &quote[128..]);
    }
}

//= RFC5508#REQ-3b type=test
#[test]
fn inner_options_are_skipped() {
    let mut bench = Bench::new(16);
    let mut frame = udp((GUEST, 500), (SERVER, 53), b"data");
    bench.out(&mut frame).unwrap();
    for words in 1..=10_usize {
        let mut quote = frame[14..34].to_vec();
        quote[0] = 0x45 + words as u8;
        quote.extend(vec![1; words * 4]);
        let total = (quote.len() + frame.len() - 34) as u16;
        put(&mut quote, 2, &total.to_be_bytes());
        put(&mut quote, 10, &[0, 0]);
        let sum = checksum::of(&quote);
        put(&mut quote, 10, &sum.to_be_bytes());
        quote.extend(&frame[34..]);
        let mut error = icmp_error(ROUTER, EXTERNAL, 3, 3, &quote);
        bench.receive(&mut error).unwrap();
        let header = 42..42 + 20 + words * 4;
        assert!(checksum::valid(&error[header.clone()]));
        assert_eq!(error[header.end..header.end + 2], 500_u16.to_be_bytes());
    }
}

//= RFC5508#REQ-3, RFC5508#REQ-3a type=test
#[test]
fn unsound_errors_are_dropped() {
    let mut bench = Bench::new(16);
    let mut frame = udp((GUEST, 5000), (SERVER, 53), b"data");
    let before = frame.clone();
    bench.out(&mut frame).unwrap();
    let good = icmp_error(ROUTER, EXTERNAL, 3, 3, &frame[14..]);
    let mut outer = good.clone();
    outer[36] ^= 1;
    assert_eq!(bench.receive(&mut outer), Err(DropReason::NatIcmpChecksum));
    bench.vnet.flags = vnet::DATA_VALID;
    let mut trusted = good.clone();
    trusted[36] ^= 1;
    bench.receive(&mut trusted).unwrap();
    bench.vnet.flags = 0;
    let mut quote = frame[14..].to_vec();
    quote[10] ^= 1;
    assert_eq!(bench.receive(&mut icmp_error(ROUTER, EXTERNAL, 3, 3, &quote)), Err(DropReason::NatIcmpInner));
    let stranger = udp((EXTERNAL, 5000), (ROUTER, 53), b"data");
    let stranger = &mut icmp_error(ROUTER, EXTERNAL, 3, 3, &stranger[14..]);
    assert_eq!(bench.receive(stranger), Err(DropReason::NatNoSession));
    let short = &mut icmp_error(ROUTER, EXTERNAL, 3, 3, &frame[14..40]);
    assert_eq!(bench.receive(short), Err(DropReason::NatIcmpInner));
    let nested = icmp_error(EXTERNAL, SERVER, 3, 3, &before[14..]);
    let nested = &mut icmp_error(ROUTER, EXTERNAL, 3, 3, &nested[14..]);
    assert_eq!(bench.receive(nested), Err(DropReason::NatIcmpInner));
}

//= RFC4787#REQ-12, RFC5382#REQ-10, RFC5508#REQ-6 type=test
#[test]
fn errors_neither_refresh_nor_end() {
    let mut bench = Bench::new(16);
    let mut frame = udp((GUEST, 5000), (SERVER, 53), b"data");
    bench.out(&mut frame).unwrap();
    bench.wait(200);
    for kind in [3, 11, 12] {
        for code in 0..=255 {
            let _ = bench.receive(&mut icmp_error(ROUTER, EXTERNAL, kind, code, &frame[14..]));
        }
    }
    assert_eq!(bench.nat.len(), 1);
    bench.wait(101);
    assert_eq!(bench.nat.len(), 0);
}

//= RFC5508#REQ-5 type=test
#[test]
fn errors_from_inside_show_the_external_endpoint() {
    for from in [GUEST, OTHER] {
        let mut bench = Bench::new(16);
        let port = bench.udp_out((GUEST, 500), (SERVER, 53)).unwrap();
        let mut answer = udp((SERVER, 53), (EXTERNAL, port), b"answer");
        let original = answer.clone();
        bench.receive(&mut answer).unwrap();
        let mut error = icmp_error(from, SERVER, 3, 3, &answer[14..]);
        let packet = Packet::parse(&error).unwrap();
        assert_eq!(outbound_port(&error, &packet), Some(500));
        let packet = bench.out(&mut error).unwrap();
        assert_eq!((packet.ip.source, packet.ip.destination), (EXTERNAL, SERVER));
        assert_eq!(&error[42..], &original[14..]);
    }
}
