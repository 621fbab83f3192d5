//! Bridges as brctl(8) has them. Times are hundredths of a second; those of timers are what is left.

use serde::{Deserialize, Serialize};

/// A change of a running network's switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BridgeChange {
    Stp {
        on: bool,
    },
    Ageing {
        time: u64,
    },
    Priority {
        priority: u16,
    },
    ForwardDelay {
        time: u64,
    },
    Hello {
        time: u64,
    },
    MaxAge {
        time: u64,
    },
    /// `port` is an interface's name, or its number on the bridge.
    PathCost {
        port: String,
        cost: u32,
    },
    PortPriority {
        port: String,
        priority: u32,
    },
    Hairpin {
        port: String,
        on: bool,
    },
    /// Pins an address to a port, or no longer.
    Static {
        port: String,
        mac: String,
        on: bool,
    },
    /// Forgets what was learned on a port, or on all.
    Flush {
        #[serde(default)]
        port: Option<String>,
    },
}

/// What `brctl showstp` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeStp {
    pub name: String,
    pub stp: bool,
    /// Identifiers are `8000.525400b8ffb7`.
    pub bridge_id: String,
    pub designated_root: String,
    pub root_port: u16,
    pub root_path_cost: u32,
    pub max_age: u32,
    pub hello_time: u32,
    pub forward_delay: u32,
    pub bridge_max_age: u32,
    pub bridge_hello_time: u32,
    pub bridge_forward_delay: u32,
    pub ageing_time: u64,
    pub hello_timer: u32,
    pub tcn_timer: u32,
    pub topology_change_timer: u32,
    pub topology_change: bool,
    pub topology_change_detected: bool,
    /// Topology changes this bridge saw first, so far.
    pub changes: u64,
    pub ports: Vec<BridgePort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgePort {
    pub name: String,
    pub number: u16,
    /// Priority and number.
    pub id: u16,
    /// `disabled`, `listening`, `learning`, `forwarding` or `blocking`.
    pub state: String,
    /// `disabled`, `root`, `designated`, `alternate` or `backup`.
    pub role: String,
    /// No bridge was heard there.
    pub edge: bool,
    /// RST BPDUs are spoken there.
    pub rapid: bool,
    pub designated_root: String,
    pub path_cost: u32,
    pub designated_bridge: String,
    pub designated_port: u16,
    pub designated_cost: u32,
    pub message_age_timer: u32,
    pub forward_delay_timer: u32,
    pub hold_timer: u32,
    pub config_pending: bool,
    pub topology_change_ack: bool,
    pub hairpin: bool,
    pub isolated: bool,
}
