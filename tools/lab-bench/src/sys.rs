//! System calls no safe wrapper offers: datagrams in batches, offloads of an interface, children that do not outlive
//! their parent. The only place with `unsafe`.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Datagrams of one call.
pub(crate) const BATCH: usize = 64;
/// Room for each received datagram.
pub(crate) const ROOM: usize = 2048;

const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Sends `payload` `count` times (at most [`BATCH`]) on a connected socket; how many were taken.
pub(crate) fn send_batch(socket: &UdpSocket, payload: &[u8], count: usize) -> io::Result<usize> {
    let mut slice = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: `mmsghdr` is integers and pointers, for which all zeroes is a value.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_iov = &raw mut slice;
        message.msg_hdr.msg_iovlen = 1;
    }
    let count = count.min(BATCH) as libc::c_uint;
    // SAFETY: `count` messages are initialised and point to `slice`, which points to `payload`; the kernel reads
    // them, and writes no more than the messages' lengths. Safe code was not enough: no dependency has the call.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives what there is, at least one datagram; how many. `buffer` has [`ROOM`] for each of [`BATCH`].
pub(crate) fn receive_batch(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `iovec` and `mmsghdr` are integers and pointers, for which all zeroes is a value.
    let (mut slices, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { zeroed() };
    let mut count: libc::c_uint = 0;
    for ((room, slice), message) in buffer.chunks_exact_mut(ROOM).zip(&mut slices).zip(&mut messages) {
        *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        message.msg_hdr.msg_iov = std::ptr::from_mut(slice);
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: `count` messages point to slices, and those to parts of `buffer` that do not overlap; all of it
    // outlives the call. Safe code was not enough: no dependency has the call.
    let received = unsafe {
        let no_timeout = std::ptr::null_mut();
        libc::recvmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_WAITFORONE, no_timeout)
    };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches segmentation in an interface of the calling thread's network namespace.
pub(crate) fn set_segmentation(device: &str, on: bool) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for command in [ETHTOOL_STSO, ETHTOOL_SGSO] {
        let mut value = EthtoolValue { command, data: on.into() };
        // SAFETY: `ifreq` is plain integers and byte arrays, for which all zeroes is a value.
        let mut request: libc::ifreq = unsafe { zeroed() };
        if device.len() >= request.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request.ifr_name.iter_mut().zip(device.bytes()).for_each(|(to, from)| *to = from.cast_signed());
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request names an interface and points to an ethtool value of the size its command has; both
        // outlive the call. Safe code was not enough: no dependency has ethtool.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as libc::Ioctl, &raw mut request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    debug_assert_eq!(size_of::<EthtoolValue>(), 8);
    Ok(())
}

/// Makes a command lead a session of its own and end with the thread that starts it.
pub(crate) fn bind_to_parent(command: &mut Command) {
    let prepare = || {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec only these two system calls are made, which neither allocate nor lock. Safe code
    // was not enough: the standard library has no safe hook there.
    unsafe { command.pre_exec(prepare) };
}

/// From now on SIGINT and SIGTERM only set what [`interrupted`] tells, so that everything is cleaned up.
pub fn catch_signals() {
    extern "C" fn note(_signal: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is allowed in one. Safe code was not enough: no
        // dependency sets handlers.
        unsafe { libc::signal(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cross_a_socket() {
        let sink = UdpSocket::bind("127.0.0.1:0").expect("sink");
        let source = UdpSocket::bind("127.0.0.1:0").expect("source");
        source.connect(sink.local_addr().expect("address")).expect("connect");
        assert_eq!(send_batch(&source, b"datagram", 20).expect("sent"), 20);
        let (mut buffer, mut got) = (vec![0; BATCH * ROOM], 0);
        while got < 20 {
            got += receive_batch(&sink, &mut buffer).expect("received");
        }
        assert_eq!(got, 20);
        assert_eq!(&buffer[..8], b"datagram");
    }

    #[test]
    fn segmentation_of_no_interface_is_refused() {
        assert!(set_segmentation("nosuchdevice", false).is_err());
        assert!(set_segmentation("a name that is too long", false).is_err());
    }
}
