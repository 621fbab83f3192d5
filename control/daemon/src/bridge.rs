//! A running network's switch: its settings, and what brctl changes of them.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_netxml::{Network as Definition, port};
use pontoon_proto::api::{Affect, Reply};
use pontoon_proto::bridge::BridgeChange;
use pontoon_proto::document::{Bridging, Mac, PortBridging, Stp};
use pontoon_proto::message::ToDatapath;
use serde::{Deserialize, Serialize};

use crate::defaults::parse_mac;
use crate::failure::{Answer, fail, fail_help, operation};
use crate::live::{Guest, Live, LiveNetwork};
use crate::state::State;

/// The host's own port has the number that libvirt's `virbrN-nic` used to have.
pub(crate) const HOST_NUMBER: u16 = 1;
/// As many ports as a Linux bridge has.
const LAST_NUMBER: u16 = 1023;
const MAX_AGE: (u64, u64) = (600, 4000);
const HELLO: (u64, u64) = (100, 1000);
/// Only while the spanning tree runs; a network without one takes any.
const FORWARD_DELAY: (u64, u64) = (200, 3000);

/// Settings that last as long as the network is active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// By network id.
    networks: BTreeMap<u16, BridgeSettings>,
    /// By port id.
    ports: BTreeMap<u16, PortSettings>,
}

/// Times in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BridgeSettings {
    pub(crate) priority: u16,
    pub(crate) max_age: u32,
    pub(crate) hello: u32,
    /// What the definition's `delay`, which has whole seconds, cannot say.
    pub(crate) forward_delay: Option<u32>,
    pub(crate) ageing_seconds: u32,
}

