//! Interfaces of guests: attached and detached.

use std::fmt::Write;

use pontoon_proto::api::{Attach, Cable, InterfaceInfo, Rate, Reply, Request};

use super::guests;
use super::leases::{self, PATIENCE, wait_for};
use crate::outcome::{Outcome, Refusal, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

pub(crate) const PERSISTENT: Opt = Opt::flag("persistent", "make live change persistent");
pub(crate) const CONFIG: Opt = Opt::flag("config", "affect next boot");
pub(crate) const LIVE: Opt = Opt::flag("live", "affect running domain");
pub(crate) const CURRENT: Opt = Opt::flag("current", "affect current domain");

const TYPES: Complete = Complete::Words(&["network", "bridge"]);

pub(crate) const ATTACH: Command = Command {
    name: "attach-interface",
    help: "attach network interface",
    about: "Attach new network interface.",
    options: &[
        Opt::domain(),
        Opt::needs("type", "network interface type").completed(TYPES),
        Opt::needs("source", "source of network interface").completed(Complete::Bridge),
        Opt::text("target", "target network name").unwanted(),
        Opt::text("mac", "MAC address").unwanted(),
        Opt::text("script", "script used to bridge network interface").unwanted().completed(Complete::File),
        Opt::text("model", "model type").unwanted(),
        Opt::text("alias", "custom alias name of interface device").unwanted(),
        Opt::text("inbound", "control domain's incoming traffics").unwanted(),
        Opt::text("outbound", "control domain's outgoing traffics").unwanted(),
        PERSISTENT,
        CONFIG,
        LIVE,
        CURRENT,
        Opt::flag("print-xml", "print XML document rather than attach the interface"),
        Opt::flag("managed", "libvirt will automatically detach/attach the device from/to host"),
        Opt::text("source-mode", "mode attribute of <source/> element")
            .unwanted()
            .completed(Complete::Words(&["server", "client"])),
        Opt::text("kind", "what the interface hangs on: tap (default), stream, dgram, vhostuser or adopt")
            .completed(Complete::Words(&["tap", "stream", "dgram", "vhostuser", "adopt"])),
        Opt::text(
            "socket",
            "where QEMU listens (stream), pontoon receives (dgram), or the two meet (vhostuser)",
        )
        .completed(Complete::File),
        Opt::text("peer", "where the guest receives (dgram); without it, whoever sends first")
            .completed(Complete::File),
        Opt::text("mode", "what pontoon is at the socket of vhostuser: server (default) or client")
            .completed(Complete::Words(&["server", "client"])),
        Opt::text("netns", "put the interface into the network namespace /run/netns/<string>"),
        Opt::JSON,
        Opt::wait("wait until the interface has a lease (30 seconds, or as many as given)"),
    ],
    examples: &[
        "pontoon attach-interface --domain node-2 --type bridge --source virbr1 --model virtio --config",
        "pontoon attach-interface node-2 network default --netns node-2 --target eth0 --wait",
        "pontoon attach-interface node-2 network default --kind stream --socket /run/node-2.sock",
        "pontoon attach-interface node-2 network default --kind vhostuser --socket /run/node-2.sock",
        "pontoon attach-interface node-2 network default --kind adopt --target tap0",
    ],
    access: Access::Writes("virDomainAttachDeviceFlags"),
    run: attach,
};

pub(crate) const DETACH: Command = Command {
    name: "detach-interface",
    help: "detach network interface",
    about: "Detach network interface.",
    options: &[
        Opt::domain(),
        Opt::needs("type", "network interface type").completed(TYPES),
        Opt::text("mac", "MAC address").unwanted().completed(Complete::Mac),
        PERSISTENT,
        CONFIG,
        LIVE,
        CURRENT,
        Opt::flag("print-xml", "print XML document rather than detach the interface"),
    ],
    examples: &["pontoon detach-interface node-2 bridge --mac 52:54:00:d7:8d:61"],
    access: Access::Writes("virDomainDetachDeviceFlags"),
    run: detach,
};

pub(crate) fn check_affect(args: &Args) -> Outcome {
    args.exclusive("persistent", "current")?;
    args.exclusive("current", "live")?;
    args.exclusive("current", "config")
}

/// What an interface is to be, as the options say it.
struct Wanted<'a> {
    kind: &'a str,
    source: &'a str,
    target: Option<&'a str>,
    mac: Option<&'a str>,
    script: Option<&'a str>,
    model: Option<&'a str>,
    alias: Option<&'a str>,
    bandwidth: String,
    managed: bool,
    mode: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn new(args: &'a Args) -> Result<Self, Refusal> {
        let kind = args.needed("type")?;
        let source = args.needed("source")?;
        let (target, mac, script) = (args.text("target")?, args.text("mac")?, args.text("script")?);
        let (model, alias) = (args.text("model")?, args.text("alias")?);
        let (inbound, outbound) = (args.text("inbound")?, args.text("outbound")?);
        let mode = args.text("source-mode")?;
        if !KNOWN_TYPES.contains(&kind) {
            return Err(unsupported(kind));
        }
        if let Some(mode) = mode.filter(|mode| !matches!(*mode, "server" | "client")) {
            return Err(Refusal::own(format!("Invalid source mode: {mode}")));
        }
        let bandwidth = bandwidth(inbound, outbound)?;
        let managed = args.has("managed");
        Ok(Self { kind, source, target, mac, script, model, alias, bandwidth, managed, mode })
    }

    /// `<interface>`, with virsh's lines in virsh's order.
    fn xml(&self) -> Result<String, Refusal> {
        let managed = if self.managed { " managed='yes'" } else { "" };
        let source = match self.kind {
            "network" | "bridge" => format!("<source {}='{}'/>", self.kind, self.source),
            "direct" => format!("<source dev='{}'/>", self.source),
            "vhostuser" => {
                let mode = self.mode.ok_or_else(|| Refusal::own("source-mode is mandatory"))?;
                format!("<source type='unix' path='{}' mode='{mode}'/>", self.source)
            }
            "hostdev" => {
                let words = "cannot parse pci address '{}' for network interface";
                return Err(Refusal::own(words.replace("{}", self.source)));
            }
            other => return Err(unsupported(other)),
        };
        let mut xml = format!("<interface type='{}'{managed}>\n  {source}\n", self.kind);
        let parts = [
            ("target dev", self.target),
            ("mac address", self.mac),
            ("script path", self.script),
            ("model type", self.model),
            ("alias name", self.alias),
        ];
        for (what, value) in parts {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = writeln!(xml, "  <{what}='{value}'/>");
            }
        }
        if !self.bandwidth.is_empty() {
            xml.push_str("  <bandwidth>\n");
            for line in self.bandwidth.lines() {
                let _ = writeln!(xml, "    {line}");
            }
            xml.push_str("  </bandwidth>\n");
        }
        xml.push_str("</interface>\n");
        Ok(xml)
    }
}

