//! PCI addresses, their drivers, and `<virtualport>`.

use super::cx::{Cx, Node, Result, attr, child};
use crate::{Driver, PciAddress, VirtualPort, VirtualPortKind, value};

/// The longest profile name.
const MAX_PROFILE: usize = 39;

pub(crate) fn driver(cx: &Cx<'_>, node: Node<'_>) -> Result<Driver> {
    let name = cx.word(node, "name", &["kvm", "vfio", "xen"])?;
    Ok(Driver { name, model: attr(node, "model").map(str::to_owned) })
}

pub(crate) fn pci_address(cx: &Cx<'_>, node: Node<'_>) -> Result<PciAddress> {
    let part = |name: &str| cx.number::<u32>(node, name, 0).map(Option::unwrap_or_default);
    let address = PciAddress {
        domain: part("domain")?,
        bus: part("bus")?,
        slot: part("slot")?,
        function: part("function")?,
    };
    cx.word(node, "multifunction", &["on", "off"])?;
    let PciAddress { domain, bus, slot, function } = address;
    let bad = |name: &str, message: String| {
        Err(cx
            .xml(node, name, &message)
            .with_help("`lspci -D` prints DOMAIN:BUS:SLOT.FUNCTION in hexadecimal"))
    };
    if domain == 0 && bus == 0 && slot == 0 {
        return Ok(address);
    }
    if bus > 0xff {
        return bad("bus", format!("Invalid PCI address bus='0x{bus:x}', must be <= 0xFF"));
    }
    if slot > 0x1f {
        return bad("slot", format!("Invalid PCI address slot='0x{slot:x}', must be <= 0x1F"));
    }
    if function > 7 {
        return bad("function", format!("Invalid PCI address function=0x{function:x}, must be <= 7"));
    }
    Ok(address)
}

/// Whether `<virtualport>` must say its type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    Must,
    May,
}

pub(crate) fn virtual_port(cx: &Cx<'_>, parent: Node<'_>, typed: Typed) -> Result<Option<VirtualPort>> {
    let Some(node) = child(parent, "virtualport") else { return Ok(None) };
    let help = "write type='openvswitch', '802.1Qbg', '802.1Qbh' or 'midonet'";
    let kind = match attr(node, "type") {
        None => None,
        Some(word) => Some(VirtualPortKind::from_word(word).ok_or_else(|| {
            let message = format!("unknown virtualport type {word}");
            cx.unsupported(node, "type", &message).with_help(help)
        })?),
    };
    if kind.is_none() && typed == Typed::Must {
        return Err(cx.xml(node, "type", "missing required virtualport type").with_help(help));
    }
    let mut port = VirtualPort { kind, ..VirtualPort::default() };
    if let Some(node) = child(node, "parameters") {
        parameters(cx, node, &mut port)?;
        no_extras(cx, node, &port)?;
        if kind == Some(VirtualPortKind::Midonet) {
            port = VirtualPort { kind, interface: port.interface, ..VirtualPort::default() };
        }
    }
    Ok(Some(port))
}

fn parameters(cx: &Cx<'_>, node: Node<'_>, port: &mut VirtualPort) -> Result<()> {
    let fail = |name: &str, message: &str| cx.xml(node, name, message);
    let number = |name: &str, most: u32, range: &str| -> Result<Option<u32>> {
        let Some(text) = attr(node, name) else { return Ok(None) };
        match value::wrapping_u32(text, 0) {
            Some(number) if number <= most => Ok(Some(number)),
            Some(_) => Err(fail(name, range).with_help(format!("write a number up to {most}"))),
            None => Err(fail(name, &format!("cannot parse value of {name} parameter"))
                .with_help(format!("write a number up to {most}"))),
        }
    };
    let id = |name: &str| -> Result<Option<uuid::Uuid>> {
        let Some(text) = attr(node, name) else { return Ok(None) };
        let message = format!("cannot parse {name} parameter as a uuid");
        let help = "write 32 hexadecimal digits in five groups";
        value::uuid(text).map(Some).ok_or_else(|| fail(name, &message).with_help(help))
    };
    let octet = |number: Option<u32>| number.and_then(|number| u8::try_from(number).ok());
    port.manager = octet(number("managerid", 0xff, "value of managerid out of range")?);
    port.type_id = number("typeid", 0x00ff_ffff, "value for typeid out of range")?;
    port.type_version = octet(number("typeidversion", 0xff, "value of typeidversion out of range")?);
    port.instance = id("instanceid")?;
    let profile = attr(node, "profileid").filter(|profile| !profile.is_empty());
    if profile.is_some_and(|profile| profile.len() > MAX_PROFILE) {
        let help = format!("at most {MAX_PROFILE} bytes");
        return Err(fail("profileid", "profileid parameter too long").with_help(help));
    }
    port.profile = profile.map(str::to_owned);
    port.interface = id("interfaceid")?;
    Ok(())
}

/// Parameters that mean nothing to the type of port.
fn no_extras(cx: &Cx<'_>, node: Node<'_>, port: &VirtualPort) -> Result<()> {
    const QBG: [&str; 4] = ["managerid", "typeid", "typeidversion", "instanceid"];
    let Some(kind) = port.kind else { return Ok(()) };
    let set: Vec<&str> = port.parameters().iter().map(|(name, _)| *name).collect();
    let allowed: &[&str] = match kind {
        VirtualPortKind::Qbg => &QBG,
        VirtualPortKind::Qbh => &["profileid"],
        VirtualPortKind::OpenVSwitch => &["interfaceid", "profileid"],
        VirtualPortKind::Midonet => return Ok(()),
    };
    let order = QBG.into_iter().chain(["profileid", "interfaceid"]);
    match order.into_iter().find(|name| set.contains(name) && !allowed.contains(name)) {
        None => Ok(()),
        Some(extra) => {
            let message = format!("extra {extra} unsupported in <virtualport type='{}'>", kind.as_str());
            let help = format!("this type knows {}", allowed.join(", "));
            Err(cx.xml(node, extra, &message).with_help(help))
        }
    }
}
