//! A worker's queues, one a port, and the epoll set that watches them.
//!
//! Queues are watched edge-triggered: one that was not read until it would block is remembered as ready.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

use pontoon_engine::PortId;
use pontoon_engine::coalesce::Offers;
use pontoon_ports::{Agreed, Queue, Received, Sent};
use pontoon_wire::vnet;
use rustix::event::epoll;

use crate::counters::PortCounts;
use crate::mail::VhostChange;

/// Ids of ports are below this.
pub(crate) const MAX_PORTS: usize = 4096;

const KIND_SHIFT: u32 = 32;
const WAKER: u64 = 0;
const PORT: u64 = 1;
const RESOLVER: u64 = 2;

/// What an epoll event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Waker,
    Port(PortId),
    Resolver(u16),
}

impl Token {
    #[must_use]
    pub(crate) fn data(self) -> epoll::EventData {
        let word = match self {
            Self::Waker => WAKER << KIND_SHIFT,
            Self::Port(port) => PORT << KIND_SHIFT | u64::from(port),
            Self::Resolver(socket) => RESOLVER << KIND_SHIFT | u64::from(socket),
        };
        epoll::EventData::new_u64(word)
    }

    #[must_use]
    pub(crate) fn of(data: epoll::EventData) -> Option<Self> {
        let word = data.u64();
        let index = u16::try_from(word & u64::from(u32::MAX)).ok()?;
        match word >> KIND_SHIFT {
            WAKER => Some(Self::Waker),
            PORT => Some(Self::Port(index)),
            RESOLVER => Some(Self::Resolver(index)),
            _ => None,
        }
    }
}

/// A queue for one worker. `reads` is false where another worker reads the same descriptor.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) port: PortId,
    pub(crate) queue: Queue,
    pub(crate) reads: bool,
}

#[derive(Debug)]
struct Slot {
    queue: Queue,
    offers: Offers,
    reads: bool,
    ready: bool,
    /// Watched until it can be written.
    blocked: bool,
}

#[derive(Debug)]
pub(crate) struct Queues {
    epoll: OwnedFd,
    slots: Vec<Option<Slot>>,
    counts: Vec<PortCounts>,
    ready: VecDeque<PortId>,
    /// Ports with output that waits to be flushed.
    waiting: Vec<PortId>,
    /// Frames for ports whose other side does not keep up.
    full: u64,
    /// Ports that another worker sends to.
    through: BTreeMap<PortId, u16>,
    /// Calls of [`Self::send`], until somebody takes them.
    pub(crate) written: usize,
    /// Ports that failed since the last [`Self::take_failed`].
    failed: Vec<(PortId, io::Error)>,
}

