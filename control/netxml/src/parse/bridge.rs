//! `<bridge>`, `<mac>` and `<mtu>`.

use super::cx::{Cx, Node, Result, child, filled};
use crate::{Bridge, value};

pub(super) fn bridge(cx: &Cx<'_>, root: Node<'_>) -> Result<Bridge> {
    let Some(node) = child(root, "bridge") else { return Ok(Bridge::default()) };
    let name = &cx.name;
    let text = |name: &str| filled(node, name).map(str::to_owned);
    let mut bridge = Bridge {
        name: text("name"),
        zone: text("zone"),
        stp: filled(node, "stp") != Some("off"),
        ..Bridge::default()
    };
    if let Some(delay) = filled(node, "delay") {
        let seconds = value::unsigned(delay, 10).and_then(|seconds| u32::try_from(seconds).ok());
        bridge.delay = seconds.ok_or_else(|| {
            let message = format!("Invalid delay value in network '{name}'");
            cx.xml(node, "delay", &message).with_help("write a number of seconds")
        })?;
    }
    if let Some(word) = filled(node, "macTableManager") {
        if word != "kernel" && word != "libvirt" {
            let message = format!("Invalid macTableManager setting '{word}' in network '{name}'");
            return Err(cx.xml(node, "macTableManager", &message).with_help("write kernel or libvirt"));
        }
        bridge.mac_table_manager = Some(word.to_owned());
    }
    Ok(bridge)
}

pub(super) fn mac(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<[u8; 6]>> {
    let Some(node) = child(root, "mac") else { return Ok(None) };
    let Some(text) = filled(node, "address") else { return Ok(None) };
    let name = &cx.name;
    let bad = format!("Invalid bridge mac address '{text}' in network '{name}'");
    let multicast = format!("Invalid multicast bridge mac address '{text}' in network '{name}'");
    cx.unicast_mac(node, "address", text, &bad, &multicast).map(Some)
}

pub(super) fn mtu(cx: &Cx<'_>, root: Node<'_>) -> Result<Option<u32>> {
    let Some(node) = child(root, "mtu") else { return Ok(None) };
    let Some(text) = filled(node, "size") else { return Ok(None) };
    let size = value::wrapping_u32(text, 10).ok_or_else(|| {
        let message = format!("Invalid mtu size '{text}' in network '{}'", cx.name);
        cx.xml(node, "size", &message).with_help("write a number of bytes, such as 1500")
    })?;
    Ok(Some(size).filter(|size| *size > 0))
}
