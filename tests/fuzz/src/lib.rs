//! What may be fed any bytes, as functions of these bytes. They panic when an invariant is broken.
//!
//! The same functions are replayed over `corpus/`, run over mutations of it, and driven by libFuzzer (`targets/`).

pub mod bpdu;
pub mod coalesce;
pub mod dhcp;
pub mod dns;
pub mod frames;
pub mod netxml;
pub mod sequence;
pub mod uplink;
pub mod user;
pub mod vhost;

mod input;
pub mod mutate;
pub mod seeds;

/// A name and the function that takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 10] = [
    ("frames", frames::run),
    ("dhcp", dhcp::run),
    ("dns", dns::run),
    ("sequence", sequence::run),
    ("coalesce", coalesce::run),
    ("bpdu", bpdu::run),
    ("uplink", uplink::run),
    ("netxml", netxml::run),
    ("vhost", vhost::run),
    ("user", user::run),
];

/// Directory of a target's corpus.
#[must_use]
pub fn corpus(target: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}
