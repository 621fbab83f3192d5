//! TCP as a NAT follows it (RFC 7857 section 2).

use pontoon_wire::brief::{Brief, Tcp};
use pontoon_wire::frame::Packet;
use pontoon_wire::{be16, be32};

use super::slot::Slot;
use super::timers::Class;
use crate::DropReason;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Largest window scale (RFC 7323 2.3).
pub(super) const MAX_SCALE: u8 = 14;
/// Smallest window assumed, for hosts whose first segments were not seen.
const MIN_WINDOW: u32 = 0xffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// The inside host sent SYN.
    SynOut = 0,
    /// The outside host sent SYN (only through an endpoint that was open already).
    SynIn,
    /// Both did, in either order (simultaneous open, RFC 5382 REQ-2).
    SynBoth,
    /// The inside host sent in mid-stream: a connection from before a restart.
    MidStream,
    Established,
    FinOut,
    FinIn,
    FinBoth,
    /// Reset.
    Closed,
}

impl State {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::SynOut,
            Self::SynIn,
            Self::SynBoth,
            Self::MidStream,
            Self::Established,
            Self::FinOut,
            Self::FinIn,
            Self::FinBoth,
            Self::Closed,
        ]
        .get(usize::from(byte))
        .copied()
    }

    //= RFC7857#2.1
    /// A half-closed connection may carry data for long: only the second FIN shortens the timer (RFC 7857 2.1).
    pub(super) fn class(self) -> Class {
        match self {
            Self::Established | Self::FinOut | Self::FinIn => Class::Established,
            Self::MidStream => Class::Udp,
            Self::SynOut | Self::SynIn | Self::SynBoth | Self::FinBoth | Self::Closed => Class::Transitory,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    flags: u8,
    sequence: u32,
    acknowledgement: u32,
    window: u16,
    /// Of the sequence space, so SYN and FIN count.
    length: u32,
    scale: Option<u8>,
}

impl Segment {
    //= ours#flags
    /// # Errors
    /// [`DropReason::NatTcpFlags`] for flags no stack sends together.
    pub(super) fn parse(frame: &[u8], packet: &Packet) -> Result<Self, DropReason> {
        let header = frame.get(packet.l4..packet.end).ok_or(DropReason::IpMalformed)?;
        let flags = packet.flags;
        let one = |flag: u8| u32::from(flags & flag != 0);
        let possible = one(SYN) + one(FIN) + one(RST) <= 1
            && flags & (SYN | RST | ACK) != 0
            && (flags & FIN == 0 || flags & ACK != 0);
        if !possible {
            return Err(DropReason::NatTcpFlags);
        }
        Self::fields(header, flags).ok_or(DropReason::IpMalformed)
    }

    /// A SYN as it should be.
    pub(super) fn opening(frame: &[u8], brief: &Brief) -> Option<Self> {
        let flags = brief.tcp(frame)?.flags;
        let alone = flags & (FIN | SYN | RST | ACK) == SYN;
        Self::fields(brief.transport(frame).filter(|_| alone)?, flags)
    }

    fn fields(header: &[u8], flags: u8) -> Option<Self> {
        let offset = usize::from(*header.get(12)? >> 4) * 4;
        let payload = u32::try_from(header.len().checked_sub(offset)?).ok()?;
        Some(Self {
            flags,
            sequence: be32(header, 4)?,
            acknowledgement: be32(header, 8)?,
            window: be16(header, 14)?,
            length: payload + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0),
            scale: if flags & SYN != 0 { scale(header.get(20..offset)?) } else { None },
        })
    }

    /// A segment with nothing but an acknowledgement, and perhaps data that nobody counts.
    #[inline(always)]
    pub(super) fn plain(header: &Tcp) -> Option<Self> {
        (header.flags & (FIN | SYN | RST | ACK) == ACK).then_some(Self {
            flags: ACK,
            sequence: header.sequence.get(),
            acknowledgement: header.acknowledgement.get(),
            window: header.window.get(),
            length: 0,
            scale: None,
        })
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// It begins a connection.
    pub(super) fn is_first(&self) -> bool {
        self.flags & (FIN | SYN | RST | ACK) == SYN
    }

    #[inline]
    fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length)
    }
}

/// The window scale option.
fn scale(mut options: &[u8]) -> Option<u8> {
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            0 => return None,
            1 => options = rest,
            _ => {
                let length = usize::from(*rest.first()?);
                if kind == 3 && length == 3 {
                    return rest.get(1).map(|&value| value.min(MAX_SCALE));
                }
                options = options.get(length.max(2)..)?;
            }
        }
    }
    None
}

