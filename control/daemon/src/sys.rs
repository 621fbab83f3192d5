//! Kernel calls that safe crates do not wrap: tap and packet-socket set-up, the signal mask, network namespaces.

use std::fs::OpenOptions;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use pontoon_proto::privilege::{self, Kept};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

/// Bytes of `virtio_net_hdr_v1`, before each frame of a tap.
const TAP_HEADER: libc::c_int = 12;
/// Offload sets, best first: with USO (Linux 6.2), with ECN, plain TSO.
const OFFLOADS: [libc::c_ulong; 3] = [0x6f, 0x0f, 0x07];
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const SO_PEERPIDFD: libc::c_int = 77;
/// Linux 4.13; the same number on all architectures but MIPS, PA-RISC and SPARC.
const SO_PEERGROUPS: libc::c_int = 59;
const PACKET_FANOUT_HASH: u32 = 0;
const PACKET_FANOUT_FLAG_UNIQUEID: u32 = 0x2000;

/// Takes ownership of a descriptor this process was started with: one without close-on-exec, which everything that is
/// opened here has, so that nothing else owns it.
///
/// # Errors
/// For descriptors that are closed, standard streams or somebody's.
pub fn take_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer and is sound for any number.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    check(flags)?;
    if fd <= 2 || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a descriptor that was passed on"));
    }
    // SAFETY: open, and owned by nothing else in this process (above).
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Opens a new tap of one queue for somebody else, who sets its framing.
pub(crate) fn open_handed_tap(name: &str, vnet_header: bool) -> io::Result<OwnedFd> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/net/tun")?;
    let vnet = if vnet_header { libc::IFF_VNET_HDR } else { 0 };
    set_interface(file.as_raw_fd(), name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL | vnet)?;
    Ok(file.into())
}

/// Opens `queues` queues of a new tap in the calling thread's network namespace. `EBUSY` when the name exists.
///
/// # Errors
/// The kernel's.
pub fn open_tap(name: &str, queues: u16) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    for queue in 0..queues.max(1) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        if queue == 0 {
            flags |= libc::IFF_TUN_EXCL;
        }
        set_interface(file.as_raw_fd(), name, flags)?;
        set_framing(file.as_raw_fd())?;
        fds.push(file.into());
    }
    Ok(fds)
}

fn set_interface(fd: RawFd, name: &str, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: `ifreq` is plain integers and byte arrays, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "interface name longer than 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (flags & 0xffff) as u16 as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call. No safe crate of ours has it.
    check(unsafe { libc::ioctl(fd, libc::TUNSETIFF as libc::Ioctl, &raw mut request) })
}

/// Header size and offloads belong to the device and outlive a close, so every open sets both.
fn set_framing(fd: RawFd) -> io::Result<()> {
    let header = TAP_HEADER;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    check(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ as libc::Ioctl, &raw const header) })?;
    let mut last = Ok(());
    for offloads in OFFLOADS {
        // SAFETY: TUNSETOFFLOAD takes the mask by value; no memory is touched.
        last = check(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD as libc::Ioctl, offloads) });
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Opens `queues` raw packet sockets on interface `index` of the calling thread's network namespace: promiscuous,
/// a 10-byte `virtio_net_hdr` before each frame, own frames not looped back, flows spread by hash.
pub(crate) fn open_packet(index: u32, queues: u16) -> io::Result<Vec<OwnedFd>> {
    let mut fds: Vec<OwnedFd> = Vec::new();
    for _ in 0..queues.max(1) {
        let fd = packet_socket(index)?;
        if queues > 1 {
            join_fanout(&fd, fds.first())?;
        }
        fds.push(fd);
    }
    Ok(fds)
}

/// How the host's own stack behaves on a device: what hushing it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostStack {
    arp_ignore: i32,
    /// Nothing where the kernel has no IPv6.
    disable_ipv6: Option<i32>,
}

impl HostStack {
    /// As it is set for a device of the calling thread's network namespace.
    pub(crate) fn of(name: &str) -> io::Result<Self> {
        let read = |path: String| -> io::Result<i32> {
            std::fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
        };
        let [arp, ipv6] = settings(name);
        Ok(Self { arp_ignore: read(arp)?, disable_ipv6: read(ipv6).ok() })
    }

