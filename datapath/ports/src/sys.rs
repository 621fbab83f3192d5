//! System calls no safe wrapper offers, each behind a safe function. The only place with `unsafe`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use pontoon_wire::ethernet;
use rustix::io::{Errno, FdFlags};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::UnshareFlags;
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

use crate::dgram;

/// `<linux/if_packet.h>`; not in the libc crate.
pub const PACKET_VNET_HDR_SZ: i32 = 24;

/// # Errors
/// The descriptor's.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Takes ownership of a descriptor this process was started with.
///
/// Only a descriptor without close-on-exec is taken, and it gets that flag: everything opened by the standard
/// library or rustix has the flag from its birth, so nothing in this process owns what passes, and nothing passes
/// twice.
///
/// # Errors
/// `InvalidInput` for standard streams, closed descriptors and descriptors that are owned already.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    static TAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = TAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd}: {why}"));
    if fd <= 2 {
        return Err(refused("standard stream or negative"));
    }
    // SAFETY: F_GETFD takes no pointer and is sound for any number. Safe code was not enough: wrappers take a
    // `BorrowedFd`, which would claim the descriptor to be open before this shows it.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(refused("not open"));
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(refused("was not inherited"));
    }
    // SAFETY: open, and owned by nothing else in this process (above). Safe code was not enough: a number from the
    // command line becomes an owner nowhere else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// An integer option of a packet socket; `None` when the kernel or the socket does not know it.
#[must_use]
pub fn packet_option(socket: &OwnedFd, option: i32) -> Option<i32> {
    let mut value: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).ok()?;
    // SAFETY: both pointers are to live locals and `length` is the size of `value`. Safe code was not enough:
    // rustix has no packet options.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value)
}

/// The user at the other end of a unix socket, as the kernel noted it when it was connected.
///
/// # Errors
/// The socket's.
pub fn peer_user(socket: impl AsFd) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&peer)).map_err(io::Error::other)?;
    // SAFETY: both pointers are to live locals and `length` is the size of `peer`. Safe code was not enough: rustix
    // refuses a peer whose process has no number here, as all outside of a process namespace.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(peer.uid) }
}

/// TPID and TCI of an 802.1Q tag, as they stand in a frame.
pub type Tag = [u8; 4];

/// Room for one `tpacket_auxdata` with its header, aligned for that.
#[repr(C, align(8))]
struct Auxiliary([u8; 64]);

/// Reads a frame of a packet socket, without waiting: its length, also when that is more than `buffer` holds, and
/// the tag the kernel took off it.
///
/// # Errors
/// The socket's.
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<Tag>), Errno> {
    let mut auxiliary = Auxiliary([0; 64]);
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `msghdr` is pointers and integers, for which all zeroes is a value: no address, no buffers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut auxiliary).cast();
    message.msg_controllen = size_of::<Auxiliary>() as _;
    // SAFETY: every pointer of `message` is to a live local or to `buffer`, with its length beside it. Safe code was
    // not enough: rustix passes no ancillary data of packet sockets on.
    let length = unsafe {
        libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_TRUNC | libc::MSG_DONTWAIT)
    };
    let length = usize::try_from(length).map_err(|_| last_error())?;
    Ok((length, tag_of(&message)))
}

/// The tag in what came beside a frame.
fn tag_of(message: &libc::msghdr) -> Option<Tag> {
    // SAFETY: `message` was filled by recvmsg; the result is null or points into its control buffer, which is aligned
    // and lives as long as `receive_packet` runs.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    let wanted = (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    // SAFETY: CMSG_LEN only computes.
    let whole = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) } as usize;
    if (header.cmsg_level, header.cmsg_type) != wanted || (header.cmsg_len as usize) < whole {
        return None;
    }
    // SAFETY: the header's length says that a whole `tpacket_auxdata` of plain integers follows it.
    let facts = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    if facts.tp_status & libc::TP_STATUS_VLAN_VALID == 0 {
        return None;
    }
    let told = facts.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if told { facts.tp_vlan_tpid } else { ethernet::VLAN };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), facts.tp_vlan_tci.to_be_bytes());
    Some([a, b, c, d])
}

