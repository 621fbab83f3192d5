//! One request to the daemon and its answer.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pontoon_proto::api::{self, Failure, Reply, Request, Response};
use pontoon_proto::codec;

/// Longest a verb may take in the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// The socket named on the command line, else in the environment, else the default one.
    pub(crate) fn new(socket: Option<PathBuf>) -> Self {
        let socket = socket
            .or_else(|| std::env::var_os(api::SOCKET_ENV).map(PathBuf::from))
            .unwrap_or_else(|| Path::new(api::DEFAULT_RUNTIME_DIR).join(api::SOCKET_NAME));
        Self { socket }
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is no answer.
    pub(crate) fn call(&self, request: &Request) -> Result<Reply, Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.unreachable(&error))?;
        let answer = exchange(&stream, request).map_err(|error| Failure {
            message: format!("lost the connection to the daemon at {}: {error}", self.socket.display()),
            detail: None,
        })?;
        match answer {
            Response::Parameters(reply) => Ok(reply),
            Response::Error(failure) => Err(failure),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        Failure {
            message: format!("failed to connect to the daemon at {}: {error}", self.socket.display()),
            detail: Some("start it with: pontoon daemon".to_owned()),
        }
    }
}

fn exchange(stream: &UnixStream, request: &Request) -> std::io::Result<Response> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    codec::write_api(stream, request)?;
    codec::read_api(&mut BufReader::new(stream))?.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

/// True when the failure is not the daemon's but that there is none.
pub(crate) fn is_connection(failure: &Failure) -> bool {
    failure.message.starts_with("failed to connect to the daemon")
        || failure.message.starts_with("lost the connection to the daemon")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_daemon_is_said_with_a_hint() {
        let client = Client::new(Some(PathBuf::from("/nonexistent/pontoon.sock")));
        let failure = client.call(&Request::Ping).expect_err("no daemon");
        assert!(is_connection(&failure));
        assert!(failure.message.contains("/nonexistent/pontoon.sock: No such file or directory"));
        assert_eq!(failure.detail.as_deref(), Some("start it with: pontoon daemon"));
    }
}
