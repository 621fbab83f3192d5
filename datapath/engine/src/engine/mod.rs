//! Orders the stages: guard, learn, decide, rewrite, send. Nothing is implemented here that a stage can do.

mod facts;
mod fragments;
mod inside;
mod opening;
mod outside;
mod quick;
mod routed;
mod services;
mod trees;
mod watching;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::{self, Packet};
use pontoon_wire::{ethernet, ipv4, vnet};

use crate::drops::{DropReason, Drops};
use crate::egress::{Egress, FrameRef};
use crate::gateway::ErrorBudget;
use crate::nat::{self, Nat};
use crate::snapshot::{Filtering, PortId, Role, Snapshot, Subnet, Uplink};
use crate::switch;
use crate::time::{Now, Time};
use crate::trace::{Tracer, Trail};
use crate::uplink::Neighbours;
use facts::{Facts, Place};
use inside::to_host;
use services::Services;
use trees::Trees;
pub use watching::{News, Watch};

/// Room for any frame the gateway builds itself: replies, errors, fragments.
const SCRATCH: usize = 16_384;
/// Slots of every MAC table that one housekeeping second looks at: a table is swept in 16 seconds.
const SWEEP: usize = 1024;

/// The worker's place among the others.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub worker: u16,
    pub workers: u16,
    /// Secret of this boot: hashes, ports, query ids.
    pub seed: u64,
}

/// One worker's share of everything.
pub struct Engine {
    snapshot: Arc<Snapshot>,
    facts: Facts,
    /// No frame takes the short way.
    long: bool,
    state: State,
}

/// Everything but the snapshot, so that a stage can read the one while it changes the other.
struct State {
    config: Config,
    nat: Nat,
    drops: Drops,
    budget: ErrorBudget,
    scratch: Box<[u8]>,
    /// Index: uplink.
    neighbours: Vec<Neighbours>,
    /// Guests that packets are routed to, by network.
    inside: Vec<Neighbours>,
    /// Network address and mask of every network that has a subnet.
    subnets: Vec<(u32, u32)>,
    /// Counts snapshots, from one on.
    epoch: u32,
    memo: switch::Memo,
    services: Services,
    trees: Trees,
    housekeeping: Time,
    sweep_from: usize,
    /// While somebody wants to know what becomes of frames.
    tracer: Option<Box<Tracer>>,
    /// The stages of the present frame, for it.
    trail: Trail,
}

/// One frame on its way, and what its handling needs.
struct Context<'a, E> {
    now: Now,
    snapshot: &'a Arc<Snapshot>,
    out: &'a mut E,
    ingress: PortId,
    vnet: vnet::Header,
    handed: bool,
}

impl<E: Egress> Context<'_, E> {
    fn send(&mut self, port: PortId, bytes: &[u8]) {
        self.out.transmit(port, FrameRef { vnet: self.vnet, bytes });
    }

    /// Sends a frame the gateway built, which needs no offload.
    fn send_plain(&mut self, port: PortId, bytes: &[u8]) {
        self.out.transmit(port, FrameRef { vnet: vnet::Header::default(), bytes });
    }
}

type Decision = Result<(), DropReason>;

