//! The other side, for tests, fuzzing and measurements: a guest's driver in this process.
//!
//! It follows virtio's text and not the device's code, and it checks what the device does: whatever breaks a rule is a
//! panic.

mod card;
mod front;

use std::sync::atomic::{Ordering, fence};

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U32;

use crate::chain::{DESCRIPTOR, INDIRECT, NEXT, PackedDescriptor, Segment, SplitDescriptor, WRITE, fetch};
use crate::memory::Memory;
use crate::packed::{AT_DESCRIPTOR, AVAILABLE, Cursor, DISABLE, ENABLE, USED};
use crate::ring::{Layout, passed};

pub use card::{Buffers, Card, card_octets};
pub use front::FrontEnd;

/// Segments of a buffer, at most.
pub const MAX_PIECES: usize = 20;
/// Octets of the tables of a ring of `size`.
#[must_use]
pub const fn table_octets(size: u16) -> u64 {
    size as u64 * (MAX_PIECES * DESCRIPTOR) as u64
}

/// Where the parts of a ring go that begins at `at`; and what comes behind it.
#[must_use]
pub fn lay_out(size: u16, at: u64, packed: bool, event_index: bool) -> (Layout, u64) {
    let driver = at + u64::from(size) * DESCRIPTOR as u64;
    let device = (driver + if packed { 4 } else { 6 + 2 * u64::from(size) }).next_multiple_of(4);
    let end = (device + if packed { 4 } else { 6 + 8 * u64::from(size) }).next_multiple_of(64);
    let at = crate::ring::Addresses { descriptors: at, driver, device };
    (Layout { size, at, packed, event_index }, end)
}

/// One virtqueue from the driver's side.
#[derive(Debug)]
pub struct Driver<M> {
    memory: M,
    layout: Layout,
    /// Tables of indirect descriptors, one a place.
    tables: Option<u64>,
    /// Places (split) or ids (packed) nobody uses.
    free: Vec<u16>,
    /// Places a buffer takes, by its id.
    held: Vec<Vec<u16>>,
    slots: u16,
    next: Cursor,
    used: Cursor,
    /// Counters of a split ring: what was made available and published, and what was collected.
    added: u16,
    published: u16,
    collected: u16,
    kicked: Cursor,
}

impl<M: Memory> Driver<M> {
    #[must_use]
    pub fn new(memory: M, layout: Layout, tables: Option<u64>) -> Self {
        let start = Cursor { place: 0, wrap: true };
        let free = (0..layout.size).rev().collect();
        let held = vec![Vec::new(); usize::from(layout.size)];
        let (slots, next, used, kicked) = (layout.size, start, start, start);
        let (added, published, collected) = (0, 0, 0);
        Self { memory, layout, tables, free, held, slots, next, used, added, published, collected, kicked }
    }

    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn put(&self, at: u64, value: &(impl IntoBytes + zerocopy::Immutable)) {
        assert!(self.memory.write(at, value.as_bytes()), "the driver's own memory");
    }

    /// Makes a buffer available; the device sees it after [`Self::publish`]. `None` when the ring is full.
    pub fn add(&mut self, pieces: &[Segment]) -> Option<u16> {
        let places = if self.tables.is_some() { 1 } else { pieces.len() };
        if self.layout.packed {
            (usize::from(self.slots) >= places).then(|| self.add_packed(pieces, places as u16))
        } else {
            (self.free.len() >= places).then(|| self.add_split(pieces, places))
        }
    }

    fn add_split(&mut self, pieces: &[Segment], places: usize) -> u16 {
        let taken = self.free.split_off(self.free.len() - places);
        let head = taken[0];
        let next = |index: usize| taken.get(index + 1).copied();
        if let Some(table) = self.table(head) {
            for (index, piece) in pieces.iter().enumerate() {
                let link = (index + 1 < pieces.len()).then_some(index as u16 + 1);
                self.put(table + (index * DESCRIPTOR) as u64, &split(piece, link));
            }
            let length = (pieces.len() * DESCRIPTOR) as u32;
            let one =
                SplitDescriptor { flags: INDIRECT.into(), ..split(&segment(table, length, false), None) };
            self.put(self.descriptor(head), &one);
        } else {
            for (index, (piece, place)) in pieces.iter().zip(&taken).enumerate() {
                self.put(self.descriptor(*place), &split(piece, next(index)));
            }
        }
        let place = 4 + 2 * u64::from(self.added % self.layout.size);
        self.put(self.layout.at.driver + place, &head.to_le_bytes());
        self.added = self.added.wrapping_add(1);
        self.held[usize::from(head)] = taken;
        head
    }

    fn add_packed(&mut self, pieces: &[Segment], places: u16) -> u16 {
        let id = self.free.pop().expect("as many ids as places");
        let first = self.next;
        let table = self.table(id);
        let whole;
        let pieces = match table {
            None => pieces,
            Some(table) => {
                for (index, piece) in pieces.iter().enumerate() {
                    let flags = if piece.writable { WRITE } else { 0 };
                    self.put(table + (index * DESCRIPTOR) as u64, &packed(piece, 0, flags));
                }
                whole = [segment(table, (pieces.len() * DESCRIPTOR) as u32, false)];
                &whole
            }
        };
        let mut first_flags = 0;
        for (index, piece) in pieces.iter().enumerate() {
            let lap = if self.next.wrap { AVAILABLE } else { USED };
            let link = if index + 1 < pieces.len() { NEXT } else { 0 };
            let kind = if table.is_some() { INDIRECT } else { 0 } | if piece.writable { WRITE } else { 0 };
            let flags = lap | link | kind;
            let at = self.descriptor(self.next.place);
            // All but the flags, which show that the rest is there.
            assert!(self.memory.write(at, &packed(piece, id, 0).as_bytes()[..14]));
            if index == 0 {
                first_flags = flags;
            } else {
                assert!(self.memory.store(at + 14, flags));
            }
            self.next.advance(1, self.layout.size);
        }
        assert!(self.memory.store(self.descriptor(first.place) + 14, first_flags));
        self.slots -= places;
        self.held[usize::from(id)] = vec![0; places.into()];
        id
    }

