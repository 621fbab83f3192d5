//! The loop: one thread, one poll, and whatever is ready is moved until it is not.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use pontoon_ports::{BUFFER, HEADROOM, HeaderSize, PacketQueue, Received, TapQueue};
use pontoon_wire::frame::{self, Packet};
use pontoon_wire::{checksum, ethernet, ipv4, vnet};
use rustix::io::Errno;

use crate::ping::Ping;
use crate::side::{Link, Side};
use crate::tcp::Tcp;
use crate::udp::Udp;
use crate::{Config, Flow};

/// Frames read of the guest before others have their turn.
const FRAMES: usize = 64;
/// How often timers are looked at while some run, and while none does.
const TICK: Duration = Duration::from_millis(100);
const SLOW_TICK: Duration = Duration::from_secs(10);

const GUEST: Token = Token(0);
const STOP: Token = Token(1);
/// Tokens of sockets: a number and in the lowest bits the kind.
const KINDS: usize = 4;
pub(crate) const TCP: usize = 1;
pub(crate) const UDP: usize = 2;
pub(crate) const PING: usize = 3;

/// What everybody who handles something needs.
pub(crate) struct Cx<'a> {
    pub(crate) side: &'a mut Side,
    pub(crate) config: &'a Config,
    pub(crate) now: Instant,
    registry: &'a Registry,
}

impl Cx<'_> {
    pub(crate) fn watch(
        &self,
        socket: &impl AsRawFd,
        kind: usize,
        slot: usize,
        writable: bool,
    ) -> rustix::io::Result<()> {
        let token = Token((slot + 1) * KINDS + kind);
        let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let done = self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest);
        done.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Again,
    /// What [`User::stop_with`] named is readable.
    Stopped,
    /// The guest's link is gone.
    Gone,
}

/// A network by sockets, with one guest on it.
pub struct User {
    poll: Poll,
    events: Events,
    side: Side,
    config: Config,
    tcp: Tcp,
    udp: Udp,
    ping: Ping,
    buffer: Vec<u8>,
    /// The guest's link may have more.
    more: bool,
    /// Sockets that may have more, by token.
    unread: Vec<usize>,
    /// Those of the turn before.
    again: Vec<usize>,
    ticked: Instant,
}

impl User {
    /// A network on a tap with a header of 12 octets.
    ///
    /// # Errors
    /// The descriptor's, and as [`Self::new`].
    pub fn on_tap(config: Config, tap: OwnedFd) -> io::Result<Self> {
        let tap = Arc::new(tap);
        Self::new(config, Box::new(TapQueue::new(Arc::clone(&tap))?), &tap)
    }

    /// A network at the other end of a unix socket (`SOCK_SEQPACKET`): a frame a message, behind a header of 10 octets.
    ///
    /// # Errors
    /// The descriptor's, and as [`Self::new`].
    pub fn on_socket(config: Config, socket: OwnedFd) -> io::Result<Self> {
        let socket = Arc::new(socket);
        Self::new(config, Box::new(PacketQueue::new(Arc::clone(&socket), HeaderSize::Ten)?), &socket)
    }

