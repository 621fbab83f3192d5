//! Reports leases that come, change and go, as the lease logs say: what is on disk is what was acknowledged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pontoon_proto::event::{Event, LeaseChange};
use pontoon_proto::message::Lease;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;

use crate::document;
use crate::events::{Events, subject};
use crate::known::Shared;
use crate::leases::{self, Table};

/// Read of one log at a time.
const CHUNK: u64 = 1 << 20;
const LONGEST: Duration = Duration::from_secs(60);
const SUFFIX: &str = ".leases";

/// A log that is followed.
#[derive(Debug)]
struct Followed {
    table: Table,
    /// Parts that may grow, and how much of them the table knows; oldest first.
    parts: Vec<(PathBuf, u64)>,
}

/// The logs of active networks by name; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseWatch(Arc<Mutex<BTreeMap<String, Followed>>>);

impl LeaseWatch {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Followed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a log that holds `leases`; `part` grows.
    pub(crate) fn begin(&self, network: &str, leases: Vec<Lease>, part: &Path) {
        let offset = std::fs::metadata(part).map_or(0, |data| data.len());
        let parts = vec![(part.to_owned(), offset)];
        self.lock().insert(network.to_owned(), Followed { table: Table::new(leases), parts });
    }

    /// Another part grows from now on, and the one before perhaps for a while.
    pub(crate) fn rotate(&self, network: &str, part: &Path) {
        if let Some(followed) = self.lock().get_mut(network) {
            let done = followed.parts.len().saturating_sub(1);
            followed.parts.drain(..done);
            followed.parts.push((part.to_owned(), 0));
        }
    }

    pub(crate) fn end(&self, network: &str) {
        self.lock().remove(network);
    }

    /// Reads on; true when there may be more.
    fn read_on(&self, network: &str, told: &mut dyn FnMut(LeaseChange, &Lease)) -> io::Result<bool> {
        let mut followed = self.lock();
        let Some(Followed { table, parts }) = followed.get_mut(network) else { return Ok(false) };
        for (path, offset) in parts {
            if read_part(path, offset, table, told)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn networks(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn expire(&self, now: u64, told: &mut dyn FnMut(&str, LeaseChange, &Lease)) {
        for (network, followed) in self.lock().iter_mut() {
            followed.table.expire(now, &mut |change, lease| told(network, change, lease));
        }
    }

    /// How long no lease ends, at most.
    fn quiet(&self, now: u64) -> Duration {
        let next = self.lock().values().filter_map(|followed| followed.table.next_end()).min();
        next.map_or(LONGEST, |end| Duration::from_secs(end.saturating_sub(now))).min(LONGEST)
    }
}

/// Reads a chunk of whole lines; true when there may be more.
fn read_part(
    path: &Path,
    offset: &mut u64,
    table: &mut Table,
    told: &mut dyn FnMut(LeaseChange, &Lease),
) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < *offset {
        // Somebody cut it; what was known stays known.
        *offset = 0;
    }
    file.seek(SeekFrom::Start(*offset))?;
    let mut bytes = Vec::new();
    file.take(CHUNK).read_to_end(&mut bytes)?;
    let full = bytes.len() as u64 == CHUNK;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    // No line is that long: what has no end within a chunk is junk.
    let whole = end.unwrap_or(if full { bytes.len() } else { 0 });
    for line in bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n') {
        // A line that is damaged says nothing here either.
        let _ = table.line(line, told);
    }
    *offset += whole as u64;
    Ok(full)
}

/// Starts the thread that follows the logs. It ends with the process.
pub(crate) fn start(shared: Arc<Shared>) -> io::Result<()> {
    let (watch, events, dir) = {
        let state = shared.lock();
        (state.lease_watch.clone(), state.events.clone(), state.store.lease_dir())
    };
    let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&inotify, &dir, inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO)?;
    let reporter = Reporter { shared, watch, events, moved: false.into() };
    std::thread::Builder::new().name("lease-watch".into()).spawn(move || reporter.run(&inotify)).map(drop)
}

struct Reporter {
    shared: Arc<Shared>,
    watch: LeaseWatch,
    events: Events,
    /// A lease changed in a network that forwards ports.
    moved: std::sync::atomic::AtomicBool,
}

impl Reporter {
    fn run(&self, inotify: &OwnedFd) {
        for network in self.watch.networks() {
            self.read(&network);
        }
        loop {
            let now = leases::now();
            self.watch.expire(now, &mut |network, change, lease| self.tell(network, change, lease));
            // Expiry is in whole seconds.
            let quiet = self.watch.quiet(now).max(Duration::from_millis(200));
            let timeout = Timespec::try_from(quiet).ok();
            let waited = rustix::event::poll(&mut [PollFd::new(inotify, PollFlags::IN)], timeout.as_ref());
            if let Err(error) = waited.map_err(io::Error::from)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!("leases are no longer reported: {error}");
                return;
            }
            for network in changed(inotify) {
                self.read(&network);
            }
            if self.moved.swap(false, Ordering::Relaxed) {
                self.shared.lock().follow_guests();
            }
        }
    }

    fn read(&self, network: &str) {
        loop {
            let mut told = |change, lease: &Lease| self.tell(network, change, lease);
            match self.watch.read_on(network, &mut told) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::debug!("lease log of network '{network}': {error}"),
            }
        }
    }

    fn tell(&self, network: &str, detail: LeaseChange, lease: &Lease) {
        let known = self.shared.known();
        let Some(live) = known.live.by_name(network) else { return };
        if !live.network.port_forwards.is_empty() {
            self.moved.store(true, Ordering::Relaxed);
        }
        let prefix = document::address(&live.network).map_or(32, |net| net.prefix_len());
        let lease = leases::info(lease.clone(), prefix);
        self.events.publish(Event::Lease { subject: subject(&live.network), detail, lease });
    }
}

