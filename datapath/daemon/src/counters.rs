//! What a worker counts. Each worker has its own plain counters; who wants sums asks every worker.

use std::collections::BTreeMap;

use pontoon_engine::snapshot::Subnet;
use pontoon_engine::{DropReason, PortId};
use pontoon_ports::{Agreed, Offloads};
use pontoon_proto::message::{self, PortCounters, TreeStatus};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortCounts {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) rx_drops: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) tx_drops: u64,
}

impl PortCounts {
    pub(crate) fn add_to(&self, sum: &mut PortCounters) {
        sum.rx_packets = sum.rx_packets.wrapping_add(self.rx_packets);
        sum.rx_bytes = sum.rx_bytes.wrapping_add(self.rx_bytes);
        sum.rx_drops = sum.rx_drops.wrapping_add(self.rx_drops);
        sum.tx_packets = sum.tx_packets.wrapping_add(self.tx_packets);
        sum.tx_bytes = sum.tx_bytes.wrapping_add(self.tx_bytes);
        sum.tx_drops = sum.tx_drops.wrapping_add(self.tx_drops);
    }
}

/// One uplink's present address and gateway.
pub(crate) type UplinkAddress = (u16, Option<(Subnet, Option<std::net::Ipv4Addr>)>);

/// One worker's answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerStatus {
    pub(crate) ports: Vec<(PortId, PortCounts)>,
    pub(crate) agreed: Vec<(PortId, Agreed)>,
    pub(crate) drops: Vec<(DropReason, u64)>,
    /// Frames for another worker that found no free buffer.
    pub(crate) hand_off_full: u64,
    /// Frames for ports whose other side does not keep up.
    pub(crate) port_full: u64,
    pub(crate) sessions: u64,
    /// From worker 0 only.
    pub(crate) uplinks: Vec<UplinkAddress>,
    /// From worker 0 only.
    pub(crate) trees: Vec<TreeStatus>,
}

/// Sums over workers, by port and by name.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) ports: BTreeMap<PortId, PortCounters>,
    pub(crate) drops: BTreeMap<&'static str, u64>,
    pub(crate) sessions: u64,
    pub(crate) uplinks: Vec<UplinkAddress>,
    pub(crate) trees: Vec<TreeStatus>,
}

impl Sums {
    pub(crate) fn add(&mut self, worker: WorkerStatus) {
        for (port, counts) in &worker.ports {
            let sum =
                self.ports.entry(*port).or_insert_with(|| PortCounters { port: *port, ..Default::default() });
            counts.add_to(sum);
        }
        for (port, agreed) in worker.agreed {
            let Some(sum) = self.ports.get_mut(&port) else { continue };
            sum.queues = sum.queues.saturating_add(agreed.queues);
            sum.takes = either(sum.takes, agreed.takes);
            sum.sends = either(sum.sends, agreed.sends);
        }
        let named = worker.drops.iter().map(|(reason, count)| (reason.name(), *count));
        for (name, count) in
            named.chain([("hand_off_full", worker.hand_off_full), ("port_full", worker.port_full)])
        {
            if count > 0 {
                *self.drops.entry(name).or_default() += count;
            }
        }
        self.sessions = self.sessions.saturating_add(worker.sessions);
        self.uplinks.extend(worker.uplinks);
        self.trees.extend(worker.trees);
    }
}

/// What was agreed with one worker or another.
fn either(sum: message::Offloads, one: Offloads) -> message::Offloads {
    message::Offloads {
        checksum: sum.checksum || one.checksum,
        tso: sum.tso || one.tso,
        uso: sum.uso || one.uso,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_add_up_by_port_and_reason() {
        let mut sums = Sums::default();
        for _ in 0..2 {
            let counts = PortCounts { rx_packets: 3, ..Default::default() };
            sums.add(WorkerStatus {
                ports: vec![(7, counts)],
                agreed: vec![(7, Agreed { queues: 1, takes: Offloads::ALL, sends: Offloads::default() })],
                drops: vec![(DropReason::Runt, 2)],
                sessions: 5,
                ..Default::default()
            });
        }
        assert_eq!((sums.ports[&7].rx_packets, sums.ports[&7].queues), (6, 2));
        assert!(sums.ports[&7].takes.uso && !sums.ports[&7].sends.checksum);
        assert_eq!(sums.drops.into_iter().collect::<Vec<_>>(), [("runt", 4)]);
        assert_eq!(sums.sessions, 10);
    }
}
