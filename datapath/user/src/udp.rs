//! UDP: one socket for each endpoint of a guest, whomever it talks to (RFC 4787: endpoint-independent mapping), and
//! answers only from addresses it has sent to (address-dependent filtering).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use pontoon_ports::sys::{self, DATAGRAMS, Datagrams};
use pontoon_wire::{icmp, ipv4};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::Flow;
use crate::run::{Cx, UDP};
use crate::side::first_octets;
use crate::table::Table;

/// Remote ends one endpoint may have; the oldest goes.
const PEERS: usize = 64;
/// Calls that read of one socket in one turn.
const BURST: usize = 4;
/// For what the kernel has gathered, and a step to the next that is not of one set of the cache's lines.
const SLOT: usize = (1 << 16) + 1600;
const IDLE: Duration = Duration::from_secs(300);
/// Of an endpoint that has only asked resolvers.
const IDLE_DNS: Duration = Duration::from_secs(30);
const DNS: u16 = 53;

/// Octets and datagrams sent in one call (`UDP_MAX_SEGMENTS` before Linux 6.8).
const BATCH: usize = 60_000;
const SEGMENTS: usize = 64;
/// What one packet carries.
const LARGEST: usize = 65_535 - 28;
/// Longer datagrams gain nothing, and few ways take super-datagrams of them.
const LONGEST: usize = 1472;

/// Datagrams of one flow and size that wait for the end of the turn or for one that is different.
#[derive(Debug, Default)]
struct Batch {
    flow: Option<(Flow, SocketAddrV4, usize)>,
    size: usize,
    /// The last one was shorter, so that it is the last.
    closed: bool,
    octets: Vec<u8>,
}

impl Batch {
    fn takes(&self, flow: &Flow, datagram: &[u8]) -> bool {
        let same = self.flow.is_some_and(|(of, ..)| of == *flow);
        let room = self.octets.len() + datagram.len() <= BATCH && self.octets.len() < self.size * SEGMENTS;
        same && room && !self.closed && !datagram.is_empty() && datagram.len() <= self.size
    }
}

#[derive(Debug)]
struct Endpoint {
    guest: SocketAddrV4,
    socket: OwnedFd,
    /// On the host's side, and as the guest sees it; the one last sent to is the last.
    peers: Vec<(SocketAddrV4, SocketAddrV4)>,
    last: Instant,
}

impl Endpoint {
    fn remember(&mut self, host: SocketAddrV4, seen: SocketAddrV4) {
        if self.peers.last() == Some(&(host, seen)) {
            return;
        }
        self.peers.retain(|peer| *peer != (host, seen));
        if self.peers.len() >= PEERS {
            self.peers.remove(0);
        }
        self.peers.push((host, seen));
    }

    /// Whom the guest takes the sender for; `None` for somebody it has not sent to.
    fn seen(&self, from: SocketAddrV4) -> Option<SocketAddrV4> {
        let exact = self.peers.iter().rev().find(|(host, _)| *host == from);
        let known = |(host, seen): &&(SocketAddrV4, SocketAddrV4)| host == seen && host.ip() == from.ip();
        exact.map(|(_, seen)| *seen).or_else(|| self.peers.iter().find(known).map(|_| from))
    }

    fn is_old(&self, now: Instant) -> bool {
        let dns = self.peers.iter().all(|(_, seen)| seen.port() == DNS);
        now.duration_since(self.last) >= if dns { IDLE_DNS } else { IDLE }
    }
}

pub(crate) struct Udp {
    table: Table<SocketAddrV4, Endpoint>,
    buffer: Vec<u8>,
    batch: Batch,
    /// The kernel cuts no super-datagrams on the way the last one was to take.
    uncut: bool,
}

