//! Every forwarding decision.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
pub mod dns;
