//! Fragments on their way through NAT.
//!
//! All of one datagram go to one worker, its keeper, which lets the first go on before the others, to the worker that owns
//! its session. So a fragment is handed over twice at most.

use alloc::vec::Vec;

use pontoon_wire::frame::Packet;

use super::{Context, Decision, State};
use crate::drops::DropReason;
use crate::egress::{Egress, FrameRef};
use crate::nat::{self, Side, Step, Waiting};
use crate::snapshot::Network;

/// Where fragments came from.
#[derive(Clone, Copy)]
enum From<'a> {
    /// A network, and the uplink they leave by.
    Inside(&'a Network, (u16, u16)),
    Uplink(u16),
}

impl From<'_> {
    fn link(self) -> (Side, u16) {
        match self {
            Self::Inside(_, (network, _)) => (Side::Source, network),
            Self::Uplink(id) => (Side::Destination, id),
        }
    }
}

impl State {
    pub(super) fn fragment_out<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        ids: (u16, u16),
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let result = self.fragment(context, From::Inside(network, ids), frame, packet);
        self.count_lost_fragments();
        result
    }

    pub(super) fn fragment_in<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        uplink: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let result = self.fragment(context, From::Uplink(uplink), frame, packet);
        self.count_lost_fragments();
        result
    }

    pub(super) fn count_lost_fragments(&mut self) {
        (0..self.nat.take_lost_fragments()).for_each(|_| self.drops.count(DropReason::NatFragment));
    }

    fn fragment<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        from: From<'_>,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let (worker, (_, link)) = (self.config.worker, from.link());
        let keeper = self.nat.keeper(link, packet);
        if context.handed && keeper != worker {
            // Its keeper handed it over.
            return self.translate(context, from, frame, packet);
        }
        if self.hand_over(context, keeper, frame)? {
            return Ok(());
        }
        let port = match from {
            From::Inside(..) => nat::outbound_port(frame, packet),
            From::Uplink(id) => self.nat.inbound_port(id, frame, packet),
        };
        if port.is_none() && packet.ip.fragment_offset() == 0 {
            // Nothing NAT has sessions for; the others wait in vain.
            return self.translate(context, from, frame, packet);
        }
        let step = self.nat.note_fragment(context.now.mono, from.link(), packet, port)?;
        let Step::Go(port, waiting) = step else {
            return self.nat.hold_fragment(context.now.mono, from.link(), packet, (context.vnet, frame));
        };
        let handed = context.handed;
        let first = self.go_on(context, from, port, frame, packet);
        self.follow(context, from, port, waiting, handed);
        first
    }

    /// What waited goes the way of its first fragment.
    fn follow<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        from: From<'_>,
        port: u16,
        waiting: Vec<Waiting>,
        handed: bool,
    ) {
        let (ingress, vnet) = (context.ingress, context.vnet);
        for (vnet, mut bytes) in waiting {
            (context.vnet, context.handed) = (vnet, handed);
            let gone = Packet::parse(&bytes)
                .ok_or(DropReason::IpMalformed)
                .and_then(|packet| self.go_on(context, from, port, &mut bytes, &packet));
            context.ingress = ingress;
            if let Err(reason) = gone {
                self.drops.count(reason);
            }
        }
        context.vnet = vnet;
    }

    /// A fragment goes to the worker that owns its session.
    fn go_on<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        from: From<'_>,
        port: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let owner = nat::owner(port, self.config.workers);
        if owner == self.config.worker {
            return self.translate(context, from, frame, packet);
        }
        context.out.hand_off(owner, context.ingress, FrameRef { vnet: context.vnet, bytes: frame });
        Ok(())
    }

    fn translate<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        from: From<'_>,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        match from {
            From::Inside(network, ids) => self.translate_out(context, network, ids, frame, packet),
            From::Uplink(id) => self.admit_translated(context, id, frame, packet),
        }
    }
}
