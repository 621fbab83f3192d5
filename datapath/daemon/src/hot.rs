//! Which queues a spinning worker reads without asking `epoll`, and whether what it reads leaves at once.
//!
//! Where requests and answers alternate, the one that waits goes to sleep while its frame is under way, and waking a
//! processor that is not yet idle costs a fraction of waking one that is. So a frame should leave within two or three
//! microseconds: queues that had frames lately are read directly, and a frame that comes alone, as those before it did,
//! is written before its queue is read again.

use pontoon_engine::PortId;

/// Queues read directly.
const MOST: usize = 4;
/// A queue without frames for as many turns with frames is no longer read directly.
const TURNS: u32 = 32;
/// Looks at the queue that an answer is expected from for each one at all of these, and for each one at every queue.
const EXPECTING: u32 = 4;
const LOOKS: u32 = 16;
/// Turns of one frame after which the next is expected to be alone too.
const ALONE: u32 = 4;

/// What a spinning worker looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The queue that an answer is expected from.
    At(PortId),
    /// Those that had frames lately.
    Hot,
    Everywhere,
}

#[derive(Debug, Default)]
pub(crate) struct Hot {
    ports: Vec<(PortId, u32)>,
    turn: u32,
    looks: u32,
    alone: u32,
}

impl Hot {
    /// The port had frames in this turn.
    pub(crate) fn had(&mut self, port: PortId) {
        if let Some(entry) = self.ports.iter_mut().find(|(known, _)| *known == port) {
            entry.1 = self.turn;
            return;
        }
        if self.ports.len() >= MOST
            && let Some(oldest) =
                (0..self.ports.len()).min_by_key(|&at| self.ports.get(at).map(|entry| entry.1))
        {
            self.ports.swap_remove(oldest);
        }
        self.ports.push((port, self.turn));
    }

    /// A turn with as many frames has ended.
    pub(crate) fn learn(&mut self, frames: usize) {
        if frames == 0 {
            return;
        }
        self.alone = if frames == 1 { self.alone.saturating_add(1) } else { 0 };
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        self.ports.retain(|(_, last)| turn.wrapping_sub(*last) <= TURNS);
    }

    #[must_use]
    pub(crate) fn is_alone(&self) -> bool {
        self.alone >= ALONE
    }

    #[must_use]
    pub(crate) fn contains(&self, port: PortId) -> bool {
        self.ports.iter().any(|(known, _)| *known == port)
    }

    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.ports.len()
    }

    #[must_use]
    pub(crate) fn get(&self, at: usize) -> Option<PortId> {
        self.ports.get(at).map(|(port, _)| *port)
    }

    /// Where to look next, if a frame was sent to port `sent` last.
    pub(crate) fn look(&mut self, sent: Option<PortId>) -> Look {
        self.looks = self.looks.wrapping_add(1);
        match sent {
            _ if self.ports.is_empty() || self.looks.is_multiple_of(LOOKS) => Look::Everywhere,
            Some(port) if !self.looks.is_multiple_of(EXPECTING) && self.contains(port) => Look::At(port),
            _ => Look::Hot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(hot: &Hot) -> Vec<PortId> {
        let mut ports: Vec<PortId> = (0..).map_while(|at| hot.get(at)).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn the_queues_that_had_frames_last_are_read_directly() {
        let mut hot = Hot::default();
        assert_eq!(hot.look(None), Look::Everywhere, "there is nothing else to look at");
        for port in 0..10 {
            hot.had(port);
            hot.learn(1);
        }
        assert_eq!(ports(&hot), [6, 7, 8, 9]);
        for _ in 0..TURNS {
            hot.had(7);
            hot.learn(1);
        }
        assert_eq!(ports(&hot), [7], "others had none for long");
        assert!(hot.contains(7) && !hot.contains(9));
        let looks: Vec<Look> = (0..160).map(|_| hot.look(Some(7))).collect();
        let count = |wanted| looks.iter().filter(|look| **look == wanted).count();
        assert_eq!((count(Look::At(7)), count(Look::Hot), count(Look::Everywhere)), (120, 30, 10));
        assert!((0..160).all(|_| !matches!(hot.look(Some(8)), Look::At(_))), "it sends nothing");
    }

    #[test]
    fn frames_leave_at_once_where_they_come_alone() {
        let mut hot = Hot::default();
        (0..ALONE).for_each(|_| {
            assert!(!hot.is_alone());
            hot.learn(1);
            hot.learn(0);
        });
        assert!(hot.is_alone());
        hot.learn(2);
        assert!(!hot.is_alone());
    }
}
