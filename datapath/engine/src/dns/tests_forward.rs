//! Queries to resolvers: who is asked, whose answer counts, how long it is kept.
#![allow(clippy::unwrap_used)]

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::dns::{Header, Question, flag, kind, rcode};
use proptest::prelude::*;

use super::tests::{GATEWAY, SECOND, client, config, forwarder, leases, message, query, question};
use super::*;

/// Sends `payload` and gives what becomes of it, with the bytes of an answer or a query.
fn put(forwarder: &mut Forwarder, now: u64, client: Client, payload: &[u8]) -> (Verdict, Vec<u8>) {
    let mut reply = [0; 2048];
    let verdict = forwarder.query(now, &Zone::new(config()), &leases(), client, payload, &mut reply);
    let length = match verdict {
        Verdict::Forward { len: length, .. } | Verdict::Answer(length) => length,
        Verdict::Waiting | Verdict::Drop(_) => 0,
    };
    (verdict, reply[..length].to_vec())
}

/// Sends `payload` and gives socket and query.
fn send(forwarder: &mut Forwarder, now: u64, client: Client, payload: &[u8]) -> (u16, Vec<u8>) {
    match put(forwarder, now, client, payload) {
        (Verdict::Forward { socket, .. }, sent) => (socket, sent),
        (other, _) => panic!("{other:?}"),
    }
}

/// Answers that a response makes, and the sockets of queries it makes.
fn answers(
    forwarder: &mut Forwarder,
    now: u64,
    socket: u16,
    bytes: &[u8],
) -> (Vec<(Client, Vec<u8>)>, Vec<u16>) {
    let (mut answers, mut asked) = (Vec::new(), Vec::new());
    let mut reply = [0; 4096];
    let known = forwarder.response(now, socket, bytes, &mut reply, &mut |event| match event {
        Event::Answer { client, bytes } => answers.push((client, bytes.to_vec())),
        Event::Ask { socket, .. } => asked.push(socket),
    });
    assert!(known || (answers.is_empty() && asked.is_empty()));
    (answers, asked)
}

