//! How long sessions live without traffic.

use crate::time::Time;

/// Sessions of one class have one timeout, so a list in order of use is a list in order of expiry and needs no
/// wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// RFC 4787 REQ-5: five minutes. Also TCP picked up in mid-stream, until the remote side confirms it.
    Udp,
    /// RFC 5382 REQ-5: two hours and four minutes.
    Established,
    /// RFC 5382 REQ-5, RFC 7857 2.1 and 2.3: four minutes for opening, closing and reset connections.
    Transitory,
    /// RFC 5508 REQ-2: sixty seconds.
    Icmp,
}

/// A timer is restarted only when that gains this much; expiry is late by at most this and never early.
const GRAIN: u64 = Time::SECOND / 2;

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Udp, Self::Established, Self::Transitory, Self::Icmp];

    //= RFC4787#REQ-5, RFC5382#REQ-5, RFC5508#REQ-2, RFC7857#2.2
    pub(super) fn nanos(self) -> u64 {
        let seconds = match self {
            Self::Udp => 300,
            Self::Established => 7440,
            Self::Transitory => 240,
            Self::Icmp => 60,
        };
        seconds * Time::SECOND
    }
}

/// When the timer of a session is to be restarted that starts now.
pub(super) fn renewal(now: Time) -> u64 {
    now.0.saturating_add(GRAIN)
}
