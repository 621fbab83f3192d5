//! Deterministic mutations of an input.

use pontoon_sim::Rng;

/// Longest input made.
const LONGEST: usize = 4096;
const TELLING: [u8; 8] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff];

/// Changes `bytes` in one to eight places.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(8) {
        once(rng, bytes, other);
    }
    bytes.truncate(LONGEST);
}

fn once(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(bytes.len());
    match rng.below(7) {
        0 => set(bytes, at, |byte, rng| byte ^ 1 << rng.below(8), rng),
        1 => set(bytes, at, |_, rng| rng.draw() as u8, rng),
        2 => set(bytes, at, |_, rng| TELLING[rng.below(TELLING.len())], rng),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..bytes.len().min(at + 1 + rng.below(16)))),
        5 => copy(rng, bytes, at),
        _ => {
            let from = rng.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn set(bytes: &mut [u8], at: usize, change: impl Fn(u8, &mut Rng) -> u8, rng: &mut Rng) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte, rng);
    }
}

/// Inserts a part of the input once more.
fn copy(rng: &mut Rng, bytes: &mut Vec<u8>, at: usize) {
    let from = rng.below(bytes.len());
    let part = bytes[from..bytes.len().min(from + 1 + rng.below(128))].to_vec();
    bytes.splice(at..at, part);
}
