#![allow(clippy::unwrap_used)]

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::dns::{Header, edns, flag, kind, rcode};

use super::*;

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 1);
pub(super) const WEB: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 50);

pub(super) struct Leases(Vec<(&'static str, Ipv4Addr)>);

impl Names for Leases {
    fn by_name(&self, name: &str) -> Option<Ipv4Addr> {
        self.0.iter().find(|(listed, _)| *listed == name).map(|(_, ip)| *ip)
    }
    fn by_ip(&self, ip: Ipv4Addr) -> Option<&str> {
        self.0.iter().find(|(_, listed)| *listed == ip).map(|(name, _)| *name)
    }
}

pub(super) fn leases() -> Leases {
    Leases(vec![("web", WEB), ("www.example.org", WEB), ("localhost", WEB), ("gw", GATEWAY)])
}

pub(super) fn config() -> Config {
    Config {
        enabled: true,
        domain: Some("lab.test".to_string()),
        gateway: GATEWAY,
        prefix: 24,
        hosts: vec![(Ipv4Addr::new(192, 168, 122, 9).into(), vec!["db".into(), "sql.corp.example".into()])],
        txt: vec![("note".into(), "hello".into())],
        upstreams: vec![Upstream { domain: None, resolvers: vec![0, 1] }],
        ttl: 60,
        ..Config::default()
    }
}

pub(super) fn client(port: u16) -> Client {
    let (ip, transport) = (Ipv4Addr::new(192, 168, 122, 77), Transport::Udp);
    Client { network: 1, mac: [2; 6], ip, port, server: GATEWAY, transport }
}

pub(super) fn question(name: &str, kind: u16, class: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&class.to_be_bytes());
    bytes
}

pub(super) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    message(id, flag::RD, &question(name, kind, 1), None)
}

/// `opt`: size and TTL field
pub(super) fn message(id: u16, flags: u16, question: &[u8], opt: Option<(u16, u32)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, flags, 1, 0, 0, u16::from(opt.is_some())] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.extend_from_slice(question);
    if let Some((size, ttl)) = opt {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&[0, 4, 0, 8, 0, 0]); // an option (client subnet)
    }
    bytes
}

pub(super) fn forwarder() -> Forwarder {
    let mut forwarder = Forwarder::new(42);
    forwarder.set_sockets(8, &[1, 2], &|_, _, _| Vec::new());
    forwarder
}

pub(super) fn ask_with(config: &Config, payload: &[u8]) -> (Verdict, Vec<u8>) {
    let mut reply = [0; 2048];
    let zone = Zone::new(config.clone());
    let verdict = forwarder().query(0, &zone, &leases(), client(1), payload, &mut reply);
    let length = match verdict {
        Verdict::Answer(length) | Verdict::Forward { len: length, .. } => length,
        Verdict::Waiting | Verdict::Drop(_) => 0,
    };
    (verdict, reply[..length].to_vec())
}

/// rcode and answer count; `None` when it went upstream
pub(super) fn outcome(config: &Config, name: &str, kind: u16) -> Option<(u16, u16)> {
    let (verdict, reply) = ask_with(config, &query(7, name, kind));
    let header = Header::parse(&reply).unwrap();
    match verdict {
        Verdict::Answer(_) => {
            assert!(header.is_response() && header.id == 7 && header.flags & flag::RD != 0);
            Some((header.rcode(), header.answers))
        }
        Verdict::Forward { .. } => None,
        other => panic!("{name}: {other:?}"),
    }
}

const ONE: Option<(u16, u16)> = Some((rcode::NOERROR, 1));
const NODATA: Option<(u16, u16)> = Some((rcode::NOERROR, 0));
const NXDOMAIN: Option<(u16, u16)> = Some((rcode::NXDOMAIN, 0));
const REFUSED: Option<(u16, u16)> = Some((rcode::REFUSED, 0));

#[test]
fn n1_own_names() {
    let config = config();
    for name in ["web", "WEB.lab.Test", "db", "db.lab.test", "sql.corp.example"] {
        assert_eq!(outcome(&config, name, kind::A), ONE, "{name}");
        assert_eq!(outcome(&config, name, kind::AAAA), NODATA, "{name}");
    }
    let (_, reply) = ask_with(&config, &query(7, "web", kind::A));
    assert_eq!(reply[reply.len() - 4..], WEB.octets());
    assert_ne!(Header::parse(&reply).unwrap().flags & flag::AA, 0);
    assert_eq!(outcome(&config, "50.122.168.192.in-addr.arpa", kind::PTR), ONE);
    let (_, reply) = ask_with(&config, &query(7, "50.122.168.192.in-addr.arpa", kind::PTR));
    assert!(reply.ends_with(b"\x03web\x03lab\x04test\0"));
    assert_eq!(outcome(&config, "50.122.168.192.in-addr.arpa", kind::A), NODATA);
    assert_eq!(outcome(&config, "note.lab.test", kind::TXT), ONE);
    assert_eq!(outcome(&config, "note", kind::A), NODATA);
    assert_eq!(outcome(&config, "lab.test", kind::A), NODATA, "apex");
    assert_eq!(outcome(&config, "gone.lab.test", kind::A), NXDOMAIN);
    assert_eq!(outcome(&config, "gw.lab.test", kind::A), NXDOMAIN, "the gateway has no name");
    assert_eq!(outcome(&config, "1.122.168.192.in-addr.arpa", kind::PTR), NXDOMAIN);
}

#[test]
fn guests_cannot_take_names_outside_the_network() {
    let config = config();
    assert_eq!(outcome(&config, "www.example.org", kind::A), None);
    assert_eq!(outcome(&config, "localhost", kind::A), NXDOMAIN);
}

