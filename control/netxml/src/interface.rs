//! An `<interface>` of a guest, as far as it says what is plugged in where.

use crate::error::Class;
use crate::parse::cx::{Cx, Node, Result, attr, child, filled};
use crate::parse::device::{self, Typed};
use crate::parse::{open, qos};
use crate::port::NetworkPort;

/// How messages name the text.
const SOURCE: &str = "(device_definition)";

/// What `attach-device`, `detach-device` and `update-device` read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// `network`, `bridge`, ...
    pub kind: String,
    /// The network's or the bridge's name.
    pub source: Option<String>,
    pub mac: Option<[u8; 6]>,
    pub target: Option<String>,
    pub model: Option<String>,
    pub alias: Option<String>,
    pub script: Option<String>,
    /// Whether the link is up, where it says so.
    pub link: Option<bool>,
    /// What it says of its port: portgroup, bandwidth, VLAN, virtualport, isolation.
    pub port: NetworkPort,
}

impl Interface {
    /// Read and check an `<interface>`.
    ///
    /// # Errors
    /// Where libvirt refuses, in its words.
    pub fn parse(text: &str) -> Result<Self> {
        let document = open(text, SOURCE)?;
        let cx = Cx { text, name: String::new() };
        let root = document.root_element();
        if root.tag_name().name() != "interface" {
            let message = format!("unknown device type '{}'", root.tag_name().name());
            let error = cx.error(root, Class::Xml, &message);
            return Err(error.with_help("only network interfaces can be changed: <interface>...</interface>"));
        }
        read(&cx, root)
    }
}

fn read(cx: &Cx<'_>, root: Node<'_>) -> Result<Interface> {
    let kind = cx.required(root, "type")?.to_owned();
    let of = |element, attribute: &str| {
        child(root, element).and_then(|node| filled(node, attribute)).map(str::to_owned)
    };
    let link = match child(root, "link") {
        Some(node) => cx.word(node, "state", &["up", "down"])?.map(|state| state == "up"),
        None => None,
    };
    Ok(Interface {
        source: of("source", "network").or_else(|| of("source", "bridge")),
        mac: mac(cx, root)?,
        target: of("target", "dev"),
        model: of("model", "type"),
        alias: of("alias", "name"),
        script: of("script", "path"),
        port: port(cx, root)?,
        kind,
        link,
    })
}

fn mac(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<[u8; 6]>> {
    let Some(node) = child(root, "mac") else { return Ok(None) };
    let Some(text) = attr(node, "address") else { return Ok(None) };
    let bad = format!("unable to parse mac address '{text}'");
    let multicast = format!("expected unicast mac address, found multicast '{text}'");
    cx.unicast_mac(node, "address", text, &bad, &multicast).map(Some)
}

fn port(cx: &Cx<'_>, root: Node<'_>) -> Result<NetworkPort> {
    let (bandwidth, class) = qos::bandwidth(cx, root, qos::Use::Port)?.unzip();
    Ok(NetworkPort {
        group: child(root, "source").and_then(|node| filled(node, "portgroup")).map(str::to_owned),
        virtualport: device::virtual_port(cx, root, Typed::May)?,
        bandwidth,
        class: class.unwrap_or(0),
        vlan: qos::vlan(cx, root)?,
        isolated: qos::port_isolated(cx, root)?,
        ..NetworkPort::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_read() {
        let text = "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='virbr1'/>\
            <target dev='vnet0'/><model type='virtio'/><link state='down'/><alias name='ua-1'/></interface>";
        let expected = Interface {
            kind: "bridge".into(),
            source: Some("virbr1".into()),
            mac: Some([0x52, 0x54, 0, 0, 0, 1]),
            target: Some("vnet0".into()),
            model: Some("virtio".into()),
            alias: Some("ua-1".into()),
            script: None,
            link: Some(false),
            port: NetworkPort::default(),
        };
        assert_eq!(Interface::parse(text).expect("interface"), expected);
        let least = Interface { kind: "network".into(), ..Interface::default() };
        assert_eq!(Interface::parse("<interface type='network'/>").expect("interface"), least);
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, words) in [
            ("<disk/>", "XML error: unknown device type 'disk'"),
            (
                "<interface type='network'><mac address='x'/></interface>",
                "XML error: unable to parse mac address 'x'",
            ),
            (
                "<interface type='network'><link state='sideways'/></interface>",
                "XML error: Invalid value for attribute 'state' in element 'link': 'sideways'",
            ),
        ] {
            let error = Interface::parse(text).expect_err(words);
            assert!(error.message.starts_with(words), "{}", error.message);
        }
        assert!(Interface::parse("<interface/>").is_err());
        assert!(Interface::parse("<interface").is_err());
    }
}
