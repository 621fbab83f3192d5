//! Packets that are routed and not translated: between the subnets of one network, to what is behind a guest, and in
//! modes route and open to and from an uplink.
//!
//! Who is where on a network is found by ARP. The worker that a hop's address names keeps that hop's entry, so a packet
//! goes to it, once, and so does the hop's answer.

use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{Mac, arp, ethernet, icmp, ipv4, put};

use super::{Context, Decision, State, address_of, to_host};
use crate::drops::DropReason;
use crate::egress::{Egress, FrameRef};
use crate::gateway;
use crate::snapshot::{Forward, Network, Snapshot, Uplink};
use crate::time::Now;
use crate::trace::Stage;
use crate::uplink::{self, Resolve};

/// Where a packet came from, and so who is told when it goes nowhere.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    Inside(&'a Network),
    /// The uplink and its address.
    Outside(&'a Uplink, Ipv4Addr),
}

const PROHIBITED: icmp::Error =
    icmp::Error { kind: icmp::UNREACHABLE, code: icmp::ADMINISTRATIVELY_PROHIBITED, rest: 0 };
const NO_ROUTE: icmp::Error = icmp::Error { kind: icmp::UNREACHABLE, code: icmp::NET_UNREACHABLE, rest: 0 };
pub(super) const EXPIRED: icmp::Error = icmp::Error { kind: icmp::TIME_EXCEEDED, code: 0, rest: 0 };

pub(super) const fn too_long(mtu: u16) -> icmp::Error {
    icmp::Error { kind: icmp::UNREACHABLE, code: icmp::FRAGMENTATION_NEEDED, rest: mtu as u32 }
}

