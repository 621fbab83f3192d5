//! In which order fragments go on (RFC 4787 REQ-14): the first of a datagram before all others, as it alone names the
//! ports. Others that come before it wait. Nothing is put together; what has passed is remembered as ranges, so that an
//! overlap ends the datagram as a whole (RFC 5722).
//!
//! Half datagrams cost a bounded table: all of one sender share a bucket, in which its oldest give way.

use alloc::vec;
use alloc::vec::Vec;

use pontoon_wire::frame::Packet;
use pontoon_wire::{ipv4, vnet};

use super::index::Hasher;
use super::slot::Key;
use crate::DropReason;
use crate::time::Time;

const BUCKETS: usize = 128;
/// Datagrams of one bucket.
const WAYS: usize = 16;
/// Gaps a datagram may have at a time, and one.
const RANGES: usize = 16;
const SECONDS: u64 = 30;
/// Octets that may wait in one bucket, two of the longest datagrams, and in all.
const BUCKET_OCTETS: usize = 1 << 17;
const OCTETS: usize = 1 << 22;

/// A fragment that waits for the first of its datagram.
pub(crate) type Waiting = (vnet::Header, Vec<u8>);

/// What is to be done with a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It goes on as a packet of this port, and these with it.
    Go(u16, Vec<Waiting>),
    /// It waits: [`Order::hold`].
    Wait,
}

#[derive(Clone, Debug, Default)]
struct Datagram {
    key: Key,
    expires: Time,
    /// What the first fragment named.
    port: Option<u16>,
    /// Nothing of it goes on any more.
    ended: bool,
    /// Where the last fragment ends.
    end: Option<u16>,
    /// What has come: first octet, and the one behind the last; apart from each other and in order.
    ranges: [(u16, u16); RANGES],
    count: usize,
    waiting: Vec<Waiting>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    datagrams: [Datagram; WAYS],
    octets: usize,
}

/// Datagrams of one direction.
pub(crate) struct Order {
    buckets: Vec<Bucket>,
    octets: usize,
    lost: u64,
}

/// `link`: network or uplink the datagram came from.
pub(super) fn key(link: u16, packet: &Packet) -> Key {
    let ip = &packet.ip;
    [
        u64::from(ip.source.to_bits()) << 32 | u64::from(ip.destination.to_bits()),
        u64::from(link) << 32 | u64::from(ip.id) << 16 | u64::from(ip.protocol),
    ]
}

/// Of everything one sender sends by a link.
pub(super) fn sender(link: u16, packet: &Packet) -> Key {
    [u64::from(packet.ip.source.to_bits()) << 32 | u64::from(link), 0]
}

/// The octets of its datagram a fragment has; `None` when no datagram can have it.
fn range(packet: &Packet) -> Option<(u16, u16)> {
    let length = packet.end.checked_sub(packet.l4).filter(|&length| length > 0)?;
    let more = packet.ip.fragment & ipv4::MORE_FRAGMENTS != 0;
    if more && !length.is_multiple_of(8) {
        return None;
    }
    let start = packet.ip.fragment_offset();
    let end = start + length;
    if end + packet.ip.header_length > usize::from(u16::MAX) {
        return None;
    }
    Some((u16::try_from(start).ok()?, u16::try_from(end).ok()?))
}

impl Datagram {
    fn known(&self) -> &[(u16, u16)] {
        self.ranges.get(..self.count).unwrap_or_default()
    }

    /// Takes note of a range; false when the datagram cannot be whole with it.
    fn add(&mut self, (start, end): (u16, u16), last: bool) -> bool {
        let end_of_all = self.known().last().map_or(0, |range| range.1);
        let fits = match self.end {
            Some(known) => end <= known && (!last || end == known),
            None => !last || end >= end_of_all,
        };
        if !fits || self.known().iter().any(|range| start < range.1 && range.0 < end) {
            return false;
        }
        if last {
            self.end = Some(end);
        }
        let at = self.known().partition_point(|range| range.1 <= start);
        self.insert(at, (start, end))
    }

    /// Joins a range to its neighbours, or makes it one more.
    fn insert(&mut self, at: usize, (start, end): (u16, u16)) -> bool {
        let before = at.checked_sub(1).filter(|&at| self.known().get(at).is_some_and(|r| r.1 == start));
        let behind = Some(at).filter(|&at| self.known().get(at).is_some_and(|r| r.0 == end));
        match (before, behind) {
            (Some(before), Some(behind)) => {
                self.ranges[before].1 = self.ranges[behind].1;
                self.ranges.copy_within(behind + 1..self.count, behind);
                self.count -= 1;
            }
            (Some(before), None) => self.ranges[before].1 = end,
            (None, Some(behind)) => self.ranges[behind].0 = start,
            (None, None) if self.count == RANGES => return false,
            (None, None) => {
                self.ranges.copy_within(at..self.count, at + 1);
                self.ranges[at] = (start, end);
                self.count += 1;
            }
        }
        true
    }

    fn is_whole(&self) -> bool {
        matches!((self.known(), self.end), (&[(0, end)], Some(last)) if end == last)
    }

