//! Runs one case for a number of frames, to be counted by `benches/instructions`.

use std::process::ExitCode;

use pontoon_benches::coalesce::{self, Kind, counted_turns};
use pontoon_benches::guests::{BATCH, vhost_user};
use pontoon_benches::{Frame, Lab, Protocol, known_unicast, new_frames};
use pontoon_sim::{GUEST_1, UPLINK};
use pontoon_vhost::Features;
use pontoon_vhost::features::{EVENT_IDX, MRG_RXBUF, RING_PACKED, VERSION_1};
use pontoon_wire::frame::Packet;

const SESSIONS: usize = 1024;
const SLOTS: usize = 65_536;
/// Sessions of the cases that show what a full table costs.
const MANY: usize = 65_536;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().unwrap_or_default();
    let Some(count) = arguments.next().and_then(|text| text.parse().ok()) else {
        eprintln!("usage: instructions CASE FRAMES");
        return ExitCode::FAILURE;
    };
    if let Some(kind) = Kind::named(&case) {
        counted_turns(&coalesce::frames(kind), count);
        return ExitCode::SUCCESS;
    }
    if let Some(kind) = case.strip_prefix("vhost-") {
        return over_vhost(kind == "packed", count);
    }
    // "nat-out/4": as one of four workers.
    let (name, workers) = case
        .split_once('/')
        .map_or((case.as_str(), 1), |(name, workers)| (name, workers.parse().unwrap_or(1)));
    let (slots, sessions) = if name.ends_with("-many") {
        (MANY + MANY / 16, MANY)
    } else {
        (SLOTS, SESSIONS * usize::from(workers) * usize::from(workers))
    };
    let mut lab = Lab::among(workers, slots);
    match name {
        "empty" => each(&[known_unicast()], count, |frame| lab.count_nothing(GUEST_1, frame)),
        "parse" => each(&[known_unicast()], count, |frame| {
            std::hint::black_box(counted_parse(std::hint::black_box(frame)));
            lab.count_nothing(GUEST_1, frame);
        }),
        "switch-many" => {
            let frames = lab.crowd();
            lab.out.sent = 0;
            each(&frames, count, |frame| lab.count(GUEST_1, frame));
        }
        "switch" => each(&[known_unicast()], count, |frame| lab.count(GUEST_1, frame)),
        "nat-out" | "nat-out-many" => outbound(&mut lab, count, sessions, Protocol::Udp),
        "nat-out-tcp" => outbound(&mut lab, count, sessions, Protocol::Tcp),
        "nat-in" | "nat-in-many" => inbound(&mut lab, count, sessions, Protocol::Udp),
        "nat-in-tcp" => inbound(&mut lab, count, sessions, Protocol::Tcp),
        "nat-new" => each(&new_frames(), count, |frame| lab.count(GUEST_1, frame)),
        _ => {
            eprintln!("no such case: {case}");
            return ExitCode::FAILURE;
        }
    }
    finish(&lab, count)
}

/// Frames from one guest to another, as the worker sees them: taken, decided upon, given, and a call for each batch.
fn over_vhost(packed: bool, count: usize) -> ExitCode {
    let bits = VERSION_1 | MRG_RXBUF | EVENT_IDX | if packed { RING_PACKED } else { 0 };
    let Ok((mut worker, mut guests)) = vhost_user(Features(bits)) else { return ExitCode::FAILURE };
    let mut sent = 0;
    while sent < count {
        guests.send();
        if worker.counted_turn() != BATCH || guests.receive() != BATCH {
            eprintln!("frames were lost after {sent}");
            return ExitCode::FAILURE;
        }
        sent += BATCH;
    }
    ExitCode::SUCCESS
}

#[inline(never)]
fn counted_parse(frame: &[u8]) -> Option<Packet> {
    Packet::parse(frame)
}

/// A case that drops its frames measures nothing.
fn finish(lab: &Lab, count: usize) -> ExitCode {
    if lab.out.sent >= count as u64 {
        return ExitCode::SUCCESS;
    }
    eprintln!("only {} of {count} frames were sent", lab.out.sent);
    lab.engine.drops().iter().for_each(|(reason, drops)| eprintln!("{}: {drops}", reason.name()));
    ExitCode::FAILURE
}

fn each(frames: &[Frame], count: usize, mut work: impl FnMut(&Frame)) {
    frames.iter().cycle().take(count).for_each(&mut work);
}

fn outbound(lab: &mut Lab, count: usize, sessions: usize, protocol: Protocol) {
    lab.open(sessions, protocol);
    lab.out.sent = 0;
    let frames = lab.outbound_frames(sessions, SLOTS, protocol);
    each(&frames, count, |frame| lab.count(GUEST_1, frame));
}

fn inbound(lab: &mut Lab, count: usize, sessions: usize, protocol: Protocol) {
    lab.open(sessions, protocol);
    lab.out.sent = 0;
    let frames = lab.inbound_frames(sessions, SLOTS, protocol);
    each(&frames, count, |frame| lab.count(UPLINK, frame));
}
