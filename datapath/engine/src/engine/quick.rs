//! The short way, for what nearly all traffic consists of: frames between guests whose places are known, and packets
//! of known sessions to and from known neighbours.
//!
//! It only ever forwards. A frame that would be refused, answered, flooded or learned from, or that anything has to be
//! asked for that is not in [`Facts`], takes the long way, and nothing was changed before.

use core::ops::RangeInclusive;

use pontoon_wire::brief::{self, Brief};
use pontoon_wire::{Mac, ethernet, frame, vnet};

use super::facts::{Exit, Facts, Lan, Place};
use super::{Context, State};
use crate::egress::{Egress, FrameRef};
use crate::snapshot::PortId;
use crate::switch::Key;
use crate::time::Time;

/// Octets a frame may have here: shorter ones hold no TCP, and are rare.
const LENGTHS: RangeInclusive<usize> = brief::LONGEST_HEAD..=frame::MAX;

/// Where a frame may leave.
type Way = Option<PortId>;
/// What somebody behind us is to do to a frame, if anything.
pub(super) type Offload<'a> = Option<&'a vnet::Header>;

impl State {
    #[inline(never)]
    pub(super) fn of_guest<E: Egress>(&mut self, context: &mut Context<'_, E>, lan: &Lan, frame: &mut [u8]) {
        if self.try_guest::<E, false>(context, lan, frame).is_none()
            && self.try_opening(context, lan, frame).is_none()
        {
            self.run(context, frame);
        }
    }

    /// The same for frames that another worker handed over.
    #[inline(never)]
    pub(super) fn of_guest_elsewhere<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        lan: &Lan,
        frame: &mut [u8],
    ) {
        if self.try_guest::<E, true>(context, lan, frame).is_none()
            && self.try_opening(context, lan, frame).is_none()
        {
            self.run(context, frame);
        }
    }

    #[inline(never)]
    pub(super) fn of_uplink<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        exit: &Exit,
        frame: &mut [u8],
        facts: &Facts,
    ) {
        if self.try_uplink(context, exit, frame, facts).is_none() {
            self.run(context, frame);
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn of_rare<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        place: Option<&Place>,
        frame: &mut [u8],
    ) {
        let done = match place {
            Some(Place::Host(lan)) => self.try_host(context, lan, frame),
            _ => None,
        };
        if done.is_none() {
            self.run(context, frame);
        }
    }

    #[inline(always)]
    fn try_guest<E: Egress, const HANDED: bool>(
        &mut self,
        context: &mut Context<'_, E>,
        lan: &Lan,
        frame: &mut [u8],
    ) -> Option<()> {
        let (offload, now, ingress) = (offload(&mut context.vnet, frame)?, context.now.mono, context.ingress);
        let (destination, source) = addresses(frame)?;
        self.memo.open(&lan.macs, now);
        if !self.is_settled(lan, ingress, source, HANDED) {
            return None;
        }
        let port = if destination == lan.gateway {
            self.pass_out(lan, now, offload, frame)?
        } else {
            self.pass_across(lan, ingress, destination, offload, frame)?
        };
        send(context.out, port, offload, frame);
        Some(())
    }

    /// A guest's frame may go on, and there is nothing to learn from it, or another worker did. The memo is open.
    #[inline(always)]
    pub(super) fn is_settled(&mut self, lan: &Lan, ingress: PortId, source: Key, handed: bool) -> bool {
        if handed {
            return !lan.is_accusing();
        }
        lan.is_open(ingress) && self.memo.is_fresh(&lan.macs, source, ingress, lan.gateway)
    }

    #[inline(always)]
    fn try_host<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        lan: &Lan,
        frame: &mut [u8],
    ) -> Option<()> {
        let (offload, ingress) = (offload(&mut context.vnet, frame)?, context.ingress);
        let (destination, _) = addresses(frame)?;
        if !lan.is_open(ingress) || destination == lan.gateway {
            return None;
        }
        self.memo.open(&lan.macs, context.now.mono);
        let port = self.pass_across(lan, ingress, destination, offload, frame)?;
        send(context.out, port, offload, frame);
        Some(())
    }

    #[inline(always)]
    fn try_uplink<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        exit: &Exit,
        frame: &mut [u8],
        facts: &Facts,
    ) -> Option<()> {
        let (offload, now) = (offload(&mut context.vnet, frame)?, context.now.mono);
        let port = self.pass_in(facts, exit, now, offload, frame)?;
        send(context.out, port, offload, frame);
        Some(())
    }

    /// A frame to another port of the network.
    #[inline(always)]
    fn pass_across(
        &mut self,
        lan: &Lan,
        ingress: PortId,
        destination: Key,
        offload: Offload<'_>,
        frame: &[u8],
    ) -> Way {
        let fits = match offload {
            Some(vnet) if vnet.is_gso() => vnet.gso_size.get() < lan.mtu,
            _ => frame.len() <= lan.longest,
        };
        if !fits || ethernet::ethertype(frame) == Some(ethernet::ARP) {
            return None;
        }
        let port = self.memo.place(&lan.macs, lan.id, destination)?;
        (port != ingress && lan.is_open(port)).then_some(port)
    }

    /// A packet to the gateway's link-layer address, on its way out.
    #[inline(always)]
    fn pass_out(&mut self, lan: &Lan, now: Time, offload: Offload<'_>, frame: &mut [u8]) -> Way {
        let (exit, brief) = (lan.exit.as_ref()?, Brief::parse(frame)?);
        if brief.segment(offload, frame) > u32::from(exit.mtu) {
            return None;
        }
        let neighbours = &self.neighbours;
        let way = |external| {
            let link = exit.address.link();
            let ours = link.address == external || lan.translates(brief.source(), external);
            let neighbours = neighbours.get(usize::from(exit.id)).filter(|_| ours)?;
            neighbours.recent(now, link.next_hop(brief.destination()))
        };
        let session = (lan.session_key, &self.epoch);
        let macs = self.nat.leave(now, session, way, offload, frame, &brief)?;
        *frame.first_chunk_mut()? = *macs;
        Some(exit.port)
    }

    /// A packet from an uplink, on its way to a guest.
    #[inline(always)]
    fn pass_in(
        &mut self,
        facts: &Facts,
        exit: &Exit,
        now: Time,
        offload: Offload<'_>,
        frame: &mut [u8],
    ) -> Way {
        let brief = Brief::parse(frame)?;
        let (destination, _) = addresses(frame)?;
        let ours = brief.destination() == exit.address.word() || exit.has(brief.destination());
        if destination != exit.mac || !ours {
            return None;
        }
        let entry = self.nat.admit((exit.session_key, &self.epoch), frame, &brief)?;
        let lan = facts.lan(entry.network)?;
        if brief.segment(offload, frame) > u32::from(lan.mtu) {
            return None;
        }
        self.memo.open(&lan.macs, now);
        let port = self.memo.place(&lan.macs, lan.id, Key::new(entry.mac))?;
        if !lan.is_open(port) {
            return None;
        }
        self.nat.enter(now, &entry, offload, frame, &brief)?;
        set_source(frame, lan.mac)?;
        Some(port)
    }
}

