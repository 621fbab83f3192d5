//! Networks in a segment of the host's: `<forward mode='bridge'/>`. To the datapath the segment is behind a tap. That is a
//! port of a bridge of the kernel's, or spliced into the segment of an interface that is none (`splice.rs`).

mod program;
mod splice;
#[cfg(test)]
mod tests;

use std::path::Path;

use pontoon_netxml::Network;
use pontoon_proto::api::Failure;
use pontoon_proto::message::PortKind;

use crate::active::tap_failure;
use crate::defaults::first_free;
use crate::failure::{Answer, fail_help, internal};
use crate::live::{LiveNetwork, Segment};
use crate::netlink::{self, Change, Link};
use crate::state::{Held, State};
use crate::sys;
pub(crate) use splice::Splices;

const INTERFACES: &str = "/sys/class/net";

/// The bridge or interface a definition names.
fn named(network: &Network) -> Answer<&str> {
    let name = &network.name;
    match (network.bridge.name.as_deref(), network.forward.interfaces.as_slice()) {
        (Some(bridge), _) => Ok(bridge),
        (None, [dev]) => Ok(dev),
        (None, []) => Err(fail_help(
            format!(
                "unsupported configuration: network '{name}' has forward mode='bridge' but names no device"
            ),
            "name a bridge or an interface of the host: <bridge name='br0'/>, or <interface dev='eth1'/> in <forward>",
        )),
        (None, _) => Err(fail_help(
            format!(
                "unsupported configuration: network '{name}' has forward mode='bridge' on several interfaces"
            ),
            "all guests of a network are in one segment: name one interface, and define a network for each of the others",
        )),
    }
}

impl State {
    /// Where a network that is started will be; `None` for networks with a bridge of their own.
    pub(crate) fn segment(&self, network: &Network) -> Answer<Option<Segment>> {
        if network.forward.mode != pontoon_netxml::Mode::Bridge {
            return Ok(None);
        }
        let (name, dev) = (&network.name, named(network)?);
        let links = netlink::links().map_err(|error| internal(format!("listing interfaces: {error}")))?;
        let Some(link) = links.iter().find(|link| link.name == dev) else {
            return Err(fail_help(
                format!("internal error: bridge or interface '{dev}' of network '{name}' does not exist"),
                format!(
                    "`ip -br link` lists those there are; `ip link add {dev} type bridge` makes a bridge, or let the host's \
                     network manager do so"
                ),
            ));
        };
        if !link.is_bridge {
            self.check_alone(network, dev)?;
            if let Some(fault) = fault(dev, link, &links) {
                return Err(fault.of(network, dev));
            }
        }
        let tap = first_free("pt-br%d", |name| links.iter().any(|link| link.name == name))?;
        let device = (!link.is_bridge).then(|| dev.to_owned());
        Ok(Some(Segment { tap, mtu: mtu_of(link), device }))
    }

    fn check_alone(&self, network: &Network, dev: &str) -> Answer<()> {
        let own = |live: &&LiveNetwork| live.bridge() == dev || live.device() == dev;
        if let Some(other) = self.live.networks.iter().find(own) {
            let (name, other) = (&network.name, &other.network.name);
            return Err(fail_help(
                format!(
                    "operation failed: interface '{dev}' of network '{name}' is that of network '{other}'"
                ),
                format!("attach guests to '{other}' instead; they are in the same segment there"),
            ));
        }
        Ok(())
    }
}

/// Why a network cannot be in the segment of an interface.
struct Fault {
    why: String,
    help: String,
}

impl Fault {
    fn of(self, network: &Network, dev: &str) -> Failure {
        let (name, why) = (&network.name, self.why);
        let message =
            format!("unsupported configuration: network '{name}' cannot be on interface '{dev}': {why}");
        fail_help(message, self.help)
    }
}

