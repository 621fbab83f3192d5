//! What a worker sends in one turn, on its way to the queues: flushed once a turn, or when it is full.

use pontoon_engine::coalesce::{Coalescer, LONGEST, Offers, Outgoing, segment};
use pontoon_engine::{FrameRef, PortId};
use pontoon_ports::{PARTS, Sent};
use pontoon_wire::{frame, vnet};

use crate::queues::Queues;

#[derive(Debug)]
pub(crate) struct Outbox {
    coalescer: Coalescer,
    /// Off for measurements: every frame leaves at once.
    coalesces: bool,
    at_once: bool,
    software: Software,
}

/// Room to cut super-frames in for ports that take none.
#[derive(Debug)]
struct Software {
    whole: Vec<u8>,
    piece: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new(coalesces: bool) -> Self {
        let software = Software { whole: Vec::with_capacity(frame::MAX), piece: vec![0; frame::MAX] };
        Self { coalescer: Coalescer::default(), coalesces, at_once: false, software }
    }

    /// Takes a copy of a short frame. A long one leaves at once, behind those that wait.
    pub(crate) fn transmit(&mut self, queues: &mut Queues, port: PortId, frame: FrameRef<'_>) {
        if !self.coalesces || self.at_once || frame.bytes.len() > LONGEST {
            self.flush(queues);
            self.software.send(queues, port, frame.vnet, &[frame.bytes], (1, frame.bytes.len()));
            return;
        }
        let offers = queues.offers(port);
        if !self.coalescer.push(port, offers, frame.vnet, frame.bytes) {
            self.flush(queues);
            let taken = self.coalescer.push(port, offers, frame.vnet, frame.bytes);
            debug_assert!(taken, "an empty coalescer takes a frame");
        }
    }

    /// Whether frames are written as they come, behind those that wait; whether they were before.
    pub(crate) fn leave_at_once(&mut self, at_once: bool) -> bool {
        std::mem::replace(&mut self.at_once, at_once)
    }

    pub(crate) fn flush(&mut self, queues: &mut Queues) {
        if !self.coalescer.is_empty() {
            let software = &mut self.software;
            self.coalescer.flush(|out| software.send_waiting(queues, &out));
        }
        queues.flush();
    }
}

impl Software {
    fn send_waiting(&mut self, queues: &mut Queues, out: &Outgoing<'_>) {
        let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
        let mut count = 0;
        for (slot, part) in parts.iter_mut().zip(out.parts()) {
            *slot = part;
            count += 1;
        }
        let parts = parts.get(..count).unwrap_or_default();
        let counted = (out.frames(), out.length());
        let sent = self.send(queues, out.port(), out.vnet(), parts, counted);
        // What we built is sound, so it is the kind that was refused. A guest's own proves nothing.
        if sent == Sent::NotTaken && out.frames() > 1 {
            queues.without_uso(out.port());
        }
    }

    /// Sends a frame, in segments if the queue does not take it whole.
    fn send(
        &mut self,
        queues: &mut Queues,
        port: PortId,
        header: vnet::Header,
        parts: &[&[u8]],
        (frames, octets): (u16, usize),
    ) -> Sent {
        let sent = match header.kind() == vnet::GSO_UDP_L4 && queues.offers(port) != Offers::ALL {
            true => Sent::NotTaken,
            false => queues.send(port, header, parts),
        };
        if sent == Sent::NotTaken {
            self.cut(queues, port, header, parts);
        } else {
            queues.count_sent(port, sent, frames, octets);
        }
        sent
    }

