//! `<vlan>`, `<bandwidth>`, `<port>` and `<portgroup>`.

use super::cx::{Cx, Node, Result, attr, child, children, owned};
use crate::element::Element;
use crate::error::Class;
use crate::{Bandwidth, PortGroup, Rate, Vlan, VlanTag};

pub(super) fn portgroup(cx: &Cx<'_>, node: Node<'_>) -> Result<PortGroup> {
    let Some(name) = owned(node, "name") else {
        return Err(cx.xml(node, "name", "Missing required name attribute in portgroup"));
    };
    Ok(PortGroup {
        name,
        default: cx.yes_no(node, "default")?.unwrap_or(false),
        trust_guest_rx_filters: cx.yes_no(node, "trustGuestRxFilters")?,
        vlan: vlan(cx, node)?,
        virtualport: child(node, "virtualport").map(Element::from_node),
        bandwidth: bandwidth(cx, node)?,
        port_isolated: port_isolated(cx, node)?,
    })
}

pub(super) fn port_isolated(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<bool>> {
    child(parent, "port").map_or(Ok(None), |node| cx.yes_no(node, "isolated"))
}

pub(super) fn vlan(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<Vlan>> {
    let Some(node) = child(parent, "vlan") else { return Ok(None) };
    let mut tags = Vec::new();
    for node in children(node, "tag") {
        tags.push(tag(cx, node)?);
    }
    if tags.is_empty() {
        let message = "missing tag id - each <vlan> must have at least one <tag id='n'/> subelement";
        return Err(cx.error(node, Class::Xml, message));
    }
    let natives = tags.iter().filter(|tag| tag.native_mode.is_some()).count();
    if natives > 1 {
        return Err(cx.error(node, Class::Xml, "duplicate native vlan setting"));
    }
    let written = cx.yes_no(node, "trunk")?;
    if written == Some(false) && (tags.len() > 1 || natives > 0) {
        let message = "invalid \"trunk='no'\" in <vlan> - trunk='yes' is required for more than one vlan tag";
        return Err(cx.xml(node, "trunk", message));
    }
    let trunk = written.unwrap_or(tags.len() > 1 || natives > 0);
    Ok(Some(Vlan { trunk, tags }))
}

fn tag(cx: &Cx<'_>, node: Node<'_>) -> Result<VlanTag> {
    cx.required(node, "id")?;
    let id: u64 = cx.number(node, "id")?.unwrap_or(0);
    let Some(id) = u16::try_from(id).ok().filter(|id| *id <= 4095) else {
        return Err(cx.xml(node, "id", &format!("vlan tag id {id} too large (maximum 4095)")));
    };
    let native_mode = owned(node, "nativeMode");
    if let Some(word) = native_mode.as_deref().filter(|word| !matches!(*word, "tagged" | "untagged")) {
        let message = format!("Invalid value for attribute 'nativeMode' in element 'tag': '{word}'.");
        return Err(cx.xml(node, "nativeMode", &message).with_help("write tagged or untagged"));
    }
    Ok(VlanTag { id, native_mode })
}

pub(super) fn bandwidth(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<Bandwidth>> {
    let Some(node) = child(parent, "bandwidth") else { return Ok(None) };
    let inbound = child(node, "inbound").map(|node| rate(cx, node)).transpose()?;
    let outbound = child(node, "outbound").map(|node| rate(cx, node)).transpose()?;
    if let Some(node) = child(node, "outbound").filter(|node| attr(*node, "floor").is_some()) {
        let message = "'floor' attribute allowed only in <inbound> element";
        return Err(cx.error_at(node, "floor", Class::Unsupported, message));
    }
    Ok((inbound.is_some() || outbound.is_some()).then_some(Bandwidth { inbound, outbound }))
}

fn rate(cx: &Cx<'_>, node: Node<'_>) -> Result<Rate> {
    let rate = Rate {
        average: cx.number(node, "average")?,
        peak: cx.number(node, "peak")?,
        floor: cx.number(node, "floor")?,
        burst: cx.number(node, "burst")?,
    };
    if rate.average.is_none() && rate.floor.is_none() {
        let message = "Missing mandatory average or floor attributes";
        return Err(cx.error(node, Class::Unsupported, message));
    }
    Ok(rate)
}
