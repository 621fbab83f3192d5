//! Descriptors, and the chains they form.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::memory::Memory;

/// Another descriptor follows.
pub const NEXT: u16 = 1;
/// The device writes there; else it reads.
pub const WRITE: u16 = 2;
/// A table of descriptors is there.
pub const INDIRECT: u16 = 4;

/// Octets of a descriptor in either kind of ring.
pub const DESCRIPTOR: usize = 16;

/// The driver broke the rules of the ring itself; nothing on it can be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ring is not in the guest's memory.
    Outside,
    /// More is available than the ring holds.
    Index,
    /// A head or a link that is no place of the ring.
    Link,
    /// More descriptors than the ring has places: a loop.
    Long,
    /// A table inside a table, not whole descriptors, or with descriptors behind it.
    Table,
}

/// A descriptor of a split ring.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SplitDescriptor {
    pub(crate) address: U64,
    pub(crate) length: U32,
    pub(crate) flags: U16,
    pub(crate) next: U16,
}

/// A descriptor of a packed ring.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct PackedDescriptor {
    pub(crate) address: U64,
    pub(crate) length: U32,
    pub(crate) id: U16,
    pub(crate) flags: U16,
}

/// A piece of a buffer; whether it is where it claims to be shows when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    pub length: u32,
    pub writable: bool,
}

/// Pieces of one or more buffers, copied from the ring once.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub segments: Vec<Segment>,
}

/// What the driver gets back of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub id: u16,
    /// Places it takes in a packed ring.
    pub slots: u16,
}

impl Chain {
    /// Octets of the segments from `first` on, of one direction.
    #[must_use]
    pub fn room(&self, first: usize, writable: bool) -> usize {
        let segments = self.segments.get(first..).unwrap_or_default();
        segments.iter().filter(|one| one.writable == writable).map(|one| one.length as usize).sum()
    }

    pub(crate) fn push(&mut self, address: u64, length: u32, flags: u16) {
        self.segments.push(Segment { address, length, writable: flags & WRITE != 0 });
    }
}

/// One value copied out of the guest's memory.
#[inline]
pub(crate) fn fetch<T: FromBytes + IntoBytes, M: Memory>(memory: &M, address: u64) -> Result<T, Broken> {
    let mut value = T::new_zeroed();
    if memory.read(address, value.as_mut_bytes()) { Ok(value) } else { Err(Broken::Outside) }
}

/// Places of a table of `length` octets: whole descriptors, no more than the ring has.
pub(crate) fn table_places(length: u32, size: u16) -> Result<u16, Broken> {
    let count = length / DESCRIPTOR as u32;
    match u16::try_from(count) {
        Ok(places) if places > 0 && length.is_multiple_of(DESCRIPTOR as u32) && places <= size => Ok(places),
        _ => Err(Broken::Table),
    }
}
