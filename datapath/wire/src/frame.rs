//! One pass over a frame: what it is, where its layers begin, and whether its vnet header tells the truth.

use core::net::Ipv4Addr;

use crate::{Mac, be16, ethernet, ipv4, vnet};

/// Largest frame: a 64 KB IP packet behind an Ethernet header.
pub const MAX: usize = 65_535 + ethernet::HEADER;
/// Segments one super-frame may ask for; smaller sizes amplify one write into thousands of packets.
pub const MAX_SEGMENTS: usize = 1365;
/// Smallest segment size of a super-frame with more than [`FEW_SEGMENTS`] (the minimum MSS of RFC 9293 is 536;
/// guests go lower rarely).
pub const MIN_GSO_SIZE: u16 = 48;
/// Super-frames of no more segments may have any segment size: small datagrams are coalesced into such, here and in
/// the kernels of guests that forward them.
pub const FEW_SEGMENTS: usize = 128;

/// An IPv4 packet inside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub ip: ipv4::Header,
    /// Offset of the transport header from the start of the frame.
    pub l4: usize,
    /// End of the IP packet in the frame; what follows is padding.
    pub end: usize,
    /// Source and destination port (TCP, UDP); type/code and id (ICMP); zero for fragments behind the first.
    pub source_port: u16,
    pub destination_port: u16,
    /// TCP flags, or ICMP type.
    pub flags: u8,
}

impl Packet {
    /// Parses the IPv4 packet of an untagged frame. `None`: not IPv4, or not sound, or a transport header that is
    /// cut short.
    #[must_use]
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if ethernet::ethertype(frame)? != ethernet::IPV4 {
            return None;
        }
        let bytes = frame.get(ethernet::HEADER..)?;
        let ip = ipv4::Header::parse(bytes, false)?;
        let l4 = ethernet::HEADER + ip.header_length;
        let end = ethernet::HEADER + ip.total_length;
        let mut packet = Self { ip, l4, end, source_port: 0, destination_port: 0, flags: 0 };
        if ip.fragment_offset() > 0 {
            return Some(packet);
        }
        let payload = frame.get(l4..end)?;
        match ip.protocol {
            ipv4::TCP => packet.tcp(payload)?,
            ipv4::UDP => packet.udp(payload)?,
            ipv4::ICMP => packet.icmp(payload)?,
            _ => {}
        }
        Some(packet)
    }

    #[inline]
    fn tcp(&mut self, payload: &[u8]) -> Option<()> {
        let header = payload.first_chunk::<20>()?;
        let offset = usize::from(header[12] >> 4) * 4;
        if offset < 20 || offset > payload.len() {
            return None;
        }
        self.ports(header.first_chunk()?);
        self.flags = header[13];
        Some(())
    }

    #[inline]
    fn udp(&mut self, payload: &[u8]) -> Option<()> {
        let header = payload.first_chunk::<8>()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let fragment = self.ip.is_fragment();
        if length < 8 || (!fragment && length > payload.len()) {
            return None;
        }
        self.ports(header.first_chunk()?);
        Some(())
    }

    #[inline]
    fn ports(&mut self, [a, b, c, d]: &[u8; 4]) {
        (self.source_port, self.destination_port) =
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    }

    fn icmp(&mut self, payload: &[u8]) -> Option<()> {
        if payload.len() < 8 {
            return None;
        }
        self.flags = *payload.first()?;
        (self.source_port, self.destination_port) = (be16(payload, 4)?, be16(payload, 0)?);
        Some(())
    }

    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        self.ip.source
    }

    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        self.ip.destination
    }
}

/// Source and destination of a frame of at least 14 octets.
#[must_use]
pub fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    (frame.len() >= ethernet::HEADER).then_some((ethernet::source(frame)?, ethernet::destination(frame)?))
}

/// Why a vnet header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Checksum start or offset outside the frame.
    Checksum,
    /// GSO type that is not offered, does not fit the protocol or comes without a partial checksum.
    GsoType,
    /// Segment size zero, tiny, or asking for too many segments.
    GsoSize,
}

/// Holds the facts a guest gives in its vnet header against the frame; a header for a frame that needs nothing says
/// nothing afterwards, but perhaps that the checksum was verified.
///
/// # Errors
/// The first [`Lie`] found.
pub fn check(mut header: vnet::Header, frame: &[u8]) -> Result<vnet::Header, Lie> {
    check_in_place(&mut header, frame).map(|()| header)
}

/// [`check`] without a copy.
///
/// # Errors
/// The first [`Lie`] found.
#[inline]
pub fn check_in_place(header: &mut vnet::Header, frame: &[u8]) -> Result<(), Lie> {
    if header.is_plain() {
        *header = vnet::Header { flags: header.flags & vnet::DATA_VALID, ..vnet::Header::default() };
        return Ok(());
    }
    check_offload(header, frame)
}

#[inline(never)]
fn check_offload(header: &mut vnet::Header, frame: &[u8]) -> Result<(), Lie> {
    *header = header.cleaned();
    if header.needs_checksum() {
        let field = usize::from(header.csum_start.get()) + usize::from(header.csum_offset.get());
        if usize::from(header.csum_start.get()) < ethernet::HEADER || field + 2 > frame.len() {
            return Err(Lie::Checksum);
        }
    }
    if !header.is_gso() {
        header.gso_size = 0.into();
        return Ok(());
    }
    if !header.needs_checksum() || !gso_fits(header.kind(), frame) {
        return Err(Lie::GsoType);
    }
    let size = usize::from(header.gso_size.get());
    let most = if header.gso_size.get() < MIN_GSO_SIZE { FEW_SEGMENTS } else { MAX_SEGMENTS };
    if frame.len().checked_div(size).is_none_or(|segments| segments > most) {
        return Err(Lie::GsoSize);
    }
    if frame.len() <= size {
        (header.gso_type, header.gso_size) = (vnet::GSO_NONE, 0.into());
    }
    Ok(())
}

fn gso_fits(kind: u8, frame: &[u8]) -> bool {
    let Some((ethertype, network)) = ethernet::payload(frame) else { return false };
    let protocol = |offset: usize| frame.get(network + offset).copied();
    let v4 = ethertype == ethernet::IPV4 && protocol(9) == Some(transport(kind));
    let v6 = ethertype == ethernet::IPV6 && protocol(6) == Some(transport(kind));
    match kind {
        vnet::GSO_TCPV4 => v4,
        vnet::GSO_TCPV6 => v6,
        vnet::GSO_UDP_L4 => v4 || v6,
        _ => false,
    }
}

/// The protocol whose segments are of this kind.
fn transport(kind: u8) -> u8 {
    if kind == vnet::GSO_UDP_L4 { ipv4::UDP } else { ipv4::TCP }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_super_frame_may_be_tagged() {
        let header = vnet::Header {
            flags: vnet::NEEDS_CSUM,
            gso_type: vnet::GSO_TCPV4,
            gso_size: 100.into(),
            csum_start: 38.into(),
            csum_offset: 16.into(),
            ..vnet::Header::default()
        };
        let mut frame = [0; 1000];
        frame[12..18].copy_from_slice(&[0x81, 0, 0, 7, 8, 0]);
        frame[27] = ipv4::TCP;
        assert_eq!(check(header, &frame), Ok(header));
        frame[27] = ipv4::UDP;
        assert_eq!(check(header, &frame), Err(Lie::GsoType));
    }
}
