//! The side of the new namespaces: makes them, and is their process 1.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, bail};
use pontoon_proto::codec;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::plan::Plan;
use super::{RunArgs, code, not_started};
use crate::lab::{host, sys};

/// Makes the namespaces and the device, hands its descriptor out, and waits for process 1.
pub(super) fn make(args: &RunArgs, fd: RawFd) -> anyhow::Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let socket = UnixStream::from(pontoon_control::take_inherited(fd)?);
    let _interrupts = crate::signal::catch_interrupt();
    let Some((plan, _)) = codec::receive::<Plan>(&socket)? else { bail!("started by hand") };
    enter(args.keep_id)?;
    let tap = device(&plan)?;
    resolve(&plan);
    codec::send(&socket, &(), &[tap.as_fd()])?;
    // The other side holds it as long as it serves.
    drop((tap, socket));
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--init", "--"]).args(&args.command);
    let mut init = command.spawn().context("cannot start process 1 of the namespace")?;
    Ok(code(init.wait()?))
}

fn enter(keep_id: bool) -> anyhow::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER).context(
        "this needs unprivileged user namespaces\nAllow them as root: sysctl -w kernel.unprivileged_userns_clone=1 \
         kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=10000",
    )?;
    let (inner_user, inner_group) = if keep_id { (user, group) } else { (0, 0) };
    // Without privilege this must be given up before a group can be mapped.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inner_user} {user} 1"))
        .context("cannot be a user of the namespace (is AppArmor restricting it?)")?;
    fs::write("/proc/self/gid_map", format!("{inner_group} {group} 1"))?;
    sys::unshare(UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWNET).context(
        "cannot make namespaces for processes, mounts and the network (in a container, allow them)",
    )?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Pings of those who are not root inside; where /proc/sys is read-only root still can.
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", format!("{inner_group} {inner_group}"));
    Ok(())
}

fn device(plan: &Plan) -> anyhow::Result<std::os::fd::OwnedFd> {
    let taps = pontoon_control::open_tap(&plan.device, 1).context(
        "cannot make a tap\n/dev/net/tun must be there (modprobe tun) and open to this user (chmod 0666 /dev/net/tun, \
         which is its mode on most systems)",
    )?;
    let Some(tap) = taps.into_iter().next() else { bail!("the kernel gave no tap") };
    let set = || -> io::Result<()> {
        let mut netlink = host::Netlink::open()?;
        netlink.up("lo")?;
        netlink.mtu(&plan.device, plan.mtu.into())?;
        netlink.up(&plan.device)?;
        netlink.address(&plan.device, plan.address, plan.prefix)?;
        netlink.route(None, plan.gateway)
    };
    set().with_context(|| format!("cannot set {} up", plan.device))?;
    Ok(tap)
}

/// Puts a resolv.conf of the namespace's own over the host's.
fn resolve(plan: &Plan) {
    let Some(text) = plan.resolv_conf() else {
        eprintln!("pontoon: /etc/resolv.conf names no IPv4 resolver: names are not resolved inside");
        return;
    };
    if let Err(error) = cover(&text) {
        eprintln!(
            "pontoon: cannot put a resolv.conf over the host's: {error}; names may not be resolved inside"
        );
    }
}

/// The file lives in a file system nobody else sees, which has no place any more once the file has.
fn cover(text: &str) -> io::Result<()> {
    use rustix::mount::{mount, mount_bind, unmount};
    let place = fs::canonicalize("/etc/resolv.conf")?;
    mount("tmpfs", "/tmp", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    let done = fs::write("/tmp/resolv.conf", text)
        .and_then(|()| mount_bind("/tmp/resolv.conf", &place).map_err(io::Error::from));
    unmount("/tmp", UnmountFlags::DETACH)?;
    done
}

/// Process 1: starts the command and buries who dies, until the command has.
pub(super) fn init(args: &RunArgs) -> anyhow::Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if !rustix::process::getpid().is_init() {
        bail!("--init is for `pontoon run` itself");
    }
    // Containers may refuse a new /proc; the command then sees the processes of outside, and cannot reach them.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = rustix::mount::mount("proc", "/proc", "proc", flags, None);
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| OsString::from("/bin/sh"));
    let mut words = args.command.iter().cloned();
    let program = words.next().unwrap_or_else(shell);
    let child = match Command::new(&program).args(words).spawn() {
        Ok(child) => child,
        Err(error) => return Ok(not_started(&error, &program)),
    };
    let command = Pid::from_child(&child);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == command => {
                let status: ExitStatus = std::os::unix::process::ExitStatusExt::from_raw(status.as_raw());
                return Ok(code(status));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("waiting for the command: {error}"),
        }
    }
}
