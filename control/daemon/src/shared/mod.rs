//! The `shared` uplink: NAT leaves from the host's own address, on the interface of its default route.
//!
//! The uplink is a tap. What is NAT's comes to it from the host's interface, and what the datapath writes to it leaves
//! there, by two eBPF programs. [`State::share`] brings programs and reserved ports to what `live` says, and may be
//! called at any time; [`State::follow_host`] brings `live` to what the host is.

mod failure;
mod host;
mod local;
mod ports;
mod program;
mod sockets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use pontoon_proto::message::ToDatapath;
use pontoon_proto::privilege;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::ebpf::bpf::{self, Way};
use crate::ebpf::hook::{self, Hook, Place, Step};
use crate::failure::{Answer, internal};
use crate::live::{Kind, LiveUplink};
use crate::netlink::{self, Change};
use crate::state::State;
pub(crate) use ports::Range;
use program::{Face, Forwarded, Maps, Scope};

/// Queries of NAT that may be on their way at once, and datagrams in pieces; the oldest are forgotten.
const ECHOES: u32 = 16384;
const FRAGMENTS: u32 = 1024;
/// Ports from which the host itself asks forwards; the ones used longest ago are forgotten.
const LOCALS: u32 = 16384;

/// Of the first uplink's programs among ours on an interface.
const HANDLE: u16 = 0x100;

/// Where a shared uplink leaves at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    index: u32,
    ethernet: bool,
}

/// External ports of a network: what its definition wanted, and what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chosen {
    pub(crate) wanted: Option<Range>,
    pub(crate) range: Range,
}

/// What hangs in the kernel for shared uplinks.
#[derive(Debug)]
pub(crate) struct Sharing {
    /// Ports that the host reserves because of us.
    note: PathBuf,
    /// Programs hang as before Linux 6.6.
    pub(crate) classic: bool,
    /// By uplink.
    hung: BTreeMap<u16, Hung>,
    /// Something could not be brought about, and is tried again.
    pub(crate) unfinished: bool,
}

#[derive(Debug)]
struct Hung {
    port: u16,
    plan: Plan,
    maps: Maps,
    /// At the tap, at the host's interface, and at the loopback interface if there are forwards; none while the host
    /// has no way out.
    hooks: Vec<Hook>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    scope: Scope,
    face: Option<Face>,
    tap: u32,
    mtu: u16,
}

impl Sharing {
    pub(crate) fn new(note: PathBuf) -> Self {
        // A daemon that was killed may have left reserved ports.
        Self { note, classic: false, hung: BTreeMap::new(), unfinished: true }
    }
}

impl LiveUplink {
    fn is_shared(&self) -> bool {
        self.kind == Kind::Shared
    }

    /// The host's interface it leaves by at present.
    pub(crate) fn device(&self) -> Option<&str> {
        self.target.as_ref().map(|target| target.name.as_str())
    }

    /// Fills in what the host is at present.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        match host::way_out(self.over.as_deref(), self.mac)? {
            Some(way) => {
                let host::WayOut { name, face, address, gateway, mtu } = way;
                self.target = Some(Target { name, index: face.index, ethernet: face.ethernet });
                (self.mac, self.address, self.gateway, self.mtu) = (face.mac, Some(address), gateway, mtu);
            }
            None if self.keeps_address() => {}
            None => (self.target, self.address, self.gateway) = (None, None, None),
        }
        self.host = host::others(self.address.map(|net| net.addr()))?;
        Ok(())
    }

    /// Without a way out for a moment, sessions stay as long as their address does.
    fn keeps_address(&self) -> bool {
        let known = self.target.as_ref().zip(self.address);
        known.is_some_and(|(target, address)| host::still_has(target.index, address.addr()))
    }

    fn face(&self) -> Option<Face> {
        let target = self.target.as_ref()?;
        Some(Face { index: target.index, ethernet: target.ethernet, mac: self.mac })
    }
}

