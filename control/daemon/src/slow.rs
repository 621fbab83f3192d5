//! Says in the log what a caller waited for, when that was long.

use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(1);

/// Does `work`, and notes `what` it is if it took long.
pub(crate) fn noted<T>(what: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    if took >= LONG {
        tracing::warn!("{} took {:.1} s", what(), took.as_secs_f32());
    }
    result
}
