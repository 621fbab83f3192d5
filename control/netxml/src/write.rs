//! Printing the canonical form.

use std::fmt::Write;
use std::net::IpAddr;

use crate::escape::{attribute, text};
use crate::value::{address_text, netmask};
use crate::{
    Bandwidth, DNSMASQ_NAMESPACE, Dns, Driver, Filtering, Forward, Ip, Lease, Mode, Network,
    PONTOON_NAMESPACE, PciAddress, PortForward, PortGroup, Range, Rate, Route, Srv, Uplink, VirtualPort,
    Vlan, Written,
};

/// What to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// The stored definition, without what only a running network has.
    pub inactive: bool,
    /// How many guests are attached.
    pub connections: Option<u32>,
}

/// A start tag under construction.
pub(crate) struct Tag {
    name: &'static str,
    head: String,
}

impl Tag {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, head: format!("<{name}") }
    }

    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let _ = write!(self.head, " {name}='{}'", attribute(&value.to_string()));
        self
    }

    pub(crate) fn with_some(self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(crate) fn with_bool(self, name: &str, value: Option<bool>) -> Self {
        self.with_some(name, value.map(yes_no))
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Text with the current indentation.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) out: String,
    indent: usize,
}

impl Writer {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "{:indent$}{line}", "", indent = self.indent);
    }

    pub(crate) fn leaf(&mut self, tag: &Tag) {
        self.line(&format!("{}/>", tag.head));
    }

    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.line(&format!("<{name}>{}</{name}>", text(value)));
    }

    /// An element with start and end tag, even when `body` prints nothing.
    pub(crate) fn open(&mut self, tag: &Tag, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{}>", tag.head));
        self.indent += 2;
        body(self);
        self.indent -= 2;
        self.line(&format!("</{}>", tag.name));
    }

    /// An element that is one tag when `body` prints nothing.
    pub(crate) fn element(&mut self, tag: &Tag, body: impl FnOnce(&mut Self)) {
        let mut inner = Self { out: String::new(), indent: self.indent };
        inner.indent += 2;
        body(&mut inner);
        if inner.out.is_empty() {
            self.leaf(tag);
        } else {
            self.open(tag, |w| w.out.push_str(&inner.out));
        }
    }

    fn raw(&mut self, element: &crate::Element) {
        element.write(&mut self.out, self.indent);
    }
}

impl Network {
    /// The canonical form, with a newline at the end.
    pub fn to_xml(&self, opts: &DumpOptions) -> String {
        let dnsmasq = (!self.dnsmasq_options.is_empty()).then_some(DNSMASQ_NAMESPACE);
        let connections = opts.connections.filter(|n| *n > 0 && !opts.inactive);
        let tag = Tag::new("network")
            .with_some("xmlns:dnsmasq", dnsmasq)
            .with_some("connections", connections)
            .with_bool("ipv6", self.ipv6.then_some(true))
            .with_bool("trustGuestRxFilters", self.trust_guest_rx_filters);
        let mut writer = Writer::default();
        writer.open(&tag, |w| {
            self.identity(w);
            forward(w, &self.forward, opts.inactive);
            self.link(w);
            self.services(w);
            self.addresses(w);
        });
        writer.out
    }

    fn identity(&self, w: &mut Writer) {
        w.text("name", &self.name);
        if let Some(uuid) = &self.uuid {
            w.text("uuid", &uuid.to_string());
        }
        for (name, value) in [("title", &self.title), ("description", &self.description)] {
            value.iter().for_each(|value| w.text(name, value));
        }
        if let Some(metadata) = &self.metadata {
            w.raw(metadata);
        }
    }

    fn link(&self, w: &mut Writer) {
        let bridge = &self.bridge;
        let owns = self.forward.mode.owns_bridge();
        if owns || bridge.name.is_some() || bridge.mac_table_manager.is_some() {
            let tag = Tag::new("bridge")
                .with_some("name", bridge.name.as_deref())
                .with_some("zone", bridge.zone.as_deref())
                .with_some("stp", owns.then_some(if bridge.stp { "on" } else { "off" }))
                .with_some("delay", owns.then_some(bridge.delay))
                .with_some("macTableManager", bridge.mac_table_manager.as_deref());
            w.leaf(&tag);
        }
        if let Some(mtu) = self.mtu {
            w.leaf(&Tag::new("mtu").with("size", mtu));
        }
        if let Some(mac) = self.mac_string() {
            w.leaf(&Tag::new("mac").with("address", mac));
        }
    }

