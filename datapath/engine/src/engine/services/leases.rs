//! DHCP for guests: answers, and the leases that have to be on disk before they are given.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::frame::Packet;
use pontoon_wire::{Mac, vnet};

use super::super::{Context, Decision, State};
use super::Services;
use crate::dhcp;
use crate::drops::DropReason;
use crate::egress::{Egress, Event, FrameRef, LeaseChange};
use crate::gateway::{self, Datagram, UDP_HEADERS};
use crate::snapshot::{Network, PortId, Role, Snapshot};
use crate::time::{Now, Time};
use crate::trace::Stage;

/// Replies that wait for the disk at the same time.
const PENDING: usize = 256;
/// Lease changes that one port gets written in one go: a VM full of containers starts at once. After that one each
/// [`LEASE_REFILL_NS`], so that no guest keeps the disk busy with its renewals.
const LEASE_BURST: u32 = 64;
const LEASE_REFILL_NS: u64 = 500_000_000;

/// What one port may still have written to disk for its leases.
pub(super) struct Budget {
    tokens: u32,
    filled: Time,
}

impl Budget {
    fn available(&mut self, now: Time) -> bool {
        let elapsed = now.0.saturating_sub(self.filled.0) / LEASE_REFILL_NS;
        if elapsed > 0 {
            let fresh = u32::try_from(elapsed).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(fresh).min(LEASE_BURST);
            self.filled = Time(self.filled.0.saturating_add(elapsed.saturating_mul(LEASE_REFILL_NS)));
        }
        self.tokens > 0
    }

    fn spend(&mut self) {
        self.tokens = self.tokens.saturating_sub(1);
    }
}

/// An ACK whose lease is on its way to the disk.
pub(super) struct Pending {
    network: u16,
    port: PortId,
    frame: Vec<u8>,
    ip: Ipv4Addr,
    mac: Mac,
    expiry: u64,
}

impl Services {
    fn budget(&mut self, port: PortId) -> &mut Budget {
        let full = Budget { tokens: LEASE_BURST, filled: Time::default() };
        self.budgets.entry(port).or_insert(full)
    }
}

impl State {
    pub(in super::super) fn dhcp<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &[u8],
        packet: &Packet,
    ) -> Decision {
        self.trail.pass(Stage::Dhcp);
        if self.hand_over(context, 0, frame)? {
            return Ok(());
        }
        let payload = gateway::udp_payload(frame, packet).ok_or(DropReason::IpMalformed)?;
        let mac = pontoon_wire::ethernet::source(frame).ok_or(DropReason::Runt)?;
        let writable = self.services.budget(context.ingress).available(context.now.mono);
        let server = self.services.network(id).dhcp.as_mut().ok_or(DropReason::DhcpIgnored)?;
        let room = self.scratch.get_mut(UDP_HEADERS..).unwrap_or_default();
        match server.handle(context.now.unix, mac, payload, writable, room) {
            dhcp::Outcome::Drop(dhcp::Drop::PoolExhausted) => {
                context.out.event(Event::PoolExhausted { network: &network.name });
                Err(DropReason::DhcpPoolExhausted)
            }
            dhcp::Outcome::Drop(dhcp::Drop::Busy) => Err(DropReason::DhcpRate),
            dhcp::Outcome::Drop(_) => Err(DropReason::DhcpIgnored),
            dhcp::Outcome::Reply(reply) => {
                let length = seal(&mut self.scratch, network, &reply).ok_or(DropReason::DhcpIgnored)?;
                context.send_plain(context.ingress, self.scratch.get(..length).unwrap_or_default());
                Ok(())
            }
            dhcp::Outcome::Commit { change, reply } => {
                let length = seal(&mut self.scratch, network, &reply).ok_or(DropReason::DhcpIgnored)?;
                self.services.budget(context.ingress).spend();
                self.commit(context, id, &change, length)
            }
            dhcp::Outcome::Revoke { change, reply } => {
                let length = seal(&mut self.scratch, network, &reply).ok_or(DropReason::DhcpIgnored)?;
                context.send_plain(context.ingress, self.scratch.get(..length).unwrap_or_default());
                self.note_removal(context, id, &change);
                Ok(())
            }
            dhcp::Outcome::Release(change) => {
                self.note_removal(context, id, &change);
                Ok(())
            }
        }
    }

    /// Nobody waits for the disk here.
    fn note_removal<E: Egress>(&mut self, context: &mut Context<'_, E>, id: u16, change: &dhcp::Change) {
        self.services.budget(context.ingress).spend();
        self.services.ticket = self.services.ticket.wrapping_add(1);
        context.out.lease(id, self.services.ticket, lease_change(change));
    }

    /// Keeps the reply in the scratch buffer until its lease is on disk.
    fn commit<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: u16,
        change: &dhcp::Change,
        length: usize,
    ) -> Decision {
        let (ip, mac, expiry) = match change {
            dhcp::Change::Set(lease) => (lease.ip, lease.mac, lease.expiry),
            dhcp::Change::Remove(ip, mac) => (*ip, *mac, 0),
        };
        let services = &mut self.services;
        if services.pending.len() >= PENDING {
            if let Some(server) = &mut services.network(network).dhcp {
                server.commit_failed(ip, mac);
            }
            return Err(DropReason::DhcpDisk);
        }
        services.ticket = services.ticket.wrapping_add(1);
        let frame = self.scratch.get(..length).unwrap_or_default().to_vec();
        let pending = Pending { network, port: context.ingress, frame, ip, mac, expiry };
        services.pending.insert(services.ticket, pending);
        context.out.lease(network, services.ticket, lease_change(change));
        Ok(())
    }

    pub(in super::super) fn lease_synced(
        &mut self,
        _now: Now,
        snapshot: &Snapshot,
        ticket: u32,
        ok: bool,
        out: &mut impl Egress,
    ) {
        let Some(pending) = self.services.pending.remove(&ticket) else { return };
        if let Some(server) = &mut self.services.network(pending.network).dhcp {
            match ok {
                true => server.committed(pending.ip, pending.mac, pending.expiry),
                false => server.commit_failed(pending.ip, pending.mac),
            }
        }
        if !ok {
            self.drops.count(DropReason::DhcpDisk);
        } else if snapshot.port(pending.port).is_some_and(|port| !matches!(port.role, Role::Down { .. })) {
            out.transmit(pending.port, FrameRef { vnet: vnet::Header::default(), bytes: &pending.frame });
        }
    }
}

/// Completes the headers around a DHCP reply that stands at [`UDP_HEADERS`]; the frame's length.
fn seal(scratch: &mut [u8], network: &Network, reply: &dhcp::Reply) -> Option<usize> {
    let subnet = network.subnet?;
    let datagram = Datagram {
        macs: (network.mac, reply.dst_mac),
        source: (subnet.address, 67),
        destination: (reply.dst_ip, 68),
    };
    datagram.seal(scratch, reply.len)
}

fn lease_change(change: &dhcp::Change) -> LeaseChange<'_> {
    match change {
        dhcp::Change::Set(lease) => LeaseChange::Set {
            ip: lease.ip,
            mac: lease.mac,
            client_id: lease.client_id.as_deref(),
            hostname: lease.hostname.as_deref(),
            expiry: lease.expiry,
        },
        dhcp::Change::Remove(ip, mac) => LeaseChange::Remove { ip: *ip, mac: *mac },
    }
}
