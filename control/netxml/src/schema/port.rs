//! `<networkport>`.

use super::kind::{Kind, YES_NO};
use super::network::{BANDWIDTH, DRIVER, PORT_OPTIONS, VIRTUALPORT, VLAN};
use super::{Spec, element, may, maybe, must, one, text};

pub(crate) static PORT: &Spec = &element(
    "networkport",
    &[],
    &[
        one(&UUID),
        one(&element("owner", &[], &[one(&text("name", Kind::Text)), one(&UUID)])),
        one(&element("mac", &[must("address", Kind::Mac)], &[])),
        maybe(&text("group", Kind::Device)),
        maybe(&element("rxfilters", &[must("trustGuest", YES_NO)], &[])),
        maybe(&VIRTUALPORT),
        maybe(&BANDWIDTH),
        maybe(&VLAN),
        maybe(&PORT_OPTIONS),
        maybe(&PLUG),
    ],
);

static UUID: Spec = text("uuid", Kind::Uuid);

static PLUG: Spec = element(
    "plug",
    &[
        must("type", Kind::Words(&["network", "bridge", "direct", "hostdev-pci"])),
        may("bridge", Kind::Device),
        may("macTableManager", Kind::Words(&["kernel", "libvirt"])),
        may("dev", Kind::Device),
        may("mode", Kind::Words(&["bridge", "passthrough", "private", "vepa"])),
        may("managed", YES_NO),
    ],
    &[
        maybe(&DRIVER),
        maybe(&element(
            "address",
            &[
                may("domain", Kind::Hex(0xffff_ffff)),
                may("bus", Kind::Hex(0xff)),
                may("slot", Kind::Hex(0x1f)),
                may("function", Kind::Hex(7)),
                may("multifunction", Kind::Words(&["on", "off"])),
            ],
            &[],
        )),
    ],
);
