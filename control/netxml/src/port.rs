//! Network ports: the XML of `net-port-create` and `net-port-dumpxml`.

use uuid::Uuid;

use crate::error::{Class, Error};
use crate::parse::cx::{Cx, Node, Result, attr, child, child_text, filled, owned};
use crate::parse::device::{self, Typed};
use crate::parse::{open, qos};
use crate::write::{Tag, Writer};
use crate::{Bandwidth, Driver, PciAddress, VirtualPort, Vlan, mac_string, schema, value, write};

/// One port of a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkPort {
    pub uuid: Uuid,
    pub owner: Owner,
    /// The portgroup.
    pub group: Option<String>,
    pub mac: [u8; 6],
    pub virtualport: Option<VirtualPort>,
    pub bandwidth: Option<Bandwidth>,
    /// The traffic class of the bandwidth; 0 is none.
    pub class: u32,
    pub vlan: Option<Vlan>,
    pub isolated: Option<bool>,
    pub trust_guest_rx_filters: Option<bool>,
    pub plug: Plug,
}

/// Whose port it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub uuid: Uuid,
}

/// What the port is plugged into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Plug {
    #[default]
    None,
    Network(BridgePlug),
    Bridge(BridgePlug),
    Direct {
        dev: String,
        mode: DirectMode,
    },
    HostdevPci {
        managed: Option<bool>,
        driver: Option<Driver>,
        address: PciAddress,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgePlug {
    pub bridge: String,
    /// `kernel` or `libvirt`
    pub mac_table_manager: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectMode {
    #[default]
    Vepa,
    Private,
    Bridge,
    Passthrough,
}

impl DirectMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vepa => "vepa",
            Self::Private => "private",
            Self::Bridge => "bridge",
            Self::Passthrough => "passthrough",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Vepa, Self::Private, Self::Bridge, Self::Passthrough]
            .into_iter()
            .find(|mode| mode.as_str() == word)
    }
}

/// How messages name the text.
const SOURCE: &str = "(networkport_definition)";

/// Read and check the XML of a port.
///
/// # Errors
/// Where libvirt refuses, in its words.
pub fn parse(text: &str) -> Result<NetworkPort> {
    let document = open(text, SOURCE)?;
    let cx = Cx { text, name: String::new() };
    read(&cx, root(&cx, &document)?)
}

/// Check a document as `net-port-create --validate` does before it reads it.
///
/// # Errors
/// The first thing in which it is not what the schema says.
pub fn validate(text: &str) -> Result<()> {
    let document = open(text, SOURCE)?;
    let cx = Cx { text, name: String::new() };
    schema::check(&cx, root(&cx, &document)?, schema::PORT)
}

fn root<'a>(cx: &Cx<'_>, document: &'a roxmltree::Document<'_>) -> Result<Node<'a>> {
    let root = document.root_element();
    if root.tag_name().name() == "networkport" {
        return Ok(root);
    }
    let found = root.tag_name().name();
    let message = format!("expecting root element of 'networkport', not '{found}'");
    let error = cx.error(root, Class::Xml, &message);
    Err(error.with_help("a port is <networkport>...</networkport>"))
}

fn read(cx: &Cx<'_>, root: Node<'_>) -> Result<NetworkPort> {
    let (uuid, owner) = identity(cx, root)?;
    let group = child_text(root, "group");
    let virtualport = device::virtual_port(cx, root, Typed::May)?;
    let mac = mac(cx, root)?;
    let (bandwidth, class) = qos::bandwidth(cx, root, qos::Use::Port)?.unzip();
    let vlan = qos::vlan(cx, root)?;
    let isolated = qos::port_isolated(cx, root)?;
    let filters = child(root, "rxfilters");
    let trust_guest_rx_filters = filters.map(|node| cx.yes_no(node, "trustGuest")).transpose()?.flatten();
    let plug = child(root, "plug").map(|node| plug(cx, node)).transpose()?.unwrap_or_default();
    let class = class.unwrap_or(0);
    Ok(NetworkPort {
        uuid,
        owner,
        group,
        mac,
        virtualport,
        bandwidth,
        class,
        vlan,
        isolated,
        trust_guest_rx_filters,
        plug,
    })
}

fn identity(cx: &Cx<'_>, root: Node<'_>) -> Result<(Uuid, Owner)> {
    let internal = |node: Node<'_>, message: &str| cx.error(node, Class::Internal, message);
    let id = |parent: Node<'_>, missing: &str| {
        let node = child(parent, "uuid").unwrap_or(parent);
        let text = child_text(parent, "uuid").ok_or_else(|| {
            internal(parent, missing).with_help("add <uuid> with 32 hexadecimal digits in five groups")
        })?;
        value::uuid(&text).ok_or_else(|| internal(node, &format!("Unable to parse UUID '{text}'")))
    };
    let uuid = id(root, "network port has no uuid")?;
    let owner = child(root, "owner").unwrap_or(root);
    let name = child(root, "owner").and_then(|owner| child_text(owner, "name"));
    let name = name.ok_or_else(|| {
        internal(owner, "network port has no owner name")
            .with_help("add <owner><name>GUEST</name>...</owner>")
    })?;
    Ok((uuid, Owner { name, uuid: id(owner, "network port has no owner UUID")? }))
}

