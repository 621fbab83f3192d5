//! Frames as they are, from an interface of a namespace: for those no tool of the kernel makes.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::in_netns;

/// Sends one Ethernet frame from `dev`, a name in the namespace.
///
/// # Panics
/// When it cannot be sent.
pub fn send_frame(netns: &str, dev: &str, frame: &[u8]) {
    in_netns(netns, || send(dev, frame)).expect("the frame is sent");
}

fn send(dev: &str, frame: &[u8]) -> io::Result<()> {
    let name = CString::new(dev)?;
    // SAFETY: socket(2) touches no memory; protocol 0 receives nothing.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: `sockaddr_ll` is plain integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // SAFETY: `name` is a string with its NUL, and outlives the call.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: both pointers are to what lives longer than the call, each with its length beside it.
    let sent = unsafe {
        let to = (&raw const address).cast();
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, to, length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
