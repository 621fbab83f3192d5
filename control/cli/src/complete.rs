//! Shell completion: small scripts that ask this executable, which knows the tables and asks the daemon.

use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use pontoon_proto::api::{Reply, Request};

use crate::args::Cli;
use crate::client::Client;
use crate::outcome::say;
use crate::vsh::options;
use crate::vsh::shell::commands;
use crate::vsh::table::{Command, Complete, Kind, Opt};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

const BASH: &str = r#"# pontoon completion for bash: source it, or put it into /usr/share/bash-completion/completions/pontoon
_pontoon() {
    local line cur=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS= read -r line; do
        [ "$line" = "//files" ] && { compopt -o filenames; COMPREPLY+=($(compgen -f -- "$cur")); continue; }
        COMPREPLY+=("$(printf %q "$line")")
    done < <("${COMP_WORDS[0]/#\~/$HOME}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _pontoon pontoon
"#;

const ZSH: &str = r#"#compdef pontoon
# pontoon completion for zsh: put it into a directory of $fpath as _pontoon
_pontoon() {
    local -a lines
    lines=("${(@f)$(${words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if (( ${lines[(Ie)//files]} )); then
        lines=("${(@)lines:#//files}")
        _files
    fi
    compadd -a lines
}
if [ "$funcstack[1]" = _pontoon ]; then _pontoon "$@"; else compdef _pontoon pontoon; fi
"#;

const FISH: &str = r#"# pontoon completion for fish: put it into ~/.config/fish/completions/pontoon.fish
function __pontoon_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] complete -- $words[2..-1] 2>/dev/null)
        if test "$line" = //files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c pontoon -f -a '(__pontoon_complete)'
"#;

pub(crate) fn script(shell: Shell) -> ExitCode {
    say(match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    });
    ExitCode::SUCCESS
}

/// Stands for the files the shell finds itself.
const FILES: &str = "//files";

/// Prints what the last word can become, a line each.
pub(crate) fn complete(client: &Client, words: &[String]) -> ExitCode {
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut found = candidates(client, before, last);
    found.retain(|candidate| candidate == FILES || candidate.starts_with(last));
    found.sort();
    found.dedup();
    say(&found.iter().map(|candidate| format!("{candidate}\n")).collect::<String>());
    ExitCode::SUCCESS
}

fn candidates(client: &Client, before: &[String], last: &str) -> Vec<String> {
    let Ok(options) = options::read(before.iter().cloned()) else {
        return Vec::new();
    };
    let Some((verb, words)) = options.words.split_first() else {
        return verbs();
    };
    let Some(command) = commands().find(|command| command.name == verb) else {
        return own(client, verb, words, last);
    };
    let at = place(command, words);
    if let Some(opt) = at.open {
        return values(client, opt, &at);
    }
    if last.starts_with("--") {
        let free = command.options.iter().filter(|opt| !at.given.contains(&opt.name));
        let shown = free.filter(|opt| !matches!(opt.kind, Kind::Alias(_)));
        return shown.map(|opt| format!("--{}", opt.name)).chain(["--help".to_owned()]).collect();
    }
    at.next.map_or_else(Vec::new, |opt| values(client, opt, &at))
}

fn verbs() -> Vec<String> {
    commands().map(|command| command.name.to_owned()).chain(crate::args::own_names()).collect()
}

/// Options of one of the commands clap reads.
fn own(client: &Client, verb: &str, words: &[String], last: &str) -> Vec<String> {
    let cli = Cli::command();
    let Some(mut command) = cli.find_subcommand(verb) else {
        return Vec::new();
    };
    for word in words {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    if command.has_subcommands() {
        return command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    }
    match words.last().map(String::as_str) {
        Some("--network") => return networks(client),
        Some("--guest") => return interfaces(client, None).into_iter().map(|one| one.domain).collect(),
        _ => {}
    }
    let mut found: Vec<String> = if last.starts_with('-') {
        command.get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect()
    } else {
        let places = command.get_positionals().flat_map(clap::Arg::get_possible_values);
        places.map(|value| value.get_name().to_owned()).collect()
    };
    if verb == "brctl" {
        found.extend(crate::brctl::names().map(str::to_owned));
    }
    found.push(FILES.to_owned());
    found
}

/// Where in a command the cursor is.
#[derive(Debug, Default)]
struct Place<'a> {
    /// Options given, also by place.
    given: Vec<&'static str>,
    /// An option that waits for its value.
    open: Option<&'static Opt>,
    /// What a word without an option would be.
    next: Option<&'static Opt>,
    values: Vec<(&'static str, &'a str)>,
}

