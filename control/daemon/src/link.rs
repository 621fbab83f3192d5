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

use crate::failure::{Answer, internal, operation};

/// How long the datapath may take to run a new document.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages of the datapath that nobody has read yet; more are dropped.
const BACKLOG: usize = 256;

/// What wakes the main loop.
#[derive(Debug)]
pub(crate) enum Event {
    Signal(i32),
    PortFailed {
        port: u16,
        reason: String,
    },
    NeedTcp {
        ticket: u32,
        resolver: u16,
    },
    /// The connection numbered so has ended.
    Gone(u64),
}

/// One connection.
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) pid: u32,
    pub(crate) workers: u16,
    writer: Arc<Mutex<UnixStream>>,
    replies: Mutex<Receiver<ToControl>>,
}

impl Link {
    /// Greets the datapath at the other end; its running document comes back beside the link.
    pub(crate) fn open(
        stream: UnixStream,
        number: u64,
        events: SyncSender<Event>,
    ) -> io::Result<(Self, Document)> {
        stream.set_write_timeout(Some(APPLY_TIMEOUT))?;
        stream.set_read_timeout(Some(APPLY_TIMEOUT))?;
        codec::send(&stream, &ToDatapath::Hello, &[])?;
        let Some((ToControl::Hello { pid, workers, document }, _)) = codec::receive(&stream)? else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the datapath did not greet"));
        };
        stream.set_read_timeout(None)?;
        let (sender, replies) = sync_channel(BACKLOG);
        let reader = stream.try_clone()?;
        std::thread::Builder::new().name("datapath-reader".into()).spawn(move || {
            sort(&reader, &sender, &events);
            let _ = events.send(Event::Gone(number));
        })?;
        let writer = Arc::new(Mutex::new(stream));
        Ok((Self { number, pid, workers, writer, replies: Mutex::new(replies) }, document))
    }

    /// Forgets answers that came too late for the request before.
    pub(crate) fn drain(&self) {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        while replies.try_recv().is_ok() {}
    }

    pub(crate) fn send(&self, message: &ToDatapath, fds: &[OwnedFd]) -> Answer<()> {
        send(&self.writer, message, fds)
            .map_err(|error| internal(format!("cannot reach the datapath process: {error}")))
    }

    /// Sends the document and waits until all workers run it.
    pub(crate) fn apply(&self, document: Document) -> Answer<()> {
        let wanted = document.generation;
        self.send(&ToDatapath::Apply { document }, &[])?;
        self.wait(APPLY_TIMEOUT, |reply| match reply {
            ToControl::Applied { generation } if generation >= wanted => Some(Ok(())),
            ToControl::Refused { reason } => {
                Some(Err(operation(format!("the datapath refused the change: {}", printable(&reason)))))
            }
            _ => None,
        })?
    }

    pub(crate) fn status(&self) -> Answer<Box<Status>> {
        self.send(&ToDatapath::Status, &[])?;
        self.wait(STATUS_TIMEOUT, |reply| match reply {
            ToControl::Status(status) => Some(status),
            _ => None,
        })
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

pub(crate) fn send(writer: &Mutex<UnixStream>, message: &ToDatapath, fds: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let stream = writer.lock().unwrap_or_else(PoisonError::into_inner);
    codec::send(&stream, message, &borrowed).inspect_err(|error| {
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

fn sort(stream: &UnixStream, replies: &SyncSender<ToControl>, events: &SyncSender<Event>) {
    loop {
        let event = match codec::receive::<ToControl>(stream) {
            Ok(Some((ToControl::PortFailed { port, reason }, _))) => Event::PortFailed { port, reason },
            Ok(Some((ToControl::NeedTcp { ticket, resolver }, _))) => Event::NeedTcp { ticket, resolver },
            Ok(Some((reply, _))) => {
                if replies.try_send(reply).is_err() {
                    tracing::warn!("an answer of the datapath that nobody waits for was dropped");
                }
                continue;
            }
            Ok(None) => return,
            Err(error) => {
                tracing::error!("connection to the datapath: {error}");
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
        };
        if events.try_send(event).is_err() {
            tracing::warn!("the datapath reports faster than control can act; a report was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_error_and_a_stale_acknowledgement_is_not_enough() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let peer = std::thread::spawn(move || {
            let hello = ToControl::Hello { pid: 7, workers: 2, document: Document::default() };
            codec::receive::<ToDatapath>(&theirs).expect("hello");
            codec::send(&theirs, &hello, &[]).expect("send");
            codec::receive::<ToDatapath>(&theirs).expect("apply");
            codec::send(&theirs, &ToControl::Applied { generation: 4 }, &[]).expect("send");
            codec::send(&theirs, &ToControl::Refused { reason: "no\x1b[31m".into() }, &[]).expect("send");
        });
        let (events, received) = sync_channel(4);
        let (link, _) = Link::open(ours, 3, events).expect("open");
        assert_eq!((link.pid, link.workers), (7, 2));
        let document = Document { generation: 5, ..Document::default() };
        let failure = link.apply(document).expect_err("refused");
        assert_eq!(failure.message, "operation failed: the datapath refused the change: no?[31m");
        peer.join().expect("peer");
        assert!(matches!(received.recv(), Ok(Event::Gone(3))));
    }
}