    fn table(&self, id: u16) -> Option<u64> {
        self.tables.map(|at| at + u64::from(id) * (MAX_PIECES * DESCRIPTOR) as u64)
    }

    fn descriptor(&self, place: u16) -> u64 {
        self.layout.at.descriptors + u64::from(place) * DESCRIPTOR as u64
    }

    /// Shows the device what was added. True when it wants to be told.
    pub fn publish(&mut self) -> bool {
        let (size, at) = (self.layout.size, self.layout.at);
        if self.layout.packed {
            fence(Ordering::SeqCst);
            let before = std::mem::replace(&mut self.kicked, self.next);
            if before == self.next {
                return false;
            }
            return match self.memory.load(at.device + 2).expect("event flags") & 3 {
                DISABLE => false,
                AT_DESCRIPTOR => {
                    let event = Cursor::of(self.memory.load(at.device).expect("event"));
                    let line = |one: Cursor| {
                        let back = one.wrap != self.next.wrap;
                        one.place.wrapping_sub(if back { size } else { 0 })
                    };
                    passed(line(event), line(before), self.next.place)
                }
                _ => true,
            };
        }
        assert!(self.memory.store(at.driver + 2, self.added));
        fence(Ordering::SeqCst);
        let before = std::mem::replace(&mut self.published, self.added);
        if before == self.added {
            return false;
        }
        if self.layout.event_index {
            let event = self.memory.load(at.device + 4 + 8 * u64::from(size)).expect("avail event");
            return passed(event, before, self.added);
        }
        self.memory.load(at.device).expect("flags") & 1 == 0
    }

    /// A buffer the device has given back, and how much it wrote.
    pub fn collect(&mut self) -> Option<(u16, u32)> {
        let (id, written) = if self.layout.packed { self.collect_packed()? } else { self.collect_split()? };
        let held = std::mem::take(&mut self.held[usize::from(id)]);
        assert!(!held.is_empty(), "buffer {id} was not the device's");
        if self.layout.packed {
            self.used.advance(held.len() as u16, self.layout.size);
            self.slots += held.len() as u16;
            self.free.push(id);
        } else {
            self.free.extend(held);
        }
        Some((id, written))
    }

    fn collect_split(&mut self) -> Option<(u16, u32)> {
        let index = self.memory.load(self.layout.at.device + 2).expect("index");
        let count = index.wrapping_sub(self.collected);
        assert!(count <= self.layout.size, "{count} given back");
        if count == 0 {
            return None;
        }
        let place = 4 + 8 * u64::from(self.collected % self.layout.size);
        let [id, written]: [U32; 2] = fetch(&self.memory, self.layout.at.device + place).expect("used");
        self.collected = self.collected.wrapping_add(1);
        Some((u16::try_from(id.get()).expect("id"), written.get()))
    }

    fn collect_packed(&mut self) -> Option<(u16, u32)> {
        let at = self.descriptor(self.used.place);
        let flags = self.memory.load(at + 14).expect("flags");
        let lap = |bit: u16| (flags & bit != 0) == self.used.wrap;
        if !(lap(AVAILABLE) && lap(USED)) || self.slots == self.layout.size {
            return None;
        }
        let used: PackedDescriptor = fetch(&self.memory, at).expect("used");
        Some((used.id.get(), used.length.get()))
    }

    /// Says whether it wants to be called: for whatever comes next, or not at all.
    pub fn ask(&mut self, call: bool) {
        let (size, at) = (self.layout.size, self.layout.at);
        let stored = if self.layout.packed {
            let wanted = if self.layout.event_index { AT_DESCRIPTOR } else { ENABLE };
            self.memory.store(at.driver, self.used.word())
                && self.memory.store(at.driver + 2, if call { wanted } else { DISABLE })
        } else if self.layout.event_index {
            let event = if call { self.collected } else { self.collected.wrapping_sub(1) };
            self.memory.store(at.driver + 4 + 2 * u64::from(size), event)
        } else {
            self.memory.store(at.driver, u16::from(!call))
        };
        assert!(stored);
        fence(Ordering::SeqCst);
    }

    /// Buffers the device has.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.held.iter().filter(|held| !held.is_empty()).count()
    }
}

pub(crate) fn segment(address: u64, length: u32, writable: bool) -> Segment {
    Segment { address, length, writable }
}

fn split(piece: &Segment, next: Option<u16>) -> SplitDescriptor {
    let flags = next.map_or(0, |_| NEXT) | if piece.writable { WRITE } else { 0 };
    SplitDescriptor {
        address: piece.address.into(),
        length: piece.length.into(),
        flags: flags.into(),
        next: next.unwrap_or(0xffff).into(),
    }
}

fn packed(piece: &Segment, id: u16, flags: u16) -> PackedDescriptor {
    PackedDescriptor {
        address: piece.address.into(),
        length: piece.length.into(),
        id: id.into(),
        flags: flags.into(),
    }
}
