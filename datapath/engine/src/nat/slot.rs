//! One session as plain data, so that it outlives the process that wrote it.

use core::mem::offset_of;
use core::net::Ipv4Addr;

use pontoon_wire::brief::{Brief, Change, Raw, raw};
use pontoon_wire::{Mac, ipv4};
use zerocopy::byteorder::big_endian::U16 as Port;
use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_ref};

use super::tcp;
use super::timers::Class;

/// Says that the words are a session of this layout; change it with the layout.
const MAGIC: u64 = 0x706f_6e74_6e61_7403;
/// Flag: the remote side answered, so memory pressure may not take the session.
const ASSURED: u8 = 1;
/// Flag: `in_next` was learned.
const WINDOW_KNOWN: u8 = 2;
/// Flag: the external endpoint is a port forward's, and the session belongs to no mapping.
const FORWARDED: u8 = 4;
/// Above the flags: TCP's window scale of the inside host.
const SCALE_SHIFT: u32 = 4;

/// The octets of an IPv4 address.
pub(super) type Address = [u8; 4];

/// A packed key: what is compared and hashed.
pub(super) type Key = [u64; 2];

/// One session: plain data in memory the engine is given. Fields that are keys lie side by side in the order packets
/// have them, so that a key is read from either as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// When a packet restarts the session's timer, in nanoseconds of the monotonic clock. The session ends a
    /// [`Class`]'s time later.
    pub(super) renew: u64,
    /// Over everything that stays the same for the life of the session; zero: free.
    pub(super) check: u32,
    pub(super) inside: Address,
    pub(super) remote: Address,
    pub(super) external: Address,
    pub(super) protocol: u8,
    pub(super) state: u8,
    pub(super) network: U16,
    pub(super) inside_port: Port,
    pub(super) remote_port: Port,
    pub(super) external_port: Port,
    pub(super) uplink: U16,
    /// As before, for the second key.
    pub(super) protocol_again: u8,
    pub(super) flags: u8,
    pub(super) mac: Mac,
    /// TCP: what the inside host expects next, which is where an exact reset points.
    pub(super) in_next: u32,
    /// TCP: widest window the inside host offered, scaled.
    pub(super) in_window: u32,
    /// TCP: end of what the inside host sent.
    pub(super) out_end: u32,
    /// The caller's checks of an outbound packet that hold for all of the session; zero: none.
    pub(super) epoch: u32,
    /// What translation from inside to outside does to checksums.
    pub(super) change: [u16; 2],
}

