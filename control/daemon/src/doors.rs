//! One listening socket a network: who connects to it has an interface on the network, for as long as the connection
//! lasts. Control accepts and hands the connection over, so that the datapath still opens nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pontoon_proto::event::PortChange;
use pontoon_proto::message::PortKind;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, sockopt};
use uuid::Uuid;

use crate::cables::{self, Cable};
use crate::defaults::first_free;
use crate::failure::Answer;
use crate::guests::Details;
use crate::live::{Guest, Live};
use crate::netlink;
use crate::state::State;
use crate::watch;

/// Connections of one network.
const MOST: usize = 512;
/// Accepted with one change of what runs.
const AT_ONCE: usize = 32;

/// Somebody is at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    /// The socket of a network.
    Network(u16),
    /// A datagram socket whose peer is not known yet, or one where a front-end of vhost-user is waited for.
    Port(u16),
}

#[derive(Default)]
pub(crate) struct Doors {
    /// Where the sockets are, and what wakes when somebody comes. Without it there are none.
    place: Option<(PathBuf, Registry)>,
    open: BTreeMap<Door, (PathBuf, OwnedFd)>,
}

impl Doors {
    pub(crate) fn new(dir: PathBuf, registry: Registry) -> Self {
        Self { place: Some((dir, registry)), open: BTreeMap::new() }
    }

    pub(crate) fn path(&self, network: &str) -> Option<PathBuf> {
        self.place.as_ref().map(|(dir, _)| dir.join(format!("{network}.stream")))
    }

    /// Opens the doors there should be and closes all others.
    pub(crate) fn keep(&mut self, live: &Live, waiting: impl Fn(u16) -> bool) {
        // Where, and whether there are connections to take.
        let mut wanted: BTreeMap<Door, (PathBuf, bool)> = BTreeMap::new();
        for net in &live.networks {
            wanted.extend(self.path(&net.network.name).map(|path| (Door::Network(net.id), (path, true))));
        }
        for guest in live.guests.iter().filter(|guest| waiting(guest.port)) {
            let door = match &guest.details.cable {
                Cable::Dgram { socket, peer: None } => (socket.clone(), false),
                Cable::VhostUser { socket, listens: true } => (socket.clone(), true),
                _ => continue,
            };
            wanted.insert(Door::Port(guest.port), door);
        }
        let gone = self
            .open
            .extract_if(.., |door, (path, _)| wanted.get(door).map(|(place, _)| place) != Some(path));
        for (door, (path, fd)) in gone {
            if let Some((_, registry)) = &self.place {
                let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
            }
            if matches!(door, Door::Network(_)) {
                let _ = cables::remove_socket(&path);
            }
        }
        for (door, (path, listens)) in wanted {
            if !self.open.contains_key(&door)
                && let Err(error) = self.open_door(door, &path, listens)
            {
                tracing::warn!("nobody can plug in at {}: {error}", path.display());
            }
        }
    }

    fn open_door(&mut self, door: Door, path: &Path, listens: bool) -> std::io::Result<()> {
        let Some((_, registry)) = &self.place else { return Ok(()) };
        let fd = if listens { cables::listening(path)? } else { cables::bound(path)? };
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token(door), Interest::READABLE)?;
        self.open.insert(door, (path.to_owned(), fd));
        Ok(())
    }
}

fn token(door: Door) -> Token {
    match door {
        Door::Network(id) => Token(watch::DOORS + 2 * usize::from(id)),
        Door::Port(id) => Token(watch::DOORS + 2 * usize::from(id) + 1),
    }
}

pub(crate) fn of_token(token: Token) -> Option<Door> {
    let number = token.0.checked_sub(watch::DOORS)?;
    let id = u16::try_from(number / 2).ok()?;
    Some(if number % 2 == 0 { Door::Network(id) } else { Door::Port(id) })
}

