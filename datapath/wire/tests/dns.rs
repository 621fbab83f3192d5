//! DNS messages: the builder, and how long an answer lives.

use std::net::{Ipv4Addr, Ipv6Addr};

use pontoon_wire::dns::{Builder, EDNS_SIZE, Header, Owner, Question, age, edns, flag, lifetime, rcode};

const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";
const QUESTION: &[u8] = b"\x03wWw\x02aB\0\0\x01\0\x01";

/// A message with the question alone.
fn question() -> Vec<u8> {
    let mut message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.extend(QUESTION);
    message
}

#[test]
fn builder_reads_back_and_reports_overflow() {
    let mut out = [0; 300];
    let mut builder = Builder::new(&mut out, 7, flag::QR);
    builder.question(QUESTION);
    builder.a(Owner::Asked, 60, Ipv4Addr::new(1, 2, 3, 4));
    builder.aaaa(Owner::Asked, 60, Ipv6Addr::LOCALHOST);
    builder.ptr(60, "a.b");
    builder.txt(Owner::Asked, 60, "hello");
    builder.srv(Owner::Asked, 60, [1, 2, 3], "");
    builder.hinfo(60);
    builder.additional();
    builder.address(Owner::Name("www.ab"), 60, Ipv4Addr::LOCALHOST.into());
    builder.opt(rcode::BADVERS, true);
    let (length, whole) = builder.finish();
    assert!(whole);
    let header = Header::parse(&out[..length]).expect("header");
    assert_eq!((header.questions, header.answers, header.additionals), (1, 6, 2));
    let found = edns(&out[..length], &header, 24).expect("records").expect("opt");
    assert_eq!((found.size, found.end), (EDNS_SIZE, length));

    let mut small = [0; 30];
    let mut builder = Builder::new(&mut small, 7, 0);
    builder.question(QUESTION);
    builder.a(Owner::Asked, 60, Ipv4Addr::LOCALHOST);
    assert_eq!(builder.finish(), (24, false), "the record is left out whole");
}

/// The bytes behind the question.
fn written(write: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut out = [0; 600];
    let mut builder = Builder::new(&mut out, 7, 0);
    builder.question(QUESTION);
    write(&mut builder);
    let (length, whole) = builder.finish();
    assert!(whole);
    out[24..length].to_vec()
}

#[test]
fn names_point_at_what_stands_already() {
    let one = written(|out| out.cname(Owner::Asked, 0, "x.WWW.ab"));
    assert_eq!(one[10..], *b"\0\x04\x01x\xc0\x0c");
    let two = written(|out| {
        out.cname(Owner::Asked, 0, "y.z");
        out.a(Owner::Name("q.y.z"), 0, Ipv4Addr::LOCALHOST);
        out.a(Owner::Name("Q.y.z"), 0, Ipv4Addr::LOCALHOST);
        out.a(Owner::Name("y.zz"), 0, Ipv4Addr::LOCALHOST);
    });
    assert_eq!(two[12..17], *b"\x01y\x01z\0", "the target at 36");
    assert_eq!(two[17..21], *b"\x01q\xc0\x24");
    assert_eq!(two[35..37], *b"\xc0\x29");
    assert_eq!(two[51..57], *b"\x01y\x02zz\0");
    let srv = written(|out| out.srv(Owner::Asked, 0, [0, 0, 1], "www.ab"));
    assert_eq!(srv[18..], *b"\x03www\x02ab\0", "whole");
}

#[test]
fn names_that_are_none_leave_their_record_out() {
    for name in ["a..b", &"x".repeat(64), &["x"; 140].join(".")] {
        let mut out = [0; 600];
        let mut builder = Builder::new(&mut out, 7, 0);
        builder.question(QUESTION);
        builder.ptr(0, name);
        assert_eq!(builder.finish(), (24, false), "{name}");
    }
}

#[test]
fn a_reply_lives_as_long_as_its_shortest_record_and_a_denial_as_long_as_its_zone_says() {
    let mut message = question();
    message[2] = 0x80;
    let soa = |ttl: u8, minimum: u8| {
        let mut record = vec![0xc0, 12, 0, 6, 0, 1, 0, 0, 0, ttl, 0, 22, 0, 0];
        record.extend([0; 16]);
        record.extend([0, 0, 0, minimum]);
        record
    };
    let a = |ttl: u8| vec![0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 1, 2, 3, 4];
    let cname = |ttl: u8| vec![0xc0, 12, 0, 5, 0, 1, 0, 0, 0, ttl, 0, 2, 0xc0, 12];
    let lives = |code: u8, answers: &[Vec<u8>], authority: &[Vec<u8>]| {
        let mut message = message.clone();
        (message[3], message[7], message[9]) = (code, answers.len() as u8, authority.len() as u8);
        message[11] = 0;
        message.extend(answers.concat());
        message.extend(authority.concat());
        let header = Header::parse(&message).expect("header");
        lifetime(&message, &header, &Question::parse(&message).expect("question"))
    };
    assert_eq!(lives(0, &[a(60), a(30)], &[]), Some(30));
    assert_eq!(lives(0, &[a(60), a(0)], &[]), None);
    assert_eq!(lives(0, &[], &[]), None, "no SOA");
    assert_eq!(lives(0, &[], &[soa(90, 20)]), Some(20));
    assert_eq!(lives(3, &[], &[soa(10, 20)]), Some(10));
    assert_eq!(lives(0, &[cname(5)], &[soa(90, 20)]), Some(5), "the alias of nothing");
    assert_eq!(lives(3, &[cname(50)], &[]), None);
    assert_eq!(lives(0, &[cname(50), a(40)], &[soa(1, 1)]), Some(40));
}

#[test]
fn times_run_down_but_opt_stays() {
    let mut message = question();
    (message[7], message[11]) = (1, 1);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 1, 2, 3, 4]);
    message.extend(OPT);
    let header = Header::parse(&message).expect("header");
    let before = message.clone();
    age(&mut message, &header, 24, 6);
    assert_eq!(message[30..34], [0, 0, 0, 250]);
    message[30..34].copy_from_slice(&before[30..34]);
    assert_eq!(message, before);
    age(&mut message, &header, 24, 1000);
    assert_eq!(message[30..34], [0; 4]);
}
