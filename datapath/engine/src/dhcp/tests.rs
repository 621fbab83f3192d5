//! The paths of RFC 2131 in virtual time; the numbers are those of the conformance table.
use alloc::{vec, vec::Vec};
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::{Builder, FLAG_BROADCAST, Message, MessageType as Type, code};

use super::*;

pub(super) const NOW: u64 = 1_800_000_000;
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

pub(super) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

pub(super) fn mac(last: u8) -> Mac {
    [2, 0, 0, 0, 0, last]
}

pub(super) fn config(low: u8, high: u8) -> Config {
    Config {
        server: ip(1),
        prefix: 24,
        ranges: vec![range(low, high)],
        router: Some(ip(1)),
        dns: Some(ip(1)),
        domain: Some("lab.test".into()),
        mtu: 1500,
        ..Config::default()
    }
}

pub(super) fn range(low: u8, high: u8) -> Range {
    Range { first: ip(low), last: ip(high), lease_seconds: 3600 }
}

/// A message to the server; options are `(code, data)`.
pub(super) fn packet(kind: Type, mac: Mac, ciaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut buffer = vec![0; 1400];
    let mut builder = Builder::new(&mut buffer, 1400, 1, 0x0102_0304, mac, kind).unwrap();
    builder.ciaddr(ciaddr);
    for (code, data) in options {
        builder.option(*code, data).unwrap();
    }
    let len = builder.finish();
    buffer.truncate(len);
    buffer
}

pub(super) struct Net {
    pub(super) server: Server,
    pub(super) now: u64,
    pub(super) writable: bool,
    out: Vec<u8>,
}

impl Net {
    pub(super) fn new(config: Config) -> Self {
        Self { server: Server::new(config, 7), now: NOW, writable: true, out: vec![0; 1500] }
    }

    pub(super) fn send(&mut self, mac: Mac, payload: &[u8]) -> Outcome {
        self.server.handle(self.now, mac, payload, self.writable, &mut self.out)
    }

    pub(super) fn say(&mut self, kind: Type, mac: Mac, ciaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Outcome {
        self.send(mac, &packet(kind, mac, ciaddr, options))
    }

    pub(super) fn answer(&self, reply: &Reply) -> Message<'_> {
        Message::parse(&self.out[..reply.len]).unwrap()
    }

