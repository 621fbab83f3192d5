//! Ports of networks.

use pontoon_proto::api::{Reply, Request};

use super::network::{print_xml, read_file};
use crate::outcome::{Outcome, Refusal, say};
use crate::tables;
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

const PORT: Opt = Opt::needs("port", "port UUID").completed(Complete::Port);

pub(crate) const LIST: Command = Command {
    name: "net-port-list",
    help: "list network ports",
    about: "Returns list of network ports.",
    options: &[
        Opt::network(),
        Opt::flag("uuid", "list uuid's only"),
        Opt::flag("table", "list table (default)"),
        Opt::flag(
            "details",
            "also what each port hangs on, its peer and link, and what is agreed with its other side",
        ),
        Opt::JSON,
    ],
    examples: &["pontoon net-port-list default", "pontoon net-port-list default --json"],
    access: Access::Reads,
    run: list,
};

pub(crate) const CREATE: Command = Command {
    name: "net-port-create",
    help: "create a network port from an XML file",
    about: "Create a network port.",
    options: &[
        Opt::network(),
        Opt::file("file containing an XML network port description"),
        Opt::flag("validate", "validate the XML against the schema"),
    ],
    examples: &["pontoon net-port-create default port.xml"],
    access: Access::Writes("virNetworkPortCreateXML"),
    run: create,
};

pub(crate) const DUMPXML: Command = Command {
    name: "net-port-dumpxml",
    help: "network port information in XML",
    about: "Output the network port information as an XML dump to stdout.",
    options: &[
        Opt::network(),
        PORT,
        Opt::text("xpath", "xpath expression to filter the XML document"),
        Opt::flag("wrap", "wrap xpath results in an common root element"),
        Opt::JSON,
    ],
    examples: &["pontoon net-port-dumpxml default 5d744f21-ba4a-4d6e-bdb2-30a35ff3207d"],
    access: Access::Reads,
    run: dumpxml,
};

pub(crate) const DELETE: Command = Command {
    name: "net-port-delete",
    help: "delete the specified network port",
    about: "Delete the specified network port.",
    options: &[Opt::network(), PORT],
    examples: &["pontoon net-port-delete default 5d744f21-ba4a-4d6e-bdb2-30a35ff3207d"],
    access: Access::Writes("virNetworkPortDelete"),
    run: delete,
};

fn list(shell: &mut Shell, args: &Args) -> Outcome {
    if args.has("table") && args.has("uuid") {
        return Err(Refusal::own("Only one argument from --table and --uuid may be specified."));
    }
    let network = shell.network(args)?;
    let details = args.has("details") || args.has("json");
    let ports = match shell.call(&Request::NetPorts { network: network.uuid, details })? {
        Reply::Ports { mut ports } => {
            ports.sort_by(|one, other| one.uuid.cmp(&other.uuid));
            ports
        }
        other => return Err(strange(&other)),
    };
    if args.has("json") {
        return shell.json(&ports);
    }
    if args.has("uuid") {
        say(&ports.iter().map(|port| format!("{}\n", port.uuid)).collect::<String>());
    } else {
        say(&tables::ports(&ports, args.has("details"), shell.quiet));
    }
    Ok(())
}

fn create(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    let file = args.needed("file")?.to_owned();
    let (xml, validate) = (read_file(&file)?, args.has("validate"));
    let request = Request::NetPortCreate { network: network.uuid, xml, file: file.clone(), validate };
    match shell.call_or(&request, || format!("Failed to create network from {file}"))? {
        Reply::PortCreated { uuid } => {
            shell.extra(&format!("Network port {uuid} created from {file}\n"));
            Ok(())
        }
        other => Err(strange(&other)),
    }
}

/// The XML of a port of a network, both named by options.
fn port_xml(shell: &Shell, network: &str, port: &str) -> Result<String, Refusal> {
    let request = Request::NetPortDumpxml { network: network.to_owned(), port: port.to_owned() };
    match shell.call_or(&request, || format!("failed to get network port '{port}'"))? {
        Reply::Xml { xml } => Ok(xml),
        other => Err(strange(&other)),
    }
}

fn dumpxml(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    let xml = port_xml(shell, &network.uuid, args.needed("port")?)?;
    print_xml(shell, args, xml)
}

fn delete(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?.uuid;
    let port = args.needed("port")?.to_lowercase();
    port_xml(shell, &network, &port)?;
    let request = Request::NetPortDelete { network, port: port.clone() };
    shell.call_or(&request, || format!("Failed to delete network port {port}"))?;
    shell.extra(&format!("Network port {port} deleted\n"));
    Ok(())
}
