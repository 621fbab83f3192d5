//! What is told of sessions to whoever asks. A look takes in a bounded number of slots and goes on from where the one
//! before has ended, so that a table of any size is listed between the turns of its worker.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use pontoon_wire::{Mac, ipv4};

use super::slot::Slot;
use super::table::Table;
use super::{Nat, tcp};
use crate::time::Time;

/// Where a connection is, in the words of conntrack where that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    SynSent,
    /// Begun from outside.
    SynSent2,
    SynRecv,
    MidStream,
    Established,
    /// The guest has ended its half.
    FinWait,
    /// The other end has.
    CloseWait,
    TimeWait,
    Close,
}

impl From<tcp::State> for Phase {
    fn from(state: tcp::State) -> Self {
        match state {
            tcp::State::SynOut => Self::SynSent,
            tcp::State::SynIn => Self::SynSent2,
            tcp::State::SynBoth => Self::SynRecv,
            tcp::State::MidStream => Self::MidStream,
            tcp::State::Established => Self::Established,
            tcp::State::FinOut => Self::FinWait,
            tcp::State::FinIn => Self::CloseWait,
            tcp::State::FinBoth => Self::TimeWait,
            tcp::State::Closed => Self::Close,
        }
    }
}

/// A session as it is told of. The port of an ICMP query is its id, and the remote side has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub network: u16,
    pub uplink: u16,
    /// The guest's, as last heard.
    pub mac: Mac,
    pub protocol: u8,
    /// Of TCP.
    pub phase: Option<Phase>,
    /// The other end has answered.
    pub assured: bool,
    pub inside: (Ipv4Addr, u16),
    pub remote: (Ipv4Addr, u16),
    pub outside: (Ipv4Addr, u16),
    /// Seconds until it ends if nothing is sent.
    pub left: u32,
    /// Seconds since it began, or was taken over from another process.
    pub age: u32,
}

impl Session {
    pub(super) fn of(slot: &Slot, now: Time, born: u32) -> Self {
        let left = slot.expires().saturating_sub(now.0).div_ceil(Time::SECOND);
        Self {
            network: slot.network.get(),
            uplink: slot.uplink.get(),
            mac: slot.mac,
            protocol: slot.protocol,
            phase: (slot.protocol == ipv4::TCP).then(|| slot.tcp_state().into()),
            assured: slot.is_assured(),
            inside: (slot.inside.into(), slot.inside_port.get()),
            remote: (slot.remote.into(), slot.remote_port.get()),
            outside: (slot.external.into(), slot.external_port.get()),
            left: u32::try_from(left).unwrap_or(u32::MAX),
            age: seconds(now).saturating_sub(born),
        }
    }
}

/// The monotonic clock in whole seconds.
pub(super) fn seconds(now: Time) -> u32 {
    u32::try_from(now.0 / Time::SECOND).unwrap_or(u32::MAX)
}

/// Which sessions are meant: those that are all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub network: Option<u16>,
    /// The guest has one of these addresses.
    pub macs: Option<Vec<Mac>>,
    pub inside: Option<Ipv4Addr>,
    /// At any place.
    pub address: Option<Ipv4Addr>,
    /// At any place.
    pub port: Option<u16>,
    pub protocol: Option<u8>,
    pub phase: Option<Phase>,
    pub assured: Option<bool>,
    /// Seconds at least.
    pub older: Option<u32>,
    /// Seconds at most.
    pub younger: Option<u32>,
}

impl Query {
    #[must_use]
    pub fn wants(&self, session: &Session) -> bool {
        let ends = [session.inside, session.remote, session.outside];
        self.network.is_none_or(|network| network == session.network)
            && self.macs.as_ref().is_none_or(|macs| macs.contains(&session.mac))
            && self.inside.is_none_or(|address| address == session.inside.0)
            && self.address.is_none_or(|address| ends.iter().any(|end| end.0 == address))
            && self.port.is_none_or(|port| ends.iter().any(|end| end.1 == port))
            && self.protocol.is_none_or(|protocol| protocol == session.protocol)
            && self.phase.is_none_or(|phase| session.phase == Some(phase))
            && self.assured.is_none_or(|assured| assured == session.assured)
            && self.older.is_none_or(|age| session.age >= age)
            && self.younger.is_none_or(|age| session.age <= age)
    }
}

/// What becomes of the sessions that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    List,
    Count,
    End,
}

/// One look at a part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub action: Action,
    /// The first slot.
    pub from: u32,
    /// Slots at most.
    pub slots: u32,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub sessions: u32,
    /// The slot to go on from; `None` at the end of the table.
    pub next: Option<u32>,
}

impl Nat {
    /// Looks at a part of the table. Sessions to be listed are put into `rows`, as many as it has room for without
    /// growing.
    pub fn look(&mut self, now: Time, look: Look, query: &Query, rows: &mut Vec<Session>) -> Seen {
        let capacity = self.table.capacity() as u32;
        let end = capacity.min(look.from.saturating_add(look.slots));
        let mut sessions = 0;
        for number in look.from..end {
            let Some(session) = self.table.session(now, number).filter(|session| query.wants(session)) else {
                continue;
            };
            match look.action {
                Action::Count => {}
                Action::End => self.table.remove(number),
                Action::List if rows.len() == rows.capacity() => {
                    return Seen { sessions, next: Some(number) };
                }
                Action::List => rows.push(session),
            }
            sessions += 1;
        }
        Seen { sessions, next: (end < capacity).then_some(end) }
    }
}

impl Table {
    /// The living session in a slot.
    fn session(&self, now: Time, number: u32) -> Option<Session> {
        let slot = self.get(number).filter(|slot| slot.is_used() && slot.expires() > now.0)?;
        Some(Session::of(slot, now, self.born(number)))
    }
}
