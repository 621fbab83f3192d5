//! Devices of ports: the host's tap, uplinks, and the interfaces of guests.

use std::io;
use std::os::fd::OwnedFd;

use pontoon_proto::api::Failure;
use pontoon_proto::event::PortChange;
use pontoon_proto::message::PortKind;
use uuid::Uuid;

use crate::active::{netns_failure, tap_failure, vanish};
use crate::cables::{self, Cable};
use crate::defaults::{check_interface_name, first_free, parse_mac, random_mac};
use crate::document;
use crate::failure::{Answer, fail, fail_help, internal, invalid};
use crate::guests::Details;
use crate::live::{Guest, Kind, LiveNetwork, LiveUplink};
use crate::netlink::{self, Change};
use crate::segments;
use crate::sockets;
use crate::state::{Held, State};
use crate::sys::{self, HostStack, in_netns};

/// What `attach-interface` asks for.
pub(crate) struct Wanted {
    pub(crate) domain: String,
    pub(crate) source: String,
    pub(crate) target: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) netns: Option<String>,
    /// `kind` says what `source` names.
    pub(crate) details: Details,
}

impl State {
    /// Makes the device of a port, new or again.
    pub(crate) fn reopen(&self, port: u16) -> Answer<Held> {
        let queues = self.workers;
        if let Some(live) = self.live.networks.iter().find(|live| live.port == port) {
            return match &live.segment {
                Some(segment) => segments::open(live.bridge(), segment, queues),
                None => open_host(live, queues),
            };
        }
        if let Some(uplink) = self.live.uplinks.iter().find(|uplink| uplink.port == port) {
            return open_uplink(uplink, queues);
        }
        let guest = self.live.guests.iter().find(|guest| guest.port == port);
        let guest = guest.ok_or_else(|| internal(format!("no port {port}")))?;
        let cable = &guest.details.cable;
        if let Some(opened) = cable.open_socket() {
            return opened.map_err(|error| cables::socket_failure(cable, &error));
        }
        if cable.is_adopted() {
            return open_adopted(guest, queues);
        }
        let mtu = self.live.by_id(guest.network).map_or(1500, LiveNetwork::mtu);
        open_guest(guest, mtu, queues)
    }

    pub(crate) fn attach_interface(&mut self, wanted: Wanted) -> Answer<Guest> {
        let network = self.source(&wanted.details.kind, &wanted.source)?;
        // What somebody else's device has as an address is learned.
        let unsaid = || if wanted.details.cable.is_adopted() { [0; 6] } else { random_mac() };
        let mac = wanted.mac.as_deref().map_or_else(|| Ok(unsaid()), parse_mac)?;
        let netns = wanted.netns.as_deref();
        let links = in_netns(netns, netlink::links).map_err(|error| netns_failure(netns, &error))?;
        let guests = &self.live.guests;
        let taken = |name: &str| {
            links.iter().any(|link| link.name == name) || guests.iter().any(|guest| guest.ifname == name)
        };
        let adopts = wanted.details.cable == Cable::Adopt;
        let ifname = match &wanted.target {
            Some(name) if adopts => self.adoptable(name, netns, &links)?,
            Some(name) if name.contains("%d") => first_free(name, taken)?,
            Some(name) if links.iter().any(|link| link.name == *name) => {
                return Err(tap_failure(name, netns, &io::Error::from_raw_os_error(libc::EBUSY)));
            }
            Some(name) => name.clone(),
            None => first_free("vnet%d", taken)?,
        };
        check_interface_name(&ifname)?;
        let Wanted { domain, netns, mut details, .. } = wanted;
        if adopts {
            details.host_stack = in_netns(netns.as_deref(), || HostStack::of(&ifname)).ok();
        }
        let known = self.live.guests.iter().find(|guest| guest.domain == domain);
        if details.owner.is_empty() {
            details.owner =
                known.map_or_else(|| Uuid::new_v4().to_string(), |guest| guest.details.owner.clone());
        }
        let mut guest = Guest { port: 0, network, domain, mac, ifname, netns, details };
        let handed = self.make_handed(&guest)?;
        let plugged = self.change(|state| {
            guest.port = state.new_port()?;
            state.live.guests.push(guest.clone());
            match state.reopen(guest.port) {
                Ok(held) => state.attach_guest_port(guest.port, held),
                // Its other side may come later.
                Err(failure) if guest.details.cable.waits() => {
                    tracing::info!("{} of {} waits: {}", guest.ifname, guest.domain, failure.message);
                    state.failed.insert(guest.port);
                    Ok(())
                }
                Err(failure) => Err(failure),
            }
        });
        plugged.inspect_err(|_| give_back(&guest))?;
        self.handed = handed;
        self.report_port(&guest, PortChange::Plugged);
        Ok(guest)
    }

