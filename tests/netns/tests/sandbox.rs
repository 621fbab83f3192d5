//! What a datapath that was taken over could do: nothing but forward.

use std::collections::BTreeSet;
use std::ffi::{CString, c_long};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use pontoon_datapath::sandbox::filter::{self, RULES, Rule};
use pontoon_datapath::sandbox::{Mode, Sandbox};
use pontoon_netns_tests::{Plug, Proc, Setup, World, bound_address, door, until, xml};
use rustix::process::{Pid, Signal, kill_process};

const MAC1: &str = "52:54:00:d7:8d:61";
const MAC2: &str = "52:54:00:c6:3c:03";
const NAMESPACES: [&str; 5] = ["net", "mnt", "pid", "ipc", "uts"];

/// Checks facts of every thread of a process; how many there are.
fn all_threads(pid: u32, expected: &[(&str, &str)]) -> usize {
    let mut count = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs").flatten() {
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let fact = |label: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(label));
            line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for (label, value) in expected {
            assert_eq!(fact(label), *value, "{label} of {}", fact("Name:"));
        }
        count += 1;
    }
    count
}

fn namespace(pid: u32, which: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{which}")).expect("namespace");
    link.to_string_lossy().into_owned()
}

/// Nobody, nowhere, with nothing.
fn has_no_power(world: &mut World) {
    const NONE: &str = "0000000000000000";
    let daemon = world.daemon_pid();
    let pids = world.datapaths();
    let &[pid] = pids.as_slice() else { panic!("one datapath, not {pids:?}") };
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|set| (set, NONE));
    let nobody = "65534 65534 65534 65534";
    let rest = [("NoNewPrivs:", "1"), ("Seccomp:", "2"), ("Uid:", nobody), ("Gid:", nobody), ("Groups:", "")];
    let threads = all_threads(pid, &[&sets[..], &rest].concat());
    assert!(threads >= 2, "{threads} threads");
    for which in NAMESPACES {
        assert_ne!(namespace(pid, which), namespace(daemon, which), "{which}");
    }
    let root = fs::read_dir(format!("/proc/{pid}/root")).expect("root directory");
    assert_eq!(root.count(), 0, "files in the datapath's root directory");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("mounts");
    assert!(mounts.lines().count() == 1 && mounts.contains(" / tmpfs ro,"), "{mounts}");
}

#[test]
fn the_datapath_has_no_power() {
    let setup = Setup { workers: 2, daemon_options: &["--sandbox", "strict"], ..Setup::default() };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    has_no_power(&mut world);
    assert!(!world.daemon_log().contains("lacks"), "{}", world.daemon_log());
}

#[test]
fn control_keeps_only_the_capabilities_it_needs() {
    let Some(mut world) = World::new(&Setup { tools: &["ping"], ..Setup::default() }) else { return };
    world.start_network("natntw", &xml::natntw());
    let address = world.guest("g1", "natntw", "eth0", MAC1);
    // In force CAP_NET_ADMIN and CAP_NET_RAW; to be raised CAP_SYS_ADMIN for namespaces, CAP_BPF for programs,
    // CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH for whose a socket is, CAP_KILL for a datapath that does not end; and what a
    // datapath needs to become nobody: CAP_SETUID, CAP_SETGID, CAP_SETPCAP.
    let sets = [
        ("CapEff:", "0000000000003000"),
        ("CapPrm:", "00000080002831e4"),
        ("CapBnd:", "00000080002831e4"),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
    ];
    assert!(all_threads(world.daemon_pid(), &sets) >= 2);
    assert!(world.pings("host", &address));
}

/// A call no datapath may make, and arguments with which it would do harm or nothing.
struct Forbidden {
    name: &'static str,
    number: c_long,
    arguments: [c_long; 4],
}

macro_rules! forbidden {
    ($($name:ident($($argument:expr),*);)*) => {
        vec![$({
            let mut arguments = [0; 4];
            let given: &[c_long] = &[$($argument as c_long),*];
            arguments.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
            Forbidden { name: stringify!($name), number: libc::$name as c_long, arguments }
        }),*]
    };
}