#[test]
fn n2_nothing_private_leaks() {
    let mut config = config();
    config.forward_plain_names = true;
    assert_eq!(outcome(&config, "plain", kind::A), None);
    let zones = "localhost local onion invalid a.local x.onion y.localhost 4.3.2.10.in-addr.arpa \
        1.0.16.172.in-addr.arpa 1.0.31.172.in-addr.arpa 1.1.254.169.in-addr.arpa 1.0.0.127.in-addr.arpa \
        9.122.168.192.in-addr.arpa.x.local 1.2.168.192.in-addr.arpa x.d.f.ip6.arpa";
    for name in zones.split_whitespace() {
        assert_eq!(outcome(&config, name, kind::PTR), NXDOMAIN, "{name}");
    }
    let whole = |first: &str| format!("{first}{}", ".0".repeat(31)) + ".ip6.arpa";
    assert_eq!(outcome(&config, &whole("1"), kind::PTR), NXDOMAIN, "::1");
    for name in ["168.192.in-addr.arpa", "0.d.f.ip6.arpa", "1.c.f.ip6.arpa", "1.8.e.f.ip6.arpa"] {
        assert_eq!(outcome(&config, name, kind::PTR), NODATA, "{name} is on the way to addresses");
    }
    assert_eq!(outcome(&config, &whole("2"), kind::PTR), None);
    for name in ["1.0.32.172.in-addr.arpa", "8.8.8.8.in-addr.arpa", "a.test", "notlocal.com", ""] {
        assert_eq!(outcome(&config, name, kind::PTR), None, "{name}");
    }
    config.forward_plain_names = false;
    assert_eq!(outcome(&config, "plain", kind::A), NXDOMAIN);
}

#[test]
fn isolated_refuses_what_is_not_local() {
    let config = Config { isolated: true, upstreams: vec![], ..config() };
    assert_eq!(outcome(&config, "web", kind::A), ONE);
    assert_eq!(outcome(&config, "gone.lab.test", kind::A), NXDOMAIN);
    for name in ["plain", "example.com", "a.local", "8.8.8.8.in-addr.arpa", "1.0.0.10.in-addr.arpa"] {
        assert_eq!(outcome(&config, name, kind::A), REFUSED, "{name}");
    }
}

fn code_of(payload: &[u8]) -> u16 {
    let (verdict, reply) = ask_with(&config(), payload);
    assert!(matches!(verdict, Verdict::Answer(_)), "{verdict:?}");
    Header::parse(&reply).unwrap().rcode()
}

#[test]
fn n12_n13_odd_queries() {
    assert_eq!(ask_with(&config(), b"short").0, Verdict::Drop(Drop::Short));
    assert_eq!(ask_with(&Config::default(), &query(1, "a", 1)).0, Verdict::Drop(Drop::Disabled));
    let a = question("example.com", kind::A, 1);
    assert_eq!(ask_with(&config(), &message(1, flag::QR, &a, None)).0, Verdict::Drop(Drop::Response));
    assert_eq!(code_of(&message(1, 4 << 11, &a, None)), rcode::NOTIMP);
    let mut two = message(1, 0, &a, None);
    two[5] = 2;
    assert_eq!(code_of(&two), rcode::FORMERR);
    assert_eq!(code_of(&message(1, 0, b"\xc0\x0c\0\x01\0\x01", None)), rcode::FORMERR);
    let mut lies = message(1, 0, &a, None);
    lies[7] = 9;
    assert_eq!(code_of(&lies), rcode::FORMERR);
    assert_eq!(code_of(&message(1, 0, &question("version.bind", kind::TXT, 3), None)), rcode::REFUSED);
    assert_eq!(outcome(&config(), "example.com", 252), REFUSED, "AXFR");
    assert_eq!(outcome(&config(), "example.com", kind::ANY), ONE);
    assert_eq!(outcome(&config(), "web", kind::ANY), ONE);
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let mut twice = [message(1, 0, &a, None).as_slice(), opt, opt].concat();
    twice[11] = 2;
    assert_eq!(code_of(&twice), rcode::FORMERR, "two OPT");
}

#[test]
fn n3_edns() {
    let a = question("example.com", kind::A, 1);
    let (_, reply) = ask_with(&config(), &message(1, 0, &a, Some((4096, 0x0001_0000))));
    let header = Header::parse(&reply).unwrap();
    assert_eq!((header.rcode(), header.additionals), (0, 1), "BADVERS: lower bits zero");
    assert_eq!(reply[reply.len() - 6], 1, "upper bits");
    for size in [4096, 900, 0] {
        let (verdict, reply) =
            ask_with(&config(), &message(1, flag::CD | flag::AD, &a, Some((size, 0x8000))));
        assert!(matches!(verdict, Verdict::Forward { .. }));
        let header = Header::parse(&reply).unwrap();
        assert_eq!(header.flags, flag::CD, "AD is not passed");
        let found = edns(&reply, &header, 12 + a.len()).unwrap().unwrap();
        assert_eq!((found.size, found.dnssec_ok), (1232, true), "what this host takes");
        assert_eq!(found.end - found.start, 11, "the client's options stay here");
    }
    let (_, reply) = ask_with(&config(), &query(1, "example.com", kind::A));
    assert_eq!(Header::parse(&reply).unwrap().additionals, 0);
}

#[test]
fn truncated_queries_get_an_answer() {
    let whole = message(1, 0, &question("a.example.com", kind::A, 1), Some((1232, 0)));
    for length in 12..whole.len() {
        assert_eq!(code_of(&whole[..length]), rcode::FORMERR, "{length}");
    }
}
