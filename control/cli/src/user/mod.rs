//! `pontoon run --user`: a command in a network namespace of its own, whose traffic leaves by this process's sockets.
//!
//! Three processes besides the command: this one, with the sockets, in the caller's namespaces; one that made the new
//! namespaces and waits; and process 1 of the new PID namespace, with which everything in it ends.

mod inside;
mod plan;
mod uplink;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::{Context, bail};
use clap::Args;
use pontoon_proto::codec;
use pontoon_user::{Limits, User};
use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit};

use plan::Plan;
pub(crate) use uplink::{UplinkArgs, run as run_uplink};

/// What env(1) and timeout(1) say when they themselves fail, when a command cannot be run, and is not there.
const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A network by ordinary sockets of this user: no privilege, no daemon.
    #[arg(long, required_unless_present = "init")]
    user: bool,
    /// Be the same user inside as outside; else the command is root of a user namespace.
    #[arg(long)]
    keep_id: bool,
    /// Octets of the largest IP packet inside.
    #[arg(long, value_name = "OCTETS", default_value_t = 65_520, value_parser = clap::value_parser!(u16).range(1280..=65_520))]
    mtu: u16,
    /// The interface inside.
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    device: String,
    /// Set in the process that makes the namespaces: a socket.
    #[arg(long, hide = true)]
    inside: Option<i32>,
    /// Set in process 1.
    #[arg(long, hide = true)]
    init: bool,
    /// What to run, with its arguments; a shell when nothing is named.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let result = match (args.inside, args.init) {
        (_, true) => inside::init(args),
        (Some(fd), _) => inside::make(args, fd),
        _ => outside(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn outside(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::of_host(args.mtu, &args.device)?;
    let _interrupts = crate::signal::catch_interrupt();
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = start(args, &theirs)?;
    drop(theirs);
    codec::send(&ours, &plan, &[])?;
    let Some((_, tap)) = codec::receive::<()>(&ours)? else { return Ok(code(child.wait()?)) };
    let Some(tap) = tap.into_iter().next() else { bail!("the namespace gave no device") };
    serve(&plan, tap, &child)?;
    Ok(code(child.wait()?))
}

fn start(args: &RunArgs, socket: &UnixStream) -> anyhow::Result<Child> {
    // Only this one child is ever started here, and it is to have the socket.
    rustix::io::fcntl_setfd(socket, FdFlags::empty())?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--user", "--inside", &socket.as_raw_fd().to_string()]);
    command.args(args.keep_id.then_some("--keep-id")).arg("--").args(&args.command);
    command.spawn().context("cannot start the process for the namespaces")
}

/// Moves the command's packets until it ends.
fn serve(plan: &Plan, tap: OwnedFd, child: &Child) -> anyhow::Result<()> {
    let mut user = User::on_tap(plan.config(limits()), tap).context("cannot serve the network")?;
    let ended = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    user.stop_with(&ended)?;
    let mut told = false;
    user.run(|user| {
        if user.ping_refused() && !told {
            told = true;
            eprintln!("pontoon: {}", ping_advice());
        }
    })?;
    Ok(())
}

fn ping_advice() -> String {
    let group = rustix::process::getegid().as_raw();
    format!(
        "ping is not possible: net.ipv4.ping_group_range of this host leaves group {group} out\n\
         Allow it as root: sysctl -w net.ipv4.ping_group_range='{group} {group}'"
    )
}

/// As many sockets as may be opened.
fn limits() -> Limits {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if let Some(most) = limit.maximum {
        limit = Rlimit { current: Some(most), maximum: Some(most) };
        // With less there are fewer sockets.
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    }
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Limits::default().within(limit.current.unwrap_or(u64::MAX))
}

/// A shell's word for how a command ended.
fn code(status: ExitStatus) -> ExitCode {
    let signal = || status.signal().map_or(i32::from(FAILED), |signal| 128 + signal);
    ExitCode::from(u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(FAILED))
}

/// Why a command did not start.
fn not_started(error: &io::Error, command: &std::ffi::OsStr) -> ExitCode {
    eprintln!("error: cannot run {}: {error}", command.display());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
}