const KNOWN_TYPES: &[&str] = &[
    "user",
    "ethernet",
    "vhostuser",
    "server",
    "client",
    "mcast",
    "network",
    "bridge",
    "internal",
    "direct",
    "hostdev",
    "udp",
    "vdpa",
    "null",
    "vds",
];

fn unsupported(kind: &str) -> Refusal {
    Refusal::own(format!("No support for {kind} in command 'attach-interface'"))
}

/// `average,peak,burst,floor`; all but the first may be left out or empty.
pub(crate) fn rate(text: &str) -> Result<Rate, Refusal> {
    let fields: Vec<&str> = text.split(',').collect();
    if fields.len() > 4 {
        return Err(Refusal::own(format!("Rate string '{text}' has too many fields")));
    }
    let field = |index: usize, name: &str| match fields.get(index).copied().unwrap_or_default() {
        "" => Ok(0),
        digits => digits.parse().map_err(|_| Refusal::own(format!("field '{name}' is malformed"))),
    };
    Ok(Rate {
        average: field(0, "average")?,
        peak: field(1, "peak")?,
        burst: field(2, "burst")?,
        floor: field(3, "floor")?,
    })
}

/// The children of `<bandwidth>`.
fn bandwidth(inbound: Option<&str>, outbound: Option<&str>) -> Result<String, Refusal> {
    let inbound = inbound.map(rate).transpose()?;
    if inbound.as_ref().is_some_and(|rate| rate.average == 0 && rate.floor == 0) {
        return Err(Refusal::own("either inbound average or floor is mandatory"));
    }
    let outbound = outbound.map(rate).transpose()?;
    if outbound.as_ref().is_some_and(|rate| rate.average == 0) {
        return Err(Refusal::own("outbound average is mandatory"));
    }
    if outbound.as_ref().is_some_and(|rate| rate.floor != 0) {
        return Err(Refusal::own("outbound floor is unsupported yet"));
    }
    let line = |name: &str, rate: &Rate| {
        let fields =
            [("average", rate.average), ("peak", rate.peak), ("burst", rate.burst), ("floor", rate.floor)];
        let set = fields.iter().filter(|(_, value)| *value > 0);
        let set: String = set.map(|(field, value)| format!(" {field}='{value}'")).collect();
        format!("<{name}{set}/>\n")
    };
    let lines = [inbound.map(|rate| line("inbound", &rate)), outbound.map(|rate| line("outbound", &rate))];
    Ok(lines.into_iter().flatten().collect())
}

