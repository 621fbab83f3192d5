//! Two guests at one worker, plugged in by vhost-user or by taps: frames are read, decided upon and written, and guests are
//! woken, as a worker does it, without its outbox.

use std::io;
use std::sync::Arc;

use pontoon_engine::egress::{Event, LeaseChange};
use pontoon_engine::{Egress, FrameRef, PortId};
use pontoon_ports::{BUFFER, HEADROOM, Queue, Received, Sent, VhostQueue};
use pontoon_sim::{GUEST_1, GUEST_2};
use pontoon_vhost::driver::{Buffers, Card, card_octets};
use pontoon_vhost::features::RING_PACKED;
use pontoon_vhost::{Features, Layout, Regions, Ring, Wired};
use pontoon_wire::vnet;
use rustix::event::{EventfdFlags, eventfd};

use crate::{Lab, known_unicast};

/// Frames a guest sends before the worker looks, and that the worker reads in one turn.
pub const BATCH: usize = 64;
/// As Linux has them with mergeable buffers.
const BUFFERS: Buffers = Buffers { size: 256, receive: 1536, send: 2048, pieces: 1 };

/// The worker's side.
pub struct Worker {
    lab: Lab,
    queues: [Queue; 2],
    buffer: Vec<u8>,
}

/// What the engine sends goes to the guests' queues.
struct Out<'a> {
    queues: &'a mut [Queue; 2],
    sent: usize,
}

impl Egress for Out<'_> {
    fn transmit(&mut self, port: PortId, frame: FrameRef<'_>) {
        let [first, second] = &mut *self.queues;
        let queue = if port == GUEST_2 { second } else { first };
        self.sent += usize::from(queue.send(frame.vnet, &[frame.bytes]) == Sent::Done);
    }

    fn hand_off(&mut self, _worker: u16, _ingress: PortId, _frame: FrameRef<'_>) {}

    fn dns_query(&mut self, _socket: u16, _query: &[u8]) {}

    fn dns_query_tcp(&mut self, _resolver: u16, _ticket: u32, _query: &[u8]) {}

    fn lease(&mut self, _network: u16, _ticket: u32, _change: LeaseChange<'_>) {}

    fn event(&mut self, _event: Event<'_>) {}
}

impl Worker {
    /// A worker that knows where both guests are.
    #[must_use]
    pub fn new(queues: [Queue; 2]) -> Self {
        Self { lab: Lab::new(64), queues, buffer: vec![0; BUFFER] }
    }

    /// One turn over what the first guest has sent; frames that were written.
    #[inline(never)]
    pub fn counted_turn(&mut self) -> usize {
        let mut sent = 0;
        for _ in 0..BATCH {
            let [first, _] = &mut self.queues;
            let Received::Frame { vnet, length } = first.receive(&mut self.buffer) else { break };
            let Some(frame) = self.buffer.get_mut(HEADROOM..HEADROOM + length) else { break };
            let mut out = Out { queues: &mut self.queues, sent: 0 };
            self.lab.engine.receive(self.lab.now, GUEST_1, vnet, frame, &mut out);
            sent += out.sent;
        }
        for queue in &mut self.queues {
            let _ = queue.flush();
        }
        sent
    }
}

/// The guests' drivers.
pub struct Drivers {
    cards: [Card<Arc<Regions>>; 2],
    buffer: Vec<u8>,
}

/// Two guests whose drivers are in this process, and a worker.
///
/// # Errors
/// The system's.
pub fn vhost_user(features: Features) -> io::Result<(Worker, Drivers)> {
    let (first, one) = plug(features)?;
    let (second, other) = plug(features)?;
    let drivers = Drivers { cards: [one, other], buffer: vec![0; BUFFER] };
    Ok((Worker::new([first, second]), drivers))
}

fn plug(features: Features) -> io::Result<(Queue, Card<Arc<Regions>>)> {
    let memory = Arc::new(Regions::anonymous(usize::try_from(card_octets(BUFFERS)).unwrap_or(0))?);
    let mut card = Card::new(Arc::clone(&memory), 0, features, BUFFERS);
    let start = if features.has(RING_PACKED) { 0x8000 } else { 0 };
    let wire = |layout: Layout| -> io::Result<Wired> {
        let ring = Ring::new(layout, start, &memory, |at, length| memory.holds(at, length));
        let ring = ring.ok_or(io::ErrorKind::InvalidInput)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Arc::new);
        let queue = pontoon_vhost::Queue::new(ring, Arc::clone(&memory), features);
        Ok(Wired { queue, kick: event()?, call: Some(event()?) })
    };
    let mut queue = VhostQueue::new(0);
    let [receiving, sending] = card.layouts();
    queue.put(0, wire(receiving)?);
    queue.put(1, wire(sending)?);
    card.fill();
    card.receiving.ask(true);
    Ok((Queue::Vhost(queue), card))
}

impl Drivers {
    /// The first guest sends a batch.
    pub fn send(&mut self) {
        let (frame, [card, _]) = (known_unicast(), &mut self.cards);
        let sent = (0..BATCH).all(|_| card.send(vnet::Header::default(), &frame));
        assert!(sent, "the device has given nothing back");
        card.sending.publish();
    }

    /// The second guest takes all there is, and wants to be called for what comes next.
    pub fn receive(&mut self) -> usize {
        let [_, card] = &mut self.cards;
        let frames = std::iter::from_fn(|| card.receive(&mut self.buffer)).count();
        card.receiving.publish();
        card.receiving.ask(true);
        frames
    }
}
