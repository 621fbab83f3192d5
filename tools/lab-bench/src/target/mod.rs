//! What is measured: pontoon and its peers. Each brings up a way between the client's and the server's device.

mod kernel;
mod ovs;
mod pontoon;
mod userspace;

use std::path::{Path, PathBuf};

use crate::lab::{Lab, Mode};

pub use userspace::Command;

/// The target that ratios are relative to.
pub const REFERENCE: &str = "bridge-nft";

/// A switch or router to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The kernel's bridge; with NAT also nftables, which is what libvirt's networks are.
    BridgeNft,
    /// Open vSwitch in user space.
    Ovs(ovs::Ports),
    Vde,
    Pasta,
    Slirp4netns,
    Pontoon(Pontoon),
    /// Any program that makes the two taps and forwards between them.
    Command(userspace::Command),
}

/// One way to run pontoon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pontoon {
    pub name: String,
    pub program: PathBuf,
    pub workers: u16,
    /// For `PONTOON_LEVERS`.
    pub levers: String,
    pub uplink: Uplink,
}

/// How pontoon's NAT leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uplink {
    /// A tap on the server's side.
    #[default]
    Tap,
    /// An interface the kernel has, with an address of pontoon's own.
    Direct,
    /// The same with the host's address.
    Shared,
    /// Ordinary sockets of the host.
    User,
}

impl Pontoon {
    #[must_use]
    pub fn new(program: &Path) -> Self {
        let (name, program) = ("pontoon".to_owned(), program.to_owned());
        Self { name, program, workers: 0, levers: String::new(), uplink: Uplink::default() }
    }
}

impl Target {
    /// Everything known but pontoon, the reference first.
    pub const PEERS: [Self; 8] = [
        Self::BridgeNft,
        Self::Ovs(ovs::Ports::Packet),
        Self::Ovs(ovs::Ports::Tap),
        Self::Ovs(ovs::Ports::Xdp),
        Self::Ovs(ovs::Ports::Dpdk),
        Self::Vde,
        Self::Pasta,
        Self::Slirp4netns,
    ];

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::BridgeNft => REFERENCE,
            Self::Ovs(ports) => ports.name(),
            Self::Vde => "vde",
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
            Self::Pontoon(pontoon) => &pontoon.name,
            Self::Command(command) => &command.name,
        }
    }

    /// The program that is missing, if one is.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        let program = match self {
            Self::BridgeNft => "nft",
            Self::Ovs(ports) => ports.program(),
            Self::Vde => "vde_switch",
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
            Self::Pontoon(_) | Self::Command(_) => return None,
        };
        (!is_installed(program)).then_some(program)
    }

    #[must_use]
    pub fn has(&self, mode: Mode) -> bool {
        match self {
            Self::Vde => mode == Mode::L2,
            Self::Pasta | Self::Slirp4netns => mode == Mode::Nat,
            _ => true,
        }
    }

    /// Makes the devices and starts what carries frames between them.
    ///
    /// # Errors
    /// With what the target said.
    pub fn start(&self, lab: &mut Lab) -> anyhow::Result<()> {
        match self {
            Self::BridgeNft => kernel::start(lab),
            Self::Ovs(ports) => ovs::start(lab, *ports),
            Self::Vde => userspace::vde(lab),
            Self::Pasta => userspace::pasta(lab),
            Self::Slirp4netns => userspace::slirp4netns(lab),
            Self::Pontoon(pontoon) => pontoon::start(lab, pontoon),
            Self::Command(command) => userspace::command(lab, command),
        }
    }
}

/// Whether a program is in the path, or there at all if its whole path is given.
fn is_installed(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|directory| directory.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_reference_is_the_first() {
        let names: Vec<&str> = Target::PEERS.iter().map(Target::name).collect();
        assert_eq!(names.first(), Some(&REFERENCE));
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(is_installed("sh") && is_installed("/bin/sh"));
        assert!(!is_installed("no-such-program") && !is_installed("/no/such/program"));
    }
}
