//! Messages between control and datapath. One stream socket; a message is a frame of [`crate::codec`].

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::document::{Document, Mac};
use crate::session::{Action, Query, Row};
use crate::watch::{News, Watch};

/// What control tells the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToDatapath {
    /// First message after a connect (also by a restarted control). Answered with what the datapath holds
    /// ([`ToControl::Port`], [`ToControl::Sessions`]) and [`ToControl::Hello`].
    Hello,
    /// Descriptors of one port, one a worker (queue), before the document that names the port.
    /// `vnet_header`: every frame is preceded by a 12-byte `virtio_net_hdr_v1`.
    Attach { port: u16, kind: PortKind, vnet_header: bool },
    /// Descriptors that are held, without being used, as long as the port is there: what hangs on them outlives control.
    /// They take the place of those sent before.
    Keep { port: u16 },
    /// The lease log of one network (one descriptor, opened for append, or two: the log and its copy) and what it held.
    LeaseLog { network: u16, leases: Vec<Lease> },
    /// Connected UDP sockets to resolvers, grouped by resolver, as many as fit into a message: those from place `first`
    /// on. From place 0 a list begins that takes the place of the one in use with the document that follows.
    Resolvers { first: u16 },
    /// One connected TCP socket, the answer to [`ToControl::NeedTcp`]; no descriptor when it could not be made.
    Tcp { ticket: u32 },
    /// The whole desired state. Ports and networks it does not name are closed.
    Apply { document: Document },
    /// Forget the learned addresses of a network, or of one of its ports.
    Flush { network: u16, port: Option<u16> },
    /// Look at the NAT sessions from place `from` on; answered with [`ToControl::Walked`].
    Walk { from: u64, action: Action, query: Query },
    /// Tell this of your own accord; answered with [`ToControl::Watching`] once all workers do.
    Watch(Watch),
    /// Ask for [`ToControl::Status`].
    Status,
    /// End in good order.
    Quit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    Tap,
    Packet,
    /// A connected unix stream socket with QEMU's framing.
    Stream,
    /// A connected unix datagram socket, one frame a datagram.
    Dgram,
    /// A connected unix stream socket to a front-end of vhost-user.
    VhostUser,
}

/// What the datapath tells control. Control treats it as hostile: it is parsed with care and never trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToControl {
    /// The descriptors of one port of the running document, so that a control that takes over holds them again.
    Port {
        port: u16,
        kind: PortKind,
    },
    /// One descriptor, the memory of the NAT sessions.
    Sessions,
    /// The running document (generation 0 when none was applied), for a control that takes over. Ends the answer to
    /// [`ToDatapath::Hello`]. `lacking`: what of its sandbox the host did not allow.
    Hello {
        workers: u16,
        #[serde(default)]
        lacking: Vec<String>,
        document: Box<Document>,
    },
    /// All workers run this generation.
    Applied {
        generation: u64,
    },
    /// The last document or descriptor was refused; the previous state runs on.
    Refused {
        reason: String,
    },
    /// A port's descriptor failed (device deleted); the datapath no longer reads it.
    PortFailed {
        port: u16,
        reason: String,
    },
    /// Please connect a TCP socket to resolver `resolver`.
    NeedTcp {
        ticket: u32,
        resolver: u16,
    },
    /// Sessions that were meant, how many, and the place to go on from.
    Walked {
        rows: Vec<Row>,
        count: u64,
        next: Option<u64>,
    },
    /// From here on what was asked for is told, as [`ToControl::News`].
    Watching,
    News(Box<News>),
    /// Counters and tables.
    Status(Box<Status>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub generation: u64,
    /// Learned addresses.
    pub macs: Vec<MacEntry>,
    pub ports: Vec<PortCounters>,
    /// Named drops that are not zero, summed over workers.
    pub drops: Vec<(String, u64)>,
    pub sessions: u64,
    /// The address an uplink has (from its DHCP server when none was configured).
    pub uplinks: Vec<UplinkStatus>,
    /// Spanning trees, of networks that have one.
    #[serde(default)]
    pub trees: Vec<TreeStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacEntry {
    pub network: u16,
    pub port: u16,
    pub mac: Mac,
    pub age_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    pub port: u16,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_drops: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_drops: u64,
    /// Queues there are with the other side: none before the driver of a vhost-user card has set them up.
    #[serde(default)]
    pub queues: u16,
    /// What may be left undone in frames for the other side, and in frames of it.
    #[serde(default)]
    pub takes: Offloads,
    #[serde(default)]
    pub sends: Offloads,
}

/// Work one side leaves to the other: checksums, and segments of TCP and of UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offloads {
    pub checksum: bool,
    pub tso: bool,
    pub uso: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    pub id: u16,
    pub address: Option<ipnet::Ipv4Net>,
    pub gateway: Option<Ipv4Addr>,
}

/// One network's share of the spanning tree. Times are hundredths of a second; those of timers are what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeStatus {
    pub network: u16,
    /// Identifiers: priority in the upper 16 bits, address in the lower 48.
    pub bridge: u64,
    pub root: u64,
    /// Number of the port that leads to the root; 0 is none.
    pub root_port: u16,
    pub root_cost: u32,
    /// The root's settings.
    pub max_age: u32,
    pub hello: u32,
    pub forward_delay: u32,
    pub hello_timer: u32,
    pub tcn_timer: u32,
    pub topology_change_timer: u32,
    pub topology_change: bool,
    pub topology_change_detected: bool,
    /// Topology changes this bridge saw first, so far.
    pub changes: u64,
    pub ports: Vec<TreePort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortState {
    Disabled,
    Listening,
    Learning,
    Forwarding,
    Blocking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortRole {
    Disabled,
    Root,
    Designated,
    Alternate,
    Backup,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreePort {
    pub port: u16,
    pub number: u16,
    /// Priority and number.
    pub id: u16,
    pub state: PortState,
    pub role: PortRole,
    /// No bridge was heard there.
    pub edge: bool,
    /// RST BPDUs are spoken there, not 802.1D's.
    pub rapid: bool,
    pub cost: u32,
    pub designated_root: u64,
    pub designated_cost: u32,
    pub designated_bridge: u64,
    pub designated_port: u16,
    pub message_age_timer: u32,
    pub forward_delay_timer: u32,
    pub hold_timer: u32,
    pub config_pending: bool,
    pub topology_change_ack: bool,
}

/// One DHCP lease as the lease log holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub ip: Ipv4Addr,
    pub mac: Mac,
    pub client_id: Option<Vec<u8>>,
    pub hostname: Option<String>,
    /// Unix seconds; 0 is infinite.
    pub expiry: u64,
}
