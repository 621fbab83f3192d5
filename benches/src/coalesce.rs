//! Frames for the coalescer: neighbours of one flow, or of many that take turns.

use etherparse::PacketBuilder;
use pontoon_engine::PortId;
use pontoon_engine::coalesce::{Coalescer, Offers};
use pontoon_wire::vnet;

const PORT: PortId = 3;
/// Frames of one turn.
const BATCH: usize = 64;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Datagrams of 18 octets of as many flows.
    Udp { flows: usize },
    /// Full segments of one connection.
    Tcp,
    /// Acknowledgements, which are never merged.
    Acknowledgements,
}

impl Kind {
    /// Of the case with this name.
    #[must_use]
    pub fn named(case: &str) -> Option<Self> {
        Some(match case {
            "coalesce-udp" => Self::Udp { flows: 1 },
            "coalesce-flows" => Self::Udp { flows: 64 },
            "coalesce-tcp" => Self::Tcp,
            "coalesce-ack" => Self::Acknowledgements,
            _ => return None,
        })
    }
}

/// One turn's frames.
#[must_use]
pub fn frames(kind: Kind) -> Vec<Vec<u8>> {
    (0..BATCH).map(|index| frame(kind, index)).collect()
}

fn frame(kind: Kind, index: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    let mut frame = Vec::new();
    let written = match kind {
        Kind::Udp { flows } => builder.udp(2000 + (index % flows) as u16, 443).write(&mut frame, &[7; 18]),
        Kind::Tcp => builder.tcp(2000, 443, (index * 1448) as u32, 512).ack(1).write(&mut frame, &[7; 1448]),
        Kind::Acknowledgements => builder.tcp(2000, 443, 1, 512).ack(index as u32).write(&mut frame, &[]),
    };
    assert!(written.is_ok(), "a vector has room");
    frame
}

/// Sends turns of these frames until `count` were; returns how many left as one of several.
#[inline(never)]
pub fn counted_turns(frames: &[Vec<u8>], count: usize) -> usize {
    let (mut coalescer, mut merged) = (Coalescer::default(), 0);
    let mut flush = |coalescer: &mut Coalescer| {
        coalescer.flush(|out| {
            std::hint::black_box(out.parts().map(<[u8]>::len).sum::<usize>());
            merged += if out.frames() > 1 { usize::from(out.frames()) } else { 0 };
        });
    };
    for (index, frame) in frames.iter().cycle().take(count).enumerate() {
        let frame = std::hint::black_box(frame);
        if !coalescer.push(PORT, Offers::ALL, vnet::Header::default(), frame) || index % BATCH == BATCH - 1 {
            flush(&mut coalescer);
        }
    }
    flush(&mut coalescer);
    merged
}
