//! Starting and stopping networks.

use std::io;

use pontoon_netxml::{Mode, Network, Uplink, UplinkKind};
use pontoon_proto::event::{Lifecycle, PortChange};

use crate::defaults::{check_interface_name, first_free, mac_of};
use crate::document;
use crate::failure::{Answer, fail, fail_help, internal, invalid, operation};
use crate::live::{Kind, LiveNetwork, LiveUplink};
use crate::netlink;
use crate::ports::let_go;
use crate::state::State;
use crate::ways;

impl State {
    /// Makes a network active.
    pub(crate) fn start(&mut self, network: Network) -> Answer<()> {
        if self.live.by_name(&network.name).is_some() {
            return Err(invalid("network is already active"));
        }
        let uplink = ways::wanted(&network)?;
        if network.forward.mode == Mode::Bridge {
            self.segment(&network)?;
        } else {
            self.check_bridge(&network)?;
        }
        self.check_subnet(&network)?;
        self.change(|state| state.bring_up(network.clone(), uplink))?;
        self.events.lifecycle(&network, Lifecycle::Started);
        Ok(())
    }

    fn bring_up(&mut self, network: Network, uplink: Option<Uplink>) -> Answer<()> {
        let uplink = uplink.map(|uplink| self.use_uplink(&network, &uplink)).transpose()?;
        let id = self.live.new_network().ok_or_else(|| operation("no network id is left"))?;
        let port = self.new_port()?;
        self.send_lease_log(id, &network)?;
        let segment = self.segment(&network)?;
        let live = LiveNetwork::new(id, port, uplink, network.clone());
        self.live.networks.push(LiveNetwork { segment, ..live });
        self.check_forwards(id, &network)?;
        let held = self.reopen(port)?;
        self.attach(port, held)?;
        self.share()?;
        self.splice()
    }

    pub(crate) fn new_port(&mut self) -> Answer<u16> {
        self.live.new_port().ok_or_else(|| operation("no port id is left"))
    }

    /// Makes an active network inactive; its guests' interfaces vanish.
    pub(crate) fn stop(&mut self, name: &str) -> Answer<()> {
        let live = self.live.by_name(name);
        let live = live.ok_or_else(|| invalid(format!("network '{name}' is not active")))?;
        let (id, bridge, network) = (live.id, live.device().to_owned(), live.network.clone());
        let guests: Vec<_> = self.live.guests.iter().filter(|guest| guest.network == id).cloned().collect();
        self.change(|state| {
            state.live.networks.retain(|live| live.id != id);
            state.live.guests.retain(|guest| guest.network != id);
            state.live.drop_unused_uplinks();
            Ok(())
        })?;
        self.lease_watch.end(&network.name);
        vanish(None, &bridge);
        for guest in guests {
            let_go(&guest);
            self.events.port(&network, &guest, PortChange::Unplugged);
        }
        self.events.lifecycle(&network, Lifecycle::Stopped);
        Ok(())
    }

    fn check_bridge(&self, network: &Network) -> Answer<()> {
        let bridge = network.bridge.name.as_deref().unwrap_or("");
        check_interface_name(bridge)?;
        if netlink::index(bridge).map_err(|error| internal(format!("listing interfaces: {error}")))?.is_some()
        {
            return Err(fail_help(
                format!("internal error: bridge name '{bridge}' already in use."),
                format!(
                    "an interface '{bridge}' that is not pontoon's exists; `ip link show {bridge}` shows it"
                ),
            ));
        }
        Ok(())
    }

    /// The uplink of this network, shared with others that name the same interface.
    fn use_uplink(&mut self, network: &Network, wanted: &Uplink) -> Answer<u16> {
        let kind = match wanted.kind {
            UplinkKind::Direct => Kind::Direct,
            UplinkKind::Tap => Kind::Tap,
            UplinkKind::Shared => return self.use_shared(network, wanted),
            UplinkKind::User => return self.use_sockets(network),
        };
        let same = |uplink: &&LiveUplink| {
            uplink.kind != Kind::Shared && uplink.dev == wanted.dev && uplink.netns == wanted.netns
        };
        if let Some(shared) = self.live.uplinks.iter().find(same) {
            if shared.kind != kind || shared.address != wanted.address || shared.gateway != wanted.gateway {
                return Err(fail_help(
                    format!(
                        "unsupported configuration: network '{}' describes uplink '{}' otherwise than a network that \
                         is active",
                        network.name, wanted.dev
                    ),
                    "networks that share an uplink give the same type, address and gateway",
                ));
            }
            return Ok(shared.id);
        }
        check_interface_name(&wanted.dev)?;
        let mtu = uplink_mtu(network, wanted)?;
        let id = self.live.new_uplink().ok_or_else(|| operation("no uplink id is left"))?;
        let port = self.new_port()?;
        let uplink = LiveUplink {
            id,
            port,
            kind,
            dev: wanted.dev.clone(),
            netns: wanted.netns.clone(),
            mac: mac_of(network.uuid.unwrap_or_default()),
            address: wanted.address,
            gateway: wanted.gateway,
            mtu,
            over: None,
            target: None,
            host: Vec::new(),
        };
        self.open_uplink(uplink)
    }

