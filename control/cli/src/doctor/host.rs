//! What this host has of what pontoon can use.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use super::Finding;
use crate::lab::sys;

pub(super) fn look() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let kernel = version(release);
    vec![
        Finding::good("kernel", release),
        tun(),
        landlock(sys::landlock_abi()),
        seccomp(&fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default()),
        Finding::good("user namespaces", users()),
        since(kernel, (6, 6), "programs on uplinks", ["tcx", "clsact: tcx is there from Linux 6.6 on"]),
        since(kernel, (6, 2), "UDP super-frames", ["yes", "no: from Linux 6.2 on"]),
    ]
}

fn tun() -> Finding {
    let there = fs::metadata("/dev/net/tun").is_ok_and(|data| data.file_type().is_char_device());
    Finding::check("/dev/net/tun", there, ["there", "not there"], "modprobe tun; in a container, pass it in")
}

fn landlock(abi: Option<i32>) -> Finding {
    match abi {
        Some(abi) => Finding::good("Landlock", format!("ABI {abi}")),
        None => Finding::bad("Landlock", "none", "Linux 5.13 and newer have it; add it to lsm= if it is off"),
    }
}

fn seccomp(actions: &str) -> Finding {
    let there = actions.split_whitespace().any(|action| action == "kill_process");
    Finding::check("seccomp", there, ["yes", "no"], "the kernel was built without CONFIG_SECCOMP_FILTER")
}

/// Needed by nobody but a daemon that is not root, and `run --user`.
fn users() -> String {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let denied = |what: &str| format!("not for everybody ({what})");
    match number("/proc/sys/user/max_user_namespaces") {
        None => "no".to_owned(),
        Some(0) => denied("user.max_user_namespaces=0"),
        _ if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) => {
            denied("kernel.unprivileged_userns_clone=0")
        }
        _ if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) => {
            denied("kernel.apparmor_restrict_unprivileged_userns=1")
        }
        _ => "for everybody".to_owned(),
    }
}

fn since(kernel: (u32, u32), first: (u32, u32), what: &'static str, [has, lacks]: [&str; 2]) -> Finding {
    Finding::good(what, if kernel >= first { has } else { lacks })
}

/// The first two numbers of a release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!((version("6.18.44-x"), version("5.4"), version("")), ((6, 18), (5, 4), (0, 0)));
        assert!(since(version("6.10.1"), (6, 6), "w", ["has", "lacks"]).value == "has");
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(landlock(None).advice.is_some() && landlock(Some(7)).advice.is_none());
        assert!(seccomp("kill_thread log").advice.is_some() && seccomp("kill_process log").advice.is_none());
    }
}