impl Engine {
    /// `slots`: this worker's part of the session memory; sessions found valid there are adopted.
    #[must_use]
    pub fn new(config: Config, slots: &'static mut [nat::Slot], now: Now) -> Self {
        let state = State {
            config,
            nat: Nat::new(config.worker, config.workers, config.seed, slots, now.mono),
            drops: Drops::default(),
            budget: ErrorBudget::default(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            neighbours: Vec::new(),
            inside: Vec::new(),
            subnets: Vec::new(),
            epoch: 0,
            memo: switch::Memo::default(),
            services: Services::new(config.seed),
            trees: Trees::default(),
            housekeeping: now.mono,
            sweep_from: 0,
            tracer: None,
            trail: Trail::default(),
        };
        Self { snapshot: Arc::default(), facts: Facts::default(), long: false, state }
    }

    /// Runs on `snapshot` from now on.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>, now: Now) {
        let state = &mut self.state;
        state.forget_what_went(&self.snapshot, &snapshot);
        state.neighbours.resize_with(snapshot.uplinks.len(), Neighbours::default);
        for (neighbours, uplink) in state.neighbours.iter_mut().zip(&snapshot.uplinks) {
            let (mac, shared) = uplink.as_ref().map_or(([0; 6], false), |u| (u.mac, u.shared.is_some()));
            neighbours.renew(mac, shared.then_some(mac));
        }
        state.inside.resize_with(snapshot.networks.len(), Neighbours::default);
        let subnets = snapshot.networks.iter().flatten().flat_map(|network| &network.subnets);
        state.subnets = subnets.map(|subnet| (subnet.network().to_bits(), subnet.mask())).collect();
        state.nat.set_forwards(nat::Forwards::of(&snapshot));
        let filtering = |network: &Option<_>| network.as_ref().map_or_else(Default::default, filtering_of);
        state.nat.set_filtering(snapshot.networks.iter().map(filtering).collect());
        if state.config.worker == 0 {
            state.services.apply(&snapshot);
            state.trees.apply(now.mono, &snapshot);
        }
        // Zero is for sessions that no snapshot allowed yet.
        state.epoch = state.epoch.wrapping_add(1).max(1);
        state.memo = switch::Memo::default();
        self.snapshot = snapshot;
        self.facts = self.facts();
    }

    /// Decides every frame the long way from now on. For tests, which hold one way against the other.
    pub fn take_long_way(&mut self) {
        (self.long, self.facts) = (true, Facts::default());
    }

    /// A frame arrived on `ingress`. It is rewritten in place.
    #[inline]
    pub fn receive(
        &mut self,
        now: Now,
        ingress: PortId,
        vnet: vnet::Header,
        frame: &mut [u8],
        out: &mut impl Egress,
    ) {
        self.run(now, (ingress, vnet, false), frame, out);
    }

    /// A frame that another worker handed over.
    pub fn handed(
        &mut self,
        now: Now,
        ingress: PortId,
        vnet: vnet::Header,
        frame: &mut [u8],
        out: &mut impl Egress,
    ) {
        self.run(now, (ingress, vnet, true), frame, out);
    }

    #[inline(always)]
    fn run<E: Egress>(
        &mut self,
        now: Now,
        (ingress, vnet, handed): (PortId, vnet::Header, bool),
        frame: &mut [u8],
        out: &mut E,
    ) {
        let (snapshot, facts) = (&self.snapshot, &self.facts);
        let mut context = Context { now, snapshot, out, ingress, vnet, handed };
        match facts.places().get(usize::from(ingress)) {
            Some(Place::Guest(lan)) if handed => self.state.of_guest_elsewhere(&mut context, lan, frame),
            Some(Place::Guest(lan)) => self.state.of_guest(&mut context, lan, frame),
            Some(Place::Uplink(exit)) => self.state.of_uplink(&mut context, exit, frame, facts),
            other => self.state.of_rare(&mut context, other, frame),
        }
    }

    /// A lease found on disk, before traffic. Kept until the network's server exists.
    pub fn restore_lease(&mut self, network: u16, lease: crate::dhcp::Lease) {
        self.state.services.restore(network, lease);
    }

    /// The lease of `ticket` is on disk, or could not be written.
    pub fn lease_synced(&mut self, now: Now, ticket: u32, ok: bool, out: &mut impl Egress) {
        self.state.lease_synced(now, &self.snapshot, ticket, ok, out);
    }

    /// A datagram from a resolver.
    pub fn dns_response(&mut self, now: Now, socket: u16, datagram: &[u8], out: &mut impl Egress) {
        self.state.dns_response(now, &self.snapshot, socket, datagram, out);
    }

    /// The socket reported an error (connection refused).
    pub fn dns_failed(&mut self, now: Now, socket: u16, out: &mut impl Egress) {
        self.state.dns_failed(now, &self.snapshot, socket, false, out);
    }

