//! ICMP (RFC 792) as a gateway needs it.

use core::net::Ipv4Addr;

use crate::{Mac, checksum, ethernet, ipv4, put};

/// Octets of the fixed part of every message.
pub const HEADER: usize = 8;
pub const ECHO_REPLY: u8 = 0;
pub const UNREACHABLE: u8 = 3;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;
pub const PARAMETER_PROBLEM: u8 = 12;
pub const TIMESTAMP: u8 = 13;
pub const TIMESTAMP_REPLY: u8 = 14;

pub const NET_UNREACHABLE: u8 = 0;
pub const HOST_UNREACHABLE: u8 = 1;
pub const PROTOCOL_UNREACHABLE: u8 = 2;
pub const PORT_UNREACHABLE: u8 = 3;
pub const FRAGMENTATION_NEEDED: u8 = 4;
pub const ADMINISTRATIVELY_PROHIBITED: u8 = 13;

/// Octets of the offending datagram an error quotes: all that fits in 576 (RFC 1812 4.3.2.3).
pub const QUOTE: usize = 576 - ipv4::HEADER - HEADER;

/// Errors that quote the packet they are about (RFC 792; source quench is deprecated, RFC 6633).
#[must_use]
pub fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// Queries a NAT keeps sessions for (RFC 5508 section 3): echo and timestamp.
#[must_use]
pub fn is_query(kind: u8) -> bool {
    matches!(kind, ECHO_REQUEST | TIMESTAMP)
}

/// Replies to [`is_query`].
#[must_use]
pub fn is_reply(kind: u8) -> bool {
    matches!(kind, ECHO_REPLY | TIMESTAMP_REPLY)
}

/// An error message to be written.
#[derive(Clone, Copy, Debug)]
pub struct Error {
    pub kind: u8,
    pub code: u8,
    /// Octets 4 to 7: zero, or the MTU in the low half for [`FRAGMENTATION_NEEDED`] (RFC 1191).
    pub rest: u32,
}

/// Writes a whole frame with an error about `offending` (an IPv4 packet); its length, `None` without room.
pub fn emit_error(
    frame: &mut [u8],
    macs: (Mac, Mac),
    source: Ipv4Addr,
    destination: Ipv4Addr,
    error: Error,
    offending: &[u8],
) -> Option<usize> {
    let quote = offending.get(..offending.len().min(QUOTE))?;
    let length = ethernet::HEADER + ipv4::HEADER + HEADER + quote.len();
    let frame = frame.get_mut(..length)?;
    ethernet::emit(frame, macs.1, macs.0, ethernet::IPV4);
    let packet = frame.get_mut(ethernet::HEADER..)?;
    ipv4::emit(packet, source, destination, ipv4::ICMP, HEADER + quote.len(), 0, false);
    let message = packet.get_mut(ipv4::HEADER..)?;
    message.get_mut(..4)?.copy_from_slice(&[error.kind, error.code, 0, 0]);
    message.get_mut(4..8)?.copy_from_slice(&error.rest.to_be_bytes());
    message.get_mut(HEADER..)?.copy_from_slice(quote);
    let sum = checksum::of(message);
    put(message, 2, &sum.to_be_bytes());
    Some(length)
}
