//! Small cases, each with the figures it must keep.

use alloc::vec;
use alloc::vec::Vec;

use pontoon_wire::bpdu::{Body, Bpdu, flag};

use super::net::{FORWARD_DELAY, Net, config, port};
use crate::snapshot::PortId;
use crate::stp::{Bridge, Effects, Gate, Role, State};
use crate::time::Time;

const MILLI: u64 = 1_000_000;

fn id(number: u64) -> u64 {
    0x8000_5254_0000_0000 | number
}

#[derive(Default)]
struct Seen {
    sent: Vec<(PortId, Bpdu)>,
    gates: Vec<(PortId, Gate)>,
    flushed: Vec<PortId>,
}

impl Effects for Seen {
    fn send(&mut self, port: PortId, _number: u16, bpdu: &Bpdu) {
        self.sent.push((port, *bpdu));
    }

    fn gate(&mut self, port: PortId, gate: Gate) {
        self.gates.push((port, gate));
    }

    fn flush(&mut self, ports: &[PortId]) {
        self.flushed.extend(ports);
    }
}

fn one_bridge(ports: PortId) -> (Bridge, Seen, Time) {
    let now = Time::from_secs(50);
    let mut bridge = Bridge::new(config(id(5)), now);
    let ports: Vec<_> = (0..ports).map(port).collect();
    bridge.configure(now, config(id(5)), &ports);
    let mut seen = Seen::default();
    bridge.run(now, &mut seen);
    (bridge, seen, now)
}

/// A configuration BPDU of a root with this number.
fn hello(root: u64, flags: u8) -> Body {
    Body {
        flags,
        root: id(root),
        bridge: id(root),
        port: 0x8001,
        max_age: 20 << 8,
        hello: 2 << 8,
        forward_delay: 15 << 8,
        ..Body::default()
    }
}

#[test]
fn a_guest_s_port_forwards_at_once_after_its_first_bpdu() {
    let (bridge, seen, now) = one_bridge(2);
    assert_eq!(seen.gates, [(0, Gate::Open), (1, Gate::Open)]);
    assert_eq!(seen.sent.len(), 2);
    let Bpdu::Rst(body) = seen.sent[0].1 else { panic!("not an RST BPDU") };
    assert_eq!((body.root, body.bridge, body.port, body.cost), (id(5), id(5), 0x8001, 0));
    let flags = flag::ROLE_DESIGNATED | flag::LEARNING | flag::FORWARDING;
    assert_eq!(body.flags, flags, "an edge proposes nothing and tells of no change");
    assert_eq!((body.hello, body.max_age, body.forward_delay), (512, 5120, 512));
    assert!(seen.flushed.is_empty());
    assert_eq!(bridge.next_timeout(), Some(now.after_secs(2)));
}

#[test]
fn hellos_go_out_every_two_seconds_and_guests_cost_nothing_else() {
    let (mut bridge, mut seen, start) = one_bridge(3);
    seen.sent.clear();
    let mut runs = 0;
    while let Some(due) = bridge.next_timeout().filter(|due| *due <= start.after_secs(60)) {
        bridge.run(due, &mut seen);
        runs += 1;
    }
    assert_eq!((seen.sent.len(), runs), (90, 30));
}

#[test]
fn a_better_root_of_version_0_is_followed_and_answered_in_version_0() {
    let (mut bridge, mut seen, now) = one_bridge(2);
    seen.sent.clear();
    bridge.receive(now, 0, &Bpdu::Config(hello(1, 0)), &mut seen);
    let report = bridge.report(now);
    assert_eq!((report.root, report.root_port, report.root_cost), (id(1), 1, 100));
    assert_eq!((report.times.forward_delay, report.times.message_age), (15 << 8, 256));
    assert_eq!((report.ports[0].role, report.ports[0].state), (Role::Root, State::Forwarding));
    assert!(!report.ports[0].rapid && !report.ports[0].edge && report.ports[1].edge);
    assert!(report.changing, "a port that is no edge after all is a change");
    assert!(matches!(seen.sent[..], [(0, Bpdu::Tcn), (1, Bpdu::Rst(_))]), "{:?}", seen.sent);
    let acknowledged = hello(1, flag::TOPOLOGY_CHANGE_ACK | flag::TOPOLOGY_CHANGE);
    bridge.receive(now, 0, &Bpdu::Config(acknowledged), &mut seen);
    assert_eq!(bridge.report(now).tcn_left, 0);
}

