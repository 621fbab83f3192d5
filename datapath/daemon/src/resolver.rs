//! Sockets to the host's resolvers: connected UDP ones polled by worker 0, and one exchange over TCP.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags};

use crate::queues::Token;

/// Time one exchange over TCP may take.
pub(crate) const TCP_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(crate) struct Resolvers {
    sockets: Vec<OwnedFd>,
}

impl Resolvers {
    /// Replaces all sockets. Watched level-triggered.
    pub(crate) fn install(&mut self, epoll: impl AsFd, sockets: Vec<OwnedFd>) {
        for old in self.sockets.drain(..) {
            let _ = epoll::delete(&epoll, &old);
        }
        for (index, socket) in sockets.iter().enumerate() {
            let Ok(index) = u16::try_from(index) else { break };
            if let Err(error) =
                epoll::add(&epoll, socket, Token::Resolver(index).data(), epoll::EventFlags::IN)
            {
                tracing::warn!(index, %error, "resolver socket is not watched");
            }
        }
        self.sockets = sockets;
    }

    /// # Errors
    /// The socket's; a full one is an error too.
    pub(crate) fn send(&self, socket: u16, query: &[u8]) -> io::Result<()> {
        let socket = self.sockets.get(usize::from(socket)).ok_or(io::ErrorKind::NotFound)?;
        rustix::net::send(socket, query, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Reads one datagram; `Ok(None)` when there is none.
    ///
    /// # Errors
    /// What the socket reports, e.g. connection refused.
    pub(crate) fn receive(&self, socket: u16, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(socket) = self.sockets.get(usize::from(socket)) else { return Ok(None) };
        match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
            Ok((read, _)) => Ok(Some(read)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends `query` and reads the answer (RFC 1035, 4.2.2); empty when that fails.
#[must_use]
pub(crate) fn exchange(socket: OwnedFd, query: &[u8]) -> Vec<u8> {
    match try_exchange(&TcpStream::from(socket), query) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "DNS over TCP");
            Vec::new()
        }
    }
}

fn try_exchange(mut socket: &TcpStream, query: &[u8]) -> io::Result<Vec<u8>> {
    let until = Instant::now() + TCP_TIMEOUT;
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(TCP_TIMEOUT))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(query);
    socket.write_all(&message)?;
    let mut length = [0; 2];
    fill(socket, &mut length, until)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(socket, &mut answer, until)?;
    Ok(answer)
}

fn fill(mut socket: &TcpStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let read = socket.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = buffer.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn an_exchange_frames_query_and_answer() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let server = std::thread::spawn(move || {
            let mut query = [0; 7];
            theirs.read_exact(&mut query).expect("query");
            theirs.write_all(b"\0\x06answer").expect("answer");
            query
        });
        assert_eq!(exchange(ours.into(), b"query"), b"answer");
        assert_eq!(&server.join().expect("join"), b"\0\x05query");
    }

    #[test]
    fn a_cut_answer_is_none() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        theirs.write_all(b"\0\x06ans").expect("answer");
        theirs.shutdown(std::net::Shutdown::Write).expect("shutdown");
        assert!(exchange(ours.into(), b"query").is_empty());
    }

    #[test]
    fn datagrams_go_by_socket() {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
        let (ours, theirs) = UnixDatagram::pair().expect("pair");
        let mut resolvers = Resolvers::default();
        resolvers.install(&epoll, vec![ours.into()]);
        resolvers.send(0, b"query").expect("send");
        assert!(resolvers.send(1, b"query").is_err());
        let mut buffer = [0; 64];
        assert_eq!(theirs.recv(&mut buffer).expect("recv"), 5);
        assert_eq!(resolvers.receive(0, &mut buffer).expect("receive"), None);
    }
}
