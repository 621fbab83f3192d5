//! Bytes to fields and back, one protocol a file.
//!
//! Nothing here allocates, panics on input, reads a clock or keeps state. A parser returns what it could prove
//! about the bytes; a setter writes one field in place and leaves checksums to [`checksum`].
#![no_std]
#![forbid(unsafe_code)]
pub mod dns;