#[inline(always)]
fn latest(a: u32, b: u32) -> u32 {
    if later(a, b) { a } else { b }
}

/// `a` is later than `b` in sequence space.
#[inline(always)]
fn later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

//= ours#mid-stream
/// First state of a session an inside host opens. A reset opens nothing.
pub(super) fn open(slot: &mut Slot, segment: &Segment) -> Result<(), DropReason> {
    if segment.has(RST) {
        return Err(DropReason::NatNoSession);
    }
    start(slot, segment);
    Ok(())
}

fn start(slot: &mut Slot, segment: &Segment) {
    let syn = segment.has(SYN);
    slot.state = match (syn, segment.has(ACK)) {
        // It answers a stranger that was let in without a session.
        (true, true) => State::SynBoth,
        (true, false) => State::SynOut,
        (false, _) => State::MidStream,
    } as u8;
    slot.out_end = segment.end();
    slot.set_in_scale(if syn { segment.scale.unwrap_or(0) } else { MAX_SCALE });
    slot.in_window = MIN_WINDOW;
    slot.set_window_known(false);
    offered(slot, segment);
}

/// First state of a session that begins outside, at an endpoint that may be reached (hairpin).
pub(super) fn accept(slot: &mut Slot, segment: &Segment) -> Result<(), DropReason> {
    if !segment.has(SYN) || segment.has(ACK) {
        return Err(DropReason::NatFiltered);
    }
    slot.state = State::SynIn as u8;
    slot.in_window = MIN_WINDOW;
    slot.in_next = segment.end();
    slot.set_window_known(true);
    Ok(())
}

/// Learns what the inside host expects from its acknowledgement and window.
fn offered(slot: &mut Slot, segment: &Segment) {
    let news = !slot.is_window_known() || later(segment.acknowledgement, slot.in_next);
    if segment.has(ACK) && news {
        slot.in_next = segment.acknowledgement;
        slot.set_window_known(true);
    }
    // The window of a SYN is never scaled (RFC 7323 2.2).
    let scale = if segment.has(SYN) { 0 } else { slot.in_scale() };
    slot.in_window = slot.in_window.max(u32::from(segment.window) << scale);
}

//= RFC5382#REQ-2, RFC7857#7
/// A segment from inside. True: it keeps the session alive.
pub(super) fn outbound(slot: &mut Slot, segment: &Segment) -> bool {
    let state = slot.tcp_state();
    if segment.has(RST) {
        // A reset is an answer, not interest in the connection: no refresh (RFC 7857 section 7).
        slot.state = State::Closed as u8;
        return false;
    }
    if segment.has(SYN) && matches!(state, State::FinBoth | State::Closed | State::SynOut) {
        if state != State::SynOut || !segment.has(ACK) {
            start(slot, segment);
        }
        return true;
    }
    if segment.has(SYN) && state == State::SynIn {
        slot.set_in_scale(segment.scale.unwrap_or(0));
    }
    offered(slot, segment);
    if later(segment.end(), slot.out_end) || state == State::SynIn {
        slot.out_end = segment.end();
    }
    slot.state = after_outbound(state, segment) as u8;
    true
}

/// A plain segment from inside, of an established connection: what it offers is all it changes, as `out_end` is asked
/// for only while a connection opens.
#[inline(always)]
pub(super) fn plain_outbound(slot: &mut Slot, segment: &Segment) {
    slot.in_next = latest(segment.acknowledgement, slot.in_next);
    let window = u32::from(segment.window) << slot.in_scale();
    if window > slot.in_window {
        slot.in_window = window;
    }
}

/// The same segment changes nothing else. What is expected next is known by then, see [`is_sound`].
#[inline(always)]
pub(super) fn is_settled(slot: &Slot) -> bool {
    slot.state == State::Established as u8
}

/// Nothing but a segment of the inside host with an acknowledgement leads to an established connection.
pub(super) fn is_sound(slot: &Slot) -> bool {
    State::from_byte(slot.state).is_some()
        && (slot.state != State::Established as u8 || slot.is_window_known())
        && slot.in_scale() <= MAX_SCALE
}