    /// A network on `link`, whose readiness `fd` tells.
    ///
    /// # Errors
    /// When the kernel gives no poll.
    pub fn new(config: Config, link: Box<dyn Link>, fd: &impl AsFd) -> io::Result<Self> {
        let poll = Poll::new()?;
        let fd = fd.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), GUEST, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            side: Side::new(link),
            tcp: Tcp::new(config.limits.connections, config.mtu),
            udp: Udp::new(config.limits.endpoints),
            ping: Ping::new(config.limits.pings),
            config,
            buffer: vec![0; BUFFER],
            more: true,
            unread: Vec::new(),
            again: Vec::new(),
            ticked: Instant::now(),
        })
    }

    /// Ends [`Self::run`] once `fd` is readable.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_with(&self, fd: &impl AsFd) -> io::Result<()> {
        let fd = fd.as_fd().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), STOP, Interest::READABLE)
    }

    /// Whether the guest has pinged and the host gave no ping socket.
    #[must_use]
    pub fn ping_refused(&self) -> bool {
        self.ping.refused
    }

    /// What is open: TCP connections, UDP endpoints, pings.
    #[doc(hidden)]
    #[must_use]
    pub fn open(&self) -> [usize; 3] {
        [self.tcp.len(), self.udp.len(), self.ping.len()]
    }

    /// Waits for something to happen, but no longer than `longest`, and handles it.
    ///
    /// # Errors
    /// When polling fails, which it does not.
    pub fn turn(&mut self, longest: Option<Duration>) -> io::Result<Turn> {
        self.turn_at(longest, Instant::now)
    }

    /// The same at a time that `clock` tells, once there is something.
    ///
    /// # Errors
    /// As [`Self::turn`].
    #[doc(hidden)]
    pub fn turn_at(
        &mut self,
        longest: Option<Duration>,
        clock: impl FnOnce() -> Instant,
    ) -> io::Result<Turn> {
        let patience = self.patience();
        let wait =
            longest.map_or(patience, |longest| Some(patience.map_or(longest, |wait| wait.min(longest))));
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = clock();
        let registry = self.poll.registry();
        let mut cx = Cx { side: &mut self.side, config: &self.config, now, registry };
        std::mem::swap(&mut self.unread, &mut self.again);
        let mut stopped = false;
        let ready = self.events.iter().map(|event| {
            let failed = event.is_error() || event.is_read_closed() || event.is_write_closed();
            (event.token(), event.is_readable() || failed, event.is_writable() || failed)
        });
        for (token, readable, writable) in
            ready.chain(self.again.drain(..).map(|token| (Token(token), true, false)))
        {
            match (token, token.0 % KINDS, (token.0 / KINDS).wrapping_sub(1)) {
                (GUEST, ..) => self.more = true,
                (STOP, ..) => stopped = true,
                (_, TCP, slot) => self.tcp.ready(&mut cx, slot, readable, writable),
                (_, UDP, slot) if self.udp.receive(&mut cx, slot) => self.unread.push(token.0),
                (_, PING, slot) if self.ping.receive(&mut cx, slot) => self.unread.push(token.0),
                _ => {}
            }
        }
        let gone = self.more && self.read_guest(now);
        let mut cx = Cx { side: &mut self.side, config: &self.config, now, registry: self.poll.registry() };
        self.tcp.flush(&mut cx);
        self.udp.flush(&mut cx);
        if now.duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.tcp.tick(&mut cx);
            self.udp.tick(now);
            self.ping.tick(now);
        }
        Ok(if gone {
            Turn::Gone
        } else if stopped {
            Turn::Stopped
        } else {
            Turn::Again
        })
    }

    /// Works until it is stopped or the guest's link is gone.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn run(&mut self, mut after: impl FnMut(&Self)) -> io::Result<Turn> {
        loop {
            match self.turn(None)? {
                Turn::Again => after(self),
                end => return Ok(end),
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        if self.more || !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.tcp.is_timed() {
            return Some(TICK);
        }
        let idle = self.tcp.is_empty() && self.udp.is_empty() && self.ping.is_empty();
        (!idle).then_some(SLOW_TICK)
    }

    /// Reads frames of the guest; true when its link is gone.
    fn read_guest(&mut self, now: Instant) -> bool {
        for _ in 0..FRAMES {
            match self.side.link.receive(&mut self.buffer) {
                Received::Frame { vnet, length } => self.frame(now, vnet, length),
                Received::WouldBlock => {
                    self.more = false;
                    return false;
                }
                Received::Dropped => {}
                Received::Dead(_) => return true,
            }
        }
        false
    }

    fn frame(&mut self, now: Instant, vnet: vnet::Header, length: usize) {
        let Self { side, config, tcp, udp, ping, buffer, poll, .. } = self;
        let Some(frame) = buffer.get(HEADROOM..HEADROOM + length) else { return };
        let Ok(vnet) = frame::check(vnet, frame) else { return };
        let Some(mac) = ethernet::source(frame) else { return };
        side.heard(mac);
        if ethernet::ethertype(frame) == Some(ethernet::ARP) {
            return side.arp(frame, |address| config.is_ours(address));
        }
        let Some(packet) = Packet::parse(frame).filter(|packet| !packet.ip.is_fragment()) else { return };
        let Some(payload) = frame.get(packet.l4..packet.end) else { return };
        if !vnet.needs_checksum() && vnet.flags & vnet::DATA_VALID == 0 && !is_sound(&packet, payload) {
            return;
        }
        let flow = Flow {
            guest: SocketAddrV4::new(packet.source(), packet.source_port),
            remote: SocketAddrV4::new(packet.destination(), packet.destination_port),
        };
        let mut cx = Cx { side, config, now, registry: poll.registry() };
        match packet.ip.protocol {
            ipv4::TCP => tcp.segment(&mut cx, flow, payload),
            ipv4::UDP => {
                let Some(datagram) = datagram(payload, vnet.is_gso()) else { return };
                let size = if vnet.is_gso() { vnet.gso_size.get().into() } else { datagram.len() };
                udp.send(&mut cx, flow, datagram, size);
            }
            ipv4::ICMP => ping.send(&mut cx, packet.source(), packet.destination(), payload),
            _ => {}
        }
    }
}

/// What a UDP packet carries; the length in the header of a super-frame is not of all of it.
fn datagram(payload: &[u8], gso: bool) -> Option<&[u8]> {
    let header = payload.first_chunk::<8>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    payload.get(8..if gso { payload.len() } else { length })
}

/// The transport's checksum is right, or not there.
fn is_sound(packet: &Packet, payload: &[u8]) -> bool {
    let protocol = packet.ip.protocol;
    let sum = match protocol {
        ipv4::ICMP => checksum::Sum::default(),
        ipv4::UDP if payload.get(6..8) == Some(&[0, 0]) => return true,
        _ => {
            let length = payload.len() as u16;
            checksum::Sum::default().pseudo(packet.source(), packet.destination(), protocol, length)
        }
    };
    sum.bytes(payload).finish() == 0
}
