//! Network definitions: libvirt's network XML to and from a typed form.
//!
//! [`parse`] reads a document and checks it as `net-define` does; what it
//! refuses it names in libvirt's words, with the place in the text.
//! [`Network::to_xml`] prints the canonical form `net-dumpxml` shows.

mod element;
mod error;
mod escape;
mod model;
mod parse;
mod write;

pub use element::{Content, Element};
pub use error::Error;
pub use ipnet::Ipv4Net;
pub use model::*;
pub use parse::{parse, parse_definition};
pub use write::DumpOptions;

/// The namespace of this product's own elements.
pub const PONTOON_NAMESPACE: &str = "urn:pontoon:network:1";

/// The namespace of `<dnsmasq:options>`.
pub const DNSMASQ_NAMESPACE: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";
