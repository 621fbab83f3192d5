//! One connection: the guest's half of its state, and the host's socket.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};

use super::head::{ACK, FIN, Head, PSH, RST, SYN};
use super::pool::{BLOCK, Chunk, Pool};
use super::{fail, reset};
use crate::Flow;
use crate::run::Cx;
use crate::side::Segment;

/// What a guest may send before the host's kernel has taken it: more than it ever takes at once.
const WINDOW: usize = 512 << 10;
/// With more than this waiting for the host no more is asked for.
const ENOUGH: usize = 64 << 10;
/// What is in flight to a guest, which is next door.
const IN_FLIGHT: u32 = 1 << 20;
const SCALE: u8 = 7;
/// First retransmission, and how often before the connection is given up: about two minutes.
const RTO: Duration = Duration::from_millis(200);
const LONGEST_RTO: Duration = Duration::from_secs(20);
const TRIES: u32 = 12;
/// Least time an idle connection lives (RFC 5382 REQ-5: 2 h 4 min), and one that is not open yet.
const IDLE: Duration = Duration::from_secs(7500);
const OPENING: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Goes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host connects.
    Connecting,
    /// It did, and the guest has been answered.
    Answered,
    Open,
}

#[derive(Debug)]
pub(super) struct Connection {
    flow: Flow,
    socket: OwnedFd,
    phase: Phase,
    /// Of what is sent to the guest: the first number not acknowledged, and the next.
    una: u32,
    nxt: u32,
    /// The guest's window, and how it scales it.
    window: u32,
    scale: Option<u8>,
    mss: u16,
    unacked: VecDeque<Chunk>,
    /// Octets of the first chunk that are acknowledged.
    acked: usize,
    /// Of what the guest sends: the next number, and the end of the window it was told.
    received: u32,
    edge: u32,
    /// What the host's kernel has not taken yet.
    pending: VecDeque<u8>,
    readable: bool,
    writable: bool,
    /// The host has ended its stream and the guest was told.
    host_ended: bool,
    /// The guest has ended its stream, and the host was told.
    guest_ended: bool,
    shut: bool,
    owes: bool,
    duplicates: u8,
    tries: u32,
    pub(super) timer: Option<Instant>,
    pub(super) last: Instant,
    pub(super) touched: bool,
}

impl Connection {
    pub(super) fn new(flow: Flow, socket: OwnedFd, head: &Head, first: u32, mtu: u16, now: Instant) -> Self {
        let received = head.sequence.wrapping_add(1);
        Self {
            flow,
            socket,
            phase: Phase::Connecting,
            una: first,
            nxt: first,
            window: head.window.into(),
            scale: head.scale,
            mss: head.mss.min(mtu.saturating_sub(40)),
            unacked: VecDeque::new(),
            acked: 0,
            received,
            edge: received,
            pending: VecDeque::new(),
            readable: false,
            writable: false,
            host_ended: false,
            guest_ended: false,
            shut: false,
            owes: false,
            duplicates: 0,
            tries: 0,
            timer: None,
            last: now,
            touched: false,
        }
    }

