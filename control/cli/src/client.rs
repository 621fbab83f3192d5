//! One request to the daemon and its answer.

use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pontoon_proto::api::{self, Failure, Reply, Request, Response};
use pontoon_proto::codec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::signal::Interrupt;

const UNREACHABLE: &str = "Failed to connect socket to";
const LOST: &str = "lost the connection to the daemon";

/// Longest a verb may take in the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The socket named on the command line, else in the environment, else the default one.
    pub(crate) fn new(socket: Option<PathBuf>) -> Self {
        Self { socket: api_socket(socket) }
    }

    /// Where the daemon's API is.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub(crate) fn call(&self, request: &Request) -> Result<Reply, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.unreachable(&error))?;
        let answer = exchange(&stream, request).map_err(|error| lost(&self.socket, &error))?;
        match answer {
            Response::Parameters(reply) => Ok(reply),
            Response::Error(failure) => Err(failure),
        }
    }

    /// Begins a conversation of several requests.
    ///
    /// # Errors
    /// Why there is no daemon.
    pub(crate) fn converse(&self) -> Result<Conversation, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.unreachable(&error))?;
        let limited = stream.set_read_timeout(Some(PATIENCE));
        limited
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(|error| lost(&self.socket, &error))?;
        Ok(Conversation { reader: BufReader::new(stream), socket: self.socket.clone() })
    }

    /// Asks for events.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub(crate) fn subscribe(&self, request: &Request) -> Result<Events, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.unreachable(&error))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| lost(&self.socket, &error))?;
        let mut reader = BufReader::new(stream);
        let begun = codec::write_api(reader.get_ref(), request).and_then(|()| {
            codec::read_api(&mut reader)?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
        });
        match begun.map_err(|error| lost(&self.socket, &error))? {
            Response::Parameters(_) => Ok(Events { reader, socket: self.socket.clone() }),
            Response::Error(failure) => Err(failure),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        Failure {
            message: format!("{UNREACHABLE} '{}': {}", self.socket.display(), plain(error)),
            detail: Some("start it with: pontoon daemon".to_owned()),
        }
    }
}

/// The one that was named, else that of the environment, else the default.
pub(crate) fn api_socket(named: Option<PathBuf>) -> PathBuf {
    named
        .or_else(|| std::env::var_os(api::SOCKET_ENV).map(PathBuf::from))
        .unwrap_or_else(|| Path::new(api::DEFAULT_RUNTIME_DIR).join(api::SOCKET_NAME))
}

/// Requests over one connection.
#[derive(Debug)]
pub(crate) struct Conversation {
    reader: BufReader<UnixStream>,
    socket: PathBuf,
}

impl Conversation {
    /// Asks and waits.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub(crate) fn call(&mut self, request: &Request) -> Result<Reply, Failure> {
        let read = codec::write_api(self.reader.get_ref(), request)
            .and_then(|()| codec::read_api(&mut self.reader))
            .and_then(|read| read.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
        match read.map_err(|error| lost(&self.socket, &error))? {
            Response::Parameters(reply) => Ok(reply),
            Response::Error(failure) => Err(failure),
        }
    }
}

/// What ended a wait for events.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(Reply),
    Late,
    Interrupt,
}

/// Events of the daemon as they come.
#[derive(Debug)]
pub(crate) struct Events {
    reader: BufReader<UnixStream>,
    socket: PathBuf,
}

impl Events {
    /// Waits for the next one.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub(crate) fn next(
        &mut self,
        deadline: Option<Instant>,
        interrupt: &Interrupt,
    ) -> Result<Heard, Failure> {
        if self.reader.buffer().is_empty() {
            let waited = wait(self.reader.get_ref(), deadline, interrupt);
            if let Some(ending) = waited.map_err(|error| lost(&self.socket, &error))? {
                return Ok(ending);
            }
        }
        let read = codec::read_api::<Response>(&mut self.reader);
        let read = read.and_then(|read| read.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
        match read.map_err(|error| lost(&self.socket, &error))? {
            Response::Parameters(reply) => Ok(Heard::Event(reply)),
            Response::Error(failure) => Err(failure),
        }
    }
}

/// Waits until the socket can be read; what else ended the wait.
fn wait(
    socket: &UnixStream,
    deadline: Option<Instant>,
    interrupt: &Interrupt,
) -> std::io::Result<Option<Heard>> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(std::io::Error::other)?;
        let mut fds = vec![PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        fds.extend(interrupt.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        if ready(1) {
            return Ok(Some(Heard::Interrupt));
        }
        if ready(0) {
            return Ok(None);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Some(Heard::Late));
        }
    }
}

fn lost(socket: &Path, error: &std::io::Error) -> Failure {
    Failure { message: format!("{LOST} at {}: {}", socket.display(), plain(error)), detail: None }
}

fn exchange(stream: &UnixStream, request: &Request) -> std::io::Result<Response> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    codec::write_api(stream, request)?;
    codec::read_api(&mut BufReader::new(stream))?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

/// True when the failure is not the daemon's but that there is none.
pub(crate) fn is_connection(failure: &Failure) -> bool {
    failure.message.starts_with(UNREACHABLE) || failure.message.starts_with(LOST)
}

/// The system's words without Rust's number behind them.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_daemon_is_said_with_a_hint() {
        let client = Client::new(Some(PathBuf::from("/nonexistent/pontoon.sock")));
        let failure = client.call(&Request::Ping).expect_err("no daemon");
        assert!(is_connection(&failure));
        assert_eq!(
            failure.message,
            "Failed to connect socket to '/nonexistent/pontoon.sock': No such file or directory"
        );
        assert_eq!(failure.detail.as_deref(), Some("start it with: pontoon daemon"));
    }
}
