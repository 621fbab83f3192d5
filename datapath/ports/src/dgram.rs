//! A connected unix datagram socket, one plain frame a datagram (QEMU's `-netdev dgram`, vfkit). Datagrams are read and
//! written many at once.
//!
//! A receiver's queue holds few datagrams (`net.unix.max_dgram_qlen`, 10 where nobody raised it), so what it does not
//! take waits here, up to a bound.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pontoon_wire::{frame, vnet};
use rustix::io::Errno;

use crate::{HEADROOM, Lost, Received, Sent, sys};

/// Datagrams read or written with one call.
pub const BATCH: usize = 16;
/// A longer datagram is cut, and dropped.
const SLOT: usize = frame::MAX + 1;
/// What waits for the receiver.
const MOST_FRAMES: usize = 256;
const MOST_OCTETS: usize = 256 << 10;

#[derive(Debug)]
pub struct DgramQueue {
    fd: Arc<OwnedFd>,
    /// [`BATCH`] places; allocated with the first read, and memory once they are used.
    input: Vec<u8>,
    lengths: [usize; BATCH],
    at: usize,
    read: usize,
    output: Vec<u8>,
    /// Where each waiting frame ends in `output`.
    ends: Vec<usize>,
    /// Frames that wait because the receiver is full.
    blocked: bool,
}

