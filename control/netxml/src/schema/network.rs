//! `<network>`.

use super::kind::{Kind, U16, U32, U64, YES_NO};
use super::{Child, Content, Spec, any_of, element, may, maybe, must, one, some_of, text};
use crate::DNSMASQ_NAMESPACE;

const FAMILY: Kind = Kind::Words(&["ipv4", "ipv6"]);
const PREFIX: Kind = Kind::Number(0, 128);
const ON_OFF: Kind = Kind::Words(&["on", "off"]);
const MAC_TABLE_MANAGER: Kind = Kind::Words(&["kernel", "libvirt"]);
const SPEED: Kind = Kind::Number(1, 18_014_398_509_481_984);
const PORT_NUMBER: Kind = Kind::Number(1, 0xffff);

pub(crate) static NETWORK: &Spec = &element(
    "network",
    &[may("connections", U32), may("ipv6", YES_NO), may("trustGuestRxFilters", YES_NO)],
    &[
        one(&NAME),
        maybe(&text("title", Kind::Line)),
        maybe(&text("description", Kind::Text)),
        maybe(&METADATA),
        maybe(&text("uuid", Kind::Uuid)),
        maybe(&BRIDGE),
        maybe(&element("mtu", &[must("size", U16)], &[])),
        maybe(&element("mac", &[must("address", Kind::Mac)], &[])),
        maybe(&FORWARD),
        maybe(&VIRTUALPORT),
        any_of(&PORTGROUP),
        maybe(&element(
            "domain",
            &[must("name", Kind::Dns), may("localOnly", YES_NO), may("register", YES_NO)],
            &[],
        )),
        maybe(&DNS),
        maybe(&BANDWIDTH),
        maybe(&VLAN),
        maybe(&PORT_OPTIONS),
        any_of(&IP),
        any_of(&ROUTE),
        any_of(&PORT_FORWARD),
        maybe(&DNSMASQ_OPTIONS),
    ],
);

static PORT_FORWARD: Spec = element(
    "portForward",
    &[
        must("proto", Kind::Words(&["tcp", "udp"])),
        may("address", Kind::Ipv4),
        may("dev", Kind::Device),
        must("guest", Kind::Text),
    ],
    &[some_of(&element(
        "range",
        &[
            must("start", PORT_NUMBER),
            may("end", PORT_NUMBER),
            may("to", PORT_NUMBER),
            may("exclude", YES_NO),
        ],
        &[],
    ))],
);

static NAME: Spec = text("name", Kind::Text);

static METADATA: Spec = Spec { name: "metadata", namespace: None, attributes: &[], content: Content::Any };

static BRIDGE: Spec = element(
    "bridge",
    &[
        may("name", Kind::Device),
        may("zone", Kind::Zone),
        may("stp", ON_OFF),
        may("delay", U64),
        may("macTableManager", MAC_TABLE_MANAGER),
    ],
    &[],
);

static FORWARD: Spec = element(
    "forward",
    &[
        may("dev", Kind::Device),
        may(
            "mode",
            Kind::Words(&["nat", "route", "open", "bridge", "passthrough", "private", "vepa", "hostdev"]),
        ),
        may("managed", YES_NO),
    ],
    &[
        any_of(&element("interface", &[must("dev", Kind::Device), may("connections", U32)], &[])),
        any_of(&element(
            "address",
            &[
                must("type", Kind::Words(&["pci"])),
                may("domain", Kind::Hex(0xffff_ffff)),
                may("bus", Kind::Hex(0xff)),
                may("slot", Kind::Hex(0x1f)),
                may("function", Kind::Hex(7)),
                may("multifunction", ON_OFF),
                may("connections", U32),
            ],
            &[],
        )),
        maybe(&element("pf", &[must("dev", Kind::Device)], &[])),
        maybe(&DRIVER),
        maybe(&element(
            "nat",
            &[may("ipv6", YES_NO)],
            &[
                maybe(&element("address", &[must("start", Kind::Ipv4), must("end", Kind::Ipv4)], &[])),
                maybe(&element("port", &[must("start", PORT_NUMBER), must("end", PORT_NUMBER)], &[])),
            ],
        )),
    ],
);

pub(super) static DRIVER: Spec =
    element("driver", &[may("name", Kind::Words(&["kvm", "vfio", "xen"])), may("model", Kind::Generic)], &[]);

