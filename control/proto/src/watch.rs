//! What the datapath is to tell of its own accord: sessions that begin and end, and what becomes of frames.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::document::Mac;
use crate::session::Row;

/// All that is to be told, in place of what was before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Every session.
    pub sessions: bool,
    /// Networks whose mappings are to be told.
    pub mappings: Vec<u16>,
    pub traces: Vec<TraceOrder>,
}

/// Frames to be told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceOrder {
    pub id: u32,
    pub network: u16,
    /// All have to hold.
    pub terms: Vec<Term>,
    /// So many frames of each worker.
    pub count: u32,
}

/// Something that holds for either end of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Term {
    Mac(Mac),
    Net(Ipv4Net),
    Protocol(u8),
    Ethertype(u16),
    Port(u16),
}

/// What is told: of one worker, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Unix milliseconds.
    pub time_ms: u64,
    pub worker: u16,
    pub changes: Vec<SessionChange>,
    pub traced: Vec<TraceRow>,
    /// So many changes, and frames, were not told.
    pub lost: (u64, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionChange {
    pub begins: bool,
    /// And a mapping with it.
    pub mapping: bool,
    pub row: Row,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHead {
    pub length: u32,
    pub source: Mac,
    pub destination: Mac,
    pub ethertype: u16,
    /// Protocol and addresses of IPv4; of ARP zero, sender and target.
    pub ip: Option<(u8, Ipv4Addr, Ipv4Addr)>,
    /// Ports, or type and id of ICMP.
    pub ports: Option<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Sent,
    HandedOver { worker: u16 },
    Dropped { reason: String, help: String },
    Consumed,
}

/// What became of one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRow {
    /// The order it is for.
    pub id: u32,
    pub port: u16,
    /// Another worker handed it over.
    pub handed: bool,
    pub head: FrameHead,
    pub stages: Vec<String>,
    pub verdict: Verdict,
    pub sent: Vec<(u16, FrameHead)>,
    /// Copies besides.
    pub more: u32,
}

/// A frame as the API tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameInfo {
    pub length: u32,
    pub source: String,
    pub destination: String,
    /// `ipv4`, `arp` or a number in hex.
    pub ethertype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<Ipv4Addr>,
    /// Of ICMP the type, and the id in `dport`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
}

/// What became of a frame, as the API tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceInfo {
    pub network: String,
    pub worker: u16,
    /// Another worker had it before.
    pub handed: bool,
    /// The interface it came in by, and whose that is.
    pub port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    pub frame: FrameInfo,
    pub stages: Vec<String>,
    pub verdict: Verdict,
    pub sent: Vec<SentInfo>,
    pub more: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentInfo {
    pub port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    pub frame: FrameInfo,
}
