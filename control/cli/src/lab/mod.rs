//! `pontoon lab`: two networks, two guests and an internet in private namespaces, and proof that they work.
//!
//! The lab is process 1 of a PID namespace of its own, with its own mounts and network, and dies with the command
//! that started it. So whatever happens, nothing of it stays, and nothing of the machine is touched.

mod guest;
pub(crate) mod host;
mod services;
mod story;
pub(crate) mod sys;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use crate::args::LabArgs;

/// Longest the story may take, beside the throughput measurement.
const PATIENCE: Duration = Duration::from_secs(180);
/// The verdict when the lab could not even be built or stopped halfway, so that there is nothing to keep.
const NOTHING_UP: u8 = 2;

pub(crate) fn run(args: &LabArgs) -> ExitCode {
    let result = match (args.down, args.inside) {
        (true, _) => down(),
        (_, true) => inside(args),
        _ => outside(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The caller's side: makes the namespaces, starts the lab in them and waits for its verdict.
fn outside(args: &LabArgs) -> anyhow::Result<ExitCode> {
    let root = rustix::process::geteuid().is_root();
    check_tun()?;
    if state_file().exists() {
        down()?;
    }
    enter_namespaces(root)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE + Duration::from_secs(u64::from(args.seconds))))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["lab", "--inside", "--seconds", &args.seconds.to_string()]);
    command.args(args.keep.then_some("--keep")).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut child = command.spawn().context("cannot start the lab")?;
    // The command holds the other end of the pair.
    drop(command);
    write_state(child.id()).context("cannot write the lab's state file")?;
    let mut verdict = [1u8];
    let heard = ours.read_exact(&mut verdict);
    if args.keep && heard.is_ok() && verdict != [NOTHING_UP] {
        print_hints(child.id(), root);
    } else {
        // It may have ended already.
        let _ = child.kill();
        child.wait()?;
        fs::remove_file(state_file())?;
    }
    if let Err(error) = heard.as_ref() {
        eprintln!("error: the lab gave no verdict: {error}");
    }
    Ok(if heard.is_ok() && verdict == [0] { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_tun() -> anyhow::Result<()> {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Ok(()),
        Err(error) => bail!(
            "cannot open /dev/net/tun: {error}\nThe lab needs it: load the module (modprobe tun), or as another \
             user than root have its mode set to 0666"
        ),
    }
}

/// A user namespace when not root, then one for processes: the next child is its process 1.
fn enter_namespaces(root: bool) -> anyhow::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if !root {
        sys::unshare(UnshareFlags::NEWUSER).context(
            "the lab needs root or unprivileged user namespaces\nRun it with sudo, or allow them: sysctl -w \
             kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 \
             user.max_user_namespaces=10000",
        )?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1"))
            .context("cannot become root of the user namespace (is AppArmor restricting it?)")?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    sys::unshare(UnshareFlags::NEWPID).context("cannot make a PID namespace (in a container, allow it)")
}

/// Process 1 of the lab.
fn inside(args: &LabArgs) -> anyhow::Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if !rustix::process::getpid().is_init() {
        bail!("--inside is for the lab itself");
    }
    // Only here: the caller still needs the machine's own /proc and /tmp.
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET)
        .context("cannot make mount and network namespaces (in a container, allow them)")?;
    prepare_mounts().context("cannot prepare the lab's private mounts")?;
    let verdict = story::tell(args.seconds);
    let (code, daemon) = match verdict {
        Ok((passed, daemon)) => (u8::from(!passed), Some(daemon)),
        Err(error) => {
            println!("FAIL {error:#}\nlab: FAIL");
            (NOTHING_UP, None)
        }
    };
    if args.keep {
        rustix::process::set_parent_process_death_signal(None)?;
        // A closed terminal or its Ctrl-C must not end a kept lab.
        rustix::process::setsid()?;
    }
    io::stdout().flush()?;
    rustix::io::write(io::stdin(), &[code])?;
    if let Some(mut daemon) = daemon {
        if args.keep {
            daemon.0.wait()?;
        }
        daemon.stop();
    }
    Ok(ExitCode::from(code))
}

/// Private mounts: an empty /run with room for named namespaces, our own /proc and resolv.conf.
fn prepare_mounts() -> io::Result<()> {
    use rustix::mount::{mount, mount_bind, mount_change};
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    fs::create_dir("/run/netns")?;
    fs::create_dir(story::HOME)?;
    let resolv_conf = format!("{}/resolv.conf", story::HOME);
    fs::write(&resolv_conf, format!("nameserver {}\n", services::SERVER))?;
    // Both only make it tidier: the daemon is told where resolv.conf is, and containers may refuse a new /proc.
    let _ = mount_bind(resolv_conf.as_str(), "/etc/resolv.conf");
    let _ = mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None);
    std::env::set_current_dir(story::HOME)
}

fn state_file() -> PathBuf {
    // The owner of /proc/self is the user who started the lab, also in a user namespace.
    let user = rustix::process::getuid().as_raw();
    let user = fs::read_to_string("/proc/self/uid_map")
        .ok()
        .and_then(|map| {
            let mut words = map.split_whitespace().map(str::to_owned);
            let (inner, outer, count) = (words.next()?, words.next()?, words.next()?);
            (inner == "0" && count == "1").then_some(outer)
        })
        .unwrap_or_else(|| user.to_string());
    PathBuf::from(format!("/tmp/pontoon-lab-{user}.json"))
}

/// When the process began, in clock ticks since boot: with it a PID means one process only.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn write_state(pid: u32) -> io::Result<()> {
    let state = serde_json::json!({ "pid": pid, "start": start_time(pid) });
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(state_file())?;
    writeln!(file, "{state}")
}

/// Ends the lab the state file names, if it is still that process.
fn down() -> anyhow::Result<ExitCode> {
    let path = state_file();
    let Ok(file) = File::open(&path) else {
        println!("no lab is up");
        return Ok(ExitCode::SUCCESS);
    };
    if file.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        bail!("{} belongs to another user", path.display());
    }
    let state: serde_json::Value = serde_json::from_reader(file.take(4096)).context("bad state file")?;
    let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let same = state["start"].as_u64().is_some_and(|start| start_time(pid) == Some(start));
    if let Some(process) = Pid::from_raw(pid.cast_signed()).filter(|_| same && pid > 1) {
        rustix::process::kill_process(process, Signal::KILL)?;
        println!("lab {pid} is down");
    }
    fs::remove_file(path)?;
    Ok(ExitCode::SUCCESS)
}

fn print_hints(pid: u32, root: bool) {
    let user = if root { "" } else { "-U --preserve-credentials " };
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pontoon"));
    let exe = exe.display();
    println!("\nThe lab is up. Try:");
    println!("  nsenter -t {pid} {user}-m -n {exe} net-list --all");
    println!("  nsenter -t {pid} {user}-m -n {exe} status");
    println!("  nsenter -t {pid} {user}--net=/proc/{pid}/root/run/netns/node-2 ping 203.0.113.80");
    println!("  {exe} lab --down");
}
