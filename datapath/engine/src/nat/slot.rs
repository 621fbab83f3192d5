//! One session as plain data, so that it outlives the process that wrote it.

use core::net::Ipv4Addr;

use pontoon_wire::{Mac, ipv4};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::tcp;
use super::timers::Class;

/// Says that the words are a session of this layout; change it with the layout.
const MAGIC: u64 = 0x706f_6e74_6e61_7402;
/// The remote side answered, so memory pressure may not take the session.
const ASSURED: u8 = 1;
/// `in_next` was learned.
const WINDOW_KNOWN: u8 = 2;

/// The octets of an IPv4 address.
pub(super) type Address = [u8; 4];

/// A packed key: what is compared and hashed.
pub(super) type Key = [u64; 2];

/// One session: plain data in memory the engine is given. Endpoints are in the order of octets and fields that
/// packets have, so that a key is read from either as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// Over everything that stays the same for the life of the session; zero: free.
    pub(super) check: u64,
    /// Nanoseconds of the monotonic clock.
    pub(super) expires: u64,
    pub(super) inside: Address,
    pub(super) remote: Address,
    pub(super) external: Address,
    pub(super) inside_port: U16,
    pub(super) remote_port: U16,
    pub(super) external_port: U16,
    pub(super) network: u16,
    /// TCP: what the inside host expects next, which is where an exact reset points.
    pub(super) in_next: u32,
    /// TCP: widest window the inside host offered, scaled.
    pub(super) in_window: u32,
    /// TCP: end of what the inside host sent.
    pub(super) out_end: u32,
    /// The caller's checks of an outbound packet that hold for all of the session; zero: none.
    pub(super) epoch: u32,
    pub(super) uplink: u16,
    pub(super) mac: Mac,
    pub(super) protocol: u8,
    pub(super) state: u8,
    pub(super) flags: u8,
    /// TCP: window scale of the inside host.
    pub(super) in_scale: u8,
}

/// A session's endpoints seen from inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) protocol: u8,
    pub(super) local: (Ipv4Addr, u16),
    pub(super) remote: (Ipv4Addr, u16),
}

impl Flow {
    /// Key of the session of an inside endpoint.
    pub(super) fn out_key(&self, network: u16) -> Key {
        key(
            ends(self.local.0, self.remote.0),
            between(self.local.1.into(), self.remote.1.into()),
            network,
            self.protocol,
        )
    }

    /// Key of the session of an external endpoint.
    pub(super) fn in_key(&self, uplink: u16) -> Key {
        key(
            ends(self.remote.0, self.local.0),
            between(self.remote.1.into(), self.local.1.into()),
            uplink,
            self.protocol,
        )
    }

    /// Key of the mapping of an inside endpoint.
    pub(super) fn inside_key(&self, network: u16, uplink: u16) -> Key {
        let link = u64::from(network) << 16 | u64::from(uplink);
        [
            u64::from(self.local.0.to_bits()) << 32 | link,
            u64::from(self.local.1) << 8 | u64::from(self.protocol),
        ]
    }
}

/// Key of the mapping of an external port.
pub(super) fn external_key(uplink: u16, protocol: u8, port: u16) -> Key {
    [u64::from(uplink) << 16 | u64::from(port), u64::from(protocol)]
}

/// Key of a session: addresses and ports as the packet has them, the link it comes from.
#[inline]
pub(super) fn key(addresses: u64, ports: u32, link: u16, protocol: u8) -> Key {
    [addresses, u64::from(ports) | u64::from(link) << 32 | u64::from(protocol) << 48]
}

fn ends(source: Ipv4Addr, destination: Ipv4Addr) -> u64 {
    adjacent(&source.octets(), &destination.octets())
}

#[inline]
fn adjacent([a, b, c, d]: &[u8; 4], [e, f, g, h]: &[u8; 4]) -> u64 {
    u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
}

#[inline]
fn between(source: U16, destination: U16) -> u32 {
    let ([a, b], [c, d]) = (source.to_bytes(), destination.to_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

impl Slot {
    /// As the inside host names its endpoints.
    pub(super) fn inside_flow(&self) -> Flow {
        Flow {
            protocol: self.protocol,
            local: (self.inside.into(), self.inside_port.get()),
            remote: (self.remote.into(), self.remote_port.get()),
        }
    }

    #[inline]
    pub(super) fn out_key(&self) -> Key {
        let ports = between(self.inside_port, self.remote_port);
        key(adjacent(&self.inside, &self.remote), ports, self.network, self.protocol)
    }

    #[inline]
    pub(super) fn in_key(&self) -> Key {
        let ports = between(self.remote_port, self.external_port);
        key(adjacent(&self.remote, &self.external), ports, self.uplink, self.protocol)
    }

    pub(super) fn inside_key(&self) -> Key {
        self.inside_flow().inside_key(self.network, self.uplink)
    }

    pub(super) fn external_key(&self) -> Key {
        external_key(self.uplink, self.protocol, self.external_port.get())
    }

    pub(super) fn host_key(&self) -> u64 {
        host_key(self.network, self.inside.into())
    }

    pub(super) fn is_used(&self) -> bool {
        self.check != 0
    }

    /// Makes the slot a session: the last thing written.
    pub(super) fn seal(&mut self) {
        self.check = self.expected();
    }

    /// What can be known about a slot found in memory that another process wrote, perhaps while it died.
    pub(super) fn is_sound(&self) -> bool {
        self.check == self.expected()
            && matches!(self.protocol, ipv4::TCP | ipv4::UDP | ipv4::ICMP)
            && tcp::State::from_byte(self.state).is_some()
            && self.flags & !(ASSURED | WINDOW_KNOWN) == 0
            && self.in_scale <= tcp::MAX_SCALE
            && self.mac[0] & 1 == 0
    }

    fn expected(&self) -> u64 {
        let [a, b] = self.external_port.to_bytes();
        let [ends, rest] = self.out_key();
        let words = [ends, rest, adjacent(&self.external, &[a, b, 0, 0]), u64::from(self.uplink)];
        words.iter().fold(MAGIC, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
            | 1
    }

    pub(super) fn is_assured(&self) -> bool {
        self.flags & ASSURED != 0
    }

    pub(super) fn assure(&mut self) {
        self.flags |= ASSURED;
    }

    pub(super) fn is_window_known(&self) -> bool {
        self.flags & WINDOW_KNOWN != 0
    }

    pub(super) fn set_window_known(&mut self, known: bool) {
        self.flags = if known { self.flags | WINDOW_KNOWN } else { self.flags & !WINDOW_KNOWN };
    }

    /// A TCP connection that is established and whose windows are known.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.state == tcp::State::Established as u8 && self.flags == ASSURED | WINDOW_KNOWN
    }

    pub(super) fn tcp_state(&self) -> tcp::State {
        tcp::State::from_byte(self.state).unwrap_or(tcp::State::Closed)
    }

    pub(super) fn class(&self) -> Class {
        match self.protocol {
            ipv4::TCP => self.tcp_state().class(),
            ipv4::UDP => Class::Udp,
            _ => Class::Icmp,
        }
    }
}

pub(super) fn host_key(network: u16, address: Ipv4Addr) -> u64 {
    u64::from(network) << 32 | u64::from(address.to_bits())
}

const _: () = assert!(size_of::<Slot>() == 64);
