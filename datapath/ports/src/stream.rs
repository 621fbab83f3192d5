//! A unix stream socket with QEMU's framing (`-netdev stream`, passt): four octets of length, most significant first,
//! then the frame.
//!
//! The framing survives the death of this process, so that the next one may go on with the socket: only whole frames
//! are taken out of it, and what is written at once is short enough for the kernel to take all of it or nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pontoon_wire::{frame, vnet};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use crate::{HEADROOM, Lost, Received, Sent, sys};

/// Octets before a frame.
const LENGTH: usize = 4;
/// Octets written at once. The kernel makes one buffer of up to 48 KB, less where the send buffer is small, and
/// queues it wholly or not at all.
const AT_ONCE: usize = 32 << 10;
/// After so many looks at the beginning of a frame it is taken out of the socket.
const LOOKS: u8 = 8;

#[derive(Debug)]
pub struct StreamQueue {
    fd: Arc<OwnedFd>,
    /// Whole frames that were read; allocated with the first.
    input: Vec<u8>,
    at: usize,
    end: usize,
    /// Octets of a frame that comes in small pieces, which would fill the socket before it is whole.
    kept: usize,
    /// How often a frame was found that is not whole.
    looks: u8,
    output: Vec<u8>,
    frames: u16,
    at_once: usize,
}

impl StreamQueue {
    /// Takes a connected socket and makes it nonblocking.
    ///
    /// # Errors
    /// The descriptor's.
    pub fn new(fd: impl Into<Arc<OwnedFd>>) -> io::Result<Self> {
        let fd = fd.into();
        sys::set_nonblocking(&fd)?;
        // The kernel counts its own bookkeeping in, and takes half of what is left for one buffer.
        let at_once = (sockopt::socket_send_buffer_size(&fd)? / 2).saturating_sub(64).min(AT_ONCE);
        let (input, output) = (Vec::new(), Vec::new());
        Ok(Self { fd, input, at: 0, end: 0, kept: 0, looks: 0, output, frames: 0, at_once })
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        if self.at == self.end
            && let Err(received) = self.fill()
        {
            return received;
        }
        let Some(length) = self.length_at(self.at) else { return Received::Dead(Errno::BADMSG) };
        let frame = self.at + LENGTH..self.at + LENGTH + length;
        self.at = frame.end;
        match (self.input.get(frame), buffer.get_mut(HEADROOM..HEADROOM + length)) {
            (Some(frame), Some(room)) => {
                room.copy_from_slice(frame);
                Received::Frame { vnet: vnet::Header::default(), length }
            }
            _ => Received::Dropped,
        }
    }

    /// Takes all whole frames that are there.
    fn fill(&mut self) -> Result<(), Received> {
        self.input.resize(LENGTH + frame::MAX, 0);
        let found = self.kept + self.recv(self.input.len(), RecvFlags::PEEK)?;
        let whole = self.whole(found)?;
        if whole > 0 {
            self.recv(whole, RecvFlags::empty())?;
            (self.at, self.end, self.kept, self.looks) = (0, whole, 0, 0);
            return Ok(());
        }
        self.looks += 1;
        if self.looks > LOOKS {
            self.looks = LOOKS;
            self.kept += self.recv(found, RecvFlags::empty())?;
        }
        // The rest of the frame will be reported, unless nobody is there to send it.
        Err(if self.is_closed() { Received::Dead(Errno::CONNRESET) } else { Received::WouldBlock })
    }

    /// Reads behind what is kept, up to `end`.
    fn recv(&mut self, end: usize, flags: RecvFlags) -> Result<usize, Received> {
        let Some(room) = self.input.get_mut(self.kept..end) else { return Err(Received::Dropped) };
        match rustix::net::recv(&self.fd, room, flags | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Received::Dead(Errno::CONNRESET)),
            Ok((found, _)) => Ok(found),
            Err(Errno::AGAIN | Errno::INTR) => Err(Received::WouldBlock),
            Err(error) => Err(Received::Dead(error)),
        }
    }

    /// How many of the octets read are whole frames.
    fn whole(&self, found: usize) -> Result<usize, Received> {
        let mut whole = 0;
        while let Some(length) = self.length_at(whole).filter(|_| whole + LENGTH <= found) {
            if length > frame::MAX {
                return Err(Received::Dead(Errno::BADMSG));
            }
            if whole + LENGTH + length > found {
                break;
            }
            whole += LENGTH + length;
        }
        Ok(whole)
    }

    fn length_at(&self, at: usize) -> Option<usize> {
        let octets = self.input.get(at..)?.first_chunk::<LENGTH>()?;
        usize::try_from(u32::from_be_bytes(*octets)).ok()
    }

    fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&*self.fd, PollFlags::RDHUP)];
        let _ = rustix::event::poll(&mut fds, Some(&Timespec::default()));
        fds.iter().any(|fd| fd.revents().intersects(PollFlags::RDHUP | PollFlags::HUP))
    }

    /// Puts a frame to those that [`Self::flush`] writes.
    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        if !header.is_plain() {
            return Sent::NotTaken;
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length == 0 || LENGTH + length > self.at_once {
            return Sent::Dropped;
        }
        if self.output.len() + LENGTH + length > self.at_once {
            return Sent::Full;
        }
        self.output.extend_from_slice(&(length as u32).to_be_bytes());
        parts.iter().for_each(|part| self.output.extend_from_slice(part));
        self.frames += 1;
        Sent::Done
    }

    #[must_use]
    pub fn has_output(&self) -> bool {
        self.frames > 0
    }

    /// Writes what waits, or loses it.
    pub fn flush(&mut self) -> Lost {
        if self.frames == 0 {
            return Lost::NOTHING;
        }
        let octets = self.output.len().saturating_sub(usize::from(self.frames) * LENGTH);
        let lost = |sent| Lost { sent, frames: self.frames, octets };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let lost = match rustix::net::send(&self.fd, &self.output, flags) {
            Ok(sent) if sent == self.output.len() => Lost::NOTHING,
            // Half a frame is out, and what followed would be read as its rest.
            Ok(_) => lost(Sent::Dead(Errno::BADMSG)),
            Err(Errno::AGAIN) => lost(Sent::WouldBlock),
            Err(Errno::NOBUFS | Errno::NOMEM | Errno::INTR) => lost(Sent::Dropped),
            Err(error) => lost(Sent::Dead(error)),
        };
        self.output.clear();
        self.frames = 0;
        lost
    }
}