#[test]
fn a_root_that_falls_silent_is_given_up_after_three_hellos() {
    let (mut bridge, mut seen, now) = one_bridge(2);
    bridge.receive(now, 0, &Bpdu::Config(hello(1, 0)), &mut seen);
    bridge.run(now.after_millis(5_999), &mut seen);
    assert_eq!(bridge.report(now).root, id(1));
    bridge.run(now.after_millis(6_000), &mut seen);
    assert_eq!(bridge.report(now).root, id(5));
    let old = Body { message_age: 19 << 8, ..hello(1, 0) };
    bridge.receive(now.after_secs(7), 0, &Bpdu::Config(old), &mut seen);
    assert_eq!(bridge.report(now).root, id(1));
    bridge.run(now.after_millis(12_999), &mut seen);
    assert_eq!(bridge.report(now).root, id(1), "19 s is not too old");
}

#[test]
fn a_second_way_to_the_same_bridge_is_blocked_and_flushed() {
    let (mut bridge, mut seen, now) = one_bridge(3);
    bridge.receive(now, 0, &Bpdu::Config(hello(1, 0)), &mut seen);
    seen = Seen::default();
    let second = Body { port: 0x8002, ..hello(1, 0) };
    bridge.receive(now, 1, &Bpdu::Config(second), &mut seen);
    assert_eq!(seen.gates, [(1, Gate::Closed)]);
    assert!(seen.flushed.contains(&1), "{:?}", seen.flushed);
    assert!(!seen.flushed.contains(&2), "what is behind a guest's port stays");
    let report = bridge.report(now);
    assert_eq!((report.ports[1].role, report.ports[1].state), (Role::Alternate, State::Blocking));
    let seconds = report.ports[1].message_age_left as f64 / 1e9;
    assert!((5.9..=6.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_port_that_hears_itself_closes_for_as_long_as_it_does() {
    let (mut bridge, mut seen, mut now) = one_bridge(2);
    let (_, own) = seen.sent[0];
    seen = Seen::default();
    bridge.receive(now, 0, &own, &mut seen);
    assert_eq!(seen.gates, [(0, Gate::Closed)]);
    let end = now.after_secs(60);
    seen = Seen::default();
    while let Some(due) = bridge.next_timeout().filter(|due| *due <= end) {
        now = due;
        let before = seen.sent.len();
        bridge.run(now, &mut seen);
        for (port, bpdu) in seen.sent.split_off(before) {
            if port == 0 {
                bridge.receive(now, 0, &bpdu, &mut seen);
            }
        }
    }
    assert_eq!(seen.gates, [], "it stays closed as long as its BPDUs come back");
    while let Some(due) = bridge.next_timeout().filter(|due| *due <= end.after_secs(20)) {
        bridge.run(due, &mut seen);
    }
    assert_eq!(seen.gates.last(), Some(&(0, Gate::Open)), "and opens when they do not");
}

#[test]
fn hello_and_forward_delay_of_a_hostile_root_are_kept_in_bounds() {
    let (mut bridge, mut seen, now) = one_bridge(2);
    let wild = Body { hello: 0, max_age: 1, forward_delay: 0, ..hello(1, 0) };
    bridge.receive(now, 0, &Bpdu::Rst(Body { flags: flag::ROLE_DESIGNATED, ..wild }), &mut seen);
    seen = Seen::default();
    let mut runs = 0;
    while let Some(due) = bridge.next_timeout().filter(|due| *due <= now.after_secs(10)) {
        bridge.run(due, &mut seen);
        runs += 1;
    }
    assert!(runs < 50, "{runs} runs in ten seconds");
}

#[test]
fn a_flood_of_ever_changing_bpdus_costs_a_hundred_runs_a_second() {
    let (mut bridge, mut seen, now) = one_bridge(3);
    let start = seen.gates.len();
    for count in 0..100_000u64 {
        let at = Time(now.0 + count * 10_000);
        let body = Body { flags: flag::ROLE_DESIGNATED, ..hello(100 + count % 50, 0) };
        bridge.receive(at, 0, &Bpdu::Rst(body), &mut seen);
        while bridge.next_timeout().is_some_and(|due| due <= at) {
            bridge.run(at, &mut seen);
        }
    }
    assert!(seen.sent.len() < 100, "{} BPDUs in a second", seen.sent.len());
    assert!(seen.gates.len() - start < 400, "{}", seen.gates.len());
    let report = bridge.report(now);
    assert!(report.ports[1..].iter().all(|port| port.state == State::Forwarding && port.edge));
}

#[test]
fn two_bridges_with_two_links_block_one_within_milliseconds() {
    let mut net = Net::new(&[id(1), id(2)], &[false; 2], &[vec![0, 1], vec![0, 1]], 3);
    net.run(2 * MILLI);
    assert!(net.is_tree());
    assert_eq!([net.role(1, 0), net.role(1, 1)], [Role::Root, Role::Alternate]);
    assert_eq!([net.role(0, 0), net.role(0, 1)], [Role::Designated; 2]);
    assert!(net.looped < MILLI, "{} ns", net.looped);
    net.run(30 * Time::SECOND);
    net.up[0] = false;
    let took = net.converge(70).expect("the other link takes over");
    assert!(took <= 6_100 * MILLI, "{took}: silence is noticed after three hellos");
}

#[test]
fn a_port_that_is_taken_away_is_replaced_at_once() {
    let mut net = Net::new(&[id(1), id(2)], &[false; 2], &[vec![0, 1], vec![0, 1]], 3);
    net.run(10 * Time::SECOND);
    let (now, settings) = (net.now, config(id(2)));
    net.bridge(1).configure(now, settings, &[port(1)]);
    net.up[0] = false;
    net.run(2 * MILLI);
    assert_eq!(net.members[1].gates, [Gate::Closed, Gate::Open], "the gone port is closed");
}

#[test]
fn a_third_port_of_the_same_bridge_on_a_lan_is_a_backup() {
    let mut net = Net::new(&[id(1), id(2)], &[false; 2], &[vec![0, 0, 1]], 3);
    net.run(2 * MILLI);
    assert!(!net.has_loop() && net.looped < MILLI, "{} ns", net.looped);
    assert_eq!([net.role(0, 0), net.role(0, 1)], [Role::Designated, Role::Backup]);
    let took = net.converge(70).expect("a tree");
    assert!(
        took <= 6_100 * MILLI,
        "{took}: where three speak agreements do not count, and the timers decide"
    );
}

#[test]
fn settings_of_the_root_rule_and_a_new_priority_moves_the_root() {
    let mut net = Net::new(&[id(1), id(2)], &[false; 2], &[vec![0, 1]], 3);
    net.run(Time::SECOND);
    let now = net.now;
    let mut settings = config(id(2));
    (settings.id, settings.hello) = ((0x1000 << 48) | (id(2) & 0xffff_ffff_ffff), 100);
    net.bridge(1).configure(now, settings, &[port(0)]);
    net.run(20 * MILLI);
    let report = net.bridge(0).report(now);
    assert_eq!((report.root, report.times.hello), (settings.id, 256));
    assert!(net.is_tree());
    assert_eq!(settings.forward_delay, FORWARD_DELAY);
}
