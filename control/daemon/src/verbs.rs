//! The verbs of the API.

use pontoon_netxml::{DumpOptions, Mode, Network};
use pontoon_proto::api::{Attach, BridgeInfo, Failure, LeaseInfo, NetworkInfo, Reply, Request, Response};
use pontoon_proto::event::Lifecycle;
use pontoon_proto::request::{self, PROTOCOL};

use crate::bridge_show::bridge_id;
use crate::cables::Cable;
use crate::defaults::{self, hex, parse_mac};
use crate::document;
use crate::failure::{Answer, fail, internal, invalid, operation};
use crate::guests::Details;
use crate::known::Known;
use crate::leases;
use crate::live::Guest;
use crate::netlink;
use crate::port_objects::settings;
use crate::ports::Wanted;
use crate::state::State;
use crate::store::usable_name;

impl State {
    /// Answers one request.
    pub(crate) fn answer(&mut self, request: Request) -> Response {
        let name = name(&request);
        match self.dispatch(request) {
            Ok(reply) => Response::Parameters(reply),
            Err(failure) => {
                tracing::info!("{name}: {}", failure.message);
                Response::Error(failure)
            }
        }
    }

    fn dispatch(&mut self, request: Request) -> Answer<Reply> {
        match request {
            Request::NetDefine { xml, file, validate } => {
                check_schema(&xml, &file, validate)?;
                self.define(&xml, &file)
            }
            Request::NetCreate { xml, file, validate } => {
                check_schema(&xml, &file, validate)?;
                self.create(&xml, &file)
            }
            Request::NetStart { network } => self.start_defined(&network),
            Request::NetDestroy { network } => {
                let name = self.find(&network)?;
                self.stop(&name).map(|()| done())
            }
            Request::NetUndefine { network } => self.undefine(&network),
            Request::NetAutostart { network, disable } => self.set_autostart(&network, !disable),
            Request::BridgeMacs { bridge } => self.bridge_macs(&bridge),
            Request::BridgeStp { bridge } => self.bridge_stp(&bridge),
            Request::BridgeSet { bridge, change } => self.bridge_set(&bridge, change),
            Request::Status => {
                let link = self.link()?;
                link.drain();
                Ok(Reply::Status { status: link.status()?, pid: link.pid, lacking: link.lacking.clone() })
            }
            Request::ConntrackList { filter, cursor } => self.conntrack_list(&filter, cursor),
            Request::ConntrackCount { filter, cursor } => self.conntrack_count(&filter, cursor),
            Request::ConntrackFlush { filter, cursor } => self.conntrack_flush(&filter, cursor),
            Request::ConntrackEvents { filter, mappings } => self.conntrack_events(&filter, mappings),
            Request::Trace { network, matching, count } => self.trace(&network, &matching, count),
            other => self.dispatch_parts(other),
        }
    }

    /// Requests about parts of networks: elements of definitions, ports, interfaces of guests.
    fn dispatch_parts(&mut self, request: Request) -> Answer<Reply> {
        match request {
            Request::NetUpdate { network, command, section, xml, parent_index, affect, file } => {
                let words = (command.as_str(), section.as_str());
                self.net_update(&network, words, parent_index, (&xml, &file), affect)
            }
            Request::NetSetMetadata { network, kind, value, affect } => {
                self.set_metadata(&network, &kind, value.as_deref(), affect)
            }
            Request::NetPortCreate { network, xml, file, validate } => {
                self.port_create(&network, &xml, &file, validate)
            }
            Request::NetPortDelete { network, port } => self.port_delete(&network, &port),
            Request::NetPorts { network, .. } => self.port_details(&network),
            Request::AttachInterface(wanted) => self.attach_guest(*wanted),
            Request::DetachInterface { domain, kind, mac } => {
                self.detach_interface(&domain, &kind, mac.as_deref()).map(|()| done())
            }
            Request::InterfaceStats { domain, interface } => self.interface_stats(&domain, &interface),
            Request::SetLink { domain, interface, up } => self.set_link(&domain, &interface, up),
            Request::SetRates { domain, interface, inbound, outbound } => {
                self.set_rates(&domain, &interface, inbound, outbound)
            }
            Request::AttachDevice { domain, xml, file, netns } => {
                self.attach_device(&domain, &xml, &file, netns)
            }
            Request::DetachDevice { domain, xml, file } => self.detach_device(&domain, &xml, &file),
            Request::UpdateDevice { domain, xml, file } => self.update_device(&domain, &xml, &file),
            other => self
                .look_up(&other)
                .unwrap_or_else(|| Err(internal(format!("{} is not served", name(&other))))),
        }
    }

