//! The host's resolvers: read from resolv.conf, followed as it changes, reached through sockets made here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// glibc's MAXNS.
const MAX_RESOLVERS: usize = 3;
/// Connected sockets of each resolver: as many unpredictable source ports.
pub(crate) const SOCKETS_EACH: u16 = 32;
const DNS_PORT: u16 = 53;
/// A resolver that takes longer is as good as down.
const TCP_TIMEOUT: Duration = Duration::from_secs(3);

/// resolv.conf as it was last read.
pub(crate) struct Resolvers {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    servers: Vec<Ipv4Addr>,
}

impl Resolvers {
    pub(crate) fn read(path: &Path) -> Self {
        let mut resolvers = Self { path: path.to_owned(), seen: None, servers: Vec::new() };
        resolvers.changed();
        resolvers
    }

    /// Reads the file again when it was touched or replaced; true when the servers differ from before.
    pub(crate) fn changed(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if stamp.is_some() && stamp == self.seen {
            return false;
        }
        self.seen = stamp;
        let servers = parse(&std::fs::read(&self.path).unwrap_or_default());
        let differ = servers != self.servers;
        self.servers = servers;
        differ
    }

    pub(crate) fn servers(&self) -> &[Ipv4Addr] {
        &self.servers
    }

    /// Fresh connected sockets, grouped by resolver.
    pub(crate) fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = Vec::new();
        for server in &self.servers {
            for _ in 0..SOCKETS_EACH {
                sockets.push(udp(*server)?.into());
            }
        }
        Ok(sockets)
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.ino()))
}

/// Connecting a UDP socket fails when there is no route yet; unconnected it would take answers from anybody, so
/// then it is connected to nowhere and stays silent until resolv.conf changes.
fn udp(server: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    if let Err(error) = socket.connect((server, DNS_PORT)) {
        tracing::warn!("resolver {server} cannot be reached: {error}");
        socket.connect((Ipv4Addr::LOCALHOST, 9))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Connects to a resolver by TCP, blocking at most some seconds: for a thread of its own.
pub(crate) fn tcp(server: Ipv4Addr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((server, DNS_PORT)), TCP_TIMEOUT)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn parse(bytes: &[u8]) -> Vec<Ipv4Addr> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
        })
        .take(MAX_RESOLVERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_ipv4_servers_count() {
        let text = b"# x\nnameserver ::1\nnameserver\t10.0.0.1\n nameserver 10.0.0.2 #y\nsearch a\n;nameserver 9.9.9.9\n\
            nameserver 10.0.0.3\nnameserver 10.0.0.4\nnameserver fe80::1%eth0\n\xff\xfe";
        let expected: Vec<Ipv4Addr> = (1..=3).map(|last| Ipv4Addr::new(10, 0, 0, last)).collect();
        assert_eq!(parse(text), expected);
        assert_eq!(parse(b""), Vec::<Ipv4Addr>::new());
    }

    #[test]
    fn a_replaced_file_is_noticed() {
        let path = std::env::temp_dir().join(format!("pontoon-resolv-{}", std::process::id()));
        std::fs::write(&path, "nameserver 127.0.0.1\n").expect("write");
        let mut resolvers = Resolvers::read(&path);
        assert!(!resolvers.changed());
        let other = path.with_extension("new");
        std::fs::write(&other, "nameserver 127.0.0.2\n").expect("write");
        std::fs::rename(&other, &path).expect("rename");
        assert!(resolvers.changed());
        assert_eq!(resolvers.servers(), [Ipv4Addr::new(127, 0, 0, 2)]);
        assert_eq!(resolvers.sockets().expect("sockets").len(), 32);
        std::fs::remove_file(&path).expect("remove");
    }
}
