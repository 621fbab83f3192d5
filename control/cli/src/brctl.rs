//! The reading commands of brctl(8).

use std::process::ExitCode;

use pontoon_proto::api::{BridgeInfo, Reply, Request};

use crate::args::Format;
use crate::client::{Client, is_connection};
use crate::{tables, verbs};

const USAGE: &str = "Usage: brctl [commands]
commands:
\tshow      \t[ <bridge> ]\t\tshow a list of bridges
\tshowmacs  \t<bridge>\t\tshow a list of mac addrs
";

pub(crate) fn run(client: &Client, words: Vec<String>) -> ExitCode {
    let (flags, words): (Vec<String>, Vec<String>) =
        words.into_iter().partition(|word| word.starts_with("--"));
    let json = flags.iter().any(|flag| flag == "--json");
    let format =
        if flags.iter().any(|flag| flag == "--format=legacy") { Format::Legacy } else { Format::Modern };
    if let Some(flag) = flags.iter().find(|flag| !matches!(flag.as_str(), "--json" | "--format=legacy")) {
        eprintln!("never heard of option [{flag}]\n{USAGE}");
        return ExitCode::FAILURE;
    }
    match words.split_first() {
        None => {
            eprint!("{USAGE}");
            ExitCode::FAILURE
        }
        Some((verb, names)) if verb == "show" => show(client, names, format, json),
        Some((verb, [bridge])) if verb == "showmacs" => showmacs(client, bridge, json),
        Some((verb, _)) if verb == "showmacs" => {
            print!("Incorrect number of arguments for command\n{USAGE}");
            ExitCode::FAILURE
        }
        Some((verb, _)) => {
            eprint!("never heard of command [{verb}]\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn show(client: &Client, names: &[String], format: Format, json: bool) -> ExitCode {
    let bridges = match client.call(&Request::Bridges) {
        Ok(Reply::Bridges { bridges }) => bridges,
        Ok(other) => return verbs::fail(None, &verbs::unexpected(&other)),
        Err(failure) => return verbs::fail(None, &failure),
    };
    let mut chosen: Vec<&BridgeInfo> = Vec::new();
    let mut complaints = Vec::new();
    for name in names {
        match bridges.iter().find(|bridge| &bridge.name == name) {
            Some(bridge) => chosen.push(bridge),
            None => complaints.push(complaint(name)),
        }
    }
    if names.is_empty() {
        chosen.extend(&bridges);
    }
    if json {
        verbs::print_json(&chosen);
    } else {
        print!("{}", tables::bridges(&chosen, format));
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An interface that exists but is none of ours is not a bridge.
fn complaint(name: &str) -> String {
    let plain = !name.contains('/') && name != "." && name != "..";
    if plain && std::path::Path::new("/sys/class/net").join(name).exists() {
        format!("device {name} is not a bridge!")
    } else {
        format!("bridge {name} does not exist!")
    }
}

fn showmacs(client: &Client, bridge: &str, json: bool) -> ExitCode {
    match client.call(&Request::BridgeMacs { bridge: bridge.to_owned() }) {
        Ok(Reply::Macs { macs }) if json => verbs::print_json(&macs),
        Ok(Reply::Macs { macs }) => print!("{}", tables::macs(&macs)),
        Ok(other) => return verbs::fail(None, &verbs::unexpected(&other)),
        Err(failure) if is_connection(&failure) => return verbs::fail(None, &failure),
        Err(_) => {
            eprintln!("{}", complaint(bridge));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
