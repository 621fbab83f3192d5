//! One connection: bytes in, bytes out, and where it stands between them. Nothing here waits.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use pontoon_proto::api::{Failure, Response};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::access::{Caller, Rights};
use super::limits::Limits;
use crate::events::Subscription;
use crate::failure::{fail, fail_help};

/// Read from one connection before others get their turn.
const CHUNK: usize = 64 << 10;

pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    pub(crate) caller: Caller,
    pub(crate) rights: Rights,
    /// When it connected or last got an answer: what a client does by itself does not make it younger.
    pub(crate) since: Instant,
    /// A request is with the workers.
    pub(crate) working: bool,
    pub(crate) subscription: Option<Subscription>,
    input: Vec<u8>,
    /// So many bytes of `input` hold no NUL.
    searched: usize,
    /// When the first byte of a request came that is not whole yet.
    began: Option<Instant>,
    output: Vec<u8>,
    /// Goes with the first byte of the output.
    pub(crate) fd: Option<OwnedFd>,
    written: usize,
    /// Since when output has not moved.
    stuck: Option<Instant>,
    /// Until a read says that there is nothing more.
    readable: bool,
    /// Nothing more will come. What came is answered all the same.
    ended: bool,
    /// Nobody will read an answer either.
    gone: bool,
    /// To be closed once the output is out.
    closing: bool,
}

/// What a connection wants after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// To be woken by an event, a deadline or a result.
    Rest,
    /// Another turn, after the others had theirs.
    Again,
    /// A whole request has come.
    Request(Vec<u8>),
    Close,
}

