//! pontoon's own commands, besides those of virsh: the service, the lab, and what goes with a shell.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use pontoon_proto::api;

use crate::client::Client;
use crate::verbs::{conntrack, status, trace};
use crate::vsh::options::Options;
use crate::vsh::shell::FORMAT_ENV;
use crate::{brctl, complete, doctor, lab, man, net_xml, run};

/// Virtual networks for VMs, containers and labs in user space.
#[derive(Debug, Parser)]
#[command(name = "pontoon", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the service.
    Daemon(DaemonArgs),
    #[command(hide = true)]
    Datapath(DatapathArgs),
    /// Check a definition and print its canonical form, without a daemon.
    NetXml(crate::net_xml::NetXmlArgs),
    /// Bridges as brctl shows them.
    Brctl(BrctlArgs),
    /// Counters, drops and sessions of the datapath.
    Status(JsonArgs),
    /// What becomes of frames: the stages they pass, what they leave as, or why they are dropped.
    Trace(trace::TraceArgs),
    /// Sessions of NAT: list, count, end or follow them.
    #[command(subcommand)]
    Conntrack(conntrack::Conntrack),
    /// What protects the running processes, and what this host lacks.
    Doctor(JsonArgs),
    /// Build three networks and two guests in private namespaces and check that they work.
    Lab(LabArgs),
    /// Run a command in a network of its own that needs no privilege: `pontoon run --user -- COMMAND`.
    Run(crate::user::RunArgs),
    #[command(hide = true)]
    UserUplink(crate::user::UplinkArgs),
    /// Measure this machine: two guests, pontoon and the kernel's bridge between them.
    Bench(crate::bench::BenchArgs),
    /// Print what makes a shell complete commands, networks, guests and bridges.
    Completion(CompletionArgs),
    /// Write manual pages.
    Man(ManArgs),
    /// Plug a QEMU into a bridge: QEMU runs it for -netdev bridge,helper=...
    BridgeHelper(HelperArgs),
    #[command(hide = true)]
    Complete(CompleteArgs),
}

