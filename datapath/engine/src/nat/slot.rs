//! One session as plain data, so that it outlives the process that wrote it.

use core::net::Ipv4Addr;

use pontoon_wire::{Mac, ipv4};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::tcp;
use super::timers::Class;

/// Says that the words are a session of this layout; change it with the layout.
const MAGIC: u64 = 0x706f_6e74_6e61_7401;
/// The remote side answered, so memory pressure may not take the session.
const ASSURED: u8 = 1;
/// `in_next` was learned.
const WINDOW_KNOWN: u8 = 2;

/// A packed key: what is compared and hashed.
pub(super) type Key = [u64; 2];

/// One session: plain data in memory the engine is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// Over everything that stays the same for the life of the session; zero: free.
    pub(super) check: u64,
    /// Nanoseconds of the monotonic clock.
    pub(super) expires: u64,
    pub(super) inside: u32,
    pub(super) remote: u32,
    pub(super) external: u32,
    /// TCP: what the inside host expects next, which is where an exact reset points.
    pub(super) in_next: u32,
    /// TCP: widest window the inside host offered, scaled.
    pub(super) in_window: u32,
    /// TCP: end of what the inside host sent.
    pub(super) out_end: u32,
    pub(super) inside_port: u16,
    pub(super) remote_port: u16,
    pub(super) external_port: u16,
    pub(super) network: u16,
    pub(super) uplink: u16,
    pub(super) mac: Mac,
    pub(super) protocol: u8,
    pub(super) state: u8,
    pub(super) flags: u8,
    /// TCP: window scale of the inside host.
    pub(super) in_scale: u8,
    pub(super) reserved: u32,
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
        [
            pair(self.local.0.to_bits(), self.remote.0.to_bits()),
            u64::from(network) << 48
                | u64::from(self.local.1) << 32
                | u64::from(self.remote.1) << 16
                | u64::from(self.protocol),
        ]
    }

    /// Key of the session of an external endpoint.
    pub(super) fn in_key(&self, uplink: u16) -> Key {
        [
            pair(self.remote.0.to_bits(), u32::from(uplink) << 16 | u32::from(self.local.1)),
            u64::from(self.remote.1) << 16 | u64::from(self.protocol),
        ]
    }

    /// Key of the mapping of an inside endpoint.
    pub(super) fn inside_key(&self, network: u16, uplink: u16) -> Key {
        [
            pair(self.local.0.to_bits(), u32::from(network) << 16 | u32::from(self.local.1)),
            u64::from(uplink) << 16 | u64::from(self.protocol),
        ]
    }
}

/// Key of the mapping of an external port.
pub(super) fn external_key(uplink: u16, protocol: u8, port: u16) -> Key {
    [u64::from(uplink) << 16 | u64::from(port), u64::from(protocol)]
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl Slot {
    /// As the inside host names its endpoints.
    pub(super) fn inside_flow(&self) -> Flow {
        Flow {
            protocol: self.protocol,
            local: (Ipv4Addr::from_bits(self.inside), self.inside_port),
            remote: (Ipv4Addr::from_bits(self.remote), self.remote_port),
        }
    }

    /// As the remote host names them.
    pub(super) fn external_flow(&self) -> Flow {
        Flow { local: (Ipv4Addr::from_bits(self.external), self.external_port), ..self.inside_flow() }
    }

    pub(super) fn out_key(&self) -> Key {
        self.inside_flow().out_key(self.network)
    }

    pub(super) fn in_key(&self) -> Key {
        self.external_flow().in_key(self.uplink)
    }

    pub(super) fn inside_key(&self) -> Key {
        self.inside_flow().inside_key(self.network, self.uplink)
    }

    pub(super) fn external_key(&self) -> Key {
        external_key(self.uplink, self.protocol, self.external_port)
    }

    pub(super) fn host_key(&self) -> u64 {
        host_key(self.network, Ipv4Addr::from_bits(self.inside))
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
        let words = [
            pair(self.inside, self.remote),
            pair(self.external, u32::from(self.inside_port) << 16 | u32::from(self.remote_port)),
            pair(
                u32::from(self.external_port) << 16 | u32::from(self.network),
                u32::from(self.uplink) << 16 | u32::from(self.protocol),
            ),
        ];
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
    pair(u32::from(network), address.to_bits())
}

const _: () = assert!(size_of::<Slot>() == 64);
