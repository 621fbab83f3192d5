//! A queue in memory, for tests: two ends of a pair of bounded queues.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pontoon_wire::vnet;
use rustix::io::Errno;

use crate::{HEADROOM, Received, Sent};

/// Frames one direction holds before it blocks.
pub const CAPACITY: usize = 1024;

type Frames = Arc<Mutex<VecDeque<(vnet::Header, Vec<u8>)>>>;

#[derive(Debug)]
pub struct MemQueue {
    inbound: Frames,
    outbound: Frames,
}

impl MemQueue {
    /// Two ends: what one sends the other receives.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (a, b) = (Frames::default(), Frames::default());
        (Self { inbound: Arc::clone(&a), outbound: Arc::clone(&b) }, Self { inbound: b, outbound: a })
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let next = self.inbound.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((vnet, frame)) = next else {
            let closed = Arc::strong_count(&self.inbound) == 1;
            return if closed { Received::Dead(Errno::BADFD) } else { Received::WouldBlock };
        };
        match buffer.get_mut(HEADROOM..HEADROOM + frame.len()) {
            Some(target) => {
                target.copy_from_slice(&frame);
                Received::Frame { vnet, length: frame.len() }
            }
            None => Received::Dropped,
        }
    }

    pub fn send(&mut self, header: vnet::Header, parts: &[&[u8]]) -> Sent {
        if Arc::strong_count(&self.outbound) == 1 {
            return Sent::Dead(Errno::BADFD);
        }
        let mut frames = self.outbound.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() >= CAPACITY {
            return Sent::WouldBlock;
        }
        frames.push_back((header, parts.concat()));
        Sent::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_in_order_and_a_gone_peer_is_dead() {
        let (mut a, mut b) = MemQueue::pair();
        let mut buffer = vec![0; crate::BUFFER];
        assert_eq!(b.receive(&mut buffer), Received::WouldBlock);
        assert_eq!(a.send(vnet::Header::default(), &[b"one"]), Sent::Done);
        assert_eq!(a.send(vnet::Header::default(), &[b"three"]), Sent::Done);
        drop(a);
        assert!(matches!(b.receive(&mut buffer), Received::Frame { length: 3, .. }));
        assert!(matches!(b.receive(&mut buffer), Received::Frame { length: 5, .. }));
        assert_eq!(b.receive(&mut buffer), Received::Dead(Errno::BADFD));
        assert_eq!(b.send(vnet::Header::default(), &[b"x"]), Sent::Dead(Errno::BADFD));
    }
}
