//! The device's side of a packed virtqueue (virtio 1.2, 2.8).

use std::sync::atomic::{Ordering, fence};

use zerocopy::IntoBytes;

use crate::chain::{
    Broken, Chain, DESCRIPTOR, Head, INDIRECT, NEXT, PackedDescriptor, WRITE, fetch, table_places,
};
use crate::memory::Memory;
use crate::ring::{Addresses, passed};

pub(crate) const AVAILABLE: u16 = 1 << 7;
pub(crate) const USED: u16 = 1 << 15;

/// Words of the event suppression structures.
pub(crate) const ENABLE: u16 = 0;
pub(crate) const DISABLE: u16 = 1;
pub(crate) const AT_DESCRIPTOR: u16 = 2;

/// Octets of a descriptor before its flags.
const FLAGS: u64 = 14;

/// A place in the ring and the lap it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) place: u16,
    pub(crate) wrap: bool,
}

impl Cursor {
    /// As `SET_VRING_BASE` and event structures have it.
    pub(crate) fn word(self) -> u16 {
        self.place | u16::from(self.wrap) << 15
    }

    pub(crate) fn of(word: u16) -> Self {
        Self { place: word & 0x7fff, wrap: word & 0x8000 != 0 }
    }

    #[inline]
    pub(crate) fn advance(&mut self, slots: u16, size: u16) {
        let (place, lap) = (u32::from(self.place) + u32::from(slots), u32::from(size));
        if place >= lap {
            self.wrap = !self.wrap;
        }
        self.place = (if place >= lap { place - lap } else { place }) as u16;
    }
}

#[derive(Clone, Debug)]
pub struct Packed {
    size: u16,
    at: Addresses,
    event_index: bool,
    next: Cursor,
    used: Cursor,
    /// The first buffer given back since the last [`Self::publish`]: its flags are written last, and with them the driver
    /// sees all.
    first: Option<(u16, u16)>,
    signalled: u16,
    changed: bool,
}

impl Packed {
    pub(crate) fn new(size: u16, at: Addresses, event_index: bool, next: Cursor) -> Self {
        let (used, first, signalled) = (next, None, next.place);
        Self { size, at, event_index, next, used, first, signalled, changed: true }
    }

    #[must_use]
    pub(crate) fn octets(size: u16) -> [usize; 3] {
        [usize::from(size) * DESCRIPTOR, 4, 4]
    }

    pub(crate) fn position(&self) -> Cursor {
        self.next
    }

    pub(crate) fn used(&self) -> Cursor {
        self.used
    }

    pub(crate) fn rewind(&mut self, position: Cursor) {
        self.next = position;
    }

    #[inline]
    fn place(&self, place: u16) -> u64 {
        self.at.descriptors + u64::from(place) * DESCRIPTOR as u64
    }

    #[inline]
    fn is_available<M: Memory>(&self, memory: &M) -> Result<bool, Broken> {
        let flags = memory.load(self.place(self.next.place) + FLAGS).ok_or(Broken::Outside)?;
        Ok((flags & AVAILABLE != 0) == self.next.wrap && (flags & USED != 0) != self.next.wrap)
    }

    #[inline]
    pub(crate) fn pop<M: Memory>(&mut self, memory: &M, chain: &mut Chain) -> Result<Option<Head>, Broken> {
        if !self.is_available(memory)? {
            return Ok(None);
        }
        let (mut cursor, mut slots) = (self.next, 0);
        loop {
            if slots == self.size {
                return Err(Broken::Long);
            }
            let found: PackedDescriptor = fetch(memory, self.place(cursor.place))?;
            cursor.advance(1, self.size);
            slots += 1;
            let flags = found.flags.get();
            if flags & INDIRECT != 0 {
                if slots > 1 || flags & NEXT != 0 {
                    return Err(Broken::Table);
                }
                self.table(memory, found, chain)?;
            } else {
                chain.push(found.address.get(), found.length.get(), flags);
            }
            if flags & NEXT == 0 {
                self.next = cursor;
                return Ok(Some(Head { id: found.id.get(), slots }));
            }
        }
    }

