//! `<dhcp>`: from a definition to the document.

use std::net::Ipv4Addr;

use pontoon_netxml::{DhcpData, DnsmasqOption, Ip, Lease, Network as Definition};
use pontoon_proto::document::{Dhcp, DhcpBoot, DhcpHost, DhcpRange};

use crate::document::v4;

/// dnsmasq's default, one hour.
const LEASE_SECONDS: u32 = 3600;
const INFINITE: u32 = u32::MAX;
/// Options that have a field of their own (RFC 2132 9.4, 9.5).
const SERVER_NAME: u8 = 66;
const BOOT_FILE: u8 = 67;

pub(crate) fn describe(definition: &Definition, ip: &Ip) -> Dhcp {
    let gateway = v4(ip.address).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let options = options(definition, gateway);
    Dhcp {
        ranges: ip.ranges.iter().filter_map(range).collect(),
        hosts: ip.hosts.iter().map(host).collect(),
        // As dnsmasq, which takes an address outside all ranges for one of the first.
        lease_seconds: seconds(ip.ranges.first().and_then(|range| range.lease)),
        boot: boot(ip, &options),
        own: definition.ips.iter().filter_map(|ip| v4(ip.address)).filter(|own| *own != gateway).collect(),
        options,
    }
}

fn range(range: &pontoon_netxml::Range) -> Option<DhcpRange> {
    Some(DhcpRange { first: v4(range.start)?, last: v4(range.end)?, lease_seconds: seconds(range.lease) })
}

fn host(host: &pontoon_netxml::DhcpHost) -> DhcpHost {
    let any = host.id.as_deref().is_some_and(|id| id.trim_start_matches("id:") == "*");
    DhcpHost {
        mac: host.mac,
        client_id: host.id.as_deref().filter(|_| !any).and_then(client_id),
        any_client_id: any,
        name: host.name.clone(),
        ip: host.ip.and_then(v4),
        lease_seconds: host.lease.map(|lease| seconds(Some(lease))),
    }
}

fn seconds(lease: Option<Lease>) -> u32 {
    match lease.map(Lease::seconds) {
        None => LEASE_SECONDS,
        Some(None) => INFINITE,
        Some(Some(seconds)) => u32::try_from(seconds).unwrap_or(INFINITE),
    }
}

/// dnsmasq's forms: hex octets with colons, else the text itself.
fn client_id(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("id:").unwrap_or(text);
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| (octet.len() <= 2).then(|| u8::from_str_radix(octet, 16).ok()).flatten())
        .collect();
    let id = octets.filter(|_| text.contains(':')).unwrap_or_else(|| text.as_bytes().to_vec());
    (!id.is_empty()).then_some(id)
}

/// The last line for an option counts, as in dnsmasq.
fn options(definition: &Definition, gateway: Ipv4Addr) -> Vec<(u8, Vec<u8>)> {
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    for option in definition.dnsmasq() {
        let DnsmasqOption::DhcpOption { code, data } = option else { continue };
        let data = match data {
            DhcpData::Bytes(bytes) => bytes,
            DhcpData::Addresses(list) => {
                let own = |ip: Ipv4Addr| if ip.is_unspecified() { gateway } else { ip };
                list.into_iter().flat_map(|ip| own(ip).octets()).collect()
            }
        };
        options.retain(|(listed, _)| *listed != code);
        options.push((code, data));
    }
    options
}

/// `<bootp>`, or the options that mean the same.
fn boot(ip: &Ip, options: &[(u8, Vec<u8>)]) -> Option<DhcpBoot> {
    if let Some(file) = &ip.bootp_file {
        let next_server = ip.bootp_server.and_then(v4);
        return Some(DhcpBoot { file: file.clone(), server_name: String::new(), next_server });
    }
    let text = |code| {
        let (_, data) = options.iter().find(|(listed, _)| *listed == code)?;
        String::from_utf8(data.clone()).ok().filter(|text| !text.is_empty())
    };
    let (file, name) = (text(BOOT_FILE), text(SERVER_NAME));
    (file.is_some() || name.is_some()).then(|| DhcpBoot {
        file: file.unwrap_or_default(),
        next_server: name.as_deref().and_then(|name| name.parse().ok()),
        server_name: name.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_octets_or_text() {
        assert_eq!(client_id("01:52:aB"), Some(vec![1, 0x52, 0xab]));
        assert_eq!(client_id("0:4:7e"), Some(vec![0, 4, 0x7e]));
        assert_eq!(client_id("id:printer"), Some(b"printer".to_vec()));
        assert_eq!(client_id(""), None);
    }

    fn described(parts: &str) -> Dhcp {
        let xml = format!(
            "<network xmlns:dnsmasq='{}'><name>n</name>{parts}</network>",
            pontoon_netxml::DNSMASQ_NAMESPACE
        );
        let definition = pontoon_netxml::parse(&xml).expect("xml");
        let ip = crate::document::dhcp_ip(&definition).expect("dhcp");
        describe(&definition, ip)
    }

    #[test]
    fn lease_times_are_of_ranges_and_hosts() {
        let dhcp = described(
            "<ip address='10.1.0.1' prefix='24'><dhcp>\
             <range start='10.1.0.2' end='10.1.0.9'><lease expiry='1' unit='hours'/></range>\
             <range start='10.1.0.20' end='10.1.0.29'><lease expiry='0'/></range>\
             <range start='10.1.0.30' end='10.1.0.39'/>\
             <host mac='52:54:00:aa:bb:cc' ip='10.1.0.5'><lease expiry='5'/></host>\
             <host mac='52:54:00:aa:bb:cd' ip='10.1.0.50'/></dhcp></ip>\
             <ip address='10.2.0.1' prefix='24'/>",
        );
        let times: Vec<u32> = dhcp.ranges.iter().map(|range| range.lease_seconds).collect();
        assert_eq!(times, [3600, INFINITE, 3600]);
        let times: Vec<_> = dhcp.hosts.iter().map(|host| host.lease_seconds).collect();
        assert_eq!((times, dhcp.lease_seconds), (vec![Some(300), None], 3600));
        assert_eq!(dhcp.own, [Ipv4Addr::new(10, 2, 0, 1)]);
    }

    #[test]
    fn options_know_the_gateway_and_the_last_counts() {
        let dhcp = described(
            "<ip address='10.1.0.1' prefix='24'><dhcp><range start='10.1.0.2' end='10.1.0.9'/></dhcp></ip>\
             <dnsmasq:options><dnsmasq:option value='dhcp-option=3,10.1.0.7'/>\
             <dnsmasq:option value='dhcp-option=option:ntp-server,0.0.0.0'/>\
             <dnsmasq:option value='dhcp-option=3'/><dnsmasq:option value='dhcp-option=67,x.img'/>\
             </dnsmasq:options>",
        );
        assert_eq!(dhcp.options[..2], [(42, vec![10, 1, 0, 1]), (3, vec![])]);
        let boot = DhcpBoot { file: "x.img".into(), ..DhcpBoot::default() };
        assert_eq!(dhcp.boot, Some(boot));
    }
}
