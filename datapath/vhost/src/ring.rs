//! A virtqueue of either kind.

use crate::chain::{Broken, Chain, Head};
use crate::memory::Memory;
use crate::packed::{Cursor, Packed};
use crate::split::Split;

/// The most places a ring may have: QEMU's limit (virtio has 32,768). A buffer is at most as many pieces, which bounds
/// what a guest can make us walk for one frame.
pub const MAX_SIZE: u16 = 1024;

/// Where the three parts of a ring are, by the guest's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub descriptors: u64,
    /// What the driver writes: the available ring, or the driver's event suppression.
    pub driver: u64,
    /// What the device writes: the used ring, or its own event suppression.
    pub device: u64,
}

/// What was agreed about a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub size: u16,
    pub at: Addresses,
    pub packed: bool,
    pub event_index: bool,
}

#[derive(Clone, Debug)]
pub enum Ring {
    Split(Split),
    Packed(Packed),
}

/// A place to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Position {
    Split(u16),
    Packed(Cursor),
}

/// Whether the step from `before` to `now` passed `event` (virtio 1.2, 2.7.7.1).
#[inline]
pub(crate) fn passed(event: u16, before: u16, now: u16) -> bool {
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}

impl Ring {
    /// A ring whose device goes on at `base`, in the form of `SET_VRING_BASE`. `None`: it cannot be one, or is not where
    /// it claims to be.
    #[must_use]
    pub fn new<M: Memory>(
        layout: Layout,
        base: u32,
        memory: &M,
        holds: impl Fn(u64, usize) -> bool,
    ) -> Option<Self> {
        let Layout { size, at, packed, event_index } = layout;
        let octets = if packed { Packed::octets(size) } else { Split::octets(size) };
        let parts = [at.descriptors, at.driver, at.device].into_iter().zip(octets);
        let aligned =
            at.descriptors % 16 == 0 && at.driver % if packed { 4 } else { 2 } == 0 && at.device % 4 == 0;
        if size == 0
            || size > MAX_SIZE
            || !aligned
            || !parts.into_iter().all(|(at, octets)| holds(at, octets))
        {
            return None;
        }
        if packed {
            let next = Cursor::of(base as u16);
            return (next.place < size).then(|| Self::Packed(Packed::new(size, at, event_index, next)));
        }
        // What the driver has seen given back counts, whatever the device before this one was.
        let used = Split::recover(memory, at.device)?;
        size.is_power_of_two().then(|| Self::Split(Split::new(size, at, event_index, base as u16, used)))
    }

    /// Where the device is, in the form of `GET_VRING_BASE`.
    #[must_use]
    pub fn base(&self) -> u32 {
        match self {
            Self::Split(ring) => ring.position().into(),
            Self::Packed(ring) => u32::from(ring.position().word()) | u32::from(ring.used().word()) << 16,
        }
    }

    pub(crate) fn position(&self) -> Position {
        match self {
            Self::Split(ring) => Position::Split(ring.position()),
            Self::Packed(ring) => Position::Packed(ring.position()),
        }
    }

    /// Makes available again what was taken since.
    pub(crate) fn rewind(&mut self, position: Position) {
        match (self, position) {
            (Self::Split(ring), Position::Split(position)) => ring.rewind(position),
            (Self::Packed(ring), Position::Packed(position)) => ring.rewind(position),
            _ => {}
        }
    }

    /// Takes the next buffer and appends its segments to `chain`.
    ///
    /// # Errors
    /// The ring is no ring any more.
    #[inline]
    pub fn pop<M: Memory>(&mut self, memory: &M, chain: &mut Chain) -> Result<Option<Head>, Broken> {
        match self {
            Self::Split(ring) => ring.pop(memory, chain),
            Self::Packed(ring) => ring.pop(memory, chain),
        }
    }

    /// Gives a buffer back, in the order they were taken; the driver learns of it by [`Self::publish`].
    ///
    /// # Errors
    /// As [`Self::pop`].
    #[inline]
    pub fn push<M: Memory>(&mut self, memory: &M, head: Head, written: u32) -> Result<(), Broken> {
        match self {
            Self::Split(ring) => ring.push(memory, head, written),
            Self::Packed(ring) => ring.push(memory, head, written),
        }
    }

    /// Shows the driver all that was given back, at once.
    ///
    /// # Errors
    /// As [`Self::pop`].
    #[inline]
    pub fn publish<M: Memory>(&mut self, memory: &M) -> Result<(), Broken> {
        match self {
            Self::Split(ring) => ring.publish(memory),
            Self::Packed(ring) => ring.publish(memory),
        }
    }

    /// Whether the driver wants to be called for what was published since this was asked last.
    ///
    /// # Errors
    /// As [`Self::pop`].
    pub fn wants_call<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        match self {
            Self::Split(ring) => ring.wants_call(memory),
            Self::Packed(ring) => ring.wants_call(memory),
        }
    }

    /// Asks the driver for no notice of what it makes available.
    ///
    /// # Errors
    /// As [`Self::pop`].
    pub fn suppress<M: Memory>(&mut self, memory: &M) -> Result<(), Broken> {
        match self {
            Self::Split(ring) => ring.suppress(memory),
            Self::Packed(ring) => ring.suppress(memory),
        }
    }

    /// Asks for notice of whatever comes next; true when it is there already.
    ///
    /// # Errors
    /// As [`Self::pop`].
    pub fn enable<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        match self {
            Self::Split(ring) => ring.enable(memory),
            Self::Packed(ring) => ring.enable(memory),
        }
    }
}
