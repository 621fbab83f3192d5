//! BPDUs against what a kernel bridge sends, and everything that is not quite one.

use pontoon_wire::bpdu::{Body, Bpdu, FRAME, flag};

const BODY_OF_KERNEL: Body = Body {
    flags: 0,
    root: 0x8000_0604_b5ad_4e35,
    cost: 0,
    bridge: 0x8000_0604_b5ad_4e35,
    port: 0x8001,
    message_age: 0,
    max_age: 20 << 8,
    hello: 2 << 8,
    forward_delay: 2 << 8,
};
/// As a Linux bridge sends it.
const KERNEL: &str = "0180c20000000604b5ad4e3500264242030000000000\
                      80000604b5ad4e350000000080000604b5ad4e3580010000140002000200";

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter_map(|byte| (byte as char).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn a_configuration_bpdu_of_a_kernel_bridge_is_read_and_written_the_same() {
    let bytes = octets(KERNEL);
    assert_eq!(bytes.len(), 52);
    assert_eq!(Bpdu::parse(&bytes), Some(Bpdu::Config(BODY_OF_KERNEL)));
    let mut frame = [0xff; 80];
    let length = Bpdu::Config(BODY_OF_KERNEL).emit(&mut frame, [6, 4, 0xb5, 0xad, 0x4e, 0x35]);
    assert_eq!(length, Some(FRAME));
    assert_eq!(frame[..52], bytes);
    assert_eq!(frame[52..60], [0; 8]);
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let flags = flag::PROPOSAL | flag::ROLE_DESIGNATED | flag::LEARNING | flag::TOPOLOGY_CHANGE;
    let body = Body { flags, cost: 70_000, message_age: 300, ..BODY_OF_KERNEL };
    for bpdu in [Bpdu::Tcn, Bpdu::Config(body), Bpdu::Rst(body)] {
        let mut frame = [0xaa; FRAME];
        assert_eq!(bpdu.emit(&mut frame, [2; 6]), Some(FRAME));
        assert_eq!(Bpdu::parse(&frame), Some(bpdu));
        assert_eq!(bpdu.emit(&mut frame[..59], [2; 6]), None);
    }
}

#[test]
fn what_is_short_old_or_another_protocol_is_refused() {
    let mut frame = [0; FRAME];
    Bpdu::Rst(BODY_OF_KERNEL).emit(&mut frame, [2; 6]);
    for length in 0..53 {
        assert_eq!(Bpdu::parse(&frame[..length]), None, "{length} octets");
    }
    let cases: [(&str, usize, u8); 6] = [
        ("another address", 5, 1),
        ("a length beyond the frame", 12, 5),
        ("another LLC", 14, 0xaa),
        ("another protocol", 17, 1),
        ("an RST BPDU of version 1", 19, 1),
        ("an unknown type", 20, 3),
    ];
    for (what, at, value) in cases {
        let mut damaged = frame;
        damaged[at] = value;
        assert_eq!(Bpdu::parse(&damaged), None, "{what}");
    }
    let aged = Body { message_age: 20 << 8, ..BODY_OF_KERNEL };
    Bpdu::Config(aged).emit(&mut frame, [2; 6]);
    assert_eq!(Bpdu::parse(&frame), None, "a configuration message that is as old as it may get");
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let mut frame = [0; FRAME];
    Bpdu::Rst(BODY_OF_KERNEL).emit(&mut frame, [2; 6]);
    frame[19] = 3;
    assert_eq!(Bpdu::parse(&frame), Some(Bpdu::Rst(BODY_OF_KERNEL)));
}