impl State {
    /// Brings programs and reserved ports to what is active.
    pub(crate) fn share(&mut self) -> Answer<()> {
        let wanted = self.live.uplinks.iter().any(LiveUplink::is_shared);
        if !wanted && self.sharing.hung.is_empty() && !self.sharing.unfinished {
            return Ok(());
        }
        self.sharing.unfinished = true;
        self.choose_ports()?;
        let shared: BTreeSet<u16> =
            self.live.uplinks.iter().filter(|uplink| uplink.is_shared()).map(|uplink| uplink.id).collect();
        let gone: Vec<u16> = self.sharing.hung.keys().filter(|id| !shared.contains(id)).copied().collect();
        for id in gone {
            let hung = self.sharing.hung.remove(&id);
            hung.into_iter().flat_map(|hung| hung.hooks).for_each(|hook| hook.unhang(None));
        }
        self.reserve(&self.kept_ports())?;
        for uplink in self.live.uplinks.clone().iter().filter(|uplink| uplink.is_shared()) {
            self.hang(uplink)?;
        }
        self.switch_loopback();
        self.sharing.unfinished = false;
        Ok(())
    }

    /// Has the loopback interface take what forwards answer to the host itself, as long as there are any.
    fn switch_loopback(&self) {
        let on = self.sharing.hung.values().any(|hung| !hung.plan.scope.forwards.is_empty());
        let note = self.sharing.note.with_file_name("loopback-switches");
        if let Err(error) = local::switch(self.store.disk(), &note, on) {
            tracing::warn!(
                "the host itself does not reach port forwards: /proc/sys/net/ipv4/conf/lo: {error}"
            );
        }
    }

    fn chosen(&self) -> impl Iterator<Item = Chosen> {
        self.live.networks.iter().filter_map(|network| network.ports)
    }

    /// Ports that are kept from the host's programs.
    fn kept_ports(&self) -> Vec<Range> {
        let networks = self.live.networks.iter().filter(|network| self.is_on_shared(network.uplink));
        let forwarded = networks.flat_map(|network| crate::forwards::ports(&network.network));
        self.chosen().map(|chosen| chosen.range).chain(forwarded).collect()
    }

    /// Names the sockets of the host's programs among ports that are to lead to a guest.
    pub(crate) fn sockets_at(
        &mut self,
        range: Range,
        protocol: &str,
        address: &dyn Fn(Ipv4Addr) -> bool,
    ) -> Answer<Option<String>> {
        let own = self.resolvers.leave_ports(range);
        let mut clashes =
            sockets::within(range).map_err(|error| internal(format!("listing sockets: {error}")))?;
        clashes.retain(|clash| {
            clash.protocol == protocol && clash.address.is_none_or(address) && !own.contains(&clash.inode)
        });
        Ok((!clashes.is_empty()).then(|| sockets::name(&clashes)))
    }

    pub(crate) fn is_on_shared(&self, uplink: Option<u16>) -> bool {
        self.live.uplinks.iter().any(|other| other.is_shared() && Some(other.id) == uplink)
    }

    /// Gives every network behind a shared uplink its ports.
    fn choose_ports(&mut self) -> Answer<()> {
        for index in 0..self.live.networks.len() {
            let Some(network) = self.live.networks.get(index) else { break };
            let (wanted, name) = (network.network.forward.nat_ports, network.network.name.clone());
            let ports = match network.ports {
                _ if !self.is_on_shared(network.uplink) => None,
                Some(chosen) if chosen.wanted == wanted => Some(chosen),
                _ => Some(Chosen { wanted, range: self.choose(&name, wanted)? }),
            };
            if let Some(network) = self.live.networks.get_mut(index) {
                network.ports = ports;
            }
        }
        Ok(())
    }

    fn choose(&mut self, network: &str, wanted: Option<Range>) -> Answer<Range> {
        if let Some(wanted) = wanted.filter(|_| !ports::is_free_choice(wanted)) {
            let clashes = self.claim(wanted)?;
            return if clashes.is_empty() {
                Ok(wanted)
            } else {
                Err(failure::clash(network, wanted, &clashes))
            };
        }
        let others = self.chosen().find(|chosen| ports::is_free_choice(chosen.wanted));
        if let Some(chosen) = others {
            return Ok(chosen.range);
        }
        let mut first = None;
        for block in ports::blocks(ports::ephemeral()) {
            let clashes = self.claim(block)?;
            if clashes.is_empty() {
                return Ok(block);
            }
            first.get_or_insert((block, clashes));
        }
        let (block, clashes) = first.unwrap_or_default();
        Err(failure::clash(network, block, &clashes))
    }