impl Default for BridgeSettings {
    fn default() -> Self {
        let (priority, max_age, hello) = (0x8000, 2000, 200);
        Self { priority, max_age, hello, forward_delay: None, ageing_seconds: 300 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PortSettings {
    /// Its number on the bridge; 0 when none was left.
    pub(crate) number: u16,
    pub(crate) priority: u8,
    pub(crate) cost: u32,
    pub(crate) hairpin: bool,
    /// Addresses pinned to it.
    pub(crate) macs: BTreeSet<Mac>,
}

impl Default for PortSettings {
    fn default() -> Self {
        let PortBridging { number, priority, cost, .. } = PortBridging::default();
        Self { number, priority, cost, hairpin: false, macs: BTreeSet::new() }
    }
}

impl Live {
    /// Gives ports without a number the lowest that is free, and forgets settings of what is gone.
    pub(crate) fn number_ports(&mut self) -> Answer<()> {
        let Self { networks, guests, bridging, .. } = self;
        bridging.networks.retain(|id, _| networks.iter().any(|live| live.id == *id));
        bridging.ports.retain(|id, _| guests.iter().any(|guest| guest.port == *id));
        let of = |bridging: &Settings, port| bridging.ports.get(&port).map_or(0, |port| port.number);
        for guest in guests.iter() {
            if of(bridging, guest.port) != 0 {
                continue;
            }
            let beside = guests.iter().filter(|other| other.network == guest.network);
            let taken: BTreeSet<u16> = beside.map(|other| of(bridging, other.port)).collect();
            let free = (HOST_NUMBER + 1..=LAST_NUMBER).find(|number| !taken.contains(number));
            bridging.ports.entry(guest.port).or_default().number = free.unwrap_or(0);
        }
        let full = |live: &&LiveNetwork| {
            live.segment.is_none()
                && live.network.bridge.stp
                && guests.iter().any(|g| g.network == live.id && bridging.port(g.port).number == 0)
        };
        match networks.iter().find(full) {
            Some(live) => Err(crowded(live.bridge())),
            None => Ok(()),
        }
    }
}

fn crowded(bridge: &str) -> pontoon_proto::api::Failure {
    fail_help(
        format!("operation failed: bridge {bridge} has no port number left"),
        format!(
            "with a spanning tree it has {LAST_NUMBER} ports; `pontoon brctl stp {bridge} off` ends the tree"
        ),
    )
}

impl Settings {
    pub(crate) fn network(&self, id: u16) -> BridgeSettings {
        self.networks.get(&id).copied().unwrap_or_default()
    }

    pub(crate) fn port(&self, id: u16) -> PortSettings {
        self.ports.get(&id).cloned().unwrap_or_default()
    }
}

/// How the datapath is to switch this network.
pub(crate) fn of_network(live: &Live, network: &LiveNetwork) -> Bridging {
    let settings = live.bridging.network(network.id);
    let BridgeSettings { priority, max_age, hello, .. } = settings;
    let stp = Stp { priority, max_age, hello, forward_delay: running_delay(&settings, &network.network) };
    let own = network.network.forward.mode.owns_bridge();
    Bridging { stp: (own && network.network.bridge.stp).then_some(stp), fixed: is_fixed(&network.network) }
}

/// The forward delay that is set, whatever it is.
pub(crate) fn set_delay(settings: &BridgeSettings, definition: &Definition) -> u32 {
    settings.forward_delay.unwrap_or_else(|| definition.bridge.delay.saturating_mul(100))
}

/// The forward delay of a spanning tree that runs: a Linux bridge takes none under 2 s or over 30 s either.
pub(crate) fn running_delay(settings: &BridgeSettings, definition: &Definition) -> u32 {
    let (least, most) = FORWARD_DELAY;
    u64::from(set_delay(settings, definition)).clamp(least, most) as u32
}

fn is_fixed(definition: &Definition) -> bool {
    definition.bridge.mac_table_manager.as_deref() == Some("libvirt")
}

/// The host's own port.
pub(crate) fn of_host() -> PortBridging {
    PortBridging { number: HOST_NUMBER, ..PortBridging::default() }
}

pub(crate) fn of_guest(live: &Live, guest: &Guest) -> PortBridging {
    let definition = live.by_id(guest.network).map(|live| &live.network);
    let PortSettings { number, priority, cost, hairpin, mut macs } = live.bridging.port(guest.port);
    if definition.is_some_and(is_fixed) {
        macs.insert(guest.mac);
    }
    let own = guest.details.port.as_deref().and_then(|xml| port::parse(xml).ok()?.isolated);
    let isolated = own.unwrap_or_else(|| definition.is_some_and(is_isolated));
    let (down, macs) = (guest.details.link_down, macs.into_iter().collect());
    PortBridging { number, priority, cost, isolated, hairpin, down, macs }
}

/// `<port isolated='yes'/>` of the portgroup that interfaces get, else of the network.
pub(crate) fn is_isolated(definition: &Definition) -> bool {
    let group = definition.portgroups.iter().find(|group| group.default);
    group.and_then(|group| group.port_isolated).or(definition.port_isolated).unwrap_or(false)
}

impl State {
    pub(crate) fn bridge_set(&mut self, bridge: &str, change: BridgeChange) -> Answer<Reply> {
        match change {
            BridgeChange::Stp { on } => self.set_stp(bridge, on)?,
            BridgeChange::ForwardDelay { time } => self.set_forward_delay(bridge, time)?,
            BridgeChange::Ageing { time } => {
                let seconds = u32::try_from(time.div_ceil(100)).unwrap_or(u32::MAX);
                self.set_bridge(bridge, |settings| settings.ageing_seconds = seconds)?;
            }
            BridgeChange::Priority { priority } => {
                self.set_bridge(bridge, |settings| settings.priority = priority)?;
            }
            BridgeChange::Hello { time } => {
                let hello = within(time, HELLO)?;
                self.set_bridge(bridge, |settings| settings.hello = hello)?;
            }
            BridgeChange::MaxAge { time } => {
                let max_age = within(time, MAX_AGE)?;
                self.set_bridge(bridge, |settings| settings.max_age = max_age)?;
            }
            BridgeChange::Flush { port } => self.flush(bridge, port.as_deref())?,
            of_port => self.port_set(bridge, of_port)?,
        }
        Ok(Reply::Done { warnings: Vec::new() })
    }

    fn port_set(&mut self, bridge: &str, change: BridgeChange) -> Answer<()> {
        match change {
            BridgeChange::PathCost { port, cost } => {
                let cost = within(cost.into(), (1, 65_535))?;
                self.set_port(bridge, &port, |settings| settings.cost = cost)
            }
            BridgeChange::PortPriority { port, priority } => {
                let priority = within(priority.into(), (0, 63))? as u8;
                self.set_port(bridge, &port, |settings| settings.priority = priority)
            }
            BridgeChange::Hairpin { port, on } => {
                self.live_bridge(bridge)?;
                self.set_port(bridge, &port, |settings| settings.hairpin = on)
            }
            BridgeChange::Static { port, mac, on } => {
                let mac = parse_mac(&mac)?;
                self.live_bridge(bridge)?;
                self.set_port(bridge, &port, |settings| {
                    let _ = if on { settings.macs.insert(mac) } else { settings.macs.remove(&mac) };
                })
            }
            other => Err(operation(format!("{other:?} is not a port's"))),
        }
    }

    /// The active network that has this bridge.
    pub(crate) fn live_bridge(&self, bridge: &str) -> Answer<&LiveNetwork> {
        let found = self.live.networks.iter().find(|live| live.bridge() == bridge);
        found.ok_or_else(|| fail("No such device"))
    }

    fn set_bridge(&mut self, bridge: &str, set: impl FnOnce(&mut BridgeSettings)) -> Answer<()> {
        let id = self.live_bridge(bridge)?.id;
        let mut settings = self.live.bridging.network(id);
        set(&mut settings);
        if settings == self.live.bridging.network(id) {
            return Ok(());
        }
        self.change(|state| {
            state.live.bridging.networks.insert(id, settings);
            Ok(())
        })
    }

    fn set_port(&mut self, bridge: &str, port: &str, set: impl FnOnce(&mut PortSettings)) -> Answer<()> {
        let id = self.bridge_port(bridge, port)?.port;
        let mut settings = self.live.bridging.port(id);
        set(&mut settings);
        if settings == self.live.bridging.port(id) {
            return Ok(());
        }
        self.change(|state| {
            state.live.bridging.ports.insert(id, settings);
            Ok(())
        })
    }

    /// A guest's port by its interface's name, or by its number. Like brctl's, names need not be of this bridge.
    fn bridge_port(&self, bridge: &str, port: &str) -> Answer<&Guest> {
        let network = self.live_bridge(bridge).ok().map(|live| live.id);
        let named: Vec<&Guest> = self.live.guests.iter().filter(|guest| guest.ifname == port).collect();
        let here: Vec<&Guest> =
            named.iter().copied().filter(|guest| Some(guest.network) == network).collect();
        match (here.as_slice(), named.as_slice()) {
            ([guest], _) | ([], [guest]) => return Ok(guest),
            ([], []) => {}
            _ => {
                return Err(fail_help(
                    format!("several interfaces are named {port}"),
                    format!(
                        "`pontoon brctl showstp {bridge}` shows their numbers, which can be given instead"
                    ),
                ));
            }
        }
        let number = port.parse::<u16>().ok().filter(|number| *number > HOST_NUMBER);
        let numbered = |guest: &&Guest| {
            Some(guest.network) == network && Some(self.live.bridging.port(guest.port).number) == number
        };
        self.live.guests.iter().find(numbered).ok_or_else(|| fail("No such device"))
    }

    fn set_stp(&mut self, bridge: &str, on: bool) -> Answer<()> {
        let name = self.live_bridge(bridge)?.network.name.clone();
        self.edit_both(&name, |definition| definition.bridge.stp = on)
    }

    fn set_forward_delay(&mut self, bridge: &str, time: u64) -> Answer<()> {
        let live = self.live_bridge(bridge)?;
        let (name, stp) = (live.network.name.clone(), live.network.bridge.stp);
        let time = within(time, if stp { FORWARD_DELAY } else { (0, u64::from(u32::MAX)) })?;
        let exact = (time % 100 != 0).then_some(time);
        self.set_bridge(bridge, |settings| settings.forward_delay = exact)?;
        self.edit_both(&name, |definition| definition.bridge.delay = time.div_ceil(100))
    }

    /// Edits the running definition, and the stored one if there is one.
    fn edit_both(&mut self, name: &str, edit: impl Fn(&mut Definition)) -> Answer<()> {
        let affect = Affect { live: true, config: self.defined.contains_key(name) };
        self.edit(name, affect, |definition| {
            edit(definition);
            Ok(())
        })
        .map(drop)
    }

    fn flush(&self, bridge: &str, port: Option<&str>) -> Answer<()> {
        let network = self.live_bridge(bridge)?.id;
        let port = port.map(|port| self.bridge_port(bridge, port)).transpose()?.map(|guest| guest.port);
        self.link()?.send(&ToDatapath::Flush { network, port }, &[])
    }
}

fn within(value: u64, (least, most): (u64, u64)) -> Answer<u32> {
    let fits = (least..=most).contains(&value).then_some(value).and_then(|value| u32::try_from(value).ok());
    fits.ok_or_else(|| fail("Numerical result out of range"))
}

#[cfg(test)]
#[path = "bridge_tests.rs"]
mod tests;
