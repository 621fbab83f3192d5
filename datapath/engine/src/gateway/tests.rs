use alloc::vec;
use alloc::vec::Vec;

use super::*;

const A: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);
const B: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);

fn echo(payload: usize) -> Vec<u8> {
    let mut frame = vec![0u8; 14 + 20 + 8 + payload];
    ethernet::emit(&mut frame, [2; 6], [4; 6], ethernet::IPV4);
    ipv4::emit(&mut frame[14..], A, B, ipv4::ICMP, 8 + payload, 7, false);
    frame[34] = icmp::ECHO_REQUEST;
    for (n, byte) in frame[42..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    let sum = checksum::of(&frame[34..]);
    put(&mut frame, 36, &sum.to_be_bytes());
    frame
}

#[test]
fn an_echo_request_becomes_a_reply_with_sound_checksums() {
    let mut frame = echo(56);
    let packet = Packet::parse(&frame).expect("sound");
    assert!(echo_reply(&mut frame, &packet, false));
    let reply = Packet::parse(&frame).expect("sound");
    assert_eq!((reply.source(), reply.destination(), reply.flags), (B, A, icmp::ECHO_REPLY));
    assert!(checksum::valid(&frame[14..34]) && checksum::valid(&frame[34..]));
    assert_eq!(ethernet::destination(&frame), Some([4; 6]));
}

#[test]
fn an_echo_request_with_a_wrong_checksum_gets_no_reply() {
    let mut frame = echo(56);
    frame[50] ^= 1;
    let packet = Packet::parse(&frame).expect("sound");
    assert!(!echo_reply(&mut frame, &packet, false));
}

#[test]
fn fragments_carry_the_whole_payload_and_fit_the_mtu() {
    let frame = echo(3000);
    let packet = Packet::parse(&frame).expect("sound");
    let (mut joined, mut last) = (Vec::new(), 0);
    let cut = fragment(&frame, &packet, 1400, &mut [0; 2048], &mut |part| {
        let part_packet = Packet::parse(part).expect("sound");
        assert!(part_packet.ip.total_length <= 1400 && checksum::valid(&part[14..34]));
        assert_eq!(part_packet.ip.fragment_offset(), joined.len());
        joined.extend_from_slice(&part[34..]);
        last = part_packet.ip.fragment & ipv4::MORE_FRAGMENTS;
    });
    assert!(cut);
    assert_eq!(last, 0);
    assert_eq!(joined, frame[34..]);
}

#[test]
fn the_error_budget_runs_out_and_refills() {
    let mut budget = ErrorBudget::default();
    let now = Time::from_secs(5);
    assert_eq!((0..1000).filter(|_| budget.take(now)).count() as u64, ERROR_BURST);
    assert!(budget.take(now.after_millis(10)));
}

#[test]
fn a_partial_checksum_is_completed() {
    let datagram = Datagram { macs: ([2; 6], [4; 6]), source: (A, 1000), destination: (B, 53) };
    let mut whole = vec![0u8; UDP_HEADERS + 9];
    whole[UDP_HEADERS..].copy_from_slice(b"pontoon!?");
    datagram.seal(&mut whole, 9).expect("fits");
    let mut partial = whole.clone();
    let pseudo = checksum::Sum::default().pseudo(A, B, ipv4::UDP, 17).fold();
    put(&mut partial, 40, &pseudo.to_be_bytes());
    let mut header = vnet::Header {
        flags: vnet::NEEDS_CSUM,
        csum_start: 34.into(),
        csum_offset: 6.into(),
        ..Default::default()
    };
    let end = partial.len();
    complete_checksum(&mut header, &mut partial, end);
    assert_eq!(partial, whole);
    assert!(!header.needs_checksum());
}