    /// The tap that is to be handed over, if one is.
    fn make_handed(&self, guest: &Guest) -> Answer<Option<OwnedFd>> {
        let Cable::Handed { vnet_header } = guest.details.cable else { return Ok(None) };
        let mtu = self.live.by_id(guest.network).map(LiveNetwork::mtu);
        let made = in_netns(guest.netns.as_deref(), || {
            let tap = sys::open_handed_tap(&guest.ifname, vnet_header)?;
            netlink::change(made(&guest.ifname)?, Change { mtu, ..Change::default() })?;
            Ok(tap)
        });
        made.map(Some).map_err(|error| tap_failure(&guest.ifname, guest.netns.as_deref(), &error))
    }

    /// A device that is there and nobody's of ours.
    fn adoptable(&self, name: &str, netns: Option<&str>, links: &[netlink::Link]) -> Answer<String> {
        if !links.iter().any(|link| link.name == name) {
            return Err(fail_help(
                format!("Cannot get interface MTU on '{name}': No such device"),
                "`ip -br link` lists the devices there are",
            ));
        }
        let guests = self.live.guests.iter().filter(|guest| guest.netns.as_deref() == netns);
        let own = guests.map(|guest| guest.ifname.as_str());
        let hosts = self.live.networks.iter().filter(|_| netns.is_none()).map(LiveNetwork::device);
        let uplinks = self.live.uplinks.iter().filter(|uplink| uplink.netns.as_deref() == netns);
        if own.chain(hosts).chain(uplinks.map(|uplink| uplink.dev.as_str())).any(|other| other == name) {
            return Err(fail(format!("operation failed: interface '{name}' is in use already")));
        }
        Ok(name.to_owned())
    }

    /// The active network an interface is to be plugged into.
    fn source(&self, kind: &str, source: &str) -> Answer<u16> {
        let inactive = |name: &str| invalid(format!("network '{name}' is not active"));
        match kind {
            "network" => {
                let name = self.find(source)?;
                self.live.by_name(&name).map(|live| live.id).ok_or_else(|| inactive(&name))
            }
            "bridge" => {
                let active = self.live.networks.iter().find(|live| live.bridge() == source);
                if let Some(live) = active {
                    return Ok(live.id);
                }
                let defined = self.defined.values().find(|net| net.bridge.name.as_deref() == Some(source));
                Err(defined.map_or_else(
                    || fail(format!("Cannot get interface MTU on '{source}': No such device")),
                    |network| inactive(&network.name),
                ))
            }
            _ => Err(fail_help(
                format!("No support for {kind} in command 'attach-interface'"),
                "the type is network or bridge",
            )),
        }
    }

    pub(crate) fn detach_interface(&mut self, domain: &str, kind: &str, mac: Option<&str>) -> Answer<()> {
        if !matches!(kind, "network" | "bridge") {
            return Err(fail(format!("No interface found whose type is {kind}")));
        }
        let wanted = mac.map(parse_mac).transpose()?;
        let of_kind = |guest: &&Guest| guest.domain == domain && guest.kind() == kind;
        let guests: Vec<&Guest> = self.live.guests.iter().filter(of_kind).collect();
        let matching: Vec<&Guest> =
            guests.iter().copied().filter(|guest| wanted.is_none_or(|mac| mac == guest.mac)).collect();
        let guest = match (matching.as_slice(), mac) {
            ([guest], _) => (*guest).clone(),
            ([], Some(mac)) => return Err(fail(format!("No interface with MAC address {mac} was found"))),
            ([], None) => return Err(fail(format!("No interface found whose type is {kind}"))),
            (several, None) => return Err(specify(several)),
            (_, Some(mac)) => {
                return Err(fail(format!("Domain has multiple interfaces matching MAC address {mac}")));
            }
        };
        self.unplug(&guest)
    }

