//! Messages on a unix stream socket that never waits: a front-end that sends half a message holds up nobody.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use crate::message::{HEADER, MAX_FDS, Message, parse_header};

#[derive(Debug)]
pub struct Connection {
    socket: Arc<OwnedFd>,
    header: [u8; HEADER],
    /// Octets of header and body that are here.
    have: usize,
    body: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Connection {
    #[must_use]
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, header: [0; HEADER], have: 0, body: Vec::new(), fds: Vec::new() }
    }

    /// The next message; `None` while it is not here as a whole.
    ///
    /// # Errors
    /// The socket's, `UnexpectedEof` when the front-end has closed it, `InvalidData` for what is no message.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if self.have >= HEADER {
                let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a message of vhost-user");
                let (request, wants_reply, size) = parse_header(&self.header).ok_or_else(invalid)?;
                self.body.resize(size, 0);
                if self.have == HEADER + size {
                    self.have = 0;
                    let (body, fds) = (std::mem::take(&mut self.body), std::mem::take(&mut self.fds));
                    return Ok(Some(Message { request, wants_reply, body, fds }));
                }
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// Reads on, no further than the header or the body ends; false when there is nothing.
    fn read(&mut self) -> io::Result<bool> {
        let place = match self.have.checked_sub(HEADER) {
            None => self.header.get_mut(self.have..),
            Some(body) => self.body.get_mut(body..),
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(place.unwrap_or_default())];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let got = match rustix::net::recvmsg(&*self.socket, &mut slices, &mut control, flags) {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.fds.extend(rights);
            }
        }
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.fds.len() > MAX_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than a message has"));
        }
        self.have += got;
        Ok(true)
    }

    /// Sends a message at once or not at all.
    ///
    /// # Errors
    /// The socket's; `WouldBlock` when the front-end does not read what it asked for.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = rustix::net::send(&*self.socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