    /// The uplink with the host's address on this interface, or on that of the default route.
    fn use_shared(&mut self, network: &Network, wanted: &Uplink) -> Answer<u16> {
        let over = Some(&wanted.dev).filter(|dev| !dev.is_empty()).cloned();
        let same = |uplink: &&LiveUplink| uplink.kind == Kind::Shared && uplink.over == over;
        if let Some(uplink) = self.live.uplinks.iter().find(same) {
            return Ok(uplink.id);
        }
        let listing = |error| internal(format!("listing interfaces: {error}"));
        let links = netlink::links().map_err(listing)?;
        let used = |name: &str| links.iter().any(|link| link.name == name);
        let dev = first_free("pt-up%d", used)?;
        let id = self.live.new_uplink().ok_or_else(|| operation("no uplink id is left"))?;
        let port = self.new_port()?;
        let mut uplink = LiveUplink {
            id,
            port,
            kind: Kind::Shared,
            dev,
            netns: None,
            mac: mac_of(network.uuid.unwrap_or_default()),
            address: None,
            gateway: None,
            mtu: document::mtu(network),
            over,
            target: None,
            host: Vec::new(),
        };
        uplink.look().map_err(listing)?;
        self.open_uplink(uplink)
    }

    pub(crate) fn open_uplink(&mut self, uplink: LiveUplink) -> Answer<u16> {
        let (id, port) = (uplink.id, uplink.port);
        self.live.uplinks.push(uplink);
        let held = self.reopen(port)?;
        self.attach(port, held)?;
        Ok(id)
    }
}

fn uplink_mtu(network: &Network, wanted: &Uplink) -> Answer<u16> {
    if wanted.kind == UplinkKind::Tap {
        return Ok(document::mtu(network));
    }
    let netns = wanted.netns.as_deref();
    let link = crate::sys::in_netns(netns, || netlink::link(&wanted.dev));
    let link = link.map_err(|error| netns_failure(netns, &error))?;
    let Some(link) = link else {
        let place = netns.map_or_else(String::new, |netns| format!(" in network namespace '{netns}'"));
        return Err(fail_help(
            format!(
                "internal error: uplink interface '{}' of network '{}' does not exist",
                wanted.dev, network.name
            ),
            format!(
                "`ip -br link` lists the interfaces; <pontoon:uplink dev='...'> names one of them{place}"
            ),
        ));
    };
    Ok(u16::try_from(link.mtu).unwrap_or(u16::MAX))
}

pub(crate) fn netns_failure(netns: Option<&str>, error: &io::Error) -> pontoon_proto::api::Failure {
    match (netns, error.kind()) {
        (Some(netns), io::ErrorKind::NotFound) => fail_help(
            format!("internal error: network namespace '{netns}' does not exist"),
            "`ip netns list` shows those that exist; `ip netns add NAME` makes one",
        ),
        (Some(netns), _) => internal(format!("network namespace '{netns}': {error}")),
        (None, _) => internal(error),
    }
}

/// Removes what is left of a tap. It goes by itself when its last descriptor closes; this makes it go now.
pub(crate) fn vanish(netns: Option<&str>, name: &str) {
    let removed = crate::sys::in_netns(netns, || match netlink::index(name)? {
        Some(link) => netlink::delete(link),
        None => Ok(()),
    });
    if let Err(error) = removed {
        tracing::debug!("interface {name}: {error}");
    }
}

pub(crate) fn tap_failure(name: &str, netns: Option<&str>, error: &io::Error) -> pontoon_proto::api::Failure {
    let message = format!("Unable to create tap device {name}: {error}");
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => fail_help(
            message,
            "the daemon needs CAP_NET_ADMIN and access to /dev/net/tun: run it as root, or in a container with \
             --cap-add NET_ADMIN --device /dev/net/tun",
        ),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) if netns.is_none() => {
            fail_help(message, "/dev/net/tun does not work: load the kernel module with `modprobe tun`")
        }
        Some(libc::EBUSY | libc::EINVAL) => {
            fail_help(message, format!("an interface '{name}' exists already; give another name"))
        }
        Some(libc::ENOENT) => netns_failure(netns, error),
        _ => fail(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_permission_says_what_is_needed() {
        let failure = tap_failure("virbr0", None, &io::Error::from_raw_os_error(libc::EPERM));
        assert!(failure.detail.expect("detail").contains("CAP_NET_ADMIN"));
    }
}
