//! The lease log of one network and its copy: appended by the datapath, read and compacted here.
//!
//! A line is eight hex digits of the CRC-32 (IEEE) of the JSON, a space, the JSON and a line feed. The JSON is a
//! lease or `{"remove":"IP"}`; the last line about an address wins. A line that does not check is skipped, and what
//! it said is taken from the other file.
//!
//! A log that has grown is continued in `NAME.leases.1` and so on. All parts are read one after the other; those the
//! datapath no longer writes to are folded into the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pontoon_proto::api::LeaseInfo;
use pontoon_proto::event::LeaseChange;
use pontoon_proto::message::Lease;
use serde::Deserialize;

use crate::defaults::hex;
use crate::disk::{Disk, with_suffix};
use crate::store::COPY;

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Entry {
    Remove { remove: Ipv4Addr },
    Lease(Lease),
}

impl Entry {
    fn ip(&self) -> Ipv4Addr {
        match self {
            Self::Remove { remove } => *remove,
            Self::Lease(lease) => lease.ip,
        }
    }
}

/// What a log holds, and the lines in either file that say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) leases: Vec<Lease>,
    pub(crate) damaged: Vec<Vec<u8>>,
}

/// Reads the log; a missing file is an empty log.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Log> {
    read_parts(disk, &parts(disk, path))
}

fn read_parts(disk: &dyn Disk, parts: &[PathBuf]) -> io::Result<Log> {
    let mut whole = Half::default();
    for part in parts {
        let half = read_part(disk, part)?;
        whole.entries.extend(half.entries);
        whole.damaged.extend(half.damaged);
    }
    Ok(Log { leases: replay(whole.entries.into_iter()), damaged: whole.damaged })
}

/// One part of a log and its copy.
fn read_part(disk: &dyn Disk, path: &Path) -> io::Result<Half> {
    let copy = disk.read(&with_suffix(path, COPY)).map(|bytes| parse(&bytes));
    match (disk.read(path), copy) {
        (Ok(bytes), copy) => Ok(merge(parse(&bytes), copy.unwrap_or_default())),
        (Err(_), Ok(copy)) if disk.is_there(path) => Ok(copy),
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Half::default()),
    }
}

/// The parts of a log, oldest first; the last one is written to. Those of a log that was removed are none of it.
pub(crate) fn parts(disk: &dyn Disk, path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if disk.is_there(path) {
        let numbers = later(disk, path).into_iter().filter(|number| disk.is_there(&part(path, *number)));
        all.extend(numbers.map(|number| part(path, number)));
    }
    all
}

fn part(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

/// The numbers of parts of which there is a file or a copy.
fn later(disk: &dyn Disk, path: &Path) -> BTreeSet<u32> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return BTreeSet::new();
    };
    let number = |file: &String| {
        let rest = file.strip_prefix(name)?.strip_prefix('.')?;
        rest.strip_suffix(COPY).unwrap_or(rest).parse().ok()
    };
    disk.list(dir).unwrap_or_default().iter().filter_map(number).collect()
}

/// What is read line by line.
#[derive(Default)]
struct Half {
    entries: Vec<Entry>,
    damaged: Vec<Vec<u8>>,
}

fn parse(bytes: &[u8]) -> Half {
    let mut half = Half::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(entry) => half.entries.push(entry),
            None => half.damaged.push(line.to_vec()),
        }
    }
    half
}

/// The file that says more counts, and the other one for addresses it says nothing of.
fn merge(one: Half, other: Half) -> Half {
    let weight = |half: &Half| (half.entries.len(), std::cmp::Reverse(half.damaged.len()));
    let (more, less) = if weight(&one) >= weight(&other) { (one, other) } else { (other, one) };
    let mut entries = Vec::new();
    // Without damage the shorter file only lacks its end.
    if !more.damaged.is_empty() {
        let said: BTreeSet<Ipv4Addr> = more.entries.iter().map(Entry::ip).collect();
        entries.extend(less.entries.into_iter().filter(|entry| !said.contains(&entry.ip())));
    }
    entries.extend(more.entries);
    let mut damaged = more.damaged;
    damaged.extend(less.damaged.into_iter().filter(|line| !damaged.contains(line)).collect::<Vec<_>>());
    Half { entries, damaged }
}

