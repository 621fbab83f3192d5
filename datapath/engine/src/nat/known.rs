//! Packets of known sessions in the middle of their life: the short way. What does not fit is refused before
//! anything was touched, and takes the long way, which says what is wrong with it or changes the session's state.

use pontoon_wire::brief::{Brief, Raw};
use pontoon_wire::{ethernet, ipv4, vnet};

use super::slot::{self, Slot};
use super::tcp::{self, Segment};
use super::timers::Class;
use super::{Inside, Nat};
use crate::time::Time;

/// A packet from outside that may enter.
pub struct Entry {
    pub inside: Inside,
    endpoint: (Raw, [u8; 2]),
    number: u32,
    expires: u64,
}

impl Nat {
    /// A packet of `network` leaves by `external`, in a session whose packets were found allowed under `epoch`:
    /// rewrites its source and lowers the time to live.
    #[inline(always)]
    pub fn leave(
        &mut self,
        now: Time,
        (external, epoch): (Raw, u32),
        network: u16,
        vnet: &vnet::Header,
        frame: &mut [u8],
        brief: &Brief,
    ) -> Option<()> {
        let key = slot::key(brief.addresses, brief.ports, network, brief.protocol);
        let (number, slot) = self.table.known_out(now, key)?;
        if slot.epoch != epoch || Raw::from_ne_bytes(slot.external) != external {
            return None;
        }
        let (expires, port) = (slot.expires, slot.external_port.to_bytes());
        if brief.protocol == ipv4::UDP {
            slot.mac = ethernet::source(frame)?;
            brief.set_source(frame, external, port).mend_udp(frame, vnet);
            self.table.keep(now, number, expires, Class::Udp);
        } else {
            let segment = plain_segment(slot, frame, brief)?;
            tcp::follow_outbound(slot, &segment);
            slot.mac = ethernet::source(frame)?;
            brief.set_source(frame, external, port).mend_tcp(frame, vnet);
            self.table.keep(now, number, expires, Class::Established);
        }
        Some(())
    }

    /// Whose a packet from outside is, if it may enter.
    #[inline(always)]
    pub fn admit(&self, now: Time, uplink: u16, frame: &[u8], brief: &Brief) -> Option<Entry> {
        let key = slot::key(brief.addresses, brief.ports, uplink, brief.protocol);
        let (number, slot) = self.table.known_in(now, key)?;
        let may = match brief.protocol {
            ipv4::UDP => slot.is_assured(),
            _ => tcp::in_window(slot, &plain_segment(slot, frame, brief)?),
        };
        may.then_some(Entry {
            inside: Inside { network: slot.network, mac: slot.mac },
            endpoint: (Raw::from_ne_bytes(slot.inside), slot.inside_port.to_bytes()),
            number,
            expires: slot.expires,
        })
    }

    /// Rewrites the destination of an admitted packet and lowers the time to live.
    #[inline(always)]
    pub fn enter(&mut self, now: Time, entry: &Entry, vnet: &vnet::Header, frame: &mut [u8], brief: &Brief) {
        let change = brief.set_destination(frame, entry.endpoint.0, entry.endpoint.1);
        if brief.protocol == ipv4::UDP {
            change.mend_udp(frame, vnet);
            self.table.keep(now, entry.number, entry.expires, Class::Udp);
        } else {
            change.mend_tcp(frame, vnet);
            self.table.keep(now, entry.number, entry.expires, Class::Established);
        }
    }
}

/// A segment that changes nothing but numbers, of a connection both sides of which were heard.
#[inline(always)]
fn plain_segment(slot: &Slot, frame: &[u8], brief: &Brief) -> Option<Segment> {
    let (header, payload) = brief.tcp(frame)?;
    Segment::plain(header, payload).filter(|_| slot.is_settled())
}
