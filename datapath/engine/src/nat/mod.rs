//! Network address and port translation.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One session: plain data in memory the engine is given.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    pub words: [u64; 12],
}