    pub(crate) fn unplug(&mut self, guest: &Guest) -> Answer<()> {
        self.change(|state| {
            state.live.guests.retain(|other| other.port != guest.port);
            Ok(())
        })?;
        let_go(guest);
        self.report_port(guest, PortChange::Unplugged);
        Ok(())
    }

    /// Hands over what a guest's port hangs on, and notes whose it is.
    fn attach_guest_port(&mut self, port: u16, held: Held) -> Answer<()> {
        let guests = self.live.guests.iter_mut();
        for guest in guests.filter(|guest| guest.port == port) {
            guest.details.peer_inode = guest.details.cable.peer_inode();
        }
        self.attach(port, held)
    }

    pub(crate) fn report_port(&self, guest: &Guest, change: PortChange) {
        if let Some(live) = self.live.by_id(guest.network) {
            self.events.port(&live.network, guest, change);
        }
    }

    /// A port's device failed. A guest's port goes, unless its other side may come back; the host's and the uplinks'
    /// wait for their device.
    pub(crate) fn port_failed(&mut self, port: u16, reason: &str) {
        let goes = |guest: &&Guest| guest.port == port && !guest.details.cable.waits();
        if let Some(guest) = self.live.guests.iter().find(goes).cloned() {
            tracing::warn!("interface {} of {} is gone: {reason}", guest.ifname, guest.domain);
            let gone = self.change(|state| {
                state.live.guests.retain(|guest| guest.port != port);
                Ok(())
            });
            match gone {
                Ok(()) => self.report_port(&guest, PortChange::Unplugged),
                Err(failure) => tracing::error!("{}", failure.message),
            }
        } else if self.live.ports().contains(&port) && self.failed.insert(port) {
            tracing::warn!(
                "port {port} failed: {reason}; it is attached again when its device can be opened"
            );
            self.held.remove(&port);
            if let Err(failure) = self.apply() {
                tracing::error!("{}", failure.message);
            }
        }
    }

    /// Gives up interfaces whose device, somebody else's, is gone: it may do so without a word.
    pub(crate) fn drop_vanished(&mut self) {
        let adopted = |guest: &&Guest| guest.details.cable.is_adopted();
        let vanished: Vec<u16> = (self.live.guests.iter().filter(adopted))
            .filter(|guest| {
                let held = self.held.get(&guest.port).and_then(|held| held.fds.first());
                let bound = held.and_then(|fd| sys::packet_interface(fd).ok());
                let link = in_netns(guest.netns.as_deref(), || netlink::link(&guest.ifname));
                // What cannot be asked is not taken for gone.
                link.is_ok_and(|link| link.map(|link| link.index) != bound)
            })
            .map(|guest| guest.port)
            .collect();
        for port in vanished {
            self.port_failed(port, "its device is gone");
        }
    }

    /// Tries to attach failed ports again.
    pub(crate) fn repair(&mut self) {
        for port in self.failed.clone() {
            let Ok(held) = self.reopen(port) else {
                continue;
            };
            match self.attach_guest_port(port, held).and_then(|()| self.apply()) {
                Ok(()) => tracing::info!("port {port} is attached again"),
                Err(failure) => tracing::error!("port {port}: {}", failure.message),
            }
        }
    }
}

/// Removes the device of an interface that was unplugged, if it is ours, or the socket.
pub(crate) fn let_go(guest: &Guest) {
    guest.details.cable.tidy();
    give_back(guest);
    if guest.details.cable.is_own_device() {
        vanish(guest.netns.as_deref(), &guest.ifname);
    }
}