    pub(super) fn discover(&mut self, mac: Mac, options: &[(u8, &[u8])]) -> Result<Ipv4Addr, Drop> {
        match self.say(Type::Discover, mac, ANY, options) {
            Outcome::Reply(reply) => {
                assert_eq!(reply.kind, Type::Offer);
                Ok(self.answer(&reply).yiaddr())
            }
            Outcome::Drop(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn select(&mut self, mac: Mac, want: Ipv4Addr, options: &[(u8, &[u8])]) -> Outcome {
        let (want, server) = (want.octets(), self.server.config.server.octets());
        let mut all = vec![(code::REQUESTED_IP, &want[..]), (code::SERVER_ID, &server[..])];
        all.extend_from_slice(options);
        self.say(Type::Request, mac, ANY, &all)
    }

    pub(super) fn reboot(&mut self, mac: Mac, want: Ipv4Addr) -> Outcome {
        self.say(Type::Request, mac, ANY, &[(code::REQUESTED_IP, &want.octets())])
    }

    pub(super) fn renew(&mut self, mac: Mac, addr: Ipv4Addr) -> Outcome {
        self.say(Type::Request, mac, addr, &[])
    }

    /// The whole exchange.
    pub(super) fn lease(&mut self, mac: Mac, options: &[(u8, &[u8])]) -> Ipv4Addr {
        let offered = self.discover(mac, options).unwrap();
        assert_eq!(acked(&self.select(mac, offered, options)).ip, offered);
        offered
    }

    fn decline(&mut self, mac: Mac, addr: Ipv4Addr) -> Outcome {
        let server = self.server.config.server.octets();
        let options = [(code::REQUESTED_IP, &addr.octets()[..]), (code::SERVER_ID, &server[..])];
        self.say(Type::Decline, mac, ANY, &options)
    }

    pub(super) fn expire(&mut self) -> usize {
        let mut count = 0;
        self.server.expire(self.now, &mut |_| count += 1);
        count
    }
}

#[track_caller]
pub(super) fn acked(outcome: &Outcome) -> Lease {
    match outcome {
        Outcome::Commit { change: Change::Set(lease), reply } if reply.kind == Type::Ack => lease.clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(outcome: &Outcome) -> Reply {
    match outcome {
        Outcome::Reply(reply) | Outcome::Revoke { reply, .. } if reply.kind == Type::Nak => *reply,
        other => panic!("{other:?}"),
    }
}

#[test]
fn d1_four_way_exchange_and_options() {
    let mut net = Net::new(config(10, 20));
    let offered = net.discover(mac(1), &[]).unwrap();
    let outcome = net.select(mac(1), offered, &[(code::HOST_NAME, b"Web-1")]);
    let lease = acked(&outcome);
    assert_eq!(lease.expiry, NOW + 3600);
    let Outcome::Commit { reply, .. } = outcome else { panic!() };
    assert_eq!((reply.dst_ip, reply.dst_mac), (offered, mac(1)));
    let ack = net.answer(&reply);
    assert_eq!((ack.op(), ack.xid(), ack.yiaddr(), ack.mac()), (2, 0x0102_0304, offered, mac(1)));
    let expected: [(u8, &[u8]); 11] = [
        (1, &[255, 255, 255, 0]),
        (3, &[10, 0, 0, 1]),
        (6, &[10, 0, 0, 1]),
        (12, b"web-1"),
        (15, b"lab.test"),
        (26, &1500u16.to_be_bytes()),
        (28, &[10, 0, 0, 255]),
        (51, &3600u32.to_be_bytes()),
        (54, &[10, 0, 0, 1]),
        (58, &1800u32.to_be_bytes()),
        (59, &3150u32.to_be_bytes()),
    ];
    for (code, data) in expected {
        assert_eq!(ack.option(code), Some(data), "option {code}");
    }
    assert_eq!(net.server.lookup_name("WEB-1", NOW), Some(offered));
    assert_eq!(net.server.lookup_ip(offered, NOW), Some("web-1"));
    assert_eq!(net.server.lookup_name("web-1", NOW + 3600), None);
    assert_eq!(net.server.lookup_ip(offered, NOW + 3600), None);
}

#[test]
fn d1_isolated_and_infinite() {
    let mut settings = config(10, 20);
    (settings.router, settings.ranges[0].lease_seconds) = (None, INFINITE);
    let mut net = Net::new(settings);
    let offered = net.discover(mac(1), &[]).unwrap();
    let outcome = net.select(mac(1), offered, &[]);
    assert_eq!(acked(&outcome).expiry, 0);
    let Outcome::Commit { reply, .. } = outcome else { panic!() };
    let ack = net.answer(&reply);
    assert_eq!((ack.option(3), ack.option(58), ack.option(59)), (None, None, None));
    assert_eq!(ack.option(51), Some(&[255; 4][..]));
    net.now = u64::MAX;
    assert_eq!(net.expire(), 0);
    assert_eq!(net.server.leases().count(), 1);
}

#[test]
fn d2_client_identifier() {
    let mut net = Net::new(config(10, 60));
    let first = net.lease(mac(1), &[(61, &[1])]);
    let second = net.lease(mac(1), &[(61, &[0, 9])]);
    assert_ne!(first, second);
    assert_eq!(net.lease(mac(2), &[(61, &[1])]), first);
    let long = [255; 255];
    let Outcome::Reply(reply) = net.say(Type::Discover, mac(3), ANY, &[(61, &long)]) else { panic!() };
    assert!(reply.len <= 548);
    assert_eq!(net.answer(&reply).option(61), Some(&long[..]));
    let Outcome::Drop(reason) = net.say(Type::Discover, mac(3), ANY, &[(61, &[1; 256])]) else { panic!() };
    assert_eq!(reason, Drop::Malformed);
    let reply = refused(&net.say(Type::Request, mac(4), ANY, &[(50, &[9, 9, 9, 9]), (61, b"id")]));
    assert_eq!(net.answer(&reply).option(61), Some(&b"id"[..]));
}

#[test]
fn d3_same_client_same_address() {
    let mut net = Net::new(config(10, 60));
    let first = net.lease(mac(1), &[]);
    for _ in 0..20 {
        assert_eq!(net.lease(mac(1), &[]), first);
    }
    net.now += 4000;
    assert_eq!(net.expire(), 1);
    for other in 2..40 {
        assert_ne!(net.lease(mac(other), &[]), first);
    }
    assert_eq!(net.lease(mac(1), &[]), first);
    let lease = net.server.leases().find(|lease| lease.ip == first).unwrap().clone();
    let mut again = Net::new(config(10, 60));
    again.server.restore(lease);
    assert_eq!(again.lease(mac(1), &[]), first);
}

#[test]
fn d3_offer_memory_survives_unanswered_offers() {
    let mut net = Net::new(config(10, 60));
    let first = net.lease(mac(1), &[]);
    net.now += 4000;
    net.expire();
    assert_eq!(net.discover(mac(1), &[]), Ok(first));
    net.now += OFFER_SECONDS;
    net.expire();
    assert_eq!(net.discover(mac(1), &[]), Ok(first));
}

#[test]
fn d4_init_reboot() {
    let mut net = Net::new(config(10, 20));
    let own = net.lease(mac(1), &[]);
    assert_eq!(acked(&net.reboot(mac(1), own)).ip, own);
    refused(&net.reboot(mac(1), ip(if own == ip(20) { 19 } else { 20 })));
    refused(&net.reboot(mac(2), own));
    for wrong in [Ipv4Addr::new(192, 168, 1, 5), ip(1), ip(0), ip(255), ip(200)] {
        refused(&net.reboot(mac(2), wrong));
    }
    let free = ip(if own == ip(15) { 16 } else { 15 });
    assert_eq!(acked(&net.reboot(mac(2), free)).ip, free);
    assert_eq!(net.say(Type::Request, mac(3), ANY, &[]), Outcome::Drop(Drop::NoAddress));
}

#[test]
fn d5_other_server_chosen() {
    let mut net = Net::new(config(10, 10));
    net.discover(mac(1), &[]).unwrap();
    assert_eq!(net.discover(mac(2), &[]), Err(Drop::PoolExhausted));
    let options: [(u8, &[u8]); 2] = [(50, &[10, 0, 0, 9]), (54, &[10, 0, 0, 9])];
    assert_eq!(net.say(Type::Request, mac(1), ANY, &options), Outcome::Drop(Drop::OtherServer));
    assert_eq!(net.discover(mac(2), &[]), Ok(ip(10)));
}

#[test]
fn d6_renew_rebind_and_restart() {
    let mut net = Net::new(config(10, 20));
    let own = net.lease(mac(1), &[(12, b"db")]);
    net.now += 1800;
    let outcome = net.renew(mac(1), own);
    let lease = acked(&outcome);
    assert_eq!((lease.expiry, lease.hostname.as_deref()), (net.now + 3600, Some("db")));
    let Outcome::Commit { reply, .. } = outcome else { panic!() };
    assert_eq!((reply.dst_ip, reply.dst_mac), (own, mac(1)));
    assert_eq!(net.answer(&reply).ciaddr(), own);
    let mut fresh = Net::new(config(10, 20));
    assert_eq!(acked(&fresh.renew(mac(1), own)).ip, own);
    refused(&fresh.renew(mac(2), own));
}

#[test]
fn d6_failed_commit() {
    let mut net = Net::new(config(10, 20));
    let own = net.lease(mac(1), &[]);
    net.now += 100;
    acked(&net.renew(mac(1), own));
    net.server.commit_failed(own, mac(9));
    net.server.commit_failed(own, mac(1));
    net.server.commit_failed(own, mac(1));
    assert_eq!(net.server.leases().next().unwrap().expiry, NOW + 3600);
    let other = net.lease(mac(2), &[]);
    net.server.commit_failed(other, mac(2));
    net.server.commit_failed(other, mac(2));
    assert_eq!(net.server.leases().count(), 1);
}

#[test]
fn d7_nak_is_broadcast_and_bare() {
    let mut net = Net::new(config(10, 20));
    let reply = refused(&net.renew(mac(1), ip(99)));
    assert_eq!((reply.dst_ip, reply.dst_mac), (Ipv4Addr::BROADCAST, [0xff; 6]));
    let nak = net.answer(&reply);
    assert_eq!((nak.yiaddr(), nak.ciaddr(), nak.siaddr()), (ANY, ANY, ANY));
    assert_eq!(nak.options().map(|(code, _)| code).collect::<Vec<_>>(), [53, 54]);
}

#[test]
fn d8_decline_quarantines() {
    let mut net = Net::new(config(10, 49));
    let first = net.lease(mac(1), &[]);
    assert_eq!(net.decline(mac(2), first), Outcome::Drop(Drop::NotOwner));
    assert_eq!(net.decline(mac(1), first), Outcome::Release(Change::Remove(first, mac(1))));
    assert_ne!(net.discover(mac(1), &[]), Ok(first));
    refused(&net.reboot(mac(2), first));
    let offered = net.discover(mac(1), &[]).unwrap();
    assert_eq!(net.decline(mac(1), offered), Outcome::Drop(Drop::Declined));
    for _ in 0..1000 {
        let own = net.lease(mac(1), &[]);
        net.decline(mac(1), own);
    }
    for other in 10..40 {
        net.lease(mac(other), &[]);
    }
    assert_eq!(net.discover(mac(99), &[]), Err(Drop::PoolExhausted));
    net.now += QUARANTINE_SECONDS;
    net.expire();
    assert!(net.discover(mac(99), &[]).is_ok());
}

#[test]
fn d9_release() {
    let mut net = Net::new(config(10, 20));
    let own = net.lease(mac(1), &[(61, b"abc")]);
    for (from, addr, id) in
        [(mac(2), own, &b"abc"[..]), (mac(1), ip(50), b"abc"), (mac(1), own, b"abd"), (mac(1), ANY, b"abc")]
    {
        let outcome = net.say(Type::Release, from, addr, &[(61, id)]);
        assert_eq!(outcome, Outcome::Drop(Drop::NotOwner));
    }
    let foreign: [(u8, &[u8]); 2] = [(61, b"abc"), (54, &[10, 0, 0, 9])];
    assert_eq!(net.say(Type::Release, mac(1), own, &foreign), Outcome::Drop(Drop::OtherServer));
    let outcome = net.say(Type::Release, mac(1), own, &[(61, b"abc")]);
    assert_eq!(outcome, Outcome::Release(Change::Remove(own, mac(1))));
    assert_eq!(net.server.leases().count(), 0);
    assert_eq!(net.lease(mac(1), &[(61, b"abc")]), own);
}

#[test]
fn d10_inform() {
    let mut net = Net::new(config(10, 20));
    let Outcome::Reply(reply) = net.say(Type::Inform, mac(1), ip(77), &[]) else { panic!() };
    assert_eq!((reply.kind, reply.dst_ip, reply.dst_mac), (Type::Ack, ip(77), mac(1)));
    let ack = net.answer(&reply);
    assert_eq!((ack.yiaddr(), ack.option(51), ack.option(58)), (ANY, None, None));
    assert_eq!(ack.option(6), Some(&[10, 0, 0, 1][..]));
    assert_eq!(net.say(Type::Inform, mac(1), ANY, &[]), Outcome::Drop(Drop::NoAddress));
    let foreign = Ipv4Addr::new(8, 8, 8, 8);
    assert_eq!(net.say(Type::Inform, mac(1), foreign, &[]), Outcome::Drop(Drop::WrongNetwork));
}

#[test]
fn d11_broadcast_flag() {
    let mut net = Net::new(config(10, 20));
    let mut payload = packet(Type::Discover, mac(1), ANY, &[]);
    let Outcome::Reply(reply) = net.send(mac(1), &payload) else { panic!() };
    assert_eq!((reply.dst_ip, reply.dst_mac), (net.answer(&reply).yiaddr(), mac(1)));
    payload[10..12].copy_from_slice(&FLAG_BROADCAST.to_be_bytes());
    let Outcome::Reply(reply) = net.send(mac(1), &payload) else { panic!() };
    assert_eq!((reply.dst_ip, reply.dst_mac), (Ipv4Addr::BROADCAST, [0xff; 6]));
    assert!(net.answer(&reply).broadcast());
}

#[test]
fn d12_d13_header_checks() {
    let mut net = Net::new(config(10, 20));
    let good = packet(Type::Discover, mac(1), ANY, &[]);
    let cases = [
        (0, 2, Drop::NotRequest),
        (1, 6, Drop::BadHardware),
        (2, 16, Drop::BadHardware),
        (3, 1, Drop::Relayed),
        (27, 1, Drop::Relayed),
        (33, 2, Drop::ForeignChaddr),
        (239, 0, Drop::BadCookie),
        (242, 9, Drop::UnexpectedType),
        (242, 2, Drop::UnexpectedType),
        (241, 250, Drop::Malformed),
    ];
    for (at, value, reason) in cases {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(net.send(mac(1), &bad), Outcome::Drop(reason), "byte {at}");
    }
    assert_eq!(net.send(mac(1), &good[..200]), Outcome::Drop(Drop::Malformed));
    assert!(matches!(net.send(mac(1), &good), Outcome::Reply(_)));
    let mut tiny = [0; 100];
    assert_eq!(net.server.handle(NOW, mac(1), &good, true, &mut tiny), Outcome::Drop(Drop::NoSpace));
}

#[test]
fn d14_requested_time_and_reply_size() {
    let mut net = Net::new(config(10, 20));
    for (asked, granted) in [(10u32, 120u32), (600, 600), (99999, 3600)] {
        let outcome = net.say(Type::Discover, mac(1), ANY, &[(51, &asked.to_be_bytes())]);
        let Outcome::Reply(reply) = outcome else { panic!() };
        assert_eq!(net.answer(&reply).option(51), Some(&granted.to_be_bytes()[..]));
    }
    let mut settings = config(10, 20);
    settings.domain = Some(["a".repeat(60).as_str(); 4].join("."));
    let mut net = Net::new(settings);
    for (limit, has_domain) in [(576u16, false), (1500, true)] {
        let options: [(u8, &[u8]); 2] = [(57, &limit.to_be_bytes()), (61, &[1; 200])];
        let Outcome::Reply(reply) = net.say(Type::Discover, mac(1), ANY, &options) else { panic!() };
        assert!(reply.len + 28 <= limit.into());
        assert_eq!(net.answer(&reply).option(15).is_some(), has_domain);
    }
}

#[test]
fn d16_host_names() {
    for (sent, stored) in [
        (&b"vm2"[..], Some("vm2")),
        (b"VM2.example.org.", Some("vm2")),
        (b"vm2\0", Some("vm2")),
        (b"../../x", None),
        (b"wpad", None),
        (b"LOCALHOST", None),
        (b"gateway", None),
        (b"-a", None),
        (b"a-", None),
        (b"a b", None),
        (b"10.0.0.7", None),
        ("\u{fc}ber".as_bytes(), None),
        (&[0xff, 0xfe], None),
        (&[b'a'; 64], None),
        (&[b'a'; 255], None),
        (b"", None),
    ] {
        assert_eq!(name::sanitise(sent).as_deref(), stored, "{sent:?}");
    }
    let mut net = Net::new(config(10, 20));
    for (index, fqdn) in [&b"\0\0\0plain.test"[..], b"\x04\0\0\x04wire\x04test\0"].into_iter().enumerate() {
        let own = net.lease(mac(index as u8), &[(81, fqdn)]);
        assert_eq!(net.server.lookup_ip(own, NOW), Some(["plain", "wire"][index]));
    }
}

#[test]
fn d16_names_are_not_taken_over() {
    let mut settings = config(10, 20);
    let fixed =
        Reservation { mac: Some(mac(9)), name: Some("db".into()), ip: Some(ip(5)), ..Reservation::default() };
    settings.hosts = vec![fixed];
    let mut net = Net::new(settings);
    let first = net.lease(mac(1), &[(12, b"web")]);
    let second = net.lease(mac(2), &[(12, b"web")]);
    let third = net.lease(mac(3), &[(12, b"db")]);
    assert_eq!(net.server.lookup_name("web", NOW), Some(first));
    assert_eq!((net.server.lookup_ip(second, NOW), net.server.lookup_ip(third, NOW)), (None, None));
    assert_eq!(net.server.lookup_name("db", NOW), Some(ip(5)));
    assert_eq!(net.lease(mac(9), &[(12, b"other")]), ip(5));
    assert_eq!(net.server.lookup_ip(ip(5), NOW), Some("db"));
    net.now += 1800;
    acked(&net.renew(mac(2), second));
    net.now += 1800;
    acked(&net.say(Type::Request, mac(2), second, &[(12, b"web")]));
    assert_eq!(net.server.lookup_name("web", net.now), Some(second));
    net.expire();
    assert_eq!(net.server.lookup_name("web", net.now), Some(second));
}

#[test]
fn d17_exhaustion_and_reuse() {
    let mut settings = config(0, 7);
    settings.prefix = 29;
    let mut net = Net::new(settings);
    let mut given = Vec::new();
    for client in 1..=5 {
        given.push(net.lease(mac(client), &[]));
        net.now += 10;
    }
    given.sort();
    assert_eq!(given, [2, 3, 4, 5, 6].map(ip));
    assert_eq!(net.discover(mac(6), &[]), Err(Drop::PoolExhausted));
    assert!(!Drop::PoolExhausted.as_str().is_empty());
    let oldest = net.server.table.of(&Key::Mac(mac(1))).unwrap().lease.ip;
    let second = net.server.table.of(&Key::Mac(mac(2))).unwrap().lease.ip;
    acked(&net.renew(mac(1), oldest));
    net.now = NOW + 3600 + 25;
    assert_eq!(net.lease(mac(6), &[]), second);
    refused(&net.renew(mac(2), second));
}