pub(super) static VIRTUALPORT: Spec = element(
    "virtualport",
    &[may("type", Kind::Words(&["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"]))],
    &[maybe(&element(
        "parameters",
        &[
            may("managerid", Kind::Hex(0xff)),
            may("typeid", Kind::Hex(0x00ff_ffff)),
            may("typeidversion", Kind::Hex(0xff)),
            may("instanceid", Kind::Uuid),
            may("profileid", Kind::Profile),
            may("interfaceid", Kind::Uuid),
        ],
        &[],
    ))],
);

static PORTGROUP: Spec = element(
    "portgroup",
    &[must("name", Kind::Device), may("default", YES_NO), may("trustGuestRxFilters", YES_NO)],
    &[maybe(&VIRTUALPORT), maybe(&BANDWIDTH), maybe(&VLAN), maybe(&PORT_OPTIONS)],
);

pub(super) static PORT_OPTIONS: Spec = element("port", &[may("isolated", YES_NO)], &[]);

pub(super) static BANDWIDTH: Spec =
    element("bandwidth", &[may("classID", Kind::Number(1, u64::MAX))], &[maybe(&INBOUND), maybe(&OUTBOUND)]);

const RATES: &[super::Attribute] = &[
    may("average", SPEED),
    may("peak", SPEED),
    may("floor", SPEED),
    may("burst", Kind::Number(1, 0xffff_ffff)),
];

static INBOUND: Spec = element("inbound", RATES, &[]);
static OUTBOUND: Spec = element("outbound", RATES, &[]);

pub(super) static VLAN: Spec = element(
    "vlan",
    &[may("trunk", Kind::Words(&["yes"]))],
    &[some_of(&element(
        "tag",
        &[must("id", Kind::Number(0, 4095)), may("nativeMode", Kind::Words(&["tagged", "untagged"]))],
        &[],
    ))],
);

static DNS: Spec = element(
    "dns",
    &[may("enable", YES_NO), may("forwardPlainNames", YES_NO)],
    &[
        any_of(&element(
            "forwarder",
            &[may("addr", Kind::Ip), may("domain", Kind::Dns), may("port", PORT_NUMBER)],
            &[],
        )),
        any_of(&element("txt", &[must("name", Kind::Dns), must("value", Kind::Text)], &[])),
        any_of(&element(
            "srv",
            &[
                must("service", Kind::Text),
                must("protocol", Kind::Words(&["tcp", "udp"])),
                may("domain", Kind::Dns),
                may("target", Kind::Text),
                may("port", U16),
                may("priority", U16),
                may("weight", U16),
            ],
            &[],
        )),
        any_of(&element("host", &[must("ip", Kind::Ip)], &[some_of(&text("hostname", Kind::Dns))])),
    ],
);

static IP: Spec = element(
    "ip",
    &[
        may("address", Kind::Ip),
        may("netmask", Kind::Ipv4),
        may("prefix", PREFIX),
        may("family", FAMILY),
        may("localPtr", YES_NO),
    ],
    &[maybe(&element("tftp", &[must("root", Kind::Text)], &[])), maybe(&DHCP)],
);

const LEASE: &[Child] = &[maybe(&element(
    "lease",
    &[must("expiry", U64), may("unit", Kind::Words(&["seconds", "minutes", "hours"]))],
    &[],
))];

static DHCP: Spec = element(
    "dhcp",
    &[],
    &[
        any_of(&element("range", &[must("start", Kind::Ip), must("end", Kind::Ip)], LEASE)),
        any_of(&element(
            "host",
            &[may("mac", Kind::Mac), may("id", Kind::Duid), may("name", Kind::Text), must("ip", Kind::Ip)],
            LEASE,
        )),
        maybe(&element("bootp", &[must("file", Kind::Line), may("server", Kind::Dns)], &[])),
    ],
);

static ROUTE: Spec = element(
    "route",
    &[
        may("family", FAMILY),
        must("address", Kind::Ip),
        may("netmask", Kind::Ipv4),
        may("prefix", PREFIX),
        must("gateway", Kind::Ip),
        may("metric", U32),
    ],
    &[],
);

static DNSMASQ_OPTIONS: Spec = Spec {
    name: "options",
    namespace: Some(DNSMASQ_NAMESPACE),
    attributes: &[],
    content: Content::Children(&[any_of(&Spec {
        name: "option",
        namespace: Some(DNSMASQ_NAMESPACE),
        attributes: &[must("value", Kind::Text)],
        content: Content::Children(&[]),
    })]),
};
