//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::{Mac, be16, be32, ethernet};

/// Octets of the packet behind the Ethernet header.
pub const LENGTH: usize = 28;
pub const REQUEST: u16 = 1;
pub const REPLY: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender_ip: Ipv4Addr,
    pub target_mac: Mac,
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Parses a whole Ethernet frame; `None` unless it is IPv4 over Ethernet ARP, complete.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let p = frame.get(ethernet::HEADER..)?;
        let fixed: [u8; 6] = *p.first_chunk()?;
        if fixed != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        Some(Self {
            operation: be16(p, 6)?,
            sender_mac: *p.get(8..)?.first_chunk()?,
            sender_ip: Ipv4Addr::from_bits(be32(p, 14)?),
            target_mac: *p.get(18..)?.first_chunk()?,
            target_ip: Ipv4Addr::from_bits(be32(p, 24)?),
        })
    }

    /// Writes a whole frame from `sender_mac` to `destination`; its length, or `None` when `frame` is too short.
    pub fn emit(&self, frame: &mut [u8], destination: Mac) -> Option<usize> {
        let frame = frame.get_mut(..ethernet::HEADER + LENGTH)?;
        ethernet::emit(frame, destination, self.sender_mac, ethernet::ARP);
        let p = frame.get_mut(ethernet::HEADER..)?;
        p.get_mut(..6)?.copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        p.get_mut(6..8)?.copy_from_slice(&self.operation.to_be_bytes());
        p.get_mut(8..14)?.copy_from_slice(&self.sender_mac);
        p.get_mut(14..18)?.copy_from_slice(&self.sender_ip.octets());
        p.get_mut(18..24)?.copy_from_slice(&self.target_mac);
        p.get_mut(24..28)?.copy_from_slice(&self.target_ip.octets());
        Some(ethernet::HEADER + LENGTH)
    }
}
