//! Changing one part of a definition, as `net-update` does.

mod dhcp;
mod dns;
mod forward;
mod port_forward;

use crate::error::{Class, Error};
use crate::parse::cx::{Cx, Node, Result};
use crate::parse::open;
use crate::{Network, PortGroup};

/// What to do with the element that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateCommand {
    Modify,
    Delete,
    AddLast,
    AddFirst,
}

impl UpdateCommand {
    /// virsh's word for it; `add` is short for `add-last`.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "modify" => Some(Self::Modify),
            "delete" => Some(Self::Delete),
            "add" | "add-last" => Some(Self::AddLast),
            "add-first" => Some(Self::AddFirst),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Modify => "modify",
            Self::Delete => "delete",
            Self::AddLast => "add-last",
            Self::AddFirst => "add-first",
        }
    }

    fn adds(self) -> bool {
        matches!(self, Self::AddLast | Self::AddFirst)
    }
}

/// The part of a definition to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Bridge,
    Domain,
    Ip,
    IpDhcpHost,
    IpDhcpRange,
    Forward,
    ForwardInterface,
    ForwardPf,
    PortGroup,
    DnsHost,
    DnsTxt,
    DnsSrv,
    /// Not one of virsh's.
    PortForward,
}

impl Section {
    pub const ALL: [Self; 13] = [
        Self::Bridge,
        Self::Domain,
        Self::Ip,
        Self::IpDhcpHost,
        Self::IpDhcpRange,
        Self::Forward,
        Self::ForwardInterface,
        Self::ForwardPf,
        Self::PortGroup,
        Self::DnsHost,
        Self::DnsTxt,
        Self::DnsSrv,
        Self::PortForward,
    ];

    /// virsh's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Domain => "domain",
            Self::Ip => "ip",
            Self::IpDhcpHost => "ip-dhcp-host",
            Self::IpDhcpRange => "ip-dhcp-range",
            Self::Forward => "forward",
            Self::ForwardInterface => "forward-interface",
            Self::ForwardPf => "forward-pf",
            Self::PortGroup => "portgroup",
            Self::DnsHost => "dns-host",
            Self::DnsTxt => "dns-txt",
            Self::DnsSrv => "dns-srv",
            Self::PortForward => "port-forward",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.as_str() == word)
    }
}

/// The definition with one part changed.
///
/// `parent_index` says which `<ip>` a DHCP section is of; a negative one takes the one with DHCP, else
/// the first. What results may not be a valid definition, such as a second interface of a NAT network:
/// parse its XML again before it is used.
///
/// # Errors
/// Where libvirt refuses, in its words, with the place in `xml`.
pub fn update(
    network: &Network,
    command: UpdateCommand,
    section: Section,
    parent_index: i32,
    xml: &str,
) -> Result<Network> {
    let document = open(xml, "network_update_xml")?;
    let cx = Cx { text: xml, name: network.name.clone() };
    let update = Update { cx: &cx, node: document.root_element(), command };
    let mut changed = network.clone();
    match section {
        Section::IpDhcpHost => dhcp::host(&update, &mut changed, parent_index)?,
        Section::IpDhcpRange => dhcp::range(&update, &mut changed, parent_index)?,
        Section::ForwardInterface => forward::interface(&update, &mut changed)?,
        Section::PortGroup => portgroup(&update, &mut changed)?,
        Section::DnsHost => dns::host(&update, &mut changed)?,
        Section::DnsTxt => dns::txt(&update, &mut changed)?,
        Section::DnsSrv => dns::srv(&update, &mut changed)?,
        Section::PortForward => port_forward::port_forward(&update, &mut changed)?,
        Section::Bridge | Section::Domain | Section::Ip | Section::Forward | Section::ForwardPf => {
            return Err(update.no_support(section));
        }
    }
    Ok(changed)
}

struct Update<'a> {
    cx: &'a Cx<'a>,
    node: Node<'a>,
    command: UpdateCommand,
}

impl Update<'_> {
    /// "Requested operation is not valid", about the element as a whole.
    fn invalid(&self, message: &str) -> Error {
        self.cx.error(self.node, Class::Invalid, message)
    }

    /// "Operation not supported", about the element as a whole.
    fn impossible(&self, message: &str) -> Error {
        self.cx.error(self.node, Class::Impossible, message)
    }

    fn no_support(&self, section: Section) -> Error {
        let section = if section == Section::ForwardPf { "forward pf" } else { section.as_str() };
        let error =
            self.impossible(&format!("can't update '{section}' section of network '{}'", self.cx.name));
        error.with_help("change the definition with net-edit or net-define")
    }

    fn expect(&self, element: &str) -> Result<()> {
        let found = self.node.tag_name().name();
        if found == element {
            return Ok(());
        }
        let message = format!(
            "unexpected element <{found}>, expecting <{element}>, while updating network '{}'",
            self.cx.name
        );
        Err(self
            .cx
            .error(self.node, Class::Xml, &message)
            .with_help(format!("this section takes a <{element}>")))
    }

    fn add<T>(&self, list: &mut Vec<T>, entry: T) {
        let at = if self.command == UpdateCommand::AddFirst { 0 } else { list.len() };
        list.insert(at, entry);
    }
}

fn portgroup(update: &Update<'_>, network: &mut Network) -> Result<()> {
    update.expect("portgroup")?;
    let group = crate::parse::qos::portgroup(update.cx, update.node)?;
    let (name, of) = (&group.name, &update.cx.name);
    let groups = &mut network.portgroups;
    let found = groups.iter().rposition(|other| other.name == *name);
    let default = groups.iter().rposition(|other| other.default);
    if found.is_none() && !update.command.adds() {
        let message =
            format!("couldn't find a portgroup entry in network '{of}' matching <portgroup name='{name}'>");
        return Err(update.invalid(&message).with_help(known(groups)));
    }
    if found.is_some() && update.command.adds() {
        let message = format!(
            "there is an existing portgroup entry in network '{of}' that matches \"<portgroup name='{name}'>\""
        );
        return Err(update.invalid(&message).with_help("use modify, or another name"));
    }
    let other_default = default.is_some() && default != found;
    if update.command != UpdateCommand::Delete && group.default && other_default {
        let message = format!(
            "a different portgroup entry in network '{of}' is already set as the default. Only one default is allowed."
        );
        return Err(update.invalid(&message).with_help("modify the other one first"));
    }
    match (update.command, found) {
        (UpdateCommand::Modify, Some(at)) => groups.splice(at..=at, [group]).for_each(drop),
        (UpdateCommand::Delete, Some(at)) => drop(groups.remove(at)),
        _ => update.add(groups, group),
    }
    Ok(())
}

fn known(groups: &[PortGroup]) -> String {
    if groups.is_empty() {
        return "the network has no <portgroup>".to_owned();
    }
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    format!("its portgroups are {}", names.join(", "))
}
