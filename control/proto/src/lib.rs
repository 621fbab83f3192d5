//! What the two processes and the command line say to each other: the desired state of the datapath as one
//! document, the messages that carry it, the codec that moves them (and descriptors) over unix sockets, and how each
//! gives up its privileges.
//!
//! This is the only crate both sides share. It knows nothing of the engine, of XML or of netlink.

pub mod api;
pub mod bridge;
pub mod codec;
pub mod document;
pub mod event;
pub mod message;
pub mod privilege;
pub mod request;
pub mod session;
pub mod watch;

pub use document::Document;
