//! The log of mappings (RFC 6888 section 4): who had which external port when, and not whom it spoke to. It is written
//! in a thread of its own. Nobody waits for it; a line that cannot be written is lost and counted, and the log says so
//! once it can be written again.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Lines that wait to be written.
const BACKLOG: usize = 4096;
/// Lines written at once.
const LINES: usize = 256;
/// Between two complaints in the daemon's own log.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Where journald listens.
pub(crate) const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    File(PathBuf),
    /// journald's socket.
    Journal(PathBuf),
}

/// A mapping that began or ended.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) time_ms: u64,
    pub(crate) begins: bool,
    pub(crate) network: String,
    pub(crate) guest: Option<String>,
    pub(crate) mac: String,
    pub(crate) proto: String,
    pub(crate) inside: Endpoint,
    pub(crate) outside: Endpoint,
}

/// Address and port, or query id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint(SocketAddrV4);

impl From<(std::net::Ipv4Addr, u16)> for Endpoint {
    fn from((address, port): (std::net::Ipv4Addr, u16)) -> Self {
        Self(SocketAddrV4::new(address, port))
    }
}

#[derive(Debug)]
enum Job {
    Entry(Entry),
    Lost(u64),
}

/// One end of the way to the log.
#[derive(Clone, Debug)]
pub(crate) struct MappingLog {
    sender: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl MappingLog {
    /// Starts the thread. Nothing is opened before there is something to write.
    pub(crate) fn start(target: Target) -> io::Result<Self> {
        let (sender, jobs) = sync_channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(target, Arc::clone(&lost));
        let run = move || writer.run(&jobs);
        std::thread::Builder::new().name("mapping-log".into()).spawn(run)?;
        Ok(Self { sender, lost })
    }

    pub(crate) fn write(&self, entry: Entry) {
        if self.sender.try_send(Job::Entry(entry)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So many changes were not heard of, some of them perhaps of mappings.
    pub(crate) fn lost(&self, count: u64) {
        if self.sender.try_send(Job::Lost(count)).is_err() {
            self.lost.fetch_add(count, Ordering::Relaxed);
        }
    }
}

struct Writer {
    target: Target,
    lost: Arc<AtomicU64>,
    file: Option<(File, u64)>,
    journal: Option<UnixDatagram>,
    /// The last line was cut short.
    torn: bool,
    complained: Option<Instant>,
}

impl Writer {
    fn new(target: Target, lost: Arc<AtomicU64>) -> Self {
        Self { target, lost, file: None, journal: None, torn: false, complained: None }
    }

    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut entries = Vec::new();
            for job in std::iter::once(first).chain(jobs.try_iter().take(LINES - 1)) {
                match job {
                    Job::Entry(entry) => entries.push(entry),
                    Job::Lost(count) => drop(self.lost.fetch_add(count, Ordering::Relaxed)),
                }
            }
            self.write(&entries);
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let written = match self.target.clone() {
            Target::File(path) => self.write_file(&path, entries, lost),
            Target::Journal(path) => self.write_journal(&path, entries, lost),
        };
        if let Err((error, left)) = written {
            self.lost.fetch_add(left, Ordering::Relaxed);
            let due = self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN);
            if due {
                self.complained = Some(Instant::now());
                tracing::error!("mappings cannot be logged to {}: {error}", self.target.name());
            }
        }
    }

    /// What is not written is counted with the error.
    fn write_file(&mut self, path: &PathBuf, entries: &[Entry], lost: u64) -> Result<(), (io::Error, u64)> {
        let all = lost + entries.len() as u64;
        let mut file = self.open(path).map_err(|error| (error, all))?;
        let mut text = String::from(if self.torn { "\n" } else { "" });
        if lost > 0 {
            text.push_str(&lost_line(lost));
        }
        for entry in entries {
            text.push_str(&line(entry));
        }
        let mut written = 0;
        let mut octets = text.as_bytes();
        let error = loop {
            match file.write(octets) {
                _ if octets.is_empty() => break None,
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    octets = octets.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        let out = text.get(..written).unwrap_or_default();
        if !out.is_empty() {
            self.torn = !out.ends_with('\n');
        }
        let Some(error) = error else { return Ok(()) };
        let done =
            out.lines().filter(|line| !line.is_empty()).count() - usize::from(self.torn && written > 0);
        // The line about what was lost stands for all of that.
        let told = if lost > 0 && done > 0 { lost + done as u64 - 1 } else { done as u64 };
        Err((error, all.saturating_sub(told)))
    }

    /// The file of that name at present: it may have been moved away, to begin another.
    fn open(&mut self, path: &PathBuf) -> io::Result<File> {
        let present = std::fs::metadata(path).map(|data| data.ino()).ok();
        match &self.file {
            Some((file, inode)) if present == Some(*inode) => file.try_clone(),
            _ => {
                let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
                let inode = file.metadata()?.ino();
                self.torn = false;
                self.file = Some((file.try_clone()?, inode));
                Ok(file)
            }
        }
    }

    fn write_journal(
        &mut self,
        path: &PathBuf,
        entries: &[Entry],
        lost: u64,
    ) -> Result<(), (io::Error, u64)> {
        let mut left = lost + entries.len() as u64;
        if self.journal.is_none() {
            let socket = UnixDatagram::unbound().and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.connect(path)?;
                Ok(socket)
            });
            self.journal = Some(socket.map_err(|error| (error, left))?);
        }
        let Some(journal) = &self.journal else { return Ok(()) };
        let notes = (lost > 0).then(|| (journal_text(&lost_line(lost), None), lost)).into_iter();
        let lines = entries.iter().map(|entry| (journal_text(&line(entry), Some(entry)), 1));
        for (text, stands_for) in notes.chain(lines) {
            if let Err(error) = journal.send(text.as_bytes()) {
                self.journal = None;
                return Err((error, left));
            }
            left -= stands_for;
        }
        Ok(())
    }
}

impl Target {
    /// `journal`, or a path.
    pub(crate) fn read(text: &str) -> Self {
        if text == "journal" { Self::Journal(JOURNAL.into()) } else { Self::File(text.into()) }
    }

    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Journal(_) => "the journal".to_owned(),
        }
    }
}

