use super::*;

const LOCAL: End = (GUEST, 40000);
const REMOTE: End = (SERVER, 80);
const MAPPED: End = (EXTERNAL, 40000);
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn sent(bench: &mut Bench, flags: u8, seq: u32, ack: u32) -> Result<(), DropReason> {
    bench.out(&mut tcp(LOCAL, REMOTE, flags, seq, ack, b"")).map(|_| ())
}

fn came(bench: &mut Bench, flags: u8, seq: u32, ack: u32) -> Result<(), DropReason> {
    bench.receive(&mut tcp(REMOTE, MAPPED, flags, seq, ack, b"")).map(|_| ())
}

fn established() -> Bench {
    let mut bench = Bench::new(16);
    sent(&mut bench, SYN, 100, 0).unwrap();
    came(&mut bench, SYN | ACK, 5000, 101).unwrap();
    sent(&mut bench, ACK, 101, 5001).unwrap();
    bench
}

//= RFC5382#REQ-5, RFC7857#2.2 type=test
#[test]
fn established_timer() {
    for (wait, alive) in [(7439, true), (7441, false)] {
        let mut bench = established();
        bench.wait(wait);
        assert_eq!(came(&mut bench, ACK, 5001, 101).is_ok(), alive);
    }
}

//= RFC5382#REQ-5, RFC7857#2.2 type=test
#[test]
fn half_open_timer() {
    for (wait, alive) in [(239, true), (241, false)] {
        let mut bench = Bench::new(16);
        sent(&mut bench, SYN, 100, 0).unwrap();
        bench.wait(wait);
        assert_eq!(came(&mut bench, SYN | ACK, 5000, 101).is_ok(), alive);
    }
}

//= RFC5382#REQ-2 type=test
#[test]
fn simultaneous_open() {
    let mut bench = Bench::new(16);
    sent(&mut bench, SYN, 100, 0).unwrap();
    came(&mut bench, SYN, 5000, 0).unwrap();
    sent(&mut bench, SYN | ACK, 100, 5001).unwrap();
    came(&mut bench, SYN | ACK, 5000, 101).unwrap_err();
    came(&mut bench, ACK, 5001, 101).unwrap();
    bench.wait(7000);
    came(&mut bench, ACK, 5001, 101).unwrap();
}

//= RFC5961#3.2, RFC7857#2.3 type=test
#[test]
fn resets() {
    let mut bench = established();
    assert_eq!(came(&mut bench, RST, 5001 + 10_000_000, 0), Err(DropReason::NatTcpWindow));
    came(&mut bench, RST, 5101, 0).unwrap();
    bench.wait(1000);
    came(&mut bench, ACK, 5001, 101).unwrap();
    came(&mut bench, RST, 5001, 0).unwrap();
    bench.wait(239);
    assert_eq!(bench.nat.len(), 1);
    bench.wait(2);
    assert_eq!(bench.nat.len(), 0);
    let mut bench = Bench::new(16);
    sent(&mut bench, SYN, 100, 0).unwrap();
    assert!(came(&mut bench, RST, 0, 0).is_err());
    came(&mut bench, RST | ACK, 0, 101).unwrap();
    sent(&mut bench, SYN, 900, 0).unwrap();
    came(&mut bench, SYN | ACK, 7000, 901).unwrap();
    assert_eq!(Bench::new(4).out(&mut tcp(LOCAL, REMOTE, RST, 1, 0, b"")), Err(DropReason::NatNoSession));
}

//= RFC5382#REQ-2, RFC7857#2.1 type=test
#[test]
fn closing_and_reopening() {
    let mut bench = established();
    sent(&mut bench, FIN | ACK, 101, 5001).unwrap();
    bench.wait(3600);
    came(&mut bench, FIN | ACK, 5001, 102).unwrap();
    sent(&mut bench, ACK, 102, 5002).unwrap();
    bench.wait(100);
    came(&mut bench, ACK, 5002, 102).unwrap();
    bench.wait(141);
    assert!(bench.nat.is_empty());
    let mut bench = established();
    sent(&mut bench, FIN | ACK, 101, 5001).unwrap();
    came(&mut bench, FIN | ACK, 5001, 102).unwrap();
    sent(&mut bench, SYN, 90_000, 0).unwrap();
    came(&mut bench, SYN | ACK, 1, 90_001).unwrap();
    sent(&mut bench, ACK, 90_001, 2).unwrap();
    bench.wait(7000);
    came(&mut bench, ACK, 2, 90_001).unwrap();
}

//= ours#flags, ours#window, RFC5382#REQ-4 type=test
#[test]
fn impossible_flags_and_strangers() {
    let mut bench = established();
    for flags in [0, 0x29, 0x3f, SYN | FIN, SYN | RST, FIN] {
        assert_eq!(sent(&mut bench, flags, 1, 1), Err(DropReason::NatTcpFlags));
        assert_eq!(came(&mut bench, flags, 1, 1), Err(DropReason::NatTcpFlags));
    }
    assert_eq!(came(&mut bench, SYN, 5001, 0), Err(DropReason::NatTcpState));
    assert_eq!(came(&mut bench, ACK, 5001 + 10_000_000, 101), Err(DropReason::NatTcpWindow));
    let syn = bench.receive(&mut tcp((ROUTER, 80), MAPPED, SYN, 1, 0, b""));
    assert_eq!(syn, Err(DropReason::NatFiltered));
    came(&mut bench, ACK, 5001, 101).unwrap();
}

//= ours#mid-stream type=test
#[test]
fn mid_stream() {
    for (wait, alive) in [(299, true), (301, false)] {
        let mut bench = Bench::new(16);
        sent(&mut bench, ACK, 100, 5000).unwrap();
        bench.wait(wait);
        assert_eq!(came(&mut bench, ACK, 5000, 100).is_ok(), alive);
        bench.wait(7000);
        assert_eq!(came(&mut bench, ACK, 5000, 100).is_ok(), alive);
    }
}
