//! Frames in and out of virtqueues: what virtio-net puts around them (virtio 1.2, 5.1.6).

use pontoon_wire::vnet;
use zerocopy::{FromBytes, IntoBytes};

use crate::chain::{Broken, Chain, Head, Segment};
use crate::features::{Features, GUEST_CSUM, MRG_RXBUF};
use crate::memory::Memory;
use crate::ring::{MAX_SIZE, Ring};

/// Octets before a frame in the caller's buffer.
pub const HEADROOM: usize = vnet::LENGTH;
/// Buffers one frame may be spread over: 64 KB in the smallest a driver gives, of 1518 octets, are 44.
pub const MAX_BUFFERS: usize = 64;
/// And pieces of buffers.
const MAX_SEGMENTS: usize = MAX_SIZE as usize;

/// What came of taking a frame from a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is at [`HEADROOM`] of the buffer.
    Frame {
        vnet: vnet::Header,
        length: usize,
    },
    Nothing,
    /// A buffer that holds no frame was given back.
    Dropped,
    Broken(Broken),
}

/// What came of giving a frame to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Done,
    /// The guest has not given room enough.
    NoRoom,
    /// The guest did not agree to such a frame.
    NotTaken,
    /// The guest's buffers are not where it says.
    Dropped,
    Broken(Broken),
}

/// One virtqueue of a guest's network card, in working order.
#[derive(Clone, Debug)]
pub struct Queue<M> {
    ring: Ring,
    memory: M,
    features: Features,
    /// Kept for their room: where a frame is, and the buffers it is put into with the room of each.
    chain: Chain,
    heads: Vec<(Head, usize)>,
    /// Whether the driver was asked for no notice.
    quiet: bool,
}

impl<M: Memory> Queue<M> {
    #[must_use]
    pub fn new(ring: Ring, memory: M, features: Features) -> Self {
        Self { ring, memory, features, chain: Chain::default(), heads: Vec::new(), quiet: false }
    }

    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    #[must_use]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Where the device is, in the form of `GET_VRING_BASE`.
    #[must_use]
    pub fn base(&self) -> u32 {
        self.ring.base()
    }

    /// Takes the guest's next frame; the guest gets its buffer back at once, the frame is a copy. After `Nothing` the
    /// driver gives notice of the next one.
    #[inline]
    pub fn take(&mut self, buffer: &mut [u8]) -> Taken {
        self.try_take(buffer).unwrap_or_else(Taken::Broken)
    }

    #[inline]
    fn try_take(&mut self, buffer: &mut [u8]) -> Result<Taken, Broken> {
        self.chain.segments.clear();
        let mut head = self.ring.pop(&self.memory, &mut self.chain)?;
        if head.is_none() {
            self.quiet = false;
            if !self.ring.enable(&self.memory)? {
                return Ok(Taken::Nothing);
            }
            head = self.ring.pop(&self.memory, &mut self.chain)?;
        }
        let Some(head) = head else { return Ok(Taken::Nothing) };
        if !self.quiet {
            self.ring.suppress(&self.memory)?;
            self.quiet = true;
        }
        let taken = self.copy_in(buffer);
        self.ring.push(&self.memory, head, 0)?;
        self.ring.publish(&self.memory)?;
        Ok(taken)
    }

    #[inline]
    fn copy_in(&self, buffer: &mut [u8]) -> Taken {
        let skip = HEADROOM - self.features.header();
        let mut end = skip;
        for &Segment { address, length, writable } in &self.chain.segments {
            let Some(room) = buffer.get_mut(end..).and_then(|rest| rest.get_mut(..length as usize)) else {
                return Taken::Dropped;
            };
            if writable || !self.memory.read(address, room) {
                return Taken::Dropped;
            }
            end += length as usize;
        }
        let Some(length) = end.checked_sub(HEADROOM).filter(|length| *length > 0) else {
            return Taken::Dropped;
        };
        if skip > 0 {
            buffer.copy_within(skip..HEADROOM, 0);
        }
        let header = buffer.get(..HEADROOM).and_then(|head| vnet::Header::read_from_bytes(head).ok());
        // What the driver wrote as number of buffers means nothing in this direction.
        let header = header.map(|header| vnet::Header { buffers: 0.into(), ..header });
        header.map_or(Taken::Dropped, |vnet| Taken::Frame { vnet, length })
    }

    /// Gives a frame to the guest, who sees it at once and hears of it when [`Self::wants_call`] is asked.
    #[inline]
    pub fn give(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Given {
        if !self.features.takes(&header) {
            return Given::NotTaken;
        }
        self.try_give(header, parts).unwrap_or_else(Given::Broken)
    }

    #[inline]
    fn try_give(&mut self, mut header: vnet::Header, parts: &[&[u8]]) -> Result<Given, Broken> {
        if !self.quiet {
            self.ring.suppress(&self.memory)?;
            self.quiet = true;
        }
        let octets = self.features.header() + parts.iter().map(|part| part.len()).sum::<usize>();
        if !self.gather(octets)? {
            return Ok(Given::NoRoom);
        }
        header.buffers = (self.heads.len() as u16).into();
        if !self.features.has(GUEST_CSUM) {
            header.flags = 0;
        }
        let whole = header.as_bytes();
        let written = self.copy_out(whole.get(..self.features.header()).unwrap_or(whole), parts);
        let mut left = if written { octets } else { 0 };
        for (head, room) in &self.heads {
            let here = left.min(*room);
            left -= here;
            self.ring.push(&self.memory, *head, here as u32)?;
        }
        self.ring.publish(&self.memory)?;
        Ok(if written { Given::Done } else { Given::Dropped })
    }

    /// Takes buffers with room for `octets`; if there are not enough, none, and it is false.
    #[inline]
    fn gather(&mut self, octets: usize) -> Result<bool, Broken> {
        let most = if self.features.has(MRG_RXBUF) { MAX_BUFFERS } else { 1 };
        let position = self.ring.position();
        let mut room = 0;
        self.chain.segments.clear();
        self.heads.clear();
        for _ in 0..most {
            let first = self.chain.segments.len();
            let Some(head) = self.ring.pop(&self.memory, &mut self.chain)? else { break };
            let here = self.chain.room(first, true);
            self.heads.push((head, here));
            room += here;
            if self.chain.segments.len() > MAX_SEGMENTS {
                break;
            }
            if room >= octets {
                return Ok(true);
            }
        }
        self.ring.rewind(position);
        Ok(false)
    }

    #[inline]
    fn copy_out(&self, header: &[u8], parts: &[&[u8]]) -> bool {
        let mut targets = self.chain.segments.iter().filter(|segment| segment.writable);
        let (mut at, mut room) = (0, 0);
        for part in std::iter::once(&header).chain(parts) {
            let mut rest = *part;
            while !rest.is_empty() {
                if room == 0 {
                    let Some(segment) = targets.next() else { return false };
                    (at, room) = (segment.address, segment.length as usize);
                    continue;
                }
                let (now, later) = rest.split_at(rest.len().min(room));
                if !self.memory.write(at, now) {
                    return false;
                }
                (at, room, rest) = (at.wrapping_add(now.len() as u64), room - now.len(), later);
            }
        }
        true
    }

    /// Whether the driver wants to be called for what it got, or got back, since this was asked last.
    ///
    /// # Errors
    /// The ring is no ring any more.
    pub fn wants_call(&mut self) -> Result<bool, Broken> {
        self.ring.wants_call(&self.memory)
    }
}
