//! The short way for the first packet of a session: what the long way asks of both ends is in [`Opening`]. It only ever
//! opens and forwards, as [`super::quick`] does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::brief::Brief;
use pontoon_wire::{ethernet, ipv4};

use super::facts::{Exit, Lan};
use super::quick::{addresses, offload, send};
use super::{Context, State};
use crate::egress::Egress;
use crate::gateway::is_unicast;
use crate::nat;
use crate::snapshot::{Network, Snapshot, Subnet, of_pool};

/// Which packets of a network may open sessions by its uplink.
pub(super) struct Opening {
    /// Where guests are, and the gateway's addresses.
    sources: Vec<Subnet>,
    /// What is behind guests.
    behind: Vec<Subnet>,
    inside: Arc<Inside>,
    /// First and last external port.
    ports: (u16, u16),
}

/// Addresses in subnets of any network: first and last of each, in order, none in another.
pub(super) struct Inside(Vec<(u32, u32)>);

impl Inside {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let subnets = snapshot.networks.iter().flatten().flat_map(|network| &network.subnets);
        let mut all: Vec<_> =
            subnets.map(|subnet| (subnet.network().to_bits(), subnet.broadcast().to_bits())).collect();
        all.sort_unstable();
        // Subnets are apart, or one is in the other.
        all.dedup_by(|next, last| next.0 <= last.1 && next.1 <= last.1);
        Self(all)
    }

    fn has(&self, address: u32) -> bool {
        let before = self.0.partition_point(|&(first, _)| first <= address);
        before.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|&(_, last)| address <= last)
    }
}

impl Opening {
    pub(super) fn new(network: &Network, inside: &Arc<Inside>) -> Self {
        Self {
            sources: network.subnets.clone(),
            behind: network.routes.iter().map(|route| route.destination).collect(),
            inside: Arc::clone(inside),
            ports: network.nat_ports,
        }
    }

    /// Both ends are where they should be, leaving aside what addresses the uplink has.
    fn allows(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        is_unicast(source, None)
            && is_unicast(destination, None)
            && self.sources.iter().any(|subnet| subnet.contains(source))
            && !self.sources.iter().any(|subnet| subnet.address == source)
            && !self.behind.iter().any(|subnet| subnet.contains(destination))
            && !self.inside.has(destination.to_bits())
    }
}

impl State {
    #[cold]
    #[inline(never)]
    pub(super) fn try_opening<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        lan: &Lan,
        frame: &mut [u8],
    ) -> Option<()> {
        let (exit, opening) = (lan.exit.as_ref()?, lan.opening.as_ref()?);
        let (destination, source) = addresses(frame)?;
        if destination != lan.gateway {
            return None;
        }
        let ingress = context.ingress;
        self.memo.open(&lan.macs, context.now.mono);
        if !self.is_settled(lan, ingress, source, context.handed) {
            return None;
        }
        let (offload, brief) = (offload(&mut context.vnet, frame)?, Brief::parse(frame)?);
        let owner = nat::owner(brief.source_port(), self.config.workers);
        if brief.segment(offload, frame) > u32::from(exit.mtu) || owner != self.config.worker {
            return None;
        }
        let now = context.now.mono;
        let (outside, next_hop) = self.outside(lan, exit, opening, &brief)?;
        let macs = *self.neighbours.get(usize::from(exit.id))?.recent(now, next_hop)?;
        let inside = nat::Inside { network: lan.id, mac: ethernet::source(frame)? };
        self.nat.begin(now, &outside, &inside, offload, frame, &brief)?;
        if brief.protocol == ipv4::TCP {
            let (l4, end) = (ethernet::HEADER + ipv4::HEADER, ethernet::HEADER + usize::from(brief.length));
            let partial = offload.is_some_and(pontoon_wire::vnet::Header::needs_checksum);
            nat::clamp_mss(frame, l4, end, partial, exit.mtu.min(lan.mtu));
        }
        *frame.first_chunk_mut()? = macs;
        send(context.out, exit.port, offload, frame);
        Some(())
    }

    /// How a packet leaves, and to whom.
    fn outside(
        &self,
        lan: &Lan,
        exit: &Exit,
        opening: &Opening,
        brief: &Brief,
    ) -> Option<(nat::Outside, u32)> {
        let [source, destination] =
            [brief.source(), brief.destination()].map(|raw| Ipv4Addr::from(raw.to_le_bytes()));
        let link = exit.address.link();
        let is_own = brief.destination() == link.address || exit.has(brief.destination());
        if link.address == 0 || is_own || !opening.allows(source, destination) {
            return None;
        }
        let own = Ipv4Addr::from(link.address.to_le_bytes());
        let outside = nat::Outside {
            uplink: exit.id,
            address: lan.pool.map_or(own, |pool| of_pool(pool, source)),
            ports: opening.ports,
            mtu: exit.mtu,
            epoch: self.epoch,
        };
        Some((outside, link.next_hop(brief.destination())))
    }
}
