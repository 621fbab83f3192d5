//! Sessions that begin as nearly all do, the short way: with a datagram or a SYN, while there is room. What does not
//! fit is refused before anything was touched, and takes the long way.

use pontoon_wire::brief::Brief;
use pontoon_wire::{ipv4, vnet};

use super::slot::Flow;
use super::tcp::{self, Segment};
use super::{Inside, Nat, Outside, idents};
use crate::time::Time;

impl Nat {
    /// A packet leaves that no session is known of, and that may: opens one, rewrites the source and lowers the time
    /// to live.
    #[inline]
    pub fn begin(
        &mut self,
        now: Time,
        outside: &Outside,
        inside: &Inside,
        offload: Option<&vnet::Header>,
        frame: &mut [u8],
        brief: &Brief,
    ) -> Option<()> {
        let flow = Flow::from(brief);
        if self.forwards.concerns(inside.network, &flow) {
            return None;
        }
        let mut slot = outside.session(inside, &flow);
        if brief.protocol != ipv4::UDP {
            tcp::open(&mut slot, &Segment::opening(frame, brief)?).ok()?;
        }
        let room = self.table.easy_room(now, &slot)?;
        let port = match self.table.port_at(&room) {
            Some(port) => port,
            None => self.new_port(now, inside.network, outside, &flow)?,
        };
        slot.external_port = port.into();
        let (_, slot) = self.table.take(now, slot, &room)?;
        brief.set_source(frame, slot.external_endpoint(), slot.change(), offload);
        if idents::is_needed(frame) {
            self.idents.renew(self.table.hasher(), frame, offload);
        }
        Some(())
    }

    /// Where there is none, the long way draws the same numbers once more.
    fn new_port(&mut self, now: Time, network: u16, outside: &Outside, flow: &Flow) -> Option<u16> {
        let before = self.random.clone();
        let port = self.pick_port(now, network, outside, flow);
        if port.is_none() {
            self.random = before;
        }
        port
    }
}