/// Reads as many datagrams as are there and `lengths` has places for, without waiting. Each goes to its part of `buffer`,
/// `slot` octets long; a longer one has the length `slot`. How many there were.
///
/// # Errors
/// The socket's; `AGAIN` when there is none.
pub fn receive_many(
    socket: impl AsFd,
    buffer: &mut [u8],
    slot: usize,
    lengths: &mut [usize; dgram::BATCH],
) -> Result<usize, Errno> {
    // SAFETY: `iovec` and `mmsghdr` are pointers and integers, for which all zeroes is a value.
    let (mut slices, mut messages) = unsafe {
        (
            std::mem::zeroed::<[libc::iovec; dgram::BATCH]>(),
            std::mem::zeroed::<[libc::mmsghdr; dgram::BATCH]>(),
        )
    };
    let mut count = 0;
    for ((room, slice), message) in buffer.chunks_exact_mut(slot).zip(&mut slices).zip(&mut messages) {
        *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        message.msg_hdr.msg_iov = slice;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the first `count` messages point to one slice each, and the slices to disjoint parts of `buffer`; all of
    // it outlives the call. Safe code was not enough: rustix has no recvmmsg.
    let read = unsafe {
        libc::recvmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
    };
    let read = usize::try_from(read).map_err(|_| last_error())?;
    for (length, message) in lengths.iter_mut().zip(&messages).take(read) {
        *length = message.msg_len as usize;
    }
    Ok(read)
}

/// Sends datagrams without waiting: the parts of `octets` that end where `ends` says, from number `first` on, as many as
/// one call may send. How many were taken.
///
/// # Errors
/// The socket's, when the first was not taken.
pub fn send_many(socket: impl AsFd, octets: &[u8], ends: &[usize], first: usize) -> Result<usize, Errno> {
    // SAFETY: as in `receive_many`.
    let (mut slices, mut messages) = unsafe {
        (
            std::mem::zeroed::<[libc::iovec; dgram::BATCH]>(),
            std::mem::zeroed::<[libc::mmsghdr; dgram::BATCH]>(),
        )
    };
    let mut start = first.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    let mut count = 0;
    let due = ends.get(first..).unwrap_or_default();
    for ((end, slice), message) in due.iter().zip(&mut slices).zip(&mut messages) {
        let Some(datagram) = octets.get(start..*end) else { break };
        *slice = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        message.msg_hdr.msg_iov = slice;
        message.msg_hdr.msg_iovlen = 1;
        (start, count) = (*end, count + 1);
    }
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _;
    // SAFETY: the first `count` messages point to one slice each, and the slices to parts of `octets`, which the kernel
    // only reads; all of it outlives the call. Safe code was not enough: rustix's sendmmsg wants the slices to live in
    // vectors of its own making.
    let sent = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), messages.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| last_error())
}

/// Room for one cmsg of up to eight octets, aligned for its header.
#[repr(C, align(8))]
struct SegmentSize([u8; 32]);

