//! The API between command line and control: NUL-terminated JSON over a unix socket (the Varlink framing).
//!
//! A request is `{"method": "net-start", "parameters": {...}}`; the answer is either
//! `{"parameters": {...}}` or `{"error": {"message": "...", "detail": "..."}}`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind};

/// Environment variable and default place of the API socket.
pub const SOCKET_ENV: &str = "PONTOON_SOCKET";
pub const DEFAULT_RUNTIME_DIR: &str = "/run/pontoon";
pub const DEFAULT_STATE_DIR: &str = "/var/lib/pontoon";
pub const SOCKET_NAME: &str = "pontoon.sock";

/// A verb and its arguments. `network` is a name or a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    Ping,
    Version,
    /// `file` is only for messages.
    NetDefine {
        xml: String,
        file: String,
    },
    NetCreate {
        xml: String,
        file: String,
    },
    NetStart {
        network: String,
    },
    NetDestroy {
        network: String,
    },
    NetUndefine {
        network: String,
    },
    NetAutostart {
        network: String,
        disable: bool,
    },
    NetList,
    NetInfo {
        network: String,
    },
    NetDumpxml {
        network: String,
        inactive: bool,
    },
    NetDhcpLeases {
        network: String,
        mac: Option<String>,
    },
    AttachInterface {
        domain: String,
        /// `network` or `bridge`.
        kind: String,
        source: String,
        target: Option<String>,
        mac: Option<String>,
        netns: Option<String>,
    },
    DetachInterface {
        domain: String,
        kind: String,
        mac: Option<String>,
    },
    Bridges,
    BridgeMacs {
        bridge: String,
    },
    Status,
    /// Answered with [`Reply::Subscribed`], then with a [`Reply::Event`] for each event until the client closes.
    Subscribe {
        /// Empty: all kinds.
        #[serde(default)]
        events: Vec<EventKind>,
        #[serde(default)]
        network: Option<String>,
    },
}

/// One answer of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    Parameters(Reply),
    Error(Failure),
}

impl From<Result<Reply, Failure>> for Response {
    fn from(answer: Result<Reply, Failure>) -> Self {
        answer.map_or_else(Self::Error, Self::Parameters)
    }
}

/// `message` is libvirt's words (`Network not found: no network with matching name 'x'`); `detail` says where
/// and how to mend it, already laid out for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Failure {
    pub message: String,
    #[serde(default)]
    pub detail: Option<String>,
}

impl Failure {
    /// A word for programs: libvirt's kind of error, which its messages begin with.
    #[must_use]
    pub fn code(&self) -> &'static str {
        let begins = |(words, _): &&(&str, &str)| self.message.starts_with(words);
        CODES.iter().find(begins).map_or("error", |(_, code)| code)
    }
}

const CODES: &[(&str, &str)] = &[
    ("Network not found: ", "no-network"),
    ("Requested operation is not valid: ", "operation-invalid"),
    ("operation failed: ", "operation-failed"),
    ("Operation not supported: ", "no-support"),
    ("unsupported configuration: ", "config-unsupported"),
    ("XML error: ", "xml-error"),
    ("invalid argument: ", "invalid-argument"),
    ("authentication failed: ", "auth-failed"),
    ("internal error: ", "internal-error"),
];

impl Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Failure", 2 + usize::from(self.detail.is_some()))?;
        fields.serialize_field("code", self.code())?;
        fields.serialize_field("message", &self.message)?;
        if let Some(detail) = &self.detail {
            fields.serialize_field("detail", detail)?;
        }
        fields.end()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum Reply {
    Done {
        warnings: Vec<String>,
    },
    /// The canonical name of the network that was defined or created.
    Defined {
        name: String,
        warnings: Vec<String>,
    },
    Networks {
        networks: Vec<NetworkInfo>,
    },
    Network {
        network: NetworkInfo,
    },
    Xml {
        xml: String,
    },
    Leases {
        leases: Vec<LeaseInfo>,
    },
    Attached {
        interface: String,
        mac: String,
    },
    Bridges {
        bridges: Vec<BridgeInfo>,
    },
    Macs {
        macs: Vec<MacInfo>,
    },
    Status {
        status: Box<crate::message::Status>,
        pid: u32,
    },
    Version {
        protocol: u32,
        /// Of the program.
        version: String,
        methods: Vec<String>,
    },
    /// From here on every event is reported.
    Subscribed,
    Event {
        /// Unix milliseconds.
        time_ms: u64,
        #[serde(flatten)]
        event: Event,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    pub name: String,
    pub uuid: String,
    pub active: bool,
    pub persistent: bool,
    pub autostart: bool,
    pub bridge: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Unix seconds; 0 is infinite.
    pub expiry: u64,
    pub mac: String,
    pub ip: Ipv4Addr,
    pub prefix: u8,
    pub hostname: Option<String>,
    /// Hex octets with colons, e.g. `01:52:54:00:58:e4:7f`.
    pub client_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeInfo {
    pub name: String,
    pub mac: String,
    pub stp: bool,
    /// Guests' interfaces, sorted.
    pub interfaces: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacInfo {
    pub port: u16,
    pub mac: String,
    pub local: bool,
    pub age_seconds: u32,
}