    /// Sets it so; the device may be gone.
    pub(crate) fn set(self, name: &str) {
        for (path, value) in settings(name).into_iter().zip([Some(self.arp_ignore), self.disable_ipv6]) {
            if let Some(Err(error)) = value.map(|value| std::fs::write(&path, value.to_string())) {
                tracing::debug!("{path}: {error}");
            }
        }
    }
}

fn settings(name: &str) -> [String; 2] {
    [("ipv4", "arp_ignore"), ("ipv6", "disable_ipv6")]
        .map(|(family, key)| format!("/proc/sys/net/{family}/conf/{name}/{key}"))
}

/// Keeps the host's own stack from answering on a device of the calling thread's network namespace that it shall only
/// pass frames through: it would answer ARP for every address it has, and make one for IPv6.
pub(crate) fn hush(name: &str) {
    HostStack { arp_ignore: 8, disable_ipv6: Some(1) }.set(name);
}

/// Bytes that may wait in a packet socket, the kernel's bookkeeping included.
const PACKET_BUFFER: usize = 16 << 20;

/// Has an interface of the calling thread's network namespace take all frames as long as the result, or a copy of it, is
/// open. Nothing is received by it.
pub(crate) fn promiscuous(index: u32) -> io::Result<OwnedFd> {
    let fd = unbound_packet_socket()?;
    join_promiscuous(&fd, index)?;
    Ok(fd)
}

fn unbound_packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket(2) touches no memory. Protocol 0 receives nothing before it is bound.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(raw)?;
    // SAFETY: the kernel just returned this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn join_promiscuous(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let member = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(fd, libc::PACKET_ADD_MEMBERSHIP, &member)
}

fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let fd = unbound_packet_socket()?;
    set_option(&fd, libc::PACKET_VNET_HDR, &1i32)?;
    set_option(&fd, PACKET_IGNORE_OUTGOING, &1i32)?;
    // The kernel takes 802.1Q tags off and tells of them beside the frame.
    set_option(&fd, libc::PACKET_AUXDATA, &1i32)?;
    enlarge(&fd);
    join_promiscuous(&fd, index)?;
    // SAFETY: `sockaddr_ll` is plain integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer and length describe the `sockaddr_ll` above, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(fd)
}

/// The default of about 200 KB holds three super-frames; a burst of a fast sender is a hundred. Beyond the
/// system's limit only with CAP_NET_ADMIN of the first user namespace, so what can be had is taken.
fn enlarge(fd: &OwnedFd) {
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(fd, PACKET_BUFFER).is_err() {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(fd, PACKET_BUFFER);
    }
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(fd, PACKET_BUFFER);
}

/// The first socket asks the kernel for a free group, the others join it.
fn join_fanout(fd: &OwnedFd, first: Option<&OwnedFd>) -> io::Result<()> {
    let Some(first) = first else {
        return set_option(
            fd,
            libc::PACKET_FANOUT,
            &((PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID) << 16),
        );
    };
    let mut group = 0u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `group`; both outlive the call.
    check(unsafe {
        libc::getsockopt(
            first.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut group).cast(),
            &raw mut length,
        )
    })?;
    set_option(fd, libc::PACKET_FANOUT, &((PACKET_FANOUT_HASH << 16) | (group & 0xffff)))
}

fn set_option<T>(fd: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, a plain C integer or struct without padding.
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, std::ptr::from_ref(value).cast(), length)
    })
}

/// The name of the interface a tap queue belongs to, in whatever namespace that is.
pub(crate) fn tap_name(fd: &OwnedFd) -> io::Result<String> {
    // SAFETY: as in `set_interface`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // SAFETY: TUNGETIFF writes one `ifreq`, which outlives the call; other kinds of descriptors refuse it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as libc::Ioctl, &raw mut request) })?;
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
    let name: Vec<u8> = name.map(|byte| byte.cast_unsigned()).collect();
    String::from_utf8(name).map_err(io::Error::other)
}

