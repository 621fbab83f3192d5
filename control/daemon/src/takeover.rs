//! What a datapath that is taken over gives back, checked before control holds it as its own.

use std::io;
use std::os::fd::OwnedFd;

use pontoon_proto::message::PortKind;

use crate::cables::Cable;
use crate::live::{Guest, Kind, LiveNetwork};
use crate::state::{Held, State};
use crate::{cables, netlink, sockets, sys};

impl State {
    /// Holds the descriptors that belong to what is active. Others are closed; a port without any is made anew if
    /// the datapath dies.
    pub(crate) fn adopt(&mut self, handed: Vec<(u16, Held)>) {
        for (port, held) in handed {
            match self.is_its_device(port, &held) {
                Ok(true) => drop(self.held.insert(port, held)),
                Ok(false) => tracing::warn!("port {port}: the datapath gave back something else"),
                Err(error) => {
                    tracing::warn!("port {port}: what the datapath gave back cannot be checked: {error}");
                }
            }
        }
        for port in self.live.ports() {
            if !self.held.contains_key(&port) && !self.failed.contains(&port) {
                tracing::warn!("port {port}: no descriptors; its device goes with the datapath");
            }
        }
    }

    fn is_its_device(&self, port: u16, held: &Held) -> io::Result<bool> {
        let whole = held.fds.len() == usize::from(self.workers);
        let uplink = self.live.uplinks.iter().find(|uplink| uplink.port == port);
        if let Some(uplink) = uplink.filter(|uplink| uplink.kind == Kind::Direct) {
            let index = sys::in_netns(uplink.netns.as_deref(), || netlink::index(&uplink.dev))?;
            let bound = held.fds.iter().map(sys::packet_interface).collect::<io::Result<Vec<_>>>()?;
            return Ok(whole
                && held.kind == PortKind::Packet
                && bound.iter().all(|bound| Some(*bound) == index));
        }
        if uplink.is_some_and(|uplink| uplink.kind == Kind::User) {
            let [fd] = held.fds.as_slice() else { return Ok(false) };
            return Ok(held.kind == PortKind::Packet && sockets::is_end(fd)?);
        }
        let guest = self.live.guests.iter().find(|guest| guest.port == port);
        if let Some(guest) = guest.filter(|guest| !guest.details.cable.is_own_device()) {
            return is_cable(guest, &held.fds, held.kind, whole);
        }
        let host = self.live.networks.iter().find(|live| live.port == port);
        let name = host
            .map(LiveNetwork::device)
            .or_else(|| guest.map(|guest| guest.ifname.as_str()))
            .or_else(|| uplink.map(|uplink| uplink.dev.as_str()));
        let names = held.fds.iter().map(sys::tap_name).collect::<io::Result<Vec<_>>>()?;
        Ok(whole && held.kind == PortKind::Tap && names.iter().all(|found| Some(found.as_str()) == name))
    }
}

/// Whether descriptors are what a guest's interface hangs on.
fn is_cable(guest: &Guest, fds: &[OwnedFd], kind: PortKind, whole: bool) -> io::Result<bool> {
    match (&guest.details.cable, fds) {
        (Cable::Client { .. } | Cable::Stream { .. }, [fd]) => {
            Ok(kind == PortKind::Stream && cables::is_socket(fd, kind)?)
        }
        (Cable::VhostUser { .. }, [fd]) => Ok(kind == PortKind::VhostUser && cables::is_socket(fd, kind)?),
        (Cable::Dgram { .. }, [fd]) => Ok(kind == PortKind::Dgram && cables::is_socket(fd, kind)?),
        (Cable::Adopt | Cable::Handed { .. }, fds) => {
            let link = sys::in_netns(guest.netns.as_deref(), || netlink::link(&guest.ifname))?;
            let index = link.map(|link| link.index);
            let bound = fds.iter().map(sys::packet_interface).collect::<io::Result<Vec<_>>>()?;
            Ok(whole && kind == PortKind::Packet && bound.iter().all(|bound| Some(*bound) == index))
        }
        _ => Ok(false),
    }
}
