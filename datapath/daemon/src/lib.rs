//! The datapath process: workers that forward, and a service thread that listens to control.
//!
//! It starts with descriptors and without ambitions: every privilege is given up before the first frame is read, and
//! whatever it needs later comes as descriptors from control.
#![forbid(unsafe_code)]

mod args;
mod bridging;
mod compile;
mod counters;
mod egress;
mod handoff;
mod hot;
mod lease_log;
mod link;
mod mail;
mod news;
mod outbox;
mod pace;
mod process;
mod queues;
mod reach;
mod resolver;
#[doc(hidden)]
pub mod sandbox;
mod service;
mod sessions;
mod spin;
mod vhost;
mod worker;

pub use args::DatapathArgs;
#[doc(hidden)]
pub use compile::preview;
pub use process::main;