    fn services(&self, w: &mut Writer) {
        if let Some(domain) = &self.domain {
            let tag = Tag::new("domain")
                .with("name", &domain.name)
                .with_bool("localOnly", domain.local_only.then_some(true))
                .with_bool("register", self.domain_register);
            w.leaf(&tag);
        }
        dns(w, &self.dns);
        vlan(w, self.vlan.as_ref());
        bandwidth(w, self.bandwidth.as_ref(), 0);
        port(w, self.port_isolated);
    }

    fn addresses(&self, w: &mut Writer) {
        for address in &self.ips {
            ip(w, address);
        }
        for entry in &self.routes {
            route(w, entry);
        }
        self.port_forwards.iter().for_each(|forward| port_forward(w, forward));
        virtual_port(w, self.virtualport.as_ref());
        for group in &self.portgroups {
            portgroup(w, group);
        }
        if !self.dnsmasq_options.is_empty() {
            w.open(&Tag::new("dnsmasq:options"), |w| {
                for value in &self.dnsmasq_options {
                    w.leaf(&Tag::new("dnsmasq:option").with("value", value));
                }
            });
        }
        if let Some(way_out) = &self.uplink {
            uplink(w, way_out);
        }
        if self.filtering != Filtering::default() {
            let tag = Tag::new("pontoon:nat").with("xmlns:pontoon", PONTOON_NAMESPACE);
            w.leaf(&tag.with("filtering", self.filtering.as_str()));
        }
        if let Some(on) = self.log_mappings {
            let tag = Tag::new("pontoon:log").with("xmlns:pontoon", PONTOON_NAMESPACE);
            w.leaf(&tag.with("mappings", if on { "yes" } else { "no" }));
        }
    }
}

fn forward(w: &mut Writer, forward: &Forward, inactive: bool) {
    if forward.mode == Mode::Isolated {
        return;
    }
    let dev = if forward.pfs.is_empty() { forward.interfaces.first().or(forward.dev.as_ref()) } else { None };
    let tag = Tag::new("forward")
        .with_some("dev", dev)
        .with("mode", forward.mode)
        .with_bool("managed", (forward.mode == Mode::Hostdev).then_some(forward.managed));
    w.element(&tag, |w| {
        driver(w, forward.driver.as_ref());
        nat(w, forward);
        for pf in &forward.pfs {
            w.leaf(&Tag::new("pf").with("dev", pf));
        }
        if forward.pfs.is_empty() || !inactive {
            let alone = forward.dev.iter().filter(|_| forward.interfaces.is_empty());
            for dev in forward.interfaces.iter().chain(alone) {
                w.leaf(&Tag::new("interface").with("dev", dev));
            }
            for address in &forward.addresses {
                w.leaf(&pci_address(Tag::new("address").with("type", "pci"), *address));
            }
        }
    });
}

pub(crate) fn driver(w: &mut Writer, driver: Option<&Driver>) {
    let Some(driver) = driver.filter(|driver| **driver != Driver::default()) else { return };
    let tag = Tag::new("driver").with_some("name", driver.name.as_deref());
    w.leaf(&tag.with_some("model", driver.model.as_deref()));
}

pub(crate) fn pci_address(tag: Tag, address: PciAddress) -> Tag {
    let PciAddress { domain, bus, slot, function } = address;
    tag.with("domain", format_args!("0x{domain:04x}"))
        .with("bus", format_args!("0x{bus:02x}"))
        .with("slot", format_args!("0x{slot:02x}"))
        .with("function", format_args!("0x{function}"))
}

