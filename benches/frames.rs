//! Time per frame.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use pontoon_benches::{Frame, Lab, Protocol, known_unicast, new_frames};
use pontoon_engine::PortId;
use pontoon_sim::{GUEST_1, UPLINK};
use pontoon_wire::frame::Packet;

/// Sessions a measurement visits at most; enough to miss the caches nearest to the core.
const VISITED: usize = 65_536;

fn parse(criterion: &mut Criterion) {
    let frame = known_unicast();
    criterion.bench_function("parse", |bencher| bencher.iter(|| Packet::parse(black_box(&frame))));
}

fn switch(criterion: &mut Criterion) {
    let mut lab = Lab::new(64);
    let frame = known_unicast();
    criterion.bench_function("switch", |bencher| bencher.iter(|| lab.receive(GUEST_1, &frame)));
}

fn nat(criterion: &mut Criterion) {
    for (name, sessions) in [("1k", 1000), ("64k", 65_536), ("1M", 1_000_000)] {
        let mut lab = Lab::new(sessions + sessions / 16);
        lab.open(sessions, Protocol::Udp);
        let frames = lab.outbound_frames(sessions, VISITED, Protocol::Udp);
        cycle(criterion, &format!("nat-out/{name}"), &mut lab, GUEST_1, &frames);
        let frames = lab.inbound_frames(sessions, VISITED, Protocol::Udp);
        cycle(criterion, &format!("nat-in/{name}"), &mut lab, UPLINK, &frames);
    }
}

fn cycle(criterion: &mut Criterion, name: &str, lab: &mut Lab, port: PortId, frames: &[Frame]) {
    let mut frames = frames.iter().cycle();
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| frames.next().into_iter().for_each(|frame| lab.receive(port, frame)));
    });
}

/// A fresh engine whenever all endpoints have a session; only the frames are timed.
fn nat_new(criterion: &mut Criterion) {
    let frames = new_frames();
    criterion.bench_function("nat-new", |bencher| {
        bencher.iter_custom(|count| {
            let (mut rest, mut time) = (count as usize, Duration::ZERO);
            while rest > 0 {
                let mut lab = Lab::new(65_536);
                let part = rest.min(frames.len());
                let start = Instant::now();
                frames.iter().take(part).for_each(|frame| lab.receive(GUEST_1, frame));
                time += start.elapsed();
                rest -= part;
            }
            time
        });
    });
}

criterion_group! {
    name = frames;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = parse, switch, nat, nat_new
}
criterion_main!(frames);
