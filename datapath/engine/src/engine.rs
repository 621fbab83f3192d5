//! Orders the stages.
use alloc::sync::Arc;

use pontoon_wire::vnet;

use crate::drops::Drops;
use crate::egress::Egress;
use crate::nat;
use crate::snapshot::{PortId, Snapshot};
use crate::time::{Now, Time};

pub struct Config {
    pub worker: u16,
    pub workers: u16,
    /// Secret of this boot: hashes, ports, query ids.
    pub seed: u64,
}

/// One worker's share of everything.
pub struct Engine {
    snapshot: Arc<Snapshot>,
    drops: Drops,
}

impl Engine {
    /// `slots`: this worker's part of the session memory; sessions found valid there are adopted.
    #[must_use]
    pub fn new(_config: Config, _slots: &'static mut [nat::Slot], _now: Now) -> Self {
        Self { snapshot: Arc::default(), drops: Drops::default() }
    }

    /// Runs on `snapshot` from now on.
    pub fn apply(&mut self, snapshot: Arc<Snapshot>, _now: Now) {
        self.snapshot = snapshot;
    }

    /// A frame arrived on `ingress`. It is rewritten in place.
    pub fn receive(
        &mut self,
        _now: Now,
        _ingress: PortId,
        _vnet: vnet::Header,
        _frame: &mut [u8],
        _out: &mut impl Egress,
    ) {
    }

    /// A frame that another worker handed over.
    pub fn handed(
        &mut self,
        _now: Now,
        _ingress: PortId,
        _vnet: vnet::Header,
        _frame: &mut [u8],
        _out: &mut impl Egress,
    ) {
    }

    /// A lease found on disk, before traffic.
    pub fn restore_lease(&mut self, _network: u16, _lease: crate::dhcp::Lease) {}

    pub fn lease_synced(&mut self, _now: Now, _ticket: u32, _ok: bool, _out: &mut impl Egress) {}

    /// A datagram from a resolver.
    pub fn dns_response(&mut self, _now: Now, _socket: u16, _datagram: &[u8], _out: &mut impl Egress) {}

    /// The socket reported an error (connection refused).
    pub fn dns_failed(&mut self, _now: Now, _socket: u16, _out: &mut impl Egress) {}

    /// The answer to `Egress::dns_query_tcp`; empty when it failed.
    pub fn dns_tcp_response(&mut self, _now: Now, _ticket: u32, _response: &[u8], _out: &mut impl Egress) {}

    /// Does what is due; bounded work.
    pub fn timeout(&mut self, _now: Now, _out: &mut impl Egress) {}

    /// When `timeout` wants to run next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }

    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Sessions in this worker's table.
    #[must_use]
    pub fn sessions(&self) -> usize {
        0
    }

    /// Address and gateway an uplink has at present.
    #[must_use]
    pub fn uplink_address(
        &self,
        _uplink: u16,
    ) -> Option<(crate::snapshot::Subnet, Option<core::net::Ipv4Addr>)> {
        None
    }
}
