//! Devices of the host and the profiles of their ports.

use uuid::Uuid;

/// A PCI address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PciAddress {
    pub domain: u32,
    pub bus: u32,
    pub slot: u32,
    pub function: u32,
}

impl std::fmt::Display for PciAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

/// `<driver>`: what drives a device that is given to a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// `kvm`, `vfio` or `xen`
    pub name: Option<String>,
    pub model: Option<String>,
}

/// `<virtualport>`: how a port is announced to the switch it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualPort {
    pub kind: Option<VirtualPortKind>,
    pub manager: Option<u8>,
    /// 24 bits.
    pub type_id: Option<u32>,
    pub type_version: Option<u8>,
    pub instance: Option<Uuid>,
    pub interface: Option<Uuid>,
    pub profile: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtualPortKind {
    Qbg,
    Qbh,
    OpenVSwitch,
    Midonet,
}

impl VirtualPortKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qbg => "802.1Qbg",
            Self::Qbh => "802.1Qbh",
            Self::OpenVSwitch => "openvswitch",
            Self::Midonet => "midonet",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Qbg, Self::Qbh, Self::OpenVSwitch, Self::Midonet]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

impl VirtualPort {
    /// The parameters that are set, as they are printed.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let text = |name, value: Option<String>| value.map(|value| (name, value));
        [
            text("managerid", self.manager.map(|id| id.to_string())),
            text("typeid", self.type_id.map(|id| id.to_string())),
            text("typeidversion", self.type_version.map(|version| version.to_string())),
            text("instanceid", self.instance.map(|id| id.to_string())),
            text("interfaceid", self.interface.map(|id| id.to_string())),
            text("profileid", self.profile.clone()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
