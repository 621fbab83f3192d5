//! The device's side of virtqueues against a driver's, over everything that can be agreed.

use pontoon_vhost::driver::{Buffers, Card, card_octets};
use pontoon_vhost::features::{
    EVENT_IDX, GUEST_CSUM, IN_ORDER, INDIRECT_DESC, MRG_RXBUF, RING_PACKED, VERSION_1,
};
use pontoon_vhost::net::HEADROOM;
use pontoon_vhost::{Features, Given, Queue, Regions, Ring, Taken};
use pontoon_wire::vnet;
use proptest::prelude::*;
use std::sync::Arc;

type Memory = Arc<Regions>;

/// A driver, and its queues on our side: what it sends is taken from the second, what it gets given to the first.
struct Rig {
    card: Card<Memory>,
    receiving: Queue<Memory>,
    sending: Queue<Memory>,
}

fn rig(features: Features, buffers: Buffers) -> Rig {
    let memory = Arc::new(Regions::anonymous(card_octets(buffers) as usize).expect("memory"));
    let card = Card::new(Arc::clone(&memory), 0, features, buffers);
    let start = if features.has(RING_PACKED) { 0x8000 } else { 0 };
    let queue = |layout| {
        let ring = Ring::new(layout, start, &memory, |at, length| memory.holds(at, length)).expect("ring");
        Queue::new(ring, Arc::clone(&memory), features)
    };
    let [receiving, sending] = card.layouts().map(queue);
    Rig { card, receiving, sending }
}

fn features() -> impl Strategy<Value = Features> {
    let bits = [VERSION_1, MRG_RXBUF, INDIRECT_DESC, EVENT_IDX, RING_PACKED, IN_ORDER, GUEST_CSUM];
    proptest::sample::subsequence(bits.to_vec(), 0..=bits.len())
        .prop_map(|bits| Features(bits.into_iter().sum()))
}

fn buffers() -> impl Strategy<Value = Buffers> {
    (2u32..=6, 64u32..3000, 1usize..=6).prop_map(|(log, receive, pieces)| Buffers {
        size: 1 << log,
        receive,
        send: 4096,
        pieces: pieces.min(1 << log),
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// The guest queues a frame of so many octets and publishes.
    Send(usize),
    /// We take all there is.
    Take,
    /// We give the guest a frame in pieces.
    Give(usize, usize),
    /// The guest reads all it has.
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        (1usize..2000).prop_map(Step::Send),
        Just(Step::Take),
        (1usize..2500, 1usize..5).prop_map(|(length, parts)| Step::Give(length, parts)),
        Just(Step::Read),
    ];
    proptest::collection::vec(one, 1..150)
}

fn frame(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|octet| (octet * 7 + number * 13) as u8).collect()
}

/// Counts calls and notices too: whoever waits is always told.
fn play(features: Features, buffers: Buffers, steps: &[Step]) {
    let Rig { mut card, mut receiving, mut sending } = rig(features, buffers);
    let mut room = vec![0; 70_000];
    let (mut out, mut inbound) = (std::collections::VecDeque::new(), std::collections::VecDeque::new());
    let (mut notice, mut call) = (true, false);
    card.fill();
    card.receiving.ask(true);
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Send(length) => {
                let frame = frame(number, *length);
                if card.send(vnet::Header::default(), &frame) {
                    notice |= card.sending.publish();
                    out.push_back(frame);
                }
            }
            Step::Take => {
                assert!(notice || out.is_empty(), "frames wait and nobody said so");
                notice = false;
                loop {
                    match sending.take(&mut room) {
                        Taken::Frame { length, .. } => {
                            assert_eq!(room[HEADROOM..HEADROOM + length], out.pop_front().expect("sent")[..]);
                        }
                        Taken::Nothing => break,
                        other => panic!("{other:?}"),
                    }
                }
                assert!(out.is_empty());
            }
            Step::Give(length, parts) => {
                let frame = frame(number, *length);
                let pieces: Vec<&[u8]> = frame.chunks(length.div_ceil(*parts)).collect();
                match receiving.give(vnet::Header::default(), &pieces) {
                    Given::Done => inbound.push_back(frame),
                    Given::NoRoom => {
                        let whole = length + features.header();
                        let fits = whole <= buffers.receive as usize || features.has(MRG_RXBUF);
                        assert!(!inbound.is_empty() || !fits || whole > buffers.receive as usize);
                    }
                    other => panic!("{other:?}"),
                }
                call |= receiving.wants_call().expect("sound");
            }
            Step::Read => {
                assert!(call || inbound.is_empty(), "frames wait and nobody called");
                call = false;
                while let Some((_, length)) = card.receive(&mut room) {
                    let start = card.header();
                    assert_eq!(room[start..start + length], inbound.pop_front().expect("given")[..]);
                }
                assert!(inbound.is_empty());
                card.receiving.publish();
                card.receiving.ask(true);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_cross_whole_and_in_order_and_whoever_waits_is_told(
        features in features(), buffers in buffers(), steps in steps(),
    ) {
        play(features, buffers, &steps);
    }

    #[test]
    fn a_device_goes_on_where_another_stopped(
        features in features(), buffers in buffers(), before in 0usize..80, after in 1usize..40,
    ) {
        let Rig { mut card, mut sending, .. } = rig(features, buffers);
        let mut room = vec![0; 70_000];
        for number in 0..before + after {
            if number == before {
                let (layout, base, memory) = (card.layouts()[1], sending.base(), Arc::clone(sending.memory()));
                let ring = Ring::new(layout, base, &memory, |at, length| memory.holds(at, length));
                sending = Queue::new(ring.expect("ring"), memory, features);
            }
            let frame = frame(number, 60 + number % 100);
            prop_assert!(card.send(vnet::Header::default(), &frame));
            card.sending.publish();
            let Taken::Frame { length, .. } = sending.take(&mut room) else { panic!("no frame {number}") };
            prop_assert_eq!(&room[HEADROOM..HEADROOM + length], &frame[..]);
        }
    }
}

#[test]
fn every_kind_of_ring_wraps_many_times() {
    let steps: Vec<Step> =
        (0..1_000).flat_map(|_| [Step::Send(60), Step::Give(900, 2), Step::Take, Step::Read]).collect();
    for bits in [0, RING_PACKED] {
        for more in [VERSION_1, VERSION_1 | EVENT_IDX | INDIRECT_DESC | MRG_RXBUF] {
            let buffers =
                Buffers { size: 8, receive: 400 + 700 * u32::from(more == VERSION_1), send: 256, pieces: 3 };
            play(Features(bits | more), buffers, &steps);
        }
    }
}

#[test]
fn the_largest_frame_is_spread_over_buffers() {
    // Pages, and what Linux gives before it has seen larger frames.
    for (receive, count) in [(4096, 17), (1530, 43)] {
        let buffers = Buffers { size: 64, receive, send: 256, pieces: 1 };
        let Rig { mut card, mut receiving, .. } = rig(Features(VERSION_1 | MRG_RXBUF), buffers);
        card.fill();
        let frame = frame(1, 65_549);
        assert_eq!(receiving.give(vnet::Header::default(), &[&frame]), Given::Done);
        let mut room = vec![0; 70_000];
        let (header, length) = card.receive(&mut room).expect("a frame");
        assert_eq!((header.buffers.get(), length), (count, frame.len()));
        assert_eq!(room[card.header()..card.header() + length], frame[..]);
    }
}
