//! Namespaces, links, addresses and routes, through rtnetlink and nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::sys;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
const REPLACE: u16 = 0x100;
const NESTED: u16 = 0x8000;
const HEADER: usize = 16;

/// Where the namespace of this name is.
pub(crate) fn netns(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Makes a network namespace and gives it a name.
pub(crate) fn add_netns(name: &str) -> io::Result<()> {
    on_a_thread(|| {
        sys::unshare(UnshareFlags::NEWNET)?;
        name_netns(name)?;
        prepare()
    })
}

/// Gives the caller's network namespace a name.
pub(crate) fn name_netns(name: &str) -> io::Result<()> {
    let path = netns(name);
    File::create(&path)?;
    rustix::mount::mount_bind("/proc/thread-self/ns/net", &path).map_err(io::Error::from)
}

/// Loopback up; no reverse-path filter, which would drop a DHCP server's answer before there is an address.
pub(crate) fn prepare() -> io::Result<()> {
    for scope in ["all", "default"] {
        // A machine whose /proc/sys is read-only has its own default, which mostly is no filter.
        let _ = std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"), "0");
    }
    Netlink::open()?.up("lo")
}

/// Runs `work` on a thread of its own inside the namespace of this name.
pub(crate) fn in_netns<T: Send>(name: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let file = File::open(netns(name))?;
    on_a_thread(|| {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
}

/// Namespaces are a thread's, so each change of them has its own thread.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let joined = scope.spawn(work).join();
        joined.unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}

/// A route socket in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink(File);

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // Protocol 0, NETLINK_ROUTE.
            None,
        )?;
        Ok(Self(File::from(socket)))
    }

    fn index(&self, device: &str) -> io::Result<u32> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        rustix::net::netdevice::name_to_index(socket, device).map_err(io::Error::from)
    }

    /// Sends one request and waits for the kernel's verdict.
    fn ask(&mut self, request: Request) -> io::Result<()> {
        self.0.write_all(&request.finish())?;
        let mut answer = vec![0u8; 8192];
        let length = self.0.read(&mut answer)?;
        let code = answer.get(HEADER..HEADER + 4).filter(|_| length >= HEADER + 4);
        let code = code.and_then(|bytes| bytes.try_into().ok()).map_or(-libc::EBADMSG, i32::from_ne_bytes);
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
    }

    /// A pair of links: `name` here, `peer` in another namespace.
    pub(crate) fn veth(&mut self, name: &str, peer: &str, other: BorrowedFd<'_>) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, CREATE);
        request.link(0, false);
        request.text(3, name);
        let info = request.open(18);
        request.text(1, "veth");
        let data = request.open(2);
        let far = request.open(1);
        request.link(0, false);
        request.text(3, peer);
        request.attribute(28, &other.as_raw_fd().to_ne_bytes());
        request.close(far);
        request.close(data);
        request.close(info);
        self.ask(request)
    }

    pub(crate) fn up(&mut self, device: &str) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.link(self.index(device)?, true);
        self.ask(request)
    }

    pub(crate) fn mtu(&mut self, device: &str, mtu: u32) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.link(self.index(device)?, false);
        request.attribute(4, &mtu.to_ne_bytes());
        self.ask(request)
    }

    pub(crate) fn address(&mut self, device: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWADDR, CREATE | REPLACE);
        request.bytes(&[libc::AF_INET as u8, prefix, 0, 0]);
        request.bytes(&self.index(device)?.to_ne_bytes());
        request.attribute(1, &address.octets());
        request.attribute(2, &address.octets());
        self.ask(request)
    }

    /// A route to `to` (everything when `None`).
    pub(crate) fn route(&mut self, to: Option<(Ipv4Addr, u8)>, gateway: Ipv4Addr) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWROUTE, CREATE | REPLACE);
        let (table, protocol, universe, unicast) = (254, 4, 0, 1);
        let prefix = to.map_or(0, |(_, prefix)| prefix);
        request.bytes(&[libc::AF_INET as u8, prefix, 0, 0, table, protocol, universe, unicast]);
        request.bytes(&[0; 4]);
        if let Some((network, _)) = to {
            request.attribute(1, &network.octets());
        }
        request.attribute(5, &gateway.octets());
        self.ask(request)
    }
}

/// One netlink message under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0u8; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST_ACK | flags).to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend([0u8; 4]);
        Self(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// An `ifinfomsg`.
    fn link(&mut self, index: u32, up: bool) {
        let flag = u32::from(up);
        self.bytes(&[0; 4]);
        for word in [index, flag, flag] {
            self.bytes(&word.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind & !NESTED);
        self.bytes(value);
        self.close(start);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes(value.as_bytes());
        self.bytes(&[0]);
        self.close(start);
    }

    /// Begins an attribute, which may hold others; its place is for [`Self::close`].
    fn open(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.bytes(&[0; 2]);
        self.bytes(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        if let Some(place) = self.0.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_counted_and_padded() {
        let mut request = Request::new(RTM_NEWLINK, 0);
        let nest = request.open(18);
        request.text(1, "veth");
        request.close(nest);
        let bytes = request.finish();
        assert_eq!(bytes.len(), 16 + 4 + 4 + 8);
        assert_eq!(&bytes[..4], 32u32.to_ne_bytes());
        assert_eq!(&bytes[16..18], 16u16.to_ne_bytes());
        assert_eq!(&bytes[20..22], 9u16.to_ne_bytes());
        assert_eq!(&bytes[24..], b"veth\0\0\0\0");
    }
}
