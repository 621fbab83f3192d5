//! How long a worker polls on after a turn with traffic before it sleeps.
//!
//! Waking a sleeping thread costs more than most frames do, so it pays to poll for a while where the next frame comes
//! soon, and only there: polls that found nothing use up a credit that polls that found something earn. A poll that
//! took far too long shows that something else wanted this processor. Then the worker sleeps, which leaves it to
//! others and has the worker woken ahead of them, and spins no more for a time that doubles while that goes on.

use std::time::{Duration, Instant};

/// Spins in vain until only every [`PROBE`]th turn is followed by one.
const CREDIT: u8 = 32;
const PROBE: u32 = 64;
/// Turns without a spin after the processor was wanted many times in succession.
const LONGEST_REST: u32 = 4096;
/// A poll takes a fraction of a microsecond; this long it takes only when the thread was not running.
const PREEMPTED: Duration = Duration::from_micros(200);

#[derive(Debug, Default)]
pub(crate) struct Spinner {
    limit: Duration,
    credit: u8,
    /// Turns that no spin follows.
    rest: u32,
    last_rest: u32,
}

/// What one spin came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spin {
    Found,
    Nothing,
    Preempted,
}

impl Spinner {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, credit: CREDIT, ..Self::default() }
    }

    /// Calls `poll` until it finds something or it has been long enough; true when it found something.
    pub(crate) fn spin(&mut self, poll: impl FnMut() -> bool) -> bool {
        if self.limit.is_zero() || !self.may() {
            return false;
        }
        let spin = spin(self.limit, poll, Instant::now);
        self.learn(spin);
        spin == Spin::Found
    }

    fn may(&mut self) -> bool {
        let rested = self.rest == 0;
        self.rest = self.rest.saturating_sub(1);
        rested
    }

    fn learn(&mut self, spin: Spin) {
        match spin {
            Spin::Found => {
                self.credit = self.credit.saturating_add(2).min(CREDIT);
                self.last_rest = 0;
            }
            Spin::Nothing => {
                self.credit = self.credit.saturating_sub(1);
                self.rest = if self.credit == 0 { PROBE } else { 0 };
            }
            Spin::Preempted => {
                self.last_rest = (self.last_rest * 2).clamp(PROBE, LONGEST_REST);
                self.rest = self.last_rest;
            }
        }
    }
}

fn spin(limit: Duration, mut poll: impl FnMut() -> bool, mut clock: impl FnMut() -> Instant) -> Spin {
    let begin = clock();
    let mut last = begin;
    loop {
        if poll() {
            return Spin::Found;
        }
        let now = clock();
        if now.duration_since(last) > PREEMPTED {
            return Spin::Preempted;
        }
        if now.duration_since(begin) >= limit {
            return Spin::Nothing;
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

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
        assert_eq!(spin(LIMIT, || found(&mut polls), clock(micro)), Spin::Found);
        assert_eq!(polls, 7);
        let mut polls = 0;
        let nothing = spin(
            LIMIT,
            || {
                polls += 1;
                false
            },
            clock(micro),
        );
        assert_eq!((nothing, polls), (Spin::Nothing, 50));
        assert_eq!(spin(LIMIT, || false, clock(Duration::from_millis(3))), Spin::Preempted);
    }

    #[test]
    fn vain_spins_stop_and_are_tried_again_rarely() {
        let mut spinner = Spinner::new(LIMIT);
        assert_eq!(spins(&mut spinner, Spin::Nothing, 40), usize::from(CREDIT));
        assert_eq!(spins(&mut spinner, Spin::Nothing, 10 * (PROBE + 1)), 10);
        assert!(spins(&mut spinner, Spin::Found, 2 * PROBE) > 64, "one success is enough to go on");
        assert!(!Spinner::new(Duration::ZERO).spin(|| true), "switched off");
    }

    #[test]
    fn a_wanted_processor_is_left_for_longer_and_longer() {
        let mut spinner = Spinner::new(LIMIT);
        let few = spins(&mut spinner, Spin::Preempted, 1_000_000);
        assert!((100..300).contains(&few), "{few} in a million turns");
        spinner.rest = 0;
        assert_eq!(spins(&mut spinner, Spin::Found, 100), 100);
        assert_eq!(spins(&mut spinner, Spin::Preempted, 1 + PROBE + 1), 2, "it begins anew");
    }

    /// Spins in `turns` turns, all of which end in `spin`.
    fn spins(spinner: &mut Spinner, spin: Spin, turns: u32) -> usize {
        let turn = |_: &u32| {
            let may = spinner.may();
            if may {
                spinner.learn(spin);
            }
            may
        };
        (0..turns).filter(turn).count()
    }
}
