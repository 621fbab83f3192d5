//! Neighbouring segments of one flow to one port leave as one super-frame, and super-frames become segments again
//! for ports that take none.
//!
//! [`Coalescer`] is a worker's outbox. Frames are copied into it in the order they are sent; a TCP segment or UDP
//! datagram that continues the last frame of its flow is appended to that frame by the rules the kernel's GRO has
//! ([`merge`]). Nothing waits longer than the worker's turn. The order within a flow never changes: a frame joins
//! only the newest frame of its flow, and a frame that cannot join ends it. What belongs to no flow that can be told
//! (ARP, ICMP, fragments) ends all frames to its port.
//!
//! A super-frame that is left is what [`segment`] turns back into the segments it was made of.

mod flow;
mod merge;
mod segment;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use pontoon_wire::vnet;

use crate::snapshot::PortId;
use flow::{Class, Shape, classify};
use merge::Steps;

pub use segment::segment;

/// Segments of one super-frame; the kernel's GRO stops UDP there too.
pub const MAX_SEGMENTS: u16 = 64;
/// Frames that can wait.
pub const FRAMES: usize = 1024;
/// Octets that can wait: a batch of 64 frames of 1500 octets more than twice, 1024 small ones many times.
pub const OCTETS: usize = 256 * 1024;
/// Longer frames are not worth a copy and leave at once.
pub const LONGEST: usize = 16 * 1024;

/// Places of flows, as a power of two; two flows in one place only merge less.
const PLACE_BITS: u32 = 11;
const PLACES: usize = 1 << PLACE_BITS;
const NONE: u16 = u16::MAX;

/// Which super-frames a port takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// TCP, and checksums left to complete.
    pub tso: bool,
    /// UDP.
    pub uso: bool,
}

impl Offers {
    pub const ALL: Self = Self { tso: true, uso: true };
    pub const NONE: Self = Self { tso: false, uso: false };

    fn takes(self, shape: &Shape) -> bool {
        if shape.tcp { self.tso } else { self.uso }
    }
}

/// Octets `start..end` of the arena.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: u32,
    end: u32,
    next: u16,
}

/// A frame that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    key: [u64; 2],
    port: PortId,
    vnet: vnet::Header,
    shape: Shape,
    /// Another segment may be appended.
    open: bool,
    /// Its own checksums were found right.
    verified: bool,
    steps: Steps,
    /// Frames it is made of.
    frames: u16,
    segments: u16,
    /// Octets of the whole frame.
    length: u32,
    next_sequence: u32,
    /// PSH and FIN of the last segment.
    tail: u8,
    first: u16,
    last: u16,
}

/// Frames that leave at the end of a turn.
#[derive(Debug)]
pub struct Coalescer {
    arena: Box<[u8]>,
    used: usize,
    waiting: Vec<Waiting>,
    chunks: Vec<Chunk>,
    /// Index of the newest frame of a flow, by hash. A place that was not written since the last flush is harmless: a
    /// frame of the same flow would have written it.
    places: [u16; PLACES],
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new(OCTETS, FRAMES)
    }
}