/// Sends datagrams of `size` octets each, the last perhaps shorter, in one call (`UDP_SEGMENT`, Linux 4.18), without
/// waiting.
///
/// # Errors
/// The socket's; `INVAL`, `IO` or `MSGSIZE` when the kernel cannot cut them on this way.
pub fn send_segments(
    socket: impl AsFd,
    datagrams: &[u8],
    size: u16,
    to: std::net::SocketAddrV4,
) -> Result<(), Errno> {
    let mut control = SegmentSize([0; 32]);
    let mut slice = libc::iovec { iov_base: datagrams.as_ptr().cast_mut().cast(), iov_len: datagrams.len() };
    // SAFETY: `sockaddr_in` and `msghdr` are pointers and integers, for which all zeroes is a value.
    let (mut address, mut message): (libc::sockaddr_in, libc::msghdr) = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = to.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the space is less than `control` has. CMSG_FIRSTHDR points to its
    // start, which is aligned and long enough for the header and the two octets written here.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(2) as _;
        if let Some(header) = libc::CMSG_FIRSTHDR(&raw const message).as_mut() {
            header.cmsg_level = libc::SOL_UDP;
            header.cmsg_type = libc::UDP_SEGMENT;
            header.cmsg_len = libc::CMSG_LEN(2) as _;
            libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: every pointer of `message` is to a live local or to `datagrams`, which the kernel only reads. Safe code was
    // not enough: rustix has no such ancillary data.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
    if sent < 0 { Err(last_error()) } else { Ok(()) }
}

/// Datagrams read in one call.
pub const DATAGRAMS: usize = 32;

/// What one place of [`receive_datagrams`] holds: datagrams of `size` octets, the last perhaps shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    pub from: Option<std::net::SocketAddrV4>,
    pub length: usize,
    pub size: usize,
}

/// Lets the kernel hand over neighbouring datagrams of one sender as one (`UDP_GRO`, Linux 5.0).
///
/// # Errors
/// The socket's.
pub fn gather_datagrams(socket: impl AsFd) -> Result<(), Errno> {
    let (fd, on) = (socket.as_fd().as_raw_fd(), 1 as libc::c_int);
    // SAFETY: the kernel reads one integer, which lives on. Safe code was not enough: rustix does not have the option.
    let set = unsafe {
        let length = size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_GRO, (&raw const on).cast(), length)
    };
    if set < 0 { Err(last_error()) } else { Ok(()) }
}

/// Reads what is there of an IPv4 socket, without waiting, each into its part of `buffer`, `slot` octets long. How many
/// parts have something.
///
/// # Errors
/// The socket's; `AGAIN` when there is nothing.
pub fn receive_datagrams(
    socket: impl AsFd,
    buffer: &mut [u8],
    slot: usize,
    found: &mut [Datagrams; DATAGRAMS],
) -> Result<usize, Errno> {
    // SAFETY: all of these are pointers and integers, for which all zeroes is a value.
    let (mut slices, mut messages, mut names) = unsafe {
        (
            std::mem::zeroed::<[libc::iovec; DATAGRAMS]>(),
            std::mem::zeroed::<[libc::mmsghdr; DATAGRAMS]>(),
            std::mem::zeroed::<[libc::sockaddr_in; DATAGRAMS]>(),
        )
    };
    let mut controls = [const { SegmentSize([0; 32]) }; DATAGRAMS];
    let places = buffer.chunks_exact_mut(slot).zip(&mut slices).zip(&mut names).zip(&mut controls);
    let mut count = 0;
    for ((((room, slice), name), control), message) in places.zip(&mut messages) {
        *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        message.msg_hdr.msg_name = (&raw mut *name).cast();
        message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        message.msg_hdr.msg_iov = slice;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = (&raw mut *control).cast();
        message.msg_hdr.msg_controllen = size_of::<SegmentSize>() as _;
        count += 1;
    }
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the first `count` messages point to a slice, a name and room for control data each, and the slices to
    // disjoint parts of `buffer`; all of it outlives the call. Safe code was not enough: rustix has no recvmmsg.
    let read = unsafe {
        libc::recvmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
    };
    let read = usize::try_from(read).map_err(|_| last_error())?;
    for ((place, message), name) in found.iter_mut().zip(&messages).zip(&names).take(read) {
        let length = message.msg_len as usize;
        let known = i32::from(name.sin_family) == libc::AF_INET;
        let address = std::net::Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
        let from = known.then(|| std::net::SocketAddrV4::new(address, u16::from_be(name.sin_port)));
        *place = Datagrams { from, length, size: gathered(&message.msg_hdr).unwrap_or(length) };
    }
    Ok(read)
}

