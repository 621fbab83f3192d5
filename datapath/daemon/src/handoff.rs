//! Frames on their way to the worker that owns their state: one ring for every ordered pair of workers.
//!
//! Each ring has a fixed number of buffers that circle between the two workers. A buffer grows to the largest frame
//! it has carried, so a ring of small frames stays small; nothing is allocated once sizes have settled. No free
//! buffer means the owner does not keep up: the frame is dropped and counted.

use pontoon_engine::{FrameRef, PortId};
use pontoon_wire::vnet;
use rtrb::{Consumer, Producer, RingBuffer};

/// Buffers of one ring.
pub(crate) const BUFFERS: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Where the frame came from, or where it leaves.
    pub(crate) port: PortId,
    /// It is decided upon and only to be sent.
    pub(crate) leaves: bool,
    pub(crate) vnet: vnet::Header,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Outbound {
    free: Vec<Handed>,
    returned: Consumer<Handed>,
    ring: Producer<Handed>,
}

impl Outbound {
    /// False when there is no free buffer.
    pub(crate) fn send(&mut self, port: PortId, leaves: bool, frame: FrameRef<'_>) -> bool {
        let Some(mut handed) = self.free.pop().or_else(|| self.returned.pop().ok()) else { return false };
        (handed.port, handed.leaves) = (port, leaves);
        handed.vnet = frame.vnet;
        handed.bytes.clear();
        handed.bytes.extend_from_slice(frame.bytes);
        match self.ring.push(handed) {
            Ok(()) => true,
            Err(rtrb::PushError::Full(handed)) => {
                self.free.push(handed);
                false
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Inbound {
    ring: Consumer<Handed>,
    back: Producer<Handed>,
}

impl Inbound {
    pub(crate) fn receive(&mut self) -> Option<Handed> {
        self.ring.pop().ok()
    }

    /// Gives the buffer back to its ring.
    pub(crate) fn recycle(&mut self, handed: Handed) {
        // As many places as buffers: it always fits.
        let _ = self.back.push(handed);
    }
}

/// One worker's ends: outbound by target worker (`None` for itself), inbound from all others.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) outbound: Vec<Option<Outbound>>,
    pub(crate) inbound: Vec<Inbound>,
}

#[must_use]
pub(crate) fn mesh(workers: u16) -> Vec<Ends> {
    let count = usize::from(workers);
    let mut all: Vec<Ends> = (0..count).map(|_| Ends::default()).collect();
    for from in 0..count {
        for to in 0..count {
            let ends = (from != to).then(pair);
            let (outbound, inbound) = ends.unzip();
            if let Some(worker) = all.get_mut(from) {
                worker.outbound.push(outbound);
            }
            if let Some(worker) = all.get_mut(to) {
                worker.inbound.extend(inbound);
            }
        }
    }
    all
}

fn pair() -> (Outbound, Inbound) {
    let (ring, consumer) = RingBuffer::new(BUFFERS);
    let (back, returned) = RingBuffer::new(BUFFERS);
    let free = std::iter::repeat_with(Handed::default).take(BUFFERS).collect();
    (Outbound { free, returned, ring }, Inbound { ring: consumer, back })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_recycled_buffers_free_it() {
        let mut workers = mesh(2);
        let mut to = workers.pop().expect("worker 1");
        let mut from = workers.pop().expect("worker 0");
        assert!(from.outbound[0].is_none());
        let out = from.outbound[1].as_mut().expect("ring to 1");
        let frame = FrameRef { vnet: vnet::Header::default(), bytes: b"frame" };
        assert_eq!((0..200).filter(|_| out.send(9, false, frame)).count(), BUFFERS);
        let handed = to.inbound[0].receive().expect("handed");
        assert_eq!((handed.port, handed.bytes.as_slice()), (9, b"frame".as_slice()));
        assert!(!out.send(9, false, frame));
        to.inbound[0].recycle(handed);
        assert!(out.send(9, false, frame));
    }
}
