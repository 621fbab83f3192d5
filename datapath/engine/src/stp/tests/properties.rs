//! Whatever is plugged together, and whatever fails: in the end there is a tree that joins all.

extern crate std;

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::net::Net;
use crate::time::Time;

#[derive(Clone, Debug)]
struct Plan {
    ids: Vec<u64>,
    legacy: Vec<bool>,
    lans: Vec<Vec<usize>>,
    /// Which LAN fails or comes back, and how many milliseconds after the one before.
    events: Vec<(usize, u64)>,
    seed: u64,
}

/// What is plugged together.
#[derive(Clone, Copy, Debug)]
struct Kinds {
    /// Some bridges are of the 1998 standard.
    old: bool,
    /// Some LANs have three ports (most have three or four if `wide`), some join a bridge to itself.
    hubs: bool,
    wide: bool,
}

fn plan(kinds: Kinds) -> impl Strategy<Value = Plan> {
    (2usize..=6).prop_flat_map(move |count| {
        let ids = Just((1..=count as u64).map(|id| (0x8000 << 48) | id).collect::<Vec<_>>()).prop_shuffle();
        let legacy = prop::collection::vec(prop::bool::weighted(if kinds.old { 0.4 } else { 0.0 }), count);
        let link = (0..count, 1..count).prop_map(move |(one, step)| vec![one, (one + step) % count]);
        let hub = prop::collection::vec(0..count, if kinds.wide { 2..=4 } else { 2..=3 });
        let lan = if kinds.hubs { hub.boxed() } else { link.boxed() };
        let lans = prop::collection::vec(lan, 1..=9);
        let events = prop::collection::vec((0usize..9, 0u64..12_000), 0..6);
        (ids, legacy, lans, events, any::<u64>()).prop_map(|(ids, legacy, lans, events, seed)| Plan {
            ids,
            legacy,
            lans,
            events,
            seed,
        })
    })
}

/// Seconds after the last event until there must be a tree for good.
fn play(plan: &Plan, most: u64) -> Result<(u64, u64), TestCaseError> {
    let mut net = Net::new(&plan.ids, &plan.legacy, &plan.lans, plan.seed);
    for (lan, millis) in &plan.events {
        net.run(millis * 1_000_000);
        let lan = lan % plan.lans.len();
        net.turn(lan);
    }
    let took = net.converge(most + 56);
    prop_assert!(took.is_some(), "no tree in {most} s");
    prop_assert!(net.looped < LOOPED_MOST, "a loop was open for {} us", net.looped / 1000);
    let before = (net.looped, net.sent);
    net.run(60 * Time::SECOND);
    prop_assert!(net.is_tree(), "the tree does not stay");
    prop_assert_eq!(net.looped, before.0);
    let ports: usize = plan.lans.iter().map(Vec::len).sum();
    prop_assert!(
        net.sent - before.1 <= 31 * ports as u64,
        "{} BPDUs in a minute of peace",
        net.sent - before.1
    );
    Ok((took.unwrap_or(0), before.0))
}

const LINKS: Kinds = Kinds { old: false, hubs: false, wide: false };
const RAPID: Kinds = Kinds { old: false, hubs: true, wide: false };
const WIDE: Kinds = Kinds { old: false, hubs: true, wide: true };
const OLD: Kinds = Kinds { old: true, hubs: true, wide: false };
/// An echo of a lost root may go round until it is 20 s old; before that the root is missed, after that ports open.
const RAPID_MOST: u64 = 30;
/// Nanoseconds in which loops may be open in all of a plan. Nearly all need less than 100 ms; two were seen with 1 to 2 s.
const LOOPED_MOST: u64 = 3 * Time::SECOND;

fn cases() -> u32 {
    std::env::var("STP_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn rapid_bridges_end_in_a_tree(plan in plan(RAPID)) {
        play(&plan, RAPID_MOST)?;
    }

    #[test]
    fn wide_segments_end_in_a_tree(plan in plan(WIDE)) {
        play(&plan, RAPID_MOST)?;
    }

    #[test]
    fn rapid_and_old_bridges_end_in_a_tree(plan in plan(OLD)) {
        play(&plan, 100)?;
    }
}

