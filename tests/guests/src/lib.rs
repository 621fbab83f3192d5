//! Real virtual machines for tests: QEMU, a Debian kernel, and an initramfs with busybox that takes commands.
//!
//! Nothing is installed for them: packages are fetched with `apt-get download` and unpacked into a cache
//! (`PONTOON_GUEST_CACHE`, else `pontoon-guests` in `XDG_CACHE_HOME` or `~/.cache`). A guest is up in a few seconds
//! without hardware virtualization.

mod cpio;
mod image;
mod machine;
mod nic;

pub use image::Image;
pub use machine::{Machine, Said};
pub use nic::Nic;
