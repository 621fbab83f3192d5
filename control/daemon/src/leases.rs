//! The lease log of one network: appended by the datapath, read and compacted here.
//!
//! A line is eight hex digits of the CRC-32 (IEEE) of the JSON, a space, the JSON and a line feed. The JSON is a
//! lease or `{"remove":"IP"}`; the last line about an address wins. A line that does not check is skipped.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pontoon_proto::message::Lease;
use serde::Deserialize;

use crate::store::replace;

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Remove { remove: Ipv4Addr },
    Lease(Lease),
}

/// What a log holds, and how many of its lines were damaged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) leases: Vec<Lease>,
    pub(crate) damaged: usize,
}

/// Reads the log; a missing file is an empty log.
pub(crate) fn read(path: &Path) -> io::Result<Log> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Log::default()),
        Err(error) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Log {
    let mut leases: BTreeMap<Ipv4Addr, Lease> = BTreeMap::new();
    let mut clients = BTreeMap::new();
    let mut damaged = 0;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(Entry::Lease(lease)) => {
                // A client has one lease: a new one replaces what it had, also at another address.
                if let Some(old) = clients.insert(client(&lease), lease.ip).filter(|old| *old != lease.ip)
                    && leases.get(&old).is_some_and(|held| client(held) == client(&lease))
                {
                    leases.remove(&old);
                }
                leases.insert(lease.ip, lease);
            }
            Some(Entry::Remove { remove }) => {
                leases.remove(&remove);
            }
            None => damaged += 1,
        }
    }
    Log { leases: leases.into_values().collect(), damaged }
}

/// What a client is known by: its identifier, else its MAC address (RFC 2131 4.2).
fn client(lease: &Lease) -> (Option<Vec<u8>>, Option<[u8; 6]>) {
    match &lease.client_id {
        Some(id) => (Some(id.clone()), None),
        None => (None, Some(lease.mac)),
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

/// Rewrites the log without what is expired, replaced or damaged, and opens it for append.
pub(crate) fn compact(path: &Path) -> io::Result<(File, Log)> {
    let mut log = read(path)?;
    log.leases = current(log.leases, now());
    let mut text = String::new();
    for lease in &log.leases {
        text.push_str(&format_line(lease)?);
    }
    replace(path, text.as_bytes())?;
    Ok((open(path)?, log))
}

pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// CRC-32 of IEEE 802.3, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(last: u8, expiry: u64) -> Lease {
        Lease {
            ip: Ipv4Addr::new(192, 168, 122, last),
            mac: [0x52, 0x54, 0, 0, 0, last],
            client_id: Some(vec![1, 2, last]),
            hostname: Some(format!("guest{last}")),
            expiry,
        }
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
        let log = parse(&log_of(&[lease(2, 0), moved.clone()]));
        assert_eq!(log.leases, [moved]);
        let log = parse(&log_of(&[lease(2, 20), heir.clone(), again.clone()]));
        assert_eq!(log.leases, [heir, again]);
    }

    #[test]
    fn the_last_line_about_an_address_wins_and_remove_removes() {
        let mut bytes = log_of(&[lease(2, 10), lease(3, 10), lease(2, 20)]);
        let json = r#"{"remove":"192.168.122.3"}"#;
        bytes.extend(format!("{:08x} {json}\n", crc32(json.as_bytes())).bytes());
        assert_eq!(parse(&bytes), Log { leases: vec![lease(2, 20)], damaged: 0 });
    }

    #[test]
    fn damage_at_any_byte_costs_at_most_the_lines_it_touches() {
        let all = [lease(2, 0), lease(3, 0), lease(4, 0)];
        let bytes = log_of(&all);
        for at in 0..bytes.len() {
            for value in [0, b'\n', b'x', 0xff, bytes[at] ^ 1] {
                let mut hurt = bytes.clone();
                hurt[at] = value;
                let log = parse(&hurt);
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
            assert_eq!(parse(&bytes[..cut]).leases.len(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn expired_leases_are_hidden_infinite_ones_are_not() {
        assert_eq!(current(vec![lease(2, 5), lease(3, 0), lease(4, 6)], 5), vec![lease(3, 0), lease(4, 6)]);
    }

    #[test]
    fn compaction_keeps_what_is_valid() {
        let path = std::env::temp_dir().join(format!("pontoon-leases-{}", std::process::id()));
        let mut bytes = log_of(&[lease(2, 1), lease(3, 0)]);
        bytes.extend(b"garbage\n");
        std::fs::write(&path, bytes).expect("write");
        let (_, log) = compact(&path).expect("compact");
        assert_eq!(log, Log { leases: vec![lease(3, 0)], damaged: 1 });
        assert_eq!(std::fs::read(&path).expect("read"), log_of(&[lease(3, 0)]));
        std::fs::remove_file(&path).expect("remove");
    }
}