/// What the vnet header asks for, if it is true, of a frame of an allowed length.
#[inline(always)]
pub(super) fn offload<'a>(vnet: &'a mut vnet::Header, frame: &[u8]) -> Option<Offload<'a>> {
    if !LENGTHS.contains(&frame.len()) {
        return None;
    }
    if vnet.is_bare() { Some(None) } else { checked_offload(vnet, frame).map(Some) }
}

#[cold]
#[inline(never)]
fn checked_offload<'a>(vnet: &'a mut vnet::Header, frame: &[u8]) -> Option<&'a vnet::Header> {
    frame::check_in_place(vnet, frame).ok()?;
    Some(vnet)
}

#[inline(always)]
pub(super) fn send(out: &mut impl Egress, port: PortId, offload: Offload<'_>, frame: &[u8]) {
    out.transmit(port, FrameRef { vnet: offload.copied().unwrap_or_default(), bytes: frame });
}

/// Destination and source of a frame.
#[inline(always)]
pub(super) fn addresses(frame: &[u8]) -> Option<(Key, Key)> {
    let head = frame.first_chunk::<{ ethernet::HEADER }>()?;
    let (destination, source) = (head.first_chunk()?, head.last_chunk()?);
    Some((Key::new(*destination), Key::new(*source)))
}

#[inline(always)]
fn set_source(frame: &mut [u8], mac: Mac) -> Option<()> {
    let head = frame.first_chunk_mut::<{ ethernet::HEADER }>()?;
    head[6..12].copy_from_slice(&mac);
    Some(())
}
