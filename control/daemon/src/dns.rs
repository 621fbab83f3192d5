//! `<dns>` and what concerns names: from a definition to the document.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pontoon_netxml::{DnsmasqOption, Mode, Network as Definition, Server, Srv};
use pontoon_proto::document::{self, Dns, Reverse, Upstream};

use crate::document::{address, dhcp_ip};
use crate::resolvers::{DNS_PORT, Resolvers};

/// dnsmasq's.
const CACHE_SIZE: u32 = 150;
/// dnsmasq's for a service without one.
const SRV_PORT: u16 = 1;

pub(crate) fn describe(definition: &Definition, resolvers: &Resolvers) -> Dns {
    let given = &definition.dns;
    let mut dns = Dns {
        enabled: given.enabled() && address(definition).is_some(),
        domain: definition.domain.as_ref().map(|domain| domain.name.clone()),
        local_only: definition.domain.as_ref().is_some_and(|domain| domain.local_only),
        forward_plain_names: given.forward_plain_names.unwrap_or(false),
        hosts: given.hosts.iter().map(|host| (host.ip, host.names.clone())).collect(),
        txt: given.txt.iter().map(|txt| (txt.name.clone(), txt.value.clone())).collect(),
        srv: given.srv.iter().map(srv).collect(),
        reverse: reverse(definition),
        upstreams: upstreams(definition, resolvers),
        cache_size: CACHE_SIZE,
        ..Dns::default()
    };
    dns.hosts.extend(qualified_hosts(definition));
    definition.dnsmasq().for_each(|option| add(&mut dns, option));
    dns
}

fn srv(srv: &Srv) -> document::Srv {
    let domain = srv.domain.as_deref().map_or_else(String::new, |domain| format!(".{domain}"));
    document::Srv {
        name: format!("_{}._{}{domain}", srv.service, srv.protocol),
        target: srv.target.clone().filter(|target| target != "."),
        port: srv.port.unwrap_or(SRV_PORT),
        priority: srv.priority.unwrap_or(0),
        weight: srv.weight.unwrap_or(0),
    }
}

/// A static host whose name has a domain of its own is known by all of it; DHCP knows the first label.
fn qualified_hosts(definition: &Definition) -> impl Iterator<Item = (IpAddr, Vec<String>)> {
    let hosts = dhcp_ip(definition).into_iter().flat_map(|ip| &ip.hosts);
    hosts.filter_map(|host| {
        let name = host.name.as_ref().filter(|name| name.trim_end_matches('.').contains('.'))?;
        Some((host.ip?, vec![name.clone()]))
    })
}

/// IPv4 subnets of the network, and those of IPv6 that say so: what is unknown there is unknown to everybody.
fn reverse(definition: &Definition) -> Vec<Reverse> {
    let subnets = definition.ips.iter().filter_map(|ip| {
        let alone = ip.local_ptr == Some(true);
        let subnet = IpNet::new(ip.address, ip.prefix).ok();
        Some(Reverse { subnet: subnet.filter(|subnet| alone || subnet.addr().is_ipv4())?, alone })
    });
    subnets.collect()
}

fn add(dns: &mut Dns, option: DnsmasqOption) {
    match option {
        DnsmasqOption::Cname { aliases, target } => {
            dns.cnames.extend(aliases.into_iter().map(|alias| (alias, target.clone())));
        }
        DnsmasqOption::Address { domains, addresses } => {
            let addresses = addresses.into_iter().map(Some);
            let addresses: Vec<_> = if addresses.len() == 0 { vec![None] } else { addresses.collect() };
            for domain in domains {
                dns.domains.extend(addresses.iter().map(|address| (domain.clone(), *address)));
            }
        }
        DnsmasqOption::HostRecord { names, addresses } => {
            dns.hosts.extend(addresses.into_iter().map(|address| (address, names.clone())));
        }
        DnsmasqOption::Server { domains, server: Server::Nobody } => {
            dns.domains.extend(domains.into_iter().map(|domain| (domain, None)));
        }
        DnsmasqOption::CacheSize(size) => dns.cache_size = size,
        DnsmasqOption::Server { .. } | DnsmasqOption::DhcpOption { .. } => {}
    }
}