/// How long datagrams are that came as one.
fn gathered(message: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel has set `msg_controllen` to what it wrote at `msg_control`, which is live and aligned for a
    // header; the value is read only where the header says that an integer is there.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message).as_ref()?;
        let told = header.cmsg_level == libc::SOL_UDP && header.cmsg_type == libc::UDP_GRO;
        let whole = header.cmsg_len >= libc::CMSG_LEN(size_of::<libc::c_int>() as _) as _;
        let size = (told && whole).then(|| libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned())?;
        usize::try_from(size).ok().filter(|size| *size > 0)
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Maps all of a memory file, shared, for the rest of the process's life. Works once a process.
///
/// The file must not shrink while it is mapped (its owner seals it) and no other process may map it at the same
/// time.
///
/// # Errors
/// The system's; `AlreadyExists` for a second call; `InvalidData` for a file of less than one `T`.
pub fn map_shared<T: FromBytes + IntoBytes + KnownLayout>(fd: OwnedFd) -> io::Result<&'static mut [T]> {
    static MAPPED: AtomicBool = AtomicBool::new(false);
    let length = usize::try_from(rustix::fs::fstat(&fd)?.st_size).map_err(io::Error::other)?;
    let Some(count) = length.checked_div(size_of::<T>()).filter(|count| *count > 0) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "memory file holds no entry"));
    };
    if MAPPED.swap(true, Ordering::SeqCst) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: a new mapping at a place the kernel chooses touches no memory that exists. Safe code was not enough:
    // shared memory needs mmap.
    let start = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &fd,
            0,
        )?
    };
    // SAFETY: the mapping is page-aligned, at least `count * size_of::<T>()` long, never unmapped and only made
    // once, so this is its only reference; any bytes are a valid `T` (`FromBytes`). Safe code was not enough: a
    // slice over a mapping begins as a pointer.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.cast::<T>(), count) })
}

/// Moves the calling thread to namespaces of its own.
///
/// # Errors
/// The system's; `PermissionDenied` without `CAP_SYS_ADMIN`; `InvalidInput` for a descriptor table of its own.
pub fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    if namespaces.contains(UnshareFlags::FILES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: namespaces leave memory and the descriptor table shared as they are; the wrapper is unsafe for
    // CLONE_FILES, excluded above. Safe code was not enough: the safe wrapper is deprecated for that reason.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }?;
    Ok(())
}

/// Ignores what a terminal or a closed peer would send, so that only `SIGTERM` and `SIGKILL` end the process.
pub fn settle_signals() {
    for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGINT] {
        // SAFETY: SIG_IGN runs no code of ours. Safe code was not enough: no dependency sets dispositions.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // By default process 1 of a namespace does not hear it.
    // SAFETY: `end` calls nothing but _exit, which a handler may. Safe code was not enough: as above.
    unsafe { libc::signal(libc::SIGTERM, end as *const () as libc::sighandler_t) };
}

extern "C" fn end(_signal: libc::c_int) {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inherited_descriptors_are_taken() {
        assert!(take_inherited(-1).is_err());
        assert!(take_inherited(1).is_err());
        let file = std::fs::File::open("/dev/null").expect("null");
        assert!(take_inherited(file.as_raw_fd()).is_err());
    }

    #[test]
    fn a_memory_file_is_mapped_once() {
        let memory = rustix::fs::memfd_create("sessions", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        assert!(map_shared::<u64>(memory.try_clone().expect("clone")).is_err(), "empty");
        rustix::fs::ftruncate(&memory, 4096).expect("grow");
        let words = map_shared::<u64>(memory.try_clone().expect("clone")).expect("map");
        assert_eq!(words.len(), 512);
        words[3] = 7;
        let mut octets = [0; 32];
        rustix::io::pread(&memory, &mut octets, 0).expect("read");
        assert_eq!(octets[24], 7);
        assert!(map_shared::<u64>(memory).is_err(), "second mapping");
    }
}
