//! The messages of vhost-user, as octets: a header of 12 and a body. Descriptors come beside the header.

use std::os::fd::OwnedFd;

/// Octets of the header: request, flags, length of the body, each a word of the machine.
pub const HEADER: usize = 12;
/// Octets of a body; the longest is a memory table.
pub const MAX_BODY: usize = 4096;
/// Descriptors with one message.
pub const MAX_FDS: usize = 32;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

pub const GET_FEATURES: u32 = 1;
pub const SET_FEATURES: u32 = 2;
pub const SET_OWNER: u32 = 3;
pub const RESET_OWNER: u32 = 4;
pub const SET_MEM_TABLE: u32 = 5;
pub const SET_VRING_NUM: u32 = 8;
pub const SET_VRING_ADDR: u32 = 9;
pub const SET_VRING_BASE: u32 = 10;
pub const GET_VRING_BASE: u32 = 11;
pub const SET_VRING_KICK: u32 = 12;
pub const SET_VRING_CALL: u32 = 13;
pub const SET_VRING_ERR: u32 = 14;
pub const GET_PROTOCOL_FEATURES: u32 = 15;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const GET_QUEUE_NUM: u32 = 17;
pub const SET_VRING_ENABLE: u32 = 18;
pub const SEND_RARP: u32 = 19;
pub const NET_SET_MTU: u32 = 20;
pub const RESET_DEVICE: u32 = 34;
pub const GET_MAX_MEM_SLOTS: u32 = 36;
pub const ADD_MEM_REG: u32 = 37;
pub const REM_MEM_REG: u32 = 38;
pub const SET_STATUS: u32 = 39;
pub const GET_STATUS: u32 = 40;

/// Protocol features.
pub const F_MQ: u64 = 1 << 0;
pub const F_REPLY_ACK: u64 = 1 << 3;
pub const F_MTU: u64 = 1 << 4;
pub const F_RESET_DEVICE: u64 = 1 << 13;
pub const F_MEM_SLOTS: u64 = 1 << 15;
pub const F_STATUS: u64 = 1 << 16;

/// One message of the front-end.
#[derive(Debug, Default)]
pub struct Message {
    pub request: u32,
    pub wants_reply: bool,
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// What a header says of a message: its request, whether it wants a reply, and the octets that follow.
///
/// `None`: not a message of this protocol, or too long.
#[must_use]
pub fn parse_header(header: &[u8; HEADER]) -> Option<(u32, bool, usize)> {
    let (request, rest) = header.split_first_chunk::<4>()?;
    let (flags, size) = rest.split_first_chunk::<4>()?;
    let flags = u32::from_ne_bytes(*flags);
    let size = u32::from_ne_bytes(*size.first_chunk()?) as usize;
    let sound = flags & VERSION_MASK == VERSION && flags & REPLY == 0 && size <= MAX_BODY;
    sound.then_some((u32::from_ne_bytes(*request), flags & NEED_REPLY != 0, size))
}

/// The whole message with which `request` is answered.
#[must_use]
pub fn reply(request: u32, body: &[u8]) -> Vec<u8> {
    let size = body.len() as u32;
    let mut octets = Vec::with_capacity(HEADER + body.len());
    for word in [request, VERSION | REPLY, size] {
        octets.extend_from_slice(&word.to_ne_bytes());
    }
    octets.extend_from_slice(body);
    octets
}

/// A message as the front-end sends it.
#[cfg(feature = "driver")]
#[must_use]
pub fn request(request: u32, wants_reply: bool, body: &[u8]) -> Vec<u8> {
    let mut octets = reply(request, body);
    let flags = VERSION | if wants_reply { NEED_REPLY } else { 0 };
    octets.splice(4..8, flags.to_ne_bytes());
    octets
}

/// Reads the words of a body one after the other; what does not fit is `None`.
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl Words<'_> {
    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*word))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*word))
    }
}
