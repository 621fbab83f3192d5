//! The lease log: one change a line, synced before the engine hears that it is kept.
//!
//! A line is the CRC-32 (IEEE 802.3) of the JSON as eight hex digits, a space, the JSON and a line feed. The JSON is
//! a lease, or `{"remove":"192.0.2.1"}`. A line cut short by a power loss fails its CRC and is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};

use crossbeam_channel::Receiver;
use pontoon_engine::egress::LeaseChange;
use pontoon_proto::message::Lease;

use crate::mail::{Mail, Mailbox};

/// Changes that may wait for the disk.
pub(crate) const BACKLOG: usize = 256;

#[derive(Debug)]
pub(crate) enum LeaseJob {
    /// From now on changes of `network` go to `log`.
    Open {
        network: u16,
        log: File,
    },
    Close {
        network: u16,
    },
    Append {
        network: u16,
        ticket: u32,
        line: String,
    },
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, octet| {
        let index = (crc ^ u32::from(*octet)) & 0xff;
        TABLE.get(index as usize).copied().unwrap_or(0) ^ (crc >> 8)
    })
}

/// The line of a change, with its line feed.
///
/// # Errors
/// When the change cannot be JSON.
pub(crate) fn lease_line(change: LeaseChange<'_>) -> serde_json::Result<String> {
    let json = match change {
        LeaseChange::Set { ip, mac, client_id, hostname, expiry } => serde_json::to_string(&Lease {
            ip,
            mac,
            client_id: client_id.map(<[u8]>::to_vec),
            hostname: hostname.map(str::to_owned),
            expiry,
        })?,
        LeaseChange::Remove { ip, .. } => serde_json::json!({ "remove": ip }).to_string(),
    };
    Ok(format!("{:08x} {json}\n", crc32(json.as_bytes())))
}

#[derive(Debug)]
struct Log {
    file: File,
    /// The last write did not end well: begin a new line.
    torn: bool,
}

impl Log {
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(line.as_bytes())?;
        self.torn = false;
        Ok(())
    }
}

/// A change written to a log that is not synced yet.
struct Written {
    network: u16,
    ticket: u32,
    ok: bool,
}

/// Runs the writer until its channel closes. Changes that wait together are synced together.
pub(crate) fn run(jobs: &Receiver<LeaseJob>, worker: &Mailbox) {
    let mut logs = BTreeMap::new();
    while let Ok(job) = jobs.recv() {
        let mut written = Vec::new();
        for job in std::iter::once(job).chain(jobs.try_iter().take(BACKLOG)) {
            match job {
                LeaseJob::Open { network, log } => {
                    sync(&mut logs, &mut written, worker);
                    logs.insert(network, Log { file: log, torn: false });
                }
                LeaseJob::Close { network } => {
                    sync(&mut logs, &mut written, worker);
                    logs.remove(&network);
                }
                LeaseJob::Append { network, ticket, line } => {
                    let ok = append(logs.get_mut(&network), network, &line);
                    written.push(Written { network, ticket, ok });
                }
            }
        }
        sync(&mut logs, &mut written, worker);
    }
}

/// Syncs every log that was written to, and tells the worker.
fn sync(logs: &mut BTreeMap<u16, Log>, written: &mut Vec<Written>, worker: &Mailbox) {
    let touched: BTreeSet<u16> = written.iter().filter(|one| one.ok).map(|one| one.network).collect();
    let synced = |network: &u16| match logs.get(network).map(|log| log.file.sync_data()) {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::error!(network, %error, "lease log");
            false
        }
        None => false,
    };
    let synced: BTreeSet<u16> = touched.into_iter().filter(synced).collect();
    for Written { network, ticket, ok } in written.drain(..) {
        worker.send(Mail::LeaseSynced { ticket, ok: ok && synced.contains(&network) });
    }
}

fn append(log: Option<&mut Log>, network: u16, line: &str) -> bool {
    let Some(log) = log else {
        tracing::warn!(network, "no lease log");
        return false;
    };
    match log.write(line) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(network, %error, "lease log");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<&str> {
        let (crc, json) = line.strip_suffix('\n')?.split_once(' ')?;
        (crc.len() == 8 && u32::from_str_radix(crc, 16) == Ok(crc32(json.as_bytes()))).then_some(json)
    }

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_lease_comes_back_from_its_line() {
        let ip = "192.168.122.5".parse().expect("ip");
        let mac = [2, 0, 0, 0, 0, 1];
        let set = LeaseChange::Set {
            ip,
            mac,
            client_id: Some(&[1, 2]),
            hostname: Some("a \"name\"\n"),
            expiry: 17,
        };
        let line = lease_line(set).expect("line");
        assert_eq!(line.matches('\n').count(), 1);
        let lease: Lease = serde_json::from_str(parse(&line).expect("crc")).expect("json");
        let expected = Lease {
            ip,
            mac,
            client_id: Some(vec![1, 2]),
            hostname: Some("a \"name\"\n".to_owned()),
            expiry: 17,
        };
        assert_eq!(lease, expected);
        assert_eq!(parse(&line.replace("17", "18")), None);
        let removal = lease_line(LeaseChange::Remove { ip, mac }).expect("line");
        assert_eq!(parse(&removal), Some(r#"{"remove":"192.168.122.5"}"#));
    }

    #[test]
    fn a_change_is_on_disk_before_the_worker_hears_of_it() {
        let (mailbox, mail) = Mailbox::new().expect("mailbox");
        let memory = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        let (jobs, inbox) = crossbeam_channel::bounded(BACKLOG);
        let log = File::from(memory.try_clone().expect("clone"));
        jobs.send(LeaseJob::Open { network: 3, log }).expect("open");
        for (network, ticket) in [(3, 1), (4, 2)] {
            jobs.send(LeaseJob::Append { network, ticket, line: "line\n".to_owned() }).expect("append");
        }
        drop(jobs);
        run(&inbox, &mailbox);
        let answers = mail.try_iter().map(|mail| match mail {
            Mail::LeaseSynced { ticket, ok } => (ticket, ok),
            other => panic!("{other:?}"),
        });
        assert_eq!(answers.collect::<Vec<_>>(), [(1, true), (2, false)]);
        let mut written = [0; 16];
        let length = rustix::io::pread(&memory, &mut written, 0).expect("read");
        assert_eq!(&written[..length], b"line\n");
    }

    #[test]
    fn a_line_behind_a_torn_one_begins_anew() {
        let memory = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        let mut log = Log { file: File::from(memory.try_clone().expect("clone")), torn: true };
        log.write("a\n").expect("write");
        log.write("b\n").expect("write");
        let mut written = [0; 16];
        let length = rustix::io::pread(&memory, &mut written, 0).expect("read");
        assert_eq!(&written[..length], b"\na\nb\n");
    }
}
