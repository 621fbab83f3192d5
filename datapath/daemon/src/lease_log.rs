//! The lease log: one change a line, synced before the engine hears that it is kept. What has come by the time the
//! disk is ready is synced together. A copy, if there is one, gets the same; only the log itself decides.
//!
//! A line is the CRC-32 (IEEE 802.3) of the JSON as eight hex digits, a space, the JSON and a line feed. The JSON is
//! a lease, or `{"remove":"192.0.2.1"}`. A line cut short by a power loss fails its CRC and is skipped.

use std::collections::BTreeMap;
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
    /// From now on changes of `network` go to `log` and to its copy.
    Open {
        network: u16,
        log: File,
        copy: Option<File>,
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

/// Changes that are synced together at most.
const BATCH: usize = 64;

#[derive(Debug)]
struct Log {
    file: File,
    /// The last write did not end well: begin a new line.
    torn: bool,
}

impl Log {
    fn append(&mut self, line: &str) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(line.as_bytes())?;
        self.torn = false;
        Ok(())
    }
}

/// A network's log and copy, and the tickets of what was written since the last sync.
#[derive(Debug)]
struct Logs {
    log: Log,
    copy: Option<Log>,
    written: Vec<u32>,
}

impl Logs {
    fn append(&mut self, ticket: u32, line: &str) -> io::Result<()> {
        // The copy never says more than the log.
        self.log.append(line)?;
        if let Some(Err(error)) = self.copy.as_mut().map(|copy| copy.append(line)) {
            tracing::warn!(%error, "copy of a lease log");
        }
        self.written.push(ticket);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(Err(error)) = self.copy.as_ref().map(|copy| copy.file.sync_data()) {
            tracing::warn!(%error, "copy of a lease log");
        }
        self.log.file.sync_data()
    }
}

/// Runs the writer until its channel closes.
pub(crate) fn run(jobs: &Receiver<LeaseJob>, worker: &Mailbox) {
    let mut writer = Writer { networks: BTreeMap::new(), worker };
    while let Ok(first) = jobs.recv() {
        for job in std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1)) {
            writer.handle(job);
        }
        writer.sync_all();
    }
}

struct Writer<'a> {
    networks: BTreeMap<u16, Logs>,
    worker: &'a Mailbox,
}

impl Writer<'_> {
    fn handle(&mut self, job: LeaseJob) {
        match job {
            LeaseJob::Open { network, log, copy } => {
                self.sync(network);
                let fresh = |file| Log { file, torn: false };
                let logs = Logs { log: fresh(log), copy: copy.map(fresh), written: Vec::new() };
                self.networks.insert(network, logs);
            }
            LeaseJob::Close { network } => {
                self.sync(network);
                self.networks.remove(&network);
            }
            LeaseJob::Append { network, ticket, line } => self.append(network, ticket, &line),
        }
    }

    fn append(&mut self, network: u16, ticket: u32, line: &str) {
        let written = match self.networks.get_mut(&network) {
            Some(logs) => logs.append(ticket, line),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "no lease log")),
        };
        if let Err(error) = written {
            tracing::error!(network, %error, "lease log");
            self.worker.send(Mail::LeaseSynced { ticket, ok: false });
        }
    }

    fn sync_all(&mut self) {
        for network in self.networks.keys().copied().collect::<Vec<_>>() {
            self.sync(network);
        }
    }

    /// Syncs what was written, and only then says so.
    fn sync(&mut self, network: u16) {
        let Some(logs) = self.networks.get_mut(&network).filter(|logs| !logs.written.is_empty()) else {
            return;
        };
        let synced = logs.sync();
        if let Err(error) = &synced {
            tracing::error!(network, %error, "lease log");
        }
        for ticket in std::mem::take(&mut logs.written) {
            self.worker.send(Mail::LeaseSynced { ticket, ok: synced.is_ok() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::fd::OwnedFd;

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

    fn memory() -> OwnedFd {
        rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd")
    }

    fn file(memory: &OwnedFd) -> File {
        File::from(memory.try_clone().expect("clone"))
    }

    fn content(memory: &OwnedFd) -> String {
        let mut bytes = [0; 64];
        let length = rustix::io::pread(memory, &mut bytes, 0).expect("read");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Runs jobs to their end; what the worker heard, in order.
    fn heard(jobs: Vec<LeaseJob>) -> Vec<(u32, bool)> {
        let (mailbox, mail) = Mailbox::new().expect("mailbox");
        let (sender, inbox) = crossbeam_channel::bounded(BACKLOG);
        jobs.into_iter().for_each(|job| sender.send(job).expect("room"));
        drop(sender);
        run(&inbox, &mailbox);
        let answers = mail.try_iter().map(|mail| match mail {
            Mail::LeaseSynced { ticket, ok } => (ticket, ok),
            other => panic!("{other:?}"),
        });
        answers.collect()
    }

    fn line(network: u16, ticket: u32) -> LeaseJob {
        LeaseJob::Append { network, ticket, line: format!("{ticket}\n") }
    }

    #[test]
    fn changes_go_to_the_log_and_its_copy_before_the_worker_hears_of_them() {
        let (log, copy) = (memory(), memory());
        let open = LeaseJob::Open { network: 3, log: file(&log), copy: Some(file(&copy)) };
        let answers = heard(vec![open, line(3, 1), line(4, 2), line(3, 3)]);
        assert_eq!(answers, [(2, false), (1, true), (3, true)], "who has no log hears it at once");
        assert_eq!((content(&log), content(&copy)), ("1\n3\n".to_owned(), "1\n3\n".to_owned()));
    }

    #[test]
    fn the_log_decides_and_its_copy_does_not() {
        let full = || OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let log = memory();
        let open = LeaseJob::Open { network: 3, log: file(&log), copy: Some(full()) };
        assert_eq!(heard(vec![open, line(3, 1)]), [(1, true)]);
        let copy = memory();
        let open = LeaseJob::Open { network: 3, log: full(), copy: Some(file(&copy)) };
        assert_eq!(heard(vec![open, line(3, 1), line(3, 2)]), [(1, false), (2, false)]);
        assert_eq!(content(&copy), "", "nor does it say more");
    }

    #[test]
    fn what_was_written_is_answered_for_when_the_log_changes() {
        let (old, new) = (memory(), memory());
        let open = |log| LeaseJob::Open { network: 3, log: file(log), copy: None };
        let jobs =
            vec![open(&old), line(3, 1), open(&new), line(3, 2), LeaseJob::Close { network: 3 }, line(3, 3)];
        assert_eq!(heard(jobs), [(1, true), (2, true), (3, false)]);
        assert_eq!((content(&old), content(&new)), ("1\n".to_owned(), "2\n".to_owned()));
    }

    #[test]
    fn a_line_behind_a_torn_one_begins_anew() {
        let memory = memory();
        let mut log = Log { file: file(&memory), torn: true };
        log.append("a\n").expect("append");
        log.append("b\n").expect("append");
        assert_eq!(content(&memory), "\na\nb\n");
    }
}
