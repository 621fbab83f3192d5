//! An interrupt that ends a wait instead of the process.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Readable once the user interrupts; until it is dropped an interrupt does nothing else.
#[derive(Debug)]
pub(crate) struct Interrupt(Option<OwnedFd>);

/// Takes interrupts from here on. Where the kernel will not, an interrupt ends the process as ever.
pub(crate) fn catch_interrupt() -> Interrupt {
    Interrupt(open().ok())
}

impl Interrupt {
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}

fn interrupt_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset makes the set whole before sigaddset and the caller read it; SIGINT is a signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}

fn mask(how: libc::c_int) -> io::Result<()> {
    let set = interrupt_set();
    // SAFETY: the set lives through the call, and the mask before is not asked for.
    let result = unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

fn open() -> io::Result<OwnedFd> {
    mask(libc::SIG_BLOCK)?;
    let set = interrupt_set();
    // SAFETY: the set lives through the call; -1 asks for a new descriptor.
    let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if raw < 0 {
        let error = io::Error::last_os_error();
        let _ = mask(libc::SIG_UNBLOCK);
        return Err(error);
    }
    // SAFETY: the kernel has just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(fd) = &self.0 {
            // An interrupt that was reported must not come again.
            let mut bytes = [0; 128];
            // SAFETY: the buffer is as long as is said, and the descriptor is open.
            unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
            let _ = mask(libc::SIG_UNBLOCK);
        }
    }
}