/// The one answer of a response.
fn answer(forwarder: &mut Forwarder, now: u64, socket: u16, bytes: &[u8]) -> Option<(Client, Vec<u8>)> {
    let (mut answers, _) = answers(forwarder, now, socket, bytes);
    assert!(answers.len() <= 1);
    answers.pop()
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
    let refused = |forwarder: &mut Forwarder, socket, bytes: &[u8]| {
        assert!(!forwarder.response(0, socket, bytes, &mut [0; 2048], &mut |_| panic!()));
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
    let (to, reply) = answer(&mut forwarder, 0, socket, &good).unwrap();
    assert_eq!((to, reply.len()), (client(1), good.len()));
    assert_eq!(reply[..2], [0xbe, 0xef]);
    assert_eq!(reply[12..asked.len()], asked[12..], "the client's case");
    let flags = Header::parse(&reply).unwrap().flags;
    assert_eq!(flags, flag::QR | flag::RD | flag::RA, "AD stripped");
    refused(&mut forwarder, socket, &good);
}

#[test]
fn n6_ids_sockets_and_case_vary() {
    let mut forwarder = forwarder();
    let (mut seen, mut sockets, mut cases) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for id in 0..100 {
        let name = format!("host-{id}.averylongname.example.com");
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
    let a = question("example.com", kind::TXT, 1);
    for (opt, extra, cut) in
        [(None, 400, false), (None, 600, true), (Some((4096, 0)), 1100, false), (Some((4096, 0)), 1300, true)]
    {
        let mut forwarder = forwarder();
        let (socket, sent) = send(&mut forwarder, 0, client(1), &message(1, 0, &a, opt));
        let plain = message(0, 0, &sent[12..12 + a.len()], None);
        let mut long = answer_to(&plain, 0, extra);
        long[..2].copy_from_slice(&sent[..2]);
        let (_, reply) = answer(&mut forwarder, 0, socket, &long).unwrap();
        let header = Header::parse(&reply).unwrap();
        assert_eq!((header.flags & flag::TC != 0, header.answers == 0), (cut, cut), "{extra}");
        assert!(!cut || reply.len() == 12 + a.len() + if opt.is_some() { 11 } else { 0 });
    }
    let over_tcp = Client { transport: Transport::Tcp(3), ..client(1) };
    let mut forwarder = forwarder();
    let (socket, sent) = send(&mut forwarder, 0, over_tcp, &message(1, 0, &a, None));
    let (to, reply) = answer(&mut forwarder, 0, socket, &answer_to(&sent, 0, 3000)).unwrap();
    assert_eq!((to, reply.len() > 3000), (over_tcp, true));
}

#[test]
fn answers_fit_the_networks_mtu() {
    let zone = Zone::new(Config { mtu: 600, ..config() });
    let asked = message(1, flag::RD, &question("example.com", kind::TXT, 1), Some((1232, 0)));
    for (extra, cut) in [(400, false), (550, true)] {
        let (mut forwarder, mut reply) = (forwarder(), [0; 2048]);
        let verdict = forwarder.query(0, &zone, &leases(), client(1), &asked, &mut reply);
        let Verdict::Forward { socket, len, .. } = verdict else { panic!("{verdict:?}") };
        let sent = reply[..len].to_vec();
        let plain = message(0, 0, &sent[12..29], None);
        let mut long = answer_to(&plain, 0, extra);
        long[..2].copy_from_slice(&sent[..2]);
        let (_, reply) = answer(&mut forwarder, 0, socket, &long).unwrap();
        assert_eq!(Header::parse(&reply).unwrap().flags & flag::TC != 0, cut, "{extra}");
    }
}

#[test]
fn n5_n9_upstream_codes_pass() {
    for flags in [flag::TC, rcode::REFUSED, rcode::SERVFAIL, rcode::NXDOMAIN, rcode::NOTIMP] {
        let mut forwarder = forwarder();
        let (socket, sent) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
        let failed = answer_to(&sent, flags, 0);
        let (mut given, asked) = answers(&mut forwarder, 0, socket, &failed);
        let cannot_say = matches!(flags, rcode::REFUSED | rcode::SERVFAIL | rcode::NOTIMP);
        assert_eq!(
            (asked.len() == 1, given.is_empty()),
            (cannot_say, cannot_say),
            "{flags}: the next is asked"
        );
        if cannot_say {
            assert!((8..16).contains(&asked[0]));
            assert_eq!(answers(&mut forwarder, 0, socket, &failed), (vec![], vec![]), "it said so already");
            given = answers(&mut forwarder, 0, asked[0], &failed).0;
        }
        assert_eq!(Header::parse(&given[0].1).unwrap().flags & (flag::TC | flag::RCODE), flags);
        assert_eq!(forwarder.in_flight(), 0);
    }
}

/// What `expire` says: socket of a retry, `None` for SERVFAIL.
fn expire(forwarder: &mut Forwarder, now: u64) -> Vec<Option<u16>> {
    let mut events = Vec::new();
    forwarder.expire(now, &mut |event| match event {
        Event::Ask { socket, .. } => events.push(Some(socket)),
        Event::Answer { bytes, .. } => {
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
    assert!(answer(&mut forwarder, 3 * SECOND, second, &answer_to(&sent, 0, 0)).is_some());
    assert_eq!(forwarder.in_flight(), 1);
    let mut forwarder = self::forwarder();
    send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    assert!(expire(&mut forwarder, 2 * SECOND)[0].is_some());
    assert!(expire(&mut forwarder, 4 * SECOND)[0].is_some());
    assert_eq!(expire(&mut forwarder, 6 * SECOND), [None]);
    assert_eq!((forwarder.in_flight(), forwarder.next_timeout()), (0, None));
}

/// What `upstream_failed` wants asked.
fn fail(forwarder: &mut Forwarder, socket: u16, tcp: bool) -> Option<u16> {
    let mut moved = None;
    forwarder.upstream_failed(0, socket, tcp, &mut |event| {
        if let Event::Ask { socket, .. } = event {
            moved = Some(socket);
        }
    });
    moved
}

#[test]
fn n9_late_answers_and_errors() {
    let mut forwarder = forwarder();
    let (first, sent) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    expire(&mut forwarder, 2 * SECOND);
    assert!(answer(&mut forwarder, 3 * SECOND, first, &answer_to(&sent, 0, 0)).is_some());

    let mut forwarder = self::forwarder();
    let (first, _) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    assert_eq!(fail(&mut forwarder, first, true), None, "a connection that failed concerns no datagram");
    assert!(fail(&mut forwarder, first, false).unwrap() >= 8, "at once");
}

#[test]
fn queries_move_when_sockets_do() {
    let to = |resolvers: Vec<u16>| {
        move |_: u16, name: &str, asked: u16| {
            assert_eq!((name, asked), ("example.com", kind::A));
            resolvers.clone()
        }
    };
    let mut forwarder = forwarder();
    let (first, sent) = send(&mut forwarder, 0, client(1), &query(1, "example.com", kind::A));
    forwarder.set_sockets(8, &[1, 2, 3], &|_, _, _| panic!("nothing it left by has changed"));
    assert!(expire(&mut forwarder, 0).is_empty());
    forwarder.set_sockets(8, &[9, 2, 3], &to(vec![2]));
    assert_eq!(forwarder.next_timeout(), Some(0));
    let moved = expire(&mut forwarder, 0)[0].unwrap();
    assert!((16..24).contains(&moved), "asked anew of whom the network asks now");
    assert_eq!(answers(&mut forwarder, 0, first, &answer_to(&sent, 0, 0)), (vec![], vec![]));
    forwarder.set_sockets(8, &[], &to(vec![]));
    assert_eq!(expire(&mut forwarder, 0), [None], "nobody is left");
}

#[test]
fn every_domain_has_its_resolvers() {
    let upstream = |domain: Option<&str>, resolvers: Vec<u16>| Upstream {
        domain: domain.map(ToString::to_string),
        resolvers,
    };
    let zone = Zone::new(Config {
        upstreams: vec![
            upstream(None, vec![0]),
            upstream(Some("example.com"), vec![1]),
            upstream(Some("WWW.example.com."), vec![0]),
            upstream(Some("gone.test"), vec![]),
        ],
        ..config()
    });
    let cases = [
        ("a.net", Some(0)),
        ("example.com", Some(1)),
        ("a.b.example.com", Some(1)),
        ("notexample.com", Some(0)),
        ("www.example.com", Some(0)),
        ("a.www.example.com", Some(0)),
        ("a.gone.test", None),
    ];
    for (name, resolver) in cases {
        let (mut forwarder, mut reply) = (forwarder(), [0; 600]);
        let asked = query(1, name, kind::A);
        match forwarder.query(0, &zone, &leases(), client(1), &asked, &mut reply) {
            Verdict::Forward { socket, .. } => assert_eq!(Some(socket / 8), resolver, "{name}"),
            Verdict::Answer(_) => {
                assert_eq!((resolver, Header::parse(&reply).unwrap().rcode()), (None, rcode::SERVFAIL));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn n7_equal_queries_wait_for_one_answer() {
    let mut forwarder = forwarder();
    let (socket, sent) = send(&mut forwarder, 0, client(1), &query(1, "a.example", kind::A));
    for port in 2..100 {
        let (verdict, _) = put(&mut forwarder, 0, client(port), &query(port, "A.eXample", kind::A));
        assert_eq!(verdict, Verdict::Waiting);
    }
    let verdict = |forwarder: &mut Forwarder, client, payload: &[u8]| put(forwarder, 0, client, payload).0;
    let again = verdict(&mut forwarder, client(50), &query(50, "a.example", kind::A));
    assert_eq!(again, Verdict::Drop(Drop::Duplicate));
    for other in [
        (client(1), query(2, "a.example", kind::AAAA)),
        (client(1), message(3, flag::RD, &question("a.example", kind::A, 1), Some((1232, 0x8000)))),
        (client(1), message(4, flag::RD | flag::CD, &question("a.example", kind::A, 1), None)),
        (Client { network: 2, ..client(1) }, query(5, "a.example", kind::A)),
        (Client { transport: Transport::Tcp(1), ..client(1) }, query(6, "a.example", kind::A)),
    ] {
        assert!(matches!(verdict(&mut forwarder, other.0, &other.1), Verdict::Forward { .. }));
    }
    assert_eq!(forwarder.in_flight(), 6);
    let (given, _) = answers(&mut forwarder, 0, socket, &answer_to(&sent, 0, 40));
    assert_eq!(given.len(), 99);
    for (to, reply) in given {
        assert_eq!(reply[..2], to.port.to_be_bytes(), "its own id");
        let name: &[u8] = if to.port == 1 { b"\x01a\x07example" } else { b"\x01A\x07eXample" };
        assert_eq!(&reply[12..22], name, "its own case");
    }
    assert_eq!(forwarder.in_flight(), 5);
}

#[test]
fn n7_caps_and_duplicates_are_answered() {
    let mut forwarder = forwarder();
    let ask = |forwarder: &mut Forwarder, client: Client, name: &str| {
        put(forwarder, 0, client, &query(5, name, kind::A))
    };
    for n in 0..150 {
        let (verdict, _) = ask(&mut forwarder, client(n), &format!("n{n}.example"));
        assert!(matches!(verdict, Verdict::Forward { .. }));
    }
    assert!(matches!(ask(&mut forwarder, client(999), "x.example").0, Verdict::Answer(_)), "per client");
    assert!(matches!(ask(&mut forwarder, client(998), "n5.example").0, Verdict::Answer(_)), "waiting too");
    assert_eq!(ask(&mut forwarder, client(3), "N3.example").0, Verdict::Drop(Drop::Duplicate));
    for n in 150..1024 {
        let other = Client { ip: Ipv4Addr::from(u32::from(GATEWAY) + n), ..client(1) };
        let (verdict, _) = ask(&mut forwarder, other, &format!("n{}.example", n / 2));
        assert!(matches!(verdict, Verdict::Forward { .. } | Verdict::Waiting));
    }
    let fresh = Client { network: 2, ..client(1) };
    let (verdict, reply) = ask(&mut forwarder, fresh, "y.example");
    assert!(matches!(verdict, Verdict::Answer(_)), "table full");
    assert_eq!(Header::parse(&reply).unwrap().rcode(), rcode::SERVFAIL);
    while !expire(&mut forwarder, u64::MAX / 2).iter().all(Option::is_none) {}
}

/// An answer with one record of this time to live.
fn with_ttl(sent: &[u8], ttl: u32) -> Vec<u8> {
    let mut answer = answer_to(sent, 0, 4);
    let (at, code) = (answer.len() - 10, answer.len() - 14);
    answer[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
    answer[code..code + 2].copy_from_slice(&kind::A.to_be_bytes());
    answer
}

fn ttl_of(reply: &[u8]) -> u32 {
    u32::from_be_bytes(reply[reply.len() - 10..reply.len() - 6].try_into().unwrap())
}

/// Asks and answers; the cache of the clients' network has room.
fn learn(forwarder: &mut Forwarder, now: u64, name: &str, response: impl Fn(&[u8]) -> Vec<u8>) {
    let (socket, sent) = send(forwarder, now, client(1), &query(1, name, kind::A));
    answers(forwarder, now, socket, &response(&sent));
}

#[test]
fn n10_answers_are_kept_while_they_live() {
    let mut forwarder = forwarder();
    forwarder.set_cache(1, 150);
    learn(&mut forwarder, 0, "a.example", |sent| with_ttl(sent, 60));
    let (verdict, reply) = put(&mut forwarder, 59 * SECOND, client(9), &query(77, "A.Example", kind::A));
    assert_eq!((verdict, ttl_of(&reply)), (Verdict::Answer(reply.len()), 1));
    assert_eq!((&reply[..2], &reply[12..23]), (&[0, 77][..], &b"\x01A\x07Example\0"[..]));
    assert_eq!(Header::parse(&reply).unwrap().flags, flag::QR | flag::RD | flag::RA);
    for other in [
        query(1, "a.example", kind::AAAA),
        message(1, flag::RD, &question("a.example", kind::A, 1), Some((1232, 0))),
        message(2, flag::RD | flag::CD, &question("a.example", kind::A, 1), None),
    ] {
        let (verdict, _) = put(&mut forwarder, 59 * SECOND, client(9), &other);
        assert!(matches!(verdict, Verdict::Forward { .. }), "another answer");
    }
    let elsewhere = Client { network: 2, ..client(9) };
    let asked = query(1, "a.example", kind::A);
    assert!(matches!(put(&mut forwarder, SECOND, elsewhere, &asked).0, Verdict::Forward { .. }));
    assert!(matches!(put(&mut forwarder, 60 * SECOND, client(8), &asked).0, Verdict::Forward { .. }));
}

#[test]
fn n10_what_says_nothing_lasting_is_not_kept() {
    let soa = |sent: &[u8], code: u16| {
        let mut answer = answer_to(sent, code, 0);
        answer[9] = 1;
        answer.extend([0xc0, 12, 0, 6, 0, 1, 0, 0, 1, 0, 0, 22, 0, 0]);
        answer.extend([0; 18]);
        answer.extend([0, 30]);
        answer
    };
    type Response<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let cases: [(&str, Response<'_>, bool); 9] = [
        ("denied", &|sent| soa(sent, rcode::NXDOMAIN), true),
        ("nodata", &|sent| soa(sent, 0), true),
        ("without-soa", &|sent| answer_to(sent, rcode::NXDOMAIN, 0), false),
        ("empty", &|sent| answer_to(sent, 0, 0), false),
        ("servfail", &|sent| soa(sent, rcode::SERVFAIL), false),
        ("refused", &|sent| soa(sent, rcode::REFUSED), false),
        (
            "truncated",
            &|sent| {
                let mut answer = with_ttl(sent, 60);
                answer[2] |= 2;
                answer
            },
            false,
        ),
        ("zero", &|sent| with_ttl(sent, 0), false),
        ("good", &|sent| with_ttl(sent, 60), true),
    ];
    let mut forwarder = Forwarder::new(1);
    forwarder.set_sockets(8, &[1], &|_, _, _| Vec::new());
    forwarder.set_cache(1, 150);
    for (name, response, kept) in cases {
        let name = format!("{name}.example");
        learn(&mut forwarder, 0, &name, response);
        let (verdict, _) = put(&mut forwarder, 29 * SECOND, client(2), &query(1, &name, kind::A));
        assert_eq!(matches!(verdict, Verdict::Answer(_)), kept, "{name}");
    }
    let (verdict, _) = put(&mut forwarder, 30 * SECOND, client(3), &query(1, "denied.example", kind::A));
    assert!(matches!(verdict, Verdict::Forward { .. }), "as long as the zone says");
}

#[test]
fn n10_times_are_bounded() {
    let mut forwarder = forwarder();
    forwarder.set_cache(1, 150);
    learn(&mut forwarder, 0, "a.example", |sent| with_ttl(sent, u32::MAX));
    let asked = query(1, "a.example", kind::A);
    let day = 86_400 * SECOND;
    assert!(matches!(put(&mut forwarder, day - 1, client(2), &asked).0, Verdict::Answer(_)));
    assert!(matches!(put(&mut forwarder, day, client(2), &asked).0, Verdict::Forward { .. }));
}

#[test]
fn n10_a_full_cache_forgets_what_was_used_longest_ago() {
    let mut forwarder = forwarder();
    forwarder.set_cache(1, 50);
    let name = |n: u32| format!("n{n}.example");
    for n in 0..50 {
        learn(&mut forwarder, u64::from(n), &name(n), |sent| with_ttl(sent, 600));
    }
    let known = |forwarder: &mut Forwarder, n: u32| {
        matches!(put(forwarder, SECOND, client(2), &query(1, &name(n), kind::A)).0, Verdict::Answer(_))
    };
    assert!(known(&mut forwarder, 0), "used again");
    for n in 50..60 {
        learn(&mut forwarder, SECOND, &name(n), |sent| with_ttl(sent, 600));
        assert_eq!(forwarder.caches[&1].len(), 50);
    }
    assert!(known(&mut forwarder, 0) && known(&mut forwarder, 11) && known(&mut forwarder, 59));
    assert!(!known(&mut forwarder, 1) && !known(&mut forwarder, 10));
    // Large answers count by their size.
    for n in 100..150 {
        learn(&mut forwarder, SECOND, &name(n), |sent| {
            let mut answer = with_ttl(sent, 600);
            let rest = answer_to(sent, 0, 3000)[sent.len()..].to_vec();
            answer[11] = 1;
            answer.extend(rest);
            answer
        });
    }
    assert!((10..20).contains(&forwarder.caches[&1].len()), "{}", forwarder.caches[&1].len());
}

#[test]
fn n10_other_ways_are_other_answers() {
    let mut forwarder = forwarder();
    let asked = query(1, "a.example", kind::A);
    let kept =
        |forwarder: &mut Forwarder| matches!(put(forwarder, SECOND, client(2), &asked).0, Verdict::Answer(_));
    forwarder.set_cache(1, 10);
    learn(&mut forwarder, 0, "a.example", |sent| with_ttl(sent, 600));
    assert!(kept(&mut forwarder));
    forwarder.set_sockets(8, &[1, 2], &|_, _, _| Vec::new());
    assert!(kept(&mut forwarder), "the same sockets");
    forwarder.set_sockets(8, &[1, 3], &|_, _, _| Vec::new());
    assert!(!kept(&mut forwarder));
    forwarder.set_cache(1, 0);
    let mut forwarder = self::forwarder();
    learn(&mut forwarder, 0, "a.example", |sent| with_ttl(sent, 600));
    assert!(!kept(&mut forwarder), "no cache");
}

#[test]
fn an_answer_without_recursion_is_not_kept() {
    let mut forwarder = forwarder();
    forwarder.set_cache(1, 10);
    let asked = message(1, 0, &question("a.example", kind::A, 1), None);
    let (socket, sent) = send(&mut forwarder, 0, client(1), &asked);
    answers(&mut forwarder, 0, socket, &with_ttl(&sent, 600));
    assert!(matches!(put(&mut forwarder, 0, client(1), &asked).0, Verdict::Forward { .. }));
}

#[test]
fn nobody_to_ask_is_a_failure() {
    let mut forwarder = Forwarder::new(1);
    let (verdict, reply) = put(&mut forwarder, 0, client(1), &query(5, "a.b", kind::A));
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
        forwarder.set_cache(1, 4);
        let (socket, sent) = send(&mut forwarder, 0, client(9), &query(1, "example.com", kind::A));
        let (mut reply, zone) = ([0; 700], Zone::new(config()));
        for room in [0, 11, 12, 40, 700] {
            forwarder.query(0, &zone, &leases(), client(1), &bytes, &mut reply[..room]);
        }
        let _ = Question::parse(&bytes);
        let mut answer = answer_to(&sent, 0, 0);
        answer[6..12].copy_from_slice(&[0, shape, 0, 0, 0, 1]);
        answer.extend_from_slice(&bytes);
        forwarder.response(0, socket, &bytes, &mut reply, &mut |_| ());
        prop_assert!(forwarder.response(0, socket, &answer, &mut reply[..60], &mut |_| ()));
        forwarder.query(1, &zone, &leases(), client(9), &query(1, "example.com", kind::A), &mut reply);
        let mut server = tcp::TcpServer::new([2, 0, 0, 0, 0, 9], GATEWAY, 24, 1500, 1);
        server.receive(0, &bytes, &mut |_| ());
    }
}
