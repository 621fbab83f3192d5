//! `<host>` and `<range>` of `<dhcp>`.

use super::{Update, UpdateCommand};
use crate::error::Error;
use crate::parse::cx::{Result, attr};
use crate::parse::dhcp::{Entry, dhcp_range, host as read_host};
use crate::value::{address, address_text};
use crate::{DhcpHost, Ip, Network};

/// Which `<ip>` is meant.
fn parent(update: &Update<'_>, network: &Network, index: i32) -> Result<usize> {
    let (ips, name) = (&network.ips, &update.cx.name);
    if let Ok(index) = usize::try_from(index) {
        return Some(index).filter(|index| *index < ips.len()).ok_or_else(|| {
            let message = format!(
                "couldn't update dhcp host entry - no <ip> element found at index {index} in network '{name}'"
            );
            update.invalid(&message).with_help(format!("the network has {} <ip> elements", ips.len()))
        });
    }
    let dhcp = ips.iter().position(Ip::has_dhcp);
    let first = || ips.iter().position(|ip| ip.address.is_ipv4()).or((!ips.is_empty()).then_some(0));
    dhcp.or_else(first).ok_or_else(|| {
        let message = format!("couldn't update dhcp host entry - no <ip> element found in network '{name}'");
        update.invalid(&message).with_help("add an <ip> with net-edit first")
    })
}

/// The `<ip>` a range is of: where the index names one of the other family, that of the range's own
/// family is meant. libvirt's test data wants it so.
fn parent_of_range(update: &Update<'_>, network: &Network, index: i32) -> Result<usize> {
    let at = parent(update, network, index)?;
    let start = attr(update.node, "start").and_then(address);
    let of_family = |ip: &Ip| start.is_none_or(|start| start.is_ipv4() == ip.address.is_ipv4());
    if network.ips.get(at).is_some_and(of_family) {
        return Ok(at);
    }
    let fitting = || network.ips.iter().enumerate().filter(|(_, ip)| of_family(ip));
    let dhcp = fitting().find(|(_, ip)| ip.has_dhcp()).or_else(|| fitting().next());
    Ok(dhcp.map_or(at, |(index, _)| index))
}

/// DHCP runs on one address of a family.
fn no_other_dhcp(update: &Update<'_>, ips: &[Ip], at: usize) -> Result<()> {
    let v4 = ips.get(at).is_some_and(|ip| ip.address.is_ipv4());
    let others = ips.iter().enumerate().filter(|(index, ip)| *index != at && ip.address.is_ipv4() == v4);
    if others.map(|(_, ip)| ip).any(Ip::has_dhcp) {
        let family = if v4 { "IPv4" } else { "IPv6" };
        let message = format!("dhcp is supported only for a single {family} address on each network");
        return Err(update.invalid(&message).with_help("name the <ip> that has <dhcp> with --parent-index"));
    }
    Ok(())
}

pub(super) fn host(update: &Update<'_>, network: &mut Network, index: i32) -> Result<()> {
    update.expect("host")?;
    let at = parent(update, network, index)?;
    let Some(ip) = network.ips.get(at) else { return Ok(()) };
    let entry = if update.command == UpdateCommand::Delete { Entry::Partial } else { Entry::Whole };
    let wanted = read_host(update.cx, update.node, ip, entry)?;
    let family = |address: &std::net::IpAddr| address.is_ipv4() != ip.address.is_ipv4();
    if entry == Entry::Whole && wanted.ip.as_ref().is_some_and(family) {
        let message = "the address family of a host entry IP must match the address family of the dhcp element's parent";
        return Err(update.invalid(message).with_help("name another <ip> with --parent-index"));
    }
    if update.command.adds() {
        no_other_dhcp(update, &network.ips, at)?;
    }
    let Some(hosts) = network.ips.get_mut(at).map(|ip| &mut ip.hosts) else { return Ok(()) };
    match update.command {
        UpdateCommand::Modify => {
            let found = hosts.iter_mut().find(|host| shares(host, &wanted));
            match found {
                Some(host) => *host = wanted,
                None => return Err(nothing_to_modify(update, &wanted)),
            }
        }
        UpdateCommand::Delete => {
            let found = hosts.iter().position(|host| fits(host, &wanted));
            hosts.remove(found.ok_or_else(|| {
                let message =
                    format!("couldn't locate a matching dhcp host entry in network '{}'", update.cx.name);
                update.invalid(&message).with_help("every attribute given must be that of the entry")
            })?);
        }
        UpdateCommand::AddLast | UpdateCommand::AddFirst => {
            if let Some(host) = hosts.iter().find(|host| shares(host, &wanted)) {
                return Err(exists(update, &wanted, host));
            }
            update.add(hosts, wanted);
        }
    }
    Ok(())
}

