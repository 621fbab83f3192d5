//! A deadline, or a full timer that does not run yet.

use crate::time::Time;

/// The standard's timers count down to zero; here zero is a moment in virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Full and standing still, as in a role that sets it anew at every step.
    Held,
    Until(Time),
}

impl Timer {
    pub(super) const EXPIRED: Self = Self::Until(Time(0));

    pub(super) fn after(now: Time, nanos: u64) -> Self {
        Self::Until(Time(now.0.saturating_add(nanos)))
    }

    pub(super) fn expired(self, now: Time) -> bool {
        matches!(self, Self::Until(due) if due <= now)
    }

    /// Lets a held timer run.
    pub(super) fn release(&mut self, now: Time, nanos: u64) {
        if *self == Self::Held {
            *self = Self::after(now, nanos);
        }
    }

    /// Nanoseconds until it expires; 0 when it does not run.
    pub(super) fn left(self, now: Time) -> u64 {
        self.deadline(now).map_or(0, |due| due.0 - now.0)
    }

    /// When it expires, if that is still to come.
    pub(super) fn deadline(self, now: Time) -> Option<Time> {
        match self {
            Self::Until(due) if due > now => Some(due),
            _ => None,
        }
    }
}
