//! What bridges compare: priority vectors and the times that come with them (17.6 and 17.13 of IEEE 802.1D-2004).

use pontoon_wire::bpdu::{Body, BridgeId};

/// The lower bits of a port identifier that number the port; the rest is its priority.
pub const PORT_BITS: u16 = 10;
const NUMBER: u16 = (1 << PORT_BITS) - 1;
const ADDRESS: u64 = (1 << 48) - 1;
/// One second on the wire.
pub(super) const SECOND: u16 = 256;

/// A priority vector without its last component, the receiving port; less is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vector {
    pub(super) root: BridgeId,
    pub(super) cost: u32,
    pub(super) bridge: BridgeId,
    pub(super) port: u16,
}

impl Vector {
    pub(super) fn of(body: &Body) -> Self {
        Self { root: body.root, cost: body.cost, bridge: body.bridge, port: body.port }
    }

    /// Better than `other`, or news from the transmitter that `other` came from.
    pub(super) fn supersedes(&self, other: &Self) -> bool {
        self < other || self.is_of_same_port(other)
    }

    fn is_of_same_port(&self, other: &Self) -> bool {
        (self.bridge ^ other.bridge) & ADDRESS == 0 && (self.port ^ other.port) & NUMBER == 0
    }

    pub(super) fn is_of_bridge(&self, bridge: BridgeId) -> bool {
        (self.bridge ^ bridge) & ADDRESS == 0
    }
}

/// In units of 1/256 second, as on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub message_age: u16,
    pub max_age: u16,
    pub hello: u16,
    pub forward_delay: u16,
}

impl Times {
    /// What a BPDU says, held within the bounds a Linux bridge keeps for its own settings: no neighbour can make this
    /// bridge's timers run wild. The age counts in whole seconds, so that a kernel's jitter is no news.
    pub(super) fn of(body: &Body) -> Self {
        Self {
            message_age: body.message_age / SECOND * SECOND,
            max_age: body.max_age.clamp(6 * SECOND, 40 * SECOND),
            hello: body.hello.clamp(SECOND, 10 * SECOND),
            forward_delay: body.forward_delay.clamp(2 * SECOND, 30 * SECOND),
        }
    }

    /// One bridge further from the root.
    pub(super) fn older(self) -> Self {
        Self { message_age: self.message_age.saturating_add(SECOND), ..self }
    }
}

/// Nanoseconds of a time on the wire.
pub(super) fn nanos(time: u16) -> u64 {
    u64::from(time) * 1_000_000_000 / u64::from(SECOND)
}

/// A time on the wire from hundredths of a second.
pub(super) fn from_centis(centis: u32) -> u16 {
    u16::try_from((u64::from(centis) * u64::from(SECOND) + 50) / 100).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_of_the_same_transmitter_supersede_even_when_they_are_worse() {
        let old = Vector { root: 1, cost: 10, bridge: 0x8000_0000_0000_0007, port: 0x8001 };
        assert!(Vector { cost: 20, ..old }.supersedes(&old));
        assert!(Vector { bridge: 0xf000_0000_0000_0007, port: 0xfc01, ..old }.supersedes(&old));
        assert!(!Vector { cost: 20, port: 0x8002, ..old }.supersedes(&old));
        assert!(Vector { root: 0, port: 0x8002, ..old }.supersedes(&old));
    }

    #[test]
    fn times_are_kept_in_bounds() {
        let body =
            Body { message_age: 700, max_age: 0, hello: u16::MAX, forward_delay: 1, ..Body::default() };
        let times = Times { message_age: 512, max_age: 1536, hello: 2560, forward_delay: 512 };
        assert_eq!(Times::of(&body), times);
        assert_eq!((from_centis(150), nanos(384)), (384, 1_500_000_000));
    }
}
