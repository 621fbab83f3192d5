//! `<dnsmasq:option value='..'/>`: lines of dnsmasq's configuration, as far as they mean something here.

mod dhcp;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A line that acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsmasqOption {
    DhcpOption {
        code: u8,
        data: DhcpData,
    },
    Cname {
        aliases: Vec<String>,
        target: String,
    },
    /// Every name of these domains has the addresses; the domain `""` is all. Without addresses there is no such name.
    Address {
        domains: Vec<String>,
        addresses: Vec<IpAddr>,
    },
    HostRecord {
        names: Vec<String>,
        addresses: Vec<IpAddr>,
    },
    Server {
        domains: Vec<String>,
        server: Server,
    },
    CacheSize(u32),
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Address {
        addr: IpAddr,
        port: Option<u16>,
    },
    /// Whoever is asked for other names.
    Default,
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpData {
    /// `0.0.0.0` stands for the gateway.
    Addresses(Vec<Ipv4Addr>),
    Bytes(Vec<u8>),
}

impl DnsmasqOption {
    /// `None` for what dnsmasq may know and pontoon does not.
    pub fn parse(line: &str) -> Option<Self> {
        let (key, value) = line.split_once('=')?;
        let value = value.trim();
        match key.trim() {
            "dhcp-option" => dhcp::option(value),
            "cname" => cname(value),
            "address" => address(value),
            "host-record" => host_record(value),
            "server" => server(value),
            "local" => {
                server(value).filter(|option| matches!(option, Self::Server { server: Server::Nobody, .. }))
            }
            "cache-size" => value.parse().ok().map(Self::CacheSize),
            _ => None,
        }
    }
}

/// A name as it can stand in DNS, in lower case and without the last dot.
fn name(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_suffix('.').unwrap_or(text);
    let sound = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    (text.len() <= 253 && text.split('.').all(sound)).then(|| text.to_ascii_lowercase())
}

/// Fields between commas, without a time to live at the end, which answers of static names do not carry.
fn fields(value: &str) -> Vec<&str> {
    let mut fields: Vec<&str> = value.split(',').map(str::trim).collect();
    if fields.len() > 1 && fields.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        fields.pop();
    }
    fields
}

/// `ALIAS[,ALIAS..],TARGET[,TTL]`
fn cname(value: &str) -> Option<DnsmasqOption> {
    let fields = fields(value);
    let (target, aliases) = fields.split_last()?;
    let aliases: Vec<String> = aliases.iter().map(|alias| name(alias)).collect::<Option<_>>()?;
    (!aliases.is_empty()).then_some(DnsmasqOption::Cname { aliases, target: name(target)? })
}

/// `NAME[,NAME..][,IPv4][,IPv6][,TTL]`
fn host_record(value: &str) -> Option<DnsmasqOption> {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for field in fields(value) {
        match field.parse::<IpAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(name(field)?),
        }
    }
    let whole = !names.is_empty() && !addresses.is_empty();
    whole.then_some(DnsmasqOption::HostRecord { names, addresses })
}

/// What stands between slashes, and what behind the last; `#` is any domain.
fn domains(value: &str) -> Option<(Vec<String>, &str)> {
    let Some(rest) = value.strip_prefix('/') else { return Some((Vec::new(), value)) };
    let (listed, rest) = rest.rsplit_once('/')?;
    let domain = |text: &str| match text.trim() {
        "#" => Some(String::new()),
        // Before a star a dot is understood.
        text => name(text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text)),
    };
    Some((listed.split('/').map(domain).collect::<Option<_>>()?, rest.trim()))
}

/// `/DOMAIN/[DOMAIN/]ADDRESS`; `#` is the null address, nothing is no such name.
fn address(value: &str) -> Option<DnsmasqOption> {
    let (domains, rest) = domains(value)?;
    let addresses = match rest {
        "" => Vec::new(),
        "#" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        address => vec![address.parse().ok()?],
    };
    (!domains.is_empty()).then_some(DnsmasqOption::Address { domains, addresses })
}

/// `[/DOMAIN/[DOMAIN/]][ADDRESS[#PORT]]`; `#` is the default, nothing is nobody.
fn server(value: &str) -> Option<DnsmasqOption> {
    let (domains, rest) = domains(value)?;
    let server = match rest {
        "" | "#" if domains.is_empty() => return None,
        "" => Server::Nobody,
        "#" => Server::Default,
        text => {
            let (addr, port) = text.split_once('#').map_or((text, None), |(addr, port)| (addr, Some(port)));
            let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0));
            let port = match port {
                None => None,
                Some(port) => Some(port?),
            };
            Server::Address { addr: addr.parse().ok()?, port }
        }
    };
    Some(DnsmasqOption::Server { domains, server })
}