/// What is not in the list at all, and what is with other arguments.
fn forbidden() -> Vec<Forbidden> {
    let exec = libc::PROT_READ | libc::PROT_EXEC;
    let (inet, raw, packet) = (libc::AF_INET, libc::SOCK_RAW, libc::AF_PACKET);
    let socket = libc::SOL_SOCKET;
    let mut calls = forbidden![
        SYS_openat(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_WRONLY);
        SYS_openat(libc::AT_FDCWD, c"/dev/null".as_ptr(), libc::O_RDWR);
        SYS_openat(libc::AT_FDCWD, c"/tmp/x".as_ptr(), libc::O_CREAT, 0o600);
        SYS_openat2(libc::AT_FDCWD, c"/etc/passwd".as_ptr());
        SYS_open_by_handle_at(libc::AT_FDCWD);
        SYS_execve(c"/bin/true".as_ptr());
        SYS_execveat(libc::AT_FDCWD, c"/bin/true".as_ptr());
        SYS_socket(inet, libc::SOCK_DGRAM, 0);
        SYS_socket(packet, raw, 0);
        SYS_connect(0);
        SYS_bind(0);
        SYS_ptrace(libc::PTRACE_TRACEME);
        SYS_process_vm_readv(1);
        SYS_process_vm_writev(1);
        SYS_kill(0, 0);
        SYS_tkill(1, libc::SIGTERM);
        SYS_tgkill(1, 1, libc::SIGTERM);
        SYS_pidfd_open(1);
        SYS_pidfd_getfd(0);
        SYS_setuid(0);
        SYS_setresuid(0, 0, 0);
        SYS_setgroups(0);
        SYS_capset(0);
        SYS_unshare(libc::CLONE_NEWUSER);
        SYS_setns(0, 0);
        SYS_mount(0);
        SYS_umount2(c"/".as_ptr(), libc::MNT_DETACH);
        SYS_pivot_root(c"/".as_ptr(), c"/".as_ptr());
        SYS_chroot(c"/".as_ptr());
        SYS_chdir(c"/".as_ptr());
        SYS_bpf(0);
        SYS_perf_event_open(0);
        SYS_io_uring_setup(1);
        SYS_userfaultfd(0);
        SYS_memfd_create(c"x".as_ptr());
        SYS_init_module(0);
        SYS_finit_module(-1);
        SYS_kexec_load(0);
        SYS_add_key(0);
        SYS_keyctl(0);
        SYS_personality(0);
        SYS_seccomp(0);
        SYS_landlock_create_ruleset(0);
        SYS_sethostname(c"x".as_ptr(), 1);
        SYS_shmget(0);
        SYS_ioctl(0, libc::TUNSETIFF);
        SYS_ioctl(0, libc::TUNSETPERSIST, 1);
        SYS_ioctl(0, libc::TUNATTACHFILTER);
        SYS_ioctl(0, libc::SIOCSIFADDR);
        SYS_ioctl(0, libc::TIOCSTI);
        SYS_mmap(0, 4096, exec, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        SYS_mprotect(0, 4096, exec);
        SYS_pkey_mprotect(0, 4096, exec);
        SYS_prctl(libc::PR_SET_DUMPABLE, 1);
        SYS_prctl(libc::PR_SET_SECCOMP, 0);
        SYS_fcntl(0, libc::F_SETOWN, 1);
        SYS_fcntl(0, libc::F_SETLEASE, 0);
        SYS_getsockopt(0, libc::SOL_TCP, 1);
        SYS_setsockopt(0, socket, libc::SO_ATTACH_FILTER);
        SYS_setsockopt(0, socket, libc::SO_BINDTODEVICE);
        SYS_setsockopt(0, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
        SYS_clone(libc::SIGCHLD);
        SYS_clone(libc::CLONE_NEWUSER | libc::SIGCHLD);
        SYS_rt_sigaction(libc::SIGTERM);
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend(forbidden![
        SYS_open(c"/etc/passwd".as_ptr());
        SYS_fork();
        SYS_vfork();
        SYS_iopl(3);
        SYS_modify_ldt(0);
    ]);
    // Numbers of the 32-bit ABI beside: read, there.
    #[cfg(target_arch = "x86_64")]
    calls.push(Forbidden { name: "x32 read", number: 0x4000_0000, arguments: [0; 4] });
    calls
}

const CALL_ENV: &str = "PONTOON_FORBIDDEN_CALL";

/// Not a test: the hostile datapath. It has the datapath's filter and makes the call it is told.
#[test]
#[ignore = "run by the test that counts its deaths"]
fn hostile() {
    let Ok(index) = std::env::var(CALL_ENV) else { return };
    let calls = forbidden();
    let call = calls.get(index.parse::<usize>().expect("a number")).expect("such a call");
    let [a, b, c, d] = call.arguments;
    filter::apply(false).expect("the filter");
    let read = std::fs::File::open("/etc/passwd").expect_err("the C library is told that there are no files");
    assert_eq!(read.raw_os_error(), Some(libc::ENOSYS));
    // SAFETY: if the filter failed, the arguments are numbers or strings that live on; no call writes where they point.
    let result = unsafe { libc::syscall(call.number, a, b, c, d, -1, 0) };
    println!("{} returned {result}", call.name);
    std::process::exit(0);
}

#[test]
fn a_hostile_datapath_dies_of_every_call_it_has_no_use_for() {
    let this = std::env::current_exe().expect("this test");
    let mut survived = Vec::new();
    let calls = forbidden();
    for (index, call) in calls.iter().enumerate() {
        let output = Command::new(&this)
            .args(["--exact", "hostile", "--ignored", "--nocapture"])
            .env(CALL_ENV, index.to_string())
            .output()
            .expect("this test, once more");
        if output.status.signal() != Some(libc::SIGSYS) {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            survived.push(format!("{} {:?}: {} {said}", call.name, call.arguments, output.status));
        }
    }
    assert!(survived.is_empty(), "{survived:#?}");
    println!("{} forbidden calls, each ended the process", calls.len());
}

/// The other walls hold without the filter, which here only writes down what it sees.
#[test]
fn a_datapath_whose_filter_failed_reaches_nothing_either() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let sandbox = Sandbox { mode: Mode::Log, ..Sandbox::default() };
    let errors = std::thread::spawn(move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("before");
        sandbox.enter().expect("entered");
        let path = CString::new("/").expect("text");
        let call = |number: c_long, a: c_long, b: c_long, c: c_long| {
            // SAFETY: all pointers among the arguments are to strings that outlive the call.
            let result = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
            if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
        };
        let tun = std::fs::OpenOptions::new().write(true).open("/dev/net/tun");
        let network = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|fresh| fresh.connect("192.0.2.1:9"));
        drop(socket);
        [
            ("a file", std::fs::read("/etc/passwd").map(drop).map_err(|e| e.raw_os_error())),
            ("the root directory", std::fs::read_dir("/").map(drop).map_err(|e| e.raw_os_error())),
            ("a tap", tun.map(drop).map_err(|e| e.raw_os_error())),
            ("the network", network.map_err(|e| e.raw_os_error())),
        ]
        .map(|(what, result)| (what, result.is_err()))
        .into_iter()
        .chain([
            (
                "frames",
                call(libc::SYS_socket, libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0) == libc::EPERM,
            ),
            ("root", call(libc::SYS_setuid, 0, 0, 0) == libc::EPERM),
            ("another root directory", call(libc::SYS_chroot, path.as_ptr() as c_long, 0, 0) == libc::EPERM),
            ("a parent process", call(libc::SYS_kill, std::os::unix::process::parent_id().into(), 0, 0) != 0),
        ])
        .collect::<Vec<_>>()
    });
    for (what, refused) in errors.join().expect("thread") {
        assert!(refused, "{what}");
    }
}

