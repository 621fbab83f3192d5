//! Maps, programs and links of the kernel: bpf(2). The one file here with `unsafe`.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::asm::Instruction;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
#[cfg(test)]
const MAP_LOOKUP: libc::c_int = 1;
const PROGRAM_LOAD: libc::c_int = 5;
#[cfg(test)]
const PROGRAM_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;

const SCHED_CLS: u32 = 3;

/// What of an interface's frames a program sees: `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Way {
    Arriving = 46,
    Leaving = 47,
}

/// `BPF_MAP_TYPE_*`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MapKind {
    Programs = 3,
    /// A hash table from which the least recently used entry goes.
    Recent = 9,
}

/// The parts of `union bpf_attr`, as far as they are used here.
#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct EntryAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct RunAttributes {
    program: u32,
    result: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    contexts: [u64; 2],
    flags: [u32; 4],
}

/// A descriptor as these structures have it; those of this process are never negative.
fn number(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.addr() as u64
}

/// # Safety
/// Addresses in `attributes` have to be those of live memory of the sizes that the command and the other fields say.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is a structure of plain integers, which outlives the call, with its size beside it; what its
    // addresses point to is the caller's to answer for. No safe crate of ours has this call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

/// # Safety
/// As [`bpf`], for commands whose result is a new descriptor.
unsafe fn made<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel just made this descriptor, close-on-exec, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn map(kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapAttributes { kind: kind as u32, key_size, value_size, max_entries };
    // SAFETY: it holds no address.
    unsafe { made(MAP_CREATE, &mut attributes) }
}

/// Puts a program into the first place of a map of programs.
pub(crate) fn put_program(map: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let (key, value) = (0u32, number(program));
    let (key, value) = (address(&raw const key), address(&raw const value));
    let mut attributes = EntryAttributes { map: number(map), padding: 0, key, value, flags: 0 };
    // SAFETY: key and value of such a map are four octets each, and these outlive the call.
    unsafe { bpf(MAP_UPDATE, &mut attributes) }.map(drop)
}

/// A hash table of addresses, with a number beside each, from which the least recently used entry goes.
#[derive(Debug)]
pub(crate) struct Addresses(OwnedFd);

/// Octets of a key in [`Addresses`]: a MAC address and two zeroes.
const ADDRESS: usize = 8;

impl Addresses {
    pub(crate) fn new(max_entries: u32) -> io::Result<Self> {
        map(MapKind::Recent, ADDRESS as u32, 4, max_entries).map(Self)
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn has(&self, [a, b, c, d, e, f]: [u8; 6]) -> bool {
        let (key, mut value): ([u8; ADDRESS], u32) = ([a, b, c, d, e, f, 0, 0], 0);
        let (key, value) = (address(key.as_ptr()), address(&raw mut value));
        let mut attributes = EntryAttributes { map: number(&self.0), padding: 0, key, value, flags: 0 };
        // SAFETY: keys of this map have eight octets and values four, as these, which outlive the call.
        unsafe { bpf(MAP_LOOKUP, &mut attributes) }.is_ok()
    }
}

/// Loads a program for packets. `name` is what `bpftool` shows, at most 15 octets.
pub(crate) fn program(code: &[Instruction], name: &CStr) -> io::Result<OwnedFd> {
    load(code, name, &mut []).or_else(|error| {
        let mut log = vec![0; 1 << 16];
        let again = load(code, name, &mut log);
        if again.is_err() {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
            let log = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
            let last = log.lines().rev().find(|line| !line.starts_with("processed")).unwrap_or_default();
            tracing::warn!("the kernel does not load {}: {error}; {last}", name.to_string_lossy());
        }
        again
    })
}

fn load(code: &[Instruction], name: &CStr, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramAttributes {
        kind: SCHED_CLS,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: address(code.as_ptr()),
        licence: address(c"Apache-2.0 OR MIT".as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
    };
    for (to, from) in attributes.name.iter_mut().zip(name.to_bytes().iter().take(15)) {
        *to = *from;
    }
    // SAFETY: instructions and log are slices with their lengths beside them, the licence ends with a zero, and all
    // outlive the call.
    unsafe { made(PROGRAM_LOAD, &mut attributes) }
}

/// Has a program see the frames of an interface of the calling thread's network namespace, as long as the result is
/// open. `InvalidInput` before Linux 6.6.
pub(crate) fn link(program: &OwnedFd, interface: u32, way: Way) -> io::Result<OwnedFd> {
    let mut attributes = LinkAttributes {
        program: number(program),
        interface,
        attach_type: way as u32,
        flags: 0,
        relative: 0,
        padding: 0,
        revision: 0,
    };
    // SAFETY: it holds no address.
    unsafe { made(LINK_CREATE, &mut attributes) }
}

/// Gives the calling thread a network namespace of its own.
#[cfg(test)]
pub(crate) fn alone() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET leaves memory and the descriptor table shared as they are; the wrapper is unsafe for
    // CLONE_FILES.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }?)
}

/// What a program says to a frame that arrives at the loopback interface.
#[cfg(test)]
pub(crate) fn run(program: &OwnedFd, frame: &[u8]) -> io::Result<i32> {
    let mut attributes = RunAttributes {
        program: number(program),
        size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        data_in: address(frame.as_ptr()),
        ..RunAttributes::default()
    };
    // SAFETY: the frame is a slice with its length beside it, which outlives the call; nothing is asked to be written.
    unsafe { bpf(PROGRAM_RUN, &mut attributes) }?;
    Ok(attributes.result.cast_signed())
}