fn replay(entries: impl Iterator<Item = Entry>) -> Vec<Lease> {
    let mut table = Table::default();
    entries.for_each(|entry| table.enter(entry, &mut |_, _| {}));
    table.leases.into_values().collect()
}

/// Who holds which address, as the lines of a log say.
#[derive(Debug, Default)]
pub(crate) struct Table {
    leases: BTreeMap<Ipv4Addr, Lease>,
    clients: BTreeMap<Client, Ipv4Addr>,
    /// When those that end do.
    ends: BTreeSet<(u64, Ipv4Addr)>,
}

/// What a client is known by: its identifier, else its MAC address (RFC 2131 4.2).
type Client = (Option<Vec<u8>>, Option<[u8; 6]>);

fn client(lease: &Lease) -> Client {
    match &lease.client_id {
        Some(id) => (Some(id.clone()), None),
        None => (None, Some(lease.mac)),
    }
}

impl Table {
    pub(crate) fn new(leases: Vec<Lease>) -> Self {
        let mut table = Self::default();
        leases.into_iter().for_each(|lease| table.set(lease, &mut |_, _| {}));
        table
    }

    /// Takes one line; `None` when it cannot be read.
    pub(crate) fn line(&mut self, line: &[u8], told: &mut dyn FnMut(LeaseChange, &Lease)) -> Option<()> {
        self.enter(parse_line(line)?, told);
        Some(())
    }

    fn enter(&mut self, entry: Entry, told: &mut dyn FnMut(LeaseChange, &Lease)) {
        match entry {
            Entry::Lease(lease) => self.set(lease, told),
            Entry::Remove { remove } => self.take(remove, LeaseChange::Released, told),
        }
    }

    fn set(&mut self, lease: Lease, told: &mut dyn FnMut(LeaseChange, &Lease)) {
        // A client has one lease: a new one replaces what it had, also at another address.
        if let Some(old) = self.clients.get(&client(&lease)).copied().filter(|old| *old != lease.ip) {
            self.take(old, LeaseChange::Released, told);
        }
        let same = self.leases.get(&lease.ip).is_some_and(|held| client(held) == client(&lease));
        if same {
            self.take(lease.ip, LeaseChange::Renewed, &mut |_, _| {});
        } else {
            self.take(lease.ip, LeaseChange::Released, told);
        }
        told(if same { LeaseChange::Renewed } else { LeaseChange::Added }, &lease);
        self.clients.insert(client(&lease), lease.ip);
        if lease.expiry != 0 {
            self.ends.insert((lease.expiry, lease.ip));
        }
        self.leases.insert(lease.ip, lease);
    }

    fn take(&mut self, ip: Ipv4Addr, why: LeaseChange, told: &mut dyn FnMut(LeaseChange, &Lease)) {
        let Some(lease) = self.leases.remove(&ip) else { return };
        self.clients.remove(&client(&lease));
        self.ends.remove(&(lease.expiry, ip));
        told(why, &lease);
    }

    /// Lets go what has ended at `now` (Unix seconds).
    pub(crate) fn expire(&mut self, now: u64, told: &mut dyn FnMut(LeaseChange, &Lease)) {
        while let Some((end, ip)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            self.ends.remove(&(end, ip));
            self.take(ip, LeaseChange::Expired, told);
        }
    }

