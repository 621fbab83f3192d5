//! Thin adapters to the two services this executable can become.

use std::os::fd::RawFd;
use std::path::PathBuf;

/// What `pontoon daemon` was asked for.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) state_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) workers: u16,
    pub(crate) resolv_conf: PathBuf,
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
}

pub(crate) fn daemon(daemon: &Daemon) -> anyhow::Result<()> {
    let Daemon { state_dir, runtime_dir, workers, resolv_conf, socket } = daemon;
    anyhow::bail!(
        "this build has no control process ({}, {}, {}, {workers} workers, socket {socket:?})",
        state_dir.display(),
        runtime_dir.display(),
        resolv_conf.display()
    )
}

pub(crate) fn datapath(datapath: &Datapath) -> anyhow::Result<()> {
    let Datapath { listen_fd, control_fd, session_fd, workers } = datapath;
    anyhow::bail!("this build has no datapath ({listen_fd}, {control_fd}, {session_fd:?}, {workers} workers)")
}