/// Leaves a device that was adopted as it was before.
fn give_back(guest: &Guest) {
    if let Some(stack) = guest.details.host_stack {
        let set = in_netns(guest.netns.as_deref(), || {
            stack.set(&guest.ifname);
            Ok(())
        });
        if let Err(error) = set {
            tracing::debug!("{}: {error}", guest.ifname);
        }
    }
}

fn specify(several: &[&Guest]) -> Failure {
    let macs: Vec<String> = several
        .iter()
        .map(|guest| format!("  {}  {}", crate::defaults::hex(&guest.mac), guest.ifname))
        .collect();
    fail_help(
        format!("Domain has {} interfaces. Please specify which one to detach using --mac", several.len()),
        macs.join("\n"),
    )
}

fn open_host(live: &LiveNetwork, queues: u16) -> Answer<Held> {
    let name = live.bridge();
    let open = || {
        let fds = sys::open_tap(name, queues)?;
        let link = made(name)?;
        let mtu = Some(document::mtu(&live.network));
        netlink::change(link, Change { mac: live.network.mac, mtu, ..Change::default() })?;
        for net in document::addresses(&live.network) {
            netlink::add_address(link, net)?;
        }
        netlink::change(link, Change { up: true, ..Change::default() })?;
        for route in document::routes(&live.network) {
            netlink::add_route(link, &route)?;
        }
        Ok(Held { kind: PortKind::Tap, fds })
    };
    open().map_err(|error: io::Error| tap_failure(name, None, &error))
}

fn open_guest(guest: &Guest, mtu: u16, queues: u16) -> Answer<Held> {
    let netns = guest.netns.as_deref();
    in_netns(netns, || {
        let fds = sys::open_tap(&guest.ifname, queues)?;
        let link = made(&guest.ifname)?;
        netlink::change(link, Change { mac: Some(guest.mac), mtu: Some(mtu), ..Change::default() })?;
        netlink::change(link, Change { up: true, ..Change::default() })?;
        if guest.details.link_down {
            netlink::change(link, Change { carrier: Some(false), ..Change::default() })?;
        }
        Ok(Held { kind: PortKind::Tap, fds })
    })
    .map_err(|error| tap_failure(&guest.ifname, netns, &error))
}

/// A device whose other side somebody else holds. What the host itself would answer there is switched off.
fn open_adopted(guest: &Guest, queues: u16) -> Answer<Held> {
    let (dev, netns) = (guest.ifname.as_str(), guest.netns.as_deref());
    in_netns(netns, || {
        let link = made(dev)?;
        sys::hush(dev);
        netlink::change(link, Change { up: true, ..Change::default() })?;
        Ok(Held { kind: PortKind::Packet, fds: sys::open_packet(link, queues)? })
    })
    .map_err(|error| packet_failure(dev, &error))
}

fn open_uplink(uplink: &LiveUplink, queues: u16) -> Answer<Held> {
    let (dev, netns) = (uplink.dev.as_str(), uplink.netns.as_deref());
    match uplink.kind {
        Kind::Tap | Kind::Shared => in_netns(netns, || {
            let fds = sys::open_tap(dev, queues)?;
            netlink::change(made(dev)?, Change { mtu: Some(uplink.mtu), up: true, ..Change::default() })?;
            Ok(Held { kind: PortKind::Tap, fds })
        })
        .map_err(|error| tap_failure(dev, netns, &error)),
        Kind::User => sockets::open(uplink),
        Kind::Direct => in_netns(netns, || {
            let link = made(dev)?;
            netlink::change(link, Change { up: true, ..Change::default() })?;
            Ok(Held { kind: PortKind::Packet, fds: sys::open_packet(link, queues)? })
        })
        .map_err(|error| packet_failure(dev, &error)),
    }
}

fn packet_failure(dev: &str, error: &io::Error) -> Failure {
    let message = format!("internal error: interface '{dev}' cannot be opened: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => fail_help(
            message,
            "the daemon needs CAP_NET_RAW and CAP_NET_ADMIN: run it as root, or in a container with \
             --cap-add NET_RAW --cap-add NET_ADMIN",
        ),
        _ => fail(message),
    }
}

/// Index of an interface that has to exist.
fn made(name: &str) -> io::Result<u32> {
    netlink::index(name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}
