//! Networks in the segment of an interface that is no bridge: what hangs in the kernel for them.
//!
//! [`State::splice`] brings it to what `live` and the host's interfaces are, and may be called at any time.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use pontoon_proto::api::Failure;
use pontoon_proto::message::ToDatapath;
use pontoon_proto::privilege;
use rustix::thread::CapabilitySet;

use super::program::{self, Device, Marks, Sides};
use crate::ebpf::bpf::{Addresses, Way};
use crate::ebpf::hook::{self, Hook, Place, Step};
use crate::failure::{Answer, fail_help, internal};
use crate::live::LiveNetwork;
use crate::netlink::{self, Change, Link};
use crate::state::State;
use crate::sys;

/// Addresses on each side of an interface; the one unused for longest is forgotten, until it sends again.
const ADDRESSES: u32 = 8192;
/// Of these programs among ours on an interface.
const HANDLE: u16 = 2;

/// What hangs for networks, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Splices {
    hung: BTreeMap<u16, Hung>,
    /// Something could not be brought about, and is tried again.
    pub(crate) unfinished: bool,
}

#[derive(Debug)]
struct Hung {
    port: u16,
    plan: Plan,
    sides: Sides,
    /// `None` while the interface is not there.
    cut: Option<Cut>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    device: Option<Device>,
    tap: u32,
}

#[derive(Debug)]
struct Cut {
    /// At the tap, and for what leaves by and arrives at the interface.
    hooks: [Hook; 3],
    /// Has the interface take frames to addresses that are not its own.
    promiscuous: OwnedFd,
}

impl State {
    /// Brings programs to the networks that are active, and to the interfaces there are.
    pub(crate) fn splice(&mut self) -> Answer<()> {
        let wanted = |live: &&LiveNetwork| live.segment.as_ref().is_some_and(|it| it.device.is_some());
        let networks: Vec<LiveNetwork> = self.live.networks.iter().filter(wanted).cloned().collect();
        if networks.is_empty() && self.splices.hung.is_empty() {
            self.splices.unfinished = false;
            return Ok(());
        }
        self.splices.unfinished = true;
        let gone = |id: &u16, _: &mut Hung| networks.iter().all(|live| live.id != *id);
        for (_, hung) in self.splices.hung.extract_if(.., gone) {
            hung.cut.into_iter().for_each(|cut| cut.undo(None));
        }
        let links = netlink::links().map_err(|error| internal(format!("listing interfaces: {error}")))?;
        for live in &networks {
            self.splice_one(live, &links)?;
        }
        self.splices.unfinished = false;
        Ok(())
    }

    fn splice_one(&mut self, live: &LiveNetwork, links: &[Link]) -> Answer<()> {
        let named = |name: &str| links.iter().find(|link| link.name == name);
        let Some(tap) = named(live.device()) else { return Ok(()) };
        let device = named(live.bridge()).filter(|link| super::fault(live.bridge(), link, links).is_none());
        let marks = Marks::of(live.network.uuid.unwrap_or_default().into_bytes());
        let device = device.and_then(|link| Some(Device { index: link.index, mac: link.mac?, marks }));
        let plan = Plan { device, tap: tap.index };
        let before = self.splices.hung.remove(&live.id);
        if before.as_ref().is_some_and(|hung| hung.plan == plan) {
            self.splices.hung.extend(before.map(|hung| (live.id, hung)));
            return Ok(());
        }
        let (sides, old) = match before {
            Some(Hung { sides, cut, .. }) => (sides, cut),
            None => (make_sides().map_err(|error| refused(live, Step::Map, &error))?, None),
        };
        let cut = match plan.cut(&sides, self.sharing.classic) {
            Ok(cut) => cut,
            // The interface went this moment, which the kernel tells as well.
            Err((_, error)) if error.raw_os_error() == Some(libc::ENODEV) => None,
            Err((step, error)) => {
                old.into_iter().for_each(|cut| cut.undo(None));
                return Err(refused(live, step, &error));
            }
        };
        let carrier = Change { carrier: Some(cut.is_some()), ..Change::default() };
        if let Err(error) = netlink::change(tap.index, carrier) {
            tracing::debug!("interface {}: {error}", tap.name);
        }
        let hung = Hung { port: live.port, plan, sides, cut };
        self.keep_splice(&hung)?;
        old.into_iter().for_each(|old| old.undo(hung.cut.as_ref()));
        say(live, &hung);
        self.splices.hung.insert(live.id, hung);
        Ok(())
    }

