//! Uplinks by ordinary sockets (`kind='user'`): a process without privilege has them, at the other end of a unix socket
//! that is the datapath's port.
//!
//! That process lives as long as somebody holds this end: control and the datapath both do, so it outlives either. When it
//! dies the port fails, and is opened again, which starts the next.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use ipnet::Ipv4Net;
use pontoon_netxml::Network;
use pontoon_proto::message::PortKind;
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::defaults::mac_of;
use crate::document;
use crate::failure::{Answer, internal, operation};
use crate::live::{Kind, LiveUplink};
use crate::state::{Held, State};

/// Both ends of the link between NAT and the sockets: out of 192.0.0.0/29, which is for such links (RFC 7335).
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const NAT: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
const PREFIX: u8 = 29;
/// Octets that wait in one direction: super-frames of some connections.
const BUFFER: usize = 8 << 20;

impl State {
    /// A new uplink by sockets; every network has its own.
    pub(crate) fn use_sockets(&mut self, network: &Network) -> Answer<u16> {
        let id = self.live.new_uplink().ok_or_else(|| operation("no uplink id is left"))?;
        let port = self.new_port()?;
        self.open_uplink(LiveUplink {
            id,
            port,
            kind: Kind::User,
            // No interface can have this name.
            dev: format!("user:{id}"),
            netns: None,
            mac: mac_of(network.uuid.unwrap_or_default()),
            address: Ipv4Net::new(NAT, PREFIX).ok(),
            gateway: Some(GATEWAY),
            mtu: document::mtu(network),
            over: None,
            target: None,
            host: Vec::new(),
        })
    }
}

/// Starts the process; the port is this end of the socket to it.
pub(crate) fn open(uplink: &LiveUplink) -> Answer<Held> {
    let failed =
        |error| internal(format!("the process with the sockets of uplink '{}': {error}", uplink.dev));
    let (ours, theirs) = pair().map_err(failed)?;
    let child = spawn(uplink, &theirs).map_err(failed)?;
    tracing::info!("sockets of {}: pid {}", uplink.dev, child.id());
    bury(child, uplink.dev.clone());
    Ok(Held { kind: PortKind::Packet, fds: vec![ours] })
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (ours, theirs) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    for end in [&ours, &theirs] {
        if sockopt::set_socket_send_buffer_size_force(end, BUFFER).is_err() {
            // As much as anybody may.
            sockopt::set_socket_send_buffer_size(end, BUFFER)?;
        }
    }
    Ok((ours, theirs))
}

fn spawn(uplink: &LiveUplink, end: &OwnedFd) -> io::Result<Child> {
    rustix::io::fcntl_setfd(end, FdFlags::empty())?;
    Command::new("/proc/self/exe")
        .arg("user-uplink")
        .args(["--fd", &end.as_raw_fd().to_string()])
        .args(["--gateway", &GATEWAY.to_string()])
        .args(["--mtu", &uplink.mtu.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Waits for its end, so that it does not stay as a zombie.
fn bury(mut child: Child, dev: String) {
    std::thread::spawn(move || match child.wait() {
        Ok(status) => tracing::info!("the process with the sockets of {dev} has ended: {status}"),
        Err(error) => tracing::warn!("the process with the sockets of {dev}: {error}"),
    });
}

/// Whether a descriptor can be an end that [`open`] made.
pub(crate) fn is_end(fd: &OwnedFd) -> io::Result<bool> {
    Ok(sockopt::socket_domain(fd)? == AddressFamily::UNIX
        && sockopt::socket_type(fd)? == SocketType::SEQPACKET)
}