impl Udp {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            table: Table::new(limit),
            buffer: vec![0; SLOT * DATAGRAMS],
            batch: Batch::default(),
            uncut: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Datagrams of `size` octets each, the last one perhaps shorter.
    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, flow: Flow, payload: &[u8], size: usize) {
        if size == payload.len() && self.batch.takes(&flow, payload) {
            self.batch.closed = size < self.batch.size;
            return self.batch.octets.extend_from_slice(payload);
        }
        self.flush(cx);
        let Some(host) = cx.config.host(flow.remote) else {
            return refuse(cx, &flow, icmp::ADMINISTRATIVELY_PROHIBITED);
        };
        let slot = match self.table.find(&flow.guest) {
            Some(slot) => slot,
            None => match self.open(cx, flow.guest) {
                Ok(slot) => slot,
                Err(_) => return refuse(cx, &flow, icmp::ADMINISTRATIVELY_PROHIBITED),
            },
        };
        let Some(endpoint) = self.table.get(slot) else { return };
        endpoint.last = cx.now;
        endpoint.remember(host, flow.remote);
        let few = payload.len() <= BATCH && payload.len() <= size * SEGMENTS;
        if few && (1..=LONGEST).contains(&size) && !self.uncut {
            self.batch.flow = Some((flow, host, slot));
            (self.batch.size, self.batch.closed) = (size, !payload.len().is_multiple_of(size));
            return self.batch.octets.extend_from_slice(payload);
        }
        if let Err(error) = send_each(&endpoint.socket, payload, size, host) {
            tell(cx, &flow, error);
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_>) {
        let Some((flow, host, slot)) = self.batch.flow.take() else { return };
        let (octets, size) = (&self.batch.octets, self.batch.size);
        if let Some(endpoint) = self.table.get(slot) {
            endpoint.last = cx.now;
            let mut sent = Err(Errno::INVAL);
            if octets.len() > size {
                sent = sys::send_segments(&endpoint.socket, octets, size as u16, host);
                self.uncut |= matches!(sent, Err(Errno::INVAL | Errno::IO | Errno::MSGSIZE));
            }
            if matches!(sent, Err(Errno::INVAL | Errno::IO | Errno::MSGSIZE)) {
                sent = send_each(&endpoint.socket, octets, size, host);
            }
            if let Err(error) = sent {
                tell(cx, &flow, error);
            }
        }
        self.batch.octets.clear();
    }

    fn open(&mut self, cx: &mut Cx<'_>, guest: SocketAddrV4) -> rustix::io::Result<usize> {
        if self.table.is_full()
            && let Some(oldest) = self.table.lowest(|endpoint| Some(endpoint.last))
        {
            self.table.remove(oldest);
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        // Without it they come one by one.
        let _ = sys::gather_datagrams(&socket);
        let slot = self.table.next_slot();
        cx.watch(&socket, UDP, slot, false)?;
        self.table.put(guest, Endpoint { guest, socket, peers: Vec::new(), last: cx.now });
        Ok(slot)
    }

    /// Reads what came for an endpoint; true when there may be more.
    pub(crate) fn receive(&mut self, cx: &mut Cx<'_>, slot: usize) -> bool {
        let Some(endpoint) = self.table.get(slot) else { return false };
        let mut found = [Datagrams::default(); DATAGRAMS];
        for _ in 0..BURST {
            match sys::receive_datagrams(&endpoint.socket, &mut self.buffer, SLOT, &mut found) {
                Ok(count) => {
                    endpoint.last = cx.now;
                    let places = found.iter().zip(self.buffer.chunks(SLOT)).take(count);
                    deliver(cx, endpoint, places);
                }
                Err(Errno::AGAIN) => return false,
                Err(_) => {}
            }
        }
        true
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        // Ways change.
        self.uncut = false;
        self.table.retain(|endpoint| !endpoint.is_old(now));
    }
}

/// Passes on what was read, neighbours of one sender and size as one.
fn deliver<'a>(
    cx: &mut Cx<'_>,
    endpoint: &Endpoint,
    places: impl Iterator<Item = (&'a Datagrams, &'a [u8])>,
) {
    let mut pieces = [&[][..]; DATAGRAMS];
    let (mut count, mut octets) = (0, 0);
    let mut run = Datagrams::default();
    for (datagrams, place) in places {
        let ends = !run.length.is_multiple_of(run.size.max(1)) || run.size == 0;
        // What came as many joins those of its own size, a single shorter one ends the run.
        let single = datagrams.length <= run.size && datagrams.length == datagrams.size;
        let alike = datagrams.from == run.from && (datagrams.size == run.size || single);
        let most = LARGEST.min(run.size * SEGMENTS);
        if count > 0 && (ends || !alike || datagrams.length == 0 || octets + datagrams.length > most) {
            pass(cx, endpoint, &run, pieces.get(..count).unwrap_or_default());
            (count, octets) = (0, 0);
        }
        if count == 0 {
            run = *datagrams;
        }
        run.length = datagrams.length;
        octets += datagrams.length;
        if let Some(piece) = pieces.get_mut(count) {
            *piece = place.get(..datagrams.length).unwrap_or_default();
            count += 1;
        }
    }
    pass(cx, endpoint, &run, pieces.get(..count).unwrap_or_default());
}