fn attach(shell: &mut Shell, args: &Args) -> Outcome {
    check_affect(args)?;
    let wanted = Wanted::new(args)?;
    let xml = wanted.xml()?;
    if args.has("print-xml") {
        say(&xml);
        return Ok(());
    }
    let patience = args.wait(PATIENCE)?;
    let domain = args.needed("domain")?;
    let own = |text: Option<&str>| text.map(str::to_owned);
    let request = Request::AttachInterface(Box::new(Attach {
        domain: domain.to_owned(),
        kind: wanted.kind.to_owned(),
        source: wanted.source.to_owned(),
        target: own(wanted.target),
        mac: own(wanted.mac),
        netns: own(args.text("netns")?),
        model: own(wanted.model),
        alias: own(wanted.alias),
        script: own(wanted.script),
        cable: cable(args)?,
        bandwidth: Some(wanted.bandwidth).filter(|text| !text.is_empty()),
    }));
    let failed = || "Failed to attach interface".to_owned();
    let Reply::Attached { interface, mac, network, .. } = shell.call_or(&request, failed)? else {
        return Err(Refusal::own(failed()));
    };
    let mut lease = None;
    if let Some(seconds) = patience {
        if !gives_leases(shell, domain, &interface)? {
            let words = format!("interface {interface} is attached, but network {network} gives no leases");
            return Err(Refusal::own(words));
        }
        let find = || Ok(leases::of(shell, &network, Some(&mac), failed)?.into_iter().next());
        lease = wait_for(seconds, find)?;
        if lease.is_none() {
            let words = format!("interface {interface} is attached but has no lease after {seconds} seconds");
            return Err(Refusal::own(words));
        }
    }
    if args.has("json") {
        return shell.json(&serde_json::json!({
            "domain": domain, "interface": interface, "mac": mac, "network": network, "lease": lease,
        }));
    }
    shell.extra("Interface attached successfully\n");
    Ok(())
}

/// What it hangs on, if that is said.
fn cable(args: &Args) -> Result<Option<Cable>, Refusal> {
    let own = |name| Ok::<_, Refusal>(args.text(name)?.map(str::to_owned));
    let (kind, socket, peer) = (own("kind")?, own("socket")?, own("peer")?);
    let mode = own("mode")?;
    if kind.is_none() && mode.is_some() {
        return Err(Refusal::own("--mode needs --kind vhostuser"));
    }
    if kind.is_none() && (socket.is_some() || peer.is_some()) {
        return Err(Refusal::own("--socket and --peer need --kind stream or --kind dgram"));
    }
    Ok(kind.map(|kind| Cable { kind, socket, peer, mode }))
}

fn gives_leases(shell: &Shell, domain: &str, interface: &str) -> Result<bool, Refusal> {
    match shell.call(&Request::Interfaces { domain: Some(domain.to_owned()) })? {
        Reply::Interfaces { interfaces } => {
            Ok(interfaces.iter().any(|one| one.interface == interface && one.dhcp))
        }
        other => Err(strange(&other)),
    }
}

fn detach(shell: &mut Shell, args: &Args) -> Outcome {
    check_affect(args)?;
    let all = guests::of(shell, args)?;
    let (kind, mac) = (args.needed("type")?, args.text("mac")?);
    let failed = |refusal: Refusal| match args.has("print-xml") {
        true => refusal,
        false => refusal.and("Failed to detach interface"),
    };
    let one = pick(&all, kind, mac).map_err(failed)?;
    if args.has("print-xml") {
        say(&guests::interface_xml(one, None));
        return Ok(());
    }
    let request = Request::DetachInterface {
        domain: one.domain.clone(),
        kind: one.kind.clone(),
        mac: Some(one.mac.clone()),
    };
    match shell.call_or(&request, || "Failed to detach interface".to_owned())? {
        Reply::Done { .. } => {
            shell.extra("Interface detached successfully\n");
            Ok(())
        }
        other => Err(strange(&other)),
    }
}

