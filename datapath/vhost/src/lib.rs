//! vhost-user: network cards of guests whose memory the front-end (QEMU and others) shares.
//!
//! [`split`] and [`packed`] are the device's side of virtqueues, [`net`] puts frames into them and takes them out,
//! [`memory`] is the guest's; [`session`] is told by the front-end where all of that is. Memory changes at any time, as
//! the guest likes: what is read is copied once and checked after that, chains are no longer than their ring, and nothing
//! is written but where the guest's memory is mapped.
//! `unsafe` is in [`guard`] alone.

pub mod chain;
pub mod connection;
pub mod features;
pub mod guard;
pub mod memory;
pub mod message;
pub mod net;
pub mod packed;
pub mod ring;
pub mod session;
pub mod split;

#[cfg(feature = "driver")]
pub mod driver;

pub use connection::Connection;
pub use features::Features;
pub use memory::{Memory, Regions};
pub use net::{Given, Queue, Taken};
pub use ring::{Addresses, Layout, Ring};
pub use session::{Device, Session, Wired};
