//! What happens where a guest's memory is gone: `SIGBUS`, caught. The only place with `unsafe`.
//!
//! A front-end may shorten the file it shares at any time, and an access behind its end kills the process, with
//! everybody's traffic. Seals would forbid that, but only memfds have them: QEMU's `memory-backend-file`, huge pages
//! and what libvirt makes by default have none. So every mapping of a guest's memory is noted here, and a fault in one
//! puts empty memory in its place: the access goes on with zeroes, the guest is told apart ([`Guard::is_hit`]) and
//! only its port ends. A fault anywhere else ends the process as before.

use std::ffi::c_void;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings there may be at a time.
pub const MAX_MAPPINGS: usize = 4096;

/// A mapping: `start` is 0 where the slot is free, and 1 while it is being written.
struct Slot {
    start: AtomicUsize,
    length: AtomicUsize,
    hit: AtomicBool,
}

const FREE: usize = 0;
const CLAIMED: usize = 1;

static SLOTS: [Slot; MAX_MAPPINGS] = [const {
    Slot { start: AtomicUsize::new(FREE), length: AtomicUsize::new(0), hit: AtomicBool::new(false) }
}; MAX_MAPPINGS];

/// Watches over one mapping for as long as it lives; to be dropped before the mapping is.
#[derive(Debug)]
pub struct Guard(usize);

impl Guard {
    /// `None` when there are too many.
    #[must_use]
    pub fn new(start: usize, length: usize) -> Option<Self> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(install);
        let claim = |slot: &Slot| {
            slot.start.compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let index = SLOTS.iter().position(claim)?;
        let slot = SLOTS.get(index)?;
        slot.length.store(length, Ordering::Relaxed);
        slot.hit.store(false, Ordering::Relaxed);
        slot.start.store(start, Ordering::Release);
        Some(Self(index))
    }

    /// Memory was gone there.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        SLOTS.get(self.0).is_some_and(|slot| slot.hit.load(Ordering::Relaxed))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(slot) = SLOTS.get(self.0) {
            slot.start.store(FREE, Ordering::Release);
        }
    }
}

fn install() {
    // SAFETY: all zeroes is a value of `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_fault as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `on_fault` has the signature SA_SIGINFO asks for and does nothing a signal handler may not: it reads and
    // writes atomics and calls mmap and signal. Safe code was not enough: no dependency sets handlers.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
}

extern "C" fn on_fault(_signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel gives a siginfo that is valid while the handler runs, and for SIGBUS it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let within = |slot: &&Slot| {
        let start = slot.start.load(Ordering::Acquire);
        start > CLAIMED && address.wrapping_sub(start) < slot.length.load(Ordering::Relaxed)
    };
    let replaced = SLOTS.iter().find(within).is_some_and(|slot| {
        slot.hit.store(true, Ordering::Relaxed);
        replace(slot.start.load(Ordering::Relaxed), slot.length.load(Ordering::Relaxed))
    });
    if !replaced {
        // SAFETY: with the default action the access faults again and ends the process.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

/// Puts empty memory where a mapping was.
fn replace(start: usize, length: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the range is one whole mapping of a guest's memory: its guard is dropped before it is unmapped, and the
    // thread that faulted holds it mapped by the access itself. Rust knows no reference into it (`memory.rs` copies),
    // and what replaces it is as readable and writable. Safe code was not enough: there is no mapping without.
    let placed =
        unsafe { libc::mmap(ptr::with_exposed_provenance_mut(start), length, protection, flags, -1, 0) };
    placed != libc::MAP_FAILED
}
