//! `net-define-as`: a network from options, for those who do not want to write XML.

use std::fmt::Write;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use pontoon_proto::api::{Reply, Request};

use super::shell_verbs::escape_xml;
use crate::outcome::{Outcome, Refusal, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

pub(crate) const DEFINE_AS: Command = Command {
    name: "net-define-as",
    help: "define a persistent network from options",
    about: "Define a persistent virtual network without writing XML; --print-xml shows what it is.",
    options: &[
        Opt::needs("name", "name of the network"),
        Opt::flag("nat", "guests reach outside through one address (default with --uplink)"),
        Opt::flag("isolated", "guests reach each other and the host only (default)"),
        Opt::flag("route", "guests reach outside with their own addresses"),
        Opt::text(
            "subnet",
            "subnet of the guests, as 192.168.150.0/24, or auto for one that is free (default)",
        )
        .completed(Complete::Words(&["auto"])),
        Opt::text("uplink", "interface of the host that traffic leaves by"),
        Opt::text("uplink-address", "address on the uplink, as 203.0.113.2/24 (default: by DHCP)"),
        Opt::text("uplink-gateway", "gateway on the uplink"),
        Opt::text("bridge", "name of the host's interface (default: the next free virbrN)"),
        Opt::text("domain", "DNS domain of the guests"),
        Opt::flag("dhcp", "give the guests addresses (default)"),
        Opt::flag("no-dhcp", "do not"),
        Opt::flag("print-xml", "print XML document rather than define the network"),
    ],
    examples: &[
        "pontoon net-define-as lab --isolated",
        "pontoon net-define-as office --nat --uplink eth1 --subnet 192.168.150.0/24",
    ],
    access: Access::Writes("virNetworkDefineXML"),
    run: define_as,
};

fn define_as(shell: &mut Shell, args: &Args) -> Outcome {
    for (one, other) in [
        ("nat", "isolated"),
        ("nat", "route"),
        ("isolated", "route"),
        ("dhcp", "no-dhcp"),
        ("isolated", "uplink"),
    ] {
        args.exclusive(one, other)?;
    }
    let subnet = match args.text("subnet")? {
        None | Some("auto") => match shell.call(&Request::FreeSubnet)? {
            Reply::Subnet { subnet } => subnet,
            other => return Err(strange(&other)),
        },
        Some(text) => given_subnet(text)?,
    };
    let xml = definition(args, subnet)?;
    if args.has("print-xml") {
        say(&xml);
        return Ok(());
    }
    let name = args.needed("name")?;
    let request = Request::NetDefine { xml, file: name.to_owned(), validate: false };
    match shell.call_or(&request, || format!("Failed to define network {name}"))? {
        Reply::Defined { name, .. } => {
            shell.extra(&format!("Network {name} defined with subnet {subnet}\n"));
            Ok(())
        }
        other => Err(strange(&other)),
    }
}

fn given_subnet(text: &str) -> Result<Ipv4Net, Refusal> {
    let bad =
        || Refusal::own(format!("'{text}' is not a subnet like 192.168.150.0/24 of prefix length 8 to 30"));
    let subnet: Ipv4Net = text.parse().map_err(|_| bad())?;
    if (8..=30).contains(&subnet.prefix_len()) { Ok(subnet.trunc()) } else { Err(bad()) }
}

/// The gateway is the first address; guests have all others.
fn definition(args: &Args, subnet: Ipv4Net) -> Result<String, Refusal> {
    let uplink = args.text("uplink")?;
    let mode = match (args.has("route"), args.has("nat") || uplink.is_some() && !args.has("isolated")) {
        (true, _) => Some("route"),
        (_, true) => Some("nat"),
        _ => None,
    };
    let mut xml = format!("<network>\n  <name>{}</name>\n", escape_xml(args.needed("name")?));
    // Writing to a String cannot fail.
    if let Some(mode) = mode {
        let _ = writeln!(xml, "  <forward mode='{mode}'/>");
    }
    if let Some(dev) = uplink {
        let _ = write!(
            xml,
            "  <pontoon:uplink xmlns:pontoon='{NAMESPACE}' kind='direct' dev='{}'",
            escape_xml(dev)
        );
        for (option, attribute) in [("uplink-address", "address"), ("uplink-gateway", "gateway")] {
            if let Some(value) = args.text(option)? {
                let _ = write!(xml, " {attribute}='{}'", escape_xml(value));
            }
        }
        xml.push_str("/>\n");
    }
    if let Some(bridge) = args.text("bridge")? {
        let _ = writeln!(xml, "  <bridge name='{}' stp='on' delay='0'/>", escape_xml(bridge));
    }
    if let Some(domain) = args.text("domain")? {
        let _ = writeln!(xml, "  <domain name='{}'/>", escape_xml(domain));
    }
    let first = u32::from(subnet.network()) + 1;
    let _ = writeln!(xml, "  <ip address='{}' netmask='{}'>", Ipv4Addr::from(first), subnet.netmask());
    if !args.has("no-dhcp") {
        // libvirt takes ranges of at most 65535 addresses.
        let last = (u32::from(subnet.broadcast()) - 1).min(first + 65_535);
        let (start, end) = (Ipv4Addr::from(first + 1), Ipv4Addr::from(last));
        let _ = writeln!(xml, "    <dhcp>\n      <range start='{start}' end='{end}'/>\n    </dhcp>");
    }
    xml.push_str("  </ip>\n</network>\n");
    Ok(xml)
}

const NAMESPACE: &str = "urn:pontoon:network:1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vsh::parse::{Words, parse};

    fn xml(words: &str) -> Result<String, String> {
        let words = std::iter::once("net-define-as").chain(words.split(' ')).map(str::to_owned);
        let args = parse(&mut Words(words), &|_| Ok(&DEFINE_AS)).expect("options");
        let subnet = given_subnet("192.168.150.7/24").map_err(|refusal| refusal.lines().join("\n"))?;
        definition(args.first().expect("one"), subnet).map_err(|refusal| refusal.lines().join("\n"))
    }

    #[test]
    fn options_make_the_definition() {
        let expected = "<network>
  <name>lab</name>
  <ip address='192.168.150.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.150.2' end='192.168.150.254'/>
    </dhcp>
  </ip>
</network>
";
        assert_eq!(xml("lab").as_deref(), Ok(expected));
        let expected = "<network>
  <name>lab</name>
  <forward mode='nat'/>
  <pontoon:uplink xmlns:pontoon='urn:pontoon:network:1' kind='direct' dev='eth1' address='203.0.113.2/24'/>
  <bridge name='virbr9' stp='on' delay='0'/>
  <ip address='192.168.150.1' netmask='255.255.255.0'>
  </ip>
</network>
";
        let words = "lab --uplink eth1 --uplink-address 203.0.113.2/24 --bridge virbr9 --no-dhcp";
        assert_eq!(xml(words).as_deref(), Ok(expected));
    }

    #[test]
    fn subnets_are_checked() {
        assert_eq!(
            given_subnet("10.1.2.3/16").ok().map(|net| net.to_string()).as_deref(),
            Some("10.1.0.0/16")
        );
        for bad in ["10.0.0.0", "10.0.0.0/31", "10.0.0.0/4", "x"] {
            assert!(given_subnet(bad).is_err(), "{bad}");
        }
    }
}
