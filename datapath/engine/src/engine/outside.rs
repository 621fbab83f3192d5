//! Frames from an uplink, and frames that leave by one.

use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{Mac, arp, ethernet, icmp, ipv4, put};

use super::routed::{EXPIRED, too_long};
use super::{Context, Decision, State, address_of, clamp_mss, is_external};
use crate::drops::DropReason;
use crate::egress::{Egress, FrameRef};
use crate::gateway;
use crate::nat;
use crate::snapshot::{Snapshot, Uplink};
use crate::time::Now;
use crate::trace::Stage;
use crate::uplink::{self, Resolve};

const DHCP_CLIENT: u16 = 68;

/// The part of a packet that NAT changes, as it was.
struct Head {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl Head {
    /// An IPv4 header with options, and a TCP header without.
    const LONGEST: usize = 60 + 20;

    fn of(frame: &[u8], packet: &Packet) -> Self {
        let end = packet.end.min(packet.l4 + 20);
        let head = frame.get(ethernet::HEADER..end).unwrap_or_default();
        let mut bytes = [0; Self::LONGEST];
        put(&mut bytes, 0, head);
        Self { bytes, length: head.len().min(Self::LONGEST) }
    }

    fn put_back(&self, frame: &mut [u8]) {
        put(frame, ethernet::HEADER, self.bytes.get(..self.length).unwrap_or_default());
    }
}

impl State {
    pub(super) fn uplink_frame<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &mut [u8],
    ) -> Decision {
        let uplink = context.snapshot.uplink(id).ok_or(DropReason::UnknownPort)?;
        let destination = ethernet::destination(frame).ok_or(DropReason::Runt)?;
        // The host's kernel has looked at the address where it shares the uplink.
        if destination != uplink.mac && destination != ethernet::BROADCAST && uplink.shared.is_none() {
            return Err(DropReason::UplinkNotOurs);
        }
        match ethernet::ethertype(frame) {
            Some(ethernet::ARP) if uplink.shared.is_none() => self.uplink_arp(context, id, uplink, frame),
            Some(ethernet::IPV4) => self.uplink_ipv4(context, id, uplink, frame),
            _ => Err(DropReason::UplinkNotOurs),
        }
    }

