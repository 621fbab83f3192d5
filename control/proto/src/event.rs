//! What happens to networks, as subscribers to the API hear of it.

use serde::{Deserialize, Serialize};

use crate::api::LeaseInfo;
use crate::session::SessionInfo;
use crate::watch::TraceInfo;

/// What a subscriber can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    Lifecycle,
    MetadataChange,
    Lease,
    Port,
    Link,
}

/// The network an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub network: String,
    pub uuid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    Lifecycle {
        #[serde(flatten)]
        subject: Subject,
        detail: Lifecycle,
    },
    MetadataChange {
        #[serde(flatten)]
        subject: Subject,
        detail: Metadata,
        /// The namespace of an element.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uri: Option<String>,
    },
    Lease {
        #[serde(flatten)]
        subject: Subject,
        detail: LeaseChange,
        lease: LeaseInfo,
    },
    Port {
        #[serde(flatten)]
        subject: Subject,
        detail: PortChange,
        domain: String,
        interface: String,
        mac: String,
    },
    Link {
        #[serde(flatten)]
        subject: Subject,
        domain: String,
        interface: String,
        up: bool,
    },
    /// A session of NAT began or ended; only for who asked by `conntrack-events`.
    Session {
        detail: SessionDetail,
        /// And a mapping with it.
        mapping: bool,
        session: SessionInfo,
    },
    /// What became of a frame; only for who asked by `trace`.
    Trace {
        #[serde(flatten)]
        trace: Box<TraceInfo>,
    },
    /// The subscriber was too slow: so many events it asked for were dropped at this place.
    Missed { count: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionDetail {
    Begun,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    Defined,
    Undefined,
    Started,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metadata {
    Description,
    Title,
    Element,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseChange {
    Added,
    Renewed,
    Released,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortChange {
    Plugged,
    Unplugged,
}

impl Event {
    /// `None` for what every subscriber hears.
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        match self {
            Self::Lifecycle { .. } => Some(EventKind::Lifecycle),
            Self::MetadataChange { .. } => Some(EventKind::MetadataChange),
            Self::Lease { .. } => Some(EventKind::Lease),
            Self::Port { .. } => Some(EventKind::Port),
            Self::Link { .. } => Some(EventKind::Link),
            Self::Session { .. } | Self::Trace { .. } | Self::Missed { .. } => None,
        }
    }

    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Lifecycle { subject, .. }
            | Self::MetadataChange { subject, .. }
            | Self::Lease { subject, .. }
            | Self::Port { subject, .. }
            | Self::Link { subject, .. } => Some(subject),
            Self::Session { .. } | Self::Trace { .. } | Self::Missed { .. } => None,
        }
    }
}
