//! The datapath process: workers that forward, and a service thread that listens to control.
//!
//! It starts with descriptors and without ambitions: every privilege is given up before the first frame is read, and
//! whatever it needs later comes as descriptors from control.
#![forbid(unsafe_code)]
pub mod args;
pub mod compile;
pub mod counters;
pub mod egress;
pub mod handoff;
pub mod lease_log;
pub mod link;
pub mod mail;
pub mod queues;
pub mod resolver;
pub mod sandbox;
pub mod worker;
