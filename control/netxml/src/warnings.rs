//! What is accepted but does nothing, and what can not run.

use crate::error::{Class, Error};
use crate::{DnsmasqOption, Mode, Network, PortGroup, VirtualPortKind};

type Present = fn(&Network) -> bool;

/// Elements that are kept but have no effect yet. A row goes when its feature comes.
const NOT_ACTING: &[(&str, Present)] = &[
    ("<nat ipv6='yes'>", |n| n.forward.nat_ipv6 == Some(true)),
    ("<bridge zone>", |n| n.bridge.zone.is_some()),
    ("<domain register='yes'>", |n| n.domain_register == Some(true)),
    ("<vlan>", |n| n.vlan.is_some()),
    ("<bandwidth>", |n| n.bandwidth.is_some()),
    ("<virtualport>", |n| n.virtualport.is_some()),
    ("a <portgroup> without default='yes'", |n| n.portgroups.iter().any(|group| !group.default)),
    ("<vlan>, <bandwidth> or <virtualport> of a <portgroup>", |n| n.portgroups.iter().any(has_idle_parts)),
    ("an <ip> of IPv6", |n| n.ips.iter().any(|ip| ip.address.is_ipv6())),
    ("a <route> of IPv6", |n| n.routes.iter().any(|route| route.address.is_ipv6())),
    ("<tftp>", |n| n.ips.iter().any(|ip| ip.tftp_root.is_some())),
    ("<dhcp> of an IPv6 address", |n| n.ips.iter().any(|ip| ip.has_dhcp() && ip.address.is_ipv6())),
    ("trustGuestRxFilters", |n| {
        let groups = n.portgroups.iter().map(|group| group.trust_guest_rx_filters);
        n.trust_guest_rx_filters.is_some() || groups.into_iter().any(|filters| filters.is_some())
    }),
];

fn has_idle_parts(group: &PortGroup) -> bool {
    group.vlan.is_some() || group.bandwidth.is_some() || group.virtualport.is_some()
}

impl Network {
    /// The names of elements that are accepted and kept but have no effect yet.
    pub fn not_acting(&self) -> Vec<&'static str> {
        NOT_ACTING.iter().filter(|(_, present)| present(self)).map(|(name, _)| *name).collect()
    }

    /// Everything a user who defines this network should know, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let idle = self.not_acting().into_iter().map(|name| format!("{name} is kept but has no effect yet"));
        let unknown =
            self.unknown.iter().map(|name| format!("{name} is not part of the format and is ignored"));
        idle.chain(unknown).chain(self.idle_options()).chain(self.gateways_in_ranges()).collect()
    }

    /// Lines for dnsmasq that mean nothing here.
    fn idle_options(&self) -> impl Iterator<Item = String> {
        let idle = self.dnsmasq_options.iter().filter(|line| DnsmasqOption::parse(line).is_none());
        idle.map(|line| format!("<dnsmasq:option value='{line}'/> is kept but has no effect"))
    }

    /// A range may hold the gateway's address, which is then never given out.
    fn gateways_in_ranges(&self) -> impl Iterator<Item = String> {
        self.ips.iter().flat_map(|ip| {
            let holds = ip.ranges.iter().filter(|range| (range.start..=range.end).contains(&ip.address));
            holds.map(|range| {
                format!(
                    "the range {} - {} holds the gateway's own address {}, which is not given out",
                    range.start, range.end, ip.address
                )
            })
        })
    }

    /// Why a network can not be started though it may be defined.
    pub fn unsupported(&self) -> Option<Error> {
        let (name, mode) = (&self.name, self.forward.mode);
        let error =
            |class, message: String, help: &str| Some(Error::placeless(class, &message).with_help(help));
        let unsupported = |message: String, help: &str| error(Class::Unsupported, message, help);
        if !self.forward.addresses.is_empty() && mode != Mode::Hostdev {
            let message = format!(
                "network '{name}' has forward mode '{mode}' but lists a device by PCI address in the device pool. This is only supported for networks with forward mode 'hostdev'"
            );
            return unsupported(message, "list devices by name: <interface dev='NAME'/>");
        }
        if matches!(mode, Mode::Private | Mode::Vepa | Mode::Passthrough | Mode::Hostdev) {
            let help = "devices of the host are not handed to guests; modes nat, route, open and bridge are";
            return unsupported(format!("Unsupported network type {mode}"), help);
        }
        let kinds = [self.virtualport.as_ref()].into_iter();
        let ports = kinds.chain(self.portgroups.iter().map(|group| group.virtualport.as_ref())).flatten();
        let kinds = ports.filter_map(|port| port.kind);
        let on_bridge =
            |kind: &VirtualPortKind| mode != Mode::Bridge || *kind != VirtualPortKind::OpenVSwitch;
        if let Some(kind) = kinds.into_iter().find(on_bridge) {
            let uses = if mode == Mode::Bridge { "a bridge device" } else { "IP forwarding" };
            let kind = kind.as_str();
            let message =
                format!("<virtualport type='{kind}'> not supported for network '{name}' which uses {uses}");
            return unsupported(message, "remove <virtualport>");
        }
        match self.mtu.filter(|mtu| *mtu > u32::from(u16::MAX)) {
            None => None,
            Some(mtu) => {
                let bridge = self.bridge.name.as_deref().unwrap_or(name);
                let message = format!("Cannot set interface MTU to {mtu} on '{bridge}': Invalid argument");
                error(Class::Plain, message, "the largest MTU is 65535")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<port isolated>` of the default group acts, so a group that says no more is not warned about.
    #[test]
    fn only_what_a_portgroup_does_not_do_is_named() {
        let named = |group: PortGroup| Network { portgroups: vec![group], ..Network::default() }.not_acting();
        let acting = PortGroup { default: true, port_isolated: Some(true), ..PortGroup::default() };
        assert!(named(acting.clone()).is_empty());
        assert_eq!(
            named(PortGroup { default: false, ..acting.clone() }),
            ["a <portgroup> without default='yes'"]
        );
        let filtered = PortGroup { trust_guest_rx_filters: Some(true), ..acting };
        assert_eq!(named(filtered), ["trustGuestRxFilters"]);
    }

    /// The list in the README is this one, and shrinks with it.
    #[test]
    fn readme_names_them() {
        let readme = include_str!("../../../README.md");
        let (_, list) = readme.split_once("but have no effect yet:").expect("the list");
        let (list, _) = list.split_once("\n- ").or_else(|| list.split_once("\n\n")).expect("its end");
        let list = list.split_whitespace().collect::<Vec<_>>().join(" ");
        let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let table: Vec<&str> = NOT_ACTING.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, table);
    }
}
