//! Tells whoever asked what begins and ends, and what becomes of frames. While frames are traced all of them take the
//! long way, which alone knows of tracing: so the short way pays nothing for it.

use alloc::vec::Vec;
use core::mem;

use super::facts::Facts;
use super::{Context, Decision, Engine, State};
use crate::egress::{Egress, Event, FrameRef, LeaseChange};
use crate::nat::{Change, Interest};
use crate::snapshot::{PortId, Role, Snapshot};
use crate::time::Now;
use crate::trace::{Copies, Head, Order, Told, Tracer, Trail, Verdict};

/// All that somebody wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    pub interest: Interest,
    pub orders: Vec<Order>,
}

/// What there is to tell.
#[derive(Clone, Debug, Default)]
pub struct News {
    pub changes: Vec<Change>,
    pub told: Vec<Told>,
    /// So many were not kept for want of room: changes, frames.
    pub lost: (u64, u64),
}

impl Engine {
    /// Tells this from now on.
    pub fn watch(&mut self, watch: Watch) {
        self.state.nat.watch(watch.interest);
        self.state.tracer = (!watch.orders.is_empty()).then(|| Tracer::new(watch.orders).into());
        self.facts = self.facts();
    }

    /// What the short way knows, if frames may take it.
    pub(super) fn facts(&self) -> Facts {
        let long = self.long || self.state.tracer.is_some();
        if long { Facts::default() } else { Facts::of(&self.snapshot) }
    }

    #[must_use]
    #[inline]
    pub fn has_news(&self) -> bool {
        self.state.nat.has_changes() || self.state.tracer.as_ref().is_some_and(|tracer| tracer.has_news())
    }

    pub fn take_news(&mut self, now: Now) -> News {
        let mut news = News::default();
        news.lost.0 = self.state.nat.take_changes(now.mono, |change| news.changes.push(change));
        if let Some(tracer) = &mut self.state.tracer {
            let (told, lost) = tracer.take();
            news.told.extend(told);
            news.lost.1 = lost;
        }
        news
    }
}

impl State {
    #[cold]
    #[inline(never)]
    pub(super) fn route_traced<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        frame: &mut [u8],
    ) -> Decision {
        self.trail = Trail::default();
        let (ingress, handed, head) = (context.ingress, context.handed, Head::of(frame));
        let mut recorder = Recorder { out: context.out, copies: Copies::default(), over: None };
        let mut inner = Context {
            now: context.now,
            snapshot: context.snapshot,
            out: &mut recorder,
            ingress,
            vnet: context.vnet,
            handed,
        };
        let decision = self.route(&mut inner, frame);
        let Recorder { copies, over, .. } = recorder;
        let verdict = match (decision, over) {
            (Err(reason), _) => Verdict::Dropped(reason),
            (Ok(()), Some(worker)) => Verdict::HandedOver(worker),
            (Ok(()), None) if copies.told().any(|(port, _)| port != ingress) => Verdict::Sent,
            (Ok(()), None) => Verdict::Consumed,
        };
        let told = Told { id: 0, ingress, handed, head, trail: mem::take(&mut self.trail), verdict, copies };
        let snapshot = context.snapshot;
        if let Some(tracer) = &mut self.tracer {
            let ports = |network| {
                let ends = copies.told().map(|(port, _)| port).chain([ingress]);
                ends.into_iter().any(|port| touches(snapshot, port, network))
            };
            tracer.tell(told, ports);
        }
        decision
    }
}

/// The port is one of the network, or of its uplink.
fn touches(snapshot: &Snapshot, port: PortId, network: u16) -> bool {
    match snapshot.port(port).map(|port| port.role) {
        Some(Role::Guest { network: id } | Role::Host { network: id }) => id == network,
        Some(Role::Uplink { uplink }) => {
            snapshot.network(network).is_some_and(|network| network.uplink == Some(uplink))
        }
        Some(Role::Down { .. }) | None => false,
    }
}

/// Passes everything on and remembers what left.
struct Recorder<'a> {
    out: &'a mut dyn Egress,
    copies: Copies,
    over: Option<u16>,
}

impl Egress for Recorder<'_> {
    fn transmit(&mut self, port: PortId, frame: FrameRef<'_>) {
        self.copies.add(port, Head::of(frame.bytes));
        self.out.transmit(port, frame);
    }

    fn hand_off(&mut self, worker: u16, ingress: PortId, frame: FrameRef<'_>) {
        self.over = Some(worker);
        self.out.hand_off(worker, ingress, frame);
    }

    fn dns_query(&mut self, socket: u16, query: &[u8]) {
        self.out.dns_query(socket, query);
    }

    fn dns_query_tcp(&mut self, resolver: u16, ticket: u32, query: &[u8]) {
        self.out.dns_query_tcp(resolver, ticket, query);
    }

    fn lease(&mut self, network: u16, ticket: u32, change: LeaseChange<'_>) {
        self.out.lease(network, ticket, change);
    }

    fn event(&mut self, event: Event<'_>) {
        self.out.event(event);
    }
}
