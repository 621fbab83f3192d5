//! Every forwarding decision of pontoon, as a function of (state, snapshot, frame, now).
//!
//! The engine reads no clock and no randomness, opens nothing and starts no thread: time and seeds are arguments
//! and frames leave through [`Egress`]. So all of it runs in tests in virtual time, with as many workers as wanted,
//! in one deterministic process. Siblings (`switch`, `gateway`, `nat`, ...) never import each other; `engine` alone
//! orders the stages.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
pub mod dns;
