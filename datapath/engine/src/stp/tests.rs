//! Bridges of this module, and of the 1998 standard as Linux has it, on LANs in virtual time.

mod legacy;
mod net;
mod properties;
mod single;
