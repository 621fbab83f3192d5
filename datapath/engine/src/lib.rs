//! Every forwarding decision of pontoon, as a function of (state, snapshot, frame, now).
//!
//! The engine reads no clock and no randomness, opens nothing and starts no thread: time and seeds are arguments
//! and frames leave through [`Egress`]. So all of it runs in tests in virtual time, with as many workers as wanted,
//! in one deterministic process. Siblings (`switch`, `gateway`, `nat`, ...) never import each other; `engine` alone
//! orders the stages.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod coalesce;
pub mod dhcp;
pub mod dns;
pub mod drops;
pub mod egress;
pub mod engine;
pub mod gateway;
pub mod nat;
pub mod policy;
pub mod snapshot;
pub mod stp;
pub mod switch;
pub mod time;
pub mod trace;
pub mod uplink;

pub use drops::DropReason;
pub use egress::{Egress, FrameRef};
pub use engine::Engine;
pub use snapshot::{PortId, Snapshot};
pub use time::{Now, Time};
