//! The `user` uplink: what a guest sends leaves by ordinary sockets of this process, which needs no privilege for it.
//!
//! TCP is not ended in a stack of its own. A guest's SYN makes the host connect, and is answered when the host has
//! been; from then on segments are translated to and from the host's stream. The host's kernel does what TCP does on
//! the way, and what is between guest and host loses next to nothing.
#![forbid(unsafe_code)]

mod config;
mod ping;
mod run;
mod side;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use config::{Config, Limits};
pub use run::{Turn, User};
pub use side::Link;

use std::net::SocketAddrV4;

/// Both ends of what a guest sends, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) guest: SocketAddrV4,
    pub(crate) remote: SocketAddrV4,
}
