//! Subnets in use, and those that are free.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use pontoon_netxml::Network;
use pontoon_proto::api::Failure;

use crate::document;
use crate::failure::{Answer, fail_help, internal, operation};
use crate::known::Known;
use crate::live::LiveNetwork;
use crate::netlink;

/// A subnet and what uses it, `interface virbr0` or `network 'default'`.
struct Used {
    by: String,
    net: Ipv4Net,
}

impl Known {
    //= RFC4787#REQ-7
    /// Refuses a subnet the host or an active network uses already, and names one that is free; and routes to one.
    pub(crate) fn check_subnet(&self, network: &Network) -> Answer<()> {
        let used = self.used_now(&network.name)?;
        for route in document::routes(network) {
            if let Some(other) = used.iter().find(|used| used.net.trunc() == route.destination) {
                let address = route.destination.addr();
                let text = format!("Route address '{address}' conflicts with IP address for '{}'", other.by);
                return Err(internal(text));
            }
        }
        let clash = self.clash(network, used);
        clash.map_or(Ok(()), |clash| Err(clash.refusal(&network.name)))
    }

    /// What to say of a subnet that the host or another network uses, at define time: it can still be changed.
    pub(crate) fn subnet_warning(&self, network: &Network) -> Option<String> {
        let mut used = self.used_now(&network.name).ok()?;
        let others = self.defined.values().filter(|other| other.name != network.name);
        used.extend(others.flat_map(|other| {
            let by = format!("network '{}'", other.name);
            subnets(other).map(move |net| Used { by: by.clone(), net })
        }));
        self.clash(network, used).map(|clash| clash.warning(&network.name))
    }

    pub(crate) fn free_subnet(&self) -> Answer<Ipv4Net> {
        let used: Vec<Ipv4Net> = self.used_now("")?.into_iter().map(|used| used.net).collect();
        self.first_free(&used).ok_or_else(|| operation("no subnet is free"))
    }

    /// What the host and active networks use, but for one network.
    fn used_now(&self, except: &str) -> Answer<Vec<Used>> {
        let listed = netlink::subnets_in_use().and_then(|used| Ok((used, netlink::links()?)));
        let (used, links) = listed.map_err(|error| internal(format!("listing routes: {error}")))?;
        let own = self.live.by_name(except).map(LiveNetwork::bridge);
        let others = self.live.networks.iter().filter(|live| live.network.name != except);
        let mut all: Vec<Used> = others
            .flat_map(|live| {
                let by = format!("interface {}", live.bridge());
                subnets(&live.network).map(move |net| Used { by: by.clone(), net })
            })
            .collect();
        for (index, net) in used {
            let name = links.iter().find(|link| link.index == index).map(|link| link.name.as_str());
            if name.is_none() || name != own {
                all.push(Used { by: format!("interface {}", name.unwrap_or("unknown")), net });
            }
        }
        Ok(all)
    }

    fn clash(&self, network: &Network, used: Vec<Used>) -> Option<Clash> {
        let own: Vec<Ipv4Net> = subnets(network).collect();
        let all: Vec<Ipv4Net> = used.iter().map(|used| used.net).collect();
        let clashing = |used: &Used| own.iter().find(|own| netlink::overlap(**own, used.net)).copied();
        let (own, other) = used.into_iter().find_map(|used| Some((clashing(&used)?, used)))?;
        Some(Clash { own, other, free: self.first_free(&all) })
    }

    /// The first that neither those nor any definition uses.
    fn first_free(&self, used: &[Ipv4Net]) -> Option<Ipv4Net> {
        let defined = self.defined.values().flat_map(subnets);
        netlink::free_subnet(&used.iter().copied().chain(defined).collect::<Vec<_>>())
    }
}

/// The IPv4 subnets of a network that has a device of its own in the host.
fn subnets(network: &Network) -> impl Iterator<Item = Ipv4Net> + '_ {
    let ips = network.ips.iter().filter(|_| network.forward.mode.owns_bridge());
    ips.filter_map(|ip| match ip.address {
        IpAddr::V4(address) => Ipv4Net::new(address, ip.prefix).ok(),
        IpAddr::V6(_) => None,
    })
}

struct Clash {
    own: Ipv4Net,
    other: Used,
    free: Option<Ipv4Net>,
}

impl Clash {
    fn refusal(&self, name: &str) -> Failure {
        let Self { own, other, .. } = self;
        fail_help(
            format!("internal error: Network is already in use by {}", other.by),
            format!(
                "network '{name}' uses {}, {} uses {}; {}",
                own.trunc(),
                other.by,
                other.net.trunc(),
                self.advice()
            ),
        )
    }

    fn warning(&self, name: &str) -> String {
        let Self { own, other, .. } = self;
        format!(
            "network '{name}' cannot run beside {}, which uses {}: it uses {}; {}",
            other.by,
            other.net.trunc(),
            own.trunc(),
            self.advice()
        )
    }

    fn advice(&self) -> String {
        self.free.map_or_else(
            || "choose another subnet".to_owned(),
            |free| {
                let gateway = free.hosts().next().unwrap_or(free.addr());
                format!("{free} is free: use <ip address='{gateway}' netmask='{}'>", free.netmask())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{scratch, state};

    fn network(name: &str, ips: &[&str]) -> Network {
        let ips: String = ips.iter().map(|ip| format!("<ip address='{ip}' prefix='24'/>")).collect();
        let text = format!("<network><name>{name}</name><bridge name='pt-{name}'/>{ips}</network>");
        pontoon_netxml::parse(&text).expect("network")
    }

    //= RFC4787#REQ-7 type=test
    #[test]
    fn a_clash_is_named_with_a_way_out() {
        let net = |text: &str| text.parse::<Ipv4Net>().expect("net");
        let other = Used { by: "interface virbr1".into(), net: net("192.168.122.0/24") };
        let clash = Clash { own: net("192.168.122.1/24"), other, free: Some(net("192.168.123.0/24")) };
        let failure = clash.refusal("n");
        assert_eq!(failure.message, "internal error: Network is already in use by interface virbr1");
        let detail = failure.detail.expect("detail");
        assert!(detail.contains("<ip address='192.168.123.1' netmask='255.255.255.0'>"), "{detail}");
        assert_eq!(
            clash.warning("n"),
            "network 'n' cannot run beside interface virbr1, which uses 192.168.122.0/24: it uses 192.168.122.0/24; \
             192.168.123.0/24 is free: use <ip address='192.168.123.1' netmask='255.255.255.0'>"
        );
    }

    #[test]
    fn definitions_are_compared_with_each_other_but_only_warned_about() {
        let root = scratch("subnets");
        let mut state = state(&root);
        // Documentation addresses, which no machine has.
        state.defined.insert("a".into(), network("a", &["198.51.100.1"]));
        let clash = network("b", &["203.0.113.1", "198.51.100.129"]);
        let warning = state.subnet_warning(&clash).expect("a warning");
        assert!(warning.starts_with("network 'b' cannot run beside network 'a', which uses 198.51.100.0/24"));
        assert!(warning.contains(" is free: use <ip"), "{warning}");
        assert!(state.check_subnet(&clash).is_ok(), "the other one does not run");
        assert_eq!(state.subnet_warning(&network("b", &["203.0.113.1"])), None);
        assert_eq!(state.subnet_warning(&network("a", &["198.51.100.1"])), None, "it is its own successor");
        std::fs::remove_dir_all(&root).expect("clean");
    }
}
