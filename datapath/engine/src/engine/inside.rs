//! Frames from guests and from the host: the switch, and the way to the gateway.

use pontoon_wire::frame::Packet;
use pontoon_wire::{arp, ethernet, icmp, ipv4};

use super::routed::{Origin, is_forwarded};
use super::trees::not_there;
use super::{Context, Decision, State, address_of, clamp_mss, is_external, is_for_host};
use crate::drops::DropReason;
use crate::egress::Egress;
use crate::gateway;
use crate::nat;
use crate::snapshot::{Forward, Network, PortId};
use crate::stp::Gate;
use crate::switch::Learned;
use crate::trace::Stage;

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DNS: u16 = 53;

impl State {
    pub(super) fn guest_frame<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &mut [u8],
    ) -> Decision {
        let network = context.snapshot.network(id).ok_or(DropReason::UnknownPort)?;
        let destination = ethernet::destination(frame).ok_or(DropReason::Runt)?;
        if context.handed && network.policy.is_some() {
            self.heed(context, network, id);
        }
        if !context.handed && self.guard(context, network, id, frame)? {
            return Ok(());
        }
        if ethernet::is_link_local(destination) {
            return self.link_local(context, network, id, frame);
        }
        if destination == network.mac {
            return self.gateway_frame(context, network, id, frame);
        }
        if ethernet::is_group(destination) && self.local_broadcast(context, network, id, frame)? {
            return Ok(());
        }
        self.switch(context, network, destination, frame)
    }

    pub(super) fn host_frame<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        id: u16,
        frame: &[u8],
    ) -> Decision {
        let network = context.snapshot.network(id).ok_or(DropReason::UnknownPort)?;
        let destination = ethernet::destination(frame).ok_or(DropReason::Runt)?;
        if ethernet::is_link_local(destination) {
            return self.link_local(context, network, id, frame);
        }
        if network.gate(context.ingress) != Gate::Open {
            return Err(DropReason::SpanningTree);
        }
        if destination == network.mac {
            return Err(DropReason::SamePort);
        }
        self.switch(context, network, destination, frame)
    }

    /// Refuses what no guest may send, and learns where it is. True when the frame went to another worker.
    fn guard<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &[u8],
    ) -> Result<bool, DropReason> {
        self.trail.pass(Stage::Guard);
        let source = ethernet::source(frame).ok_or(DropReason::Runt)?;
        if ethernet::is_group(source) || source == [0; 6] {
            return Err(DropReason::SourceGroup);
        }
        if source == network.mac {
            return Err(DropReason::SourceGateway);
        }
        if ethernet::destination(frame).is_some_and(ethernet::is_link_local) {
            return Ok(false);
        }
        let gate = network.gate(context.ingress);
        if gate == Gate::Closed {
            return Err(DropReason::SpanningTree);
        }
        let limit = context.snapshot.port(context.ingress).map_or(0, |port| port.max_addresses);
        let learned = network.macs.learn(context.now.mono, source, context.ingress, limit);
        if gate == Gate::Learning {
            return Err(DropReason::SpanningTree);
        }
        self.guard_arp(network, frame)?;
        match learned {
            Learned::Known | Learned::New => Ok(false),
            Learned::Moved | Learned::PortLimit | Learned::Refused => {
                self.unsettled(context, network, id, frame, learned)
            }
        }
    }

    fn guard_arp(&mut self, network: &Network, frame: &[u8]) -> Decision {
        if ethernet::ethertype(frame) != Some(ethernet::ARP) {
            return Ok(());
        }
        let claimed = arp::Packet::parse(frame).map(|packet| packet.sender_ip);
        match claimed {
            Some(ip) if network.is_gateway(ip) => Err(DropReason::ArpSpoof),
            _ => Ok(()),
        }
    }

    /// ARP for the gateway and DHCP are answered here and not flooded; true when that was it.
    fn local_broadcast<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &mut [u8],
    ) -> Result<bool, DropReason> {
        match ethernet::ethertype(frame) {
            Some(ethernet::ARP) => self.gateway_arp(context, network, id, frame),
            Some(ethernet::IPV4) if network.dhcp.is_some() => {
                let Some(packet) = Packet::parse(frame) else { return Ok(false) };
                if packet.ip.protocol != ipv4::UDP {
                    return Ok(false);
                }
                if packet.source_port == DHCP_SERVER && packet.destination_port == DHCP_CLIENT {
                    return Err(DropReason::DhcpRogue);
                }
                if packet.destination_port != DHCP_SERVER {
                    return Ok(false);
                }
                self.dhcp(context, network, id, frame, &packet)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Answers an ARP request for one of the gateway's addresses; true when that was it.
    fn gateway_arp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &[u8],
    ) -> Result<bool, DropReason> {
        if self.hear_arp(context, network, id, frame)? {
            return Ok(true);
        }
        let request = arp::Packet::parse(frame).filter(|request| network.is_gateway(request.target_ip));
        let reply = request.and_then(|r| gateway::arp_reply(&r, r.target_ip, network.mac, &mut self.scratch));
        if let Some(length) = reply {
            context.send_plain(context.ingress, self.scratch.get(..length).unwrap_or_default());
        }
        Ok(reply.is_some())
    }

    /// Forwards to the port of `destination`, or floods.
    fn switch<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        destination: pontoon_wire::Mac,
        frame: &[u8],
    ) -> Decision {
        self.trail.pass(Stage::Switch);
        if !fits(network, context, frame) {
            return Err(DropReason::MtuExceeded);
        }
        if !ethernet::is_group(destination)
            && let Some(port) = network.macs.lookup(context.now.mono, destination)
        {
            let may = match network.policy.as_deref() {
                None => port != context.ingress,
                Some(policy) => policy.may_pass(context.ingress, port),
            };
            if may {
                context.send(port, frame);
                return Ok(());
            }
            not_there(context, network, port, destination)?;
        }
        flood(context, network, destination, frame)
    }

    fn gateway_frame<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &mut [u8],
    ) -> Decision {
        self.trail.pass(Stage::Gateway);
        match ethernet::ethertype(frame) {
            Some(ethernet::ARP) if self.gateway_arp(context, network, id, frame)? => return Ok(()),
            Some(ethernet::IPV4) => {}
            _ => return to_host(context, network, frame),
        }
        let packet = Packet::parse(frame).ok_or(DropReason::IpMalformed)?;
        if !gateway::header_checksum_valid(frame, &packet) {
            return Err(DropReason::IpChecksum);
        }
        if network.is_gateway(packet.destination()) {
            return self.for_gateway(context, network, id, frame, &packet);
        }
        self.leave(context, network, id, frame, &packet)
    }

    /// A packet to the gateway's own address.
    fn for_gateway<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let whole = !packet.ip.is_fragment();
        match (packet.ip.protocol, packet.destination_port) {
            (ipv4::UDP, DHCP_SERVER) if whole && network.dhcp.is_some() => {
                self.dhcp(context, network, id, frame, packet)
            }
            (ipv4::UDP, DNS) if whole && network.dns.enabled => self.dns_udp(context, id, frame, packet),
            (ipv4::TCP, DNS) if network.dns.enabled => self.dns_tcp(context, id, frame),
            (ipv4::ICMP, _) if whole && packet.flags == icmp::ECHO_REQUEST => {
                if !gateway::echo_reply(frame, packet, context.vnet.needs_checksum()) {
                    return Err(DropReason::NatIcmpChecksum);
                }
                context.send_plain(context.ingress, frame.get(..packet.end).unwrap_or_default());
                Ok(())
            }
            _ if network.host.is_some() => to_host(context, network, frame),
            _ => self.refuse(context, network, frame, packet, icmp::UNREACHABLE, icmp::PORT_UNREACHABLE, 0),
        }
    }

    //= ours#spoofed
    /// A packet that wants to leave its subnet.
    fn leave<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let (source, destination) = (packet.source(), packet.destination());
        if network.is_gateway(source) || !gateway::is_unicast(source, None) {
            return Err(DropReason::IpSourceSpoofed);
        }
        if !is_forwarded(network, destination) {
            return Err(DropReason::MartianDestination);
        }
        // Guests of one network reach each other whatever the mode, and what is behind them.
        if network.hop(destination).is_some() {
            return self.pass_inside(context, id, Origin::Inside(network), frame, packet);
        }
        if network.forward != Forward::Open && network.subnet_of(source).is_none() {
            return self.prohibit(context, network, frame, packet, DropReason::IpSourceSpoofed);
        }
        if self.is_inside(destination) {
            return self.cross(context, network, id, frame, packet);
        }
        if let Some(uplink) =
            network.uplink.filter(|&uplink| self.is_for_host(context, uplink, frame, packet))
        {
            // Perhaps an answer to the host, which came by a forward: its session's owner knows.
            return match self.nat.forwards().may_answer(id, packet) {
                true => self.leave_by_nat(context, network, (id, uplink), frame, packet),
                false => to_host(context, network, frame),
            };
        }
        if network.uplink.is_some_and(|uplink| is_external(context.snapshot, uplink, destination)) {
            return self.for_own_router(context, network, id, frame, packet);
        }
        match (network.forward, network.uplink) {
            (Forward::Nat, Some(uplink)) => self.leave_by_nat(context, network, (id, uplink), frame, packet),
            (Forward::Route | Forward::Open, _) => self.route_out(context, network, frame, packet),
            _ => self.prohibit(context, network, frame, packet, DropReason::NotForwarded),
        }
    }

    /// A packet to an address the router has outside: echo requests are answered; behind NAT the rest is for a guest.
    fn for_own_router<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        let request = packet.ip.protocol == ipv4::ICMP && packet.flags == icmp::ECHO_REQUEST;
        if request && !packet.ip.is_fragment() {
            if !gateway::echo_reply(frame, packet, context.vnet.needs_checksum()) {
                return Err(DropReason::NatIcmpChecksum);
            }
            context.send_plain(context.ingress, frame.get(..packet.end).unwrap_or_default());
            return Ok(());
        }
        match (network.forward, network.uplink) {
            (Forward::Nat, Some(uplink)) => self.leave_by_nat(context, network, (id, uplink), frame, packet),
            (_, Some(uplink)) => self.hairpin(context, uplink, frame),
            (_, None) => Err(DropReason::NotForwarded),
        }
    }

    fn is_for_host<E: Egress>(
        &self,
        context: &Context<'_, E>,
        uplink: u16,
        frame: &[u8],
        packet: &Packet,
    ) -> bool {
        is_for_host(context.snapshot, self.nat.forwards(), uplink, frame, packet)
    }

    pub(super) fn leave_by_nat<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        (id, uplink): (u16, u16),
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        if packet.ip.is_fragment() {
            return self.fragment_out(context, network, (id, uplink), frame, packet);
        }
        if self.config.workers > 1
            && let Some(port) = nat::outbound_port(frame, packet)
            && self.hand_over(context, nat::owner(port, self.config.workers), frame)?
        {
            return Ok(());
        }
        self.translate_out(context, network, (id, uplink), frame, packet)
    }

    //= RFC4787#REQ-13, ours#ttl
    /// A packet leaves, at the worker that owns its session.
    pub(super) fn translate_out<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        (id, uplink_id): (u16, u16),
        frame: &mut [u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::NatOut);
        if packet.ip.ttl <= 1 {
            self.refuse(context, network, frame, packet, icmp::TIME_EXCEEDED, 0, 0)?;
            return Err(DropReason::TtlExpired);
        }
        let uplink = context.snapshot.uplink(uplink_id).ok_or(DropReason::UplinkDown)?;
        if self.is_for_host(context, uplink_id, frame, packet)
            && !self.nat.is_known(context.now.mono, id, frame, packet)
        {
            return to_host(context, network, frame);
        }
        let Some((subnet, _)) = address_of(context.snapshot, uplink_id) else {
            self.refuse(context, network, frame, packet, icmp::UNREACHABLE, icmp::NET_UNREACHABLE, 0)?;
            return Err(DropReason::UplinkDown);
        };
        if uplink.shared.is_some() && nat::is_portless(packet.ip.protocol) {
            // The answers would be the host's.
            self.refuse(context, network, frame, packet, icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0)?;
            return Err(DropReason::NatProtocol);
        }
        let long = gateway::exceeds(frame, packet, &context.vnet, uplink.mtu);
        if long && packet.ip.dont_fragment() {
            let code = icmp::FRAGMENTATION_NEEDED;
            self.refuse(context, network, frame, packet, icmp::UNREACHABLE, code, u32::from(uplink.mtu))?;
            return Err(DropReason::FragmentationNeeded);
        }
        let destination = packet.destination();
        let hairpin = is_external(context.snapshot, uplink_id, destination) || self.is_inside(destination);
        let outside = nat::Outside {
            uplink: uplink_id,
            address: network.external(subnet.address, packet.source()),
            ports: network.nat_ports,
            mtu: uplink.mtu,
            epoch: if hairpin { 0 } else { self.epoch },
        };
        let inside = nat::Inside { network: id, mac: ethernet::source(frame).ok_or(DropReason::Runt)? };
        self.nat.outbound(context.now.mono, &outside, &inside, &context.vnet, frame, packet)?;
        clamp_mss(frame, packet, &context.vnet, uplink.mtu.min(network.mtu));
        ipv4::decrement_ttl(frame.get_mut(ethernet::HEADER..).unwrap_or_default());
        if hairpin {
            return self.hairpin(context, uplink_id, frame);
        }
        self.send_uplink(context, uplink_id, packet.destination(), frame, long)
    }

    /// A guest spoke to an external address (RFC 4787 REQ-9), or from behind NAT to a routed network: the packet comes in
    /// again from the uplink.
    fn hairpin<E: Egress>(&mut self, context: &mut Context<'_, E>, id: u16, frame: &mut [u8]) -> Decision {
        self.trail.pass(Stage::Hairpin);
        let uplink = context.snapshot.uplink(id).ok_or(DropReason::UplinkDown)?;
        let (subnet, _) = address_of(context.snapshot, id).ok_or(DropReason::UplinkDown)?;
        let packet = Packet::parse(frame).ok_or(DropReason::IpMalformed)?;
        if self.is_for_host(context, id, frame, &packet) {
            // The host came by a forward, from its own address.
            self.send_uplink(context, id, packet.destination(), frame, false)?;
            if packet.ip.fragment_offset() == 0 {
                return Ok(());
            }
            // Perhaps it was a guest. Who is not waiting for a fragment drops it, the host's programs too.
        }
        context.ingress = uplink.port.ok_or(DropReason::UplinkDown)?;
        pontoon_wire::put(frame, 0, &uplink.mac);
        // The owner of the destination's mapping may be another worker than the one of the source's.
        context.handed = false;
        match context.snapshot.routed_to(id, packet.destination()) {
            Some(network) => self.route_in(context, network, (uplink, subnet.address), frame, &packet),
            None => self.translate_in(context, id, frame, &packet),
        }
    }

    /// Tells a guest by ICMP why its packet goes nowhere, if that may be told.
    #[expect(clippy::too_many_arguments, reason = "the four facts of an ICMP error besides the packet")]
    pub(super) fn refuse<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        frame: &mut [u8],
        packet: &Packet,
        kind: u8,
        code: u8,
        rest: u32,
    ) -> Decision {
        let Some(subnet) = network.subnet_of(packet.source()).or(network.subnet) else { return Ok(()) };
        if !gateway::may_answer(packet, Some(subnet)) || !self.budget.take(context.now.mono) {
            return Ok(());
        }
        // What is quoted is what a wire would have carried.
        gateway::complete_checksum(&mut context.vnet, frame, packet.end);
        let guest = ethernet::source(frame).ok_or(DropReason::Runt)?;
        let error = icmp::Error { kind, code, rest };
        let offending = frame.get(ethernet::HEADER..packet.end).unwrap_or_default();
        let macs = (network.mac, guest);
        let length =
            icmp::emit_error(&mut self.scratch, macs, subnet.address, packet.source(), error, offending);
        if let Some(bytes) = length.and_then(|length| self.scratch.get(..length)) {
            context.send_plain(context.ingress, bytes);
        }
        Ok(())
    }
}

