//! The connection to the datapath: what control sends, and a thread that sorts what comes back. All that comes back
//! is taken for hostile: bounded queues, nothing believed that was not asked for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pontoon_proto::Document;
use pontoon_proto::codec;
use pontoon_proto::message::{Status, ToControl, ToDatapath};
use pontoon_proto::watch::Watch;

use crate::doors::Door;
use crate::failure::{Answer, internal, operation};
use crate::live::MAX_ID;
use crate::slow;
use crate::state::Held;
use crate::watch::Notifier;

/// How long the datapath may take to run a new document.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages of the datapath that nobody has read yet; more are dropped.
const BACKLOG: usize = 256;
/// Lines a datapath may say of its sandbox.
const MAX_LACKING: usize = 16;

/// What wakes the main loop.
#[derive(Debug)]
pub(crate) enum Event {
    Signal(i32),
    /// Interfaces, addresses, routes or resolvers of the host are not what they were.
    Host,
    PortFailed {
        port: u16,
        reason: String,
    },
    NeedTcp {
        ticket: u32,
        resolver: u16,
    },
    /// Somebody wants to plug in.
    Door(Door),
    /// The connection numbered so has ended.
    Gone(u64),
}

/// What the datapath holds, for a control that takes it over.
#[derive(Default)]
pub(crate) struct Handed {
    pub(crate) ports: Vec<(u16, Held)>,
    pub(crate) sessions: Option<OwnedFd>,
}

/// A connection, what runs at its other end, and what that gave back.
pub(crate) struct Greeted {
    pub(crate) link: Link,
    pub(crate) document: Document,
    pub(crate) handed: Handed,
}

/// One connection.
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) pid: u32,
    pub(crate) workers: u16,
    /// What of its sandbox the host did not allow.
    pub(crate) lacking: Vec<String>,
    writer: Arc<Mutex<UnixStream>>,
    replies: Mutex<Receiver<ToControl>>,
    /// What the datapath was told to tell, where that is known.
    watching: Mutex<Option<Watch>>,
}

impl Link {
    /// Greets the datapath at the other end, which is process `pid`: it does not know its number outside itself.
    pub(crate) fn open(stream: UnixStream, pid: u32, number: u64, events: Notifier) -> io::Result<Greeted> {
        stream.set_write_timeout(Some(APPLY_TIMEOUT))?;
        codec::send(&stream, &ToDatapath::Hello, &[])?;
        let (hello, handed) = greeting(&stream, &events)?;
        stream.set_read_timeout(None)?;
        let (sender, replies) = sync_channel(BACKLOG);
        let reader = stream.try_clone()?;
        std::thread::Builder::new().name("datapath-reader".into()).spawn(move || {
            sort(&reader, &sender, &events);
            events.send(Event::Gone(number));
        })?;
        let (writer, replies) = (Arc::new(Mutex::new(stream)), Mutex::new(replies));
        let Hello { workers, lacking, document } = hello;
        let watching = Mutex::new(Some(Watch::default()));
        let link = Self { number, pid, workers, lacking, writer, replies, watching };
        Ok(Greeted { link, document, handed })
    }

    /// Forgets answers that came too late for the request before.
    pub(crate) fn drain(&self) {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        while replies.try_recv().is_ok() {}
    }

    pub(crate) fn send(&self, message: &ToDatapath, fds: &[OwnedFd]) -> Answer<()> {
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.send_borrowed(message, &borrowed)
    }

    pub(crate) fn send_borrowed(&self, message: &ToDatapath, fds: &[BorrowedFd<'_>]) -> Answer<()> {
        send(&self.writer, message, fds)
            .map_err(|error| internal(format!("cannot reach the datapath process: {error}")))
    }

    /// Sends the document and waits until all workers run it.
    pub(crate) fn apply(&self, document: Document) -> Answer<()> {
        let wanted = document.generation;
        self.send(&ToDatapath::Apply { document }, &[])?;
        let applied = |reply| match reply {
            ToControl::Applied { generation } if generation >= wanted => Some(Ok(())),
            ToControl::Refused { reason } => {
                Some(Err(operation(format!("the datapath refused the change: {}", printable(&reason)))))
            }
            _ => None,
        };
        slow::noted(|| "the datapath's answer".to_owned(), || self.wait(APPLY_TIMEOUT, applied))?
    }

    pub(crate) fn status(&self) -> Answer<Box<Status>> {
        self.ask(&ToDatapath::Status, |reply| match reply {
            ToControl::Status(status) => Some(status),
            _ => None,
        })
    }

    /// Asks, and waits for the answer that `pick` knows.
    pub(crate) fn ask<T>(
        &self,
        message: &ToDatapath,
        mut pick: impl FnMut(ToControl) -> Option<T>,
    ) -> Answer<T> {
        self.send(message, &[])?;
        self.wait(STATUS_TIMEOUT, |reply| match reply {
            ToControl::Refused { reason } => {
                Some(Err(operation(format!("the datapath refused: {}", printable(&reason)))))
            }
            reply => pick(reply).map(Ok),
        })?
    }

    /// Has the datapath tell this of its own accord.
    pub(crate) fn watch(&self, watch: Watch) -> Answer<()> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if watching.as_ref() == Some(&watch) {
            return Ok(());
        }
        *watching = None;
        self.ask(&ToDatapath::Watch(watch.clone()), |reply| {
            matches!(reply, ToControl::Watching).then_some(())
        })?;
        *watching = Some(watch);
        Ok(())
    }