impl DgramQueue {
    /// Takes a connected socket and makes it nonblocking.
    ///
    /// # Errors
    /// The descriptor's.
    pub fn new(fd: impl Into<Arc<OwnedFd>>) -> io::Result<Self> {
        let fd = fd.into();
        sys::set_nonblocking(&fd)?;
        let (input, output, ends) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { fd, input, lengths: [0; BATCH], at: 0, read: 0, output, ends, blocked: false })
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        if self.at == self.read {
            self.input.resize(BATCH * SLOT, 0);
            self.at = 0;
            self.read = match sys::receive_many(&self.fd, &mut self.input, SLOT, &mut self.lengths) {
                Ok(read) => read,
                Err(error) => {
                    self.read = 0;
                    return failed(error);
                }
            };
        }
        let Some(&length) = self.lengths.get(self.at) else { return Received::Dropped };
        let start = self.at * SLOT;
        self.at += 1;
        match (self.input.get(start..start + length), buffer.get_mut(HEADROOM..HEADROOM + length)) {
            (Some(frame), Some(room)) if length > 0 && length < SLOT => {
                room.copy_from_slice(frame);
                Received::Frame { vnet: vnet::Header::default(), length }
            }
            _ => Received::Dropped,
        }
    }

    /// Puts a frame to those that [`Self::flush`] writes.
    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        if !header.is_plain() {
            return Sent::NotTaken;
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // An empty datagram would stop QEMU's reading for good.
        if length == 0 || length > frame::MAX {
            return Sent::Dropped;
        }
        if self.ends.len() >= MOST_FRAMES || self.output.len() + length > MOST_OCTETS {
            return if self.blocked { Sent::WouldBlock } else { Sent::Full };
        }
        parts.iter().for_each(|part| self.output.extend_from_slice(part));
        self.ends.push(self.output.len());
        Sent::Done
    }

    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Waits for the receiver to have room: [`Self::flush`] is to be called once the descriptor can be written.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Writes what the receiver takes; the rest stays.
    pub fn flush(&mut self) -> Lost {
        let mut done = 0;
        let mut lost = Lost::NOTHING;
        self.blocked = false;
        while done < self.ends.len() {
            match sys::send_many(&self.fd, &self.output, &self.ends, done) {
                Ok(sent) if sent > 0 => done += sent,
                Ok(_) | Err(Errno::AGAIN) => {
                    self.blocked = true;
                    break;
                }
                // The receiver does not take one that long.
                Err(Errno::MSGSIZE | Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => {
                    let octets = self.start(done + 1).saturating_sub(self.start(done));
                    lost =
                        Lost { sent: Sent::Dropped, frames: lost.frames + 1, octets: lost.octets + octets };
                    done += 1;
                }
                Err(error) => {
                    let frames = u16::try_from(self.ends.len() - done).unwrap_or(u16::MAX);
                    let octets = self.output.len().saturating_sub(self.start(done));
                    lost = Lost { sent: Sent::Dead(error), frames, octets };
                    done = self.ends.len();
                }
            }
        }
        self.forget(done);
        lost
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    fn forget(&mut self, done: usize) {
        let gone = self.start(done);
        self.output.drain(..gone);
        self.ends.drain(..done);
        self.ends.iter_mut().for_each(|end| *end -= gone);
    }
}

fn failed(error: Errno) -> Received {
    match error {
        Errno::AGAIN => Received::WouldBlock,
        Errno::INTR | Errno::NOBUFS | Errno::NOMEM => Received::Dropped,
        error => Received::Dead(error),
    }
}

impl AsFd for DgramQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BUFFER;
    use std::os::unix::net::UnixDatagram;

    fn pair() -> (DgramQueue, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().expect("pair");
        theirs.set_nonblocking(true).expect("nonblocking");
        (DgramQueue::new(OwnedFd::from(ours)).expect("queue"), theirs)
    }

    #[test]
    fn frames_are_datagrams_in_order() {
        let (mut queue, peer) = pair();
        let mut buffer = vec![0; BUFFER];
        for length in [42, 1514, 0, 9014, frame::MAX] {
            peer.send(&vec![length as u8; length]).expect("send");
        }
        for length in [42, 1514] {
            let vnet = vnet::Header::default();
            assert_eq!(queue.receive(&mut buffer), Received::Frame { vnet, length });
            assert!(buffer[HEADROOM..HEADROOM + length].iter().all(|octet| *octet == length as u8));
        }
        assert_eq!(queue.receive(&mut buffer), Received::Dropped, "an empty one");
        for length in [9014, frame::MAX] {
            assert!(matches!(queue.receive(&mut buffer), Received::Frame { length: l, .. } if l == length));
        }
        assert_eq!(queue.receive(&mut buffer), Received::WouldBlock);
        assert_eq!(queue.send(vnet::Header::default(), &[&[], &[]]), Sent::Dropped, "none is ever empty");
    }

    #[test]
    fn what_a_slow_receiver_does_not_take_waits_up_to_a_bound() {
        let (mut queue, peer) = pair();
        let (mut sent, mut refused) = (0u16, 0);
        for _ in 0..1000 {
            match queue.send(vnet::Header::default(), &[&sent.to_be_bytes(), &[0; 100]]) {
                Sent::Done => sent += 1,
                Sent::Full => {
                    assert_eq!(queue.flush(), Lost::NOTHING);
                    refused += 1;
                }
                Sent::WouldBlock => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(queue.is_blocked() && usize::from(sent) >= MOST_FRAMES && refused > 0);
        let (mut expected, mut got) = (0, [0; 2048]);
        while queue.has_output() {
            while peer.recv(&mut got).is_ok() {
                assert_eq!(u16::from_be_bytes([got[0], got[1]]), expected, "in order, none twice");
                expected += 1;
            }
            assert_eq!(queue.flush(), Lost::NOTHING);
        }
        while peer.recv(&mut got).is_ok() {
            expected += 1;
        }
        assert_eq!((expected, queue.is_blocked()), (sent, false), "all that was taken");
    }

    #[test]
    fn a_receiver_that_went_is_dead() {
        let (mut queue, peer) = pair();
        drop(peer);
        assert_eq!(queue.send(vnet::Header::default(), &[&[1; 60]]), Sent::Done);
        let Lost { sent: Sent::Dead(_), frames: 1, octets: 60 } = queue.flush() else { panic!("not dead") };
        assert!(!queue.has_output());
    }
}