fn place<'a>(command: &'static Command, words: &'a [String]) -> Place<'a> {
    let mut place = Place::default();
    let free = |given: &[&'static str]| {
        let places = command.options.iter().filter(|opt| opt.positional || opt.unwanted);
        places.into_iter().find(|opt| opt.kind == Kind::Words || !given.contains(&opt.name))
    };
    for word in words {
        if let Some(opt) = place.open.take() {
            place.values.push((opt.name, word));
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            if let Some(opt) = command.option(name) {
                place.given.push(opt.name);
                place.values.extend(value.map(|value| (opt.name, value)));
                let takes = matches!(opt.kind, Kind::Text | Kind::Number | Kind::Words);
                place.open = Some(opt).filter(|_| takes && value.is_none());
            }
        } else if let Some(opt) = free(&place.given) {
            place.given.push(opt.name);
            place.values.push((opt.name, word));
        }
    }
    place.next = free(&place.given);
    place
}

fn values(client: &Client, opt: &Opt, place: &Place<'_>) -> Vec<String> {
    let given = |name: &str| place.values.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
    match opt.complete {
        Complete::Nothing => Vec::new(),
        Complete::File => vec![FILES.to_owned()],
        Complete::Words(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        Complete::Verb => verbs(),
        Complete::Network => networks(client),
        Complete::Bridge if given("type") == Some("network") => networks(client),
        Complete::Bridge => bridges(client),
        Complete::Domain => interfaces(client, None).into_iter().map(|one| one.domain).collect(),
        Complete::Interface => {
            interfaces(client, given("domain")).into_iter().map(|one| one.interface).collect()
        }
        Complete::Mac => {
            let on_network = |one: &pontoon_proto::api::InterfaceInfo| {
                given("network").is_none_or(|network| one.network == network)
            };
            let all = interfaces(client, given("domain")).into_iter();
            all.filter(on_network).map(|one| one.mac).collect()
        }
        Complete::Port => given("network").map_or_else(Vec::new, |network| ports(client, network)),
    }
}

fn networks(client: &Client) -> Vec<String> {
    match client.call(&Request::NetList) {
        Ok(Reply::Networks { networks }) => networks.into_iter().map(|network| network.name).collect(),
        _ => Vec::new(),
    }
}

fn bridges(client: &Client) -> Vec<String> {
    match client.call(&Request::Bridges) {
        Ok(Reply::Bridges { bridges }) => bridges.into_iter().map(|bridge| bridge.name).collect(),
        _ => Vec::new(),
    }
}

fn interfaces(client: &Client, domain: Option<&str>) -> Vec<pontoon_proto::api::InterfaceInfo> {
    match client.call(&Request::Interfaces { domain: domain.map(str::to_owned) }) {
        Ok(Reply::Interfaces { interfaces }) => interfaces,
        _ => Vec::new(),
    }
}

fn ports(client: &Client, network: &str) -> Vec<String> {
    match client.call(&Request::NetPorts { network: network.to_owned(), details: false }) {
        Ok(Reply::Ports { ports }) => ports.into_iter().map(|port| port.uuid).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<String> {
        let client = Client::new(Some("/nonexistent".into()));
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().expect("a word");
        let mut found = candidates(&client, before, last);
        found.retain(|candidate| candidate.starts_with(last.as_str()));
        found
    }

    #[test]
    fn commands_options_and_fixed_words_are_completed() {
        assert_eq!(found("net-du"), ["net-dumpxml"]);
        assert!(found("comp").contains(&"completion".to_owned()));
        assert_eq!(found("-q net-list --no"), ["--no-autostart"]);
        assert_eq!(found("net-update default add ip-dhcp-h"), ["ip-dhcp-host"]);
        assert_eq!(found("net-update default --section dns-t"), ["dns-txt"]);
        assert_eq!(found("net-define "), [FILES]);
        assert_eq!(found("completion f"), ["fish"]);
        assert!(!found("net-list --all --").contains(&"--all".to_owned()));
        assert!(found("net-info ").is_empty(), "no daemon, no names");
    }

    #[test]
    fn values_given_by_place_are_known_by_name() {
        let words = ["node-2", "--type", "network", "default"].map(str::to_owned);
        let command = commands().find(|command| command.name == "attach-interface").expect("command");
        let place = place(command, &words);
        assert_eq!(place.values, [("domain", "node-2"), ("type", "network"), ("source", "default")]);
        assert_eq!(place.next.map(|opt| opt.name), Some("target"));
    }
}
