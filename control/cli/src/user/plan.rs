//! Addresses of the network, chosen so that nothing the host reaches is hidden.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;
use pontoon_user::{Config, Limits};
use serde::{Deserialize, Serialize};

/// Candidates, in the order they are tried.
const SUBNETS: [[u8; 3]; 5] = [[10, 0, 2], [10, 78, 2], [172, 31, 252], [192, 168, 252], [198, 18, 2]];
/// As many as glibc asks.
const RESOLVERS: usize = 3;
const FIRST_RESOLVER: u8 = 53;

/// What the process in the namespaces is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) gateway: Ipv4Addr,
    pub(super) mtu: u16,
    pub(super) device: String,
    /// Addresses inside, and the host's resolver each stands for.
    resolvers: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Lines of the host's resolv.conf that name no server.
    words: Vec<String>,
}

impl Plan {
    pub(super) fn of_host(mtu: u16, device: &str) -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let plan = Self::new(&read("/proc/net/route"), &read("/etc/resolv.conf"), mtu, device);
        plan.ok_or_else(|| anyhow::anyhow!("the host uses every subnet that could be used inside"))
    }

    fn new(routes: &str, resolv_conf: &str, mtu: u16, device: &str) -> Option<Self> {
        let used = subnets(routes);
        let free = |[a, b, c]: &[u8; 3]| {
            let subnet = Ipv4Net::new_assert(Ipv4Addr::new(*a, *b, *c, 0), 24);
            !used.iter().any(|net| net.contains(&subnet) || subnet.contains(net))
        };
        let [a, b, c] = SUBNETS.into_iter().find(free)?;
        let at = |last| Ipv4Addr::new(a, b, c, last);
        let servers = servers(resolv_conf).into_iter().take(RESOLVERS);
        Some(Self {
            address: at(2),
            prefix: 24,
            gateway: at(1),
            mtu,
            device: device.to_owned(),
            resolvers: (FIRST_RESOLVER..).map(at).zip(servers).collect(),
            words: words(resolv_conf),
        })
    }

    pub(super) fn config(&self, limits: Limits) -> Config {
        let resolver = |(inside, outside): &(Ipv4Addr, Ipv4Addr)| (*inside, SocketAddrV4::new(*outside, 53));
        Config {
            gateway: self.gateway,
            resolvers: self.resolvers.iter().map(resolver).collect(),
            mtu: self.mtu,
            limits,
            loopback: false,
        }
    }

    /// The file inside; `None` when the host has no resolver that can be asked.
    pub(super) fn resolv_conf(&self) -> Option<String> {
        let servers = self.resolvers.iter().map(|(inside, _)| format!("nameserver {inside}\n"));
        let words = self.words.iter().map(|line| format!("{line}\n"));
        (!self.resolvers.is_empty()).then(|| servers.chain(words).collect())
    }
}

/// Subnets of `/proc/net/route`, but for the default route.
fn subnets(routes: &str) -> Vec<Ipv4Net> {
    let of_line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let word = |at: usize| u32::from_str_radix(columns.get(at)?, 16).ok().map(u32::swap_bytes);
        let (net, mask) = (word(1)?, word(7)?);
        Ipv4Net::with_netmask(net.into(), mask.into()).ok().filter(|net| net.prefix_len() > 0)
    };
    routes.lines().skip(1).filter_map(of_line).collect()
}

fn servers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses
        .filter_map(|address| if let IpAddr::V4(address) = address { Some(address) } else { None })
        .collect()
}

fn words(resolv_conf: &str) -> Vec<String> {
    let wanted = |line: &&str| ["search ", "domain ", "options "].iter().any(|word| line.starts_with(word));
    resolv_conf.lines().map(str::trim).filter(wanted).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        eth1\t00004E0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn subnets_of_the_host_are_left_alone() {
        let plan = |routes| Plan::new(routes, "", 1500, "eth0").expect("a plan").gateway;
        assert_eq!(plan(""), Ipv4Addr::new(10, 0, 2, 1));
        assert_eq!(plan(ROUTES), Ipv4Addr::new(172, 31, 252, 1));
    }

    #[test]
    fn every_resolver_of_the_host_has_an_address_inside() {
        let host =
            "# by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\n";
        let plan = Plan::new("", host, 1500, "eth0").expect("a plan");
        let inside = plan.resolv_conf().expect("resolvers");
        assert_eq!(inside, "nameserver 10.0.2.53\nnameserver 10.0.2.54\nsearch example.org\n");
        let config = plan.config(Limits::default());
        assert_eq!(config.resolvers[1].1, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 53));
        assert_eq!(Plan::new("", "", 1500, "eth0").expect("a plan").resolv_conf(), None);
    }
}
