//! What guests have: their interfaces, counters, addresses and links.

use std::net::{IpAddr, Ipv4Addr};

use pontoon_netxml::Bandwidth;
use pontoon_netxml::interface::Interface;
use pontoon_netxml::port::Plug;
use pontoon_proto::api::{
    Address, AddressSource, Failure, InterfaceAddresses, InterfaceInfo, InterfaceStats, Rate, Reply,
};
use pontoon_proto::event::Event;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cables::Cable;
use crate::defaults::{hex, parse_mac};
use crate::document;
use crate::events::subject;
use crate::failure::{Answer, fail, fail_help, internal};
use crate::known::Known;
use crate::leases;
use crate::live::{Guest, LiveNetwork};
use crate::netlink::{self, Change};
use crate::port_objects;
use crate::state::State;
use crate::sys::{HostStack, in_netns};
use crate::verbs::xml_failure;

/// What was said of an interface when it was attached, and what has become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    /// Of its port.
    pub(crate) uuid: String,
    /// Of the guest.
    pub(crate) owner: String,
    /// `network` or `bridge`: how it was attached.
    pub(crate) kind: String,
    pub(crate) model: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) script: Option<String>,
    pub(crate) link_down: bool,
    pub(crate) cable: Cable,
    /// Number of the peer's socket file when it was connected to.
    pub(crate) peer_inode: Option<u64>,
    /// The port's own settings as `<networkport>`, where it has any.
    pub(crate) port: Option<String>,
    /// Of a device that was adopted: how it was before, and is to be again.
    pub(crate) host_stack: Option<HostStack>,
}

impl Guest {
    /// How it was attached; a note of an older control process does not say.
    pub(crate) fn kind(&self) -> &str {
        if self.details.kind.is_empty() { "network" } else { &self.details.kind }
    }

    pub(crate) fn port_uuid(&self) -> Uuid {
        self.details.uuid.parse().unwrap_or_else(|_| Uuid::from_u128(u128::from(self.port)))
    }
}

impl Known {
    /// Interfaces of one guest or of all.
    pub(crate) fn interfaces(&self, domain: Option<&str>) -> Answer<Reply> {
        let guests = match domain {
            Some(domain) => self.guest(domain)?,
            None => self.live.guests.iter().collect(),
        };
        let shown = guests.into_iter().filter_map(|guest| Some(info(guest, self.live.by_id(guest.network)?)));
        let mut interfaces: Vec<InterfaceInfo> = shown.collect();
        interfaces.sort_by(|one, other| one.domain.cmp(&other.domain));
        Ok(Reply::Interfaces { interfaces })
    }

    /// All interfaces of a guest, in the order they were attached; a guest is known by them.
    fn guest(&self, domain: &str) -> Answer<Vec<&Guest>> {
        let named = |name: &str| -> Vec<&Guest> {
            self.live
                .guests
                .iter()
                .filter(|guest| guest.domain == name || guest.details.owner == name)
                .collect()
        };
        let found = named(domain);
        if found.is_empty() {
            return Err(fail(format!("Domain not found: no domain with matching name '{domain}'")));
        }
        Ok(found)
    }

    /// One interface of a guest, by its name or its MAC address.
    fn interface(&self, domain: &str, interface: &str) -> Answer<&Guest> {
        let mac = parse_mac(interface).ok();
        let matching = |guest: &&Guest| match mac {
            Some(mac) => guest.mac == mac,
            None => guest.ifname == interface,
        };
        let found = self.guest(domain)?.into_iter().find(matching);
        found.ok_or_else(|| fail(format!("invalid argument: '{interface}' is not a known interface")))
    }

    /// The one interface of a guest that an `<interface>` names by its MAC address, else by its name.
    pub(crate) fn device(&self, domain: &str, wanted: &Interface) -> Answer<&Guest> {
        let same = |guest: &&Guest| match (wanted.mac, &wanted.target) {
            (Some(mac), _) => mac == guest.mac,
            (None, Some(name)) => *name == guest.ifname,
            (None, None) => true,
        };
        let mut matching = self.guest(domain)?.into_iter().filter(same);
        match (matching.next(), matching.next()) {
            (Some(guest), None) => Ok(guest),
            _ => Err(no_device(wanted.mac)),
        }
    }

