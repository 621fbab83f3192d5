#![allow(clippy::unwrap_used)]

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::dns::{Header, Question, edns, flag, kind, rcode};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 1);
const WEB: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 50);

struct Leases(Vec<(&'static str, Ipv4Addr)>);

impl Names for Leases {
    fn by_name(&self, name: &str) -> Option<Ipv4Addr> {
        self.0.iter().find(|(listed, _)| *listed == name).map(|(_, ip)| *ip)
    }
    fn by_ip(&self, ip: Ipv4Addr) -> Option<&str> {
        self.0.iter().find(|(_, listed)| *listed == ip).map(|(name, _)| *name)
    }
}

fn leases() -> Leases {
    Leases(vec![("web", WEB), ("www.example.org", WEB), ("localhost", WEB), ("gw", GATEWAY)])
}

fn config() -> Config {
    Config {
        enabled: true,
        domain: Some("lab.test".to_string()),
        gateway: GATEWAY,
        prefix: 24,
        hosts: vec![(Ipv4Addr::new(192, 168, 122, 9), vec!["db".into(), "sql.corp.example".into()])],
        txt: vec![("note".into(), "hello".into())],
        lease_seconds_ttl: 60,
        ..Config::default()
    }
}

fn client(port: u16) -> Client {
    Client { network: 1, mac: [2; 6], ip: Ipv4Addr::new(192, 168, 122, 77), port, transport: Transport::Udp }
}

fn question(name: &str, kind: u16, class: u16) -> Vec<u8> {
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

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    message(id, flag::RD, &question(name, kind, 1), None)
}

/// `opt`: size and TTL field
fn message(id: u16, flags: u16, question: &[u8], opt: Option<(u16, u32)>) -> Vec<u8> {
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

fn forwarder() -> Forwarder {
    let mut forwarder = Forwarder::new(42);
    forwarder.set_sockets(2, 8);
    forwarder
}

fn ask_with(config: &Config, payload: &[u8]) -> (Verdict, Vec<u8>) {
    let mut reply = [0; 2048];
    let verdict = forwarder().query(0, config, &leases(), client(1), payload, &mut reply);
    let length = match verdict {
        Verdict::Answer(length) | Verdict::Forward { len: length, .. } => length,
        Verdict::Drop(_) => 0,
    };
    (verdict, reply[..length].to_vec())
}

/// rcode and answer count; `None` when it went upstream
fn outcome(config: &Config, name: &str, kind: u16) -> Option<(u16, u16)> {
    let (verdict, reply) = ask_with(config, &query(7, name, kind));
    let header = Header::parse(&reply).unwrap();
    match verdict {
        Verdict::Answer(_) => {
            assert!(header.is_response() && header.id == 7 && header.flags & flag::RD != 0);
            Some((header.rcode(), header.answers))
        }
        Verdict::Forward { .. } => None,
        Verdict::Drop(reason) => panic!("{name}: {reason:?}"),
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
        9.122.168.192.in-addr.arpa.x.local 1.2.168.192.in-addr.arpa 0.d.f.ip6.arpa 1.8.e.f.ip6.arpa";
    for name in zones.split_whitespace() {
        assert_eq!(outcome(&config, name, kind::PTR), NXDOMAIN, "{name}");
    }
    assert_eq!(outcome(&config, "168.192.in-addr.arpa", kind::PTR), NODATA);
    for name in ["1.0.32.172.in-addr.arpa", "8.8.8.8.in-addr.arpa", "a.test", "notlocal.com", ""] {
        assert_eq!(outcome(&config, name, kind::PTR), None, "{name}");
    }
    config.forward_plain_names = false;
    assert_eq!(outcome(&config, "plain", kind::A), NXDOMAIN);
}

#[test]
fn isolated_refuses_what_is_not_local() {
    let config = Config { isolated: true, ..config() };
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
    for (size, sent) in [(4096, 1232), (900, 900), (0, 512)] {
        let (verdict, reply) =
            ask_with(&config(), &message(1, flag::CD | flag::AD, &a, Some((size, 0x8000))));
        assert!(matches!(verdict, Verdict::Forward { .. }));
        let header = Header::parse(&reply).unwrap();
        assert_eq!(header.flags, flag::CD, "AD is not passed");
        let found = edns(&reply, &header, 12 + a.len()).unwrap().unwrap();
        assert_eq!((found.size, found.dnssec_ok), (sent, true));
        assert_eq!(found.end - found.start, 11, "the client's options stay here");
    }
    let (_, reply) = ask_with(&config(), &query(1, "example.com", kind::A));
    assert_eq!(Header::parse(&reply).unwrap().additionals, 0);
}

/// Sends `payload` and gives socket and query.
fn send(forwarder: &mut Forwarder, now: u64, client: Client, payload: &[u8]) -> (u16, Vec<u8>) {
    let mut reply = [0; 2048];
    match forwarder.query(now, &config(), &leases(), client, payload, &mut reply) {
        Verdict::Forward { socket, len, .. } => (socket, reply[..len].to_vec()),
        other => panic!("{other:?}"),
    }
}

fn answer_to(sent: &[u8], flags: u16, extra: usize) -> Vec<u8> {
    let mut answer = sent.to_vec();
    answer[2..4].copy_from_slice(&(flag::QR | flags).to_be_bytes());
    if extra > 0 {
        answer[7] = 1;
        answer.extend_from_slice(&[0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
        answer.extend_from_slice(&(extra as u16).to_be_bytes());
        answer.resize(answer.len() + extra, 9);
    }
    answer
}

#[test]
fn n6_only_the_exact_reply_counts() {
    let mut forwarder = forwarder();
    let asked = query(0xbeef, "wWw.exAmple.com", kind::A);
    let (socket, sent) = send(&mut forwarder, 0, client(1), &asked);
    assert!(socket < 8, "the first resolver's");
    let good = answer_to(&sent, flag::AD | flag::RA, 40);
    let mut reply = [0; 2048];
    let mut refused = |forwarder: &mut Forwarder, socket, bytes: &[u8]| {
        assert_eq!(forwarder.response(0, socket, bytes, &mut reply), None);
    };
    for id in (0..=u16::MAX).filter(|id| id.to_be_bytes() != sent[..2]) {
        let mut bad = good.clone();
        bad[..2].copy_from_slice(&id.to_be_bytes());
        refused(&mut forwarder, socket, &bad);
    }
    (0..16).filter(|other| *other != socket).for_each(|other| refused(&mut forwarder, other, &good));
    for (at, bit) in [(13, 0x20), (13, 1), (sent.len() - 3, 1), (sent.len() - 1, 2), (2, 0x80), (5, 2)] {
        let mut bad = good.clone();
        bad[at] ^= bit;
        refused(&mut forwarder, socket, &bad);
    }
    let (to, length) = forwarder.response(0, socket, &good, &mut reply).unwrap();
    assert_eq!((to, length), (client(1), good.len()));
    assert_eq!(reply[..2], [0xbe, 0xef]);
    assert_eq!(reply[12..asked.len()], asked[12..], "the client's case");
    let flags = Header::parse(&reply).unwrap().flags;
    assert_eq!(flags, flag::QR | flag::RD | flag::RA, "AD stripped");
    assert_eq!(forwarder.response(0, socket, &good, &mut reply), None, "once only");
}

#[test]
fn n6_ids_sockets_and_case_vary() {
    let mut forwarder = forwarder();
    let mut seen = alloc::collections::BTreeSet::new();
    let mut sockets = alloc::collections::BTreeSet::new();
    let mut cases = alloc::collections::BTreeSet::new();
    for id in 0..100 {
        let name = alloc::format!("host-{id}.averylongname.example.com");
        let (socket, sent) = send(&mut forwarder, 0, client(1), &query(id, &name, kind::A));
        seen.insert(sent[..2].to_vec());
        sockets.insert(socket);
        cases.insert(sent[20..40].to_vec());
        assert!(sent[12..].eq_ignore_ascii_case(&query(0, &name, kind::A)[12..]));
    }
    assert!(seen.len() > 95 && sockets.len() == 8 && cases.len() > 95);
}

#[test]
fn n4_answers_are_cut_to_the_client() {
    let mut reply = [0; 4096];
    let a = question("example.com", kind::TXT, 1);
    for (opt, extra, cut) in
        [(None, 400, false), (None, 600, true), (Some((4096, 0)), 1100, false), (Some((4096, 0)), 1300, true)]
    {
        let mut forwarder = forwarder();
        let (socket, sent) = send(&mut forwarder, 0, client(1), &message(1, 0, &a, opt));
        let plain = message(0, 0, &sent[12..12 + a.len()], None);
        let mut answer = answer_to(&plain, 0, extra);
        answer[..2].copy_from_slice(&sent[..2]);
        let (_, length) = forwarder.response(0, socket, &answer, &mut reply).unwrap();
        let header = Header::parse(&reply).unwrap();
        assert_eq!((header.flags & flag::TC != 0, header.answers == 0), (cut, cut), "{extra}");
        assert!(!cut || length == 12 + a.len() + if opt.is_some() { 11 } else { 0 });
    }
    let over_tcp = Client { transport: Transport::Tcp(3), ..client(1) };
    let mut forwarder = forwarder();
    let (socket, sent) = send(&mut forwarder, 0, over_tcp, &message(1, 0, &a, None));
    let (to, length) = forwarder.response(0, socket, &answer_to(&sent, 0, 3000), &mut reply).unwrap();
    assert_eq!((to, length > 3000), (over_tcp, true));
}

#[test]
fn n5_n9_upstream_codes_pass() {
    for flags in [flag::TC, rcode::REFUSED, rcode::SERVFAIL, rcode::NXDOMAIN] {
        let mut forwarder = forwarder();
        let (socket, sent) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
        let mut reply = [0; 600];
        forwarder.response(0, socket, &answer_to(&sent, flags, 0), &mut reply).unwrap();
        assert_eq!(Header::parse(&reply).unwrap().flags & (flag::TC | flag::RCODE), flags);
    }
}

/// What `expire` says: socket of a retry, `None` for SERVFAIL.
fn expire(forwarder: &mut Forwarder, now: u64) -> Vec<Option<u16>> {
    let mut events = Vec::new();
    forwarder.expire(now, &mut |event| match event {
        Expired::Retry { socket, .. } => events.push(Some(socket)),
        Expired::ServFail { bytes, .. } => {
            let header = Header::parse(bytes).unwrap();
            assert_eq!((header.id, header.rcode(), header.questions), (1, rcode::SERVFAIL, 1));
            events.push(None);
        }
    });
    events
}

#[test]
fn n9_retries_then_servfail() {
    let mut forwarder = forwarder();
    let (_, sent) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    assert_eq!(forwarder.next_timeout(), Some(2 * SECOND));
    assert!(expire(&mut forwarder, 2 * SECOND - 1).is_empty());
    let second = expire(&mut forwarder, 2 * SECOND)[0].unwrap();
    assert!(second >= 8, "the other resolver");
    let (next, _) = send(&mut forwarder, 2 * SECOND, client(2), &query(2, "b.example", kind::A));
    assert!(next >= 8, "the dead one is passed over");
    let mut reply = [0; 600];
    assert!(forwarder.response(3 * SECOND, second, &answer_to(&sent, 0, 0), &mut reply).is_some());
    assert_eq!(forwarder.in_flight(), 1);
    let mut forwarder = self::forwarder();
    send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    assert!(expire(&mut forwarder, 2 * SECOND)[0].is_some());
    assert!(expire(&mut forwarder, 4 * SECOND)[0].is_some());
    assert_eq!(expire(&mut forwarder, 6 * SECOND), [None]);
    assert_eq!((forwarder.in_flight(), forwarder.next_timeout()), (0, None));
}

#[test]
fn n9_late_answers_and_errors() {
    let mut forwarder = forwarder();
    let (first, sent) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    expire(&mut forwarder, 2 * SECOND);
    let mut reply = [0; 600];
    assert!(forwarder.response(3 * SECOND, first, &answer_to(&sent, 0, 0), &mut reply).is_some());

    let mut forwarder = self::forwarder();
    let (first, _) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    let mut moved = None;
    forwarder.upstream_failed(0, first, &mut |event| {
        if let Expired::Retry { socket, .. } = event {
            moved = Some(socket);
        }
    });
    assert!(moved.unwrap() >= 8, "at once");
    forwarder.set_sockets(2, 2);
    assert!(expire(&mut forwarder, 0)[0].unwrap() < 4, "asked anew from the new sockets");
    forwarder.set_sockets(1, 2);
    assert_eq!(expire(&mut forwarder, 0), [None], "three tries are over");
}

#[test]
fn n7_caps_and_duplicates_are_answered() {
    let mut forwarder = forwarder();
    let mut reply = [0; 600];
    let mut ask = |forwarder: &mut Forwarder, client: Client, name: &str| {
        forwarder.query(0, &config(), &leases(), client, &query(5, name, kind::A), &mut reply)
    };
    for n in 0..150 {
        let verdict = ask(&mut forwarder, client(n), &alloc::format!("n{n}.example"));
        assert!(matches!(verdict, Verdict::Forward { .. }));
    }
    assert!(matches!(ask(&mut forwarder, client(999), "x.example"), Verdict::Answer(_)), "per client");
    assert_eq!(ask(&mut forwarder, client(3), "N3.example"), Verdict::Drop(Drop::Duplicate));
    for n in 150..1024 {
        let other = Client { ip: Ipv4Addr::from(u32::from(GATEWAY) + n), ..client(1) };
        assert!(matches!(
            ask(&mut forwarder, other, &alloc::format!("n{n}.example")),
            Verdict::Forward { .. }
        ));
    }
    let fresh = Client { network: 2, ..client(1) };
    assert!(matches!(ask(&mut forwarder, fresh, "y.example"), Verdict::Answer(_)), "table full");
    assert_eq!(Header::parse(&reply).unwrap().rcode(), rcode::SERVFAIL);
    let mut forwarder = Forwarder::new(1);
    let verdict = forwarder.query(0, &config(), &leases(), fresh, &query(5, "a.b", 1), &mut reply);
    assert!(matches!(verdict, Verdict::Answer(_)), "no resolvers");
    assert_eq!(Header::parse(&reply).unwrap().rcode(), rcode::SERVFAIL);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), shape in 0u8..4) {
        if shape > 0 && bytes.len() > 12 {
            bytes[2] &= 0x87;
            bytes[4..6].copy_from_slice(&[0, 1]);
            bytes[6..12].fill(0);
            bytes[11] = shape - 1;
        }
        let mut forwarder = forwarder();
        let (socket, sent) = send(&mut forwarder, 0, client(9), &query(1, "example.com", kind::A));
        let mut reply = [0; 700];
        for room in [0, 11, 12, 40, 700] {
            forwarder.query(0, &config(), &leases(), client(1), &bytes, &mut reply[..room]);
        }
        let _ = Question::parse(&bytes);
        let mut answer = answer_to(&sent, 0, 0);
        answer[6..12].copy_from_slice(&[0, shape, 0, 0, 0, 1]);
        answer.extend_from_slice(&bytes);
        forwarder.response(0, socket, &bytes, &mut reply);
        prop_assert!(forwarder.response(0, socket, &answer, &mut reply[..60]).is_some());
        let mut server = tcp::TcpServer::new([2, 0, 0, 0, 0, 9], GATEWAY, 24, 1);
        server.receive(0, &bytes, &mut |_| ());
    }
}

#[test]
fn truncated_queries_get_an_answer() {
    let whole = message(1, 0, &question("a.example.com", kind::A, 1), Some((1232, 0)));
    for length in 12..whole.len() {
        assert_eq!(code_of(&whole[..length]), rcode::FORMERR, "{length}");
    }
}
