//! The short way, for what nearly all traffic consists of: frames between guests whose places are known, and packets
//! of known sessions to and from known neighbours.
//!
//! It only ever forwards. A frame that would be refused, answered, flooded or learned from, or that anything has to be
//! asked for that is not in [`Facts`], takes the long way, and nothing was changed before.

use pontoon_wire::brief::Brief;
use pontoon_wire::{Mac, ethernet, frame, vnet};

use super::State;
use super::facts::{Exit, Facts, Lan, Place};
use crate::egress::{Egress, FrameRef};
use crate::snapshot::PortId;
use crate::switch::Key;
use crate::time::Time;

/// How a frame came.
pub(super) struct Arrival {
    pub(super) ingress: PortId,
    pub(super) vnet: vnet::Header,
    pub(super) handed: bool,
}

/// Where a frame may leave.
type Way = Option<PortId>;

impl State {
    /// `None`: the frame is as it was, and has to take the long way.
    #[inline]
    pub(super) fn quick<E: Egress>(
        &mut self,
        facts: &Facts,
        now: Time,
        arrival: &mut Arrival,
        frame: &mut [u8],
        out: &mut E,
    ) -> Option<()> {
        frame::check_in_place(&mut arrival.vnet, frame).ok()?;
        let (destination, source) = addresses(frame)?;
        let (ingress, second, vnet) = (arrival.ingress, self.clock.second(now), &arrival.vnet);
        let port = match facts.place(ingress)? {
            Place::Network { lan, guest } => {
                let settled = if arrival.handed {
                    !lan.is_accusing()
                } else {
                    lan.is_open(ingress) && (!guest || lan.macs.is_fresh(second, source, ingress))
                };
                if !settled || (*guest && source == lan.gateway) {
                    return None;
                }
                if destination != lan.gateway {
                    switch(lan, second, ingress, destination, vnet, frame)?
                } else if *guest {
                    self.pass_out(lan, now, vnet, frame)?
                } else {
                    return None;
                }
            }
            Place::Uplink(exit) => self.pass_in(facts, exit, now, vnet, frame)?,
            Place::Nothing => return None,
        };
        out.transmit(port, FrameRef { vnet: arrival.vnet, bytes: frame });
        Some(())
    }

    /// A packet to the gateway's link-layer address, on its way out.
    #[inline(always)]
    fn pass_out(&mut self, lan: &Lan, now: Time, vnet: &vnet::Header, frame: &mut [u8]) -> Way {
        let (exit, brief) = (lan.exit.as_ref()?, Brief::parse(frame)?);
        let link = exit.link()?;
        if brief.segment(vnet, frame) > u32::from(exit.mtu) {
            return None;
        }
        let hop = link.next_hop(brief.destination());
        let hop = self.neighbours.get(usize::from(exit.id))?.recent(now, hop)?;
        let external = lan.external(link.address, brief.source());
        self.nat.leave(now, (external, self.epoch), lan.id, vnet, frame, &brief)?;
        readdress(frame, hop, &exit.mac);
        Some(exit.port)
    }

    /// A packet from an uplink, on its way to a guest.
    #[inline(always)]
    fn pass_in(
        &mut self,
        facts: &Facts,
        exit: &Exit,
        now: Time,
        vnet: &vnet::Header,
        frame: &mut [u8],
    ) -> Way {
        let brief = Brief::parse(frame).filter(|_| ethernet::destination(frame) == Some(exit.mac))?;
        let address = exit.link()?.address;
        let ours = |ip| ip == address || exit.has(ip);
        if !ours(brief.destination()) || ours(brief.source()) {
            return None;
        }
        let entry = self.nat.admit(now, exit.id, frame, &brief)?;
        let lan = facts.lan(entry.inside.network)?;
        let port = lan.macs.place(self.clock.second(now), entry.inside.mac.into())?;
        if !lan.is_open(port) || brief.segment(vnet, frame) > u32::from(lan.mtu) {
            return None;
        }
        self.nat.enter(now, &entry, vnet, frame, &brief);
        readdress(frame, &entry.inside.mac, &lan.mac);
        Some(port)
    }
}

/// A frame from guest to guest.
#[inline]
fn switch(
    lan: &Lan,
    second: u32,
    ingress: PortId,
    destination: Key,
    vnet: &vnet::Header,
    frame: &[u8],
) -> Way {
    let fits = if vnet.is_gso() { vnet.gso_size.get() < lan.mtu } else { frame.len() <= lan.longest };
    if !fits || destination.is_group() || ethernet::ethertype(frame) == Some(ethernet::ARP) {
        return None;
    }
    lan.macs.place(second, destination).filter(|&port| port != ingress && lan.is_open(port))
}

/// Destination and source of a frame of a length that is allowed.
#[inline]
fn addresses(frame: &[u8]) -> Option<(Key, Key)> {
    let head = frame.first_chunk::<{ ethernet::HEADER }>().filter(|_| frame.len() <= frame::MAX)?;
    let (destination, source) = (head.first_chunk()?, head.last_chunk()?);
    Some((Key::new(*destination), Key::new(*source)))
}

#[inline]
fn readdress(frame: &mut [u8], destination: &Mac, source: &Mac) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs[..6].copy_from_slice(destination);
        macs[6..].copy_from_slice(source);
    }
}
