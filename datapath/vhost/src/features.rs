//! What is offered to a guest's driver, and what of it was agreed.

use pontoon_wire::vnet;

/// Feature bits of virtio-net, of rings and of vhost-user (virtio 1.2, 5.1.3 and 6; vhost-user's own is 30).
pub const CSUM: u64 = 1 << 0;
pub const GUEST_CSUM: u64 = 1 << 1;
pub const MTU: u64 = 1 << 3;
pub const GSO: u64 = 1 << 6;
pub const GUEST_TSO4: u64 = 1 << 7;
pub const GUEST_TSO6: u64 = 1 << 8;
pub const GUEST_ECN: u64 = 1 << 9;
pub const HOST_TSO4: u64 = 1 << 11;
pub const HOST_TSO6: u64 = 1 << 12;
pub const HOST_ECN: u64 = 1 << 13;
pub const MRG_RXBUF: u64 = 1 << 15;
pub const STATUS: u64 = 1 << 16;
pub const CTRL_VQ: u64 = 1 << 17;
pub const MQ: u64 = 1 << 22;
pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
pub const ANY_LAYOUT: u64 = 1 << 27;
pub const INDIRECT_DESC: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
pub const VERSION_1: u64 = 1 << 32;
pub const RING_PACKED: u64 = 1 << 34;
pub const IN_ORDER: u64 = 1 << 35;
pub const GUEST_USO4: u64 = 1 << 54;
pub const GUEST_USO6: u64 = 1 << 55;
pub const HOST_USO: u64 = 1 << 56;

/// All that this device can do. `NOTIFY_ON_EMPTY` is not there: it asks for calls nobody reads.
pub const OFFERED: u64 = CSUM
    | GUEST_CSUM
    | MTU
    | GSO
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_ECN
    | HOST_TSO4
    | HOST_TSO6
    | HOST_ECN
    | MRG_RXBUF
    | STATUS
    | CTRL_VQ
    | MQ
    | ANY_LAYOUT
    | INDIRECT_DESC
    | EVENT_IDX
    | PROTOCOL_FEATURES
    | VERSION_1
    | RING_PACKED
    | IN_ORDER
    | GUEST_USO4
    | GUEST_USO6
    | HOST_USO;

/// Bits both sides have agreed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    #[must_use]
    #[inline]
    pub fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Octets of the header before every frame.
    #[must_use]
    #[inline]
    pub fn header(self) -> usize {
        if self.0 & (VERSION_1 | MRG_RXBUF) == 0 { vnet::LENGTH - 2 } else { vnet::LENGTH }
    }

    /// The guest has agreed to frames with this header.
    #[must_use]
    #[inline]
    pub fn takes(self, header: &vnet::Header) -> bool {
        if header.is_bare() {
            return true;
        }
        let segments = match header.kind() {
            vnet::GSO_NONE => 0,
            vnet::GSO_TCPV4 => GUEST_TSO4,
            vnet::GSO_TCPV6 => GUEST_TSO6,
            // The header does not say which version of IP it is.
            vnet::GSO_UDP_L4 => GUEST_USO4 | GUEST_USO6,
            _ => return false,
        };
        let ecn = if header.gso_type & vnet::GSO_ECN != 0 { GUEST_ECN } else { 0 };
        let sum = if header.needs_checksum() { GUEST_CSUM } else { 0 };
        self.has(segments | ecn | sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_was_not_agreed() {
        let header = |flags, gso_type| vnet::Header { flags, gso_type, ..vnet::Header::default() };
        let sum = header(vnet::NEEDS_CSUM, 0);
        let tcp = header(vnet::NEEDS_CSUM, vnet::GSO_TCPV4);
        let ecn = header(vnet::NEEDS_CSUM, vnet::GSO_TCPV6 | vnet::GSO_ECN);
        let udp = header(vnet::NEEDS_CSUM, vnet::GSO_UDP_L4);
        let none = Features::default();
        assert!(none.takes(&header(0, 0)) && none.takes(&header(vnet::DATA_VALID, 0)));
        assert!([sum, tcp, ecn, udp].iter().all(|one| !none.takes(one) && Features(OFFERED).takes(one)));
        assert!(!Features(OFFERED).takes(&header(vnet::NEEDS_CSUM, 3)), "UFO");
        assert!(Features(GUEST_CSUM).takes(&sum) && !Features(GUEST_CSUM).takes(&tcp));
        assert!(
            !Features(GUEST_CSUM | GUEST_TSO6).takes(&ecn) && !Features(GUEST_CSUM | GUEST_USO4).takes(&udp)
        );
    }

    #[test]
    fn only_the_oldest_drivers_have_the_short_header() {
        assert_eq!([0, MRG_RXBUF, VERSION_1].map(|bits| Features(bits).header()), [10, 12, 12]);
    }
}