    fn attach_guest(&mut self, wanted: Attach) -> Answer<Reply> {
        let cable = wanted.cable.map(|cable| Cable::wanted(&cable, wanted.target.as_deref())).transpose()?;
        let mac = match wanted.mac.as_deref() {
            Some(mac) => parse_mac(mac)?,
            None if cable.as_ref().is_some_and(Cable::is_adopted) => [0; 6],
            None => defaults::random_mac(),
        };
        let mut details = Details {
            cable: cable.unwrap_or_default(),
            uuid: uuid::Uuid::new_v4().to_string(),
            kind: wanted.kind,
            model: wanted.model,
            alias: wanted.alias,
            script: wanted.script,
            ..Details::default()
        };
        let mut warnings = Vec::new();
        if let Some(bandwidth) = wanted.bandwidth {
            details.port = Some(settings(&details, &wanted.domain, mac, &bandwidth)?);
            warnings.push("<bandwidth> of an interface is kept but has no effect yet".to_owned());
        }
        if details.script.is_some() {
            warnings.push("<script> is kept but not run: pontoon plugs the interface in itself".to_owned());
        }
        let guest = self.attach_interface(Wanted {
            domain: wanted.domain,
            source: wanted.source,
            target: wanted.target,
            mac: Some(mac).filter(|mac| *mac != [0; 6]).map(|mac| hex(&mac)),
            netns: wanted.netns,
            details,
        })?;
        Ok(self.attached(guest, warnings))
    }

    pub(crate) fn attached(&self, guest: Guest, warnings: Vec<String>) -> Reply {
        let network = self.live.by_id(guest.network).map(|live| live.network.name.clone());
        let (mac, network) = (hex(&guest.mac), network.unwrap_or_default());
        Reply::Attached { interface: guest.ifname, mac, network, warnings }
    }

    /// Reads a definition, checks it against the others and fills in what it leaves out.
    fn read(&self, xml: &str, file: &str) -> Answer<Network> {
        let mut network = pontoon_netxml::parse(xml).map_err(|error| xml_failure(&error, file))?;
        let name = network.name.clone();
        if !usable_name(&name) {
            return Err(fail(format!("XML error: name {name} cannot contain '/' or begin with '.'")));
        }
        let same = self.defined.get(&name).or_else(|| self.live.by_name(&name).map(|live| &live.network));
        let others = || {
            let live = self.live.networks.iter().map(|live| &live.network);
            self.defined.values().chain(live).filter(|other| other.name != name)
        };
        if let Some(uuid) = network.uuid {
            if let Some(other) = others().find(|other| other.uuid == Some(uuid)) {
                return Err(operation(format!(
                    "network '{}' is already defined with uuid {uuid}",
                    other.name
                )));
            }
            if let Some(old) = same.and_then(|same| same.uuid).filter(|old| *old != uuid) {
                return Err(operation(format!("network '{name}' already exists with uuid {old}")));
            }
        }
        let links = netlink::links().map_err(|error| internal(format!("listing interfaces: {error}")))?;
        let used = |bridge: &str| others().any(|other| other.bridge.name.as_deref() == Some(bridge));
        let taken = |bridge: &str| used(bridge) || links.iter().any(|link| link.name == bridge);
        defaults::fill(&mut network, same, taken)?;
        if let Some(bridge) = network.bridge.name.as_deref().filter(|_| network.forward.mode.owns_bridge()) {
            defaults::check_interface_name(bridge)?;
            if used(bridge) {
                return Err(internal(format!("bridge name '{bridge}' already in use.")));
            }
        }
        Ok(network)
    }

    fn define(&mut self, xml: &str, file: &str) -> Answer<Reply> {
        let network = self.read(xml, file)?;
        self.store.save(&network)?;
        let (name, mut warnings) = (network.name.clone(), network.warnings());
        warnings.extend(self.subnet_warning(&network));
        warnings.extend(self.redefine_live(&network));
        self.events.lifecycle(&network, Lifecycle::Defined);
        self.defined.insert(name.clone(), network);
        Ok(Reply::Defined { name, warnings })
    }

