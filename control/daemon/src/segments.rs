//! Networks in a segment of the host's: `<forward mode='bridge'/>` with a bridge of the kernel's. The network's own port is
//! a tap that is a port of that bridge.

use pontoon_netxml::Network;
use pontoon_proto::message::PortKind;

use crate::active::tap_failure;
use crate::defaults::first_free;
use crate::failure::{Answer, fail_help, internal};
use crate::live::Segment;
use crate::netlink::{self, Change, Link};
use crate::state::{Held, State};
use crate::sys;

/// Whether the network can be where its definition says.
pub(crate) fn check(network: &Network) -> Answer<()> {
    bridge_of(network).map(drop)
}

fn bridge_of(network: &Network) -> Answer<(Vec<Link>, Link)> {
    let name = &network.name;
    let links = netlink::links().map_err(|error| internal(format!("listing interfaces: {error}")))?;
    let Some(bridge) = network.bridge.name.as_deref() else {
        return Err(fail_help(
            format!(
                "unsupported configuration: network '{name}' has forward mode='bridge' on an interface, which is not \
                 supported yet"
            ),
            "name a bridge of the host that has this interface as a port: <bridge name='br0'/>",
        ));
    };
    match links.iter().find(|link| link.name == bridge).cloned() {
        Some(link) if link.is_bridge => Ok((links, link)),
        Some(_) => Err(fail_help(
            format!(
                "unsupported configuration: '{bridge}', which network '{name}' is to be on, is not a bridge"
            ),
            "`ip -br link show type bridge` lists the bridges of this host; an interface itself is not supported yet",
        )),
        None => Err(fail_help(
            format!("internal error: bridge '{bridge}' of network '{name}' does not exist"),
            format!("`ip link add {bridge} type bridge` makes one, or let the host's network manager do so"),
        )),
    }
}

/// What a network that is started needs to be in a segment; `None` for networks with a bridge of their own.
pub(crate) fn of(network: &Network) -> Answer<Option<Segment>> {
    if network.forward.mode != pontoon_netxml::Mode::Bridge {
        return Ok(None);
    }
    let (links, bridge) = bridge_of(network)?;
    let tap = first_free("pt-br%d", |name| links.iter().any(|link| link.name == name))?;
    Ok(Some(Segment { tap, mtu: u16::try_from(bridge.mtu).unwrap_or(u16::MAX) }))
}

/// Makes the tap, as a port of the bridge if that is there; else it becomes one later.
pub(crate) fn open(bridge: &str, segment: &Segment, queues: u16) -> Answer<Held> {
    let open = || {
        let fds = sys::open_tap(&segment.tap, queues)?;
        sys::hush(&segment.tap);
        let tap = netlink::index(&segment.tap)?.ok_or(std::io::ErrorKind::NotFound)?;
        let (mtu, controller) = (Some(segment.mtu), netlink::index(bridge)?);
        netlink::change(tap, Change { mtu, controller, up: true, ..Change::default() })?;
        Ok(Held { kind: PortKind::Tap, fds })
    };
    open().map_err(|error: std::io::Error| tap_failure(&segment.tap, None, &error))
}

impl State {
    /// Makes taps ports of their bridges again, which may have been made anew.
    pub(crate) fn follow_segments(&self) {
        if self.live.networks.iter().all(|live| live.segment.is_none()) {
            return;
        }
        let links = match netlink::links() {
            Ok(links) => links,
            Err(error) => return tracing::warn!("listing interfaces: {error}"),
        };
        for live in &self.live.networks {
            let Some(segment) = &live.segment else { continue };
            let named = |name: &str| links.iter().find(|link| link.name == name);
            let bridge = named(live.bridge()).filter(|link| link.is_bridge);
            let Some((bridge, tap)) = bridge.zip(named(&segment.tap)) else { continue };
            if tap.controller == Some(bridge.index) {
                continue;
            }
            let change = Change { controller: Some(bridge.index), up: true, ..Change::default() };
            match netlink::change(tap.index, change) {
                Ok(()) => tracing::info!("{} is a port of {} again", segment.tap, bridge.name),
                Err(error) => tracing::warn!("{} cannot be a port of {}: {error}", segment.tap, bridge.name),
            }
        }
    }
}
