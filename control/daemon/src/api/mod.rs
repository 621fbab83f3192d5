//! The API socket: one thread polls all connections and never waits for a client, a disk or the datapath. Whole
//! requests go to a few worker threads, one a connection at a time.

mod access;
mod client;
mod limits;
mod server;
#[cfg(test)]
mod tests;
mod work;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

pub(crate) use access::Access;
pub use access::ReadAccess;
use limits::Limits;
use server::Server;

use crate::known::Shared;
use crate::store::remove;

/// Binds the API socket in place of one nobody answers at.
pub(crate) fn bind(path: &Path, access: &Access) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        anyhow::bail!("another daemon answers at {}; stop it or give another --runtime-dir", path.display());
    }
    remove(path).with_context(|| format!("cannot remove {}", path.display()))?;
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    access.apply(path)?;
    Ok(listener)
}

/// Serves until the process ends.
pub(crate) fn serve(listener: UnixListener, shared: Arc<Shared>, access: Access) -> std::io::Result<()> {
    let server = Server::new(listener, shared, access, Limits::default())?;
    std::thread::Builder::new().name("api".into()).spawn(move || server.run()).map(drop)
}
