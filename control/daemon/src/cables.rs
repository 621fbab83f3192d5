//! What an interface of a guest hangs on: a device of our own, a socket, or somebody else's device.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pontoon_proto::api;
use pontoon_proto::message::PortKind;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::failure::{Answer, fail, fail_help};
use crate::state::Held;

/// Bytes that may wait in a socket; the default of about 200 KB holds 90 frames.
const BUFFER: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum Cable {
    /// A tap that is made for it.
    #[default]
    Tap,
    /// Somebody's connection to the network's socket. It goes with the connection.
    Client { peer: String },
    /// A connection to a QEMU that listens; made anew when it ends.
    Stream { socket: PathBuf },
    /// Datagrams between a socket of ours and the peer's. Without a peer it is whoever sends the first.
    Dgram { socket: PathBuf, peer: Option<PathBuf> },
    /// vhost-user: a front-end that listens, or comes to a socket of ours.
    VhostUser { socket: PathBuf, listens: bool },
    /// A device that is there and whose other side somebody else holds.
    Adopt,
    /// A tap that is made for somebody else, who gets its descriptor and holds the other side from then on.
    Handed { vnet_header: bool },
}

impl Cable {
    /// As a request says it.
    pub(crate) fn wanted(cable: &api::Cable, target: Option<&str>) -> Answer<Self> {
        let path = |what: &str, path: &Option<String>| {
            let path = path.as_deref().ok_or_else(|| {
                fail(format!("invalid argument: an interface of kind {} needs {what}", cable.kind))
            })?;
            usable(path)
        };
        let needless = |given: bool, what: &str| match given {
            true => Err(fail(format!("invalid argument: kind {} has no {what}", cable.kind))),
            false => Ok(()),
        };
        if cable.kind != "vhostuser" {
            needless(cable.mode.is_some(), "mode")?;
        }
        match cable.kind.as_str() {
            "vhostuser" => {
                needless(cable.peer.is_some(), "peer")?;
                let listens = match cable.mode.as_deref() {
                    None | Some("server") => true,
                    Some("client") => false,
                    Some(other) => {
                        return Err(fail_help(
                            format!("invalid argument: unknown mode '{other}'"),
                            "server: pontoon listens and QEMU connects; client: QEMU listens",
                        ));
                    }
                };
                Ok(Self::VhostUser { socket: path("a socket", &cable.socket)?, listens })
            }
            "tap" | "adopt" => {
                needless(cable.socket.is_some(), "socket")?;
                needless(cable.peer.is_some(), "peer")?;
                match (cable.kind.as_str(), target) {
                    ("tap", _) => Ok(Self::Tap),
                    (_, Some(name)) if !name.contains('%') => Ok(Self::Adopt),
                    _ => Err(fail_help(
                        "invalid argument: an interface of kind adopt needs a target",
                        "--target names the device that is there already",
                    )),
                }
            }
            "handed" | "handed-vnet" => {
                needless(cable.socket.is_some() || cable.peer.is_some(), "socket")?;
                Ok(Self::Handed { vnet_header: cable.kind == "handed-vnet" })
            }
            "stream" => {
                needless(cable.peer.is_some(), "peer")?;
                Ok(Self::Stream { socket: path("a socket", &cable.socket)? })
            }
            "dgram" => Ok(Self::Dgram {
                socket: path("a socket", &cable.socket)?,
                peer: cable.peer.as_deref().map(usable).transpose()?,
            }),
            other => Err(fail_help(
                format!("invalid argument: unknown kind of interface '{other}'"),
                "it is tap, stream, dgram, vhostuser or adopt",
            )),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Client { .. } | Self::Stream { .. } => "stream",
            Self::Dgram { .. } => "dgram",
            Self::VhostUser { .. } => "vhostuser",
            Self::Adopt | Self::Handed { .. } => "adopt",
        }
    }

    /// Who is at the other end, as far as it has a name.
    pub(crate) fn peer(&self) -> Option<String> {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        match self {
            Self::Client { peer } => Some(peer.clone()),
            Self::Stream { socket } | Self::VhostUser { socket, .. } => Some(shown(socket)),
            Self::Dgram { peer, .. } => peer.as_deref().map(shown),
            Self::Tap | Self::Adopt | Self::Handed { .. } => None,
        }
    }

    /// The other side of its device is somebody else's.
    pub(crate) fn is_adopted(&self) -> bool {
        matches!(self, Self::Adopt | Self::Handed { .. })
    }

    /// The interface is a device that goes when it is unplugged.
    pub(crate) fn is_own_device(&self) -> bool {
        *self == Self::Tap
    }