fn same<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    one.is_some() && one == other
}

/// One of MAC address, name and address is the same.
fn shares(host: &DhcpHost, wanted: &DhcpHost) -> bool {
    same(host.mac.as_ref(), wanted.mac.as_ref())
        || same(host.name.as_ref(), wanted.name.as_ref())
        || same(host.ip.as_ref(), wanted.ip.as_ref())
}

/// Every part that is wanted is the same; an entry without MAC address fits any.
fn fits(host: &DhcpHost, wanted: &DhcpHost) -> bool {
    (wanted.mac.is_none() || host.mac.is_none() || host.mac == wanted.mac)
        && (wanted.name.is_none() || host.name == wanted.name)
        && (wanted.ip.is_none() || host.ip == wanted.ip)
}

fn words(host: &DhcpHost) -> [String; 3] {
    let text = |text: Option<&String>, absent: &str| text.cloned().unwrap_or_else(|| absent.to_owned());
    [
        text(host.mac_text.as_ref(), "unknown"),
        text(host.name.as_ref(), "(null)"),
        host.ip.map_or_else(|| "unknown".to_owned(), address_text),
    ]
}

fn nothing_to_modify(update: &Update<'_>, wanted: &DhcpHost) -> Error {
    let [mac, name, ip] = words(wanted);
    let message = format!(
        "couldn't locate an existing dhcp host entry with \"mac='{mac}'\" \"name='{name}'\" \"ip='{ip}'\" in network '{}'",
        update.cx.name
    );
    update.invalid(&message).with_help("one of mac, name and ip must be that of the entry")
}

fn exists(update: &Update<'_>, wanted: &DhcpHost, host: &DhcpHost) -> Error {
    let [mac, name, ip] = words(wanted);
    let message = format!(
        "there is an existing dhcp host entry in network '{}' that matches \"<host mac='{mac}' name='{name}' ip='{ip}'/>\"",
        update.cx.name
    );
    let [mac, name, ip] = words(host);
    update
        .invalid(&message)
        .with_help(format!("it is <host mac='{mac}' name='{name}' ip='{ip}'/>; use modify"))
}

pub(super) fn range(update: &Update<'_>, network: &mut Network, index: i32) -> Result<()> {
    update.expect("range")?;
    let at = parent_of_range(update, network, index)?;
    if update.command == UpdateCommand::Modify {
        let error = update.impossible("dhcp ranges cannot be modified, only added or deleted");
        return Err(error.with_help("delete the old range and add the new one"));
    }
    let Some(ip) = network.ips.get(at) else { return Ok(()) };
    let range = dhcp_range(update.cx, update.node, ip)?;
    let found = ip.ranges.iter().position(|other| (other.start, other.end) == (range.start, range.end));
    if update.command.adds() {
        no_other_dhcp(update, &network.ips, at)?;
        if found.is_some() {
            let message = format!(
                "there is an existing dhcp range entry in network '{}' that matches \"<range start='{}' end='{}'/>\"",
                update.cx.name,
                address_text(range.start),
                address_text(range.end)
            );
            return Err(update.invalid(&message).with_help("it is there already"));
        }
    }
    let Some(ip) = network.ips.get_mut(at) else { return Ok(()) };
    match (update.command, found) {
        (UpdateCommand::Delete, Some(at)) => drop(ip.ranges.remove(at)),
        (UpdateCommand::Delete, None) => {
            let message =
                format!("couldn't locate a matching dhcp range entry in network '{}'", update.cx.name);
            return Err(update.invalid(&message).with_help("start and end must be those of the range"));
        }
        _ => update.add(&mut ip.ranges, range),
    }
    Ok(())
}