impl AsFd for StreamQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BUFFER;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (StreamQueue, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        (StreamQueue::new(OwnedFd::from(ours)).expect("queue"), theirs)
    }

    fn framed(frame: &[u8]) -> Vec<u8> {
        [&(frame.len() as u32).to_be_bytes(), frame].concat()
    }

    fn received(queue: &mut StreamQueue) -> Result<Vec<u8>, Received> {
        let mut buffer = vec![0; BUFFER];
        match queue.receive(&mut buffer) {
            Received::Frame { length, .. } => Ok(buffer[HEADROOM..HEADROOM + length].to_vec()),
            other => Err(other),
        }
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let frames: Vec<Vec<u8>> = [42, 60, 1514, 9014].iter().map(|length| vec![7; *length]).collect();
        let octets: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        for step in [1, 3, 4, 5, 64, 1500, 4096, octets.len()] {
            let (mut queue, mut peer) = pair();
            let mut got = Vec::new();
            for piece in octets.chunks(step) {
                peer.write_all(piece).expect("write");
                while let Ok(frame) = received(&mut queue) {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames, "in steps of {step}");
        }
    }

    #[test]
    fn the_next_process_goes_on_where_a_frame_begins() {
        let (mut queue, mut peer) = pair();
        let second = framed(&[2; 1000]);
        peer.write_all(&framed(&[1; 100])).expect("write");
        peer.write_all(&second[..500]).expect("write");
        assert_eq!(received(&mut queue), Ok(vec![1; 100]));
        assert_eq!(received(&mut queue), Err(Received::WouldBlock));
        let mut next = StreamQueue::new(Arc::clone(&queue.fd)).expect("queue");
        drop(queue);
        peer.write_all(&second[500..]).expect("write");
        assert_eq!(received(&mut next), Ok(vec![2; 1000]));
    }

    #[test]
    fn what_is_written_to_a_peer_that_does_not_read_is_lost_in_whole_frames() {
        let (mut queue, mut peer) = pair();
        let (mut sent, mut lost) = (0, 0);
        for length in (1..=1514).cycle().step_by(97).take(4000) {
            match queue.send(vnet::Header::default(), &[&[length as u8], &vec![length as u8; length]]) {
                Sent::Done => sent += 1,
                Sent::Full => {
                    let Lost { sent, frames, .. } = queue.flush();
                    assert!(matches!(sent, Sent::Done | Sent::WouldBlock), "{sent:?}");
                    lost += usize::from(frames);
                }
                other => panic!("{other:?}"),
            }
        }
        lost += usize::from(queue.flush().frames);
        assert!(lost > 0 && sent > lost, "{sent} sent, {lost} lost");
        drop(queue);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).expect("read");
        let (mut rest, mut count) = (all.as_slice(), 0);
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH>() {
            let (frame, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
            assert!(frame.iter().all(|octet| *octet == (frame.len() - 1) as u8), "torn");
            (rest, count) = (behind, count + 1);
        }
        assert_eq!((rest.len(), count), (0, sent - lost));
    }

    #[test]
    fn a_peer_that_went_is_dead_also_in_the_middle_of_a_frame() {
        for left in [&[][..], &[0, 0][..], &framed(&[1; 100])[..50]] {
            let (mut queue, mut peer) = pair();
            peer.write_all(left).expect("write");
            drop(peer);
            assert_eq!(received(&mut queue), Err(Received::Dead(Errno::CONNRESET)), "{} octets", left.len());
            assert_eq!(queue.send(vnet::Header::default(), &[&[1; 60]]), Sent::Done);
            assert_eq!(queue.flush().sent, Sent::Dead(Errno::PIPE));
        }
    }

    #[test]
    fn lengths_no_frame_has_end_the_connection() {
        let (mut queue, mut peer) = pair();
        peer.write_all(&framed(&[5; 60])).expect("write");
        peer.write_all(&[0xff; 64]).expect("write");
        assert_eq!(received(&mut queue), Err(Received::Dead(Errno::BADMSG)));
        let (mut queue, _peer) = pair();
        assert_eq!(queue.send(vnet::Header::default(), &[&vec![0; AT_ONCE]]), Sent::Dropped);
        let unfinished = vnet::Header { flags: vnet::NEEDS_CSUM, ..Default::default() };
        assert_eq!(queue.send(unfinished, &[&[0; 60]]), Sent::NotTaken);
    }
}