    /// Reserves ports, and says whose sockets are there all the same.
    fn claim(&mut self, range: Range) -> Answer<Vec<sockets::Clash>> {
        let mut all = self.kept_ports();
        all.push(range);
        self.reserve(&all)?;
        let own = self.resolvers.leave_ports(range);
        let mut clashes =
            sockets::within(range).map_err(|error| internal(format!("listing sockets: {error}")))?;
        clashes.retain(|clash| !clash.is_inland() && !own.contains(&clash.inode));
        Ok(clashes)
    }

    fn reserve(&self, wanted: &[Range]) -> Answer<()> {
        match ports::reserve(self.store.disk(), &self.sharing.note, wanted) {
            Ok(()) => Ok(()),
            Err(error) if wanted.iter().any(|range| ports::overlap(*range, ports::ephemeral())) => {
                Err(failure::reservation(&error))
            }
            Err(error) => {
                // The host gives none of these away.
                tracing::warn!("NAT's ports cannot be reserved: {error}");
                Ok(())
            }
        }
    }

    /// What belongs to NAT on an uplink.
    fn scope(&self, uplink: &LiveUplink) -> Scope {
        let networks = self.live.networks.iter().filter(|network| network.uplink == Some(uplink.id));
        let own = uplink.address.map(|net| (net.addr(), net.addr()));
        let pools = networks.clone().filter_map(|network| network.network.forward.nat_addresses);
        let mut ports: Vec<Range> =
            networks.clone().filter_map(|network| network.ports).map(|chosen| chosen.range).collect();
        ports.sort_unstable();
        ports.dedup();
        let forwards = networks.flat_map(|network| crate::forwards::endpoints(&network.network));
        let forward = |(protocol, address, ports)| Forwarded { protocol, address, ports };
        let mut forwards: Vec<Forwarded> = forwards.map(forward).collect();
        forwards.sort_unstable();
        Scope { addresses: own.into_iter().chain(pools).collect(), ports, forwards }
    }

    /// Has the programs of an uplink be as they should; the new ones are there before the old ones go.
    fn hang(&mut self, uplink: &LiveUplink) -> Answer<()> {
        let listed = netlink::index(&uplink.dev);
        let tap = listed.map_err(|error| internal(format!("listing interfaces: {error}")))?;
        let Some(tap) = tap else { return Ok(()) };
        let face = uplink.address.and_then(|_| uplink.face());
        let plan = Plan { scope: self.scope(uplink), face, tap, mtu: uplink.mtu };
        let before = self.sharing.hung.remove(&uplink.id);
        if before.as_ref().is_some_and(|hung| hung.plan == plan) {
            self.sharing.hung.extend(before.map(|hung| (uplink.id, hung)));
            return Ok(());
        }
        let (maps, old) = match before {
            Some(Hung { maps, hooks, .. }) => (maps, hooks),
            None => (make_maps().map_err(|error| failure::refused(uplink, Step::Map, &error))?, Vec::new()),
        };
        let hooks = match hang_all(&plan, &maps, (uplink.id, self.sharing.classic)) {
            Ok(hooks) => hooks,
            // The interface went this moment, which the kernel tells as well.
            Err((_, error)) if error.raw_os_error() == Some(libc::ENODEV) => Vec::new(),
            Err((step, error)) => {
                old.into_iter().for_each(|hook| hook.unhang(None));
                return Err(failure::refused(uplink, step, &error));
            }
        };
        let change = Change { mtu: Some(plan.mtu), ..Change::default() };
        if let Err(error) = netlink::change(tap, change) {
            tracing::warn!("interface {}: {error}", uplink.dev);
        }
        let hung = Hung { port: uplink.port, plan, maps, hooks };
        self.keep(&hung)?;
        for old in old {
            let next = hung.hooks.iter().find(|next| next.is_where(&old));
            old.unhang(next);
        }
        self.sharing.hung.insert(uplink.id, hung);
        Ok(())
    }

    /// Gives the datapath copies of what the programs hang on: they act on while control is restarted.
    fn keep(&self, hung: &Hung) -> Answer<()> {
        let holds: Vec<_> = hung.hooks.iter().map(|hook| hook.holds.as_fd()).collect();
        self.link()?.send_borrowed(&ToDatapath::Keep { port: hung.port }, &holds)
    }

