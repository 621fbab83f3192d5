//! Ports as `net-port-*` sees them: one for each interface of a guest.

use pontoon_netxml::port::{BridgePlug, NetworkPort, Owner, Plug};
use pontoon_proto::api::{Agreed, PortInfo, Reply};
use uuid::Uuid;

use crate::defaults::hex;
use crate::failure::{Answer, fail, internal, invalid};
use crate::guests::Details;
use crate::known::Known;
use crate::live::{Guest, LiveNetwork};
use crate::ports::Wanted;
use crate::state::State;
use crate::verbs::xml_failure;

impl Known {
    pub(crate) fn port_list(&self, network: &str) -> Answer<Reply> {
        Ok(Reply::Ports { ports: self.ports(network)?.map(|guest| info(guest, None)).collect() })
    }

    fn ports(&self, network: &str) -> Answer<impl Iterator<Item = &Guest>> {
        let name = self.find(network)?;
        let live = self.live.by_name(&name);
        Ok(self.live.guests.iter().filter(move |guest| live.is_some_and(|live| live.id == guest.network)))
    }

    pub(crate) fn port_xml(&self, network: &str, port: &str) -> Answer<Reply> {
        let (guest, live) = self.port_of(network, port)?;
        Ok(Reply::Xml { xml: port_of(guest, live)?.to_xml() })
    }

    fn port_of(&self, network: &str, port: &str) -> Answer<(&Guest, &LiveNetwork)> {
        let name = self.find(network)?;
        let uuid: Uuid = port.parse().map_err(|_| {
            fail("invalid argument: uuidstr in virNetworkPortLookupByUUIDString must be a valid UUID")
        })?;
        let live = self.live.by_name(&name);
        let found = live.and_then(|live| {
            let guests = &mut self.live.guests.iter();
            Some((guests.find(|guest| guest.network == live.id && guest.port_uuid() == uuid)?, live))
        });
        found.ok_or_else(|| {
            fail(format!("network port not found: Network port with UUID {uuid} does not exist"))
        })
    }
}

fn info(guest: &Guest, agreed: Option<Agreed>) -> PortInfo {
    PortInfo {
        uuid: guest.port_uuid().to_string(),
        domain: guest.domain.clone(),
        interface: guest.ifname.clone(),
        mac: hex(&guest.mac),
        cable: guest.details.cable.name().to_owned(),
        peer: guest.details.cable.peer(),
        link: !guest.details.link_down,
        agreed,
    }
}

impl State {
    /// The ports of a network with what is agreed with their other sides, as the datapath has it.
    pub(crate) fn port_details(&self, network: &str) -> Answer<Reply> {
        let link = self.link()?;
        link.drain();
        let status = link.status()?;
        let agreed = |guest: &Guest| {
            let found = status.ports.iter().find(|found| found.port == guest.port);
            found.map(|found| Agreed { queues: found.queues, takes: found.takes, sends: found.sends })
        };
        let ports = self.ports(network)?.map(|guest| info(guest, Some(agreed(guest).unwrap_or_default())));
        Ok(Reply::Ports { ports: ports.collect() })
    }

    /// Makes an interface `vnetN` for the owner that the XML names.
    pub(crate) fn port_create(
        &mut self,
        network: &str,
        xml: &str,
        file: &str,
        validate: bool,
    ) -> Answer<Reply> {
        let name = self.find(network)?;
        if validate {
            pontoon_netxml::port::validate(xml).map_err(|error| xml_failure(&error, file))?;
        }
        let port = pontoon_netxml::port::parse(xml).map_err(|error| xml_failure(&error, file))?;
        if self.live.by_name(&name).is_none() {
            return Err(invalid(format!("network '{name}' is not active")));
        }
        if port.plug != Plug::None {
            return Err(fail("invalid argument: Port reclaim not requested but plug type is not none"));
        }
        if self.live.guests.iter().any(|guest| guest.port_uuid() == port.uuid) {
            return Err(fail(format!(
                "network port exists: Network port with UUID {} already exists",
                port.uuid
            )));
        }
        let details = Details {
            uuid: port.uuid.to_string(),
            owner: port.owner.uuid.to_string(),
            kind: "network".to_owned(),
            port: Some(port.to_xml()),
            ..Details::default()
        };
        self.attach_interface(Wanted {
            domain: port.owner.name.clone(),
            source: name,
            target: None,
            mac: Some(hex(&port.mac)),
            netns: None,
            details,
        })?;
        Ok(Reply::PortCreated { uuid: port.uuid.to_string() })
    }

    pub(crate) fn port_delete(&mut self, network: &str, port: &str) -> Answer<Reply> {
        let guest = self.port_of(network, port)?.0.clone();
        self.unplug(&guest)?;
        Ok(Reply::Done { warnings: Vec::new() })
    }
}

/// What `net-port-dumpxml` shows: what was said when it was made, and what it is plugged into.
pub(crate) fn port_of(guest: &Guest, live: &LiveNetwork) -> Answer<NetworkPort> {
    let said = guest.details.port.as_deref().map(pontoon_netxml::port::parse).transpose();
    let said = said.map_err(|error| internal(format!("the port's settings: {error}")))?;
    Ok(NetworkPort {
        uuid: guest.port_uuid(),
        owner: Owner { name: guest.domain.clone(), uuid: guest.details.owner.parse().unwrap_or_default() },
        mac: guest.mac,
        plug: Plug::Network(BridgePlug {
            bridge: live.bridge().to_owned(),
            mac_table_manager: live.network.bridge.mac_table_manager.clone(),
        }),
        ..said.unwrap_or_default()
    })
}

/// Settings of a port that `attach-interface` was given, checked; `bandwidth` is XML.
pub(crate) fn settings(details: &Details, domain: &str, mac: [u8; 6], bandwidth: &str) -> Answer<String> {
    let empty = NetworkPort {
        uuid: details.uuid.parse().unwrap_or_default(),
        owner: Owner { name: domain.to_owned(), uuid: details.owner.parse().unwrap_or_default() },
        mac,
        ..NetworkPort::default()
    };
    let xml = empty.to_xml();
    let end = "</networkport>";
    let xml = xml.trim_end().strip_suffix(end).unwrap_or_default();
    let xml = format!("{xml}<bandwidth>{bandwidth}</bandwidth>{end}");
    let port = pontoon_netxml::port::parse(&xml).map_err(|error| fail(error.message))?;
    Ok(port.to_xml())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_bad_ones_refused() {
        let details = Details { uuid: Uuid::from_u128(1).to_string(), ..Details::default() };
        let mac = [0x52, 0x54, 0, 0, 0, 1];
        let xml = settings(&details, "a<b", mac, "<inbound average='1000' floor='200'/>").expect("settings");
        assert!(xml.contains("<inbound average='1000' floor='200'/>"), "{xml}");
        assert!(xml.contains("<name>a&lt;b</name>"), "{xml}");
        assert!(settings(&details, "g", mac, "<inbound average='x'/>").is_err());
    }
}