impl State {
    /// Lets in who is at a door; true when more may be there.
    pub(crate) fn answer_door(&mut self, door: Door) -> bool {
        let result = match door {
            Door::Network(network) => self.admit(network),
            Door::Port(port) => self.meet(port).map(|()| false),
        };
        result.unwrap_or_else(|failure| {
            tracing::error!("{}", failure.message);
            false
        })
    }

    fn admit(&mut self, network: u16) -> Answer<bool> {
        let mut fresh = Vec::new();
        let mut more = true;
        while more && fresh.len() < AT_ONCE {
            let Some((_, listener)) = self.doors.open.get(&Door::Network(network)) else { return Ok(false) };
            match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => fresh.push(fd),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    if error != Errno::AGAIN {
                        tracing::error!("accepting a connection: {error}");
                    }
                    more = false;
                }
            }
        }
        let clients =
            |guest: &&Guest| guest.network == network && matches!(guest.details.cable, Cable::Client { .. });
        let room = MOST.saturating_sub(self.live.guests.iter().filter(clients).count());
        if fresh.len() > room {
            tracing::warn!("a network has {MOST} connections; {} more were closed", fresh.len() - room);
            fresh.truncate(room);
        }
        if !fresh.is_empty() {
            self.plug_in(network, fresh)?;
        }
        Ok(more)
    }

    fn plug_in(&mut self, network: u16, connections: Vec<OwnedFd>) -> Answer<()> {
        let links = netlink::links().unwrap_or_default();
        let plugged = self.change(|state| {
            let mut plugged = Vec::new();
            for fd in connections {
                let guests = &state.live.guests;
                let taken = |name: &str| {
                    links.iter().any(|link| link.name == name) || guests.iter().any(|g| g.ifname == name)
                };
                let ifname = first_free("vnet%d", taken)?;
                let caller = caller(&fd, guests);
                let guest = Guest { network, ifname, port: state.new_port()?, ..caller };
                state.live.guests.push(guest.clone());
                state.attach(guest.port, cables::held(PortKind::Stream, fd))?;
                plugged.push(guest);
            }
            Ok(plugged)
        })?;
        for guest in plugged {
            tracing::info!("{} has plugged in as {}", guest.domain, guest.ifname);
            self.report_port(&guest, PortChange::Plugged);
        }
        Ok(())
    }

    /// Takes who sent the first datagram, or has connected, as the peer of a port.
    fn meet(&mut self, port: u16) -> Answer<()> {
        let guest = self.live.guests.iter().find(|guest| guest.port == port);
        if guest.is_some_and(|guest| matches!(guest.details.cable, Cable::VhostUser { .. })) {
            return self.let_in(port);
        }
        let Some((_, socket)) = self.doors.open.get(&Door::Port(port)) else { return Ok(()) };
        let mut greeting = [0; 2048];
        // A hand-shake ("VFKT") or a frame: either is only a sign of life.
        let found = rustix::net::recvfrom(socket, &mut greeting, RecvFlags::DONTWAIT);
        let Ok((_, _, Some(from))) = found else { return Ok(()) };
        if let Err(error) = rustix::net::connect(socket, &from) {
            tracing::warn!("port {port}: a peer without an address of its own cannot be answered: {error}");
            return Ok(());
        }
        let Some((_, socket)) = self.doors.open.remove(&Door::Port(port)) else { return Ok(()) };
        if let Some((_, registry)) = &self.doors.place {
            let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
        self.attach(port, cables::held(PortKind::Dgram, socket))?;
        self.apply()
    }

    /// One front-end at a time: the next is let in when this one has gone.
    fn let_in(&mut self, port: u16) -> Answer<()> {
        let Some((_, listener)) = self.doors.open.get(&Door::Port(port)) else { return Ok(()) };
        let Ok(fd) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
            return Ok(());
        };
        self.attach(port, cables::held(PortKind::VhostUser, fd))?;
        self.apply()
    }

    /// Learns from the datapath what addresses guests have of whom it was not said.
    pub(crate) fn learn_addresses(&mut self) {
        let unknown = |guest: &Guest| guest.mac == [0; 6];
        if !self.live.guests.iter().any(unknown) {
            return;
        }
        let Ok(link) = self.link() else { return };
        link.drain();
        let Ok(status) = link.status() else { return };
        let mut learned = false;
        for guest in self.live.guests.iter_mut().filter(|guest| unknown(guest)) {
            if let Some(entry) = status.macs.iter().find(|entry| entry.port == guest.port) {
                guest.mac = entry.mac;
                learned = true;
            }
        }
        if learned {
            self.write_note();
        }
    }

    /// Something of what is plugged in has to be looked at every second.
    pub(crate) fn is_watchful(&self) -> bool {
        let watched = |guest: &Guest| guest.mac == [0; 6] || guest.details.cable.peer_inode().is_some();
        self.live.guests.iter().any(watched)
    }

    /// Looks whether peers of datagram sockets were replaced: a socket stays connected to the one that went.
    pub(crate) fn follow_peers(&mut self) {
        let replaced = |guest: &&Guest| {
            let inode = guest.details.cable.peer_inode();
            inode.is_some() && inode != guest.details.peer_inode && !self.failed.contains(&guest.port)
        };
        let ports: Vec<u16> = self.live.guests.iter().filter(replaced).map(|guest| guest.port).collect();
        for port in ports {
            self.port_failed(port, "its peer was replaced");
        }
    }
}