    /// The same for a datapath that has none.
    pub(crate) fn keep_all(&self) -> Answer<()> {
        self.sharing.hung.values().try_for_each(|hung| self.keep(hung))
    }

    /// Leaves the host as it was.
    pub(crate) fn end_sharing(&mut self) {
        let hung = std::mem::take(&mut self.sharing.hung);
        hung.into_values().flat_map(|hung| hung.hooks).for_each(|hook| hook.unhang(None));
        self.switch_loopback();
        if let Err(failure) = self.reserve(&[]) {
            tracing::error!("{}", failure.message);
        }
    }

    /// Brings shared uplinks to the host's interfaces, addresses and routes.
    pub(crate) fn follow_host(&mut self) {
        let changed = self.look_around();
        if (changed || self.sharing.unfinished)
            && let Err(failure) = self.apply()
        {
            tracing::error!("shared uplink: {}", failure.message);
        }
    }

    /// Notes what the host is; true when it is not what it was.
    pub(crate) fn look_around(&mut self) -> bool {
        let mut uplinks = self.live.uplinks.clone();
        for uplink in uplinks.iter_mut().filter(|uplink| uplink.is_shared()) {
            let before = uplink.clone();
            if let Err(error) = uplink.look() {
                tracing::warn!("the host's way out cannot be found: {error}");
            }
            if before.address != uplink.address || before.target != uplink.target {
                match (&uplink.target, uplink.address) {
                    (Some(target), Some(net)) => {
                        tracing::info!("uplink {}: {} on {}", uplink.dev, net.addr(), target.name);
                    }
                    _ => tracing::warn!("uplink {}: the host has no way out", uplink.dev),
                }
            }
        }
        let changed = uplinks != self.live.uplinks;
        if changed {
            self.live.uplinks = uplinks;
        }
        changed
    }
}

fn make_maps() -> io::Result<Maps> {
    let map = |key, entries| bpf::map(bpf::MapKind::Recent, key, program::VALUES, entries);
    privilege::with(CapabilitySet::BPF, || {
        Ok(Maps {
            echoes: map(program::ECHO_KEY, ECHOES)?,
            fragments: map(program::FRAGMENT_KEY, FRAGMENTS)?,
            locals: map(program::LOCAL_KEY, LOCALS)?,
        })
    })
}

/// Nothing while the host has no way out.
fn hang_all(plan: &Plan, maps: &Maps, place: (u16, bool)) -> Result<Vec<Hook>, (Step, io::Error)> {
    let Some(face) = plan.face else { return Ok(Vec::new()) };
    let mut result = Ok(Vec::new());
    let raised = privilege::with(CapabilitySet::BPF, || {
        result = hooks(plan, maps, &face, place);
        Ok(())
    });
    raised.map_err(|error| (Step::Load, error))?;
    result
}

fn hooks(
    plan: &Plan,
    maps: &Maps,
    face: &Face,
    (uplink, classic): (u16, bool),
) -> Result<Vec<Hook>, (Step, io::Error)> {
    // Outward first: nobody writes before the others bring something, or a guest does.
    let outward = program::outward(&plan.scope, maps, face);
    let inward = program::inward(&plan.scope, maps, face, plan.tap);
    let inland = (!plan.scope.forwards.is_empty()).then(|| local::inland(&plan.scope, maps, plan.tap));
    let all = [
        (Some(outward), c"pontoon_out", plan.tap),
        (Some(inward), c"pontoon_in", face.index),
        (inland, c"pontoon_lo", local::LOOPBACK),
    ];
    let mut hooks: Vec<Hook> = Vec::new();
    for (code, name, interface) in all {
        let Some(code) = code else { continue };
        match hook::hang(&code, name, arriving(interface, uplink), classic) {
            Ok(hook) => hooks.push(hook),
            Err(failed) => {
                hooks.into_iter().for_each(|hook| hook.unhang(None));
                return Err(failed);
            }
        }
    }
    Ok(hooks)
}

fn arriving(interface: u32, uplink: u16) -> Place {
    Place { interface, way: Way::Arriving, handle: HANDLE.saturating_add(uplink) }
}