    pub(crate) fn interface_addresses(&self, domain: &str, source: AddressSource) -> Answer<Reply> {
        let guests = self.guest(domain)?;
        let neighbours = match source {
            AddressSource::Agent => {
                return Err(fail("argument unsupported: QEMU guest agent is not configured"));
            }
            AddressSource::Arp => neighbours(),
            AddressSource::Lease => Vec::new(),
        };
        let mut interfaces = Vec::new();
        for guest in guests {
            let Some(live) = self.live.by_id(guest.network) else { continue };
            let found = match source {
                AddressSource::Lease => self.leased(guest, live)?,
                _ => seen(&neighbours, guest, live.bridge()),
            };
            let prefix = document::address(&live.network).map_or(32, |net| net.prefix_len());
            let prefix = if source == AddressSource::Lease { prefix } else { 0 };
            let addresses = found.into_iter().map(|ip| Address { ip: IpAddr::V4(ip), prefix }).collect();
            let (interface, mac) = (guest.ifname.clone(), hex(&guest.mac));
            interfaces.push(InterfaceAddresses { interface, mac, addresses });
        }
        Ok(Reply::Addresses { interfaces })
    }

    fn leased(&self, guest: &Guest, live: &LiveNetwork) -> Answer<Vec<Ipv4Addr>> {
        let path = self.store.leases(&live.network.name);
        let log = leases::read(self.store.disk(), &path);
        let log = log.map_err(|error| internal(format!("cannot read '{}': {error}", path.display())))?;
        let current = leases::current(log.leases, leases::now()).into_iter();
        Ok(current.filter(|lease| lease.mac == guest.mac).map(|lease| lease.ip).collect())
    }
}

impl State {
    pub(crate) fn interface_stats(&self, domain: &str, interface: &str) -> Answer<Reply> {
        let guest = self.interface(domain, interface)?;
        let link = self.link()?;
        link.drain();
        let counters = link.status()?.ports.into_iter().find(|port| port.port == guest.port);
        let counters = counters.unwrap_or_default();
        // What the datapath received from the guest, the guest has sent.
        Ok(Reply::Stats {
            stats: InterfaceStats {
                rx_bytes: counters.tx_bytes,
                rx_packets: counters.tx_packets,
                rx_errs: 0,
                rx_drop: counters.tx_drops,
                tx_bytes: counters.rx_bytes,
                tx_packets: counters.rx_packets,
                tx_errs: 0,
                tx_drop: counters.rx_drops,
            },
        })
    }

    pub(crate) fn set_link(&mut self, domain: &str, interface: &str, up: bool) -> Answer<Reply> {
        let guest = self.interface(domain, interface)?.clone();
        self.change_guest(&guest, |details| details.link_down = !up)?;
        Ok(Reply::Done { warnings: Vec::new() })
    }

    pub(crate) fn set_rates(
        &mut self,
        domain: &str,
        interface: &str,
        inbound: Option<Rate>,
        outbound: Option<Rate>,
    ) -> Answer<Reply> {
        let guest = self.interface(domain, interface)?.clone();
        let live = self.live.by_id(guest.network).ok_or_else(|| internal("network vanished"))?;
        let mut port = port_objects::port_of(&guest, live)?;
        let (before, after) = rates(port.bandwidth.as_ref());
        let (inbound, outbound) = (inbound.unwrap_or(before), outbound.unwrap_or(after));
        let set = |rate: Rate| (rate.average + rate.floor > 0).then(|| to_definition(rate));
        let bandwidth = Bandwidth { inbound: set(inbound), outbound: set(outbound) };
        port.bandwidth = Some(bandwidth).filter(|one| one.inbound.is_some() || one.outbound.is_some());
        port.plug = Plug::None;
        self.change_guest(&guest, |details| details.port = Some(port.to_xml()))?;
        let warnings = vec!["<bandwidth> of an interface is kept but has no effect yet".to_owned()];
        Ok(Reply::Done { warnings })
    }

    /// What an `<interface>` says that can change while the interface stays: its link, model and alias.
    pub(crate) fn update_device(&mut self, domain: &str, xml: &str, file: &str) -> Answer<Reply> {
        let wanted = Interface::parse(xml).map_err(|error| xml_failure(&error, file))?;
        let guest = self.device(domain, &wanted)?.clone();
        self.check_same(&guest, &wanted)?;
        self.change_guest(&guest, |details| {
            details.link_down = wanted.link == Some(false);
            details.model = wanted.model.clone().or(details.model.take());
            details.alias = wanted.alias.clone().or(details.alias.take());
        })?;
        Ok(Reply::Done { warnings: Vec::new() })
    }

    fn check_same(&self, guest: &Guest, wanted: &Interface) -> Answer<()> {
        let live = self.live.by_id(guest.network);
        let place = match wanted.kind.as_str() {
            "network" => live.map(|live| live.network.name.as_str()),
            "bridge" => live.map(LiveNetwork::bridge),
            _ => None,
        };
        let moved = wanted.source.as_deref().is_some_and(|source| Some(source) != place);
        let renamed = wanted.target.as_ref().is_some_and(|name| *name != guest.ifname);
        if place.is_none() || moved || renamed {
            return Err(fail_help(
                "Operation not supported: cannot modify network device type, source or name while it is attached",
                "the link state, model and alias can be changed; for the rest use detach-interface and \
                 attach-interface",
            ));
        }
        Ok(())
    }