    fn create(&mut self, xml: &str, file: &str) -> Answer<Reply> {
        let network = self.read(xml, file)?;
        if self.live.by_name(&network.name).is_some() {
            return Err(invalid(format!("network is already active as '{}'", network.name)));
        }
        let (name, warnings) = (network.name.clone(), network.warnings());
        self.start(network)?;
        Ok(Reply::Defined { name, warnings })
    }

    fn start_defined(&mut self, network: &str) -> Answer<Reply> {
        let name = self.find(network)?;
        let defined = self.defined.get(&name).cloned();
        let definition = defined.ok_or_else(|| invalid("network is already active"))?;
        let warnings = definition.warnings();
        self.start(definition)?;
        Ok(Reply::Done { warnings })
    }

    fn undefine(&mut self, network: &str) -> Answer<Reply> {
        let name = self.find(network)?;
        if !self.defined.contains_key(&name) {
            return Err(invalid("can't undefine transient network"));
        }
        self.store.remove(&name)?;
        if let Some(network) = self.defined.remove(&name) {
            self.events.lifecycle(&network, Lifecycle::Undefined);
        }
        if self.live.by_name(&name).is_none() {
            self.store.remove_leases(&name);
        }
        Ok(done())
    }

    fn set_autostart(&mut self, network: &str, on: bool) -> Answer<Reply> {
        let name = self.find(network)?;
        if !self.defined.contains_key(&name) {
            return Err(invalid("cannot set autostart for transient network"));
        }
        self.store.set_autostart(&name, on).map(|()| done())
    }

    /// Starts what is marked; failures are logged and the rest goes on.
    pub(crate) fn autostart(&mut self) {
        let marked = self.defined.values().filter(|network| {
            self.store.autostart(&network.name) && self.live.by_name(&network.name).is_none()
        });
        for network in marked.cloned().collect::<Vec<_>>() {
            let name = network.name.clone();
            match self.start(network) {
                Ok(()) => tracing::info!("network '{name}' started"),
                Err(Failure { message, detail }) => {
                    tracing::error!(
                        "network '{name}' was not started: {message} {}",
                        detail.unwrap_or_default()
                    );
                }
            }
        }
    }
}

/// What needs nothing but what is known, and so no lock.
impl Known {
    /// Answers what only reads; `None` for other requests.
    pub(crate) fn look_up(&self, request: &Request) -> Option<Answer<Reply>> {
        Some(match request {
            Request::Ping => Ok(done()),
            Request::Version => Ok(Reply::Version {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                methods: request::methods(),
            }),
            Request::NetList => Ok(Reply::Networks { networks: self.list() }),
            Request::NetInfo { network } => {
                self.find(network).map(|name| Reply::Network { network: self.info_of(&name) })
            }
            Request::NetDumpxml { network, inactive } => self.dumpxml(network, *inactive),
            Request::NetDhcpLeases { network, mac } => self.dhcp_leases(network, mac.as_deref()),
            Request::Bridges => Ok(Reply::Bridges { bridges: self.bridges() }),
            Request::NetGetMetadata { network, kind, affect } => self.get_metadata(network, kind, *affect),
            Request::NetPorts { network, details: false } => self.port_list(network),
            Request::NetPortDumpxml { network, port } => self.port_xml(network, port),
            Request::FreeSubnet => self.free_subnet().map(|subnet| Reply::Subnet { subnet }),
            Request::Interfaces { domain } => self.interfaces(domain.as_deref()),
            Request::InterfaceAddresses { domain, source } => self.interface_addresses(domain, *source),
            _ => return None,
        })
    }

    fn list(&self) -> Vec<NetworkInfo> {
        let transient = self.live.networks.iter().map(|live| &live.network.name);
        let names: std::collections::BTreeSet<_> = self.defined.keys().chain(transient).collect();
        names.into_iter().map(|name| self.info_of(name)).collect()
    }

    pub(crate) fn info_of(&self, name: &str) -> NetworkInfo {
        let live = self.live.by_name(name).map(|live| &live.network);
        let defined = self.defined.get(name);
        let network = live.or(defined);
        NetworkInfo {
            name: name.to_owned(),
            uuid: network.and_then(|network| network.uuid).unwrap_or_default().to_string(),
            active: live.is_some(),
            persistent: defined.is_some(),
            autostart: defined.is_some() && self.store.autostart(name),
            bridge: network.and_then(|network| network.bridge.name.clone()),
            title: network.and_then(|network| network.title.clone()),
        }
    }

