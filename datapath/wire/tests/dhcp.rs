//! The DHCP codec's bounds, one by one.
#![allow(clippy::unwrap_used)]
use std::net::Ipv4Addr;

use pontoon_wire::dhcp::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn message(options: &[u8]) -> ([u8; 1024], usize) {
    let mut bytes = [0; 1024];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[28..34].copy_from_slice(&MAC);
    bytes[236..240].copy_from_slice(&COOKIE);
    bytes[240..240 + options.len()].copy_from_slice(options);
    (bytes, 240 + options.len())
}

#[test]
fn round_trip() {
    let mut buffer = [0xaa; 600];
    let mut builder =
        Builder::new(&mut buffer, DEFAULT_LIMIT, 1, 0x1234_5678, MAC, MessageType::Request).unwrap();
    builder.flags(FLAG_BROADCAST);
    builder.secs(7);
    builder.ciaddr(Ipv4Addr::new(10, 0, 0, 2));
    builder.yiaddr(Ipv4Addr::new(10, 0, 0, 3));
    builder.siaddr(Ipv4Addr::new(10, 0, 0, 4));
    builder.giaddr(Ipv4Addr::new(10, 0, 0, 5));
    builder.option(code::SERVER_ID, &[10, 0, 0, 1]).unwrap();
    let len = builder.finish();
    assert_eq!(len, MIN_LEN);
    let view = Message::parse(&buffer[..len]).unwrap();
    assert_eq!((view.op(), view.htype(), view.hlen(), view.hops()), (1, 1, 6, 0));
    assert_eq!((view.xid(), view.secs(), view.broadcast()), (0x1234_5678, 7, true));
    assert_eq!(view.ciaddr(), Ipv4Addr::new(10, 0, 0, 2));
    assert_eq!(view.yiaddr(), Ipv4Addr::new(10, 0, 0, 3));
    assert_eq!(view.siaddr(), Ipv4Addr::new(10, 0, 0, 4));
    assert_eq!(view.giaddr(), Ipv4Addr::new(10, 0, 0, 5));
    assert_eq!(view.mac(), MAC);
    assert_eq!(view.message_type(), Some(MessageType::Request));
    assert_eq!(view.address(code::SERVER_ID), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(view.options().count(), 2);
}

#[test]
fn malformed() {
    let (bytes, _) = message(&[]);
    assert_eq!(Message::parse(&bytes[..239]).err(), Some(Error::Truncated));
    assert!(Message::parse(&bytes[..240]).is_ok());
    let mut bad = bytes;
    bad[239] ^= 1;
    assert_eq!(Message::parse(&bad).err(), Some(Error::BadCookie));
    for options in [&[53u8][..], &[53, 2, 1], &[61, 255, 0], &[52, 1, 4], &[52, 0], &[52, 2, 1, 1]] {
        let (bytes, len) = message(options);
        assert_eq!(Message::parse(&bytes[..len]).err(), Some(Error::BadOption), "{options:?}");
    }
}

#[test]
fn pad_end_duplicates_and_empty() {
    let (bytes, len) = message(&[0, 0, 12, 0, 53, 1, 1, 53, 1, 3, 255, 53, 9]);
    let view = Message::parse(&bytes[..len]).unwrap();
    assert_eq!(view.message_type(), Some(MessageType::Discover));
    assert_eq!(view.option(code::HOST_NAME), Some(&[][..]));
    assert_eq!(view.options().count(), 3);
}

#[test]
fn overload_order_and_joining() {
    let (mut bytes, len) = message(&[52, 1, 3, 61, 1, b'a', 255]);
    bytes[108..112].copy_from_slice(&[61, 1, b'b', 255]);
    bytes[44..48].copy_from_slice(&[61, 1, b'c', 255]);
    let view = Message::parse(&bytes[..len]).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(view.joined(code::CLIENT_ID, &mut buffer), Ok(Some(&b"abc"[..])));
    assert_eq!(view.joined(code::CLIENT_ID, &mut buffer[..2]), Err(Error::NoSpace));
    assert_eq!(view.joined(code::FQDN, &mut buffer), Ok(None));
    bytes[108..111].copy_from_slice(&[61, 200, 0]);
    assert_eq!(Message::parse(&bytes[..len]).err(), Some(Error::BadOption));
}

#[test]
fn long_option_is_split() {
    let data = [7u8; 600];
    let mut buffer = [0; 1024];
    let mut builder = Builder::new(&mut buffer, 1024, 2, 1, MAC, MessageType::Ack).unwrap();
    builder.option(121, &data).unwrap();
    let len = builder.finish();
    let view = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(view.options().filter(|(code, _)| *code == 121).count(), 3);
    let mut joined = [0; 700];
    assert_eq!(view.joined(121, &mut joined), Ok(Some(&data[..])));
}

#[test]
fn builder_bounds() {
    let mut buffer = [0; 250];
    let mut builder = Builder::new(&mut buffer, DEFAULT_LIMIT, 2, 1, MAC, MessageType::Ack).unwrap();
    assert_eq!(builder.option(1, &[0; 5]), Err(Error::NoSpace));
    assert_eq!(builder.option(1, &[0; 4]), Ok(()));
    assert_eq!(builder.option(1, &[]), Err(Error::NoSpace));
    assert_eq!(builder.finish(), 250);
    assert!(Message::parse(&buffer).is_ok());
    for len in 0..244 {
        assert!(Builder::new(&mut buffer[..len], 999, 2, 1, MAC, MessageType::Ack).is_err());
    }
}

#[test]
fn reply_limit_follows_option_57() {
    for (value, limit) in [(0u16, 548), (576, 548), (1500, 1472), (u16::MAX, 65507)] {
        let [high, low] = value.to_be_bytes();
        let (bytes, len) = message(&[57, 2, high, low, 255]);
        assert_eq!(Message::parse(&bytes[..len]).unwrap().reply_limit(), limit);
    }
}

/// Every byte of the option area takes every value in turn: parsing and all accessors stay total.
#[test]
fn mutations_never_panic() {
    let (base, len) = message(&[52, 1, 3, 53, 1, 1, 61, 3, 1, 2, 3, 57, 2, 2, 64, 255]);
    for at in [44, 45, 108, 109].into_iter().chain(236..len) {
        for value in 0..=255 {
            let mut bytes = base;
            bytes[at] = value;
            for end in [at, at + 1, len] {
                let Ok(view) = Message::parse(&bytes[..end]) else { continue };
                view.options().for_each(drop);
                let _ = (view.message_type(), view.reply_limit(), view.address(54));
                let _ = view.joined(61, &mut [0; 16]);
            }
        }
    }
}