/// Where the keys of a slot begin.
const ENDS_OUT: usize = offset_of!(Slot, inside);
const ENDS_IN: usize = offset_of!(Slot, remote);
const REST_OUT: usize = offset_of!(Slot, protocol);
const REST_IN: usize = offset_of!(Slot, remote_port);
/// What lies in the keys and belongs to no key.
const NOT_OUT: u64 = 0xff << 8;
const NOT_IN: u64 = 0xff << 56;

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
        out_key(&self.brief(self.local, self.remote), network_key(network))
    }

    /// Key of the session of an external endpoint.
    pub(super) fn in_key(&self, uplink: u16) -> Key {
        in_key(&self.brief(self.remote, self.local), uplink_key(uplink))
    }

    fn brief(&self, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Brief {
        Brief {
            addresses: u64::from(raw(source.0)) | u64::from(raw(destination.0)) << 32,
            ports: u32::from(source.1.swap_bytes()) | u32::from(destination.1.swap_bytes()) << 16,
            protocol: self.protocol,
            length: 0,
        }
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

impl From<&Brief> for Flow {
    /// Of a packet from inside.
    fn from(brief: &Brief) -> Self {
        let address = |raw: Raw| Ipv4Addr::from(raw.to_le_bytes());
        Self {
            protocol: brief.protocol,
            local: (address(brief.source()), brief.source_port()),
            remote: (address(brief.destination()), brief.destination_port()),
        }
    }
}

//= RFC7857#6
/// Key of the mapping of an external port.
pub(super) fn external_key(uplink: u16, protocol: u8, port: u16) -> Key {
    [u64::from(uplink) << 16 | u64::from(port), u64::from(protocol)]
}

/// Key of a session for packets from inside; `network` as [`network_key`] has it.
#[inline(always)]
pub(super) fn out_key(brief: &Brief, network: u64) -> Key {
    [brief.addresses, u64::from(brief.ports) << 32 | network | u64::from(brief.protocol)]
}

/// The same for packets from outside, with [`uplink_key`].
#[inline(always)]
pub(super) fn in_key(brief: &Brief, uplink: u64) -> Key {
    [brief.addresses, u64::from(brief.ports) | uplink | u64::from(brief.protocol) << 48]
}

/// A network in the key of a session.
#[must_use]
pub fn network_key(network: u16) -> u64 {
    u64::from(network) << 16
}

/// An uplink in the key of a session.
#[must_use]
pub fn uplink_key(uplink: u16) -> u64 {
    u64::from(uplink) << 32
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

    #[inline(always)]
    fn word<const AT: usize>(&self) -> u64 {
        let octets: &[u8; size_of::<Self>()] = transmute_ref!(self);
        octets[AT..].first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets))
    }

    #[inline(always)]
    pub(super) fn mac_and_more(&self) -> [u8; 8] {
        self.word::<{ offset_of!(Self, mac) }>().to_le_bytes()
    }

    #[inline(always)]
    pub(super) fn out_key(&self) -> Key {
        [self.word::<ENDS_OUT>(), self.word::<REST_OUT>() & !NOT_OUT]
    }

    #[inline(always)]
    pub(super) fn in_key(&self) -> Key {
        [self.word::<ENDS_IN>(), self.word::<REST_IN>() & !NOT_IN]
    }

    pub(super) fn inside_key(&self) -> Key {
        self.inside_flow().inside_key(self.network.get(), self.uplink.get())
    }

    pub(super) fn external_key(&self) -> Key {
        external_key(self.uplink.get(), self.protocol, self.external_port.get())
    }

    pub(super) fn host_key(&self) -> u64 {
        host_key(self.network.get(), self.inside.into())
    }

    pub(super) fn is_used(&self) -> bool {
        self.check != 0
    }

    /// Makes the slot a session.
    pub(super) fn seal(&mut self) {
        self.protocol_again = self.protocol;
        let Change { header, transport } = Change::new(self.inside_endpoint(), self.external_endpoint());
        self.change = [header, transport];
        self.check = self.expected();
    }

    /// What can be known about a slot found in memory that another process wrote, perhaps while it died.
    pub(super) fn is_sound(&self) -> bool {
        self.check == self.expected()
            && tcp::is_sound(self)
            && self.flags & 0xf & !(ASSURED | WINDOW_KNOWN | FORWARDED) == 0
            && self.mac[0] & 1 == 0
    }

    fn expected(&self) -> u32 {
        let sum = [self.out_key(), self.in_key()]
            .as_flattened()
            .iter()
            .fold(MAGIC, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
        (sum >> 32) as u32 | 1
    }

    #[inline(always)]
    pub(super) fn inside_endpoint(&self) -> (Raw, [u8; 2]) {
        (Raw::from_le_bytes(self.inside), self.inside_port.to_bytes())
    }

    #[inline(always)]
    pub(super) fn external_endpoint(&self) -> (Raw, [u8; 2]) {
        (Raw::from_le_bytes(self.external), self.external_port.to_bytes())
    }

    /// From inside to outside.
    #[inline(always)]
    pub(super) fn change(&self) -> Change {
        let [header, transport] = self.change;
        Change { header, transport }
    }

    #[inline(always)]
    pub(super) fn is_assured(&self) -> bool {
        self.flags & ASSURED != 0
    }

    pub(super) fn assure(&mut self) {
        self.flags |= ASSURED;
    }

    #[inline(always)]
    pub(super) fn is_forwarded(&self) -> bool {
        self.flags & FORWARDED != 0
    }

    /// Makes the external endpoint a port forward's.
    pub(super) fn forward(&mut self, (address, port): (Ipv4Addr, u16)) {
        self.flags |= FORWARDED;
        (self.external, self.external_port) = (address.octets(), port.into());
    }

    #[inline(always)]
    pub(super) fn is_window_known(&self) -> bool {
        self.flags & WINDOW_KNOWN != 0
    }

    pub(super) fn set_window_known(&mut self, known: bool) {
        self.flags = if known { self.flags | WINDOW_KNOWN } else { self.flags & !WINDOW_KNOWN };
    }

    #[inline(always)]
    pub(super) fn in_scale(&self) -> u8 {
        self.flags >> SCALE_SHIFT
    }

    pub(super) fn set_in_scale(&mut self, scale: u8) {
        self.flags = self.flags & ((1 << SCALE_SHIFT) - 1) | scale.min(tcp::MAX_SCALE) << SCALE_SHIFT;
    }

    pub(super) fn tcp_state(&self) -> tcp::State {
        tcp::State::from_byte(self.state).unwrap_or(tcp::State::Closed)
    }

    pub(super) fn expires(&self) -> u64 {
        self.renew.saturating_add(self.class().nanos())
    }

    pub(super) fn class(&self) -> Class {
        match self.protocol {
            ipv4::TCP => self.tcp_state().class(),
            ipv4::ICMP => Class::Icmp,
            _ => Class::Udp,
        }
    }
}

pub(super) fn host_key(network: u16, address: Ipv4Addr) -> u64 {
    u64::from(network) << 32 | u64::from(address.to_bits())
}

const _: () = assert!(size_of::<Slot>() == 64);
