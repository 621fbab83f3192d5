//! How often a tree may be worked on.

use crate::time::Time;

/// Runs that may follow each other at once.
const BURST: u32 = 64;
/// Time for one more.
const NANOS_EACH: u64 = 10_000_000;

/// A token bucket: 64 runs at once, 100 a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    tokens: u32,
    filled: Time,
}

impl Budget {
    pub(super) fn new(now: Time) -> Self {
        Self { tokens: BURST, filled: now }
    }

    pub(super) fn take(&mut self, now: Time) -> bool {
        let gained = now.0.saturating_sub(self.filled.0) / NANOS_EACH;
        if gained > 0 {
            self.filled = Time(self.filled.0 + gained * NANOS_EACH);
            self.tokens = self.tokens.saturating_add(u32::try_from(gained).unwrap_or(BURST)).min(BURST);
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// When there is a token at the latest.
    pub(super) fn next(&self, now: Time) -> Time {
        if self.tokens > 0 { now } else { Time(self.filled.0.saturating_add(NANOS_EACH)).max(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_hundred_a_second() {
        let mut budget = Budget::new(Time::default());
        let taken = |budget: &mut Budget, now: Time| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, Time::default()), 64);
        let mut all = 0;
        for milli in 1..=1000 {
            let now = Time::default().after_millis(milli);
            if now >= budget.next(now) {
                all += usize::from(budget.take(now));
            }
        }
        assert_eq!(all, 100);
    }
}
