//! What is measured, and the columns it fills.

use std::time::Duration;

use anyhow::Context;

use crate::lab::{DEVICE, Lab};
use crate::sys;
use crate::traffic::bulk::{self, Bulk};
use crate::traffic::datagrams::{self, Load, SMALLEST};
use crate::traffic::{WARM_UP, connections, pause, requests};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    Tcp1,
    Tcp4,
    Tcp16,
    TcpMtu,
    Udp,
    UdpFlows,
    UdpNoLoss,
    Requests,
    Connections,
    Loaded,
    Idle,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub column: &'static str,
    pub value: f64,
}

/// What one measurement came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    pub figures: Vec<Figure>,
    /// Processors that other processes kept busy meanwhile.
    pub others: f64,
}

/// What a column's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

impl Metric {
    pub const ALL: [Self; 11] = [
        Self::Tcp1,
        Self::Tcp4,
        Self::Tcp16,
        Self::TcpMtu,
        Self::Udp,
        Self::UdpFlows,
        Self::UdpNoLoss,
        Self::Requests,
        Self::Connections,
        Self::Loaded,
        Self::Idle,
    ];
    /// Every column, in the order they are shown.
    pub const COLUMNS: [&str; 35] = [
        "tcp1 Gb/s",
        "tcp4 Gb/s",
        "tcp16 Gb/s",
        "tcp-mtu Gb/s",
        "udp64 kpps",
        "udp64 loss",
        "udp64 64fl kpps",
        "udp64 64fl loss",
        "udp noloss kpps",
        "rr/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "conn/s",
        "loaded p50 us",
        "loaded p99 us",
        "tcp1 switch cores",
        "tcp1 all cores",
        "tcp1 ms/Gbit",
        "tcp4 switch cores",
        "tcp4 all cores",
        "tcp4 ms/Gbit",
        "udp switch cores",
        "udp all cores",
        "udp us/packet",
        "udp-flows switch cores",
        "udp-flows all cores",
        "udp-flows us/packet",
        "rr switch cores",
        "rr all cores",
        "rr us/request",
        "crr switch cores",
        "crr all cores",
        "crr us/connection",
        "idle switch %",
    ];
    /// Fast and telling.
    pub const QUICK: [Self; 5] = [Self::Tcp1, Self::Udp, Self::Requests, Self::Connections, Self::Loaded];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1",
            Self::Tcp4 => "tcp4",
            Self::Tcp16 => "tcp16",
            Self::TcpMtu => "tcp-mtu",
            Self::Udp => "udp",
            Self::UdpFlows => "udp-flows",
            Self::UdpNoLoss => "udp-noloss",
            Self::Requests => "rr",
            Self::Connections => "crr",
            Self::Loaded => "loaded",
            Self::Idle => "idle",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Measures for about `time`; also what the processors did meanwhile.
    ///
    /// # Errors
    /// When the way through the target fails.
    pub fn measure(self, lab: &Lab, time: Duration) -> anyhow::Result<Measured> {
        let before = lab.usage();
        let mut figures = self.traffic(lab, time).with_context(|| self.name())?;
        let cores = lab.usage().since(&before);
        if let Some((switch, machine, cost)) = self.processor_columns() {
            figures.push(Figure { column: switch, value: cores.switch });
            figures.push(Figure { column: machine, value: cores.machine });
            if let Some(first) = figures.first().filter(|figure| figure.value > 0.0) {
                let value = cores.machine / first.value * cost.1;
                figures.push(Figure { column: cost.0, value });
            }
        }
        Ok(Measured { figures, others: cores.others })
    }