    fn octets(&self) -> usize {
        self.waiting.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

impl Order {
    pub(super) fn new() -> Self {
        Self { buckets: vec![Bucket::default(); BUCKETS], octets: 0, lost: 0 }
    }

    fn bucket(hasher: &Hasher, sender: Key) -> usize {
        hasher.hash(sender) as usize % BUCKETS
    }

    /// Takes note of a fragment. `port`: of the first one, what names its owner.
    ///
    /// # Errors
    /// When it does not go on: it is part of no sound datagram, or of one that has ended.
    //= RFC4787#REQ-14, RFC5722#3
    pub(super) fn note(
        &mut self,
        hasher: &Hasher,
        now: Time,
        link: u16,
        packet: &Packet,
        port: Option<u16>,
    ) -> Result<Step, DropReason> {
        let range = range(packet).ok_or(DropReason::NatFragment)?;
        let last = packet.ip.fragment & ipv4::MORE_FRAGMENTS == 0;
        let (bucket, at) = self.find(hasher, now, link, packet);
        let Some(datagram) = self.datagram(bucket, at) else { return Err(DropReason::NatFragment) };
        if datagram.ended {
            return Err(DropReason::NatFragmentOverlap);
        }
        if datagram.known().iter().any(|known| known.0 <= range.0 && range.1 <= known.1) {
            // All of it was there before: a copy, which ends nothing (RFC 8200 4.5 has it so too).
            return Err(DropReason::NatFragmentOverlap);
        }
        if !datagram.add(range, last) {
            datagram.ended = true;
            self.release(bucket, at, true);
            return Err(DropReason::NatFragmentOverlap);
        }
        datagram.port = datagram.port.or(port);
        let (port, whole) = (datagram.port, datagram.is_whole());
        let Some(port) = port else { return Ok(Step::Wait) };
        let waiting = self.release(bucket, at, false);
        if whole && let Some(datagram) = self.datagram(bucket, at) {
            *datagram = Datagram::default();
        }
        Ok(Step::Go(port, waiting))
    }

    fn datagram(&mut self, bucket: usize, at: usize) -> Option<&mut Datagram> {
        self.buckets.get_mut(bucket)?.datagrams.get_mut(at)
    }

    /// Where the datagram of a fragment is; the oldest of its bucket makes room for one that is new.
    fn find(&mut self, hasher: &Hasher, now: Time, link: u16, packet: &Packet) -> (usize, usize) {
        let bucket = Self::bucket(hasher, sender(link, packet));
        let key = key(link, packet);
        let all = self.buckets.get(bucket).map_or(&[][..], |bucket| &bucket.datagrams);
        if let Some(at) = all.iter().position(|datagram| datagram.key == key && datagram.expires > now) {
            return (bucket, at);
        }
        let at = (0..WAYS).min_by_key(|&at| all.get(at).map(|datagram| datagram.expires)).unwrap_or(0);
        self.release(bucket, at, true);
        if let Some(datagram) = self.datagram(bucket, at) {
            *datagram = Datagram { key, expires: now.after_secs(SECONDS), ..Datagram::default() };
        }
        (bucket, at)
    }

    /// Takes what waits out of a datagram, to be sent or lost.
    fn release(&mut self, bucket: usize, at: usize, lost: bool) -> Vec<Waiting> {
        let Some(bucket) = self.buckets.get_mut(bucket) else { return Vec::new() };
        let Some(datagram) = bucket.datagrams.get_mut(at) else { return Vec::new() };
        let octets = datagram.octets();
        bucket.octets -= octets;
        self.octets -= octets;
        let waiting = core::mem::take(&mut datagram.waiting);
        if lost {
            self.lost += waiting.len() as u64;
        }
        waiting
    }

    /// Keeps a fragment that was told to wait.
    ///
    /// # Errors
    /// When too much waits already, and nothing older of the same sender is there to give way.
    //= RFC4787#REQ-14a
    pub(super) fn hold(
        &mut self,
        hasher: &Hasher,
        now: Time,
        link: u16,
        packet: &Packet,
        (vnet, frame): (vnet::Header, &[u8]),
    ) -> Result<(), DropReason> {
        let (bucket, at) = self.find(hasher, now, link, packet);
        while self.buckets.get(bucket).is_some_and(|b| b.octets + frame.len() > BUCKET_OCTETS) {
            let older = self.oldest_waiting(bucket, at).ok_or(DropReason::NatFragment)?;
            self.release(bucket, older, true);
            if let Some(datagram) = self.datagram(bucket, older) {
                *datagram = Datagram::default();
            }
        }
        if self.octets + frame.len() > OCTETS {
            return Err(DropReason::NatFragment);
        }
        let Some(place) = self.buckets.get_mut(bucket) else { return Err(DropReason::NatFragment) };
        if let Some(datagram) = place.datagrams.get_mut(at) {
            datagram.waiting.push((vnet, frame.to_vec()));
            place.octets += frame.len();
            self.octets += frame.len();
        }
        Ok(())
    }

    fn oldest_waiting(&self, bucket: usize, but: usize) -> Option<usize> {
        let all = &self.buckets.get(bucket)?.datagrams;
        let waiting = (0..WAYS).filter(|&at| at != but && all.get(at).is_some_and(|d| !d.waiting.is_empty()));
        waiting.min_by_key(|&at| all.get(at).map(|datagram| datagram.expires))
    }

    /// Something waits, so [`Self::expire`] should run every second.
    pub(super) fn is_waiting(&self) -> bool {
        self.octets > 0
    }

    /// Gives up what waits for datagrams whose time is over.
    pub(super) fn expire(&mut self, now: Time) {
        if !self.is_waiting() {
            return;
        }
        for bucket in 0..BUCKETS {
            for at in 0..WAYS {
                if self.datagram(bucket, at).is_some_and(|datagram| datagram.expires <= now) {
                    self.release(bucket, at, true);
                }
            }
        }
    }

    /// Fragments that were given up since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }

    pub(super) fn clear(&mut self) {
        for bucket in 0..BUCKETS {
            for at in 0..WAYS {
                self.release(bucket, at, true);
                if let Some(datagram) = self.datagram(bucket, at) {
                    *datagram = Datagram::default();
                }
            }
        }
    }
}
