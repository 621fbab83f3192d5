//! A guest's network card over vhost-user: the virtqueues one worker runs, of one port.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use pontoon_vhost::features::{
    CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_USO4, GUEST_USO6, HOST_TSO4, HOST_TSO6, HOST_USO,
};
use pontoon_vhost::{Features, Given, Taken, Wired};
use pontoon_wire::vnet;
use rustix::io::Errno;

use crate::{Agreed, Offloads, Received, Sent};

/// A queue of either direction.
#[derive(Debug)]
struct Line {
    wired: Wired,
    /// The driver has got something, or got it back, and was not asked whether it wants to be called.
    touched: bool,
    /// The driver broke it: it rests until it is set up anew.
    broken: bool,
}

/// The queues of one port that are one worker's. There are none while no guest is connected or its driver is not up.
#[derive(Debug, Default)]
pub struct VhostQueue {
    /// Which of several guests behind each other at this port it is.
    epoch: u64,
    /// By number: even ones the guest receives by, odd ones it sends by.
    lines: BTreeMap<u16, Line>,
    /// Numbers of the two kinds, in order.
    receiving: Vec<u16>,
    sending: Vec<u16>,
    /// Whose turn it is to be read, as a place in `sending`.
    turn: usize,
}

impl VhostQueue {
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes over a queue. What it was asked for before is shown to be done: the driver is called once.
    pub fn put(&mut self, index: u16, wired: Wired) {
        self.lines.insert(index, Line { wired, touched: true, broken: false });
        self.sort();
        self.turn = 0;
        self.call_touched();
    }

    /// Gives a queue back.
    pub fn take(&mut self, index: u16) -> Option<Wired> {
        let line = self.lines.remove(&index);
        self.sort();
        line.map(|line| line.wired)
    }

    fn sort(&mut self) {
        let of = |kind: u16| self.lines.keys().copied().filter(|index| index % 2 == kind).collect();
        (self.receiving, self.sending) = (of(0), of(1));
    }

    /// The descriptor that wakes for a queue the guest sends by.
    #[must_use]
    pub fn kick(&self, index: u16) -> Option<BorrowedFd<'_>> {
        self.lines.get(&index).filter(|_| index % 2 == 1).map(|line| line.wired.kick.as_fd())
    }

    pub fn kicks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sending.iter().filter_map(|index| self.kick(*index))
    }

    /// The guest can be sent frames to by this worker.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.receiving.is_empty()
    }

    /// What the guest's driver has agreed to, and how many pairs of queues are here.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        let of = |indexes: &[u16]| {
            let line = indexes.first().and_then(|index| self.lines.get(index));
            line.map_or(Features::default(), |line| line.wired.queue.features())
        };
        let (to, from) = (of(&self.receiving), of(&self.sending));
        let has = |features: Features, checksum, tso, uso| Offloads {
            checksum: features.has(checksum),
            tso: features.has(checksum | tso),
            uso: features.has(checksum | uso),
        };
        Agreed {
            queues: u16::try_from(self.receiving.len().max(self.sending.len())).unwrap_or(u16::MAX),
            takes: has(to, GUEST_CSUM, GUEST_TSO4 | GUEST_TSO6, GUEST_USO4 | GUEST_USO6),
            sends: has(from, CSUM, HOST_TSO4 | HOST_TSO6, HOST_USO),
        }
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        for _ in 0..self.sending.len() {
            let index = self.sending.get(self.turn).copied().unwrap_or_default();
            match self.lines.get_mut(&index).map_or(Taken::Nothing, |line| line.take(buffer)) {
                Taken::Frame { vnet, length } => return Received::Frame { vnet, length },
                Taken::Dropped | Taken::Broken(_) => return Received::Dropped,
                Taken::Nothing => self.turn = (self.turn + 1) % self.sending.len().max(1),
            }
        }
        self.call_touched();
        let cut = |line: &Line| line.wired.queue.memory().is_cut();
        if self.lines.values().any(cut) { Received::Dead(Errno::FAULT) } else { Received::WouldBlock }
    }

    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        let place = if self.receiving.len() > 1 { spread(parts) % self.receiving.len() } else { 0 };
        let index = self.receiving.get(place);
        let Some(line) = index.and_then(|index| self.lines.get_mut(index)) else { return Sent::WouldBlock };
        line.give(header, parts)
    }

    /// Something waits for [`Self::call_touched`].
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.receiving.iter().any(|index| self.lines.get(index).is_some_and(|line| line.touched))
    }

    /// Calls the drivers of all queues that changed, where they want it.
    pub fn call_touched(&mut self) {
        self.lines.values_mut().filter(|line| line.touched).for_each(Line::call);
    }
}

impl Line {
    #[inline]
    fn take(&mut self, buffer: &mut [u8]) -> Taken {
        if self.broken {
            return Taken::Nothing;
        }
        let taken = self.wired.queue.take(buffer);
        self.touched |= taken != Taken::Nothing;
        self.broken = matches!(taken, Taken::Broken(_));
        taken
    }

    #[inline]
    fn give(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        if self.broken {
            return Sent::Dropped;
        }
        match self.wired.queue.give(header, parts) {
            Given::Done => {
                self.touched = true;
                Sent::Done
            }
            Given::NoRoom => Sent::WouldBlock,
            Given::NotTaken => Sent::NotTaken,
            Given::Dropped => Sent::Dropped,
            Given::Broken(_) => {
                self.broken = true;
                Sent::Dropped
            }
        }
    }

    fn call(&mut self) {
        self.touched = false;
        if self.broken {
            return;
        }
        match self.wired.queue.wants_call() {
            Ok(true) => {
                if let Some(call) = &self.wired.call {
                    // A counter that is full has the driver called already.
                    let _ = rustix::io::write(call, &1u64.to_ne_bytes());
                }
            }
            Ok(false) => {}
            Err(_) => self.broken = true,
        }
    }
}

/// A number that is the same for all frames of a flow: of the addresses and ports of an IPv4 packet, or whatever is there.
fn spread(parts: &[&[u8]]) -> usize {
    let octets = parts.first().and_then(|part| part.get(26..38)).unwrap_or_default();
    let mixed = octets.iter().fold(0u32, |sum, octet| (sum ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    (mixed >> 16) as usize
}
