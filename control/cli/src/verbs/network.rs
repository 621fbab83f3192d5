//! Networks: defined, started, stopped, listed, described.

use std::io::Read;

use pontoon_proto::api::{NetworkInfo, Reply, Request};

use crate::client::plain;
use crate::encoding::{self, Undecoded};
use crate::outcome::{Outcome, Refusal, say};
use crate::tables;
use crate::vsh::parse::Args;
use crate::vsh::shell::{Shell, refused, strange};
use crate::vsh::table::{Access, Command, Opt};
use crate::xpath;

/// Largest XML file read.
const MAX_XML: u64 = 10 << 20;

const VALIDATE: Opt = Opt::flag("validate", "validate the XML against the schema");

pub(crate) const AUTOSTART: Command = Command {
    name: "net-autostart",
    help: "autostart a network",
    about: "Configure a network to be automatically started at boot.",
    options: &[Opt::network(), Opt::flag("disable", "disable autostarting")],
    examples: &["pontoon net-autostart default", "pontoon net-autostart default --disable"],
    access: Access::Writes("virNetworkSetAutostart"),
    run: autostart,
};

pub(crate) const CREATE: Command = Command {
    name: "net-create",
    help: "create a network from an XML file",
    about: "Create a network.",
    options: &[Opt::file("file containing an XML network description"), VALIDATE],
    examples: &["pontoon net-create lab.xml"],
    access: Access::Writes("virNetworkCreateXML"),
    run: create,
};

pub(crate) const DEFINE: Command = Command {
    name: "net-define",
    help: "define an inactive persistent virtual network or modify an existing persistent one from an XML file",
    about: "Define or modify a persistent virtual network.",
    options: &[Opt::file("file containing an XML network description"), VALIDATE],
    examples: &[
        "pontoon net-define nat.xml",
        "pontoon net-dumpxml default --inactive | pontoon net-define /dev/stdin",
    ],
    access: Access::Writes("virNetworkDefineXML"),
    run: define,
};

pub(crate) const DESTROY: Command = Command {
    name: "net-destroy",
    help: "destroy (stop) a network",
    about: "Forcefully stop a given network.",
    options: &[Opt::network()],
    examples: &["pontoon net-destroy default"],
    access: Access::Writes("virNetworkDestroy"),
    run: destroy,
};

pub(crate) const DUMPXML: Command = Command {
    name: "net-dumpxml",
    help: "network information in XML",
    about: "Output the network information as an XML dump to stdout.",
    options: &[
        Opt::network(),
        Opt::flag("inactive", "show inactive defined XML"),
        Opt::text("xpath", "xpath expression to filter the XML document"),
        Opt::flag("wrap", "wrap xpath results in an common root element"),
        Opt::JSON,
    ],
    examples: &["pontoon net-dumpxml default", "pontoon net-dumpxml default --inactive --xpath //dhcp/range"],
    access: Access::Reads,
    run: dumpxml,
};

pub(crate) const INFO: Command = Command {
    name: "net-info",
    help: "network information",
    about: "Returns basic information about the network",
    options: &[Opt::network(), Opt::JSON],
    examples: &["pontoon net-info default", "pontoon net-info default --json"],
    access: Access::Reads,
    run: info,
};

pub(crate) const LIST: Command = Command {
    name: "net-list",
    help: "list networks",
    about: "Returns list of networks.",
    options: &[
        Opt::flag("inactive", "list inactive networks"),
        Opt::flag("all", "list inactive & active networks"),
        Opt::flag("persistent", "list persistent networks"),
        Opt::flag("transient", "list transient networks"),
        Opt::flag("autostart", "list networks with autostart enabled"),
        Opt::flag("no-autostart", "list networks with autostart disabled"),
        Opt::flag("uuid", "list uuid's only"),
        Opt::flag("name", "list network names only"),
        Opt::flag("table", "list table (default)"),
        Opt::flag("title", "show network title"),
        Opt::FORMAT,
        Opt::JSON,
    ],
    examples: &[
        "pontoon net-list --all",
        "pontoon net-list --name --autostart",
        "pontoon net-list --all --json",
    ],
    access: Access::Reads,
    run: list,
};

pub(crate) const NAME: Command = Command {
    name: "net-name",
    help: "convert a network UUID to network name",
    about: "",
    options: &[Opt::needs("network", "network uuid"), Opt::JSON],
    examples: &["pontoon net-name 8f7e6477-61df-4468-83fc-966d41d22302"],
    access: Access::Reads,
    run: name,
};