/// Names of the calls in strace's lines of these threads; of the first, which starts the others, only what comes behind
/// the last filter it puts over itself.
fn calls_of(trace: &str, main: u32, threads: &BTreeSet<u32>) -> BTreeSet<String> {
    let mut filters = 0;
    let mut used = BTreeSet::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Ok(thread) = thread.parse::<u32>() else { continue };
        let rest = rest.trim_start();
        if thread == main && rest.starts_with("seccomp(SECCOMP_SET_MODE_FILTER") {
            filters += 1;
            continue;
        }
        if thread == main && filters < FILTERS || !threads.contains(&thread) {
            continue;
        }
        // "futex(..." and "<... futex resumed>".
        let name = rest.strip_prefix("<... ").unwrap_or(rest);
        let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        // Neither "+++ exited with 0 +++".
        if !name.is_empty() {
            used.insert(name.to_owned());
        }
    }
    assert_eq!(filters, FILTERS, "the trace begins before the datapath has its filters");
    used
}

/// Filters a datapath has.
const FILTERS: usize = 2;

fn threads_of(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// An ordinary life under strace: born, a lease, names, frames, a guest on a socket, another control, the end.
#[test]
fn every_rule_has_its_use() {
    let setup = Setup {
        workers: 2,
        unjudged: true,
        tools: &["strace", "ping", "dig", "ethtool"],
        ..Setup::default()
    };
    let Some(mut world) = World::new(&setup) else { return };
    world.start_network("natntw", &xml::natntw());
    let trace = world.path("trace");
    let (file, daemon) = (trace.to_string_lossy().into_owned(), world.daemon_pid().to_string());
    let mut strace = Proc::start(&["strace", "-f", "-o", &file, "-p", &daemon], &world.path("strace.log"));
    strace.wait_said("attached", 20);
    let before = world.datapaths();
    for pid in before.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
        kill_process(pid, Signal::KILL).expect("kill");
    }
    let pid = until("another datapath runs", 20, || {
        let now = world.datapaths();
        now.into_iter().find(|pid| !before.contains(pid))
    });
    let mut threads = BTreeSet::from([pid]);
    let _ = world.guest("g1", "natntw", "eth0", MAC1);
    assert!(world.pings("g1", "203.0.113.80"));
    for words in [&["+short", "A", "www.example"][..], &["+short", "+tcp", "A", "www.example"]] {
        let _ = world.exec("g1", &[&["dig", "@192.168.100.1", "+time=5"], words].concat());
    }
    world.add_namespace("g3");
    world.add_plug("g3", "eth0", MAC2);
    let plug = Plug::connect(&world.ns("g3"), "eth0", &door(&world, "natntw"));
    let mut client = world.udhcpc("g3", "eth0");
    let _ = bound_address(&mut client);
    drop((client, plug));
    threads.extend(threads_of(pid));
    world.stop_daemon(Signal::KILL);
    world.start_daemon();
    assert_eq!(world.datapaths(), [pid], "taken over");
    threads.extend(threads_of(pid));
    world.stop_daemon(Signal::TERM);
    strace.wait(20);

    let used = calls_of(&fs::read_to_string(&trace).expect("trace"), pid, &threads);
    let name = |rule: &Rule| rule.name.trim_start_matches("SYS_").to_owned();
    let unlisted: Vec<_> =
        used.iter().filter(|call| !RULES.iter().any(|rule| name(rule) == **call)).collect();
    assert!(unlisted.is_empty(), "{unlisted:?} were made and are not in the list");
    let (rare, common): (Vec<_>, Vec<_>) = RULES.iter().partition(|rule| rule.rare);
    let unused: Vec<_> = common.into_iter().map(name).filter(|call| !used.contains(call)).collect();
    assert!(unused.is_empty(), "{unused:?}: nothing needs these rules, or they are rare");
    let seen: Vec<_> = rare.into_iter().map(name).filter(|call| used.contains(call)).collect();
    println!("{} calls seen of {} listed; of the rare ones {seen:?}", used.len(), RULES.len());
}