    /// Changes what is noted of an interface, and its link when that is another.
    fn change_guest(&mut self, guest: &Guest, change: impl FnOnce(&mut Details)) -> Answer<()> {
        let mut after = guest.clone();
        change(&mut after.details);
        if after == *guest {
            return Ok(());
        }
        let up = !after.details.link_down;
        let switched = guest.details.link_down != after.details.link_down;
        if switched && guest.details.cable.is_own_device() {
            carrier(guest.netns.as_deref(), &guest.ifname, up)?;
        }
        let port = guest.port;
        let changed = self.change(|state| {
            state.live.guests.iter_mut().filter(|other| other.port == port).for_each(|other| {
                other.details.clone_from(&after.details);
            });
            Ok(())
        });
        if let Err(failure) = changed {
            if switched
                && guest.details.cable.is_own_device()
                && let Err(failure) = carrier(guest.netns.as_deref(), &guest.ifname, !up)
            {
                tracing::error!("{}", failure.message);
            }
            return Err(failure);
        }
        if let Some(live) = self.live.by_id(guest.network).filter(|_| switched) {
            let (domain, interface) = (guest.domain.clone(), guest.ifname.clone());
            self.events.publish(Event::Link { subject: subject(&live.network), domain, interface, up });
        }
        Ok(())
    }
}

/// Makes the guest's side of the cable feel plugged in or not.
fn carrier(netns: Option<&str>, name: &str, up: bool) -> Answer<()> {
    let set = in_netns(netns, || match netlink::index(name)? {
        Some(link) => netlink::change(link, Change { carrier: Some(up), ..Change::default() }),
        None => Err(std::io::Error::from_raw_os_error(libc::ENODEV)),
    });
    set.map_err(|error| internal(format!("unable to set link state on interface: {name}: {error}")))
}

fn no_device(mac: Option<[u8; 6]>) -> Failure {
    let which = mac.map_or_else(String::new, |mac| format!(" MAC address {}", hex(&mac)));
    fail(format!("device not found: no device matching{which} found"))
}

/// Inbound and outbound.
fn rates(bandwidth: Option<&Bandwidth>) -> (Rate, Rate) {
    let rate = |rate: Option<&pontoon_netxml::Rate>| {
        let field = |field: fn(&pontoon_netxml::Rate) -> Option<u64>| rate.and_then(field).unwrap_or(0);
        Rate {
            average: field(|rate| rate.average),
            peak: field(|rate| rate.peak),
            burst: field(|rate| rate.burst),
            floor: field(|rate| rate.floor),
        }
    };
    let of = |pick: fn(&Bandwidth) -> Option<&pontoon_netxml::Rate>| rate(bandwidth.and_then(pick));
    (of(|bandwidth| bandwidth.inbound.as_ref()), of(|bandwidth| bandwidth.outbound.as_ref()))
}

fn to_definition(rate: Rate) -> pontoon_netxml::Rate {
    let set = |value: u64| Some(value).filter(|value| *value > 0);
    pontoon_netxml::Rate {
        average: set(rate.average),
        peak: set(rate.peak),
        floor: set(rate.floor),
        burst: set(rate.burst),
    }
}

