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
    anyhow::bail!("this build has no control process ({daemon:?})")
}

pub(crate) fn datapath(datapath: &Datapath) -> anyhow::Result<()> {
    anyhow::bail!("this build has no datapath ({datapath:?})")
}
