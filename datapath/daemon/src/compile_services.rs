//! What a document says about DHCP and DNS, as the engine knows it.

use std::net::{IpAddr, Ipv4Addr};

use pontoon_engine::snapshot::Subnet;
use pontoon_engine::{dhcp, dns};
use pontoon_proto::document;

use super::refuse;

pub(super) fn dhcp(
    field: &str,
    network: &document::Network,
    described: &document::Dhcp,
    subnet: Subnet,
) -> Result<dhcp::Config, String> {
    for (index, range) in described.ranges.iter().enumerate() {
        let (first, last) = (range.first, range.last);
        let field = format!("{field}.dhcp.ranges[{index}]");
        if first > last {
            return refuse(field, format_args!("{first} is behind {last}"));
        }
        if !subnet.contains(first) || !subnet.contains(last) {
            return refuse(field, format_args!("{first}-{last} is not inside the network"));
        }
    }
    Ok(dhcp::Config {
        server: subnet.address,
        prefix: subnet.prefix,
        own: described.own.clone(),
        ranges: described.ranges.iter().map(range).collect(),
        hosts: described.hosts.iter().map(host).collect(),
        lease_seconds: described.lease_seconds,
        router: (network.forward != document::Forward::Isolated).then_some(subnet.address),
        dns: network.dns.enabled.then_some(subnet.address),
        domain: network.dns.domain.clone(),
        mtu: network.mtu,
        boot: described.boot.as_ref().map(|boot| dhcp::Boot {
            file: boot.file.clone(),
            server_name: boot.server_name.clone(),
            next_server: boot.next_server,
        }),
        options: described.options.clone(),
    })
}

fn range(range: &document::DhcpRange) -> dhcp::Range {
    dhcp::Range { first: range.first, last: range.last, lease_seconds: range.lease_seconds }
}

fn host(host: &document::DhcpHost) -> dhcp::Reservation {
    dhcp::Reservation {
        mac: host.mac,
        client_id: host.client_id.clone(),
        any_client_id: host.any_client_id,
        name: host.name.clone(),
        ip: host.ip,
        lease_seconds: host.lease_seconds,
    }
}

pub(super) fn dns(
    field: &str,
    network: &document::Network,
    subnet: Option<Subnet>,
    resolvers: u16,
) -> Result<dns::Config, String> {
    let described = &network.dns;
    for (index, upstream) in described.upstreams.iter().enumerate() {
        if let Some(unknown) = upstream.resolvers.iter().find(|place| **place >= resolvers) {
            return refuse(
                format_args!("{field}.dns.upstreams[{index}]"),
                format_args!("there is no resolver {unknown}"),
            );
        }
    }
    Ok(dns::Config {
        enabled: described.enabled && subnet.is_some(),
        isolated: network.forward == document::Forward::Isolated,
        domain: described.domain.clone(),
        local_only: described.local_only,
        forward_plain_names: described.forward_plain_names,
        gateway: subnet.map_or(Ipv4Addr::UNSPECIFIED, |subnet| subnet.address),
        prefix: subnet.map_or(32, |subnet| subnet.prefix),
        hosts: described.hosts.clone(),
        txt: described.txt.clone(),
        srv: described.srv.iter().map(srv).collect(),
        cnames: described.cnames.clone(),
        domains: described.domains.clone(),
        reverse: described.reverse.iter().map(reverse).collect(),
        upstreams: described.upstreams.iter().map(upstream).collect(),
        cache_size: described.cache_size,
        mtu: network.mtu,
        ttl: 0,
    })
}

fn srv(srv: &document::Srv) -> dns::Srv {
    dns::Srv {
        name: srv.name.clone(),
        target: srv.target.clone(),
        port: srv.port,
        priority: srv.priority,
        weight: srv.weight,
    }
}

fn reverse(reverse: &document::Reverse) -> dns::Reverse {
    let address: IpAddr = reverse.subnet.addr();
    dns::Reverse { address, prefix: reverse.subnet.prefix_len(), alone: reverse.alone }
}

fn upstream(upstream: &document::Upstream) -> dns::Upstream {
    dns::Upstream { domain: upstream.domain.clone(), resolvers: upstream.resolvers.clone() }
}
