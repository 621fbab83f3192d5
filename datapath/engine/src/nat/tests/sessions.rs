use super::*;

//= RFC4787#REQ-1, RFC4787#REQ-11 type=test
#[test]
fn one_port_for_all_destinations() {
    let mut bench = Bench::new(64);
    for last in 1..4 {
        assert_eq!(bench.udp_out((GUEST, 40001), (Ipv4Addr::new(203, 0, 113, last), 53)), Ok(40001));
    }
    bench.udp_out((OTHER, 40002), (SERVER, 53)).unwrap();
    let port = bench.udp_out((GUEST, 40002), (SERVER, 53)).unwrap();
    assert_ne!(port, 40002);
    for last in 2..9 {
        assert_eq!(bench.udp_out((GUEST, 40002), (Ipv4Addr::new(203, 0, 113, last), 53)), Ok(port));
    }
}

//= RFC4787#REQ-3, RFC5382#REQ-7, RFC7857#3 type=test
#[test]
fn two_hosts_never_share_a_port() {
    let mut bench = Bench::new(64);
    let a = bench.udp_out((GUEST, 45002), (SERVER, 53)).unwrap();
    let b = bench.udp_out((OTHER, 45002), (ROUTER, 54)).unwrap();
    assert_eq!(a, 45002);
    assert_ne!(a, b);
    assert_eq!(bench.udp_in((SERVER, 53), a), Ok((GUEST, 45002)));
    assert_eq!(bench.udp_in((ROUTER, 54), b), Ok((OTHER, 45002)));
}

#[test]
fn filtering_is_by_address_and_port() {
    let mut bench = Bench::new(64);
    let port = bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    assert_eq!(bench.udp_in((SERVER, 53), port), Ok((GUEST, 5000)));
    assert_eq!(bench.udp_in((SERVER, 54), port), Err(DropReason::NatFiltered));
    assert_eq!(bench.udp_in((ROUTER, 53), port), Err(DropReason::NatFiltered));
    assert_eq!(bench.udp_in((SERVER, 53), port + 1), Err(DropReason::NatNoSession));
}

//= RFC7857#8, RFC7857#9 type=test
#[test]
fn system_ports_and_ports_out_of_range_move() {
    let mut bench = Bench::new(64);
    let port = bench.udp_out((GUEST, 500), (SERVER, 500)).unwrap();
    assert!(port >= 1024);
    assert_eq!(bench.udp_in((SERVER, 500), port), Ok((GUEST, 500)));
    let narrow = Outside { ports: (2000, 2001), ..OUTSIDE };
    for (inside, expected) in [(9000, true), (9001, true), (9002, false)] {
        let mut frame = udp((GUEST, inside), (SERVER, 1), b"");
        let packet = Packet::parse(&frame).unwrap();
        let result = bench.nat.outbound(bench.now, &narrow, &INSIDE, &bench.vnet, &mut frame, &packet);
        assert_eq!(result, if expected { Ok(()) } else { Err(DropReason::NatPortsExhausted) });
    }
}

//= RFC4787#REQ-5, RFC4787#REQ-6 type=test
#[test]
fn udp_timer() {
    for (wait, alive) in [(119, true), (299, true), (301, false)] {
        let mut bench = Bench::new(64);
        let port = bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
        bench.wait(100);
        bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
        bench.wait(wait);
        assert_eq!(bench.udp_in((SERVER, 53), port).is_ok(), alive, "{wait}");
        assert_eq!(bench.nat.is_empty(), !alive);
    }
}

#[test]
fn expiry_without_the_timer_being_served() {
    let mut bench = Bench::new(64);
    let port = bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    let due = bench.nat.next_timeout().unwrap();
    assert!(due >= bench.now.after_secs(300) && due <= bench.now.after_secs(301));
    bench.now = bench.now.after_secs(301);
    assert_eq!(bench.udp_in((SERVER, 53), port), Err(DropReason::NatNoSession));
    assert_eq!(bench.nat.next_timeout(), None);
}

//= RFC5508#REQ-1, RFC5508#REQ-2, RFC5508#REQ-11, RFC7857#11 type=test
#[test]
fn echo_ids() {
    let mut bench = Bench::new(64);
    let first = bench.out(&mut echo(8, GUEST, SERVER, 1234)).unwrap();
    assert_eq!((first.ip.source, first.source_port), (EXTERNAL, 1234));
    assert_eq!(bench.out(&mut echo(8, GUEST, ROUTER, 1234)).unwrap().source_port, 1234);
    let second = bench.out(&mut echo(8, OTHER, SERVER, 1234)).unwrap();
    assert_ne!(second.source_port, 1234);
    let reply = bench.receive(&mut echo(0, SERVER, EXTERNAL, second.source_port)).unwrap();
    assert_eq!((reply.ip.destination, reply.source_port), (OTHER, 1234));
    assert_eq!(bench.receive(&mut echo(8, SERVER, EXTERNAL, 1234)), Err(DropReason::NatNoSession));
    bench.wait(59);
    assert!(bench.receive(&mut echo(0, ROUTER, EXTERNAL, 1234)).is_ok());
    bench.wait(61);
    assert!(bench.receive(&mut echo(0, ROUTER, EXTERNAL, 1234)).is_err());
    let mut bad = echo(8, GUEST, SERVER, 9);
    bad[36] ^= 1;
    assert_eq!(bench.out(&mut bad), Err(DropReason::NatIcmpChecksum));
}

