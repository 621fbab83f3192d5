//! The lease log of one network and its copy: appended by the datapath, read and compacted here.
//!
//! A line is eight hex digits of the CRC-32 (IEEE) of the JSON, a space, the JSON and a line feed. The JSON is a
//! lease or `{"remove":"IP"}`; the last line about an address wins. A line that does not check is skipped, and what
//! it said is taken from the other file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
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
    /// Of the log itself, in bytes.
    pub(crate) length: u64,
}

/// Reads the log; a missing file is an empty log.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Log> {
    let copy = || disk.read(&with_suffix(path, COPY));
    match (disk.read(path), copy()) {
        (Ok(bytes), copy) => {
            let copy = copy.map_or_else(|_| Half::default(), |copy| parse(&copy));
            Ok(Log { length: bytes.len() as u64, ..merge(&parse(&bytes), &copy) })
        }
        (Err(_), Ok(copy)) if disk.is_there(path) => Ok(merge(&parse(&copy), &Half::default())),
        (Err(error), _) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Log::default()),
    }
}

/// One file, read line by line.
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
fn merge(one: &Half, other: &Half) -> Log {
    let weight = |half: &Half| (half.entries.len(), std::cmp::Reverse(half.damaged.len()));
    let (more, less) = if weight(one) >= weight(other) { (one, other) } else { (other, one) };
    let said: BTreeSet<Ipv4Addr> = more.entries.iter().map(Entry::ip).collect();
    let rest = less.entries.iter().filter(|entry| !said.contains(&entry.ip()));
    // Without damage the shorter file only lacks its end.
    let rest = rest.filter(|_| !more.damaged.is_empty());
    let leases = replay(rest.chain(&more.entries).cloned());
    let mut damaged = [one.damaged.clone(), other.damaged.clone()].concat();
    damaged.dedup();
    Log { leases, damaged, length: 0 }
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

/// Rewrites both files without what is expired, replaced or damaged. Damaged lines are set aside.
pub(crate) fn compact(disk: &dyn Disk, path: &Path) -> io::Result<Log> {
    let mut log = read(disk, path)?;
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
    log.length = text.len() as u64;
    disk.replace(path, text.as_bytes())?;
    let copy = with_suffix(path, COPY);
    if let Err(error) = disk.replace(&copy, text.as_bytes()) {
        tracing::warn!("{} cannot be written: {error}", copy.display());
    }
    Ok(log)
}

/// Both files, to be appended to; the log alone if its copy cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<Vec<File>> {
    let open = |path: &Path| OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut files = vec![open(path)?];
    match open(&with_suffix(path, COPY)) {
        Ok(copy) => files.push(copy),
        Err(error) => tracing::warn!("the copy of {} cannot be opened: {error}", path.display()),
    }
    Ok(files)
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
pub(crate) mod tests {
    use super::*;
    use crate::disk_fake::{FakeDisk, Fault};

    pub(crate) fn lease(last: u8, expiry: u64) -> Lease {
        Lease {
            ip: Ipv4Addr::new(192, 168, 122, last),
            mac: [0x52, 0x54, 0, 0, 0, last],
            client_id: Some(vec![1, 2, last]),
            hostname: Some(format!("guest{last}")),
            expiry,
        }
    }

    pub(crate) fn line(lease: &Lease) -> Vec<u8> {
        format_line(lease).expect("line").into_bytes()
    }

    /// The line that takes an address of [`lease`] away.
    pub(crate) fn removal(last: u8) -> Vec<u8> {
        let json = format!(r#"{{"remove":"192.168.122.{last}"}}"#);
        format!("{:08x} {json}\n", crc32(json.as_bytes())).into_bytes()
    }

    fn log_of(leases: &[Lease]) -> Vec<u8> {
        leases.iter().map(|lease| format_line(lease).expect("line")).collect::<String>().into_bytes()
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_client_that_moved_leaves_its_old_address_but_not_to_take_anothers() {
        let moved = Lease { ip: Ipv4Addr::new(192, 168, 122, 9), ..lease(2, 30) };
        let heir = Lease { ip: Ipv4Addr::new(192, 168, 122, 2), ..lease(3, 40) };
        let again = Lease { ip: Ipv4Addr::new(192, 168, 122, 10), ..lease(2, 50) };
        let log = alone(&log_of(&[lease(2, 0), moved.clone()]));
        assert_eq!(log.leases, [moved]);
        let log = alone(&log_of(&[lease(2, 20), heir.clone(), again.clone()]));
        assert_eq!(log.leases, [heir, again]);
    }

    #[test]
    fn the_last_line_about_an_address_wins_and_remove_removes() {
        let mut bytes = log_of(&[lease(2, 10), lease(3, 10), lease(2, 20)]);
        bytes.extend(removal(3));
        assert_eq!(alone(&bytes), Log { leases: vec![lease(2, 20)], ..Log::default() });
    }

    #[test]
    fn damage_at_any_byte_costs_at_most_the_lines_it_touches() {
        let all = [lease(2, 0), lease(3, 0), lease(4, 0)];
        let bytes = log_of(&all);
        for at in 0..bytes.len() {
            for value in [0, b'\n', b'x', 0xff, bytes[at] ^ 1] {
                let mut hurt = bytes.clone();
                hurt[at] = value;
                let log = alone(&hurt);
                assert!(log.leases.iter().all(|lease| all.contains(lease)), "offset {at}");
                assert!(!log.leases.is_empty(), "offset {at}");
                if value != bytes[at]
                    && bytes[at] != b'\n'
                    && value != b'\n'
                    && !bytes[at].is_ascii_hexdigit()
                {
                    assert_eq!(log.leases.len(), 2, "offset {at}");
                }
            }
        }
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_the_whole_lines_before() {
        let bytes = log_of(&[lease(2, 0), lease(3, 0)]);
        let first = format_line(&lease(2, 0)).expect("line").len();
        for cut in 0..bytes.len() {
            let expected = usize::from(cut >= first - 1) + usize::from(cut >= bytes.len() - 1);
            assert_eq!(alone(&bytes[..cut]).leases.len(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn expired_leases_are_hidden_infinite_ones_are_not() {
        assert_eq!(current(vec![lease(2, 5), lease(3, 0), lease(4, 6)], 5), vec![lease(3, 0), lease(4, 6)]);
    }

    /// A log whose copy is missing.
    fn alone(bytes: &[u8]) -> Log {
        merge(&parse(bytes), &Half::default())
    }

    /// A disk with a log and its copy.
    fn disk(log: &[u8], copy: &[u8]) -> FakeDisk {
        let disk = FakeDisk::default();
        disk.write(path(), log).expect("write");
        disk.write(&with_suffix(path(), COPY), copy).expect("write");
        disk.settle();
        disk
    }

    fn path() -> &'static Path {
        Path::new("/leases/n.leases")
    }

    #[test]
    fn damage_at_any_byte_of_either_file_costs_no_lease() {
        let mut bytes = log_of(&[lease(2, 10), lease(3, 0), lease(4, 0), lease(2, 0)]);
        bytes.extend(removal(3));
        let expected = [lease(2, 0), lease(4, 0)];
        for at in 0..bytes.len() {
            let mut hurts = vec![bytes[..at].to_vec()];
            for value in [0, b'\n', b'x', 0xff, bytes[at] ^ 1] {
                let mut hurt = bytes.clone();
                hurt[at] = value;
                hurts.push(hurt);
            }
            for hurt in hurts {
                for disk in [disk(&hurt, &bytes), disk(&bytes, &hurt)] {
                    assert_eq!(compact(&disk, path()).expect("compact").leases, expected, "offset {at}");
                    assert_eq!(read(&disk, path()).expect("read").leases, expected, "offset {at}, again");
                }
            }
        }
    }

    #[test]
    fn damage_in_both_files_costs_what_both_have_lost() {
        let hurt = |line: usize| {
            let mut lines: Vec<Vec<u8>> =
                [lease(2, 0), lease(3, 0), lease(4, 0)].map(|l| log_of(&[l])).into();
            lines[line][12] ^= 1;
            lines.concat()
        };
        let log = read(&disk(&hurt(0), &hurt(2)), path()).expect("read");
        assert_eq!((log.leases.len(), log.damaged.len()), (3, 2));
        let log = read(&disk(&hurt(1), &hurt(1)), path()).expect("read");
        assert_eq!((log.leases, log.damaged.len()), (vec![lease(2, 0), lease(4, 0)], 1));
    }

    #[test]
    fn compaction_keeps_what_is_valid_and_sets_the_rest_aside() {
        let mut bytes = log_of(&[lease(2, 1), lease(3, 0)]);
        bytes.extend(b"garbage\n");
        let disk = disk(&bytes, &bytes);
        let log = compact(&disk, path()).expect("compact");
        assert_eq!((log.leases, log.damaged), (vec![lease(3, 0)], vec![b"garbage".to_vec()]));
        assert_eq!(disk.read(path()).expect("read"), log_of(&[lease(3, 0)]));
        assert_eq!(disk.read(Path::new("/leases/n.leases.bad-1")).expect("aside"), b"garbage\n");
    }

    #[test]
    fn a_log_that_was_removed_is_empty_whatever_its_copy_says() {
        let disk = disk(b"", &log_of(&[lease(2, 0)]));
        disk.remove(path()).expect("remove");
        assert_eq!(read(&disk, path()).expect("read"), Log::default());
    }

    #[test]
    fn compaction_that_is_cut_short_or_fails_at_any_step_loses_no_lease() {
        let bytes = log_of(&[lease(2, 10), lease(3, 0), lease(4, 0), lease(2, 0), lease(9, 1)]);
        let expected = [lease(2, 0), lease(3, 0), lease(4, 0)];
        let held = |disk: &FakeDisk| current(read(disk, path()).expect("read").leases, now());
        for fault in [Fault::Crash, Fault::Full, Fault::Broken] {
            for at in 1.. {
                let disk = disk(&bytes, &bytes);
                disk.fail(Some((at, fault)));
                let done = compact(&disk, path());
                if disk.steps() < at {
                    assert!(done.is_ok() && at > 6, "{at} steps");
                    break;
                }
                assert_eq!(held(&disk), expected, "{fault:?} at {at}");
                for later in disk.after_crash() {
                    assert_eq!(held(&later), expected, "{fault:?} at {at}");
                }
            }
        }
    }
}
