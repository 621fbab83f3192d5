//! `virtio_net_hdr_v1`, 12 octets, little endian (virtio 1.2, 5.1.6): what a tap with `IFF_VNET_HDR` puts before
//! every frame.

use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Octets of the header.
pub const LENGTH: usize = 12;

/// `csum_start`/`csum_offset` say where a checksum is still to be completed.
pub const NEEDS_CSUM: u8 = 1;
/// The checksum was verified already.
pub const DATA_VALID: u8 = 2;

pub const GSO_NONE: u8 = 0;
pub const GSO_TCPV4: u8 = 1;
pub const GSO_TCPV6: u8 = 4;
pub const GSO_UDP_L4: u8 = 5;
/// Bit that may be or'ed to the TCP types.
pub const GSO_ECN: u8 = 0x80;

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    /// Hint of the sender; never trusted.
    pub header_length: U16,
    /// Payload octets of every segment.
    pub gso_size: U16,
    /// From the start of the frame.
    pub csum_start: U16,
    /// From `csum_start`.
    pub csum_offset: U16,
    pub buffers: U16,
}

impl Header {
    #[must_use]
    #[inline]
    pub fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    #[must_use]
    #[inline]
    pub fn is_gso(&self) -> bool {
        self.gso_type != GSO_NONE
    }

    /// Nothing is left for anybody to do, and nothing is said of the checksum.
    #[must_use]
    #[inline(always)]
    pub fn is_bare(&self) -> bool {
        [self.flags, self.gso_type] == [0; 2]
    }

    /// Nothing is left for anybody to do.
    #[must_use]
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.flags & NEEDS_CSUM == 0 && self.gso_type == GSO_NONE
    }

    /// The GSO type without the ECN bit.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> u8 {
        self.gso_type & !GSO_ECN
    }

    /// The same facts with everything unknown to us masked and hints cleared.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        self.flags &= NEEDS_CSUM | DATA_VALID;
        self.buffers = U16::new(0);
        self
    }
}
