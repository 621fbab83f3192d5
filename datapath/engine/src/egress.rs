//! The only way out of the engine.

use pontoon_wire::vnet;

use crate::snapshot::PortId;

/// A frame with the facts of its vnet header.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef<'a> {
    pub vnet: vnet::Header,
    pub bytes: &'a [u8],
}

/// What the engine asks of the worker that runs it. Nothing here may block or allocate per frame; what cannot be
/// done is dropped and counted by the implementation.
pub trait Egress {
    /// Sends a frame out of a port (of a guest, the host or an uplink). The bytes are only valid for the call.
    fn transmit(&mut self, port: PortId, frame: FrameRef<'_>);

    /// Gives a frame to the worker that owns the state it needs; that worker runs `Engine::handed` on it.
    fn hand_off(&mut self, worker: u16, ingress: PortId, frame: FrameRef<'_>);

    /// Sends a DNS query to a resolver through connected UDP socket `socket`.
    fn dns_query(&mut self, socket: u16, query: &[u8]);

    /// Asks for a DNS query over TCP to resolver `resolver`; the answer (or an empty one on failure) comes back
    /// as `Engine::dns_tcp_response` with the same ticket.
    fn dns_query_tcp(&mut self, resolver: u16, ticket: u32, query: &[u8]);

    /// Appends a change to the lease log of `network` and syncs it; the result comes back as
    /// `Engine::lease_synced` with the same ticket.
    fn lease(&mut self, network: u16, ticket: u32, change: LeaseChange<'_>);

    /// A rare event worth a log line (pool exhausted, address refused ...). Rate-limited by the implementation.
    fn event(&mut self, event: Event<'_>);
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange<'a> {
    Set {
        ip: core::net::Ipv4Addr,
        mac: pontoon_wire::Mac,
        client_id: Option<&'a [u8]>,
        hostname: Option<&'a str>,
        /// Unix seconds; 0 is infinite.
        expiry: u64,
    },
    Remove {
        ip: core::net::Ipv4Addr,
        mac: pontoon_wire::Mac,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    PoolExhausted { network: &'a str },
    UplinkConfigured { uplink: &'a str, address: core::net::Ipv4Addr, prefix: u8 },
    UplinkLost { uplink: &'a str },
    NatFull,
}
