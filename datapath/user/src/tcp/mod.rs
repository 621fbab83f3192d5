//! TCP: one host socket for each connection of a guest, and segments translated to and from its stream.

mod connection;
mod head;
mod pool;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pontoon_wire::{icmp, ipv4};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::Flow;
use crate::run::{Cx, TCP};
use crate::side::{Segment, first_octets};
use crate::table::Table;
use connection::{Connection, Fate};
use head::{ACK, Head, RST, SYN};
use pool::Pool;

/// A connection that is not wholly open may be given up for a new one after this long without a segment.
const STALE: Duration = Duration::from_secs(30);

pub(crate) struct Tcp {
    table: Table<Flow, Connection>,
    /// Connections that may owe the guest an acknowledgement.
    touched: Vec<usize>,
    pool: Pool,
    mtu: u16,
    /// Makes initial sequence numbers nobody can guess (RFC 6528).
    secret: RandomState,
    born: Instant,
    timed: bool,
}

impl Tcp {
    pub(crate) fn new(limit: usize, mtu: u16) -> Self {
        Self {
            table: Table::new(limit),
            touched: Vec::new(),
            pool: Pool::default(),
            mtu,
            secret: RandomState::new(),
            born: Instant::now(),
            timed: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Timers run that want more than an occasional look.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    /// A segment of the guest's, from its TCP header on.
    pub(crate) fn segment(&mut self, cx: &mut Cx<'_>, flow: Flow, octets: &[u8]) {
        let Some((head, payload)) = Head::parse(octets) else { return };
        if let Some(slot) = self.table.find(&flow) {
            return self.with(cx, slot, |connection, cx, pool| connection.segment(cx, pool, &head, payload));
        }
        match head.flags & (SYN | ACK | RST) {
            SYN => self.open(cx, flow, &head),
            flags if flags & RST == 0 => refuse(cx, flow, &head, payload.len()),
            _ => {}
        }
    }

    /// A host's socket has something, or room.
    pub(crate) fn ready(&mut self, cx: &mut Cx<'_>, slot: usize, readable: bool, writable: bool) {
        self.with(cx, slot, |connection, cx, pool| connection.ready(cx, pool, readable, writable));
    }

    fn with(
        &mut self,
        cx: &mut Cx<'_>,
        slot: usize,
        work: impl FnOnce(&mut Connection, &mut Cx<'_>, &mut Pool) -> Fate,
    ) {
        let Some(connection) = self.table.get(slot) else { return };
        let fate = work(connection, cx, &mut self.pool);
        self.timed |= connection.timer.is_some();
        match fate {
            Fate::Goes => self.remove(slot),
            Fate::Stays if !connection.touched => {
                connection.touched = true;
                self.touched.push(slot);
            }
            Fate::Stays => {}
        }
    }

    fn remove(&mut self, slot: usize) {
        if let Some(connection) = self.table.remove(slot) {
            connection.unsent(&mut self.pool);
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>, flow: Flow, head: &Head) {
        let Some(host) = cx.config.host(flow.remote) else { return refuse(cx, flow, head, 0) };
        if self.table.is_full() {
            let now = cx.now;
            let stale =
                |c: &Connection| (!c.is_open() && now.duration_since(c.last) >= STALE).then_some(c.last);
            match self.table.lowest(stale) {
                Some(slot) => self.with(cx, slot, |connection, cx, _| connection.abort(cx)),
                None => return refuse(cx, flow, head, 0),
            }
        }
        let slot = self.table.next_slot();
        match connect(cx, host, slot) {
            Ok(socket) => {
                let first = self.first_sequence(&flow, cx.now);
                self.table.put(flow, Connection::new(flow, socket, head, first, self.mtu, cx.now));
            }
            Err(error) => fail(cx, flow, head.sequence.wrapping_add(1), error),
        }
    }

    fn first_sequence(&self, flow: &Flow, now: Instant) -> u32 {
        // A clock of 4 us, and an offset of the flow's.
        let clock = (now.duration_since(self.born).as_micros() / 4) as u32;
        clock.wrapping_add(self.secret.hash_one(flow) as u32)
    }

    /// Sends what is owed at the end of a turn.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_>) {
        for slot in self.touched.drain(..) {
            let Some(connection) = self.table.get(slot) else { continue };
            if connection.touched {
                connection.touched = false;
                connection.acknowledge(cx);
            }
        }
    }

    pub(crate) fn tick(&mut self, cx: &mut Cx<'_>) {
        self.timed = false;
        for slot in 0..self.table.slots() {
            self.with(cx, slot, Connection::tick);
        }
        self.flush(cx);
    }
}

fn connect(cx: &Cx<'_>, to: SocketAddrV4, slot: usize) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    // The guest's own TCP has decided already what to send at once.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    cx.watch(&socket, TCP, slot, true)?;
    Ok(socket)
}

/// RST to a segment of no connection (RFC 9293 3.10.7.1).
fn refuse(cx: &mut Cx<'_>, flow: Flow, head: &Head, length: usize) {
    let (sequence, acknowledgement, flags) = match head.flags & ACK {
        0 => (0, head.sequence.wrapping_add(head.length(length)), RST | ACK),
        _ => (head.acknowledgement, 0, RST),
    };
    reset(cx, flow, sequence, acknowledgement, flags);
}

fn reset(cx: &mut Cx<'_>, flow: Flow, sequence: u32, acknowledgement: u32, flags: u8) {
    let (window, options, payload, mss) = (0, &[][..], &[][..], u16::MAX);
    cx.side.tcp(&Segment { flow, sequence, acknowledgement, flags, window, options, payload, mss });
}

/// Tells a guest why there is no connection; `acknowledgement` is one more than its SYN's number.
fn fail(cx: &mut Cx<'_>, flow: Flow, acknowledgement: u32, error: Errno) {
    let code = match error {
        Errno::NETUNREACH => icmp::NET_UNREACHABLE,
        Errno::HOSTUNREACH | Errno::TIMEDOUT => icmp::HOST_UNREACHABLE,
        Errno::ACCESS | Errno::PERM => icmp::ADMINISTRATIVELY_PROHIBITED,
        _ => return reset(cx, flow, 0, acknowledgement, RST | ACK),
    };
    let quote = first_octets(&flow, acknowledgement.wrapping_sub(1).to_be_bytes());
    let from = cx.config.gateway;
    cx.side.unreachable(from, code, &flow, ipv4::TCP, quote);
}