//= RFC4787#REQ-9 type=test
#[test]
fn hairpin() {
    let mut bench = Bench::new(64);
    let a = bench.udp_out((GUEST, 6000), (SERVER, 1)).unwrap();
    let mut frame = udp((OTHER, 7000), (EXTERNAL, a), b"hello");
    bench.out(&mut frame).unwrap();
    let packet = bench.receive(&mut frame).unwrap();
    assert_eq!((packet.ip.source, packet.source_port), (EXTERNAL, 7000));
    assert_eq!((packet.ip.destination, packet.destination_port), (GUEST, 6000));
    let mut back = udp((GUEST, 6000), (EXTERNAL, 7000), b"hello");
    bench.out(&mut back).unwrap();
    assert_eq!(bench.receive(&mut back).unwrap().ip.destination, OTHER);
}

#[test]
fn fragments_follow_the_first() {
    let mut bench = Bench::new(64);
    let mut first = udp((GUEST, 5000), (SERVER, 53), &[7; 64]);
    first[20] |= 0x20;
    put(&mut first, 24, &[0, 0]);
    let sum = checksum::of(&first[14..34]);
    put(&mut first, 24, &sum.to_be_bytes());
    let mut next = ip(ipv4::UDP, GUEST, SERVER, &[9; 40]);
    next[21] = 9;
    put(&mut next, 24, &[0, 0]);
    let sum = checksum::of(&next[14..34]);
    put(&mut next, 24, &sum.to_be_bytes());
    assert_eq!(bench.out(&mut next.clone()), Err(DropReason::NatFragment));
    bench.out(&mut first).unwrap();
    let packet = bench.out(&mut next.clone()).unwrap();
    assert_eq!(packet.ip.source, EXTERNAL);
    bench.wait(31);
    assert_eq!(bench.out(&mut next), Err(DropReason::NatFragment));
}

//= RFC6888#REQ-11, RFC4787#REQ-11 type=test
#[test]
fn a_full_table_spares_others_and_established_sessions() {
    let mut bench = Bench::new(128);
    let port = bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    bench.udp_in((SERVER, 53), port).unwrap();
    for n in 0..63 {
        bench.udp_out((GUEST, 6000 + n), (SERVER, 53)).unwrap();
    }
    assert_eq!(bench.udp_out((GUEST, 9000), (SERVER, 53)), Err(DropReason::NatQuota));
    for n in 0..64 {
        bench.udp_out((OTHER, 16000 + n), (SERVER, 53)).unwrap();
    }
    assert_eq!(bench.nat.len(), bench.nat.capacity());
    assert_eq!(bench.udp_out((ROUTER, 1), (SERVER, 53)), Err(DropReason::NatTableFull));
    assert_eq!(bench.udp_in((SERVER, 53), port), Ok((GUEST, 5000)));
    let mut bench = Bench::new(16);
    let port = bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    bench.udp_in((SERVER, 53), port).unwrap();
    for n in 0..200 {
        bench.udp_out((GUEST, 6000 + n), (SERVER, 53)).unwrap();
    }
    assert_eq!(bench.udp_in((SERVER, 53), port), Ok((GUEST, 5000)));
    bench.nat.flush_network(1);
    assert!(bench.nat.is_empty());
}

#[test]
fn other_protocols_and_udp_without_checksum() {
    let mut bench = Bench::new(16);
    assert_eq!(bench.out(&mut ip(2, GUEST, SERVER, &[0; 30])), Err(DropReason::NatProtocol));
    let mut frame = udp((GUEST, 5000), (SERVER, 53), b"x");
    put(&mut frame, 40, &[0, 0]);
    bench.out(&mut frame).unwrap();
    assert_eq!(&frame[40..42], &[0, 0]);
}

//= RFC1624#3 type=test
#[test]
fn partial_checksums_know_addresses_only() {
    let mut bench = Bench::new(16);
    bench.vnet.flags = vnet::NEEDS_CSUM;
    bench.vnet.csum_start = 34.into();
    bench.vnet.csum_offset = 16.into();
    let mut frame = tcp((GUEST, 500), (SERVER, 80), 2, 1, 0, b"");
    let partial = |source| Sum::default().pseudo(source, SERVER, ipv4::TCP, 20).fold();
    put(&mut frame, 50, &partial(GUEST).to_be_bytes());
    bench.out(&mut frame).unwrap();
    assert_eq!(&frame[50..52], &partial(EXTERNAL).to_be_bytes());
}

