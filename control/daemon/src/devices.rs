//! Interfaces of guests as XML: `attach-device` and `detach-device`.

use pontoon_netxml::interface::Interface;
use pontoon_netxml::port::{NetworkPort, Owner};
use pontoon_proto::api::Reply;
use uuid::Uuid;

use crate::defaults::{hex, random_mac};
use crate::failure::{Answer, fail_help};
use crate::guests::Details;
use crate::live::Guest;
use crate::ports::Wanted;
use crate::state::State;
use crate::verbs::xml_failure;

impl State {
    pub(crate) fn attach_device(
        &mut self,
        domain: &str,
        xml: &str,
        file: &str,
        netns: Option<String>,
    ) -> Answer<Reply> {
        let wanted = Interface::parse(xml).map_err(|error| xml_failure(&error, file))?;
        let (kind, source) = place(&wanted)?;
        let mac = wanted.mac.unwrap_or_else(random_mac);
        let uuid = Uuid::new_v4();
        let named = |guest: &&Guest| guest.domain == domain || guest.details.owner == domain;
        let (domain, owner) = match self.live.guests.iter().find(named) {
            Some(guest) => (guest.domain.clone(), guest.details.owner.clone()),
            None => (domain.to_owned(), Uuid::new_v4().to_string()),
        };
        let warnings = warnings(&wanted);
        let port = (wanted.port != NetworkPort::default()).then(|| {
            let owner = Owner { name: domain.clone(), uuid: owner.parse().unwrap_or_default() };
            NetworkPort { uuid, owner, mac, ..wanted.port }.to_xml()
        });
        let details = Details {
            uuid: uuid.to_string(),
            owner,
            kind,
            model: wanted.model,
            alias: wanted.alias,
            script: wanted.script,
            link_down: wanted.link == Some(false),
            port,
            ..Details::default()
        };
        let guest = self.attach_interface(Wanted {
            domain,
            source,
            // What a running guest's interface is called here is not a name to ask for.
            target: wanted.target.filter(|name| !name.starts_with("vnet")),
            mac: Some(hex(&mac)),
            netns,
            details,
        })?;
        Ok(self.attached(guest, warnings))
    }

    pub(crate) fn detach_device(&mut self, domain: &str, xml: &str, file: &str) -> Answer<Reply> {
        let wanted = Interface::parse(xml).map_err(|error| xml_failure(&error, file))?;
        let guest = self.device(domain, &wanted)?.clone();
        self.unplug(&guest)?;
        Ok(Reply::Done { warnings: Vec::new() })
    }
}

/// The type of a new interface, and what it is plugged into.
fn place(wanted: &Interface) -> Answer<(String, String)> {
    let kind = wanted.kind.as_str();
    if !matches!(kind, "network" | "bridge") {
        let message = format!("Operation not supported: interface type '{kind}'");
        return Err(fail_help(message, "the type is network or bridge"));
    }
    let source = wanted.source.clone().ok_or_else(|| {
        let message = format!("XML error: interface type='{kind}' requires a 'source' element");
        fail_help(message, format!("add <source {kind}='NAME'/>"))
    })?;
    Ok((kind.to_owned(), source))
}

/// What is kept and does nothing yet.
fn warnings(wanted: &Interface) -> Vec<String> {
    let port = &wanted.port;
    let kept = [
        (port.bandwidth.is_some(), "<bandwidth> of an interface is kept but has no effect yet"),
        (port.vlan.is_some(), "<vlan> of an interface is kept but has no effect yet"),
        (port.virtualport.is_some(), "<virtualport> of an interface is kept but has no effect yet"),
        (port.group.is_some(), "<source portgroup> of an interface is kept but has no effect yet"),
        (wanted.script.is_some(), "<script> is kept but not run: pontoon plugs the interface in itself"),
    ];
    kept.into_iter().filter(|(is, _)| *is).map(|(_, words)| words.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_nothing_is_named() {
        let text = "<interface type='network'><source network='a' portgroup='g'/><script path='/x'/>\
            <bandwidth><inbound average='1'/></bandwidth><vlan><tag id='7'/></vlan><port isolated='yes'/></interface>";
        let words = warnings(&Interface::parse(text).expect("interface")).join("\n");
        for part in ["<bandwidth>", "<vlan>", "portgroup", "<script>"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("isolated") && !words.contains("virtualport"));
    }
}
