//! Frames on a unix stream socket: a 4-byte little-endian length, then JSON. Descriptors ride on the length.

use std::io::{self, BufRead, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest JSON of one message. A document of 256 networks with full pools stays far below.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Descriptors one message can carry (`SCM_MAX_FD` of the kernel).
pub const MAX_FDS: usize = 253;

/// Sends one message, blocking until all of it is written.
///
/// # Errors
/// The socket's, or `InvalidInput` for more than [`MAX_FDS`] descriptors or a message over [`MAX_MESSAGE`].
pub fn send<T: Serialize>(socket: &UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if fds.len() > MAX_FDS || body.len() > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message or descriptor list too large"));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor list too large"));
    }
    let sent =
        rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
    let mut writer = socket;
    writer.write_all(length.get(sent..).unwrap_or(&[]))?;
    writer.write_all(&body)
}

/// Receives one message, blocking; `Ok(None)` when the peer closed between messages.
///
/// # Errors
/// The socket's, `UnexpectedEof` inside a message, `InvalidData` for a message that is too long or not the JSON
/// expected.
pub fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0u8; 4];
    let mut fds = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut length)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?
    .bytes;
    if got == 0 {
        return Ok(None);
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let mut reader = socket;
    if let Some(rest) = length.get_mut(got..) {
        reader.read_exact(rest)?;
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    let mut body = Vec::new();
    reader.take(length as u64).read_to_end(&mut body)?;
    if body.len() != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

/// Writes one API message: JSON and a NUL.
///
/// # Errors
/// The socket's.
pub fn write_api<T: Serialize>(mut socket: impl Write, message: &T) -> io::Result<()> {
    let mut body = serde_json::to_vec(message)?;
    body.push(0);
    socket.write_all(&body)
}

/// Reads one API message up to its NUL; `Ok(None)` when the peer closed before one began.
///
/// # Errors
/// The socket's, `InvalidData` for bad JSON or a message over [`MAX_MESSAGE`].
pub fn read_api<T: DeserializeOwned>(socket: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut body = Vec::new();
    Read::take(&mut *socket, MAX_MESSAGE as u64).read_until(0, &mut body)?;
    if body.is_empty() {
        return Ok(None);
    }
    if body.pop() != Some(0) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message is not ended by a NUL"));
    }
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ToDatapath;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (a, b) = UnixStream::pair().expect("pair");
        let file = std::fs::File::open("/dev/null").expect("null");
        send(&a, &ToDatapath::Hello, &[file.as_fd(), file.as_fd()]).expect("send");
        let (message, fds) = receive::<ToDatapath>(&b).expect("receive").expect("open");
        assert_eq!(message, ToDatapath::Hello);
        assert_eq!(fds.len(), 2);
        drop(a);
        assert!(receive::<ToDatapath>(&b).expect("closed").is_none());
    }

    #[test]
    fn an_oversized_length_is_refused_before_it_is_read() {
        let (mut a, b) = UnixStream::pair().expect("pair");
        a.write_all(&u32::MAX.to_le_bytes()).expect("write");
        let refused = receive::<ToDatapath>(&b).expect_err("too long");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }
}
