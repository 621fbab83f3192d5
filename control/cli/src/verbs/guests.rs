//! What interfaces guests have: the `dom*` commands.

use std::fmt::Write;

use pontoon_proto::api::{
    AddressSource, Failure, InterfaceAddresses, InterfaceInfo, InterfaceStats, Rate, Reply, Request,
};

use super::attach::{CONFIG, CURRENT, LIVE, PERSISTENT, check_affect, no_domain, rate};
use super::leases::{PATIENCE, wait_for};
use super::network::read_file;
use super::shell_verbs::escape_xml;
use crate::client::is_connection;
use crate::outcome::{Outcome, Refusal, say};
use crate::tables;
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, refused, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

const INTERFACE: Opt =
    Opt::needs("interface", "interface device (MAC Address)").completed(Complete::Interface);

pub(crate) const LIST: Command = Command {
    name: "domiflist",
    help: "list all domain virtual interfaces",
    about: "Get the summary of virtual interfaces for a domain.",
    options: &[
        Opt::domain(),
        Opt::flag("inactive", "get inactive rather than running configuration"),
        Opt::JSON,
    ],
    examples: &["pontoon domiflist node-2"],
    access: Access::Reads,
    run: list,
};

pub(crate) const ADDR: Command = Command {
    name: "domifaddr",
    help: "Get network interfaces' addresses for a running domain",
    about: "Get network interfaces' addresses for a running domain",
    options: &[
        Opt::domain(),
        Opt::may("interface", "network interface name").completed(Complete::Interface),
        Opt::flag("full", "always display names and MACs of interfaces"),
        Opt::text("source", "address source: 'lease', 'agent', or 'arp'")
            .unwanted()
            .completed(Complete::Words(&["lease", "agent", "arp"])),
        Opt::JSON,
        Opt::wait("wait until there is an address (30 seconds, or as many as given)"),
    ],
    examples: &[
        "pontoon domifaddr node-2",
        "pontoon domifaddr node-2 vnet0 --wait",
        "pontoon domifaddr node-2 --source arp",
    ],
    access: Access::Reads,
    run: addresses,
};

pub(crate) const STAT: Command = Command {
    name: "domifstat",
    help: "get network interface stats for a domain",
    about: "Get network interface stats for a running domain.",
    options: &[
        Opt::domain(),
        Opt::needs("interface", "interface device specified by name or MAC Address")
            .completed(Complete::Interface),
        Opt::JSON,
    ],
    examples: &["pontoon domifstat node-2 vnet0"],
    access: Access::Reads,
    run: stats,
};

pub(crate) const GETLINK: Command = Command {
    name: "domif-getlink",
    help: "get link state of a virtual interface",
    about: "Get link state of a domain's virtual interface.",
    options: &[
        Opt::domain(),
        INTERFACE,
        Opt::alias("persistent", "config"),
        Opt::flag("config", "Get persistent interface state"),
        Opt::JSON,
        Opt::wait("wait until the link is up (30 seconds, or as many as given)"),
    ],
    examples: &["pontoon domif-getlink node-2 vnet0", "pontoon domif-getlink node-2 vnet0 --wait=60"],
    access: Access::Reads,
    run: getlink,
};

pub(crate) const SETLINK: Command = Command {
    name: "domif-setlink",
    help: "set link state of a virtual interface",
    about: "Set link state of a domain's virtual interface. This command wraps usage of update-device command.",
    options: &[
        Opt::domain(),
        INTERFACE,
        Opt::needs("state", "new state of the device").completed(Complete::Words(&["up", "down"])),
        Opt::alias("persistent", "config"),
        CONFIG,
        Opt::flag("print-xml", "print XML document rather than set the interface link state"),
    ],
    examples: &["pontoon domif-setlink node-2 vnet0 down"],
    access: Access::Writes("virDomainUpdateDeviceFlags"),
    run: setlink,
};

pub(crate) const TUNE: Command = Command {
    name: "domiftune",
    help: "get/set parameters of a virtual interface",
    about: "Get/set parameters of a domain's virtual interface.",
    options: &[
        Opt::domain(),
        INTERFACE,
        Opt::text("inbound", "control domain's incoming traffics").unwanted(),
        Opt::text("outbound", "control domain's outgoing traffics").unwanted(),
        CONFIG,
        LIVE,
        CURRENT,
        Opt::JSON,
    ],
    examples: &["pontoon domiftune node-2 vnet0", "pontoon domiftune node-2 vnet0 --inbound 1000,2000,512"],
    access: Access::Reads,
    run: tune,
};

