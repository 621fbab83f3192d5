//! Thin adapters to the two services this executable can become.

use std::os::fd::RawFd;
use std::path::PathBuf;

use pontoon_control::{BridgeHelperArgs, DaemonArgs, ReadAccess};
use pontoon_datapath::DatapathArgs;
use pontoon_datapath::sandbox::{Mode, Sandbox};

use crate::args::HelperArgs;

/// What `pontoon daemon` was asked for.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) workers: u16,
    pub(crate) resolv_conf: PathBuf,
    /// Whose members may manage networks.
    pub(crate) group: String,
    pub(crate) anybody_reads: bool,
    pub(crate) classic_hooks: bool,
    pub(crate) datapath_user: String,
    pub(crate) sandbox: String,
    /// Where mappings are logged.
    pub(crate) mapping_log: Option<String>,
    /// Another place for the API socket than the runtime directory.
    pub(crate) socket: Option<PathBuf>,
}

/// What `pontoon datapath` was asked for. Descriptors are inherited from the control process.
#[derive(Debug)]
pub(crate) struct Datapath {
    pub(crate) listen_fd: RawFd,
    pub(crate) control_fd: RawFd,
    pub(crate) session_fd: Option<RawFd>,
    pub(crate) workers: u16,
    pub(crate) sandbox: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn daemon(daemon: &Daemon) -> anyhow::Result<()> {
    pontoon_control::main(DaemonArgs {
        state_dir: daemon.state_dir.clone(),
        runtime_dir: daemon.runtime_dir.clone(),
        workers: daemon.workers,
        socket: daemon.socket.clone(),
        resolv_conf: daemon.resolv_conf.clone(),
        group: daemon.group.clone(),
        read_access: if daemon.anybody_reads { ReadAccess::Any } else { ReadAccess::Group },
        classic_hooks: daemon.classic_hooks,
        datapath_user: daemon.datapath_user.clone(),
        datapath_args: vec!["--sandbox".to_owned(), daemon.sandbox.clone()],
        mapping_log: daemon.mapping_log.clone(),
        ..DaemonArgs::default()
    })
}

pub(crate) fn bridge_helper(args: HelperArgs, socket: Option<PathBuf>) -> anyhow::Result<()> {
    let HelperArgs { br, fd, use_vnet, acl } = args;
    let socket = crate::client::api_socket(socket);
    let args = BridgeHelperArgs { bridge: br, fd, vnet_header: use_vnet, socket, acl };
    pontoon_control::bridge_helper(&args)
}

pub(crate) fn datapath(datapath: &Datapath) -> anyhow::Result<()> {
    pontoon_datapath::main(DatapathArgs {
        listen_fd: datapath.listen_fd,
        control_fd: datapath.control_fd,
        session_fd: datapath.session_fd,
        workers: datapath.workers,
        spin_us: DatapathArgs::SPIN_US,
        nap_us: DatapathArgs::NAP_US,
        coalesce: true,
        sandbox: Sandbox {
            mode: Mode::named(&datapath.sandbox).unwrap_or_default(),
            uid: datapath.uid,
            gid: datapath.gid,
        },
    })
}