fn info(guest: &Guest, live: &LiveNetwork) -> InterfaceInfo {
    let port = guest.details.port.as_deref().and_then(|xml| pontoon_netxml::port::parse(xml).ok());
    let (inbound, outbound) = rates(port.and_then(|port| port.bandwidth).as_ref());
    let kind = guest.kind();
    let source = if kind == "bridge" { live.bridge() } else { &live.network.name };
    InterfaceInfo {
        domain: guest.domain.clone(),
        interface: guest.ifname.clone(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        network: live.network.name.clone(),
        model: guest.details.model.clone(),
        mac: hex(&guest.mac),
        link: !guest.details.link_down,
        port: guest.port_uuid().to_string(),
        alias: guest.details.alias.clone(),
        netns: guest.netns.clone(),
        cable: guest.details.cable.name().to_owned(),
        peer: guest.details.cable.peer(),
        dhcp: document::dhcp_ip(&live.network).is_some(),
        inbound,
        outbound,
    }
}

/// What this host's own IP stack has learned: address, MAC address and interface.
fn neighbours() -> Vec<(Ipv4Addr, [u8; 6], String)> {
    let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
    table.lines().skip(1).filter_map(neighbour).collect()
}

/// `IP address, HW type, Flags, HW address, Mask, Device`; flag 2 is a complete entry.
fn neighbour(line: &str) -> Option<(Ipv4Addr, [u8; 6], String)> {
    let mut words = line.split_whitespace();
    let ip = words.next()?.parse().ok()?;
    let flags = u32::from_str_radix(words.nth(1)?.trim_start_matches("0x"), 16).ok()?;
    let mac = parse_mac(words.next()?).ok()?;
    let device = words.nth(1)?.to_owned();
    (flags & 2 != 0).then_some((ip, mac, device))
}

fn seen(neighbours: &[(Ipv4Addr, [u8; 6], String)], guest: &Guest, bridge: &str) -> Vec<Ipv4Addr> {
    let of_guest = neighbours.iter().filter(|(_, mac, device)| *mac == guest.mac && device == bridge);
    of_guest.map(|(ip, ..)| *ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{accepted, connect, refused, scratch, state};
    use pontoon_netxml::Network;
    use pontoon_proto::api::Request;

    fn guest(port: u16, domain: &str, ifname: &str, mac: [u8; 6]) -> Guest {
        let (domain, ifname) = (domain.to_owned(), ifname.to_owned());
        Guest { port, network: 1, domain, mac, ifname, ..Guest::default() }
    }

    fn network() -> LiveNetwork {
        let text = "<network><name>n</name><bridge name='pt-none'/><ip address='10.1.0.1' prefix='24'>\
            <dhcp><range start='10.1.0.2' end='10.1.0.9'/></dhcp></ip></network>";
        let network: Network = pontoon_netxml::parse(text).expect("network");
        LiveNetwork::new(1, 1, None, network)
    }

    #[test]
    fn a_guest_is_known_by_its_interfaces() {
        let root = scratch("guests");
        let mut state = state(&root);
        let _events = connect(&mut state);
        state.live.networks.push(network());
        state.live.guests.push(guest(2, "b", "vnet0", [0x52, 0x54, 0, 0, 0, 1]));
        state.live.guests.push(guest(3, "a", "vnet1", [0x52, 0x54, 0, 0, 0, 2]));
        let all = accepted(state.answer(Request::Interfaces { domain: None }));
        let Reply::Interfaces { interfaces } = all else { panic!("{all:?}") };
        let names: Vec<_> = interfaces.iter().map(|one| (&*one.domain, &*one.interface)).collect();
        assert_eq!(names, [("a", "vnet1"), ("b", "vnet0")]);
        assert!(interfaces.iter().all(|one| one.source == "n" && one.link && one.dhcp));
        let unknown = refused(state.answer(Request::Interfaces { domain: Some("x".into()) }));
        assert_eq!(unknown.message, "Domain not found: no domain with matching name 'x'");
        let stats = Request::InterfaceStats { domain: "a".into(), interface: "vnet0".into() };
        assert_eq!(
            refused(state.answer(stats)).message,
            "invalid argument: 'vnet0' is not a known interface"
        );
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn what_cannot_change_on_an_attached_interface_is_refused() {
        let root = scratch("update-device");
        let mut state = state(&root);
        let _events = connect(&mut state);
        state.live.networks.push(network());
        state.live.guests.push(guest(2, "b", "vnet0", [0x52, 0x54, 0, 0, 0, 1]));
        let mut update = |xml: &str| {
            let (xml, file) = (xml.to_owned(), "i.xml".to_owned());
            state.answer(Request::UpdateDevice { domain: "b".into(), xml, file })
        };
        let mac = "<mac address='52:54:00:00:00:01'/>";
        let model =
            format!("<interface type='network'>{mac}<source network='n'/><model type='e1000'/></interface>");
        accepted(update(&model));
        let moved = format!("<interface type='network'>{mac}<source network='m'/></interface>");
        assert!(refused(update(&moved)).message.starts_with("Operation not supported: "));
        let other = "<interface type='network'><mac address='52:54:00:00:00:09'/></interface>";
        assert_eq!(
            refused(update(other)).message,
            "device not found: no device matching MAC address 52:54:00:00:00:09 found"
        );
        assert_eq!(state.live.guests[0].details.model.as_deref(), Some("e1000"));
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn the_host_s_neighbours_are_read() {
        let line = "192.168.100.197  0x1         0x2         52:54:00:c6:3c:03     *        virbr1";
        let expected =
            (Ipv4Addr::new(192, 168, 100, 197), [0x52, 0x54, 0, 0xc6, 0x3c, 3], "virbr1".to_owned());
        assert_eq!(neighbour(line), Some(expected));
        assert_eq!(neighbour(&line.replace("0x2 ", "0x0 ")), None, "an incomplete entry");
    }
}