    /// What the datapath tells is another control's choice.
    pub(crate) fn forget_watch(&self) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn wait<T>(&self, limit: Duration, mut pick: impl FnMut(ToControl) -> Option<T>) -> Answer<T> {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + limit;
        loop {
            match replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(reply) => {
                    if let Some(found) = pick(reply) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(operation(format!(
                        "the datapath did not answer within {} seconds",
                        limit.as_secs()
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(operation("the datapath process ended; it is being restarted"));
                }
            }
        }
    }

    /// A way to answer from another thread.
    pub(crate) fn writer(&self) -> Arc<Mutex<UnixStream>> {
        Arc::clone(&self.writer)
    }

    /// Ends the connection, which also ends its reader.
    pub(crate) fn close(&self) {
        let stream = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

pub(crate) fn send(
    writer: &Mutex<UnixStream>,
    message: &ToDatapath,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let stream = writer.lock().unwrap_or_else(PoisonError::into_inner);
    codec::send(&stream, message, fds).inspect_err(|error| {
        // Half a message may be out, and what followed would be read as its rest.
        if error.kind() != io::ErrorKind::InvalidInput {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    })
}

/// Text of the datapath that goes to a terminal or a log.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { '?' } else { c }).collect()
}

struct Hello {
    workers: u16,
    lacking: Vec<String>,
    document: Document,
}

/// Reads up to the datapath's hello. Reports may come before it: the connection is the datapath's from its start.
fn greeting(stream: &UnixStream, events: &Notifier) -> io::Result<(Hello, Handed)> {
    let deadline = Instant::now() + APPLY_TIMEOUT;
    let mut handed = Handed::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let Some((message, fds)) = codec::receive(stream)? else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the datapath did not greet"));
        };
        match message {
            ToControl::Hello { workers, lacking, document } => {
                let lacking = lacking.iter().take(MAX_LACKING).map(|line| printable(line)).collect();
                return Ok((Hello { workers, lacking, document: *document }, handed));
            }
            ToControl::Port { port, kind } if handed.ports.len() <= usize::from(MAX_ID) => {
                handed.ports.push((port, Held { kind, fds }));
            }
            ToControl::Sessions => handed.sessions = fds.into_iter().next(),
            other => drop(report(other, events)),
        }
    }
}

fn sort(stream: &UnixStream, replies: &SyncSender<ToControl>, events: &Notifier) {
    loop {
        match codec::receive::<ToControl>(stream) {
            Ok(Some((message, _))) => {
                if let Err(reply) = report(message, events)
                    && replies.try_send(reply).is_err()
                {
                    tracing::warn!("an answer of the datapath that nobody waits for was dropped");
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!("connection to the datapath: {error}");
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }
}

/// Passes on what is for the main loop; the rest is an answer.
fn report(message: ToControl, events: &Notifier) -> Result<(), ToControl> {
    let event = match message {
        ToControl::PortFailed { port, reason } => Event::PortFailed { port, reason },
        ToControl::NeedTcp { ticket, resolver } => Event::NeedTcp { ticket, resolver },
        ToControl::News(news) => {
            events.news.offer(*news);
            return Ok(());
        }
        reply => return Err(reply),
    };
    if !events.offer(event) {
        tracing::warn!("the datapath reports faster than control can act; a report was dropped");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_proto::message::PortKind;

    #[test]
    fn a_refusal_is_an_error_and_a_stale_acknowledgement_is_not_enough() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let peer = std::thread::spawn(move || {
            let hello =
                ToControl::Hello { workers: 2, lacking: vec!["a\tb".into()], document: Box::default() };
            codec::receive::<ToDatapath>(&theirs).expect("hello");
            let early = ToControl::PortFailed { port: 9, reason: "gone".into() };
            codec::send(&theirs, &early, &[]).expect("send");
            let null = std::fs::File::open("/dev/null").expect("null");
            let port = ToControl::Port { port: 2, kind: PortKind::Tap };
            codec::send(&theirs, &port, &[null.as_fd(), null.as_fd()]).expect("send");
            codec::send(&theirs, &ToControl::Sessions, &[null.as_fd()]).expect("send");
            codec::send(&theirs, &hello, &[]).expect("send");
            codec::receive::<ToDatapath>(&theirs).expect("apply");
            codec::send(&theirs, &ToControl::Applied { generation: 4 }, &[]).expect("send");
            codec::send(&theirs, &ToControl::Refused { reason: "no\x1b[31m".into() }, &[]).expect("send");
        });
        let (events, received) = sync_channel(4);
        let Greeted { link, handed, .. } = Link::open(ours, 7, 3, events.into()).expect("open");
        let ports: Vec<_> = handed.ports.iter().map(|(port, held)| (*port, held.fds.len())).collect();
        assert_eq!((ports, handed.sessions.is_some()), (vec![(2, 2)], true));
        assert!(
            matches!(received.recv(), Ok(Event::PortFailed { port: 9, .. })),
            "a report before the hello"
        );
        assert_eq!((link.pid, link.workers, link.lacking.as_slice()), (7, 2, ["a?b".to_owned()].as_slice()));
        let document = Document { generation: 5, ..Document::default() };
        let failure = link.apply(document).expect_err("refused");
        assert_eq!(failure.message, "operation failed: the datapath refused the change: no?[31m");
        peer.join().expect("peer");
        assert!(matches!(received.recv(), Ok(Event::Gone(3))));
    }
}
