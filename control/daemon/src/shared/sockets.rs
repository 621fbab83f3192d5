//! Sockets of the host on ports that NAT is to have, and whose they are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use pontoon_proto::privilege;
use rustix::thread::CapabilitySet;

use super::ports::Range;

/// Sockets that are named one by one.
const NAMED: usize = 5;
/// A state of /proc/net/tcp: such a socket only waits for stray segments.
const TIME_WAIT: u8 = 0x06;

/// A socket that would lose its packets to NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) protocol: &'static str,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) port: u16,
    pub(super) inode: u64,
    uid: u32,
}

impl Clash {
    /// Only the host itself reaches it.
    pub(super) fn is_inland(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }
}

/// Sockets of the calling thread's network namespace in a range, by port.
pub(super) fn within((first, last): Range) -> io::Result<Vec<Clash>> {
    let mut found = Vec::new();
    for (file, protocol) in [("tcp", "tcp"), ("udp", "udp"), ("tcp6", "tcp"), ("udp6", "udp")] {
        let text = match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(text) => text,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => continue,
            Err(error) => return Err(error),
        };
        found.extend(text.lines().filter_map(|line| read(line, protocol)));
    }
    found.retain(|clash| (first..=last).contains(&clash.port));
    found.sort_unstable_by_key(|clash| (clash.port, clash.protocol, clash.inode));
    Ok(found)
}

/// One line of /proc/net/tcp or its like; `None` for sockets that no packet reaches by IPv4.
fn read(line: &str, protocol: &'static str) -> Option<Clash> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, uid, _, inode, ..] = words.as_slice() else { return None };
    let (address, port) = local.split_once(':')?;
    if u8::from_str_radix(state, 16).ok()? == TIME_WAIT && protocol == "tcp" {
        return None;
    }
    // Words of 32 bits in the host's order; of IPv6 the last one is the IPv4 address, if it is one.
    let (head, tail) = address.split_at_checked(address.len().checked_sub(8)?)?;
    let tail = Ipv4Addr::from(u32::from_str_radix(tail, 16).ok()?.to_ne_bytes());
    let unspecified = address.bytes().all(|byte| byte == b'0');
    let mapped = head.is_empty() || head == format!("{:016X}{:08X}", 0, 0xffff_u32.to_be());
    if !mapped && !unspecified {
        return None;
    }
    let (port, inode) = (u16::from_str_radix(port, 16).ok()?, inode.parse().ok()?);
    Some(Clash { protocol, address: (!unspecified).then_some(tail), port, inode, uid: uid.parse().ok()? })
}

/// `tcp 61005 of python3 (pid 17)`, and so on.
pub(super) fn name(clashes: &[Clash]) -> String {
    let owners = owners(clashes);
    let one = |clash: &Clash| {
        let place = clash.address.map_or_else(String::new, |address| format!("{address}:"));
        let owner = match owners.get(&clash.inode) {
            Some(owner) => owner.clone(),
            None => format!("a process of uid {}", clash.uid),
        };
        format!("{} {place}{} of {owner}", clash.protocol, clash.port)
    };
    let mut names: Vec<String> = clashes.iter().take(NAMED).map(one).collect();
    if clashes.len() > NAMED {
        names.push(format!("and {} more", clashes.len() - NAMED));
    }
    names.join(", ")
}

/// Names of the processes that hold sockets, by inode.
fn owners(clashes: &[Clash]) -> BTreeMap<u64, String> {
    // Other users' descriptors are seen only with these.
    let more = CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
    privilege::with(more, || Ok(search(clashes))).unwrap_or_default()
}

fn search(clashes: &[Clash]) -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for entry in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Some(inode) = socket(&entry.path()).filter(|inode| clashes.iter().any(|c| c.inode == *inode))
            else {
                continue;
            };
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let name = crate::link::printable(name.trim_end());
            owners.entry(inode).or_insert_with(|| format!("{name} (pid {pid})"));
        }
    }
    owners
}

/// The inode of the socket behind a descriptor.
fn socket(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn lines_are_told_apart() {
        let line = |local: &str, state: &str| {
            format!(
                "  0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000 0 4711 1 x"
            )
        };
        let port = |local: &str, state: &str| read(&line(local, state), "tcp").map(|clash| clash.port);
        assert_eq!(port("00000000:EE48", "0A"), Some(61000));
        let inland = |local: &str| read(&line(local, "0A"), "tcp").map(|clash| clash.is_inland());
        assert_eq!(inland("0100007F:EE48"), Some(true), "127.0.0.1");
        assert_eq!(inland("0000000000000000FFFF00000100007F:EE48"), Some(true), "::ffff:127.0.0.1");
        assert_eq!(inland("00000000:EE48"), Some(false));
        assert_eq!(port("00000000:EE48", "06"), None, "TIME_WAIT");
        assert_eq!(port("00000000000000000000000000000000:EE48", "0A"), Some(61000), "::");
        assert_eq!(port("0000000000000000FFFF0000037100CB:EE48", "01"), Some(61000), "::ffff:203.0.113.3");
        assert_eq!(port("B80D01200000000000000000010000000:EE48", "01"), None, "2001:db8::1");
        assert_eq!(read("  sl  local_address rem_address   st tx_queue", "tcp"), None);
    }

    #[test]
    fn sockets_are_found_with_the_process_that_holds_them() {
        let tcp = TcpListener::bind("0.0.0.0:0").expect("listener");
        let udp = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).expect("socket");
        let inside = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = tcp.local_addr().expect("address").port();
        let found = within((port, port)).expect("sockets");
        assert_eq!(found.len(), 1);
        let said = name(&found);
        assert!(said.starts_with(&format!("tcp {port} of ")), "{said}");
        assert!(said.contains(&format!("(pid {})", std::process::id())), "{said}");
        let port = udp.local_addr().expect("address").port();
        assert!(within((port, port)).expect("sockets").iter().any(|clash| clash.protocol == "udp"));
        let port = inside.local_addr().expect("address").port();
        let found = within((port, port)).expect("sockets");
        assert!(found.iter().all(|clash| clash.protocol == "udp" || clash.is_inland()));
    }
}