/// Who has connected: QEMU says the guest's name on its command line.
fn caller(fd: &OwnedFd, guests: &[Guest]) -> Guest {
    let pid = sockopt::socket_peercred(fd).map(|peer| peer.pid.as_raw_nonzero().get()).ok();
    let line = pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok()).unwrap_or_default();
    let pid = pid.map_or_else(|| "pid-0".to_owned(), |pid| format!("pid-{pid}"));
    let domain = guest_name(&line).unwrap_or_else(|| pid.clone());
    let known = guests.iter().find(|guest| guest.domain == domain);
    let owner = known.map_or_else(|| Uuid::new_v4().to_string(), |guest| guest.details.owner.clone());
    let details = Details {
        uuid: Uuid::new_v4().to_string(),
        owner,
        kind: "network".to_owned(),
        cable: Cable::Client { peer: pid },
        ..Details::default()
    };
    Guest { domain, details, ..Guest::default() }
}

/// The value of `-name`, which is `NAME,...` or `guest=NAME,...`.
pub(crate) fn guest_name(line: &[u8]) -> Option<String> {
    let mut words = line.split(|byte| *byte == 0);
    words.find(|word| matches!(*word, b"-name" | b"--name"))?;
    let value = std::str::from_utf8(words.next()?).ok()?;
    let mut parts = value.split(',');
    let plain = parts.clone().next().filter(|part| !part.contains('='));
    let name = parts.find_map(|part| part.strip_prefix("guest=")).or(plain)?;
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.+:".contains(c);
    (!name.is_empty() && name.len() <= 64 && name.chars().all(sound)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_s_name_is_read_from_qemu_s_command_line() {
        let of = |words: &[&str]| guest_name(words.join("\0").as_bytes());
        assert_eq!(of(&["qemu", "-name", "node-2", "-m", "1"]).as_deref(), Some("node-2"));
        let libvirt = ["qemu", "-name", "guest=node-1,debug-threads=on"];
        assert_eq!(of(&libvirt).as_deref(), Some("node-1"));
        assert_eq!(of(&["qemu", "-name", "debug-threads=on"]), None);
        assert_eq!(of(&["qemu", "-name", "a\x1b[31m"]), None);
        assert_eq!(of(&["qemu", "-name"]), None);
    }

    #[test]
    fn tokens_of_doors_differ() {
        for door in [Door::Network(0), Door::Port(0), Door::Network(4095), Door::Port(4095)] {
            assert_eq!(of_token(token(door)), Some(door));
        }
        assert_eq!(of_token(Token(3)), None);
    }
}
