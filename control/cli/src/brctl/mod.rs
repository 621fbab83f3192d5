//! brctl(8) of bridge-utils 1.7: its commands, arguments, words and exit status.

mod numbers;
mod options;
mod set;
mod show;
mod tables;

use std::path::Path;
use std::process::ExitCode;

use pontoon_proto::api::{BridgeInfo, Failure, Reply, Request};

use crate::client::{Client, is_connection};
use crate::outcome::say;
use options::{Flags, Parsed};

/// What a command is called with: the words behind its name, as many as it asked for or more.
struct Call<'a> {
    client: &'a Client,
    flags: Flags,
    words: &'a [String],
}

struct Command {
    name: &'static str,
    arguments: usize,
    help: &'static str,
    run: fn(&Call<'_>) -> Outcome,
}

/// `Err`: lines for standard error, and exit status 1.
type Outcome = Result<(), Vec<String>>;

const COMMANDS: &[Command] = &[
    Command { name: "addbr", arguments: 1, help: "<bridge>\t\tadd bridge", run: set::addbr },
    Command { name: "delbr", arguments: 1, help: "<bridge>\t\tdelete bridge", run: set::delbr },
    Command {
        name: "addif",
        arguments: 2,
        help: "<bridge> <device>\tadd interface to bridge",
        run: set::addif,
    },
    Command {
        name: "delif",
        arguments: 2,
        help: "<bridge> <device>\tdelete interface from bridge",
        run: set::delif,
    },
    Command {
        name: "hairpin",
        arguments: 3,
        help: "<bridge> <port> {on|off}\tturn hairpin on/off",
        run: set::hairpin,
    },
    Command {
        name: "setageing",
        arguments: 2,
        help: "<bridge> <time>\t\tset ageing time",
        run: |call| set::time(call, &set::AGEING),
    },
    Command {
        name: "setbridgeprio",
        arguments: 2,
        help: "<bridge> <prio>\t\tset bridge priority",
        run: set::bridge_priority,
    },
    Command {
        name: "setfd",
        arguments: 2,
        help: "<bridge> <time>\t\tset bridge forward delay",
        run: |call| set::time(call, &set::FORWARD_DELAY),
    },
    Command {
        name: "sethello",
        arguments: 2,
        help: "<bridge> <time>\t\tset hello time",
        run: |call| set::time(call, &set::HELLO),
    },
    Command {
        name: "setmaxage",
        arguments: 2,
        help: "<bridge> <time>\t\tset max message age",
        run: |call| set::time(call, &set::MAX_AGE),
    },
    Command {
        name: "setpathcost",
        arguments: 3,
        help: "<bridge> <port> <cost>\tset path cost",
        run: set::path_cost,
    },
    Command {
        name: "setportprio",
        arguments: 3,
        help: "<bridge> <port> <prio>\tset port priority",
        run: set::port_priority,
    },
    Command {
        name: "show",
        arguments: 0,
        help: "[ <bridge> ]\t\tshow a list of bridges",
        run: show::bridges,
    },
    Command { name: "showmacs", arguments: 1, help: "<bridge>\t\tshow a list of mac addrs", run: show::macs },
    Command { name: "showstp", arguments: 1, help: "<bridge>\t\tshow bridge stp info", run: show::stp },
    Command { name: "stp", arguments: 2, help: "<bridge> {on|off}\tturn stp on/off", run: set::stp },
];

/// Names of all commands.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|command| command.name)
}

pub(crate) fn run(client: &Client, words: Vec<String>) -> ExitCode {
    let (flags, words) = match options::parse(words) {
        Parsed::Words(flags, words) => (flags, words),
        Parsed::Help => {
            say(&usage());
            return ExitCode::SUCCESS;
        }
        Parsed::Version => {
            say(concat!("bridge-utils, 1.7 (pontoon ", env!("CARGO_PKG_VERSION"), ")\n"));
            return ExitCode::SUCCESS;
        }
        Parsed::Unknown(complaint) => {
            eprintln!("brctl: {complaint}\nUnknown option '?'");
            say(&usage());
            return ExitCode::FAILURE;
        }
    };
    let Some((name, words)) = words.split_first() else {
        say(&usage());
        return ExitCode::FAILURE;
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("never heard of command [{name}]");
        say(&usage());
        return ExitCode::FAILURE;
    };
    if words.len() < command.arguments {
        say(&format!(
            "Incorrect number of arguments for command\nUsage: brctl {} {}\n",
            command.name, command.help
        ));
        return ExitCode::FAILURE;
    }
    match (command.run)(&Call { client, flags, words }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let line = |command: &Command| format!("\t{:<10}\t{}\n", command.name, command.help);
    format!("Usage: brctl [commands]\ncommands:\n{}", COMMANDS.iter().map(line).collect::<String>())
}

impl Call<'_> {
    /// The word at a place the command asked for.
    fn word(&self, place: usize) -> &str {
        self.words.get(place).map_or("", String::as_str)
    }

    fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        self.client.call(request)
    }

    fn all_bridges(&self) -> Result<Vec<BridgeInfo>, Vec<String>> {
        match self.ask(&Request::Bridges) {
            Ok(Reply::Bridges { bridges }) => Ok(bridges),
            Ok(other) => Err(strange(&other)),
            Err(failure) => Err(lines(failure)),
        }
    }
}

/// A failure that is not about bridges.
fn lines(failure: Failure) -> Vec<String> {
    let mut lines = vec![format!("error: {}", failure.message)];
    lines.extend(failure.detail.map(|detail| detail.trim_end_matches('\n').to_owned()));
    lines
}

fn strange(reply: &Reply) -> Vec<String> {
    vec![format!("error: internal error: the daemon answered something else: {reply:?}")]
}

/// What brctl says of a failure: its own words and the kernel's; a daemon that cannot be reached is no bridge's fault.
fn failed(words: impl FnOnce(&str) -> String, failure: Failure) -> Vec<String> {
    if is_connection(&failure) {
        return lines(failure);
    }
    let mut all = vec![words(&failure.message)];
    all.extend(failure.detail);
    all
}

/// Whether the namespace the command runs in has an interface of this name.
fn is_device(name: &str) -> bool {
    let plain = !name.contains('/') && name != "." && name != "..";
    plain && !name.is_empty() && Path::new("/sys/class/net").join(name).exists()
}

/// An interface that exists but is none of ours is not a bridge.
fn no_bridge(name: &str) -> String {
    if is_device(name) {
        format!("device {name} is not a bridge!")
    } else {
        format!("bridge {name} does not exist!")
    }
}

#[cfg(test)]
mod tests;
