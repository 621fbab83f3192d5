//! How many frames of one queue a turn reads, at most.
//!
//! Frames merge within a turn. Where a queue fills faster than it is emptied with frames of many flows, a turn of a few
//! dozen frames has one or two of each flow, nothing merges, and every frame costs a write: the queue overflows. A
//! longer turn has several frames of each flow and far fewer writes. So turns get longer while queues are read to the
//! limit in vain, and short again where that does not help or is no longer needed.

/// Frames read from one queue before others get their turn, usually.
pub(crate) const BATCH: usize = 64;
/// Where a backlog of many flows has to be merged: half of what a tap queues.
const LONGEST: usize = 512;
/// Turns at the limit without another try, after one of the longest in which less than three frames became two.
const REST: u32 = 1000;
/// Turns with no queue at the limit until turns are short again.
const QUIET: u32 = 1000;

#[derive(Debug)]
pub(crate) struct Reach {
    frames: usize,
    rest: u32,
    quiet: u32,
}

impl Default for Reach {
    fn default() -> Self {
        Self { frames: BATCH, rest: 0, quiet: 0 }
    }
}

impl Reach {
    /// Frames that are read from one queue in this turn.
    #[must_use]
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// After a turn that read `frames` and wrote `written`; `limited` when a queue may have had more.
    pub(crate) fn learn(&mut self, limited: bool, frames: usize, written: usize) {
        if !limited {
            self.quiet += 1;
            if self.quiet >= QUIET {
                (self.frames, self.quiet) = (BATCH, 0);
            }
            return;
        }
        self.quiet = 0;
        self.rest = self.rest.saturating_sub(1);
        let merged = frames >= written * 8;
        if merged || self.rest > 0 {
            return;
        }
        if self.frames < LONGEST {
            self.frames *= 2;
        } else if frames * 2 < written * 3 {
            (self.frames, self.rest) = (BATCH, REST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backlog of `flows` flows in turn.
    fn turns(reach: &mut Reach, flows: usize, turns: usize) -> usize {
        let mut long = 0;
        for _ in 0..turns {
            let frames = reach.frames();
            long += usize::from(frames > BATCH);
            reach.learn(true, frames, frames.min(flows));
        }
        long
    }

    #[test]
    fn a_backlog_of_many_flows_lengthens_turns_until_it_merges() {
        let mut reach = Reach::default();
        turns(&mut reach, 64, 10);
        assert_eq!(reach.frames(), LONGEST);
        turns(&mut reach, 64, 10_000);
        assert_eq!(reach.frames(), LONGEST, "eight frames of each flow");
        (0..QUIET).for_each(|_| reach.learn(false, 10, 10));
        assert_eq!(reach.frames(), BATCH, "the backlog is over");
    }

    #[test]
    fn what_merges_is_read_in_short_turns() {
        let mut reach = Reach::default();
        assert_eq!(turns(&mut reach, 4, 1000), 0);
    }

    #[test]
    fn what_never_merges_is_tried_rarely() {
        let mut reach = Reach::default();
        let long = turns(&mut reach, usize::MAX, 100_000);
        assert!((1..1000).contains(&long), "{long} long turns");
    }
}