impl Client {
    pub(crate) fn new(stream: UnixStream, caller: Caller, rights: Rights, now: Instant) -> Self {
        Self {
            stream,
            caller,
            rights,
            since: now,
            working: false,
            subscription: None,
            input: Vec::new(),
            searched: 0,
            began: None,
            output: Vec::new(),
            fd: None,
            written: 0,
            stuck: None,
            readable: true,
            ended: false,
            gone: false,
            closing: false,
        }
    }

    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        self.gone |= event.is_write_closed() || event.is_error();
        self.readable |= event.is_readable() || self.gone;
    }

    /// Bytes held for this connection.
    pub(crate) fn memory(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }

    /// Whether it may be closed to make room.
    pub(crate) fn expendable(&self) -> bool {
        !self.working && (self.subscription.is_none() || self.stuck.is_some())
    }

    pub(crate) fn answer(&mut self, message: &[u8], now: Instant) {
        self.working = false;
        self.since = now;
        self.output.extend_from_slice(message);
    }

    pub(crate) fn respond(&mut self, response: &Response, now: Instant) {
        self.answer(&encode(response), now);
    }

    /// Says why, then closes.
    pub(crate) fn dismiss(&mut self, failure: Failure, now: Instant) {
        self.respond(&Response::Error(failure), now);
        self.closing = true;
    }

    /// Takes what may be written and read now.
    pub(crate) fn turn(&mut self, limits: &Limits, now: Instant) -> Turn {
        self.progress(limits, now).unwrap_or(Turn::Close)
    }

    fn progress(&mut self, limits: &Limits, now: Instant) -> io::Result<Turn> {
        self.report_events();
        self.flush(now)?;
        if !self.output.is_empty() || self.working {
            return Ok(Turn::Rest);
        }
        if self.closing {
            return Ok(Turn::Close);
        }
        if self.subscription.is_some() {
            return self.watch(now);
        }
        if let Some(request) = self.whole_request() {
            return Ok(Turn::Request(request));
        }
        let more = self.fill(now)?;
        if let Some(request) = self.whole_request() {
            return Ok(Turn::Request(request));
        }
        let limit = if self.rights == Rights::Nothing { limits.stranger } else { limits.request };
        if self.input.len() > limit {
            self.dismiss(too_long(limit), now);
            return Ok(Turn::Again);
        }
        if self.ended && !self.input.is_empty() {
            self.input.clear();
            self.dismiss(fail("invalid argument: the request is not ended by a NUL byte"), now);
            return Ok(Turn::Again);
        }
        Ok(if self.ended {
            Turn::Close
        } else if more {
            Turn::Again
        } else {
            Turn::Rest
        })
    }

    /// The next events, as long as the client takes them.
    fn report_events(&mut self) {
        let Some(subscription) = &self.subscription else { return };
        while self.output.len() < CHUNK
            && let Some(reply) = subscription.next()
        {
            self.output.extend(encode(&Response::Parameters(reply)));
        }
    }

    /// A subscriber has nothing more to say.
    fn watch(&mut self, now: Instant) -> io::Result<Turn> {
        if self.readable && !self.ended {
            self.fill(now)?;
            if !self.input.is_empty() {
                self.input = Vec::new();
                self.dismiss(
                    fail("invalid argument: a connection that subscribed takes no more requests"),
                    now,
                );
                return Ok(Turn::Again);
            }
        }
        Ok(if self.gone { Turn::Close } else { Turn::Rest })
    }

    fn flush(&mut self, now: Instant) -> io::Result<()> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            let sent = match &self.fd {
                Some(fd) => send_with(&self.stream, rest, fd),
                None => (&self.stream).write(rest),
            };
            match sent {
                Ok(count) => {
                    self.fd = None;
                    self.written += count;
                    self.stuck = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stuck.get_or_insert(now);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.stuck = None;
        self.written = 0;
        self.output = Vec::new();
        Ok(())
    }

    /// Reads a chunk; true when there may be more.
    fn fill(&mut self, now: Instant) -> io::Result<bool> {
        let mut room = CHUNK;
        let mut chunk = [0; 8192];
        while self.readable && !self.ended && room > 0 {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    room = room.saturating_sub(count);
                    self.began.get_or_insert(now);
                    self.input.extend_from_slice(chunk.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
        }
        Ok(self.readable && !self.ended)
    }

    fn whole_request(&mut self) -> Option<Vec<u8>> {
        let fresh = self.input.get(self.searched..)?;
        let Some(at) = fresh.iter().position(|byte| *byte == 0) else {
            self.searched = self.input.len();
            return None;
        };
        let rest = self.input.split_off(self.searched + at + 1);
        let mut request = std::mem::replace(&mut self.input, rest);
        request.pop();
        self.searched = 0;
        self.began = None;
        Some(request)
    }

    /// When [`Self::overdue`] has to be asked, if nothing happens before.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let stuck = self.stuck.filter(|_| self.subscription.is_none());
        let began = self.began.filter(|_| !self.working && self.output.is_empty());
        [stuck, began].into_iter().flatten().min().map(|since| since + limits.patience)
    }

    /// Closes a connection whose time is up; true when it can go at once.
    pub(crate) fn overdue(&mut self, limits: &Limits, now: Instant) -> bool {
        if self.deadline(limits).is_none_or(|deadline| now < deadline) {
            return false;
        }
        if self.stuck.is_none() {
            self.input = Vec::new();
            self.began = None;
            self.dismiss(too_slow(limits.patience), now);
        }
        self.stuck.is_some()
    }
}

fn send_with(stream: &UnixStream, bytes: &[u8], fd: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    rights.push(SendAncillaryMessage::ScmRights(&fds));
    Ok(rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut rights, SendFlags::NOSIGNAL)?)
}

/// JSON and a NUL.
pub(crate) fn encode(response: &Response) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(response).unwrap_or_default();
    if bytes.len() >= pontoon_proto::codec::MAX_MESSAGE {
        let failure = fail("operation failed: the answer is longer than a message may be");
        bytes = serde_json::to_vec(&Response::Error(failure)).unwrap_or_default();
    }
    bytes.push(0);
    bytes
}

fn too_long(limit: usize) -> Failure {
    fail(format!("invalid argument: the request is longer than {limit} bytes"))
}

fn too_slow(patience: Duration) -> Failure {
    fail_help(
        format!(
            "operation failed: the rest of the request did not come within {} seconds",
            patience.as_secs()
        ),
        "a request is JSON ended by a NUL byte",
    )
}
