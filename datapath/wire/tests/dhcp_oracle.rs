//! The codec against an independent implementation.
#![allow(clippy::unwrap_used)]
use std::net::Ipv4Addr;

use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{self, DhcpOption, OptionCode},
};
use pontoon_wire::dhcp::{Builder, FLAG_BROADCAST, Message, MessageType, code};

const MAC: [u8; 6] = [2, 0, 0, 0xaa, 0xbb, 0xcc];

#[test]
fn they_read_what_we_write() {
    let mut buffer = [0; 1500];
    let mut builder = Builder::new(&mut buffer, 1500, 2, 0xdead_beef, MAC, MessageType::Ack).unwrap();
    builder.flags(FLAG_BROADCAST);
    builder.secs(3);
    builder.yiaddr(Ipv4Addr::new(10, 0, 0, 9));
    builder.siaddr(Ipv4Addr::new(10, 0, 0, 1));
    builder.option(code::SERVER_ID, &[10, 0, 0, 1]).unwrap();
    builder.option(code::LEASE_TIME, &3600u32.to_be_bytes()).unwrap();
    builder.option(code::SUBNET_MASK, &[255, 255, 255, 0]).unwrap();
    builder.option(code::ROUTER, &[10, 0, 0, 1]).unwrap();
    builder.option(code::HOST_NAME, b"vm2").unwrap();
    builder.option(code::MTU, &1500u16.to_be_bytes()).unwrap();
    builder.option(code::CLIENT_ID, &[0, 1, 2]).unwrap();
    let len = builder.finish();

    let theirs = v4::Message::decode(&mut Decoder::new(&buffer[..len])).unwrap();
    assert_eq!(theirs.opcode(), v4::Opcode::BootReply);
    assert_eq!((theirs.xid(), theirs.secs(), theirs.flags().broadcast()), (0xdead_beef, 3, true));
    assert_eq!((theirs.yiaddr(), theirs.siaddr()), (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(theirs.chaddr(), MAC);
    let options = theirs.opts();
    for expected in [
        DhcpOption::MessageType(v4::MessageType::Ack),
        DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1)),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Router(vec![Ipv4Addr::new(10, 0, 0, 1)]),
        DhcpOption::Hostname("vm2".into()),
        DhcpOption::InterfaceMtu(1500),
        DhcpOption::ClientIdentifier(vec![0, 1, 2]),
    ] {
        assert_eq!(options.get(OptionCode::from(&expected)), Some(&expected));
    }
}

#[test]
fn we_read_what_they_write() {
    let mut theirs = v4::Message::default();
    theirs.set_xid(77).set_chaddr(&MAC).set_ciaddr(Ipv4Addr::new(10, 0, 0, 5));
    theirs.set_flags(v4::Flags::default().set_broadcast());
    let options = theirs.opts_mut();
    options.insert(DhcpOption::MessageType(v4::MessageType::Request));
    options.insert(DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 0, 0, 6)));
    options.insert(DhcpOption::ClientIdentifier((0..=255).chain(0..=99).collect()));
    options.insert(DhcpOption::MaxMessageSize(1400));
    let bytes = theirs.to_vec().unwrap();

    let ours = Message::parse(&bytes).unwrap();
    assert_eq!((ours.op(), ours.htype(), ours.hlen(), ours.xid()), (1, 1, 6, 77));
    assert_eq!((ours.mac(), ours.ciaddr(), ours.broadcast()), (MAC, Ipv4Addr::new(10, 0, 0, 5), true));
    assert_eq!(ours.message_type(), Some(MessageType::Request));
    assert_eq!(ours.address(code::REQUESTED_IP), Some(Ipv4Addr::new(10, 0, 0, 6)));
    assert_eq!(ours.reply_limit(), 1372);
    let expected: Vec<u8> = (0..=255).chain(0..=99).collect();
    assert_eq!(ours.joined(code::CLIENT_ID, &mut [0; 512]), Ok(Some(&expected[..])));
}