/// The index of the interface a packet socket is bound to.
pub(crate) fn packet_interface(fd: &OwnedFd) -> io::Result<u32> {
    // SAFETY: `sockaddr_ll` is plain integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `address`; both outlive the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    if libc::c_int::from(address.sll_family) != libc::AF_PACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a packet socket"));
    }
    Ok(address.sll_ifindex.cast_unsigned())
}

/// The process that listens at the other end, as the kernel noted it.
pub(crate) fn peer_process(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut handle: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `handle`; both outlive the call.
    let answered = check(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut handle).cast(),
            &raw mut length,
        )
    });
    if answered.is_ok() && handle >= 0 {
        // SAFETY: the kernel just made this descriptor and nobody else owns it.
        return Ok(unsafe { OwnedFd::from_raw_fd(handle) });
    }
    // Before Linux 6.5.
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(rustix::process::pidfd_open(peer.pid, rustix::process::PidfdFlags::empty())?)
}

/// Blocks SIGTERM and SIGINT in this thread and those it starts, and gives the descriptor that reports them.
/// `Command` empties the mask of its children again.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: sigemptyset initialises the set wholly; sigaddset with a valid signal cannot fail.
    let set = unsafe {
        let mut set = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        set
    };
    // SAFETY: `set` is initialised and outlives the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => {}
        code => return Err(io::Error::from_raw_os_error(code)),
    }
    // SAFETY: as above; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd)?;
    // SAFETY: the kernel just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal that [`signals`] has to report.
pub(crate) fn read_signal(signals: &OwnedFd) -> Option<i32> {
    let mut facts = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut facts).ok()?;
    // The number is the first field.
    facts.first_chunk().map(|number| i32::from_ne_bytes(*number))
}

/// Supplementary groups the process at the other end of a unix socket had when it connected.
pub(crate) fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    const MOST: usize = 65536;
    let mut groups = vec![0u32; 64];
    loop {
        let mut length =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes to `groups`, which outlives the call, and the length it
        // wrote or needs to `length`. No safe crate of ours has this option.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        match check(result) {
            Ok(()) => {
                groups.truncate(needed);
                return Ok(groups);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && needed <= MOST => {
                groups.resize(needed, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs `work` in the named network namespace (`/run/netns/NAME`), in a thread of its own so that no other code
/// sees the change; without a name, in this thread's.
pub(crate) fn in_netns<T: Send>(
    netns: Option<&str>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(name) = netns else {
        return work();
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name of a network namespace"));
    }
    let file = std::fs::File::open(format!("/run/netns/{name}"))?;
    let run = move || {
        privilege::with(CapabilitySet::SYS_ADMIN, || {
            Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
        })?;
        work()
    };
    std::thread::scope(|scope| {
        scope.spawn(run).join().unwrap_or_else(|_| Err(io::Error::other("the namespace's thread failed")))
    })
}

/// Starts a program as process 1 of a process namespace of its own, or beside the others where that cannot be made.
///
/// Asking for the namespace changes what children of a thread are born into, so a thread of its own asks.
pub(crate) fn spawn_apart(command: &mut Command) -> io::Result<Child> {
    let mut run = || {
        let asked = privilege::with(CapabilitySet::SYS_ADMIN, || {
            // SAFETY: CLONE_NEWPID leaves memory and the descriptor table as they are; the wrapper is unsafe for
            // CLONE_FILES. No safe one is left.
            Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?)
        });
        if let Err(error) = asked {
            tracing::debug!("no process namespace: {error}");
        }
        command.spawn()
    };
    std::thread::scope(|scope| {
        scope.spawn(&mut run).join().unwrap_or_else(|_| Err(io::Error::other("the starting thread failed")))
    })
}

/// Gives up every capability this process does not need; DESIGN.md has the reason for each that stays.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let effective = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    let permitted = effective
        | CapabilitySet::SYS_ADMIN
        | CapabilitySet::BPF
        | CapabilitySet::SYS_PTRACE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::SETPCAP
        | CapabilitySet::KILL;
    privilege::limit(&Kept { effective, permitted, bounding: permitted })?;
    // What is started from here gets what is permitted here and no more, whoever owns its file.
    Ok(rustix::thread::set_no_new_privs(true)?)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
