//! The command line: virsh's words for networks, and our own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};

use pontoon_proto::api;

/// Virtual networks for VMs, containers and labs in user space.
#[derive(Debug, Parser)]
#[command(name = "pontoon", version, propagate_version = true)]
pub(crate) struct Cli {
    /// The daemon's socket.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// No table headers, no success messages, no blank line.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the service.
    Daemon(DaemonArgs),
    #[command(hide = true)]
    Datapath(DatapathArgs),
    /// Define a persistent network from an XML file, or change one.
    NetDefine(FileArgs),
    /// Create and start a transient network from an XML file.
    NetCreate(FileArgs),
    /// Start a defined network.
    NetStart(NetworkArgs),
    /// Stop a network.
    NetDestroy(NetworkArgs),
    /// Forget the definition of a network.
    NetUndefine(NetworkArgs),
    /// Start a network with the daemon, or no longer.
    NetAutostart(AutostartArgs),
    /// List networks, active ones by default.
    NetList(ListArgs),
    /// Facts of one network.
    NetInfo(InfoArgs),
    /// XML of one network.
    NetDumpxml(DumpArgs),
    /// Check a definition and print its canonical form, without a daemon.
    NetXml(crate::net_xml::NetXmlArgs),
    /// Addresses given to guests.
    NetDhcpLeases(LeasesArgs),
    /// Give a guest an interface on a network.
    AttachInterface(Box<AttachArgs>),
    /// Take an interface away.
    DetachInterface(DetachArgs),
    /// Bridges as brctl shows them.
    Brctl(BrctlArgs),
    /// Counters, drops and sessions of the datapath.
    Status(JsonArgs),
    /// Build three networks and two guests in private namespaces and check that they work.
    Lab(LabArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Definitions and leases.
    #[arg(long, value_name = "DIR", default_value = api::DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,
    /// Sockets.
    #[arg(long, value_name = "DIR", default_value = api::DEFAULT_RUNTIME_DIR)]
    pub(crate) runtime_dir: PathBuf,
    /// Threads of the datapath; 0 is one a processor, at most 16.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) workers: u16,
    /// Where the host's resolvers are listed.
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub(crate) resolv_conf: PathBuf,
    /// The group whose members may manage networks, by name or number.
    #[arg(long, value_name = "GROUP", default_value = pontoon_control::DEFAULT_GROUP)]
    pub(crate) group: String,
    /// Who may use the verbs that change nothing: those who may manage networks, or anybody.
    #[arg(long, value_name = "WHO", value_parser = ["group", "any"], default_value = "group")]
    pub(crate) read_access: String,
}

#[derive(Debug, Args)]
pub(crate) struct DatapathArgs {
    #[arg(long)]
    pub(crate) listen_fd: i32,
    #[arg(long)]
    pub(crate) control_fd: i32,
    #[arg(long)]
    pub(crate) session_fd: Option<i32>,
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: u16,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    #[arg(long)]
    pub(crate) file: Option<String>,
    #[arg(value_name = "FILE")]
    pub(crate) data: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Name or UUID.
    #[arg(long)]
    pub(crate) network: Option<String>,
    #[arg(value_name = "NETWORK")]
    pub(crate) data: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AutostartArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[arg(long)]
    pub(crate) disable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Modern,
    /// As libvirt up to 4.x.
    Legacy,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Active and inactive networks.
    #[arg(long)]
    pub(crate) all: bool,
    #[arg(long)]
    pub(crate) inactive: bool,
    /// Names only.
    #[arg(long)]
    pub(crate) name: bool,
    /// UUIDs only.
    #[arg(long)]
    pub(crate) uuid: bool,
    #[arg(long)]
    pub(crate) table: bool,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(hide = true)]
    pub(crate) data: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// The stored definition instead of what runs.
    #[arg(long)]
    pub(crate) inactive: bool,
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LeasesArgs {
    /// Name or UUID.
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// Only of this MAC address.
    #[arg(long)]
    pub(crate) mac: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[arg(long)]
    pub(crate) json: bool,
    #[arg(value_name = "NETWORK [MAC]")]
    pub(crate) data: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// `network` or `bridge`.
    #[arg(long = "type")]
    pub(crate) kind: Option<String>,
    /// The network's or the bridge's name.
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// The interface's name.
    #[arg(long)]
    pub(crate) target: Option<String>,
    #[arg(long)]
    pub(crate) mac: Option<String>,
    /// Accepted for virsh's sake.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Put the interface into the network namespace /run/netns/NAME.
    #[arg(long, value_name = "NAME")]
    pub(crate) netns: Option<String>,
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) affect: Affect,
    #[arg(value_name = "DOMAIN TYPE SOURCE [TARGET [MAC]]")]
    pub(crate) data: Vec<String>,
}

