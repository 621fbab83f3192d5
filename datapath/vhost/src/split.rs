//! The device's side of a split virtqueue (virtio 1.2, 2.7).

use std::sync::atomic::{Ordering, fence};

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

use crate::chain::{Broken, Chain, DESCRIPTOR, Head, INDIRECT, NEXT, SplitDescriptor, fetch, table_places};
use crate::memory::Memory;
use crate::ring::{Addresses, passed};

const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Used {
    id: U32,
    length: U32,
}

#[derive(Clone, Debug)]
pub struct Split {
    size: u16,
    mask: u16,
    at: Addresses,
    event_index: bool,
    /// The next place of the available ring to be taken, and how far it is known to be filled.
    next: u16,
    available: u16,
    /// The next place of the used ring, how far the driver knows of it, and how far it was when the driver was last
    /// asked whether it wants to be called.
    used: u16,
    published: u16,
    signalled: u16,
}

impl Split {
    /// `size` is a power of two; `next` and `used` are where the device goes on.
    pub(crate) fn new(size: u16, at: Addresses, event_index: bool, next: u16, used: u16) -> Self {
        let mask = size.wrapping_sub(1);
        // As if one had been given back: what a device before this one did not call for is called for.
        let (available, published, signalled) = (next, used, used.wrapping_sub(1));
        Self { size, mask, at, event_index, next, available, used, published, signalled }
    }

    /// How far the driver has seen the device come.
    pub(crate) fn recover<M: Memory>(memory: &M, used: u64) -> Option<u16> {
        memory.load(used + 2)
    }

    #[must_use]
    pub(crate) fn octets(size: u16) -> [usize; 3] {
        let size = usize::from(size);
        [size * DESCRIPTOR, 6 + 2 * size, 6 + 8 * size]
    }

    pub(crate) fn position(&self) -> u16 {
        self.next
    }

    pub(crate) fn rewind(&mut self, position: u16) {
        self.next = position;
    }

    #[inline]
    pub(crate) fn pop<M: Memory>(&mut self, memory: &M, chain: &mut Chain) -> Result<Option<Head>, Broken> {
        if self.next == self.available && !self.look(memory)? {
            return Ok(None);
        }
        let place = self.at.driver + 4 + 2 * u64::from(self.next & self.mask);
        let head: U16 = fetch(memory, place)?;
        self.walk(memory, head.get(), chain)?;
        self.next = self.next.wrapping_add(1);
        Ok(Some(Head { id: head.get(), slots: 1 }))
    }

    /// Whether the driver has made more available.
    fn look<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        self.available = memory.load(self.at.driver + 2).ok_or(Broken::Outside)?;
        let count = self.available.wrapping_sub(self.next);
        if count > self.size { Err(Broken::Index) } else { Ok(count > 0) }
    }

    #[inline]
    fn walk<M: Memory>(&self, memory: &M, head: u16, chain: &mut Chain) -> Result<(), Broken> {
        let (mut table, mut places, mut place, mut inside) = (self.at.descriptors, self.size, head, false);
        let mut left = self.size;
        loop {
            if place >= places {
                return Err(Broken::Link);
            }
            left = left.checked_sub(1).ok_or(Broken::Long)?;
            let at = table.checked_add(u64::from(place) * DESCRIPTOR as u64).ok_or(Broken::Outside)?;
            let found: SplitDescriptor = fetch(memory, at)?;
            let flags = found.flags.get();
            if flags & INDIRECT != 0 {
                if inside || flags & NEXT != 0 {
                    return Err(Broken::Table);
                }
                places = table_places(found.length.get(), self.size)?;
                (table, place, inside, left) = (found.address.get(), 0, true, places);
                continue;
            }
            chain.push(found.address.get(), found.length.get(), flags);
            if flags & NEXT == 0 {
                return Ok(());
            }
            place = found.next.get();
        }
    }

    /// Gives a buffer back; the driver learns of it by [`Self::publish`].
    #[inline]
    pub(crate) fn push<M: Memory>(&mut self, memory: &M, head: Head, written: u32) -> Result<(), Broken> {
        let place = self.at.device + 4 + 8 * u64::from(self.used & self.mask);
        let used = Used { id: u32::from(head.id).into(), length: written.into() };
        self.used = self.used.wrapping_add(1);
        if memory.write(place, used.as_bytes()) { Ok(()) } else { Err(Broken::Outside) }
    }

    #[inline]
    pub(crate) fn publish<M: Memory>(&mut self, memory: &M) -> Result<(), Broken> {
        self.published = self.used;
        if memory.store(self.at.device + 2, self.used) { Ok(()) } else { Err(Broken::Outside) }
    }

    /// Whether the driver wants to be called for what was published since this was asked last.
    pub(crate) fn wants_call<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        let (before, now) = (std::mem::replace(&mut self.signalled, self.published), self.published);
        if before == now {
            return Ok(false);
        }
        // What was published has to be seen before the driver's wish is read.
        fence(Ordering::SeqCst);
        if self.event_index {
            let place = self.at.driver + 4 + 2 * u64::from(self.size);
            let event = memory.load(place).ok_or(Broken::Outside)?;
            return Ok(passed(event, before, now));
        }
        let flags = memory.load(self.at.driver).ok_or(Broken::Outside)?;
        Ok(flags & NO_INTERRUPT == 0)
    }

    /// Asks the driver for no notice of what it makes available.
    pub(crate) fn suppress<M: Memory>(&mut self, memory: &M) -> Result<(), Broken> {
        // With the event index the place already passed is as good.
        if self.event_index || memory.store(self.at.device, NO_NOTIFY) {
            Ok(())
        } else {
            Err(Broken::Outside)
        }
    }

    /// Asks for notice of whatever comes next; true when it is there already.
    pub(crate) fn enable<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        let stored = if self.event_index {
            memory.store(self.at.device + 4 + 8 * u64::from(self.size), self.next)
        } else {
            memory.store(self.at.device, 0)
        };
        if !stored {
            return Err(Broken::Outside);
        }
        fence(Ordering::SeqCst);
        self.look(memory)
    }
}
