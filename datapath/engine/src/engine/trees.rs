//! The networks' spanning trees, all of them on worker 0, and what of them other workers see.

use alloc::vec::Vec;

use pontoon_wire::bpdu::{self, Bpdu};
use pontoon_wire::{Mac, ethernet, put, vnet};

use super::{Context, Decision, State};
use crate::drops::DropReason;
use crate::egress::{Egress, FrameRef};
use crate::policy::Tree;
use crate::snapshot::{Network, PortId, Snapshot};
use crate::stp::{Board, Bridge, Effects, Gate, Report};
use crate::switch::Learned;
use crate::time::Time;
use crate::trace::Stage;

#[derive(Default)]
pub(super) struct Trees {
    /// Index: network.
    bridges: Vec<Option<Bridge>>,
    next: Option<Time>,
}

/// Does what one bridge asks for.
struct Acting<'a, E> {
    network: &'a Network,
    board: &'a Board,
    out: &'a mut E,
}

impl<E: Egress> Effects for Acting<'_, E> {
    fn send(&mut self, port: PortId, number: u16, bpdu: &Bpdu) {
        let mut frame = [0; bpdu::FRAME];
        if bpdu.emit(&mut frame, port_mac(self.network.mac, number)).is_some() {
            self.out.transmit(port, FrameRef { vnet: vnet::Header::default(), bytes: &frame });
        }
    }

    fn gate(&mut self, port: PortId, gate: Gate) {
        self.board.set(port, gate);
    }

    fn flush(&mut self, ports: &[PortId]) {
        self.network.macs.flush_learned(ports);
    }
}

/// A port's own address: another than the gateway's, so that no bridge behind a blocked port looks for the gateway
/// there. The first octets are those libvirt gives its taps.
fn port_mac(mut bridge: Mac, number: u16) -> Mac {
    let last = u16::from_be_bytes([bridge[4], bridge[5]]) ^ number;
    bridge[0] = 0xfe;
    put(&mut bridge, 4, &last.to_be_bytes());
    bridge
}

fn tree(network: &Network) -> Option<&Tree> {
    network.policy.as_deref()?.tree.as_ref()
}

impl Trees {
    /// Starts, changes and ends trees as the snapshot has them.
    pub(super) fn apply(&mut self, now: Time, snapshot: &Snapshot) {
        self.bridges.resize_with(snapshot.networks.len(), || None);
        for (bridge, network) in self.bridges.iter_mut().zip(&snapshot.networks) {
            match network.as_ref().and_then(tree) {
                Some(tree) => bridge.get_or_insert_with(|| Bridge::new(tree.config, now)).configure(
                    now,
                    tree.config,
                    &tree.ports,
                ),
                None => *bridge = None,
            }
        }
        self.schedule();
    }

    fn schedule(&mut self) {
        self.next = self.bridges.iter().flatten().filter_map(Bridge::next_timeout).min();
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.next
    }

    pub(super) fn timeout(&mut self, now: Time, snapshot: &Snapshot, out: &mut impl Egress) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        for (bridge, network) in self.bridges.iter_mut().zip(&snapshot.networks) {
            let Some((bridge, network)) = bridge.as_mut().zip(network.as_ref()) else { continue };
            if let Some(tree) = tree(network).filter(|_| bridge.next_timeout().is_some_and(|due| due <= now))
            {
                bridge.run(now, &mut Acting { network, board: &tree.board, out });
            }
        }
        self.schedule();
    }

    pub(super) fn reports(&self, now: Time) -> impl Iterator<Item = (u16, Report)> + '_ {
        (0..).zip(&self.bridges).filter_map(move |(id, bridge)| Some((id, bridge.as_ref()?.report(now))))
    }

    fn act<E: Egress>(
        &mut self,
        network: &Network,
        id: u16,
        out: &mut E,
        act: impl FnOnce(&mut Bridge, &mut Acting<'_, E>),
    ) {
        let bridge = self.bridges.get_mut(usize::from(id)).and_then(Option::as_mut);
        if let Some((bridge, tree)) = bridge.zip(tree(network)) {
            act(bridge, &mut Acting { network, board: &tree.board, out });
            self.schedule();
        }
    }
}

impl State {
    /// A frame to an address that no bridge forwards: a BPDU, or nothing for us.
    #[cold]
    pub(super) fn link_local<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &[u8],
    ) -> Decision {
        self.trail.pass(Stage::Tree);
        let tree = tree(network).ok_or(DropReason::LinkLocal)?;
        if ethernet::destination(frame) != Some(bpdu::GROUP) {
            return Err(DropReason::LinkLocal);
        }
        let bpdu = Bpdu::parse(frame).ok_or(DropReason::BpduMalformed)?;
        let (now, port) = (context.now.mono, context.ingress);
        if !context.handed && !tree.board.admit(now, port) {
            return Err(DropReason::BpduRate);
        }
        if !self.hand_over(context, 0, frame)? {
            self.trees
                .act(network, id, context.out, |bridge, acting| bridge.receive(now, port, &bpdu, acting));
        }
        Ok(())
    }

    /// An address that moves, or that is seen where it cannot be, may be a frame that came back: worker 0 asks by a
    /// BPDU before the frame goes on. True when the frame went to worker 0.
    #[cold]
    pub(super) fn unsettled<E: Egress>(
        &mut self,
        context: &mut Context<'_, E>,
        network: &Network,
        id: u16,
        frame: &[u8],
        learned: Learned,
    ) -> Result<bool, DropReason> {
        if learned != Learned::Moved {
            self.drops.count(DropReason::MacLimit);
        }
        let Some(tree) = tree(network) else { return Ok(false) };
        if !tree.board.admit(context.now.mono, context.ingress) {
            return Ok(false);
        }
        tree.board.accuse(context.ingress);
        if self.hand_over(context, 0, frame)? {
            return Ok(true);
        }
        self.heed(context, network, id);
        Ok(false)
    }

    /// Asks about the port that was accused last.
    #[cold]
    pub(super) fn heed<E: Egress>(&mut self, context: &mut Context<'_, E>, network: &Network, id: u16) {
        let now = context.now.mono;
        if let Some(port) = tree(network).and_then(|tree| tree.board.take_suspect()) {
            self.trees.act(network, id, context.out, |bridge, acting| bridge.suspect(now, port, acting));
        }
    }
}

impl Network {
    /// What the spanning tree lets a port do.
    #[inline]
    pub(super) fn gate(&self, port: PortId) -> Gate {
        self.policy.as_deref().map_or(Gate::Open, |policy| policy.gate(port))
    }

    /// Whether the gateway may send to a port.
    #[inline]
    pub(super) fn is_open(&self, port: PortId) -> bool {
        self.policy.as_deref().is_none_or(|policy| policy.is_open(port))
    }

    /// Whether a frame to an address nobody has been seen with goes to all ports.
    pub(super) fn floods_unknown(&self) -> bool {
        self.policy.as_deref().is_none_or(|policy| policy.floods_unknown)
    }
}

/// A frame may not go to the port its destination was seen behind: why, unless it is to be looked for elsewhere.
#[cold]
pub(super) fn not_there<E: Egress>(
    context: &Context<'_, E>,
    network: &Network,
    port: PortId,
    destination: Mac,
) -> Decision {
    let policy = network.policy.as_deref();
    if port == context.ingress {
        Err(DropReason::SamePort)
    } else if policy.is_some_and(|policy| policy.separates(context.ingress, port)) {
        Err(DropReason::Isolated)
    } else if network.macs.forget(destination) {
        Ok(())
    } else {
        Err(DropReason::SpanningTree)
    }
}
