//! Two taps in the namespace this runs in; what the kernel routes to the first is for the guest behind the second.

use std::fs::OpenOptions;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use pontoon_ports::{Queue, TapQueue};

use crate::FRAME;
use crate::guests::{BATCH, Worker};

/// Octets of a smallest frame's headers: Ethernet, IPv4, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// Whoever sends to the first tap.
pub struct Sender(UdpSocket);

/// A worker with two taps, and a sender.
///
/// # Errors
/// The system's; devices need privilege, and a namespace of their own.
pub fn taps() -> io::Result<(Worker, Sender)> {
    let first = Queue::Tap(TapQueue::new(open("bench1")?)?);
    let second = Queue::Tap(TapQueue::new(open("bench2")?)?);
    for words in [
        "link set bench1 address 52:54:00:00:00:01 addrgenmode none up",
        // Not the address frames are for: the kernel drops them at once, as cheap as can be.
        "link set bench2 address 52:54:00:00:00:99 addrgenmode none up",
        "addr add 192.168.100.20/24 dev bench1",
        "neigh add 192.168.100.21 lladdr 52:54:00:00:00:02 dev bench1",
    ] {
        if !Command::new("ip").args(words.split(' ')).status()?.success() {
            return Err(io::Error::other(format!("ip {words}")));
        }
    }
    let socket = UdpSocket::bind("192.168.100.20:1000")?;
    socket.connect("192.168.100.21:2000")?;
    Ok((Worker::new([first, second]), Sender(socket)))
}

impl Sender {
    /// Sends a batch of the smallest frames.
    pub fn send(&self) {
        (0..BATCH).for_each(|_| drop(self.0.send(&[0; FRAME - HEADERS])));
    }
}

/// A tap of one queue as pontoon opens it.
fn open(name: &str) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain integers and byte arrays, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from.cast_signed());
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    request.ifr_ifru.ifru_flags = (flags & 0xffff) as u16 as libc::c_short;
    let header = libc::c_int::from(pontoon_wire::vnet::LENGTH as u8);
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) };
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    let framed =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ as libc::Ioctl, &raw const header) };
    if made < 0 || framed < 0 { Err(io::Error::last_os_error()) } else { Ok(file.into()) }
}
