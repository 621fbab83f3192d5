//! Records of `<dns>`.

use super::{Update, UpdateCommand};
use crate::error::Error;
use crate::parse::cx::Result;
use crate::parse::dhcp::Entry;
use crate::parse::dns::{self as read, PartialSrv};
use crate::{DnsHost, Network, Srv, Txt};

fn entry(update: &Update<'_>) -> Entry {
    if update.command.adds() { Entry::Whole } else { Entry::Partial }
}

/// The one that matches, or a complaint that there is none or several.
fn single(update: &Update<'_>, matches: &[usize], what: &str, several: &str) -> Result<usize> {
    let network = &update.cx.name;
    match matches {
        [one] => Ok(*one),
        [] => Err(missing(update, what)),
        _ => {
            let error = update.invalid(&format!("{several} were found in network {network}"));
            Err(error.with_help("give more of the record"))
        }
    }
}

fn missing(update: &Update<'_>, what: &str) -> Error {
    let message = format!("couldn't locate a matching DNS {what} record in network {}", update.cx.name);
    update.invalid(&message).with_help("net-dumpxml shows the records there are")
}

pub(super) fn host(update: &Update<'_>, network: &mut Network) -> Result<()> {
    update.expect("host")?;
    let (ip, names) = read::host(update.cx, update.node, entry(update))?;
    let hosts = &mut network.dns.hosts;
    let named = |host: &DnsHost| names.iter().any(|name| host.names.contains(name));
    let by_name = update.command == UpdateCommand::Delete;
    let matches = |host: &DnsHost| Some(host.ip) == ip || (by_name && named(host));
    let found: Vec<usize> = positions(hosts, matches);
    if update.command.adds() {
        if !found.is_empty() {
            let message = format!(
                "there is already at least one DNS HOST record with a matching field in network {}",
                update.cx.name
            );
            return Err(update.invalid(&message).with_help("use modify to change its names"));
        }
        if let Some(ip) = ip {
            update.add(hosts, DnsHost { ip, names });
        }
        return Ok(());
    }
    let at = single(update, &found, "HOST", "multiple matching DNS HOST records")?;
    match (update.command, ip) {
        (UpdateCommand::Modify, Some(ip)) => hosts.splice(at..=at, [DnsHost { ip, names }]).for_each(drop),
        _ => drop(hosts.remove(at)),
    }
    Ok(())
}

fn positions<T>(list: &[T], matches: impl Fn(&T) -> bool) -> Vec<usize> {
    list.iter().enumerate().filter(|(_, entry)| matches(entry)).map(|(at, _)| at).collect()
}

pub(super) fn srv(update: &Update<'_>, network: &mut Network) -> Result<()> {
    if update.command == UpdateCommand::Modify {
        let error = update.impossible("DNS SRV records cannot be modified, only added or deleted");
        return Err(error.with_help("delete the old record and add the new one"));
    }
    update.expect("srv")?;
    let wanted = read::srv(update.cx, update.node, entry(update))?;
    let records = &mut network.dns.srv;
    let found = positions(records, |srv| fits(srv, &wanted));
    if !update.command.adds() {
        let several = "multiple DNS SRV records matching all specified fields";
        records.remove(single(update, &found, "SRV", several)?);
        return Ok(());
    }
    if !found.is_empty() {
        let message = format!(
            "there is already at least one DNS SRV record matching all specified fields in network {}",
            update.cx.name
        );
        return Err(update.invalid(&message).with_help("delete it first, or give another target"));
    }
    update.add(records, wanted.into());
    Ok(())
}

/// Every name that is wanted is the same.
fn fits(srv: &Srv, wanted: &PartialSrv) -> bool {
    let same = |wanted: &Option<String>, found: Option<&String>| wanted.is_none() || wanted.as_ref() == found;
    same(&wanted.domain, srv.domain.as_ref())
        && same(&wanted.service, Some(&srv.service))
        && same(&wanted.protocol, Some(&srv.protocol))
        && same(&wanted.target, srv.target.as_ref())
}

pub(super) fn txt(update: &Update<'_>, network: &mut Network) -> Result<()> {
    update.expect("txt")?;
    let (name, value) = read::txt(update.cx, update.node, entry(update))?;
    let of = &update.cx.name;
    let records = &mut network.dns.txt;
    let found = records.iter().position(|txt| txt.name == name);
    if update.command.adds() {
        if found.is_some() {
            let message = format!("there is already a DNS TXT record with name '{name}' in network {of}");
            return Err(update.invalid(&message).with_help("use modify to change its value"));
        }
        update.add(records, Txt { name, value: value.unwrap_or_default() });
        return Ok(());
    }
    let at = found.ok_or_else(|| missing(update, "TXT"))?;
    if update.command == UpdateCommand::Delete {
        records.remove(at);
        return Ok(());
    }
    let value = value.ok_or_else(|| {
        let message = format!("missing value of modifying DNS TXT record in network {of}");
        update.invalid(&message).with_help("add value='TEXT'")
    })?;
    records.splice(at..=at, [Txt { name, value }]).for_each(drop);
    Ok(())
}
