//! The control process: definitions, devices, leases on disk, supervision of the datapath, and the API.

mod active;
mod api;
mod args;
mod bridge;
mod bridge_show;
mod cables;
mod change;
mod conntrack;
mod defaults;
mod definition;
mod devices;
mod dhcp;
mod disk;
#[cfg(test)]
mod disk_fake;
mod dns;
mod document;
mod doors;
mod ebpf;
mod events;
mod failure;
mod forwards;
mod guests;
mod helper;
mod known;
mod lease_watch;
mod leases;
mod link;
mod live;
mod mapping_log;
mod metadata;
mod netlink;
mod news;
mod port_objects;
mod ports;
mod resolvers;
mod run;
mod segments;
mod shared;
mod slow;
mod sockets;
mod state;
mod store;
mod subnets;
mod supervisor;
mod sys;
mod takeover;
#[cfg(test)]
mod testing;
mod trace;
mod users;
mod verbs;
#[cfg(test)]
mod verbs_tests;
mod watch;
mod ways;

pub use api::ReadAccess;
pub use args::{DEFAULT_DATAPATH_USER, DEFAULT_GROUP, DEFAULT_SESSION_BYTES, DaemonArgs};
#[doc(hidden)]
pub use document::preview;
pub use helper::{BridgeHelperArgs, bridge_helper};
pub use run::main;
#[doc(hidden)]
pub use sys::{open_tap, take_inherited};
