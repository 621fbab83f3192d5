//! What each verb asks the daemon and prints.

use std::fmt::Write;
use std::process::ExitCode;

use jiff::tz::TimeZone;
use pontoon_proto::api::{Failure, NetworkInfo, Reply, Request};
use pontoon_proto::message::Status;
use serde::Serialize;

use crate::args::{
    AttachArgs, Cli, DetachArgs, FileArgs, LeasesArgs, ListArgs, NetworkArgs, Place, Verb, assign,
};
use crate::client::{Client, is_connection};
use crate::{brctl, lab, net_xml, run, tables};

/// Largest network definition read.
const MAX_XML: u64 = 10 << 20;

/// Why a verb failed: the verb's own line, then the daemon's.
#[derive(Debug)]
struct Refusal {
    first: Option<String>,
    failure: Failure,
}

impl Refusal {
    fn usage(message: String) -> Self {
        Self { first: None, failure: Failure { message, detail: None } }
    }
}

type Outcome = Result<Output, Refusal>;

/// What a verb prints on success.
#[derive(Debug)]
enum Output {
    /// Always printed.
    Text(String),
    /// Not printed when quiet.
    Success(String),
    /// JSON, with no blank line after it.
    Json(String),
}

pub(crate) fn dispatch(cli: Cli) -> ExitCode {
    let quiet = cli.quiet;
    let socket = cli.socket.clone();
    let client = Client::new(cli.socket);
    let outcome = match cli.verb {
        Verb::Daemon(args) => {
            let daemon = run::Daemon {
                state_dir: args.state_dir,
                runtime_dir: args.runtime_dir,
                workers: workers(args.workers),
                resolv_conf: args.resolv_conf,
                group: args.group,
                anybody_reads: args.read_access == "any",
                socket,
            };
            return service(run::daemon(&daemon));
        }
        Verb::Datapath(args) => {
            return service(run::datapath(&run::Datapath {
                listen_fd: args.listen_fd,
                control_fd: args.control_fd,
                session_fd: args.session_fd,
                workers: args.workers,
            }));
        }
        Verb::Lab(args) => return lab::run(&args),
        Verb::NetXml(args) => return net_xml::run(&args, quiet),
        Verb::Brctl(args) => return brctl::run(&client, args.words),
        verb => network_verb(&client, verb, quiet),
    };
    finish(outcome, quiet)
}

fn network_verb(client: &Client, verb: Verb, quiet: bool) -> Outcome {
    match verb {
        Verb::NetDefine(args) => define(client, args),
        Verb::NetCreate(args) => create(client, args),
        Verb::NetStart(args) => change(client, Change::START, args),
        Verb::NetDestroy(args) => change(client, Change::DESTROY, args),
        Verb::NetUndefine(args) => change(client, Change::UNDEFINE, args),
        Verb::NetAutostart(args) if args.disable => change(client, Change::NO_AUTOSTART, args.network),
        Verb::NetAutostart(args) => change(client, Change::AUTOSTART, args.network),
        Verb::NetList(args) => list(client, &args, quiet),
        Verb::NetInfo(args) => info(client, args.network, args.json),
        Verb::NetDumpxml(args) => dumpxml(client, args.network, args.inactive, args.json),
        Verb::NetDhcpLeases(args) => leases(client, args, quiet),
        Verb::AttachInterface(args) => attach(client, *args),
        Verb::DetachInterface(args) => detach(client, args),
        Verb::Status(args) => status(client, args.json),
        Verb::Daemon(_) | Verb::Datapath(_) | Verb::Lab(_) | Verb::NetXml(_) | Verb::Brctl(_) => {
            Err(Refusal::usage("not a network verb".to_owned()))
        }
    }
}

/// Half the processors when not said, at least one and at most 8: guests need the rest.
fn workers(asked: u16) -> u16 {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if asked > 0 { asked.min(64) } else { u16::try_from((processors() / 2).clamp(1, 8)).unwrap_or(1) }
}

