//! `<portForward>` of a network: ports of the outside that lead to a guest.

use std::net::Ipv4Addr;

use crate::value;

/// As libvirt writes it for an interface, with the guest named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForward {
    pub proto: Protocol,
    /// Absent: every address NAT has.
    pub address: Option<Ipv4Addr>,
    pub dev: Option<String>,
    pub guest: String,
    pub ranges: Vec<PortRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Of the IPv4 header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// `<range>`: the outside's ports, and the guest's for the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub start: u16,
    pub end: Option<u16>,
    pub to: Option<u16>,
    pub exclude: bool,
}

impl PortRange {
    pub fn last(&self) -> u16 {
        self.end.unwrap_or(self.start)
    }
}

/// How a guest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestName {
    Mac([u8; 6]),
    Address(Ipv4Addr),
    Host(String),
}

/// Consecutive ports, and the guest's for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub first: u16,
    pub last: u16,
    pub to: u16,
}

impl PortForward {
    pub fn guest_name(&self) -> GuestName {
        let mac = || value::mac(&self.guest).map(GuestName::Mac);
        let address = self.guest.parse().ok().map(GuestName::Address);
        address.or_else(mac).unwrap_or_else(|| GuestName::Host(self.guest.clone()))
    }

    /// The ranges without what others of them exclude.
    pub fn pieces(&self) -> Vec<Piece> {
        let (out, ranges): (Vec<_>, Vec<_>) = self.ranges.iter().partition(|range| range.exclude);
        let whole = |range: &&PortRange| {
            let to = range.to.unwrap_or(range.start);
            Piece { first: range.start, last: range.last(), to }
        };
        out.iter().fold(ranges.iter().map(whole).collect(), |pieces: Vec<Piece>, out| {
            pieces.into_iter().flat_map(|piece| piece.without(out.start, out.last())).collect()
        })
    }
}

impl Piece {
    fn without(self, start: u16, end: u16) -> impl Iterator<Item = Self> {
        let Self { first, last, to } = self;
        let before = (start > first).then(|| Self { first, last: last.min(start - 1), to });
        let after = (end < last).then(|| {
            let begin = first.max(end.saturating_add(1));
            Self { first: begin, last, to: to.wrapping_add(begin - first) }
        });
        before.into_iter().chain(after)
    }

    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A port that both forwards take.
pub fn common(one: &PortForward, other: &PortForward) -> Option<u16> {
    let apart = one.proto != other.proto || one.address.zip(other.address).is_some_and(|(a, b)| a != b);
    let pieces = (!apart).then(|| one.pieces())?;
    let others = other.pieces();
    let both = |piece: &Piece| {
        others.iter().find(|other| piece.meets(other)).map(|other| piece.first.max(other.first))
    };
    pieces.iter().find_map(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(guest: &str, ranges: &[(u16, u16, u16, bool)]) -> PortForward {
        let range = |&(start, end, to, exclude): &(u16, u16, u16, bool)| PortRange {
            start,
            end: Some(end),
            to: Some(to).filter(|to| *to > 0),
            exclude,
        };
        let ranges = ranges.iter().map(range).collect();
        PortForward { proto: Protocol::Tcp, address: None, dev: None, guest: guest.into(), ranges }
    }

    #[test]
    fn what_is_excluded_is_cut_out_and_the_rest_keeps_its_ports() {
        let pieces = |ranges: &[_]| {
            let pieces = forward("a", ranges).pieces();
            pieces.iter().map(|piece| (piece.first, piece.last, piece.to)).collect::<Vec<_>>()
        };
        assert_eq!(pieces(&[(80, 80, 0, false)]), [(80, 80, 80)]);
        let whole = (2000, 2010, 3000, false);
        assert_eq!(pieces(&[whole, (2005, 2005, 0, true)]), [(2000, 2004, 3000), (2006, 2010, 3006)]);
        assert_eq!(pieces(&[whole, (1, 2003, 0, true)]), [(2004, 2010, 3004)]);
        assert_eq!(pieces(&[whole, (2008, 65535, 0, true)]), [(2000, 2007, 3000)]);
        assert_eq!(pieces(&[whole, (1, 65535, 0, true)]), []);
        assert_eq!(pieces(&[(65535, 65535, 1, false), (1, 2, 0, true)]), [(65535, 65535, 1)]);
    }

    #[test]
    fn forwards_meet_in_a_port_of_one_protocol_and_address() {
        let one = forward("a", &[(80, 90, 0, false)]);
        let mut other = forward("b", &[(88, 99, 0, false)]);
        assert_eq!(common(&one, &other), Some(88));
        other.address = Some([203, 0, 113, 2].into());
        assert_eq!(common(&one, &other), Some(88), "one is for every address");
        let third = PortForward { address: Some([203, 0, 113, 3].into()), ..one.clone() };
        assert_eq!(common(&third, &other), None);
        other.proto = Protocol::Udp;
        assert_eq!(common(&one, &other), None);
    }

    #[test]
    fn a_guest_is_a_mac_an_address_or_a_name() {
        let name = |text: &str| forward(text, &[]).guest_name();
        assert_eq!(name("52:54:00:00:00:09"), GuestName::Mac([0x52, 0x54, 0, 0, 0, 9]));
        assert_eq!(name("10.1.0.5"), GuestName::Address([10, 1, 0, 5].into()));
        assert_eq!(name("web-1"), GuestName::Host("web-1".into()));
    }
}
