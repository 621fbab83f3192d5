//! `<vlan>`, `<bandwidth>`, `<port>` and `<portgroup>`.

use super::cx::{Cx, Node, Result, attr, child, children, filled};
use super::device::{self, Typed};
use crate::error::Class;
use crate::{Bandwidth, PortGroup, Rate, Vlan, VlanTag};

pub(crate) fn portgroup(cx: &Cx<'_>, node: Node<'_>) -> Result<PortGroup> {
    let Some(name) = filled(node, "name").map(str::to_owned) else {
        let message = "Missing required name attribute in portgroup";
        return Err(cx.xml(node, "name", message).with_help("write <portgroup name='NAME'>"));
    };
    let trust_guest_rx_filters = cx.yes_no(node, "trustGuestRxFilters")?;
    let virtualport = device::virtual_port(cx, node, Typed::May)?;
    let bandwidth = bandwidth(cx, node, Use::Network)?.map(|(bandwidth, _)| bandwidth);
    Ok(PortGroup {
        name,
        default: attr(node, "default").is_some_and(|word| word.eq_ignore_ascii_case("yes")),
        trust_guest_rx_filters,
        virtualport,
        bandwidth,
        vlan: vlan(cx, node)?,
        port_isolated: port_isolated(cx, node)?,
    })
}

pub(crate) fn port_isolated(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<bool>> {
    child(parent, "port").map_or(Ok(None), |node| cx.yes_no(node, "isolated"))
}

pub(crate) fn vlan(cx: &Cx<'_>, parent: Node<'_>) -> Result<Option<Vlan>> {
    let Some(node) = child(parent, "vlan") else { return Ok(None) };
    let (mut tags, mut native) = (Vec::new(), false);
    for node in children(node, "tag") {
        let tag = tag(cx, node)?;
        if native && tag.native_mode.is_some() {
            let error = cx.xml(node, "nativeMode", "duplicate native vlan setting");
            return Err(error.with_help("only one tag is the native one"));
        }
        native |= tag.native_mode.is_some();
        tags.push(tag);
    }
    if tags.is_empty() {
        let message = "missing tag id - each <vlan> must have at least one <tag id='n'/> subelement";
        return Err(cx.error(node, Class::Xml, message).with_help("write <vlan><tag id='42'/></vlan>"));
    }
    let trunk = trunk(cx, node, &tags)?;
    Ok(Some(Vlan { trunk, tags }))
}

fn trunk(cx: &Cx<'_>, node: Node<'_>, tags: &[VlanTag]) -> Result<bool> {
    let Some(word) = filled(node, "trunk") else { return Ok(tags.len() > 1) };
    if word.eq_ignore_ascii_case("yes") {
        return Ok(true);
    }
    let fail = |message: &str| cx.xml(node, "trunk", message).with_help("write trunk='yes' or leave it out");
    if tags.len() > 1 {
        let message = format!(
            "invalid \"trunk='{word}'\" in <vlan> - trunk='yes' is required for more than one vlan tag"
        );
        return Err(fail(&message));
    }
    if tags.iter().any(|tag| tag.native_mode.is_some()) {
        let message = "invalid configuration in <vlan> - \"trunk='no'\" is not allowed with a native vlan id";
        return Err(fail(message));
    }
    if !word.eq_ignore_ascii_case("no") {
        return Err(fail(&format!("invalid \"trunk='{word}'\" in <vlan> - must be yes or no")));
    }
    Ok(false)
}

fn tag(cx: &Cx<'_>, node: Node<'_>) -> Result<VlanTag> {
    cx.required(node, "id")?;
    let id: u32 = cx.number(node, "id", 10)?.unwrap_or(0);
    let Some(id) = u16::try_from(id).ok().filter(|id| *id <= 4095) else {
        let error = cx.xml(node, "id", &format!("vlan tag id {id} too large (maximum 4095)"));
        return Err(error.with_help("write a number from 1 to 4094"));
    };
    Ok(VlanTag { id, native_mode: cx.word(node, "nativeMode", &["tagged", "untagged"])? })
}

/// What the bandwidth is of: only a port can have a guaranteed floor and a class.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Network,
    Port,
}

/// The bandwidth and its class, unless it is empty.
pub(crate) fn bandwidth(cx: &Cx<'_>, parent: Node<'_>, of: Use) -> Result<Option<(Bandwidth, u32)>> {
    let Some(node) = child(parent, "bandwidth") else { return Ok(None) };
    let class: Option<u32> = cx.number(node, "classID", 10)?;
    if class.is_some() && of == Use::Network {
        let message = "classID attribute not supported on <bandwidth> in this usage context";
        return Err(cx.error_at(node, "classID", Class::Plain, message).with_help("remove classID"));
    }
    let inbound = child(node, "inbound").map(|node| rate(cx, node, of)).transpose()?.flatten();
    let outbound = child(node, "outbound").map(|node| rate(cx, node, Use::Network)).transpose()?.flatten();
    let some = inbound.is_some() || outbound.is_some();
    Ok(some.then_some((Bandwidth { inbound, outbound }, class.unwrap_or(0))))
}

/// A rate of 0 is none.
fn rate(cx: &Cx<'_>, node: Node<'_>, of: Use) -> Result<Option<Rate>> {
    let average: Option<u64> = cx.number(node, "average", 10)?;
    let peak: Option<u64> = cx.number(node, "peak", 10)?;
    let burst: Option<u64> = cx.number(node, "burst", 10)?;
    let floor: Option<u64> = cx.number(node, "floor", 10)?;
    if average.is_none() && floor.is_none() {
        let message = "Missing mandatory average or floor attributes";
        let help = "write average='KILOBYTES PER SECOND'";
        return Err(cx.error(node, Class::Plain, message).with_help(help));
    }
    if average.is_none() && (peak.is_some() || burst.is_some()) {
        let attribute = if peak.is_some() { "peak" } else { "burst" };
        let message = "'peak' and 'burst' require 'average' attribute";
        return Err(cx.unsupported(node, attribute, message).with_help("add average"));
    }
    if floor.is_some() && of == Use::Network {
        let message = "floor attribute is not supported for this config";
        let help = "a floor is guaranteed to one interface, in its <inbound>";
        return Err(cx.unsupported(node, "floor", message).with_help(help));
    }
    let some = |number: Option<u64>| number.filter(|number| *number > 0);
    let (average, floor) = (some(average), some(floor));
    let (peak, burst) = if average.is_some() { (some(peak), some(burst)) } else { (None, None) };
    Ok((average.is_some() || floor.is_some()).then_some(Rate { average, peak, floor, burst }))
}
