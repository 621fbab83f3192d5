//! The way to whichever control is connected at present, for all threads.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use pontoon_engine::PortId;
use pontoon_proto::codec;
use pontoon_proto::message::ToControl;

use crate::mail::{Mail, Mailbox};

/// Reports that may wait for control.
pub(crate) const BACKLOG: usize = 1024;
/// A control that takes nothing for this long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// DNS queries that wait for a TCP socket.
const MAX_QUERIES: usize = 64;
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What workers have to say.
#[derive(Debug)]
pub(crate) enum Report {
    PortFailed { port: PortId, reason: String },
    NeedTcp { ticket: u32, resolver: u16, query: Vec<u8> },
}

#[derive(Debug, Default)]
struct State {
    control: Option<UnixStream>,
    /// Failures of ports that are in the document; told again to a new control.
    failed: BTreeMap<PortId, String>,
    queries: BTreeMap<u32, (Instant, Vec<u8>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Link(Mutex<State>);

impl Link {
    /// Makes `control` the one that is spoken to.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn connect(&self, control: &UnixStream) -> std::io::Result<()> {
        let control = control.try_clone()?;
        control.set_write_timeout(Some(SEND_TIMEOUT))?;
        self.lock().control = Some(control);
        Ok(())
    }

    /// Returns the tickets of queries that will not be answered any more.
    pub(crate) fn disconnect(&self) -> Vec<u32> {
        let mut state = self.lock();
        state.control = None;
        std::mem::take(&mut state.queries).into_keys().collect()
    }

    /// Sends to control, if there is one; one that does not take it loses its connection.
    pub(crate) fn send(&self, message: &ToControl) -> bool {
        self.lock().send(message, &[])
    }

    /// As [`Self::send`], with descriptors.
    pub(crate) fn send_with(&self, message: &ToControl, fds: &[BorrowedFd<'_>]) -> bool {
        self.lock().send(message, fds)
    }

    pub(crate) fn send_failures(&self) {
        let mut state = self.lock();
        for (port, reason) in state.failed.clone() {
            state.send(&ToControl::PortFailed { port, reason }, &[]);
        }
    }

    /// Forgets failures of ports that `keep` says no to.
    pub(crate) fn retain_failures(&self, keep: impl Fn(PortId) -> bool) {
        self.lock().failed.retain(|port, _| keep(*port));
    }

    pub(crate) fn take_query(&self, ticket: u32) -> Option<Vec<u8>> {
        self.lock().queries.remove(&ticket).map(|(_, query)| query)
    }

    /// Passes reports on until all workers have ended.
    pub(crate) fn run(&self, reports: &Receiver<Report>, worker: &Mailbox) {
        for report in reports {
            match report {
                Report::PortFailed { port, reason } => self.port_failed(port, reason),
                Report::NeedTcp { ticket, resolver, query } => {
                    for ticket in self.need_tcp(ticket, resolver, query) {
                        worker.send(Mail::TcpAnswer { ticket, response: Vec::new() });
                    }
                }
            }
        }
    }

    fn port_failed(&self, port: PortId, reason: String) {
        let mut state = self.lock();
        if state.failed.insert(port, reason.clone()).is_none() {
            state.send(&ToControl::PortFailed { port, reason }, &[]);
        }
    }

    /// Asks control for a socket; returns the tickets that failed.
    fn need_tcp(&self, ticket: u32, resolver: u16, query: Vec<u8>) -> Vec<u32> {
        let mut state = self.lock();
        let old = |asked: &Instant| asked.elapsed() > QUERY_TIMEOUT;
        let mut failed: Vec<u32> =
            state.queries.extract_if(.., |_, (asked, _)| old(asked)).map(|(ticket, _)| ticket).collect();
        if state.queries.len() < MAX_QUERIES && state.send(&ToControl::NeedTcp { ticket, resolver }, &[]) {
            state.queries.insert(ticket, (Instant::now(), query));
        } else {
            failed.push(ticket);
        }
        failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, message: &ToControl, fds: &[BorrowedFd<'_>]) -> bool {
        let Some(control) = &self.control else { return false };
        match codec::send(control, message, fds) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "control does not listen");
                let _ = control.shutdown(std::net::Shutdown::Both);
                self.control = None;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(control: &UnixStream) -> ToControl {
        control.set_read_timeout(Some(SEND_TIMEOUT)).expect("timeout");
        codec::receive(control).expect("receive").expect("open").0
    }

    #[test]
    fn a_failure_is_told_once_to_each_control() {
        let link = Link::default();
        for port in [4, 4] {
            link.port_failed(port, "gone".to_owned());
        }
        let (ours, control) = UnixStream::pair().expect("pair");
        link.connect(&ours).expect("connect");
        link.port_failed(4, "gone".to_owned());
        link.send_failures();
        assert!(link.send(&ToControl::Applied { generation: 1 }));
        assert_eq!(hear(&control), ToControl::PortFailed { port: 4, reason: "gone".to_owned() });
        assert_eq!(hear(&control), ToControl::Applied { generation: 1 });
        link.retain_failures(|_| false);
        link.send_failures();
        link.send(&ToControl::Applied { generation: 2 });
        assert_eq!(hear(&control), ToControl::Applied { generation: 2 });
    }

    #[test]
    fn queries_without_a_control_or_left_by_it_fail() {
        let link = Link::default();
        assert_eq!(link.need_tcp(1, 0, Vec::new()), [1]);
        let (ours, control) = UnixStream::pair().expect("pair");
        link.connect(&ours).expect("connect");
        for ticket in 2..=3 {
            assert!(link.need_tcp(ticket, 0, b"query".to_vec()).is_empty());
            assert_eq!(hear(&control), ToControl::NeedTcp { ticket, resolver: 0 });
        }
        assert_eq!(link.take_query(2).as_deref(), Some(b"query".as_slice()));
        assert_eq!(link.disconnect(), [3]);
    }
}