#[test]
fn owners_are_even_and_kept() {
    for workers in 1..9_u16 {
        for parity in 0..2 {
            let mut counts = vec![0_u32; usize::from(workers)];
            (0..32768_u16).for_each(|half| counts[usize::from(owner(half * 2 + parity, workers))] += 1);
            let fair = 32768 / u32::from(workers);
            assert!(counts.iter().all(|&count| count > fair * 8 / 10), "{counts:?}");
        }
    }
    let workers = 4;
    for port in [1, 80, 5000, 40001] {
        let worker = owner(port, workers);
        let mut nat = Nat::new(worker, workers, 1, slots(16), Time(0));
        let mut frame = udp((GUEST, port), (SERVER, 53), b"");
        let packet = Packet::parse(&frame).unwrap();
        assert_eq!(outbound_port(&frame, &packet), Some(port));
        nat.outbound(Time(0), &OUTSIDE, &INSIDE, &vnet::Header::default(), &mut frame, &packet).unwrap();
        assert_eq!(owner(Packet::parse(&frame).unwrap().source_port, workers), worker);
    }
}

//= RFC5382#REQ-8, RFC5508#REQ-7, RFC7857#12 type=test
#[test]
fn hairpin_connection_and_its_errors() {
    let mut bench = Bench::new(64);
    let (caller, called) = ((OTHER, 7000), (GUEST, 6000));
    bench.out(&mut tcp(called, (SERVER, 80), 2, 1, 0, b"")).unwrap();
    let mut through = |from: End, to: u16, flags: u8, seq: u32, ack: u32| {
        let mut frame = tcp(from, (EXTERNAL, to), flags, seq, ack, b"");
        bench.out(&mut frame)?;
        bench.receive(&mut frame).map(|packet| (packet.ip.destination, packet.destination_port))
    };
    assert_eq!(through(caller, 6000, 0x10, 100, 1), Err(DropReason::NatFiltered));
    assert_eq!(through((OTHER, 7001), 6000, 2, 100, 0), Ok(called));
    assert_eq!(through(called, 7001, 0x12, 500, 101), Ok((OTHER, 7001)));
    assert_eq!(through((OTHER, 7001), 6000, 0x10, 101, 501), Ok(called));
    assert_eq!(through(called, 7001, 0x10, 501, 101), Ok((OTHER, 7001)));

    // A closed port answers with an error that its sender must recognise (RFC 5508 REQ-7).
    let mut frame = udp((GUEST, 500), (SERVER, 1), b"");
    let mapped = bench.out(&mut frame).unwrap().source_port;
    let original = udp((OTHER, 501), (EXTERNAL, mapped), b"knock");
    let mut frame = original.clone();
    let source = bench.out(&mut frame).unwrap().source_port;
    bench.receive(&mut frame).unwrap();
    let mut error = icmp_error(GUEST, EXTERNAL, 3, 3, &frame[14..]);
    bench.out(&mut error).unwrap();
    let packet = Packet::parse(&error).unwrap();
    assert_eq!(external(&error, &packet).map(|(_, external)| external.1), Some(source));
    let packet = bench.receive(&mut error).unwrap();
    assert_eq!((packet.ip.source, packet.ip.destination), (EXTERNAL, OTHER));
    assert_eq!(&error[42..], &original[14..]);
}

//= RFC4787#REQ-14a type=test
#[test]
fn fragments_from_outside_follow_the_first() {
    let mut bench = Bench::new(64);
    let port = bench.udp_out((GUEST, 500), (SERVER, 53)).unwrap();
    let fragment = |mut frame: Vec<u8>, field: u16| {
        put(&mut frame, 20, &field.to_be_bytes());
        put(&mut frame, 24, &[0, 0]);
        let sum = checksum::of(&frame[14..34]);
        put(&mut frame, 24, &sum.to_be_bytes());
        frame
    };
    let mut next = fragment(ip(ipv4::UDP, SERVER, EXTERNAL, &[1; 40]), 9);
    assert_eq!(bench.receive(&mut next.clone()), Err(DropReason::NatFragment));
    bench.receive(&mut fragment(udp((SERVER, 53), (EXTERNAL, port), &[1; 64]), 0x2000)).unwrap();
    assert_eq!(bench.receive(&mut next).unwrap().ip.destination, GUEST);
    // Half datagrams do not add up.
    for id in 0..5000_u16 {
        let mut half = udp((SERVER, 53), (EXTERNAL, port), &[1; 64]);
        put(&mut half, 18, &id.to_be_bytes());
        bench.receive(&mut fragment(half, 0x2000)).unwrap();
    }
    assert_eq!(bench.nat.len(), 1);
}
