//! Bridge protocol data units (IEEE 802.1D-2004 clause 9): configuration, topology change notification and RST.

use crate::{Mac, be16, be32, put};

/// Where BPDUs go; no bridge forwards it.
pub const GROUP: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];
/// Room for the longest BPDU, padded to the shortest frame.
pub const FRAME: usize = 60;

/// LLC: bridge spanning tree protocol, both ways, unnumbered information.
const LLC: [u8; 3] = [0x42, 0x42, 0x03];
const HEADER: usize = 14;
const BODY: usize = HEADER + LLC.len();
const CONFIG_LENGTH: usize = 35;
const TCN_LENGTH: usize = 4;
const RST_LENGTH: usize = 36;
const TYPE_CONFIG: u8 = 0;
const TYPE_RST: u8 = 2;
const TYPE_TCN: u8 = 0x80;
const VERSION_RST: u8 = 2;

/// The parts of the flags octet.
pub mod flag {
    pub const TOPOLOGY_CHANGE: u8 = 1;
    pub const PROPOSAL: u8 = 1 << 1;
    /// Two bits: one of `ROLE_*`.
    pub const ROLE: u8 = 3 << 2;
    pub const ROLE_ALTERNATE: u8 = 1 << 2;
    pub const ROLE_ROOT: u8 = 2 << 2;
    pub const ROLE_DESIGNATED: u8 = 3 << 2;
    pub const LEARNING: u8 = 1 << 4;
    pub const FORWARDING: u8 = 1 << 5;
    pub const AGREEMENT: u8 = 1 << 6;
    pub const TOPOLOGY_CHANGE_ACK: u8 = 1 << 7;
}

/// A bridge's identifier: priority in the upper 16 bits, address in the lower 48. Less is better.
pub type BridgeId = u64;

/// Times are in units of 1/256 second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub flags: u8,
    pub root: BridgeId,
    pub cost: u32,
    pub bridge: BridgeId,
    pub port: u16,
    pub message_age: u16,
    pub max_age: u16,
    pub hello: u16,
    pub forward_delay: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bpdu {
    /// 802.1D's own, version 0.
    Config(Body),
    /// Topology change notification, version 0.
    Tcn,
    /// Rapid spanning tree; of later versions (MST) only the part that is the same.
    Rst(Body),
}

impl Bpdu {
    /// Parses a whole frame and checks it as clause 9.3.4 has it; `None` when it is no valid BPDU.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let length = usize::from(be16(frame, 12)?);
        if frame.get(..6)? != GROUP || frame.get(HEADER..BODY)? != LLC {
            return None;
        }
        // The length field counts the LLC header; padding stands behind it.
        let bytes = frame.get(BODY..HEADER.checked_add(length)?)?;
        let [0, 0, version, kind] = *bytes.first_chunk()? else { return None };
        match kind {
            TYPE_TCN => Some(Self::Tcn),
            TYPE_CONFIG if bytes.len() >= CONFIG_LENGTH => {
                let body = body(bytes)?;
                (body.message_age < body.max_age).then_some(Self::Config(body))
            }
            TYPE_RST if version >= VERSION_RST && bytes.len() >= RST_LENGTH => Some(Self::Rst(body(bytes)?)),
            _ => None,
        }
    }

    /// Writes a whole frame of [`FRAME`] octets from `source`; `None` when `frame` is shorter.
    pub fn emit(&self, frame: &mut [u8], source: Mac) -> Option<usize> {
        let frame = frame.get_mut(..FRAME)?;
        frame.fill(0);
        let (version, kind, length) = match self {
            Self::Config(_) => (0, TYPE_CONFIG, CONFIG_LENGTH),
            Self::Tcn => (0, TYPE_TCN, TCN_LENGTH),
            Self::Rst(_) => (VERSION_RST, TYPE_RST, RST_LENGTH),
        };
        let covered = u16::try_from(LLC.len() + length).ok()?;
        put(frame, 0, &GROUP);
        put(frame, 6, &source);
        put(frame, 12, &covered.to_be_bytes());
        put(frame, HEADER, &LLC);
        put(frame, BODY, &[0, 0, version, kind]);
        if let Self::Config(body) | Self::Rst(body) = self {
            write_body(frame.get_mut(BODY..)?, body);
        }
        Some(FRAME)
    }
}

fn body(bytes: &[u8]) -> Option<Body> {
    Some(Body {
        flags: *bytes.get(4)?,
        root: bridge_id(bytes, 5)?,
        cost: be32(bytes, 13)?,
        bridge: bridge_id(bytes, 17)?,
        port: be16(bytes, 25)?,
        message_age: be16(bytes, 27)?,
        max_age: be16(bytes, 29)?,
        hello: be16(bytes, 31)?,
        forward_delay: be16(bytes, 33)?,
    })
}

fn bridge_id(bytes: &[u8], at: usize) -> Option<BridgeId> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn write_body(bytes: &mut [u8], body: &Body) {
    put(bytes, 4, &[body.flags]);
    put(bytes, 5, &body.root.to_be_bytes());
    put(bytes, 13, &body.cost.to_be_bytes());
    put(bytes, 17, &body.bridge.to_be_bytes());
    put(bytes, 25, &body.port.to_be_bytes());
    for (index, time) in
        [body.message_age, body.max_age, body.hello, body.forward_delay].into_iter().enumerate()
    {
        put(bytes, 27 + 2 * index, &time.to_be_bytes());
    }
}
