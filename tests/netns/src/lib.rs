//! A small internet, a host and guests in network namespaces, for tests with real kernels and real clients.
//!
//! ```text
//!  net                      host                               g1, g2
//!  eth0 203.0.113.1, .80 -- up0 203.0.113.3 (the host's own)
//!  DNS, web                     203.0.113.2 (pontoon's) -- virbrN -- eth0, eth1: taps of pontoon
//! ```

mod api;
mod dhcp;
mod ear;
mod echo;
mod judge;
mod net;
mod plug;
mod process;
mod program;
mod raw;
mod wire;
mod world;
pub mod xml;

pub use api::Api;
pub use ear::{Ear, Mouth};
pub use echo::{Stop, echoes};
pub use net::{BIG, http_get, in_netns, serve_tcp};
pub use plug::{Plug, door};
pub use process::{Output, Proc, run};
pub use program::{Dialogue, Program};
pub use raw::{send_frame, send_frames};
pub use wire::{Faults, Wire};
pub use world::{Capture, Setup, World, bound_address};

use std::time::{Duration, Instant};

/// Polls until `find` has something; panics with `what` after `seconds`.
///
/// # Panics
/// When the time is over.
pub fn until<T>(what: &str, seconds: u64, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