/// [`inbound`] would accept a plain segment and change nothing. That may be so as well of some that are refused here.
#[inline(always)]
pub(super) fn plain_inbound(slot: &Slot, segment: &Segment) -> bool {
    let (window, behind) = (u64::from(slot.in_window), u64::from(MIN_WINDOW));
    let ahead = i64::from(segment.sequence.wrapping_sub(slot.in_next) as i32);
    is_settled(slot)
        && slot.is_assured()
        && (window + behind).wrapping_add_signed(ahead) <= 2 * window + behind
}

fn after_outbound(state: State, segment: &Segment) -> State {
    let fin = segment.has(FIN);
    match state {
        State::SynIn if segment.has(SYN) => State::SynBoth,
        State::SynBoth | State::Established if fin => State::FinOut,
        State::FinIn if fin => State::FinBoth,
        State::SynBoth if segment.has(ACK) => State::Established,
        // The inside host goes on: it did not take the reset (RFC 7857 2.1, state TRANS).
        State::Closed if !segment.has(SYN) && !fin => State::Established,
        other => other,
    }
}

//= RFC5382#REQ-2, RFC5382#REQ-4, ours#window
/// A segment from outside. True: it may refresh the session.
///
/// # Errors
/// When it belongs to no connection the inside host knows of.
pub(super) fn inbound(slot: &mut Slot, segment: &Segment) -> Result<bool, DropReason> {
    let state = slot.tcp_state();
    if segment.has(RST) {
        return reset(slot, segment, state);
    }
    if segment.has(SYN) {
        return synchronize(slot, segment, state);
    }
    if !in_window(slot, segment) {
        return Err(DropReason::NatTcpWindow);
    }
    let next = after_inbound(state, segment);
    slot.state = next as u8;
    if next.class() == Class::Established {
        slot.assure();
    }
    Ok(next.class() == Class::Established)
}

fn after_inbound(state: State, segment: &Segment) -> State {
    let fin = segment.has(FIN);
    match state {
        State::Established | State::MidStream if fin => State::FinIn,
        State::FinOut if fin => State::FinBoth,
        State::MidStream => State::Established,
        other => other,
    }
}

//= RFC5961#3.2, RFC7857#2.3
/// RFC 5961 3.2: only a reset at exactly the expected number ends a connection; one elsewhere in the window is for
/// the inside host to challenge and changes nothing here.
fn reset(slot: &mut Slot, segment: &Segment, state: State) -> Result<bool, DropReason> {
    if state == State::SynOut {
        // The answer to a SYN proves itself by what it acknowledges (RFC 9293 3.5.2).
        let answers = segment.has(ACK) && acknowledges(slot, segment);
        return if answers { close(slot) } else { Err(DropReason::NatTcpWindow) };
    }
    if !in_window(slot, segment) {
        return Err(DropReason::NatTcpWindow);
    }
    if slot.is_window_known() && segment.sequence == slot.in_next { close(slot) } else { Ok(false) }
}

fn close(slot: &mut Slot) -> Result<bool, DropReason> {
    slot.state = State::Closed as u8;
    Ok(false)
}

fn synchronize(slot: &mut Slot, segment: &Segment, state: State) -> Result<bool, DropReason> {
    match state {
        State::SynOut => {
            if !segment.has(ACK) || acknowledges(slot, segment) {
                slot.state = State::SynBoth as u8;
                learn(slot, segment);
                slot.assure();
            }
        }
        State::FinBoth | State::Closed if !segment.has(ACK) => {
            slot.state = State::SynIn as u8;
            learn(slot, segment);
        }
        State::SynIn | State::SynBoth => {}
        _ => return Err(DropReason::NatTcpState),
    }
    Ok(false)
}

fn learn(slot: &mut Slot, segment: &Segment) {
    slot.in_next = segment.sequence.wrapping_add(1);
    slot.set_window_known(true);
}

/// The acknowledgement is for our SYN, or for data sent with it (RFC 7413).
fn acknowledges(slot: &Slot, segment: &Segment) -> bool {
    slot.out_end.wrapping_sub(segment.acknowledgement) <= MIN_WINDOW
}

/// Generous on both sides: retransmissions and windows that shrank pass.
fn in_window(slot: &Slot, segment: &Segment) -> bool {
    if !slot.is_window_known() {
        return true;
    }
    let window = i64::from(slot.in_window.max(MIN_WINDOW));
    let ahead = i64::from(segment.sequence.wrapping_sub(slot.in_next) as i32);
    ahead <= window && ahead >= -(window + i64::from(MIN_WINDOW))
}