/// A `<forwarder>` or `server=` that asks somebody.
struct Forwarder {
    domain: Option<String>,
    /// `None`: whoever is asked for other names.
    server: Option<SocketAddr>,
}

/// Those of `<dns>`, and those of dnsmasq's options.
fn forwarders(definition: &Definition) -> (Vec<Forwarder>, Vec<Forwarder>) {
    let socket = |addr, port: Option<u16>| SocketAddr::new(addr, port.unwrap_or(DNS_PORT));
    let elements = definition.dns.forwarders.iter().map(|forwarder| Forwarder {
        domain: forwarder.domain.clone(),
        server: forwarder.addr.map(|addr| socket(addr, forwarder.port)),
    });
    let mut options = Vec::new();
    for option in definition.dnsmasq() {
        let DnsmasqOption::Server { domains, server } = option else { continue };
        let server = match server {
            Server::Address { addr, port } => Some(socket(addr, port)),
            Server::Default => None,
            Server::Nobody => continue,
        };
        let bare = domains.is_empty().then_some(None);
        let domains = domains.into_iter().map(Some).chain(bare);
        options.extend(domains.map(|domain| Forwarder { domain, server }));
    }
    (elements.collect(), options)
}

/// The host's resolvers and those that networks name. A gateway's own address is none: its queries would come back to
/// it.
pub(crate) fn wanted<'a>(
    networks: impl Iterator<Item = &'a Definition> + Clone,
    host: &[SocketAddr],
) -> Vec<SocketAddr> {
    let gateways: BTreeSet<IpAddr> =
        networks.clone().flat_map(|network| network.ips.iter().map(|ip| ip.address)).collect();
    let mut wanted: Vec<SocketAddr> = Vec::new();
    for server in host.iter().copied().chain(networks.flat_map(servers)) {
        if !gateways.contains(&server.ip()) && !wanted.contains(&server) {
            wanted.push(server);
        }
    }
    wanted
}

/// Whom the definition itself names.
pub(crate) fn servers(definition: &Definition) -> impl Iterator<Item = SocketAddr> {
    let enabled = definition.dns.enabled().then(|| forwarders(definition));
    let all = enabled.into_iter().flat_map(|(elements, options)| elements.into_iter().chain(options));
    all.filter_map(|forwarder| forwarder.server)
}

fn upstreams(definition: &Definition, resolvers: &Resolvers) -> Vec<Upstream> {
    let (elements, options) = forwarders(definition);
    let bare = |list: &[Forwarder]| {
        let bare = list.iter().filter(|forwarder| forwarder.domain.is_none());
        bare.filter_map(|forwarder| forwarder.server).collect::<Vec<SocketAddr>>()
    };
    // A forwarder for everything takes the place of the host's resolvers; one among dnsmasq's options does not.
    let (mut servers, more) = (bare(&elements), bare(&options));
    let without_host = !servers.is_empty() || definition.forward.mode == Mode::Isolated;
    servers.extend(more);
    if !without_host {
        servers.extend(resolvers.of_host());
    }
    let places = |servers: &[SocketAddr]| {
        servers.iter().filter_map(|server| resolvers.place(*server)).collect::<Vec<u16>>()
    };
    let default = places(&servers);
    let mut upstreams: Vec<Upstream> = Vec::new();
    for forwarder in elements.into_iter().chain(options) {
        let Some(domain) = forwarder.domain else { continue };
        let asked = forwarder.server.map_or_else(|| default.clone(), |server| places(&[server]));
        match upstreams.iter_mut().find(|upstream| upstream.domain.as_ref() == Some(&domain)) {
            Some(upstream) => upstream.resolvers.extend(asked),
            None => upstreams.push(Upstream { domain: Some(domain), resolvers: asked }),
        }
    }
    if !servers.is_empty() || definition.forward.mode != Mode::Isolated {
        upstreams.push(Upstream { domain: None, resolvers: default });
    }
    upstreams
}