pub(crate) const START: Command = Command {
    name: "net-start",
    help: "start a (previously defined) inactive network",
    about: "Start a network.",
    options: &[Opt::network()],
    examples: &["pontoon net-start default"],
    access: Access::Writes("virNetworkCreate"),
    run: start,
};

pub(crate) const UNDEFINE: Command = Command {
    name: "net-undefine",
    help: "undefine a persistent network",
    about: "Undefine the configuration for a persistent network.",
    options: &[Opt::network()],
    examples: &["pontoon net-undefine lab"],
    access: Access::Writes("virNetworkUndefine"),
    run: undefine,
};

pub(crate) const UUID: Command = Command {
    name: "net-uuid",
    help: "convert a network name to network UUID",
    about: "",
    options: &[
        Opt::needs("network", "network name").completed(crate::vsh::table::Complete::Network),
        Opt::JSON,
    ],
    examples: &["pontoon net-uuid default"],
    access: Access::Reads,
    run: uuid,
};

/// Reads a file of XML.
pub(crate) fn read_file(path: &str) -> Result<String, Refusal> {
    let opened = std::fs::File::open(path);
    let file =
        opened.map_err(|error| Refusal::own(format!("Failed to open file '{path}': {}", plain(&error))))?;
    let failed = |why: &str| Refusal::own(format!("Failed to read file '{path}': {why}"));
    let mut bytes = Vec::new();
    file.take(MAX_XML + 1).read_to_end(&mut bytes).map_err(|error| failed(&plain(&error)))?;
    if bytes.len() as u64 > MAX_XML {
        return Err(failed("Value too large for defined data type"));
    }
    encoding::decode(bytes, path)
        .map_err(|Undecoded { line, words, help }| failed(&format!("line {line}: {words}")).hint(Some(help)))
}

fn define(shell: &mut Shell, args: &Args) -> Outcome {
    let file = args.needed("file")?.to_owned();
    let (xml, validate) = (read_file(&file)?, args.has("validate"));
    let failed = format!("Failed to define network from {file}");
    let reply = shell.call_or(&Request::NetDefine { xml, file: file.clone(), validate }, || failed)?;
    defined(shell, &reply, "defined", &file)
}

fn create(shell: &mut Shell, args: &Args) -> Outcome {
    let file = args.needed("file")?.to_owned();
    let (xml, validate) = (read_file(&file)?, args.has("validate"));
    let failed = format!("Failed to create network from {file}");
    let reply = shell.call_or(&Request::NetCreate { xml, file: file.clone(), validate }, || failed)?;
    defined(shell, &reply, "created", &file)
}

fn defined(shell: &Shell, reply: &Reply, done: &str, file: &str) -> Outcome {
    let Reply::Defined { name, .. } = reply else {
        return Err(strange(reply));
    };
    shell.extra(&format!("Network {name} {done} from {file}\n"));
    Ok(())
}

/// Changes a network: what it is asked, the words for having failed and for having done it.
fn change(
    shell: &Shell,
    args: &Args,
    request: impl FnOnce(String) -> Request,
    failed: impl FnOnce(&str) -> String,
    done: &str,
) -> Outcome {
    let typed = args.needed("network")?;
    let network = shell.network_named(typed)?;
    shell.call_or(&request(network.uuid), || failed(typed))?;
    shell.extra(&format!("Network {typed} {done}\n"));
    Ok(())
}

fn start(shell: &mut Shell, args: &Args) -> Outcome {
    let failed = |name: &str| format!("Failed to start network {name}");
    change(shell, args, |network| Request::NetStart { network }, failed, "started")
}

fn destroy(shell: &mut Shell, args: &Args) -> Outcome {
    let failed = |name: &str| format!("Failed to destroy network {name}");
    change(shell, args, |network| Request::NetDestroy { network }, failed, "destroyed")
}

fn undefine(shell: &mut Shell, args: &Args) -> Outcome {
    let failed = |name: &str| format!("Failed to undefine network {name}");
    change(shell, args, |network| Request::NetUndefine { network }, failed, "has been undefined")
}

fn autostart(shell: &mut Shell, args: &Args) -> Outcome {
    let disable = args.has("disable");
    let word = if disable { "unmark" } else { "mark" };
    let failed = |name: &str| format!("failed to {word} network {name} as autostarted");
    let request = |network| Request::NetAutostart { network, disable };
    change(shell, args, request, failed, &format!("{word}ed as autostarted"))
}