/// Sends to every port but the one the frame came from, as far as they may have it.
fn flood<E: Egress>(
    context: &mut Context<'_, E>,
    network: &Network,
    destination: pontoon_wire::Mac,
    frame: &[u8],
) -> Decision {
    let ingress = context.ingress;
    let Some(policy) = network.policy.as_deref() else {
        for &port in network.ports.iter().filter(|&&port| port != ingress) {
            context.send(port, frame);
        }
        return Ok(());
    };
    if !policy.floods_unknown && !ethernet::is_group(destination) {
        return Err(DropReason::UnknownUnicast);
    }
    for &port in network.ports.iter().filter(|&&port| policy.may_pass(ingress, port)) {
        context.send(port, frame);
    }
    Ok(())
}

pub(super) fn to_host<E: Egress>(context: &mut Context<'_, E>, network: &Network, frame: &[u8]) -> Decision {
    let host: PortId = network.host.ok_or(DropReason::NotForwarded)?;
    context.send(host, frame);
    Ok(())
}

/// Frames of the network's MTU, tagged or not, and super-frames whose segments are that small.
fn fits<E>(network: &Network, context: &Context<'_, E>, frame: &[u8]) -> bool {
    const TAG: usize = 4;
    if context.vnet.is_gso() {
        return usize::from(context.vnet.gso_size.get()) < usize::from(network.mtu);
    }
    frame.len() <= ethernet::HEADER + TAG + usize::from(network.mtu)
}
