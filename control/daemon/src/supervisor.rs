//! Starting the datapath process, or finding the one that runs already.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::Context;
use pontoon_proto::Document;
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;

use crate::args::DaemonArgs;
use crate::link::{Event, Link};
use crate::store::remove;

/// Time a datapath gets to end by itself.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);

/// What starts datapaths, and the child it started last.
pub(crate) struct Supervisor {
    socket: PathBuf,
    log: PathBuf,
    /// Workers of the next datapath: as many as the taps have queues.
    pub(crate) workers: u16,
    extra: Vec<String>,
    /// NAT sessions: memory that outlives the datapath. Absent after taking over a running one.
    sessions: Option<OwnedFd>,
    session_bytes: u64,
    child: Option<Child>,
    links: u64,
}

impl Supervisor {
    pub(crate) fn new(args: &DaemonArgs) -> Self {
        Self {
            socket: args.runtime_dir.join("datapath.sock"),
            log: args.runtime_dir.join("datapath.log"),
            workers: args.workers.max(1),
            extra: args.datapath_args.clone(),
            sessions: None,
            session_bytes: args.session_bytes,
            child: None,
            links: 0,
        }
    }

    /// The datapath that runs already, if one answers.
    pub(crate) fn take_over(&mut self, events: &SyncSender<Event>) -> Option<(Link, Document)> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        match self.open(stream, events) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::warn!("the datapath at {} does not answer: {error}", self.socket.display());
                None
            }
        }
    }

    fn open(&mut self, stream: UnixStream, events: &SyncSender<Event>) -> io::Result<(Link, Document)> {
        self.links += 1;
        Link::open(stream, self.links, events.clone())
    }

    /// Starts a datapath process and greets it.
    pub(crate) fn start(&mut self, events: &SyncSender<Event>) -> anyhow::Result<Link> {
        self.end_child();
        remove(&self.socket)?;
        let listener = UnixListener::bind(&self.socket)
            .with_context(|| format!("cannot listen on {}", self.socket.display()))?;
        restrict(&self.socket, 0o600)?;
        let (ours, theirs) = UnixStream::pair()?;
        let sessions = self.sessions()?;
        let child = self.spawn(listener.into(), theirs.into(), sessions);
        self.child = Some(child.context("cannot start the datapath process")?);
        let greeted = self.open(ours, events);
        let (link, _) = greeted.with_context(|| {
            format!("the datapath process did not start; its messages are in {}", self.log.display())
        })?;
        tracing::info!("datapath started, pid {}", link.pid);
        Ok(link)
    }

    fn sessions(&mut self) -> io::Result<OwnedFd> {
        if let Some(sessions) = &self.sessions {
            return sessions.try_clone();
        }
        let memory = rustix::fs::memfd_create("pontoon-sessions", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, self.session_bytes)?;
        let copy = memory.try_clone()?;
        self.sessions = Some(memory);
        Ok(copy)
    }

    fn spawn(&self, listener: OwnedFd, control: OwnedFd, sessions: OwnedFd) -> io::Result<Child> {
        for fd in [&listener, &control, &sessions] {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)?;
        Command::new("/proc/self/exe")
            .arg("datapath")
            .args(["--listen-fd", &listener.as_raw_fd().to_string()])
            .args(["--control-fd", &control.as_raw_fd().to_string()])
            .args(["--session-fd", &sessions.as_raw_fd().to_string()])
            .args(["--workers", &self.workers.to_string()])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
    }

    /// After `Quit`: waits for the process, kills it when it does not end, and removes its socket.
    pub(crate) fn finish(&mut self, link: &Link) {
        let deadline = Instant::now() + QUIT_TIMEOUT;
        while Instant::now() < deadline {
            let ended = match &mut self.child {
                Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
                None => !Path::new(&format!("/proc/{}", link.pid)).exists(),
            };
            if ended {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.end_child();
        link.close();
        let _ = remove(&self.socket);
    }

    fn end_child(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            match child.wait() {
                Ok(status) => tracing::info!("datapath ended: {status}"),
                Err(error) => tracing::warn!("datapath: {error}"),
            }
        }
    }
}

pub(crate) fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