fn list(shell: &mut Shell, args: &Args) -> Outcome {
    if ["table", "name", "uuid"].iter().filter(|option| args.has(option)).count() > 1 {
        let words = "Only one argument from --table, --name and --uuid may be specified.";
        return Err(Refusal::own(words));
    }
    let format = shell.format(args)?;
    let mut networks = match shell.call_or(&Request::NetList, || "Failed to list networks".to_owned())? {
        Reply::Networks { networks } => networks,
        other => return Err(strange(&other)),
    };
    networks.retain(|network| is_listed(network, args));
    networks.sort_by_key(|network| network.name.to_ascii_lowercase());
    let lines = |field: fn(&NetworkInfo) -> &str| {
        networks.iter().fold(String::new(), |text, network| text + field(network) + "\n")
    };
    if args.has("json") {
        return shell.json(&networks);
    }
    if args.has("name") {
        say(&lines(|network| &network.name));
    } else if args.has("uuid") {
        say(&lines(|network| &network.uuid));
    } else {
        say(&tables::networks(&networks, args.has("title"), format, shell.quiet));
    }
    Ok(())
}

fn is_listed(network: &NetworkInfo, args: &Args) -> bool {
    let state = args.has("all") || network.active != args.has("inactive");
    let either = |yes: &str, no: &str, fact: bool| {
        let (yes, no) = (args.has(yes), args.has(no));
        yes == no || yes == fact
    };
    state
        && either("persistent", "transient", network.persistent)
        && either("autostart", "no-autostart", network.autostart)
}

fn info(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    if args.has("json") {
        return shell.json(&network);
    }
    say(&tables::info(&network));
    Ok(())
}

fn dumpxml(shell: &mut Shell, args: &Args) -> Outcome {
    let network = shell.network(args)?;
    let request = Request::NetDumpxml { network: network.uuid, inactive: args.has("inactive") };
    match shell.call(&request)? {
        Reply::Xml { xml } => print_xml(shell, args, xml),
        other => Err(strange(&other)),
    }
}

/// Prints a document, or what `--xpath` picks of it.
pub(crate) fn print_xml(shell: &mut Shell, args: &Args, mut xml: String) -> Outcome {
    if let Some(path) = args.raw("xpath") {
        // virsh fails without a word here.
        if path.is_empty() {
            return Err(Refusal::default());
        }
        xml = xpath::select(&xml, path, args.has("wrap"))
            .map_err(|()| Refusal::own(format!("internal error: Incorrect xpath '{path}'")))?;
    }
    if args.has("json") {
        return shell.json(&serde_json::json!({ "xml": xml }));
    }
    if args.raw("xpath").is_none() && !xml.ends_with('\n') {
        xml.push('\n');
    }
    say(&xml);
    Ok(())
}

fn name(shell: &mut Shell, args: &Args) -> Outcome {
    let typed = args.needed("network")?;
    let failed = || Refusal::own(format!("failed to get network '{typed}'"));
    if typed.len() != 36 {
        return Err(failed());
    }
    let library = |message: String| failed().with(pontoon_proto::api::Failure { message, detail: None });
    if !is_uuid(typed) {
        let words = "invalid argument: uuidstr in virNetworkLookupByUUIDString must be a valid UUID";
        return Err(library(words.to_owned()));
    }
    let found = match shell.ask(&Request::NetInfo { network: typed.to_owned() }) {
        Ok(Reply::Network { network }) if network.uuid.eq_ignore_ascii_case(typed) => network,
        Err(failure) if crate::client::is_connection(&failure) => return Err(refused(failure)),
        _ => {
            let words =
                format!("Network not found: no network with matching uuid '{}'", typed.to_lowercase());
            return Err(library(words));
        }
    };
    if args.has("json") {
        return shell.json(&found.name);
    }
    say(&format!("{}\n", found.name));
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let digits = text.split('-').map(str::len).collect::<Vec<_>>();
    digits == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn uuid(shell: &mut Shell, args: &Args) -> Outcome {
    let typed = args.needed("network")?;
    let network = shell.network_named(typed)?;
    if network.name != typed {
        let message = format!("Network not found: no network with matching name '{typed}'");
        let failure = pontoon_proto::api::Failure { message, detail: None };
        return Err(Refusal::own(format!("failed to get network '{typed}'")).with(failure));
    }
    if args.has("json") {
        return shell.json(&network.uuid);
    }
    say(&format!("{}\n", network.uuid));
    Ok(())
}
