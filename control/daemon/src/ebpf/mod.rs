//! eBPF programs for frames, assembled in the code and loaded as they are, and where they hang.

pub(crate) mod asm;
pub(crate) mod bpf;
pub(crate) mod hook;

use asm::{Assembler, Helper, If, Label, Operation, Register};

/// `TC_ACT_UNSPEC`, `TCX_NEXT`: the next program decides.
pub(crate) const PASS: i32 = -1;
/// `TC_ACT_SHOT`, `TCX_DROP`.
pub(crate) const DROP: i32 = 2;

/// Reads `length` octets of the packet from offset R2 on. The context is in R6.
pub(crate) fn read(code: &mut Assembler, to: i16, length: i32, fail: Label) {
    code.copy(Register::R1, Register::R6);
    on_stack(code, Register::R3, to);
    code.set(Register::R4, length);
    code.call(Helper::LoadBytes);
    code.jump_if(Register::R0, If::Other, 0, fail);
}

/// The address of a place on the stack.
pub(crate) fn on_stack(code: &mut Assembler, register: Register, place: i16) {
    code.copy(register, Register::Frame);
    code.compute(Operation::Add, register, place.into());
}

/// What tests of programs share.
#[cfg(test)]
pub(crate) mod testing {
    use std::io;

    use pontoon_proto::privilege;
    use rustix::thread::CapabilitySet;

    use super::bpf;

    /// Makes something in a network namespace that is this thread's from then on, with no more rights than the daemon has;
    /// `None` where there is no namespace or no eBPF, which is printed.
    pub(crate) fn with_few_rights<T: Send + 'static>(
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        if let Err(error) = bpf::alone() {
            println!("skipped: no network namespace: {error}");
            return None;
        }
        let limited = || {
            crate::sys::drop_capabilities().expect("capabilities");
            privilege::with(CapabilitySet::BPF, make)
        };
        let made = std::thread::spawn(limited).join().expect("thread");
        made.inspect_err(|error| println!("skipped: no eBPF maps: {error}")).ok()
    }

    /// Frames that have left by the loopback interface of this thread's namespace.
    pub(crate) fn copies() -> u64 {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("interfaces");
        let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("lo");
        let words: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        words[9] + words[11]
    }
}