fn service(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn finish(outcome: Outcome, quiet: bool) -> ExitCode {
    let (code, blank) = match outcome {
        Ok(Output::Json(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Ok(Output::Text(text)) => {
            print!("{text}");
            (ExitCode::SUCCESS, true)
        }
        Ok(Output::Success(text)) => {
            if !quiet {
                println!("{text}");
            }
            (ExitCode::SUCCESS, true)
        }
        Err(refusal) => (fail(refusal.first.as_deref(), &refusal.failure), true),
    };
    if blank && !quiet {
        println!();
    }
    code
}

/// Prints the verb's line, the message and its detail.
pub(crate) fn fail(first: Option<&str>, failure: &Failure) -> ExitCode {
    if let Some(first) = first {
        eprintln!("error: {first}");
    }
    eprintln!("error: {}", failure.message);
    if let Some(detail) = &failure.detail {
        eprintln!("{}", detail.trim_end_matches('\n'));
    }
    ExitCode::FAILURE
}

pub(crate) fn print_json<T: Serialize + ?Sized>(value: &T) {
    println!("{}", json_text(value));
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> String {
    // Answers hold no map with other keys than strings, so this cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Turns a daemon's failure into the two lines virsh prints.
fn refuse(first: &str, network: Option<&str>) -> impl FnOnce(Failure) -> Refusal {
    let (first, network) = (first.to_owned(), network.map(str::to_owned));
    move |failure| {
        let first = match network {
            _ if is_connection(&failure) || first.is_empty() && network.is_none() => None,
            Some(name) if failure.message.starts_with("Network not found") => {
                Some(format!("failed to get network '{name}'"))
            }
            _ => Some(first).filter(|first| !first.is_empty()),
        };
        Refusal { first, failure }
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Failure {
    Failure {
        message: format!("internal error: the daemon answered something else: {reply:?}"),
        detail: None,
    }
}

fn strange(reply: &Reply) -> Refusal {
    Refusal { first: None, failure: unexpected(reply) }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// The value of an option [`assign`] found to be there.
fn given(value: Option<String>) -> String {
    value.unwrap_or_default()
}

fn network_name(verb: &str, args: NetworkArgs) -> Result<String, Refusal> {
    let mut network = args.network;
    assign(verb, args.data, vec![Place { name: "network", value: &mut network, required: true }])
        .map_err(Refusal::usage)?;
    Ok(given(network))
}

/// Reads a definition: its text and the name of its file.
fn definition(verb: &str, args: FileArgs) -> Result<(String, String), Refusal> {
    use std::io::Read;
    let mut file = args.file;
    assign(verb, args.data, vec![Place { name: "file", value: &mut file, required: true }])
        .map_err(Refusal::usage)?;
    let file = given(file);
    let opened = std::fs::File::open(&file)
        .map_err(|error| Refusal::usage(format!("Failed to open file '{file}': {}", plain(&error))))?;
    let mut xml = String::new();
    let read = opened.take(MAX_XML + 1).read_to_string(&mut xml);
    read.map_err(|error| Refusal::usage(format!("Failed to read file '{file}': {}", plain(&error))))?;
    if xml.len() as u64 > MAX_XML {
        return Err(Refusal::usage(format!(
            "Failed to read file '{file}': Value too large for defined data type"
        )));
    }
    Ok((xml, file))
}

/// The system's words without Rust's number behind them.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn define(client: &Client, args: FileArgs) -> Outcome {
    let (xml, file) = definition("net-define", args)?;
    let first = format!("Failed to define network from {file}");
    let request = Request::NetDefine { xml, file: file.clone() };
    defined(client.call(&request).map_err(refuse(&first, None))?, "defined", &file)
}

fn create(client: &Client, args: FileArgs) -> Outcome {
    let (xml, file) = definition("net-create", args)?;
    let first = format!("Failed to create network from {file}");
    let request = Request::NetCreate { xml, file: file.clone() };
    defined(client.call(&request).map_err(refuse(&first, None))?, "created", &file)
}

fn defined(reply: Reply, done: &str, file: &str) -> Outcome {
    match reply {
        Reply::Defined { name, warnings } => {
            warn(&warnings);
            Ok(Output::Success(format!("Network {name} {done} from {file}")))
        }
        other => Err(strange(&other)),
    }
}

/// A verb that changes one network: its name, its request, its words before and after the network's name.
struct Change {
    verb: &'static str,
    request: fn(String) -> Request,
    done: &'static str,
    failed: (&'static str, &'static str),
}

impl Change {
    const START: Self = Self {
        verb: "net-start",
        request: |network| Request::NetStart { network },
        done: "started",
        failed: ("Failed to start network ", ""),
    };
    const DESTROY: Self = Self {
        verb: "net-destroy",
        request: |network| Request::NetDestroy { network },
        done: "destroyed",
        failed: ("Failed to destroy network ", ""),
    };
    const UNDEFINE: Self = Self {
        verb: "net-undefine",
        request: |network| Request::NetUndefine { network },
        done: "has been undefined",
        failed: ("Failed to undefine network ", ""),
    };
    const AUTOSTART: Self = Self {
        verb: "net-autostart",
        request: |network| Request::NetAutostart { network, disable: false },
        done: "marked as autostarted",
        failed: ("failed to mark network ", " as autostarted"),
    };
    const NO_AUTOSTART: Self = Self {
        verb: "net-autostart",
        request: |network| Request::NetAutostart { network, disable: true },
        done: "unmarked as autostarted",
        failed: ("failed to unmark network ", " as autostarted"),
    };
}

fn change(client: &Client, change: Change, args: NetworkArgs) -> Outcome {
    let name = network_name(change.verb, args)?;
    let first = format!("{}{name}{}", change.failed.0, change.failed.1);
    match client.call(&(change.request)(name.clone())).map_err(refuse(&first, Some(&name)))? {
        Reply::Done { warnings } => {
            warn(&warnings);
            Ok(Output::Success(format!("Network {name} {}", change.done)))
        }
        other => Err(strange(&other)),
    }
}

fn list(client: &Client, args: &ListArgs, quiet: bool) -> Outcome {
    assign("net-list", args.data.clone(), vec![]).map_err(Refusal::usage)?;
    if u8::from(args.name) + u8::from(args.uuid) + u8::from(args.table) > 1 {
        let message = "Only one argument from --table, --name and --uuid may be specified.";
        return Err(Refusal::usage(message.to_owned()));
    }
    let mut networks =
        match client.call(&Request::NetList).map_err(refuse("Failed to list networks", None))? {
            Reply::Networks { networks } => networks,
            other => return Err(strange(&other)),
        };
    networks.retain(|network| args.all || network.active != args.inactive);
    networks.sort_by_key(|network| network.name.to_ascii_lowercase());
    let lines = |field: fn(&NetworkInfo) -> &str| {
        networks.iter().fold(String::new(), |text, network| text + field(network) + "\n")
    };
    Ok(match (args.json, args.name, args.uuid) {
        (true, ..) => Output::Json(json_text(&networks)),
        (_, true, _) => Output::Text(lines(|network| &network.name)),
        (_, _, true) => Output::Text(lines(|network| &network.uuid)),
        _ => Output::Text(tables::networks(&networks, args.format, quiet)),
    })
}

fn info(client: &Client, args: NetworkArgs, json: bool) -> Outcome {
    let name = network_name("net-info", args)?;
    let first = format!("failed to get network '{name}'");
    match client.call(&Request::NetInfo { network: name }).map_err(refuse(&first, None))? {
        Reply::Network { network } if json => Ok(Output::Json(json_text(&network))),
        Reply::Network { network } => Ok(Output::Text(tables::info(&network))),
        other => Err(strange(&other)),
    }
}

fn dumpxml(client: &Client, args: NetworkArgs, inactive: bool, json: bool) -> Outcome {
    let name = network_name("net-dumpxml", args)?;
    let request = Request::NetDumpxml { network: name.clone(), inactive };
    match client.call(&request).map_err(refuse("", Some(&name)))? {
        Reply::Xml { xml } if json => Ok(Output::Json(json_text(&serde_json::json!({ "xml": xml })))),
        Reply::Xml { mut xml } => {
            if !xml.ends_with('\n') {
                xml.push('\n');
            }
            Ok(Output::Text(xml))
        }
        other => Err(strange(&other)),
    }
}

fn leases(client: &Client, args: LeasesArgs, quiet: bool) -> Outcome {
    let (mut network, mut mac) = (args.network, args.mac);
    let places = vec![
        Place { name: "network", value: &mut network, required: true },
        Place { name: "mac", value: &mut mac, required: false },
    ];
    assign("net-dhcp-leases", args.data, places).map_err(Refusal::usage)?;
    let name = given(network);
    let first = format!("Failed to get leases info for {name}");
    let request = Request::NetDhcpLeases { network: name.clone(), mac };
    match client.call(&request).map_err(refuse(&first, Some(&name)))? {
        Reply::Leases { leases } if args.json => Ok(Output::Json(json_text(&leases))),
        Reply::Leases { leases } => {
            Ok(Output::Text(tables::leases(&leases, args.format, quiet, &TimeZone::system())))
        }
        other => Err(strange(&other)),
    }
}

fn attach(client: &Client, args: AttachArgs) -> Outcome {
    let (mut domain, mut kind, mut source) = (args.domain, args.kind, args.source);
    let (mut target, mut mac) = (args.target, args.mac);
    let places = vec![
        Place { name: "domain", value: &mut domain, required: true },
        Place { name: "type", value: &mut kind, required: true },
        Place { name: "source", value: &mut source, required: true },
        Place { name: "target", value: &mut target, required: false },
        Place { name: "mac", value: &mut mac, required: false },
    ];
    assign("attach-interface", args.data, places).map_err(Refusal::usage)?;
    let kind = given(kind);
    if !matches!(kind.as_str(), "network" | "bridge") {
        return Err(Refusal::usage(format!("No support for {kind} in command 'attach-interface'")));
    }
    let request = Request::AttachInterface {
        domain: given(domain),
        kind,
        source: given(source),
        target,
        mac,
        netns: args.netns,
    };
    match client.call(&request).map_err(refuse("Failed to attach interface", None))? {
        Reply::Attached { interface, mac } if args.json => {
            Ok(Output::Json(json_text(&serde_json::json!({ "interface": interface, "mac": mac }))))
        }
        Reply::Attached { .. } => Ok(Output::Success("Interface attached successfully".to_owned())),
        other => Err(strange(&other)),
    }
}

fn detach(client: &Client, args: DetachArgs) -> Outcome {
    let (mut domain, mut kind, mut mac) = (args.domain, args.kind, args.mac);
    let places = vec![
        Place { name: "domain", value: &mut domain, required: true },
        Place { name: "type", value: &mut kind, required: true },
        Place { name: "mac", value: &mut mac, required: false },
    ];
    assign("detach-interface", args.data, places).map_err(Refusal::usage)?;
    let request = Request::DetachInterface { domain: given(domain), kind: given(kind), mac };
    match client.call(&request).map_err(refuse("Failed to detach interface", None))? {
        Reply::Done { warnings } => {
            warn(&warnings);
            Ok(Output::Success("Interface detached successfully".to_owned()))
        }
        other => Err(strange(&other)),
    }
}

fn status(client: &Client, json: bool) -> Outcome {
    match client.call(&Request::Status).map_err(refuse("Failed to get status", None))? {
        Reply::Status { status, pid } if json => {
            Ok(Output::Json(json_text(&serde_json::json!({ "pid": pid, "status": status }))))
        }
        Reply::Status { status, pid } => Ok(Output::Text(status_text(&status, pid))),
        other => Err(strange(&other)),
    }
}

fn status_text(status: &Status, pid: u32) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let _ = writeln!(
        text,
        "datapath pid {pid}, generation {}, {} NAT sessions",
        status.generation, status.sessions
    );
    for uplink in &status.uplinks {
        let address =
            uplink.address.map_or_else(|| "no address yet".to_owned(), |address| address.to_string());
        let gateway = uplink.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let _ = writeln!(text, "uplink {}: {address}{gateway}", uplink.id);
    }
    for port in &status.ports {
        let learned = status.macs.iter().filter(|entry| entry.port == port.port).count();
        let _ = writeln!(
            text,
            "port {}: received {} packets {} bytes {} dropped, sent {} packets {} bytes {} dropped, {learned} addresses",
            port.port,
            port.rx_packets,
            port.rx_bytes,
            port.rx_drops,
            port.tx_packets,
            port.tx_bytes,
            port.tx_drops
        );
    }
    if !status.drops.is_empty() {
        let _ = writeln!(text, "drops:");
    }
    for (reason, count) in &status.drops {
        let _ = writeln!(text, "  {reason:<24} {count}");
    }
    text
}