fn mac(cx: &Cx<'_>, root: Node<'_>) -> Result<[u8; 6]> {
    let node = child(root, "mac").unwrap_or(root);
    let Some(text) = child(root, "mac").and_then(|node| filled(node, "address")) else {
        let error = cx.error(node, Class::Internal, "network port has no mac");
        return Err(error.with_help("add <mac address='52:54:00:12:34:56'/>"));
    };
    value::mac(text).ok_or_else(|| {
        let error = cx.error_at(node, "address", Class::Internal, &format!("Unable to parse MAC '{text}'"));
        error.with_help("write six hexadecimal pairs, such as 52:54:00:12:34:56")
    })
}

fn plug(cx: &Cx<'_>, node: Node<'_>) -> Result<Plug> {
    let kinds = ["none", "network", "bridge", "direct", "hostdev-pci"];
    match cx.word(node, "type", &kinds)?.as_deref() {
        Some("network") => Ok(Plug::Network(bridge_plug(cx, node)?)),
        Some("bridge") => Ok(Plug::Bridge(bridge_plug(cx, node)?)),
        Some("direct") => direct(cx, node),
        Some("hostdev-pci") => hostdev(cx, node),
        _ => Ok(Plug::None),
    }
}

fn bridge_plug(cx: &Cx<'_>, node: Node<'_>) -> Result<BridgePlug> {
    let bridge = owned(node, "bridge").ok_or_else(|| {
        cx.xml(node, "bridge", "Missing network port bridge name").with_help("add bridge='NAME'")
    })?;
    let mac_table_manager = owned(node, "macTableManager");
    match mac_table_manager.as_deref() {
        None | Some("kernel" | "libvirt") => Ok(BridgePlug { bridge, mac_table_manager }),
        Some(word) => {
            let message = format!("Invalid macTableManager setting '{word}' in network port");
            Err(cx.xml(node, "macTableManager", &message).with_help("write kernel or libvirt"))
        }
    }
}

fn direct(cx: &Cx<'_>, node: Node<'_>) -> Result<Plug> {
    let dev = owned(node, "dev").ok_or_else(|| {
        cx.xml(node, "dev", "Missing network port link device name").with_help("add dev='NAME'")
    })?;
    let mode = match attr(node, "mode") {
        None => DirectMode::default(),
        Some(word) => DirectMode::from_word(word).ok_or_else(|| {
            let error = cx.xml(node, "mode", &format!("Invalid mode setting '{word}' in network port"));
            error.with_help("write vepa, private, bridge or passthrough")
        })?,
    };
    Ok(Plug::Direct { dev, mode })
}

fn hostdev(cx: &Cx<'_>, node: Node<'_>) -> Result<Plug> {
    let managed = cx.yes_no(node, "managed")?;
    let driver = child(node, "driver").map(|node| device::driver(cx, node)).transpose()?;
    let address = child(node, "address").ok_or_else(|| {
        let error: Error = cx.xml(node, "", "Missing network port PCI address");
        error.with_help("add <address domain='0' bus='4' slot='0' function='1'/>")
    })?;
    Ok(Plug::HostdevPci { managed, driver, address: device::pci_address(cx, address)? })
}

impl NetworkPort {
    /// The canonical form, with a newline at the end.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::default();
        writer.open(&Tag::new("networkport"), |w| {
            w.text("uuid", &self.uuid.to_string());
            w.open(&Tag::new("owner"), |w| {
                w.text("name", &self.owner.name);
                w.text("uuid", &self.owner.uuid.to_string());
            });
            self.group.iter().for_each(|group| w.text("group", group));
            w.leaf(&Tag::new("mac").with("address", mac_string(self.mac)));
            write::virtual_port(w, self.virtualport.as_ref());
            write::bandwidth(w, self.bandwidth.as_ref(), self.class);
            write::vlan(w, self.vlan.as_ref());
            write::port(w, self.isolated);
            if self.trust_guest_rx_filters.is_some() {
                w.leaf(&Tag::new("rxfilters").with_bool("trustGuest", self.trust_guest_rx_filters));
            }
            self.plug.write(w);
        });
        writer.out
    }
}

impl Plug {
    fn write(&self, w: &mut Writer) {
        let tag = Tag::new("plug");
        match self {
            Self::None => {}
            Self::Network(bridge) => w.leaf(&bridge.tag(tag.with("type", "network"))),
            Self::Bridge(bridge) => w.leaf(&bridge.tag(tag.with("type", "bridge"))),
            Self::Direct { dev, mode } => {
                w.leaf(&tag.with("type", "direct").with("dev", dev).with("mode", mode.as_str()));
            }
            Self::HostdevPci { managed, driver, address } => {
                let tag = tag.with("type", "hostdev-pci").with_bool("managed", *managed);
                w.open(&tag, |w| {
                    write::driver(w, driver.as_ref());
                    w.leaf(&write::pci_address(Tag::new("address"), *address));
                });
            }
        }
    }
}

impl BridgePlug {
    fn tag(&self, tag: Tag) -> Tag {
        tag.with("bridge", &self.bridge).with_some("macTableManager", self.mac_table_manager.as_deref())
    }
}
