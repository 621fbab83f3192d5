//! Network definitions: libvirt's network XML to and from a typed form.
//!
//! [`parse`] reads a document and checks it as `net-define` does; what it
//! refuses it names in libvirt's words, with the place in the text.
//! [`Network::to_xml`] prints the canonical form `net-dumpxml` shows,
//! [`update`] changes a definition as `net-update` does, and [`port`] is the
//! XML of one port.

mod device;
mod dnsmasq;
mod element;
mod error;
mod escape;
mod forward;
pub mod interface;
mod metadata;
mod model;
mod parse;
pub mod port;
mod scan;
mod schema;
mod update;
mod value;
mod warnings;
mod write;

pub use device::*;
pub use dnsmasq::{DhcpData, DnsmasqOption, Server};
pub use element::{Content, Element};
pub use error::Error;
pub use forward::{GuestName, Piece, PortForward, PortRange, Protocol, common};
pub use ipnet::Ipv4Net;
pub use model::*;
pub use parse::{parse, parse_definition, validate};
pub use update::{Section, UpdateCommand, update};
pub use value::address_text;
pub use write::DumpOptions;

/// The namespace of this product's own elements.
pub const PONTOON_NAMESPACE: &str = "urn:pontoon:network:1";

/// The namespace of `<dnsmasq:options>`.
pub const DNSMASQ_NAMESPACE: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";