fn pass(cx: &mut Cx<'_>, endpoint: &Endpoint, run: &Datagrams, pieces: &[&[u8]]) {
    if let Some(remote) = run.from.and_then(|from| endpoint.seen(from)) {
        cx.side.udp(&Flow { guest: endpoint.guest, remote }, pieces, run.size);
    }
}

/// An empty datagram is one too.
fn send_each(socket: &OwnedFd, mut rest: &[u8], size: usize, to: SocketAddrV4) -> rustix::io::Result<()> {
    loop {
        let (datagram, behind) = rest.split_at(rest.len().min(size.max(1)));
        send_to(socket, datagram, to)?;
        rest = behind;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// A full socket loses datagrams, as a full card does; of ways that are not there the guest is told.
fn tell(cx: &mut Cx<'_>, flow: &Flow, error: Errno) {
    if let Some(code) = code_of(error) {
        refuse(cx, flow, code);
    }
}

fn send_to(socket: &OwnedFd, datagram: &[u8], to: SocketAddrV4) -> rustix::io::Result<()> {
    rustix::net::sendto(socket, datagram, SendFlags::NOSIGNAL, &to).map(|_| ())
}

/// What to tell a guest whose datagram the host refuses.
fn code_of(error: Errno) -> Option<u8> {
    match error {
        Errno::NETUNREACH => Some(icmp::NET_UNREACHABLE),
        Errno::HOSTUNREACH => Some(icmp::HOST_UNREACHABLE),
        Errno::CONNREFUSED => Some(icmp::PORT_UNREACHABLE),
        Errno::PERM | Errno::ACCESS => Some(icmp::ADMINISTRATIVELY_PROHIBITED),
        _ => None,
    }
}

fn refuse(cx: &mut Cx<'_>, flow: &Flow, code: u8) {
    if flow.remote.ip().is_multicast() || flow.remote.ip().is_broadcast() {
        return;
    }
    let from = cx.config.gateway;
    cx.side.unreachable(from, code, flow, ipv4::UDP, first_octets(flow, [0, 8, 0, 0]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16, last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)
    }

    #[test]
    fn answers_come_from_addresses_that_were_sent_to() {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).expect("socket");
        let mut endpoint = Endpoint { guest: at(9, 9), socket, peers: Vec::new(), last: Instant::now() };
        assert_eq!(endpoint.seen(at(53, 1)), None);
        endpoint.remember(at(53, 1), at(53, 100));
        assert_eq!(endpoint.seen(at(53, 1)), Some(at(53, 100)), "a resolver answers under its other name");
        assert_eq!(endpoint.seen(at(54, 1)), None, "nothing but a resolver hides behind it");
        endpoint.remember(at(7, 2), at(7, 2));
        assert_eq!(endpoint.seen(at(8, 2)), Some(at(8, 2)));
        for port in 0..200 {
            endpoint.remember(at(port, 3), at(port, 3));
        }
        assert_eq!(endpoint.peers.len(), PEERS);
        assert_eq!(endpoint.seen(at(7, 2)), None, "the oldest went");
    }
}
