//! The resolvers that are asked: those of the host, read from resolv.conf and followed as it changes, and those that
//! networks name. All are reached through sockets made here.
//!
//! A resolver keeps its place in the list while it is wanted, and a place that became free is given to another only
//! after the datapath has heard of it: a query can never reach a resolver it was not meant for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// glibc's MAXNS.
const MAX_HOST: usize = 3;
/// Of the host and all networks together; those beyond are not asked.
const MAX_RESOLVERS: usize = 64;
/// Connected sockets of each resolver: as many unpredictable source ports.
pub(crate) const SOCKETS_EACH: u16 = 32;
pub(crate) const DNS_PORT: u16 = 53;
/// A resolver that takes longer is as good as down.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);

/// A place in the list.
struct Place {
    /// `None` while nobody has it.
    server: Option<SocketAddr>,
    /// This host's address on the way there when the sockets were made; `None` without a way.
    local: Option<IpAddr>,
    sockets: Vec<OwnedFd>,
    /// Tells these sockets from others at the same place.
    epoch: u32,
}

pub(crate) struct Resolvers {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    /// resolv.conf as it was last read.
    host: Vec<SocketAddr>,
    places: Vec<Place>,
    next_epoch: u32,
    /// The datapath has not run with these sockets yet.
    unsent: bool,
}

impl Resolvers {
    pub(crate) fn read(path: &Path) -> Self {
        let mut resolvers = Self { path: path.to_owned(), ..Self::of(&[]) };
        resolvers.reread();
        resolvers
    }

    /// Follows no file.
    pub(crate) fn of(host: &[SocketAddr]) -> Self {
        // Another control may have counted before.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        let (next_epoch, path) = (seconds as u32, PathBuf::new());
        Self { path, seen: None, host: host.to_vec(), places: Vec::new(), next_epoch, unsent: true }
    }

    /// The servers of resolv.conf.
    pub(crate) fn of_host(&self) -> &[SocketAddr] {
        &self.host
    }

    pub(crate) fn place(&self, server: SocketAddr) -> Option<u16> {
        let place = self.places.iter().position(|place| place.server == Some(server))?;
        u16::try_from(place).ok()
    }

    pub(crate) fn at(&self, place: u16) -> Option<SocketAddr> {
        self.places.get(usize::from(place))?.server
    }

    pub(crate) fn epochs(&self) -> Vec<u32> {
        self.places.iter().map(|place| place.epoch).collect()
    }

    /// All sockets, grouped by place.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.places.iter().flat_map(|place| &place.sockets)
    }

    pub(crate) fn unsent(&self) -> bool {
        self.unsent
    }

    pub(crate) fn sent(&mut self) {
        self.unsent = false;
    }

    /// A datapath that has no sockets yet has to get them.
    pub(crate) fn send_again(&mut self) {
        self.unsent = true;
    }

    /// Follows resolv.conf, and this host's own addresses: an address that went takes its sockets along. True when
    /// the datapath has to hear of it.
    pub(crate) fn follow(&mut self) -> bool {
        let differ = self.reread();
        for index in 0..self.places.len() {
            let Some(place) = self.places.get(index) else { break };
            let Some(server) = place.server else { continue };
            let local = local(server);
            if local.is_some() && local != place.local {
                tracing::info!("resolver {server} is reached from another address");
                self.open(index, Some(server));
            }
        }
        differ || self.unsent
    }

    fn reread(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if stamp.is_some() && stamp == self.seen {
            return false;
        }
        self.seen = stamp;
        let host = parse(&std::fs::read(&self.path).unwrap_or_default());
        let differ = host != self.host;
        if differ {
            tracing::info!("resolvers of the host: {host:?}");
        }
        self.host = host;
        differ
    }

    /// Makes sockets anew that are on ports others are to have from now on; returns the inodes of all there were.
    pub(crate) fn leave_ports(&mut self, (first, last): (u16, u16)) -> Vec<u64> {
        let inodes =
            self.sockets().filter_map(|socket| Some(rustix::fs::fstat(socket).ok()?.st_ino)).collect();
        for index in 0..self.places.len() {
            let Some(place) = self.places.get(index) else { break };
            let within = |socket: &OwnedFd| port(socket).is_some_and(|port| (first..=last).contains(&port));
            if place.sockets.iter().any(within) {
                self.open(index, place.server);
            }
        }
        inodes
    }

    /// Gives a place to each of `wanted`, and takes them from others.
    pub(crate) fn arrange(&mut self, wanted: &[SocketAddr]) {
        let free: Vec<usize> = (0..self.places.len())
            .filter(|index| self.places.get(*index).is_some_and(|place| place.server.is_none()))
            .collect();
        for index in 0..self.places.len() {
            let server = self.places.get(index).and_then(|place| place.server);
            if server.is_some_and(|server| !wanted.contains(&server)) {
                self.open(index, None);
            }
        }
        let mut free = free.into_iter();
        for server in wanted {
            if self.place(*server).is_some() {
                continue;
            }
            let index = free.next().unwrap_or(self.places.len());
            if index >= MAX_RESOLVERS {
                tracing::warn!("resolver {server} is not asked: {MAX_RESOLVERS} others are in use");
                continue;
            }
            self.open(index, Some(*server));
        }
    }

    /// Makes the sockets of a place anew, at most one behind the last.
    fn open(&mut self, index: usize, server: Option<SocketAddr>) {
        let local = server.and_then(local);
        if let (Some(server), None) = (server, local) {
            tracing::warn!("resolver {server} cannot be reached");
        }
        let sockets = (0..SOCKETS_EACH).map(|_| udp(server)).collect::<io::Result<Vec<_>>>();
        let sockets = match sockets {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::error!("sockets for a resolver: {error}");
                return;
            }
        };
        self.next_epoch = self.next_epoch.wrapping_add(1);
        self.unsent = true;
        let place = Place { server, local, sockets, epoch: self.next_epoch };
        match self.places.get_mut(index) {
            Some(old) => *old = place,
            None => self.places.push(place),
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.ino()))
}

