//! What begins and ends, kept for whoever asked until the turn is over. Nothing is written down where nobody asked.

use alloc::vec::Vec;

use super::list::Session;
use super::slot::Slot;
use super::table::Table;
use super::{Nat, list};
use crate::time::Time;

/// Changes of one turn; more are only counted.
const CAPACITY: usize = 4096;

/// Of which changes a note is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub sessions: bool,
    /// Networks whose mappings are of interest.
    pub mappings: Vec<u16>,
}

/// A session that began, or one that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub begins: bool,
    /// And a mapping with it.
    pub mapping: bool,
    pub session: Session,
}

#[derive(Clone, Copy)]
struct Note {
    begins: bool,
    mapping: bool,
    slot: Slot,
    born: u32,
}

#[derive(Default)]
pub(super) struct Journal {
    on: bool,
    interest: Interest,
    notes: Vec<Note>,
    lost: u64,
}

impl Journal {
    fn set(&mut self, interest: Interest) {
        self.on = interest.sessions || !interest.mappings.is_empty();
        self.interest = interest;
        if self.on {
            self.notes.reserve_exact(CAPACITY.saturating_sub(self.notes.len()));
        } else {
            self.notes = Vec::new();
        }
    }

    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    #[cold]
    #[inline(never)]
    pub(super) fn note(&mut self, begins: bool, mapping: bool, slot: Slot, born: u32) {
        let wanted = mapping && self.interest.mappings.contains(&slot.network.get());
        if !wanted && !self.interest.sessions {
            return;
        }
        if self.notes.len() >= CAPACITY {
            self.lost += 1;
            return;
        }
        self.notes.push(Note { begins, mapping, slot, born });
    }
}

impl Nat {
    /// Makes notes of this from now on.
    pub fn watch(&mut self, interest: Interest) {
        self.table.journal.set(interest);
    }

    #[must_use]
    #[inline]
    pub fn has_changes(&self) -> bool {
        !self.table.journal.notes.is_empty()
    }

    /// Gives out what was noted, in order, and how much was not for want of room.
    pub fn take_changes(&mut self, now: Time, mut each: impl FnMut(Change)) -> u64 {
        let journal = &mut self.table.journal;
        for Note { begins, mapping, slot, born } in journal.notes.drain(..) {
            each(Change { begins, mapping, session: Session::of(&slot, now, born) });
        }
        core::mem::take(&mut journal.lost)
    }
}

impl Table {
    /// A session is in its slot.
    #[inline(always)]
    pub(super) fn note_begin(&mut self, now: Time, slot: &Slot, sibling: Option<u32>) {
        if self.journal.is_on() {
            let mapping = sibling.is_none() && !slot.is_forwarded();
            self.journal.note(true, mapping, *slot, list::seconds(now));
        }
    }

    /// A session is about to leave.
    #[inline(always)]
    pub(super) fn note_end(&mut self, number: u32, slot: &Slot) {
        if self.journal.is_on() {
            let mapping = self.is_alone(number) && !slot.is_forwarded();
            self.journal.note(false, mapping, *slot, self.born(number));
        }
    }
}