    /// Columns of the processors the switch and the machine kept busy, and of the machine's cost for a unit of the
    /// first figure.
    fn processor_columns(self) -> Option<(&'static str, &'static str, (&'static str, f64))> {
        Some(match self {
            Self::Tcp1 => ("tcp1 switch cores", "tcp1 all cores", ("tcp1 ms/Gbit", 1e3)),
            Self::Tcp4 => ("tcp4 switch cores", "tcp4 all cores", ("tcp4 ms/Gbit", 1e3)),
            Self::Udp => ("udp switch cores", "udp all cores", ("udp us/packet", 1e3)),
            Self::UdpFlows => ("udp-flows switch cores", "udp-flows all cores", ("udp-flows us/packet", 1e3)),
            Self::Requests => ("rr switch cores", "rr all cores", ("rr us/request", 1e6)),
            Self::Connections => ("crr switch cores", "crr all cores", ("crr us/connection", 1e6)),
            _ => return None,
        })
    }

    fn traffic(self, lab: &Lab, time: Duration) -> anyhow::Result<Vec<Figure>> {
        let path = lab.path();
        let one = |column, value| Ok(vec![Figure { column, value }]);
        match self {
            Self::Tcp1 => one("tcp1 Gb/s", bulk::rate(&path, 1, time)? / 1e9),
            Self::Tcp4 => one("tcp4 Gb/s", bulk::rate(&path, 4, time)? / 1e9),
            Self::Tcp16 => one("tcp16 Gb/s", bulk::rate(&path, 16, time)? / 1e9),
            Self::TcpMtu => {
                path.client.enter(|| sys::set_segmentation(DEVICE, false))??;
                let rate = bulk::rate(&path, 1, time);
                path.client.enter(|| sys::set_segmentation(DEVICE, true))??;
                one("tcp-mtu Gb/s", rate? / 1e9)
            }
            Self::Udp => udp(lab, time, 1, ["udp64 kpps", "udp64 loss"]),
            Self::UdpFlows => udp(lab, time, 64, ["udp64 64fl kpps", "udp64 64fl loss"]),
            Self::UdpNoLoss => one("udp noloss kpps", datagrams::rate_without_loss(&path, time)? / 1e3),
            Self::Requests => {
                let latency = requests::measure(&path, time)?;
                Ok(vec![
                    Figure { column: "rr/s", value: latency.rate },
                    Figure { column: "p50 us", value: latency.p50 },
                    Figure { column: "p99 us", value: latency.p99 },
                    Figure { column: "p99.9 us", value: latency.p999 },
                ])
            }
            Self::Connections => one("conn/s", connections::measure(&path, time)?.0),
            Self::Loaded => loaded(lab, time),
            Self::Idle => {
                let before = lab.usage();
                pause(time)?;
                one("idle switch %", lab.usage().since(&before).switch * 100.0)
            }
        }
    }
}

fn udp(lab: &Lab, time: Duration, flows: usize, columns: [&'static str; 2]) -> anyhow::Result<Vec<Figure>> {
    let rates = datagrams::measure(&lab.path(), Load { size: SMALLEST, flows, rate: None }, time)?;
    let [rate, loss] = columns;
    Ok(vec![
        Figure { column: rate, value: rates.received / 1e3 },
        Figure { column: loss, value: rates.loss() },
    ])
}

/// Small requests of one client while another sends in bulk.
fn loaded(lab: &Lab, time: Duration) -> anyhow::Result<Vec<Figure>> {
    let Some(other) = lab.other_path() else { return Ok(Vec::new()) };
    let bulk = Bulk::start(&lab.path(), 1)?;
    pause(WARM_UP)?;
    let latency = requests::measure(&other, time)?;
    drop(bulk);
    Ok(vec![
        Figure { column: "loaded p50 us", value: latency.p50 },
        Figure { column: "loaded p99 us", value: latency.p99 },
    ])
}

/// Whether more or less of a column is better.
#[must_use]
pub fn better(column: &str) -> Better {
    let more = ["Gb/s", "kpps", "rr/s", "conn/s"];
    if more.iter().any(|unit| column.ends_with(unit)) { Better::More } else { Better::Less }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_name() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
        assert_eq!(Metric::named("nothing"), None);
    }

    #[test]
    fn columns_know_their_direction() {
        assert_eq!(better("tcp1 Gb/s"), Better::More);
        assert_eq!(better("p99 us"), Better::Less);
        assert_eq!(better("tcp1 ms/Gbit"), Better::Less);
    }
}