    fn uplink_arp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        uplink: &Uplink,
        frame: &[u8],
    ) -> Decision {
        let packet = arp::Packet::parse(frame).ok_or(DropReason::ArpMalformed)?;
        if !is_external(context.snapshot, id, packet.target_ip) {
            return Err(DropReason::UplinkNotOurs);
        }
        if !context.handed {
            for worker in (0..self.config.workers).filter(|&worker| worker != self.config.worker) {
                context.out.hand_off(worker, context.ingress, FrameRef { vnet: context.vnet, bytes: frame });
            }
            if let Some(n) = gateway::arp_reply(&packet, packet.target_ip, uplink.mac, &mut self.scratch) {
                context.send_plain(context.ingress, self.scratch.get(..n).unwrap_or_default());
            }
        }
        let Some(neighbours) = self.neighbours.get_mut(usize::from(id)) else { return Ok(()) };
        for (vnet, mut waiting) in neighbours.learn(context.now.mono, packet.sender_ip, packet.sender_mac) {
            put(&mut waiting, 0, &packet.sender_mac);
            context.vnet = vnet;
            let long =
                Packet::parse(&waiting).is_some_and(|p| gateway::exceeds(&waiting, &p, &vnet, uplink.mtu));
            if !long {
                context.send(context.ingress, &waiting);
            } else if let Err(reason) = self.shrink(context, context.ingress, &mut waiting, uplink.mtu) {
                self.drops.count(reason);
            }
        }
        Ok(())
    }

    fn uplink_ipv4<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        uplink: &Uplink,
        frame: &mut [u8],
    ) -> Decision {
        let packet = Packet::parse(frame).ok_or(DropReason::IpMalformed)?;
        if !gateway::header_checksum_valid(frame, &packet) {
            return Err(DropReason::IpChecksum);
        }
        let client = packet.ip.protocol == ipv4::UDP && packet.destination_port == DHCP_CLIENT;
        if client && uplink.asks_for_address() && !packet.ip.is_fragment() {
            if !self.hand_over(context, 0, frame)? {
                self.uplink_dhcp(context, id, frame, &packet);
            }
            return Ok(());
        }
        let (subnet, _) = address_of(context.snapshot, id).ok_or(DropReason::UplinkDown)?;
        // What another worker hands over with this source is a guest's packet on its way back in.
        let external = |ip| is_external(context.snapshot, id, ip);
        if !context.handed && external(packet.source()) && !self.is_from_host(context, id, frame, &packet) {
            return Err(DropReason::IpSourceSpoofed);
        }
        if !external(packet.destination()) && uplink.shared.is_some() {
            // On its way since before the host had another address.
            return Err(DropReason::UplinkNotOurs);
        }
        if !external(packet.destination()) {
            return match context.snapshot.routed_to(id, packet.destination()) {
                Some(network) => self.route_in(context, network, (uplink, subnet.address), frame, &packet),
                None => self.turn_away(context, (subnet.address, uplink.mac), frame, &packet),
            };
        }
        let request = packet.ip.protocol == ipv4::ICMP && packet.flags == icmp::ECHO_REQUEST;
        if request && !packet.ip.is_fragment() {
            return self.answer_ping(context, uplink, frame, &packet);
        }
        self.translate_in(context, id, frame, &packet)
    }

    /// The host itself, with the address it shares, comes by a forward. Its loopback interface gives its frames no
    /// link-layer address, and what the wire brings without one the host's kernel has not taken for its own.
    fn is_from_host<E: Egress>(
        &self,
        context: &Context<'_, E>,
        id: u16,
        frame: &[u8],
        packet: &Packet,
    ) -> bool {
        let snapshot = context.snapshot;
        let protocol = packet.ip.protocol;
        let forwards = self.nat.forwards();
        let source = (packet.source(), packet.source_port);
        snapshot.uplink(id).is_some_and(|uplink| uplink.shared.is_some())
            && ethernet::destination(frame) == Some(Mac::default())
            && forwards.takes(id, protocol, (packet.destination(), packet.destination_port))
            && !snapshot.is_nat_port(id, source.1)
            && !forwards.takes(id, protocol, source)
    }

    fn answer_ping<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        uplink: &Uplink,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let partial = context.vnet.needs_checksum();
        if !gateway::exceeds(frame, packet, &context.vnet, uplink.mtu)
            && gateway::echo_reply(frame, packet, partial)
        {
            context.send_plain(context.ingress, frame.get(..packet.end).unwrap_or_default());
        }
        Ok(())
    }

    /// A packet from outside to the address the router has on a network behind it.
    pub(super) fn for_router<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        (uplink, address): (&Uplink, Ipv4Addr),
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let request = packet.ip.protocol == ipv4::ICMP && packet.flags == icmp::ECHO_REQUEST;
        if request && !packet.ip.is_fragment() {
            return self.answer_ping(context, uplink, frame, packet);
        }
        let error = icmp::Error { kind: icmp::UNREACHABLE, code: icmp::PORT_UNREACHABLE, rest: 0 };
        self.report_outside(context, (address, uplink.mac), frame, packet, error)?;
        Err(DropReason::NotForwarded)
    }

    /// Somebody outside tried to reach a guest's own address through us.
    fn turn_away<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        from: (Ipv4Addr, pontoon_wire::Mac),
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let error = icmp::Error { kind: icmp::UNREACHABLE, code: icmp::ADMINISTRATIVELY_PROHIBITED, rest: 0 };
        if ethernet::destination(frame) != Some(from.1) {
            return Err(DropReason::UplinkNotOurs);
        }
        self.report_outside(context, from, frame, packet, error)?;
        Err(DropReason::NotForwarded)
    }

    /// Tells somebody outside by ICMP why a packet goes nowhere, if that may be told.
    pub(super) fn report_outside<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        (address, mac): (Ipv4Addr, pontoon_wire::Mac),
        frame: &mut [u8],
        packet: &Packet,
        error: icmp::Error,
    ) -> Decision {
        if !gateway::may_answer(packet, None) || !self.budget.take(context.now.mono) {
            return Ok(());
        }
        gateway::complete_checksum(&mut context.vnet, frame, packet.end);
        let offending = frame.get(ethernet::HEADER..packet.end).unwrap_or_default();
        let macs = (mac, ethernet::source(frame).ok_or(DropReason::Runt)?);
        let length = icmp::emit_error(&mut self.scratch, macs, address, packet.source(), error, offending);
        if let Some(bytes) = length.and_then(|length| self.scratch.get(..length)) {
            context.send_plain(context.ingress, bytes);
        }
        Ok(())
    }

    /// A packet to the external address: back to the guest whose session it belongs to.
    pub(super) fn translate_in<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::NatIn);
        if packet.ip.is_fragment() {
            return self.fragment_in(context, id, frame, packet);
        }
        if self.config.workers > 1
            && let Some(port) = self.nat.inbound_port(id, frame, packet)
            && self.hand_over(context, nat::owner(port, self.config.workers), frame)?
        {
            return Ok(());
        }
        self.admit_translated(context, id, frame, packet)
    }

    /// The same at the worker that owns the session.
    pub(super) fn admit_translated<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let before = Head::of(frame, packet);
        let own = is_external(context.snapshot, id, packet.source());
        let inside = self.nat.inbound(context.now.mono, id, own, &context.vnet, frame, packet)?;
        let network = context.snapshot.network(inside.network).ok_or(DropReason::NatNoSession)?;
        let long = gateway::exceeds(frame, packet, &context.vnet, network.mtu);
        let (error, reason) = match (packet.ip.ttl, long && packet.ip.dont_fragment()) {
            (0 | 1, _) => (EXPIRED, DropReason::TtlExpired),
            (_, true) => (too_long(network.mtu), DropReason::FragmentationNeeded),
            _ => {
                let mtu =
                    context.snapshot.uplink(id).map_or(network.mtu, |uplink| uplink.mtu.min(network.mtu));
                clamp_mss(frame, packet, &context.vnet, mtu);
                ipv4::decrement_ttl(frame.get_mut(ethernet::HEADER..).unwrap_or_default());
                put(frame, 6, &network.mac);
                return match inside.mac {
                    // Of a guest that has not spoken in the session.
                    mac if mac == Mac::default() => self.reach_guest(context, inside.network, frame, packet),
                    mac => self.enter(context, network, frame, packet, mac),
                };
            }
        };
        before.put_back(frame);
        self.tell_sender(context, id, frame, packet, error)?;
        Err(reason)
    }

    /// Somebody outside hears what became of a packet of its session; a guest that spoke to itself does not.
    fn tell_sender<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
        error: icmp::Error,
    ) -> Decision {
        let uplink = context.snapshot.uplink(id).ok_or(DropReason::UplinkDown)?;
        if is_external(context.snapshot, id, packet.source()) {
            return Ok(());
        }
        self.report_outside(context, (packet.destination(), uplink.mac), frame, packet, error)
    }

    /// Sends a translated packet to its next hop; `long` ones in fragments.
    pub(super) fn send_uplink<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        destination: Ipv4Addr,
        frame: &mut [u8],
        long: bool,
    ) -> Decision {
        self.trail.pass(Stage::Uplink);
        let uplink = context.snapshot.uplink(id).ok_or(DropReason::UplinkDown)?;
        let port = uplink.port.ok_or(DropReason::UplinkDown)?;
        let (subnet, gateway) = address_of(context.snapshot, id).ok_or(DropReason::UplinkDown)?;
        let hop = uplink::next_hop(subnet, gateway, destination).ok_or(DropReason::NotForwarded)?;
        let neighbours = self.neighbours.get_mut(usize::from(id)).ok_or(DropReason::UplinkDown)?;
        put(frame, 6, &uplink.mac);
        let (mac, ask) = match neighbours.resolve(context.now.mono, hop) {
            Resolve::Known { mac, ask } => (Some(mac), ask),
            Resolve::Unknown { ask } => (None, ask),
        };
        if ask && let Some(n) = uplink::arp_request(uplink.mac, subnet.address, hop, &mut self.scratch) {
            context.send_plain(port, self.scratch.get(..n).unwrap_or_default());
        }
        match mac {
            Some(mac) => put(frame, 0, &mac),
            None if neighbours.wait(hop, context.vnet, frame) => {
                self.trail.pass(Stage::Wait);
                return Ok(());
            }
            None => return Err(DropReason::NeighbourQueueFull),
        };
        if long {
            return self.shrink(context, port, frame, uplink.mtu);
        }
        context.send(port, frame);
        Ok(())
    }

    //= RFC4787#REQ-13a
    /// Sends a packet in fragments that fit `mtu`.
    pub(super) fn shrink<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        port: u16,
        frame: &mut [u8],
        mtu: u16,
    ) -> Decision {
        let packet = Packet::parse(frame).ok_or(DropReason::IpMalformed)?;
        if context.vnet.is_gso() || packet.ip.dont_fragment() {
            return Err(DropReason::TooLong);
        }
        gateway::complete_checksum(&mut context.vnet, frame, packet.end);
        let cut = gateway::fragment(frame, &packet, mtu, &mut self.scratch, &mut |part| {
            context.send_plain(port, part);
        });
        if cut { Ok(()) } else { Err(DropReason::TooLong) }
    }

    /// Sends ARP requests again for neighbours that did not answer.
    pub(super) fn ask_again(&mut self, now: Now, snapshot: &Snapshot, out: &mut impl Egress) {
        let mut lost = self.ask_guests_again(now, snapshot, out);
        let scratch = &mut self.scratch;
        for (id, neighbours) in self.neighbours.iter_mut().enumerate() {
            let id = id as u16;
            let (Some(link), Some((subnet, _))) = (snapshot.uplink(id), address_of(snapshot, id)) else {
                continue;
            };
            let Some(port) = link.port else { continue };
            lost += neighbours.expire(now.mono, &mut |ip| {
                if let Some(n) = uplink::arp_request(link.mac, subnet.address, ip, scratch) {
                    let bytes = scratch.get(..n).unwrap_or_default();
                    out.transmit(port, FrameRef { vnet: Default::default(), bytes });
                }
            });
        }
        for _ in 0..lost {
            self.drops.count(DropReason::NeighbourUnresolved);
        }
    }
}