    /// When the next lease ends.
    pub(crate) fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(end, _)| *end)
    }
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    if line.get(8) != Some(&b' ') || !sum.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != crc32(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn format_line(lease: &Lease) -> io::Result<String> {
    let json = serde_json::to_string(lease)?;
    Ok(format!("{:08x} {json}\n", crc32(json.as_bytes())))
}

/// Those not expired at `now` (Unix seconds).
pub(crate) fn current(leases: Vec<Lease>, now: u64) -> Vec<Lease> {
    leases.into_iter().filter(|lease| lease.expiry == 0 || lease.expiry > now).collect()
}

/// Makes one part of all, without what is expired, replaced or damaged. Damaged lines are set aside. Only for a log
/// nobody writes to.
pub(crate) fn compact(disk: &dyn Disk, path: &Path) -> io::Result<Log> {
    let log = fold(disk, path, &parts(disk, path))?;
    for number in later(disk, path) {
        forget_part(disk, &part(path, number));
    }
    Ok(log)
}

/// Rewrites the first part so that it says all that these do.
fn fold(disk: &dyn Disk, path: &Path, parts: &[PathBuf]) -> io::Result<Log> {
    let mut log = read_parts(disk, parts)?;
    if !log.damaged.is_empty() {
        let mut lines = log.damaged.join(&b'\n');
        lines.push(b'\n');
        let kept = match disk.set_aside(path, &lines) {
            Ok(place) => format!("they are kept in {}", place.display()),
            Err(error) => format!("they cannot be kept: {error}"),
        };
        tracing::error!("{}: {} lines cannot be read; {kept}", path.display(), log.damaged.len());
    }
    log.leases = current(log.leases, now());
    let mut text = String::new();
    for lease in &log.leases {
        text.push_str(&format_line(lease)?);
    }
    disk.replace(path, text.as_bytes())?;
    let copy = with_suffix(path, COPY);
    if let Err(error) = disk.replace_unsynced(&copy, text.as_bytes()) {
        tracing::warn!("{} cannot be written: {error}", copy.display());
    }
    Ok(log)
}

fn forget_part(disk: &dyn Disk, part: &Path) {
    for file in [part.to_owned(), with_suffix(part, COPY)] {
        if let Err(error) = disk.remove(&file) {
            tracing::warn!("{} cannot be removed: {error}", file.display());
        }
    }
}

/// Begins a new part, and folds those before the one that was written to until now: the datapath may still be at
/// that one.
pub(crate) fn rotate(disk: &dyn Disk, path: &Path) -> io::Result<PathBuf> {
    let parts = parts(disk, path);
    let numbers = later(disk, path);
    if let [folded @ .., _last] = parts.as_slice()
        && folded.len() > 1
    {
        fold(disk, path, folded)?;
        folded.iter().skip(1).for_each(|part| forget_part(disk, part));
    }
    let next = part(path, numbers.last().map_or(1, |number| number + 1));
    // The copy may be missing, the part itself not.
    disk.replace(&next, b"")?;
    Ok(next)
}

/// The part that is written to and its copy, to be appended to; without the copy if it cannot be opened.
pub(crate) fn open(part: &Path) -> io::Result<Vec<File>> {
    let open = |path: &Path| OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut files = vec![open(part)?];
    match open(&with_suffix(part, COPY)) {
        Ok(copy) => files.push(copy),
        Err(error) => tracing::warn!("the copy of {} cannot be opened: {error}", part.display()),
    }
    Ok(files)
}

/// Removes all of a log.
pub(crate) fn remove(disk: &dyn Disk, path: &Path) {
    let later = later(disk, path);
    forget_part(disk, path);
    later.into_iter().for_each(|number| forget_part(disk, &part(path, number)));
}

/// A lease as the API shows it.
pub(crate) fn info(lease: Lease, prefix: u8) -> LeaseInfo {
    LeaseInfo {
        expiry: lease.expiry,
        mac: hex(&lease.mac),
        ip: lease.ip,
        prefix,
        hostname: lease.hostname,
        client_id: lease.client_id.as_deref().map(hex),
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// CRC-32 of IEEE 802.3, reflected.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
#[path = "leases_tests.rs"]
pub(crate) mod tests;
