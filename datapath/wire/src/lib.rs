//! Bytes to fields and back.
#![no_std]
#![forbid(unsafe_code)]
pub mod dns;