/// Five bridges, one segment of three ports, links that fail one after the other. Whoever forgot that more than two
/// share the segment took a proposal for its own, and cut off what was behind it a minute after.
#[test]
fn a_segment_of_three_ends_in_a_tree() {
    let plan = Plan {
        ids: [2, 5, 4, 1, 3].map(|id| (0x8000 << 48) | id).to_vec(),
        legacy: vec![false; 5],
        lans: vec![vec![0, 4], vec![0, 4], vec![1, 0], vec![3, 2, 0], vec![1, 2, 4]],
        events: vec![(2, 0), (8, 1), (8, 0), (1, 0), (5, 2000)],
        seed: 14_759_848_413_425_129_644,
    };
    play(&plan, 15).expect("a tree");
}

/// Two ways to a root that falls silent: what either neighbour says of it afterwards is what the other said before.
#[test]
fn a_lost_root_does_not_go_round_between_two_bridges() {
    let plan = Plan {
        ids: [3, 1, 2].map(|id| (0x8000 << 48) | id).to_vec(),
        legacy: vec![false; 3],
        lans: vec![vec![0, 0], vec![1, 2], vec![1, 0], vec![0, 2], vec![2, 0]],
        events: vec![(0, 4909), (1, 0), (2, 0)],
        seed: 14_675_406_905_285_176_828,
    };
    play(&plan, 7).expect("a tree");
}

/// So many speak at once that BPDUs have to wait; the root's must not be lost behind an answer to it.
#[test]
fn the_best_bpdu_waits_where_many_speak() {
    let plan = Plan {
        ids: [2, 1, 3].map(|id| (0x8000 << 48) | id).to_vec(),
        legacy: vec![false; 3],
        lans: [&[2, 0, 2, 1][..], &[0, 0], &[0, 0], &[2; 4], &[2; 2], &[0, 0], &[2; 3]]
            .map(Vec::from)
            .to_vec(),
        events: Vec::new(),
        seed: 9_894_731_456_304_473_612,
    };
    let (_, looped) = play(&plan, 15).expect("a tree");
    assert!(looped < 25_000_000, "{looped}");
}

/// An open edge that turns out to lead to the root closes like any other before the old root port does.
#[test]
fn an_edge_that_becomes_the_root_port_opens_no_loop() {
    let plan = Plan {
        ids: [1, 3, 2].map(|id| (0x8000 << 48) | id).to_vec(),
        legacy: vec![true, false, false],
        lans: [&[1, 2][..], &[1, 1], &[2, 1, 0], &[0, 0], &[0, 0], &[0, 1], &[1, 2]].map(Vec::from).to_vec(),
        events: Vec::new(),
        seed: 2_636_010_637_898_690_382,
    };
    let (_, looped) = play(&plan, 100).expect("a tree");
    assert!(looped < 1_000_000, "{looped}");
}

/// The same plans every time; says how long trees take, and how long loops stay open meanwhile.
#[test]
fn how_long_it_takes() {
    for (what, kinds, most) in [
        ("rapid bridges on links", LINKS, 7),
        ("rapid bridges on hubs", RAPID, 15),
        ("rapid bridges on wide segments", WIDE, RAPID_MOST),
        ("rapid and old bridges", OLD, 100),
    ] {
        let mut runner = TestRunner::deterministic();
        let (mut took, mut looped) = (Vec::new(), Vec::new());
        for _ in 0..cases() {
            let plan = plan(kinds).new_tree(&mut runner).expect("a plan").current();
            let (nanos, loops) = play(&plan, most).expect("a tree");
            took.push(nanos / 1_000_000);
            looped.push(loops / 1_000);
        }
        took.sort_unstable();
        looped.sort_unstable();
        let at = |percent: usize| (took.len() - 1) * percent / 100;
        std::println!(
            "{what}: a tree after {} ms (half), {} ms (95 %), {} ms (all); loops were open for {} us, {} us, {} us",
            took[at(50)],
            took[at(95)],
            took[at(100)],
            looped[at(50)],
            looped[at(95)],
            looped[at(100)]
        );
        assert!(looped[at(100)] < 25_000, "{what}: a loop was open for {} us", looped[at(100)]);
    }
}