fn stamp(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

//= RFC6888#REQ-12
fn line(entry: &Entry) -> String {
    let word = if entry.begins { "begin" } else { "end" };
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = write!(line, "{} {word:<5} network={}", stamp(entry.time_ms), plain(&entry.network));
    let guest = entry.guest.as_deref().map_or_else(|| "-".to_owned(), plain);
    let _ = write!(line, " guest={guest} mac={} proto={}", entry.mac, entry.proto);
    let _ = writeln!(line, " inside={} outside={}", entry.inside.0, entry.outside.0);
    line
}

fn lost_line(count: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{} lost  {count}\n", stamp(u64::try_from(now.as_millis()).unwrap_or(0)))
}

/// A word of a line: blanks and control characters would make another line, or another word.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

/// In journald's own protocol, with the fields apart.
fn journal_text(line: &str, entry: Option<&Entry>) -> String {
    let mut text = format!("MESSAGE={line}SYSLOG_IDENTIFIER=pontoon-mappings\nPRIORITY=6\n");
    if let Some(entry) = entry {
        let guest = entry.guest.as_deref().map(plain).unwrap_or_default();
        let fields = [
            ("NETWORK", plain(&entry.network)),
            ("GUEST", guest),
            ("MAC", entry.mac.clone()),
            ("PROTO", entry.proto.clone()),
            ("INSIDE", entry.inside.0.to_string()),
            ("OUTSIDE", entry.outside.0.to_string()),
        ];
        for (name, value) in fields {
            let _ = writeln!(text, "PONTOON_{name}={value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn entry(port: u16, begins: bool) -> Entry {
        Entry {
            time_ms: 1_516_539_405_007,
            begins,
            network: "nat ntw".into(),
            guest: Some("node-2\n".into()),
            mac: "52:54:00:00:00:01".into(),
            proto: "tcp".into(),
            inside: (Ipv4Addr::new(192, 168, 100, 10), port).into(),
            outside: (Ipv4Addr::new(203, 0, 113, 2), 61234).into(),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pontoon-mappings-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    //= RFC6888#REQ-12 type=test
    #[test]
    fn a_line_says_who_had_which_port_when() {
        let line = line(&entry(40000, true));
        let words = "2018-01-21T12:56:45.007Z begin network=nat_ntw guest=node-2_ mac=52:54:00:00:00:01 proto=tcp \
                     inside=192.168.100.10:40000 outside=203.0.113.2:61234\n";
        assert_eq!(line, words);
    }

    #[test]
    fn a_full_disk_costs_lines_that_are_counted() {
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(Target::File("/dev/full".into()), Arc::clone(&lost));
        writer.write(&[entry(1, true), entry(1, false)]);
        writer.write(&[entry(2, true)]);
        assert_eq!(lost.load(Ordering::Relaxed), 3);
        let path = scratch("full");
        writer.target = Target::File(path.clone());
        writer.write(&[entry(3, true)]);
        let text = std::fs::read_to_string(&path).expect("log");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].ends_with(" lost  3") && lines[1].contains(":3 "), "{text}");
        assert_eq!(lost.load(Ordering::Relaxed), 0);
        std::fs::remove_file(path).expect("clean");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let (path, old) = (scratch("new"), scratch("old"));
        let mut writer = Writer::new(Target::File(path.clone()), Arc::default());
        writer.write(&[entry(1, true)]);
        std::fs::rename(&path, &old).expect("rename");
        writer.write(&[entry(2, true)]);
        let count = |path: &PathBuf| std::fs::read_to_string(path).expect("log").lines().count();
        assert_eq!((count(&path), count(&old)), (1, 1));
        for path in [path, old] {
            std::fs::remove_file(path).expect("clean");
        }
    }

    #[test]
    fn the_journal_gets_fields_and_is_found_again() {
        let path = scratch("journal");
        let journal = UnixDatagram::bind(&path).expect("socket");
        let mut writer = Writer::new(Target::Journal(path.clone()), Arc::default());
        writer.write(&[entry(7, false)]);
        let mut octets = [0; 1024];
        let length = journal.recv(&mut octets).expect("entry");
        let text = String::from_utf8_lossy(&octets[..length]).into_owned();
        assert!(text.starts_with("MESSAGE=2018-") && text.ends_with("PONTOON_OUTSIDE=203.0.113.2:61234\n"));
        assert!(text.contains("\nPONTOON_NETWORK=nat_ntw\nPONTOON_GUEST=node-2_\n"), "{text}");
        drop(journal);
        std::fs::remove_file(&path).expect("clean");
        writer.write(&[entry(7, true)]);
        writer.write(&[entry(7, true)]);
        let journal = UnixDatagram::bind(&path).expect("socket");
        writer.write(&[entry(8, true)]);
        let length = journal.recv(&mut octets).expect("entry");
        assert!(String::from_utf8_lossy(&octets[..length]).contains(" lost  2\n"));
        std::fs::remove_file(&path).expect("clean");
    }
}
