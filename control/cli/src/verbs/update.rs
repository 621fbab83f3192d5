//! Parts of networks: `net-edit`, `net-update`, `net-desc`, `net-metadata`.

use pontoon_proto::api::{Affect, MetadataKind, Reply, Request};

use super::editor;
use super::network::read_file;
use crate::client::is_connection;
use crate::outcome::{Outcome, Refusal, say};
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, refused, strange};
use crate::vsh::table::{Access, Command, Complete, Opt};

const COMMANDS: &[&str] = &["modify", "delete", "add-last", "add-first"];
const SECTIONS: &[&str] = &[
    "bridge",
    "domain",
    "ip",
    "ip-dhcp-host",
    "ip-dhcp-range",
    "forward",
    "forward-interface",
    "forward-pf",
    "portgroup",
    "dns-host",
    "dns-txt",
    "dns-srv",
    "port-forward",
];

pub(crate) const EDIT: Command = Command {
    name: "net-edit",
    help: "edit XML configuration for a network",
    about: "Edit the XML configuration for a network.",
    options: &[Opt::network()],
    examples: &["EDITOR=nano pontoon net-edit default"],
    access: Access::Writes("virNetworkDefineXML"),
    run: edit,
};

pub(crate) const UPDATE: Command = Command {
    name: "net-update",
    help: "update parts of an existing network's configuration",
    about: "",
    options: &[
        Opt::network(),
        Opt::needs("command", "type of update (add-first, add-last (add), delete, or modify)")
            .completed(Complete::Words(&["add", "add-first", "add-last", "delete", "modify"])),
        Opt::needs("section", "which section of network configuration to update")
            .completed(Complete::Words(SECTIONS)),
        Opt::needs(
            "xml",
            "name of file containing xml (or, if it starts with '<', the complete xml element itself) to add/modify, \
             or to be matched for search",
        )
        .completed(Complete::File),
        Opt::number("parent-index", "which parent object to search through").unwanted(),
        Opt::flag("config", "affect next network startup"),
        Opt::flag("live", "affect running network"),
        Opt::flag("current", "affect current state of network"),
    ],
    examples: &[
        "pontoon net-update default add ip-dhcp-host \"<host mac='52:54:00:d7:8d:61' ip='192.168.122.50'/>\" --live --config",
        "pontoon net-update default delete dns-host old-host.xml --config",
    ],
    access: Access::Writes("virNetworkUpdate"),
    run: update,
};

pub(crate) const DESC: Command = Command {
    name: "net-desc",
    help: "show or set network's description or title",
    about: "Allows setting or modifying the description or title of a network.",
    options: &[
        Opt::network(),
        Opt::flag("live", "modify/get running state"),
        Opt::flag("config", "modify/get persistent configuration"),
        Opt::flag("current", "modify/get current state configuration"),
        Opt::flag("title", "modify/get the title instead of description"),
        Opt::flag("edit", "open an editor to modify the description"),
        Opt::JSON,
        Opt::words("new-desc", "message"),
    ],
    examples: &["pontoon net-desc default --title Guests of the lab --config", "pontoon net-desc default"],
    access: Access::Reads,
    run: desc,
};

pub(crate) const METADATA: Command = Command {
    name: "net-metadata",
    help: "show or set network's custom XML metadata",
    about: "Shows or modifies the XML metadata of a network.",
    options: &[
        Opt::network(),
        Opt::needs("uri", "URI of the namespace"),
        Opt::flag("live", "modify/get running state"),
        Opt::flag("config", "modify/get persistent configuration"),
        Opt::flag("current", "modify/get current state configuration"),
        Opt::flag("edit", "use an editor to change the metadata"),
        Opt::text("key", "key to be used as a namespace identifier").unwanted(),
        Opt::text("set", "new metadata to set").unwanted(),
        Opt::flag("remove", "remove the metadata corresponding to an uri"),
        Opt::JSON,
    ],
    examples: &[
        "pontoon net-metadata default http://example.org/app --key app --set '<owner>me</owner>' --config",
        "pontoon net-metadata default http://example.org/app",
    ],
    access: Access::Reads,
    run: metadata,
};

pub(super) fn affect(args: &Args) -> Result<Affect, Refusal> {
    args.exclusive("current", "live")?;
    args.exclusive("current", "config")?;
    Ok(Affect { live: args.has("live"), config: args.has("config") })
}

fn edit(shell: &mut Shell, args: &Args) -> Outcome {
    // Before somebody has edited in vain.
    shell.writes("virNetworkDefineXML")?;
    let network = shell.network(args)?;
    let read = || match shell.call(&Request::NetDumpxml { network: network.uuid.clone(), inactive: true })? {
        Reply::Xml { xml } => Ok(xml),
        other => Err(strange(&other)),
    };
    let write = |xml: &str| {
        let (xml, file) = (xml.to_owned(), network.name.clone());
        match shell.call(&Request::NetDefine { xml, file, validate: false })? {
            Reply::Defined { name, .. } => Ok(name),
            other => Err(strange(&other)),
        }
    };
    match editor::edit(read, write)? {
        Some(name) => shell.extra(&format!("Network {name} XML configuration edited.\n")),
        None => shell.extra(&format!("Network {} XML configuration not changed.\n", network.name)),
    }
    Ok(())
}