pub(crate) const UPDATE: Command = Command {
    name: "update-device",
    help: "update device from an XML file",
    about: "Update device from an XML <file>.",
    options: &[
        Opt::domain(),
        Opt::file("XML file"),
        PERSISTENT,
        CONFIG,
        LIVE,
        CURRENT,
        Opt::flag("force", "force device update"),
    ],
    examples: &["pontoon update-device node-2 interface.xml"],
    access: Access::Writes("virDomainUpdateDeviceFlags"),
    run: update,
};

pub(crate) const ATTACH_DEVICE: Command = Command {
    name: "attach-device",
    help: "attach device from an XML file",
    about: "Attach device from an XML <file>.",
    options: &[
        Opt::domain(),
        Opt::file("XML file"),
        PERSISTENT,
        CONFIG,
        LIVE,
        CURRENT,
        Opt::text("netns", "put the interface into the network namespace /run/netns/<string>"),
    ],
    examples: &["pontoon attach-device node-2 interface.xml"],
    access: Access::Writes("virDomainAttachDevice"),
    run: attach_device,
};

pub(crate) const DETACH_DEVICE: Command = Command {
    name: "detach-device",
    help: "detach device from an XML file",
    about: "Detach device from an XML <file>",
    options: &[Opt::domain(), Opt::file("XML file"), PERSISTENT, CONFIG, LIVE, CURRENT],
    examples: &["pontoon detach-device node-2 interface.xml"],
    access: Access::Writes("virDomainDetachDevice"),
    run: detach_device,
};

/// The interfaces of the guest the option names.
pub(crate) fn of(shell: &Shell, args: &Args) -> Result<Vec<InterfaceInfo>, Refusal> {
    let name = args.needed("domain")?;
    match shell.ask(&Request::Interfaces { domain: Some(name.to_owned()) }) {
        Ok(Reply::Interfaces { interfaces }) => Ok(interfaces),
        Ok(other) => Err(strange(&other)),
        Err(failure) if is_connection(&failure) => Err(refused(failure)),
        Err(_) => Err(no_domain(name)),
    }
}

/// A MAC address as virsh reads one; `None` when it is none.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

