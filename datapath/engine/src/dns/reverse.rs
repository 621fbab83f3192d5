//! Names that spell addresses: in-addr.arpa (RFC 1035 3.5) and ip6.arpa (RFC 3596 2.5).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks whose names mean nothing outside (RFC 6303 4, RFC 7793 for 100.64/10).
const PRIVATE: &[(IpAddr, u8)] = &[
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 2, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([255, 255, 255, 255], 32),
    // unspecified and loopback, unique local, link-local, documentation
    v6(0, 0, 127),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
    v6(0x2001, 0xdb8, 32),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> (IpAddr, u8) {
    (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6(first: u16, second: u16, prefix: u8) -> (IpAddr, u8) {
    (IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), prefix)
}

/// The leading bits of the address that a name spells.
pub(super) struct Spelled {
    v6: bool,
    /// An IPv4 address stands at the front.
    octets: [u8; 16],
    bits: u32,
    /// More labels than an address has, or a label that is no part of one.
    odd: bool,
}

impl Spelled {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut spelled = Self { v6: false, octets: [0; 16], bits: 0, odd: false };
        if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
            rest.rsplit('.').for_each(|label| spelled.octet(label));
        } else if let Some(rest) = name.strip_suffix(".ip6.arpa") {
            spelled.v6 = true;
            rest.rsplit('.').for_each(|label| spelled.nibble(label));
        } else {
            return None;
        }
        Some(spelled)
    }

    fn octet(&mut self, label: &str) {
        match (label.parse::<u8>(), self.octets.get_mut(self.bits as usize / 8)) {
            (Ok(octet), Some(place)) if !self.odd && self.bits < 32 => {
                *place = octet;
                self.bits += 8;
            }
            _ => self.odd = true,
        }
    }

    fn nibble(&mut self, label: &str) {
        let digit = if label.len() == 1 { u8::from_str_radix(label, 16).ok() } else { None };
        match (digit, self.octets.get_mut(self.bits as usize / 8)) {
            (Some(digit), Some(place)) if !self.odd => {
                *place |= if self.bits.is_multiple_of(8) { digit << 4 } else { digit };
                self.bits += 4;
            }
            _ => self.odd = true,
        }
    }

    /// All of an address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let [a, b, c, d, ..] = self.octets;
        match (self.v6, self.bits) {
            _ if self.odd => None,
            (false, 32) => Some(Ipv4Addr::new(a, b, c, d).into()),
            (true, 128) => Some(Ipv6Addr::from(self.octets).into()),
            _ => None,
        }
    }

    /// A node on the way down to addresses: that it does not exist would deny all of them (RFC 8020).
    pub(super) fn on_the_way(&self) -> bool {
        !self.odd && self.address().is_none()
    }

    pub(super) fn within(&self, network: IpAddr, prefix: u8) -> bool {
        let (own, other) = (u128::from_be_bytes(self.octets), front(network));
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
        self.v6 == network.is_ipv6() && self.bits >= u32::from(prefix) && (own ^ other) & mask == 0
    }

    pub(super) fn private(&self) -> bool {
        PRIVATE.iter().any(|&(network, prefix)| self.within(network, prefix))
    }
}

fn front(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}
