//! Frames between pontoon and the kernel or a peer.
//!
//! A queue moves one frame a call between a descriptor and a caller's buffer, never blocks, and names every way
//! that can go: [`Received`] and [`Sent`]. A frame is always handed over with a 12-octet vnet header, whatever the
//! descriptor puts on the wire. `unsafe` is in [`sys`] alone.

pub mod dgram;
pub mod mem;
pub mod packet;
pub mod stream;
pub mod sys;
pub mod tap;
pub mod vhost_user;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use pontoon_wire::{frame, vnet};
use rustix::io::Errno;

pub use dgram::DgramQueue;
pub use mem::MemQueue;
pub use packet::{HeaderSize, PacketQueue};
pub use stream::StreamQueue;
pub use tap::TapQueue;
pub use vhost_user::VhostQueue;

/// Octets in front of the frame in a receive buffer.
pub const HEADROOM: usize = vnet::LENGTH;
/// Octets of a receive buffer: headroom, the largest frame, and room that shows a frame was longer.
pub const BUFFER: usize = HEADROOM + frame::MAX + 64;

/// Pieces of a frame: one more than it may have segments.
pub const PARTS: usize = 65;

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The frame is at [`HEADROOM`] in the buffer.
    Frame { vnet: vnet::Header, length: usize },
    /// Nothing there; the descriptor will report when there is.
    WouldBlock,
    /// Something was there and is lost; the queue works on.
    Dropped,
    /// The descriptor will never work again.
    Dead(Errno),
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Done,
    /// The other side does not keep up.
    WouldBlock,
    /// What was sent before has to be flushed first.
    Full,
    /// This frame was refused (interface down, no memory, a header the kernel does not take).
    Dropped,
    /// The descriptor takes no such super-frame or unfinished checksum; as plain segments it might.
    NotTaken,
    /// The descriptor will never work again.
    Dead(Errno),
}

/// What is left to the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    pub checksum: bool,
    pub tso: bool,
    pub uso: bool,
}

impl Offloads {
    pub const ALL: Self = Self { checksum: true, tso: true, uso: true };
}

/// What was agreed with the other side of a queue: how many there are behind it, and what either leaves to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    pub queues: u16,
    /// In frames for the other side.
    pub takes: Offloads,
    /// In frames of the other side.
    pub sends: Offloads,
}

/// Frames that were taken and could not be written after all, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub sent: Sent,
    pub frames: u16,
    pub octets: usize,
}

impl Lost {
    pub const NOTHING: Self = Self { sent: Sent::Done, frames: 0, octets: 0 };
}

/// One queue of a port.
#[derive(Debug)]
pub enum Queue {
    Tap(TapQueue),
    Packet(PacketQueue),
    Stream(StreamQueue),
    Dgram(DgramQueue),
    Vhost(VhostQueue),
    Mem(MemQueue),
}

impl Queue {
    /// Reads one frame into `buffer`, which should hold [`BUFFER`] octets.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            Self::Tap(queue) => queue.receive(buffer),
            Self::Packet(queue) => queue.receive(buffer),
            Self::Stream(queue) => queue.receive(buffer),
            Self::Dgram(queue) => queue.receive(buffer),
            Self::Vhost(queue) => queue.receive(buffer),
            Self::Mem(queue) => queue.receive(buffer),
        }
    }

    /// Writes one frame, given in at most [`PARTS`] pieces.
    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        match self {
            Self::Tap(queue) => queue.send(header, parts),
            Self::Packet(queue) => queue.send(header, parts),
            Self::Stream(queue) => queue.send(header, parts),
            Self::Dgram(queue) => queue.send(header, parts),
            Self::Vhost(queue) => queue.send(header, parts),
            Self::Mem(queue) => queue.send(header, parts),
        }
    }

    /// Frames that [`Self::send`] took wait for [`Self::flush`].
    #[must_use]
    pub fn has_output(&self) -> bool {
        match self {
            Self::Stream(queue) => queue.has_output(),
            Self::Dgram(queue) => queue.has_output(),
            Self::Vhost(queue) => queue.has_output(),
            Self::Tap(_) | Self::Packet(_) | Self::Mem(_) => false,
        }
    }

    /// Writes what was sent, as far as the other side takes it.
    pub fn flush(&mut self) -> Lost {
        match self {
            Self::Stream(queue) => queue.flush(),
            Self::Dgram(queue) => queue.flush(),
            Self::Vhost(queue) => {
                queue.call_touched();
                Lost::NOTHING
            }
            Self::Tap(_) | Self::Packet(_) | Self::Mem(_) => Lost::NOTHING,
        }
    }

    /// To be flushed again once the descriptor can be written.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Dgram(queue) if queue.is_blocked())
    }

    /// Whether [`Self::send`] takes super-frames and unfinished checksums at all.
    #[must_use]
    pub fn takes_offloads(&self) -> bool {
        match self {
            Self::Tap(_) => true,
            Self::Packet(queue) => queue.takes_offloads(),
            Self::Stream(_) | Self::Dgram(_) | Self::Vhost(_) | Self::Mem(_) => false,
        }
    }

    /// What is agreed with the other side; a tap and a packet socket take and send the same.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        let both = |offloads| Agreed { queues: 1, takes: offloads, sends: offloads };
        match self {
            Self::Vhost(queue) => queue.agreed(),
            other if other.takes_offloads() => both(Offloads::ALL),
            _ => both(Offloads::default()),
        }
    }

    /// The descriptor to wait on; a queue in memory has none, one of vhost-user has its own ([`VhostQueue::kicks`]).
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tap(queue) => Some(queue.as_fd()),
            Self::Packet(queue) => Some(queue.as_fd()),
            Self::Stream(queue) => Some(queue.as_fd()),
            Self::Dgram(queue) => Some(queue.as_fd()),
            Self::Vhost(_) | Self::Mem(_) => None,
        }
    }
}

/// Reads the vnet header that ends where the frame begins.
fn header_at_headroom(buffer: &[u8]) -> Option<vnet::Header> {
    use zerocopy::FromBytes;
    vnet::Header::read_from_bytes(buffer.get(..HEADROOM)?).ok()
}

/// The header and the pieces behind it, for one system call.
fn gather<'a>(header: &'a [u8], parts: &[&'a [u8]], slices: &mut [IoSlice<'a>; PARTS + 1]) -> Option<usize> {
    let count = parts.len() + 1;
    let (first, rest) = slices.get_mut(..count)?.split_first_mut()?;
    *first = IoSlice::new(header);
    rest.iter_mut().zip(parts).for_each(|(slice, part)| *slice = IoSlice::new(part));
    Some(count)
}
