//! What the command line gives the daemon.

use std::path::PathBuf;

use crate::api::ReadAccess;
use pontoon_proto::api::{DEFAULT_RUNTIME_DIR, DEFAULT_STATE_DIR, SOCKET_NAME};

/// 65536 NAT sessions of 128 bytes.
pub const DEFAULT_SESSION_BYTES: u64 = 65536 * 128;

/// The group whose members manage networks, if it exists.
pub const DEFAULT_GROUP: &str = "pontoon";

/// Who the datapath runs as.
pub const DEFAULT_DATAPATH_USER: &str = "nobody";

/// Settings of `pontoon daemon`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonArgs {
    /// Definitions, autostart marks and leases.
    pub state_dir: PathBuf,
    /// Sockets and the note of what is active; may vanish at a reboot.
    pub runtime_dir: PathBuf,
    /// Workers of the datapath, and queues of every tap.
    pub workers: u16,
    /// The API socket; `None` is `pontoon.sock` below `runtime_dir`.
    pub socket: Option<PathBuf>,
    /// Who the datapath runs as: a name, a number, or `UID:GID`.
    pub datapath_user: String,
    /// Passed on to `pontoon datapath`.
    pub datapath_args: Vec<String>,
    pub resolv_conf: PathBuf,
    /// Name or number of the group whose members manage networks.
    pub group: String,
    /// Who else may read.
    pub read_access: ReadAccess,
    /// Size of the memory that holds the NAT sessions.
    pub session_bytes: u64,
    /// Programs of shared uplinks are attached as before Linux 6.6: for tests.
    pub classic_hooks: bool,
    /// Where mappings of NAT are logged, `journal` or a file, unless a network says that its are not.
    pub mapping_log: Option<String>,
}

impl Default for DaemonArgs {
    fn default() -> Self {
        Self {
            state_dir: DEFAULT_STATE_DIR.into(),
            runtime_dir: DEFAULT_RUNTIME_DIR.into(),
            workers: 1,
            socket: None,
            datapath_user: DEFAULT_DATAPATH_USER.to_owned(),
            datapath_args: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            group: DEFAULT_GROUP.to_owned(),
            read_access: ReadAccess::default(),
            session_bytes: DEFAULT_SESSION_BYTES,
            classic_hooks: false,
            mapping_log: None,
        }
    }
}

impl DaemonArgs {
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.runtime_dir.join(SOCKET_NAME))
    }
}
