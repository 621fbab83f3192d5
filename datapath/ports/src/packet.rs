//! An `AF_PACKET` socket of type `SOCK_RAW`: whole frames of an interface, with or without a vnet header.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pontoon_wire::{put, vnet};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use zerocopy::IntoBytes;

use crate::{HEADROOM, PARTS, Received, Sent, gather, header_at_headroom, sys};

/// What precedes a frame on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderSize {
    None,
    /// `PACKET_VNET_HDR`: the header without its last field.
    Ten,
    /// `PACKET_VNET_HDR_SZ` set to 12 (Linux 6.4 and newer).
    Twelve,
}

impl HeaderSize {
    #[must_use]
    pub fn octets(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ten => 10,
            Self::Twelve => HEADROOM,
        }
    }

    /// What the socket is configured for; `None` when it does not say (not a packet socket).
    #[must_use]
    pub fn of(socket: &OwnedFd) -> Option<Self> {
        match sys::packet_option(socket, sys::PACKET_VNET_HDR_SZ) {
            Some(12) => return Some(Self::Twelve),
            Some(10) => return Some(Self::Ten),
            _ => {}
        }
        match sys::packet_option(socket, libc::PACKET_VNET_HDR) {
            Some(0) => Some(Self::None),
            Some(_) => Some(Self::Ten),
            None => None,
        }
    }
}

#[derive(Debug)]
pub struct PacketQueue {
    fd: Arc<OwnedFd>,
    header: HeaderSize,
}

impl PacketQueue {
    /// Takes a bound socket and makes it nonblocking.
    ///
    /// # Errors
    /// The descriptor's.
    pub fn new(fd: impl Into<Arc<OwnedFd>>, header: HeaderSize) -> io::Result<Self> {
        let fd = fd.into();
        sys::set_nonblocking(&fd)?;
        Ok(Self { fd, header })
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let skip = HEADROOM - self.header.octets();
        let Some((head, target)) = buffer.split_at_mut_checked(skip) else { return Received::Dropped };
        let room = target.len();
        match sys::receive_packet(&self.fd, target) {
            Ok((length, _)) if length > room => Received::Dropped,
            // Packet sockets have no end; a unix socket whose other side is closed does.
            Ok((0, _)) => Received::Dead(Errno::PIPE),
            Ok((length, tag)) => {
                head.fill(0);
                match (self.frame(buffer, length), tag) {
                    (Received::Frame { vnet, length }, Some(tag)) => tagged(buffer, vnet, length, tag),
                    (received, _) => received,
                }
            }
            Err(Errno::AGAIN) => Received::WouldBlock,
            // ENETDOWN is reported once when the interface goes down; it may come up again.
            Err(
                Errno::NETDOWN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR | Errno::INVAL | Errno::MSGSIZE,
            ) => Received::Dropped,
            Err(error) => Received::Dead(error),
        }
    }

    /// The buffer holds `length` octets behind what the socket's header leaves free of the headroom.
    fn frame(&self, buffer: &mut [u8], length: usize) -> Received {
        let Some(length) = length.checked_sub(self.header.octets()) else { return Received::Dropped };
        match self.header {
            HeaderSize::Twelve => {}
            HeaderSize::None => buffer.iter_mut().take(HEADROOM).for_each(|octet| *octet = 0),
            // Ten octets were read to 2..12; the header begins at 0 and its last field is absent.
            HeaderSize::Ten => {
                buffer.copy_within(2..HEADROOM, 0);
                buffer.iter_mut().take(HEADROOM).skip(10).for_each(|octet| *octet = 0);
            }
        }
        header_at_headroom(buffer).map_or(Received::Dropped, |vnet| Received::Frame { vnet, length })
    }

    #[must_use]
    pub fn takes_offloads(&self) -> bool {
        self.header != HeaderSize::None
    }

    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        if self.header == HeaderSize::None && (header.needs_checksum() || header.is_gso()) {
            return Sent::NotTaken;
        }
        let octets = header.as_bytes().get(..self.header.octets()).unwrap_or(&[]);
        let mut slices = [IoSlice::new(&[]); PARTS + 1];
        let count = gather(octets, parts, &mut slices);
        let Some(slices) = count.and_then(|count| slices.get(..count)) else { return Sent::Dropped };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendmsg(&self.fd, slices, &mut SendAncillaryBuffer::default(), flags) {
            Ok(_) => Sent::Done,
            Err(Errno::AGAIN) => Sent::WouldBlock,
            Err(error @ (Errno::BADF | Errno::BADFD | Errno::NOTSOCK | Errno::NXIO | Errno::NODEV)) => {
                Sent::Dead(error)
            }
            Err(Errno::INVAL) if header.kind() == vnet::GSO_UDP_L4 => Sent::NotTaken,
            Err(_) => Sent::Dropped,
        }
    }
}

