//! Every input of the corpora, and as many mutations of them as fit a short test.

use std::fs;

use pontoon_fuzz::mutate::mutate;
use pontoon_fuzz::{TARGETS, corpus};
use pontoon_sim::Rng;

/// Mutations of each target: about two seconds.
const MUTATIONS: [(&str, usize); 10] = [
    ("frames", 20_000),
    ("dhcp", 20_000),
    ("dns", 10_000),
    ("sequence", 500),
    ("coalesce", 1000),
    ("bpdu", 10_000),
    ("uplink", 10_000),
    ("netxml", 3000),
    ("vhost", 5000),
    ("user", 4000),
];

fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = corpus(target);
    let mut inputs: Vec<_> = fs::read_dir(&directory)
        .expect("the corpus is in the repository")
        .map(|entry| {
            let path = entry.expect("a readable entry").path();
            (path.display().to_string(), fs::read(path).expect("a readable file"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", directory.display());
    inputs
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs one input; says which it was if it panics.
fn try_one(target: &str, run: fn(&[u8]), name: &str, bytes: &[u8]) {
    let result = std::panic::catch_unwind(|| run(bytes));
    assert!(result.is_ok(), "{target} fails on {name}: {}", hex(bytes));
}

fn test(target: &str) {
    let (_, run) = *TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let (_, mutations) = *MUTATIONS.iter().find(|(name, _)| *name == target).expect("a number");
    let inputs = inputs(target);
    for (name, bytes) in &inputs {
        try_one(target, run, name, bytes);
    }
    let mut rng = Rng(0x706f_6e74);
    for number in 0..mutations {
        let mut bytes = inputs[rng.below(inputs.len())].1.clone();
        let other = rng.below(inputs.len());
        mutate(&mut rng, &mut bytes, &inputs[other].1);
        try_one(target, run, &format!("mutation {number}"), &bytes);
    }
}

#[test]
fn frames() {
    test("frames");
}

#[test]
fn dhcp() {
    test("dhcp");
}

#[test]
fn dns() {
    test("dns");
}

#[test]
fn sequence() {
    test("sequence");
}

#[test]
fn coalesce() {
    test("coalesce");
}

/// Random scripts: most of their frames are sound, unlike those of a mutated file.
#[test]
fn coalesce_any_script() {
    let (_, run) = *TARGETS.iter().find(|(name, _)| *name == "coalesce").expect("a target");
    let mut rng = Rng(0x6772_6f21);
    for number in 0..2000 {
        let length = 16 + rng.below(600);
        let bytes: Vec<u8> = (0..length).map(|_| rng.draw() as u8).collect();
        try_one("coalesce", run, &format!("script {number}"), &bytes);
    }
}

#[test]
fn bpdu() {
    test("bpdu");
}

#[test]
fn uplink() {
    test("uplink");
}

#[test]
fn netxml() {
    test("netxml");
}

#[test]
fn user() {
    test("user");
}

/// 1,000 guests, most of them mad, each gone again with all it had.
#[test]
fn vhost_and_nothing_is_left() {
    let (_, run) = *TARGETS.iter().find(|(name, _)| *name == "vhost").expect("a target");
    let inputs = inputs("vhost");
    let ours = |path: &str| {
        let entries = fs::read_dir(path).expect("of this process").flatten();
        let shown = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        shown
            .filter(|target| {
                ["memfd:guest", "eventfd"].iter().any(|kind| target.display().to_string().contains(kind))
            })
            .count()
    };
    let maps = || fs::read_to_string("/proc/self/maps").expect("maps").matches("memfd:guest").count();
    test("vhost");
    let mut rng = Rng(0x7668_6f73);
    for number in 0..1000 {
        let mut bytes = inputs[number % inputs.len()].1.clone();
        if number % 2 == 1 {
            let other = rng.below(inputs.len());
            mutate(&mut rng, &mut bytes, &inputs[other].1);
        }
        try_one("vhost", run, &format!("round {number}"), &bytes);
    }
    assert_eq!((ours("/proc/self/fd"), maps()), (0, 0), "descriptors, mappings");
}