pub(crate) fn virtual_port(w: &mut Writer, port: Option<&VirtualPort>) {
    let Some(port) = port else { return };
    let parameters = port.parameters();
    if port.kind.is_none() && parameters.is_empty() {
        return;
    }
    let tag = Tag::new("virtualport").with_some("type", port.kind.map(crate::VirtualPortKind::as_str));
    w.element(&tag, |w| {
        if !parameters.is_empty() {
            let tag = Tag::new("parameters");
            w.leaf(&parameters.iter().fold(tag, |tag, (name, value)| tag.with(name, value)));
        }
    });
}

fn nat(w: &mut Writer, forward: &Forward) {
    let (addresses, ports) = (forward.nat_addresses, forward.nat_ports);
    if addresses.is_none() && ports.is_none() && forward.nat_ipv6.is_none() {
        return;
    }
    w.element(&Tag::new("nat").with_bool("ipv6", forward.nat_ipv6), |w| {
        if let Some((start, end)) = addresses {
            w.leaf(&Tag::new("address").with("start", start).with("end", end));
        }
        if let Some((start, end)) = ports {
            w.leaf(&Tag::new("port").with("start", start).with("end", end));
        }
    });
}

fn dns(w: &mut Writer, dns: &Dns) {
    if *dns == Dns::default() {
        return;
    }
    let tag = Tag::new("dns")
        .with_bool("enable", dns.enable)
        .with_bool("forwardPlainNames", dns.forward_plain_names);
    w.element(&tag, |w| {
        for forwarder in &dns.forwarders {
            let port = forwarder.port.filter(|_| forwarder.addr.is_some());
            let tag = Tag::new("forwarder")
                .with_some("domain", forwarder.domain.as_deref())
                .with_some("addr", forwarder.addr.map(address_text))
                .with_some("port", port);
            w.leaf(&tag);
        }
        for txt in &dns.txt {
            w.leaf(&Tag::new("txt").with("name", &txt.name).with("value", &txt.value));
        }
        dns.srv.iter().for_each(|record| srv(w, record));
        for host in &dns.hosts {
            w.open(&Tag::new("host").with("ip", address_text(host.ip)), |w| {
                host.names.iter().for_each(|name| w.text("hostname", name));
            });
        }
    });
}

fn srv(w: &mut Writer, srv: &Srv) {
    let number = |number: Option<u16>| number.filter(|number| *number > 0);
    let tag = Tag::new("srv")
        .with("service", &srv.service)
        .with("protocol", &srv.protocol)
        .with_some("domain", srv.domain.as_deref())
        .with_some("target", srv.target.as_deref())
        .with_some("port", number(srv.port))
        .with_some("priority", number(srv.priority))
        .with_some("weight", number(srv.weight));
    w.leaf(&tag);
}

pub(crate) fn vlan(w: &mut Writer, vlan: Option<&Vlan>) {
    let Some(vlan) = vlan else { return };
    w.open(&Tag::new("vlan").with_bool("trunk", vlan.trunk.then_some(true)), |w| {
        for tag in &vlan.tags {
            let line = Tag::new("tag").with("id", tag.id);
            w.leaf(&line.with_some("nativeMode", tag.native_mode.as_deref()));
        }
    });
}

/// A class of 0 is none.
pub(crate) fn bandwidth(w: &mut Writer, bandwidth: Option<&Bandwidth>, class: u32) {
    let Some(bandwidth) = bandwidth else { return };
    w.open(&Tag::new("bandwidth").with_some("classID", (class > 0).then_some(class)), |w| {
        rate(w, "inbound", bandwidth.inbound);
        rate(w, "outbound", bandwidth.outbound);
    });
}

fn rate(w: &mut Writer, name: &'static str, rate: Option<Rate>) {
    let Some(rate) = rate else { return };
    let tag = Tag::new(name)
        .with_some("average", rate.average)
        .with_some("peak", rate.peak)
        .with_some("floor", rate.floor)
        .with_some("burst", rate.burst);
    w.leaf(&tag);
}

pub(crate) fn port(w: &mut Writer, isolated: Option<bool>) {
    if isolated.is_some() {
        w.leaf(&Tag::new("port").with_bool("isolated", isolated));
    }
}

