//! The API between command line and control: NUL-terminated JSON over a unix socket (the Varlink framing), as
//! `control/API.md` describes it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::bridge::{BridgeChange, BridgeStp};
use crate::event::{Event, EventKind};
use crate::message::Offloads;
use crate::session::{SessionFilter, SessionInfo};

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
    /// `file` is only for messages; `validate` refuses what the format does not know.
    NetDefine {
        xml: String,
        #[serde(default)]
        file: String,
        #[serde(default)]
        validate: bool,
    },
    NetCreate {
        xml: String,
        #[serde(default)]
        file: String,
        #[serde(default)]
        validate: bool,
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
        #[serde(default)]
        disable: bool,
    },
    NetList,
    NetInfo {
        network: String,
    },
    NetDumpxml {
        network: String,
        #[serde(default)]
        inactive: bool,
    },
    NetDhcpLeases {
        network: String,
        mac: Option<String>,
    },
    /// One element of a definition: added, changed or removed.
    NetUpdate {
        network: String,
        /// `add-first`, `add-last`, `modify` or `delete`.
        command: String,
        /// `ip-dhcp-host`, `dns-txt`, ...
        section: String,
        xml: String,
        /// Which parent, from 0; -1 when not said.
        #[serde(default = "not_said")]
        parent_index: i32,
        #[serde(default)]
        affect: Affect,
        /// Only for messages.
        #[serde(default)]
        file: String,
    },
    NetGetMetadata {
        network: String,
        kind: MetadataKind,
        #[serde(default)]
        affect: Affect,
    },
    /// Without `value` what was there is removed.
    NetSetMetadata {
        network: String,
        kind: MetadataKind,
        value: Option<String>,
        #[serde(default)]
        affect: Affect,
    },
    /// With `details` the datapath is asked what is agreed with the other side of each port.
    NetPorts {
        network: String,
        #[serde(default)]
        details: bool,
    },
    NetPortCreate {
        network: String,
        xml: String,
        #[serde(default)]
        file: String,
        #[serde(default)]
        validate: bool,
    },
    NetPortDumpxml {
        network: String,
        port: String,
    },
    NetPortDelete {
        network: String,
        port: String,
    },
    /// A subnet that neither this host nor a network uses.
    FreeSubnet,
    AttachInterface(Box<Attach>),
    DetachInterface {
        domain: String,
        kind: String,
        mac: Option<String>,
    },
    /// Interfaces of one guest or of all; an unknown guest is a failure.
    Interfaces {
        domain: Option<String>,
    },
    InterfaceStats {
        domain: String,
        /// Name or MAC address.
        interface: String,
    },
    InterfaceAddresses {
        domain: String,
        source: AddressSource,
    },
    SetLink {
        domain: String,
        interface: String,
        up: bool,
    },
    /// Rates of an interface; a direction that is not given stays, one without an average is taken away.
    SetRates {
        domain: String,
        interface: String,
        #[serde(default)]
        inbound: Option<Rate>,
        #[serde(default)]
        outbound: Option<Rate>,
    },
    /// As `attach-interface`, from an `<interface>`.
    AttachDevice {
        domain: String,
        xml: String,
        #[serde(default)]
        file: String,
        #[serde(default)]
        netns: Option<String>,
    },
    /// Takes away the interface that an `<interface>` names by its MAC address or name.
    DetachDevice {
        domain: String,
        xml: String,
        #[serde(default)]
        file: String,
    },
    /// Changes an interface to what an `<interface>` says, where that can change.
    UpdateDevice {
        domain: String,
        xml: String,
        #[serde(default)]
        file: String,
    },
    Bridges,
    BridgeMacs {
        bridge: String,
    },
    BridgeStp {
        bridge: String,
    },
    BridgeSet {
        bridge: String,
        change: BridgeChange,
    },
    Status,
    /// Sessions of NAT from place `cursor` on, as many as an answer holds.
    ConntrackList {
        #[serde(default)]
        filter: SessionFilter,
        #[serde(default)]
        cursor: u64,
    },
    ConntrackCount {
        #[serde(default)]
        filter: SessionFilter,
        #[serde(default)]
        cursor: u64,
    },
    /// Ends them.
    ConntrackFlush {
        #[serde(default)]
        filter: SessionFilter,
        #[serde(default)]
        cursor: u64,
    },
    /// As [`Request::Subscribe`], for sessions that begin and end.
    ConntrackEvents {
        #[serde(default)]
        filter: SessionFilter,
        /// Only those that begin or end a mapping.
        #[serde(default)]
        mappings: bool,
    },
    /// As [`Request::Subscribe`], for what becomes of frames.
    Trace {
        network: String,
        /// Conditions, with `and` between them.
        #[serde(default, rename = "match")]
        matching: String,
        /// So many frames of each worker; as many as come if absent.
        #[serde(default)]
        count: Option<u32>,
    },
    /// Answered with [`Reply::Subscribed`], then with a [`Reply::Event`] for each event until the client closes.
    Subscribe {
        /// Empty: all kinds.
        #[serde(default)]
        events: Vec<EventKind>,
        #[serde(default)]
        network: Option<String>,
    },
}

fn not_said() -> i32 {
    -1
}