/// The one interface that is meant.
fn pick<'a>(all: &'a [InterfaceInfo], kind: &str, mac: Option<&str>) -> Result<&'a InterfaceInfo, Refusal> {
    let of_kind: Vec<_> = all.iter().filter(|interface| interface.kind == kind).collect();
    let Some(mac) = mac else {
        return match of_kind.as_slice() {
            [] => Err(none_of(all, kind)),
            [one] => Ok(one),
            several => {
                let list = several.iter().map(|one| format!("  {}  {}", one.mac, one.interface));
                let words = "Domain has {} interfaces. Please specify which one to detach using --mac";
                Err(Refusal::own(words.replace("{}", &several.len().to_string()))
                    .hint(Some(list.collect::<Vec<_>>().join("\n"))))
            }
        };
    };
    if of_kind.is_empty() {
        return Err(none_of(all, kind));
    }
    let wanted = guests::mac(mac);
    let matching: Vec<_> =
        of_kind.into_iter().filter(|one| wanted.is_some() && guests::mac(&one.mac) == wanted).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(Refusal::own(format!("No interface with MAC address {mac} was found"))),
        _ => Err(Refusal::own(format!(
            "Domain has multiple interfaces matching MAC address {mac}. You must use detach-device and specify the \
             device pci address to remove it."
        ))),
    }
}

fn none_of(all: &[InterfaceInfo], kind: &str) -> Refusal {
    let other = all.iter().find(|one| one.kind != kind);
    let hint = other.map(|one| format!("interface {} is of type {}", one.interface, one.kind));
    Refusal::own(format!("No interface found whose type is {kind}")).hint(hint)
}

/// A guest the daemon does not know. virsh says no more since 2.3.
pub(crate) fn no_domain(name: &str) -> Refusal {
    Refusal::own(format!("failed to get domain '{name}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, kind: &str, mac: &str) -> InterfaceInfo {
        InterfaceInfo {
            interface: name.into(),
            kind: kind.into(),
            mac: mac.into(),
            ..InterfaceInfo::default()
        }
    }

    fn first(refusal: &Refusal) -> String {
        refusal.lines().first().cloned().unwrap_or_default()
    }

    #[test]
    fn rates_are_read_as_virsh_reads_them() {
        let rate = rate("1000,,5").expect("rate");
        assert_eq!(rate, Rate { average: 1000, burst: 5, ..Rate::default() });
        let text = bandwidth(Some("1000,2000,5,9"), Some("7")).expect("bandwidth");
        let lines = "<inbound average='1000' peak='2000' burst='5' floor='9'/>\n<outbound average='7'/>\n";
        assert_eq!(text, lines);
        for (inbound, outbound, words) in [
            (Some("1,2,3,4,5"), None, "error: Rate string '1,2,3,4,5' has too many fields"),
            (Some("x"), None, "error: field 'average' is malformed"),
            (Some(",1"), None, "error: either inbound average or floor is mandatory"),
            (None, Some("0,1"), "error: outbound average is mandatory"),
            (None, Some("1,,,1"), "error: outbound floor is unsupported yet"),
        ] {
            assert_eq!(first(&bandwidth(inbound, outbound).expect_err(words)), words);
        }
    }

    #[test]
    fn the_interface_meant_is_picked_by_type_and_address() {
        let all = [
            interface("vnet0", "network", "52:54:00:00:00:01"),
            interface("vnet1", "bridge", "52:54:00:00:00:02"),
            interface("vnet2", "bridge", "52:54:00:00:00:03"),
        ];
        let name = |kind, mac| pick(&all, kind, mac).map(|one| one.interface.clone()).map_err(|r| first(&r));
        assert_eq!(name("network", None), Ok("vnet0".to_owned()));
        assert_eq!(name("bridge", Some("52:54:0:0:0:3")), Ok("vnet2".to_owned()));
        assert_eq!(
            name("bridge", None),
            Err("error: Domain has 2 interfaces. Please specify which one to detach using --mac".to_owned())
        );
        assert_eq!(
            name("bridge", Some("52:54:00:00:00:01")),
            Err("error: No interface with MAC address 52:54:00:00:00:01 was found".to_owned())
        );
        assert_eq!(name("direct", None), Err("error: No interface found whose type is direct".to_owned()));
    }
}
