//! One queue of a tap device with `IFF_VNET_HDR` and a header of 12 octets.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pontoon_wire::vnet;
use rustix::io::Errno;
use zerocopy::IntoBytes;

use crate::{HEADROOM, PARTS, Received, Sent, gather, header_at_headroom, sys};

#[derive(Debug)]
pub struct TapQueue {
    fd: Arc<OwnedFd>,
}

impl TapQueue {
    /// Takes a configured tap queue and makes it nonblocking.
    ///
    /// # Errors
    /// The descriptor's.
    pub fn new(fd: impl Into<Arc<OwnedFd>>) -> io::Result<Self> {
        let fd = fd.into();
        sys::set_nonblocking(&fd)?;
        Ok(Self { fd })
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(0) => Received::WouldBlock,
            Ok(read) => match (header_at_headroom(buffer), read.checked_sub(HEADROOM)) {
                (Some(vnet), Some(length)) if read <= buffer.len() => Received::Frame { vnet, length },
                _ => Received::Dropped,
            },
            Err(Errno::AGAIN) => Received::WouldBlock,
            Err(Errno::INTR | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::FAULT) => {
                Received::Dropped
            }
            // EIO: the device is going; EBADFD: it went.
            Err(error) => Received::Dead(error),
        }
    }

    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        let written = match parts {
            [frame] => rustix::io::writev(&self.fd, &[IoSlice::new(header.as_bytes()), IoSlice::new(frame)]),
            _ => {
                let mut slices = [IoSlice::new(&[]); PARTS + 1];
                let count = gather(header.as_bytes(), parts, &mut slices);
                match count.and_then(|count| slices.get(..count)) {
                    Some(slices) => rustix::io::writev(&self.fd, slices),
                    None => return Sent::Dropped,
                }
            }
        };
        match written {
            Ok(_) => Sent::Done,
            Err(Errno::AGAIN) => Sent::WouldBlock,
            Err(error @ (Errno::BADFD | Errno::BADF | Errno::NODEV)) => Sent::Dead(error),
            // Kernels before 6.2 know no UDP super-frames.
            Err(Errno::INVAL) if header.kind() == vnet::GSO_UDP_L4 => Sent::NotTaken,
            // EIO: the interface is down. EINVAL: the kernel does not take this header.
            Err(_) => Sent::Dropped,
        }
    }
}

impl AsFd for TapQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BUFFER;

    #[test]
    fn a_frame_is_read_behind_its_header() {
        // A pipe keeps one short write together, as a tap does.
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let (mut reader, mut writer) =
            (TapQueue::new(reader).expect("reader"), TapQueue::new(writer).expect("writer"));
        let header = vnet::Header { flags: vnet::NEEDS_CSUM, csum_start: 34.into(), ..Default::default() };
        assert_eq!(writer.send(header, &[b"frame"]), Sent::Done);
        let mut buffer = vec![0; BUFFER];
        assert_eq!(reader.receive(&mut buffer), Received::Frame { vnet: header, length: 5 });
        assert_eq!(&buffer[HEADROOM..HEADROOM + 5], b"frame");
        assert_eq!(reader.receive(&mut buffer), Received::WouldBlock);
    }

    #[test]
    fn pieces_are_written_as_one_frame() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        let (mut reader, mut writer) =
            (TapQueue::new(reader).expect("reader"), TapQueue::new(writer).expect("writer"));
        let piece: &[u8] = b"piece";
        assert_eq!(writer.send(vnet::Header::default(), &[piece; PARTS]), Sent::Done);
        let mut buffer = vec![0; BUFFER];
        let length = PARTS * piece.len();
        assert_eq!(reader.receive(&mut buffer), Received::Frame { vnet: vnet::Header::default(), length });
        assert_eq!(&buffer[HEADROOM..HEADROOM + length], piece.repeat(PARTS));
        assert_eq!(writer.send(vnet::Header::default(), &[piece; PARTS + 1]), Sent::Dropped);
    }

    #[test]
    fn less_than_a_header_is_dropped() {
        let (reader, writer) = rustix::pipe::pipe().expect("pipe");
        rustix::io::write(&writer, b"short").expect("write");
        let mut reader = TapQueue::new(reader).expect("reader");
        assert_eq!(reader.receive(&mut vec![0; BUFFER]), Received::Dropped);
    }
}
