//! Time as the engine knows it: an argument.

/// Nanoseconds of a monotonic clock with any start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    pub const SECOND: u64 = 1_000_000_000;

    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(Self::SECOND))
    }

    #[must_use]
    pub fn after_secs(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(Self::SECOND)))
    }

    #[must_use]
    pub fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }

    /// Whole seconds since the clock's start.
    #[must_use]
    pub fn secs(self) -> u64 {
        self.0 / Self::SECOND
    }
}

/// One clock read: the worker takes it once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Time,
    /// Wall clock, seconds since 1970, for what is written to disk.
    pub unix: u64,
}
