//! What the kernel says of a process.

use std::fs;

use super::Finding;

/// Capabilities by number.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];
/// What control may have; `control/DESIGN.md` has the reasons.
const CONTROL: [&str; 10] = [
    "net_admin",
    "net_raw",
    "sys_admin",
    "bpf",
    "sys_ptrace",
    "dac_read_search",
    "kill",
    "setuid",
    "setgid",
    "setpcap",
];
const NAMESPACES: [&str; 5] = ["net", "mnt", "pid", "ipc", "uts"];

/// `/proc/PID`, as far as it may be read.
#[derive(Debug, Default)]
pub(super) struct Process {
    status: String,
    namespaces: Vec<Option<String>>,
    /// Files in its root directory.
    files: Option<usize>,
}

impl Process {
    pub(super) fn read(pid: u32) -> Self {
        let link = |name: &&str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        Self {
            status: fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
            namespaces: NAMESPACES
                .iter()
                .map(|name| Some(link(name)?.to_string_lossy().into_owned()))
                .collect(),
            files: fs::read_dir(format!("/proc/{pid}/root/")).ok().map(Iterator::count),
        }
    }

    fn fact(&self, label: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
        line.unwrap_or_default().trim()
    }

    fn capabilities(&self, set: &str) -> Vec<String> {
        let bits = u64::from_str_radix(self.fact(set), 16).unwrap_or(0);
        let name = |bit: usize| NAMES.get(bit).map_or_else(|| bit.to_string(), |name| (*name).to_owned());
        (0..64).filter(|bit| bits >> bit & 1 == 1).map(name).collect()
    }

    fn user(&self) -> String {
        self.fact("Uid").split_whitespace().nth(1).unwrap_or("?").to_owned()
    }

    pub(super) fn control(&self) -> Vec<Finding> {
        let permitted = self.capabilities("CapPrm");
        let beyond: Vec<_> = permitted.iter().filter(|name| !CONTROL.contains(&name.as_str())).collect();
        let all = permitted.join(" ");
        vec![
            Finding::good("user", self.user()),
            Finding::good("capabilities in force", self.capabilities("CapEff").join(" ")),
            if beyond.is_empty() {
                Finding::good("capabilities at hand", all)
            } else {
                Finding::bad("capabilities at hand", all, format!("it has no use for {beyond:?}"))
            },
            self.new_privileges(),
        ]
    }

    fn new_privileges(&self) -> Finding {
        let holds = self.fact("NoNewPrivs") == "1";
        Finding::check("no new privileges", holds, ["set", "not set"], "a daemon of an older version?")
    }

    /// What is between this process and the rest; `control` is the one that started it.
    pub(super) fn datapath(&self, control: &Self) -> Vec<Finding> {
        let user = self.user();
        let groups = self.fact("Groups");
        let capabilities: Vec<_> = ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"]
            .into_iter()
            .flat_map(|set| self.capabilities(set))
            .collect();
        vec![
            Finding::check("user", user != "0", [&user, &user], "root's files are within its reach"),
            Finding::check("groups", groups.is_empty(), ["none", groups], "they should be none"),
            Finding::check(
                "capabilities",
                capabilities.is_empty(),
                ["none", &capabilities.join(" ")],
                "they should be none",
            ),
            self.new_privileges(),
            Finding::check(
                "system calls",
                self.fact("Seccomp") == "2",
                ["filtered", "all"],
                "the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)",
            ),
            self.apart_from(control),
            match self.files {
                Some(0) => Finding::good("files", "none in sight"),
                Some(count) => {
                    Finding::bad("files", format!("{count} in its root directory"), "they should be none")
                }
                None => Finding::good("files", "only root can tell"),
            },
        ]
    }

    fn apart_from(&self, control: &Self) -> Finding {
        const WHAT: &str = "namespaces of its own";
        if self.namespaces.iter().chain(&control.namespaces).any(Option::is_none) {
            return Finding::good(WHAT, "only root can tell");
        }
        let pairs = || NAMESPACES.iter().zip(self.namespaces.iter().zip(&control.namespaces));
        let pick = |own: bool| {
            let named = pairs().filter(|(_, (ours, theirs))| (ours != theirs) == own);
            named.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
        };
        let shared = pick(false);
        if shared.is_empty() {
            Finding::good(WHAT, pick(true))
        } else {
            Finding::bad(WHAT, pick(true), format!("it shares with control: {shared}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(status: &str, namespace: &str) -> Process {
        let namespaces = vec![Some(namespace.to_owned()); NAMESPACES.len()];
        Process { status: status.to_owned(), namespaces, files: Some(0) }
    }

    fn ill(findings: &[Finding]) -> Vec<&str> {
        findings.iter().filter(|found| found.advice.is_some()).map(|found| found.what).collect()
    }

    #[test]
    fn a_datapath_is_held_against_what_it_should_be() {
        let control = process("Uid:\t0\t0\t0\t0\nCapPrm:\t00000080002831e4\nNoNewPrivs:\t1\n", "a");
        assert_eq!(ill(&control.control()), [""; 0]);
        let well = "Uid:\t9\t9\t9\t9\nGroups:\t\nCapEff:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        assert_eq!(ill(&process(well, "b").datapath(&control)), [""; 0]);
        let bad = "Uid:\t0\t0\t0\t0\nGroups:\t4 5 \nCapBnd:\t0000000000000001\nNoNewPrivs:\t0\nSeccomp:\t0\n";
        let found = process(bad, "a").datapath(&control);
        let expected =
            ["user", "groups", "capabilities", "no new privileges", "system calls", "namespaces of its own"];
        assert_eq!(ill(&found), expected);
        assert_eq!(found.get(2).map(|found| found.value.as_str()), Some("chown"));
    }

    #[test]
    fn a_capability_control_has_no_use_for_is_named() {
        let found = process("CapPrm:\t0000000000000003\nNoNewPrivs:\t1\n", "a").control();
        assert_eq!(ill(&found), ["capabilities at hand"]);
    }
}