fn fault(dev: &str, link: &Link, links: &[Link]) -> Option<Fault> {
    let fault = |why: String, help: String| Some(Fault { why, help });
    if link.loopback || link.mac.is_none() {
        return fault(
            "it has no Ethernet".into(),
            "`ip -br link` shows which interfaces have MAC addresses".into(),
        );
    }
    if let Some(index) = link.controller {
        let above = links.iter().find(|other| other.index == index);
        let (name, is_bridge) = above.map_or(("another", false), |it| (it.name.as_str(), it.is_bridge));
        let element =
            if is_bridge { format!("<bridge name='{name}'/>") } else { format!("<interface dev='{name}'/>") };
        return fault(format!("it is part of '{name}'"), format!("name that instead: {element}"));
    }
    if let Some(above) = links.iter().find(|other| other.lower == Some(link.index)) {
        return fault(
            format!("'{}' is a macvlan or ipvlan on it, and would not reach guests", above.name),
            format!(
                "`ip link del {}` removes that; or make a bridge with both and name it: <bridge name='br0'/>",
                above.name
            ),
        );
    }
    if is_wireless(Path::new(INTERFACES), dev) {
        return fault(
            "it is wireless, and its access point takes frames from one MAC address only".into(),
            "use an interface with a cable, or <forward mode='nat'/>, which leaves from the host's own address".into(),
        );
    }
    None
}

fn is_wireless(interfaces: &Path, dev: &str) -> bool {
    ["phy80211", "wireless"].iter().any(|sign| interfaces.join(dev).join(sign).exists())
}

fn mtu_of(link: &Link) -> u16 {
    u16::try_from(link.mtu).unwrap_or(u16::MAX)
}

/// Makes the tap, as a port of the bridge if there is one; else it becomes one later.
pub(crate) fn open(bridge: &str, segment: &Segment, queues: u16) -> Answer<Held> {
    let open = || {
        let fds = sys::open_tap(&segment.tap, queues)?;
        sys::hush(&segment.tap);
        let tap = netlink::index(&segment.tap)?.ok_or(std::io::ErrorKind::NotFound)?;
        let bridge = Some(bridge).filter(|_| segment.device.is_none());
        let controller = bridge.map(netlink::index).transpose()?.flatten();
        let mtu = Some(segment.mtu);
        netlink::change(tap, Change { mtu, controller, up: true, ..Change::default() })?;
        Ok(Held { kind: PortKind::Tap, fds })
    };
    open().map_err(|error: std::io::Error| tap_failure(&segment.tap, None, &error))
}

impl State {
    /// Brings taps to where their networks are to be, which may have been made anew, and MTUs to those of the segments.
    pub(crate) fn follow_segments(&mut self) {
        if self.live.networks.iter().all(|live| live.segment.is_none()) {
            return;
        }
        let links = match netlink::links() {
            Ok(links) => links,
            Err(error) => return tracing::warn!("listing interfaces: {error}"),
        };
        if let Err(failure) = self.splice() {
            tracing::error!("{}", failure.message);
        }
        for live in self.live.networks.clone() {
            let Some(segment) = &live.segment else { continue };
            let named = |name: &str| links.iter().find(|link| link.name == name);
            if segment.device.is_none() {
                let bridge = named(live.bridge()).filter(|link| link.is_bridge);
                bridge.zip(named(&segment.tap)).into_iter().for_each(|(bridge, tap)| join(bridge, tap));
            }
            let mtu = named(live.bridge()).map_or(segment.mtu, mtu_of);
            if mtu != segment.mtu
                && let Err(failure) = self.resize_segment(&live, mtu)
            {
                tracing::error!("MTU of network '{}': {}", live.network.name, failure.message);
            }
        }
    }
}

fn join(bridge: &Link, tap: &Link) {
    if tap.controller == Some(bridge.index) {
        return;
    }
    let change = Change { controller: Some(bridge.index), up: true, ..Change::default() };
    match netlink::change(tap.index, change) {
        Ok(()) => tracing::info!("{} is a port of {} again", tap.name, bridge.name),
        Err(error) => tracing::warn!("{} cannot be a port of {}: {error}", tap.name, bridge.name),
    }
}
