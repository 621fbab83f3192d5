//! What becomes of frames, for whoever wants to know: which are meant, and what is told of them.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::{Mac, be16, ethernet, ipv4};

use crate::DropReason;
use crate::snapshot::PortId;

/// Frames of one turn that are told of; more are only counted.
const CAPACITY: usize = 256;
/// Copies of a frame that are told of.
pub const COPIES: usize = 4;

macro_rules! stages {
    ($($variant:ident $name:literal,)*) => {
        /// What a frame may pass through, in no order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Stage { $($variant,)* }

        impl Stage {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

stages! {
    Guard "guard",
    Tree "spanning-tree",
    Switch "switch",
    Gateway "gateway",
    Dhcp "dhcp",
    Dns "dns",
    Route "route",
    NatOut "nat-out",
    Hairpin "hairpin",
    Uplink "uplink",
    NatIn "nat-in",
    Deliver "deliver",
    Wait "arp-wait",
}

/// The stages a frame has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail(u16);

impl Trail {
    #[inline(always)]
    pub(crate) fn pass(&mut self, stage: Stage) {
        self.0 |= 1 << stage as u8;
    }

    pub fn stages(self) -> impl Iterator<Item = Stage> {
        Stage::ALL.iter().copied().filter(move |stage| self.0 & 1 << *stage as u8 != 0)
    }
}

/// What a frame says of itself, as far as it can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub length: u32,
    pub source: Mac,
    pub destination: Mac,
    pub ethertype: u16,
    /// Of IPv4 the protocol and both addresses; of ARP zero, sender and target.
    pub ip: Option<(u8, Ipv4Addr, Ipv4Addr)>,
    /// Source and destination port, or type and id of ICMP.
    pub ports: Option<(u16, u16)>,
}

impl Head {
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        let mut head = Self { length: frame.len() as u32, ..Self::default() };
        let (Some(destination), Some(source)) = (ethernet::destination(frame), ethernet::source(frame))
        else {
            return head;
        };
        (head.source, head.destination) = (source, destination);
        head.ethertype = ethernet::ethertype(frame).unwrap_or(0);
        let rest = frame.get(ethernet::HEADER..).unwrap_or_default();
        match head.ethertype {
            ethernet::IPV4 => head.read_ip(rest),
            ethernet::ARP => head.ip = address(rest, 14).zip(address(rest, 24)).map(|(s, t)| (0, s, t)),
            _ => {}
        }
        head
    }

    fn read_ip(&mut self, packet: &[u8]) {
        let (Some(&first), Some(&protocol)) = (packet.first(), packet.get(9)) else { return };
        self.ip = address(packet, 12).zip(address(packet, 16)).map(|(s, d)| (protocol, s, d));
        let later = be16(packet, 6).is_none_or(|flags| flags & 0x1fff != 0);
        let at = usize::from(first & 0xf) * 4;
        if later {
            return;
        }
        self.ports = match protocol {
            ipv4::TCP | ipv4::UDP => be16(packet, at).zip(be16(packet, at + 2)),
            ipv4::ICMP => packet.get(at).map(|kind| u16::from(*kind)).zip(be16(packet, at + 4)),
            _ => None,
        };
    }

    fn is(&self, term: Term) -> bool {
        let protocol = self.ip.map(|(protocol, ..)| protocol).filter(|_| self.ethertype == ethernet::IPV4);
        match term {
            Term::Mac(mac) => self.source == mac || self.destination == mac,
            Term::Net(net, mask) => self.ip.is_some_and(|(_, source, destination)| {
                [source, destination].iter().any(|address| address.to_bits() & mask == net)
            }),
            Term::Protocol(wanted) => protocol == Some(wanted),
            Term::Ethertype(wanted) => self.ethertype == wanted,
            Term::Port(port) => {
                matches!(protocol, Some(ipv4::TCP | ipv4::UDP))
                    && self.ports.is_some_and(|(source, destination)| source == port || destination == port)
            }
        }
    }
}

fn address(octets: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = octets.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// At either end, as all that follow.
    Mac(Mac),
    /// An address in this subnet, of IPv4 or ARP.
    Net(u32, u32),
    Protocol(u8),
    Ethertype(u16),
    Port(u16),
}

/// Which frames somebody wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: u32,
    pub network: u16,
    /// All have to hold, for the frame as it came or as it went.
    pub terms: Vec<Term>,
    /// So many frames of one worker.
    pub count: u32,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sent,
    /// Another worker owns what it needs.
    HandedOver(u16),
    Dropped(DropReason),
    /// Answered, taken in, or kept until a neighbour has answered.
    Consumed,
}

/// What became of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The order it is for.
    pub id: u32,
    pub ingress: PortId,
    /// Another worker handed it over.
    pub handed: bool,
    pub head: Head,
    pub trail: Trail,
    pub verdict: Verdict,
    pub copies: Copies,
}

/// What left on account of a frame: itself, copies of it, an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copies {
    pub first: [Option<(PortId, Head)>; COPIES],
    pub count: u32,
}

impl Copies {
    pub(crate) fn add(&mut self, port: PortId, head: Head) {
        if let Some(place) = self.first.get_mut(self.count as usize) {
            *place = Some((port, head));
        }
        self.count = self.count.saturating_add(1);
    }

    pub fn told(&self) -> impl Iterator<Item = (PortId, Head)> + '_ {
        self.first.iter().flatten().copied()
    }
}

/// Orders, and what there is to tell.
pub(crate) struct Tracer {
    orders: Vec<Order>,
    told: Vec<Told>,
    lost: u64,
}

impl Tracer {
    pub(crate) fn new(orders: Vec<Order>) -> Self {
        Self { orders, told: Vec::with_capacity(CAPACITY), lost: 0 }
    }

    pub(crate) fn has_news(&self) -> bool {
        !self.told.is_empty()
    }

    pub(crate) fn take(&mut self) -> (impl Iterator<Item = Told> + '_, u64) {
        let lost = core::mem::take(&mut self.lost);
        (self.told.drain(..), lost)
    }

    /// `touches`: whether the frame has to do with a network.
    pub(crate) fn tell(&mut self, told: Told, touches: impl Fn(u16) -> bool) {
        let Self { orders, told: list, lost } = self;
        for order in orders.iter_mut().filter(|order| order.count > 0 && touches(order.network)) {
            let meant = |head: &Head| order.terms.iter().all(|term| head.is(*term));
            if !meant(&told.head) && !told.copies.told().any(|(_, head)| meant(&head)) {
                continue;
            }
            // Who takes it over has more to tell.
            order.count -= u32::from(!matches!(told.verdict, Verdict::HandedOver(_)));
            if list.len() < CAPACITY {
                list.push(Told { id: order.id, ..told });
            } else {
                *lost += 1;
            }
        }
    }
}
