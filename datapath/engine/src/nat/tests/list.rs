//! Looking at the table.

use super::*;

fn look(action: Action, from: u32) -> Look {
    Look { action, from, slots: 7 }
}

/// All sessions that are meant, three rows a look at most.
fn list(bench: &mut Bench, query: &Query) -> Vec<Session> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let mut rows = Vec::with_capacity(3);
        let seen = bench.nat.look(bench.now, look(Action::List, from), query, &mut rows);
        assert!(rows.len() <= 3 && rows.len() == seen.sessions as usize);
        found.extend(rows);
        match seen.next {
            Some(next) => from = next,
            None => return found,
        }
    }
}

fn run(bench: &mut Bench, action: Action, query: &Query) -> u32 {
    let (mut sum, mut from) = (0, 0);
    loop {
        let seen = bench.nat.look(bench.now, look(action, from), query, &mut Vec::new());
        sum += seen.sessions;
        match seen.next {
            Some(next) => from = next,
            None => return sum,
        }
    }
}

#[test]
fn every_session_is_listed_once_with_its_ends_age_and_time() {
    let mut bench = Bench::new(40);
    let ports: Vec<u16> = (0..20).map(|n| bench.udp_out((GUEST, 5000 + n), (SERVER, 53)).unwrap()).collect();
    bench.wait(10);
    bench.udp_in((SERVER, 53), ports[4]).unwrap();
    let mut all = list(&mut bench, &Query::default());
    all.sort_by_key(|session| session.inside.1);
    assert_eq!(all.len(), 20);
    let session = all[4];
    assert_eq!((session.inside, session.remote), ((GUEST, 5004), (SERVER, 53)));
    assert_eq!((session.outside, session.mac), ((EXTERNAL, ports[4]), INSIDE.mac));
    assert_eq!((session.assured, session.phase, session.age), (true, None, 10));
    assert!((299..=301).contains(&session.left), "{}", session.left);
    assert!(!all[5].assured && (289..=291).contains(&all[5].left));
    assert_eq!(run(&mut bench, Action::Count, &Query::default()), 20);
}

#[test]
fn what_is_asked_for_has_to_hold_all_together() {
    let mut bench = Bench::new(40);
    bench.out(&mut tcp((GUEST, 4000), (SERVER, 80), 2, 1, 0, b"")).unwrap();
    bench.wait(5);
    let port = bench.udp_out((GUEST, 4000), (ROUTER, 53)).unwrap();
    bench.out(&mut echo(icmp::ECHO_REQUEST, OTHER, SERVER, 77)).unwrap();
    let all = Query::default;
    for (query, count) in [
        (Query { protocol: Some(ipv4::TCP), ..all() }, 1),
        (Query { phase: Some(Phase::SynSent), ..all() }, 1),
        (Query { phase: Some(Phase::Established), ..all() }, 0),
        (Query { port: Some(4000), ..all() }, 2),
        (Query { port: Some(port), protocol: Some(ipv4::UDP), ..all() }, 1),
        (Query { address: Some(SERVER), ..all() }, 2),
        (Query { address: Some(EXTERNAL), ..all() }, 3),
        (Query { inside: Some(GUEST), address: Some(SERVER), ..all() }, 1),
        (Query { inside: Some(SERVER), ..all() }, 0),
        (Query { network: Some(INSIDE.network), ..all() }, 3),
        (Query { network: Some(9), ..all() }, 0),
        (Query { macs: Some(vec![INSIDE.mac]), ..all() }, 3),
        (Query { macs: Some(Vec::new()), ..all() }, 0),
        (Query { assured: Some(false), ..all() }, 3),
        (Query { older: Some(5), ..all() }, 1),
        (Query { younger: Some(4), ..all() }, 2),
    ] {
        assert_eq!(list(&mut bench, &query).len(), count, "{query:?}");
    }
}

#[test]
fn what_is_ended_is_gone_with_its_mapping_and_the_rest_stays() {
    let mut bench = Bench::new(40);
    let ports: Vec<u16> = (0..6).map(|n| bench.udp_out((GUEST, 5000 + n), (SERVER, 53)).unwrap()).collect();
    bench.udp_out((OTHER, 5000), (SERVER, 53)).unwrap();
    let query = Query { inside: Some(GUEST), ..Query::default() };
    assert_eq!(run(&mut bench, Action::End, &query), 6);
    assert_eq!(bench.nat.len(), 1);
    assert_eq!(bench.udp_in((SERVER, 53), ports[0]), Err(DropReason::NatNoSession));
    assert_eq!(run(&mut bench, Action::End, &Query::default()), 1);
    assert!(bench.nat.is_empty());
}

#[test]
fn sessions_whose_time_is_over_are_not_told_of() {
    let mut bench = Bench::new(40);
    bench.udp_out((GUEST, 5000), (SERVER, 53)).unwrap();
    bench.now = bench.now.after_secs(301);
    assert_eq!(run(&mut bench, Action::Count, &Query::default()), 0);
}

/// So many sessions, in looks that read a bounded part and never grow what they fill.
#[test]
fn a_full_table_is_listed_in_bounded_looks() {
    const COUNT: usize = 1 << 18;
    let mut bench = Bench::new(COUNT);
    for number in 0..COUNT as u32 {
        let guest = Ipv4Addr::from(0xc0a8_0000 + number / 32768);
        let to = (Ipv4Addr::from(0xcb00_7100 + number % 32768 / 64), 53);
        bench
            .nat
            .open(bench.now, &OUTSIDE, &INSIDE, &flow((guest, 1024 + number as u16 % 64), to), None)
            .unwrap();
    }
    let mut rows = Vec::with_capacity(256);
    let (mut from, mut found, mut looks) = (0, 0, 0);
    loop {
        rows.clear();
        let look = Look { action: Action::List, from, slots: 1024 };
        let seen = bench.nat.look(bench.now, look, &Query::default(), &mut rows);
        assert_eq!((rows.len(), rows.capacity()), (seen.sessions as usize, 256));
        found += rows.len();
        looks += 1;
        match seen.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!((found, looks), (COUNT, COUNT / 256));
}

fn flow(local: End, remote: End) -> Flow {
    Flow { protocol: ipv4::UDP, local, remote }
}
