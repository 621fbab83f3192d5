//! What wakes the main loop: signals, reports of the datapath, and changes of the host that concern it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::fs::inotify;

use crate::link::Event;
use crate::news::{self, Inbox, Outlet};
use crate::{doors, netlink, sys};

/// Events the main loop has not seen yet.
const BACKLOG: usize = 256;
const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const HOST: Token = Token(2);
const FILES: Token = Token(3);
/// The first token of [`crate::doors`].
pub(crate) const DOORS: usize = 16;

/// Sends events to the main loop, from any thread.
#[derive(Clone)]
pub(crate) struct Notifier {
    sender: SyncSender<Event>,
    waker: Option<Arc<Waker>>,
    /// For what is not for the main loop.
    pub(crate) news: Inbox,
}

impl Notifier {
    /// False when too many wait already.
    pub(crate) fn offer(&self, event: Event) -> bool {
        let taken = self.sender.try_send(event).is_ok();
        self.wake();
        taken
    }

    /// For what may not be lost: waits for room.
    pub(crate) fn send(&self, event: Event) {
        // It fails only when the loop has ended.
        let _ = self.sender.send(event);
        self.wake();
    }

    fn wake(&self) {
        // Its counter can only be full when the loop is about to wake.
        let _ = self.waker.as_ref().map(|waker| waker.wake());
    }
}

/// A notifier that wakes nobody: its receiver waits by itself.
impl From<SyncSender<Event>> for Notifier {
    fn from(sender: SyncSender<Event>) -> Self {
        Self { sender, waker: None, news: news::channel().0 }
    }
}

/// Everything the main loop waits for. mio is edge-triggered: what wakes is read until there is no more.
pub(crate) struct Watch {
    poll: Poll,
    ready: Events,
    receiver: Receiver<Event>,
    notifier: Notifier,
    signals: OwnedFd,
    host: netlink::Monitor,
    files: Files,
    outlet: Option<Outlet>,
}

impl Watch {
    /// Signals are blocked from here on: to be called before any thread is started.
    pub(crate) fn new(resolv_conf: &Path) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (sender, receiver) = sync_channel(BACKLOG);
        let (news, outlet) = news::channel();
        let waker = Some(Arc::new(Waker::new(poll.registry(), WAKER)?));
        let notifier = Notifier { sender, waker, news };
        let (signals, host, files) = (sys::signals()?, netlink::Monitor::new()?, Files::new(resolv_conf)?);
        for (fd, token) in
            [(signals.as_raw_fd(), SIGNALS), (host.as_raw_fd(), HOST), (files.inotify.as_raw_fd(), FILES)]
        {
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            ready: Events::with_capacity(64),
            receiver,
            notifier,
            signals,
            host,
            files,
            outlet: Some(outlet),
        })
    }

    pub(crate) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Where what the datapath tells arrives; once.
    pub(crate) fn outlet(&mut self) -> Option<Outlet> {
        self.outlet.take()
    }

    /// Where others may have what they open watched.
    pub(crate) fn registry(&self) -> io::Result<mio::Registry> {
        self.poll.registry().try_clone()
    }

    /// What has happened, at most after `limit`; nothing is an answer too.
    pub(crate) fn wait(&mut self, limit: Duration) -> io::Result<Vec<Event>> {
        match self.poll.poll(&mut self.ready, Some(limit)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut found = Vec::new();
        let mut host = false;
        for event in &self.ready {
            match event.token() {
                SIGNALS => found.extend(sys::read_signal(&self.signals).map(Event::Signal)),
                HOST => host |= self.host.drain(),
                FILES => host |= self.files.drain(),
                other => found.extend(doors::of_token(other).map(Event::Door)),
            }
        }
        found.extend(host.then_some(Event::Host));
        found.extend(self.receiver.try_iter());
        Ok(found)
    }
}

/// Follows resolv.conf, which is replaced rather than written, and often a link.
struct Files {
    inotify: OwnedFd,
    path: PathBuf,
}

impl Files {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let files = Self { inotify, path: path.to_owned() };
        files.watch();
        Ok(files)
    }

    /// The directories of the file and of what it links to; those watched already stay.
    fn watch(&self) {
        let target = std::fs::canonicalize(&self.path).ok();
        for place in [Some(self.path.as_path()), target.as_deref()].into_iter().flatten() {
            let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let changes = inotify::WatchFlags::CLOSE_WRITE
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::DELETE;
            if let Err(error) = inotify::add_watch(&self.inotify, dir, changes) {
                tracing::debug!("{} is not watched: {error}", dir.display());
            }
        }
    }

    /// Reads what is reported; true when it names the file, or the file it links to.
    fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let target = std::fs::canonicalize(&self.path).ok();
        let names = [self.path.file_name(), target.as_deref().and_then(Path::file_name)];
        let mut ours = false;
        while let Ok(event) = reader.next() {
            use std::os::unix::ffi::OsStrExt;
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            ours |= names.iter().flatten().any(|wanted| Some(wanted.as_bytes()) == name);
        }
        self.watch();
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed_through_its_link() {
        let dir = std::env::temp_dir().join(format!("pontoon-watch-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("real")).expect("directory");
        let (link, file) = (dir.join("resolv.conf"), dir.join("real/stub.conf"));
        std::fs::write(&file, "nameserver 10.0.0.1\n").expect("write");
        std::os::unix::fs::symlink(&file, &link).expect("link");
        let files = Files::new(&link).expect("inotify");
        assert!(!files.drain(), "nothing has happened");
        std::fs::write(dir.join("other"), "").expect("write");
        assert!(!files.drain(), "another file");
        std::fs::write(&file, "nameserver 10.0.0.2\n").expect("write");
        assert!(files.drain(), "what it links to was written");
        let beside = dir.join("new");
        std::fs::write(&beside, "").expect("write");
        std::fs::rename(&beside, &link).expect("rename");
        assert!(files.drain(), "the link was replaced");
        std::fs::remove_dir_all(&dir).expect("clean");
    }
}
