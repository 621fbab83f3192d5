//! Sessions of NAT: what is asked of them and told of them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::document::Mac;

/// Sessions in one answer.
pub const PAGE: usize = 256;

/// Where a TCP connection is, in the words of conntrack where that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    SynSent,
    SynSent2,
    SynRecv,
    MidStream,
    Established,
    FinWait,
    CloseWait,
    TimeWait,
    Close,
}

impl Phase {
    pub const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynSent2,
        Self::SynRecv,
        Self::MidStream,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::TimeWait,
        Self::Close,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynSent2 => "SYN_SENT2",
            Self::SynRecv => "SYN_RECV",
            Self::MidStream => "MID_STREAM",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
        }
    }
}

/// Which sessions are meant: those that are all that is said. As the datapath knows them, by numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    pub network: Option<u16>,
    /// The guest has one of these addresses.
    pub macs: Option<Vec<Mac>>,
    pub inside: Option<Ipv4Addr>,
    /// At any place, as the port.
    pub address: Option<Ipv4Addr>,
    pub port: Option<u16>,
    pub protocol: Option<u8>,
    pub phase: Option<Phase>,
    pub assured: Option<bool>,
    /// Seconds at least, and at most.
    pub older: Option<u32>,
    pub younger: Option<u32>,
}

impl Query {
    #[must_use]
    pub fn wants(&self, row: &Row) -> bool {
        let ends = [row.inside, row.remote, row.outside];
        self.network.is_none_or(|network| network == row.network)
            && self.macs.as_ref().is_none_or(|macs| macs.contains(&row.mac))
            && self.inside.is_none_or(|address| address == row.inside.0)
            && self.address.is_none_or(|address| ends.iter().any(|end| end.0 == address))
            && self.port.is_none_or(|port| ends.iter().any(|end| end.1 == port))
            && self.protocol.is_none_or(|protocol| protocol == row.protocol)
            && self.phase.is_none_or(|phase| row.phase == Some(phase))
            && self.assured.is_none_or(|assured| assured == row.assured)
            && self.older.is_none_or(|age| row.age >= age)
            && self.younger.is_none_or(|age| row.age <= age)
    }
}

/// What becomes of the sessions that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    List,
    Count,
    End,
}

/// A session as the datapath tells of it. The port of an ICMP query is its id, and the remote side has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub network: u16,
    pub mac: Mac,
    pub protocol: u8,
    pub phase: Option<Phase>,
    pub assured: bool,
    pub inside: (Ipv4Addr, u16),
    pub remote: (Ipv4Addr, u16),
    pub outside: (Ipv4Addr, u16),
    /// Seconds until it ends if nothing is sent.
    pub left: u32,
    /// Seconds since it began.
    pub age: u32,
}

/// Which sessions a request of the API is about; nothing said means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// A name, a MAC address or an IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// At any place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `tcp`, `udp`, `icmp` or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    /// The name of a [`Phase`], `ASSURED` or `UNREPLIED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub younger: Option<u32>,
}

/// A session as the API tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub network: String,
    /// Its name, if it has one.
    pub guest: Option<String>,
    pub mac: String,
    pub proto: String,
    /// Of TCP.
    pub state: Option<Phase>,
    /// The other end has answered.
    pub assured: bool,
    pub timeout: u32,
    pub age: u32,
    pub inside: Ipv4Addr,
    pub inside_port: u16,
    pub remote: Ipv4Addr,
    pub remote_port: u16,
    pub outside: Ipv4Addr,
    pub outside_port: u16,
}

/// Protocols that have names.
const PROTOCOLS: [(u8, &str); 3] = [(1, "icmp"), (6, "tcp"), (17, "udp")];

#[must_use]
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    let known = PROTOCOLS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
    known.map(|(number, _)| *number).or_else(|| name.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_the_names_that_are_sent() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).expect("name"), phase.name());
        }
    }

    #[test]
    fn protocols_are_named_or_numbered() {
        assert_eq!((protocol_name(6), protocol_name(132)), ("tcp".into(), "132".into()));
        assert_eq!(
            [protocol_number("UDP"), protocol_number("132"), protocol_number("x")],
            [Some(17), Some(132), None]
        );
    }
}