impl Coalescer {
    #[must_use]
    pub fn new(octets: usize, frames: usize) -> Self {
        let frames = frames.min(usize::from(NONE));
        Self {
            arena: vec![0; octets].into_boxed_slice(),
            used: 0,
            waiting: Vec::with_capacity(frames),
            chunks: Vec::with_capacity(frames),
            places: [NONE; PLACES],
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Frames that would leave now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a copy of the frame; false when there is no room, and then a flush makes some. A frame of up to
    /// [`LONGEST`] octets always fits into an empty coalescer.
    #[must_use]
    pub fn push(&mut self, port: PortId, offers: Offers, vnet: vnet::Header, frame: &[u8]) -> bool {
        // A chunk for every frame, joined or not: one check covers both vectors.
        if self.chunks.len() == self.chunks.capacity() || frame.len() > self.arena.len() - self.used {
            return false;
        }
        match classify(port, &vnet, frame) {
            Class::Shapeless => {
                self.end_port(port);
                self.append(port, [0; 2], vnet, None, frame);
            }
            Class::Segment { key, shape } if offers.takes(&shape) => {
                if !self.join(key, &vnet, &shape, frame) {
                    self.append(port, key, vnet, Some(shape), frame);
                }
            }
            Class::Segment { key, .. } | Class::Lone { key } => {
                self.end_flow(key);
                self.append(port, key, vnet, None, frame);
            }
        }
        true
    }

    /// Appends the payload to the newest frame of its flow, when the rules allow.
    fn join(&mut self, key: [u64; 2], vnet: &vnet::Header, shape: &Shape, frame: &[u8]) -> bool {
        let Some(index) = self.newest(key) else { return false };
        let Some(head) = self.waiting.get_mut(usize::from(index)) else { return false };
        let Some(bytes) = self.chunks.get(usize::from(head.first)) else { return false };
        let Some(bytes) = self.arena.get(bytes.start as usize..bytes.end as usize) else { return false };
        let joined = merge::joins(head, bytes, vnet, shape, frame);
        if joined {
            self.extend(index, frame.get(usize::from(shape.payload)..).unwrap_or_default());
        } else {
            head.open = false;
        }
        joined
    }

    /// The newest frame of a flow, if it can be appended to.
    fn newest(&self, key: [u64; 2]) -> Option<u16> {
        let index = *self.places.get(place(key))?;
        let newest = self.waiting.get(usize::from(index))?;
        (newest.open && newest.key == key).then_some(index)
    }

    fn end_flow(&mut self, key: [u64; 2]) {
        if let Some(index) = self.newest(key)
            && let Some(newest) = self.waiting.get_mut(usize::from(index))
        {
            newest.open = false;
        }
    }

    fn end_port(&mut self, port: PortId) {
        self.waiting
            .iter_mut()
            .filter(|waiting| waiting.port == port)
            .for_each(|waiting| waiting.open = false);
    }

    /// Puts a frame behind all others; with a shape, others may join it.
    fn append(
        &mut self,
        port: PortId,
        key: [u64; 2],
        vnet: vnet::Header,
        shape: Option<Shape>,
        frame: &[u8],
    ) {
        let index = self.waiting.len() as u16;
        let chunk = self.copy(frame);
        let open = shape.is_some_and(|shape| shape.may_be_continued());
        if open && let Some(place) = self.places.get_mut(place(key)) {
            *place = index;
        }
        let shape = shape.unwrap_or_default();
        self.waiting.push(Waiting {
            key,
            port,
            vnet,
            shape,
            open,
            verified: false,
            steps: if shape.super_frame { Steps::Counting } else { Steps::Unknown },
            frames: 1,
            segments: shape.segments,
            length: frame.len() as u32,
            next_sequence: shape.sequence.wrapping_add(u32::from(shape.length)),
            tail: 0,
            first: chunk,
            last: chunk,
        });
    }

    /// Copies octets to the end of the arena, where there is room for them.
    fn copy(&mut self, bytes: &[u8]) -> u16 {
        let (start, end) = (self.used, self.used + bytes.len());
        if let Some(room) = self.arena.get_mut(start..end) {
            room.copy_from_slice(bytes);
        }
        self.used = end;
        self.chunks.push(Chunk { start: start as u32, end: end as u32, next: NONE });
        (self.chunks.len() - 1) as u16
    }

    /// Appends octets to a waiting frame: in place when it is the last in the arena.
    fn extend(&mut self, index: u16, payload: &[u8]) {
        let Some(waiting) = self.waiting.get_mut(usize::from(index)) else { return };
        let last = usize::from(waiting.last);
        let (start, end) = (self.used, self.used + payload.len());
        if let Some(chunk) = self.chunks.get_mut(last).filter(|chunk| chunk.end as usize == start) {
            if let Some(room) = self.arena.get_mut(start..end) {
                room.copy_from_slice(payload);
            }
            chunk.end = end as u32;
            self.used = end;
            return;
        }
        let new = self.chunks.len() as u16;
        waiting.last = new;
        if let Some(chunk) = self.chunks.get_mut(last) {
            chunk.next = new;
        }
        self.copy(payload);
    }

    /// Hands every waiting frame to `send`, in order, and forgets them.
    pub fn flush(&mut self, mut send: impl FnMut(Outgoing<'_>)) {
        for waiting in &mut self.waiting {
            if waiting.frames > 1 {
                let head =
                    self.chunks.get(usize::from(waiting.first)).map_or(0, |chunk| chunk.start as usize);
                if let Some(head) = self.arena.get_mut(head..head + usize::from(waiting.shape.payload)) {
                    waiting.vnet = merge::finish(waiting, head);
                }
            }
            send(Outgoing { waiting, chunks: &self.chunks, arena: &self.arena });
        }
        self.waiting.clear();
        self.chunks.clear();
        self.used = 0;
    }
}

fn place(key: [u64; 2]) -> usize {
    let mixed = (key[0] ^ key[1].rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - PLACE_BITS)) as usize % PLACES
}

/// One frame on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    waiting: &'a Waiting,
    chunks: &'a [Chunk],
    arena: &'a [u8],
}

impl<'a> Outgoing<'a> {
    #[must_use]
    pub fn port(&self) -> PortId {
        self.waiting.port
    }

    #[must_use]
    pub fn vnet(&self) -> vnet::Header {
        self.waiting.vnet
    }

    /// Octets of the frame.
    #[must_use]
    pub fn length(&self) -> usize {
        self.waiting.length as usize
    }

    /// Frames it was made of.
    #[must_use]
    pub fn frames(&self) -> u16 {
        self.waiting.frames
    }

    #[must_use]
    pub fn segments(&self) -> u16 {
        self.waiting.segments.max(1)
    }

    /// All segments had the same IPv4 identification, which a vnet header cannot say.
    #[must_use]
    pub fn fixed_id(&self) -> bool {
        self.waiting.steps == Steps::Fixed
    }

    /// The octets, in pieces: at most one more than it has segments.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (chunks, arena) = (self.chunks, self.arena);
        let mut next = self.waiting.first;
        core::iter::from_fn(move || {
            let chunk = chunks.get(usize::from(next))?;
            next = chunk.next;
            arena.get(chunk.start as usize..chunk.end as usize)
        })
    }
}