/// Append `netmask` or `prefix`, as it was written.
fn with_length(tag: Tag, address: IpAddr, prefix: u8, written: Written) -> Tag {
    match (written, address) {
        (Written::Absent, _) => tag,
        (Written::Netmask, IpAddr::V4(_)) => tag.with("netmask", netmask(prefix)),
        _ => tag.with("prefix", prefix),
    }
}

fn ip(w: &mut Writer, ip: &Ip) {
    let address = address_text(ip.address);
    let tag = Tag::new("ip").with_some("family", ip.family.as_deref()).with("address", address);
    let tag =
        with_length(tag, ip.address, ip.prefix, ip.written_as_netmask).with_bool("localPtr", ip.local_ptr);
    w.open(&tag, |w| {
        if let Some(root) = &ip.tftp_root {
            w.leaf(&Tag::new("tftp").with("root", root));
        }
        if ip.has_dhcp() {
            w.open(&Tag::new("dhcp"), |w| dhcp(w, ip));
        }
    });
}

fn dhcp(w: &mut Writer, ip: &Ip) {
    for Range { start, end, lease: time } in &ip.ranges {
        let tag = Tag::new("range").with("start", address_text(*start)).with("end", address_text(*end));
        w.element(&tag, |w| lease(w, *time));
    }
    for host in &ip.hosts {
        let mac = host.mac_text.clone().or_else(|| host.mac.map(crate::mac_string));
        let tag = Tag::new("host")
            .with_some("mac", mac)
            .with_some("id", host.id.as_deref())
            .with_some("name", host.name.as_deref())
            .with_some("ip", host.ip.map(address_text));
        w.element(&tag, |w| lease(w, host.lease));
    }
    if let Some(file) = &ip.bootp_file {
        let server = ip.bootp_server.map(address_text);
        w.leaf(&Tag::new("bootp").with("file", file).with_some("server", server));
    }
}

fn lease(w: &mut Writer, lease: Option<Lease>) {
    let Some(lease) = lease else { return };
    let unit = (lease.expiry != 0).then(|| lease.unit.as_str());
    w.leaf(&Tag::new("lease").with("expiry", lease.expiry).with_some("unit", unit));
}

fn route(w: &mut Writer, route: &Route) {
    let tag = Tag::new("route").with_some("family", route.family.as_deref());
    let tag = tag.with("address", address_text(route.address));
    let tag = with_length(tag, route.address, route.prefix, route.written_as_netmask);
    w.leaf(&tag.with("gateway", address_text(route.gateway)).with_some("metric", route.metric));
}

fn portgroup(w: &mut Writer, group: &PortGroup) {
    let tag = Tag::new("portgroup")
        .with("name", &group.name)
        .with_bool("default", group.default.then_some(true))
        .with_bool("trustGuestRxFilters", group.trust_guest_rx_filters);
    w.open(&tag, |w| {
        vlan(w, group.vlan.as_ref());
        virtual_port(w, group.virtualport.as_ref());
        bandwidth(w, group.bandwidth.as_ref(), 0);
        port(w, group.port_isolated);
    });
}

fn port_forward(w: &mut Writer, forward: &PortForward) {
    let tag = Tag::new("portForward")
        .with("proto", forward.proto.as_str())
        .with_some("address", forward.address)
        .with_some("dev", forward.dev.as_deref())
        .with("guest", &forward.guest);
    w.open(&tag, |w| {
        for range in &forward.ranges {
            let tag = Tag::new("range")
                .with("start", range.start)
                .with_some("end", range.end)
                .with_some("to", range.to)
                .with_bool("exclude", range.exclude.then_some(true));
            w.leaf(&tag);
        }
    });
}

impl PortForward {
    /// As it is written in a definition.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::default();
        port_forward(&mut writer, self);
        writer.out
    }
}

fn uplink(w: &mut Writer, uplink: &Uplink) {
    let tag = Tag::new("pontoon:uplink")
        .with("xmlns:pontoon", PONTOON_NAMESPACE)
        .with("kind", uplink.kind.as_str())
        .with_some("dev", Some(&uplink.dev).filter(|dev| !dev.is_empty()))
        .with_some("netns", uplink.netns.as_deref())
        .with_some("address", uplink.address)
        .with_some("gateway", uplink.gateway);
    w.leaf(&tag);
}
