//! How long a worker polls on after a turn with traffic before it sleeps.
//!
//! Waking a sleeping thread costs more than most frames do, so it pays to poll for a while where the next frame comes
//! soon, and only there. Spins have a budget: what one finds earns the wake-up that was saved, what finds nothing
//! costs its time, and one during which something else took the processor costs how long that took. When it is used
//! up, the worker sleeps instead, which leaves the processor to others and has it woken ahead of them, and tries
//! again after a rest that doubles each time.

use std::time::{Duration, Instant};

/// What a spin that found something is worth: a wake-up of a sleeping processor takes 20 to 50 us.
const WAKE_UP: Duration = Duration::from_micros(20);
/// What there is to begin with and again after each rest.
const BUDGET: Duration = Duration::from_millis(1);
/// No more is saved for worse times.
const SAVINGS: Duration = Duration::from_millis(5);
/// Turns without a spin once the budget is used up.
const REST: u32 = 64;
const LONGEST_REST: u32 = 4096;
/// A poll takes a fraction of a microsecond; this long it takes only when the thread was not running.
const PREEMPTED: Duration = Duration::from_micros(100);

#[derive(Debug, Default)]
pub(crate) struct Spinner {
    limit: Duration,
    budget: Duration,
    /// Turns that no spin follows.
    rest: u32,
    last_rest: u32,
}

/// What one spin came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spin {
    Found,
    /// Nothing came in the time it took, or something else ran meanwhile.
    Lost(Duration),
}

impl Spinner {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, budget: BUDGET, ..Self::default() }
    }

    /// Calls `poll` until it finds something or it has been long enough; true when it found something.
    pub(crate) fn spin(&mut self, poll: impl FnMut() -> bool) -> bool {
        if self.limit.is_zero() || !self.may() {
            return false;
        }
        let (found, spin) = spin(self.limit, poll, Instant::now);
        self.learn(spin);
        found
    }

    fn may(&mut self) -> bool {
        let rested = self.rest == 0;
        self.rest = self.rest.saturating_sub(1);
        rested
    }

    fn learn(&mut self, spin: Spin) {
        match spin {
            Spin::Found => {
                self.budget += WAKE_UP;
                if self.budget > SAVINGS {
                    (self.budget, self.last_rest) = (SAVINGS, 0);
                }
            }
            Spin::Lost(time) => self.budget = self.budget.saturating_sub(time),
        }
        if self.budget.is_zero() {
            self.last_rest = (self.last_rest * 2).clamp(REST, LONGEST_REST);
            (self.rest, self.budget) = (self.last_rest, BUDGET / 4);
        }
    }
}

/// Whether something was found, and what that was worth.
fn spin(limit: Duration, mut poll: impl FnMut() -> bool, mut clock: impl FnMut() -> Instant) -> (bool, Spin) {
    let begin = clock();
    let mut last = begin;
    loop {
        let found = poll();
        let now = clock();
        if now.duration_since(last) > PREEMPTED {
            return (found, Spin::Lost(now.duration_since(last)));
        }
        if found {
            return (true, Spin::Found);
        }
        if now.duration_since(begin) >= limit {
            return (false, Spin::Lost(limit));
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);
    const SLICE: Duration = Duration::from_millis(3);

    /// A clock that goes on by `step` each time it is read.
    fn clock(step: Duration) -> impl FnMut() -> Instant {
        let mut now = Instant::now();
        move || {
            now += step;
            now
        }
    }

    #[test]
    fn a_spin_ends_when_something_is_found_or_the_time_is_over() {
        let micro = Duration::from_micros(1);
        let mut polls = 0;
        let found = |polls: &mut u32| {
            *polls += 1;
            *polls == 7
        };
        assert_eq!(spin(LIMIT, || found(&mut polls), clock(micro)), (true, Spin::Found));
        assert_eq!(polls, 7);
        let mut polls = 0;
        let mut count = || {
            polls += 1;
            false
        };
        assert_eq!(spin(LIMIT, &mut count, clock(micro)), (false, Spin::Lost(LIMIT)));
        assert_eq!(polls, 50);
        assert_eq!(spin(LIMIT, || true, clock(SLICE)), (true, Spin::Lost(SLICE)), "something else ran");
    }

    #[test]
    fn vain_spins_stop_and_are_tried_again_rarely() {
        let mut spinner = Spinner::new(LIMIT);
        let many = 1_000_000;
        let vain = spins(&mut spinner, |_| Spin::Lost(LIMIT), many);
        assert!((100..2000).contains(&vain), "{vain} of {many}");
        spinner.rest = 0;
        assert_eq!(spins(&mut spinner, |_| Spin::Found, many), many as usize, "good times are used");
        assert_eq!(spins(&mut spinner, |_| Spin::Lost(LIMIT), REST), REST as usize, "from what was saved");
        assert!(!Spinner::new(Duration::ZERO).spin(|| true), "switched off");
    }

    #[test]
    fn a_wanted_processor_is_left_though_spins_find_something() {
        let mut spinner = Spinner::new(LIMIT);
        let many = 1_000_000;
        // Every 50th spin something else runs for its slice.
        let contended = |turn: u32| if turn.is_multiple_of(50) { Spin::Lost(SLICE) } else { Spin::Found };
        let few = spins(&mut spinner, contended, many);
        assert!(few < many as usize / 20, "{few} of {many}");
        let mut spinner = Spinner::new(LIMIT);
        let quiet = |turn: u32| if turn.is_multiple_of(400) { Spin::Lost(PREEMPTED) } else { Spin::Found };
        assert_eq!(spins(&mut spinner, quiet, many), many as usize);
    }

    /// Spins in `turns` turns; `outcome` says what each comes to.
    fn spins(spinner: &mut Spinner, outcome: impl Fn(u32) -> Spin, turns: u32) -> usize {
        let mut count = 0;
        for _ in 0..turns {
            if spinner.may() {
                count += 1;
                spinner.learn(outcome(count));
            }
        }
        count as usize
    }
}