impl State {
    /// A packet of a guest to an address that is neither on its own network nor another network's: modes route and
    /// open.
    pub(super) fn route_out<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::Route);
        // Without an uplink the host's kernel is the router.
        let Some(id) = network.uplink else { return to_host(context, network, frame) };
        let origin = Origin::Inside(network);
        let uplink = context.snapshot.uplink(id).ok_or(DropReason::UplinkDown)?;
        let hop = address_of(context.snapshot, id)
            .map(|(subnet, gateway)| uplink::next_hop(subnet, gateway, packet.destination()));
        if hop.flatten().is_none() {
            self.complain(context, origin, frame, packet, NO_ROUTE)?;
            return Err(if hop.is_some() { DropReason::NotForwarded } else { DropReason::UplinkDown });
        }
        let long = self.admit(context, origin, frame, packet, uplink.mtu)?;
        self.send_uplink(context, id, packet.destination(), frame, long)
    }

    /// A packet to another network of pontoon, which has to be a routed one; from behind NAT it comes as from outside.
    pub(super) fn cross<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        from: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::Route);
        let found = context.snapshot.numbered().find(|(_, other)| other.takes_in(packet.destination()));
        match (found, network.forward, network.uplink) {
            (Some((id, _)), Forward::Route | Forward::Open, _) => {
                self.pass_inside(context, id, Origin::Inside(network), frame, packet)
            }
            (Some((_, other)), Forward::Nat, Some(uplink)) if other.uplink == Some(uplink) => {
                self.leave_by_nat(context, network, (from, uplink), frame, packet)
            }
            _ => self.prohibit(context, network, frame, packet, DropReason::NotForwarded),
        }
    }

    //= RFC5508#REQ-9
    /// Refuses a guest's packet.
    pub(super) fn prohibit<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        frame: &mut [u8],
        packet: &Packet,
        reason: DropReason,
    ) -> Decision {
        self.complain(context, Origin::Inside(network), frame, packet, PROHIBITED)?;
        Err(reason)
    }

    /// A packet from an uplink to the routed network `id`.
    pub(super) fn route_in<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        (id, network): (u16, &Network),
        (uplink, address): (&Uplink, Ipv4Addr),
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::Route);
        if ethernet::destination(frame) != Some(uplink.mac) {
            return Err(DropReason::UplinkNotOurs);
        }
        if self.is_inside(packet.source()) || !gateway::is_unicast(packet.source(), None) {
            return Err(DropReason::IpSourceSpoofed);
        }
        if network.is_gateway(packet.destination()) {
            return self.for_router(context, (uplink, address), frame, packet);
        }
        if !is_forwarded(network, packet.destination()) {
            return Err(DropReason::MartianDestination);
        }
        self.pass_inside(context, id, Origin::Outside(uplink, address), frame, packet)
    }

    /// Sends a packet on to where it goes on network `id`.
    pub(super) fn pass_inside<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        origin: Origin<'_>,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::Route);
        let network = context.snapshot.network(id).ok_or(DropReason::NotForwarded)?;
        let hop = network.hop(packet.destination()).ok_or(DropReason::NotForwarded)?;
        if self.hand_over(context, self.keeper(hop), frame)? {
            return Ok(());
        }
        self.admit(context, origin, frame, packet, network.mtu)?;
        self.reach(context, id, hop, frame, packet)
    }

    /// A translated packet goes to the guest it is for.
    pub(super) fn reach_guest<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let network = context.snapshot.network(id).ok_or(DropReason::NotForwarded)?;
        let guest = frame.get(ethernet::HEADER + 16..).and_then(|rest| rest.first_chunk::<4>());
        let guest = Ipv4Addr::from(*guest.ok_or(DropReason::IpMalformed)?);
        let hop = network.hop(guest).ok_or(DropReason::NotForwarded)?;
        self.reach(context, id, hop, frame, packet)
    }

    /// Sends a packet to a hop on network `id`, when that has said where it is.
    fn reach<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        hop: Ipv4Addr,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let network = context.snapshot.network(id).ok_or(DropReason::NotForwarded)?;
        let neighbours = self.inside.get_mut(usize::from(id)).ok_or(DropReason::NotForwarded)?;
        put(frame, 6, &network.mac);
        let (mac, ask) = match neighbours.resolve(context.now.mono, hop) {
            Resolve::Known { mac, ask } => (Some(mac), ask),
            Resolve::Unknown { ask } => (None, ask),
        };
        let waits = mac.is_none() && neighbours.wait(hop, context.vnet, frame);
        if ask {
            ask_inside(context.out, network, hop, &mut self.scratch);
        }
        match mac {
            Some(mac) => self.enter(context, network, frame, packet, mac),
            None if waits => Ok(()),
            None => Err(DropReason::NeighbourQueueFull),
        }
    }

    /// Checks TTL and length of a packet that is to go on by an interface of this MTU, and counts the TTL down; whether
    /// it has to be cut.
    fn admit<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        origin: Origin<'_>,
        frame: &mut [u8],
        packet: &Packet,
        mtu: u16,
    ) -> Result<bool, DropReason> {
        if packet.ip.ttl <= 1 {
            self.complain(context, origin, frame, packet, EXPIRED)?;
            return Err(DropReason::TtlExpired);
        }
        let long = gateway::exceeds(frame, packet, &context.vnet, mtu);
        if long && packet.ip.dont_fragment() {
            self.complain(context, origin, frame, packet, too_long(mtu))?;
            return Err(DropReason::FragmentationNeeded);
        }
        ipv4::decrement_ttl(frame.get_mut(ethernet::HEADER..).unwrap_or_default());
        Ok(long)
    }

    fn complain<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        origin: Origin<'_>,
        frame: &mut [u8],
        packet: &Packet,
        error: icmp::Error,
    ) -> Decision {
        match origin {
            Origin::Inside(network) => {
                self.refuse(context, network, frame, packet, error.kind, error.code, error.rest)
            }
            // Its sender is behind NAT here, and the packet it knows is another.
            Origin::Outside(_, address) if packet.source() == address => Ok(()),
            Origin::Outside(uplink, address) => {
                self.report_outside(context, (address, uplink.mac), frame, packet, error)
            }
        }
    }

    /// A packet goes to the guest at `mac`, in fragments if it is too long.
    pub(super) fn enter<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        frame: &mut [u8],
        packet: &Packet,
        mac: Mac,
    ) -> Decision {
        self.trail.pass(Stage::Deliver);
        put(frame, 0, &mac);
        let port = network.macs.lookup(context.now.mono, mac);
        if gateway::exceeds(frame, packet, &context.vnet, network.mtu) {
            return self.shrink(context, port.ok_or(DropReason::TooLong)?, frame, network.mtu);
        }
        match port {
            Some(port) if network.is_open(port) => context.send(port, frame),
            Some(_) => return Err(DropReason::SpanningTree),
            None if !network.floods_unknown() => return Err(DropReason::UnknownUnicast),
            None => {
                for &port in network.ports.iter().filter(|&&port| network.is_open(port)) {
                    context.send(port, frame);
                }
            }
        }
        Ok(())
    }

    /// Hears what a guest's ARP packet to the gateway says of the guest. True when the packet went to the worker that
    /// keeps its entry.
    pub(super) fn hear_arp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &[u8],
    ) -> Result<bool, DropReason> {
        let Some(packet) = arp::Packet::parse(frame).filter(|packet| network.is_gateway(packet.target_ip))
        else {
            return Ok(false);
        };
        if self.nat.forwards().has_guest(id, packet.sender_ip) {
            // Any worker may have sessions of its forwards.
            for worker in (0..self.config.workers).filter(|&w| w != self.config.worker && !context.handed) {
                context.out.hand_off(worker, context.ingress, FrameRef { vnet: context.vnet, bytes: frame });
            }
            self.hear(context, network, id, &packet);
            return Ok(context.handed);
        }
        let keeper = self.keeper(packet.sender_ip);
        if keeper != self.config.worker {
            // A frame another worker handed over for another reason goes its way unheard.
            return if context.handed { Ok(false) } else { self.hand_over(context, keeper, frame) };
        }
        self.hear(context, network, id, &packet);
        Ok(false)
    }

    fn hear<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        packet: &arp::Packet,
    ) {
        let Some(neighbours) = self.inside.get_mut(usize::from(id)) else { return };
        let vnet = context.vnet;
        for (vnet, mut waited) in neighbours.learn(context.now.mono, packet.sender_ip, packet.sender_mac) {
            context.vnet = vnet;
            let sent = Packet::parse(&waited)
                .ok_or(DropReason::IpMalformed)
                .and_then(|sent| self.enter(context, network, &mut waited, &sent, packet.sender_mac));
            if let Err(reason) = sent {
                self.drops.count(reason);
            }
        }
        context.vnet = vnet;
    }

    /// The worker that keeps the entry of a hop on a network.
    fn keeper(&self, hop: Ipv4Addr) -> u16 {
        u16::try_from(hop.to_bits() % u32::from(self.config.workers.max(1))).unwrap_or(0)
    }

    /// The address is in a subnet of one of the networks.
    pub(super) fn is_inside(&self, ip: Ipv4Addr) -> bool {
        self.subnets.iter().any(|&(base, mask)| ip.to_bits() & mask == base)
    }

    /// Asks again for guests that did not answer; how many frames were given up.
    pub(super) fn ask_guests_again(&mut self, now: Now, snapshot: &Snapshot, out: &mut impl Egress) -> usize {
        let scratch = &mut self.scratch;
        let tables = snapshot.networks.iter().zip(&mut self.inside);
        let each = tables.map(|(network, neighbours)| {
            neighbours.expire(now.mono, &mut |hop| {
                if let Some(network) = network {
                    ask_inside(out, network, hop, scratch);
                }
            })
        });
        each.sum()
    }
}

/// A packet may be sent on to this address, as far as one can see without a route.
pub(super) fn is_forwarded(network: &Network, ip: Ipv4Addr) -> bool {
    gateway::is_unicast(ip, network.subnet_of(ip))
}

/// Sends an ARP request for `hop` to all guests of a network.
fn ask_inside(out: &mut impl Egress, network: &Network, hop: Ipv4Addr, scratch: &mut [u8]) {
    let Some(own) = network.subnet_of(hop) else { return };
    let length = uplink::arp_request(network.mac, own.address, hop, scratch);
    let Some(bytes) = length.and_then(|length| scratch.get(..length)) else { return };
    for &port in network.ports.iter().filter(|&&port| network.is_open(port) && Some(port) != network.host) {
        out.transmit(port, FrameRef { vnet: Default::default(), bytes });
    }
}
