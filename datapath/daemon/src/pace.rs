//! Lets frames of a fast stream gather for a moment.
//!
//! A worker that is faster than who sends finds one or two frames a turn, and each costs a write and a wake-up of its
//! receiver. Where frames come so fast that many more will be there in a moment, the worker sleeps that moment: what
//! gathers leaves as one super-frame, and the processor is left to sender and receiver. Network cards moderate their
//! interrupts for the same reason. Where what gathered did not merge, because it was of many flows, sleeping only fills
//! queues: it is left off and tried again from time to time.

use std::num::NonZeroU64;
use std::time::Duration;

use pontoon_engine::Time;
use rustix::time::Timespec;

/// Frames that must be expected in the time of a nap.
const WORTH: u64 = 4;
/// A turn with as many has gathered enough.
const ENOUGH: usize = 32;
/// Frames are counted over at least this long.
const WINDOW: u64 = 200_000;
/// A window much longer than that had a pause in it.
const PAUSE: u64 = 4 * WINDOW;
/// Windows without naps after one in which fewer than three frames left as two.
const REST: u32 = 50;

#[derive(Debug, Default)]
pub(crate) struct Pace {
    nap: Duration,
    begin: Time,
    frames: u64,
    /// Frames and super-frames written.
    written: u64,
    fast: bool,
    rest: u32,
    /// The thread's timers are exact.
    exact: bool,
}

impl Pace {
    pub(crate) fn new(nap: Duration) -> Self {
        Self { nap, ..Self::default() }
    }

    /// After a turn that began at `now` with `frames` read and `written` written: sleeps for a moment if it is worth
    /// it, and says whether it did.
    pub(crate) fn gather(&mut self, frames: usize, written: usize, now: Time) -> bool {
        if self.nap.is_zero() || !self.learn(frames, written, now) {
            return false;
        }
        self.sleep();
        true
    }

    fn learn(&mut self, frames: usize, written: usize, now: Time) -> bool {
        self.frames += frames as u64;
        self.written += written as u64;
        let window = now.0.saturating_sub(self.begin.0);
        if window >= WINDOW {
            self.judge(window);
            (self.begin, self.frames, self.written) = (now, 0, 0);
        }
        self.fast && frames > 0 && frames < ENOUGH
    }

    fn judge(&mut self, window: u64) {
        let merged = self.frames * 2 >= self.written * 3;
        if self.fast && !merged {
            self.rest = REST;
        }
        self.rest = self.rest.saturating_sub(1);
        let nap = self.nap.as_nanos() as u64;
        self.fast = self.rest == 0 && window < PAUSE && self.frames * nap >= WORTH * window;
    }

    fn sleep(&mut self) {
        if !self.exact {
            // The kernel may round a thread's timers up by 50 us to save wake-ups. Where it cannot be told not to, naps
            // are longer.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
            self.exact = true;
        }
        if let Ok(time) = Timespec::try_from(self.nap) {
            // Interrupted early is early.
            let _ = rustix::thread::nanosleep(&time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the pace asked for a nap, and the turns there are in 20 milliseconds.
    fn naps(frames: usize, written: usize, every: u64) -> (u64, u64) {
        let mut pace = Pace::new(Duration::from_micros(30));
        let turns = 20_000_000 / every;
        let naps = (1..=turns).filter(|turn| pace.learn(frames, written, Time(turn * every))).count();
        (naps as u64, turns)
    }

    #[test]
    fn fast_streams_gather_and_others_are_served_at_once() {
        let (taken, turns) = naps(2, 1, 4_000);
        assert!(taken > turns * 9 / 10, "half a million a second: {taken} of {turns}");
        assert_eq!(naps(1, 1, 20_000).0, 0, "requests and answers");
        assert_eq!(naps(2, 2, 25_000).0, 0, "super-frames and their acknowledgements");
        assert_eq!(naps(ENOUGH, 1, 20_000).0, 0, "already together");
    }

    #[test]
    fn what_does_not_merge_is_not_waited_for() {
        let (taken, turns) = naps(8, 8, 16_000);
        assert!(taken > 0 && taken < turns / 20, "{taken} of {turns}");
    }

    #[test]
    fn a_pause_ends_it() {
        let mut pace = Pace::new(Duration::from_micros(30));
        assert!((1..=1000).any(|turn| pace.learn(2, 1, Time(turn * 2_000))));
        pace.learn(2, 1, Time(50_000_000));
        assert!(!pace.learn(2, 1, Time(50_002_000)));
    }
}