    fn table<M: Memory>(&self, memory: &M, found: PackedDescriptor, chain: &mut Chain) -> Result<(), Broken> {
        let places = table_places(found.length.get(), self.size)?;
        for place in 0..places {
            let offset = u64::from(place) * DESCRIPTOR as u64;
            let at = found.address.get().checked_add(offset).ok_or(Broken::Outside)?;
            let one: PackedDescriptor = fetch(memory, at)?;
            if one.flags.get() & INDIRECT != 0 {
                return Err(Broken::Table);
            }
            chain.push(one.address.get(), one.length.get(), one.flags.get());
        }
        Ok(())
    }

    /// Gives a buffer back; the driver learns of it by [`Self::publish`].
    #[inline]
    pub(crate) fn push<M: Memory>(&mut self, memory: &M, head: Head, written: u32) -> Result<(), Broken> {
        let lap = if self.used.wrap { AVAILABLE | USED } else { 0 };
        let flags = lap | if written > 0 { WRITE } else { 0 };
        let place = self.used.place;
        let used =
            PackedDescriptor { length: written.into(), id: head.id.into(), ..PackedDescriptor::default() };
        // Length and id; the address is the driver's to write.
        let octets = used.as_bytes().get(8..FLAGS as usize).unwrap_or_default();
        if !memory.write(self.place(place) + 8, octets) {
            return Err(Broken::Outside);
        }
        self.used.advance(head.slots, self.size);
        if self.first.is_none() {
            self.first = Some((place, flags));
            return Ok(());
        }
        if memory.store(self.place(place) + FLAGS, flags) { Ok(()) } else { Err(Broken::Outside) }
    }

    #[inline]
    pub(crate) fn publish<M: Memory>(&mut self, memory: &M) -> Result<(), Broken> {
        let Some((place, flags)) = self.first.take() else { return Ok(()) };
        self.changed = true;
        if memory.store(self.place(place) + FLAGS, flags) { Ok(()) } else { Err(Broken::Outside) }
    }

    /// Whether the driver wants to be called for what was published since this was asked last.
    pub(crate) fn wants_call<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        if !std::mem::take(&mut self.changed) {
            return Ok(false);
        }
        let (before, now) = (std::mem::replace(&mut self.signalled, self.used.place), self.used.place);
        fence(Ordering::SeqCst);
        let flags = memory.load(self.at.driver + 2).ok_or(Broken::Outside)?;
        match flags & 3 {
            DISABLE => Ok(false),
            AT_DESCRIPTOR if self.event_index => {
                let event = Cursor::of(memory.load(self.at.driver).ok_or(Broken::Outside)?);
                // On one number line: a lap back is a size less.
                let lap = |earlier: bool| if earlier { self.size } else { 0 };
                let event = event.place.wrapping_sub(lap(event.wrap != self.used.wrap));
                Ok(passed(event, before.wrapping_sub(lap(now <= before)), now))
            }
            _ => Ok(true),
        }
    }

    pub(crate) fn suppress<M: Memory>(&mut self, memory: &M) -> Result<(), Broken> {
        if memory.store(self.at.device + 2, DISABLE) { Ok(()) } else { Err(Broken::Outside) }
    }

    /// Asks for notice of whatever comes next; true when it is there already.
    pub(crate) fn enable<M: Memory>(&mut self, memory: &M) -> Result<bool, Broken> {
        let place = if self.event_index { self.next.word() } else { 0 };
        let flags = if self.event_index { AT_DESCRIPTOR } else { ENABLE };
        if !memory.store(self.at.device, place) || !memory.store(self.at.device + 2, flags) {
            return Err(Broken::Outside);
        }
        fence(Ordering::SeqCst);
        self.is_available(memory)
    }
}