/// virsh's flags about what a change affects: an interface here is always live.
#[derive(Debug, Args)]
pub(crate) struct Affect {
    #[arg(long, help = "Accepted for virsh's sake")]
    pub(crate) config: bool,
    #[arg(long, help = "Accepted for virsh's sake")]
    pub(crate) live: bool,
    #[arg(long, help = "Accepted for virsh's sake")]
    pub(crate) persistent: bool,
    #[arg(long, help = "Accepted for virsh's sake")]
    pub(crate) current: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    #[arg(long)]
    pub(crate) domain: Option<String>,
    #[arg(long = "type")]
    pub(crate) kind: Option<String>,
    #[arg(long)]
    pub(crate) mac: Option<String>,
    #[command(flatten)]
    pub(crate) affect: Affect,
    #[arg(value_name = "DOMAIN TYPE [MAC]")]
    pub(crate) data: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BrctlArgs {
    /// `show [BRIDGE..]` or `showmacs BRIDGE`, each with `--json`; `show` also with `--format=legacy`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LabArgs {
    /// Leave it up and say what to try.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Remove what a kept lab left.
    #[arg(long, conflicts_with = "keep")]
    pub(crate) down: bool,
    /// How long to measure throughput.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) seconds: u32,
    /// Set in the process inside the private namespaces.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

/// One option that may also be given by its place, as virsh has them.
pub(crate) struct Place<'a> {
    pub(crate) name: &'static str,
    pub(crate) value: &'a mut Option<String>,
    pub(crate) required: bool,
}

/// Gives positional words to the options that were not named, in order.
///
/// # Errors
/// virsh's words for one too many or one too few.
pub(crate) fn assign(verb: &str, data: Vec<String>, places: Vec<Place<'_>>) -> Result<(), String> {
    let mut words = data.into_iter();
    for place in places {
        if place.value.is_none() {
            *place.value = words.next();
        }
        if place.required && place.value.is_none() {
            return Err(format!("command '{verb}' requires <{}> option", place.name));
        }
    }
    words.next().map_or(Ok(()), |word| Err(format!("unexpected data '{word}'")))
}

/// Reports what clap could not make sense of, in virsh's words and with virsh's exit status.
pub(crate) fn usage_error(error: &clap::Error, words: impl Iterator<Item = String>) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprint!("{error}");
        return ExitCode::FAILURE;
    }
    let verb = words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default();
    eprintln!("error: {}", virsh_words(error, &verb));
    ExitCode::FAILURE
}

fn virsh_words(error: &clap::Error, verb: &str) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    match (error.kind(), context(ContextKind::InvalidSubcommand), context(ContextKind::InvalidArg)) {
        (ErrorKind::InvalidSubcommand, Some(word), _) => format!("unknown command: '{word}'"),
        (ErrorKind::UnknownArgument, _, Some(word)) if word.starts_with('-') => {
            format!("command '{verb}' doesn't support option {word}")
        }
        (ErrorKind::UnknownArgument, _, Some(word)) => format!("unexpected data '{word}'"),
        _ => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> String {
        let error = Cli::try_parse_from(words).expect_err("refused");
        virsh_words(&error, words.get(1).copied().unwrap_or_default())
    }

    #[test]
    fn usage_errors_use_virsh_words() {
        assert_eq!(refused(&["pontoon", "net-strat"]), "unknown command: 'net-strat'");
        assert_eq!(refused(&["pontoon", "status", "x"]), "unexpected data 'x'");
        assert_eq!(
            refused(&["pontoon", "net-info", "x", "--nope"]),
            "command 'net-info' doesn't support option --nope"
        );
    }

    #[test]
    fn words_fill_the_options_that_were_not_named() {
        let (mut network, mut mac) = (None, Some("m".to_owned()));
        let places = vec![
            Place { name: "network", value: &mut network, required: true },
            Place { name: "mac", value: &mut mac, required: false },
        ];
        assert_eq!(assign("v", vec!["n".to_owned()], places), Ok(()));
        assert_eq!((network.as_deref(), mac.as_deref()), (Some("n"), Some("m")));
    }

    #[test]
    fn too_few_and_too_many_words_are_named() {
        let (mut network, mut other) = (None, None);
        fn place(value: &mut Option<String>) -> Vec<Place<'_>> {
            vec![Place { name: "network", value, required: true }]
        }
        let missing = assign("net-start", vec![], place(&mut network));
        assert_eq!(missing, Err("command 'net-start' requires <network> option".to_owned()));
        let words = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(assign("net-start", words, place(&mut other)), Err("unexpected data 'b'".to_owned()));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from([
            "pontoon",
            "attach-interface",
            "node-2",
            "bridge",
            "virbr1",
            "--model",
            "virtio",
            "--config",
            "-q",
        ])
        .expect("virsh's form");
        assert!(cli.quiet);
    }
}