    /// The answer to `Egress::dns_query_tcp`; empty when it failed.
    pub fn dns_tcp_response(&mut self, now: Now, ticket: u32, response: &[u8], out: &mut impl Egress) {
        let socket = u16::try_from(ticket & 0xffff).unwrap_or(0);
        if response.is_empty() {
            self.state.dns_failed(now, &self.snapshot, socket, true, out);
        } else {
            self.state.dns_response(now, &self.snapshot, socket, response, out);
        }
    }

    /// Does what is due; bounded work.
    pub fn timeout(&mut self, now: Now, out: &mut impl Egress) {
        let state = &mut self.state;
        state.nat.expire(now.mono);
        state.services_timeout(now, &self.snapshot, out);
        state.trees.timeout(now.mono, &self.snapshot, out);
        if now.mono >= state.housekeeping {
            state.housekeeping = now.mono.after_secs(1);
            state.ask_again(now, &self.snapshot, out);
            state.nat.expire_fragments(now.mono);
            state.count_lost_fragments();
            state.sweep(now, &self.snapshot);
        }
    }

    /// When `timeout` wants to run next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let state = &self.state;
        let own = (state.config.worker == 0
            || state.nat.has_waiting_fragments()
            || state.neighbours.iter().chain(&state.inside).any(Neighbours::is_waiting))
        .then_some(state.housekeeping);
        [own, state.nat.next_timeout(), state.services.next_timeout(), state.trees.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.state.drops
    }

    /// Sessions in this worker's table.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.state.nat.len()
    }

    /// Looks at a part of the session table.
    pub fn look(
        &mut self,
        now: Now,
        look: nat::Look,
        query: &nat::Query,
        rows: &mut Vec<nat::Session>,
    ) -> nat::Seen {
        self.state.nat.look(now.mono, look, query, rows)
    }

    /// The spanning trees of networks that have one; only worker 0 knows.
    pub fn trees(&self, now: Now) -> impl Iterator<Item = (u16, crate::stp::Report)> + '_ {
        self.state.trees.reports(now.mono)
    }

    /// Address and gateway an uplink has at present.
    #[must_use]
    pub fn uplink_address(&self, uplink: u16) -> Option<(Subnet, Option<Ipv4Addr>)> {
        address_of(&self.snapshot, uplink)
    }
}

/// Lowers what a SYN offers to what packets of `mtu` octets hold.
fn clamp_mss(frame: &mut [u8], packet: &Packet, vnet: &vnet::Header, mtu: u16) {
    if packet.ip.protocol == ipv4::TCP && packet.ip.fragment_offset() == 0 {
        nat::clamp_mss(frame, packet.l4, packet.end, vnet.needs_checksum(), mtu);
    }
}

fn filtering_of(network: &crate::snapshot::Network) -> Filtering {
    network.filtering
}

/// The configured address, or the one a DHCP server gave.
#[inline]
fn address_of(snapshot: &Snapshot, uplink: u16) -> Option<(Subnet, Option<Ipv4Addr>)> {
    let uplink = snapshot.uplink(uplink)?;
    match uplink.subnet {
        Some(subnet) => Some((subnet, uplink.gateway)),
        None => uplink.leased.get(),
    }
}

/// A packet to an address of the host that an uplink is shared with, and not to NAT.
fn is_for_host(
    snapshot: &Snapshot,
    forwards: &nat::Forwards,
    id: u16,
    frame: &[u8],
    packet: &Packet,
) -> bool {
    let Some(Uplink { shared: Some(shared), subnet, .. }) = snapshot.uplink(id) else { return false };
    let destination = packet.destination();
    let own = subnet.is_some_and(|subnet| subnet.address == destination);
    if !own && !shared.host.contains(&destination) {
        return false;
    }
    let nat = |(protocol, external): (u8, (Ipv4Addr, u16))| {
        own && snapshot.is_nat_port(id, external.1) || forwards.takes(id, protocol, external)
    };
    !nat::external(frame, packet).is_some_and(nat)
}

