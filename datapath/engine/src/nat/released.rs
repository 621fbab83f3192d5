//! External ports that were given up lately. For two minutes they go to nobody but the endpoint that had them, so that
//! what is still on its way to that reaches nobody else (RFC 6888 REQ-8).

use alloc::vec;
use alloc::vec::Vec;

use crate::time::Time;

/// Most ports remembered; where two would have one place, the later one is.
const PLACES: usize = 1 << 16;
const SECONDS: u64 = 120;
/// Bits of the former owner's hash.
const OWNER: u32 = 24;

#[derive(Clone, Copy, Default)]
struct Place {
    /// Uplink, protocol and port, and behind them who had it; zero: none.
    word: u64,
    until: u64,
}

pub(super) struct Released(Vec<Place>);

/// An external port.
#[derive(Clone, Copy)]
pub(super) struct Port {
    pub(super) uplink: u16,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

impl Port {
    #[inline(always)]
    fn key(&self) -> u64 {
        u64::from(self.uplink) << 24 | u64::from(self.protocol) << 16 | u64::from(self.port)
    }
}

impl Released {
    pub(super) fn new() -> Self {
        Self(vec![Place::default(); PLACES])
    }

    /// Ports of one uplink and protocol lie side by side.
    #[inline(always)]
    fn at(&self, port: &Port) -> usize {
        let start = (port.key() >> 16).wrapping_mul(0x9e37_79b9) as usize;
        start.wrapping_add(usize::from(port.port)) & (PLACES - 1)
    }

    /// `owner`: a hash of the inside endpoint that had it.
    //= RFC6888#REQ-8
    pub(super) fn put(&mut self, now: u64, port: &Port, owner: u32) {
        let at = self.at(port);
        if let Some(place) = self.0.get_mut(at) {
            let word = port.key() << OWNER | u64::from(owner >> (32 - OWNER));
            *place = Place { word, until: now.saturating_add(SECONDS * Time::SECOND) };
        }
    }

    /// Who is alone in having the port for now.
    #[inline(always)]
    pub(super) fn owner(&self, now: u64, port: &Port) -> Option<Owner> {
        let place = self.0.get(self.at(port))?;
        (place.word >> OWNER == port.key() && now < place.until).then_some(Owner(place.word as u32))
    }
}

/// The former owner of a port.
#[derive(Clone, Copy)]
pub(super) struct Owner(u32);

impl Owner {
    /// `hash`: of an inside endpoint.
    pub(super) fn is(self, hash: u32) -> bool {
        self.0 & ((1 << OWNER) - 1) == hash >> (32 - OWNER)
    }
}