    /// Segments are counted as the port gets them.
    fn cut(&mut self, queues: &mut Queues, port: PortId, header: vnet::Header, parts: &[&[u8]]) {
        self.whole.clear();
        parts.iter().for_each(|part| self.whole.extend_from_slice(part));
        let done = segment(header, &self.whole, false, &mut self.piece, |piece| {
            let sent = queues.send(port, vnet::Header::default(), &[piece]);
            queues.count_sent(port, sent, 1, piece.len());
        });
        if !done {
            queues.count_sent(port, Sent::Dropped, 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queues::Attached;
    use pontoon_ports::{BUFFER, HEADROOM, HeaderSize, PacketQueue, Queue, Received};
    use pontoon_wire::{checksum, ethernet, ipv4, put};
    use std::net::Ipv4Addr;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;

    const PORT: PortId = 2;

    /// An outbox, its queues with one packet socket, and the socket's other end.
    fn rig(header: HeaderSize) -> (Outbox, Queues, PacketQueue) {
        let (ours, theirs) = UnixDatagram::pair().expect("pair");
        let queue = PacketQueue::new(OwnedFd::from(ours), header).expect("queue");
        let mut queues = Queues::new().expect("epoll");
        queues.attach(Attached { port: PORT, queue: Queue::Packet(queue), reads: true });
        (Outbox::new(true), queues, PacketQueue::new(OwnedFd::from(theirs), header).expect("queue"))
    }

    /// A datagram of `payload`, its checksum complete.
    fn datagram(id: u16, payload: &[u8]) -> Vec<u8> {
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let mut frame = vec![0; 42 + payload.len()];
        ethernet::emit(&mut frame, [2; 6], [4; 6], ethernet::IPV4);
        ipv4::emit(&mut frame[14..], from, to, ipv4::UDP, 8 + payload.len(), id, false);
        let length = 8 + payload.len() as u16;
        put(&mut frame, 34, &[0x10, 0x92, 0x04, 0xd2]);
        put(&mut frame, 38, &length.to_be_bytes());
        put(&mut frame, 42, payload);
        let sum = checksum::Sum::default().pseudo(from, to, ipv4::UDP, length).bytes(&frame[34..]).finish();
        put(&mut frame, 40, &sum.to_be_bytes());
        frame
    }

    fn received(queue: &mut PacketQueue) -> Vec<(vnet::Header, Vec<u8>)> {
        let mut buffer = vec![0; BUFFER];
        let mut frames = Vec::new();
        while let Received::Frame { vnet, length } = queue.receive(&mut buffer) {
            frames.push((vnet, buffer[HEADROOM..HEADROOM + length].to_vec()));
        }
        frames
    }

    fn counts(queues: &Queues) -> (u64, u64) {
        queues.counts().map(|(_, counts)| (counts.tx_packets, counts.tx_drops)).next().expect("a port")
    }

    #[test]
    fn neighbours_leave_together_when_the_turn_ends() {
        let (mut outbox, mut queues, mut peer) = rig(HeaderSize::Twelve);
        for id in 0..5 {
            let frame = datagram(id, b"datagram");
            outbox.transmit(&mut queues, PORT, FrameRef { vnet: vnet::Header::default(), bytes: &frame });
        }
        assert!(received(&mut peer).is_empty());
        outbox.flush(&mut queues);
        let frames = received(&mut peer);
        let [(header, frame)] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!((header.gso_type, header.gso_size.get(), frame.len()), (vnet::GSO_UDP_L4, 8, 42 + 5 * 8));
        assert_eq!(counts(&queues), (5, 0), "frames are counted as they came");
    }

    #[test]
    fn long_frames_leave_at_once_but_not_before_their_elders() {
        let (mut outbox, mut queues, mut peer) = rig(HeaderSize::Twelve);
        let (short, long) = (datagram(0, b"short"), datagram(1, &vec![0; LONGEST]));
        for frame in [&short, &long] {
            outbox.transmit(&mut queues, PORT, FrameRef { vnet: vnet::Header::default(), bytes: frame });
        }
        let frames = received(&mut peer);
        assert_eq!(frames.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), [short, long]);
    }

    #[test]
    fn a_port_without_offloads_gets_segments() {
        let (mut outbox, mut queues, mut peer) = rig(HeaderSize::None);
        let (mut sender, mut between, mut wire) = rig(HeaderSize::Twelve);
        let plain: Vec<Vec<u8>> = (0..5).map(|id| datagram(id, b"datagram")).collect();
        for frame in &plain {
            sender.transmit(&mut between, PORT, FrameRef { vnet: vnet::Header::default(), bytes: frame });
        }
        sender.flush(&mut between);
        let (vnet, whole) = received(&mut wire).pop().expect("a super-frame");
        outbox.transmit(&mut queues, PORT, FrameRef { vnet, bytes: &whole });
        outbox.flush(&mut queues);
        assert_eq!(received(&mut peer).into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), plain);
        assert_eq!(counts(&queues), (5, 0), "as the port got them");
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts() {
        let (mut outbox, mut queues, _peer) = rig(HeaderSize::None);
        let frame = datagram(0, b"datagram");
        for _ in 0..10_000 {
            outbox.transmit(&mut queues, PORT, FrameRef { vnet: vnet::Header::default(), bytes: &frame });
        }
        outbox.flush(&mut queues);
        let (sent, drops) = counts(&queues);
        assert!(sent > 0 && drops > 0 && sent + drops == 10_000, "{sent} sent, {drops} dropped");
    }
}
