//! What every worker may read of a tree: one byte a port.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

use crate::snapshot::PortId;
use crate::time::Time;

const PORTS: usize = 4096;
/// BPDUs, and frames that hint at a loop, that a port may bring to worker 0 in a second.
const PER_SECOND: u32 = 64;

/// What a port may do with frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Gate {
    #[default]
    Closed = 0,
    /// Addresses are learned; nothing is forwarded.
    Learning = 1,
    Open = 2,
}

/// Shared by all workers and kept over configuration changes; worker 0 writes. A port nobody has opened is closed, so
/// a new port carries nothing before its first BPDU is out.
#[derive(Debug)]
pub struct Board {
    gates: Box<[AtomicU8]>,
    /// Second (upper 24 bits) and frames of it (lower 8).
    admitted: Box<[AtomicU32]>,
    /// A port that may be part of a loop, plus one; 0 is none.
    suspect: AtomicU16,
}

impl Board {
    /// `open` are ports that carry frames already when the tree begins.
    #[must_use]
    pub fn new(open: impl Iterator<Item = PortId>) -> Self {
        let board = Self {
            gates: (0..PORTS).map(|_| AtomicU8::new(Gate::Closed as u8)).collect(),
            admitted: (0..PORTS).map(|_| AtomicU32::new(0)).collect(),
            suspect: AtomicU16::new(0),
        };
        open.for_each(|port| board.set(port, Gate::Open));
        board
    }

    #[must_use]
    #[inline]
    pub fn is_open(&self, port: PortId) -> bool {
        self.byte(port) == Gate::Open as u8
    }

    #[must_use]
    pub fn gate(&self, port: PortId) -> Gate {
        match self.byte(port) {
            2 => Gate::Open,
            1 => Gate::Learning,
            _ => Gate::Closed,
        }
    }

    pub fn set(&self, port: PortId, gate: Gate) {
        if let Some(byte) = self.gates.get(usize::from(port)) {
            byte.store(gate as u8, Relaxed);
        }
    }

    #[inline]
    fn byte(&self, port: PortId) -> u8 {
        self.gates.get(usize::from(port)).map_or(0, |gate| gate.load(Relaxed))
    }

    /// Whether a port may bring one more frame to worker 0 in this second.
    #[must_use]
    pub fn admit(&self, now: Time, port: PortId) -> bool {
        let Some(cell) = self.admitted.get(usize::from(port)) else { return false };
        let second = (now.secs() as u32) << 8;
        let count = |cell: u32| if cell & !0xff == second { cell & 0xff } else { 0 };
        let next = |cell| (count(cell) < PER_SECOND).then(|| second | (count(cell) + 1));
        cell.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    /// Tells worker 0 that frames behind `port` may be going in circles.
    pub fn accuse(&self, port: PortId) {
        self.suspect.store(port.saturating_add(1), Relaxed);
    }

    /// A port was accused and nobody has heard of it yet.
    #[must_use]
    #[inline]
    pub fn is_accusing(&self) -> bool {
        self.suspect.load(Relaxed) != 0
    }

    /// The port accused last, once.
    #[must_use]
    pub fn take_suspect(&self) -> Option<PortId> {
        if !self.is_accusing() {
            return None;
        }
        self.suspect.swap(0, Relaxed).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_closed_until_it_is_opened() {
        let board = Board::new([3].into_iter());
        assert!(board.is_open(3) && !board.is_open(4));
        board.set(4, Gate::Learning);
        assert_eq!((board.is_open(4), board.gate(4)), (false, Gate::Learning));
        board.set(u16::MAX, Gate::Open);
        assert_eq!(board.gate(u16::MAX), Gate::Closed, "beyond the last port nothing is open");
    }

    #[test]
    fn a_port_brings_so_many_frames_a_second_and_delays_no_other() {
        let board = Board::new([].into_iter());
        for second in 5..7 {
            let now = Time::from_secs(second);
            let admitted = (0..1000).filter(|_| board.admit(now, 1)).count();
            assert_eq!(admitted, PER_SECOND as usize);
            assert!(board.admit(now, 2));
        }
    }

    #[test]
    fn an_accusation_is_heard_once() {
        let board = Board::new([].into_iter());
        assert_eq!(board.take_suspect(), None);
        board.accuse(0);
        assert_eq!((board.take_suspect(), board.take_suspect()), (Some(0), None));
    }
}
