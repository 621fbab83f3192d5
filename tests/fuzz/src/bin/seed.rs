//! Writes the corpora's valid inputs and a few mutations of each.

use std::fs;

use pontoon_fuzz::mutate::mutate;
use pontoon_fuzz::{TARGETS, corpus, seeds};
use pontoon_sim::Rng;

const MUTATIONS: usize = 2;
const LONGEST: usize = 2047;

fn main() -> std::io::Result<()> {
    let mut rng = Rng(0x5eed);
    for (target, _) in TARGETS {
        let directory = corpus(target);
        fs::create_dir_all(&directory)?;
        let seeds = seeds::of(target);
        for (name, bytes) in &seeds {
            fs::write(directory.join(name), bytes)?;
            for number in 1..=MUTATIONS {
                let mut mutation = bytes.clone();
                let other = rng.below(seeds.len());
                mutate(&mut rng, &mut mutation, &seeds[other].1);
                mutation.truncate(LONGEST);
                fs::write(directory.join(format!("{name}-{number}")), mutation)?;
            }
        }
    }
    Ok(())
}
