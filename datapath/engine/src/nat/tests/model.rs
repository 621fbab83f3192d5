use alloc::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Against the obvious NAT: a map of mappings and a set of sessions.
    #[test]
    fn like_a_naive_nat(steps in proptest::collection::vec((0_u8..3, 0_u8..4, 0_u16..4, 0_u8..3, 0_u64..200), 1..120)) {
        let mut bench = Bench::new(512);
        let mut ports: BTreeMap<End, u16> = BTreeMap::new();
        let mut sessions: BTreeMap<(End, End), u64> = BTreeMap::new();
        for (action, host, port, server, wait) in steps {
            let inside = (Ipv4Addr::new(192, 168, 122, host), 1022 + port);
            let remote = (Ipv4Addr::new(203, 0, 113, server), 53);
            let now = bench.now.secs();
            sessions.retain(|_, used| *used + 300 >= now);
            let live: BTreeSet<End> = sessions.keys().map(|key| key.0).collect();
            ports.retain(|end, _| live.contains(end));
            match action {
                0 => {
                    let got = bench.udp_out(inside, remote).unwrap();
                    let expected = *ports.entry(inside).or_insert(got);
                    prop_assert_eq!(got, expected);
                    sessions.insert((inside, remote), now);
                    let distinct: BTreeSet<u16> = ports.values().copied().collect();
                    prop_assert_eq!(distinct.len(), ports.len());
                }
                1 => {
                    let Some(&external) = ports.get(&inside) else { continue };
                    let got = bench.udp_in(remote, external);
                    if let Some(used) = sessions.get_mut(&(inside, remote)) {
                        prop_assert_eq!(got, Ok(inside));
                        *used = now;
                    } else {
                        prop_assert_eq!(got, Err(DropReason::NatFiltered));
                    }
                }
                _ => bench.wait(wait / 2 * 2 + 1),
            }
        }
    }

    #[test]
    fn random_frames(mut frame in proptest::collection::vec(any::<u8>(), 0..120), protocol in 0_usize..4, flags in 0_u8..4) {
        let mut bench = Bench::new(16);
        bench.vnet.flags = flags;
        if frame.len() >= 34 {
            let total = (frame.len() - 14) as u16;
            frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[23] = [1, 6, 17, 99][protocol];
            frame[30..34].copy_from_slice(&EXTERNAL.octets());
            if frame[20] & 1 == 0 {
                frame[20..22].fill(0);
            }
            if frame.len() > 62 && frame[22] & 1 == 0 {
                frame[34] = [3, 11, 12, 8][protocol];
                frame[42] = 0x45;
            }
        }
        if let Some(packet) = Packet::parse(&frame) {
            let (mut a, mut b) = (frame.clone(), frame.clone());
            let _ = (outbound_port(&frame, &packet), external(&frame, &packet));
            let _ = bench.nat.inbound(bench.now, 3, flags & 1 == 0, &bench.vnet, &mut a, &packet);
            let _ = bench.nat.outbound(bench.now, &OUTSIDE, &INSIDE, &bench.vnet, &mut b, &packet);
            if let Some(packet) = Packet::parse(&b) {
                let _ = bench.nat.inbound(bench.now, 3, flags & 1 == 0, &bench.vnet, &mut b, &packet);
            }
        }
    }

    //= RFC1624#3 type=test
    /// RFC 1624: mended checksums equal computed ones (`Bench` checks every frame from scratch).
    #[test]
    fn mended_is_computed(source in any::<u16>(), port in any::<u16>(), host in any::<u8>(), to in any::<u32>(), data in proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 0..64)) {
        let (guest, server) = (Ipv4Addr::new(192, 168, 122, host), Ipv4Addr::from_bits(to));
        let mut bench = Bench::new(16);
        for mut frame in [
            udp((guest, source), (server, port), &data),
            tcp((guest, source), (server, port), 2, to, 0, &data),
            ip(ipv4::ICMP, guest, server, &message(8, source, &data)),
        ] {
            let sent = bench.out(&mut frame).unwrap();
            if sent.ip.protocol == ipv4::UDP {
                prop_assert_ne!(&frame[40..42], &[0, 0]);
                let mut back = udp((server, port), (EXTERNAL, sent.source_port), &data);
                prop_assert_eq!(bench.receive(&mut back).unwrap().destination_port, source);
            }
        }
    }
}

proptest! {
    /// Deleting by shifting back loses nothing, also around the end of the buckets and in long runs.
    #[test]
    fn index_like_a_map(steps in proptest::collection::vec((any::<bool>(), 0_u32..50), 1..400), spread in 1_u32..64) {
        let mut index = super::super::index::Index::new(50);
        let hash = |number: u32| (number % spread).wrapping_add(u32::MAX - 20);
        let mut model = BTreeSet::new();
        for (insert, number) in steps {
            if insert && model.insert(number) {
                index.insert(hash(number), number);
            } else if !insert && model.remove(&number) {
                index.remove(hash(number), number);
            }
            for number in 0..50 {
                let found = index.find(hash(number), |other| other == number);
                prop_assert_eq!(found, model.contains(&number).then_some(number));
            }
        }
    }
}
