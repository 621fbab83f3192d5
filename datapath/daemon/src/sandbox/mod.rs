//! Leaves this process with what forwarding takes, before the first frame is read: a user, a file system, a network and
//! processes of its own that are all empty, no capability, and only the system calls of `filter.rs`.
//!
//! Most of it is per thread and inherited by threads started later, so it is entered before any is. Control has started
//! the process in a process namespace of its own, which nobody can enter afterwards.

pub mod filter;

use std::io;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use landlock::{ABI, Access, AccessFs, AccessNet, RulesetAttr, RulesetStatus, Scope};
use pontoon_proto::privilege::{self, Kept};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{self, CapabilitySet, UnshareFlags};

/// What becomes of a host that cannot do all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What it cannot do is left out, and said.
    #[default]
    Auto,
    /// The datapath does not run.
    Strict,
    /// As `Auto`, and system calls that are not in the list are written to the kernel's log instead of ending the process.
    Log,
}

impl Mode {
    /// `None` for words there are not.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "strict" => Some(Self::Strict),
            "log" => Some(Self::Log),
            _ => None,
        }
    }
}

/// The sandbox that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub mode: Mode,
    /// Who the process becomes, if it may.
    pub uid: u32,
    pub gid: u32,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { mode: Mode::Auto, uid: Self::NOBODY, gid: Self::NOBODY }
    }
}

impl Sandbox {
    pub const NOBODY: u32 = 65534;

    /// What this host could not do, one line each.
    ///
    /// # Errors
    /// When a capability or the way to new ones is left afterwards, and in mode `Strict` when anything is lacking.
    pub fn enter(&self) -> anyhow::Result<Vec<String>> {
        let mut lacking = Lacking::default();
        warm_up();
        apart(&mut lacking);
        self.become_nobody(&mut lacking)?;
        thread::set_no_new_privs(true).context("no_new_privs")?;
        ensure!(thread::no_new_privs().context("reading no_new_privs back")?, "no_new_privs is not set");
        lacking.note("memory kept from other processes", || {
            Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
        });
        lacking.note("Landlock", forbid_files);
        if self.mode == Mode::Strict && !lacking.0.is_empty() {
            bail!("--sandbox=strict, and this host lacks: {}", lacking.0.join("; "));
        }
        let filtered = filter::apply(self.mode == Mode::Log);
        if let Err(error) = filtered {
            ensure!(self.mode != Mode::Strict, "--sandbox=strict, and this host lacks: seccomp: {error}");
            lacking.0.push(format!("seccomp: {error}"));
        }
        Ok(lacking.0)
    }

    /// Gives up identity and capabilities.
    fn become_nobody(&self, lacking: &mut Lacking) -> anyhow::Result<()> {
        // The bounding set is emptied first: that takes a capability, which is gone with the user.
        let still = CapabilitySet::SETUID | CapabilitySet::SETGID;
        privilege::limit(&Kept { effective: still, permitted: still, bounding: CapabilitySet::empty() })?;
        lacking.note("no supplementary groups", || match thread::set_thread_groups(&[]) {
            Err(_) if rustix::process::getgroups().is_ok_and(|groups| groups.is_empty()) => Ok(()),
            done => Ok(done?),
        });
        if rustix::process::geteuid().is_root() {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            lacking.note("a user of its own", || {
                thread::set_thread_res_gid(gid, gid, gid)?;
                Ok(thread::set_thread_res_uid(uid, uid, uid)?)
            });
        }
        privilege::limit(&Kept::NOTHING)?;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Lacking(Vec<String>);

impl Lacking {
    fn note(&mut self, what: &str, work: impl FnOnce() -> io::Result<()>) {
        if let Err(error) = work() {
            self.0.push(format!("{what}: {error}"));
        }
    }
}

/// What is done once is done now: rustix asks where the kernel's clock is, and the C library sets signals up with the first
/// thread.
fn warm_up() {
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let first = std::thread::Builder::new().spawn(|| drop(std::hint::black_box(vec![0u8; 64])));
    let _ = first.map(std::thread::JoinHandle::join);
}

/// Namespaces of its own, with nothing in them.
fn apart(lacking: &mut Lacking) {
    let capable =
        thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    if !capable {
        lacking.note("namespaces without CAP_SYS_ADMIN", own_users);
    }
    for (what, flags) in [
        ("an empty network namespace", UnshareFlags::NEWNET),
        ("a namespace of its own for messages and shared memory", UnshareFlags::NEWIPC),
        ("a namespace of its own for the host's name", UnshareFlags::NEWUTS),
    ] {
        lacking.note(what, || pontoon_ports::sys::unshare(flags));
    }
    lacking.note("an empty file system", empty_root);
    if !rustix::process::getpid().is_init() {
        lacking.0.push("a process namespace of its own: control could not make one".to_owned());
    }
}

/// A user namespace in which the user stays who it is, and may make the others.
fn own_users() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    pontoon_ports::sys::unshare(UnshareFlags::NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Nothing to open, and nothing to find.
fn empty_root() -> io::Result<()> {
    pontoon_ports::sys::unshare(UnshareFlags::NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let mut places = ["/tmp", "/run", "/proc", "/dev"].into_iter();
    let place = places.find(|place| Path::new(place).is_dir()).ok_or(io::ErrorKind::NotFound)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(c"size=4k,nr_inodes=2,mode=555"))?;
    rustix::process::chdir(place)?;
    // The old root ends up over the new one, from where it is taken away with all that is mounted in it.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// No file, no TCP port, no abstract socket and no signal, as far as the kernel knows of these.
fn forbid_files() -> io::Result<()> {
    let enter = || {
        landlock::Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::from_all(ABI::V5))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?
            .restrict_self()
    };
    match enter() {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel has none, or it is not enabled"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        // In a thread of its own: this cannot be undone.
        let done = std::thread::spawn(|| Sandbox::default().enter()).join().expect("join");
        let lacking = done.expect("sandboxed");
        assert!(lacking.iter().any(|line| line.starts_with("a process namespace")), "{lacking:?}");
    }

    #[test]
    fn a_strict_one_is_whole_or_not_at_all() {
        let strict = Sandbox { mode: Mode::Strict, ..Sandbox::default() };
        let done = std::thread::spawn(move || strict.enter()).join().expect("join");
        let refusal = done.expect_err("tests are not in a process namespace of their own").to_string();
        assert!(refusal.starts_with("--sandbox=strict, and this host lacks: "), "{refusal}");
    }
}