    /// Neither side has ended it.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.host_ended && !self.guest_ended
    }

    /// Gives back what waits for the guest.
    pub(super) fn unsent(self, pool: &mut Pool) {
        self.unacked.into_iter().for_each(|chunk| pool.drop(chunk));
    }

    pub(super) fn ready(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, readable: bool, writable: bool) -> Fate {
        self.readable |= readable;
        self.writable |= writable;
        if self.phase == Phase::Connecting {
            return self.connected(cx);
        }
        if let Err(error) = self.write_pending() {
            return self.lost(cx, error);
        }
        self.pump(cx, pool)
    }

    /// Has the host connected?
    fn connected(&mut self, cx: &mut Cx<'_>) -> Fate {
        if let Ok(Err(error)) | Err(error) = sockopt::socket_error(&self.socket) {
            fail(cx, self.flow, self.received, error);
            return Fate::Goes;
        }
        if rustix::net::getpeername(&self.socket).is_err() {
            return Fate::Stays;
        }
        self.phase = Phase::Answered;
        self.nxt = self.una.wrapping_add(1);
        self.answer(cx);
        self.start(cx.now);
        Fate::Stays
    }

    /// SYN-ACK.
    fn answer(&mut self, cx: &mut Cx<'_>) {
        self.edge = self.received.wrapping_add(WINDOW.min(0xffff) as u32);
        let [high, low] = cx.config.mtu.saturating_sub(40).to_be_bytes();
        let options = [2, 4, high, low, 1, 3, 3, SCALE];
        let options = if self.scale.is_some() { &options[..] } else { &options[..4] };
        cx.side.tcp(&Segment {
            flow: self.flow,
            sequence: self.una,
            acknowledgement: self.received,
            flags: SYN | ACK,
            window: 0xffff,
            options,
            payload: &[],
            mss: u16::MAX,
        });
    }

    pub(super) fn segment(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, head: &Head, payload: &[u8]) -> Fate {
        self.last = cx.now;
        let room = self.edge.wrapping_sub(self.received);
        if head.flags & RST != 0 {
            let inside = head.sequence.wrapping_sub(self.received) <= room;
            return if inside { self.discard() } else { Fate::Stays };
        }
        match self.phase {
            Phase::Connecting => return Fate::Stays,
            Phase::Answered if head.flags & SYN != 0 => {
                self.answer(cx);
                return Fate::Stays;
            }
            Phase::Answered if head.flags & ACK != 0 && head.acknowledgement == self.nxt => {
                self.phase = Phase::Open;
            }
            Phase::Answered => return Fate::Stays,
            Phase::Open => {}
        }
        if head.flags & SYN != 0 {
            self.owes = true;
            return Fate::Stays;
        }
        if head.flags & ACK == 0 || !self.acknowledged(cx, pool, head, payload.is_empty()) {
            return Fate::Stays;
        }
        if let Err(error) = self.take(cx, head, payload) {
            return self.lost(cx, error);
        }
        self.pump(cx, pool)
    }

    /// Takes the guest's word on what it has; false when that cannot be.
    fn acknowledged(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, head: &Head, bare: bool) -> bool {
        let (news, flight) = (head.acknowledgement.wrapping_sub(self.una), self.nxt.wrapping_sub(self.una));
        if news > flight {
            // Older ones are of no interest; of what was never sent the guest is told better.
            self.owes |= news < 1 << 31;
            return news >= 1 << 31;
        }
        let window = u32::from(head.window) << self.scale.unwrap_or(0);
        if news > 0 {
            self.una = head.acknowledgement;
            self.forget(pool, news as usize);
            (self.duplicates, self.tries, self.timer) = (0, 0, None);
            if self.una != self.nxt {
                self.start(cx.now);
            }
        } else if bare && flight > 0 && window == self.window && head.flags & FIN == 0 {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == 3 {
                self.again(cx);
            }
        }
        self.window = window;
        true
    }

    /// Lets go of octets the guest has; the numbers of SYN and FIN are of no chunk.
    fn forget(&mut self, pool: &mut Pool, mut octets: usize) {
        while let Some(chunk) = self.unacked.front() {
            let rest = chunk.length.saturating_sub(self.acked);
            if octets < rest {
                self.acked += octets;
                return;
            }
            octets -= rest;
            self.acked = 0;
            if let Some(chunk) = self.unacked.pop_front() {
                pool.drop(chunk);
            }
        }
    }

    /// Hands the host what is new of a segment.
    fn take(&mut self, cx: &mut Cx<'_>, head: &Head, payload: &[u8]) -> Result<(), Errno> {
        let fin = head.flags & FIN != 0;
        if payload.is_empty() && !fin {
            // A probe of a window or of a connection that is alive has an old number.
            self.owes |= head.sequence != self.received;
            return Ok(());
        }
        self.owes = true;
        let known = self.received.wrapping_sub(head.sequence) as usize;
        if known > payload.len() || self.guest_ended {
            // A gap, which the guest learns of at once, or all of it old.
            self.send(cx, self.nxt, ACK, &[]);
            self.owes = false;
            return Ok(());
        }
        let new = payload.get(known..).unwrap_or_default();
        let room = self.edge.wrapping_sub(self.received) as usize;
        let taken = new.get(..new.len().min(room)).unwrap_or_default();
        self.write(taken)?;
        self.received = self.received.wrapping_add(taken.len() as u32);
        if fin && taken.len() == new.len() {
            self.received = self.received.wrapping_add(1);
            self.guest_ended = true;
            self.shut_if_done();
        }
        Ok(())
    }

    fn write(&mut self, mut octets: &[u8]) -> Result<(), Errno> {
        while !octets.is_empty() && self.writable && self.pending.is_empty() {
            match rustix::net::send(&self.socket, octets, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(taken) => octets = octets.get(taken..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.pending.extend(octets);
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), Errno> {
        while self.writable && !self.pending.is_empty() {
            let (first, _) = self.pending.as_slices();
            match rustix::net::send(&self.socket, first, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(taken) => drop(self.pending.drain(..taken)),
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.shut_if_done();
        if self.pending.is_empty() && self.pending.capacity() > ENOUGH {
            self.pending = VecDeque::new();
        }
        Ok(())
    }

    fn shut_if_done(&mut self) {
        if self.guest_ended && !self.shut && self.pending.is_empty() {
            self.shut = true;
            // A connection that is gone already says so when it is read.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// Passes what the host has sent on to the guest, as much as its window takes.
    fn pump(&mut self, cx: &mut Cx<'_>, pool: &mut Pool) -> Fate {
        while self.phase == Phase::Open && self.readable && !self.host_ended {
            let flight = self.nxt.wrapping_sub(self.una);
            let room = self.window.min(IN_FLIGHT).saturating_sub(flight);
            if room == 0 || (flight > 0 && room < self.mss.into()) {
                self.wait(cx.now);
                break;
            }
            let Some(mut block) = pool.take() else {
                self.wait(cx.now);
                break;
            };
            let most = (BLOCK - BLOCK % usize::from(self.mss)).max(usize::from(self.mss));
            let place = block.get_mut(..most.min(room as usize).min(BLOCK)).unwrap_or_default();
            match rustix::net::recv(&self.socket, place, RecvFlags::DONTWAIT) {
                Ok((length, _)) if length > 0 => self.deliver(cx, pool, block, length),
                result => {
                    pool.give(block);
                    match result {
                        Ok(_) => self.end(cx),
                        Err(Errno::AGAIN) => self.readable = false,
                        Err(Errno::INTR) => {}
                        Err(error) => return self.lost(cx, error),
                    }
                }
            }
        }
        let ended = self.host_ended && self.una == self.nxt && self.shut;
        if ended {
            self.acknowledge(cx);
            return Fate::Goes;
        }
        Fate::Stays
    }

    fn deliver(&mut self, cx: &mut Cx<'_>, pool: &mut Pool, block: Vec<u8>, length: usize) {
        let chunk = pool.keep(block, length);
        self.send(cx, self.nxt, ACK | PSH, chunk.octets());
        self.owes = false;
        self.unacked.push_back(chunk);
        self.nxt = self.nxt.wrapping_add(length as u32);
        self.wait(cx.now);
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.host_ended = true;
        self.send(cx, self.nxt, FIN | ACK, &[]);
        self.nxt = self.nxt.wrapping_add(1);
        self.wait(cx.now);
    }

    fn send(&mut self, cx: &mut Cx<'_>, sequence: u32, flags: u8, payload: &[u8]) {
        let space = if self.pending.len() > ENOUGH { 0 } else { WINDOW - self.pending.len() };
        let edge = self.received.wrapping_add(space as u32);
        // An edge that was told is never taken back.
        if edge.wrapping_sub(self.edge) < 1 << 31 {
            self.edge = edge;
        }
        let room = self.edge.wrapping_sub(self.received) >> if self.scale.is_some() { SCALE } else { 0 };
        cx.side.tcp(&Segment {
            flow: self.flow,
            sequence,
            acknowledgement: self.received,
            flags,
            window: u16::try_from(room).unwrap_or(u16::MAX),
            options: &[],
            payload,
            mss: self.mss,
        });
    }

    /// Acknowledges what is owed, and says so when the window has opened again.
    pub(super) fn acknowledge(&mut self, cx: &mut Cx<'_>) {
        let room = self.edge.wrapping_sub(self.received) as usize;
        let opened = room < WINDOW / 4 && self.pending.len() <= ENOUGH && self.phase == Phase::Open;
        if self.owes || (opened && !self.guest_ended) {
            self.owes = false;
            self.send(cx, self.nxt, ACK, &[]);
        }
    }

    /// Sends the first of what is not acknowledged once more.
    fn again(&mut self, cx: &mut Cx<'_>) {
        if let Some(chunk) = self.unacked.pop_front() {
            let rest = chunk.octets().get(self.acked..).unwrap_or_default();
            self.send(cx, self.una, ACK | PSH, rest);
            self.unacked.push_front(chunk);
        } else if self.host_ended && self.una != self.nxt {
            self.send(cx, self.una, FIN | ACK, &[]);
        }
    }

    pub(super) fn tick(&mut self, cx: &mut Cx<'_>, pool: &mut Pool) -> Fate {
        let idle = cx.now.duration_since(self.last);
        if idle >= if self.phase == Phase::Open { IDLE } else { OPENING } {
            return self.abort(cx);
        }
        if self.timer.is_none_or(|timer| cx.now < timer) {
            return Fate::Stays;
        }
        self.tries += 1;
        if self.tries > TRIES {
            return self.abort(cx);
        }
        match self.phase {
            Phase::Answered => self.answer(cx),
            _ if self.una != self.nxt => self.again(cx),
            // The guest's window is closed: an old number makes it say whether it still is (RFC 9293 3.8.6.1).
            _ if self.window == 0 => {
                self.send(cx, self.nxt.wrapping_sub(1), ACK, &[]);
                self.tries = self.tries.min(TRIES / 2);
            }
            _ => self.timer = None,
        }
        if self.timer.is_some() {
            self.start(cx.now);
        }
        self.pump(cx, pool)
    }

    fn start(&mut self, now: Instant) {
        let longer = RTO.saturating_mul(1 << self.tries.min(10));
        self.timer = Some(now + longer.min(LONGEST_RTO));
    }

    fn wait(&mut self, now: Instant) {
        if self.timer.is_none() {
            self.start(now);
        }
    }

    /// The host's socket has failed.
    fn lost(&mut self, cx: &mut Cx<'_>, _error: Errno) -> Fate {
        reset(cx, self.flow, self.nxt, self.received, RST | ACK);
        Fate::Goes
    }

    /// Ends both halves at once.
    pub(super) fn abort(&mut self, cx: &mut Cx<'_>) -> Fate {
        reset(cx, self.flow, self.nxt, self.received, RST | ACK);
        self.discard()
    }

    /// Makes the host's kernel send a RST when the socket is closed.
    fn discard(&mut self) -> Fate {
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        Fate::Goes
    }
}