/// An interface a guest is to get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    pub domain: String,
    /// `network` or `bridge`.
    pub kind: String,
    pub source: String,
    #[serde(default)]
    pub target: Option<String>,
    #[serde(default)]
    pub mac: Option<String>,
    /// The network namespace `/run/netns/NAME` it is put into.
    #[serde(default)]
    pub netns: Option<String>,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub alias: Option<String>,
    #[serde(default)]
    pub script: Option<String>,
    /// `<bandwidth>`'s children, as XML.
    #[serde(default)]
    pub bandwidth: Option<String>,
    /// What it hangs on; a tap when not said.
    #[serde(default)]
    pub cable: Option<Cable>,
}

/// What an interface hangs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cable {
    /// `tap`, `stream`, `dgram`, `vhostuser` or `adopt`.
    pub kind: String,
    /// Where QEMU listens (`stream`), or where datagrams for pontoon go (`dgram`), or the two meet (`vhostuser`).
    #[serde(default)]
    pub socket: Option<String>,
    /// Where datagrams for the guest go; without it, to whoever sends the first.
    #[serde(default)]
    pub peer: Option<String>,
    /// `vhostuser`: whether pontoon is the `server` at the socket (the default) or the `client`.
    #[serde(default)]
    pub mode: Option<String>,
}

/// What a change or a question is about; with neither it is the running network, or the definition of one that
/// does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affect {
    #[serde(default)]
    pub live: bool,
    #[serde(default)]
    pub config: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataKind {
    Title,
    Description,
    /// The element of one namespace; `key` is its prefix when it is set.
    Element {
        uri: String,
        #[serde(default)]
        key: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressSource {
    /// What DHCP gave.
    Lease,
    /// What this host has seen.
    Arp,
    /// What an agent in the guest says.
    Agent,
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
        #[serde(default)]
        network: String,
        #[serde(default)]
        warnings: Vec<String>,
    },
    Text {
        text: String,
    },
    Ports {
        ports: Vec<PortInfo>,
    },
    PortCreated {
        uuid: String,
    },
    Subnet {
        subnet: ipnet::Ipv4Net,
    },
    Interfaces {
        interfaces: Vec<InterfaceInfo>,
    },
    Stats {
        stats: InterfaceStats,
    },
    Addresses {
        interfaces: Vec<InterfaceAddresses>,
    },
    Bridges {
        bridges: Vec<BridgeInfo>,
    },
    Macs {
        macs: Vec<MacInfo>,
    },
    Stp {
        stp: Box<BridgeStp>,
    },
    Status {
        status: Box<crate::message::Status>,
        pid: u32,
        /// What of the datapath's sandbox this host did not allow.
        #[serde(default)]
        lacking: Vec<String>,
    },
    /// `next` is the cursor for the rest, if there is one.
    Sessions {
        sessions: Vec<SessionInfo>,
        next: Option<u64>,
    },
    /// So many were counted, or ended, up to `next`.
    SessionCount {
        count: u64,
        next: Option<u64>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// A port of a network: what one interface of a guest is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    pub uuid: String,
    pub domain: String,
    pub interface: String,
    pub mac: String,
    /// What it hangs on, and who is at the other end, if that has a name.
    #[serde(default)]
    pub cable: String,
    #[serde(default)]
    pub peer: Option<String>,
    /// Whether its link is up.
    #[serde(default)]
    pub link: bool,
    /// What is agreed with its other side, where that was asked for.
    #[serde(default)]
    pub agreed: Option<Agreed>,
}

/// Queues there are with the other side of a port, and what may be left undone in frames it takes and sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    pub queues: u16,
    pub takes: Offloads,
    pub sends: Offloads,
}

/// One interface of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceInfo {
    pub domain: String,
    pub interface: String,
    /// `network` or `bridge`: how it was attached.
    pub kind: String,
    /// The network's or the bridge's name, as `kind` says.
    pub source: String,
    pub network: String,
    pub model: Option<String>,
    pub mac: String,
    /// Whether its link is up.
    pub link: bool,
    /// UUID of its port.
    pub port: String,
    pub alias: Option<String>,
    pub netns: Option<String>,
    /// What it hangs on: `tap`, `stream`, `dgram`, `vhostuser` or `adopt`.
    #[serde(default)]
    pub cable: String,
    /// Who is at the other end, if that has a name.
    #[serde(default)]
    pub peer: Option<String>,
    /// Whether DHCP is offered where it is plugged in.
    pub dhcp: bool,
    #[serde(default)]
    pub inbound: Rate,
    #[serde(default)]
    pub outbound: Rate,
}

/// `average`, `peak` and `floor` in kB/s, `burst` in KiB; 0 is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    pub average: u64,
    pub peak: u64,
    pub burst: u64,
    pub floor: u64,
}

/// As the guest counts: received is what went to the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errs: u64,
    pub rx_drop: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errs: u64,
    pub tx_drop: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceAddresses {
    pub interface: String,
    pub mac: String,
    pub addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub ip: std::net::IpAddr,
    pub prefix: u8,
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
    pub network: String,
    pub mac: String,
    /// Priority and address, `8000.525400b8ffb7`.
    pub id: String,
    pub stp: bool,
    /// Guests' interfaces, sorted.
    pub interfaces: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacInfo {
    /// Its number on the bridge.
    pub port: u16,
    pub mac: String,
    pub local: bool,
    pub age_seconds: u32,
}
