//! What the engine asks for, done by its worker: nothing here waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Sender;
use pontoon_engine::egress::{Egress, Event, LeaseChange};
use pontoon_engine::{FrameRef, Now, PortId, Time};

use crate::handoff::Outbound;
use crate::lease_log::{LeaseJob, lease_line};
use crate::link::Report;
use crate::mail::Waker;
use crate::outbox::Outbox;
use crate::queues::Queues;
use crate::resolver::Resolvers;

/// What could not be done; the engine hears of it once the call that asked has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Lease { ticket: u32 },
    Dns { socket: u16 },
    Tcp { ticket: u32 },
}

#[derive(Debug)]
pub(crate) struct WorkerEgress {
    pub(crate) queues: Queues,
    outbox: Outbox,
    pub(crate) resolvers: Resolvers,
    pub(crate) now: Now,
    pub(crate) hand_off_full: u64,
    /// The port a frame was sent to last.
    pub(crate) sent: Option<PortId>,
    outbound: Vec<Option<Outbound>>,
    wakers: Vec<Arc<Waker>>,
    /// Workers that got frames since the last [`Self::flush`].
    handed: Vec<bool>,
    leases: Sender<LeaseJob>,
    reports: Sender<Report>,
    later: Vec<Failed>,
    logged: BTreeMap<&'static str, Time>,
}

/// The ways out of one worker.
#[derive(Debug)]
pub(crate) struct Ways {
    pub(crate) outbound: Vec<Option<Outbound>>,
    /// By worker.
    pub(crate) wakers: Vec<Arc<Waker>>,
    pub(crate) leases: Sender<LeaseJob>,
    pub(crate) reports: Sender<Report>,
    pub(crate) coalesces: bool,
}

impl WorkerEgress {
    #[must_use]
    pub(crate) fn new(queues: Queues, ways: Ways) -> Self {
        Self {
            queues,
            outbox: Outbox::new(ways.coalesces),
            resolvers: Resolvers::default(),
            now: Now::default(),
            hand_off_full: 0,
            sent: None,
            handed: vec![false; ways.wakers.len()],
            outbound: ways.outbound,
            wakers: ways.wakers,
            leases: ways.leases,
            reports: ways.reports,
            later: Vec::new(),
            logged: BTreeMap::new(),
        }
    }

    /// Sends by this worker's own queue.
    pub(crate) fn transmit_here(&mut self, port: PortId, frame: FrameRef<'_>) {
        self.sent = Some(port);
        self.outbox.transmit(&mut self.queues, port, frame);
    }

    /// Whether frames are sent at once, to be followed by `false`.
    pub(crate) fn leave_at_once(&mut self, at_once: bool) {
        if self.outbox.leave_at_once(at_once) {
            self.flush();
        }
    }

    fn pass(&mut self, worker: u16, port: PortId, leaves: bool, frame: FrameRef<'_>) {
        let index = usize::from(worker);
        let ring = self.outbound.get_mut(index).and_then(Option::as_mut);
        if !ring.is_some_and(|ring| ring.send(port, leaves, frame)) {
            self.hand_off_full = self.hand_off_full.wrapping_add(1);
        }
        // Also for a full ring: its owner has to be awake to empty it.
        if let Some(handed) = self.handed.get_mut(index) {
            *handed = true;
        }
    }

    /// Sends what was collected, and wakes workers that frames were handed to.
    pub(crate) fn flush(&mut self) {
        self.outbox.flush(&mut self.queues);
        self.wake_others();
    }

    /// Frames and super-frames written since the last call.
    pub(crate) fn take_written(&mut self) -> usize {
        std::mem::take(&mut self.queues.written)
    }

    fn wake_others(&mut self) {
        for (waker, handed) in self.wakers.iter().zip(&mut self.handed) {
            if std::mem::take(handed) {
                waker.wake();
            }
        }
    }

    pub(crate) fn take_later(&mut self) -> Vec<Failed> {
        std::mem::take(&mut self.later)
    }

    #[must_use]
    pub(crate) fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// Tells control of queues that failed.
    pub(crate) fn report_failed(&mut self) {
        for (port, error) in self.queues.take_failed() {
            tracing::warn!(port, %error, "port failed");
            // A full channel means control was told of hundreds of failures already.
            let _ = self.reports.try_send(Report::PortFailed { port, reason: error.to_string() });
        }
    }

    /// True at most once a minute for each kind.
    fn may_log(&mut self, kind: &'static str) -> bool {
        let due = self.logged.get(kind).is_none_or(|last| last.after_secs(60) <= self.now.mono);
        if due {
            self.logged.insert(kind, self.now.mono);
        }
        due
    }
}

impl Egress for WorkerEgress {
    fn transmit(&mut self, port: PortId, frame: FrameRef<'_>) {
        match self.queues.through(port) {
            Some(worker) => self.pass(worker, port, true, frame),
            None => self.transmit_here(port, frame),
        }
    }

    fn hand_off(&mut self, worker: u16, ingress: PortId, frame: FrameRef<'_>) {
        self.pass(worker, ingress, false, frame);
    }

    fn dns_query(&mut self, socket: u16, query: &[u8]) {
        if self.resolvers.send(socket, query).is_err() {
            self.later.push(Failed::Dns { socket });
        }
    }

    fn dns_query_tcp(&mut self, resolver: u16, ticket: u32, query: &[u8]) {
        let report = Report::NeedTcp { ticket, resolver, query: query.to_vec() };
        if self.reports.try_send(report).is_err() {
            self.later.push(Failed::Tcp { ticket });
        }
    }

    fn lease(&mut self, network: u16, ticket: u32, change: LeaseChange<'_>) {
        let job = lease_line(change).ok().map(|line| LeaseJob::Append { network, ticket, line });
        if job.is_none_or(|job| self.leases.try_send(job).is_err()) {
            self.later.push(Failed::Lease { ticket });
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let kind = match event {
            Event::PoolExhausted { .. } => "pool-exhausted",
            Event::UplinkConfigured { .. } => "uplink-configured",
            Event::UplinkLost { .. } => "uplink-lost",
            Event::NatFull => "nat-full",
        };
        if !self.may_log(kind) {
            return;
        }
        match event {
            Event::PoolExhausted { network } => tracing::warn!(network, "no free address left in the pool"),
            Event::UplinkConfigured { uplink, address, prefix } => {
                tracing::info!(uplink, %address, prefix, "uplink configured");
            }
            Event::UplinkLost { uplink } => tracing::warn!(uplink, "uplink lost its address"),
            Event::NatFull => tracing::warn!("no free NAT session"),
        }
    }
}