impl Queues {
    /// # Errors
    /// When no epoll set can be made.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (slots, counts, waiting, failed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            epoll,
            slots,
            counts,
            ready: VecDeque::new(),
            waiting,
            full: 0,
            through: BTreeMap::new(),
            written: 0,
            failed,
        })
    }

    #[must_use]
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Puts a queue in place of any the port had.
    pub(crate) fn attach(&mut self, attached: Attached) {
        let Attached { port, queue, reads } = attached;
        let index = usize::from(port);
        if index >= MAX_PORTS {
            return;
        }
        self.close(port);
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
            self.counts.resize_with(index + 1, PortCounts::default);
        }
        if let Some(fd) = queue.fd().filter(|_| reads) {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            if let Err(error) = epoll::add(&self.epoll, fd, Token::Port(port).data(), flags) {
                self.failed.push((port, error.into()));
                return;
            }
        }
        if let Some(slot) = self.slots.get_mut(index) {
            let offers = if queue.takes_offloads() { Offers::ALL } else { Offers::NONE };
            *slot = Some(Slot { queue, offers, reads, ready: false, blocked: false });
        }
        self.mark_ready(port);
    }

    /// Closes the queue and forgets its counters.
    pub(crate) fn remove(&mut self, port: PortId) {
        self.close(port);
        if let Some(counts) = self.counts.get_mut(usize::from(port)) {
            *counts = PortCounts::default();
        }
    }

    fn close(&mut self, port: PortId) {
        let Some(slot) = self.slots.get_mut(usize::from(port)).and_then(Option::take) else { return };
        // Control holds the descriptor too, so closing ours would leave it watched.
        if let Some(fd) = slot.queue.fd().filter(|_| slot.reads || slot.blocked) {
            let _ = epoll::delete(&self.epoll, fd);
        }
        if let Queue::Vhost(queue) = &slot.queue {
            for kick in queue.kicks() {
                let _ = epoll::delete(&self.epoll, kick);
            }
        }
        self.through.remove(&port);
        self.ready.retain(|ready| *ready != port);
        self.waiting.retain(|waiting| *waiting != port);
    }

    pub(crate) fn mark_ready(&mut self, port: PortId) {
        if let Some(slot) = self.slot(port)
            && slot.reads
            && !slot.ready
        {
            slot.ready = true;
            self.ready.push_back(port);
        }
    }

    /// The worker that sends to this port, where it is not this one.
    #[must_use]
    #[inline]
    pub(crate) fn through(&self, port: PortId) -> Option<u16> {
        if self.through.is_empty() { None } else { self.through.get(&port).copied() }
    }

    /// Takes over, or gives back, queues of a guest.
    pub(crate) fn change_vhost(&mut self, port: PortId, epoch: u64, change: VhostChange) {
        let slot = self.slots.get_mut(usize::from(port)).and_then(Option::as_mut);
        let Some(slot) = slot else { return };
        let Queue::Vhost(queue) = &mut slot.queue else { return };
        if queue.epoch() != epoch {
            return;
        }
        match change {
            VhostChange::Start { index, wired } => {
                queue.put(index, *wired);
                let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                let watched = queue
                    .kick(index)
                    .map(|kick| epoll::add(&self.epoll, kick, Token::Port(port).data(), flags));
                if let Some(Err(error)) = watched {
                    self.failed.push((port, error.into()));
                }
            }
            VhostChange::Stop { index, reply } => {
                queue.kick(index).map(|kick| epoll::delete(&self.epoll, kick));
                let _ = reply.send(queue.take(index).map(|wired| wired.queue.base()));
            }
            VhostChange::Through(None) => drop(self.through.remove(&port)),
            VhostChange::Through(Some(worker)) => drop(self.through.insert(port, worker)),
        }
        let takes = queue.agreed().takes;
        slot.offers = Offers { tso: takes.tso, uso: takes.uso };
        self.mark_ready(port);
    }

    /// The port's descriptor can be read, or written where that was waited for.
    pub(crate) fn woken(&mut self, port: PortId) {
        self.mark_ready(port);
        if self.slot(port).is_some_and(|slot| slot.blocked) && !self.waiting.contains(&port) {
            self.waiting.push(port);
        }
    }

    /// It is watched until it can be written.
    #[must_use]
    pub(crate) fn is_blocked(&self, port: PortId) -> bool {
        let slot = self.slots.get(usize::from(port)).and_then(Option::as_ref);
        slot.is_some_and(|slot| slot.blocked)
    }

    /// The next port to read; [`Self::mark_ready`] puts one back that has more.
    pub(crate) fn next_ready(&mut self) -> Option<PortId> {
        let port = self.ready.pop_front()?;
        if let Some(slot) = self.slot(port) {
            slot.ready = false;
        }
        Some(port)
    }

    #[must_use]
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn receive(&mut self, port: PortId, buffer: &mut [u8]) -> Received {
        let Some(slot) = self.slot(port) else { return Received::WouldBlock };
        let received = slot.queue.receive(buffer);
        let Some(counts) = self.counts.get_mut(usize::from(port)) else { return received };
        match received {
            Received::Frame { length, .. } => {
                counts.rx_packets = counts.rx_packets.wrapping_add(1);
                counts.rx_bytes = counts.rx_bytes.wrapping_add(length as u64);
            }
            Received::Dropped => counts.rx_drops = counts.rx_drops.wrapping_add(1),
            Received::Dead(errno) => self.fail(port, errno),
            Received::WouldBlock => {}
        }
        received
    }

    /// Which super-frames the port takes, as far as is known.
    #[must_use]
    pub(crate) fn offers(&self, port: PortId) -> Offers {
        let slot = self.slots.get(usize::from(port)).and_then(Option::as_ref);
        slot.map_or(Offers::NONE, |slot| slot.offers)
    }

    /// The kernel refused a sound super-frame of UDP.
    pub(crate) fn without_uso(&mut self, port: PortId) {
        if let Some(slot) = self.slot(port) {
            slot.offers.uso = false;
        }
    }

    /// Sends a frame given in pieces; the caller counts it.
    pub(crate) fn send(&mut self, port: PortId, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        self.written += 1;
        let mut sent = self.try_send(port, header, parts);
        if sent == Sent::Full {
            self.flush_port(port);
            sent = self.try_send(port, header, parts);
        }
        if let Sent::Dead(errno) = sent {
            self.fail(port, errno);
        }
        sent
    }

    fn try_send(&mut self, port: PortId, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        let Some(slot) = self.slot(port) else { return Sent::Dropped };
        let waited = slot.queue.has_output();
        let sent = slot.queue.send(header, parts);
        if !waited && slot.queue.has_output() {
            self.waiting.push(port);
        }
        sent
    }

    /// Writes what queues have taken and not written yet.
    pub(crate) fn flush(&mut self) {
        while let Some(port) = self.waiting.pop() {
            self.flush_port(port);
        }
    }

    fn flush_port(&mut self, port: PortId) {
        let Some(slot) = self.slot(port) else { return };
        let lost = slot.queue.flush();
        self.watch_writes(port);
        if lost.frames > 0
            && let Some(counts) = self.counts.get_mut(usize::from(port))
        {
            counts.tx_packets = counts.tx_packets.saturating_sub(lost.frames.into());
            counts.tx_bytes = counts.tx_bytes.saturating_sub(lost.octets as u64);
        }
        self.count_sent(port, lost.sent, lost.frames, 0);
        if let Sent::Dead(errno) = lost.sent {
            self.fail(port, errno);
        }
    }

    /// Has the set report when a queue that is blocked can be written, and no longer when it is not.
    fn watch_writes(&mut self, port: PortId) {
        let Some(slot) = self.slots.get_mut(usize::from(port)).and_then(Option::as_mut) else { return };
        let Some(fd) = slot.queue.fd().filter(|_| slot.queue.is_blocked() != slot.blocked) else { return };
        let (reads, blocked) = (slot.reads, slot.queue.is_blocked());
        let both = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let (token, only) = (Token::Port(port).data(), epoll::EventFlags::ET);
        let changed = match (reads, blocked) {
            (true, true) => epoll::modify(&self.epoll, fd, token, both),
            (true, false) => epoll::modify(&self.epoll, fd, token, epoll::EventFlags::IN | only),
            (false, true) => epoll::add(&self.epoll, fd, token, epoll::EventFlags::OUT | only),
            (false, false) => epoll::delete(&self.epoll, fd),
        };
        if changed.is_ok() {
            slot.blocked = blocked;
        }
    }

    /// Counts what became of `frames` frames of `octets` together.
    pub(crate) fn count_sent(&mut self, port: PortId, sent: Sent, frames: u16, octets: usize) {
        if sent == Sent::WouldBlock {
            self.full = self.full.wrapping_add(frames.into());
        }
        let Some(counts) = self.counts.get_mut(usize::from(port)) else { return };
        if sent == Sent::Done {
            counts.tx_packets = counts.tx_packets.wrapping_add(frames.into());
            counts.tx_bytes = counts.tx_bytes.wrapping_add(octets as u64);
        } else {
            counts.tx_drops = counts.tx_drops.wrapping_add(frames.into());
        }
    }

    /// Frames so far for ports whose other side does not keep up.
    #[must_use]
    pub(crate) fn full(&self) -> u64 {
        self.full
    }

    fn fail(&mut self, port: PortId, errno: rustix::io::Errno) {
        self.close(port);
        self.failed.push((port, errno.into()));
    }

    pub(crate) fn take_failed(&mut self) -> Vec<(PortId, io::Error)> {
        std::mem::take(&mut self.failed)
    }

    /// Counters of every port that is open or has counted something.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (PortId, PortCounts)> + '_ {
        let open = |index: usize| self.slots.get(index).is_some_and(Option::is_some);
        self.counts
            .iter()
            .enumerate()
            .filter(move |(index, counts)| open(*index) || **counts != PortCounts::default())
            .filter_map(|(index, counts)| Some((PortId::try_from(index).ok()?, *counts)))
    }

    /// What is agreed with the other sides of open ports.
    pub(crate) fn agreed(&self) -> impl Iterator<Item = (PortId, Agreed)> + '_ {
        let of = |slot: &Slot| {
            let mut agreed = slot.queue.agreed();
            agreed.takes.uso &= slot.offers.uso;
            // The descriptor is another worker's queue.
            agreed.queues = if slot.reads { agreed.queues } else { 0 };
            agreed
        };
        let slots = self.slots.iter().enumerate();
        slots.filter_map(move |(index, slot)| Some((PortId::try_from(index).ok()?, of(slot.as_ref()?))))
    }

    fn slot(&mut self, port: PortId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(port))?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_ports::{BUFFER, MemQueue};

    #[test]
    fn a_dead_queue_is_reported_once_and_closed() {
        let mut queues = Queues::new().expect("epoll");
        let (ours, theirs) = MemQueue::pair();
        queues.attach(Attached { port: 5, queue: Queue::Mem(ours), reads: true });
        assert_eq!(queues.next_ready(), Some(5));
        let transmit = |queues: &mut Queues| {
            let sent = queues.send(5, vnet::Header::default(), &[b"frame"]);
            queues.count_sent(5, sent, 1, 5);
        };
        transmit(&mut queues);
        drop(theirs);
        assert!(matches!(queues.receive(5, &mut vec![0; BUFFER]), Received::Dead(_)));
        assert_eq!(queues.take_failed().len(), 1);
        transmit(&mut queues);
        assert!(queues.take_failed().is_empty());
        let (port, counts) = queues.counts().next().expect("counts");
        assert_eq!((port, counts.tx_packets, counts.tx_drops), (5, 1, 1));
        queues.remove(5);
        assert!(queues.counts().next().is_none());
    }

    #[test]
    fn tokens_survive_the_trip() {
        for token in [Token::Waker, Token::Port(4095), Token::Resolver(3)] {
            assert_eq!(Token::of(token.data()), Some(token));
        }
    }
}
