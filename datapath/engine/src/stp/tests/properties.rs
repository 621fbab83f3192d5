//! Whatever is plugged together, and whatever fails: in the end there is a tree that joins all.

use alloc::vec::Vec;

use proptest::prelude::*;

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

fn plan(old: bool) -> impl Strategy<Value = Plan> {
    (2usize..=6).prop_flat_map(move |count| {
        let ids = Just((1..=count as u64).map(|id| (0x8000 << 48) | id).collect::<Vec<_>>()).prop_shuffle();
        let legacy = prop::collection::vec(prop::bool::weighted(if old { 0.4 } else { 0.0 }), count);
        // Mostly links between two; some are LANs of more, some join a bridge to itself.
        let lan = prop::collection::vec(0..count, 2..=2 + usize::from(count > 2));
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
        net.up[lan] = !net.up[lan];
    }
    let took = net.converge(most + 26);
    prop_assert!(took.is_some(), "no tree in {most} s");
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

fn cases() -> u32 {
    option_env!("STP_CASES").and_then(|cases| cases.parse().ok()).unwrap_or(60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn rapid_bridges_end_in_a_tree(plan in plan(false)) {
        play(&plan, 60)?;
    }

    #[test]
    fn rapid_and_old_bridges_end_in_a_tree(plan in plan(true)) {
        play(&plan, 80)?;
    }
}
