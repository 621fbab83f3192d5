//! Gives up every privilege before the first frame is read.
//!
//! All of it is per thread and inherited by threads started later, so it runs before any is.

use anyhow::{Context, ensure};
use pontoon_proto::privilege::{self, Kept};
use rustix::thread;

/// # Errors
/// When a capability or the way to new ones is left afterwards.
pub(crate) fn enter() -> anyhow::Result<()> {
    match pontoon_ports::sys::unshare_network() {
        Ok(()) => tracing::debug!("in an empty network namespace"),
        Err(error) => tracing::debug!(%error, "stays in the network namespace it was started in"),
    }
    privilege::limit(&Kept::NOTHING)?;
    thread::set_no_new_privs(true).context("no_new_privs")?;
    ensure!(thread::no_new_privs().context("reading no_new_privs back")?, "no_new_privs is not set");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_left() {
        // In a thread of its own: this cannot be undone.
        let done = std::thread::spawn(super::enter).join().expect("join");
        done.expect("sandboxed");
    }
}
