//! Giving up capabilities, which both processes do before anything hostile is looked at.
//!
//! Capabilities belong to a thread and are inherited by those it starts: call this before any is started.

use std::io;

use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// What is left; whatever the process was not given it does not get.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// In force all the time.
    pub effective: CapabilitySet,
    /// May be put in force by [`with`].
    pub permitted: CapabilitySet,
    /// What a program started from here may have.
    pub bounding: CapabilitySet,
}

impl Kept {
    pub const NOTHING: Self = Self {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        bounding: CapabilitySet::empty(),
    };
}

/// Gives up all capabilities but `kept`. Every step is tried, and what is read back afterwards decides.
///
/// # Errors
/// When more than `kept` is left, or that cannot be read. Without `CAP_SETPCAP` the bounding set stays as it is,
/// which is none.
pub fn limit(kept: &Kept) -> io::Result<()> {
    let given = thread::capabilities(None)?.permitted;
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if !kept.bounding.contains(capability) {
            // Bits the kernel does not know are refused.
            let _ = thread::remove_capability_from_bounding_set(capability);
        }
    }
    let _ = thread::clear_ambient_capability_set();
    let _ = thread::set_keep_capabilities(false);
    let permitted = given & kept.permitted;
    let effective = permitted & kept.effective;
    let _ = thread::set_capabilities(
        None,
        CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() },
    );
    let left = thread::capabilities(None)?;
    let beyond = (left.effective - effective) | (left.permitted - permitted) | left.inheritable;
    if beyond.is_empty() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("capabilities are left: {:#x}", beyond.bits()),
    ))
}

/// Runs `work` with `more` in force in this thread, as far as it is permitted.
///
/// # Errors
/// Those of `work`.
pub fn with<T>(more: CapabilitySet, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = thread::capabilities(None)?;
    let raised = CapabilitySets { effective: before.effective | (before.permitted & more), ..before };
    thread::set_capabilities(None, raised)?;
    let result = work();
    thread::set_capabilities(None, before)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: this cannot be undone.
    fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().expect("join")
    }

    #[test]
    fn nothing_is_left() {
        apart(|| {
            limit(&Kept::NOTHING).expect("limited");
            let left = thread::capabilities(None).expect("capabilities");
            assert!((left.effective | left.permitted | left.inheritable).is_empty());
            with(CapabilitySet::NET_ADMIN, || Ok(())).expect("what is not permitted is not raised");
            assert!(thread::capabilities(None).expect("capabilities").effective.is_empty());
        });
    }

    #[test]
    fn what_is_kept_for_later_is_in_force_only_then() {
        apart(|| {
            let given = thread::capabilities(None).expect("capabilities").permitted;
            let (always, later) = (CapabilitySet::NET_RAW, CapabilitySet::SYS_ADMIN);
            limit(&Kept { effective: always, permitted: always | later, bounding: always }).expect("limited");
            let effective = || thread::capabilities(None).expect("capabilities").effective;
            assert_eq!(effective(), given & always);
            let raised = with(later, || Ok(effective())).expect("raised");
            assert_eq!(raised, given & (always | later));
            assert_eq!(effective(), given & always);
        });
    }
}