/// The port a socket is on.
fn port(socket: &OwnedFd) -> Option<u16> {
    Some(SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?.port())
}

/// The address this host reaches a server from; nothing is sent.
fn local(server: SocketAddr) -> Option<IpAddr> {
    Some(connected(server).ok()?.local_addr().ok()?.ip())
}

/// Without a route a socket cannot be connected, and an unconnected one would take answers from anybody: then it is
/// left without a port, silent.
fn udp(server: Option<SocketAddr>) -> io::Result<OwnedFd> {
    if let Some(Ok(socket)) = server.map(connected) {
        socket.set_nonblocking(true)?;
        return Ok(socket.into());
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?)
}

fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

/// Connects to a resolver by TCP, blocking at most some seconds: for a thread of its own.
pub(crate) fn tcp(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, TCP_TIMEOUT)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Link-local servers, which need an interface named, are left out.
fn parse(bytes: &[u8]) -> Vec<SocketAddr> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let server = (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok());
            Some(SocketAddr::new(server.flatten()?, DNS_PORT))
        })
        .take(MAX_HOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(last: u8) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), DNS_PORT)
    }

    #[test]
    fn the_first_three_servers_count() {
        let text = b"# x\nnameserver ::1\nnameserver\t10.0.0.1\n nameserver 10.0.0.2 #y\nsearch a\n;nameserver 9.9.9.9\n\
            nameserver 10.0.0.3\nnameserver 10.0.0.4\nnameserver fe80::1%eth0\n\xff\xfe";
        let expected = ["[::1]:53", "10.0.0.1:53", "10.0.0.2:53"].map(|text| text.parse().expect("address"));
        assert_eq!(parse(text), expected);
        assert_eq!(parse(b"nameserver fe80::1%eth0\n"), []);
    }

    #[test]
    fn a_replaced_file_is_noticed() {
        let path = std::env::temp_dir().join(format!("pontoon-resolv-{}", std::process::id()));
        std::fs::write(&path, "nameserver 127.0.0.1\n").expect("write");
        let mut resolvers = Resolvers::read(&path);
        resolvers.arrange(&[server(1)]);
        resolvers.sent();
        assert!(!resolvers.follow());
        let other = path.with_extension("new");
        std::fs::write(&other, "nameserver 127.0.0.2\n").expect("write");
        std::fs::rename(&other, &path).expect("rename");
        assert!(resolvers.follow());
        assert_eq!(resolvers.of_host(), [server(2)]);
        std::fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn a_place_stays_with_its_server_and_is_not_given_away_at_once() {
        let mut resolvers = Resolvers::read(Path::new("/nonexistent"));
        resolvers.arrange(&[server(1), server(2)]);
        let before = resolvers.epochs();
        assert_eq!((resolvers.place(server(1)), resolvers.place(server(2))), (Some(0), Some(1)));
        resolvers.sent();
        resolvers.arrange(&[server(2), server(1)]);
        assert!(!resolvers.unsent() && resolvers.epochs() == before, "nothing changed");
        resolvers.arrange(&[server(2), server(3)]);
        assert_eq!((resolvers.place(server(2)), resolvers.place(server(3))), (Some(1), Some(2)));
        assert_eq!((resolvers.at(0), resolvers.epochs()[1]), (None, before[1]));
        assert_ne!(resolvers.epochs()[0], before[0]);
        resolvers.arrange(&[server(2), server(4)]);
        assert_eq!(resolvers.place(server(4)), Some(0), "free since the time before");
        assert_eq!(resolvers.sockets().count(), 3 * usize::from(SOCKETS_EACH));
        let many: Vec<_> = (1..=100).map(server).collect();
        resolvers.arrange(&many);
        assert_eq!(resolvers.epochs().len(), MAX_RESOLVERS);
    }
}