fn formatted(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// `<interface>` as virsh cuts it out of a guest's XML, with another link state when one is given.
pub(crate) fn interface_xml(interface: &InterfaceInfo, link: Option<bool>) -> String {
    let model = interface.model.as_deref().map(|model| format!("model type=\"{}\"", escape_xml(model)));
    let known = (!interface.link).then(|| format!("link state=\"{}\"", state(link.unwrap_or(false))));
    let alias = interface.alias.as_deref().map(|alias| format!("alias name=\"{}\"", escape_xml(alias)));
    let first = [
        format!("mac address=\"{}\"", interface.mac),
        format!("source {}=\"{}\"", interface.kind, escape_xml(&interface.source)),
        format!("target dev=\"{}\"", interface.interface),
    ];
    let mut xml = format!("<interface type=\"{}\">\n", interface.kind);
    for element in first.into_iter().chain([model, known, alias].into_iter().flatten()) {
        // Writing to a String cannot fail.
        let _ = writeln!(xml, "      <{element}/>");
    }
    xml.push_str("    ");
    if let Some(up) = link.filter(|_| interface.link) {
        let _ = write!(xml, "<link state=\"{}\"/>", state(up));
    }
    xml + "</interface>"
}

fn state(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn list(shell: &mut Shell, args: &Args) -> Outcome {
    let interfaces = of(shell, args)?;
    if args.has("json") {
        return shell.json(&interfaces);
    }
    say(&tables::interfaces(&interfaces, shell.quiet));
    Ok(())
}

fn source(args: &Args) -> Result<AddressSource, Refusal> {
    match args.text("source")? {
        None | Some("lease") => Ok(AddressSource::Lease),
        Some("arp") => Ok(AddressSource::Arp),
        Some("agent") => Ok(AddressSource::Agent),
        Some(other) => Err(Refusal::own(format!("Unknown data source '{other}'"))),
    }
}

fn addresses(shell: &mut Shell, args: &Args) -> Outcome {
    let name = args.text("interface")?;
    let source = source(args)?;
    of(shell, args)?;
    let domain = args.needed("domain")?.to_owned();
    let request = Request::InterfaceAddresses { domain, source };
    let find = || {
        let failed = || "Failed to query for interfaces addresses".to_owned();
        let mut found = match shell.call_or(&request, failed)? {
            Reply::Addresses { interfaces } => interfaces,
            other => return Err(strange(&other)),
        };
        found.retain(|one| name.is_none_or(|name| name == one.interface));
        Ok::<Vec<InterfaceAddresses>, Refusal>(found)
    };
    let found = match args.wait(PATIENCE)? {
        None => find()?,
        Some(seconds) => {
            let some = |found: &Vec<InterfaceAddresses>| found.iter().any(|one| !one.addresses.is_empty());
            let late = || Refusal::own(format!("no address within {seconds} seconds"));
            wait_for(seconds, || Ok(Some(find()?).filter(some)))?.ok_or_else(late)?
        }
    };
    if args.has("json") {
        return shell.json(&found);
    }
    shell.extra(tables::ADDRESSES_HEAD);
    say(&tables::addresses(&found, args.has("full")));
    Ok(())
}

fn stats(shell: &mut Shell, args: &Args) -> Outcome {
    of(shell, args)?;
    let (domain, interface) = (args.needed("domain")?, args.needed("interface")?);
    let request = Request::InterfaceStats { domain: domain.to_owned(), interface: interface.to_owned() };
    let failed = || format!("Failed to get interface stats {domain} {interface}");
    let stats = match shell.call_or(&request, failed)? {
        Reply::Stats { stats } => stats,
        other => return Err(strange(&other)),
    };
    if args.has("json") {
        return shell.json(&stats);
    }
    say(&stat_lines(interface, &stats));
    Ok(())
}

fn stat_lines(interface: &str, stats: &InterfaceStats) -> String {
    let counters = [
        ("rx_bytes", stats.rx_bytes),
        ("rx_packets", stats.rx_packets),
        ("rx_errs", stats.rx_errs),
        ("rx_drop", stats.rx_drop),
        ("tx_bytes", stats.tx_bytes),
        ("tx_packets", stats.tx_packets),
        ("tx_errs", stats.tx_errs),
        ("tx_drop", stats.tx_drop),
    ];
    counters.iter().map(|(name, value)| format!("{interface} {name} {value}\n")).collect()
}

fn getlink(shell: &mut Shell, args: &Args) -> Outcome {
    let name = args.needed("interface")?;
    let find = || named(&of(shell, args)?, name);
    let one = match args.wait(PATIENCE)? {
        None => find()?,
        Some(seconds) => {
            let late = || Refusal::own(format!("the link of {name} is not up after {seconds} seconds"));
            wait_for(seconds, || Ok(Some(find()?).filter(|one| one.link)))?.ok_or_else(late)?
        }
    };
    if args.has("json") {
        return shell.json(&serde_json::json!({ "interface": one.interface, "link": state(one.link) }));
    }
    say(&format!("{name} {}", state(one.link)));
    Ok(())
}

/// The interface with this name or MAC address.
fn named(all: &[InterfaceInfo], name: &str) -> Result<InterfaceInfo, Refusal> {
    let wanted = mac(name);
    let same = |one: &&InterfaceInfo| one.interface == name || wanted.is_some() && mac(&one.mac) == wanted;
    let mut matching = all.iter().filter(same);
    match (matching.next(), matching.next(), wanted) {
        (Some(one), None, _) => Ok(one.clone()),
        (Some(_), Some(_), _) => Err(Refusal::own("multiple matching interfaces found")),
        (None, _, Some(mac)) => Err(Refusal::own(format!("Interface (mac: {}) not found.", formatted(mac)))),
        (None, _, None) => Err(Refusal::own(format!("Interface (dev: {name}) not found."))),
    }
}

fn setlink(shell: &mut Shell, args: &Args) -> Outcome {
    let all = of(shell, args)?;
    let (name, wanted) = (args.needed("interface")?, args.needed("state")?);
    let up = match wanted {
        "up" => true,
        "down" => false,
        other => return Err(Refusal::own(format!("invalid link state '{other}'"))),
    };
    let found =
        all.iter().find(|one| one.mac.eq_ignore_ascii_case(name) || one.interface.eq_ignore_ascii_case(name));
    let one = found.ok_or_else(|| Refusal::own(format!("interface '{name}' not found")))?;
    if args.has("print-xml") {
        say(&interface_xml(one, Some(up)));
        return Ok(());
    }
    let request = Request::SetLink { domain: one.domain.clone(), interface: one.interface.clone(), up };
    shell.call_or(&request, || "Failed to update interface link state".to_owned())?;
    shell.extra("Device updated successfully\n");
    Ok(())
}

fn tune(shell: &mut Shell, args: &Args) -> Outcome {
    args.exclusive("current", "live")?;
    args.exclusive("current", "config")?;
    let all = of(shell, args)?;
    let name = args.needed("interface")?;
    let inbound = args.text("inbound")?.map(rate).transpose()?;
    if let Some(rate) = inbound {
        within(rate, "inbound")?;
        if rate.average == 0 && rate.floor == 0 && (rate.burst > 0 || rate.peak > 0) {
            return Err(Refusal::own("either inbound average or floor is mandatory"));
        }
    }
    let outbound = args.text("outbound")?.map(rate).transpose()?;
    if let Some(rate) = outbound {
        within(rate, "outbound")?;
        if rate.average == 0 && (rate.burst > 0 || rate.peak > 0) {
            return Err(Refusal::own("outbound average is mandatory"));
        }
        if rate.floor > 0 {
            return Err(Refusal::own("outbound floor is unsupported yet"));
        }
    }
    if inbound.is_some() || outbound.is_some() {
        shell.writes("virDomainSetInterfaceParameters")?;
        let (domain, interface) = (args.needed("domain")?.to_owned(), name.to_owned());
        let request = Request::SetRates { domain, interface, inbound, outbound };
        return shell.call_or(&request, || "Unable to set interface parameters".to_owned()).map(drop);
    }
    let unknown = || {
        let message = format!("invalid argument: '{name}' is not a known interface");
        let failure = Failure { message, detail: None };
        Refusal::own("Unable to get number of interface parameters").with(failure)
    };
    let one = named(&all, name).map_err(|_| unknown())?;
    if args.has("json") {
        return shell.json(&serde_json::json!({ "inbound": one.inbound, "outbound": one.outbound }));
    }
    let (inbound, outbound) = (one.inbound, one.outbound);
    for (field, value) in [
        ("inbound.average", inbound.average),
        ("inbound.peak", inbound.peak),
        ("inbound.burst", inbound.burst),
        ("inbound.floor", inbound.floor),
        ("outbound.average", outbound.average),
        ("outbound.peak", outbound.peak),
        ("outbound.burst", outbound.burst),
    ] {
        say(&format!("{field:<15}: {value}\n"));
    }
    Ok(())
}

fn within(rate: Rate, direction: &str) -> Outcome {
    let most = u64::from(u32::MAX);
    if [rate.average, rate.peak, rate.burst].into_iter().any(|value| value > most) {
        return Err(Refusal::own(format!("{direction} rate larger than maximum {most}")));
    }
    Ok(())
}

fn update(shell: &mut Shell, args: &Args) -> Outcome {
    check_affect(args)?;
    let domain = name_of(shell, args)?;
    let (xml, file) = device(args)?;
    let failed = format!("Failed to update device from {file}");
    shell.call_or(&Request::UpdateDevice { domain, xml, file }, || failed)?;
    shell.extra("Device updated successfully\n");
    Ok(())
}

fn attach_device(shell: &mut Shell, args: &Args) -> Outcome {
    check_affect(args)?;
    // Not one that is known: a guest is known by its interfaces, and this may be its first.
    let domain = args.needed("domain")?.to_owned();
    let (xml, file) = device(args)?;
    let netns = args.text("netns")?.map(str::to_owned);
    let failed = format!("Failed to attach device from {file}");
    shell.call_or(&Request::AttachDevice { domain, xml, file, netns }, || failed)?;
    shell.extra("Device attached successfully\n");
    Ok(())
}

fn detach_device(shell: &mut Shell, args: &Args) -> Outcome {
    check_affect(args)?;
    let domain = name_of(shell, args)?;
    let (xml, file) = device(args)?;
    let failed = format!("Failed to detach device from {file}");
    shell.call_or(&Request::DetachDevice { domain, xml, file }, || failed)?;
    shell.extra("Device detached successfully\n");
    Ok(())
}

/// The name of a guest that has interfaces.
fn name_of(shell: &Shell, args: &Args) -> Result<String, Refusal> {
    Ok(of(shell, args)?.into_iter().next().map_or_else(String::new, |one| one.domain))
}

/// The text of the file, and its name.
fn device(args: &Args) -> Result<(String, String), Refusal> {
    let file = args.needed("file")?.to_owned();
    Ok((read_file(&file)?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_in_virsh_s_order() {
        let stats = InterfaceStats { rx_bytes: 1, tx_drop: 8, ..InterfaceStats::default() };
        let text = stat_lines("vnet0", &stats);
        assert!(text.starts_with("vnet0 rx_bytes 1\nvnet0 rx_packets 0\nvnet0 rx_errs 0\nvnet0 rx_drop 0\n"));
        assert!(text.ends_with("vnet0 tx_errs 0\nvnet0 tx_drop 8\n"));
    }

    #[test]
    fn addresses_are_compared_as_numbers() {
        assert_eq!(mac("52:54:0:AA:b:1"), Some([0x52, 0x54, 0, 0xaa, 0xb, 1]));
        for bad in ["vnet0", "52:54:00:00:00", "52:54:00:00:00:00:00", "52:54:00:00:00:zz", ""] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }
}
