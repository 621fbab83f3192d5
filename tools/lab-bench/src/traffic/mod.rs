//! Traffic between two namespaces, from threads of this process: no load generator has to be installed.

pub mod bulk;
pub mod connections;
pub mod datagrams;
pub mod requests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::netns::Netns;

/// What a measurement begins with and does not count.
pub const WARM_UP: Duration = Duration::from_millis(400);
/// A peer that is silent for longer is gone.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

pub const ECHO_PORT: u16 = 5500;
pub(crate) const BULK_PORT: u16 = 5501;
pub(crate) const SINK_PORT: u16 = 5502;

/// Two namespaces and the address one reaches the other by.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    pub client: &'a Netns,
    pub server: &'a Netns,
    pub address: Ipv4Addr,
}

impl Path<'_> {
    fn to(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }
}

/// Tells threads to end, at the latest when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.set();
    }
}

pub(crate) fn is_set(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed) || crate::sys::interrupted()
}

/// Sleeps, unless interrupted.
pub(crate) fn pause(time: Duration) -> io::Result<()> {
    let end = std::time::Instant::now() + time;
    loop {
        if crate::sys::interrupted() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// The value below which `share` of the sorted values lie.
pub(crate) fn percentile(sorted: &[u32], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_values() {
        let values: Vec<u32> = (1..=1000).collect();
        assert_eq!(percentile(&values, 0.5), 501.0);
        assert_eq!(percentile(&values, 0.999), 1000.0);
        assert_eq!(percentile(&[7], 0.99), 7.0);
        assert_eq!(percentile(&[], 0.99), 0.0);
    }
}
