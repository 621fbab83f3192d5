//! No allocation per frame, and a bound on the memory of a session.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pontoon_benches::{Frame, Lab, Protocol, known_unicast};
use pontoon_engine::coalesce::{Coalescer, Offers};
use pontoon_engine::engine::Config;
use pontoon_engine::nat::Slot;
use pontoon_engine::{Engine, Now, PortId};
use pontoon_sim::{GUEST_1, UPLINK};
use pontoon_wire::vnet;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all memory comes from and returns to the system allocator; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: usize = 10_000;
const SESSIONS: usize = 1000;
const SLOTS: usize = 4096;
/// Time between two frames.
const STEP: u64 = 1000;

/// Allocations of `FRAMES` frames, all of which are forwarded.
fn allocations(lab: &mut Lab, port: PortId, frames: &[Frame]) -> u64 {
    lab.receive(port, &frames[0]);
    lab.out.sent = 0;
    let before = ALLOCATIONS.get();
    for frame in frames.iter().cycle().take(FRAMES) {
        lab.pass(STEP);
        lab.receive(port, frame);
    }
    let count = ALLOCATIONS.get() - before;
    assert_eq!(lab.out.sent, FRAMES as u64, "{:?}", lab.engine.drops());
    count
}

#[test]
fn switching_allocates_nothing() {
    let mut lab = Lab::new(SLOTS);
    assert_eq!(allocations(&mut lab, GUEST_1, &[known_unicast()]), 0);
}

#[test]
fn translating_allocates_nothing() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut lab = Lab::new(SLOTS);
        lab.open(SESSIONS, protocol);
        let frames = lab.outbound_frames(SESSIONS, SESSIONS, protocol);
        assert_eq!(allocations(&mut lab, GUEST_1, &frames), 0, "{protocol:?} out");
        let frames = lab.inbound_frames(SESSIONS, SESSIONS, protocol);
        assert_eq!(allocations(&mut lab, UPLINK, &frames), 0, "{protocol:?} in");
    }
}

#[test]
fn coalescing_allocates_nothing() {
    let mut coalescer = Coalescer::default();
    let frame = known_unicast();
    let before = ALLOCATIONS.get();
    for number in 0..FRAMES {
        if !coalescer.push((number % 3) as PortId, Offers::ALL, vnet::Header::default(), &frame) {
            coalescer.flush(|out| {
                std::hint::black_box(out.length());
            });
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Octets an engine for `slots` sessions takes, slots not included.
fn engine_bytes(slots: usize) -> usize {
    let memory = Box::leak(vec![Slot::default(); slots].into_boxed_slice());
    let before = BYTES.get();
    let engine = Engine::new(Config { worker: 0, workers: 1, seed: 7 }, memory, Now::default());
    let bytes = BYTES.get().wrapping_sub(before);
    drop(engine);
    bytes
}

#[test]
fn a_session_takes_at_most_200_octets() {
    let base = engine_bytes(0);
    for sessions in [65_536, 1_000_000, 1 << 20] {
        let index = engine_bytes(sessions).saturating_sub(base) as f64 / sessions as f64;
        let bytes = size_of::<Slot>() as f64 + index;
        println!("{sessions} sessions: {} + {index:.1} = {bytes:.1} octets each", size_of::<Slot>());
        assert!(bytes <= 200.0, "{bytes} octets a session for {sessions} sessions");
    }
}