/// As QEMU gives them to its own helper.
#[derive(Debug, Args)]
pub(crate) struct HelperArgs {
    /// The bridge of an active network.
    #[arg(long, value_name = "BRIDGE")]
    pub(crate) br: String,
    /// A unix socket to hand the tap to.
    #[arg(long, value_name = "N")]
    pub(crate) fd: i32,
    /// The tap takes and gives a virtio-net header.
    #[arg(long)]
    pub(crate) use_vnet: bool,
    /// Who may use which bridge, in place of /etc/qemu/bridge.conf.
    #[arg(long, value_name = "FILE")]
    pub(crate) acl: Option<PathBuf>,
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
    /// Who the datapath runs as: a user's name or UID:GID.
    #[arg(long, value_name = "USER", default_value = pontoon_control::DEFAULT_DATAPATH_USER)]
    pub(crate) datapath_user: String,
    /// auto: the datapath's sandbox is what this host allows; strict: it is whole or nothing runs; log: as auto, and the
    /// kernel's log has what the filter of system calls would not allow.
    #[arg(long, value_name = "MODE", value_parser = ["auto", "strict", "log"], default_value = "auto")]
    pub(crate) sandbox: String,
    /// Log mappings of NAT, `journal` or a file: of all networks but those with <pontoon:log mappings='no'/>. Without it
    /// those with mappings='yes' are logged to mappings.log in the state directory.
    #[arg(long, value_name = "WHERE")]
    pub(crate) mapping_log: Option<String>,
    /// Attaches programs of shared uplinks as before Linux 6.6.
    #[arg(long, hide = true)]
    pub(crate) classic_hooks: bool,
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
    #[arg(long, value_parser = ["auto", "strict", "log"], default_value = "auto")]
    pub(crate) sandbox: String,
    #[arg(long, default_value_t = 65534)]
    pub(crate) uid: u32,
    #[arg(long, default_value_t = 65534)]
    pub(crate) gid: u32,
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

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    pub(crate) shell: complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to; it is made when it is not there.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    /// The words of the line, the one to be completed last.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

/// Names of the commands that are shown.
pub(crate) fn own_names() -> Vec<String> {
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    shown.map(|sub| sub.get_name().to_owned()).collect()
}

pub(crate) fn is_own(word: &str) -> bool {
    Cli::command().find_subcommand(word).is_some()
}

/// The lines of `help` about these commands.
pub(crate) fn listing() -> String {
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let lines = shown.map(|sub| {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        format!("    {:<30} {about}\n", sub.get_name())
    });
    format!(" pontoon itself\n{}\n", lines.collect::<String>())
}

/// `help COMMAND` of one of these.
pub(crate) fn help(name: &str) -> Option<String> {
    let mut command = Cli::command();
    let found = command.find_subcommand_mut(name)?;
    Some(format!("{}\n", found.clone().bin_name(format!("pontoon {name}")).render_long_help()))
}

/// Runs one of these commands.
pub(crate) fn run(options: Options) -> ExitCode {
    let words = std::iter::once("pontoon".to_owned()).chain(options.words.iter().cloned());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    let socket = options.socket;
    match cli.verb {
        Verb::Daemon(args) => service(run::daemon(&run::Daemon {
            state_dir: args.state_dir,
            runtime_dir: args.runtime_dir,
            workers: workers(args.workers),
            resolv_conf: args.resolv_conf,
            group: args.group,
            anybody_reads: args.read_access == "any",
            classic_hooks: args.classic_hooks,
            datapath_user: args.datapath_user,
            sandbox: args.sandbox,
            mapping_log: args.mapping_log,
            socket,
        })),
        Verb::Datapath(args) => service(run::datapath(&run::Datapath {
            listen_fd: args.listen_fd,
            control_fd: args.control_fd,
            session_fd: args.session_fd,
            workers: args.workers,
            sandbox: args.sandbox,
            uid: args.uid,
            gid: args.gid,
        })),
        Verb::Lab(args) => lab::run(&args),
        Verb::Run(args) => crate::user::run(&args),
        Verb::UserUplink(args) => service(crate::user::run_uplink(&args)),
        Verb::Bench(args) => crate::bench::run(&args),
        Verb::NetXml(args) => net_xml::run(&args, options.quiet),
        Verb::Brctl(args) => brctl(socket, args.words),
        Verb::Status(args) => status::status(&Client::new(socket), args.json, options.quiet),
        Verb::Trace(args) => trace::run(&Client::new(socket), &args),
        Verb::Conntrack(verb) => conntrack::run(&Client::new(socket), &verb, options.quiet),
        Verb::Doctor(args) => doctor::doctor(&Client::new(socket), args.json),
        Verb::BridgeHelper(args) => service(run::bridge_helper(args, socket)),
        Verb::Completion(args) => complete::script(args.shell),
        Verb::Man(args) => man::write(&args.dir),
        Verb::Complete(args) => complete::complete(&Client::new(socket), &args.words),
    }
}

/// brctl, in the layout of PONTOON_FORMAT where its words do not say.
pub(crate) fn brctl(socket: Option<PathBuf>, mut words: Vec<String>) -> ExitCode {
    if std::env::var(FORMAT_ENV).is_ok_and(|format| format == "legacy") {
        words.insert(0, "--format=legacy".to_owned());
    }
    brctl::run(&Client::new(socket), words)
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

/// clap's words with virsh's exit status.
fn usage_error(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        eprint!("{error}");
        return ExitCode::FAILURE;
    }
    print!("{error}");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(is_own("daemon") && is_own("datapath") && !is_own("net-list"));
        assert!(own_names().contains(&"lab".to_owned()) && !own_names().contains(&"datapath".to_owned()));
        assert!(help("status").expect("help").contains("Counters"));
    }
}
