//! Gives up every privilege before the first frame is read.
//!
//! All of it is per thread and inherited by threads started later, so it runs before any is.

use anyhow::{Context, ensure};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// # Errors
/// When a capability or the way to new ones is left afterwards.
pub(crate) fn enter() -> anyhow::Result<()> {
    match pontoon_ports::sys::unshare_network() {
        Ok(()) => tracing::debug!("in an empty network namespace"),
        Err(error) => tracing::debug!(%error, "stays in the network namespace it was started in"),
    }
    drop_capabilities();
    verify()
}

/// Every step is tried; [`verify`] decides.
fn drop_capabilities() {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if let Err(error) = thread::remove_capability_from_bounding_set(capability) {
            tracing::trace!(bit, %error, "bounding set");
        }
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let steps = [
        ("ambient set", thread::clear_ambient_capability_set()),
        ("keep-caps", thread::set_keep_capabilities(false)),
        ("capabilities", thread::set_capabilities(None, sets)),
        ("no_new_privs", thread::set_no_new_privs(true)),
    ];
    for (step, result) in steps {
        if let Err(error) = result {
            tracing::debug!(step, %error, "giving up privileges");
        }
    }
}

fn verify() -> anyhow::Result<()> {
    let left = thread::capabilities(None).context("reading capabilities back")?;
    let all = left.effective | left.permitted | left.inheritable;
    ensure!(all.is_empty(), "capabilities are left: {:#x}", all.bits());
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