fn update(shell: &mut Shell, args: &Args) -> Outcome {
    let affect = affect(args)?;
    let network = shell.network(args)?;
    let command = args.needed("command")?;
    let command = if command == "add" { "add-last" } else { command };
    if !COMMANDS.contains(&command) {
        return Err(Refusal::own(format!("unrecognized command name '{command}'")));
    }
    let section = args.needed("section")?;
    if !SECTIONS.contains(&section) {
        return Err(Refusal::own(format!("unrecognized section name '{section}'")));
    }
    let parent_index = args.integer("parent-index")?.unwrap_or(-1);
    let given = args.needed("xml")?;
    let inline = given.starts_with('<');
    let xml = if inline { given.to_owned() } else { read_file(given)? };
    let request = Request::NetUpdate {
        network: network.uuid,
        command: command.to_owned(),
        section: section.to_owned(),
        xml,
        parent_index,
        affect,
        file: if inline { "--xml".to_owned() } else { given.to_owned() },
    };
    let name = network.name;
    shell.call_or(&request, || format!("Failed to update network {name}"))?;
    // As virsh's, these lines are not ended: the empty line after the command ends them.
    shell.extra(&match (affect.config, affect.live || (!affect.config && network.active)) {
        (true, true) => format!("Updated network {name} persistent config and live state"),
        (false, true) => format!("Updated network {name} live state"),
        _ => format!("Updated network {name} persistent config"),
    });
    Ok(())
}

/// A title, description or element; `None` when there is none.
fn get(shell: &Shell, network: &str, kind: MetadataKind, affect: Affect) -> Result<Option<String>, Refusal> {
    match shell.ask(&Request::NetGetMetadata { network: network.to_owned(), kind, affect }) {
        Ok(Reply::Text { text }) => Ok(Some(text)),
        Ok(other) => Err(strange(&other)),
        Err(failure) if failure.message.starts_with("metadata not found") => Ok(None),
        Err(failure) => Err(refused(failure)),
    }
}

fn desc(shell: &mut Shell, args: &Args) -> Outcome {
    let affect = affect(args)?;
    let network = shell.network(args)?;
    let title = args.has("title");
    let (kind, what) =
        if title { (MetadataKind::Title, "title") } else { (MetadataKind::Description, "description") };
    let given = args.words("new-desc");
    let changes = given.is_some() || args.has("edit");
    // One text is read, also where two are to be changed; virsh refuses that.
    let read = if changes && affect.live { Affect { config: false, ..affect } } else { affect };
    let present = get(shell, &network.uuid, kind.clone(), read)?.unwrap_or_default();
    if !changes {
        if args.has("json") {
            return shell.json(&serde_json::json!({ what: present }));
        }
        if present.is_empty() {
            shell.extra(&format!("No {what} for network: {}", network.name));
        } else {
            say(&present);
        }
        return Ok(());
    }
    shell.writes("virNetworkSetMetadata")?;
    let mut wanted = given.unwrap_or_else(|| present.clone());
    if args.has("edit") {
        wanted = editor::edit_text(&wanted)?;
        if wanted == present {
            shell.extra(&format!("Network {what} not changed\n"));
            return Ok(());
        }
    }
    let value = Some(wanted).filter(|text| !text.is_empty());
    let request = Request::NetSetMetadata { network: network.uuid, kind, value, affect };
    shell.call_or(&request, || format!("Failed to set new network {what}"))?;
    shell.extra(&format!("Network {what} updated successfully"));
    Ok(())
}

fn metadata(shell: &mut Shell, args: &Args) -> Outcome {
    let affect = affect(args)?;
    args.exclusive("edit", "set")?;
    args.exclusive("remove", "set")?;
    args.exclusive("remove", "edit")?;
    let network = shell.network(args)?.uuid;
    let (uri, key, set) = (args.needed("uri")?, args.text("key")?, args.text("set")?);
    let editing = args.has("edit");
    if (set.is_some() || editing) && key.is_none() {
        return Err(Refusal::own("namespace key is required when modifying metadata"));
    }
    let kind = MetadataKind::Element { uri: uri.to_owned(), key: key.map(str::to_owned) };
    let write = |value: Option<&str>| {
        let (network, kind) = (network.clone(), kind.clone());
        let value = value.map(str::to_owned);
        shell.call(&Request::NetSetMetadata { network, kind, value, affect }).map(drop)
    };
    if set.is_some() || args.has("remove") {
        shell.writes("virNetworkSetMetadata")?;
        write(set)?;
        shell.extra(if set.is_some() { "Metadata modified\n" } else { "Metadata removed\n" });
    } else if editing {
        shell.writes("virNetworkSetMetadata")?;
        let read = || Ok(get(shell, &network, kind.clone(), affect)?.unwrap_or_else(|| "\n".to_owned()));
        let edited = editor::edit(read, |xml| write(Some(xml)))?;
        shell.extra(if edited.is_some() { "Metadata modified\n" } else { "Metadata not changed" });
    } else {
        let request = Request::NetGetMetadata { network, kind, affect };
        let text = match shell.ask(&request) {
            Ok(Reply::Text { text }) => text,
            Ok(other) => return Err(strange(&other)),
            Err(failure) if is_connection(&failure) => return Err(refused(failure)),
            Err(failure) => return Err(Refusal::library(failure)),
        };
        if args.has("json") {
            return shell.json(&serde_json::json!({ "uri": uri, "xml": text }));
        }
        say(&format!("{text}\n"));
    }
    Ok(())
}
