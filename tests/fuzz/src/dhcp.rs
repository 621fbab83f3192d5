//! The DHCP codec and a server with a small pool.
//!
//! Input: a sequence of client, seconds, flags and message (length first).

use std::collections::HashSet;
use std::net::Ipv4Addr;

use pontoon_engine::dhcp::{Boot, Change, Config, Outcome, Range, Reply, Reservation, Server};
use pontoon_wire::dhcp::{Message, code};

use crate::input::Input;

const FIRST: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);
const LAST: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 17);
const RESERVED: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 30);
const NAMED: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 31);
/// Flags of a step.
const DISK_FAILS: u8 = 1;
const EXPIRE: u8 = 2;
const FOREIGN: u8 = 4;
const DISK_BUSY: u8 = 8;

fn config() -> Config {
    let gateway = Ipv4Addr::new(192, 168, 100, 1);
    Config {
        server: gateway,
        prefix: 24,
        ranges: vec![Range { first: FIRST, last: LAST, lease_seconds: 3600 }],
        hosts: vec![
            Reservation {
                mac: Some([2, 0, 0, 0, 0, 3]),
                any_client_id: true,
                name: Some("three".into()),
                ip: Some(RESERVED),
                lease_seconds: Some(600),
                ..Reservation::default()
            },
            Reservation { name: Some("four".into()), ip: Some(NAMED), ..Reservation::default() },
        ],
        router: Some(gateway),
        dns: Some(gateway),
        domain: Some("example.test".into()),
        mtu: 1500,
        boot: Some(Boot { file: "boot.img".into(), server_name: "server".into(), next_server: Some(LAST) }),
        options: vec![(3, vec![]), (42, vec![10, 0, 0, 1]), (119, vec![1, b'x', 0]), (224, vec![7; 300])],
        own: vec![LAST],
        ..Config::default()
    }
}

pub fn run(data: &[u8]) {
    let mut server = Server::new(config(), 1);
    let mut now = 1_700_000_000;
    let mut input = Input(data);
    while !input.is_empty() {
        let (client, seconds, flags) = (input.byte(), input.byte(), input.byte());
        now += u64::from(seconds) * 16;
        let message = input.block();
        codec(message);
        step(&mut server, now, [2, 0, 0, 0, 0, client], flags, message);
        if flags & EXPIRE != 0 {
            server.expire(now, &mut |_| {});
        }
        check(&server);
    }
}

fn codec(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    let mut buffer = [0; 512];
    for (option, data) in message.options() {
        assert!(data.len() <= 255);
        let _ = message.joined(option, &mut buffer);
    }
    let _ = (message.message_type(), message.address(code::REQUESTED_IP), message.reply_limit());
    let _ = (message.xid(), message.secs(), message.broadcast(), message.giaddr(), message.file());
}

fn step(server: &mut Server, now: u64, mac: [u8; 6], flags: u8, bytes: &[u8]) {
    let mut message = bytes.to_vec();
    // The server insists that the message's address is the frame's.
    if let (Some(place), 0) = (message.get_mut(28..34), flags & FOREIGN) {
        place.copy_from_slice(&mac);
    }
    let mut out = [0; 1500];
    match server.handle(now, mac, &message, flags & DISK_BUSY == 0, &mut out) {
        Outcome::Reply(reply) => inspect(&out, &reply, &message),
        Outcome::Commit { change, reply } => {
            inspect(&out, &reply, &message);
            assert_eq!(flags & DISK_BUSY, 0, "nothing is written");
            let Change::Set(lease) = change else { panic!("an answer to a removal") };
            match flags & DISK_FAILS {
                0 => server.committed(lease.ip, lease.mac, lease.expiry),
                _ => server.commit_failed(lease.ip, lease.mac),
            }
        }
        Outcome::Revoke { reply, .. } => inspect(&out, &reply, &message),
        Outcome::Drop(_) | Outcome::Release(_) => {}
    }
}

fn inspect(out: &[u8], reply: &Reply, request: &[u8]) {
    let answer =
        Message::parse(&out[..reply.len]).map(|answer| (answer.op(), answer.xid(), answer.message_type()));
    let asked = Message::parse(request).map(|request| request.xid()).unwrap_or_default();
    assert_eq!(answer, Ok((2, asked, Some(reply.kind))));
}

fn check(server: &Server) {
    let mut seen = HashSet::new();
    for lease in server.leases() {
        assert!(seen.insert(lease.ip), "{} is leased twice", lease.ip);
        assert!(
            (FIRST..LAST).contains(&lease.ip) || lease.ip == RESERVED || lease.ip == NAMED,
            "{} is not in the pool",
            lease.ip
        );
    }
}