/// Names of the networks whose log was written to.
fn changed(inotify: &OwnedFd) -> Vec<String> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    let mut names: Vec<String> = Vec::new();
    while let Ok(event) = reader.next() {
        let name = event.file_name().and_then(|name| network_of(name.to_str().ok()?));
        names.extend(name.map(str::to_owned).filter(|name| !names.contains(name)));
    }
    names
}

/// `NAME.leases` and `NAME.leases.1` are of NAME.
fn network_of(file: &str) -> Option<&str> {
    let (name, number) = file.rsplit_once('.')?;
    let file = if number.bytes().all(|byte| byte.is_ascii_digit()) { name } else { file };
    file.strip_suffix(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::tests::{lease, line, removal};

    /// What is told of a log as it grows by `parts`, one reading each.
    fn told(known: Vec<Lease>, parts: &[Vec<u8>]) -> Vec<Vec<(LeaseChange, u8)>> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pontoon-watch-{}-{number}.leases", std::process::id()));
        let watch = LeaseWatch::default();
        let mut file = File::create(&path).expect("log");
        watch.begin("n", known, &path);
        let mut all = Vec::new();
        for part in parts {
            std::io::Write::write_all(&mut file, part).expect("write");
            let mut heard = Vec::new();
            let mut note = |change, lease: &Lease| heard.push((change, lease.ip.octets()[3]));
            while watch.read_on("n", &mut note).expect("read") {}
            all.push(heard);
        }
        std::fs::remove_file(&path).expect("remove");
        all
    }

    #[test]
    fn lines_tell_of_leases_that_come_change_and_go() {
        use LeaseChange::{Added, Released, Renewed};
        let moved = Lease { ip: lease(9, 0).ip, ..lease(3, 50) };
        let parts = [line(&lease(2, 20)), line(&lease(3, 0)), line(&lease(2, 40)), removal(2), line(&moved)];
        let expected = [
            vec![(Renewed, 2)],
            vec![(Added, 3)],
            vec![(Renewed, 2)],
            vec![(Released, 2)],
            vec![(Released, 3), (Added, 9)],
        ];
        assert_eq!(told(vec![lease(2, 10)], &parts), expected);
    }

    #[test]
    fn half_lines_wait_for_their_end_and_junk_is_passed_over() {
        use LeaseChange::Added;
        let whole = line(&lease(2, 0));
        let (half, rest) = whole.split_at(20);
        let junk = vec![b'x'; 3 << 20];
        let parts = [
            half.to_vec(),
            rest.to_vec(),
            b"garbage\n".to_vec(),
            junk,
            [&b"\n"[..], &line(&lease(3, 0))].concat(),
        ];
        let expected = [vec![], vec![(Added, 2)], vec![], vec![], vec![(Added, 3)]];
        assert_eq!(told(Vec::new(), &parts), expected);
    }

    #[test]
    fn a_log_is_followed_from_part_to_part() {
        let path = std::env::temp_dir().join(format!("pontoon-watch-parts-{}.leases", std::process::id()));
        let parts = [path.clone(), path.with_extension("leases.1"), path.with_extension("leases.2")];
        let mut files = parts.each_ref().map(|part| File::create(part).expect("part"));
        let watch = LeaseWatch::default();
        let heard = || {
            let mut heard = Vec::new();
            let mut note = |_, lease: &Lease| heard.push(lease.ip.octets()[3]);
            while watch.read_on("n", &mut note).expect("read") {}
            heard
        };
        let mut write = |part: usize, last| {
            std::io::Write::write_all(&mut files[part], &line(&lease(last, 0))).expect("write");
        };
        watch.begin("n", Vec::new(), &parts[0]);
        write(0, 2);
        watch.rotate("n", &parts[1]);
        write(0, 3);
        write(1, 4);
        assert_eq!(heard(), [2, 3, 4], "the datapath came to the new part late");
        watch.rotate("n", &parts[2]);
        write(1, 5);
        write(2, 6);
        assert_eq!(heard(), [5, 6]);
        for part in parts {
            std::fs::remove_file(part).expect("remove");
        }
        assert_eq!(network_of("a.b.leases.12"), Some("a.b"));
        assert_eq!(
            (network_of("a.leases"), network_of("a.leases.bak"), network_of("x")),
            (Some("a"), None, None)
        );
    }

    #[test]
    fn leases_end_in_their_time() {
        let watch = LeaseWatch::default();
        watch.begin("n", vec![lease(2, 100), lease(3, 0), lease(4, 130)], Path::new("/nonexistent"));
        let ended = |now| {
            let mut ended = Vec::new();
            watch.expire(now, &mut |network, change, lease| {
                ended.push((network.to_owned(), change, lease.ip.octets()[3]));
            });
            ended
        };
        assert_eq!(watch.quiet(90), Duration::from_secs(10));
        assert_eq!(ended(99), []);
        assert_eq!(ended(100), [("n".to_owned(), LeaseChange::Expired, 2)]);
        assert_eq!(watch.quiet(100), Duration::from_secs(30));
        assert_eq!(ended(1000), [("n".to_owned(), LeaseChange::Expired, 4)]);
        assert_eq!(watch.quiet(1000), LONGEST, "one is for ever");
        watch.begin("n", vec![lease(2, 100)], Path::new("/nonexistent"));
        watch.end("n");
        assert_eq!(ended(1000), []);
    }
}
