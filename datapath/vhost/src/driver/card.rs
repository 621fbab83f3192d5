//! A guest's network card: two virtqueues and the buffers they need.

use pontoon_wire::vnet;
use zerocopy::{FromBytes, IntoBytes};

use super::{Driver, MAX_PIECES, lay_out, segment, table_octets};
use crate::chain::Segment;
use crate::features::{EVENT_IDX, Features, INDIRECT_DESC, MRG_RXBUF, RING_PACKED};
use crate::memory::Memory;
use crate::ring::Layout;

/// Sizes of buffers, and into how many pieces each is cut.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    pub size: u16,
    pub receive: u32,
    pub send: u32,
    pub pieces: usize,
}

#[derive(Debug)]
pub struct Card<M> {
    pub receiving: Driver<M>,
    pub sending: Driver<M>,
    memory: M,
    features: Features,
    buffers: Buffers,
    /// Where buffers begin: those received into, those sent from.
    rooms: [u64; 2],
    /// Buffer of each id the device has.
    places: Vec<u64>,
    sent: Vec<u64>,
    free: Vec<u64>,
}

/// Octets of memory a card takes.
#[must_use]
pub fn card_octets(buffers: Buffers) -> u64 {
    let ring = |_| lay_out(buffers.size, 0, false, true).1 + table_octets(buffers.size);
    let rooms = u64::from(buffers.size) * u64::from(buffers.receive + buffers.send);
    [0; 2].map(ring).iter().sum::<u64>() + rooms + 4096
}

impl<M: Memory + Clone> Card<M> {
    /// A card in the memory from `at` on.
    #[must_use]
    pub fn new(memory: M, at: u64, features: Features, buffers: Buffers) -> Self {
        let (packed, event) = (features.has(RING_PACKED), features.has(EVENT_IDX));
        let (first, at) = lay_out(buffers.size, at.next_multiple_of(64), packed, event);
        let (second, at) = lay_out(buffers.size, at, packed, event);
        let tables = [at, at + table_octets(buffers.size)];
        let [receiving, sending] = [(first, tables[0]), (second, tables[1])].map(|(layout, table)| {
            Driver::new(memory.clone(), layout, features.has(INDIRECT_DESC).then_some(table))
        });
        let start = tables[1] + table_octets(buffers.size);
        let count = u64::from(buffers.size);
        let rooms = [start, start + count * u64::from(buffers.receive)];
        let free = (0..count).map(|index| rooms[1] + index * u64::from(buffers.send)).collect();
        let (places, sent) = (vec![0; buffers.size.into()], vec![0; buffers.size.into()]);
        Self { receiving, sending, memory, features, buffers, rooms, places, sent, free }
    }

    #[must_use]
    pub fn layouts(&self) -> [Layout; 2] {
        [self.receiving.layout(), self.sending.layout()]
    }

    fn cut(&self, at: u64, octets: u32, writable: bool) -> ([Segment; MAX_PIECES], usize) {
        let mut pieces = [segment(0, 0, writable); MAX_PIECES];
        let count = self.buffers.pieces.clamp(1, MAX_PIECES).min(octets as usize);
        let step = octets / count as u32;
        for (index, piece) in (0u32..).zip(pieces.iter_mut().take(count)) {
            let last = index as usize + 1 == count;
            let length = if last { octets - step * index } else { step };
            *piece = segment(at + u64::from(step * index), length, writable);
        }
        (pieces, count)
    }

    /// Gives the device all buffers to receive into. True when it wants to be told.
    pub fn fill(&mut self) -> bool {
        for index in 0..u64::from(self.buffers.size) {
            let at = self.rooms[0] + index * u64::from(self.buffers.receive);
            if !self.post(at) {
                break;
            }
        }
        self.receiving.publish()
    }

    fn post(&mut self, at: u64) -> bool {
        let (pieces, count) = self.cut(at, self.buffers.receive, true);
        let Some(id) = self.receiving.add(&pieces[..count]) else { return false };
        self.places[usize::from(id)] = at;
        true
    }

    /// Queues a frame; the device sees it when [`Driver::publish`] is called. False when there is no room.
    pub fn send(&mut self, header: vnet::Header, frame: &[u8]) -> bool {
        while let Some((id, written)) = self.sending.collect() {
            assert_eq!(written, 0, "the device wrote into what was sent");
            self.free.push(self.sent[usize::from(id)]);
        }
        let Some(at) = self.free.pop() else { return false };
        let octets = self.features.header();
        let whole = octets + frame.len();
        assert!(whole <= self.buffers.send as usize);
        assert!(self.memory.write(at, &header.as_bytes()[..octets]));
        assert!(self.memory.write(at + octets as u64, frame));
        let (pieces, count) = self.cut(at, whole as u32, false);
        let Some(id) = self.sending.add(&pieces[..count]) else {
            self.free.push(at);
            return false;
        };
        self.sent[usize::from(id)] = at;
        true
    }

    /// The next frame and its header, put behind each other in `buffer`; their buffers go back to the device.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<(vnet::Header, usize)> {
        let octets = self.features.header();
        let (mut left, mut end, mut header) = (1, 0, vnet::Header::default());
        while left > 0 {
            let found = self.receiving.collect();
            let (id, written) = match found {
                Some(found) => found,
                None if end == 0 => return None,
                None => panic!("{left} buffers of a frame are missing"),
            };
            let at = self.places[usize::from(id)];
            let room = buffer.get_mut(end..end + written as usize).expect("fits");
            assert!(written <= self.buffers.receive && self.memory.read(at, room));
            if end == 0 {
                let mut head = [0; vnet::LENGTH];
                head[..octets].copy_from_slice(&buffer[..octets]);
                header = vnet::Header::read_from_bytes(&head).expect("header");
                left = usize::from(header.buffers.get()).max(1);
                assert!(left == 1 || self.features.has(MRG_RXBUF));
            }
            end += written as usize;
            left -= 1;
            assert!(self.post(at), "a place that was free");
        }
        Some((header, end - octets))
    }

    /// Octets before a frame in the buffer of [`Self::receive`].
    #[must_use]
    pub fn header(&self) -> usize {
        self.features.header()
    }
}