    /// Gives the datapath copies of what the programs hang on: they act on while control is restarted.
    fn keep_splice(&self, hung: &Hung) -> Answer<()> {
        let holds: Vec<_> = hung.cut.iter().flat_map(Cut::holds).map(AsFd::as_fd).collect();
        self.link()?.send_borrowed(&ToDatapath::Keep { port: hung.port }, &holds)
    }

    /// The same for a datapath that has none.
    pub(crate) fn keep_splices(&self) -> Answer<()> {
        self.splices.hung.values().try_for_each(|hung| self.keep_splice(hung))
    }

    /// Leaves the host as it was.
    pub(crate) fn end_splices(&mut self) {
        let hung = std::mem::take(&mut self.splices.hung);
        hung.into_values().filter_map(|hung| hung.cut).for_each(|cut| cut.undo(None));
    }
}

pub(super) fn make_sides() -> io::Result<Sides> {
    privilege::with(CapabilitySet::BPF, || {
        Ok(Sides { guests: Addresses::new(ADDRESSES)?, wire: Addresses::new(ADDRESSES)? })
    })
}

impl Plan {
    fn cut(&self, sides: &Sides, classic: bool) -> Result<Option<Cut>, (Step, io::Error)> {
        let Some(device) = self.device else { return Ok(None) };
        let promiscuous = sys::promiscuous(device.index).map_err(|error| (Step::Link, error))?;
        let mut result = Ok(None);
        let raised = privilege::with(CapabilitySet::BPF, || {
            result = hooks(sides, &device, self.tap, classic).map(Some);
            Ok(())
        });
        raised.map_err(|error| (Step::Load, error))?;
        result.map(|hooks| hooks.map(|hooks| Cut { hooks, promiscuous }))
    }
}

/// The tap's first: nothing of what comes to the tap may be taken for the host's.
fn hooks(sides: &Sides, device: &Device, tap: u32, classic: bool) -> Result<[Hook; 3], (Step, io::Error)> {
    let hang = |code: &[_], name: &CStr, interface, way| {
        hook::hang(code, name, Place { interface, way, handle: HANDLE }, classic)
    };
    let outward = hang(&program::outward(sides, device), c"pontoon_tap", tap, Way::Arriving)?;
    let leaving = match hang(
        &program::leaving(sides, device.marks, tap),
        c"pontoon_egress",
        device.index,
        Way::Leaving,
    ) {
        Ok(leaving) => leaving,
        Err(failed) => {
            outward.unhang(None);
            return Err(failed);
        }
    };
    let arriving = program::arriving(sides, device, tap);
    match hang(&arriving, c"pontoon_ingress", device.index, Way::Arriving) {
        Ok(arriving) => Ok([outward, leaving, arriving]),
        Err(failed) => {
            [outward, leaving].into_iter().for_each(|hook| hook.unhang(None));
            Err(failed)
        }
    }
}

impl Cut {
    fn holds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.hooks.iter().map(|hook| &hook.holds).chain([&self.promiscuous])
    }

    fn undo(self, next: Option<&Self>) {
        for (place, hook) in self.hooks.into_iter().enumerate() {
            hook.unhang(next.and_then(|next| next.hooks.get(place)));
        }
    }
}

fn say(live: &LiveNetwork, hung: &Hung) {
    let (name, dev) = (&live.network.name, live.bridge());
    match hung.cut {
        Some(_) => tracing::info!("network '{name}' is in the segment of {dev}"),
        None => tracing::warn!(
            "network '{name}': interface {dev} is gone, or in use by others; until it is back, guests reach each other only"
        ),
    }
}

fn refused(live: &LiveNetwork, step: Step, error: &io::Error) -> Failure {
    let (name, dev) = (&live.network.name, live.bridge());
    fail_help(
        format!("internal error: network '{name}' cannot be in the segment of '{dev}': {step}: {error}"),
        format!(
            "{}; or make {dev} a port of a bridge of the host's and name that: <bridge name='br0'/>",
            step.advice(error)
        ),
    )
}
