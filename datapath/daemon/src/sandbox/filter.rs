//! The system calls the datapath may make, and who needs each. Any other ends the process with `SIGSYS`.
//!
//! Calls of the fast path are allowed whatever their arguments are: the kernel remembers those and runs no filter for them.
//! Numbers in conditions are 32 bits wide where the kernel looks at no more. A call that no part of the test's workload
//! makes is marked `rare`; `tests/netns/tests/sandbox.rs` holds both marks against what a running datapath does.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// A call and when it is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// As the kernel's headers have it: `SYS_read`.
    pub name: &'static str,
    pub number: i64,
    pub when: When,
    /// Not seen in ordinary life.
    pub rare: bool,
}

/// What arguments have to be.
#[derive(Clone, Copy, Debug)]
pub enum When {
    Always,
    /// This argument is one of these.
    Is(u8, &'static [u64]),
    /// This argument has none of these bits.
    Without(u8, u64),
    /// The second and third are such a pair: level and option of a socket.
    Option(&'static [(i32, i32)]),
    /// The first is this process and the third this signal.
    Own(u64),
    /// It fails as if the kernel did not have it.
    Missing,
    /// The same where this argument has none of these bits.
    MissingWithout(u8, u64),
}

use When::{Always, Is, Missing, MissingWithout, Option, Own, Without};

macro_rules! call {
    ($name:ident, $when:expr) => {
        Rule { name: stringify!($name), number: libc::$name as i64, when: $when, rare: false }
    };
    ($name:ident, $when:expr, rare) => {
        Rule { name: stringify!($name), number: libc::$name as i64, when: $when, rare: true }
    };
}

const EXEC: u64 = libc::PROT_EXEC as u64;
/// Everything but reading what is there.
const CHANGES: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
/// As the C library starts threads; nothing else is a thread.
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;

pub static RULES: &[Rule] = &[
    // -- Frames. Workers read and write taps and eventfds with these,
    call!(SYS_read, Always),
    call!(SYS_write, Always),
    call!(SYS_writev, Always),
    // packet sockets, stream and datagram ports, resolvers, vhost-user front-ends and control with these.
    call!(SYS_recvfrom, Always),
    call!(SYS_sendto, Always),
    call!(SYS_recvmsg, Always),
    call!(SYS_sendmsg, Always),
    call!(SYS_recvmmsg, Always, rare),
    call!(SYS_sendmmsg, Always, rare),
    // Empties a call descriptor that a guest has filled, without waiting.
    call!(SYS_preadv2, Always, rare),
    // -- Waiting: workers and the vhost-user thread in epoll (the second is for times that do not fit the first),
    call!(SYS_epoll_pwait, Always),
    call!(SYS_epoll_pwait2, Always, rare),
    call!(SYS_epoll_ctl, Always),
    // whether a call descriptor is full,
    call!(SYS_ppoll, Always, rare),
    // channels and locks between threads,
    call!(SYS_futex, Always),
    // frames that gather (`pace.rs`), and channels that try again.
    call!(SYS_clock_nanosleep, Always, rare),
    call!(SYS_nanosleep, Always, rare),
    call!(SYS_sched_yield, Always, rare),
    // A process that was stopped goes on waiting.
    call!(SYS_restart_syscall, Always, rare),
    // Where the clock cannot be read without the kernel.
    call!(SYS_clock_gettime, Always, rare),
    // -- Descriptors: a port's that came and went, flags of one, copies of one.
    call!(SYS_close, Always),
    call!(
        SYS_fcntl,
        Is(
            1,
            &[
                libc::F_DUPFD_CLOEXEC as u64,
                libc::F_GETFD as u64,
                libc::F_SETFD as u64,
                libc::F_GETFL as u64,
                libc::F_SETFL as u64,
            ]
        )
    ),
    // The only request there is: std makes a connection blocking by it. Not those of taps (TUNSETIFF, TUNSETPERSIST).
    call!(SYS_ioctl, Is(1, &[libc::FIONBIO]), rare),
    // Epoll sets and eventfds of threads, made behind the filter.
    call!(SYS_epoll_create1, Always),
    call!(SYS_eventfd2, Always),
    // -- Connections of controls: the next one, who it is, its end.
    call!(SYS_accept4, Always),
    call!(SYS_shutdown, Always, rare),
    // Who connects; how a packet socket and a stream port are set up.
    call!(
        SYS_getsockopt,
        Option(&[
            (libc::SOL_SOCKET, libc::SO_PEERCRED),
            (libc::SOL_SOCKET, libc::SO_SNDBUF),
            (libc::SOL_PACKET, libc::PACKET_VNET_HDR),
            (libc::SOL_PACKET, pontoon_ports::sys::PACKET_VNET_HDR_SZ),
        ])
    ),
    // How long DNS over TCP and a control that does not read are waited for.
    call!(
        SYS_setsockopt,
        Option(&[(libc::SOL_SOCKET, libc::SO_RCVTIMEO), (libc::SOL_SOCKET, libc::SO_SNDTIMEO)])
    ),
    // -- Leases, on disk before they are acknowledged.
    call!(SYS_fdatasync, Always),
    // -- Memory: session tables, guests' memory, threads' stacks, the heap. None of it can be run.
    call!(SYS_mmap, Without(2, EXEC)),
    call!(SYS_mprotect, Without(2, EXEC)),
    call!(SYS_munmap, Always),
    call!(SYS_mremap, Always, rare),
    call!(SYS_madvise, Always),
    call!(SYS_brk, Always),
    // How long a memory file is.
    call!(SYS_fstat, Always),
    // -- Threads: workers at the start, one for each DNS exchange over TCP. The C library tries clone3 first, whose
    // flags no filter can see.
    call!(SYS_clone3, Missing),
    call!(SYS_clone, Is(0, &[THREAD])),
    call!(SYS_set_robust_list, Always),
    call!(SYS_rseq, Always),
    // Their names, and how exactly those wake for whose frames gather (`pace.rs`).
    call!(SYS_prctl, Is(0, &[libc::PR_SET_NAME as u64, libc::PR_SET_TIMERSLACK as u64])),
    call!(SYS_sigaltstack, Always),
    call!(SYS_rt_sigprocmask, Always),
    // Where a thread's stack is, as the C library finds out.
    call!(SYS_sched_getaffinity, Always),
    call!(SYS_gettid, Always, rare),
    call!(SYS_exit, Always),
    call!(SYS_exit_group, Always),
    // -- What the C library tries to read when the heaps of threads grow and shrink (`/sys/devices/system/cpu/online`,
    // `/proc/sys/vm/overcommit_memory`): it does without. There is no file to read anyway.
    call!(SYS_openat, MissingWithout(2, CHANGES), rare),
    // -- Seeds of hash tables.
    call!(SYS_getrandom, Always, rare),
    // -- Faults: memory that a guest took away (`SIGBUS`), and the process's own end (`abort`, a full stack).
    call!(SYS_rt_sigaction, Is(0, &[libc::SIGBUS as u64, libc::SIGABRT as u64, libc::SIGSEGV as u64]), rare),
    call!(SYS_rt_sigreturn, Always, rare),
    call!(SYS_getpid, Always, rare),
    call!(SYS_tgkill, Own(libc::SIGABRT as u64), rare),
];

/// Puts the filter over the calling thread and those it starts; `log` only writes down what it would not allow.
///
/// # Errors
/// The kernel's.
pub fn apply(log: bool) -> io::Result<()> {
    let otherwise = if log { SeccompAction::Log } else { SeccompAction::KillProcess };
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    // Of two filters the stricter answer counts.
    let absent = RULES.iter().filter(|rule| matches!(rule.when, Missing | MissingWithout(..)));
    let absent = program(absent, SeccompAction::Allow, missing)?;
    let listed = program(RULES.iter(), otherwise, SeccompAction::Allow)?;
    for filter in [absent, listed] {
        seccompiler::apply_filter(&filter).map_err(io::Error::other)?;
    }
    Ok(())
}

fn program<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> io::Result<BpfProgram> {
    let own = u64::from(std::process::id());
    let mut table = BTreeMap::new();
    for rule in rules {
        table.insert(rule.number, alternatives(&rule.when, own).map_err(io::Error::other)?);
    }
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(table, otherwise, listed, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// Sets of conditions of which one has to hold; none is always.
fn alternatives(when: &When, own: u64) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let is = |index: u8, value: u64| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value & u64::from(u32::MAX))
    };
    match *when {
        Always | Missing => Ok(Vec::new()),
        Is(index, values) => values.iter().map(|value| SeccompRule::new(vec![is(index, *value)?])).collect(),
        Without(index, bits) | MissingWithout(index, bits) => {
            let none = SeccompCmpOp::MaskedEq(bits);
            let condition = SeccompCondition::new(index, SeccompCmpArgLen::Qword, none, 0)?;
            Ok(vec![SeccompRule::new(vec![condition])?])
        }
        Option(pairs) => {
            let pair = |(level, option): &(i32, i32)| {
                SeccompRule::new(vec![
                    is(1, level.cast_unsigned().into())?,
                    is(2, option.cast_unsigned().into())?,
                ])
            };
            pairs.iter().map(pair).collect()
        }
        Own(signal) => Ok(vec![SeccompRule::new(vec![is(0, own)?, is(2, signal)?])?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice() {
        let mut numbers: Vec<i64> = RULES.iter().map(|rule| rule.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), RULES.len());
    }
}