/// The uplink's own address, or one NAT uses on it.
fn is_external(snapshot: &Snapshot, uplink: u16, ip: Ipv4Addr) -> bool {
    address_of(snapshot, uplink).is_some_and(|(subnet, _)| subnet.address == ip)
        || snapshot.in_nat_pool(uplink, ip)
}

impl State {
    /// The long way.
    #[cold]
    #[inline(never)]
    fn run<E: Egress>(&mut self, context: &mut Context<'_, E>, frame: &mut [u8]) {
        let traced = self.tracer.is_some();
        let decision = if traced { self.route_traced(context, frame) } else { self.route(context, frame) };
        if let Err(reason) = decision {
            self.drops.count(reason);
        }
    }

    fn route<E: Egress>(&mut self, context: &mut Context<'_, E>, frame: &mut [u8]) -> Decision {
        if frame.len() < ethernet::HEADER {
            return Err(DropReason::Runt);
        }
        if frame.len() > frame::MAX {
            return Err(DropReason::Oversize);
        }
        frame::check_in_place(&mut context.vnet, frame).map_err(|lie| match lie {
            frame::Lie::Checksum => DropReason::VnetChecksum,
            frame::Lie::GsoType => DropReason::VnetGsoType,
            frame::Lie::GsoSize => DropReason::VnetGsoSize,
        })?;
        match context.snapshot.port(context.ingress).map(|port| port.role) {
            Some(Role::Guest { network }) => self.guest_frame(context, network, frame),
            Some(Role::Host { network }) => self.host_frame(context, network, frame),
            Some(Role::Uplink { uplink }) => self.uplink_frame(context, uplink, frame),
            Some(Role::Down { .. }) => Err(DropReason::LinkDown),
            None => Err(DropReason::UnknownPort),
        }
    }

    /// Gives the frame to `owner` if that is not this worker; true when it went.
    fn hand_over<E: Egress>(
        &self,
        context: &mut Context<'_, E>,
        owner: u16,
        frame: &[u8],
    ) -> Result<bool, DropReason> {
        if owner == self.config.worker {
            return Ok(false);
        }
        if context.handed {
            return Err(DropReason::HandOffLoop);
        }
        context.out.hand_off(owner, context.ingress, FrameRef { vnet: context.vnet, bytes: frame });
        Ok(true)
    }

    /// Sessions and learned addresses of networks, uplinks and ports that are gone.
    fn forget_what_went(&mut self, old: &Snapshot, new: &Snapshot) {
        for (id, network) in old.networks.iter().enumerate() {
            let id = id as u16;
            let Some(network) = network else { continue };
            let next = new.network(id).filter(|next| next.name == network.name);
            if next.is_none() {
                self.nat.flush_network(id);
            }
            if next.is_none_or(|next| next.subnets != network.subnets)
                && let Some(neighbours) = self.inside.get_mut(usize::from(id))
            {
                *neighbours = Neighbours::default();
            }
        }
        for (id, uplink) in old.uplinks.iter().enumerate() {
            let id = id as u16;
            let (Some(uplink), next) = (uplink, new.uplink(id)) else { continue };
            let stays = next.is_some_and(|next| next.subnet == uplink.subnet);
            if !stays {
                self.nat.flush_uplink(id);
            }
            // Behind another device, or the same one made anew, are other neighbours.
            if (!stays || next.is_some_and(|next| next.port != uplink.port))
                && let Some(neighbours) = self.neighbours.get_mut(usize::from(id))
            {
                *neighbours = Neighbours::default();
            }
        }
    }

    fn sweep(&mut self, now: Now, snapshot: &Snapshot) {
        if self.config.worker != 0 {
            return;
        }
        let mut next = 0;
        for network in snapshot.networks.iter().flatten() {
            next = network.macs.sweep(now.mono, self.sweep_from, SWEEP);
        }
        self.sweep_from = next;
    }
}