/// Puts back the tag that the kernel took off a frame.
fn tagged(buffer: &mut [u8], mut vnet: vnet::Header, length: usize, tag: sys::Tag) -> Received {
    const ADDRESSES: usize = 12;
    let (place, end) = (HEADROOM + ADDRESSES, HEADROOM + length);
    let behind = place + tag.len();
    if length < ADDRESSES || buffer.len() < end + tag.len() {
        return Received::Dropped;
    }
    buffer.copy_within(place..end, behind);
    put(buffer, place, &tag);
    for offset in [&mut vnet.csum_start, &mut vnet.header_length] {
        if vnet.flags & vnet::NEEDS_CSUM != 0 && offset.get() != 0 {
            offset.set(offset.get().saturating_add(tag.len() as u16));
        }
    }
    Received::Frame { vnet, length: length + tag.len() }
}

impl AsFd for PacketQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BUFFER;
    use std::os::unix::net::UnixDatagram;

    fn pair(size: HeaderSize) -> (PacketQueue, PacketQueue) {
        let (a, b) = UnixDatagram::pair().expect("pair");
        let queue = |end| PacketQueue::new(OwnedFd::from(end), size).expect("queue");
        (queue(a), queue(b))
    }

    #[test]
    fn all_header_sizes_carry_a_frame() {
        for size in [HeaderSize::None, HeaderSize::Ten, HeaderSize::Twelve] {
            let (mut a, mut b) = pair(size);
            let mut header = vnet::Header::default();
            if size != HeaderSize::None {
                header.flags = vnet::NEEDS_CSUM;
                header.csum_start = 34.into();
                header.csum_offset = 16.into();
            }
            assert_eq!(a.send(header, &[b"a ", b"frame"]), Sent::Done);
            let mut buffer = vec![0xff; BUFFER];
            assert_eq!(b.receive(&mut buffer), Received::Frame { vnet: header, length: 7 }, "{size:?}");
            assert_eq!(&buffer[HEADROOM..HEADROOM + 7], b"a frame");
            assert_eq!(b.receive(&mut buffer), Received::WouldBlock);
        }
    }

    #[test]
    fn a_tag_goes_back_behind_the_addresses() {
        let mut buffer = vec![0; HEADROOM + 70];
        for (octet, value) in buffer.iter_mut().skip(HEADROOM).zip(0u8..) {
            *octet = value;
        }
        let vnet = vnet::Header { flags: vnet::NEEDS_CSUM, csum_start: 34.into(), ..Default::default() };
        let tag = [0x81, 0, 0xe0, 7];
        let Received::Frame { vnet, length } = tagged(&mut buffer, vnet, 60, tag) else { panic!("no frame") };
        assert_eq!((vnet.csum_start.get(), vnet.header_length.get(), length), (38, 0, 64));
        let frame: Vec<u8> = (0..12).chain(tag).chain(12..60).collect();
        assert_eq!(&buffer[HEADROOM..HEADROOM + length], frame);
        assert_eq!(tagged(&mut buffer, vnet, 70, tag), Received::Dropped, "no room");
        assert_eq!(tagged(&mut buffer, vnet, 11, tag), Received::Dropped, "no frame");
    }

    #[test]
    fn unfinished_checksums_do_not_leave_without_a_header() {
        let (mut a, _b) = pair(HeaderSize::None);
        let header = vnet::Header { flags: vnet::NEEDS_CSUM, ..Default::default() };
        assert_eq!(a.send(header, &[b"a frame"]), Sent::NotTaken);
    }

    #[test]
    fn a_socket_that_does_not_keep_up_blocks_nobody() {
        let (mut a, _b) = pair(HeaderSize::Twelve);
        let full =
            (0..10_000).map(|_| a.send(vnet::Header::default(), &[b"x"])).find(|sent| *sent != Sent::Done);
        assert_eq!(full, Some(Sent::WouldBlock));
    }
}