    /// The other side may go and come back, and the interface waits for it.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Stream { .. } | Self::Dgram { .. } | Self::VhostUser { .. })
    }

    /// The socket of a peer that is away has no number.
    pub(crate) fn peer_inode(&self) -> Option<u64> {
        match self {
            Self::Dgram { peer: Some(peer), .. } => std::fs::metadata(peer).ok().map(|data| data.ino()),
            _ => None,
        }
    }

    /// Opens what is a socket; `None` for devices.
    pub(crate) fn open_socket(&self) -> Option<io::Result<Held>> {
        match self {
            Self::Stream { socket } => Some(connect(socket).map(|fd| held(PortKind::Stream, fd))),
            Self::Dgram { socket, peer: Some(peer) } => {
                let open = || {
                    let fd = bound(socket)?;
                    rustix::net::connect(&fd, &SocketAddrUnix::new(peer)?)?;
                    Ok(held(PortKind::Dgram, fd))
                };
                Some(open())
            }
            Self::VhostUser { socket, listens: false } => {
                Some(connect(socket).map(|fd| held(PortKind::VhostUser, fd)))
            }
            // It comes by the door.
            Self::VhostUser { listens: true, .. } => Some(Err(io::ErrorKind::NotFound.into())),
            // The first datagram says who the peer is.
            Self::Dgram { peer: None, .. } => Some(Err(io::ErrorKind::NotFound.into())),
            Self::Client { .. } => Some(Err(io::ErrorKind::NotConnected.into())),
            Self::Tap | Self::Adopt | Self::Handed { .. } => None,
        }
    }

    /// Whoever is at the other end comes by itself, or is there again later.
    pub(crate) fn waits_for_peer(&self) -> bool {
        matches!(
            self,
            Self::Stream { .. } | Self::Dgram { .. } | Self::VhostUser { .. } | Self::Client { .. }
        )
    }

    /// Removes what is left of a socket of ours.
    pub(crate) fn tidy(&self) {
        if let Self::Dgram { socket, .. } | Self::VhostUser { socket, listens: true } = self {
            let _ = remove_socket(socket);
        }
    }
}

fn usable(path: &str) -> Answer<PathBuf> {
    match (path.starts_with('/'), SocketAddrUnix::new(path)) {
        (true, Ok(_)) => Ok(path.into()),
        (false, _) => Err(fail(format!("invalid argument: the path of a socket is absolute, not '{path}'"))),
        (true, Err(_)) => Err(fail_help(
            format!("invalid argument: '{path}' cannot be the path of a socket"),
            "the kernel takes at most 108 bytes",
        )),
    }
}

pub(crate) fn held(kind: PortKind, fd: OwnedFd) -> Held {
    // Beyond what the system allows only with CAP_NET_ADMIN of the first user namespace.
    if sockopt::set_socket_send_buffer_size_force(&fd, BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(&fd, BUFFER);
    }
    if sockopt::set_socket_recv_buffer_size_force(&fd, BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&fd, BUFFER);
    }
    Held { kind, fds: vec![fd] }
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

fn connect(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::STREAM)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

/// A datagram socket bound to `path`, in place of one that is left there. Whoever reaches the path may send: the kernel
/// refuses all but the peer once it is connected.
pub(crate) fn bound(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::DGRAM)?;
    remove_socket(path)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(fd)
}

/// A socket that listens at `path`, in place of one that is left there.
pub(crate) fn listening(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::STREAM)?;
    remove_socket(path)?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    rustix::net::listen(&fd, 64)?;
    Ok(fd)
}

pub(crate) fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(data) if data.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a descriptor the datapath gave back is a socket of this kind.
pub(crate) fn is_socket(fd: &OwnedFd, kind: PortKind) -> io::Result<bool> {
    let wanted = match kind {
        PortKind::Stream | PortKind::VhostUser => SocketType::STREAM,
        PortKind::Dgram => SocketType::DGRAM,
        _ => return Ok(false),
    };
    Ok(sockopt::socket_domain(fd)? == AddressFamily::UNIX && sockopt::socket_type(fd)? == wanted)
}

pub(crate) fn socket_failure(cable: &Cable, error: &io::Error) -> api::Failure {
    let place = match cable {
        Cable::Stream { socket } | Cable::Dgram { socket, .. } | Cable::VhostUser { socket, .. } => {
            socket.display().to_string()
        }
        _ => String::new(),
    };
    let message = format!("internal error: socket '{place}' cannot be used: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => fail_help(
            message,
            "the daemon gave up root's right to pass over file modes: its user has to be allowed to write there",
        ),
        io::ErrorKind::AlreadyExists => fail_help(message, "something that is no socket has this name"),
        _ => fail(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(kind: &str, socket: Option<&str>, peer: Option<&str>, target: Option<&str>) -> Answer<Cable> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Cable::wanted(
            &api::Cable { kind: kind.into(), socket: own(socket), peer: own(peer), mode: None },
            target,
        )
    }

    #[test]
    fn what_is_missing_or_needless_is_named() {
        let socket = Some("/run/a");
        assert_eq!(wanted("stream", socket, None, None).expect("ok").name(), "stream");
        assert_eq!(wanted("dgram", socket, Some("/b"), None).expect("ok").peer().as_deref(), Some("/b"));
        assert_eq!(wanted("adopt", None, None, Some("tap0")).expect("ok"), Cable::Adopt);
        for (kind, socket, peer, words) in [
            ("stream", None, None, "needs a socket"),
            ("stream", Some("a"), None, "is absolute"),
            ("stream", Some("/a"), Some("/b"), "has no peer"),
            ("tap", Some("/a"), None, "has no socket"),
            ("vhostuser", None, None, "needs a socket"),
            ("adopt", None, None, "needs a target"),
            ("carrier-pigeon", None, None, "unknown kind"),
        ] {
            let failure = wanted(kind, socket, peer, None).expect_err(kind);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
        let long = format!("/{}", "x".repeat(108));
        assert!(wanted("stream", Some(&long), None, None).expect_err("long").detail.is_some());
    }

    #[test]
    fn a_file_is_never_taken_for_a_socket_that_is_left() {
        let dir = crate::testing::scratch("cables");
        std::fs::create_dir_all(&dir).expect("directory");
        let path = dir.join("s");
        drop(listening(&path).expect("first"));
        drop(bound(&path).expect("in its place"));
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "a file").expect("write");
        assert_eq!(bound(&path).expect_err("refused").kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
        std::fs::remove_dir_all(&dir).expect("clean");
    }
}
