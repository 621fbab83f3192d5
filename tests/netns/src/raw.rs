//! Frames as they are, to and from an interface of a namespace.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::SendFlags;

use crate::in_netns;

/// `virtio_net_hdr` without its last field.
pub(crate) const HEADER: usize = 10;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const NEEDS_CSUM: u8 = 1;
/// Frames come faster than they are looked at.
const BUFFER: libc::c_int = 16 << 20;

/// Sends one Ethernet frame from `dev`, a name in the namespace.
///
/// # Panics
/// When it cannot be sent.
pub fn send_frame(netns: &str, dev: &str, frame: &[u8]) {
    send_frames(netns, dev, std::iter::once(frame));
}

/// Sends Ethernet frames from `dev`, a name in the namespace.
///
/// # Panics
/// When one cannot be sent.
pub fn send_frames<'a>(netns: &str, dev: &str, frames: impl Iterator<Item = &'a [u8]> + Send) {
    let send = || -> io::Result<()> {
        let socket = socket()?;
        bind(&socket, dev, 0)?;
        frames.map(|frame| rustix::net::send(&socket, frame, SendFlags::empty())).try_for_each(|sent| {
            sent?;
            Ok(())
        })
    };
    in_netns(netns, send).expect("the frames are sent");
}

/// A socket that takes and gives frames of one interface behind their `virtio_net_hdr`.
pub(crate) fn open(netns: &str, dev: &str) -> io::Result<OwnedFd> {
    let open = || -> io::Result<OwnedFd> {
        let socket = socket()?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)?;
        // Without the right to pass the system's limit there is less.
        let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER);
        bind(&socket, dev, libc::ETH_P_ALL as u16)?;
        Ok(socket)
    };
    in_netns(netns, open)
}

/// What arrives on one interface, with what the kernel knows of each frame.
#[derive(Debug)]
pub(crate) struct Tap {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Tap {
    pub(crate) fn open(netns: &str, dev: &str) -> io::Result<Self> {
        Ok(Self { socket: open(netns, dev)?, buffer: vec![0; HEADER + (1 << 17)] })
    }

    /// The next frame as a wire would carry it: a checksum that was left to the hardware is completed. A frame that
    /// was left to be segmented stays whole.
    pub(crate) fn next(&mut self) -> io::Result<&[u8]> {
        let (header, frame) = self.receive()?;
        complete(header, frame);
        Ok(frame)
    }

    /// The next frame as the kernel has it, with its header.
    pub(crate) fn next_whole(&mut self) -> io::Result<(&[u8], &[u8])> {
        self.receive().map(|(header, frame)| (&*header, &*frame))
    }

    fn receive(&mut self) -> io::Result<(&mut [u8], &mut [u8])> {
        let received = rustix::net::recv(&self.socket, &mut *self.buffer, rustix::net::RecvFlags::DONTWAIT)?;
        let (header, frame) = self.buffer.split_at_mut(HEADER);
        Ok((header, frame.get_mut(..received.0.saturating_sub(HEADER)).unwrap_or_default()))
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Does what the hardware is left to do (virtio 1.2, 5.1.6.2).
fn complete(header: &[u8], frame: &mut [u8]) {
    let [flags, _, _, _, _, _, a, b, c, d] = *header else { return };
    let (start, field) = (usize::from(u16::from_ne_bytes([a, b])), usize::from(u16::from_ne_bytes([c, d])));
    if flags & NEEDS_CSUM == 0 || frame.len() < start + field + 2 {
        return;
    }
    let words = frame[start..].chunks(2).map(|word| match *word {
        [high, low] => u64::from(high) << 8 | u64::from(low),
        [high] => u64::from(high) << 8,
        _ => 0,
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    // For UDP zero would mean that there is none.
    const UDP: usize = 6;
    let value = if field == UDP && !(sum as u16) == 0 { 0xffff } else { !(sum as u16) };
    frame[start + field..start + field + 2].copy_from_slice(&value.to_be_bytes());
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) touches no memory; protocol 0 receives nothing before it is bound.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(socket as isize)?;
    // SAFETY: the kernel just returned this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Binds to an interface of the calling thread's namespace; protocol 0 receives nothing.
fn bind(socket: &OwnedFd, dev: &str, protocol: u16) -> io::Result<()> {
    let (address, length) = (address(dev, protocol)?, size_of::<libc::sockaddr_ll>() as libc::socklen_t);
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    check(bound as isize).map(drop)
}

fn address(dev: &str, protocol: u16) -> io::Result<libc::sockaddr_ll> {
    let name = CString::new(dev)?;
    // SAFETY: `sockaddr_ll` is plain integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    // SAFETY: `name` is a string with its NUL, and outlives the call.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
    Ok(address)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &libc::c_int) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    } as isize)
    .map(drop)
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_the_hardware_is_done() {
        let mut header = [0; HEADER];
        (header[0], header[6], header[8]) = (NEEDS_CSUM, 2, 2);
        let mut frame = [9, 9, 0x12, 0x34, 0x00, 0x01, 0x56];
        complete(&header, &mut frame);
        // 0x1234 + 0x0001 + 0x5600, inverted.
        assert_eq!(frame, [9, 9, 0x12, 0x34, 0x97, 0xca, 0x56]);
        header[0] = 0;
        complete(&header, &mut frame);
        assert_eq!(frame[4..6], [0x97, 0xca]);
    }
}
