//! Starting the datapath process, or finding the one that runs already.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use pontoon_proto::privilege;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::CapabilitySet;

use crate::args::DaemonArgs;
use crate::link::{Greeted, Link};
use crate::store::remove;
use crate::sys;
use crate::watch::Notifier;

/// Time a datapath gets to end by itself.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Of the environment: what a backtrace needs, for one, is out of its reach.
const PASSED_ON: [&str; 2] = ["PONTOON_LOG", "PONTOON_LEVERS"];

/// What starts datapaths, and the child it started last.
pub(crate) struct Supervisor {
    socket: PathBuf,
    log: PathBuf,
    /// Workers of the next datapath: as many as the taps have queues.
    pub(crate) workers: u16,
    extra: Vec<String>,
    user: (u32, u32),
    /// NAT sessions: memory that outlives the datapath.
    sessions: Option<OwnedFd>,
    session_bytes: u64,
    process: Option<Process>,
    links: u64,
}

impl Supervisor {
    /// `user`: who datapaths run as, and their group.
    pub(crate) fn new(args: &DaemonArgs, user: (u32, u32)) -> Self {
        Self {
            socket: args.runtime_dir.join("datapath.sock"),
            log: args.runtime_dir.join("datapath.log"),
            workers: args.workers.max(1),
            extra: args.datapath_args.clone(),
            user,
            sessions: None,
            session_bytes: args.session_bytes,
            process: None,
            links: 0,
        }
    }

    /// The datapath that runs already, if one answers; one that does not is ended.
    pub(crate) fn take_over(&mut self, events: &Notifier) -> Option<Greeted> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        let process = sys::peer_process(&stream).map(|handle| Process { handle, child: None });
        let pid = sockopt::socket_peercred(&stream).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
        match self.open(stream, pid.cast_unsigned(), events) {
            Ok(mut greeted) => {
                self.process =
                    process.inspect_err(|error| tracing::warn!("the datapath's process: {error}")).ok();
                self.sessions = greeted.handed.sessions.take().filter(is_session_memory);
                Some(greeted)
            }
            Err(error) => {
                tracing::warn!("the datapath at {} does not answer: {error}", self.socket.display());
                process.ok()?.end();
                None
            }
        }
    }

    fn open(&mut self, stream: UnixStream, pid: u32, events: &Notifier) -> io::Result<Greeted> {
        self.links += 1;
        let greeted = Link::open(stream, pid, self.links, events.clone())?;
        for line in &greeted.link.lacking {
            tracing::warn!("the datapath's sandbox lacks {line}");
        }
        Ok(greeted)
    }

    /// Starts a datapath process and greets it.
    pub(crate) fn start(&mut self, events: &Notifier) -> anyhow::Result<Link> {
        self.end_process();
        remove(&self.socket)?;
        let listener = UnixListener::bind(&self.socket)
            .with_context(|| format!("cannot listen on {}", self.socket.display()))?;
        restrict(&self.socket, 0o600)?;
        let (ours, theirs) = UnixStream::pair()?;
        let sessions = self.sessions()?;
        let child = self.spawn(listener.into(), theirs.into(), sessions);
        let child = child.context("cannot start the datapath process")?;
        let pid = child.id();
        self.process = Some(Process::of(child).context("cannot watch the datapath process")?);
        let greeted = self.open(ours, pid, events);
        let Greeted { link, .. } = greeted.with_context(|| {
            format!("the datapath process did not start; its messages are in {}", self.log.display())
        })?;
        tracing::info!("datapath started, pid {}", link.pid);
        Ok(link)
    }

    fn sessions(&mut self) -> io::Result<OwnedFd> {
        if let Some(sessions) = &self.sessions {
            return sessions.try_clone();
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create("pontoon-sessions", flags)?;
        rustix::fs::ftruncate(&memory, self.session_bytes)?;
        // A file that shrinks under its mapping kills the process that maps it.
        rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let copy = memory.try_clone()?;
        self.sessions = Some(memory);
        Ok(copy)
    }

    fn spawn(&self, listener: OwnedFd, control: OwnedFd, sessions: OwnedFd) -> io::Result<Child> {
        for fd in [&listener, &control, &sessions] {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("datapath")
            .args(["--listen-fd", &listener.as_raw_fd().to_string()])
            .args(["--control-fd", &control.as_raw_fd().to_string()])
            .args(["--session-fd", &sessions.as_raw_fd().to_string()])
            .args(["--workers", &self.workers.to_string()])
            .args(["--uid", &self.user.0.to_string(), "--gid", &self.user.1.to_string()])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        sys::spawn_apart(&mut command)
    }

    /// After `Quit`: waits for the process, kills it when it does not end, and removes its socket.
    pub(crate) fn finish(&mut self, link: &Link) {
        if let Some(process) = &self.process {
            process.wait(QUIT_TIMEOUT);
        }
        self.end_process();
        link.close();
        let _ = remove(&self.socket);
    }

    fn end_process(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }
}

/// A datapath: started here, or by the control before.
struct Process {
    handle: OwnedFd,
    /// To be waited for, so that it does not stay as a zombie.
    child: Option<Child>,
}

impl Process {
    fn of(child: Child) -> io::Result<Self> {
        let handle = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { handle, child: Some(child) })
    }

    /// Waits until it has ended, at most so long.
    fn wait(&self, limit: Duration) {
        let mut handle = [PollFd::new(&self.handle, PollFlags::IN)];
        let _ = rustix::event::poll(&mut handle, Timespec::try_from(limit).ok().as_ref());
    }

    /// Kills it if it has not ended by itself, and waits until it is gone: its taps have to be free.
    fn end(mut self) {
        // It is another user's process.
        let killed = privilege::with(CapabilitySet::KILL, || {
            match rustix::process::pidfd_send_signal(&self.handle, Signal::KILL) {
                Err(Errno::SRCH) => Ok(()),
                done => Ok(done?),
            }
        });
        if let Err(error) = killed {
            tracing::warn!("the datapath cannot be killed: {error}");
            return;
        }
        self.wait(QUIT_TIMEOUT);
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => tracing::info!("datapath ended: {status}"),
            Some(Err(error)) => tracing::warn!("datapath: {error}"),
            None => tracing::info!("the datapath of the control before has ended"),
        }
    }
}

/// Memory that a control made and the datapath could not change the size of.
fn is_session_memory(memory: &OwnedFd) -> bool {
    let sealed = rustix::fs::fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    if !sealed {
        tracing::warn!("the datapath gave no session memory back: if it dies, NAT sessions are lost");
    }
    sealed
}

pub(crate) fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
