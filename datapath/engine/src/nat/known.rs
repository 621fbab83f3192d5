//! Packets of known sessions in the middle of their life: the short way. What does not fit is refused before
//! anything was touched, and takes the long way, which says what is wrong with it or changes the session's state.

use pontoon_wire::brief::{Brief, Raw};
use pontoon_wire::{ethernet, ipv4, vnet};

use super::slot;
use super::tcp::{self, Segment};
use super::{Nat, idents};

use crate::time::Time;

/// A packet from outside that may enter.
pub struct Entry {
    pub network: u16,
    /// The guest's, and what lies behind it in memory.
    pub mac: [u8; 8],
    number: u32,
}

impl Nat {
    /// A packet of `network` leaves, in a session whose packets were found allowed under `epoch`: rewrites its source
    /// and lowers the time to live. `way`: how packets with the session's external address get out, if they do.
    #[inline(always)]
    pub fn leave<W>(
        &mut self,
        now: Time,
        (network, epoch): (u64, &u32),
        way: impl FnOnce(Raw) -> Option<W>,
        offload: Option<&vnet::Header>,
        frame: &mut [u8],
        brief: &Brief,
    ) -> Option<W> {
        let (number, mut slot) = self.table.known_out(slot::out_key(brief, network))?;
        let way = (slot.epoch == *epoch).then(|| way(slot.external_endpoint().0))??;
        if brief.protocol == ipv4::UDP {
            if now.0 >= slot.renew {
                slot = self.table.keep(now, number)?;
            }
            slot.mac = ethernet::source(frame)?;
            brief.set_source(frame, slot.external_endpoint(), slot.change(), offload);
        } else {
            let segment = Segment::plain(brief.tcp(frame)?).filter(|_| tcp::is_settled(slot))?;
            if now.0 >= slot.renew {
                slot = self.table.keep(now, number)?;
            }
            tcp::plain_outbound(slot, &segment);
            slot.mac = ethernet::source(frame)?;
            brief.set_source(frame, slot.external_endpoint(), slot.change(), offload);
        }
        if idents::is_needed(frame) {
            self.idents.renew(self.table.hasher(), frame, offload);
        }
        Some(way)
    }

    /// Whose a packet from outside is, if it may enter. As nothing but the long way allows a session under `epoch`,
    /// and none to an address of our own, it comes from nobody inside.
    #[inline(always)]
    pub fn admit(&self, (uplink, epoch): (u64, &u32), frame: &[u8], brief: &Brief) -> Option<Entry> {
        let (number, slot) = self.table.known_in(slot::in_key(brief, uplink))?;
        let may = match brief.protocol {
            _ if slot.epoch != *epoch => false,
            ipv4::UDP => slot.is_assured(),
            _ => tcp::plain_inbound(slot, &Segment::plain(brief.tcp(frame)?)?),
        };
        may.then(|| Entry { network: slot.network.get(), mac: slot.mac_and_more(), number })
    }

    /// Sends an admitted packet to its guest: rewrites both destinations and lowers the time to live.
    #[inline(always)]
    pub fn enter(
        &mut self,
        now: Time,
        entry: &Entry,
        offload: Option<&vnet::Header>,
        frame: &mut [u8],
        brief: &Brief,
    ) -> Option<()> {
        let mut slot = self.table.slot_mut(entry.number)?;
        if now.0 >= slot.renew {
            slot = self.table.keep(now, entry.number)?;
        }
        *frame.first_chunk_mut()? = slot.mac;
        brief.set_destination(frame, slot.inside_endpoint(), slot.change().reversed(), offload);
        Some(())
    }
}
