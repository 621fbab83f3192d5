//! Smallest frames from one guest to another over vhost-user against taps, on one processor, in one run. Run by
//! `benches/vhost` in a namespace of its own. Fails where vhost-user is not five times as fast.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pontoon_benches::guests::{BATCH, vhost_user};
use pontoon_benches::taps::taps;
use pontoon_vhost::Features;
use pontoon_vhost::features::{EVENT_IDX, MRG_RXBUF, RING_PACKED, VERSION_1};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Every kind is measured so often, by turns, for so many batches.
const ROUNDS: usize = 9;
const BATCHES: usize = 4000;
const GOAL: f64 = 5.0;

/// Nanoseconds a frame: of the worker alone, and with those who send and receive.
#[derive(Clone, Copy)]
struct Cost {
    worker: f64,
    all: f64,
}

fn main() -> ExitCode {
    let mut processor = CpuSet::new();
    processor.set(sched_getcpu());
    let _ = sched_setaffinity(None, &processor);
    let (mut switch, sender) = match taps() {
        Ok(taps) => taps,
        Err(error) => {
            println!("skipped: no taps can be made: {error}");
            return ExitCode::SUCCESS;
        }
    };
    let usual = VERSION_1 | MRG_RXBUF | EVENT_IDX;
    let kinds = [usual, usual | RING_PACKED].map(|bits| vhost_user(Features(bits)).expect("guests"));
    let [(mut split, mut split_guests), (mut packed, mut packed_guests)] = kinds;
    let mut costs = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        costs[0].push(measure(|| sender.send(), || switch.counted_turn(), || BATCH));
        let guests = std::cell::RefCell::new(&mut split_guests);
        let (send, receive) = (|| guests.borrow_mut().send(), || guests.borrow_mut().receive());
        costs[1].push(measure(send, || split.counted_turn(), receive));
        let guests = std::cell::RefCell::new(&mut packed_guests);
        let (send, receive) = (|| guests.borrow_mut().send(), || guests.borrow_mut().receive());
        costs[2].push(measure(send, || packed.counted_turn(), receive));
    }
    report(&costs.map(|costs| median(&costs)))
}

fn measure(
    mut send: impl FnMut(),
    mut work: impl FnMut() -> usize,
    mut receive: impl FnMut() -> usize,
) -> Cost {
    let (began, mut worked, mut frames) = (Instant::now(), Duration::ZERO, 0);
    for _ in 0..BATCHES {
        send();
        let start = Instant::now();
        frames += work();
        worked += start.elapsed();
        assert_eq!(receive(), BATCH, "frames were lost");
    }
    assert!(frames * 100 >= BATCHES * BATCH * 99, "only {frames} frames were written");
    let each = |time: Duration| time.as_nanos() as f64 / frames as f64;
    Cost { worker: each(worked), all: each(began.elapsed()) }
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |of: fn(&Cost) -> f64| {
        let mut sorted: Vec<f64> = costs.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    Cost { worker: middle(|cost| cost.worker), all: middle(|cost| cost.all) }
}

fn report(costs: &[Cost; 3]) -> ExitCode {
    let [tap, ..] = costs;
    println!(
        "{:>18} {:>10} {:>8} {:>9} {:>12} {:>8}",
        "", "worker ns", "Mpps", "x tap", "with guests", "x tap"
    );
    let mut least = f64::MAX;
    for (name, cost) in ["tap", "vhost-user, split", "vhost-user, packed"].iter().zip(costs) {
        let (ratio, all) = (tap.worker / cost.worker, tap.all / cost.all);
        let rate = 1e3 / cost.worker;
        println!("{name:>18} {:>10.1} {rate:>8.2} {ratio:>9.2} {:>12.1} {all:>8.2}", cost.worker, cost.all);
        least = if *name == "tap" { least } else { least.min(ratio) };
    }
    if least < GOAL {
        println!("vhost-user is {least:.2} times as fast as a tap; the goal is {GOAL}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