    fn dumpxml(&self, network: &str, inactive: bool) -> Answer<Reply> {
        let name = self.find(network)?;
        let defined = self.defined.get(&name);
        let xml = match (self.live.by_name(&name), defined) {
            (Some(live), defined) if !inactive || defined.is_none() => {
                // As libvirt's, this counts who asked for the network, not who asked for its bridge.
                let of_network = |guest: &&Guest| guest.network == live.id && guest.kind() == "network";
                let count = self.live.guests.iter().filter(of_network).count();
                let connections = u32::try_from(count).ok().filter(|count| *count > 0 && !inactive);
                let mut network = live.network.clone();
                // A running network shows the range NAT really uses, as libvirt's does.
                if network.forward.mode == Mode::Nat && !inactive {
                    network.forward.nat_ports.get_or_insert(document::nat_ports(live));
                }
                network.to_xml(&DumpOptions { inactive, connections })
            }
            (_, Some(defined)) => defined.to_xml(&DumpOptions { inactive, connections: None }),
            _ => return Err(internal("network vanished")),
        };
        Ok(Reply::Xml { xml })
    }

    fn dhcp_leases(&self, network: &str, mac: Option<&str>) -> Answer<Reply> {
        let name = self.find(network)?;
        let odd = |mac: &str| fail(format!("invalid MAC address: {mac}"));
        let mac = mac.map(|mac| parse_mac(mac).map_err(|_| odd(mac))).transpose()?;
        let definition =
            self.live.by_name(&name).map(|live| &live.network).or_else(|| self.defined.get(&name));
        let net = definition.and_then(document::address);
        let path = self.store.leases(&name);
        let log = leases::read(self.store.disk(), &path)
            .map_err(|error| internal(format!("cannot read '{}': {error}", path.display())))?;
        let mut found: Vec<LeaseInfo> = leases::current(log.leases, leases::now())
            .into_iter()
            .filter(|lease| mac.is_none_or(|mac| mac == lease.mac))
            .map(|lease| leases::info(lease, net.map_or(32, |net| net.prefix_len())))
            .collect();
        found.sort_by(|one, other| (&one.mac, one.ip).cmp(&(&other.mac, other.ip)));
        Ok(Reply::Leases { leases: found })
    }

    fn bridges(&self) -> Vec<BridgeInfo> {
        let mut bridges: Vec<BridgeInfo> = self
            .live
            .networks
            .iter()
            .map(|live| {
                let guests = self.live.guests.iter().filter(|guest| guest.network == live.id);
                let mut interfaces: Vec<String> = guests.map(|guest| guest.ifname.clone()).collect();
                interfaces.sort();
                BridgeInfo {
                    name: live.bridge().to_owned(),
                    network: live.network.name.clone(),
                    mac: hex(&live.network.mac.unwrap_or_default()),
                    id: bridge_id(
                        self.live.bridging.network(live.id).priority,
                        live.network.mac.unwrap_or_default(),
                    ),
                    stp: live.network.bridge.stp,
                    interfaces,
                }
            })
            .collect();
        bridges.sort_by(|one, other| one.name.cmp(&other.name));
        bridges
    }
}

/// `--validate`: what the schema does not know is refused.
fn check_schema(xml: &str, file: &str, validate: bool) -> Answer<()> {
    if validate {
        pontoon_netxml::validate(xml).map_err(|error| xml_failure(&error, file))?;
    }
    Ok(())
}

fn done() -> Reply {
    Reply::Done { warnings: Vec::new() }
}

/// The first line is the message; the rest points at the place in the file.
pub(crate) fn xml_failure(error: &pontoon_netxml::Error, file: &str) -> Failure {
    let detail = error.render(file).split_once('\n').map(|(_, rest)| rest.to_owned());
    Failure { message: error.message.clone(), detail }
}

/// The verb as it is called on the wire, for the log.
fn name(request: &Request) -> String {
    let value = serde_json::to_value(request).unwrap_or_default();
    value.get("method").and_then(|method| method.as_str()).unwrap_or("?").to_owned()
}
