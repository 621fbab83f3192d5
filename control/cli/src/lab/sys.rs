//! The system calls of the lab that have no safe wrapper.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

use rustix::thread::UnshareFlags;

/// Leaves the namespaces named.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: the call is unsafe only for the sake of CLONE_FILES, after which threads see different descriptor
    // tables; no caller asks for it.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// The version of Landlock's interface; `None` where there is no Landlock.
pub(crate) fn landlock_abi() -> Option<i32> {
    const VERSION: libc::c_long = 1;
    // SAFETY: with this flag and no attributes the kernel reads no memory and makes nothing.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    i32::try_from(abi).ok().filter(|abi| *abi > 0)
}

/// Sends and receives through this device only.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn bind_to_device(socket: &impl AsFd, device: &str) -> io::Result<()> {
    let length = libc::socklen_t::try_from(device.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `device`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            device.as_ptr().cast(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
